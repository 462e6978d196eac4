//! Random histories of a whole cluster on a real Redis that is killed and restarted, with its data or empty: joins, leaves,
//! bans, crashes and drains of bridges, against a reference as simple as the rules allow.
//!
//! The reference is what the bridges that live know of each room: who is in it, where, and its log as a text. After every step
//! the store must say the same: one room of each name and the same one, each participant once, no ban lost. Seeds are
//! printed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use ratssaal_proto::allocator::v1::{Load, Seat};

use super::tests::{eventually, unsettled};
use super::*;
use crate::clock::ManualClock;
use crate::redis_server::{PATIENCE, Server};

const BRIDGES: [&str; 4] = ["a", "b", "c", "d"];
const ROOMS: [&str; 3] = ["eins", "zwei", "drei"];
const PEOPLE: [&str; 8] = ["0", "1", "2", "3", "4", "5", "6", "7"];
const STEPS: usize = 100;
const HISTORIES: u64 = 4;

/// A room as the bridges that hold it know it.
struct Room {
    info: RoomInfo,
    /// Position of the log that they have read.
    head: u64,
    /// Everything the log said.
    log: String,
    people: BTreeMap<&'static str, Seat>,
    holders: BTreeSet<&'static str>,
}

struct Bridge {
    alive: bool,
    incarnation: u32,
    sequence: u64,
    draining: bool,
    joined: Vec<String>,
}

