//! Who gets a data packet and what stands in it.

use livekit_protocol::data_packet::{Kind, Value};
use livekit_protocol::{ActiveSpeakerUpdate, DataPacket, ParticipantPermission, Transcription, UserPacket};

use super::*;
use crate::media::control::Channel;
use crate::room::data::address;

fn user(payload: &str) -> DataPacket {
    let user = UserPacket { payload: payload.as_bytes().to_vec(), ..UserPacket::default() };
    DataPacket { value: Some(Value::User(user)), sequence: 7, ..DataPacket::default() }
}

fn receivers(room: &Room, from: Option<&str>, packet: DataPacket) -> Option<Vec<String>> {
    let from = from.map(|identity| room.state.participant(&sid(identity)).unwrap());
    let (_, to) = address(&room.state, from.map(AsRef::as_ref), packet, Channel::Reliable)?;
    Some(to.into_iter().map(|sid| sid.as_str()[3..].to_owned()).collect())
}

fn names(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn to_all_others_or_to_those_named_never_back() {
    let room = Room::of(&["a", "b", "c"]);
    let to = |identities: &[&str]| DataPacket {
        destination_identities: identities.iter().map(|identity| (*identity).to_owned()).collect(),
        ..user("x")
    };
    assert_eq!(receivers(&room, Some("a"), to(&[])), names(&["b", "c"]));
    assert_eq!(receivers(&room, Some("a"), to(&["c"])), names(&["c"]));
    assert_eq!(receivers(&room, Some("a"), to(&["a", "c", "nobody"])), names(&["c"]));
    assert_eq!(receivers(&room, Some("a"), to(&["nobody"])), names(&[]), "not to all");
    assert_eq!(receivers(&room, None, to(&[])), names(&["a", "b", "c"]), "from the server");
}

#[test]
#[expect(deprecated, reason = "older clients address by these fields")]
fn older_clients_address_inside_the_user_packet() {
    let room = Room::of(&["a", "b", "c"]);
    let inside = |user: UserPacket| DataPacket { value: Some(Value::User(user)), ..DataPacket::default() };
    let by_identity = UserPacket { destination_identities: vec!["b".into()], ..UserPacket::default() };
    assert_eq!(receivers(&room, Some("a"), inside(by_identity)), names(&["b"]));
    let by_sid = UserPacket { destination_sids: vec!["PA_c".into()], ..UserPacket::default() };
    assert_eq!(receivers(&room, Some("a"), inside(by_sid)), names(&["c"]));
}

#[test]
#[expect(deprecated, reason = "older clients read only these fields")]
fn the_sender_is_who_we_know_it_to_be() {
    let mut room = Room::of(&["a", "b"]);
    let hidden = ParticipantPermission { hidden: true, ..all_allowed() };
    room.join(Newcomer { permission: hidden, ..newcomer("h") });
    let forged = || {
        let user = UserPacket {
            participant_sid: "PA_b".into(),
            participant_identity: "b".into(),
            payload: b"x".to_vec(),
            ..UserPacket::default()
        };
        DataPacket {
            kind: Kind::Lossy as i32,
            participant_sid: "PA_b".into(),
            participant_identity: "b".into(),
            value: Some(Value::User(user)),
            ..user_packet_sequence()
        }
    };
    for (sender, sid_text, identity) in [("a", "PA_a", "a"), ("h", "", "")] {
        let from = room.state.participant(&sid(sender)).unwrap();
        let (packet, _) = address(&room.state, Some(from), forged(), Channel::Reliable).unwrap();
        assert_eq!((packet.participant_sid.as_str(), packet.participant_identity.as_str()), (sid_text, identity));
        assert_eq!((packet.kind, packet.sequence), (Kind::Reliable as i32, 7), "the channel says how it came");
        let Some(Value::User(user)) = packet.value else { panic!() };
        assert_eq!((user.participant_sid.as_str(), user.participant_identity.as_str()), (sid_text, identity));
        assert_eq!(user.payload, b"x");
    }
}

fn user_packet_sequence() -> DataPacket {
    DataPacket { sequence: 7, ..DataPacket::default() }
}

#[test]
fn who_may_not_publish_data_is_not_heard() {
    let mut room = Room::of(&["a"]);
    let mute = ParticipantPermission { can_publish_data: false, ..all_allowed() };
    room.join(Newcomer { permission: mute, ..newcomer("m") });
    assert_eq!(receivers(&room, Some("m"), user("x")), None);
    assert_eq!(receivers(&room, Some("a"), user("x")), names(&["m"]), "but it hears");
}

#[test]
#[expect(deprecated, reason = "the old active-speaker message is refused")]
fn nobody_speaks_for_the_server_or_for_others() {
    let mut room = Room::of(&["a"]);
    let agent = livekit_protocol::participant_info::Kind::Agent as i32;
    room.join(Newcomer { kind: agent, ..newcomer("agent") });
    let with = |value| DataPacket { value: Some(value), ..DataPacket::default() };
    assert_eq!(receivers(&room, Some("a"), with(Value::Speaker(ActiveSpeakerUpdate::default()))), None);
    assert_eq!(receivers(&room, Some("a"), with(Value::Transcription(Transcription::default()))), None);
    let transcription = with(Value::Transcription(Transcription::default()));
    assert_eq!(receivers(&room, Some("agent"), transcription), names(&["a"]));
    assert_eq!(receivers(&room, Some("a"), DataPacket::default()), None, "nothing in it");
}
