//! What the allocator counts, under the prefix `allocator_` of the registry given.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use ratssaal_proto::allocator::v1::BridgeInfo;

use crate::refusal::{Quota, Refusal};
use crate::store::Sweep;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByResult {
    call: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    calls: Family<ByResult, Counter>,
    place_seconds: Histogram,
    append_seconds: Histogram,
    entries: Counter,
    reaped: Counter,
    expired_rooms: Counter,
    pub(crate) tails: Gauge,
    rooms: Gauge,
    seats: Gauge,
    bridges: Family<ByState, Gauge>,
    load: Gauge<f64, AtomicU64>,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        // 20 µs (embedded) to 2.6 s (a store in trouble).
        let seconds = || Histogram::new(exponential_buckets(20e-6, 2.0, 18));
        let metrics = Self {
            calls: Family::default(),
            place_seconds: seconds(),
            append_seconds: seconds(),
            entries: Counter::default(),
            reaped: Counter::default(),
            expired_rooms: Counter::default(),
            tails: Gauge::default(),
            rooms: Gauge::default(),
            seats: Gauge::default(),
            bridges: Family::default(),
            load: Gauge::default(),
        };
        let to = registry.sub_registry_with_prefix("allocator");
        to.register("calls", "Calls by method and result", metrics.calls.clone());
        let help = "Time the store took to place a participant";
        to.register_with_unit("place", help, Unit::Seconds, metrics.place_seconds.clone());
        let help = "Time the store took to append to a room's log";
        to.register_with_unit("append", help, Unit::Seconds, metrics.append_seconds.clone());
        to.register("log_entries", "Entries appended to room logs", metrics.entries.clone());
        to.register(
            "reaped_participants",
            "Participants logged as left because their bridge died",
            metrics.reaped.clone(),
        );
        to.register("expired_rooms", "Rooms ended because nobody was in them", metrics.expired_rooms.clone());
        to.register("tails", "Open tails of room logs", metrics.tails.clone());
        to.register("rooms", "Open rooms", metrics.rooms.clone());
        to.register("seats", "Seats taken or reserved", metrics.seats.clone());
        to.register("bridges", "Attached bridges by state", metrics.bridges.clone());
        to.register("load_max_ratio", "Load of the most loaded ready bridge, 0 to 1", metrics.load.clone());
        metrics
    }

    pub(crate) fn call<T>(&self, call: &'static str, result: &Result<T, Refusal>) {
        let result = result.as_ref().map_or_else(label, |_| "ok");
        self.calls.get_or_create(&ByResult { call, result }).inc();
    }

    pub(crate) fn placed(&self, took: Duration) {
        self.place_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn appended(&self, entries: usize, took: Duration) {
        self.entries.inc_by(entries as u64);
        self.append_seconds.observe(took.as_secs_f64());
    }

    pub(crate) fn reaped(&self, participants: usize) {
        self.reaped.inc_by(participants as u64);
    }

    pub(crate) fn room_expired(&self) {
        self.expired_rooms.inc();
    }

    pub(crate) fn census(&self, sweep: &Sweep, bridges: &[BridgeInfo]) {
        self.rooms.set(i64::try_from(sweep.rooms).unwrap_or(i64::MAX));
        self.seats.set(i64::try_from(sweep.seats).unwrap_or(i64::MAX));
        let ready = |bridge: &&BridgeInfo| !bridge.expired && !bridge.drain_ordered;
        let load = bridges.iter().filter(ready).map(|bridge| bridge.load_permille).max().unwrap_or(0);
        self.load.set(f64::from(load) / 1000.0);
        for state in ["ready", "draining", "expired"] {
            let count = bridges.iter().filter(|bridge| state_of(bridge) == state).count();
            self.bridges.get_or_create(&ByState { state }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

fn state_of(bridge: &BridgeInfo) -> &'static str {
    use ratssaal_proto::allocator::v1::BridgeState::Ready;
    let ready = bridge.report.as_ref().is_some_and(|report| report.state() == Ready);
    match (bridge.expired, ready && !bridge.drain_ordered) {
        (true, _) => "expired",
        (false, true) => "ready",
        (false, false) => "draining",
    }
}

fn label(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Full { .. } => "full",
        Refusal::Draining => "draining",
        Refusal::UnknownRoom(_) => "unknown_room",
        Refusal::Quota(Quota::Participants) => "quota_participants",
        Refusal::Quota(Quota::Rooms) => "quota_rooms",
        Refusal::Quota(Quota::Log) => "quota_log",
        Refusal::Quota(Quota::RoomBridges | Quota::Bridges) => "quota_bridges",
        Refusal::Unavailable { .. } => "unavailable",
        Refusal::Conflict { .. } => "conflict",
        Refusal::Lapsed(_) => "lapsed",
        Refusal::RoomExists(_) => "room_exists",
        Refusal::BridgeTaken { .. } => "bridge_taken",
        Refusal::Invalid(_) => "invalid",
    }
}
