//! How the estimate moves: down at once to what has arrived when a queue stands or much is lost, up slowly while it is
//! used to the full, and at once to what a probe has proved. While little is sent it stays as it is.

use super::arrival::Recent;
use super::{CEILING, FLOOR, START};

const MS: u64 = 1000;
/// A queue of at least this is too long, microseconds.
const LONG: i64 = 30 * MS as i64;
/// One below this is none.
const SHORT: i64 = 15 * MS as i64;
/// More loss is congestion; jitterless random loss below it is the radio's.
const HEAVY_LOSS: f64 = 0.1;
/// Above this the estimate does not grow.
const SOME_LOSS: f64 = 0.05;
/// Of what a full link carries, so much is used.
const UTILISATION: f64 = 0.9;
/// After a step down its effect is awaited: one round trip and this.
const PATIENCE: u64 = 200 * MS;
/// Growth a second while the estimate is used to the full, and near the capacity last seen.
const GROWTH: f64 = 0.08;
const CAREFUL_GROWTH: f64 = 0.02;
/// So long the capacity last seen makes growth careful.
const REMEMBERED: u64 = 30_000 * MS;
/// A probe after which the way is full within this has deceived.
const DECEIVED: u64 = 2_000 * MS;
/// How often a queue may be hardly shorter after a step down, until it is not taken for ours any more …
const VAIN: u8 = 2;
/// … for so long, unless we send more than arrives.
const TOLERANCE: u64 = 5_000 * MS;

/// What feedback and our own counts say at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observation {
    /// Microseconds.
    pub(super) now: u64,
    /// From sending to the feedback, microseconds.
    pub(super) round_trip: u64,
    pub(super) recent: Option<Recent>,
    pub(super) loss: Option<f64>,
    /// Bits per second sent in the last 300 ms.
    pub(super) sent: f64,
    /// … and in the last second.
    pub(super) sent_long: f64,
}

/// What an observation has changed, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    /// Down: a queue stands.
    Queue,
    /// Down: much is lost.
    Loss,
    /// Up: the queue is gone, what the link carries is known.
    Drained,
    /// The queue is not ours: it counts as none from now on.
    Foreign,
}

/// Bits per second, and what it depends on.
#[derive(Debug)]
pub(super) struct Estimate {
    bits: f64,
    /// No step down before.
    hold: u64,
    grown: u64,
    /// A queue stands, or much is lost.
    congested: bool,
    /// What the link carried when it was last full, and when.
    capacity: Option<(f64, u64)>,
    /// Where to go when the queue is gone.
    drained: Option<f64>,
    /// The queue when it was last looked at for a step down, and how often that had not shortened it.
    queue: i64,
    vain: u8,
    /// The estimate before a step down that may be in vain, and until when queues are taken for others'.
    before: Option<f64>,
    foreign: u64,
    raised: Option<u64>,
    deceived: bool,
    /// What the way carries for all that is known before anything is heard.
    guess: f64,
}

impl Estimate {
    pub(super) fn new() -> Self {
        Self {
            bits: START,
            hold: 0,
            grown: 0,
            congested: false,
            capacity: None,
            drained: None,
            queue: 0,
            vain: 0,
            before: None,
            foreign: 0,
            raised: None,
            deceived: false,
            guess: START,
        }
    }

    /// Nothing is known yet: the guess is for video, beside `audio` bits per second that are sent in any case.
    pub(super) fn guess(&mut self, audio: f64) {
        self.bits = (self.guess + audio).min(CEILING);
    }

    /// Nothing is known yet but what another server has found out.
    pub(super) fn believe(&mut self, bits: f64) {
        self.set(bits);
        self.guess = self.bits;
    }

    /// Bits per second.
    pub(super) fn bits(&self) -> f64 {
        self.bits
    }

    /// Whether nothing speaks against trying more.
    pub(super) fn calm(&self, now: u64) -> bool {
        !self.congested && now >= self.hold && self.drained.is_none()
    }

    /// Whether the last probe promised what the way did not keep; asked once.
    pub(super) fn take_deceived(&mut self) -> bool {
        std::mem::take(&mut self.deceived)
    }

    /// Takes feedback into account.
    pub(super) fn observe(&mut self, seen: &Observation) -> Option<Change> {
        let queue = seen.recent.map_or(0, |recent| recent.queue);
        let loss = seen.loss.unwrap_or(0.0);
        self.congested = queue > LONG || loss > HEAVY_LOSS;
        if let Some(recent) = seen.recent.filter(|recent| recent.queue > LONG) {
            return self.queued(seen, &recent);
        }
        if loss > HEAVY_LOSS {
            return self.lossy(seen, loss);
        }
        if queue < SHORT {
            (self.vain, self.before) = (0, None);
            if let Some(bits) = self.drained.take().filter(|bits| *bits > self.bits) {
                self.set(bits);
                self.grown = seen.now;
                return Some(Change::Drained);
            }
            self.grow(seen, loss);
        }
        None
    }

