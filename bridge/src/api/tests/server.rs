//! `/twirp/livekit.RoomService`.

use std::collections::HashMap;
use std::time::Duration;

use livekit_api::services::room::{CreateRoomOptions, RoomClient, SendDataOptions, UpdateParticipantOptions};
use livekit_protocol::data_packet::{Kind, Value as Packet};
use livekit_protocol::{DataPacket, DisconnectReason, ParticipantPermission, TrackInfo, TrackSource, TrackType};
use prost::Message as _;
use serde_json::json;

use super::*;
use crate::Config;
use crate::media::control::Channel;
use crate::room::{Actor, Command, ToSession};
use crate::testing::{KEY, SECRET, bridge};
use crate::token::{Claims, VideoGrants};

fn client(bridge: &TestBridge) -> RoomClient {
    RoomClient::with_api_key(&format!("http://{}", bridge.address), KEY, SECRET)
}

/// The Twirp code of a failed call.
fn code<T: std::fmt::Debug>(outcome: Result<T, impl std::fmt::Display>) -> String {
    let text = outcome.map_err(|error| error.to_string()).unwrap_err();
    // `twirp error: server error: not_found: …`
    let known = ["not_found", "invalid_argument", "failed_precondition", "unimplemented", "permission_denied"];
    known.iter().find(|code| text.contains(**code)).map_or(text.clone(), |code| (*code).to_owned())
}

async fn publish(me: &Joined, sid: &str) {
    let track = TrackInfo {
        sid: sid.to_owned(),
        r#type: TrackType::Audio as i32,
        source: TrackSource::Microphone as i32,
        ..TrackInfo::default()
    };
    let publish = Command::Publish { participant: me.sid.clone(), track: Box::new(track) };
    me.room.submit(Actor::Participant(me.sid.clone()), publish).await.unwrap();
}

async fn wait_for(me: &mut Joined, wanted: impl Fn(&ToSession) -> bool) -> ToSession {
    loop {
        let message = soon(me.inbox.recv()).await.expect("the inbox ended");
        if wanted(&message) {
            return message;
        }
    }
}

#[tokio::test]
async fn rooms_are_created_listed_changed_and_deleted() {
    let bridge = bridge(Config::default()).await;
    let client = client(&bridge);
    let options = CreateRoomOptions {
        empty_timeout: 60,
        departure_timeout: 5,
        max_participants: 9,
        metadata: "Haushalt".into(),
        ..CreateRoomOptions::default()
    };
    let room = client.create_room("rat", options.clone()).await.unwrap();
    assert_eq!((room.name.as_str(), room.metadata.as_str()), ("rat", "Haushalt"));
    assert_eq!((room.empty_timeout, room.departure_timeout, room.max_participants), (60, 5, 9));
    let again = client.create_room("rat", CreateRoomOptions { metadata: "x".into(), ..options }).await.unwrap();
    assert_eq!((again.sid.as_str(), again.metadata.as_str()), (room.sid.as_str(), "Haushalt"), "the open one is found");

    client.create_room("haus", CreateRoomOptions::default()).await.unwrap();
    let names = |rooms: Vec<livekit_protocol::Room>| rooms.into_iter().map(|room| room.name).collect::<Vec<_>>();
    assert_eq!(names(client.list_rooms(Vec::new()).await.unwrap()), ["haus", "rat"]);
    assert_eq!(names(client.list_rooms(vec!["rat".into(), "nope".into()]).await.unwrap()), ["rat"]);

    let mut a = enter(&bridge, "rat", "a").await;
    let changed = client.update_room_metadata("rat", "Bauen").await.unwrap();
    assert_eq!((changed.metadata.as_str(), changed.num_participants), ("Bauen", 1));
    wait_for(&mut a, |message| matches!(message, ToSession::Room(room) if room.metadata == "Bauen")).await;

    client.delete_room("rat").await.unwrap();
    let told = wait_for(&mut a, |message| matches!(message, ToSession::Leave { .. })).await;
    assert!(matches!(told, ToSession::Leave { reason: DisconnectReason::RoomDeleted, .. }), "{told:?}");
    assert_eq!(names(client.list_rooms(Vec::new()).await.unwrap()), ["haus"]);
    assert_eq!(code(client.delete_room("rat").await), "not_found");
    assert_eq!(code(client.update_room_metadata("rat", "x").await), "not_found");
    assert_eq!(code(client.create_room("", CreateRoomOptions::default()).await), "invalid_argument");
    let big = CreateRoomOptions { metadata: "x".repeat(40_000), ..CreateRoomOptions::default() };
    assert_eq!(code(client.create_room("big", big).await), "invalid_argument");
}

