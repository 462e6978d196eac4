//! Rooms as they run: their task, the real allocator, sessions' inboxes.

use std::time::Duration;

use livekit_protocol::data_packet::Value;
use livekit_protocol::leave_request::Action;
use livekit_protocol::{
    ClientInfo, ConnectionQuality, ConnectionQualityInfo, DataPacket, DisconnectReason, ParticipantInfo,
    ParticipantPermission, RoomConfiguration, TrackSource, UserPacket,
};
use prost::Message as _;
use ratssaal_process::metrics::Metrics;
use ratssaal_proto::allocator::v1::AppendRequest;
use tokio::sync::mpsc;

use super::{all_allowed, track};
use crate::Config;
use crate::config::RoomConfig;
use crate::media::control::{self, Channel, TrackId};
use crate::media::{Input, Media};
use crate::room::entry::{Event, encode};
use crate::room::ids::random_base62;
use crate::room::state::Presence;
use crate::room::*;
use crate::testing::{TestBridge, Town, bridge, bridge_on, guest, soon};
use crate::token::Claims;

pub(super) async fn join(bridge: &TestBridge, claims: Claims) -> Result<Joined, JoinRefusal> {
    let request =
        JoinRequest { claims, client: ClientInfo::default(), join_id: random_base62(12), forwarded_from: None };
    match soon(bridge.rooms.join(&request, &[])).await? {
        Way::Here(joined) => Ok(*joined),
        Way::There(placed) => panic!("{placed:?}"),
    }
}

pub(super) async fn enter(bridge: &TestBridge, room: &str, identity: &str) -> Joined {
    join(bridge, guest(room, identity)).await.unwrap()
}

/// The next message that is not a mere count of participants.
pub(super) async fn next(inbox: &mut mpsc::Receiver<ToSession>) -> Option<ToSession> {
    loop {
        match soon(inbox.recv()).await {
            Some(ToSession::Room(_)) => {}
            message => return message,
        }
    }
}

pub(super) async fn next_participant(inbox: &mut mpsc::Receiver<ToSession>) -> ParticipantInfo {
    match next(inbox).await {
        Some(ToSession::Participants(infos)) => infos[0].clone(),
        other => panic!("{other:?}"),
    }
}

pub(super) async fn publish(me: &Joined, sid: &str, source: TrackSource) {
    let (participant, track) = (me.sid.clone(), Box::new(track(sid, source)));
    let actor = Actor::Participant(participant.clone());
    me.room.submit(actor, Command::Publish { participant, track }).await.unwrap();
}

