//! The bridges as the memory store keeps them: last reports, seats promised since, and the order of load per site.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use ratssaal_proto::allocator::v1::{BridgeInfo, BridgeReport, BridgeState, DrainOrder, Load};

use crate::clock::millis;
use crate::config::Config;
use crate::lease;
use crate::load;
use crate::placement::{self, Candidate};
use crate::refusal::{Quota, Refusal};
use crate::store::Orders;

/// One incarnation of a bridge.
pub(super) type Slot = u64;

/// One promise of a seat, whatever its join id.
pub(super) type Promise = u64;

/// Place in the order of load: those that take nobody last; load, seats, slot.
type Rank = (bool, u32, u32, Slot);

#[derive(Debug)]
pub(super) struct Record {
    pub(super) report: BridgeReport,
    last_ms: u64,
    gone_ms: Option<u64>,
    /// Seats promised here that no report has counted yet.
    promised: BTreeSet<(String, Promise)>,
    /// Seats of each room here, by the room's name.
    pub(super) rooms: HashMap<String, u32>,
    /// Found silent by a sweep: out of the order of load until the next report.
    silent: bool,
    rank: Option<Rank>,
}

impl Record {
    /// The bridge counts the participant now (the earliest, should two rooms share a join id).
    fn kept(&mut self, join_id: &str) {
        let promised = self.promised.range((join_id.to_owned(), 0)..).next();
        if let Some(promised) = promised.filter(|(promised, _)| promised == join_id).cloned() {
            self.promised.remove(&promised);
        }
    }

    fn load(&self) -> Load {
        self.report.load.unwrap_or_default()
    }

    fn seats(&self) -> u32 {
        self.load().seats.saturating_add(u32::try_from(self.promised.len()).unwrap_or(u32::MAX))
    }

    fn permille(&self) -> u32 {
        load::permille(&self.load(), self.seats())
    }

    /// Seats it is lent: none while it takes nobody.
    fn lent(&self) -> u32 {
        let takes = self.rank.is_some_and(|(busy, ..)| !busy);
        if takes { lease::lent(self.load().seat_limit.saturating_sub(self.seats())) } else { 0 }
    }

    fn expires_ms(&self, config: &Config) -> u64 {
        self.gone_ms.unwrap_or_else(|| self.last_ms.saturating_add(millis(config.expiry)))
    }

    fn alive(&self, now: u64, config: &Config) -> bool {
        now < self.expires_ms(config)
    }

    /// From when on its participants are lost: after the grace, unless it said goodbye itself.
    fn lost_ms(&self, config: &Config) -> u64 {
        self.gone_ms.unwrap_or_else(|| self.expires_ms(config).saturating_add(millis(config.grace)))
    }
}

#[derive(Debug, Default)]
pub(super) struct Bridges {
    records: HashMap<Slot, Record>,
    current: BTreeMap<String, Slot>,
    by_load: BTreeMap<String, BTreeSet<Rank>>,
    /// Orders to drain by bridge: the deadline, or 0.
    drains: HashMap<String, u64>,
    last_slot: Slot,
}

impl Bridges {
    pub(super) fn report(&mut self, report: BridgeReport, now: u64, config: &Config) -> Result<Orders, Refusal> {
        let slot = match self.slot_of(&report, now, config)? {
            Some(slot) => slot,
            None if report.state() == BridgeState::Gone => return Ok(Orders::default()),
            None => self.attach(&report, config)?,
        };
        let mut orders = self.orders(&report.bridge, now);
        if self.records.get(&slot).is_some_and(|record| report.sequence > record.report.sequence) {
            self.take(slot, report, now);
        }
        orders.lent = self.records.get(&slot).map_or(0, Record::lent);
        Ok(orders)
    }

    /// The incarnation of a bridge that is attached now.
    pub(super) fn attached(&self, bridge: &str, now: u64, config: &Config) -> Option<Slot> {
        self.current.get(bridge).copied().filter(|slot| self.is_alive(*slot, now, config))
    }

    fn take(&mut self, slot: Slot, report: BridgeReport, now: u64) {
        self.unrank(slot);
        if let Some(record) = self.records.get_mut(&slot) {
            for join_id in &report.joined {
                record.kept(join_id);
            }
            record.last_ms = now;
            record.gone_ms = (report.state() == BridgeState::Gone).then_some(now);
            record.silent = false;
            record.report = BridgeReport { joined: vec![], ..report };
        }
        self.rerank(slot);
    }

