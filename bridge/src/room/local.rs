//! What entries mean on this bridge: the state is replaced, sessions are told, media follows.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use livekit_protocol::leave_request::Action;
use livekit_protocol::{
    ConnectionQualityInfo, DisconnectReason, ParticipantInfo, TrackInfo, TrackSource, TrackType, encryption,
};
use tokio::time::Instant;
use tracing::warn;

use super::actor::{LINGERS, Pending, RoomActor};
use super::announce::{self, Announcement, Audience};
use super::away::left_by;
use super::command::Command;
use super::entry::{Event, Logged};
use super::handle::{LocalTrack, RoomHandle};
use super::ids::{ParticipantSid, TrackSid};
use super::inbox::Inbox;
use super::queue::Reasons;
use super::relays::{Spread, ToRelay};
use super::session::ToSession;
use super::state::{Participant, State};
use crate::media::control::{self, TrackId};

/// Scores (1 to 4.5) differ from so much on.
const NOTICEABLE: f32 = 0.1;

impl RoomActor {
    /// Applies entries in the log's order; those applied already are skipped.
    pub(super) fn apply_all(&mut self, entries: Vec<Logged>) {
        let mut reasons: Option<Reasons> = None;
        for entry in entries {
            let last = self.mark();
            if entry.sequence == last.sequence && entry.at_ms != last.at_ms && entry.at_ms.min(last.at_ms) > 0 {
                warn!(room = %self.shared.name, sequence = entry.sequence, "another entry stands in the room's log; telling it ours");
                (self.tail, self.due) = (None, true);
                break;
            }
            if entry.sequence <= last.sequence {
                continue;
            }
            if entry.sequence != last.sequence + 1 {
                // Never seen from an allocator that keeps its contract; reading anew heals it.
                warn!(room = %self.shared.name, sequence = entry.sequence, "a gap in the room's log; reading it again");
                (self.tail, self.due) = (None, true);
                break;
            }
            if matches!(entry.event, Some(Event::Ended(_))) {
                reasons.take().into_iter().for_each(|reasons| self.rebase(reasons));
                self.queue.clear();
            }
            let before = Arc::clone(&self.state);
            if let Some(Event::Moved(moved)) = &entry.event
                && let Some(who) = self.logged.participant(&moved.sid.as_str().into())
            {
                self.expect(who.bridge.clone(), LINGERS);
            }
            let waited = !self.queue.is_empty();
            if let Some(parcel) = &self.airborne {
                self.queue.found(parcel, &entry);
            }
            self.advance(&entry);
            if waited || reasons.is_some() {
                reasons.get_or_insert_default().extend(left_by(&entry));
                continue;
            }
            self.publish_state(Arc::clone(&self.logged));
            if let Some(event) = &entry.event {
                self.follow(&before, event);
            }
        }
        if let Some(reasons) = reasons {
            self.rebase(reasons);
        }
        self.due |= self.behind.is_some_and(|(_, head)| self.logged.sequence() >= head) && !self.queue.is_empty();
    }

    /// Replaces the logged state by one that is several entries further.
    pub(super) fn jump_to(&mut self, after: State) {
        (self.logged, self.at_ms) = (Arc::new(after), 0);
        self.rebase(Reasons::new());
        self.due |= !self.queue.is_empty();
    }

    pub(super) fn publish_state(&mut self, after: Arc<State>) {
        self.state = after;
        self.rated.retain(|sid, _| self.state.participant(sid).is_some_and(|who| !who.permission.hidden));
        // Before anybody can say something to who is new.
        self.spread();
        self.shared.state.store(Arc::clone(&self.state));
        self.shared.applied.send_replace(self.state.sequence());
        self.hold_back();
    }

    /// Tells on which bridges the participants sit or will in a moment, when that changed.
    pub(super) fn spread(&mut self) {
        let Some(spreads) = &self.spreads else { return };
        let over = self.state.ended().is_some();
        let sat = self.state.participants().map(|who| &who.bridge);
        let bridges: BTreeSet<String> = sat.chain(self.expected.keys()).filter(|_| !over).cloned().collect();
        if bridges != self.spread {
            let new = bridges.difference(&self.spread).filter(|bridge| **bridge != self.bridge);
            new.for_each(|bridge| self.shared.announce_relay(bridge));
            for gone in self.spread.difference(&bridges) {
                self.shared.forget_relay(gone);
            }
            self.spread.clone_from(&bridges);
            // Nobody relays while this bridge stops.
            let _ = spreads.send(Spread { room: RoomHandle { shared: Arc::clone(&self.shared) }, bridges });
        }
    }

    /// For so long a bridge belongs to the room whether anybody sits there or not.
    pub(super) fn expect(&mut self, bridge: String, within: Duration) {
        let until = Instant::now() + within;
        let known = self.expected.entry(bridge).or_insert(until);
        *known = until.max(*known);
        self.shared.crossing.set(self.expected.keys().cloned().collect());
    }

