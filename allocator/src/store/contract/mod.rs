//! What every store must do, as tests that know only the [`Store`] trait. A store is tested by naming its fixture in
//! [`contract`]. Time stands still but for [`Stage::pass`], so nothing here waits.

mod bridges;
mod concurrency;
mod log;
mod model;
mod rooms;
mod seats;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use ratssaal_proto::allocator::v1::{
    AppendRequest, AppendResponse, BridgeReport, BridgeState, EndRoomRequest, ListRoomsRequest, Load, OpenRoomRequest,
    PlaceRequest, PlaceResponse, ReleaseRequest, RoomInfo, RoomSettings, Seat,
};

use super::{MemoryStore, Orders, RedisSettings, RedisStore, Result, Store, Writer};
use crate::clock::ManualClock;
use crate::config::Config;
use crate::redis_server::{PATIENCE, Server};
use crate::refusal::{Quota, Refusal};

/// Makes the store under test.
trait Fixture: 'static {
    type Store: Store;
    async fn store(config: Config, clock: Arc<ManualClock>) -> Self::Store;
}

struct Memory;

impl Fixture for Memory {
    type Store = MemoryStore;

    async fn store(config: Config, clock: Arc<ManualClock>) -> MemoryStore {
        MemoryStore::new(config, clock)
    }
}

/// The way to a store of its own in the one server that all tests of this process share.
fn shared_redis() -> RedisSettings {
    static SERVER: OnceLock<Server> = OnceLock::new();
    static STORES: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("test-{}", STORES.fetch_add(1, Ordering::Relaxed));
    let url = SERVER.get_or_init(Server::new).url();
    // A machine that runs many tests at once is slow, not away.
    RedisSettings { prefix, timeout: PATIENCE, ..RedisSettings::new(url.into()) }
}

/// A store of its own in the Redis that all tests of this process share.
struct Redis;

impl Fixture for Redis {
    type Store = RedisStore;

    async fn store(config: Config, clock: Arc<ManualClock>) -> RedisStore {
        let config = Config { settle: Duration::ZERO, ..config };
        RedisStore::with_clock(shared_redis(), &config, Some(clock)).unwrap()
    }
}

/// Runs the whole suite against a fixture.
macro_rules! contract {
    ($name:ident, $fixture:ty, { $($module:ident: $($test:ident)*;)* }) => {
        mod $name {
            use super::*;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $test() {
                    $module::$test::<$fixture>().await;
                }
            )*)*
        }
    };
}

/// Names the suite's tests once for each store.
macro_rules! stores {
    ($($name:ident: $fixture:ty),* ; $tests:tt) => { $(contract!($name, $fixture, $tests);)* };
}

stores!(memory: Memory, redis: Redis; {
    bridges: silent_bridges_get_nobody stale_reports_are_ignored one_id_is_one_process goodbye_is_at_once
        drain_orders reported_and_promised_seats_count moved_to_another_site lost_after_expiry_and_grace
        back_within_grace lost_with_an_older_process at_most_so_many_bridges figures_beyond_reason seats_are_lent;
    seats: opened_by_the_first the_same_join_the_same_seat a_join_id_is_one_participants a_seat_is_not_kept_on_a_dead_bridge
        the_same_identity_comes_anew unconfirmed_seats_lapse confirmed_seats_stay lapsed_seats_cannot_be_confirmed
        full_is_full participants_at_most pinned_to_a_site released_seats_return an_older_lapse_is_no_matter spilling
        lent_seats_are_claimed claims_that_cannot_be;
    rooms: opened_once names_are_free_after_the_end pages ended_with_everything rooms_at_most nobody_came
        nobody_is_left_and_somebody_comes_back ended_rooms_linger;
    log: compare_and_append another_entry_of_that_number only_this_opening seats_move_with_entries snapshots_and_late_readers
        no_state_from_the_future quota_until_a_snapshot;
    concurrency: one_room_and_one_seat_each no_limit_is_overshot one_join_many_retries one_writer_per_position
        tails_see_all_entries_once a_burst_is_spread_evenly release_and_reap_race;
    model: random_histories;
});

/// Where the clock starts.
const START: u64 = 1_700_000_000_000;

/// A store and its clock.
struct Stage<S> {
    store: Arc<S>,
    clock: Arc<ManualClock>,
}

async fn stage<F: Fixture>(config: Config) -> Stage<F::Store> {
    let clock = Arc::new(ManualClock::at(START));
    Stage { store: Arc::new(F::store(config, Arc::clone(&clock)).await), clock }
}

