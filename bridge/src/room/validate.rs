//! Which log entries a command means, or why it may not happen: [`validate`]. Pure.

use std::collections::BTreeMap;

use livekit_protocol::{DisconnectReason, ParticipantPermission, TrackInfo, TrackSource, TrackType};
use prost::Message as _;
use ratssaal_proto::room::v1::{
    Ended, Joined, Left, MetadataChanged, Moved, ParticipantUpdated, PermissionChanged, Revoked,
    SubscriptionsPermitted, TrackMuted, TrackPublished, TrackUnpublished, TrackUpdated,
};

use super::command::{Actor, Command, Newcomer, Refusal};
use super::entry::{self, Event};
use super::ids::{ParticipantSid, TrackSid};
use super::limits;
use super::state::{Participant, State};

/// Checks a command against the state and answers with the entries to append; none when it changes nothing.
/// `now_ms` is the time of a joining, Unix milliseconds.
///
/// # Errors
/// The command is not allowed or makes no sense in this state.
pub fn validate(state: &State, command: &Command, actor: &Actor, now_ms: u64) -> Result<Vec<Event>, Refusal> {
    if state.ended().is_some() {
        return Err(Refusal::Ended);
    }
    match command {
        Command::Join(newcomer) => join(state, newcomer, actor, now_ms),
        Command::Progress { participant, presence } => {
            let who = acting_as(state, participant, actor, "report somebody else's connection")?;
            if *presence <= who.presence {
                return Ok(Vec::new());
            }
            let state = Some(presence.wire() as i32);
            one(Event::ParticipantUpdated(ParticipantUpdated { state, ..update_of(participant) }))
        }
        Command::Leave { participant, reason } => {
            acting_as(state, participant, actor, "end somebody else's stay")?;
            one(left(participant, *reason))
        }
        Command::Move { participant, bridge, join_id } => {
            if *actor != Actor::Bridge {
                return Err(Refusal::NotAllowed { what: "move somebody to another bridge" });
            }
            let who = state.participant(participant).ok_or(Refusal::NoSuchParticipant)?;
            if who.join_id == *join_id {
                return Ok(Vec::new());
            }
            let (sid, bridge, join_id) = (participant.to_string(), bridge.clone(), join_id.clone());
            one(Event::Moved(Moved { sid, bridge, join_id }))
        }
        Command::Publish { participant, track } => publish(state, participant, track, actor),
        Command::UpdateTrack { track } => {
            let (publisher, old) = find_track(state, &track.sid)?;
            acting_as(state, &publisher.sid, actor, "change somebody else's track")?;
            check_track(track)?;
            if track.r#type != old.r#type || track.source != old.source {
                return Err(Refusal::Invalid {
                    what: "a track keeps its type and source; publish another one instead",
                });
            }
            one(Event::TrackUpdated(TrackUpdated { info: entry::bytes_of(&**track) }))
        }
        Command::Unpublish { track } => {
            let (publisher, _) = find_track(state, track.as_str())?;
            if *actor != Actor::Admin {
                acting_as(state, &publisher.sid, actor, "unpublish somebody else's track")?;
            }
            one(unpublished(track.as_str()))
        }
        Command::Mute { track, muted } => mute(state, track, *muted, actor),
        Command::Describe { participant, name, metadata, attributes } => {
            describe(state, participant, name.as_deref(), metadata.as_deref(), attributes, actor)
        }
        Command::Permit { participant, permission } => permit(state, participant, permission, actor),
        Command::AllowSubscribers { participant, permission } => {
            acting_as(state, participant, actor, "say who may subscribe to somebody else")?;
            let permission = entry::bytes_of(permission);
            within(permission.len(), limits::SUBSCRIPTION_PERMISSION, "the subscription permission (bytes)")?;
            let participant_sid = participant.to_string();
            one(Event::SubscriptionsPermitted(SubscriptionsPermitted { participant_sid, permission }))
        }
        Command::Remove { identity, revoke_before_ms } => {
            admin(actor, "remove participants")?;
            let mut events = Vec::new();
            if let Some(before_ms) = *revoke_before_ms {
                within(identity.as_str().len(), limits::IDENTITY, "the identity (bytes)")?;
                events.push(Event::Revoked(Revoked { identity: identity.to_string(), before_ms }));
            }
            if let Some(participant) = state.by_identity(identity.as_str()) {
                events.push(left(&participant.sid, DisconnectReason::ParticipantRemoved));
            }
            if events.is_empty() { Err(Refusal::NoSuchParticipant) } else { Ok(events) }
        }
        Command::DescribeRoom { metadata } => {
            admin(actor, "change the room's metadata")?;
            within(metadata.len(), limits::METADATA, "the room's metadata (bytes)")?;
            if *metadata == state.metadata {
                return Ok(Vec::new());
            }
            one(Event::MetadataChanged(MetadataChanged { metadata: metadata.clone() }))
        }
        Command::End { reason } => {
            if *actor != Actor::Bridge {
                admin(actor, "end the room")?;
            }
            one(Event::Ended(Ended { reason: entry::end_reason(*reason) as i32 }))
        }
    }
}

