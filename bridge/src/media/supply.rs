//! What a publisher is asked to send of a track, and what of it comes: which of its streams can be had (they flow, or would
//! if somebody wanted them), and when fewer would do (dynacast). Pure: the time is passed in.

use std::time::{Duration, Instant};

use super::track::MAX_LAYERS;

/// A stream counts as paused by its publisher when another one is this far ahead: each picture of a camera goes into all its
/// streams at once, at five a second and more, and who sees this one sees nothing move meanwhile.
const PAUSED_AFTER: Duration = Duration::from_millis(500);
/// How long a stream may take to come after it was asked for, before others are taken in its place.
const COMES_WITHIN: Duration = Duration::from_secs(3);
/// How long nobody must have needed a stream before its publisher is told so. Layouts change back and forth, and starting
/// a stream again costs a key frame; encoding it a little longer costs less.
const UNNEEDED_FOR: Duration = Duration::from_secs(3);

/// What is needed of a track. Of a publisher the lowest so many layers, of a track that comes stream by stream a bit each.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Needed {
    /// What is forwarded to clients here, or will be as soon as it comes.
    pub(crate) here: u8,
    /// What clients here would take if they could.
    pub(crate) wanted: u8,
    /// What other workers and bridges have asked for. They have waited before they ask for less.
    pub(crate) elsewhere: u8,
}

/// One track's supply.
#[derive(Clone, Debug)]
pub(crate) struct Supply {
    /// The streams that are asked for, a bit each: of a publisher always the lowest ones, of another bridge any.
    asked: u8,
    /// Those of them that are needed here, or were a moment ago.
    held: u8,
    /// Since when.
    since: [Instant; MAX_LAYERS],
    /// Asked for, and does not come.
    missing: [bool; MAX_LAYERS],
    /// Has come since it was asked for.
    came: [bool; MAX_LAYERS],
    /// Since when fewer would do here.
    fewer: Option<Instant>,
}

impl Supply {
    /// A publisher sends all its streams at first.
    pub(crate) fn new(now: Instant, streams: usize) -> Self {
        let asked = lowest(streams.min(MAX_LAYERS) as u8);
        let (since, none) = ([now; MAX_LAYERS], [false; MAX_LAYERS]);
        Self { asked, held: asked, since, missing: none, came: none, fewer: None }
    }

    /// How many layers the publisher is asked for: up to the highest.
    pub(crate) fn asked(&self) -> u8 {
        (u8::BITS - self.asked.leading_zeros()) as u8
    }

    fn asks(&self, stream: usize) -> bool {
        self.asked >> stream & 1 == 1
    }

    /// Looks at when each stream last came.
    pub(crate) fn look(&mut self, now: Instant, last: [Option<Instant>; MAX_LAYERS]) {
        let before = self.missing;
        let asked = [0, 1, 2].map(|stream| self.asks(stream));
        let came = |stream: usize| last[stream].filter(|at| *at >= self.since[stream]);
        self.came = [0, 1, 2].map(|stream| came(stream).is_some());
        let newest = (0..MAX_LAYERS).filter(|&stream| asked[stream]).filter_map(came).max();
        for (stream, before) in before.into_iter().enumerate() {
            self.missing[stream] = match (newest, came(stream)) {
                // A silent track says nothing about its streams.
                (None, _) => !asked[stream] && before,
                // Nobody asks for it: as it was, but that it may come unasked.
                (_, seen) if !asked[stream] => {
                    before && seen.is_none_or(|seen| now.duration_since(seen) >= PAUSED_AFTER)
                }
                (Some(newest), Some(seen)) => newest.saturating_duration_since(seen) >= PAUSED_AFTER,
                (Some(_), None) => now.duration_since(self.since[stream]) >= COMES_WITHIN,
            };
        }
    }

    /// Whether a stream flows, or would if it was asked for.
    pub(crate) fn has(&self, stream: u8) -> bool {
        self.missing.get(usize::from(stream)).is_some_and(|missing| !missing)
    }

