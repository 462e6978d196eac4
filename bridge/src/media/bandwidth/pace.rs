//! How fast to send where the way is known to be narrow: a leaky bucket that empties at a little more than the estimate.
//! What must not wait (sound, repairs, probes) is counted too, so that pictures make room for it.

/// Bits per second sent, of the estimate. That is below what the way carries (`estimate.rs`), so that this is about as much.
const FACTOR: f64 = 1.15;
/// So much may be sent at once, seconds at that rate …
const DEPTH: f64 = 0.02;
/// … but a packet in any case, bytes.
const LEAST: f64 = 1_500.0;

/// One transport's.
#[derive(Debug)]
pub(super) struct Bucket {
    /// Bytes that may be sent now; less than none after what did not wait.
    bytes: f64,
    /// Bytes a second.
    rate: f64,
    at: u64,
}

impl Bucket {
    pub(super) fn new(now: u64, bits: f64) -> Self {
        Self { bytes: 0.0, rate: FACTOR * bits / 8.0, at: now }
    }

    /// The estimate is another one.
    pub(super) fn set(&mut self, bits: f64) {
        self.rate = FACTOR * bits / 8.0;
    }

    /// Bytes a second that leave.
    pub(super) fn rate(&self) -> f64 {
        self.rate
    }

    /// So many bytes leave.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.bytes -= bytes as f64;
    }

    /// Whether a packet may leave at `now`, microseconds.
    pub(super) fn may_send(&mut self, now: u64) -> bool {
        let passed = now.saturating_sub(self.at) as f64 / 1e6;
        self.at = now;
        self.bytes = (self.bytes + self.rate * passed).min((self.rate * DEPTH).max(LEAST));
        self.bytes > 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_at_its_rate_and_makes_up_for_what_did_not_wait() {
        let mut bucket = Bucket::new(0, 800_000.0);
        let (mut sent, mut longest) = (0, 0);
        for now in (0..10_000_000).step_by(10_000) {
            if now == 5_000_000 {
                bucket.sent(100_000); // a storm of repairs
            }
            let mut run = 0;
            while bucket.may_send(now) {
                bucket.sent(1_000);
                (sent, run) = (sent + 1_000, run + 1_000);
            }
            longest = longest.max(run);
        }
        let expected = FACTOR * 1_000_000.0 - 100_000.0;
        assert!((f64::from(sent) - expected).abs() < 5_000.0, "{sent}");
        assert!(longest <= 4_000, "never more than 20 ms at once: {longest}");
        bucket.set(80_000.0);
        assert_eq!(bucket.rate(), FACTOR * 10_000.0);
    }
}
