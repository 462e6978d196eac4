//! One open room as the memory store keeps it: settings, seats, log and what its readers wait on.

use std::collections::{BTreeMap, HashMap};

use ratssaal_proto::allocator::v1::{RoomBridge, RoomInfo, RoomSettings, Seat};
use tokio::sync::watch;

use super::bridges::{Bridges, Promise, Slot};
use super::log::Log;
use crate::clock::millis;
use crate::config::Config;
use crate::store::Position;

#[derive(Clone, Debug)]
pub(super) struct SeatRecord {
    pub(super) join_id: String,
    pub(super) participant_sid: String,
    pub(super) slot: Slot,
    pub(super) promise: Promise,
    pub(super) confirmed: bool,
    pub(super) lapses_ms: u64,
}

#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: String,
    pub(super) sid: String,
    epoch: u64,
    created_ms: u64,
    pub(super) settings: RoomSettings,
    /// Seats by identity, and identities by join id.
    seats: HashMap<String, SeatRecord>,
    joins: HashMap<String, String>,
    /// Seats per bridge.
    pub(super) bridges: BTreeMap<Slot, u32>,
    empty_since_ms: u64,
    entered: bool,
    pub(super) log: Log,
    position: watch::Sender<Position>,
}

impl Room {
    pub(super) fn new(
        name: String,
        sid: String,
        epoch: u64,
        mut settings: RoomSettings,
        now: u64,
        config: &Config,
    ) -> Self {
        if settings.empty_timeout_ms == 0 {
            settings.empty_timeout_ms = millis(config.empty_timeout);
        }
        if settings.departure_timeout_ms == 0 {
            settings.departure_timeout_ms = millis(config.departure_timeout);
        }
        Self {
            name,
            sid,
            epoch,
            created_ms: now,
            settings,
            seats: HashMap::new(),
            joins: HashMap::new(),
            bridges: BTreeMap::new(),
            empty_since_ms: now,
            entered: false,
            log: Log::default(),
            position: watch::Sender::default(),
        }
    }

    pub(super) fn info(&self, bridges: &Bridges) -> RoomInfo {
        let name = |slot: &Slot| bridges.get(*slot).map(|record| record.report.bridge.clone()).unwrap_or_default();
        RoomInfo {
            name: self.name.clone(),
            sid: self.sid.clone(),
            epoch: self.epoch,
            created_ms: self.created_ms,
            settings: Some(self.settings.clone()),
            head: self.log.head(),
            seats: self.seat_count(),
            bridges: self.bridges.iter().map(|(slot, &seats)| RoomBridge { bridge: name(slot), seats }).collect(),
            store: String::new(),
        }
    }

    pub(super) fn seat_count(&self) -> u32 {
        u32::try_from(self.seats.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn seat_of(&self, identity: &str) -> Option<&SeatRecord> {
        self.seats.get(identity)
    }

    pub(super) fn identity_of(&self, join_id: &str) -> Option<&str> {
        self.joins.get(join_id).map(String::as_str)
    }

    pub(super) fn seat(&self, identity: &str, record: &SeatRecord, bridges: &Bridges) -> Seat {
        let report = bridges.get(record.slot).map(|bridge| &bridge.report);
        Seat {
            join_id: record.join_id.clone(),
            identity: identity.to_owned(),
            participant_sid: record.participant_sid.clone(),
            bridge: report.map(|report| report.bridge.clone()).unwrap_or_default(),
            bridge_address: report.map(|report| report.address.clone()).unwrap_or_default(),
            confirmed: record.confirmed,
        }
    }

    /// The confirmed seats on a bridge, by participant sid.
    pub(super) fn confirmed_on(&self, slot: Slot, bridges: &Bridges) -> Vec<Seat> {
        let there = self.seats.iter().filter(|(_, record)| record.slot == slot && record.confirmed);
        let mut seats: Vec<_> = there.map(|(identity, record)| self.seat(identity, record, bridges)).collect();
        seats.sort_unstable_by(|a, b| a.participant_sid.cmp(&b.participant_sid));
        seats
    }

    pub(super) fn take_seat(&mut self, identity: String, record: SeatRecord, bridges: &mut Bridges) {
        bridges.promise(record.slot, &self.name, &record.join_id, record.promise);
        *self.bridges.entry(record.slot).or_insert(0) += 1;
        self.joins.insert(record.join_id.clone(), identity.clone());
        self.seats.insert(identity, record);
    }

    pub(super) fn confirm(&mut self, join_id: &str) {
        if let Some(seat) = self.joins.get(join_id).and_then(|identity| self.seats.get_mut(identity)) {
            seat.confirmed = true;
            self.entered = true;
        }
    }

    /// Gives a seat back; answers whether there was one.
    pub(super) fn drop_seat(&mut self, join_id: &str, now: u64, bridges: &mut Bridges) -> bool {
        let Some(identity) = self.joins.remove(join_id) else { return false };
        let Some(seat) = self.seats.remove(&identity) else { return false };
        bridges.give_back(seat.slot, &self.name, join_id, seat.promise);
        if let Some(seats) = self.bridges.get_mut(&seat.slot) {
            *seats -= 1;
            if *seats == 0 {
                self.bridges.remove(&seat.slot);
            }
        }
        if self.seats.is_empty() {
            self.empty_since_ms = now;
        }
        true
    }

    pub(super) fn drop_all_seats(&mut self, now: u64, bridges: &mut Bridges) {
        let join_ids: Vec<String> = self.joins.keys().cloned().collect();
        for join_id in join_ids {
            self.drop_seat(&join_id, now, bridges);
        }
    }

    /// When the room is to end if nobody comes in; `None` while somebody is in it.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let timeout = if self.entered { self.settings.departure_timeout_ms } else { self.settings.empty_timeout_ms };
        self.seats.is_empty().then(|| self.empty_since_ms.saturating_add(timeout))
    }

    pub(super) fn watch(&self) -> watch::Receiver<Position> {
        self.position.subscribe()
    }

    pub(super) fn tell(&self, ended: bool) {
        self.position.send_replace(Position { head: self.log.head(), ended });
    }
}