fn join(state: &State, newcomer: &Newcomer, actor: &Actor, now_ms: u64) -> Result<Vec<Event>, Refusal> {
    if *actor != Actor::Bridge {
        return Err(Refusal::NotAllowed { what: "let somebody in" });
    }
    if newcomer.identity.as_str().is_empty() {
        return Err(Refusal::Invalid { what: "a participant needs an identity; put one into the token's `sub`" });
    }
    if state.participant(&newcomer.sid).is_some() {
        return Err(Refusal::Invalid { what: "this session id is taken; draw another one" });
    }
    within(newcomer.identity.as_str().len(), limits::IDENTITY, "the identity (bytes)")?;
    within(newcomer.name.len(), limits::NAME, "the name (bytes)")?;
    within(newcomer.metadata.len(), limits::METADATA, "the metadata (bytes)")?;
    within(attributes_len(&newcomer.attributes), limits::ATTRIBUTES, "the attributes together (bytes)")?;
    let revoked = state
        .revocations
        .iter()
        .any(|(identity, before_ms)| *identity == newcomer.identity && newcomer.token_issued_ms < *before_ms);
    if revoked {
        return Err(Refusal::Revoked);
    }
    let mut events = Vec::new();
    if let Some(older) = state.by_identity(newcomer.identity.as_str()) {
        events.push(left(&older.sid, DisconnectReason::DuplicateIdentity));
    }
    events.push(Event::Joined(Joined {
        sid: newcomer.sid.to_string(),
        identity: newcomer.identity.to_string(),
        name: newcomer.name.clone(),
        metadata: newcomer.metadata.clone(),
        attributes: newcomer.attributes.clone().into_iter().collect(),
        permission: Some(entry::permission_to_log(&newcomer.permission)),
        kind: newcomer.kind,
        bridge: newcomer.bridge.clone(),
        join_id: newcomer.join_id.clone(),
        joined_ms: now_ms,
        client_protocol: newcomer.client_protocol,
        capabilities: newcomer.capabilities.clone(),
        forwarded_from: newcomer.forwarded_from.as_ref().map(ToString::to_string).unwrap_or_default(),
    }));
    Ok(events)
}

fn publish(
    state: &State,
    participant: &ParticipantSid,
    track: &TrackInfo,
    actor: &Actor,
) -> Result<Vec<Event>, Refusal> {
    let publisher = acting_as(state, participant, actor, "publish for somebody else")?;
    check_track(track)?;
    if !track.sid.starts_with("TR_") || state.track(&track.sid.as_str().into()).is_some() {
        return Err(Refusal::Invalid { what: "a new track needs a session id of its own" });
    }
    if publisher.tracks.len() >= limits::TRACKS {
        return Err(Refusal::too_large("the number of published tracks", limits::TRACKS));
    }
    if !publisher.may_publish(source_of(track)?) {
        return Err(Refusal::NotAllowed { what: "publish this track" });
    }
    one(Event::TrackPublished(TrackPublished {
        participant_sid: participant.to_string(),
        info: entry::bytes_of(track),
    }))
}

fn mute(state: &State, track: &TrackSid, muted: bool, actor: &Actor) -> Result<Vec<Event>, Refusal> {
    let (publisher, info) = find_track(state, track.as_str())?;
    let by_publisher = *actor != Actor::Admin;
    if by_publisher {
        acting_as(state, &publisher.sid, actor, "mute somebody else")?;
    }
    if info.muted == muted {
        return Ok(Vec::new());
    }
    if !by_publisher && !muted {
        return Err(Refusal::RemoteUnmute);
    }
    one(Event::TrackMuted(TrackMuted { track_sid: track.to_string(), muted, by_publisher }))
}

fn describe(
    state: &State,
    participant: &ParticipantSid,
    name: Option<&str>,
    metadata: Option<&str>,
    attributes: &BTreeMap<String, String>,
    actor: &Actor,
) -> Result<Vec<Event>, Refusal> {
    let who = state.participant(participant).ok_or(Refusal::NoSuchParticipant)?;
    if *actor != Actor::Admin {
        acting_as(state, participant, actor, "describe somebody else")?;
        if !who.permission.can_update_metadata {
            return Err(Refusal::NotAllowed { what: "change its own name, metadata or attributes" });
        }
    }
    within(name.map_or(0, str::len), limits::NAME, "the name (bytes)")?;
    within(metadata.map_or(0, str::len), limits::METADATA, "the metadata (bytes)")?;
    let mut merged = who.attributes.clone();
    merge_attributes(&mut merged, attributes);
    within(attributes_len(&merged), limits::ATTRIBUTES, "the attributes together (bytes)")?;

    let name = name.filter(|name| *name != who.name).map(str::to_owned);
    let metadata = metadata.filter(|metadata| *metadata != who.metadata).map(str::to_owned);
    if name.is_none() && metadata.is_none() && merged == who.attributes {
        return Ok(Vec::new());
    }
    let attributes = attributes.clone().into_iter().collect();
    one(Event::ParticipantUpdated(ParticipantUpdated { name, metadata, attributes, ..update_of(participant) }))
}

