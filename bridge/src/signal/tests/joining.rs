//! The first messages of both paths, and what the page asks when it was refused.

use livekit_protocol::signal_request::Message as Ask;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{DisconnectReason, LeaveRequest, SessionDescription, leave_request, participant_info};

use super::harness::*;
use crate::config::{Config, RoomConfig};
use crate::media::control::Command;
use crate::testing::{guest, soon};
use crate::token::VideoGrants;

#[tokio::test(flavor = "multi_thread")]
async fn v1_answers_the_offer_that_came_with_the_joining() {
    let bridge = bridge(Config::default()).await;
    let (mut anna, join) = Client::offering(&bridge, "anna", &offer(&[AUDIO_IN, VIDEO_IN])).await;
    let info = join.server_info.unwrap();
    assert_eq!((info.version.as_str(), join.ping_interval, join.ping_timeout), ("1.9.0", 5, 15));
    assert!(!join.subscriber_primary && join.fast_publish);
    assert_eq!(join.participant.unwrap().identity, "anna");
    assert!(join.enabled_publish_codecs.iter().any(|codec| codec.mime == "video/VP8"));
    let answer = anna.answer().await;
    assert_eq!((answer.id, answer.r#type.as_str()), (1, "answer"));
    assert_eq!(answer.sdp.matches("a=inactive").count(), 2, "there is nothing to receive");
    let mut worker = Worker::default();
    let commands = worker.look(&bridge);
    let transport = opened(&commands)[0];
    assert!(matches!(commands.last(), Some(Command::Negotiated { .. })), "the worker knew before the client");
    worker.connect(transport);
    assert_eq!(anna.update(is_active).await.identity, "anna");
}

#[tokio::test(flavor = "multi_thread")]
async fn v0_is_offered_a_connection_right_after_joining() {
    let bridge = bridge(Config::default()).await;
    let (mut anna, join) = Client::join(&bridge, &guest("rat", "anna"), v0()).await;
    assert!(join.subscriber_primary);
    let first = anna.until(|told| if let Told::Offer(offer) = told { Some(offer) } else { None }).await;
    assert_eq!(first.id, 1);
    assert!(first.sdp.contains("m=application") && first.sdp.contains("a=ice-lite"), "{}", first.sdp);
    let mut worker = Worker::default();
    assert!(opened(&worker.look(&bridge)).is_empty(), "nothing is known of the client yet");
    let stale = SessionDescription { r#type: "answer".into(), sdp: "nonsense".into(), id: 77, ..Default::default() };
    anna.ask(Ask::Answer(stale)).await;
    let sdp = offer(&[]).replace("actpass", "active");
    anna.ask(Ask::Answer(SessionDescription { r#type: "answer".into(), sdp, id: 1, ..Default::default() })).await;
    anna.settled().await;
    let commands = worker.look(&bridge);
    let opens =
        |command: &Command| matches!(command, Command::OpenTransport { open_channels: true, dtls, .. } if !dtls.active);
    assert!(commands.iter().any(opens), "we open the data channels and are the DTLS server: {commands:?}");
    worker.connect(opened(&commands)[0]);
    anna.update(is_active).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_others_hear_of_joining_and_leaving() {
    let bridge = bridge(Config::default()).await;
    let (mut anna, _) = Client::offering(&bridge, "anna", &offer(&[])).await;
    let (mut berta, join) = Client::join(&bridge, &guest("rat", "berta"), v0()).await;
    assert_eq!(join.other_participants[0].identity, "anna");
    anna.update(|info| info.identity == "berta").await;
    berta.ask(Ask::Leave(LeaveRequest::default())).await;
    let gone = anna.update(|info| info.state() == participant_info::State::Disconnected).await;
    assert_eq!((gone.identity.as_str(), gone.disconnect_reason()), ("berta", DisconnectReason::ClientInitiated));
    assert_eq!(berta.closed().await, Some((1000, String::new())));
    soon(async {
        while bridge.rooms.get("rat").unwrap().state().participants().count() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_identity_again_replaces_the_older_session() {
    let bridge = bridge(Config::default()).await;
    let (mut old, first) = Client::offering(&bridge, "anna", &offer(&[])).await;
    let (_new, second) = Client::offering(&bridge, "anna", &offer(&[])).await;
    let leave = old.goodbye().await;
    assert_eq!(leave.reason(), DisconnectReason::DuplicateIdentity);
    assert_eq!(leave.action(), leave_request::Action::Disconnect);
    assert_ne!(first.participant.unwrap().sid, second.participant.unwrap().sid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_before_it_is_connected_is_gone_at_once() {
    let bridge = bridge(Config::default()).await;
    let (mut anna, _) = Client::offering(&bridge, "anna", &offer(&[])).await;
    let (berta, _) = Client::offering(&bridge, "berta", &offer(&[])).await;
    drop(berta);
    anna.update(|info| info.identity == "berta" && info.state() == participant_info::State::Disconnected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_says_what_the_websocket_cannot() {
    let room = RoomConfig { auto_create: false, ..RoomConfig::default() };
    let bridge = bridge(Config { room, ..Config::default() }).await;
    let get = async |path: &str, query: String| {
        let response = reqwest::get(format!("http://{}{path}?{query}", bridge.address)).await.unwrap();
        let cors = response.headers().get("access-control-allow-origin").map(|value| value.as_bytes().to_vec());
        assert_eq!(cors.as_deref(), Some(&b"*"[..]), "any page may read the reason");
        (response.status().as_u16(), response.text().await.unwrap())
    };
    let anna = guest("rat", "anna");
    let access = |claims| format!("access_token={}", token(&bridge, claims));
    assert_eq!(get("/rtc/validate", access(&anna)).await, (200, "success".into()));
    let (path, join) = v1(Default::default());
    assert_eq!(get(&format!("{path}/validate"), format!("{join}&{}", access(&anna))).await.0, 200);
    assert_eq!(get("/rtc/v1/validate", access(&anna)).await.0, 400);
    assert_eq!(get("/rtc/validate", "access_token=x.y.z".into()).await.0, 401);
    let (status, text) = get("/rtc/validate", String::new()).await;
    assert!(status == 401 && text.contains("no access token"), "{text}");
    let nobody = crate::token::Claims { grants: VideoGrants::default(), ..guest("rat", "anna") };
    assert_eq!(get("/rtc/validate", access(&nobody)).await.0, 401);
    let refused = Client::try_open(&bridge, &anna, v0()).await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused.map(drop) else { panic!("no such room") };
    assert_eq!(response.status().as_u16(), 404);
    let (status, text) = get("/rtc/validate", access(&anna)).await;
    assert!(status == 404 && text.contains("requested room does not exist"), "{status} {text}");
    assert_eq!(get("/rtc/validate", access(&guest("rat", "berta"))).await.0, 200, "nobody else is concerned");
}
