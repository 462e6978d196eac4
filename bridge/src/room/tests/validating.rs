//! Who may do what, as tables.

use livekit_protocol::{DisconnectReason, ParticipantPermission, SubscriptionPermission, TrackPermission, TrackSource};

use super::*;
use crate::room::ids::TrackSid;
use crate::room::limits;
use crate::room::state::Presence;

const NOT_ALLOWED: &str = "not allowed";

fn as_participant(identity: &str) -> Actor {
    Actor::Participant(sid(identity))
}

/// `Ok` or the beginning of the refusal's text.
fn outcome(room: &Room, actor: &Actor, command: &Command) -> Result<usize, String> {
    validate(&room.state, command, actor, 0).map(|events| events.len()).map_err(|refusal| refusal.to_string())
}

fn assert_refused(room: &Room, actor: &Actor, command: &Command, begins: &str) {
    let outcome = outcome(room, actor, command);
    assert!(outcome.as_ref().is_err_and(|text| text.starts_with(begins)), "{actor:?} {command:?}: {outcome:?}");
}

#[test]
fn each_command_has_its_actors() {
    let mut room = Room::of(&["a", "b"]);
    room.publish("a", "TR_a", TrackSource::Camera);
    let a = sid("a");
    let track: TrackSid = "TR_a".into();
    let own = || as_participant("a");
    let other = || as_participant("b");
    let commands: Vec<(Command, [bool; 4])> = vec![
        // (command about a, [a itself, another participant, an administrator, the bridge])
        (Command::Join(Box::new(newcomer("c"))), [false, false, false, true]),
        (Command::Progress { participant: a.clone(), presence: Presence::Active }, [true, false, false, true]),
        (
            Command::Leave { participant: a.clone(), reason: DisconnectReason::ClientInitiated },
            [true, false, false, true],
        ),
        (Command::Publish { participant: a.clone(), track: Box::new(track_of("TR_new")) }, [true, false, false, true]),
        (Command::UpdateTrack { track: Box::new(track_of("TR_a")) }, [true, false, false, true]),
        (Command::Unpublish { track: track.clone() }, [true, false, true, true]),
        (Command::Mute { track: track.clone(), muted: true }, [true, false, true, true]),
        (describe(&a, "Anna"), [true, false, true, true]),
        (
            Command::Permit { participant: a.clone(), permission: ParticipantPermission::default() },
            [false, false, true, false],
        ),
        (
            Command::AllowSubscribers { participant: a.clone(), permission: SubscriptionPermission::default() },
            [true, false, false, true],
        ),
        (Command::Remove { identity: "a".into(), revoke_before_ms: None }, [false, false, true, false]),
        (Command::DescribeRoom { metadata: "x".into() }, [false, false, true, false]),
        (Command::End { reason: DisconnectReason::RoomDeleted }, [false, false, true, true]),
    ];
    for (command, allowed) in commands {
        for (actor, allowed) in [own(), other(), Actor::Admin, Actor::Bridge].iter().zip(allowed) {
            let outcome = outcome(&room, actor, &command);
            assert_eq!(outcome.is_ok(), allowed, "{actor:?} {command:?}: {outcome:?}");
            if let Err(text) = outcome {
                assert!(text.starts_with(NOT_ALLOWED), "{text}");
            }
        }
    }
    // Nobody who is not there.
    let gone = Command::Progress { participant: sid("nobody"), presence: Presence::Active };
    assert_refused(&room, &Actor::Bridge, &gone, "no such participant");
}

fn track_of(sid: &str) -> TrackInfo {
    track(sid, TrackSource::Camera)
}

fn describe(participant: &ParticipantSid, name: &str) -> Command {
    Command::Describe {
        participant: participant.clone(),
        name: Some(name.to_owned()),
        metadata: None,
        attributes: BTreeMap::new(),
    }
}

#[test]
fn publishing_follows_the_permission() {
    use TrackSource::{Camera, Microphone, ScreenShare};
    let permission = |can_publish, sources: &[TrackSource], hidden| ParticipantPermission {
        can_publish,
        can_publish_sources: sources.iter().map(|source| *source as i32).collect(),
        hidden,
        ..all_allowed()
    };
    for (permission, camera, microphone, screen) in [
        (permission(true, &[], false), true, true, true),
        (permission(false, &[], false), false, false, false),
        (permission(true, &[Microphone], false), false, true, false),
        (permission(true, &[Camera, ScreenShare], false), true, false, true),
        (permission(false, &[Camera], false), false, false, false),
        (permission(true, &[], true), false, false, false),
    ] {
        let mut room = Room::new();
        room.join(Newcomer { permission: permission.clone(), ..newcomer("a") });
        for (source, allowed) in [(Camera, camera), (Microphone, microphone), (ScreenShare, screen)] {
            let track = Box::new(track("TR_1", source));
            let command = Command::Publish { participant: sid("a"), track };
            let outcome = outcome(&room, &as_participant("a"), &command);
            assert_eq!(outcome.is_ok(), allowed, "{permission:?} {source:?}: {outcome:?}");
        }
    }
}

