//! How commands become entries: validated one after the other on a scratch state, appended in one call, applied; again
//! from the start when somebody else appended first.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ratssaal_proto::allocator::v1::AppendResponse;
use tokio_stream::StreamExt as _;
use tracing::{debug, warn};

use super::actor::{Pending, RoomActor};
use super::apply::{self, apply};
use super::away::Trouble;
use super::command::{Command, Refusal};
use super::entry::{self, Event, Logged};
use super::log::{BATCH, Batch, LogError};
use super::state::State;
use super::validate::validate;

/// Attempts before a command is refused as unavailable: the room's other bridges append that fast only when something is
/// wrong.
const ATTEMPTS: usize = 16;
/// How long to wait for the tail to deliver what somebody else appended.
const CATCH_UP: Duration = Duration::from_secs(2);
/// The largest snapshot the allocator takes, bytes.
const MAX_SNAPSHOT: usize = 1024 * 1024;

/// Commands that passed validation, with their entries.
struct Accepted {
    commands: VecDeque<Pending>,
    entries: Vec<Logged>,
    batch: Batch,
    ends: bool,
}

impl RoomActor {
    /// Carries commands out, in their order, and answers each. While the log cannot be written, they wait or are refused.
    pub(super) async fn commit(&mut self, mut commands: VecDeque<Pending>) {
        if self.trouble.is_some() {
            return self.postpone(commands);
        }
        let mut attempts = 0;
        while !commands.is_empty() {
            let mut accepted = self.accept(&mut commands);
            if accepted.entries.is_empty() {
                self.answer(accepted.commands, &Ok(()));
                continue;
            }
            let started = std::time::Instant::now();
            let outcome = self.append(&accepted).await;
            self.metrics.append_seconds.observe(started.elapsed().as_secs_f64());
            let back = match outcome {
                Ok(AppendResponse { at_ms, snapshot_wanted, .. }) => {
                    attempts = 0;
                    accepted.entries.iter_mut().for_each(|entry| entry.at_ms = at_ms);
                    self.apply_all(accepted.entries);
                    self.answer(accepted.commands, &Ok(()));
                    if snapshot_wanted {
                        self.store_snapshot().await;
                    }
                    continue;
                }
                Err(LogError::Conflict { head }) if attempts < ATTEMPTS => {
                    attempts += 1;
                    self.metrics.conflicts.inc();
                    // Behind what was read here, or another entry of that number: the store has lost the last entries.
                    let lost = head <= self.state.sequence();
                    let head = if lost { self.tell_again().await.unwrap_or(head) } else { head };
                    self.catch_up(head).await;
                    accepted.commands
                }
                Err(LogError::Lapsed { join_id }) if attempts < ATTEMPTS => {
                    attempts += 1;
                    self.give_up(accepted.commands, |c| reserved_by(c) == Some(join_id.as_str()))
                }
                Err(LogError::Ended)
                    if attempts < ATTEMPTS
                        && let Some(head) = self.tell_again().await =>
                {
                    attempts += 1;
                    self.catch_up(head).await;
                    accepted.commands
                }
                Err(LogError::Ended) => {
                    self.end(livekit_protocol::DisconnectReason::RoomClosed);
                    self.answer(accepted.commands, &Err(Refusal::Ended));
                    VecDeque::new()
                }
                Err(error) => {
                    debug!(room = %self.shared.name, %error, "a room's log does not take entries");
                    (self.trouble, self.due) = (Some(Trouble::of(&error)), true);
                    self.postpone(accepted.commands);
                    return self.postpone(commands);
                }
            };
            for command in back.into_iter().rev() {
                commands.push_front(command);
            }
        }
    }

    /// Takes as many commands as fit one append, answering those that are refused. The end of the room goes alone.
    fn accept(&mut self, commands: &mut VecDeque<Pending>) -> Accepted {
        let mut accepted =
            Accepted { commands: VecDeque::new(), entries: Vec::new(), batch: Batch::default(), ends: false };
        let mut scratch = State::clone(&self.state);
        let now_ms = now_ms();
        while let Some(pending) = commands.pop_front() {
            let ends = matches!(pending.command, Command::End { .. });
            let events = match validate(&scratch, &pending.command, &pending.actor, now_ms) {
                Ok(events) => events,
                Err(refusal) => {
                    self.answer([pending].into(), &Err(refusal));
                    continue;
                }
            };
            let full = accepted.entries.len() + events.len() > BATCH && !accepted.entries.is_empty();
            if full || (ends && !accepted.entries.is_empty()) {
                commands.push_front(pending);
                break;
            }
            for event in events {
                count_seats(&scratch, &event, &mut accepted.batch);
                let bytes = entry::encode(&event);
                let logged = Logged { sequence: scratch.sequence() + 1, event: Some(event), bytes, at_ms: 0 };
                apply(&mut scratch, &logged);
                accepted.batch.entries.push(logged.bytes.clone());
                accepted.entries.push(logged);
            }
            accepted.commands.push_back(pending);
            if ends {
                accepted.ends = true;
                break;
            }
        }
        accepted
    }

