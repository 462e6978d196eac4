//! The share of packets that did not arrive, over the last second of feedback.

/// Length of a slot, microseconds.
const SLOT: u64 = 100_000;
const SLOTS: usize = 10;
/// Fewer packets in a second say nothing.
const ENOUGH: u32 = 40;

#[derive(Clone, Copy, Debug)]
struct Slot {
    number: u64,
    arrived: u32,
    lost: u32,
}

/// Counts by the time of the feedback, microseconds.
#[derive(Debug)]
pub(super) struct Loss([Slot; SLOTS]);

impl Loss {
    pub(super) fn new() -> Self {
        Self([Slot { number: u64::MAX, arrived: 0, lost: 0 }; SLOTS])
    }

    fn slot(&mut self, now: u64) -> &mut Slot {
        let number = now / SLOT;
        let slot = &mut self.0[(number % SLOTS as u64) as usize];
        if slot.number != number {
            *slot = Slot { number, arrived: 0, lost: 0 };
        }
        slot
    }

    pub(super) fn arrived(&mut self, now: u64) {
        self.slot(now).arrived += 1;
    }

    pub(super) fn lost(&mut self, now: u64) {
        self.slot(now).lost += 1;
    }

    /// A packet that counted as lost was only late.
    pub(super) fn found(&mut self, now: u64) {
        let newest = now / SLOT;
        self.arrived(now);
        let recent = |slot: &&mut Slot| slot.number <= newest && slot.number + SLOTS as u64 > newest && slot.lost > 0;
        if let Some(slot) = self.0.iter_mut().filter(recent).max_by_key(|slot| slot.number) {
            slot.lost -= 1;
        }
    }

    /// The share lost, 0.0 to 1.0, of enough packets.
    pub(super) fn share(&self, now: u64) -> Option<f64> {
        let newest = now / SLOT;
        let recent = self.0.iter().filter(|slot| slot.number <= newest && slot.number + SLOTS as u64 > newest);
        let (arrived, lost) = recent.fold((0, 0), |(a, l), slot| (a + slot.arrived, l + slot.lost));
        (arrived + lost >= ENOUGH).then(|| f64::from(lost) / f64::from(arrived + lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_second_counts() {
        let mut loss = Loss::new();
        assert_eq!(loss.share(0), None);
        for at in 0..25 {
            loss.arrived(at * 10_000);
            loss.lost(at * 10_000);
        }
        assert_eq!(loss.share(250_000), Some(0.5));
        for at in 0..40 {
            loss.arrived(1_500_000 + at * 10_000);
        }
        assert_eq!(loss.share(1_900_000), Some(0.0));
        assert_eq!(loss.share(9_000_000), None, "nothing lately");
    }

    #[test]
    fn what_comes_late_is_not_lost() {
        let mut loss = Loss::new();
        (0..50).for_each(|_| loss.lost(0));
        (0..50).for_each(|_| loss.found(150_000));
        assert_eq!(loss.share(150_000), Some(0.0));
        loss.found(150_000);
        assert_eq!(loss.share(150_000), Some(0.0), "never less than none");
    }
}
