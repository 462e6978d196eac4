//! What an entry means to each participant: [`announce`], and what a newcomer is told first: [`welcome`]. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use livekit_protocol::leave_request::Action;
use livekit_protocol::{DisconnectReason, ParticipantInfo};
use ratssaal_proto::room::v1::LeaveReason;

use super::entry::{self, Event};
use super::ids::{ParticipantSid, TrackSid};
use super::session::ToSession;
use super::state::{Participant, State};

/// Who is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Audience {
    /// Everybody.
    All,
    /// Everybody but one.
    Except(ParticipantSid),
    /// One.
    Only(ParticipantSid),
}

/// Something to tell.
#[derive(Clone, PartialEq, Debug)]
pub struct Announcement {
    /// Whom.
    pub to: Audience,
    /// What. [`ToSession::TrackAvailable`] holds only where the track has media; the teller checks that.
    pub message: ToSession,
}

/// What participants are told about `event`, which led from `before` to `after`, in this order.
#[must_use]
pub fn announce(before: &State, event: &Event, after: &State) -> Vec<Announcement> {
    let mut out = Vec::new();
    match event {
        Event::Joined(joined) => {
            let sid = joined.sid.as_str().into();
            if let Some(newcomer) = after.participant(&sid) {
                tell_others(&mut out, newcomer);
            }
        }
        Event::ParticipantUpdated(update) => {
            if let Some(participant) = after.participant(&update.sid.as_str().into()) {
                tell(&mut out, participant);
            }
        }
        Event::Left(left) => {
            let sid = ParticipantSid::from(left.sid.as_str());
            let Some(gone) = before.participant(&sid) else { return out };
            let reason = entry::left_because(LeaveReason::try_from(left.reason).unwrap_or_default());
            availability(&mut out, before, after, &tracks_of(gone), Viewers::All);
            if !gone.permission.hidden {
                push(&mut out, Audience::Except(sid.clone()), participants(gone.farewell(reason)));
            }
            push(&mut out, Audience::Only(sid), ToSession::Leave { reason, action: action_after(reason) });
        }
        Event::TrackPublished(published) => {
            let Some(publisher) = after.participant(&published.participant_sid.as_str().into()) else { return out };
            let Some(track) = publisher.tracks.last() else { return out };
            let track = TrackSid::from(track.sid.as_str());
            if before.track(&track).is_some() {
                return out;
            }
            tell_others(&mut out, publisher);
            for viewer in after.participants() {
                withheld(&mut out, after, viewer, publisher, &track);
            }
            availability(&mut out, before, after, &[track], Viewers::All);
        }
        Event::TrackUpdated(_) | Event::TrackMuted(_) => {
            let Some(track) = track_of(event) else { return out };
            let Some((publisher, _)) = after.track(&track) else { return out };
            tell_others(&mut out, publisher);
            if let Event::TrackMuted(muted) = event
                && !muted.by_publisher
            {
                let message = ToSession::SetMuted { track, muted: muted.muted };
                push(&mut out, Audience::Only(publisher.sid.clone()), message);
            }
        }
        Event::TrackUnpublished(unpublished) => {
            let track = TrackSid::from(unpublished.track_sid.as_str());
            let Some((publisher, _)) = before.track(&track) else { return out };
            let publisher = publisher.sid.clone();
            availability(&mut out, before, after, std::slice::from_ref(&track), Viewers::All);
            if let Some(publisher) = after.participant(&publisher) {
                tell_others(&mut out, publisher);
            }
            push(&mut out, Audience::Only(publisher), ToSession::TrackUnpublished(track));
        }
        Event::PermissionChanged(changed) => permission_changed(&mut out, before, after, &changed.sid.as_str().into()),
        Event::SubscriptionsPermitted(permitted) => {
            let Some(publisher) = after.participant(&permitted.participant_sid.as_str().into()) else { return out };
            availability(&mut out, before, after, &tracks_of(publisher), Viewers::AllWithReason);
        }
        Event::MetadataChanged(_) => push(&mut out, Audience::All, ToSession::Room(Arc::new(after.info()))),
        // Nobody need know where somebody sits.
        Event::Revoked(_) | Event::Moved(_) => {}
        Event::Ended(_) => {
            let reason = after.ended().unwrap_or(DisconnectReason::RoomClosed);
            push(&mut out, Audience::All, ToSession::Leave { reason, action: Action::Disconnect });
        }
    }
    out
}