    /// How many of the streams that are asked for have stopped coming, of those that `came` once.
    pub(crate) fn stopped(&self, came: [bool; MAX_LAYERS]) -> u32 {
        (0..MAX_LAYERS).filter(|&stream| self.asks(stream) && self.missing[stream] && came[stream]).count() as u32
    }

    /// So many layers are needed now. Streams that did not come when they were asked for are asked for as long as somebody
    /// would take them: their publisher may not have been able to send them at that moment. Answers with what the publisher
    /// is to be told.
    pub(crate) fn need(&mut self, now: Instant, needed: Needed) -> Option<u8> {
        let most = needed.wanted.min(MAX_LAYERS as u8);
        let waiting = (0..most).rfind(|&stream| !self.has(stream)).map_or(0, |stream| stream + 1);
        self.change(now, lowest(needed.here.max(waiting)), lowest(needed.elsewhere)).map(|_| self.asked())
    }

    /// The same of a track from another bridge or worker, of which each stream comes by itself. Answers with what is to be
    /// pulled.
    pub(crate) fn need_exactly(&mut self, now: Instant, needed: Needed) -> Option<u8> {
        let Needed { here, wanted, elsewhere } = needed;
        let missing =
            (0..MAX_LAYERS as u8).filter(|&stream| !self.has(stream)).fold(0, |all, stream| all | 1 << stream);
        // Of a stream that has not come yet nobody knows whether it will; the lowest tells, and is something to begin with.
        let unsure = (0..MAX_LAYERS).any(|stream| here >> stream & 1 == 1 && !self.came[stream]);
        self.change(now, here | (wanted & missing) | u8::from(unsure), elsewhere)
    }

    /// Asks for what is needed more at once; for less after a while, unless it was only needed elsewhere.
    fn change(&mut self, now: Instant, here: u8, elsewhere: u8) -> Option<u8> {
        if self.held & !here == 0 {
            (self.held, self.fewer) = (here, None);
        } else if now.duration_since(*self.fewer.get_or_insert(now)) < UNNEEDED_FOR {
            self.held |= here;
        } else {
            (self.held, self.fewer) = (here, None);
        }
        let next = self.held | elsewhere;
        if next == self.asked {
            return None;
        }
        for (stream, since) in self.since.iter_mut().enumerate() {
            if (next & !self.asked) >> stream & 1 == 1 {
                *since = now;
            }
        }
        self.asked = next;
        Some(next)
    }

    /// Another bridge is gone without having waited, and may come again: what it asked for is held as if it was needed here.
    pub(crate) fn keep(&mut self) {
        self.held = self.asked;
    }

    /// The publisher begins anew (it was muted): its streams have time again.
    pub(crate) fn restart(&mut self, now: Instant) {
        (self.since, self.missing, self.fewer) = ([now; MAX_LAYERS], [false; MAX_LAYERS], None);
    }
}

