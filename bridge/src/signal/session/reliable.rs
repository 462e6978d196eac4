//! The reliable data packets of a client, each once and in the order of their numbers, also when it comes back. Pure: the time is
//! passed in.
//!
//! `livekit-client` numbers them from 1. While it resumes it keeps what it is asked to send, and repeats from what the server has
//! acknowledged once it is back. But what it is asked to send between two attempts, or just before it repeats, goes out at
//! once, ahead of what it keeps. So a gap is waited for then, and only what is complete is acknowledged.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use livekit_protocol::DataPacket;

/// How long a client that has come back may take until it repeats: it looks for two seconds whether its WebSocket stays.
const REPEATS_WITHIN: Duration = Duration::from_secs(5);
/// How much is kept after a gap; the gap is given up when there is more.
const MAX_PACKETS: usize = 512;
/// The same, in bytes.
const MAX_BYTES: usize = 1 << 20;

/// What has come, and what has come too early.
#[derive(Debug, Default)]
pub(super) struct Reliable {
    /// Up to where everything has come, or was given up.
    last: u32,
    /// What came after a gap.
    ahead: BTreeMap<u32, DataPacket>,
    /// Bytes of that.
    bytes: usize,
    /// Until when a gap is waited for, if it is.
    until: Option<Instant>,
}

impl Reliable {
    /// Of a client from whom everything up to this number has come elsewhere.
    pub(super) fn after(last: u32) -> Self {
        Self { last, ..Self::default() }
    }

    /// Up to where a client need not repeat.
    pub(super) fn acknowledged(&self) -> u32 {
        self.last
    }

    /// The client has lost its WebSocket, which it may know already.
    pub(super) fn away(&mut self, now: Instant, resume_within: Duration) {
        self.until = Some(now + resume_within);
    }

    /// The client has come back and been told what is acknowledged.
    pub(super) fn back(&mut self, now: Instant) {
        self.until = Some(now + REPEATS_WITHIN);
    }

    /// When what is kept is to be `released`.
    pub(super) fn due(&self) -> Option<Instant> {
        self.until.filter(|_| !self.ahead.is_empty())
    }

    /// Takes a packet that came in so many bytes; `route` gets everything whose turn it is.
    pub(super) fn take(&mut self, packet: DataPacket, bytes: usize, now: Instant, mut route: impl FnMut(DataPacket)) {
        if self.until.is_some_and(|until| until <= now) {
            self.release(&mut route);
        }
        let sequence = packet.sequence;
        if sequence == 0 {
            return route(packet); // older clients number nothing
        }
        if sequence <= self.last {
            return;
        }
        if self.until.is_some() && sequence - self.last > 1 {
            if self.ahead.insert(sequence, packet).is_none() {
                self.bytes += bytes;
            }
            if self.ahead.len() > MAX_PACKETS || self.bytes > MAX_BYTES {
                self.release(route);
            }
            return;
        }
        self.last = sequence;
        route(packet);
        while let Some(next) = self.ahead.remove(&self.last.saturating_add(1)) {
            self.last = next.sequence;
            route(next);
        }
        if self.ahead.is_empty() {
            self.bytes = 0;
        }
    }

    /// What is missing does not come any more: `route` gets what came after it.
    pub(super) fn release(&mut self, mut route: impl FnMut(DataPacket)) {
        (self.until, self.bytes) = (None, 0);
        for (sequence, packet) in std::mem::take(&mut self.ahead) {
            self.last = sequence;
            route(packet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESUME: Duration = Duration::from_secs(20);

    /// A client's packets as they come, and what is passed on.
    struct Line {
        reliable: Reliable,
        now: Instant,
        passed: Vec<u32>,
    }

    impl Line {
        fn new() -> Self {
            Self { reliable: Reliable::default(), now: Instant::now(), passed: Vec::new() }
        }

        fn comes(&mut self, sequences: impl IntoIterator<Item = u32>) {
            for sequence in sequences {
                let packet = DataPacket { sequence, ..DataPacket::default() };
                self.reliable.take(packet, 100, self.now, |packet| self.passed.push(packet.sequence));
            }
        }
    }

    #[test]
    fn each_is_passed_on_once() {
        let mut line = Line::new();
        line.comes([1, 2, 2, 1, 3, 0, 0]);
        assert_eq!(line.passed, [1, 2, 3, 0, 0], "what has no number is not known again");
        assert_eq!(line.reliable.acknowledged(), 3);
    }

    #[test]
    fn who_does_not_come_back_is_not_kept_waiting() {
        let mut line = Line::new();
        line.comes([1, 4, 3, 5]);
        assert_eq!(line.passed, [1, 4, 5], "a number that was never sent");
        assert_eq!((line.reliable.acknowledged(), line.reliable.due()), (5, None));
    }

    #[test]
    fn what_is_sent_before_it_is_repeated_waits() {
        let mut line = Line::new();
        line.comes([1, 2]);
        line.reliable.away(line.now, RESUME);
        line.comes([5, 6]);
        assert_eq!(line.passed, [1, 2]);
        assert_eq!(line.reliable.acknowledged(), 2, "the client repeats from 3");
        line.reliable.back(line.now);
        line.comes([8]);
        assert_eq!(line.reliable.due(), Some(line.now + REPEATS_WITHIN));
        line.comes([3, 4, 5, 6, 7, 8]);
        assert_eq!(line.passed, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(line.reliable.due(), None, "nothing is kept");
    }

    #[test]
    fn what_never_comes_is_given_up() {
        let mut line = Line::new();
        line.reliable.back(line.now);
        line.comes([3, 5]);
        line.now += REPEATS_WITHIN;
        line.comes([6]);
        assert_eq!(line.passed, [3, 5, 6]);
        line.comes([4, 8]);
        assert_eq!(line.passed, [3, 5, 6, 8], "and nothing is waited for any more");
    }

    #[test]
    fn no_more_is_kept_than_that() {
        let mut line = Line::new();
        line.reliable.away(line.now, RESUME);
        let last = 1 + u32::try_from(MAX_PACKETS).unwrap();
        line.comes(2..=last);
        assert!(line.passed.is_empty());
        line.comes([last + 1]);
        assert_eq!(line.passed.len(), MAX_PACKETS + 1);
        line.reliable.back(line.now);
        let large = DataPacket { sequence: last + 3, ..DataPacket::default() };
        line.reliable.take(large, MAX_BYTES + 1, line.now, |packet| line.passed.push(packet.sequence));
        assert_eq!(line.passed.last(), Some(&(last + 3)));
        assert_eq!(line.reliable.bytes, 0);
    }

    #[test]
    fn it_goes_on_from_elsewhere() {
        let mut line = Line { reliable: Reliable::after(7), ..Line::new() };
        line.reliable.back(line.now);
        line.comes([7, 9, 8, u32::MAX]);
        assert_eq!(line.passed, [8, 9]);
        line.reliable.release(|packet| line.passed.push(packet.sequence));
        assert_eq!(line.passed, [8, 9, u32::MAX]);
        line.comes([u32::MAX]);
        assert_eq!(line.passed.len(), 3);
    }
}
