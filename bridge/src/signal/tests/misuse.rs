//! What a broken or hostile client gets, and that others do not notice.

use livekit_protocol::signal_request::Message as Ask;
use livekit_protocol::{DisconnectReason, SignalRequest, leave_request, participant_info};
use prost::Message as _;
use tokio_tungstenite::tungstenite::Message;

use super::harness::*;
use crate::config::Config;
use crate::testing::guest;

/// Berta, and Anna who watches.
async fn two(bridge: &Watched) -> (Client, Client) {
    let (mut anna, _) = Client::offering(bridge, "anna", &offer(&[])).await;
    anna.answer().await;
    let (mut berta, _) = Client::offering(bridge, "berta", &offer(&[])).await;
    berta.answer().await;
    (anna, berta)
}

/// Anna sees Berta go and is served as before.
async fn goes_on(mut anna: Client) {
    anna.update(|info| info.identity == "berta" && info.state() == participant_info::State::Disconnected).await;
    anna.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_no_requests_end_the_session() {
    for frame in [Message::Binary(vec![0xff; 100].into()), Message::Text("{\"offer\":7}".into())] {
        let bridge = bridge(Config::default()).await;
        let (anna, mut berta) = two(&bridge).await;
        berta.raw(frame).await;
        assert_eq!(berta.closed().await.map(|(code, _)| code), Some(1007));
        goes_on(anna).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_frame_ends_the_session() {
    let bridge = bridge(Config::default()).await;
    let (anna, mut berta) = two(&bridge).await;
    berta.raw(Message::Binary(vec![0; (2 << 20) + 1].into())).await;
    while berta.next().await.is_some() {}
    goes_on(anna).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_descriptions_end_the_session_for_good() {
    let reordered = offer(&[]).replace("a=mid:0", "a=mid:9").replace("BUNDLE 0", "BUNDLE 9");
    for sdp in [String::new(), "v=0\r\n".into(), "nonsense".into(), "v=0\r\n".repeat(20_000), reordered] {
        let bridge = bridge(Config::default()).await;
        let (anna, mut berta) = two(&bridge).await;
        berta.offer(2, sdp).await;
        let leave = berta.goodbye().await;
        assert_eq!(
            (leave.action(), leave.reason()),
            (leave_request::Action::Disconnect, DisconnectReason::StateMismatch)
        );
        goes_on(anna).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_ends_the_session_with_a_reason() {
    let bridge = bridge(Config::default()).await;
    let (anna, mut berta) = two(&bridge).await;
    let trickle = SignalRequest { message: Some(Ask::Trickle(Default::default())) }.encode_to_vec();
    for _ in 0..3000 {
        // The server may close while we still send.
        if berta.try_raw(Message::Binary(trickle.clone().into())).await.is_err() {
            break;
        }
    }
    while berta.next().await.is_some() {}
    goes_on(anna).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_messages_are_passed_over() {
    let bridge = bridge(Config::default()).await;
    let (mut anna, _) = Client::join(&bridge, &guest("rat", "anna"), v1(Default::default())).await;
    anna.raw(Message::Binary(vec![0xf2, 0x3f, 0].into())).await;
    anna.ask(Ask::UpdateDataSubscription(Default::default())).await;
    anna.ask(Ask::Answer(Default::default())).await;
    anna.raw(Message::Text(r#"{"pingReq":{"timestamp":"5"}}"#.into())).await;
    let text = anna.text().await;
    assert!(text.starts_with(r#"{"pongResp":{"lastPingTimestamp":"5""#), "JSON is answered in JSON: {text}");
}
