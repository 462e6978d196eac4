//! `ForwardParticipant` on real servers: somebody is seen and heard in a second room, also by people on another server.

#[path = "../../allocator/src/redis_server.rs"]
#[expect(dead_code, clippy::expect_used, reason = "made for the allocator's tests; a part is used here")]
mod redis_server;
mod stage;

use anyhow::{Context, Result, ensure};
use livekit_api::services::room::UpdateParticipantOptions;
use livekit_protocol::{ParticipantInfo, TrackSource, participant_info::KindDetail};
use ratssaal_e2e::{
    bot::{Bot, Options, View},
    server::{Server, turn},
};
use redis_server::Server as Redis;
use serde_json::{Value, json};
use stage::{LIMIT, eventually, twirp};

async fn forward(server: &Server, identity: &str) -> Result<(u16, Value)> {
    let grants = json!({"roomAdmin": true, "room": "rat", "destinationRoom": "saal"});
    let request = json!({"room": "rat", "identity": identity, "destination_room": "saal"});
    twirp(server, "ForwardParticipant", grants, request).await
}

/// The camera and the microphone of the copy, once both are known.
fn tracks(view: &View) -> Option<(String, String)> {
    Some((view.track_of("bot-0", TrackSource::Camera)?, view.track_of("bot-0", TrackSource::Microphone)?))
}

fn gone(view: &View) -> Option<()> {
    view.other("bot-0").is_none().then_some(())
}

/// On each of two servers sit people of one of the rooms only: the copy's media goes from server to server.
#[tokio::test(flavor = "multi_thread")]
async fn a_speaker_is_seen_and_heard_in_a_room_on_another_server() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let mut servers = Vec::new();
    for name in ["eins", "zwei"] {
        let url = redis.url();
        let settings = [
            ("RATSSAAL_CLUSTER__REDIS", url.as_str()),
            ("RATSSAAL_CLUSTER__BRIDGE", name),
            ("RATSSAAL_ROOM__SEATS", "8"),
        ];
        servers.push(Server::start_with(&settings).await?);
    }
    let [eins, zwei] = &servers[..] else { anyhow::bail!("two were started") };
    let speaker = Bot::join(eins, Options::new("rat", 0, true)).await?;
    let colleague = Bot::join(eins, Options::new("rat", 1, false).v1(true)).await?;
    let near = Bot::join(eins, Options::new("saal", 2, false)).await?;
    let seated = async || {
        let mut seated = [0.0; 2];
        for (count, server) in seated.iter_mut().zip([eins, zwei]) {
            *count = server.metric("ratssaal_participants{state=\"active\"}").await?;
        }
        seated.sort_by(f64::total_cmp);
        Ok(seated)
    };
    eventually("each room has a server of its own", [1.0, 2.0], seated).await?;
    let logs = || format!("{}\n---\n{}", eins.log(), zwei.log());
    is_in_two_rooms((eins, zwei), speaker, [colleague, near]).await.with_context(logs)
}

/// On one server the rooms are on different workers, and one of them gets onto both.
#[tokio::test(flavor = "multi_thread")]
async fn a_speaker_is_seen_and_heard_in_a_room_on_another_worker() -> Result<()> {
    let _turn = turn().await;
    let settings = [("RATSSAAL_MEDIA__WORKERS", "2"), ("RATSSAAL_MEDIA__SPREAD", "1")];
    let server = Server::start_with(&settings).await?;
    let speaker = Bot::join(&server, Options::new("rat", 0, true)).await?;
    let near = Bot::join(&server, Options::new("saal", 2, false)).await?;
    let colleague = Bot::join(&server, Options::new("rat", 1, false).v1(true)).await?;
    is_in_two_rooms((&server, &server), speaker, [colleague, near]).await.with_context(|| server.log())
}

/// The speaker of one room, with a colleague there, becomes a speaker in another one, and stops being one.
async fn is_in_two_rooms((first, second): (&Server, &Server), speaker: Bot, [colleague, near]: [Bot; 2]) -> Result<()> {
    let (camera, microphone) = colleague.wait("the speaker publishes", LIMIT, tracks).await?;
    let api = stage::api(second);
    let (status, body) = forward(second, "bot-0").await?;
    ensure!(status == 200, "{status} {body}");
    ensure!(near.wait("the copy's tracks", LIMIT, tracks).await? == (camera.clone(), microphone.clone()), "the same");
    let copy = near.view(|view| view.other("bot-0").cloned()).context("the copy")?;
    ensure!(copy.kind_details == [KindDetail::Forwarded as i32] && copy.name == "bot-0", "{copy:?}");
    let far = Bot::join(second, Options::new("saal", 3, false).v1(true)).await?;
    for listener in [&near, &far, &colleague] {
        listener.flows(&camera).await?;
        listener.flows(&microphone).await?;
    }

    // It follows its original.
    let options = UpdateParticipantOptions { name: "Vorsitz".to_owned(), ..UpdateParticipantOptions::default() };
    api.update_participant("rat", "bot-0", options).await?;
    api.mute_published_track("rat", "bot-0", &microphone, true).await?;
    let follows = |who: &ParticipantInfo| {
        let muted = who.tracks.iter().any(|track| track.sid == microphone && track.muted);
        (muted && who.name == "Vorsitz").then_some(())
    };
    near.wait("name and mute are shown", LIMIT, |view| follows(view.other("bot-0")?)).await?;
    for listener in [&near, &far, &colleague] {
        listener.falls_silent(&microphone, &camera).await?;
    }
    // Nothing is ordered of it there but to go.
    let refused = api.mute_published_track("saal", "bot-0", &camera, true).await.err().context("it is not at home")?;
    ensure!(refused.to_string().contains("failed_precondition"), "{refused}");
    api.remove_participant("saal", "bot-0").await?;
    for listener in [&near, &far] {
        listener.wait("the copy is gone", LIMIT, gone).await?;
    }
    colleague.flows(&camera).await.context("the original is not")?;

    let (status, body) = forward(first, "bot-0").await?;
    ensure!(status == 200, "{status} {body}");
    near.wait("it is there again", LIMIT, tracks).await?;
    for listener in [&near, &far] {
        listener.flows(&camera).await?;
    }
    speaker.leave().await?;
    for listener in [&near, &far, &colleague] {
        listener.wait("it has left both", LIMIT, gone).await?;
    }
    let (status, body) = forward(first, "bot-0").await?;
    ensure!(status == 404, "nobody to forward: {status} {body}");
    Ok(())
}
