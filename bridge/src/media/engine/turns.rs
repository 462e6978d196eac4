//! Whose turn it is when time passes. To look after hundreds of peers at once takes a millisecond, in which nothing is
//! forwarded: where there are many, a tick comes in parts.

use std::iter::StepBy;
use std::ops::Range;
use std::time::Duration;

use super::TICK;

/// Peers from which on a tick has parts; fewer take a tenth of a millisecond.
const MANY: usize = 64;
/// So many. It has no divisor in common with the intervals at which something is done (`feedback.rs`), so that of each
/// part's peers as many have their turn.
const PARTS: usize = 7;

/// A part of a tick: every so many peers and tracks, by their keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    number: usize,
    of: usize,
}

impl Part {
    /// The only one.
    pub(super) const ALL: Self = Self { number: 0, of: 1 };

    /// The one after this. How many there are is decided anew for each tick.
    pub(super) fn next(self, peers: usize) -> Self {
        match self.number + 1 {
            number if number < self.of => Self { number, ..self },
            _ => Self { number: 0, of: if peers < MANY { 1 } else { PARTS } },
        }
    }

    /// Whether a tick begins with it.
    pub(super) fn is_first(self) -> bool {
        self.number == 0
    }

    /// How long after it the next one comes.
    pub(super) fn time(self) -> Duration {
        TICK / self.of as u32
    }

    /// Its keys below `end`, whether somebody has them or not.
    pub(super) fn keys(self, end: usize) -> StepBy<Range<usize>> {
        (self.number..end).step_by(self.of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_in_each_tick() {
        for peers in [1, MANY - 1, MANY, 430] {
            let (mut part, mut time, mut keys) = (Part::ALL.next(peers), Duration::ZERO, Vec::new());
            assert!(part.is_first());
            loop {
                keys.extend(part.keys(peers));
                time += part.time();
                part = part.next(peers);
                if part.is_first() {
                    break;
                }
            }
            keys.sort_unstable();
            assert!(keys.into_iter().eq(0..peers), "{peers}");
            assert!(TICK - time < Duration::from_micros(1), "{time:?}");
        }
    }

    #[test]
    fn what_is_done_now_and_then_is_spread_over_the_parts() {
        for period in [5, 10, 20, 100] {
            let done = |part: Part| part.keys(700).filter(|key| key % period == 0).count();
            let parts: Vec<_> =
                std::iter::successors(Some(Part::ALL.next(700)), |part| Some(part.next(700))).take(PARTS).collect();
            assert!(parts.iter().all(|part| done(*part) == 700 / period / PARTS), "every {period} ticks");
        }
    }

    #[test]
    fn fewer_peers_have_their_turn_together_from_the_next_tick_on() {
        let mut part = Part::ALL.next(MANY);
        let mut parts = 1;
        while !part.next(1).is_first() {
            part = part.next(1);
            parts += 1;
        }
        assert_eq!((parts, part.next(1)), (PARTS, Part::ALL));
    }
}
