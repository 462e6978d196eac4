//! Copies by the table, and copies as they run: rooms' tasks, the real allocator, the test as the media worker.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use livekit_protocol::participant_info::KindDetail;
use livekit_protocol::{
    DisconnectReason, ParticipantInfo, ParticipantPermission, SubscriptionPermission, TrackInfo, TrackSource, TrackType,
};
use ratssaal_process::metrics::Metrics;
use ratssaal_proto::allocator::v1::PlaceRequest;

use super::differences::differences;
use super::*;
use crate::Config;
use crate::media::control::{Command as Order, Event as FromWorker, RoomId, TrackId};
use crate::media::{Input, Media};
use crate::room::apply::apply;
use crate::room::entry::{Logged, encode};
use crate::room::state::RoomFacts;
use crate::room::validate::validate;
use crate::room::{Actor, Command, LocalTrack, Newcomer, ParticipantSid, State, ToSession};
use crate::testing::{TestBridge, Town, bridge_on, guest, soon};

fn track(sid: &str, source: TrackSource) -> TrackInfo {
    let kind = if source == TrackSource::Microphone { TrackType::Audio } else { TrackType::Video };
    TrackInfo { sid: sid.to_owned(), r#type: kind.into(), source: source.into(), ..TrackInfo::default() }
}

/// A room of its own with one participant.
fn room_of(sid: &str) -> State {
    let facts = RoomFacts {
        sid: format!("RM_{sid}").as_str().into(),
        name: sid.into(),
        created_ms: 1,
        empty_timeout_ms: 1,
        departure_timeout_ms: 1,
        max_participants: 0,
    };
    let mut state = State::new(facts);
    let permission = ParticipantPermission { can_publish: true, can_update_metadata: true, ..Default::default() };
    let newcomer = Newcomer {
        sid: sid.into(),
        identity: "anna".into(),
        name: "Anna".to_owned(),
        metadata: String::new(),
        attributes: [("hand".to_owned(), "oben".to_owned())].into(),
        kind: 0,
        permission,
        client_protocol: 0,
        capabilities: Vec::new(),
        token_issued_ms: 1,
        bridge: "eins".to_owned(),
        join_id: sid.to_owned(),
        forwarded_from: None,
    };
    act(&mut state, Command::Join(Box::new(newcomer)));
    state
}

fn act(state: &mut State, command: Command) {
    for event in validate(state, &command, &Actor::Bridge, 1).unwrap() {
        let (bytes, sequence) = (encode(&event), state.sequence() + 1);
        apply(state, &Logged { sequence, event: Some(event), bytes, at_ms: 0 });
    }
}

#[test]
fn a_copy_becomes_what_its_original_is() {
    let (mut hall, mut gallery) = (room_of("PA_hall"), room_of("PA_copy"));
    let who = |state: &State| Participant::clone(state.by_identity("anna").unwrap());
    let me = || ParticipantSid::from("PA_hall");
    let publish = |track| Command::Publish { participant: me(), track: Box::new(track) };
    let describe = |name: Option<&str>, attributes: &[(&str, &str)]| Command::Describe {
        participant: me(),
        name: name.map(str::to_owned),
        metadata: None,
        attributes: attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    };
    let only = SubscriptionPermission { all_participants: false, track_permissions: Vec::new() };
    let steps = [
        (publish(track("TR_cam", TrackSource::Camera)), 1),
        (publish(TrackInfo { muted: true, ..track("TR_mic", TrackSource::Microphone) }), 1),
        (describe(Some("Dr. Anna"), &[("hand", ""), ("rolle", "Vorsitz")]), 1),
        (Command::Mute { track: "TR_mic".into(), muted: false }, 1),
        (
            Command::UpdateTrack { track: Box::new(TrackInfo { width: 1280, ..track("TR_cam", TrackSource::Camera) }) },
            1,
        ),
        (Command::AllowSubscribers { participant: me(), permission: only }, 1),
        (Command::Unpublish { track: "TR_cam".into() }, 1),
    ];
    let shown = |info: ParticipantInfo| ParticipantInfo { sid: String::new(), version: 0, ..info };
    for (step, commands) in steps {
        act(&mut hall, step.clone());
        let changes = differences(&who(&hall), &who(&gallery));
        assert_eq!(changes.len(), commands, "{step:?} {changes:?}");
        changes.into_iter().for_each(|change| act(&mut gallery, change));
        assert_eq!(shown(who(&gallery).info()), shown(who(&hall).info()), "{step:?}");
        assert_eq!(who(&gallery).subscribers, who(&hall).subscribers);
        assert_eq!(differences(&who(&hall), &who(&gallery)), [], "{step:?}");
    }
}

async fn enter(bridge: &TestBridge, claims: Claims) -> Joined {
    let request =
        JoinRequest { claims, client: ClientInfo::default(), join_id: random_base62(12), forwarded_from: None };
    match soon(bridge.rooms.join(&request, &[])).await.unwrap() {
        Way::Here(joined) => *joined,
        Way::There(placed) => panic!("{placed:?}"),
    }
}

async fn forward(bridge: &TestBridge, from: &Joined, to: &str) -> Result<(), ForwardRefusal> {
    soon(start(&bridge.rooms, &bridge.peers, &from.room, &from.me.identity, to)).await
}

/// Publishes a microphone that has media here.
async fn speak(me: &Joined) -> TrackId {
    let (participant, media) = (me.sid.clone(), TrackId::next());
    let local = LocalTrack {
        media,
        payload_types: vec![],
        rids: vec![],
        publisher: participant.clone(),
        relay: None,
        borrowed: false,
        backups: Vec::new(),
    };
    me.room.publish_media(&"TR_mic".into(), local);
    let publish = Command::Publish { participant, track: Box::new(track("TR_mic", TrackSource::Microphone)) };
    me.room.submit(Actor::Participant(me.sid.clone()), publish).await.unwrap();
    media
}

/// The next message that `wanted` takes.
async fn told<T>(me: &mut Joined, wanted: impl Fn(ToSession) -> Option<T>) -> T {
    loop {
        let message = soon(me.inbox.recv()).await.expect("the inbox ended");
        if let Some(found) = wanted(message) {
            return found;
        }
    }
}

fn about(message: ToSession, wanted: impl Fn(&ParticipantInfo) -> bool) -> Option<ParticipantInfo> {
    let ToSession::Participants(infos) = message else { return None };
    infos.iter().find(|info| wanted(info)).cloned()
}

/// Where a room's events go.
fn sink(worker: &mpsc::Receiver<Input>, room: RoomId) -> tokio::sync::mpsc::Sender<FromWorker> {
    let sink = worker.try_iter().filter_map(|input| match input {
        Input::RoomSink(of, sink) if of == room => Some(sink),
        _ => None,
    });
    sink.last().expect("the room has a sink")
}

#[tokio::test]
async fn somebody_is_seen_and_heard_in_two_rooms() {
    let (media, worker) = Media::watched();
    let bridge = bridge_on(media, Metrics::new(), Config::default()).await;
    let anna = enter(&bridge, guest("rat", "anna")).await;
    let events = sink(&worker, anna.room.media().id());
    let mut berta = enter(&bridge, guest("saal", "berta")).await;
    let microphone = speak(&anna).await;
    forward(&bridge, &anna, "saal").await.unwrap();
    let copy = told(&mut berta, |message| about(message, |info| info.identity == "anna")).await;
    assert_eq!((copy.name.as_str(), &copy.kind_details[..]), ("ANNA", &[KindDetail::Forwarded as i32][..]));
    assert_ne!(copy.sid, anna.me.sid);
    assert_eq!(copy.attributes[FORWARDED_FROM], "rat");
    told(&mut berta, |message| (message == ToSession::TrackAvailable("TR_mic".into())).then_some(())).await;
    let lent = berta.room.track(&"TR_mic".into()).unwrap();
    assert_eq!((lent.media, lent.publisher.as_str(), lent.borrowed), (microphone, copy.sid.as_str(), true));
    // Once, however often.
    forward(&bridge, &anna, "saal").await.unwrap();
    assert_eq!(berta.room.state().participants().count(), 2);

    let speaks = |level: &[f32]| FromWorker::Speakers {
        room: anna.room.media().id(),
        speakers: level.iter().map(|level| (microphone, *level)).collect(),
    };
    events.send(speaks(&[0.5])).await.unwrap();
    let speakers = |message| match message {
        ToSession::Speakers(speakers) => Some((speakers[0].sid.clone(), speakers[0].active)),
        _ => None,
    };
    assert_eq!(told(&mut berta, speakers).await, (copy.sid.clone(), true));
    events.send(speaks(&[])).await.unwrap();
    assert_eq!(told(&mut berta, speakers).await, (copy.sid.clone(), false));

    // It is muted in its own room: once, by that one.
    let mute = Command::Mute { track: "TR_mic".into(), muted: true };
    anna.room.submit(Actor::Participant(anna.sid.clone()), mute).await.unwrap();
    told(&mut berta, |message| about(message, |info| info.tracks.iter().any(|track| track.muted))).await;
    let muted = worker.try_iter().filter(
        |input| matches!(input, Input::Command(Order::MuteTrack { track, muted: true }) if *track == microphone),
    );
    assert_eq!(muted.count(), 1);

    let describe = Command::Describe {
        participant: anna.sid.clone(),
        name: Some("Dr. Anna".to_owned()),
        metadata: None,
        attributes: Default::default(),
    };
    anna.room.submit(Actor::Admin, describe).await.unwrap();
    told(&mut berta, |message| about(message, |info| info.name == "Dr. Anna")).await;

    anna.room.clone().leave(anna.sid.clone(), DisconnectReason::ClientInitiated).await;
    let gone = told(&mut berta, |message| about(message, |info| info.disconnect_reason != 0)).await;
    assert_eq!((gone.sid.as_str(), berta.room.track(&"TR_mic".into())), (copy.sid.as_str(), None));
}

#[tokio::test]
async fn a_copy_can_be_put_out_and_its_original_stays() {
    let (media, _worker) = Media::watched();
    let bridge = bridge_on(media, Metrics::new(), Config::default()).await;
    let anna = enter(&bridge, guest("rat", "anna")).await;
    let mut berta = enter(&bridge, guest("saal", "berta")).await;
    for _ in 0..2 {
        forward(&bridge, &anna, "saal").await.unwrap();
        let remove = Command::Remove { identity: "anna".into(), revoke_before_ms: None };
        berta.room.submit(Actor::Admin, remove).await.unwrap();
        let gone = told(&mut berta, |message| about(message, |info| info.disconnect_reason != 0)).await;
        assert_eq!(gone.disconnect_reason(), DisconnectReason::ParticipantRemoved);
        assert!(anna.room.state().participant(&anna.sid).is_some());
    }
    // The same when the other room ends.
    forward(&bridge, &anna, "saal").await.unwrap();
    berta.room.submit(Actor::Admin, Command::End { reason: DisconnectReason::RoomDeleted }).await.unwrap();
    assert_eq!(forward(&bridge, &anna, "saal").await, Err(ForwardRefusal::NotOpen));
    assert!(anna.room.state().participant(&anna.sid).is_some());
}

#[tokio::test]
async fn who_cannot_be_forwarded_stays_where_it_is() {
    let (media, _worker) = Media::watched();
    let bridge = bridge_on(media, Metrics::new(), Config::default()).await;
    let anna = enter(&bridge, guest("rat", "anna")).await;
    assert_eq!(forward(&bridge, &anna, "saal").await, Err(ForwardRefusal::NotOpen));
    let namesake = enter(&bridge, guest("saal", "anna")).await;
    assert_eq!(forward(&bridge, &anna, "saal").await, Err(ForwardRefusal::Taken));
    assert!(namesake.room.state().participant(&namesake.sid).is_some());

    let hidden = guest("rat", "gast");
    let hidden = Claims { grants: VideoGrants { hidden: true, ..hidden.grants.clone() }, ..hidden };
    let hidden = enter(&bridge, hidden).await;
    assert_eq!(forward(&bridge, &hidden, "saal").await, Err(ForwardRefusal::Hidden));

    let _listener = enter(&bridge, guest("foyer", "berta")).await;
    forward(&bridge, &anna, "foyer").await.unwrap();
    let foyer = bridge.rooms.get("foyer").unwrap();
    let again = soon(start(&bridge.rooms, &bridge.peers, &foyer, "anna", "saal")).await;
    assert_eq!(again, Err(ForwardRefusal::Forwarded));
    anna.room.clone().leave(anna.sid.clone(), DisconnectReason::ClientInitiated).await;
    assert_eq!(forward(&bridge, &anna, "saal").await, Err(ForwardRefusal::NotHere));
}

/// The original goes on with its session at another bridge: so does its copy.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_follows_its_original_to_another_bridge() {
    let town = Town::new();
    let (one, two) = (Media::watched(), Media::watched());
    let eins = town.bridge("eins", one.0, Config::default()).await;
    let zwei = town.bridge("zwei", two.0, Config::default()).await;
    town.order("zwei", true).await;
    let anna = enter(&eins, guest("rat", "anna")).await;
    let mut berta = enter(&eins, guest("saal", "berta")).await;
    forward(&eins, &anna, "saal").await.unwrap();
    let first = told(&mut berta, |message| about(message, |info| info.identity == "anna")).await;

    town.order("zwei", false).await;
    let place = PlaceRequest {
        room: "rat".to_owned(),
        identity: "anna".to_owned(),
        join_id: "move".to_owned(),
        participant_sid: anna.sid.to_string(),
        avoid: vec!["eins".to_owned()],
        ..PlaceRequest::default()
    };
    // As soon as it has said that it takes people again.
    let placed = soon(async {
        loop {
            match eins.rooms.place(place.clone()).await {
                Ok(placed) => break placed,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let placed = placed.await;
    let there = soon(zwei.rooms.open(&placed.room.unwrap(), false, "")).await.unwrap();
    let _inbox = soon(there.take_over(anna.sid.clone(), "move".to_owned())).await.unwrap();
    let second =
        told(&mut berta, |message| about(message, |info| info.identity == "anna" && info.sid != first.sid)).await;
    let copy = berta.room.state().participant(&second.sid.as_str().into()).map(Arc::clone).unwrap();
    assert_eq!((copy.bridge.as_str(), copy.forwarded_from.clone()), ("zwei", Some(there.state().room().sid.clone())));
    assert_eq!(berta.room.state().participants().count(), 2, "the older copy is gone");
}
