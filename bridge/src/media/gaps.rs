//! Which packets of an incoming stream are missing, and when each is asked for again (RFC 4585 §6.2.1). Pure: the time is
//! passed in.
//!
//! - **Not too early.** What was overtaken comes by itself. How long that takes is seen: four times the interarrival jitter
//!   (RFC 3550 §6.4.1; delays spread evenly over a span differ by a third of it in the mean, so this is all of them and a third to
//!   spare), or a quarter more than the longest that a late packet took lately, if that is longer: of a frame that comes in one
//!   run the jitter sees little. From 8 ms, so that the engine's next tick asks, up to 80 ms: by then every viewer's picture stands still.
//! - **Not too often.** An answer takes a round trip, as long as the last ones took, and may be overtaken like any packet.
//! - **Not too late.** Viewers wait four round trips and at least half a second, but no longer than one and a half: then their
//!   pictures have stood still for so long that a key frame, which one round trip brings, is the better answer, and what
//!   comes later they throw away. What cannot be there by then is not asked for; neither is what stands before a key frame that
//!   has come, because nobody needs it to go on.

use std::time::{Duration, Instant};

/// A missing packet is waited for this long at least and at most, before it is asked for.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(8), Duration::from_millis(80));
/// And this long at least while too few packets have come to know their order.
const PATIENCE_AT_FIRST: Duration = Duration::from_millis(25);
/// In what time the longest wait for a late packet is forgotten to a half, seconds.
const FORGOTTEN_TO_HALF: f64 = 10.0;
/// Shortest and longest time between two requests for a packet.
const REPEAT: (Duration, Duration) = (Duration::from_millis(30), Duration::from_millis(600));
/// How many round trips a missing packet is of use …
const ROUND_TRIPS: u32 = 4;
/// … and how long at least and at most.
const USEFUL: (Duration, Duration) = (Duration::from_millis(500), Duration::from_millis(1500));
/// A packet is asked for this often at most.
const TRIES: u8 = 10;
/// More missing at once is not repaired packet by packet; a key frame is asked for instead.
const MAX_MISSING: usize = 256;
/// An answer later than this says nothing about the way.
const LATEST_ANSWER: Duration = Duration::from_secs(2);

/// A packet that has not come.
#[derive(Clone, Copy, Debug)]
struct Missing {
    index: u64,
    /// When a later one came.
    since: Instant,
    /// When it was asked for the first time and the last time.
    asked: Option<(Instant, Instant)>,
    tries: u8,
}

/// What is missing of one stream.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    /// By index.
    missing: Vec<Missing>,
    /// The longest that a late packet took lately, and when.
    late: Option<(Duration, Instant)>,
    /// How long answers take, smoothed.
    round_trip: Option<Duration>,
    overrun: bool,
}

impl Gaps {
    /// A packet has come without those of this range, which were to come before.
    pub(crate) fn miss(&mut self, now: Instant, range: std::ops::Range<u64>) {
        if self.missing.len() + usize::try_from(range.end - range.start).unwrap_or(usize::MAX) > MAX_MISSING {
            self.missing.clear();
            self.overrun = true;
            return;
        }
        self.missing.extend(range.map(|index| Missing { index, since: now, asked: None, tries: 0 }));
    }

    /// A packet has come that is not the newest: late by itself, or as the `repair` that was asked for.
    pub(crate) fn arrived(&mut self, now: Instant, index: u64, repair: bool) {
        let Ok(at) = self.missing.binary_search_by_key(&index, |missing| missing.index) else { return };
        let missing = self.missing.remove(at);
        if !repair {
            let late = now.duration_since(missing.since).max(self.late(now));
            self.late = Some((late.min(PATIENCE.1), now));
        } else if let Some((first, _)) = missing.asked {
            let answer = now.duration_since(first).min(LATEST_ANSWER);
            self.round_trip = Some(self.round_trip.map_or(answer, |before| (before * 7 + answer) / 8));
        }
    }

    /// The longest that a late packet took lately.
    fn late(&self, now: Instant) -> Duration {
        self.late.map_or(Duration::ZERO, |(late, at)| {
            late.mul_f64(0.5_f64.powf(now.duration_since(at).as_secs_f64() / FORGOTTEN_TO_HALF))
        })
    }

    /// How long a missing packet may yet come by itself, where the stream has that jitter, if it is known.
    fn patience(&self, now: Instant, jitter: Option<Duration>) -> Duration {
        let least = if jitter.is_some() { PATIENCE.0 } else { PATIENCE_AT_FIRST };
        let seen = (jitter.unwrap_or_default() * 4).max(self.late(now) * 5 / 4);
        seen.clamp(least, PATIENCE.1)
    }

    /// Sequence numbers to ask for now, oldest first; appended to `out`. The `jitter` is the stream's, if it is known yet, the
    /// round-trip time that of its transport.
    pub(crate) fn due(&mut self, now: Instant, jitter: Option<Duration>, rtt: Duration, out: &mut Vec<u16>) {
        if self.missing.is_empty() {
            return;
        }
        let (patience, rtt) = (self.patience(now, jitter), self.round_trip.unwrap_or(rtt));
        let repeat = (rtt + patience).clamp(REPEAT.0, REPEAT.1);
        let useful = (rtt * ROUND_TRIPS + patience).clamp(USEFUL.0, USEFUL.1);
        self.missing.retain_mut(|missing| {
            let age = now.duration_since(missing.since);
            let waited = match missing.asked {
                None => age >= patience,
                Some((_, last)) => now.duration_since(last) >= repeat,
            };
            if waited && missing.tries < TRIES && age + rtt <= useful {
                missing.asked = Some((missing.asked.map_or(now, |(first, _)| first), now));
                missing.tries += 1;
                out.push(missing.index as u16);
            }
            age <= useful // an answer may be under way
        });
    }

    /// A key frame begins with the packet of that index: what is missing before it is of no use any more.
    pub(crate) fn begin_anew(&mut self, index: u64) {
        self.missing.retain(|missing| missing.index >= index);
    }

    /// The index of a packet that is missing, by its sequence number.
    pub(crate) fn index_of(&self, sequence: u16) -> Option<u64> {
        let same = |missing: &&Missing| missing.index as u16 == sequence;
        self.missing.iter().find(same).map(|missing| missing.index)
    }

    /// Whether so much went missing that only a key frame helps; asked once.
    pub(crate) fn take_overrun(&mut self) -> bool {
        std::mem::take(&mut self.overrun)
    }
}

#[cfg(test)]
#[path = "gaps_tests.rs"]
mod tests;
