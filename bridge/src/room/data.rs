//! Data packets: who gets them, and what is written into them.

use std::collections::BTreeSet;

use bytes::Bytes;
use livekit_protocol::data_packet::{Kind, Value};
use livekit_protocol::{DataPacket, UserPacket};
use prost::Message as _;

use super::handle::Shared;
use super::ids::ParticipantSid;
use super::relays::ToRelay;
use super::session::ToSession;
use super::state::{Participant, State};
use crate::media::control::{Channel, MAX_MESSAGE};

/// Routes a packet; see [`super::RoomHandle::route_data`]. Without a sender it comes from the server API.
pub(super) fn route(shared: &Shared, from: Option<&ParticipantSid>, packet: DataPacket, channel: Channel) {
    let state = shared.state.load();
    let sender = match from.map(|sid| state.participant(sid)) {
        None => None,
        Some(Some(sender)) => Some(&**sender),
        Some(None) => return,
    };
    let Some((packet, receivers)) = address(&state, sender, packet, channel) else { return };
    let bytes = Bytes::from(packet.encode_to_vec());
    if bytes.len() > MAX_MESSAGE {
        return;
    }
    deliver(shared, &receivers, &bytes, channel);
    let relays = shared.relays.load();
    // What the server API sends is said at each bridge of the room by itself.
    if relays.is_empty() || from.is_none() {
        return;
    }
    let towards = shared.crossing.towards();
    let sat = receivers.iter().filter_map(|sid| Some(state.participant(sid)?.bridge.as_str()));
    let coming = towards.iter().map(String::as_str).filter(|_| channel == Channel::Reliable);
    let bridges: BTreeSet<&str> = sat.chain(coming).collect();
    for (_, relay) in relays.iter().filter(|(bridge, _)| bridges.contains(bridge.as_str())) {
        let (sender, packet) = (from.cloned(), bytes.clone());
        shared.tell_relay(relay, ToRelay::Data { sender, channel, packet, after: state.sequence() });
    }
}

/// Routes a packet that came from another bridge to those who sit here; the other bridges got it from there, too.
pub(super) fn route_relayed(shared: &Shared, from: Option<&ParticipantSid>, packet: DataPacket, channel: Channel) {
    let state = shared.state.load();
    let sender = from.map(|sid| state.participant(sid));
    let Some((packet, receivers)) = (match sender {
        None => address(&state, None, packet, channel),
        Some(Some(sender)) => address(&state, Some(sender), packet, channel),
        Some(None) => None,
    }) else {
        return;
    };
    let bytes = Bytes::from(packet.encode_to_vec());
    deliver(shared, &receivers, &bytes, channel);
}

fn deliver(shared: &Shared, receivers: &[ParticipantSid], bytes: &Bytes, channel: Channel) {
    if channel == Channel::Reliable {
        shared.crossing.keep(receivers, bytes);
    }
    let sessions = shared.sessions.load();
    for receiver in receivers {
        let Some(inbox) = sessions.get(receiver) else { continue };
        let message = ToSession::Data { channel, bytes: bytes.clone() };
        match channel {
            Channel::Reliable => inbox.send(message),
            Channel::Lossy => inbox.offer(message),
        }
    }
}

/// The packet as receivers get it, and who they are; `None` when it is not to be passed on. Pure.
pub(super) fn address(
    state: &State,
    sender: Option<&Participant>,
    mut packet: DataPacket,
    channel: Channel,
) -> Option<(DataPacket, Vec<ParticipantSid>)> {
    if sender.is_some_and(|sender| !sender.permission.can_publish_data) {
        return None;
    }
    let (sid, identity) = match sender {
        Some(sender) if !sender.permission.hidden => (sender.sid.to_string(), sender.identity.to_string()),
        _ => (String::new(), String::new()),
    };
    #[expect(deprecated, reason = "older clients read only these fields")]
    {
        packet.kind = match channel {
            Channel::Reliable => Kind::Reliable,
            Channel::Lossy => Kind::Lossy,
        } as i32;
    }
    packet.participant_sid.clone_from(&sid);
    packet.participant_identity.clone_from(&identity);

    let mut sids: Vec<String> = Vec::new();
    #[expect(deprecated, reason = "the old active-speaker message is refused, not used")]
    match packet.value.as_mut()? {
        Value::User(user) => {
            stamp_user_packet(user, &sid, &identity);
            #[expect(deprecated, reason = "older clients address by these fields")]
            {
                if packet.destination_identities.is_empty() {
                    packet.destination_identities.clone_from(&user.destination_identities);
                }
                user.destination_identities.clone_from(&packet.destination_identities);
                sids.clone_from(&user.destination_sids);
            }
        }
        // The old active-speaker message was the server's; nobody else may speak in its name.
        Value::Speaker(_) => return None,
        // Only agents transcribe for others.
        Value::Transcription(_) if sender.is_some_and(|sender| !is_agent(sender)) => return None,
        _ => {}
    }
    let identities = &packet.destination_identities;
    let all = identities.is_empty() && sids.is_empty();
    let receivers = state.participants().filter(|receiver| {
        sender.is_none_or(|sender| sender.sid != receiver.sid)
            && (all
                || identities.iter().any(|identity| identity == receiver.identity.as_str())
                || sids.iter().any(|sid| sid == receiver.sid.as_str()))
    });
    let receivers = receivers.map(|receiver| receiver.sid.clone()).collect();
    Some((packet, receivers))
}

#[expect(deprecated, reason = "older clients read only these fields")]
fn stamp_user_packet(user: &mut UserPacket, sid: &str, identity: &str) {
    sid.clone_into(&mut user.participant_sid);
    identity.clone_into(&mut user.participant_identity);
}

fn is_agent(sender: &Participant) -> bool {
    sender.kind == livekit_protocol::participant_info::Kind::Agent as i32
}
