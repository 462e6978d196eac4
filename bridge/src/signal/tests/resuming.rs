//! A client that lost its WebSocket comes back to its session, or is told that it is gone.

use livekit_protocol::signal_request::Message as Ask;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{
    DisconnectReason, JoinRequest, SyncState, TrackInfo, TrackPublishedResponse, leave_request, participant_info,
};

use super::harness::*;
use crate::config::{Config, RoomConfig};
use crate::media::control::{CloseReason, Command, Event};
use crate::testing::guest;

fn again(sid: &str) -> (&'static str, String) {
    v1(JoinRequest { reconnect: true, participant_sid: sid.into(), ..Default::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_and_its_connection_go_on() {
    let bridge = bridge(Config::default()).await;
    let mut worker = Worker::default();
    let (mut anna, join) = Client::offering(&bridge, "anna", &offer(&[])).await;
    let sid = join.participant.unwrap().sid;
    anna.answer().await;
    let transport = opened(&worker.look(&bridge))[0];
    worker.connect(transport);
    anna.update(is_active).await;
    let (mut berta, _) = Client::offering(&bridge, "berta", &offer(&[])).await;
    anna.update(|info| info.identity == "berta").await;
    drop(anna);
    berta.ask(Ask::Leave(Default::default())).await;
    assert!(berta.next().await.is_some());
    let mut anna = Client::try_open(&bridge, &guest("rat", "anna"), again(&sid)).await.unwrap();
    assert!(matches!(anna.next().await, Some(Told::Reconnect(_))), "this is first");
    let gone = |info: &livekit_protocol::ParticipantInfo| {
        info.identity == "berta" && info.state() == participant_info::State::Disconnected
    };
    anna.update(gone).await;
    anna.ask(Ask::SyncState(SyncState::default())).await;
    anna.offer(2, offer_with("chan", &[])).await;
    assert_eq!(anna.answer().await.id, 2);
    let commands = worker.look(&bridge);
    let restarts = |c: &Command| matches!(c, Command::RestartIce { transport: of, ice } if *of == transport && ice.remote_ufrag == "chan");
    assert!(commands.iter().any(restarts), "{commands:?}");
    assert!(opened(&commands).iter().all(|other| *other != transport), "the connection itself stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_tracks_that_we_do_not_have_starts_anew() {
    let bridge = bridge(Config::default()).await;
    let (mut anna, _) = Client::offering(&bridge, "anna", &offer(&[])).await;
    let track = TrackInfo { sid: "TR_unknown".into(), ..Default::default() };
    let publish_tracks = vec![TrackPublishedResponse { cid: "c".into(), track: Some(track) }];
    anna.ask(Ask::SyncState(SyncState { publish_tracks, ..Default::default() })).await;
    let leave = anna.goodbye().await;
    assert_eq!((leave.action(), leave.reason()), (leave_request::Action::Reconnect, DisconnectReason::StateMismatch));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_back_to_a_session_that_is_gone_or_anothers() {
    let bridge = bridge(Config::default()).await;
    let (_anna, join) = Client::offering(&bridge, "anna", &offer(&[])).await;
    let annas = join.participant.unwrap().sid;
    for sid in ["PA_gone", &annas] {
        let mut berta = Client::try_open(&bridge, &guest("rat", "berta"), again(sid)).await.unwrap();
        let Some(Told::Leave(leave)) = berta.next().await else { panic!("leave is first") };
        assert_eq!(leave.action(), leave_request::Action::Reconnect);
        assert!(berta.closed().await.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stays_away_leaves_the_room() {
    let room = RoomConfig { departure_timeout: std::time::Duration::from_millis(50), ..RoomConfig::default() };
    let bridge = bridge(Config { room, ..Config::default() }).await;
    let mut worker = Worker::default();
    let (mut anna, _) = Client::offering(&bridge, "anna", &offer(&[])).await;
    anna.answer().await;
    worker.look(&bridge);
    let (mut berta, _) = Client::offering(&bridge, "berta", &offer(&[])).await;
    berta.answer().await;
    let bertas = opened(&worker.look(&bridge))[0];
    worker.connect(bertas);
    berta.update(is_active).await;
    drop(berta);
    let gone = anna.update(|info| info.state() == participant_info::State::Disconnected).await;
    assert_eq!(gone.identity, "berta");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_connection_means_starting_anew_and_a_closed_page_leaving() {
    let bridge = bridge(Config::default()).await;
    let mut worker = Worker::default();
    let (mut anna, _) = Client::offering(&bridge, "anna", &offer(&[])).await;
    anna.answer().await;
    let annas = opened(&worker.look(&bridge))[0];
    let (mut berta, _) = Client::offering(&bridge, "berta", &offer(&[])).await;
    berta.answer().await;
    let bertas = opened(&worker.look(&bridge))[0];
    worker.connect(bertas);
    berta.update(is_active).await;
    drop(berta);
    worker.say(bertas, Event::Closed { transport: bertas, reason: CloseReason::Peer });
    anna.update(|info| info.identity == "berta" && info.state() == participant_info::State::Disconnected).await;
    worker.say(annas, Event::Closed { transport: annas, reason: CloseReason::Timeout });
    assert_eq!(anna.goodbye().await.action(), leave_request::Action::Reconnect);
}
