//! Events as a real HTTP server gets them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, StatusCode};
use livekit_protocol::{ClientInfo, DisconnectReason, TrackInfo, TrackSource, TrackType, WebhookEvent};
use serde_json::Value;

use crate::config::{Config, WebhookConfig};
use crate::media::Media;
use crate::room::ids::random_base62;
use crate::room::{Actor, Command, JoinRequest, Joined, Presence, Way};
use crate::testing::{KEY, TestBridge, Town, bridge, guest};

/// A server that takes events, or answers with the statuses it is told to first.
#[derive(Clone, Default)]
struct Receiver {
    statuses: Arc<Mutex<VecDeque<u16>>>,
    got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
}

impl Receiver {
    /// Starts it; gives the configuration that tells it.
    async fn start(&self) -> WebhookConfig {
        async fn take(Shared(receiver): Shared<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
            match receiver.statuses.lock().unwrap().pop_front() {
                Some(status) => StatusCode::from_u16(status).unwrap(),
                None => {
                    receiver.got.lock().unwrap().push((headers, body));
                    StatusCode::OK
                }
            }
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().route("/hook", post(take)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        WebhookConfig { urls: vec![url], ..WebhookConfig::default() }
    }

    /// The events once there are so many.
    async fn events(&self, count: usize) -> Vec<WebhookEvent> {
        let enough = async {
            while self.got.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), enough).await;
        let got = self.got.lock().unwrap();
        let events: Vec<WebhookEvent> = got.iter().map(|(_, body)| serde_json::from_slice(body).unwrap()).collect();
        assert!(waited.is_ok(), "{:?}", names(&events));
        events
    }
}

fn names(events: &[WebhookEvent]) -> Vec<&str> {
    events.iter().map(|event| event.event.as_str()).collect()
}

async fn enter(bridge: &TestBridge, identity: &str) -> Joined {
    let (claims, client) = (guest("rat", identity), ClientInfo::default());
    let request = JoinRequest { claims, client, join_id: random_base62(12), forwarded_from: None };
    let Way::Here(joined) = bridge.rooms.join(&request, &[]).await.unwrap() else { panic!("it sits elsewhere") };
    let presence = Presence::Active;
    joined.room.submit(Actor::Bridge, Command::Progress { participant: joined.sid.clone(), presence }).await.unwrap();
    *joined
}

async fn publish(joined: &Joined, sid: &str) {
    let track = TrackInfo {
        sid: sid.to_owned(),
        r#type: TrackType::Audio.into(),
        source: TrackSource::Microphone.into(),
        ..TrackInfo::default()
    };
    let publish = Command::Publish { participant: joined.sid.clone(), track: Box::new(track) };
    joined.room.submit(Actor::Bridge, publish).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rooms_events_come_signed_and_in_order_however_often_they_are_refused() {
    let receiver = Receiver::default();
    receiver.statuses.lock().unwrap().extend([503, 500, 429]);
    let webhook = receiver.start().await;
    let bridge = bridge(Config { webhook, ..Config::default() }).await;
    let anna = enter(&bridge, "anna").await;
    publish(&anna, "TR_a").await;
    anna.room.clone().leave(anna.sid.clone(), DisconnectReason::ClientInitiated).await;
    anna.room.submit(Actor::Admin, Command::End { reason: DisconnectReason::RoomDeleted }).await.unwrap();
    let events = receiver.events(6).await;
    let expected = [
        "room_started",
        "participant_joined",
        "track_published",
        "track_unpublished",
        "participant_left",
        "room_finished",
    ];
    assert_eq!(names(&events), expected);
    assert!(events.iter().all(|event| event.room.as_ref().is_some_and(|room| room.name == "rat")));
    assert_eq!(events[2].track.as_ref().unwrap().sid, "TR_a");
    assert_eq!(events[4].participant.as_ref().unwrap().identity, "anna");
    let mut ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 6, "each has an id of its own: {ids:?}");

    let got = receiver.got.lock().unwrap();
    let (headers, body) = &got[0];
    assert_eq!(headers["content-type"], "application/webhook+json");
    let token = headers["authorization"].to_str().unwrap();
    assert_eq!(bridge.keys.verify(token).unwrap().api_key, KEY, "the signature is right");
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let payload: Value = serde_json::from_slice(&payload).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, body);
    assert_eq!(payload["sha256"], STANDARD.encode(digest));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_for_good_is_not_told_again() {
    let receiver = Receiver::default();
    receiver.statuses.lock().unwrap().push_back(404);
    let webhook = receiver.start().await;
    let bridge = bridge(Config { webhook, ..Config::default() }).await;
    let _anna = enter(&bridge, "anna").await;
    assert_eq!(names(&receiver.events(1).await), ["participant_joined"], "the room's start was refused");
    assert!(bridge.metrics.encode().unwrap().contains("ratssaal_webhook_posts_total{result=\"given_up\"} 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_bridges_a_room_has_each_event_comes_once() {
    let receiver = Receiver::default();
    let webhook = receiver.start().await;
    let town = Town::new();
    let config = || Config { webhook: webhook.clone(), ..Config::default() };
    let first = town.bridge("eins", Media::watched().0, config()).await;
    let anna = enter(&first, "anna").await;
    let second = town.bridge("zwei", Media::watched().0, config()).await;
    town.order("eins", true).await;
    let berta = enter(&second, "berta").await;
    publish(&berta, "TR_b").await;
    // The keeper's participant goes: the other bridge tells from then on.
    anna.room.clone().leave(anna.sid.clone(), DisconnectReason::ClientInitiated).await;
    let events = receiver.events(5).await;
    let expected = ["room_started", "participant_joined", "participant_joined", "track_published", "participant_left"];
    assert_eq!(names(&events), expected);
    berta.room.submit(Actor::Admin, Command::End { reason: DisconnectReason::RoomDeleted }).await.unwrap();
    let events = receiver.events(8).await;
    assert_eq!(names(&events[5..]), ["track_unpublished", "participant_left", "room_finished"]);
    let told = |bridge: &TestBridge| bridge.metrics.encode().unwrap();
    let waiting = |bridge| told(bridge).contains("ratssaal_webhook_waiting 0");
    assert!(waiting(&first) && waiting(&second), "nothing is told twice");
    assert_eq!(receiver.got.lock().unwrap().len(), 8);
}