    /// Bridges to which nobody has come, or from which everybody has gone for good, belong to the room no more.
    pub(super) fn stop_expecting(&mut self) {
        let before = self.expected.len();
        self.expected.retain(|_, until| *until > Instant::now());
        if self.expected.len() == before {
            return;
        }
        self.shared.crossing.set(self.expected.keys().cloned().collect());
        self.spread();
        if !self.expected.contains_key(&self.bridge) {
            self.forget_moved();
        }
    }

    /// Media that clients sent here who have moved to another bridge, and that has not come from there instead.
    fn forget_moved(&mut self) {
        let moved: Vec<(TrackSid, TrackId)> = {
            let here = |sid: &ParticipantSid| self.state.participant(sid).is_none_or(|who| who.bridge == self.bridge);
            let tracks = self.shared.tracks.read().unwrap_or_else(PoisonError::into_inner);
            let left = tracks.iter().filter(|(_, track)| track.relay.is_none() && !here(&track.publisher));
            left.map(|(sid, track)| (sid.clone(), track.media)).collect()
        };
        moved.iter().for_each(|(sid, media)| self.unbound(sid, *media));
    }

    pub(super) fn follow(&mut self, before: &State, event: &Event) {
        if let Event::Joined(joined) = event {
            self.admit(&joined.sid.as_str().into(), &joined.bridge);
        }
        if let Event::Moved(moved) = event {
            self.moved(&moved.sid.as_str().into(), &moved.bridge);
        }
        if let Event::TrackMuted(muted) = event {
            self.mute_media(&muted.track_sid.as_str().into(), muted.muted);
        }
        if let Event::ParticipantUpdated(update) = event
            && let Some(who) = self.state.participant(&update.sid.as_str().into())
        {
            self.exempt_interpreter(before, who);
        }
        let announcements = announce::announce(before, event, &self.state);
        match event {
            // Of one who is hidden nothing is told.
            Event::Joined(joined) if !announcements.is_empty() => self.arrivals.add(joined.sid.as_str().into()),
            _ => self.tell(announcements),
        }
        match event {
            Event::Left(left) => self.forget(&left.sid.as_str().into()),
            Event::TrackUnpublished(unpublished) => self.unbind(|sid, _| sid.as_str() == unpublished.track_sid),
            _ => {}
        }
    }

    /// Somebody has joined: if here, its session hears from the room from now on.
    pub(super) fn admit(&mut self, sid: &ParticipantSid, bridge: &str) {
        let Some(newcomer) = self.state.participant(sid).cloned() else { return };
        match self.joining.remove(sid) {
            Some(inbox) => {
                self.change_sessions(|sessions| drop(sessions.insert(sid.clone(), inbox)));
                self.tell(announce::welcome(&self.state, &newcomer));
                let speaking = self.speakers.current();
                if !speaking.is_empty() {
                    self.tell_one(sid, ToSession::Speakers(speaking.into()));
                }
                if !self.rated.is_empty() {
                    self.tell_one(sid, ToSession::Quality(self.rated.values().cloned().collect()));
                }
            }
            // The append that brought it failed on its way back and its client was refused: nobody sits there.
            None if bridge == self.bridge && !self.has_session(sid) => {
                let reason = DisconnectReason::JoinFailure;
                self.retry.push_back(Pending::of_bridge(Command::Leave { participant: sid.clone(), reason }));
            }
            None => {}
        }
    }

    /// Somebody sits on another bridge than before. What it publishes stays as it is here until that comes from there.
    pub(super) fn moved(&mut self, sid: &ParticipantSid, bridge: &str) {
        if bridge == self.bridge {
            self.admit(sid, bridge);
        } else if self.has_session(sid) {
            self.tell_one(sid, ToSession::MovedAway);
            self.change_sessions(|sessions| drop(sessions.remove(sid)));
        }
    }

    /// Media of a track has arrived here.
    pub(super) fn bound(&mut self, track: &TrackSid) {
        let Some((publisher, info)) = self.state.track(track) else { return };
        let exempt = is_exempt(publisher, info);
        let (muted, publisher) = (info.muted, publisher.sid.clone());
        let encrypted = info.encryption() != encryption::Type::None;
        // Also when it was ours a moment ago and comes from another bridge now.
        if self.shared.is_own(track) || self.expected.contains_key(&self.bridge) {
            self.shared.tell_relays(&ToRelay::Tracks);
        }
        if muted {
            self.mute_media(track, true);
        }
        if exempt {
            self.order_media(track, |track| control::Command::ExemptTrack { track, exempt });
        }
        if encrypted {
            self.order_media(track, |track| control::Command::EncryptedTrack { track });
        }
        for (sid, inbox) in self.shared.sessions.load().iter() {
            if *sid != publisher && self.state.may_subscribe(sid, track) {
                inbox.send(ToSession::TrackAvailable(track.clone()));
            }
        }
    }

