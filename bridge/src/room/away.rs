//! While a room's log cannot be written: what concerns presence happens here at once and waits ([`Queue`](super::queue::Queue)),
//! people come in by the bridge's lease, and what needs agreement is refused. Nothing here waits for the allocator: calls
//! are under way ([`Flight`]) while the room goes on.

use std::collections::{BTreeSet, VecDeque};
use std::future::pending;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};

use livekit_protocol::DisconnectReason;
use ratssaal_proto::allocator::v1::{AppendResponse, RoomInfo, TailFrame};
use ratssaal_proto::room::v1::LeaveReason;
use tonic::Streaming;
use tracing::{debug, info, warn};

use super::actor::{Pending, RoomActor};
use super::announce;
use super::apply::apply;
use super::command::{Actor, Command, Newcomer, Refusal};
use super::commit::now_ms;
use super::entry::{self, Event, Logged};
use super::ids::ParticipantSid;
use super::inbox::Inbox;
use super::log::LogError;
use super::queue::{Parcel, Reasons, assume, may_wait, must_wait};
use super::relays::ToRelay;
use super::state::State;

/// Why the log is not written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// Nobody can be asked.
    Away,
    /// It is refused, for now.
    Refused,
}

impl Trouble {
    pub(super) fn of(error: &LogError) -> Self {
        if matches!(error, LogError::Away { .. }) { Self::Away } else { Self::Refused }
    }
}

/// A call that is under way while the room goes on.
pub(super) type Flight = Pin<Box<dyn Future<Output = Landed> + Send>>;

/// What came of it.
pub(super) enum Landed {
    Tail(Result<Streaming<TailFrame>, LogError>),
    Restored(Result<RoomInfo, LogError>),
    Appended(Result<AppendResponse, LogError>),
    Probed(Result<(), LogError>),
}

/// What came of the call that is under way. Never resolves without one. Cancel-safe.
pub(super) async fn landing(flight: &mut Option<Flight>) -> Landed {
    match flight {
        Some(flight) => flight.await,
        None => pending().await,
    }
}

impl RoomActor {
    /// What may wait happens here and is answered so; the rest is refused as unavailable.
    pub(super) fn postpone(&mut self, commands: VecDeque<Pending>) {
        let away = self.trouble == Some(Trouble::Away);
        for pending in commands {
            let (actor, command) = (pending.actor.clone(), pending.command.clone());
            let waits = must_wait(&command) || (away && may_wait(&command, &actor));
            let outcome = if waits { self.put(actor, command) } else { Err(Refusal::unavailable()) };
            self.answer([pending].into(), &outcome);
        }
    }

    /// Lets somebody in by the bridge's lease, since nobody can be asked; every other bridge may give so many seats
    /// `elsewhere`.
    pub(super) fn admit_by_lease(
        &mut self,
        newcomer: Box<Newcomer>,
        inbox: Inbox,
        elsewhere: u32,
    ) -> Result<(), Refusal> {
        if !self.has_place_for(&newcomer, elsewhere as usize) {
            return Err(Refusal::unavailable());
        }
        let sid = newcomer.sid.clone();
        self.joining.insert(sid.clone(), inbox);
        let outcome = self.put(Actor::Bridge, Command::Join(newcomer));
        self.joining.remove(&sid);
        if outcome.is_ok() {
            // It may be back already.
            (self.trouble, self.due) = (Some(Trouble::Away), true);
        }
        outcome
    }

    /// Whether the room lets somebody in on this bridge without asking: it is held here, belongs here, and remains within its
    /// limit whatever other bridges do with their leases, of so many seats each.
    fn has_place_for(&self, newcomer: &Newcomer, lent: usize) -> bool {
        let here = |state: &State| state.participants().any(|who| who.bridge == self.bridge);
        let (here, empty) = (here(&self.logged) || here(&self.state), self.logged.participants().next().is_none());
        let pin = self.log.site_pin();
        if !(pin.is_empty() || pin == self.site) || !(here || empty) {
            return false;
        }
        let most = self.logged.room().max_participants as usize;
        let others = self.state.participants().filter(|who| who.identity != newcomer.identity).count();
        let bridges: BTreeSet<&str> = self.logged.participants().map(|who| who.bridge.as_str()).collect();
        let elsewhere = bridges.into_iter().filter(|bridge| *bridge != self.bridge).count();
        most == 0 || (here && others.saturating_add(elsewhere.saturating_mul(lent)) < most)
    }

