//! The server API, called by the independent `livekit-api` crate: what it changes in a running meeting.

use std::time::Duration;

use anyhow::Result;
use livekit_api::services::{
    ServiceError,
    room::{CreateRoomOptions, RoomClient, SendDataOptions, UpdateParticipantOptions},
};
use livekit_protocol::{ParticipantPermission, TrackSource, data_packet};
use ratssaal_e2e::{
    bot::{Bot, Options, View},
    server::{Server, turn},
    token,
};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(10);

/// The Twirp code of a refusal.
fn code<T: std::fmt::Debug>(result: Result<T, ServiceError>) -> String {
    match result {
        Err(ServiceError::Twirp(error)) => format!("{error:?}").to_lowercase(),
        other => format!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_are_made_listed_changed_and_ended() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let api = RoomClient::with_api_key(&server.http, &server.key, &server.secret);
    let options =
        CreateRoomOptions { metadata: "Tagesordnung".to_owned(), max_participants: 2, ..CreateRoomOptions::default() };
    let made = api.create_room("council", options).await?;
    assert!(made.sid.starts_with("RM_"), "{made:?}");
    assert_eq!((made.name.as_str(), made.metadata.as_str()), ("council", "Tagesordnung"));
    let listed = api.list_rooms(vec![]).await?;
    assert!(listed.iter().any(|room| room.sid == made.sid), "{listed:?}");
    assert!(api.list_rooms(vec!["another".to_owned()]).await?.is_empty());

    let first = Bot::join(&server, Options::new("council", 1, true)).await?;
    assert_eq!(first.view(|view| view.room.metadata.clone()), "Tagesordnung");
    let second = Bot::join(&server, Options::new("council", 2, true).v1(true)).await?;
    let third = Bot::join(&server, Options::new("council", 3, false)).await;
    assert!(third.is_err(), "the room holds two");

    api.update_room_metadata("council", "Beschluss").await?;
    for bot in [&first, &second] {
        let told = |view: &View| (view.room.metadata == "Beschluss").then_some(());
        bot.wait("the room's metadata arrives", LIMIT, told).await?;
    }
    api.delete_room("council").await?;
    for bot in [&first, &second] {
        let reason = bot.wait("the room's end arrives", LIMIT, |view| view.ended.clone()).await?;
        assert!(reason.contains("RoomDeleted"), "{reason}");
    }
    assert!(api.list_rooms(vec!["council".to_owned()]).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn participants_are_found_changed_muted_and_removed() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let api = RoomClient::with_api_key(&server.http, &server.key, &server.secret);
    let chair = Bot::join(&server, Options::new("people", 1, true)).await?;
    let guest = Bot::join(&server, Options::new("people", 2, true).v1(true)).await?;
    let both = |view: &View| {
        let microphone = view.track_of("bot-2", TrackSource::Microphone)?;
        Some((microphone, view.track_of("bot-2", TrackSource::Camera)?))
    };
    let (microphone, camera) = chair.wait("the guest's tracks are known", LIMIT, both).await?;

    let listed = api.list_participants("people").await?;
    let mut identities: Vec<_> = listed.iter().map(|participant| participant.identity.as_str()).collect();
    identities.sort_unstable();
    assert_eq!(identities, ["bot-1", "bot-2"]);
    assert_eq!(api.get_participant("people", "bot-2").await?.tracks.len(), 2);

    chair.flows(&microphone).await?;
    let muted = api.mute_published_track("people", "bot-2", &microphone, true).await?;
    assert!(muted.muted);
    guest.wait("the guest is told", LIMIT, |view| (view.muted.get(&microphone) == Some(&true)).then_some(())).await?;
    let shown = |view: &View| {
        view.other("bot-2")?.tracks.iter().find(|track| track.sid == microphone && track.muted).map(|_| ())
    };
    chair.wait("the mute is shown", LIMIT, shown).await?;
    // The guest sends on: nobody hears it all the same.
    chair.falls_silent(&microphone, &camera).await?;

    api.update_subscriptions("people", "bot-1", vec![camera.clone()], false).await?;
    let own = guest.view(|view| view.track_of("bot-1", TrackSource::Microphone)).unwrap_or_default();
    guest.flows(&own).await?;
    api.update_subscriptions("people", "bot-1", vec![camera.clone()], true).await?;

    let options = UpdateParticipantOptions {
        name: "Gast".to_owned(),
        metadata: "Fraktion".to_owned(),
        attributes: [("hand".to_owned(), "up".to_owned())].into(),
        permission: Some(ParticipantPermission {
            can_subscribe: true,
            can_publish: false,
            can_publish_data: true,
            ..ParticipantPermission::default()
        }),
    };
    api.update_participant("people", "bot-2", options).await?;
    let changed = |view: &View| {
        let guest = view.other("bot-2")?;
        let done = guest.name == "Gast"
            && guest.metadata == "Fraktion"
            && guest.attributes.get("hand").is_some_and(|hand| hand == "up");
        // Without the permission to publish the tracks are gone.
        (done && guest.tracks.is_empty()).then_some(())
    };
    chair.wait("the guest's change arrives", LIMIT, changed).await?;
    let told = |view: &View| view.me.permission.as_ref().filter(|permission| !permission.can_publish).map(|_| ());
    guest.wait("the guest learns of the permission", LIMIT, told).await?;

    let send = SendDataOptions {
        kind: data_packet::Kind::Reliable,
        destination_identities: vec!["bot-2".to_owned()],
        topic: Some("vote".to_owned()),
        ..SendDataOptions::default()
    };
    api.send_data("people", b"open".to_vec(), send).await?;
    let heard = |view: &View| {
        view.data.iter().find_map(|heard| match &heard.packet.value {
            Some(data_packet::Value::User(user)) if user.topic() == "vote" => Some(user.payload.clone()),
            _ => None,
        })
    };
    assert_eq!(guest.wait("the data arrives", LIMIT, heard).await?, b"open");
    assert!(chair.view(heard).is_none(), "data for one reached another");

    api.remove_participant("people", "bot-2").await?;
    let reason = guest.wait("the guest is removed", LIMIT, |view| view.ended.clone()).await?;
    assert!(reason.contains("ParticipantRemoved"), "{reason}");
    chair.wait("the guest is gone", LIMIT, |view| view.others.is_empty().then_some(())).await?;
    chair.check_alive()
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_twirp_codes() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let api = RoomClient::with_api_key(&server.http, &server.key, &server.secret);
    let _bot = Bot::join(&server, Options::new("refusals", 1, false)).await?;
    assert!(code(api.get_participant("refusals", "nobody").await).contains("not_found"));
    assert!(code(api.get_participant("nowhere", "nobody").await).contains("not_found"));
    assert!(code(api.remove_participant("refusals", "nobody").await).contains("not_found"));
    assert!(code(api.update_room_metadata("nowhere", "x").await).contains("not_found"));

    let forger = RoomClient::with_api_key(&server.http, &server.key, "another-secret-another-secret-another");
    let forged = code(forger.list_rooms(vec![]).await);
    // LiveKit refuses it before Twirp, as text that this client cannot read.
    assert!(forged.contains("unauthenticated") || !Server::is_ours(), "{forged}");
    let url = format!("{}/twirp/livekit.RoomService", server.http);
    let client = reqwest::Client::new();
    let participant = token::token(&server, "refusals", "bot-1");
    for (method, body) in [
        ("ListRooms", json!({})),
        ("CreateRoom", json!({ "name": "another" })),
        ("DeleteRoom", json!({ "room": "refusals" })),
        ("RemoveParticipant", json!({ "room": "refusals", "identity": "bot-1" })),
    ] {
        let call = client.post(format!("{url}/{method}")).bearer_auth(&participant).json(&body).timeout(LIMIT);
        let response = call.send().await?;
        assert!(matches!(response.status().as_u16(), 401 | 403), "{method} without the grant: {}", response.status());
    }
    let admin =
        token::sign(&token::claims(&server, "admin", json!({ "roomCreate": true, "roomList": true })), &server.secret);
    let call = |method: &str, body: &str| {
        let request = client.post(format!("{url}/{method}")).bearer_auth(&admin).timeout(LIMIT);
        request.header("content-type", "application/json").body(body.to_owned()).send()
    };
    let malformed = call("CreateRoom", "{\"name\": ").await?;
    assert_eq!(malformed.status().as_u16(), 400, "malformed JSON");
    assert!(malformed.text().await?.contains("malformed"));
    let unknown = call("MakeCoffee", "{}").await?;
    assert_eq!(unknown.status().as_u16(), 404, "an unknown method");
    Ok(())
}