    /// Media of a track has gone that a relay had brought.
    pub(super) fn unbound(&mut self, track: &TrackSid, media: TrackId) {
        let own = |known: &LocalTrack| known.media == media;
        let there = self.shared.tracks.read().unwrap_or_else(PoisonError::into_inner).get(track).is_some_and(own);
        if there {
            self.unbind(|sid, _| sid == track);
            self.tell_all(&ToSession::TrackUnavailable(track.clone()));
        }
    }

    /// Somebody has become an interpreter or is one no more.
    pub(super) fn exempt_interpreter(&self, before: &State, who: &Participant) {
        let interpreted = before.participant(&who.sid).is_some_and(|before| before.interprets());
        if who.interprets() == interpreted {
            return;
        }
        for info in &who.tracks {
            let exempt = is_exempt(who, info);
            self.order_media(&info.sid.as_str().into(), |track| control::Command::ExemptTrack { track, exempt });
        }
    }

    pub(super) fn mute_media(&self, track: &TrackSid, muted: bool) {
        self.order_media(track, |track| control::Command::MuteTrack { track, muted });
    }

    /// A command about a track in all its codecs, to its worker.
    fn order_media(&self, track: &TrackSid, command: impl Fn(TrackId) -> control::Command) {
        let tracks = self.shared.tracks.read().unwrap_or_else(PoisonError::into_inner);
        let own = tracks.get(track).filter(|local| !local.borrowed);
        for media in own.into_iter().flat_map(LocalTrack::all_media) {
            self.shared.media.send(command(media));
        }
    }

    pub(super) fn unbind(&self, gone: impl Fn(&TrackSid, &LocalTrack) -> bool) {
        let own = {
            let mut tracks = self.shared.tracks.write().unwrap_or_else(PoisonError::into_inner);
            let mut own = false;
            tracks.retain(|sid, track| {
                let gone = gone(sid, track);
                own |= gone && track.relay.is_none();
                !gone
            });
            own
        };
        if own {
            self.shared.tell_relays(&ToRelay::Tracks);
        }
    }

    /// Somebody has left.
    pub(super) fn forget(&mut self, sid: &ParticipantSid) {
        self.unbind(|_, track| track.publisher == *sid);
        self.speakers.forget(sid);
        self.forwarded.remove(sid);
        self.qualities.remove(sid);
        if self.has_session(sid) {
            self.change_sessions(|sessions| drop(sessions.remove(sid)));
        }
    }

    fn has_session(&self, sid: &ParticipantSid) -> bool {
        self.shared.sessions.load().contains_key(sid)
    }

    fn change_sessions(&self, change: impl FnOnce(&mut HashMap<ParticipantSid, Inbox>)) {
        let mut sessions = HashMap::clone(&self.shared.sessions.load());
        change(&mut sessions);
        self.shared.sessions.store(Arc::new(sessions));
    }

    /// Sessions that lost a message: they are out at once, and their leaving is yet to be logged.
    pub(super) fn broken_sessions(&self) -> Vec<ParticipantSid> {
        let sessions = self.shared.sessions.load();
        let broken: Vec<_> =
            sessions.iter().filter(|(_, inbox)| inbox.is_broken()).map(|(sid, _)| sid.clone()).collect();
        if !broken.is_empty() {
            self.metrics.slow_sessions.inc_by(broken.len() as u64);
            self.change_sessions(|sessions| sessions.retain(|sid, _| !broken.contains(sid)));
        }
        broken
    }

    /// Announces those who have joined and are not announced yet, but for those who are `told` of anyway. Each of them knows
    /// already who had come before it.
    pub(super) fn announce_arrivals(&mut self, told: &BTreeSet<&str>) {
        let arrived = self.arrivals.take();
        let infos = |arrived: &[ParticipantSid]| -> Arc<[ParticipantInfo]> {
            let new = arrived.iter().filter(|sid| !told.contains(sid.as_str()));
            let present = new.filter_map(|sid| self.state.participant(sid));
            present.filter(|who| !who.permission.hidden).map(|who| who.info()).collect()
        };
        let all = infos(&arrived);
        if all.is_empty() {
            return;
        }
        for (sid, inbox) in self.shared.sessions.load().iter() {
            let after = arrived.iter().position(|known| known == sid).map(|own| infos(&arrived[own + 1..]));
            let new = after.unwrap_or_else(|| Arc::clone(&all));
            if !new.is_empty() {
                inbox.send(ToSession::Participants(new));
            }
        }
    }

