//! How many participants a bridge takes when nobody says it: learnt from what a packet costs here.
//!
//! ```text
//! seats = workers × 80 % of a core / (CPU time per packet × packets per participant and second)
//! ```
//!
//! Both factors are averages of the last minutes, of all workers together, packets counted both ways. Until they are known
//! they are those of docs/benchmarks.md. With few people a packet costs more (a wake-up serves fewer), so the figure is low at
//! first and grows with the load. It bounds whom the allocator sends here before their media flows; what flows counts as CPU.

use std::time::Duration;

use super::weight;

/// How much of the workers' time is given out: the rest is for key frames, joins and repairs.
const USABLE: f64 = 0.8;
/// Before anything is measured: CPU time per packet …
const COST: f64 = 5e-6;
/// … and packets per participant and second, both ways: a meeting of 30 with 9 tiles each.
const PACKETS: f64 = 830.0;
/// Nobody needs less: listening to two voices.
const FEWEST_PACKETS: f64 = 100.0;
/// Over which time is learnt.
const MEMORY: Duration = Duration::from_secs(60);
/// What flows less than this (packets a second) teaches nothing: waking up is most of the cost then.
const ENOUGH: u64 = 500;
/// Participants from which on what they need is theirs and not one person's.
const MEETING: u32 = 5;
/// What is learnt stays within these.
const LEAST: f64 = 50.0;
const MOST: f64 = 100_000.0;

/// What has been learnt so far.
#[derive(Debug)]
pub(super) struct Capacity {
    workers: f64,
    /// CPU seconds per packet.
    cost: f64,
    /// Packets per participant and second.
    packets: f64,
}

impl Capacity {
    /// Nothing yet.
    pub(super) fn new(workers: usize) -> Self {
        Self { workers: workers as f64, cost: COST, packets: PACKETS }
    }

    /// Takes an interval: the CPU time all workers spent in it, packets a second both ways, participants.
    pub(super) fn learn(&mut self, elapsed: Duration, spent: Duration, packets: u64, participants: u32) {
        if packets < ENOUGH || participants < MEETING || spent.is_zero() {
            return;
        }
        let weight = weight(elapsed, MEMORY);
        let cost = spent.as_secs_f64() / (packets as f64 * elapsed.as_secs_f64());
        // Geometric, so that one bad second (a paused machine) does not weigh as much as a minute.
        self.cost *= (cost / self.cost).powf(weight);
        let each = (packets as f64 / f64::from(participants)).max(FEWEST_PACKETS);
        self.packets *= (each / self.packets).powf(weight);
    }

    /// Participants this bridge takes.
    pub(super) fn participants(&self) -> u32 {
        (self.workers * USABLE / (self.cost * self.packets)).clamp(LEAST, MOST) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn after_minutes(workers: usize, spent_ms: u64, packets: u64, participants: u32) -> u32 {
        let mut capacity = Capacity::new(workers);
        for _ in 0..600 {
            capacity.learn(SECOND, Duration::from_millis(spent_ms), packets, participants);
        }
        capacity.participants()
    }

    #[test]
    fn the_first_guess_is_a_meeting_of_our_benchmarks() {
        assert_eq!(Capacity::new(1).participants(), 192);
        assert_eq!(Capacity::new(16).participants(), 3084);
    }

    #[test]
    fn what_is_measured_replaces_it() {
        // 40 people, 400 packets a second each at 10 µs: 4 ms of CPU per person and second, 200 on 80 % of one core.
        assert!((198..=201).contains(&after_minutes(1, 160, 16_000, 40)));
        // Faster machine.
        assert!((1590..=1605).contains(&after_minutes(4, 80, 16_000, 40)));
    }

    #[test]
    fn what_says_little_is_not_believed() {
        let guess = Capacity::new(1).participants();
        assert_eq!(after_minutes(1, 500, 499, 40), guess, "hardly any packets");
        assert_eq!(after_minutes(1, 500, 10_000, 4), guess, "one person's tests");
        assert_eq!(after_minutes(1, 0, 10_000, 40), guess, "a kernel that does not tell CPU time");
    }

    #[test]
    fn it_stays_within_reason() {
        assert_eq!(after_minutes(1, 1000, 600, 50), 50);
        assert_eq!(after_minutes(64, 1, 1_000_000, 100_000), 100_000);
    }

    #[test]
    fn one_second_does_not_turn_it_over() {
        let mut capacity = Capacity::new(1);
        capacity.learn(SECOND, SECOND, 1000, 10);
        assert!(capacity.participants() > 150, "{}", capacity.participants());
    }
}
