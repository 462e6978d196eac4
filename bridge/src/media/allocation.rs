//! What each subscribed track gets of a subscriber's bandwidth. Pure: values in, levels out.
//!
//! Every video track comes with a ladder of [`Step`]s (what can be forwarded of it, and what that costs). Audio is paid
//! first. Then every track gets its first step, in the order of [`Rank`], so that nobody is dark while somebody else could
//! do with less; then screens and pinned tracks are raised as far as they are wanted, then the active speaker, then the
//! rest, everybody by one step before anybody by two.
//!
//! Hysteresis: what a track has is kept as long as it fits the budget; what it has not is given only where it also fits a
//! budget smaller by [`MARGIN`], and only after that was so for a while ([`Memory`]). Down is at once. A track that is new,
//! or of which something else is wanted since, does not wait.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::layer::Layer;

/// More steps than any track has: three spatial layers of four temporal ones.
pub(crate) const MAX_STEPS: usize = 12;
/// An upgrade must leave this much of the budget free, percent of what is used then.
const MARGIN: u64 = 15;
/// For how long an upgrade must have been possible.
const HOLD: Duration = Duration::from_secs(1);
/// An upgrade that had to be taken back within this doubles the wait for the next …
const FAILED_WITHIN: Duration = Duration::from_secs(24);
/// … up to this, …
const MAX_HOLD: Duration = Duration::from_secs(32);
/// … and halves it again each time that nothing had to be taken back for so long.
const FORGIVEN_AFTER: Duration = Duration::from_secs(30);

/// Something that can be forwarded of a track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    /// At most this.
    pub(crate) layer: Layer,
    /// What it costs, bits per second on the wire.
    pub(crate) bits: u64,
}

/// A track's steps, cheapest first; each costs more than the one before and shows more.
pub(crate) type Ladder = SmallVec<[Step; MAX_STEPS]>;

/// Who comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Rank {
    /// A shared screen.
    Screen,
    /// The client asked for it with a priority, 1 before 255.
    Pinned(u8),
    /// The active speaker.
    Speaker,
    /// Everybody else.
    Other,
}

/// One video track that a subscriber wants.
#[derive(Clone, Debug)]
pub(crate) struct Demand {
    pub(crate) rank: Rank,
    /// Up to what is wanted; empty if there is nothing to be had.
    pub(crate) ladder: Ladder,
    /// How many steps it has now; 0 is paused.
    pub(crate) held: usize,
    /// Whether it is new, or something else is wanted of it now, and it was given nothing since.
    pub(crate) fresh: bool,
    /// How many steps it gets: the result.
    pub(crate) level: usize,
}

impl Demand {
    /// A demand of a track that is forwarded up to `held` at present.
    pub(crate) fn new(rank: Rank, ladder: Ladder, held: Option<Layer>, fresh: bool) -> Self {
        let steps = |held: Layer| ladder.iter().filter(|step| step.layer <= held).count().max(1);
        let held = held.map_or(0, steps).min(ladder.len());
        Self { rank, ladder, held, fresh, level: 0 }
    }

    /// What it gets.
    pub(crate) fn layer(&self) -> Option<Layer> {
        self.level.checked_sub(1).and_then(|index| self.ladder.get(index)).map(|step| step.layer)
    }

    /// The bits per second of so many steps.
    fn cost(&self, level: usize) -> u64 {
        level.checked_sub(1).and_then(|index| self.ladder.get(index)).map_or(0, |step| step.bits)
    }

    /// How many spatial layers it is short of what is wanted; a pause counts as one more than the lowest layer.
    fn short(&self) -> u32 {
        let Some(top) = self.ladder.last() else { return 0 };
        match self.layer() {
            Some(layer) => u32::from(top.layer.spatial.saturating_sub(layer.spatial)),
            None => u32::from(top.layer.spatial) + 1,
        }
    }
}

/// What one subscriber's allocation remembers.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Memory {
    /// Since when an upgrade has been possible.
    possible: Option<Instant>,
    /// The last upgrade, while it may yet turn out to be wrong.
    raised: Option<Instant>,
    /// The last upgrade that was wrong (or its last forgiveness), and how long the next has to wait since.
    failed: Option<(Instant, Duration)>,
}

impl Memory {
    fn hold(&self) -> Duration {
        self.failed.map_or(HOLD, |(_, hold)| hold)
    }

    /// Whether an upgrade may happen that was possible all the time.
    fn ready(&mut self, now: Instant) -> bool {
        while let Some((at, hold)) = self.failed.filter(|(at, _)| now.duration_since(*at) > FORGIVEN_AFTER) {
            self.failed = (hold > HOLD).then(|| (at + FORGIVEN_AFTER, hold / 2));
        }
        now.duration_since(*self.possible.get_or_insert(now)) >= self.hold()
    }

