//! Everything the memory store knows, and each call of the contract as one step on it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use rand::Rng;
use rand::distr::Alphanumeric;
use ratssaal_proto::allocator::v1::{
    AppendRequest, AppendResponse, BridgeInfo, BridgeReport, EndRoomRequest, ListRoomsRequest, ListRoomsResponse,
    LogSnapshot, OpenRoomRequest, OpenRoomResponse, PlaceRequest, PlaceResponse, ReleaseRequest, RoomInfo,
    RoomSettings, Seat, SnapshotRequest,
};

use super::bridges::{Bridges, Promise, Slot};
use super::room::{Room, SeatRecord};
use crate::clock::millis;
use crate::config::Config;
use crate::placement::{self, Candidate, Shortage, Wish};
use crate::refusal::{Quota, Refusal};
use crate::store::{Chunk, EndIf, Followed, Lost, Mark, Orders, Result, Sweep, Writer};

/// Rooms in one page of a list.
const PAGE: usize = 1000;

#[derive(Debug)]
pub(super) struct State {
    config: Config,
    now: u64,
    bridges: Bridges,
    rooms: BTreeMap<String, Room>,
    /// Rooms that have ended, by sid, and until when they can be read.
    ended: HashMap<String, (Room, u64)>,
    /// Rooms nobody is in, by when they are due to end.
    due: BTreeSet<(u64, String)>,
    /// Reservations by when they lapse. Entries of seats that are confirmed or given back meanwhile stay until then.
    lapses: BTreeMap<(u64, Promise), Lapse>,
    last_promise: Promise,
    last_epoch: u64,
    seats: usize,
}

#[derive(Debug)]
struct Lapse {
    room: String,
    join_id: String,
    slot: Slot,
}

