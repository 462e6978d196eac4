//! How many requests one client may make: a token bucket over passed-in time.

use std::time::{Duration, Instant};

/// Requests a client may make at once: an adaptive-stream client may set every track of a big room in one instant.
const BURST: u32 = 1000;
/// Requests per second in the long run.
const PER_SECOND: u32 = 200;

/// One client's allowance.
#[derive(Debug)]
pub(crate) struct RateLimit {
    left: u32,
    filled: Instant,
}

impl RateLimit {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: BURST, filled: now }
    }

    /// Takes one request; false when there is no allowance left.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        const EACH: Duration = Duration::from_micros(1_000_000 / PER_SECOND as u64);
        let earned = now.saturating_duration_since(self.filled).as_micros() / EACH.as_micros();
        let earned = u32::try_from(earned).map_or(BURST, |earned| earned.min(BURST));
        self.left = (self.left + earned).min(BURST);
        self.filled = if self.left == BURST { now } else { self.filled + EACH * earned };
        self.left = match self.left.checked_sub(1) {
            Some(left) => left,
            None => return false,
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_pass_and_floods_do_not() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        assert!((0..BURST).all(|_| limit.take(start)));
        assert!(!limit.take(start), "the burst is used up");
        let second = start + Duration::from_secs(1);
        assert!((0..PER_SECOND).all(|_| limit.take(second)));
        assert!(!limit.take(second), "a second earns its rate and no more");
    }

    #[test]
    fn a_long_pause_earns_one_burst() {
        let start = Instant::now();
        let mut limit = RateLimit::new(start);
        let later = start + Duration::from_secs(10_000_000);
        assert!((0..BURST).all(|_| limit.take(later)));
        assert!(!limit.take(later));
        assert!(limit.take(later + Duration::from_millis(5)), "one request each 5 ms");
    }
}