    /// What was had does not fit any more.
    fn fell(&mut self, now: Instant) {
        self.possible = None;
        if let Some(raised) = self.raised.take()
            && now.duration_since(raised) < FAILED_WITHIN
        {
            self.failed = Some((now, (self.hold() * 2).min(MAX_HOLD)));
        }
    }

    fn rose(&mut self, now: Instant) {
        (self.possible, self.raised) = (None, Some(now));
    }
}

/// What came of an allocation.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(crate) struct Outcome {
    /// Bits per second of everything given, audio included.
    pub(crate) used: u64,
    /// The budget with which everybody would get all that is wanted; `None` when they do.
    pub(crate) wish: Option<u64>,
    /// Spatial layers short of what is wanted, mean over the tracks.
    pub(crate) short: f32,
    /// Whether a track is paused that could be had.
    pub(crate) starved: bool,
}

/// Working memory, kept so that nothing is allocated.
#[derive(Default, Debug)]
pub(crate) struct Scratch {
    order: Vec<usize>,
}

/// Decides every demand's `level`. `budget` and `audio` (what the audio tracks take) in bits per second on the wire.
/// Demands of the same rank are served in the order in which they are given.
pub(crate) fn allocate(
    now: Instant,
    budget: Option<u64>,
    audio: u64,
    demands: &mut [Demand],
    memory: &mut Memory,
    scratch: &mut Scratch,
) -> Outcome {
    let Some(budget) = budget else {
        *memory = Memory::default();
        demands.iter_mut().for_each(|demand| demand.level = demand.ladder.len());
        return Outcome { used: audio + total(demands), ..Outcome::default() };
    };
    scratch.order.clear();
    scratch.order.extend(0..demands.len());
    scratch.order.sort_unstable_by_key(|&index| (demands[index].rank, index));
    let room = budget.saturating_sub(audio);
    let safe = (budget * 100 / (100 + MARGIN)).saturating_sub(audio);
    distribute(room, safe, true, demands, &scratch.order);
    let raised = |demand: &Demand| !demand.fresh && demand.level > demand.held;
    if !demands.iter().any(raised) {
        memory.possible = None;
    } else if memory.ready(now) {
        memory.rose(now);
    } else {
        distribute(room, safe, false, demands, &scratch.order);
    }
    let had: u64 = demands.iter().map(|demand| demand.cost(demand.held)).sum();
    if had > room {
        memory.fell(now);
    }
    let wanted: u64 = demands.iter().map(|demand| demand.cost(demand.ladder.len())).sum();
    let used = total(demands);
    let short: u32 = demands.iter().map(Demand::short).sum();
    Outcome {
        used: audio + used,
        wish: (used < wanted).then(|| (audio + wanted) * (100 + MARGIN) / 100 + 1),
        short: if demands.is_empty() { 0.0 } else { short as f32 / demands.len() as f32 },
        starved: demands.iter().any(|demand| demand.level == 0 && !demand.ladder.is_empty()),
    }
}

fn total(demands: &[Demand]) -> u64 {
    demands.iter().map(|demand| demand.cost(demand.level)).sum()
}

/// Gives out `room`, and nothing new beyond `safe`; without `rise` nothing new at all but to the fresh.
fn distribute(room: u64, safe: u64, rise: bool, demands: &mut [Demand], order: &[usize]) {
    let mut used = 0;
    let mut raise = |demand: &mut Demand| {
        let next = demand.level + 1;
        let new = next > demand.held;
        if next > demand.ladder.len() || new && !rise && !demand.fresh {
            return false;
        }
        let after = used + demand.cost(next) - demand.cost(demand.level);
        // Somebody new is shown something at once; more only where it is safe.
        let limit = if new && !(demand.fresh && next == 1) { safe } else { room };
        let fits = after <= limit;
        if fits {
            (demand.level, used) = (next, after);
        }
        fits
    };
    demands.iter_mut().for_each(|demand| demand.level = 0);
    for &index in order {
        raise(&mut demands[index]);
    }
    for &index in order {
        let demand = &mut demands[index];
        while demand.level > 0 && demand.rank < Rank::Other && raise(demand) {}
    }
    let mut more = true;
    while more {
        more = false;
        for &index in order {
            let demand = &mut demands[index];
            more |= demand.level > 0 && raise(demand);
        }
    }
}

#[cfg(test)]
#[path = "allocation_tests.rs"]
mod tests;