#[tokio::test]
async fn two_meet_and_part() {
    let bridge = bridge(Config::default()).await;
    let mut a = enter(&bridge, "rat", "a").await;
    assert_eq!((a.me.identity.as_str(), a.me.name.as_str(), a.others.len()), ("a", "A", 0));
    assert!(a.info.sid.starts_with("RM_") && a.me.sid.starts_with("PA_"));
    let b = enter(&bridge, "rat", "b").await;
    assert_eq!(b.others.iter().map(|info| info.identity.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(b.info.sid, a.info.sid);
    assert_eq!(next_participant(&mut a.inbox).await.identity, "b");

    let progress = Command::Progress { participant: b.sid.clone(), presence: Presence::Active };
    b.room.submit(Actor::Bridge, progress).await.unwrap();
    assert_eq!(next_participant(&mut a.inbox).await.state().as_str_name(), "ACTIVE");
    b.room.leave(b.sid, DisconnectReason::ClientInitiated).await;
    let gone = next_participant(&mut a.inbox).await;
    assert_eq!(
        (gone.state().as_str_name(), gone.disconnect_reason()),
        ("DISCONNECTED", DisconnectReason::ClientInitiated)
    );
    assert_eq!(a.room.state().participants().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_message_says_that_somebody_is_there_with_media() {
    let (media, _worker) = Media::watched();
    let bridge = bridge_on(media, Metrics::new(), Config::default()).await;
    let mut a = enter(&bridge, "rat", "a").await;
    let mut b = enter(&bridge, "rat", "b").await;
    let progress = Command::Progress { participant: b.sid.clone(), presence: Presence::Active };
    b.room.submit(Actor::Bridge, progress).await.unwrap();
    let _c = enter(&bridge, "rat", "c").await;
    let told = next_participant(&mut a.inbox).await;
    assert_eq!((told.identity.as_str(), told.state().as_str_name()), ("b", "ACTIVE"));
    // Also of one whose media does not flow; nobody is told of itself, or of who was there when it came.
    for inbox in [&mut a.inbox, &mut b.inbox] {
        let told = loop {
            let told = next_participant(inbox).await;
            if told.identity != "b" {
                break told;
            }
        };
        assert_eq!((told.identity.as_str(), told.state().as_str_name()), ("c", "JOINING"));
    }
}

#[tokio::test]
async fn many_join_the_same_room_at_once() {
    let bridge = bridge(Config::default()).await;
    let joins = (0..40).map(|n| join(&bridge, guest("rat", &format!("p{n}"))));
    let joined: Vec<_> = futures_util::future::join_all(joins).await.into_iter().map(Result::unwrap).collect();
    let sids: std::collections::BTreeSet<_> = joined.iter().map(|joined| joined.info.sid.clone()).collect();
    assert_eq!(sids.len(), 1, "one room, not several of the same name");
    assert_eq!(joined[0].room.state().participants().count(), 40);
    assert_eq!(bridge.rooms.all().len(), 1);
}

#[tokio::test]
async fn the_same_identity_replaces_its_older_session() {
    let bridge = bridge(Config::default()).await;
    let mut old = enter(&bridge, "rat", "a").await;
    let new = enter(&bridge, "rat", "a").await;
    let told = next(&mut old.inbox).await;
    let reason = DisconnectReason::DuplicateIdentity;
    assert_eq!(told, Some(ToSession::Leave { reason, action: Action::Disconnect }));
    assert_eq!(soon(old.inbox.recv()).await, None, "nothing follows");
    assert_ne!(new.sid, old.sid);
    assert_eq!(new.others, []);
}

#[tokio::test]
async fn a_limit_holds_however_many_come_at_once() {
    let room = RoomConfig { max_participants: 3, ..RoomConfig::default() };
    let bridge = bridge(Config { room, ..Config::default() }).await;
    let joins = (0..10).map(|n| join(&bridge, guest("rat", &format!("p{n}"))));
    let outcomes = futures_util::future::join_all(joins).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    assert!(outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).all(|e| matches!(e, JoinRefusal::Full { .. })));
    // Whoever leaves makes room.
    let first = outcomes.into_iter().flatten().next().unwrap();
    first.room.leave(first.sid, DisconnectReason::ClientInitiated).await;
    join(&bridge, guest("rat", "late")).await.unwrap();
}

#[tokio::test]
async fn media_follows_the_room() {
    let (media, worker) = Media::watched();
    let bridge = bridge_on(media, Metrics::new(), Config::default()).await;
    let a = enter(&bridge, "rat", "a").await;
    let mut b = enter(&bridge, "rat", "b").await;
    let media = TrackId::next();
    // Announced when it is published and has media, in whichever order.
    publish(&a, "TR_cam", TrackSource::Camera).await;
    assert_eq!(next_participant(&mut b.inbox).await.tracks[0].sid, "TR_cam");
    let local = |media, rids| {
        let (payload_types, backups) = (vec![], vec![]);
        LocalTrack { media, payload_types, rids, publisher: a.sid.clone(), relay: None, borrowed: false, backups }
    };
    a.room.publish_media(&"TR_cam".into(), local(media, vec!["q".into(), "h".into()]));
    assert_eq!(next(&mut b.inbox).await, Some(ToSession::TrackAvailable("TR_cam".into())));
    let microphone = TrackId::next();
    a.room.publish_media(&"TR_mic".into(), local(microphone, Vec::new()));
    publish(&a, "TR_mic", TrackSource::Microphone).await;
    assert_eq!(next_participant(&mut b.inbox).await.tracks.len(), 2);
    assert_eq!(next(&mut b.inbox).await, Some(ToSession::TrackAvailable("TR_mic".into())));
    let local = b.room.track(&"TR_cam".into()).unwrap();
    assert_eq!((local.media, local.rids.len(), local.publisher), (media, 2, a.sid.clone()));

    // A newcomer gets what is there already.
    let mut c = enter(&bridge, "rat", "c").await;
    let first = [next(&mut c.inbox).await, next(&mut c.inbox).await];
    assert_eq!(
        first,
        [Some(ToSession::TrackAvailable("TR_cam".into())), Some(ToSession::TrackAvailable("TR_mic".into()))]
    );

    // A moderator's mute stops the media at the worker.
    let mute = Command::Mute { track: "TR_mic".into(), muted: true };
    a.room.submit(Actor::Admin, mute).await.unwrap();
    let muted = worker.try_iter().any(|input| match input {
        Input::Command(control::Command::MuteTrack { track, muted }) => muted && track == microphone,
        _ => false,
    });
    assert!(muted, "the worker was not told");

    // What is gone is not available.
    a.room.clone().leave(a.sid.clone(), DisconnectReason::ClientInitiated).await;
    let mut unavailable = Vec::new();
    while unavailable.len() < 2 {
        if let Some(ToSession::TrackUnavailable(track)) = next(&mut c.inbox).await {
            unavailable.push(track.to_string());
        }
    }
    assert_eq!(unavailable, ["TR_cam", "TR_mic"]);
    assert_eq!(c.room.track(&"TR_cam".into()), None);
}

/// A session reports its own quality.
fn rate(me: &Joined, quality: ConnectionQuality, score: f32) {
    let participant_sid = me.sid.to_string();
    me.room.report_quality(ConnectionQualityInfo { participant_sid, quality: quality.into(), score });
}

/// The qualities that are told next.
async fn qualities(inbox: &mut mpsc::Receiver<ToSession>) -> Vec<(ConnectionQuality, f32)> {
    loop {
        if let ToSession::Quality(infos) = soon(inbox.recv()).await.unwrap() {
            return infos.iter().map(|info| (info.quality(), info.score)).collect();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn qualities_are_told_when_they_change_and_to_who_comes() {
    let (media, _worker) = Media::watched();
    let bridge = bridge_on(media, Metrics::new(), Config::default()).await;
    let a = enter(&bridge, "rat", "a").await;
    let mut b = enter(&bridge, "rat", "b").await;
    rate(&a, ConnectionQuality::Excellent, 4.4);
    assert_eq!(qualities(&mut b.inbox).await, [(ConnectionQuality::Excellent, 4.4)]);
    // The clock's next tick has nothing to tell, the one after it has.
    rate(&a, ConnectionQuality::Excellent, 4.35);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let mut c = enter(&bridge, "rat", "c").await;
    assert_eq!(qualities(&mut c.inbox).await, [(ConnectionQuality::Excellent, 4.4)], "at once");
    rate(&a, ConnectionQuality::Good, 3.2);
    for inbox in [&mut b.inbox, &mut c.inbox] {
        assert_eq!(qualities(inbox).await, [(ConnectionQuality::Good, 3.2)]);
    }
    rate(&a, ConnectionQuality::Good, 2.9);
    assert_eq!(qualities(&mut b.inbox).await, [(ConnectionQuality::Good, 2.9)], "much worse, though called the same");
}

#[tokio::test(start_paused = true)]
async fn the_quality_of_who_has_become_hidden_is_not_told_to_who_comes() {
    let (media, _worker) = Media::watched();
    let bridge = bridge_on(media, Metrics::new(), Config::default()).await;
    let a = enter(&bridge, "rat", "a").await;
    let mut b = enter(&bridge, "rat", "b").await;
    rate(&a, ConnectionQuality::Excellent, 4.4);
    rate(&b, ConnectionQuality::Excellent, 4.2);
    let told = async |inbox: &mut _| qualities(inbox).await.into_iter().map(|(_, score)| score).collect::<Vec<_>>();
    let mut before = told(&mut b.inbox).await;
    before.sort_by(f32::total_cmp);
    assert_eq!(before, [4.2, 4.4]);
    let permit = |hidden| {
        let permission = ParticipantPermission { hidden, ..all_allowed() };
        a.room.submit(Actor::Admin, Command::Permit { participant: a.sid.clone(), permission })
    };
    permit(true).await.unwrap();
    let mut c = enter(&bridge, "rat", "c").await;
    assert_eq!(told(&mut c.inbox).await, [4.2]);
    // Who is seen again is rated anew, for all.
    permit(false).await.unwrap();
    rate(&a, ConnectionQuality::Excellent, 4.4);
    for inbox in [&mut b.inbox, &mut c.inbox] {
        assert_eq!(told(inbox).await, [4.4]);
    }
}

#[tokio::test]
async fn a_session_that_does_not_read_is_put_out_and_nobody_else_waits() {
    let bridge = bridge(Config::default()).await;
    let slow = enter(&bridge, "rat", "slow").await;
    let mut quick = enter(&bridge, "rat", "quick").await;
    let reader = tokio::spawn(async move {
        loop {
            let info = next_participant(&mut quick.inbox).await;
            if info.state().as_str_name() == "DISCONNECTED" {
                return info.identity;
            }
        }
    });
    let mut writer = enter(&bridge, "rat", "writer").await;
    let (room, sid) = (writer.room.clone(), writer.sid.clone());
    tokio::spawn(async move { while writer.inbox.recv().await.is_some() {} });
    for n in 0..=limits::INBOX {
        let name = Command::Describe {
            participant: sid.clone(),
            name: Some(n.to_string()),
            metadata: None,
            attributes: std::collections::BTreeMap::new(),
        };
        room.submit(Actor::Admin, name).await.unwrap();
    }
    assert_eq!(soon(reader).await.unwrap(), "slow");
    assert!(room.state().by_identity("slow").is_none());
    // Once, and whoever reads is not counted.
    assert_eq!(bridge.rooms.metrics().slow_sessions.get(), 1);
    drop(slow);
}

#[tokio::test]
async fn an_empty_room_ends_and_its_name_is_free_again() {
    let config = RoomConfig { departure_timeout: Duration::from_millis(50), ..RoomConfig::default() };
    let quick = bridge_with(config).await;
    let a = enter(&quick, "rat", "a").await;
    let (room, first) = (a.room.clone(), a.info.sid.clone());
    a.room.leave(a.sid, DisconnectReason::ClientInitiated).await;
    soon(async {
        while quick.rooms.get("rat").is_some() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(room.state().ended(), Some(DisconnectReason::RoomClosed));
    let again = enter(&quick, "rat", "a").await;
    assert_ne!(again.info.sid, first);
}

async fn bridge_with(room: RoomConfig) -> TestBridge {
    bridge(Config { room, ..Config::default() }).await
}

#[tokio::test]
async fn a_room_is_set_up_by_the_token_that_opens_it() {
    let bridge = bridge(Config::default()).await;
    let room_config = Some(RoomConfiguration {
        metadata: "Sitzung".into(),
        max_participants: 2,
        departure_timeout: 7,
        ..RoomConfiguration::default()
    });
    let a = join(&bridge, Claims { room_config, ..guest("rat", "a") }).await.unwrap();
    assert_eq!((a.info.metadata.as_str(), a.info.max_participants, a.info.departure_timeout), ("Sitzung", 2, 7));
}

#[tokio::test]
async fn who_may_not_come_in_is_told_why() {
    let room = RoomConfig { auto_create: false, ..RoomConfig::default() };
    let bridge = bridge_with(room).await;
    assert_eq!(join(&bridge, guest("", "a")).await.unwrap_err(), JoinRefusal::NoGrant);
    assert_eq!(join(&bridge, guest("rat", "a")).await.unwrap_err(), JoinRefusal::UnknownRoom);
    bridge.rooms.create("rat", None, "", true).await.unwrap().unwrap();
    join(&bridge, guest("rat", "a")).await.unwrap();
    let long = Claims { name: "x".repeat(300), ..guest("rat", "b") };
    let refused = join(&bridge, long).await.unwrap_err();
    assert!(matches!(refused, JoinRefusal::Refused(Refusal::TooLarge { .. })), "{refused}");
}

#[tokio::test]
async fn entries_of_others_are_applied_in_the_logs_order() {
    let bridge = bridge(Config::default()).await;
    let mut a = enter(&bridge, "rat", "a").await;
    // Another bridge appends; then a command here comes second, reads on and is carried out after it.
    let event = ratssaal_proto::room::v1::MetadataChanged { metadata: "theirs".into() };
    let request = AppendRequest {
        room: "rat".into(),
        room_sid: a.info.sid.clone(),
        expected: a.room.state().sequence(),
        entries: vec![encode(&Event::MetadataChanged(event)), b"\xa2\x06\x01x".as_slice().into()],
        ..AppendRequest::default()
    };
    bridge.rooms.allocator().append(request).await.unwrap();
    let ours = Command::DescribeRoom { metadata: "ours".into() };
    a.room.submit(Actor::Admin, ours).await.unwrap();
    // What is said again when only a count changed does not matter here.
    let mut told = Vec::new();
    while told.len() < 2 {
        if let Some(ToSession::Room(room)) = soon(a.inbox.recv()).await
            && !room.metadata.is_empty()
            && told.last() != Some(&room.metadata)
        {
            told.push(room.metadata.clone());
        }
    }
    assert_eq!(told, ["theirs", "ours"]);
    assert_eq!(a.room.state().carried().len(), 1, "the kind nobody here knows");
}

#[tokio::test]
async fn a_log_longer_than_its_snapshot_distance_is_read_by_a_late_comer() {
    let bridge = bridge(Config::default()).await;
    let a = enter(&bridge, "rat", "a").await;
    for n in 0..600 {
        let metadata = n.to_string();
        a.room.submit(Actor::Admin, Command::DescribeRoom { metadata }).await.unwrap();
    }
    // Another bridge, as far as the log is concerned.
    let mut tail = bridge.rooms.allocator();
    let request = ratssaal_proto::allocator::v1::TailRequest { room: "rat".into(), ..Default::default() };
    let mut tail = tail.tail(request).await.unwrap().into_inner();
    let mut kinds = Vec::new();
    use ratssaal_proto::allocator::v1::tail_frame::Frame;
    while let Some(frame) = soon(tail.message()).await.unwrap() {
        match frame.frame.unwrap() {
            Frame::Opened(_) => kinds.push("opened"),
            Frame::Snapshot(snapshot) => {
                kinds.push("snapshot");
                assert!(snapshot.sequence > 256, "{}", snapshot.sequence);
            }
            Frame::Entries(_) => kinds.push("entries"),
            Frame::Closed(_) => kinds.push("closed"),
        }
    }
    assert_eq!(&kinds[..2], ["opened", "snapshot"]);
}

#[tokio::test]
async fn when_the_server_stops_everybody_is_told() {
    let bridge = bridge(Config::default()).await;
    let mut a = enter(&bridge, "rat", "a").await;
    let mut b = enter(&bridge, "haus", "b").await;
    assert!(bridge.health.ready().ok, "{}", bridge.health.ready().text);
    bridge.stop.cancel();
    let reason = DisconnectReason::ServerShutdown;
    let goodbye = Some(ToSession::Leave { reason, action: Action::Disconnect });
    for inbox in [&mut a.inbox, &mut b.inbox] {
        assert_eq!(next(inbox).await, goodbye);
        assert_eq!(soon(inbox.recv()).await, None);
    }
    soon(bridge.service).await.unwrap();
    assert!(bridge.rooms.all().is_empty());
}

/// What is said to somebody who has just come on another bridge waits for the relay that is yet to be connected.
#[tokio::test]
async fn nothing_said_to_a_new_bridge_is_lost() {
    let town = Town::new();
    // Relays need addresses.
    let media = || Media::watched_as("00", vec![([127, 0, 0, 1], 1).into()]);
    let ((one, _one), (two, _two)) = (media(), media());
    let eins = town.bridge("eins", one, Config::default()).await;
    let anna = enter(&eins, "rat", "anna").await;
    let zwei = town.bridge("zwei", two, Config::default()).await;
    town.order("eins", true).await;
    let talk = async {
        let mut applied = anna.room.applied();
        let berta = |room: &RoomHandle| room.state().participants().any(|who| who.identity.as_str() == "berta");
        while !berta(&anna.room) {
            soon(applied.changed()).await.unwrap();
        }
        for number in 0..10u8 {
            let user = UserPacket { payload: vec![number], ..UserPacket::default() };
            let packet = DataPacket { value: Some(Value::User(user)), ..DataPacket::default() };
            anna.room.route_data(&anna.sid, packet, Channel::Reliable);
        }
    };
    let (mut berta, ()) = tokio::join!(enter(&zwei, "rat", "berta"), talk);
    let mut heard = Vec::new();
    while heard.len() < 10 {
        if let Some(ToSession::Data { bytes, .. }) = soon(berta.inbox.recv()).await
            && let Some(Value::User(user)) = DataPacket::decode(bytes).unwrap().value
        {
            heard.extend(user.payload);
        }
    }
    assert_eq!(heard, (0..10).collect::<Vec<u8>>());
}