/// What a newcomer is told right after it has joined: which tracks it may have and which are withheld from it.
#[must_use]
pub fn welcome(state: &State, newcomer: &Participant) -> Vec<Announcement> {
    let mut out = Vec::new();
    for publisher in state.participants() {
        for track in tracks_of(publisher) {
            withheld(&mut out, state, newcomer, publisher, &track);
            if state.may_subscribe(&newcomer.sid, &track) {
                push(&mut out, Audience::Only(newcomer.sid.clone()), ToSession::TrackAvailable(track));
            }
        }
    }
    out
}

/// What participants are told when the state moves on by several entries at once, whose events are not known any more but
/// for the `reasons` why some are gone.
#[must_use]
pub fn catch_up(
    before: &State,
    after: &State,
    reasons: &BTreeMap<ParticipantSid, DisconnectReason>,
) -> Vec<Announcement> {
    let mut out = Vec::new();
    let tracks: Vec<_> = before.participants().chain(after.participants()).flat_map(|p| tracks_of(p)).collect();
    let tracks: BTreeSet<_> = tracks.into_iter().collect();
    let tracks: Vec<_> = tracks.into_iter().collect();
    for gone in before.participants().filter(|participant| after.participant(&participant.sid).is_none()) {
        let again = after.by_identity(gone.identity.as_str()).map(|_| DisconnectReason::DuplicateIdentity);
        let known = reasons.get(&gone.sid).copied().or(again);
        let reason = known.unwrap_or(DisconnectReason::UnknownReason);
        if !gone.permission.hidden {
            push(&mut out, Audience::Except(gone.sid.clone()), participants(gone.farewell(reason)));
        }
        let action = known.map_or(Action::Reconnect, action_after);
        push(&mut out, Audience::Only(gone.sid.clone()), ToSession::Leave { reason, action });
    }
    for participant in after.participants() {
        match before.participant(&participant.sid) {
            None => tell(&mut out, participant),
            Some(was) => changed(&mut out, was, participant),
        }
    }
    availability(&mut out, before, after, &tracks, Viewers::All);
    push(&mut out, Audience::All, ToSession::Room(Arc::new(after.info())));
    out
}

/// Tells what somebody has become who was and is there.
fn changed(out: &mut Vec<Announcement>, was: &Participant, is: &Participant) {
    let only = || Audience::Only(is.sid.clone());
    if was.permission != is.permission {
        push(out, only(), ToSession::Permission(is.permission.clone()));
    }
    if !was.permission.hidden && is.permission.hidden {
        let farewell = was.farewell(DisconnectReason::UnknownReason);
        push(out, Audience::Except(is.sid.clone()), participants(farewell));
    }
    if was.info() != is.info() {
        tell(out, is);
    }
    for track in &was.tracks {
        let sid = TrackSid::from(track.sid.as_str());
        match is.track(&sid) {
            None => push(out, only(), ToSession::TrackUnpublished(sid)),
            Some(now) if now.muted != track.muted => {
                push(out, only(), ToSession::SetMuted { track: sid, muted: now.muted });
            }
            Some(_) => {}
        }
    }
}

fn permission_changed(out: &mut Vec<Announcement>, before: &State, after: &State, sid: &ParticipantSid) {
    let (Some(was), Some(is)) = (before.participant(sid), after.participant(sid)) else { return };
    push(out, Audience::Only(sid.clone()), ToSession::Permission(is.permission.clone()));
    match (was.permission.hidden, is.permission.hidden) {
        (false, true) => {
            let farewell = was.farewell(DisconnectReason::UnknownReason);
            push(out, Audience::Except(sid.clone()), participants(farewell));
            push(out, Audience::Only(sid.clone()), participants(is.info()));
        }
        _ => tell(out, is),
    }
    let tracks: Vec<_> = after.participants().flat_map(|participant| tracks_of(participant)).collect();
    availability(out, before, after, &tracks, Viewers::Only(is));
    availability(out, before, after, &tracks_of(is), Viewers::All);
}