#[tokio::test]
async fn participants_are_listed_changed_and_removed() {
    let bridge = bridge(Config::default()).await;
    let client = client(&bridge);
    let mut a = enter(&bridge, "rat", "a").await;
    let _b = enter(&bridge, "rat", "b").await;
    let mut identities: Vec<_> =
        client.list_participants("rat").await.unwrap().into_iter().map(|info| info.identity).collect();
    identities.sort();
    assert_eq!(identities, ["a", "b"]);
    assert!(client.list_participants("nope").await.unwrap().is_empty());
    assert_eq!(client.get_participant("rat", "a").await.unwrap().sid, a.sid.as_str());
    assert_eq!(code(client.get_participant("rat", "x").await), "not_found");
    assert_eq!(code(client.get_participant("rat", "").await), "invalid_argument");

    let permission = ParticipantPermission { can_subscribe: true, ..ParticipantPermission::default() };
    let options = UpdateParticipantOptions {
        name: "Anna".into(),
        attributes: HashMap::from([("hand".into(), "up".into())]),
        permission: Some(permission.clone()),
        ..UpdateParticipantOptions::default()
    };
    let info = client.update_participant("rat", "a", options).await.unwrap();
    assert_eq!((info.name.as_str(), info.attributes["hand"].as_str()), ("Anna", "up"));
    assert_eq!(info.permission, Some(permission.clone()));
    let told = wait_for(&mut a, |message| matches!(message, ToSession::Permission(_))).await;
    assert_eq!(told, ToSession::Permission(permission));

    client.remove_participant("rat", "a").await.unwrap();
    let told = wait_for(&mut a, |message| matches!(message, ToSession::Leave { .. })).await;
    assert!(matches!(told, ToSession::Leave { reason: DisconnectReason::ParticipantRemoved, .. }), "{told:?}");
    assert_eq!(code(client.remove_participant("rat", "a").await), "not_found");
    enter(&bridge, "rat", "a").await;
}

#[tokio::test]
async fn tracks_are_muted_and_subscribed() {
    let bridge = bridge(Config::default()).await;
    let client = client(&bridge);
    let mut a = enter(&bridge, "rat", "a").await;
    let mut b = enter(&bridge, "rat", "b").await;
    publish(&a, "TR_mic").await;
    let info = client.mute_published_track("rat", "a", "TR_mic", true).await.unwrap();
    assert!(info.muted);
    let told = wait_for(&mut a, |message| matches!(message, ToSession::SetMuted { .. })).await;
    assert_eq!(told, ToSession::SetMuted { track: "TR_mic".into(), muted: true });
    assert_eq!(code(client.mute_published_track("rat", "a", "TR_mic", false).await), "failed_precondition");
    assert_eq!(code(client.mute_published_track("rat", "b", "TR_mic", true).await), "not_found");
    assert_eq!(code(client.mute_published_track("rat", "a", "TR_x", true).await), "not_found");

    client.update_subscriptions("rat", "b", vec!["TR_mic".into()], false).await.unwrap();
    let told = wait_for(&mut b, |message| matches!(message, ToSession::Subscription { .. })).await;
    assert_eq!(told, ToSession::Subscription { tracks: vec!["TR_mic".into()], subscribe: false });
    assert_eq!(code(client.update_subscriptions("rat", "b", vec!["TR_x".into()], true).await), "not_found");
}