    /// Everybody knows of those who arrived before anything is told that may concern them.
    pub(super) fn tell(&mut self, announcements: Vec<Announcement>) {
        let to_many = |announcement: &&Announcement| !matches!(announcement.to, Audience::Only(_));
        if announcements.iter().any(|announcement| to_many(&announcement)) {
            let told = announcements.iter().filter(to_many).filter_map(|announcement| match &announcement.message {
                ToSession::Participants(infos) => Some(infos.iter().map(|info| info.sid.as_str())),
                _ => None,
            });
            self.announce_arrivals(&told.flatten().collect());
        }
        let sessions = self.shared.sessions.load();
        for Announcement { to, message } in announcements {
            if let ToSession::TrackAvailable(track) = &message
                && !self.shared.tracks.read().unwrap_or_else(PoisonError::into_inner).contains_key(track)
            {
                continue;
            }
            match to {
                Audience::Only(sid) => sessions.get(&sid).into_iter().for_each(|inbox| inbox.send(message.clone())),
                Audience::Except(not) => {
                    let others = sessions.iter().filter(|(sid, _)| **sid != not);
                    others.for_each(|(_, inbox)| inbox.send(message.clone()));
                }
                Audience::All => self.send_all(&message),
            }
        }
    }

    pub(super) fn tell_all(&mut self, message: &ToSession) {
        self.announce_arrivals(&BTreeSet::new());
        self.send_all(message);
    }

    fn send_all(&self, message: &ToSession) {
        self.shared.sessions.load().values().for_each(|inbox| inbox.send(message.clone()));
    }

    fn tell_one(&self, sid: &ParticipantSid, message: ToSession) {
        if let Some(inbox) = self.shared.sessions.load().get(sid) {
            inbox.send(message);
        }
    }

    /// Tells what changed in the qualities reported since the last time; a hidden participant's only to itself.
    pub(super) fn tell_qualities(&mut self) {
        let mut visible: Vec<ConnectionQualityInfo> = Vec::new();
        let here = |sid: &ParticipantSid| self.state.participant(sid).is_some_and(|who| who.bridge == self.bridge);
        let own: Vec<_> = self.qualities.iter().filter(|(sid, _)| here(sid)).map(|(_, info)| info.clone()).collect();
        if !own.is_empty() {
            self.shared.tell_relays(&ToRelay::Quality(own));
        }
        for (sid, info) in std::mem::take(&mut self.qualities) {
            match self.state.participant(&sid) {
                Some(participant) if participant.permission.hidden => {
                    self.tell_one(&sid, ToSession::Quality([info].into()));
                }
                Some(_) if self.rated.get(&sid).is_some_and(|told| is_like(told, &info)) => {}
                Some(_) => {
                    visible.push(info.clone());
                    self.rated.insert(sid, info);
                }
                None => {}
            }
        }
        if !visible.is_empty() {
            self.tell_all(&ToSession::Quality(visible.into()));
        }
    }

    /// Tells how many are there, when that changed.
    pub(super) fn tell_counts(&mut self) {
        let info = self.state.info();
        let counts = (info.num_participants, info.num_publishers);
        if counts != self.told {
            self.told = counts;
            self.tell_all(&ToSession::Room(Arc::new(info)));
        }
    }

    /// The room is over although no entry said so here.
    pub(super) fn end(&mut self, reason: DisconnectReason) {
        if self.state.ended().is_none() {
            let mut after = State::clone(&self.logged);
            after.end(reason);
            self.queue.clear();
            self.logged = Arc::new(after);
            self.publish_state(Arc::clone(&self.logged));
            self.tell_all(&ToSession::Leave { reason, action: Action::Disconnect });
        }
    }

    /// The last thing this task does: all inboxes end. Whoever is still here is told so.
    pub(super) fn close(&mut self) {
        if self.state.ended().is_none() {
            let reason = DisconnectReason::ServerShutdown;
            self.tell_all(&ToSession::Leave { reason, action: Action::Disconnect });
        }
        self.stop_waiting();
        self.change_sessions(HashMap::clear);
        self.unbind(|_, _| true);
        if let Some(spreads) = &self.spreads {
            let room = RoomHandle { shared: Arc::clone(&self.shared) };
            let _ = spreads.send(Spread { room, bridges: BTreeSet::new() });
        }
    }
}

/// Whether nobody sees a difference: the same word, and nearly the same score.
fn is_like(told: &ConnectionQualityInfo, now: &ConnectionQualityInfo) -> bool {
    told.quality == now.quality && (told.score - now.score).abs() < NOTICEABLE
}

/// Whether a track's sound is forwarded however many voices of the room are louder: what is heard with a shared screen, and
/// interpreters.
fn is_exempt(publisher: &Participant, info: &TrackInfo) -> bool {
    info.r#type() == TrackType::Audio && (info.source() == TrackSource::ScreenShareAudio || publisher.interprets())
}