#[test]
fn losing_a_permission_unpublishes_what_it_covered() {
    let mut room = Room::of(&["a"]);
    room.publish("a", "TR_cam", TrackSource::Camera);
    room.publish("a", "TR_mic", TrackSource::Microphone);
    let sources = vec![TrackSource::Microphone as i32];
    let permission = ParticipantPermission { can_publish_sources: sources, ..all_allowed() };
    room.must(&Actor::Admin, Command::Permit { participant: sid("a"), permission });
    let a = room.state.participant(&sid("a")).unwrap();
    assert_eq!(a.tracks.iter().map(|track| track.sid.as_str()).collect::<Vec<_>>(), ["TR_mic"]);
    assert!(room.state.track(&"TR_cam".into()).is_none());
}

#[test]
fn describing_oneself_needs_the_grant() {
    let mut room = Room::new();
    let permission = ParticipantPermission { can_update_metadata: false, ..all_allowed() };
    room.join(Newcomer { permission, ..newcomer("a") });
    assert_refused(&room, &as_participant("a"), &describe(&sid("a"), "x"), NOT_ALLOWED);
    assert_eq!(outcome(&room, &Actor::Admin, &describe(&sid("a"), "x")), Ok(1));
    assert_eq!(outcome(&room, &Actor::Admin, &describe(&sid("a"), "A")), Ok(0), "no entry for no change");
}

#[test]
fn an_empty_attribute_is_removed() {
    let mut room = Room::of(&["a"]);
    let set = |pairs: &[(&str, &str)]| Command::Describe {
        participant: sid("a"),
        name: None,
        metadata: None,
        attributes: pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    };
    room.must(&as_participant("a"), set(&[("hand", "up"), ("lang", "de")]));
    room.must(&as_participant("a"), set(&[("hand", "")]));
    let attributes = &room.state.participant(&sid("a")).unwrap().attributes;
    assert_eq!(attributes.iter().collect::<Vec<_>>(), [(&"lang".to_owned(), &"de".to_owned())]);
    assert_eq!(outcome(&room, &as_participant("a"), &set(&[("hand", "")])), Ok(0));
}

#[test]
fn muting_is_for_both_unmuting_only_for_the_publisher() {
    let mut room = Room::of(&["a"]);
    room.publish("a", "TR_mic", TrackSource::Microphone);
    let mute = |muted| Command::Mute { track: "TR_mic".into(), muted };
    assert_eq!(outcome(&room, &Actor::Admin, &mute(false)), Ok(0), "not muted anyway");
    room.must(&Actor::Admin, mute(true));
    assert_eq!(outcome(&room, &Actor::Admin, &mute(true)), Ok(0));
    assert_refused(&room, &Actor::Admin, &mute(false), "nobody is unmuted by somebody else");
    room.must(&as_participant("a"), mute(false));
    assert!(!room.state.track(&"TR_mic".into()).unwrap().1.muted);
}

#[test]
fn a_track_keeps_what_it_is() {
    let mut room = Room::of(&["a"]);
    room.publish("a", "TR_1", TrackSource::Camera);
    let update = |track| Command::UpdateTrack { track: Box::new(track) };
    assert_refused(
        &room,
        &as_participant("a"),
        &update(track("TR_1", TrackSource::Microphone)),
        "a track keeps its type",
    );
    room.must(&Actor::Admin, Command::Mute { track: "TR_1".into(), muted: true });
    let changed = TrackInfo { width: 1280, muted: false, ..track("TR_1", TrackSource::Camera) };
    room.must(&as_participant("a"), update(changed));
    let (_, info) = room.state.track(&"TR_1".into()).unwrap();
    assert_eq!((info.width, info.muted), (1280, true), "an update is no way around a mute");
}