    /// It happens here, and waits.
    fn put(&mut self, actor: Actor, command: Command) -> Result<(), Refusal> {
        let events = self.queue.put(&self.state, actor, command, now_ms())?;
        for event in &events {
            let before = Arc::clone(&self.state);
            let mut after = State::clone(&before);
            assume(&mut after, event);
            self.publish_state(Arc::new(after));
            self.follow(&before, event);
        }
        self.count_waiting();
        Ok(())
    }

    /// The logged state has moved on: what waits comes on top of it again, and everybody here is told what that changes.
    pub(super) fn rebase(&mut self, mut reasons: Reasons) {
        let away = self.trouble.is_some();
        let before = Arc::clone(&self.state);
        let (after, forgotten) = self.queue.rebase(&self.logged, &before);
        reasons.extend(forgotten);
        let after = if self.queue.is_empty() { Arc::clone(&self.logged) } else { Arc::new(after) };
        self.publish_state(after);
        self.count_waiting();
        let after = Arc::clone(&self.state);
        if before.participants == after.participants && before.metadata == after.metadata {
            return;
        }
        self.tell(announce::catch_up(&before, &after, &reasons));
        for who in after.participants() {
            self.exempt_interpreter(&before, who);
            for track in &who.tracks {
                let sid = track.sid.as_str().into();
                if before.track(&sid).is_some_and(|(_, was)| was.muted != track.muted) {
                    self.mute_media(&sid, track.muted);
                }
            }
            let was = before.participant(&who.sid).map(|was| was.bridge.as_str());
            match was {
                None if away => self.admit(&who.sid, &who.bridge),
                Some(was) if away && was != who.bridge => self.moved(&who.sid, &who.bridge),
                _ => {}
            }
        }
        self.unbind(|sid, _| before.track(sid).is_some() && after.track(sid).is_none());
        let gone = before.participants().filter(|participant| after.participant(&participant.sid).is_none());
        gone.for_each(|participant| self.forget(&participant.sid));
    }

    /// The next entry is in the log.
    pub(super) fn advance(&mut self, entry: &Logged) {
        let before = Arc::clone(&self.logged);
        let mut after = State::clone(&before);
        apply(&mut after, entry);
        (self.logged, self.at_ms) = (Arc::new(after), entry.at_ms);
        self.herald.follow(&before, entry, &self.logged);
    }

