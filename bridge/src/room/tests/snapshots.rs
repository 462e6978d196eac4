//! Snapshots and entries of other versions.

use livekit_protocol::{SubscriptionPermission, TrackSource};
use prost::Message as _;
use ratssaal_proto::room::v1::Snapshot;

use super::*;
use crate::room::apply::{restore, snapshot};
use crate::room::limits;
use crate::room::state::Presence;

/// Field 100 of an entry: a kind of a later version.
fn unknown(n: u8) -> Bytes {
    Bytes::from(vec![0x08, 0x02, 0xa2, 0x06, 0x01, n])
}

#[test]
fn a_snapshot_holds_everything() {
    let mut room = Room::of(&["a", "b"]);
    room.publish("a", "TR_a", TrackSource::Camera);
    room.must(&Actor::Admin, Command::Mute { track: "TR_a".into(), muted: true });
    room.must(&Actor::Admin, Command::DescribeRoom { metadata: "m".into() });
    room.must(&Actor::Bridge, Command::Progress { participant: sid("b"), presence: Presence::Active });
    room.must(
        &Actor::Participant(sid("a")),
        Command::AllowSubscribers { participant: sid("a"), permission: SubscriptionPermission::default() },
    );
    room.must(&Actor::Admin, Command::Remove { identity: "x".into(), revoke_before_ms: Some(7) });
    let logged = Logged::decode(room.state.sequence() + 1, unknown(1));
    apply(&mut room.state, &logged);

    let bytes = snapshot(&room.state).encode_to_vec();
    let mut copy = State::new(facts());
    restore(&mut copy, room.state.sequence(), &Snapshot::decode(&*bytes).unwrap());
    assert_eq!(copy, room.state);
    assert_eq!(copy.info().metadata, "m");
    assert!(!copy.may_subscribe(&sid("b"), &"TR_a".into()));
}

#[test]
fn unknown_entries_are_carried_and_bounded() {
    let mut state = Room::of(&["a"]).state;
    let participants = state.others(&sid("nobody"));
    for n in 0..limits::CARRIED + 10 {
        let logged = Logged::decode(state.sequence() + 1, unknown(u8::try_from(n % 100).unwrap()));
        apply(&mut state, &logged);
    }
    assert_eq!(state.others(&sid("nobody")), participants, "and change nothing else");
    assert_eq!(state.carried().len(), limits::CARRIED);
    assert_eq!(state.carried().last().unwrap().0, state.sequence());
}

#[test]
fn what_an_older_bridge_carried_is_applied_by_one_that_knows_it() {
    let mut snapshot = snapshot(&Room::of(&["a"]).state);
    let event = Event::MetadataChanged(ratssaal_proto::room::v1::MetadataChanged { metadata: "new".into() });
    snapshot.carried.push(ratssaal_proto::room::v1::Carried { sequence: 2, entry: encode(&event) });
    let mut state = State::new(facts());
    restore(&mut state, 5, &snapshot);
    assert_eq!((state.info().metadata.as_str(), state.sequence()), ("new", 5));
    assert!(state.carried().is_empty());
}
