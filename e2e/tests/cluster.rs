//! Several servers on one real Redis: clients connect to one and sit on another.

#[path = "../../allocator/src/redis_server.rs"]
#[expect(dead_code, clippy::expect_used, reason = "made for the allocator's tests; a part is used here")]
mod redis_server;
mod stage;

use std::{collections::HashMap, time::Duration};

use anyhow::{Context, Result, ensure};
use livekit_api::services::room::{CreateRoomOptions, SendDataOptions, UpdateParticipantOptions};
use livekit_protocol::{DataPacket, ParticipantInfo, RpcAck, RpcResponse, TrackSource, data_packet, rpc_response};
use ratssaal_e2e::{
    bot::{Bot, Options, View},
    server::{Server, turn},
    wait::until,
};
use redis_server::Server as Redis;
use serde_json::{Value, json};
use stage::{LIMIT, api, twirp};

/// Servers on one Redis, by name.
async fn servers<const N: usize>(redis: &Redis, names: [&str; N]) -> Result<Vec<Server>> {
    let mut servers = Vec::new();
    for name in names {
        let settings = [("RATSSAAL_CLUSTER__REDIS", redis.url()), ("RATSSAAL_CLUSTER__BRIDGE", name.to_owned())];
        let settings = settings.each_ref().map(|(key, value)| (*key, value.as_str()));
        servers.push(Server::start_with(&settings).await?);
    }
    Ok(servers)
}