struct World {
    redis: Option<Server>,
    store: RedisStore,
    clock: Arc<ManualClock>,
    rng: StdRng,
    durable: bool,
    bridges: BTreeMap<&'static str, Bridge>,
    rooms: BTreeMap<&'static str, Room>,
    joins: u64,
    context: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_is_twice() {
    let first: u64 = rand::random();
    for seed in (0..HISTORIES).map(|number| first.wrapping_add(number)) {
        let mut world = World::new(seed).await;
        println!("seed {seed}, {}", if world.durable { "with its data" } else { "empty" });
        for step in 0..STEPS {
            world.context = format!("seed {seed}, step {step}");
            world.step().await;
            world.check().await;
        }
    }
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let durable = rng.random_bool(0.3);
        let redis = Server::start(tempfile::tempdir().unwrap(), arguments(durable));
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        // Rooms are not to end by themselves here.
        let hour = Duration::from_secs(3_600_000);
        let config = Config { empty_timeout: hour, departure_timeout: hour, ..unsettled() };
        let settings = RedisSettings { timeout: PATIENCE, ..RedisSettings::new(redis.url().into()) };
        let store = RedisStore::with_clock(settings, &config, Some(Arc::clone(&clock) as Arc<dyn Clock>)).unwrap();
        eventually(|| store.sweep()).await;
        let bridge = Bridge { alive: true, incarnation: 0, sequence: 0, draining: false, joined: vec![] };
        let bridges = BRIDGES.map(|id| (id, Bridge { joined: vec![], ..bridge })).into();
        let (rooms, redis) = (BTreeMap::new(), Some(redis));
        let mut world = Self { redis, store, clock, rng, durable, bridges, rooms, joins: 0, context: String::new() };
        world.everybody_reports().await;
        world
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..40 => self.join().await,
            40..55 => self.leave().await,
            55..65 => self.ban().await,
            65..72 => self.drain().await,
            72..80 => self.crash().await,
            80..88 => self.revive().await,
            88..92 => self.restart().await,
            _ => self.clock.advance(Duration::from_millis(self.rng.random_range(1..900))),
        }
        self.everybody_reports().await;
    }

    /// Each living bridge counts who sits there.
    async fn everybody_reports(&mut self) {
        for id in BRIDGES {
            let seats = self.rooms.values().flat_map(|room| room.people.values()).filter(|seat| seat.bridge == id);
            let seats = u32::try_from(seats.count()).unwrap();
            let Some(bridge) = self.bridges.get_mut(id).filter(|bridge| bridge.alive) else { continue };
            bridge.sequence += 1;
            let report = BridgeReport {
                bridge: id.into(),
                incarnation: bridge.incarnation.to_string(),
                sequence: bridge.sequence,
                state: BridgeState::Ready.into(),
                load: Some(Load { seats, seat_limit: 100, ..Load::default() }),
                joined: std::mem::take(&mut bridge.joined),
                ..BridgeReport::default()
            };
            let orders = eventually(|| self.store.report(report.clone())).await;
            assert_eq!(orders.drain.is_some(), bridge.draining, "{}: {id}", self.context);
        }
    }

    fn some_room(&mut self) -> &'static str {
        ROOMS.choose(&mut self.rng).unwrap()
    }

    fn takes(&self, id: &str) -> bool {
        self.bridges.get(id).is_some_and(|bridge| bridge.alive && !bridge.draining)
    }

    async fn join(&mut self) {
        let (name, identity) = (self.some_room(), *PEOPLE.choose(&mut self.rng).unwrap());
        self.joins += 1;
        let request = PlaceRequest {
            room: name.into(),
            identity: identity.into(),
            join_id: format!("join-{}", self.joins),
            participant_sid: format!("PA_{}", self.joins),
            open: Some(RoomSettings::default()),
            ..PlaceRequest::default()
        };
        let placed = self.store.place(request).await;
        if !BRIDGES.iter().any(|id| self.takes(id)) {
            assert!(placed.is_err(), "{}: {placed:?}", self.context);
            return;
        }
        let placed = placed.unwrap_or_else(|refusal| panic!("{}: {refusal}", self.context));
        let (seat, info) = (placed.seat.unwrap(), placed.room.unwrap());
        assert!(self.takes(&seat.bridge), "{}: {} takes nobody", self.context, seat.bridge);
        assert_eq!(placed.opened, !self.rooms.contains_key(name), "{}: two rooms of a name", self.context);
        let old = self.rooms.get(name).and_then(|room| room.people.get(identity)).map(|seat| seat.join_id.clone());
        assert_eq!(placed.replaced.map(|seat| seat.join_id), old, "{}", self.context);
        let bridge = *BRIDGES.iter().find(|id| **id == seat.bridge).unwrap();
        let room = self.rooms.entry(name).or_insert_with(|| Room {
            head: info.head,
            info,
            log: String::new(),
            people: BTreeMap::new(),
            holders: BTreeSet::new(),
        });
        room.holders.insert(bridge);
        let (confirm, release) = (vec![seat.join_id.clone()], old.into_iter().collect());
        self.append(name, format!("+{identity} "), confirm, release).await;
        self.bridges.get_mut(bridge).unwrap().joined.push(seat.join_id.clone());
        self.rooms.get_mut(name).unwrap().people.insert(identity, seat);
    }

    async fn append(&mut self, name: &str, text: String, confirm: Vec<String>, release: Vec<String>) {
        let room = self.rooms.get_mut(name).unwrap();
        let request = AppendRequest {
            room: name.into(),
            room_sid: room.info.sid.clone(),
            expected: room.head,
            entries: vec![Bytes::from(text.clone())],
            confirm,
            release,
            ..AppendRequest::default()
        };
        let appended = self.store.append(request, Writer::Bridge).await;
        room.head = appended.unwrap_or_else(|refusal| panic!("{}: {refusal}", self.context)).head;
        room.log += &text;
    }

    async fn leave(&mut self) {
        let name = self.some_room();
        let Some(room) = self.rooms.get(name) else { return };
        let people: Vec<&'static str> = room.people.keys().copied().collect();
        let Some(identity) = people.choose(&mut self.rng).copied() else { return };
        let seat = self.rooms.get_mut(name).unwrap().people.remove(identity).unwrap();
        self.append(name, format!("-{identity} "), vec![], vec![seat.join_id]).await;
    }

    async fn ban(&mut self) {
        let name = self.some_room();
        let identity = *PEOPLE.choose(&mut self.rng).unwrap();
        if self.rooms.contains_key(name) {
            self.append(name, format!("!{identity} "), vec![], vec![]).await;
        }
    }

    async fn drain(&mut self) {
        let id = *BRIDGES.choose(&mut self.rng).unwrap();
        let draining = self.rng.random_bool(0.4);
        self.store.drain(id, draining.then_some(0)).await.unwrap();
        self.bridges.get_mut(id).unwrap().draining = draining;
    }

    /// A bridge dies, and its participants with it when the time for coming back is over.
    async fn crash(&mut self) {
        let alive: Vec<_> = BRIDGES.into_iter().filter(|id| self.bridges[id].alive).collect();
        let Some(id) = alive.choose(&mut self.rng).copied().filter(|_| alive.len() > 1) else { return };
        let bridge = self.bridges.get_mut(id).unwrap();
        bridge.alive = false;
        bridge.joined.clear();
        for room in self.rooms.values_mut() {
            room.holders.remove(id);
        }
        for _ in 0..14 {
            self.clock.advance(Duration::from_secs(1));
            self.everybody_reports().await;
        }
        let sweep = self.store.sweep().await.unwrap();
        for lost in sweep.lost {
            let name = *ROOMS.iter().find(|name| **name == lost.room.name).unwrap();
            for seat in lost.seats {
                assert_eq!(seat.bridge, id, "{}: somebody else is judged lost", self.context);
                let room = self.rooms.get_mut(name).unwrap();
                let gone = room.people.iter().find(|(_, sits)| sits.join_id == seat.join_id).map(|(who, _)| *who);
                let gone = gone.unwrap_or_else(|| panic!("{}: {seat:?} is unknown", self.context));
                room.people.remove(gone);
                self.append(name, format!("-{gone} "), vec![], vec![seat.join_id]).await;
            }
        }
    }

    async fn revive(&mut self) {
        let dead = BRIDGES.into_iter().find(|id| !self.bridges[id].alive);
        if let Some(bridge) = dead.and_then(|id| self.bridges.get_mut(id)) {
            (bridge.alive, bridge.incarnation, bridge.sequence) = (true, bridge.incarnation + 1, 0);
        }
    }

    /// Redis dies and comes back. If it is empty, bridges offer what they hold, in any order.
    async fn restart(&mut self) {
        let folder = self.redis.take().unwrap().crash();
        // An empty store takes its name from the time, too.
        self.clock.advance(Duration::from_millis(1));
        self.redis = Some(Server::start(folder, arguments(self.durable)));
        eventually(|| self.store.sweep()).await;
        if self.durable {
            return;
        }
        // Orders are forgotten with the data.
        self.bridges.values_mut().for_each(|bridge| bridge.draining = false);
        let before = self.rooms.len();
        self.rooms.retain(|_, room| !room.holders.is_empty());
        if self.rooms.len() < before {
            println!("{}: rooms that nobody held are gone", self.context);
        }
        if self.rng.random_bool(0.5) {
            self.everybody_reports().await;
        }
        for (name, room) in &mut self.rooms {
            for _ in 0..room.holders.len() {
                let request = RestoreRequest {
                    room: Some(room.info.clone()),
                    sequence: room.head,
                    state: Bytes::from(room.log.clone()),
                    seats: room.people.values().cloned().collect(),
                    at_ms: 0,
                };
                let restored = self.store.restore(request).await;
                let restored = restored.unwrap_or_else(|refusal| panic!("{}: {name}: {refusal}", self.context));
                assert_eq!(restored.sid, room.info.sid, "{}", self.context);
                // All offer what they knew; each then reads on.
                if room.info.store != restored.store && self.rng.random_bool(0.5) {
                    (room.info, room.head) = (restored.clone(), restored.head);
                    break;
                }
                (room.info.head, room.info.seats) = (restored.head, restored.seats);
            }
            let now = self.store.open(OpenRoomRequest { name: (*name).into(), ..OpenRoomRequest::default() }).await;
            let now = now.unwrap().room.unwrap();
            (room.head, room.info) = (now.head, now);
        }
    }

    async fn check(&mut self) {
        let context = &self.context;
        let listed = self.store.rooms(ListRoomsRequest::default()).await.unwrap().rooms;
        let names: Vec<_> = listed.iter().map(|room| room.name.as_str()).collect();
        let expected: BTreeSet<&str> = self.rooms.keys().copied().collect();
        assert_eq!(names, expected.into_iter().collect::<Vec<_>>(), "{context}");
        for info in listed {
            let room = &self.rooms[info.name.as_str()];
            assert_eq!((&info.sid, info.head), (&room.info.sid, room.head), "{context}: {}", info.name);
            assert_eq!(info.seats as usize, room.people.len(), "{context}: {}: a seat twice or lost", info.name);
            let mut counted: BTreeMap<&str, u32> = BTreeMap::new();
            room.people.values().for_each(|seat| *counted.entry(&seat.bridge).or_default() += 1);
            let told: BTreeMap<&str, u32> =
                info.bridges.iter().filter(|at| at.seats > 0).map(|at| (at.bridge.as_str(), at.seats)).collect();
            assert_eq!(told, counted, "{context}: {}", info.name);
            assert_eq!(self.text(&info).await, room.log, "{context}: {}: the log", info.name);
        }
        for info in self.store.bridges().await.unwrap() {
            let id = info.report.unwrap_or_default().bridge;
            let sits = |room: &Room| room.people.values().filter(|seat| seat.bridge == id).count();
            let seats: usize = self.rooms.values().map(sits).sum();
            if self.bridges.get(id.as_str()).is_some_and(|bridge| bridge.alive) {
                assert_eq!(info.seats as usize, seats, "{context}: {id}");
            }
        }
    }

    /// A room's log from its beginning, or from the state that was told to an empty store.
    async fn text(&self, info: &RoomInfo) -> String {
        let (mut text, mut after) = (String::new(), 0);
        while after < info.head {
            let chunk = self.store.read(&info.name, &info.sid, after).await.unwrap();
            if let Some(snapshot) = &chunk.snapshot {
                text = String::from_utf8(snapshot.state.to_vec()).unwrap();
            }
            text.extend(chunk.entries.iter().map(|entry| String::from_utf8(entry.entry.to_vec()).unwrap()));
            let Some(last) = chunk.last() else { break };
            after = last;
        }
        text
    }
}

fn arguments(durable: bool) -> &'static [&'static str] {
    if durable { &["--appendonly", "yes", "--appendfsync", "always"] } else { &[] }
}
