//! Many placements at once, with a real Redis: they go together, each gets its own answer, and none waits longer than alone.

use std::time::Instant;

use ratssaal_proto::allocator::v1::Load;
use tokio::task::JoinSet;

use super::tests::{eventually, unsettled};
use super::*;
use crate::redis_server::{PATIENCE, Server};
use crate::refusal::Refusal;

/// People who come at once.
const CROWD: usize = 400;

/// A store with one bridge for so many.
async fn store(server: &Server, timeout: Duration, seat_limit: u32) -> Arc<RedisStore> {
    let settings = RedisSettings { timeout, ..RedisSettings::new(server.url().into()) };
    let store = RedisStore::connect(settings, &Config { expiry: PATIENCE, ..unsettled() }).unwrap();
    let report = BridgeReport {
        bridge: "a".into(),
        incarnation: "first".into(),
        sequence: 1,
        state: BridgeState::Ready.into(),
        load: Some(Load { seat_limit, ..Load::default() }),
        ..BridgeReport::default()
    };
    eventually(async || store.report(report.clone()).await).await;
    Arc::new(store)
}

/// The crowd comes to three rooms; the last one only looks for a room that nobody has opened.
fn crowd(store: &Arc<RedisStore>) -> JoinSet<Result<PlaceResponse>> {
    let mut tasks = JoinSet::new();
    for number in 0..CROWD {
        let (store, last) = (Arc::clone(store), number + 1 == CROWD);
        let request = PlaceRequest {
            room: if last { "nirgends".into() } else { format!("rat-{}", number % 3) },
            identity: number.to_string(),
            join_id: number.to_string(),
            participant_sid: format!("PA_{number}"),
            open: (!last).then(RoomSettings::default),
            ..PlaceRequest::default()
        };
        tasks.spawn(async move { store.place(request).await });
    }
    tasks
}

/// How often Redis has run a script that it knew.
async fn runs(server: &Server) -> usize {
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    let calls = stats.split_once("cmdstat_evalsha:calls=").map_or("0", |(_, rest)| rest);
    calls.split(',').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_together_is_placed_together_up_to_the_last_seat() {
    let server = Server::new();
    let store = store(&server, PATIENCE, 150).await;
    let before = runs(&server).await;
    server.signal("-STOP");
    let tasks = crowd(&store);
    let all = tokio::time::timeout(PATIENCE, async {
        while store.inner.places.come() < CROWD {
            tokio::task::yield_now().await;
        }
    });
    all.await.expect("all wait");
    server.signal("-CONT");
    let placed = tasks.join_all().await;
    let count = |is: fn(&Result<PlaceResponse>) -> bool| placed.iter().filter(|placed| is(placed)).count();
    assert_eq!(count(Result::is_ok), 150);
    assert_eq!(count(|placed| placed.as_ref().is_ok_and(|placed| placed.opened)), 3);
    assert_eq!(count(|placed| matches!(placed, Err(Refusal::UnknownRoom(room)) if room == "nirgends")), 1);
    assert_eq!(count(|placed| matches!(placed, Err(Refusal::Full { .. }))), CROWD - 150 - 1);
    let took = runs(&server).await - before;
    assert!(took <= CROWD / 10, "{took} calls for {CROWD} placements");
    assert_eq!(store.sweep().await.unwrap().seats, 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_of_a_crowd_waits_for_longer_than_alone_and_who_has_gone_is_not_placed() {
    let server = Server::new();
    let timeout = Duration::from_millis(500);
    let store = store(&server, timeout, 1000).await;
    server.signal("-STOP");
    let began = Instant::now();
    let placed = crowd(&store).join_all().await;
    let took = began.elapsed();
    assert!(placed.iter().all(|placed| matches!(placed, Err(Refusal::Unavailable { away: true, .. }))), "{placed:?}");
    assert!(took < 4 * timeout, "{took:?}");
    server.signal("-CONT");
    let seats = eventually(async || store.sweep().await).await.seats;
    // Only those whom Redis had been told of.
    assert!(seats <= places::TOGETHER * places::UNDER_WAY, "{seats} seats");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_of_a_crowd_waits_for_a_connection_behind_the_others() {
    let server = Server::new();
    let store = store(&server, PATIENCE, 1000).await;
    let _folder = server.crash();
    let gone = tokio::time::timeout(PATIENCE, async {
        while store.inner.link.is_open() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    gone.await.expect("it is known that there is none");
    let began = Instant::now();
    let placed = crowd(&store).join_all().await;
    let took = began.elapsed();
    assert!(placed.iter().all(|placed| matches!(placed, Err(Refusal::Unavailable { away: true, .. }))), "{placed:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}