    /// What was under way is in the log, if the tail has not said so before: those here know it already.
    fn take_landed(&mut self, parcel: &Parcel) {
        for logged in &parcel.entries {
            if logged.sequence == self.logged.sequence() + 1 {
                self.advance(logged);
            }
            if let Some(Event::Joined(joined)) = &logged.event {
                self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).push(joined.join_id.clone());
            }
        }
        self.queue.landed(parcel);
        self.rebase(Reasons::new());
    }

    /// Begins the next call, if one is needed and none is under way.
    pub(super) fn take_off(&mut self) {
        if self.flight.is_some() {
            return;
        }
        self.due = false;
        let log = self.log.clone();
        if self.tail.is_none() {
            let after = self.mark();
            self.flight = Some(Box::pin(async move { Landed::Tail(log.tail(after).await) }));
        } else if !self.queue.is_empty() {
            let (expected, parcel) = (self.mark(), self.queue.parcel(&self.logged));
            let batch = parcel.batch.clone();
            self.airborne = Some(parcel);
            let append = async move { Landed::Appended(log.append(expected, &batch).await) };
            self.flight = Some(Box::pin(append));
        } else if self.trouble.is_some() {
            self.flight = Some(Box::pin(async move { Landed::Probed(log.probe().await) }));
        }
    }

    /// Takes what came of a call.
    pub(super) fn land(&mut self, landed: Landed) {
        self.flight = None;
        let room = &self.shared.name;
        match landed {
            Landed::Tail(Ok(tail)) => {
                self.tail = Some(tail);
                self.due = self.trouble.is_some();
            }
            // It has lost the room, or the last of what was read here.
            Landed::Tail(Err(LogError::Ended | LogError::Conflict { .. })) => self.offer(),
            Landed::Tail(Err(error)) => debug!(%room, %error, "the room's log cannot be read"),
            Landed::Restored(Ok(info)) => {
                warn!(%room, "the allocator had lost this room and has taken it back");
                self.log.renew(info);
                (self.tail, self.due) = (None, true);
            }
            Landed::Restored(Err(LogError::Ended)) => self.end(DisconnectReason::RoomClosed),
            Landed::Restored(Err(error)) => {
                debug!(%room, %error, "the allocator does not know this room, nor take it back yet");
            }
            Landed::Appended(outcome) => self.appended(outcome),
            Landed::Probed(Ok(())) if self.queue.is_empty() => self.trouble = None,
            Landed::Probed(Ok(())) => self.due = true,
            Landed::Probed(Err(error)) => debug!(%room, %error, "the room's log is still away"),
        }
    }

    /// Tells an allocator that has lost this room of it.
    fn offer(&mut self) {
        let (log, last) = (self.log.clone(), self.mark());
        let (state, seats) = self.known();
        self.flight = Some(Box::pin(async move { Landed::Restored(log.restore(last, state, seats).await) }));
    }

    fn appended(&mut self, outcome: Result<AppendResponse, LogError>) {
        let parcel = self.airborne.take();
        match outcome {
            Ok(AppendResponse { at_ms, .. }) => {
                if let Some(mut parcel) = parcel {
                    parcel.entries.iter_mut().for_each(|entry| entry.at_ms = at_ms);
                    self.take_landed(&parcel);
                }
                if self.queue.is_empty() {
                    info!(room = %self.shared.name, "what waited for the room's log is in it");
                    self.trouble = None;
                } else {
                    self.due = true;
                }
            }
            Err(LogError::Conflict { head }) => {
                self.metrics.conflicts.inc();
                let expected = self.logged.sequence();
                // Behind the same entries again: what was appended before does not come.
                if self.behind == Some((expected, head)) {
                    self.tail = None;
                }
                self.behind = Some((expected, head));
                self.due = self.tail.is_none() || expected >= head;
            }
            // An allocator of a version without leases: whoever came in by one comes in anew.
            Err(LogError::Lapsed { join_id }) => {
                let forgotten = self.queue.forget_join(&join_id);
                let reasons = forgotten.map(|sid| (sid, DisconnectReason::StateMismatch));
                self.rebase(reasons.into_iter().collect());
                self.due = true;
            }
            Err(LogError::Ended) => {
                self.tail = None;
                self.offer();
            }
            Err(error) => debug!(room = %self.shared.name, %error, "the room's log does not take what waits for it"),
        }
    }

    /// What waited is given up: this room is closed here, and whoever sits here leaves by the logged state.
    pub(super) fn stop_waiting(&mut self) {
        (self.flight, self.airborne, self.trouble) = (None, None, None);
        self.queue.clear();
        self.count_waiting();
        self.publish_state(Arc::clone(&self.logged));
    }

    fn count_waiting(&mut self) {
        let waiting = i64::try_from(self.queue.len()).unwrap_or(i64::MAX);
        self.metrics.waiting.inc_by(waiting - self.counted);
        self.counted = waiting;
    }

    /// Other bridges hear of a track when the log tells them of it.
    pub(super) fn hold_back(&self) {
        let all = |state: &State| state.owners.keys().cloned().collect::<BTreeSet<_>>();
        let waiting = if Arc::ptr_eq(&self.state, &self.logged) {
            BTreeSet::new()
        } else {
            all(&self.state).difference(&all(&self.logged)).cloned().collect()
        };
        if **self.shared.unlogged.load() != waiting {
            self.shared.unlogged.store(Arc::new(waiting));
            self.shared.tell_relays(&ToRelay::Tracks);
        }
    }
}

/// Who has left by an entry, and why.
pub(super) fn left_by(entry: &Logged) -> Option<(ParticipantSid, DisconnectReason)> {
    let Some(Event::Left(left)) = &entry.event else { return None };
    let reason = LeaveReason::try_from(left.reason).unwrap_or_default();
    Some((left.sid.as_str().into(), entry::left_because(reason)))
}
