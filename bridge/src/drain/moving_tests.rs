//! Drains as they run: two bridges on one real Redis, real allocators; sessions are the tests' own.

use std::time::Duration;

use livekit_protocol::leave_request::Action;
use livekit_protocol::{ClientInfo, DisconnectReason, TrackSource};
use ratssaal_proto::allocator::v1::allocator_client::AllocatorClient;
use ratssaal_proto::allocator::v1::{BridgeState, ClusterRequest, DrainRequest};

use crate::Config;
use crate::config::DrainConfig;
use crate::room::ids::random_base62;
use crate::room::{Actor, Command, JoinRefusal, JoinRequest, Joined, ToSession, Way};
use crate::testing::redis_server::Server;
use crate::testing::{TestBridge, bridge_of, bridge_on_a_line, guest, soon};

fn named(name: &str) -> Config {
    let drain = Some(DrainConfig { batch: 3, within: Duration::from_secs(20) });
    Config { bridge: name.into(), drain, ..Config::default() }
}

async fn join(bridge: &TestBridge, room: &str, identity: &str) -> Result<Joined, JoinRefusal> {
    let request = JoinRequest {
        claims: guest(room, identity),
        client: ClientInfo::default(),
        join_id: random_base62(12),
        forwarded_from: None,
    };
    match soon(bridge.rooms.join(&request, &[])).await? {
        Way::Here(joined) => Ok(*joined),
        Way::There(placed) => panic!("{placed:?}"),
    }
}

/// The same once the store has settled.
async fn enter(bridge: &TestBridge, room: &str, identity: &str) -> Joined {
    loop {
        match join(bridge, room, identity).await {
            Ok(joined) => return joined,
            Err(JoinRefusal::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(50)).await,
            Err(refusal) => panic!("{refusal}"),
        }
    }
}

/// Orders it through the allocator, as `ratssaal bridge drain` does.
async fn order(bridge: &TestBridge, name: &str, drain: bool, within_ms: u64) {
    let request = DrainRequest { bridge: name.into(), drain, within_ms };
    bridge.rooms.allocator().drain(request).await.unwrap();
}

/// What a bridge reports itself to be.
async fn state(bridge: &TestBridge, name: &str) -> BridgeState {
    let mut client: AllocatorClient<_> = bridge.rooms.allocator();
    let mut views = client.cluster(ClusterRequest { watch: false }).await.unwrap().into_inner();
    let view = views.message().await.unwrap().unwrap();
    let reports = view.bridges.into_iter().filter_map(|bridge| bridge.report);
    reports.into_iter().find(|report| report.bridge == name).map_or(BridgeState::Gone, |report| report.state())
}

