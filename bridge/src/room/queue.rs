//! What happened here while the room's log could not be written: true at once for those who sit here, and for everybody
//! when the log is back. Pure.
//!
//! The *logged* state is what the log says, the *shown* state is that and what waits. Whenever the log moves on, what waits
//! is checked again on what others have changed ([`Queue::rebase`]): what has happened meanwhile, or may not happen any
//! more, is forgotten.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use livekit_protocol::DisconnectReason;
use ratssaal_proto::allocator::v1::Seat;
use ratssaal_proto::room::v1::{Joined, ParticipantUpdated};

use super::apply::apply;
use super::command::{Actor, Command, Refusal};
use super::commit::count_seats;
use super::entry::{self, Event, Logged};
use super::ids::ParticipantSid;
use super::limits;
use super::log::{BATCH, Batch};
use super::state::{Participant, State};
use super::validate::validate;

/// Why participants are not in the room any more, as far as it is known.
pub(super) type Reasons = BTreeMap<ParticipantSid, DisconnectReason>;

/// Changes that wait, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    items: VecDeque<Item>,
    last_id: u64,
    last_ms: u64,
}

#[derive(Clone, Debug)]
struct Item {
    id: u64,
    change: Change,
    /// When it happened here, Unix milliseconds.
    at_ms: u64,
    /// Of a joining: the older stay of the same identity that was known then.
    replaces: Option<ParticipantSid>,
}

#[derive(Clone, Debug)]
enum Change {
    Command(Actor, Command),
    /// Counts a participant's version up: those here were told of one that the log has not reached.
    Touch(ParticipantSid),
}

/// What is appended at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Parcel {
    /// Each item, with the sequence of its last entry.
    items: Vec<(u64, u64)>,
    pub(super) entries: Vec<Logged>,
    pub(super) batch: Batch,
}

/// Whether a command concerns presence only and may wait for the log: who comes to a seat that it has, and what somebody
/// who sits here does with its own tracks. What others decide about it needs agreement.
pub(super) fn may_wait(command: &Command, actor: &Actor) -> bool {
    match command {
        Command::Publish { .. } | Command::Unpublish { .. } | Command::UpdateTrack { .. } | Command::Mute { .. } => {
            *actor != Actor::Admin
        }
        Command::Join(_) => true,
        _ => must_wait(command),
    }
}