/// A store with default settings and the given bridges, each with 100 seats.
async fn cluster<F: Fixture>(bridges: &[&str]) -> Stage<F::Store> {
    let stage = stage::<F>(Config::default()).await;
    for bridge in bridges {
        stage.report(report(bridge)).await.unwrap();
    }
    stage
}

impl<S: Store> Stage<S> {
    fn pass(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }

    async fn report(&self, report: BridgeReport) -> Result<Orders> {
        self.store.report(report).await
    }

    async fn place(&self, room: &str, identity: &str) -> Result<PlaceResponse> {
        self.store.place(placement(room, identity)).await
    }

    /// Places a participant and logs its joining.
    async fn join(&self, room: &str, identity: &str) -> Result<Seat> {
        let placed = self.place(room, identity).await?;
        let (room, seat) = (placed.room.unwrap(), placed.seat.unwrap());
        let request = AppendRequest { confirm: vec![seat.join_id.clone()], ..append(&room, &["joined"]) };
        self.store.append(request, Writer::Bridge).await?;
        Ok(seat)
    }

    async fn append(&self, request: AppendRequest) -> Result<AppendResponse> {
        self.store.append(request, Writer::Bridge).await
    }

    async fn open(&self, name: &str, settings: RoomSettings) -> RoomInfo {
        let request = OpenRoomRequest { name: name.into(), settings: Some(settings), must_be_new: true };
        self.store.open(request).await.unwrap().room.unwrap()
    }

    async fn room(&self, name: &str) -> Option<RoomInfo> {
        let request = ListRoomsRequest { names: vec![name.into()], ..ListRoomsRequest::default() };
        self.store.rooms(request).await.unwrap().rooms.pop()
    }

    async fn release(&self, room: &str, join_id: &str) -> bool {
        let request = ReleaseRequest { room: room.into(), join_id: join_id.into(), room_sid: String::new() };
        self.store.release(request).await.unwrap()
    }

    /// Seats that count on a bridge.
    async fn seats(&self, bridge: &str) -> u32 {
        let bridges = self.store.bridges().await.unwrap();
        bridges.iter().find(|info| info.report.as_ref().unwrap().bridge == bridge).map_or(0, |info| info.seats)
    }

    /// The entries after a sequence, all at once, as text.
    async fn entries(&self, room: &RoomInfo, after: u64) -> Vec<String> {
        let (mut after, mut entries) = (after, vec![]);
        loop {
            let chunk = self.store.read(&room.name, &room.sid, after).await.unwrap();
            let Some(last) = chunk.last() else { return entries };
            after = last;
            entries.extend(chunk.entries.iter().map(|entry| text(&entry.entry)));
        }
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn report(bridge: &str) -> BridgeReport {
    BridgeReport {
        bridge: bridge.into(),
        incarnation: "first".into(),
        sequence: 1,
        state: BridgeState::Ready.into(),
        address: format!("https://{bridge}:7881"),
        load: Some(Load { seat_limit: 100, ..Load::default() }),
        ..BridgeReport::default()
    }
}

fn with_seats(seats: u32, seat_limit: u32) -> Option<Load> {
    Some(Load { seats, seat_limit, ..Load::default() })
}

fn placement(room: &str, identity: &str) -> PlaceRequest {
    PlaceRequest {
        room: room.into(),
        identity: identity.into(),
        join_id: format!("join-{identity}"),
        participant_sid: format!("PA_{identity}"),
        open: Some(RoomSettings::default()),
        ..PlaceRequest::default()
    }
}

/// An append after the head the room had when it was looked at.
fn append(room: &RoomInfo, entries: &[&str]) -> AppendRequest {
    AppendRequest {
        room: room.name.clone(),
        room_sid: room.sid.clone(),
        expected: room.head,
        entries: entries.iter().map(|entry| Bytes::copy_from_slice(entry.as_bytes())).collect(),
        ..AppendRequest::default()
    }
}

fn end(name: &str) -> EndRoomRequest {
    EndRoomRequest { name: name.into(), entry: Bytes::from_static(b"ended"), ..EndRoomRequest::default() }
}

fn bridge_of(result: Result<PlaceResponse>) -> Result<String> {
    result.map(|placed| placed.seat.unwrap().bridge)
}

fn ok(bridge: &str) -> Result<String> {
    Ok(bridge.to_owned())
}

fn full() -> Result<String> {
    Err(Refusal::Full { free_elsewhere: 0 })
}

fn is_unavailable<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Refusal::Unavailable { .. }))
}

fn is_unknown<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Refusal::UnknownRoom(_)))
}

fn is_quota<T>(result: &Result<T>, expected: Quota) -> bool {
    matches!(result, Err(Refusal::Quota(quota)) if *quota == expected)
}
