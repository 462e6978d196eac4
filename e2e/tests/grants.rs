//! What a token allows is enforced at the bridge, whatever a client sends.

use std::time::Duration;

use anyhow::Result;
use livekit_protocol::{
    AddTrackRequest, DataPacket, SubscriptionPermission, TrackPermission, TrackSource, TrackType,
    UpdateParticipantMetadata, UpdateSubscription, UserPacket, data_packet, signal_request::Message,
};
use ratssaal_e2e::{
    bot::{Bot, Options, View},
    server::{Server, turn},
    token,
};
use serde_json::{Value, json};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

async fn join(server: &Server, options: Options, changes: Value) -> Result<Bot> {
    let mut grants = token::grants(&options.room);
    for (key, value) in changes.as_object().cloned().unwrap_or_default() {
        grants[key] = value;
    }
    let token = token::sign(&token::claims(server, &options.identity, grants), &server.secret);
    Bot::join_with(server, options, &token).await
}

fn track(source: TrackSource) -> Message {
    let kind = if source == TrackSource::Microphone { TrackType::Audio } else { TrackType::Video };
    Message::AddTrack(AddTrackRequest {
        cid: format!("cid-{}", source.as_str_name()),
        r#type: kind as i32,
        source: source as i32,
        ..AddTrackRequest::default()
    })
}

fn text(payload: &str) -> DataPacket {
    let user = UserPacket { payload: payload.as_bytes().to_vec(), ..UserPacket::default() };
    DataPacket { value: Some(data_packet::Value::User(user)), ..DataPacket::default() }
}

fn texts(view: &View) -> Vec<String> {
    let texts = view.data.iter().filter_map(|heard| match &heard.packet.value {
        Some(data_packet::Value::User(user)) => Some(String::from_utf8_lossy(&user.payload).into_owned()),
        _ => None,
    });
    texts.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn publishing() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let silent = join(&server, Options::new("publishing", 1, false), json!({ "canPublish": false })).await?;
    silent.request(track(TrackSource::Microphone))?;
    silent.settled().await?;
    assert!(silent.view(|view| view.published.is_empty()), "a track was accepted without canPublish");

    let voice =
        join(&server, Options::new("publishing", 2, false), json!({ "canPublishSources": ["microphone"] })).await?;
    voice.request(track(TrackSource::Camera))?;
    voice.request(track(TrackSource::ScreenShare))?;
    voice.request(track(TrackSource::Microphone))?;
    voice.settled().await?;
    voice.wait("the microphone is accepted", LIMIT, |view| (view.published.len() == 1).then_some(())).await?;
    voice.view(|view| assert!(view.published.keys().all(|cid| cid.contains("MICROPHONE")), "{:?}", view.published));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribing() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let speaker = Bot::join(&server, Options::new("subscribing", 1, true)).await?;
    let blind = join(&server, Options::new("subscribing", 2, true).v1(true), json!({ "canSubscribe": false })).await?;
    let choosy = Bot::join(&server, Options { auto_subscribe: false, ..Options::new("subscribing", 3, true) }).await?;
    let open = Bot::join(&server, Options::new("subscribing", 4, false)).await?;
    let known = |view: &View| {
        let microphone = view.track_of("bot-1", TrackSource::Microphone)?;
        Some((microphone, view.track_of("bot-1", TrackSource::Camera)?))
    };
    let (microphone, camera) = open.wait("the speaker is known", LIMIT, known).await?;
    for bot in [&blind, &choosy] {
        let request =
            UpdateSubscription { track_sids: vec![camera.clone()], subscribe: true, ..UpdateSubscription::default() };
        bot.request(Message::Subscription(request))?;
    }
    open.flows(&microphone).await?;
    open.flows(&camera).await?;
    choosy.flows(&camera).await?;
    assert_eq!(choosy.view(|view| view.packets_of(&microphone)), 0, "a track came that was not asked for");
    assert_eq!(blind.view(View::packets), 0, "media reached somebody without canSubscribe");

    // The publisher allows one of them only.
    let negotiations = open.view(|view| view.negotiations);
    let only =
        TrackPermission { participant_identity: "bot-3".to_owned(), all_tracks: true, ..TrackPermission::default() };
    speaker.request(Message::SubscriptionPermission(SubscriptionPermission {
        all_participants: false,
        track_permissions: vec![only],
    }))?;
    let guard = choosy.view(|view| view.track_of("bot-2", TrackSource::Microphone)).unwrap_or_default();
    open.falls_silent(&camera, &guard).await?;
    choosy.flows(&camera).await?;
    let negotiated = |view: &View| (view.negotiations > negotiations).then_some(view.negotiations);
    let ended = open.wait("the end is negotiated", LIMIT, negotiated).await?;
    speaker.request(Message::SubscriptionPermission(SubscriptionPermission {
        all_participants: true,
        track_permissions: vec![],
    }))?;
    let again = |view: &View| (view.negotiations > ended).then_some(());
    open.wait("the track is negotiated again", LIMIT, again).await?;
    open.flows(&microphone).await?;
    open.flows(&camera).await
}