    /// The slot of a report's incarnation, if it has one already.
    fn slot_of(&self, report: &BridgeReport, now: u64, config: &Config) -> Result<Option<Slot>, Refusal> {
        let Some((slot, record)) =
            self.current.get(&report.bridge).and_then(|slot| Some((*slot, self.records.get(slot)?)))
        else {
            return Ok(None);
        };
        if record.report.incarnation == report.incarnation {
            if record.gone_ms.is_some() {
                return Err(Refusal::Invalid("this incarnation said it is gone: attach with a new one".into()));
            }
            return Ok(Some(slot));
        }
        if record.alive(now, config) {
            let retry_after = Duration::from_millis(record.expires_ms(config) - now);
            return Err(Refusal::BridgeTaken { id: report.bridge.clone(), retry_after });
        }
        Ok(None)
    }

    fn attach(&mut self, report: &BridgeReport, config: &Config) -> Result<Slot, Refusal> {
        if self.records.len() >= config.max_bridges {
            return Err(Refusal::Quota(Quota::Bridges));
        }
        self.last_slot += 1;
        let slot = self.last_slot;
        let record = Record {
            report: BridgeReport { sequence: 0, joined: vec![], ..report.clone() },
            last_ms: 0,
            gone_ms: None,
            promised: BTreeSet::new(),
            rooms: HashMap::new(),
            silent: false,
            rank: None,
        };
        self.records.insert(slot, record);
        if let Some(old) = self.current.insert(report.bridge.clone(), slot) {
            self.unrank(old);
        }
        Ok(slot)
    }

    pub(super) fn orders(&self, bridge: &str, now: u64) -> Orders {
        let drain = self.drains.get(bridge).map(|&deadline| {
            let within_ms = if deadline == 0 { 0 } else { deadline.saturating_sub(now).max(1) };
            DrainOrder { within_ms }
        });
        Orders { drain, ..Orders::default() }
    }

    pub(super) fn drain(
        &mut self,
        bridge: &str,
        within_ms: Option<u64>,
        now: u64,
        config: &Config,
    ) -> Result<bool, Refusal> {
        match within_ms {
            None => {
                self.drains.remove(bridge);
            }
            Some(_) if self.drains.len() >= config.max_bridges && !self.drains.contains_key(bridge) => {
                return Err(Refusal::Quota(Quota::Bridges));
            }
            Some(within) => {
                let deadline = if within == 0 { 0 } else { now.saturating_add(within) };
                self.drains.insert(bridge.to_owned(), deadline);
            }
        }
        let slot = self.current.get(bridge).copied();
        if let Some(slot) = slot {
            self.rerank(slot);
        }
        let record = slot.and_then(|slot| self.records.get(&slot));
        Ok(record.is_some_and(|record| record.alive(now, config)))
    }