    async fn append(&mut self, accepted: &Accepted) -> Result<AppendResponse, LogError> {
        if let (true, [last]) = (accepted.ends, accepted.batch.entries.as_slice()) {
            self.log.end(self.state.sequence(), last.clone()).await?;
            return Ok(AppendResponse::default());
        }
        self.log.append(self.mark(), &accepted.batch).await
    }

    /// Tells a store that has lost the room, or its last entries, what is known here, and reads on from there; the head of its log,
    /// `None` if the room has ended.
    async fn tell_again(&mut self) -> Option<u64> {
        let head = self.restore().await?;
        self.tail = None;
        self.reopen_tail().await;
        Some(head)
    }

    /// Reads the tail until entry `head` has been applied.
    async fn catch_up(&mut self, head: u64) {
        let read_on = async {
            while self.state.sequence() < head && self.state.ended().is_none() {
                let Some(tail) = &mut self.tail else { return };
                let frame = tail.next().await.and_then(Result::ok);
                self.take_frame(frame);
                if self.tail.is_none() {
                    self.reopen_tail().await;
                }
            }
        };
        if tokio::time::timeout(CATCH_UP, read_on).await.is_err() {
            // What was appended before does not come: ask anew from where we are.
            self.tail = None;
            self.reopen_tail().await;
        }
    }

    /// Refuses the commands for which `refuse` holds as unavailable and answers with the others.
    fn give_up(&mut self, commands: VecDeque<Pending>, refuse: impl Fn(&Command) -> bool) -> VecDeque<Pending> {
        let (refused, others): (VecDeque<_>, VecDeque<_>) = commands.into_iter().partition(|c| refuse(&c.command));
        self.answer(refused, &Err(Refusal::unavailable()));
        others
    }

    pub(super) fn answer(&mut self, commands: VecDeque<Pending>, answer: &Result<(), Refusal>) {
        for pending in commands {
            match &pending.command {
                Command::Join(newcomer) if answer.is_err() => drop(self.joining.remove(&newcomer.sid)),
                Command::Move { participant, .. } if answer.is_err() => drop(self.joining.remove(participant)),
                _ => {}
            }
            pending.answer(answer.clone());
        }
    }

    async fn store_snapshot(&mut self) {
        let bytes = entry::bytes_of(&apply::snapshot(&self.state));
        let (room, size) = (&self.shared.name, bytes.len());
        if size > MAX_SNAPSHOT {
            warn!(%room, size, "a room's state is too large for a snapshot: use less metadata per participant");
            return;
        }
        if let Err(error) = self.log.snapshot(self.state.sequence(), bytes).await {
            debug!(%room, %error, "a room's snapshot was not stored; the next append asks again");
        }
    }
}

/// The reservation that a command makes a seat of.
fn reserved_by(command: &Command) -> Option<&str> {
    match command {
        Command::Join(newcomer) => Some(&newcomer.join_id),
        Command::Move { join_id, .. } => Some(join_id),
        _ => None,
    }
}

/// Seats that become lasting, or go back, with an event.
pub(super) fn count_seats(before: &State, event: &Event, batch: &mut Batch) {
    match event {
        Event::Joined(joined) => batch.confirm.push(joined.join_id.clone()),
        Event::Left(left) => {
            let gone = before.participant(&left.sid.as_str().into());
            batch.release.extend(gone.map(|participant| participant.join_id.clone()));
        }
        Event::Moved(moved) => {
            batch.confirm.push(moved.join_id.clone());
            let before = before.participant(&moved.sid.as_str().into());
            batch.release.extend(before.map(|participant| participant.join_id.clone()));
        }
        _ => {}
    }
}

/// Unix milliseconds.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
