//! What participants are told, entry by entry.

use livekit_protocol::leave_request::Action;
use livekit_protocol::participant_info::State as Presence;
use livekit_protocol::{DisconnectReason, ParticipantPermission, SubscriptionPermission, TrackPermission, TrackSource};

use super::*;
use crate::room::announce::{Audience, catch_up, welcome};
use crate::room::session::ToSession;

fn only(identity: &str) -> Audience {
    Audience::Only(sid(identity))
}

fn but(identity: &str) -> Audience {
    Audience::Except(sid(identity))
}

/// The announcements as (audience, what), with participants as `identity:STATE:tracks`.
fn told(announcements: &[Announcement]) -> Vec<(Audience, String)> {
    let text = |message: &ToSession| match message {
        ToSession::Participants(infos) => {
            let info = |info: &livekit_protocol::ParticipantInfo| {
                let tracks: Vec<_> = info.tracks.iter().map(|track| track.sid.as_str()).collect();
                format!("{}:{}:{}", info.identity, info.state().as_str_name(), tracks.join(","))
            };
            infos.iter().map(info).collect::<Vec<_>>().join(" ")
        }
        ToSession::TrackAvailable(track) => format!("+{track}"),
        ToSession::TrackUnavailable(track) => format!("-{track}"),
        ToSession::SubscriptionPermission { track, allowed, .. } => format!("{track} allowed={allowed}"),
        ToSession::Leave { reason, action } => format!("leave {} {action:?}", reason.as_str_name()),
        ToSession::TrackUnpublished(track) => format!("unpublished {track}"),
        ToSession::SetMuted { track, muted } => format!("{track} muted={muted}"),
        ToSession::Permission(_) => "permission".to_owned(),
        ToSession::Room(room) => format!("room {}", room.metadata),
        other => format!("{other:?}"),
    };
    announcements.iter().map(|announcement| (announcement.to.clone(), text(&announcement.message))).collect()
}

fn expect(announcements: &[Announcement], expected: &[(Audience, &str)]) {
    let expected: Vec<_> = expected.iter().map(|(to, text)| (to.clone(), (*text).to_owned())).collect();
    assert_eq!(told(announcements), expected);
}

fn hidden(identity: &str) -> Newcomer {
    Newcomer { permission: ParticipantPermission { hidden: true, ..all_allowed() }, ..newcomer(identity) }
}

#[test]
fn joining_and_leaving() {
    let mut room = Room::of(&["a"]);
    room.join(newcomer("b"));
    expect(&room.told, &[(but("b"), "b:JOINING:")]);
    room.publish("b", "TR_b", TrackSource::Camera);
    let reason = DisconnectReason::ClientInitiated;
    room.must(&Actor::Bridge, Command::Leave { participant: sid("b"), reason });
    // The track is gone with its publisher, which those who could have it learn first.
    expect(
        &room.told,
        &[(only("a"), "-TR_b"), (but("b"), "b:DISCONNECTED:"), (only("b"), "leave CLIENT_INITIATED Disconnect")],
    );
}

#[test]
fn a_newer_session_of_the_same_identity_replaces_the_older() {
    let mut room = Room::of(&["a", "b"]);
    room.join(Newcomer { sid: "PA_b2".into(), ..newcomer("b") });
    expect(
        &room.told,
        &[
            (but("b"), "b:DISCONNECTED:"),
            (only("b"), "leave DUPLICATE_IDENTITY Disconnect"),
            (Audience::Except("PA_b2".into()), "b:JOINING:"),
        ],
    );
    assert_eq!(room.state.by_identity("b").unwrap().sid.as_str(), "PA_b2");
    assert_eq!(room.state.participants().count(), 2);
}

#[test]
fn tracks_come_and_go() {
    let mut room = Room::of(&["a", "b"]);
    let deaf = ParticipantPermission { can_subscribe: false, ..all_allowed() };
    room.join(Newcomer { permission: deaf, ..newcomer("c") });
    room.publish("a", "TR_a", TrackSource::Camera);
    expect(&room.told, &[(but("a"), "a:JOINING:TR_a"), (only("b"), "+TR_a")]);
    let own = Actor::Participant(sid("a"));
    room.must(&own, Command::Mute { track: "TR_a".into(), muted: true });
    expect(&room.told, &[(but("a"), "a:JOINING:TR_a")]);
    room.must(&own, Command::Unpublish { track: "TR_a".into() });
    expect(&room.told, &[(only("b"), "-TR_a"), (but("a"), "a:JOINING:"), (only("a"), "unpublished TR_a")]);
}

#[test]
fn somebody_who_is_muted_by_an_administrator_is_told() {
    let mut room = Room::of(&["a", "b"]);
    room.publish("a", "TR_a", TrackSource::Microphone);
    room.must(&Actor::Admin, Command::Mute { track: "TR_a".into(), muted: true });
    expect(&room.told, &[(but("a"), "a:JOINING:TR_a"), (only("a"), "TR_a muted=true")]);
}

#[test]
fn a_hidden_participant_is_told_of_itself_only() {
    let mut room = Room::of(&["a"]);
    room.join(hidden("h"));
    expect(&room.told, &[]);
    let presence = crate::room::state::Presence::Active;
    room.must(&Actor::Bridge, Command::Progress { participant: sid("h"), presence });
    expect(&room.told, &[(only("h"), "h:ACTIVE:")]);
    assert_eq!(room.state.others(&sid("a")), []);
    assert_eq!(room.state.others(&sid("h")).len(), 1);
    let leave = Command::Leave { participant: sid("h"), reason: DisconnectReason::ClientInitiated };
    room.must(&Actor::Bridge, leave);
    expect(&room.told, &[(only("h"), "leave CLIENT_INITIATED Disconnect")]);
}

