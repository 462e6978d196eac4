//! A bad line, in user space: loss, delay, jitter and a bandwidth with a queue before it, for each direction of an
//! impaired participant.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng, rngs::StdRng};

/// What waits before the bottleneck, at most: a DSL router's queue.
const QUEUE: Duration = Duration::from_millis(300);
/// IPv4 and UDP headers, bytes.
const OVERHEAD: usize = 28;

/// How bad the line is, in each direction.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Impairment {
    /// Share of datagrams lost.
    pub(super) loss: f64,
    /// One way.
    pub(super) delay: Duration,
    /// Added to the delay, evenly between none and this; the order stays.
    pub(super) jitter: Duration,
    /// bit/s
    pub(super) bandwidth: Option<u64>,
}

impl Impairment {
    /// Whether it does anything.
    pub(super) fn is_some(&self) -> bool {
        *self != Self::default()
    }
}

/// One direction of a line; holds what is under way.
pub(super) struct Line<T> {
    impairment: Impairment,
    random: StdRng,
    /// When the bottleneck has sent all that waits before it.
    free: Option<Instant>,
    last: Option<Instant>,
    queue: VecDeque<(Instant, T, Vec<u8>)>,
    /// Datagrams that did not make it.
    pub(super) dropped: u64,
}

impl<T> Line<T> {
    pub(super) fn new(impairment: Impairment, seed: u64) -> Self {
        let (random, queue) = (StdRng::seed_from_u64(seed), VecDeque::new());
        Self { impairment, random, free: None, last: None, queue, dropped: 0 }
    }

    /// A datagram enters.
    pub(super) fn push(&mut self, now: Instant, to: T, datagram: &[u8]) {
        let mut at = now;
        if let Some(rate) = self.impairment.bandwidth {
            let free = self.free.unwrap_or(now).max(now);
            if free > now + QUEUE {
                self.dropped += 1;
                return;
            }
            let bits = (datagram.len() + OVERHEAD) as f64 * 8.0;
            at = free + Duration::from_secs_f64(bits / rate.max(1) as f64);
            self.free = Some(at);
        }
        if self.random.random_bool(self.impairment.loss.clamp(0.0, 1.0)) {
            self.dropped += 1; // behind the bottleneck
            return;
        }
        let jitter = self.impairment.jitter.mul_f64(self.random.random());
        at = (at + self.impairment.delay + jitter).max(self.last.unwrap_or(at));
        self.last = Some(at);
        self.queue.push_back((at, to, datagram.to_vec()));
    }

    /// The next datagram that leaves by now.
    pub(super) fn pop(&mut self, now: Instant) -> Option<(T, Vec<u8>)> {
        if self.queue.front()?.0 > now {
            return None;
        }
        self.queue.pop_front().map(|(_, to, datagram)| (to, datagram))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn loss_is_what_was_asked_for() {
        let now = Instant::now();
        let mut line = Line::new(Impairment { loss: 0.02, ..Impairment::default() }, 1);
        (0..100_000).for_each(|_| line.push(now, (), &[0; 10]));
        assert!((1800..2200).contains(&line.dropped), "{}", line.dropped);
        let mut left = 0;
        while line.pop(now).is_some() {
            left += 1;
        }
        assert_eq!(left + line.dropped, 100_000);
    }

    #[test]
    fn delay_holds_and_jitter_keeps_the_order() {
        let start = Instant::now();
        let mut line = Line::new(Impairment { delay: 100 * MS, jitter: 20 * MS, ..Impairment::default() }, 1);
        for i in 0..100u8 {
            line.push(start + u32::from(i) * MS, i, &[i]);
        }
        assert!(line.pop(start + 99 * MS).is_none());
        let mut order = Vec::new();
        for ms in 100..=219 {
            while let Some((i, _)) = line.pop(start + ms * MS) {
                let late = ms - u32::from(i);
                assert!((100..=121).contains(&late), "{i}: {late} ms");
                order.push(i);
            }
        }
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn the_bottleneck_lets_through_its_rate_and_drops_what_its_queue_cannot_hold() {
        let start = Instant::now();
        let mut line = Line::new(Impairment { bandwidth: Some(600_000), ..Impairment::default() }, 1);
        let (mut bytes, mut longest) = (0, Duration::ZERO);
        for ms in 0..10_000 {
            let now = start + ms * MS;
            line.push(now, now, &[0; 125 - OVERHEAD]); // a megabit a second
            while let Some((sent, datagram)) = line.pop(now) {
                bytes += datagram.len() + OVERHEAD;
                longest = longest.max(now - sent);
            }
        }
        let rate = bytes as f64 * 8.0 / 10.0;
        assert!((580_000.0..601_000.0).contains(&rate), "{rate}");
        assert!(longest >= QUEUE && longest < QUEUE + 10 * MS, "{longest:?}");
    }
}