#[tokio::test]
async fn data_goes_to_those_named() {
    let bridge = bridge(Config::default()).await;
    let client = client(&bridge);
    let mut a = enter(&bridge, "rat", "a").await;
    let mut b = enter(&bridge, "rat", "b").await;
    let send = |data: &str, to: &[&str], kind| {
        let options = SendDataOptions {
            kind,
            destination_identities: to.iter().map(|identity| (*identity).to_owned()).collect(),
            topic: Some("t".into()),
            ..SendDataOptions::default()
        };
        client.send_data("rat", data.as_bytes().to_vec(), options)
    };
    send("for b", &["b"], Kind::Lossy).await.unwrap();
    send("for all", &[], Kind::Reliable).await.unwrap();
    let heard = |message: ToSession| {
        let ToSession::Data { channel, bytes } = message else { unreachable!() };
        let packet = DataPacket::decode(bytes).unwrap();
        assert_eq!(packet.participant_sid, "");
        let Some(Packet::User(user)) = packet.value else { panic!() };
        assert_eq!((user.topic(), user.nonce.len()), ("t", 16));
        (String::from_utf8(user.payload).unwrap(), channel)
    };
    let is_data = |message: &ToSession| matches!(message, ToSession::Data { .. });
    assert_eq!(heard(wait_for(&mut a, is_data).await), ("for all".to_owned(), Channel::Reliable));
    assert_eq!(heard(wait_for(&mut b, is_data).await), ("for b".to_owned(), Channel::Lossy));
    assert_eq!(heard(wait_for(&mut b, is_data).await), ("for all".to_owned(), Channel::Reliable));
    assert_eq!(code(client.send_data("nope", b"x".to_vec(), SendDataOptions::default()).await), "not_found");
    let big = client.send_data("rat", vec![0; 300_000], SendDataOptions::default()).await;
    assert_eq!(code(big), "invalid_argument");
}

#[tokio::test]
async fn tokens_are_checked_by_grant_and_room() {
    let bridge = bridge(Config::default()).await;
    let _a = enter(&bridge, "rat", "a").await;
    let token = |grants: VideoGrants| {
        bridge.keys.mint(&Claims { identity: "x".into(), grants, ..Claims::default() }, Duration::from_secs(60))
    };
    let admin = |room: &str| VideoGrants { room_admin: true, room: room.to_owned(), ..VideoGrants::default() };
    let create = || VideoGrants { room_create: true, ..VideoGrants::default() };
    let list = || VideoGrants { room_list: true, ..VideoGrants::default() };
    let rat = json!({ "room": "rat" });
    for (method, body, grants, status, code) in [
        ("ListParticipants", rat.clone(), admin("rat"), 200, None),
        ("ListParticipants", rat.clone(), admin("haus"), 403, Some("permission_denied")),
        ("ListParticipants", rat.clone(), create(), 403, Some("permission_denied")),
        ("ListRooms", json!({}), list(), 200, None),
        ("ListRooms", json!({}), create(), 403, Some("permission_denied")),
        ("CreateRoom", json!({ "name": "neu" }), create(), 200, None),
        ("CreateRoom", json!({ "name": "neu" }), list(), 403, Some("permission_denied")),
        ("SendData", json!({ "room": "rat", "data": "AAAA", "kind": "LOSSY" }), admin("rat"), 200, None),
        ("DeleteRoom", json!({ "room": "neu" }), admin("rat"), 403, Some("permission_denied")),
        // A moderator ends its own meeting.
        ("DeleteRoom", rat.clone(), admin("rat"), 200, None),
    ] {
        let path = format!("/twirp/livekit.RoomService/{method}");
        let (got, answer) = post(&bridge, &path, &body.to_string(), Some(&token(grants))).await;
        assert_eq!((got.as_u16(), answer["code"].as_str()), (status, code), "{method}: {answer}");
    }
}