    pub(super) fn infos(&self, now: u64, config: &Config) -> Vec<BridgeInfo> {
        let known = self.current.iter().filter_map(|(id, slot)| Some((id, self.records.get(slot)?)));
        known
            .filter(|(_, record)| record.alive(now, config) || !record.rooms.is_empty())
            .map(|(id, record)| BridgeInfo {
                report: Some(record.report.clone()),
                seats: record.seats(),
                load_permille: record.permille(),
                drain_ordered: self.drains.contains_key(id),
                silent_ms: now.saturating_sub(record.last_ms),
                expired: !record.alive(now, config),
            })
            .collect()
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Record> {
        self.records.get(&slot)
    }

    pub(super) fn is_alive(&self, slot: Slot, now: u64, config: &Config) -> bool {
        self.records.get(&slot).is_some_and(|record| record.alive(now, config))
    }

    /// Counts a seat of a room.
    pub(super) fn promise(&mut self, slot: Slot, room: &str, join_id: &str, promise: Promise) {
        if let Some(record) = self.records.get_mut(&slot) {
            record.promised.insert((join_id.to_owned(), promise));
            *record.rooms.entry(room.to_owned()).or_insert(0) += 1;
            self.rerank(slot);
        }
    }

    /// The room's seat is given back. What the bridge itself counts is its next report's matter.
    pub(super) fn give_back(&mut self, slot: Slot, room: &str, join_id: &str, promise: Promise) {
        self.forget(slot, join_id, promise);
        if let Some(record) = self.records.get_mut(&slot)
            && let Some(seats) = record.rooms.get_mut(room)
        {
            *seats -= 1;
            if *seats == 0 {
                record.rooms.remove(room);
            }
        }
    }

    /// The promise is over: the bridge counts the participant by now, or he never came.
    pub(super) fn forget(&mut self, slot: Slot, join_id: &str, promise: Promise) {
        if let Some(record) = self.records.get_mut(&slot)
            && record.promised.remove(&(join_id.to_owned(), promise))
        {
            self.rerank(slot);
        }
    }

    /// Takes silent bridges out of the order until they report again; forgets incarnations that are over and hold no seats; gives those whose participants are lost.
    pub(super) fn sweep(&mut self, now: u64, config: &Config) -> Vec<Slot> {
        let silent: Vec<Slot> =
            self.records.iter().filter(|(_, record)| !record.alive(now, config)).map(|(slot, _)| *slot).collect();
        for slot in silent {
            self.unrank(slot);
            if let Some(record) = self.records.get_mut(&slot) {
                record.silent = true;
            }
        }
        let over = |record: &Record| record.rooms.is_empty() && !record.alive(now, config);
        let dead: Vec<Slot> = self.records.iter().filter(|(_, record)| over(record)).map(|(slot, _)| *slot).collect();
        for slot in dead {
            if let Some(record) = self.records.remove(&slot)
                && self.current.get(&record.report.bridge) == Some(&slot)
            {
                self.current.remove(&record.report.bridge);
            }
        }
        let lost = self.records.iter().filter(|(_, record)| record.lost_ms(config) <= now);
        let mut lost: Vec<Slot> = lost.map(|(slot, _)| *slot).collect();
        lost.sort_unstable();
        lost
    }

    fn unrank(&mut self, slot: Slot) {
        let Some(record) = self.records.get_mut(&slot) else { return };
        let Some(rank) = record.rank.take() else { return };
        if let Some(site) = self.by_load.get_mut(&record.report.site) {
            site.remove(&rank);
            if site.is_empty() {
                self.by_load.remove(&record.report.site);
            }
        }
    }

    fn rerank(&mut self, slot: Slot) {
        self.unrank(slot);
        let Some(record) = self.records.get_mut(&slot) else { return };
        let current = self.current.get(&record.report.bridge) == Some(&slot);
        // Who attached with a report that does not count has not said anything yet.
        let reported = record.report.sequence > 0;
        if current && reported && record.gone_ms.is_none() && !record.silent {
            let ready = record.report.state() == BridgeState::Ready && !self.drains.contains_key(&record.report.bridge);
            let (load, seats) = (record.permille(), record.seats());
            let takes = ready && load < load::FULL && seats < record.load().seat_limit;
            let rank = (!takes, load, seats, slot);
            record.rank = Some(rank);
            self.by_load.entry(record.report.site.clone()).or_default().insert(rank);
        }
    }

    /// The living bridges as placement sees them, for one room.
    pub(super) fn view<'a>(&'a self, room: &'a str, now: u64, config: &'a Config) -> View<'a> {
        View { bridges: self, room, now, config }
    }
}

/// See [`Bridges::view`].
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    bridges: &'a Bridges,
    room: &'a str,
    now: u64,
    config: &'a Config,
}

impl<'a> View<'a> {
    pub(super) fn candidate(&self, slot: Slot) -> Option<Candidate<'a>> {
        let record = self.bridges.records.get(&slot).filter(|record| record.rank.is_some())?;
        let report = &record.report;
        record.alive(self.now, self.config).then(|| Candidate {
            key: slot,
            id: &report.bridge,
            site: &report.site,
            ready: report.state() == BridgeState::Ready && !self.bridges.drains.contains_key(&report.bridge),
            generation: report.generation,
            features: &report.features,
            seats: record.seats(),
            seat_limit: record.load().seat_limit,
            load: record.permille(),
            room_seats: record.rooms.get(self.room).copied().unwrap_or(0),
        })
    }
}

impl placement::Bridges for View<'_> {
    fn sites(&self) -> impl Iterator<Item = (&str, u32)> {
        let load = |ranks: &BTreeSet<Rank>| match ranks.first() {
            Some((false, load, ..)) => *load,
            _ => load::FULL,
        };
        self.bridges.by_load.iter().map(move |(site, ranks)| (site.as_str(), load(ranks)))
    }

    fn by_load(&self, site: &str) -> impl Iterator<Item = Candidate<'_>> {
        let ranks = self.bridges.by_load.get(site).into_iter().flatten();
        ranks.filter_map(|(.., slot)| self.candidate(*slot))
    }
}
