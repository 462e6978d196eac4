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
    room.must(&Actor::Bridge, moved("b", "zwei"));

    let bytes = snapshot(&room.state).encode_to_vec();
    let mut copy = State::new(facts());
    restore(&mut copy, room.state.sequence(), &Snapshot::decode(&*bytes).unwrap());
    assert_eq!(copy, room.state);
    assert_eq!(copy.info().metadata, "m");
    assert!(!copy.may_subscribe(&sid("b"), &"TR_a".into()));
}

fn moved(who: &str, bridge: &str) -> Command {
    Command::Move { participant: sid(who), bridge: bridge.into(), join_id: format!("move-{bridge}") }
}

#[test]
fn who_is_moved_stays_who_it_is() {
    let mut room = Room::of(&["a", "b"]);
    room.publish("a", "TR_a", TrackSource::Camera);
    let (before, sequence) = (room.state.participant(&sid("a")).unwrap().clone(), room.state.sequence());
    room.must(&Actor::Bridge, moved("a", "zwei"));
    assert!(room.told.is_empty(), "nobody need know: {:?}", room.told);
    let after = room.state.participant(&sid("a")).unwrap().clone();
    assert_eq!(after.info(), before.info());
    assert_eq!((after.bridge.as_str(), after.join_id.as_str()), ("zwei", "move-zwei"));
    assert!(after.sat_on(&before.bridge, sequence) && after.sat_on("zwei", sequence + 1));
    assert!(!after.sat_on("zwei", sequence) && !after.sat_on(&before.bridge, sequence + 1));
    room.must(&Actor::Bridge, moved("a", "zwei"));
    assert_eq!(room.state.sequence(), sequence + 1, "once");
    for actor in [Actor::Admin, Actor::Participant(sid("a"))] {
        assert!(room.submit(&actor, &moved("a", "drei")).is_err(), "{actor:?}");
    }
    assert!(room.submit(&Actor::Bridge, &moved("x", "drei")).is_err());
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
