//! How much may be sent again: a part of what the way carries, so that a subscriber who asks for everything again and again
//! costs itself its picture and others nothing.

/// Repairs may be this part of the budget …
const SHARE: f64 = 0.25;
/// … and so much of it at once, seconds; …
const DEPTH: f64 = 1.0;
/// … but at least so many bytes, a key frame's worth.
const LEAST: f64 = 32_000.0;

/// One transport's.
#[derive(Debug)]
pub(super) struct Repairs {
    /// Bytes that may be sent now.
    bytes: f64,
    at: u64,
}

impl Repairs {
    pub(super) fn new() -> Self {
        Self { bytes: LEAST, at: 0 }
    }

    /// Whether `len` bytes may be sent again now (microseconds), when the way carries `budget` bits per second.
    pub(super) fn take(&mut self, now: u64, len: usize, budget: f64) -> bool {
        let rate = budget * SHARE / 8.0;
        let passed = now.saturating_sub(self.at) as f64 / 1e6;
        self.at = now;
        self.bytes = (self.bytes + rate * passed).min((rate * DEPTH).max(LEAST));
        let enough = self.bytes >= len as f64;
        if enough {
            self.bytes -= len as f64;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_gets_its_share_and_no_more() {
        let mut repairs = Repairs::new();
        let mut taken = 0;
        for micros in (0..10_000_000).step_by(100) {
            taken += if repairs.take(micros, 1000, 1e6) { 1000 } else { 0 };
        }
        let share = 1e6 / 8.0 * 10.0 * SHARE + LEAST;
        assert!((share - 2000.0..=share).contains(&f64::from(taken)), "{taken}");
    }

    #[test]
    fn ordinary_losses_are_all_repaired() {
        let mut repairs = Repairs::new();
        // 2 % of 1 Mbit/s, and a burst of 25 packets once.
        assert!((0..25).all(|_| repairs.take(0, 1100, 1e6)));
        assert!((1..100u64).all(|i| repairs.take(i * 440_000, 1100, 1e6)));
    }
}