/// The number of the server on which the participants sit, once one of them is active.
async fn seat(servers: &[Server]) -> Result<usize> {
    for _ in 0..200 {
        for (number, server) in servers.iter().enumerate() {
            if server.metric("ratssaal_participants{state=\"active\"}").await? > 0.0 {
                return Ok(number);
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("nobody is active")
}

/// Two servers and a bot in `room` that is on one of them: entry (the other one), seat, bot.
async fn entry_and_seat(redis: &Redis, room: &str) -> Result<(Server, Server, Bot)> {
    let mut servers = servers(redis, ["eins", "zwei"]).await?;
    let first = Bot::join(&servers[0], Options::new(room, 0, true)).await?;
    let seat = seat(&servers).await?;
    let seat = servers.remove(seat);
    Ok((servers.remove(0), seat, first))
}

#[tokio::test(flavor = "multi_thread")]
async fn media_goes_straight_to_the_seat_and_signalling_through_any_server() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let (entry, seat, first) = entry_and_seat(&redis, "across").await?;
    let mut bots = vec![first];
    for number in 1..3 {
        bots.push(Bot::join(&entry, Options::new("across", number, true).v1(number == 1)).await?);
    }
    for bot in &bots {
        let all = |view: &View| (view.received.values().filter(|got| got.packets > 50).count() == 4).then_some(());
        let waited = bot.wait("it gets the others' cameras and microphones", LIMIT, all).await;
        waited.map_err(|error| error.context(format!("{}\n---\n{}", entry.log(), seat.log())))?;
    }
    ensure!(seat.metric("ratssaal_participants{state=\"active\"}").await? == 3.0, "all sit on one server");
    ensure!(entry.metric("ratssaal_signal_relayed").await? >= 2.0, "and came through the other");
    bots[1].send(DataPacket { value: Some(user(b"hallo")), ..DataPacket::default() }, true)?;
    bots[2].wait("data arrives", LIMIT, |view| heard(view, b"hallo")).await?;
    for bot in bots {
        bot.leave().await?;
    }
    Ok(())
}

fn user(payload: &[u8]) -> data_packet::Value {
    data_packet::Value::User(livekit_protocol::UserPacket { payload: payload.to_vec(), ..Default::default() })
}

fn heard(view: &View, payload: &[u8]) -> Option<()> {
    let is =
        |packet: &DataPacket| matches!(&packet.value, Some(data_packet::Value::User(user)) if user.payload == payload);
    view.data.iter().any(|heard| is(&heard.packet)).then_some(())
}

/// The methods for media, data and moving at a server where nobody of the room sits.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_api_works_at_any_server() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let (entry, _seat, first) = entry_and_seat(&redis, "amt").await?;
    let second = Bot::join(&entry, Options::new("amt", 1, true).v1(true)).await?;
    let api = api(&entry);
    ensure!(api.list_participants("amt").await?.len() == 2, "both are listed");
    let camera = |view: &View| view.track_of("bot-0", TrackSource::Camera);
    let camera = second.wait("the camera is known", LIMIT, camera).await?;
    second.flows(&camera).await?;

    api.update_subscriptions("amt", "bot-1", vec![camera.clone()], false).await?;
    let microphone = second.view(|view| view.track_of("bot-0", TrackSource::Microphone)).context("no microphone")?;
    second.falls_silent(&camera, &microphone).await?;
    api.mute_published_track("amt", "bot-0", &microphone, true).await?;
    first.wait("it is muted", LIMIT, |view| view.muted.get(&microphone).copied().filter(|muted| *muted)).await?;
    api.send_data("amt", b"amtlich".to_vec(), SendDataOptions::default()).await?;
    for bot in [&first, &second] {
        bot.wait("the server's data arrives", LIMIT, |view| heard(view, b"amtlich")).await?;
        ensure!(bot.view(|view| view.data.len()) == 1, "once");
    }

    // The client answers a call as an SDK does.
    let call =
        rpc(&entry, json!({"room": "amt", "destination_identity": "bot-1", "method": "frage", "payload": "6*7"}));
    let answer = async {
        let asked = |view: &View| {
            view.data.iter().find_map(|heard| match &heard.packet.value {
                Some(data_packet::Value::RpcRequest(request)) => {
                    Some((heard.packet.participant_identity.clone(), request.clone()))
                }
                _ => None,
            })
        };
        let (caller, request) = second.wait("the call arrives", LIMIT, asked).await?;
        ensure!((request.method.as_str(), request.payload.as_str()) == ("frage", "6*7"), "{request:?}");
        let to = |value| DataPacket {
            destination_identities: vec![caller.clone()],
            value: Some(value),
            ..DataPacket::default()
        };
        let id = request.id.clone();
        second.send(to(data_packet::Value::RpcAck(RpcAck { request_id: id.clone() })), true)?;
        let value = Some(rpc_response::Value::Payload("42".to_owned()));
        second.send(to(data_packet::Value::RpcResponse(RpcResponse { request_id: id, value })), true)
    };
    let (called, answered) = tokio::join!(call, answer);
    answered?;
    let (status, body) = called?;
    ensure!(status == 200 && body["payload"] == "42", "{status} {body}");
    let quick = json!({"room": "amt", "destination_identity": "bot-0", "method": "x", "response_timeout_ms": 1});
    let (status, body) = rpc(&entry, quick).await?;
    ensure!(status == 408 && body["code"] == "deadline_exceeded", "nobody acknowledges: {status} {body}");

    // Moved to another room: it gets a token for it and is told to join anew.
    api.create_room("saal", Default::default()).await?;
    let grants = json!({"roomAdmin": true, "room": "amt", "destinationRoom": "saal"});
    let request = json!({"room": "amt", "identity": "bot-1", "destination_room": "saal"});
    let (status, body) = twirp(&entry, "MoveParticipant", grants, request).await?;
    ensure!(status == 200, "{status} {body}");
    let ended = second.wait("it is told to go", LIMIT, |view| view.ended.clone()).await?;
    ensure!(ended.contains("Migration"), "{ended}");
    until("it has left", LIMIT, || first.view(|view| (!view.others.contains_key("bot-1")).then_some(()))).await?;
    let refused = twirp(
        &entry,
        "MoveParticipant",
        json!({"roomAdmin": true, "room": "amt"}),
        json!({"room": "amt", "identity": "bot-0", "destination_room": "saal"}),
    )
    .await?;
    ensure!(refused.0 == 403, "{refused:?}");
    Ok(())
}

/// The methods for rooms and single participants, at a server where nobody of the room sits.
#[tokio::test(flavor = "multi_thread")]
async fn rooms_and_participants_are_looked_after_from_any_server() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let (entry, seat, first) = entry_and_seat(&redis, "rat").await?;
    let second = Bot::join(&seat, Options::new("rat", 1, false).v1(true)).await?;
    let api = api(&entry);

    let found = api.get_participant("rat", "bot-0").await?;
    ensure!(found.sid == first.view(|view| view.me.sid.clone()) && found.tracks.len() == 2, "{found:?}");
    let nobody = api.get_participant("rat", "niemand").await.err().context("there is nobody")?.to_string();
    ensure!(nobody.contains("not_found"), "{nobody}");

    let attributes = HashMap::from([("hand".to_owned(), "oben".to_owned())]);
    let options = UpdateParticipantOptions {
        name: "Erste Bürgermeisterin".to_owned(),
        metadata: "Vorsitz".to_owned(),
        attributes: attributes.clone(),
        ..UpdateParticipantOptions::default()
    };
    api.update_participant("rat", "bot-0", options).await?;
    let is_it = |who: &ParticipantInfo| {
        let told = (who.name.as_str(), who.metadata.as_str()) == ("Erste Bürgermeisterin", "Vorsitz");
        (told && who.attributes == attributes).then_some(())
    };
    first.wait("it knows its name", LIMIT, |view| is_it(&view.me)).await?;
    second.wait("the other knows it", LIMIT, |view| view.other("bot-0").and_then(is_it)).await?;

    api.update_room_metadata("rat", "Tagesordnung").await?;
    for bot in [&first, &second] {
        let told = |view: &View| (view.room.metadata == "Tagesordnung").then_some(());
        bot.wait("the room's metadata arrives", LIMIT, told).await?;
    }
    api.create_room("leer", CreateRoomOptions::default()).await?;
    let mut rooms = api.list_rooms(vec![]).await?;
    rooms.sort_by(|a, b| a.name.cmp(&b.name));
    let seen: Vec<_> = rooms.iter().map(|r| (r.name.as_str(), r.metadata.as_str(), r.num_participants)).collect();
    ensure!(seen == [("leer", "", 0), ("rat", "Tagesordnung", 2)], "{seen:?}");

    api.remove_participant("rat", "bot-1").await?;
    let ended = second.wait("it is put out", LIMIT, |view| view.ended.clone()).await?;
    ensure!(ended.contains("ParticipantRemoved"), "{ended}");
    first.wait("it is gone", LIMIT, |view| view.other("bot-1").is_none().then_some(())).await?;

    api.delete_room("rat").await?;
    let ended = first.wait("the room is over", LIMIT, |view| view.ended.clone()).await?;
    ensure!(ended.contains("RoomDeleted"), "{ended}");
    let rooms = api.list_rooms(vec!["rat".to_owned()]).await?;
    ensure!(rooms.is_empty(), "{rooms:?}");
    Ok(())
}

