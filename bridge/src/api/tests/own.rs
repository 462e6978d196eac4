//! `/api/v1`.

use serde_json::json;

use super::*;
use crate::Config;
use crate::config::{BrandConfig, RoomConfig};
use crate::room::{Actor, Command};
use crate::testing::bridge;

async fn join(bridge: &TestBridge, body: Value) -> (StatusCode, Value) {
    post(bridge, "/api/v1/join", &body.to_string(), None).await
}

async fn open(bridge: &TestBridge, body: Value) -> (StatusCode, Value) {
    post(bridge, "/api/v1/rooms", &body.to_string(), None).await
}

#[tokio::test]
async fn whoever_opens_a_room_moderates_it_and_guests_join() {
    let bridge = bridge(Config::default()).await;
    let (status, opened) = open(&bridge, json!({ "room": "Bauausschuss Süd" })).await;
    assert_eq!((status, &opened["room"]), (StatusCode::CREATED, &json!("bauausschuss-sued")));
    let key = &opened["key"];

    let (status, moderator) =
        join(&bridge, json!({ "room": "bauausschuss-sued", "name": " Erika ", "key": key })).await;
    assert_eq!((status, &moderator["moderator"]), (StatusCode::OK, &json!(true)));
    let claims = bridge.keys.verify(moderator["token"].as_str().unwrap()).unwrap();
    assert_eq!((claims.name.as_str(), claims.grants.room.as_str()), ("Erika", "bauausschuss-sued"));
    assert!(claims.grants.room_join && claims.grants.room_admin && claims.grants.can_update_own_metadata());

    let (_, guest) = join(&bridge, json!({ "room": "bauausschuss-sued", "name": "Gast" })).await;
    assert_eq!(guest["moderator"], json!(false));
    let claims = bridge.keys.verify(guest["token"].as_str().unwrap()).unwrap();
    assert!(claims.grants.room_join && !claims.grants.room_admin && !claims.grants.room_create);
    assert!(claims.grants.can_publish() && claims.grants.can_subscribe() && claims.grants.can_publish_data());
}

#[tokio::test]
async fn a_browser_comes_back_as_the_same_guest_and_nobody_else_can() {
    let bridge = bridge(Config::default()).await;
    let identity = |answer: &Value| bridge.keys.verify(answer["token"].as_str().unwrap()).unwrap().identity;
    let body = |identity: Option<&str>| json!({ "room": "rat", "name": "Gast", "identity": identity });
    let (_, first) = join(&bridge, body(None)).await;
    let (_, again) = join(&bridge, body(first["identity"].as_str())).await;
    assert_eq!(identity(&first), identity(&again));
    let (_, other) = join(&bridge, body(None)).await;
    assert_ne!(identity(&first), identity(&other));
    // What everybody in the room sees does not let anybody in as that guest.
    let (status, answer) = join(&bridge, body(Some(&identity(&first)))).await;
    assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &json!("bad_identity")));
}

#[tokio::test]
async fn who_was_removed_for_good_stays_out() {
    let bridge = bridge(Config::default()).await;
    let (_, guest) = join(&bridge, json!({ "room": "rat", "name": "Gast" })).await;
    let identity = bridge.keys.verify(guest["token"].as_str().unwrap()).unwrap().identity;
    let moderator = enter(&bridge, "rat", "m").await;
    let _in = enter(&bridge, "rat", &identity).await;
    let remove = Command::Remove { identity: identity.into(), revoke_before_ms: Some(i64::MAX) };
    moderator.room.submit(Actor::Admin, remove).await.unwrap();
    let (status, answer) = join(&bridge, json!({ "room": "rat", "name": "Gast", "identity": guest["identity"] })).await;
    assert_eq!((status, &answer["error"]), (StatusCode::FORBIDDEN, &json!("banned")));
}

#[tokio::test]
async fn wrong_requests_are_told_what_to_do() {
    let bridge = bridge(Config::default()).await;
    open(&bridge, json!({ "room": "rat" })).await;
    let (_, other) = open(&bridge, json!({})).await;
    let key = &other["key"];
    for (path, body, status, code) in [
        ("rooms", json!({ "room": "RAT" }), 409, "room_exists"),
        ("rooms", json!({ "room": "a/b" }), 400, "bad_room"),
        ("rooms", json!({ "room": "x".repeat(65) }), 400, "bad_room"),
        ("rooms", json!([]), 400, "bad_request"),
        ("join", json!({ "room": "rat" }), 400, "bad_request"),
        ("join", json!({ "room": "", "name": "Gast" }), 400, "bad_room"),
        ("join", json!({ "room": "rat", "name": "  " }), 400, "bad_name"),
        ("join", json!({ "room": "rat", "name": "x".repeat(65) }), 400, "bad_name"),
        ("join", json!({ "room": "rat", "name": "Gast", "key": key }), 403, "invalid_key"),
        ("join", json!({ "room": "rat", "name": "Gast", "key": "x" }), 403, "invalid_key"),
        ("join", json!({ "room": "rat", "name": "x".repeat(20_000) }), 413, "bad_request"),
        ("nope", json!({}), 404, "no_such_endpoint"),
    ] {
        let (got, answer) = post(&bridge, &format!("/api/v1/{path}"), &body.to_string(), None).await;
        assert_eq!((got.as_u16(), answer["error"].as_str()), (status, Some(code)), "{path}: {answer}");
        assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    let (status, answer) = post(&bridge, "/api/v1/join", "{", None).await;
    assert_eq!((status, &answer["error"]), (StatusCode::BAD_REQUEST, &json!("bad_request")));
}

#[tokio::test]
async fn a_flood_from_one_network_is_slowed_down() {
    let bridge = bridge(Config::default()).await;
    let mut refused = None;
    for _ in 0..200 {
        let (status, answer) = open(&bridge, json!({ "room": "a/b" })).await;
        if status == StatusCode::TOO_MANY_REQUESTS {
            refused = Some(answer);
            break;
        }
    }
    assert_eq!(refused.expect("200 in a row were taken")["error"], json!("too_many_requests"));
    let (status, _) = join(&bridge, json!({ "room": "rat", "name": "Gast" })).await;
    assert_eq!(status, StatusCode::OK, "joining has its own measure");
}

#[tokio::test]
async fn rooms_may_be_the_organisations_to_open() {
    let room = RoomConfig { auto_create: false, ..RoomConfig::default() };
    let bridge = bridge(Config { room, ..Config::default() }).await;
    let (status, answer) = open(&bridge, json!({ "room": "rat" })).await;
    assert_eq!((status, &answer["error"]), (StatusCode::FORBIDDEN, &json!("rooms_closed")));
    let (status, answer) = join(&bridge, json!({ "room": "rat", "name": "Gast" })).await;
    assert_eq!((status, &answer["error"]), (StatusCode::NOT_FOUND, &json!("no_such_room")));
    bridge.rooms.create("rat", None, "", true).await.unwrap().unwrap();
    let (status, _) = join(&bridge, json!({ "room": "rat", "name": "Gast" })).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn the_client_learns_whose_server_it_is() {
    let brand = BrandConfig { name: "Stadt Beispiel".into(), accent: Some("#005a9c".into()), ..BrandConfig::default() };
    let bridge = bridge(Config { brand, ..Config::default() }).await;
    let response = reqwest::get(format!("http://{}/api/v1/config", bridge.address)).await.unwrap();
    let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    let expected = json!({
        "name": "Stadt Beispiel", "languages": ["de", "en"], "imprint": null, "privacy": null, "accessibility": null,
        "accent": "#005a9c", "open_rooms": true,
    });
    assert_eq!(answer, expected);
}