fn permit(
    state: &State,
    participant: &ParticipantSid,
    permission: &ParticipantPermission,
    actor: &Actor,
) -> Result<Vec<Event>, Refusal> {
    admin(actor, "change permissions")?;
    let who = state.participant(participant).ok_or(Refusal::NoSuchParticipant)?;
    if permission.can_publish_sources.len() > limits::TRACKS {
        return Err(Refusal::too_large("the number of sources", limits::TRACKS));
    }
    if who.permission == *permission {
        return Ok(Vec::new());
    }
    let after = Participant { permission: permission.clone(), ..Participant::clone(who) };
    let lost = who.tracks.iter().filter(|track| !source_of(track).is_ok_and(|source| after.may_publish(source)));
    let mut events: Vec<Event> = lost.map(|track| unpublished(&track.sid)).collect();
    let permission = Some(entry::permission_to_log(permission));
    events.push(Event::PermissionChanged(PermissionChanged { sid: participant.to_string(), permission }));
    Ok(events)
}

/// The participant, if the actor is it or this bridge on its behalf.
fn acting_as<'a>(
    state: &'a State,
    participant: &ParticipantSid,
    actor: &Actor,
    what: &'static str,
) -> Result<&'a Participant, Refusal> {
    match actor {
        Actor::Bridge => {}
        Actor::Participant(sid) if sid == participant => {}
        Actor::Participant(_) | Actor::Admin => return Err(Refusal::NotAllowed { what }),
    }
    state.participant(participant).map(AsRef::as_ref).ok_or(Refusal::NoSuchParticipant)
}

fn admin(actor: &Actor, what: &'static str) -> Result<(), Refusal> {
    if *actor == Actor::Admin { Ok(()) } else { Err(Refusal::NotAllowed { what }) }
}

fn find_track<'a>(state: &'a State, sid: &str) -> Result<(&'a Participant, &'a TrackInfo), Refusal> {
    let (publisher, track) = state.track(&sid.into()).ok_or(Refusal::NoSuchTrack)?;
    Ok((publisher, track))
}

fn check_track(track: &TrackInfo) -> Result<(), Refusal> {
    within(track.encoded_len(), limits::TRACK, "the track's description (bytes)")?;
    source_of(track)?;
    match TrackType::try_from(track.r#type) {
        Ok(TrackType::Audio | TrackType::Video) => Ok(()),
        Ok(TrackType::Data) | Err(_) => Err(Refusal::Invalid { what: "a track is audio or video" }),
    }
}

fn source_of(track: &TrackInfo) -> Result<TrackSource, Refusal> {
    TrackSource::try_from(track.source).map_err(|_| Refusal::Invalid { what: "the track's source is not known" })
}

/// Changes attributes as the protocol does: an empty value removes the key.
pub(super) fn merge_attributes<'a>(
    attributes: &mut BTreeMap<String, String>,
    changes: impl IntoIterator<Item = (&'a String, &'a String)>,
) {
    for (key, value) in changes {
        if value.is_empty() {
            attributes.remove(key);
        } else {
            attributes.insert(key.clone(), value.clone());
        }
    }
}

/// As they count against the limit: with what a log entry needs around each.
fn attributes_len(attributes: &BTreeMap<String, String>) -> usize {
    attributes.iter().map(|(key, value)| key.len() + value.len() + limits::ATTRIBUTE_FRAMING).sum()
}

fn within(actual: usize, limit: usize, what: &'static str) -> Result<(), Refusal> {
    if actual <= limit { Ok(()) } else { Err(Refusal::too_large(what, limit)) }
}

fn one(event: Event) -> Result<Vec<Event>, Refusal> {
    Ok(vec![event])
}

fn update_of(participant: &ParticipantSid) -> ParticipantUpdated {
    ParticipantUpdated { sid: participant.to_string(), ..ParticipantUpdated::default() }
}

fn left(sid: &ParticipantSid, reason: DisconnectReason) -> Event {
    Event::Left(Left { sid: sid.to_string(), reason: entry::leave_reason(reason) as i32 })
}

fn unpublished(track: &str) -> Event {
    Event::TrackUnpublished(TrackUnpublished { track_sid: track.to_owned() })
}
