//! How a log entry changes a room's state: [`apply`]. Pure and total: entries come from other bridges and other versions,
//! so one that does not fit the state changes nothing, and never fails.

use std::collections::BTreeMap;
use std::sync::Arc;

use livekit_protocol::{SubscriptionPermission, TrackInfo};
use prost::Message as _;
use ratssaal_proto::room::v1::{self as log, EndReason, Joined};

use super::entry::{self, Event, Logged};
use super::ids::{ParticipantSid, TrackSid};
use super::limits;
use super::state::{Participant, Presence, State};
use super::validate::merge_attributes;

/// Applies the next entry. One that was applied before (its sequence is not above the state's) changes nothing.
pub fn apply(state: &mut State, entry: &Logged) {
    if entry.sequence <= state.sequence {
        return;
    }
    state.sequence = entry.sequence;
    let Some(event) = &entry.event else {
        state.carried.push((entry.sequence, entry.bytes.clone()));
        if state.carried.len() > limits::CARRIED {
            state.carried.remove(0);
        }
        return;
    };
    match event {
        Event::Joined(joined) => {
            add(state, newcomer(joined));
            state.keep();
        }
        Event::ParticipantUpdated(update) => change(state, &update.sid, |participant| {
            if let Some(name) = &update.name {
                participant.name.clone_from(name);
            }
            if let Some(metadata) = &update.metadata {
                participant.metadata.clone_from(metadata);
            }
            merge_attributes(&mut participant.attributes, &update.attributes);
            if let Some(presence) = update.state.and_then(Presence::from_wire) {
                participant.presence = participant.presence.max(presence);
            }
        }),
        Event::Left(left) => {
            remove(state, &left.sid);
            state.keep();
        }
        Event::Moved(moved) => {
            // Nobody is told, so that its version stays.
            if let Some(participant) = state.participants.get_mut(moved.sid.as_str()) {
                let participant = Arc::make_mut(participant);
                let before = std::mem::replace(&mut participant.bridge, moved.bridge.clone());
                participant.came_from = Some((before, entry.sequence));
                participant.join_id.clone_from(&moved.join_id);
            }
            state.keep();
        }
        Event::TrackPublished(published) => publish(state, &published.participant_sid, &published.info),
        Event::TrackUpdated(updated) => {
            let Ok(info) = TrackInfo::decode(&*updated.info) else { return };
            let sid = TrackSid::from(info.sid.as_str());
            change_track(state, &sid, |track| *track = TrackInfo { muted: track.muted, ..info });
        }
        Event::TrackUnpublished(unpublished) => {
            let Some(owner) = state.owners.remove(unpublished.track_sid.as_str()) else { return };
            change(state, owner.as_str(), |participant| {
                participant.tracks.retain(|track| track.sid != unpublished.track_sid);
            });
        }
        Event::TrackMuted(muted) => {
            change_track(state, &muted.track_sid.as_str().into(), |track| track.muted = muted.muted);
        }
        Event::PermissionChanged(changed) => {
            let permission = changed.permission.as_ref().map(entry::permission_from_log).unwrap_or_default();
            change(state, &changed.sid, |participant| participant.permission = permission);
        }
        Event::Revoked(revoked) => revoke(state, revoked),
        Event::MetadataChanged(changed) => state.metadata.clone_from(&changed.metadata),
        Event::SubscriptionsPermitted(permitted) => {
            let Ok(permission) = SubscriptionPermission::decode(&*permitted.permission) else { return };
            change(state, &permitted.participant_sid, |participant| {
                participant.subscribers = Some(Arc::new(permission));
            });
        }
        Event::Ended(ended) => {
            state.end(entry::ended_because(EndReason::try_from(ended.reason).unwrap_or_default()));
        }
    }
}

/// The state as the allocator keeps it beside the log.
#[must_use]
pub fn snapshot(state: &State) -> log::Snapshot {
    let participants = state.participants.values().map(|participant| log::Participant {
        joined: Some(joined(participant)),
        version: participant.version,
        state: participant.presence.wire() as i32,
        tracks: participant.tracks.iter().map(|track| entry::bytes_of(&**track)).collect(),
        subscribers: participant.subscribers.as_ref().map(|permission| entry::bytes_of(&**permission)),
        came_from: participant.came_from.as_ref().map(|(bridge, _)| bridge.clone()).unwrap_or_default(),
        moved_at: participant.came_from.as_ref().map_or(0, |(_, moved)| *moved),
    });
    log::Snapshot {
        version: 1,
        metadata: state.metadata.clone(),
        participants: participants.collect(),
        revocations: (state.revocations.iter())
            .map(|(identity, before_ms)| log::Revoked { identity: identity.to_string(), before_ms: *before_ms })
            .collect(),
        carried: (state.carried.iter())
            .map(|(sequence, entry)| log::Carried { sequence: *sequence, entry: entry.clone() })
            .collect(),
        keeper: state.keeper.clone(),
    }
}