/// A room that was created for a site has everybody there, wherever they come in, and nobody elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_pinned_to_a_site() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let url = redis.url();
    let mut servers = Vec::new();
    for site in ["rathaus", "kreishaus"] {
        let settings = [
            ("RATSSAAL_CLUSTER__REDIS", url.as_str()),
            ("RATSSAAL_CLUSTER__BRIDGE", site),
            ("RATSSAAL_SITE__NAME", site),
            ("RATSSAAL_ROOM__SEATS", "1"),
        ];
        servers.push(Server::start_with(&settings).await?);
    }
    let api = api(&servers[0]);
    let pinned = CreateRoomOptions { node_id: "kreishaus".to_owned(), ..CreateRoomOptions::default() };
    api.create_room("kreistag", pinned).await?;
    let _first = Bot::join(&servers[0], Options::new("kreistag", 0, false)).await?;
    ensure!(seat(&servers).await? == 1, "it sits at the other site");
    let refused = Bot::join(&servers[0], Options::new("kreistag", 1, false)).await.err().context("it is full there")?;
    ensure!(format!("{refused:#}").contains("503"), "{refused:#}");
    // A room that is open to all sites takes the seat that is free here.
    let _second = Bot::join(&servers[0], Options::new("stadtrat", 1, false)).await?;
    seat(&servers[..1]).await.context("it sits where it came in")?;
    Ok(())
}

