//! What rooms count and measure.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The label of [`RoomMetrics::participants`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct PresenceLabel {
    /// `joining`, `joined` or `active`.
    pub(crate) state: &'static str,
}

/// The label of [`RoomMetrics::joins`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct JoinLabel {
    /// `ok` or why not.
    pub(crate) result: &'static str,
}

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub(crate) struct RoomMetrics {
    pub(crate) rooms: Gauge,
    pub(crate) participants: Family<PresenceLabel, Gauge>,
    pub(crate) joins: Family<JoinLabel, Counter>,
    pub(crate) append_seconds: Histogram,
    pub(crate) conflicts: Counter,
    pub(crate) queued: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) lent: Gauge,
    pub(crate) slow_sessions: Counter,
    pub(crate) relay_lost: Counter,
}

impl RoomMetrics {
    /// Makes the metrics and registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            rooms: Gauge::default(),
            participants: Family::default(),
            joins: Family::default(),
            append_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 14)),
            conflicts: Counter::default(),
            queued: Gauge::default(),
            waiting: Gauge::default(),
            lent: Gauge::default(),
            slow_sessions: Counter::default(),
            relay_lost: Counter::default(),
        };
        registry.register("rooms", "Rooms open on this bridge", metrics.rooms.clone());
        registry.register("participants", "Participants on this bridge by state", metrics.participants.clone());
        registry.register("joins", "Attempts to join by result", metrics.joins.clone());
        let help = "How long the allocator took to append to a room's log";
        registry.register("room_log_append_seconds", help, metrics.append_seconds.clone());
        let help = "Appends that came second and were tried again";
        registry.register("room_log_conflicts", help, metrics.conflicts.clone());
        registry.register("room_requests_queued", "Requests waiting for rooms' tasks", metrics.queued.clone());
        let help = "Changes of presence that wait for their rooms' logs to be written again";
        registry.register("room_log_waiting", help, metrics.waiting.clone());
        let help = "Seats that may still be given without asking while no allocator or no store answers";
        registry.register("seats_lent", help, metrics.lent.clone());
        let help = "Sessions cut off because they did not read what their room told them";
        registry.register("slow_sessions", help, metrics.slow_sessions.clone());
        let help = "Messages for participants on other bridges that were lost because the relay is behind";
        registry.register("relay_lost_messages", help, metrics.relay_lost.clone());
        metrics
    }
}
