//! How often one network may call what anybody may call: token buckets with bounded memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Networks that are remembered at a time; the longest silent are forgotten first, and full buckets always can be.
const NETWORKS: usize = 16 * 1024;

/// The limits of our own API.
#[derive(Debug)]
pub(super) struct Limits {
    /// Opening rooms.
    pub(super) open: Limiter,
    /// Fetching tokens: a town hall of hundreds behind one address joins at once.
    pub(super) join: Limiter,
}

impl Default for Limits {
    fn default() -> Self {
        Self { open: Limiter::new(60, Duration::from_secs(1)), join: Limiter::new(600, Duration::from_millis(50)) }
    }
}

/// A bucket per network.
#[derive(Debug)]
pub(super) struct Limiter {
    burst: u32,
    refill: Duration,
    buckets: Mutex<HashMap<IpAddr, Instant>>,
}

impl Limiter {
    /// `burst` calls at once, and one more for each `refill`.
    fn new(burst: u32, refill: Duration) -> Self {
        Self { burst, refill, buckets: Mutex::default() }
    }

    /// Takes one call.
    ///
    /// # Errors
    /// The time after which the next one is granted.
    pub(super) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= NETWORKS {
            // Only those that still owe something need to be remembered; if all do, the oldest half goes.
            buckets.retain(|_, owed| *owed > now);
            if buckets.len() >= NETWORKS {
                let mut owed: Vec<Instant> = buckets.values().copied().collect();
                let (_, middle, _) = owed.select_nth_unstable(NETWORKS / 2);
                let middle = *middle;
                buckets.retain(|_, owed| *owed > middle);
            }
        }
        // Each call is owed for one `refill`; a network may owe `burst` of them.
        let owed = buckets.entry(network(address)).or_insert(now);
        let next = (*owed).max(now) + self.refill;
        match next.checked_duration_since(now + self.refill * self.burst) {
            Some(excess) if !excess.is_zero() => Err(excess),
            _ => {
                *owed = next;
                Ok(())
            }
        }
    }
}

/// What one customer has: an IPv4 address, or an IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn a_burst_then_one_per_refill() {
        let limiter = Limiter::new(3, Duration::from_secs(1));
        let start = Instant::now();
        for _ in 0..3 {
            assert_eq!(limiter.take(A, start), Ok(()));
        }
        assert_eq!(limiter.take(A, start), Err(Duration::from_secs(1)));
        assert_eq!(limiter.take(B, start), Ok(()), "another network has its own");
        let later = start + Duration::from_secs(1);
        assert_eq!(limiter.take(A, later), Ok(()));
        assert_eq!(limiter.take(A, later), Err(Duration::from_secs(1)));
        let much_later = start + Duration::from_secs(60);
        assert!((0..3).all(|_| limiter.take(A, much_later).is_ok()));
        assert!(limiter.take(A, much_later).is_err(), "never more than the burst");
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = Limiter::new(3, Duration::from_secs(1));
        let now = Instant::now();
        for n in 0..40_000_u32 {
            assert_eq!(limiter.take(IpAddr::V4(n.into()), now), Ok(()));
        }
        assert!(limiter.buckets.lock().unwrap().len() <= NETWORKS);
    }
}
