//! The scripts against the memory store: both get the same random calls and must give the same answers, down to which
//! bridge is chosen. So the placement written in Lua is the pure function that has its own tests.

use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use ratssaal_proto::allocator::v1::{Load, Needs, Seat};

use super::tests::{eventually, unsettled};
use super::*;
use crate::clock::ManualClock;
use crate::redis_server::{PATIENCE, Server};
use crate::store::MemoryStore;

const BRIDGES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const SITES: [&str; 3] = ["", "nord", "sued"];
const ROOMS: [&str; 4] = ["eins", "zwei", "drei", "vier"];
const PEOPLE: [&str; 8] = ["0", "1", "2", "3", "4", "5", "6", "7"];
const FEATURES: [&str; 2] = ["turn", "record"];

struct Pair {
    memory: MemoryStore,
    redis: RedisStore,
    clock: Arc<ManualClock>,
    rng: StdRng,
    number: u64,
    context: String,
}

/// Both results must be the same; gives them unless they are refusals.
macro_rules! both {
    ($pair:ident, $call:ident($($argument:expr),*), $same:expr) => {{
        let (memory, redis) =
            (Store::$call(&$pair.memory, $($argument),*).await, Store::$call(&$pair.redis, $($argument),*).await);
        let same = $same;
        assert_eq!(redis.clone().map(same), memory.clone().map(same), "{}", $pair.context);
        (memory.ok(), redis.ok())
    }};
}

/// A room but for what is random or the store's own.
fn room(room: RoomInfo) -> RoomInfo {
    RoomInfo { sid: String::new(), store: String::new(), ..room }
}

fn placed(placed: PlaceResponse) -> PlaceResponse {
    PlaceResponse { room: placed.room.map(room), ..placed }
}

fn swept(sweep: Sweep) -> Sweep {
    let mut lost: Vec<Lost> =
        sweep.lost.into_iter().map(|lost| Lost { room: room(lost.room), seats: lost.seats }).collect();
    let first = |lost: &Lost| lost.seats.first().map(|seat| (seat.bridge.clone(), seat.join_id.clone()));
    lost.sort_by_key(|lost| (lost.room.name.clone(), first(lost)));
    let mut due: Vec<RoomInfo> = sweep.due.into_iter().map(room).collect();
    due.sort_by(|a, b| a.name.cmp(&b.name));
    Sweep { lost, due, ..sweep }
}