/// Whether it has happened whatever the log says. Of each participant there is one of a kind at most.
pub(super) fn must_wait(command: &Command) -> bool {
    matches!(command, Command::Leave { .. } | Command::Progress { .. })
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
    }

    /// Puts in what happened after what waits already. Answers with what it changes in the shown state.
    ///
    /// # Errors
    /// It may not happen in the shown state, or too much waits.
    pub(super) fn put(
        &mut self,
        shown: &State,
        actor: Actor,
        command: Command,
        now_ms: u64,
    ) -> Result<Vec<Event>, Refusal> {
        let at_ms = now_ms.max(self.last_ms);
        let events = validate(shown, &command, &actor, at_ms)?;
        if events.is_empty() {
            return Ok(events);
        }
        if self.items.len() >= limits::WAITING && !must_wait(&command) {
            return Err(Refusal::unavailable());
        }
        let replaces = match &command {
            Command::Join(newcomer) => shown.by_identity(newcomer.identity.as_str()).map(|older| older.sid.clone()),
            _ => None,
        };
        self.push(Change::Command(actor, command), at_ms, replaces);
        Ok(events)
    }

    fn push(&mut self, change: Change, at_ms: u64, replaces: Option<ParticipantSid>) {
        self.last_id += 1;
        self.last_ms = at_ms;
        self.items.push_back(Item { id: self.last_id, change, at_ms, replaces });
    }

    /// Makes the shown state anew of the logged one, which has moved on, and forgets what need not or cannot be logged any
    /// more. Answers with the shown state, and why those are out whose joining is forgotten. `told` is the state shown
    /// before: no version of a participant that differs from there is one that clients have heard of.
    pub(super) fn rebase(&mut self, logged: &State, told: &State) -> (State, Reasons) {
        let mut shown = State::clone(logged);
        let mut reasons = Reasons::new();
        let waited = !self.items.is_empty();
        self.items.retain(|item| match item.events(&shown) {
            Ok(events) => {
                events.iter().for_each(|event| assume(&mut shown, event));
                !events.is_empty()
            }
            Err(reason) => {
                if let Change::Command(_, Command::Join(newcomer)) = &item.change {
                    reasons.insert(newcomer.sid.clone(), reason);
                }
                false
            }
        });
        reasons.retain(|sid, _| shown.participant(sid).is_none());
        if waited {
            self.outdo(&mut shown, told);
        }
        (shown, reasons)
    }

    /// Clients believe no version that is older than what they were told, nor another one of the same number.
    fn outdo(&mut self, shown: &mut State, told: &State) {
        let behind =
            |before: &Participant, now: &Participant| now.version <= before.version && now.info() != before.info();
        let behind: Vec<(ParticipantSid, u32)> = told
            .participants()
            .filter_map(|before| Some((before, shown.participant(&before.sid)?)))
            .filter(|(before, now)| behind(before, now))
            .map(|(before, now)| (now.sid.clone(), before.version - now.version + 1))
            .collect();
        for (sid, steps) in behind {
            for _ in 0..steps {
                assume(shown, &touch(&sid));
                self.push(Change::Touch(sid.clone()), self.last_ms, None);
            }
        }
    }

    /// The first of what waits, as much as fits one append to the log as it is.
    pub(super) fn parcel(&self, logged: &State) -> Parcel {
        let mut scratch = State::clone(logged);
        let mut parcel = Parcel::default();
        for item in &self.items {
            // What is refused now goes with the next rebase.
            let Ok(events) = item.events(&scratch) else { continue };
            if parcel.entries.len() + events.len() > BATCH && !parcel.entries.is_empty() {
                break;
            }
            for event in events {
                count_seats(&scratch, &event, &mut parcel.batch);
                if let Event::Joined(joined) = &event {
                    parcel.batch.claim.push(claimed(joined));
                }
                let bytes = entry::encode(&event);
                let logged = Logged { sequence: scratch.sequence() + 1, event: Some(event), bytes, at_ms: 0 };
                apply(&mut scratch, &logged);
                parcel.batch.entries.push(logged.bytes.clone());
                parcel.entries.push(logged);
            }
            parcel.items.push((item.id, scratch.sequence()));
        }
        parcel
    }

    /// A parcel is in the log.
    pub(super) fn landed(&mut self, parcel: &Parcel) {
        self.items.retain(|item| !parcel.items.iter().any(|(id, _)| *id == item.id));
    }

    /// An entry is in the log. If it is the last of something in the parcel that is under way, that need not wait any more,
    /// whoever wrote it: it says the same.
    pub(super) fn found(&mut self, parcel: &Parcel, entry: &Logged) {
        let same = parcel.entries.iter().any(|own| own.sequence == entry.sequence && own.bytes == entry.bytes);
        let item = parcel.items.iter().find(|(_, last)| same && *last == entry.sequence);
        if let Some((id, _)) = item {
            self.items.retain(|item| item.id != *id);
        }
    }

    /// The seat of this join id cannot be had: whose joining is forgotten.
    pub(super) fn forget_join(&mut self, join_id: &str) -> Option<ParticipantSid> {
        let mut forgotten = None;
        self.items.retain(|item| match &item.change {
            Change::Command(_, Command::Join(newcomer)) if newcomer.join_id == join_id => {
                forgotten = Some(newcomer.sid.clone());
                false
            }
            _ => true,
        });
        forgotten
    }
}

impl Item {
    /// What it changes in a state; if it cannot be, why somebody whose joining it is, is out.
    fn events(&self, state: &State) -> Result<Vec<Event>, DisconnectReason> {
        match &self.change {
            Change::Touch(sid) if state.participant(sid).is_none() => Ok(Vec::new()),
            Change::Touch(sid) => Ok(vec![touch(sid)]),
            Change::Command(..) if self.is_outdated(state) => Err(DisconnectReason::DuplicateIdentity),
            Change::Command(actor, command) => {
                validate(state, command, actor, self.at_ms).map_err(|refusal| match refusal {
                    Refusal::Revoked => DisconnectReason::ParticipantRemoved,
                    _ => DisconnectReason::StateMismatch,
                })
            }
        }
    }

    /// Whether it is a joining and the same identity has come in elsewhere since, by the bridges' clocks. A stay that was
    /// known here then is older whatever clocks say.
    fn is_outdated(&self, state: &State) -> bool {
        let Change::Command(_, Command::Join(newcomer)) = &self.change else { return false };
        let at_ms = i64::try_from(self.at_ms).unwrap_or(i64::MAX);
        state.by_identity(newcomer.identity.as_str()).is_some_and(|other| {
            other.sid != newcomer.sid && self.replaces.as_ref() != Some(&other.sid) && other.joined_at_ms > at_ms
        })
    }
}

/// Changes a shown state, whose sequence remains that of the log.
pub(super) fn assume(shown: &mut State, event: &Event) {
    let sequence = shown.sequence();
    apply(shown, &Logged { sequence: sequence + 1, event: Some(event.clone()), bytes: Bytes::new(), at_ms: 0 });
    shown.sequence = sequence;
}

fn touch(sid: &ParticipantSid) -> Event {
    Event::ParticipantUpdated(ParticipantUpdated { sid: sid.to_string(), ..ParticipantUpdated::default() })
}

fn claimed(joined: &Joined) -> Seat {
    Seat {
        join_id: joined.join_id.clone(),
        identity: joined.identity.clone(),
        participant_sid: joined.sid.clone(),
        bridge: joined.bridge.clone(),
        ..Seat::default()
    }
}
