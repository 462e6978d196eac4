//! A simulated network between two sans-IO ends for tests: constant delay, random loss from a fixed seed, passed-in time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// xorshift64: the same losses in every run.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// Below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) % bound
    }
}

/// One end of the wire.
pub(super) trait End {
    fn receive(&mut self, now: Instant, datagram: Vec<u8>);
    fn transmit(&mut self, now: Instant) -> Option<Vec<u8>>;
    fn timeout(&self) -> Option<Instant>;
    fn tick(&mut self, now: Instant);
}

pub(super) struct Network {
    pub(super) now: Instant,
    pub(super) loss_percent: u64,
    /// Both directions share it; constant delay makes it first in, first out.
    wire: VecDeque<(Instant, bool, Vec<u8>)>,
    random: Random,
}

impl Network {
    const DELAY: Duration = Duration::from_millis(25);

    pub(super) fn new(seed: u64, loss_percent: u64) -> Self {
        Self { now: Instant::now(), loss_percent, wire: VecDeque::new(), random: Random::new(seed) }
    }

    /// Runs both ends until `done`, at most for the simulated time `limit`. Returns the time it took.
    pub(super) fn run<A: End, B: End>(
        &mut self,
        a: &mut A,
        b: &mut B,
        limit: Duration,
        mut done: impl FnMut(&mut A, &mut B) -> bool,
    ) -> Option<Duration> {
        let start = self.now;
        loop {
            while let Some(datagram) = a.transmit(self.now) {
                self.send(false, datagram);
            }
            while let Some(datagram) = b.transmit(self.now) {
                self.send(true, datagram);
            }
            if done(a, b) {
                return Some(self.now - start);
            }
            let timer = [a.timeout(), b.timeout()].into_iter().flatten().min().map(|at| at.max(self.now));
            let arrival = self.wire.front().map(|(at, ..)| *at);
            let next = [timer, arrival].into_iter().flatten().min().filter(|at| *at <= start + limit);
            let Some(next) = next else {
                self.now = start + limit;
                return None;
            };
            self.now = next;
            if arrival.is_some_and(|at| at <= next)
                && let Some((_, to_a, datagram)) = self.wire.pop_front()
            {
                if to_a { a.receive(next, datagram) } else { b.receive(next, datagram) }
            } else {
                a.tick(next);
                b.tick(next);
            }
        }
    }

    fn send(&mut self, to_a: bool, datagram: Vec<u8>) {
        if self.random.below(100) >= self.loss_percent {
            self.wire.push_back((self.now + Self::DELAY, to_a, datagram));
        }
    }
}