impl Pair {
    fn some<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of.choose(&mut self.rng).copied().unwrap_or_default()
    }

    fn few(&mut self, of: &[&str]) -> Vec<String> {
        of.iter().filter(|_| self.rng.random_bool(0.2)).map(|&name| name.to_owned()).collect()
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..30 => self.report().await,
            30..65 => self.place().await,
            65..80 => self.append().await,
            80..85 => {
                let (bridge, within) = (self.some(&BRIDGES), self.rng.random_bool(0.3).then_some(5_000));
                both!(self, drain(bridge, within), |drained| drained);
                both!(self, orders(bridge), |orders| orders);
            }
            85..88 => {
                let request = EndRoomRequest {
                    name: self.some(&ROOMS).into(),
                    entry: Bytes::from_static(b"ended"),
                    ..EndRoomRequest::default()
                };
                let condition = if self.rng.random_bool(0.5) { EndIf::Due } else { EndIf::Always };
                both!(self, end(request.clone(), condition), room);
            }
            88..92 => {
                both!(self, sweep(), swept);
            }
            _ => {
                let millis = *[1, 400, 1_000, 2_999, 8_000, 21_000].choose(&mut self.rng).unwrap_or(&1);
                self.clock.advance(Duration::from_millis(millis));
            }
        }
        both!(self, bridges(), |bridges| bridges);
        let all = ListRoomsRequest::default();
        both!(self, rooms(all.clone()), |page: ListRoomsResponse| page.rooms.into_iter().map(room).collect::<Vec<_>>());
    }

    async fn report(&mut self) {
        self.number += 1;
        let load = Load {
            seats: self.rng.random_range(0..4),
            seat_limit: self.rng.random_range(1..8),
            cpu_permille: *[0, 0, 300, 950, 1_000].choose(&mut self.rng).unwrap_or(&0),
            ..Load::default()
        };
        let state =
            *[BridgeState::Ready, BridgeState::Ready, BridgeState::Ready, BridgeState::Draining, BridgeState::Gone]
                .choose(&mut self.rng)
                .unwrap_or(&BridgeState::Ready);
        let report = BridgeReport {
            bridge: self.some(&BRIDGES).into(),
            incarnation: self.some(&["first", "first", "first", "second"]).into(),
            // Now and then a stale one.
            sequence: self.number.saturating_sub(self.rng.random_range(0..3) * 7),
            state: state.into(),
            site: self.some(&SITES).into(),
            generation: self.rng.random_range(1..4),
            features: self.few(&FEATURES),
            load: Some(load),
            joined: (0..3).map(|_| format!("join-{}", self.rng.random_range(0..=self.number))).collect(),
            ..BridgeReport::default()
        };
        both!(self, report(report.clone()), |orders| orders);
    }

    /// Now and then several in one call: each must find what those before it have left.
    async fn place(&mut self) {
        let count = *[1, 1, 2, 5].choose(&mut self.rng).unwrap_or(&1);
        let requests: Vec<PlaceRequest> = (0..count).map(|_| self.placement()).collect();
        let mut memory = vec![];
        for request in &requests {
            memory.push(self.memory.place(request.clone()).await.map(placed));
        }
        let redis = places::all(&self.redis.inner, requests).await;
        let redis: Vec<_> = redis.into_iter().map(|result| result.map(placed)).collect();
        assert_eq!(redis, memory, "{}", self.context);
    }

    fn placement(&mut self) -> PlaceRequest {
        self.number += 1;
        let again = self.rng.random_bool(0.2);
        let join = if again { self.rng.random_range(0..=self.number) } else { self.number };
        let open = RoomSettings {
            max_participants: *[0, 0, 3].choose(&mut self.rng).unwrap_or(&0),
            site_pin: self.some(&["", "", "nord"]).into(),
            ..RoomSettings::default()
        };
        PlaceRequest {
            room: self.some(&ROOMS).into(),
            identity: self.some(&PEOPLE).into(),
            join_id: format!("join-{join}"),
            participant_sid: format!("PA_{join}"),
            sites: self.few(&SITES[1..]),
            needs: Some(Needs { features: self.few(&FEATURES) }),
            open: self.rng.random_bool(0.9).then_some(open),
            avoid: self.few(&BRIDGES),
        }
    }

    /// Confirms one seat and gives another back, on the head or beside it, in the room of each store.
    async fn append(&mut self) {
        let name = self.some(&ROOMS).to_owned();
        let request = OpenRoomRequest { name: name.clone(), ..OpenRoomRequest::default() };
        let (memory, redis) = both!(self, open(request.clone()), |open: OpenRoomResponse| open.room.map(room));
        let (Some(memory), Some(redis)) = (memory, redis) else { return };
        let (memory, redis) = (memory.room.unwrap_or_default(), redis.room.unwrap_or_default());
        let join = |rng: &mut StdRng, most: u64| format!("join-{}", rng.random_range(most.saturating_sub(12)..=most));
        // Now and then seats that a bridge gave by its lease, sometimes of a join id that is known.
        let mut claim = vec![];
        while self.rng.random_bool(0.3) {
            self.number += 1;
            let known = self.rng.random_bool(0.3);
            claim.push(Seat {
                join_id: if known { join(&mut self.rng, self.number) } else { format!("join-{}", self.number) },
                identity: self.some(&PEOPLE).into(),
                participant_sid: format!("PA_{}", self.number),
                bridge: self.some(&BRIDGES).into(),
                ..Seat::default()
            });
        }
        let claimed = claim.iter().map(|seat| seat.join_id.clone());
        let confirm = self.rng.random_bool(0.5).then(|| join(&mut self.rng, self.number));
        let request = AppendRequest {
            room: name.clone(),
            expected: memory.head + u64::from(self.rng.random_bool(0.1)),
            entries: vec![Bytes::from(vec![7; self.rng.random_range(1..50)])],
            confirm: confirm.into_iter().chain(claimed).collect(),
            release: if self.rng.random_bool(0.3) { vec![join(&mut self.rng, self.number)] } else { vec![] },
            claim,
            ..AppendRequest::default()
        };
        let to = |sid: &str| AppendRequest { room_sid: sid.to_owned(), ..request.clone() };
        let first = self.memory.append(to(&memory.sid), Writer::Bridge).await;
        assert_eq!(self.redis.append(to(&redis.sid), Writer::Bridge).await, first, "{}", self.context);
        let sequence = memory.head.saturating_sub(self.rng.random_range(0..3));
        let keep = |sid: &str| SnapshotRequest {
            room: name.clone(),
            room_sid: sid.to_owned(),
            sequence,
            state: Bytes::from_static(b"state"),
        };
        if self.rng.random_bool(0.2) {
            let kept = self.memory.snapshot(keep(&memory.sid)).await;
            assert_eq!(self.redis.snapshot(keep(&redis.sid)).await, kept, "{}", self.context);
        }
        for after in [0, sequence, memory.head] {
            let chunk = self.memory.read(&name, &memory.sid, after).await;
            assert_eq!(self.redis.read(&name, &redis.sid, after).await, chunk, "{}", self.context);
        }
        let release = ReleaseRequest { room: name, join_id: join(&mut self.rng, self.number), room_sid: String::new() };
        both!(self, release(release.clone()), |released| released);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_and_memory_give_the_same_answers() {
    let server = Server::new();
    // The first is one whose swept bridge came back into the memory store's order when a promise on it lapsed.
    let first: u64 = rand::random();
    for seed in std::iter::once(18_055_064_118_178_260_476).chain((0..30).map(|number| first.wrapping_add(number))) {
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        let config = Config { max_room_bridges: 2, snapshot_after: 5, ..unsettled() };
        let settings = RedisSettings {
            prefix: format!("seed-{seed}"),
            timeout: PATIENCE,
            ..RedisSettings::new(server.url().into())
        };
        let shared = Arc::clone(&clock) as Arc<dyn Clock>;
        let mut pair = Pair {
            memory: MemoryStore::new(config.clone(), Arc::clone(&shared)),
            redis: RedisStore::with_clock(settings, &config, Some(shared)).unwrap(),
            clock,
            rng: StdRng::seed_from_u64(seed),
            number: 0,
            context: String::new(),
        };
        eventually(|| pair.redis.sweep()).await;
        for step in 0..250 {
            pair.context = format!("seed {seed}, step {step}");
            pair.step().await;
        }
    }
}
