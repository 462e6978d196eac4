//! A client's WebSocket on one bridge and its seat on another.

use livekit_protocol::signal_request::Message as Ask;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{DisconnectReason, JoinRequest, LeaveRequest, Ping, leave_request, participant_info};
use ratssaal_proto::bridge::v1::bridge_client::BridgeClient;
use ratssaal_proto::bridge::v1::{CallRequest, Opening, SignalUp, signal_down, signal_up};
use tokio_tungstenite::tungstenite::Message;
use tonic::Code;

use super::harness::*;
use crate::peers::{DEADLINE, PeerError};
use crate::testing::{guest, soon};
use crate::token::VideoGrants;

fn again(sid: &str) -> (&'static str, String) {
    v1(JoinRequest { reconnect: true, participant_sid: sid.into(), ..Default::default() })
}

#[tokio::test(flavor = "multi_thread")]
async fn both_paths_work_through_another_bridge() {
    let (entry, seat, _town) = entry_and_seat().await;
    let mut worker = Worker::default();
    let (mut anna, join) = Client::offering(&entry, "anna", &offer(&[AUDIO_IN])).await;
    let sid = join.participant.unwrap().sid;
    assert_eq!(anna.answer().await.id, 1, "the offer that came with the joining is answered");
    assert!(entry.rooms.get("rat").is_none(), "the room is open where the participant sits only");
    let room = seat.rooms.get("rat").unwrap();
    assert_eq!(room.state().participant(&sid.as_str().into()).unwrap().bridge, "zwei");
    let transport = opened(&worker.look(&seat))[0];
    worker.connect(transport);
    anna.update(is_active).await;

    let (mut berta, join) = Client::join(&entry, &guest("rat", "berta"), v0()).await;
    assert_eq!(join.other_participants[0].identity, "anna");
    anna.update(|info| info.identity == "berta").await;
    berta.ask(Ask::PingReq(Ping { timestamp: 4711, rtt: 0 })).await;
    let pong = berta.until(|told| if let Told::PongResp(pong) = told { Some(pong) } else { None }).await;
    assert_eq!(pong.last_ping_timestamp, 4711);
    berta.raw(Message::Text(r#"{"pingReq":{"timestamp":"17"}}"#.into())).await;
    assert!(berta.text().await.contains("17"), "JSON is answered in JSON across bridges too");
    berta.settled().await;

    anna.ask(Ask::Leave(LeaveRequest::default())).await;
    assert!(anna.closed().await.is_some(), "the WebSocket is closed in order");
    let gone = berta.update(|info| info.state() == participant_info::State::Disconnected).await;
    assert_eq!((gone.identity.as_str(), gone.disconnect_reason()), ("anna", DisconnectReason::ClientInitiated));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seats_bridge_says_why_somebody_is_refused() {
    let (entry, _seat, _town) = entry_and_seat().await;
    let mut anna = guest("rat", "anna");
    anna.metadata = "x".repeat(40_000);
    let refused = Client::try_open(&entry, &anna, v0()).await.err().unwrap();
    let tokio_tungstenite::tungstenite::Error::Http(answer) = refused else { panic!("{refused}") };
    assert_eq!(answer.status(), 401, "the token is too long already: {answer:?}");
    anna.metadata = String::new();
    anna.grants = VideoGrants { room_join: true, room: "x".repeat(300), ..VideoGrants::default() };
    assert!(Client::try_open(&entry, &anna, v0()).await.is_err());
}

/// A client comes back through another bridge than its session's, and through the one that relayed it before.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_resumed_through_any_bridge() {
    let (entry, seat, _town) = entry_and_seat().await;
    let mut worker = Worker::default();
    let (mut anna, join) = Client::offering(&seat, "anna", &offer(&[])).await;
    let sid = join.participant.unwrap().sid;
    anna.answer().await;
    let transport = opened(&worker.look(&seat))[0];
    worker.connect(transport);
    anna.update(is_active).await;
    for bridge in [&entry, &seat, &entry] {
        drop(anna);
        anna = Client::try_open(bridge, &guest("rat", "anna"), again(&sid)).await.unwrap();
        assert!(matches!(anna.next().await, Some(Told::Reconnect(_))), "this is first");
        anna.settled().await;
    }
    let me = seat.rooms.get("rat").unwrap().state().participant(&sid.as_str().into()).unwrap().info();
    assert_eq!(me.state(), participant_info::State::Active, "it never left");
    // Nobody comes back to somebody else's session.
    let mut berta = Client::try_open(&entry, &guest("rat", "berta"), again(&sid)).await.unwrap();
    assert_eq!(berta.goodbye().await.action(), leave_request::Action::Reconnect);
}

/// The bridge with the WebSocket stops: the client is told to resume and finds its session through another one.
#[tokio::test(flavor = "multi_thread")]
async fn the_entry_may_stop() {
    let (entry, seat, _town) = entry_and_seat().await;
    let mut worker = Worker::default();
    let (mut anna, join) = Client::offering(&entry, "anna", &offer(&[])).await;
    let sid = join.participant.unwrap().sid;
    anna.answer().await;
    let transport = opened(&worker.look(&seat))[0];
    worker.connect(transport);
    anna.update(is_active).await;
    entry.stop.cancel();
    let leave = anna.goodbye().await;
    assert_eq!(leave.action(), leave_request::Action::Resume);
    let mut anna = Client::try_open(&seat, &guest("rat", "anna"), again(&sid)).await.unwrap();
    assert!(matches!(anna.next().await, Some(Told::Reconnect(_))));
}

/// A client that does not read loses its WebSocket, and nothing else waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_nobody_up() {
    let (entry, seat, _town) = entry_and_seat().await;
    let mut worker = Worker::default();
    let (mut berta, _) = Client::offering(&entry, "berta", &offer(&[])).await;
    berta.answer().await;
    let transport = opened(&worker.look(&seat))[0];
    worker.connect(transport); // or she would be cut off as well, where this takes long
    let (mut anna, _) = Client::offering(&entry, "anna", &offer(&[])).await;
    let room = seat.rooms.get("rat").unwrap();
    for number in 0..2000 {
        let metadata = format!("{number}{}", "x".repeat(20_000));
        let described = crate::room::Command::DescribeRoom { metadata };
        soon(room.submit(crate::room::Actor::Admin, described)).await.unwrap();
        berta.until(|told| matches!(told, Told::RoomUpdate(_)).then_some(())).await;
    }
    berta.settled().await;
    eventually("anna is cut off", || {
        seat.metrics.encode().unwrap().contains("ratssaal_signal_sessions_ended_total{reason=\"NeverConnected\"} 1")
    })
    .await;
    // What was on its way is still there, then the WebSocket ends.
    while anna.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn bridges_take_no_nonsense_from_each_other() {
    let (entry, seat, _town) = entry_and_seat().await;
    // Not the bridge it takes it for.
    let peers = &entry.peers;
    soon(peers.to("zwei")).await.unwrap();
    let address = peers.address_of("zwei").unwrap();
    peers.learn("drei", &address);
    let wrong =
        soon(peers.call("drei", DEADLINE, |mut peer| async move { peer.call(CallRequest::default()).await })).await;
    let Err(PeerError::Refused { status, .. }) = wrong else { panic!("{wrong:?}") };
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(matches!(soon(peers.to("vier")).await, Err(PeerError::Unknown(_))));
    // Without names.
    let mut nameless = BridgeClient::connect(address).await.unwrap();
    assert_eq!(nameless.call(CallRequest::default()).await.unwrap_err().code(), Code::InvalidArgument);
    // Too large.
    let mut peer = soon(peers.to("zwei")).await.unwrap().max_encoding_message_size(usize::MAX);
    let large = CallRequest { request: vec![0; crate::peers::MAX_MESSAGE].into(), ..Default::default() };
    assert_eq!(soon(peer.call(large)).await.unwrap_err().code(), Code::OutOfRange);
    // Openings that make no sense: refused, and a stream without one ends.
    for opening in [
        Opening::default(),
        Opening { path: 1, claims: "{".into(), ..Opening::default() },
        Opening {
            placed: Some(Default::default()),
            path: 2,
            claims: guest("rat", "x").to_json().into(),
            ..Opening::default()
        },
    ] {
        let message = SignalUp { message: Some(signal_up::Message::Opening(opening)) };
        let mut down = soon(peer.signal(tokio_stream::once(message))).await.unwrap().into_inner();
        let first = soon(down.message()).await.unwrap().unwrap().message;
        assert!(matches!(first, Some(signal_down::Message::Refused(_))), "{first:?}");
    }
    let frame = SignalUp { message: Some(signal_up::Message::Text("{}".into())) };
    let mut down = soon(peer.signal(tokio_stream::once(frame))).await.unwrap().into_inner();
    assert!(soon(down.message()).await.unwrap().is_none());
    // It still works.
    Client::offering(&entry, "anna", &offer(&[])).await;
    assert!(seat.rooms.get("rat").is_some());
}