#[tokio::test]
async fn wrong_requests_get_twirps_errors() {
    let bridge = bridge(Config::default()).await;
    let grants = VideoGrants { room_create: true, ..VideoGrants::default() };
    let good = bridge.keys.mint(&Claims { grants, ..Claims::default() }, Duration::from_secs(60));
    let bad = format!("{}x", &good[..good.len() - 2]);
    let url = |path: &str| format!("http://{}{path}", bridge.address);
    let create = "/twirp/livekit.RoomService/CreateRoom";
    let http = reqwest::Client::new();
    let big = format!("{{\"name\":\"{}\"}}", "x".repeat(1_100_000));
    let json = "application/json";
    let auth = |token: &str| Some(format!("Bearer {token}"));
    for (method, path, mime, token, body, status, code) in [
        ("POST", create, json, None, "{}", 401, "unauthenticated"),
        ("POST", create, json, Some("Basic eDp5".to_owned()), "{}", 401, "unauthenticated"),
        ("POST", create, json, auth(&bad), "{}", 401, "unauthenticated"),
        ("POST", create, json, auth("x.y.z"), "{}", 401, "unauthenticated"),
        ("POST", create, json, auth(&good), "{", 400, "malformed"),
        ("POST", create, json, auth(&good), "{\"name\":7}", 400, "malformed"),
        ("POST", create, "application/protobuf", auth(&good), "{\"name\":7}", 400, "malformed"),
        ("POST", create, json, auth(&good), big.as_str(), 400, "malformed"),
        ("POST", create, json, auth(&good), "{}", 400, "invalid_argument"),
        ("POST", create, "text/plain", auth(&good), "{}", 404, "bad_route"),
        ("GET", create, json, auth(&good), "", 404, "bad_route"),
        ("POST", "/twirp/livekit.RoomService/Nope", json, auth(&good), "{}", 404, "bad_route"),
        ("POST", "/twirp/livekit.Egress/ListEgress", json, auth(&good), "{}", 404, "bad_route"),
        ("POST", "/twirp/livekit.RoomService/ForwardParticipant", json, auth(&good), "{}", 403, "permission_denied"),
        ("POST", create, json, auth(&good), "{\"name\":\"r\",\"egress\":{}}", 501, "unimplemented"),
    ] {
        let mut request = http.request(method.parse().unwrap(), url(path)).header("content-type", mime);
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        let response = soon(request.body(body.to_owned()).send()).await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{method} {path} {code}");
        let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(answer["code"], code, "{answer}");
        assert!(answer["msg"].as_str().is_some_and(|message| !message.is_empty()));
    }
    let text = bridge.metrics.encode().unwrap();
    let counted = r#"ratssaal_api_requests_total{call="CreateRoom",result="malformed"} 4"#;
    assert!(text.contains(counted), "{text}");
    assert!(!text.contains("Nope"), "a client cannot invent labels");
}

#[tokio::test]
async fn json_is_protobufs_json() {
    let bridge = bridge(Config::default()).await;
    let grants = VideoGrants { room_create: true, ..VideoGrants::default() };
    let token = bridge.keys.mint(&Claims { grants, ..Claims::default() }, Duration::from_secs(60));
    // Both spellings of field names, and a field of a later version.
    let body = json!({ "name": "rat", "empty_timeout": 60, "maxParticipants": 5, "someday": true }).to_string();
    let (status, room) = post(&bridge, "/twirp/livekit.RoomService/CreateRoom", &body, Some(&token)).await;
    assert_eq!(status, StatusCode::OK, "{room}");
    assert_eq!(
        (&room["name"], &room["emptyTimeout"], &room["maxParticipants"]),
        (&json!("rat"), &json!(60), &json!(5))
    );
    assert!(room["creationTime"].is_string(), "64-bit numbers are strings: {room}");
}