async fn rpc(server: &Server, request: Value) -> Result<(u16, Value)> {
    twirp(server, "PerformRpc", json!({"roomAdmin": true, "room": "amt"}), request).await
}

/// The server with the WebSocket is killed: the session lives on and is found through another server.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_with_the_websocket_may_die() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let (mut entry, seat, alone) = entry_and_seat(&redis, "tot").await?;
    // Its WebSocket does not need the one that dies.
    let first = Bot::join(&seat, Options::new("tot", 3, true)).await?;
    drop(alone);
    let mut bots = Vec::new();
    for (number, v1) in [(1, true), (2, false)] {
        let options = Options { resumes: true, ..Options::new("tot", number, true).v1(v1) };
        bots.push(Bot::join(&entry, options).await?);
    }
    let camera = bots[0].wait("a camera is known", LIMIT, |view| view.track_of("bot-3", TrackSource::Camera)).await?;
    for bot in &bots {
        bot.flows(&camera).await?;
    }
    entry.kill();
    for bot in &bots {
        let sid = bot.view(|view| view.me.sid.clone());
        bot.wait("its WebSocket is gone", LIMIT, |view| view.away.clone()).await?;
        bot.flows(&camera).await.context("media does not need the WebSocket")?;
        bot.resume(&seat).await.with_context(|| seat.log())?;
        bot.settled().await?;
        bot.flows(&camera).await?;
        ensure!(first.view(|view| view.others.values().any(|other| other.sid == sid)), "somebody saw it leave");
    }
    Ok(())
}

/// The server with the seat is killed: the client is told to resume, then that there is nothing to resume, and gets another
/// seat with the same rights.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_with_the_seat_may_die() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let (entry, mut dying, first) = entry_and_seat(&redis, "tot").await?;
    let options = Options { resumes: true, ..Options::new("tot", 1, true) };
    let second = Bot::join(&entry, options).await?;
    let sid = second.view(|view| view.me.sid.clone());
    dying.kill();
    let told = second.wait("it is told", LIMIT, |view| view.away.clone()).await?;
    ensure!(told.contains("resume"), "{told}");
    drop(first);
    let refused = second.resume(&entry).await.err().context("there is nothing to resume")?.to_string();
    ensure!(refused.contains("Reconnect"), "{refused}");
    drop(second);
    let again = Bot::join(&entry, Options::new("tot", 1, true)).await.with_context(|| entry.log())?;
    ensure!(again.view(|view| view.me.sid.clone()) != sid, "a new session");
    ensure!(seat(std::slice::from_ref(&entry)).await? == 0, "on the server that is left");
    // Those who did not come back are taken out by the allocator.
    until("the lost one is logged as left", Duration::from_secs(30), || {
        again.view(|view| (!view.others.contains_key("bot-0")).then_some(()))
    })
    .await?;
    Ok(())
}

/// The second one of a name is turned away as long as the first lives.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_of_one_name_do_not_both_get_people() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let url = redis.url();
    let settings = [("RATSSAAL_CLUSTER__REDIS", url.as_str()), ("RATSSAAL_CLUSTER__BRIDGE", "eins")];
    let first = Server::start_with(&settings).await?;
    let second = tokio::time::timeout(Duration::from_secs(5), Server::start_with(&settings)).await;
    ensure!(second.is_err(), "the second one does not get ready");
    let bot = Bot::join(&first, Options::new("eins", 0, true)).await?;
    bot.leave().await
}