/// Whose view of tracks may have changed.
enum Viewers<'a> {
    All,
    /// Because the publisher said so, which is told too.
    AllWithReason,
    Only(&'a Participant),
}

/// Tells viewers which of `tracks` they may have now and could not before, and the other way round.
fn availability(out: &mut Vec<Announcement>, before: &State, after: &State, tracks: &[TrackSid], viewers: Viewers<'_>) {
    let with_reason = matches!(viewers, Viewers::AllWithReason);
    for track in tracks {
        let mut compare = |viewer: &Participant| {
            let (was, is) = (before.may_subscribe(&viewer.sid, track), after.may_subscribe(&viewer.sid, track));
            if was == is {
                return;
            }
            let to = || Audience::Only(viewer.sid.clone());
            if let (true, Some((publisher, _))) = (with_reason, after.track(track)) {
                let (publisher, track) = (publisher.sid.clone(), track.clone());
                push(out, to(), ToSession::SubscriptionPermission { publisher, track, allowed: is });
            }
            let track = track.clone();
            let message = if is { ToSession::TrackAvailable(track) } else { ToSession::TrackUnavailable(track) };
            push(out, to(), message);
        };
        match viewers {
            Viewers::Only(viewer) => compare(viewer),
            Viewers::All | Viewers::AllWithReason => after.participants().for_each(|viewer| compare(viewer)),
        }
    }
}

/// Tells a viewer that a publisher keeps this track from it.
fn withheld(
    out: &mut Vec<Announcement>,
    state: &State,
    viewer: &Participant,
    publisher: &Participant,
    track: &TrackSid,
) {
    let visible = viewer.sid != publisher.sid && viewer.permission.can_subscribe && !publisher.permission.hidden;
    if visible && !state.may_subscribe(&viewer.sid, track) {
        let (publisher, track) = (publisher.sid.clone(), track.clone());
        let message = ToSession::SubscriptionPermission { publisher, track, allowed: false };
        push(out, Audience::Only(viewer.sid.clone()), message);
    }
}

/// Tells everybody, or only itself when it is hidden.
fn tell(out: &mut Vec<Announcement>, participant: &Participant) {
    let sid = participant.sid.clone();
    let to = if participant.permission.hidden { Audience::Only(sid) } else { Audience::All };
    push(out, to, participants(participant.info()));
}

/// Tells everybody else, or nobody when it is hidden.
fn tell_others(out: &mut Vec<Announcement>, participant: &Participant) {
    if !participant.permission.hidden {
        push(out, Audience::Except(participant.sid.clone()), participants(participant.info()));
    }
}

fn participants(info: ParticipantInfo) -> ToSession {
    ToSession::Participants(Arc::new([info]))
}

fn push(out: &mut Vec<Announcement>, to: Audience, message: ToSession) {
    out.push(Announcement { to, message });
}

fn tracks_of(participant: &Participant) -> Vec<TrackSid> {
    participant.tracks.iter().map(|track| track.sid.as_str().into()).collect()
}

fn track_of(event: &Event) -> Option<TrackSid> {
    use prost::Message as _;
    match event {
        Event::TrackUpdated(updated) => {
            let info = livekit_protocol::TrackInfo::decode(&*updated.info).ok()?;
            Some(info.sid.as_str().into())
        }
        Event::TrackMuted(muted) => Some(muted.track_sid.as_str().into()),
        _ => None,
    }
}

/// What a client does after leaving for this reason: only somebody who lost its place by no fault of anyone comes back.
fn action_after(reason: DisconnectReason) -> Action {
    match reason {
        DisconnectReason::StateMismatch
        | DisconnectReason::Migration
        | DisconnectReason::MediaFailure
        | DisconnectReason::ConnectionTimeout => Action::Reconnect,
        _ => Action::Disconnect,
    }
}