/// The bits of so many streams from the lowest.
fn lowest(streams: u8) -> u8 {
    1u8.checked_shl(streams.into()).map_or(u8::MAX, |bit| bit - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A publisher whose streams can be switched.
    struct Source {
        now: Instant,
        supply: Supply,
        last: [Option<Instant>; MAX_LAYERS],
    }

    impl Source {
        fn new() -> Self {
            let now = Instant::now();
            Self { now, supply: Supply::new(now, 3), last: [None; MAX_LAYERS] }
        }

        /// These streams flow for a time; tells how often the supply changed.
        fn flow(&mut self, streams: &[usize], ms: u32) -> usize {
            let turns = ms / 100;
            (0..turns)
                .filter(|_| {
                    self.now += 100 * MS;
                    streams.iter().for_each(|&stream| self.last[stream] = Some(self.now));
                    let before = self.has();
                    self.supply.look(self.now, self.last);
                    self.has() != before
                })
                .count()
        }

        fn has(&self) -> Vec<u8> {
            (0..4).filter(|stream| self.supply.has(*stream)).collect()
        }

        fn need(&mut self, layers: u8, wanted: u8) -> Option<u8> {
            self.supply.need(self.now, Needed { here: layers, wanted, elsewhere: 0 })
        }

        /// With this much needed here, and this much elsewhere.
        fn need_beside(&mut self, here: u8, elsewhere: u8) -> Option<u8> {
            self.supply.need(self.now, Needed { here, wanted: here, elsewhere })
        }
    }

    #[test]
    fn streams_have_time_to_come() {
        let mut source = Source::new();
        assert_eq!((source.flow(&[], 10_000), source.has()), (0, vec![0, 1, 2]), "nothing at all: nobody knows yet");
        let mut source = Source::new();
        assert_eq!((source.flow(&[0, 1], 2900), source.has()), (0, vec![0, 1, 2]), "it may still come");
        assert_eq!((source.flow(&[0, 1], 200), source.has()), (1, vec![0, 1]));
        assert_eq!((source.flow(&[0, 1, 2], 100), source.has()), (1, vec![0, 1, 2]));
    }

    #[test]
    fn a_stream_that_falls_behind_is_missing_and_counts_as_stopped() {
        let mut source = Source::new();
        source.flow(&[0, 1, 2], 5000);
        assert_eq!((source.flow(&[0, 1], 400), source.has()), (0, vec![0, 1, 2]));
        assert_eq!((source.flow(&[0, 1], 200), source.has()), (1, vec![0, 1]));
        assert_eq!(source.supply.stopped([true; 3]), 1);
        assert_eq!(source.supply.stopped([true, true, false]), 0, "a small camera never had a third one");
        source.flow(&[], 10_000);
        assert_eq!(source.has(), [0, 1], "silence of the whole track says nothing");
    }

    #[test]
    fn what_nobody_needs_is_not_asked_for_and_can_still_be_had() {
        let mut source = Source::new();
        source.flow(&[0, 1, 2], 5000);
        assert_eq!(source.need(1, 3), None);
        source.flow(&[0, 1, 2], 2900);
        assert_eq!(source.need(1, 3), None, "not yet");
        source.flow(&[0, 1, 2], 100);
        assert_eq!(source.need(1, 3), Some(1));
        source.flow(&[0], 60_000);
        assert_eq!(source.has(), [0, 1, 2], "on demand");
        assert_eq!(source.supply.stopped([true; 3]), 0);
        assert_eq!(source.need(3, 3), Some(3), "up at once");
        source.flow(&[0], 2900);
        assert_eq!(source.has(), [0, 1, 2], "they have time");
        source.flow(&[0, 1], 200);
        assert_eq!(source.has(), [0, 1], "one cannot be had");
        assert_eq!(source.need(2, 3), None, "but is still asked for: it is wanted");
        source.flow(&[0, 1], 10_000);
        assert_eq!(source.need(2, 3), None);
        source.flow(&[0, 1, 2], 100);
        assert_eq!(source.has(), [0, 1, 2]);
    }

    #[test]
    fn what_did_not_come_in_time_is_asked_for_again_when_somebody_wants_it() {
        let mut source = Source::new();
        source.flow(&[0, 1], 4000);
        assert_eq!((source.need(2, 2), source.has()), (None, vec![0, 1]), "the sender's own estimate is still low");
        source.flow(&[0, 1], 3000);
        assert_eq!(source.need(2, 2), Some(2), "nobody wants the third");
        assert_eq!(source.need(2, 3), Some(3), "somebody does");
        source.flow(&[0, 1, 2], 200);
        assert_eq!(source.has(), [0, 1, 2]);
        assert_eq!(source.need(3, 3), None);
    }

    #[test]
    fn nobody_at_all_turns_everything_off_and_somebody_on() {
        let mut source = Source::new();
        source.flow(&[0, 1, 2], 1000);
        assert_eq!(source.need(0, 0), None);
        source.flow(&[0, 1, 2], 3000);
        assert_eq!(source.need(0, 0), Some(0));
        source.flow(&[], 60_000);
        assert_eq!(source.has(), [0, 1, 2]);
        assert_eq!(source.need(1, 1), Some(1));
        assert_eq!(source.need(1, 1), None);
        source.flow(&[], 2000);
        source.flow(&[0], 60_000);
        assert_eq!(source.has(), [0, 1, 2]);
    }

    #[test]
    fn of_another_bridge_each_stream_is_pulled_by_itself() {
        let now = Instant::now();
        let mut source = Source { now, supply: Supply::new(now, 0), last: [None; MAX_LAYERS] };
        let need = |source: &mut Source, here| {
            source.supply.need_exactly(source.now, Needed { here, wanted: 0b111, elsewhere: 0 })
        };
        assert_eq!(need(&mut source, 0b100), Some(0b101), "the lowest, too, until it has come");
        source.flow(&[0, 2], 10_000);
        assert_eq!(need(&mut source, 0b100), None);
        source.flow(&[0, 2], 3000);
        assert_eq!(need(&mut source, 0b100), Some(0b100));
        assert_eq!(source.has(), [0, 1, 2], "what is not pulled can be had");
        assert_eq!(need(&mut source, 0b001), Some(0b101), "more at once, less not yet");
        source.flow(&[0, 2], 2900);
        assert_eq!(need(&mut source, 0b001), None);
        source.flow(&[0, 2], 100);
        assert_eq!(need(&mut source, 0b001), Some(0b001));
        assert_eq!(need(&mut source, 0b110), Some(0b111));
        source.flow(&[0, 1], 3100);
        assert_eq!(source.has(), [0, 1], "the highest does not come");
        assert_eq!(need(&mut source, 0b010), None);
        source.flow(&[0, 1], 3000);
        assert_eq!(need(&mut source, 0b010), Some(0b110), "but stays asked for: somebody would take it");
    }

    #[test]
    fn what_is_needed_elsewhere_only_does_not_wait_twice() {
        let mut source = Source::new();
        source.flow(&[0, 1, 2], 1000);
        assert_eq!(source.need_beside(1, 3), None);
        source.flow(&[0, 1, 2], 1000);
        assert_eq!(source.need_beside(1, 2), None, "a publisher sends everything at first");
        source.flow(&[0, 1, 2], 2000);
        assert_eq!(source.need_beside(1, 2), Some(2));
        assert_eq!(source.need_beside(1, 3), Some(3), "up at once");
        assert_eq!(source.need_beside(1, 1), Some(1), "and down: they have waited");
        // Needed here, too: that waits, whoever else is gone meanwhile.
        assert_eq!(source.need_beside(2, 3), Some(3));
        assert_eq!(source.need_beside(1, 3), None);
        source.flow(&[0, 1, 2], 2900);
        assert_eq!(source.need_beside(1, 0), Some(2));
        source.flow(&[0, 1], 100);
        assert_eq!(source.need_beside(1, 0), Some(1));
        // Who is gone without a word may come again.
        assert_eq!(source.need_beside(0, 3), Some(3));
        source.supply.keep();
        assert_eq!(source.need_beside(0, 0), None);
        source.flow(&[0, 1, 2], 2900);
        assert_eq!(source.need_beside(0, 0), None);
        source.flow(&[0, 1, 2], 100);
        assert_eq!(source.need_beside(0, 0), Some(0));
    }

    #[test]
    fn each_stream_that_is_needed_elsewhere_only_goes_at_once() {
        let now = Instant::now();
        let mut source = Source { now, supply: Supply::new(now, 0), last: [None; MAX_LAYERS] };
        let need = |source: &mut Source, here, elsewhere| {
            source.supply.need_exactly(source.now, Needed { here, wanted: here, elsewhere })
        };
        assert_eq!(need(&mut source, 0, 0b101), Some(0b101));
        source.flow(&[0, 2], 1000);
        assert_eq!(need(&mut source, 0b001, 0b100), None);
        assert_eq!(need(&mut source, 0b001, 0b010), Some(0b011));
        assert_eq!(need(&mut source, 0, 0b010), None, "the lowest was needed here");
        source.flow(&[0, 1], 3000);
        assert_eq!(need(&mut source, 0, 0b010), Some(0b010));
    }

    #[test]
    fn a_short_need_of_less_changes_nothing() {
        let mut source = Source::new();
        for _ in 0..20 {
            source.flow(&[0, 1, 2], 2000);
            assert_eq!(source.need(1, 3), None);
            source.flow(&[0, 1, 2], 500);
            assert_eq!(source.need(3, 3), None);
        }
    }
}