impl State {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            now: 0,
            bridges: Bridges::default(),
            rooms: BTreeMap::new(),
            ended: HashMap::new(),
            due: BTreeSet::new(),
            lapses: BTreeMap::new(),
            last_promise: 0,
            last_epoch: 0,
            seats: 0,
        }
    }

    /// Lets time pass: reservations that have lapsed by `now` are gone since they lapsed.
    pub(super) fn advance(&mut self, now: u64) {
        while let Some(lapse) = self.lapses.first_entry()
            && lapse.key().0 <= now
        {
            let (at, promise) = *lapse.key();
            self.now = self.now.max(at);
            let Lapse { room, join_id, slot } = lapse.remove();
            self.bridges.forget(slot, &join_id, promise);
            let unconfirmed = self.rooms.get(&room).is_some_and(|room| {
                let seat = room.identity_of(&join_id).and_then(|identity| room.seat_of(identity));
                seat.is_some_and(|seat| !seat.confirmed && seat.promise == promise)
            });
            if unconfirmed {
                self.on_room(&room, |room, bridges, now| room.drop_seat(&join_id, now, bridges));
            }
        }
        self.now = self.now.max(now);
    }

    /// Changes a room and keeps the indexes right.
    fn on_room<T>(&mut self, name: &str, change: impl FnOnce(&mut Room, &mut Bridges, u64) -> T) -> Option<T> {
        let room = self.rooms.get_mut(name)?;
        let (due, seats) = (room.due_ms(), room.seat_count());
        let result = change(room, &mut self.bridges, self.now);
        if room.due_ms() != due {
            due.map(|due| self.due.remove(&(due, name.to_owned())));
            room.due_ms().map(|due| self.due.insert((due, name.to_owned())));
        }
        self.seats = self.seats + room.seat_count() as usize - seats as usize;
        Some(result)
    }

    pub(super) fn report(&mut self, report: BridgeReport) -> Result<Orders> {
        self.bridges.report(report, self.now, &self.config)
    }

    pub(super) fn orders(&self, bridge: &str) -> Orders {
        self.bridges.orders(bridge, self.now)
    }

    pub(super) fn drain(&mut self, bridge: &str, within_ms: Option<u64>) -> Result<bool> {
        self.bridges.drain(bridge, within_ms, self.now, &self.config)
    }

    pub(super) fn bridges(&self) -> Vec<BridgeInfo> {
        self.bridges.infos(self.now, &self.config)
    }

    /// The open room of a name and, unless it is empty, of a sid.
    fn find(&self, name: &str, sid: &str) -> Result<&Room> {
        let room = self.rooms.get(name).filter(|room| sid.is_empty() || room.sid == sid);
        room.ok_or_else(|| Refusal::UnknownRoom(name.to_owned()))
    }

    pub(super) fn open(&mut self, request: OpenRoomRequest) -> Result<OpenRoomResponse> {
        if let Some(room) = self.rooms.get(&request.name) {
            if request.must_be_new {
                return Err(Refusal::RoomExists(request.name));
            }
            return Ok(OpenRoomResponse { room: Some(room.info(&self.bridges)), opened: false });
        }
        self.check_room_quota()?;
        let info = self.open_new(request.name, request.settings.unwrap_or_default());
        Ok(OpenRoomResponse { room: Some(info), opened: true })
    }

    fn check_room_quota(&self) -> Result<()> {
        if self.rooms.len() < self.config.max_rooms { Ok(()) } else { Err(Refusal::Quota(Quota::Rooms)) }
    }

    fn open_new(&mut self, name: String, settings: RoomSettings) -> RoomInfo {
        let characters = rand::rng().sample_iter(Alphanumeric).take(12).map(char::from);
        let sid = "RM_".chars().chain(characters).collect();
        self.last_epoch = self.now.max(self.last_epoch + 1);
        let room = Room::new(name.clone(), sid, self.last_epoch, settings, self.now, &self.config);
        let info = room.info(&self.bridges);
        room.due_ms().map(|due| self.due.insert((due, name.clone())));
        self.rooms.insert(name, room);
        info
    }

    pub(super) fn end(&mut self, request: EndRoomRequest, condition: EndIf) -> Result<RoomInfo> {
        let room = self.find(&request.name, &request.sid)?;
        let head = room.log.head();
        let due = room.due_ms().is_some_and(|due| due <= self.now);
        if request.expected.is_some_and(|expected| expected != head) || (condition == EndIf::Due && !due) {
            return Err(Refusal::Conflict { head });
        }
        let info = self.on_room(&request.name, |room, bridges, now| {
            room.log.append([request.entry], now);
            let info = room.info(bridges);
            room.drop_all_seats(now, bridges);
            info
        });
        let (Some(info), Some(room)) = (info, self.rooms.remove(&request.name)) else {
            return Err(Refusal::UnknownRoom(request.name));
        };
        room.due_ms().map(|due| self.due.remove(&(due, request.name)));
        room.tell(true);
        let until = self.now.saturating_add(millis(self.config.linger));
        self.ended.insert(room.sid.clone(), (room, until));
        Ok(info)
    }

    pub(super) fn rooms(&self, request: &ListRoomsRequest) -> ListRoomsResponse {
        if !request.names.is_empty() {
            let named = request.names.iter().filter_map(|name| self.rooms.get(name));
            return ListRoomsResponse { rooms: named.map(|room| room.info(&self.bridges)).collect(), more: false };
        }
        let limit = if request.limit == 0 { PAGE } else { PAGE.min(request.limit as usize) };
        let after = (std::ops::Bound::Excluded(request.after.as_str()), std::ops::Bound::Unbounded);
        let mut rest = self.rooms.range::<str, _>(after).map(|(_, room)| room);
        let rooms = rest.by_ref().take(limit).map(|room| room.info(&self.bridges)).collect();
        ListRoomsResponse { rooms, more: rest.next().is_some() }
    }

    pub(super) fn place(&mut self, request: PlaceRequest) -> Result<PlaceResponse> {
        if let Some(answer) = self.placed_before(&request) {
            return Ok(answer);
        }
        let room = self.rooms.get(&request.room);
        if room.and_then(|room| room.identity_of(&request.join_id)).is_some_and(|owner| owner != request.identity) {
            return Err(Refusal::foreign_join());
        }
        match (room, &request.open) {
            (None, None) => return Err(Refusal::UnknownRoom(request.room)),
            (None, Some(_)) => self.check_room_quota()?,
            (Some(room), _) => {
                let limit = room.settings.max_participants;
                let others = room.seat_count() - u32::from(room.seat_of(&request.identity).is_some());
                if limit > 0 && others >= limit {
                    return Err(Refusal::Quota(Quota::Participants));
                }
            }
        }
        let slot = self.choose(&request)?;

        let opened = room.is_none();
        if opened {
            self.open_new(request.room.clone(), request.open.unwrap_or_default());
        }
        let lapses_ms = self.now.saturating_add(millis(self.config.reservation));
        self.last_promise += 1;
        let lapse = Lapse { room: request.room.clone(), join_id: request.join_id.clone(), slot };
        self.lapses.insert((lapses_ms, self.last_promise), lapse);
        let seat = SeatRecord {
            join_id: request.join_id,
            participant_sid: request.participant_sid,
            slot,
            promise: self.last_promise,
            confirmed: false,
            lapses_ms,
        };
        let identity = request.identity;
        let answer = self.on_room(&request.room, |room, bridges, now| {
            let replaced = room.seat_of(&identity).map(|old| room.seat(&identity, old, bridges));
            if let Some(old) = &replaced {
                room.drop_seat(&old.join_id, now, bridges);
            }
            room.take_seat(identity.clone(), seat.clone(), bridges);
            PlaceResponse {
                seat: Some(room.seat(&identity, &seat, bridges)),
                room: Some(room.info(bridges)),
                opened,
                replaced,
                reserved_ms: 0,
            }
        });
        let reserved_ms = self.left_of(lapses_ms);
        answer.map(|answer| PlaceResponse { reserved_ms, ..answer }).ok_or(Refusal::UnknownRoom(request.room))
    }

    fn left_of(&self, until_ms: u64) -> u32 {
        u32::try_from(until_ms.saturating_sub(self.now)).unwrap_or(u32::MAX)
    }

    /// The answer a join id got before, unless its bridge died or is to be avoided.
    fn placed_before(&self, request: &PlaceRequest) -> Option<PlaceResponse> {
        let room = self.rooms.get(&request.room)?;
        let identity = room.identity_of(&request.join_id).filter(|owner| *owner == request.identity)?;
        let record = room.seat_of(identity)?;
        let seat = room.seat(identity, record, &self.bridges);
        let usable =
            self.bridges.is_alive(record.slot, self.now, &self.config) && !request.avoid.contains(&seat.bridge);
        usable.then(|| PlaceResponse {
            seat: Some(seat),
            room: Some(room.info(&self.bridges)),
            opened: false,
            replaced: None,
            reserved_ms: if record.confirmed { 0 } else { self.left_of(record.lapses_ms) },
        })
    }

    fn choose(&self, request: &PlaceRequest) -> Result<Slot> {
        let view = self.bridges.view(&request.room, self.now, &self.config);
        let room = self.rooms.get(&request.room);
        let on: Vec<Candidate<'_>> =
            room.into_iter().flat_map(|room| room.bridges.keys()).filter_map(|slot| view.candidate(*slot)).collect();
        let settings = room.map(|room| &room.settings).or(request.open.as_ref());
        let wish = Wish {
            sites: &request.sites,
            pin: settings.map(|settings| settings.site_pin.as_str()).filter(|pin| !pin.is_empty()),
            features: request.needs.as_ref().map_or(&[], |needs| &needs.features),
            avoid: &request.avoid,
            spill: self.config.spill_permille,
            max_bridges: self.config.max_room_bridges,
        };
        placement::choose(&wish, &on, &view).map_err(|shortage| match shortage {
            Shortage::NoBridge => unavailable("no bridge is attached"),
            Shortage::NoneSuits => unavailable("no bridge suits this participant"),
            Shortage::Draining => Refusal::Draining,
            Shortage::Full { elsewhere } => Refusal::Full { free_elsewhere: elsewhere },
            Shortage::Spanned => Refusal::Quota(Quota::RoomBridges),
        })
    }

    pub(super) fn release(&mut self, request: &ReleaseRequest) -> bool {
        if self.find(&request.room, &request.room_sid).is_err() {
            return false;
        }
        let released = self.on_room(&request.room, |room, bridges, now| room.drop_seat(&request.join_id, now, bridges));
        released.unwrap_or(false)
    }

    pub(super) fn append(&mut self, request: AppendRequest, writer: Writer) -> Result<AppendResponse> {
        let room = self.find(&request.room, &request.room_sid)?;
        let head = room.log.head();
        let expected = Mark { sequence: request.expected, at_ms: request.expected_at_ms };
        if expected.sequence != head || room.log.differs(expected) {
            return Err(Refusal::Conflict { head });
        }
        let claimed = |join_id: &String| request.claim.iter().any(|seat| seat.join_id == *join_id);
        let held = |join_id: &String| room.identity_of(join_id).is_some() || claimed(join_id);
        if let Some(lapsed) = request.confirm.iter().find(|join_id| !held(join_id)) {
            return Err(Refusal::Lapsed(lapsed.clone()));
        }
        let claims = self.claims(room, &request.claim)?;
        room.log.check(&request.entries, writer, &self.config)?;
        let lapses_ms = self.now.saturating_add(millis(self.config.reservation));
        for (seat, slot) in claims {
            self.claim(&request.room, seat, slot, lapses_ms);
        }
        self.on_room(&request.room, |room, bridges, now| {
            room.log.append(request.entries, now);
            request.confirm.iter().for_each(|join_id| room.confirm(join_id));
            for join_id in &request.release {
                room.drop_seat(join_id, now, bridges);
            }
            room.tell(false);
        });
        let room = self.find(&request.room, &request.room_sid)?;
        let snapshot_wanted = room.log.wants_snapshot(&self.config);
        Ok(AppendResponse { head: room.log.head(), at_ms: self.now, snapshot_wanted })
    }

    /// The claimed seats with the bridges they are on, or why they cannot be had.
    fn claims(&self, room: &Room, claim: &[Seat]) -> Result<Vec<(Seat, Slot)>> {
        let on = |seat: &Seat| {
            if room.identity_of(&seat.join_id).is_some_and(|owner| owner != seat.identity) {
                return Err(Refusal::foreign_join());
            }
            let slot = self.bridges.attached(&seat.bridge, self.now, &self.config);
            let slot =
                slot.ok_or_else(|| unavailable("the bridge of a seat that it gave by its lease is not attached yet"));
            Ok((seat.clone(), slot?))
        };
        claim.iter().map(on).collect()
    }

    /// Takes a seat that a bridge has given: it counts as promised until the bridge's report names it.
    fn claim(&mut self, room: &str, seat: Seat, slot: Slot, lapses_ms: u64) {
        self.last_promise += 1;
        let promise = self.last_promise;
        let taken = self.on_room(room, |room, bridges, now| {
            if room.identity_of(&seat.join_id).is_some() {
                return false;
            }
            if let Some(older) = room.seat_of(&seat.identity).map(|older| older.join_id.clone()) {
                room.drop_seat(&older, now, bridges);
            }
            let (join_id, participant_sid) = (seat.join_id.clone(), seat.participant_sid);
            let record = SeatRecord { join_id, participant_sid, slot, promise, confirmed: false, lapses_ms };
            room.take_seat(seat.identity, record, bridges);
            true
        });
        if taken == Some(true) {
            let lapse = Lapse { room: room.to_owned(), join_id: seat.join_id, slot };
            self.lapses.insert((lapses_ms, promise), lapse);
        }
    }

    pub(super) fn follow(&self, name: &str, sid: &str) -> Result<Followed> {
        let ended = self.ended.get(sid).map(|(room, _)| room).filter(|room| room.name == name);
        let room = self.find(name, sid).or_else(|unknown| ended.ok_or(unknown))?;
        Ok(Followed { room: room.info(&self.bridges), position: room.watch() })
    }

    /// A room that is open.
    pub(super) fn room(&self, name: &str, sid: &str) -> Result<RoomInfo> {
        Ok(self.find(name, sid)?.info(&self.bridges))
    }

    pub(super) fn read(&self, room: &str, sid: &str, after: Mark) -> Result<Chunk> {
        let ended = self.ended.get(sid).map(|(room, _)| room);
        let room = self.find(room, sid).or_else(|unknown| ended.ok_or(unknown))?;
        let head = room.log.head();
        if after.sequence > head || room.log.differs(after) {
            return Err(Refusal::Conflict { head });
        }
        Ok(room.log.read(after.sequence))
    }

    pub(super) fn snapshot(&mut self, request: SnapshotRequest) -> Result<bool> {
        let head = self.find(&request.room, &request.room_sid)?.log.head();
        if request.sequence > head {
            let text = format!("the log's head is {head}, there is no state as of {} yet", request.sequence);
            return Err(Refusal::Invalid(text));
        }
        let snapshot = LogSnapshot { sequence: request.sequence, state: request.state };
        let kept = self.on_room(&request.room, |room, _, _| room.log.keep(snapshot));
        Ok(kept.unwrap_or(false))
    }

    pub(super) fn sweep(&mut self) -> Sweep {
        let now = self.now;
        self.ended.retain(|_, (_, until)| *until > now);
        let mut lost = Vec::new();
        for slot in self.bridges.sweep(now, &self.config) {
            let names = self.bridges.get(slot).into_iter().flat_map(|record| record.rooms.keys());
            for room in names.filter_map(|name| self.rooms.get(name)) {
                let seats = room.confirmed_on(slot, &self.bridges);
                if !seats.is_empty() {
                    lost.push(Lost { room: room.info(&self.bridges), seats });
                }
            }
        }
        let due = self.due.iter().take_while(|(due, _)| *due <= now).filter_map(|(_, name)| self.rooms.get(name));
        let due = due.map(|room| room.info(&self.bridges)).collect();
        Sweep { lost, due, rooms: self.rooms.len(), seats: self.seats, now_ms: now }
    }
}

fn unavailable(reason: &'static str) -> Refusal {
    Refusal::Unavailable { reason, retry_after: Duration::from_secs(1), away: false }
}