#[tokio::test(flavor = "multi_thread")]
async fn data() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let mute = join(&server, Options::new("data", 1, true), json!({ "canPublishData": false })).await?;
    let talker = Bot::join(&server, Options::new("data", 2, true)).await?;
    let hearer = Bot::join(&server, Options::new("data", 3, true).v1(true)).await?;
    // What is sent before a receiver's channels are open is lost: both are, once these have come.
    let both = |view: &View| {
        (texts(view).contains(&"hello".to_owned()) && texts(view).contains(&"hello, lossy".to_owned())).then_some(())
    };
    let greeting = async {
        loop {
            talker.send(text("hello"), true)?;
            talker.send(text("hello, lossy"), false)?;
            if hearer.wait("greetings", Duration::from_millis(200), both).await.is_ok() && mute.view(both).is_some() {
                return anyhow::Ok(());
            }
        }
    };
    timeout(LIMIT, greeting).await??;
    mute.send(text("not allowed"), true)?;
    mute.send(text("not allowed"), false)?;
    // Whatever the packet claims, the sender is who sent it.
    let forged = DataPacket {
        participant_identity: "bot-1".to_owned(),
        participant_sid: "PA_forged".to_owned(),
        ..text("forged sender")
    };
    talker.send(forged, true)?;
    let mut unreliable = text("lossy");
    unreliable.destination_identities = vec!["bot-3".to_owned()];
    let sending = async {
        // Unreliable: it may be sent again until it has come.
        loop {
            talker.send(unreliable.clone(), false)?;
            let come = |view: &View| texts(view).contains(&"lossy".to_owned()).then_some(());
            if hearer.wait("the lossy packet", Duration::from_millis(200), come).await.is_ok() {
                return anyhow::Ok(());
            }
        }
    };
    timeout(LIMIT, sending).await??;
    talker.send(text("last"), true)?;
    let done = |view: &View| {
        (texts(view).contains(&"last".to_owned()) && texts(view).contains(&"lossy".to_owned())).then_some(())
    };
    hearer.wait("the allowed data arrives", LIMIT, done).await?;
    mute.wait("who may not send still hears", LIMIT, |view| texts(view).contains(&"last".to_owned()).then_some(()))
        .await?;
    hearer.view(|view| {
        assert!(!texts(view).contains(&"not allowed".to_owned()), "data came from somebody without canPublishData");
        for heard in &view.data {
            assert_eq!(heard.packet.participant_identity, "bot-2", "{heard:?}");
            assert_eq!(heard.reliable, heard.packet.sequence > 0, "{heard:?}");
        }
    });
    mute.view(|view| assert!(!texts(view).contains(&"lossy".to_owned()), "data for one reached another"));
    assert!(talker.view(|view| view.data.is_empty()), "data came back to its sender");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_and_own_metadata() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let watched = Bot::join(&server, Options::new("hidden", 1, true)).await?;
    let hidden = join(&server, Options::new("hidden", 2, false), json!({ "hidden": true })).await?;
    let open = Bot::join(&server, Options::new("hidden", 3, false)).await?;
    watched.wait("who is open is seen", LIMIT, |view| view.other("bot-3").map(|_| ())).await?;
    assert!(watched.view(|view| view.other("bot-2").is_none()), "a hidden participant is seen");
    assert!(open.view(|view| view.other("bot-2").is_none()), "a hidden participant is seen by a newcomer");
    let camera = hidden.wait("the hidden one sees", LIMIT, |view| view.track_of("bot-1", TrackSource::Camera)).await?;
    hidden.flows(&camera).await?;

    let update = UpdateParticipantMetadata {
        metadata: "self-made".to_owned(),
        request_id: 7,
        ..UpdateParticipantMetadata::default()
    };
    open.request(Message::UpdateMetadata(update))?;
    open.settled().await?;
    let refused = |view: &View| view.responses.iter().find(|response| response.request_id == 7).cloned();
    let response = open.wait("the refusal arrives", LIMIT, refused).await?;
    assert_eq!(response.reason().as_str_name(), "NOT_ALLOWED");
    assert!(watched.view(|view| view.other("bot-3").is_some_and(|other| other.metadata.is_empty())));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_identity_twice() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let other = Bot::join(&server, Options::new("twins", 2, false)).await?;
    let first = Bot::join(&server, Options::new("twins", 1, true)).await?;
    let second = Bot::join(&server, Options::new("twins", 1, true).v1(true)).await?;
    let reason = first.wait("the first is replaced", LIMIT, |view| view.ended.clone()).await?;
    assert!(reason.contains("DuplicateIdentity"), "{reason}");
    let one = |view: &View| (view.others.len() == 1).then(|| view.track_of("bot-1", TrackSource::Camera)).flatten();
    let camera = other.wait("one of them is left", LIMIT, one).await?;
    other.flows(&camera).await?;
    second.check_alive()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_is_told() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let speaker = Bot::join(&server, Options::new("speakers", 1, true)).await?;
    let listener = Bot::join(&server, Options::new("speakers", 2, false).v1(true)).await?;
    let sid = speaker.view(|view| view.me.sid.clone());
    let active = |view: &View| {
        view.speakers.iter().any(|speaker| speaker.sid == sid && speaker.active && speaker.level > 0.0).then_some(())
    };
    listener.wait("the speaker is told", LIMIT, active).await?;
    speaker.stop_publishing().await?;
    let silent = |view: &View| view.speakers.iter().all(|speaker| speaker.sid != sid || !speaker.active).then_some(());
    listener.wait("the end is told", LIMIT, silent).await
}
