//! Participants forwarded into another room (`ForwardParticipant`): there they are seen and heard as in their own, by the same
//! name and with the same tracks, but no client of theirs is in it.
//!
//! A participant's own bridge does it. The copy has its seat on the same bridge, and its tracks are the same ones at the
//! media worker: subscribers in the other room are further legs of them, so that layers, key frames and what nobody watches
//! are settled between all of them. Whatever changes about the participant is logged for the copy, too ([`differences`]).
//!
//! It ends with the participant's stay, with the copy's (`RemoveParticipant` there), and with either room. When the
//! participant moves to another bridge, that one is asked to go on.

mod differences;
mod task;

use std::collections::BTreeMap;

use livekit_protocol::{ClientInfo, participant_info};

use self::task::Forwarding;
use crate::peers::Peers;
use crate::room::ids::random_base62;
use crate::room::{JoinRefusal, JoinRequest, Joined, Participant, Refusal, RoomHandle, Rooms, Way};
use crate::token::{self, Claims, VideoGrants};

/// The attribute by which clients see from which room a copy comes: that room's name.
pub(crate) const FORWARDED_FROM: &str = "ratssaal.forwarded_from";

/// A copy's attributes.
fn attributes_of(original: &Participant, from: &RoomHandle) -> BTreeMap<String, String> {
    let mut attributes = original.attributes.clone();
    attributes.insert(FORWARDED_FROM.to_owned(), from.name().to_string());
    attributes
}

/// Why somebody is not forwarded.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum ForwardRefusal {
    /// Not on this bridge, or no more.
    #[error("the participant is being moved or connected: try again in a second")]
    NotHere,
    /// There is no such room.
    #[error("the destination room is not open: create it first")]
    NotOpen,
    /// Somebody of that identity is there.
    #[error("somebody of this identity is in the destination room: remove them there first")]
    Taken,
    /// It is not to be seen.
    #[error("a hidden participant cannot be forwarded: change its permission first")]
    Hidden,
    /// It is forwarded itself.
    #[error("this participant is forwarded from another room: forward it from there")]
    Forwarded,
    /// There is no seat for the copy on this bridge.
    #[error("the participant's server takes nobody at the moment: try again in a few seconds")]
    NoSeat,
    /// It does not get in there.
    #[error(transparent)]
    Join(#[from] JoinRefusal),
    /// The store is away.
    #[error(transparent)]
    Room(#[from] Refusal),
}

/// Forwards a participant who sits here into an open room, until it leaves. Again: nothing.
pub(crate) async fn start(
    rooms: &Rooms,
    peers: &Peers,
    from: &RoomHandle,
    identity: &str,
    destination: &str,
) -> Result<(), ForwardRefusal> {
    let state = from.state();
    let who = state.by_identity(identity).filter(|who| who.bridge == rooms.bridge()).ok_or(ForwardRefusal::NotHere)?;
    if who.permission.hidden {
        return Err(ForwardRefusal::Hidden);
    }
    if who.forwarded_from.is_some() {
        return Err(ForwardRefusal::Forwarded);
    }
    let to = rooms.find(destination).await?.ok_or(ForwardRefusal::NotOpen)?;
    match to.state().by_identity(identity) {
        Some(copy) if copy.forwarded_from.as_ref() != Some(&state.room().sid) => return Err(ForwardRefusal::Taken),
        Some(copy) if copy.bridge == rooms.bridge() => return Ok(()),
        // Else a bridge that it was on before still has it.
        _ => {}
    }
    let copy = enter(rooms, who, from, destination).await?;
    tracing::info!(room = %from.name(), to = %copy.room.name(), participant = %who.sid, copy = %copy.sid, "forwarded into another room");
    let forwarding = Forwarding::new(rooms.clone(), peers.clone(), from.clone(), who.sid.clone(), copy);
    tokio::spawn(forwarding.run());
    Ok(())
}

/// Seats the copy.
async fn enter(
    rooms: &Rooms,
    who: &Participant,
    from: &RoomHandle,
    destination: &str,
) -> Result<Joined, ForwardRefusal> {
    let grants = VideoGrants {
        room_join: true,
        room: destination.to_owned(),
        can_publish: Some(true),
        can_subscribe: Some(false),
        can_publish_data: Some(false),
        // Its name, metadata and attributes are its original's.
        can_update_own_metadata: Some(true),
        ..VideoGrants::default()
    };
    let claims = Claims {
        issued_at: token::unix_now(),
        identity: who.identity.to_string(),
        name: who.name.clone(),
        metadata: who.metadata.clone(),
        attributes: attributes_of(who, from).into_iter().collect(),
        kind: participant_info::Kind::try_from(who.kind).unwrap_or_default(),
        grants,
        ..Claims::default()
    };
    let client = ClientInfo {
        client_protocol: who.client_protocol,
        capabilities: who.capabilities.clone(),
        ..ClientInfo::default()
    };
    let forwarded_from = Some(from.state().room().sid.clone());
    let request = JoinRequest { claims, client, join_id: random_base62(20), forwarded_from };
    match rooms.join(&request, &[]).await? {
        Way::Here(copy) => Ok(*copy),
        Way::There(placed) => {
            rooms.give_back(&placed).await;
            Err(ForwardRefusal::NoSeat)
        }
    }
}

#[cfg(test)]
mod tests;