async fn becomes(bridge: &TestBridge, name: &str, wanted: BridgeState) {
    let reached = async {
        while state(bridge, name).await != wanted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(reached).await;
}

async fn publish(me: &Joined, sid: &str, source: TrackSource) {
    let track = livekit_protocol::TrackInfo { sid: sid.into(), source: source as i32, ..Default::default() };
    let (participant, track) = (me.sid.clone(), Box::new(track));
    let actor = Actor::Participant(participant.clone());
    me.room.submit(actor, Command::Publish { participant, track }).await.unwrap();
}

/// Waits until this one is told to go.
async fn told_to_go(who: &mut Joined) {
    let told = async { while !matches!(who.inbox.recv().await, Some(ToSession::Move { .. })) {} };
    soon(told).await;
}

/// Nothing of what has come tells it to go.
fn stays(who: &mut Joined) {
    while let Ok(message) = who.inbox.try_recv() {
        assert!(!matches!(message, ToSession::Move { .. }), "{} is sent away", who.me.identity);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_moved_in_batches_and_who_shows_a_screen_goes_last() {
    let redis = Server::new();
    let eins = bridge_of(redis.url(), named("eins")).await;
    let mut people = Vec::new();
    for number in 0..5 {
        people.push(enter(&eins, "rat", &number.to_string()).await);
    }
    publish(&people[0], "TR_screen", TrackSource::ScreenShare).await;
    publish(&people[1], "TR_mic", TrackSource::Microphone).await;
    let zwei = bridge_of(redis.url(), named("zwei")).await;
    order(&zwei, "eins", true, 0).await;
    becomes(&zwei, "eins", BridgeState::Draining).await;

    let mut listeners = people.split_off(2);
    for listener in &mut listeners {
        told_to_go(listener).await;
    }
    people.iter_mut().for_each(stays);
    // A participant who was told to go and comes back is seated elsewhere, and never twice.
    let info = people[0].room.state().info();
    let mut there = Vec::new();
    for listener in &listeners {
        let back = enter(&zwei, "rat", &listener.me.identity).await;
        assert_eq!(back.info.sid, info.sid, "the same room");
        there.push(back);
    }
    for other in people.iter_mut().rev() {
        told_to_go(other).await;
    }
    for other in &people {
        there.push(enter(&zwei, "rat", &other.me.identity).await);
    }
    becomes(&zwei, "eins", BridgeState::Drained).await;
    let state = zwei.rooms.get("rat").unwrap().state();
    assert_eq!(state.participants().filter(|who| who.bridge == "zwei").count(), 5);
    assert_eq!(state.participants().count(), 5);

    order(&zwei, "eins", false, 0).await;
    becomes(&zwei, "eins", BridgeState::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_nowhere_to_go_meetings_go_on_until_the_deadline() {
    let redis = Server::new();
    let eins = bridge_of(redis.url(), named("eins")).await;
    let mut anna = enter(&eins, "rat", "anna").await;
    order(&eins, "eins", true, 1500).await;
    let began = std::time::Instant::now();
    becomes(&eins, "eins", BridgeState::Draining).await;
    assert!(matches!(join(&eins, "rat", "ben").await, Err(JoinRefusal::Unavailable { .. })), "nobody new");
    stays(&mut anna);
    told_to_go(&mut anna).await;
    assert!(began.elapsed() >= Duration::from_millis(1400), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_taken_back_moves_nobody() {
    let redis = Server::new();
    let eins = bridge_of(redis.url(), named("eins")).await;
    let mut anna = enter(&eins, "rat", "anna").await;
    order(&eins, "eins", true, 0).await;
    becomes(&eins, "eins", BridgeState::Draining).await;
    order(&eins, "eins", false, 0).await;
    becomes(&eins, "eins", BridgeState::Ready).await;
    let _zwei = bridge_of(redis.url(), named("zwei")).await;
    stays(&mut anna);
    let _ben = enter(&eins, "rat", "ben").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_moves_people_before_it_ends() {
    let redis = Server::new();
    let eins = bridge_of(redis.url(), named("eins")).await;
    let mut anna = enter(&eins, "rat", "anna").await;
    let zwei = bridge_of(redis.url(), named("zwei")).await;
    eins.stop.cancel();
    told_to_go(&mut anna).await;
    becomes(&zwei, "eins", BridgeState::Draining).await;
    assert!(!eins.service.is_finished(), "it waits for her");
    let _there = enter(&zwei, "rat", "anna").await;
    let last = async {
        loop {
            match anna.inbox.recv().await {
                Some(ToSession::Leave { reason, action }) => return (reason, action),
                Some(_) => {}
                None => panic!("the inbox ended without a word"),
            }
        }
    };
    assert_eq!(soon(last).await, (DisconnectReason::DuplicateIdentity, Action::Disconnect), "replaced, not shut down");
    soon(eins.service).await.unwrap();
    becomes(&zwei, "eins", BridgeState::Gone).await;
    assert_eq!(zwei.rooms.get("rat").unwrap().state().participants().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn when_no_allocator_answers_a_process_that_ends_does_not_wait_for_the_deadline() {
    let within = Duration::from_secs(3600);
    let (eins, line) =
        bridge_on_a_line(Config { drain: Some(DrainConfig { batch: 3, within }), ..Config::default() }).await;
    let mut anna = enter(&eins, "rat", "anna").await;
    let began = tokio::time::Instant::now();
    line.cut();
    eins.stop.cancel();
    let last = async {
        loop {
            if let Some(ToSession::Leave { reason, .. }) = anna.inbox.recv().await {
                return reason;
            }
        }
    };
    let reason = tokio::time::timeout(within, last).await.expect("she is told");
    assert_eq!(reason, DisconnectReason::ServerShutdown);
    let took = began.elapsed();
    assert!((Duration::from_secs(20)..Duration::from_secs(60)).contains(&took), "{took:?}");
}