/// Replaces the state by a snapshot taken after entry `sequence`.
pub fn restore(state: &mut State, sequence: u64, snapshot: &log::Snapshot) {
    let mut restored = State::new(state.room.clone());
    restored.metadata.clone_from(&snapshot.metadata);
    for participant in &snapshot.participants {
        let Some(joined) = &participant.joined else { continue };
        let mut who = newcomer(joined);
        let sid = who.sid.clone();
        who.presence = Presence::from_wire(participant.state).unwrap_or(Presence::Joining);
        let permission = participant.subscribers.as_ref().map(|bytes| SubscriptionPermission::decode(&**bytes));
        who.subscribers = permission.and_then(Result::ok).map(Arc::new);
        who.came_from = Some((participant.came_from.clone(), participant.moved_at)).filter(|(_, moved)| *moved > 0);
        add(&mut restored, who);
        for info in &participant.tracks {
            publish(&mut restored, sid.as_str(), info);
        }
        if let Some(who) = restored.participants.get_mut(&sid) {
            Arc::make_mut(who).version = participant.version;
        }
    }
    restored.keeper.clone_from(&snapshot.keeper);
    restored.keep();
    snapshot.revocations.iter().for_each(|revoked| revoke(&mut restored, revoked));
    // A neighbour of another version may have carried what we know: then it is an entry like any other.
    for carried in &snapshot.carried {
        apply(&mut restored, &Logged::decode(carried.sequence, carried.entry.clone()));
    }
    restored.sequence = sequence;
    *state = restored;
}

fn newcomer(joined: &Joined) -> Participant {
    Participant {
        sid: joined.sid.as_str().into(),
        identity: joined.identity.as_str().into(),
        name: joined.name.clone(),
        metadata: joined.metadata.clone(),
        attributes: joined.attributes.clone().into_iter().collect::<BTreeMap<_, _>>(),
        kind: joined.kind,
        permission: joined.permission.as_ref().map(entry::permission_from_log).unwrap_or_default(),
        presence: Presence::Joining,
        joined_at_ms: i64::try_from(joined.joined_ms).unwrap_or(i64::MAX),
        version: 1,
        client_protocol: joined.client_protocol,
        capabilities: joined.capabilities.clone(),
        bridge: joined.bridge.clone(),
        join_id: joined.join_id.clone(),
        forwarded_from: Some(joined.forwarded_from.as_str().into()).filter(|_| !joined.forwarded_from.is_empty()),
        came_from: None,
        tracks: Vec::new(),
        subscribers: None,
    }
}

fn joined(participant: &Participant) -> Joined {
    Joined {
        sid: participant.sid.to_string(),
        identity: participant.identity.to_string(),
        name: participant.name.clone(),
        metadata: participant.metadata.clone(),
        attributes: participant.attributes.clone().into_iter().collect(),
        permission: Some(entry::permission_to_log(&participant.permission)),
        kind: participant.kind,
        bridge: participant.bridge.clone(),
        join_id: participant.join_id.clone(),
        joined_ms: u64::try_from(participant.joined_at_ms).unwrap_or_default(),
        client_protocol: participant.client_protocol,
        capabilities: participant.capabilities.clone(),
        forwarded_from: participant.forwarded_from.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

/// Adds somebody; whoever has the same identity or sid goes.
fn add(state: &mut State, participant: Participant) {
    remove(state, participant.sid.as_str());
    if let Some(older) = state.identities.get(&participant.identity).cloned() {
        remove(state, older.as_str());
    }
    state.identities.insert(participant.identity.clone(), participant.sid.clone());
    state.participants.insert(participant.sid.clone(), Arc::new(participant));
}

fn remove(state: &mut State, sid: &str) {
    let Some(participant) = state.participants.remove(sid) else { return };
    state.identities.remove(&participant.identity);
    for track in &participant.tracks {
        state.owners.remove(track.sid.as_str());
    }
}

fn publish(state: &mut State, publisher: &str, info: &[u8]) {
    let Ok(info) = TrackInfo::decode(info) else { return };
    let sid = TrackSid::from(info.sid.as_str());
    if !state.participants.contains_key(publisher) || state.owners.contains_key(&sid) {
        return;
    }
    state.owners.insert(sid, ParticipantSid::from(publisher));
    change(state, publisher, |participant| participant.tracks.push(Arc::new(info)));
}

fn revoke(state: &mut State, revoked: &log::Revoked) {
    state.revocations.retain(|(identity, _)| identity.as_str() != revoked.identity);
    state.revocations.push((revoked.identity.as_str().into(), revoked.before_ms));
    if state.revocations.len() > limits::REVOCATIONS {
        state.revocations.remove(0);
    }
}

/// Changes a participant and counts its version up.
fn change(state: &mut State, sid: &str, change: impl FnOnce(&mut Participant)) {
    if let Some(participant) = state.participants.get_mut(sid) {
        let participant = Arc::make_mut(participant);
        change(participant);
        participant.version = participant.version.saturating_add(1);
    }
}

fn change_track(state: &mut State, sid: &TrackSid, change_info: impl FnOnce(&mut TrackInfo)) {
    let Some(owner) = state.owners.get(sid).cloned() else { return };
    change(state, owner.as_str(), |participant| {
        if let Some(track) = participant.tracks.iter_mut().find(|track| track.sid == sid.as_str()) {
            change_info(Arc::make_mut(track));
        }
    });
}