    /// A queue stands; what arrives meanwhile is what the link carries.
    fn queued(&mut self, seen: &Observation, recent: &Recent) -> Option<Change> {
        let draining = seen.sent < UTILISATION * recent.rate && recent.queue < self.queue;
        if seen.now < self.hold || draining {
            self.queue = if draining { recent.queue } else { self.queue.max(recent.queue) };
            return None;
        }
        let filling = seen.sent > 1.1 * recent.rate;
        if filling {
            (self.before, self.foreign) = (None, 0);
        } else if seen.now < self.foreign {
            return Some(Change::Foreign);
        }
        // We send no more than arrives, have stepped down before, and yet the queue is hardly shorter.
        let vain = self.before.is_some() && recent.queue * 10 > self.queue * 7;
        self.vain = if vain { self.vain + 1 } else { 0 };
        self.queue = recent.queue;
        self.hold = seen.now + seen.round_trip + PATIENCE;
        if self.vain >= VAIN {
            self.foreign = seen.now + TOLERANCE;
            self.vain = 0;
            let before = self.before.take().unwrap_or_default();
            self.set(self.bits.max(before));
            return Some(Change::Foreign);
        }
        if vain {
            return None;
        }
        if !filling {
            self.before.get_or_insert(self.bits);
        }
        // The longer the queue, the further down, so that it is gone in a second or two.
        let share = (1.0 - recent.queue as f64 / 1.5e6).clamp(0.4, 0.85) * recent.rate;
        // Little was sent and all of it arrives: others fill the link, and what it carries for us is not known.
        let ours = filling || seen.sent > 0.6 * self.bits;
        let bits = if ours { share } else { recent.rate.max(0.7 * self.bits) };
        self.capacity = Some((recent.rate, seen.now));
        self.drained = ours.then_some(UTILISATION * recent.rate);
        self.lower(seen.now, bits).then_some(Change::Queue)
    }

    fn lossy(&mut self, seen: &Observation, loss: f64) -> Option<Change> {
        if seen.now < self.hold {
            return None;
        }
        self.hold = seen.now + seen.round_trip + PATIENCE;
        let arrived = seen.recent.map_or(0.0, |recent| recent.rate);
        self.drained = None;
        // Never below what does arrive: a policer drops what is too much and carries the rest.
        let bits = (self.bits * (1.0 - loss / 2.0)).max(0.95 * arrived);
        self.lower(seen.now, bits).then_some(Change::Loss)
    }

    fn lower(&mut self, now: u64, bits: f64) -> bool {
        if bits >= self.bits {
            return false;
        }
        self.deceived |= self.raised.take().is_some_and(|at| now < at + DECEIVED);
        self.set(bits);
        true
    }

    fn grow(&mut self, seen: &Observation, loss: f64) {
        let passed = seen.now.saturating_sub(self.grown).min(200 * MS) as f64 / 1e6;
        self.grown = seen.now;
        if loss > SOME_LOSS || seen.now < self.hold || seen.sent_long < UTILISATION * self.bits {
            return;
        }
        let near = self.capacity.is_some_and(|(bits, at)| self.bits > 0.85 * bits && seen.now < at + REMEMBERED);
        self.set(self.bits * (1.0 + if near { CAREFUL_GROWTH } else { GROWTH } * passed));
    }

    /// A probe has measured what the way carries.
    pub(super) fn full(&mut self, now: u64, bits: f64) {
        self.capacity = Some((bits, now));
    }

    /// Whether what the way carries was seen lately.
    pub(super) fn was_full(&self, now: u64) -> bool {
        self.capacity.is_some_and(|(_, at)| now < at + REMEMBERED)
    }

    /// A probe has proved this much; false if that is nothing new.
    pub(super) fn proved(&mut self, now: u64, bits: f64) -> bool {
        if bits <= self.bits || !self.calm(now) {
            return false;
        }
        self.raised = Some(now);
        self.set(bits);
        true
    }

    /// Packets were sent and nothing was heard of them.
    pub(super) fn silence(&mut self, now: u64) {
        self.hold = now;
        self.set(0.7 * self.bits);
    }

    fn set(&mut self, bits: f64) {
        self.bits = bits.clamp(FLOOR, CEILING);
    }
}
