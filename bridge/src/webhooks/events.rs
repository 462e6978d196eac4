//! What an entry of a room's log means to webhooks, and which bridge tells it. Pure.
//!
//! A room's keeper is the bridge of whoever has been in it longest; it tells. While the room is empty it stays with the
//! bridge of whoever left last. When a bridge is lost with its participants, the keeper among the others tells of that.

use std::sync::Arc;

use livekit_protocol::{ParticipantInfo, Room, RoomEndReason, TrackInfo, WebhookEvent};
use ratssaal_proto::room::v1::{EndReason, LeaveReason};

use crate::room::entry::{Event, Logged};
use crate::room::{Participant, Presence, State};

/// The events of an entry, in their order, and the bridge that tells them; `now` in Unix seconds. An empty name means the
/// bridge that opened the room.
pub(crate) fn of(before: &State, entry: &Logged, after: &State, now: i64) -> (String, Vec<WebhookEvent>) {
    let Some(event) = &entry.event else { return (String::new(), Vec::new()) };
    let mut keeper = before.keeper();
    let told = match event {
        Event::ParticipantUpdated(update) => {
            let sid = update.sid.as_str().into();
            let was = before.participant(&sid).is_some_and(|who| who.presence == Presence::Active);
            match after.participant(&sid) {
                Some(who) if !was && who.presence == Presence::Active => vec![about(after, "participant_joined", who)],
                _ => Vec::new(),
            }
        }
        Event::Left(left) => match before.participant(&left.sid.as_str().into()) {
            Some(who) => {
                if left.reason() == LeaveReason::BridgeLost && who.bridge == keeper {
                    keeper = before.keeper_without(&who.bridge).unwrap_or(keeper);
                }
                leaving(after, who)
            }
            None => Vec::new(),
        },
        Event::TrackPublished(_) | Event::TrackUnpublished(_) => tracks(before, after),
        Event::Ended(ended) => {
            let mut told: Vec<_> = before.participants().flat_map(|who| leaving(after, who)).collect();
            let reason = match ended.reason() {
                EndReason::Deleted => RoomEndReason::RoomEndApiDelete,
                EndReason::Empty => RoomEndReason::RoomEndIdleTimeout,
                EndReason::ServerShutdown => RoomEndReason::RoomEndServerShutdown,
                EndReason::Unspecified => RoomEndReason::RoomEndUnknown,
            };
            told.push(WebhookEvent { room_end_reason: reason.into(), ..in_room(after, "room_finished") });
            told
        }
        _ => Vec::new(),
    };
    // The same entry has the same ids wherever and however often it is told.
    let stay = before.room().sid.as_str().trim_start_matches("RM_");
    let id = |index: usize| format!("EV_{stay}_{}_{index}", entry.sequence);
    let told = told.into_iter().enumerate();
    (keeper.to_owned(), told.map(|(index, event)| WebhookEvent { id: id(index), created_at: now, ..event }).collect())
}

/// The event of a room that has just been opened.
pub(crate) fn started(state: &State, now: i64) -> WebhookEvent {
    let id = format!("EV_{}_0_0", state.room().sid.as_str().trim_start_matches("RM_"));
    WebhookEvent { id, created_at: now, ..in_room(state, "room_started") }
}

fn in_room(state: &State, event: &str) -> WebhookEvent {
    let room: Room = state.info();
    WebhookEvent { event: event.to_owned(), room: Some(room), ..WebhookEvent::default() }
}

fn about(state: &State, event: &str, who: &Participant) -> WebhookEvent {
    WebhookEvent { participant: Some(who.info()), ..in_room(state, event) }
}

/// Somebody goes, with its tracks.
fn leaving(after: &State, who: &Participant) -> Vec<WebhookEvent> {
    let mut told: Vec<_> = who.tracks.iter().map(|track| about_track(after, "track_unpublished", who, track)).collect();
    let event = match who.presence {
        Presence::Active => "participant_left",
        Presence::Joining | Presence::Joined => "participant_connection_aborted",
    };
    told.push(about(after, event, who));
    told
}

/// Tracks that came and went.
fn tracks(before: &State, after: &State) -> Vec<WebhookEvent> {
    let (was, is) = (published(before), published(after));
    let in_none = |track: &TrackInfo, of: &[Publication]| of.iter().all(|(_, other)| other.sid != track.sid);
    let gone = was.iter().filter(|(_, track)| in_none(track, &is));
    let gone = gone.map(|(who, track)| about_track(after, "track_unpublished", who, track));
    let come = is.iter().filter(|(_, track)| in_none(track, &was));
    gone.chain(come.map(|(who, track)| about_track(after, "track_published", who, track))).collect()
}

type Publication = (Arc<Participant>, Arc<TrackInfo>);

fn published(state: &State) -> Vec<Publication> {
    let of = |who: &Arc<Participant>| -> Vec<Publication> {
        who.tracks.iter().map(|track| (Arc::clone(who), Arc::clone(track))).collect()
    };
    state.participants().flat_map(of).collect()
}

/// As LiveKit does, with the publisher's names only.
fn about_track(state: &State, event: &str, who: &Participant, track: &TrackInfo) -> WebhookEvent {
    let participant = ParticipantInfo {
        sid: who.sid.to_string(),
        identity: who.identity.to_string(),
        name: who.name.clone(),
        ..ParticipantInfo::default()
    };
    WebhookEvent { participant: Some(participant), track: Some(track.clone()), ..in_room(state, event) }
}