#[test]
fn becoming_hidden_looks_like_leaving_and_the_way_back_like_coming() {
    let mut room = Room::of(&["a", "b"]);
    room.publish("b", "TR_b", TrackSource::Camera);
    let permit = |hidden| Command::Permit {
        participant: sid("b"),
        permission: ParticipantPermission { hidden, ..all_allowed() },
    };
    room.must(&Actor::Admin, permit(true));
    expect(
        &room.told,
        &[
            (only("a"), "-TR_b"),
            (but("b"), "b:JOINING:"),
            (only("b"), "unpublished TR_b"),
            (only("b"), "permission"),
            (but("b"), "b:DISCONNECTED:"),
            (only("b"), "b:JOINING:"),
        ],
    );
    room.must(&Actor::Admin, permit(false));
    expect(&room.told, &[(only("b"), "permission"), (Audience::All, "b:JOINING:")]);
}

#[test]
fn the_right_to_subscribe_comes_and_goes() {
    let mut room = Room::of(&["a", "b"]);
    room.publish("a", "TR_a", TrackSource::Camera);
    let permit = |can_subscribe| Command::Permit {
        participant: sid("b"),
        permission: ParticipantPermission { can_subscribe, ..all_allowed() },
    };
    room.must(&Actor::Admin, permit(false));
    expect(&room.told, &[(only("b"), "permission"), (Audience::All, "b:JOINING:"), (only("b"), "-TR_a")]);
    room.must(&Actor::Admin, permit(true));
    expect(&room.told, &[(only("b"), "permission"), (Audience::All, "b:JOINING:"), (only("b"), "+TR_a")]);
}

#[test]
fn a_publisher_says_who_may_subscribe() {
    let mut room = Room::of(&["a", "b", "c"]);
    room.publish("a", "TR_1", TrackSource::Camera);
    let allow = |track_permissions| Command::AllowSubscribers {
        participant: sid("a"),
        permission: SubscriptionPermission { all_participants: false, track_permissions },
    };
    let own = Actor::Participant(sid("a"));
    let b_only = TrackPermission { participant_identity: "b".into(), all_tracks: true, ..TrackPermission::default() };
    room.must(&own, allow(vec![b_only.clone()]));
    expect(&room.told, &[(only("c"), "TR_1 allowed=false"), (only("c"), "-TR_1")]);

    // A new track is withheld too, and said to be; a newcomer learns what it may not have.
    room.publish("a", "TR_2", TrackSource::Microphone);
    expect(&room.told, &[(but("a"), "a:JOINING:TR_1,TR_2"), (only("c"), "TR_2 allowed=false"), (only("b"), "+TR_2")]);
    room.join(newcomer("d"));
    let greeting = welcome(&room.state, room.state.participant(&sid("d")).unwrap());
    expect(&greeting, &[(only("d"), "TR_1 allowed=false"), (only("d"), "TR_2 allowed=false")]);
    let greeting = welcome(&room.state, room.state.participant(&sid("b")).unwrap());
    expect(&greeting, &[(only("b"), "+TR_1"), (only("b"), "+TR_2")]);

    // By sid and for one track.
    let sids = vec!["TR_1".to_owned()];
    let c_one = TrackPermission { participant_sid: "PA_c".into(), track_sids: sids, ..TrackPermission::default() };
    room.must(&own, allow(vec![b_only, c_one]));
    expect(&room.told, &[(only("c"), "TR_1 allowed=true"), (only("c"), "+TR_1")]);
}

#[test]
fn the_end_is_told_to_all() {
    let mut room = Room::of(&["a", "b"]);
    room.must(&Actor::Admin, Command::End { reason: DisconnectReason::RoomDeleted });
    expect(&room.told, &[(Audience::All, "leave ROOM_DELETED Disconnect")]);
}

#[test]
fn the_rooms_metadata_is_told_to_all() {
    let mut room = Room::of(&["a"]);
    room.must(&Actor::Admin, Command::DescribeRoom { metadata: "Tagesordnung".into() });
    expect(&room.told, &[(Audience::All, "room Tagesordnung")]);
}

#[test]
fn a_jump_over_several_entries_tells_the_difference() {
    let mut room = Room::of(&["a", "b"]);
    room.publish("b", "TR_b", TrackSource::Camera);
    let before = room.state.clone();
    let reason = DisconnectReason::ClientInitiated;
    room.must(&Actor::Bridge, Command::Leave { participant: sid("b"), reason });
    room.join(newcomer("c"));
    room.publish("c", "TR_c", TrackSource::Camera);
    expect(
        &catch_up(&before, &room.state, &BTreeMap::new()),
        &[
            (but("b"), "b:DISCONNECTED:"),
            (only("b"), "leave UNKNOWN_REASON Reconnect"),
            (Audience::All, "c:JOINING:TR_c"),
            (only("a"), "-TR_b"),
            (only("a"), "+TR_c"),
            (Audience::All, "room "),
        ],
    );
}

#[test]
fn a_farewell_is_the_newest_version_and_says_why() {
    let mut room = Room::of(&["a", "b"]);
    let version = room.state.participant(&sid("b")).unwrap().version;
    let reason = DisconnectReason::ConnectionTimeout;
    room.must(&Actor::Bridge, Command::Leave { participant: sid("b"), reason });
    let ToSession::Participants(infos) = &room.told[0].message else { panic!("{:?}", room.told) };
    assert_eq!(infos[0].state(), Presence::Disconnected);
    assert_eq!(infos[0].disconnect_reason(), reason);
    assert!(infos[0].version > version);
    let ToSession::Leave { action, .. } = &room.told[1].message else { panic!("{:?}", room.told) };
    assert_eq!(*action, Action::Reconnect, "who was only cut off comes back");
}