#[test]
fn sizes_are_bounded() {
    let room = Room::of(&["a"]);
    let long = |len: usize| "x".repeat(len);
    let own = as_participant("a");
    let joining = |newcomer: Newcomer| Command::Join(Box::new(newcomer));
    let attributes = |len| BTreeMap::from([("k".to_owned(), long(len))]);
    let describe = |name: Option<String>, metadata: Option<String>, attributes| Command::Describe {
        participant: sid("a"),
        name,
        metadata,
        attributes,
    };
    let allowed: Vec<_> = (0..2000)
        .map(|n| TrackPermission { participant_identity: format!("somebody-{n}"), ..TrackPermission::default() })
        .collect();
    let permission = SubscriptionPermission { all_participants: false, track_permissions: allowed };
    let big_track = TrackInfo { name: long(limits::TRACK), ..track("TR_1", TrackSource::Camera) };
    let none = BTreeMap::new;
    for (actor, command) in [
        (Actor::Bridge, joining(Newcomer { identity: long(limits::IDENTITY + 1).into(), ..newcomer("b") })),
        (Actor::Bridge, joining(Newcomer { name: long(limits::NAME + 1), ..newcomer("b") })),
        (Actor::Bridge, joining(Newcomer { metadata: long(limits::METADATA + 1), ..newcomer("b") })),
        (Actor::Bridge, joining(Newcomer { attributes: attributes(limits::ATTRIBUTES), ..newcomer("b") })),
        (own.clone(), describe(Some(long(limits::NAME + 1)), None, none())),
        (own.clone(), describe(None, Some(long(limits::METADATA + 1)), none())),
        (own.clone(), describe(None, None, attributes(limits::ATTRIBUTES))),
        (own.clone(), Command::AllowSubscribers { participant: sid("a"), permission }),
        (own.clone(), Command::Publish { participant: sid("a"), track: Box::new(big_track) }),
        (Actor::Admin, Command::DescribeRoom { metadata: long(limits::METADATA + 1) }),
    ] {
        let outcome = validate(&room.state, &command, &actor, 0);
        assert!(matches!(outcome, Err(Refusal::TooLarge { .. })), "{outcome:?}");
    }
}

#[test]
fn one_participant_publishes_a_bounded_number_of_tracks() {
    let mut room = Room::of(&["a"]);
    for n in 0..limits::TRACKS {
        room.publish("a", &format!("TR_{n}"), TrackSource::Camera);
    }
    let track = Box::new(track("TR_more", TrackSource::Camera));
    let more = Command::Publish { participant: sid("a"), track };
    assert_refused(&room, &as_participant("a"), &more, "the number of published tracks is too large");
}

#[test]
fn a_largest_entry_fits_the_allocator() {
    // Few long attributes or many short ones.
    for (key, value) in [(1, 11_000), (4, 1), (8, 8), (100, 300)] {
        let pairs = limits::ATTRIBUTES / (key + value + limits::ATTRIBUTE_FRAMING);
        let newcomer = Newcomer {
            identity: "i".repeat(limits::IDENTITY).into(),
            name: "n".repeat(limits::NAME),
            metadata: "m".repeat(limits::METADATA),
            attributes: (0..pairs).map(|n| (format!("{n:0key$}"), "v".repeat(value))).collect(),
            ..newcomer("b")
        };
        let events = validate(&Room::new().state, &Command::Join(Box::new(newcomer)), &Actor::Bridge, 0).unwrap();
        let largest = events.iter().map(|event| encode(event).len()).max().unwrap();
        assert!(largest <= 64 * 1024, "{largest} bytes with attributes of {key} and {value}");
    }
}

#[test]
fn a_revoked_token_does_not_open_the_room_again() {
    let mut room = Room::of(&["a"]);
    room.must(&Actor::Admin, Command::Remove { identity: "a".into(), revoke_before_ms: Some(5000) });
    assert!(room.state.by_identity("a").is_none());
    let join =
        |issued| Command::Join(Box::new(Newcomer { token_issued_ms: issued, sid: "PA_again".into(), ..newcomer("a") }));
    for (issued, allowed) in [(0, false), (4999, false), (5000, true)] {
        let outcome = validate(&room.state, &join(issued), &Actor::Bridge, 0);
        assert_eq!(outcome.is_ok(), allowed, "{issued}: {outcome:?}");
    }
    let nobody = Command::Remove { identity: "x".into(), revoke_before_ms: None };
    assert_refused(&room, &Actor::Admin, &nobody, "no such participant");
}

#[test]
fn nothing_happens_in_a_room_that_has_ended() {
    let mut room = Room::of(&["a"]);
    room.must(&Actor::Admin, Command::End { reason: DisconnectReason::RoomDeleted });
    assert_eq!(room.state.ended(), Some(DisconnectReason::RoomDeleted));
    assert_eq!(room.state.participants().count(), 0);
    assert_refused(&room, &Actor::Bridge, &Command::Join(Box::new(newcomer("b"))), "the room has ended");
}
