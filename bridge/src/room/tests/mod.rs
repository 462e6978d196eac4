//! Tests of rooms: the pure state machine by tables and properties, the tasks on the real allocator.

mod announcing;
mod leasing;
mod live;
mod properties;
mod restoring;
mod routing;
mod snapshots;
mod validating;
mod waiting;

use std::collections::BTreeMap;

use bytes::Bytes;
use livekit_protocol::{ParticipantPermission, TrackInfo, TrackSource, TrackType};

use super::announce::{Announcement, announce};
use super::apply::apply;
use super::command::{Actor, Command, Newcomer, Refusal};
use super::entry::{Event, Logged, encode};
use super::ids::ParticipantSid;
use super::state::{RoomFacts, State};
use super::validate::validate;

fn facts() -> RoomFacts {
    RoomFacts {
        sid: "RM_test".into(),
        name: "rat".into(),
        created_ms: 1_700_000_000_123,
        empty_timeout_ms: 300_000,
        departure_timeout_ms: 20_000,
        max_participants: 0,
    }
}

/// Everything allowed.
fn all_allowed() -> ParticipantPermission {
    ParticipantPermission {
        can_subscribe: true,
        can_publish: true,
        can_publish_data: true,
        can_update_metadata: true,
        ..ParticipantPermission::default()
    }
}

/// Somebody whose sid is `PA_` and the identity.
fn newcomer(identity: &str) -> Newcomer {
    Newcomer {
        sid: sid(identity),
        identity: identity.into(),
        name: identity.to_uppercase(),
        metadata: String::new(),
        attributes: BTreeMap::new(),
        kind: 0,
        permission: all_allowed(),
        client_protocol: 0,
        capabilities: Vec::new(),
        token_issued_ms: 1000,
        bridge: "here".to_owned(),
        join_id: format!("join-{identity}"),
        forwarded_from: None,
    }
}

fn sid(identity: &str) -> ParticipantSid {
    format!("PA_{identity}").into()
}

fn track(sid: &str, source: TrackSource) -> TrackInfo {
    let kind = match source {
        TrackSource::Microphone | TrackSource::ScreenShareAudio => TrackType::Audio,
        _ => TrackType::Video,
    };
    TrackInfo { sid: sid.to_owned(), r#type: kind as i32, source: source as i32, ..TrackInfo::default() }
}

/// A room that is changed as its task changes it.
#[derive(Clone)]
struct Room {
    state: State,
    /// What the last command led to.
    told: Vec<Announcement>,
    log: Vec<Bytes>,
}

impl Room {
    fn new() -> Self {
        Self { state: State::new(facts()), told: Vec::new(), log: Vec::new() }
    }

    /// With these people, `PA_x` being `x`.
    fn of(identities: &[&str]) -> Self {
        let mut room = Self::new();
        identities.iter().for_each(|identity| room.join(newcomer(identity)));
        room
    }

    fn join(&mut self, newcomer: Newcomer) {
        self.must(&Actor::Bridge, Command::Join(Box::new(newcomer)));
    }

    fn publish(&mut self, identity: &str, track_sid: &str, source: TrackSource) {
        let track = Box::new(track(track_sid, source));
        let participant = sid(identity);
        self.must(&Actor::Participant(participant.clone()), Command::Publish { participant, track });
    }

    fn must(&mut self, actor: &Actor, command: Command) {
        self.submit(actor, &command).unwrap_or_else(|refusal| panic!("{command:?}: {refusal}"));
    }

    fn submit(&mut self, actor: &Actor, command: &Command) -> Result<(), Refusal> {
        let events = validate(&self.state, command, actor, 1_700_000_001_000)?;
        self.told.clear();
        events.iter().for_each(|event| self.append(event));
        Ok(())
    }

    fn append(&mut self, event: &Event) {
        let before = self.state.clone();
        let bytes = encode(event);
        let logged = Logged::decode(before.sequence() + 1, bytes.clone());
        apply(&mut self.state, &logged);
        self.log.push(bytes);
        self.told.extend(announce(&before, event, &self.state));
    }
}
