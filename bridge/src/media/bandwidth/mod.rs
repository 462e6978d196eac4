//! What the way to one client carries: an estimate from the client's feedback, without I/O and without a clock of its own.
//!
//! - `sent.rs`: what was sent, to match feedback with.

mod sent;

use std::time::Instant;

pub(crate) use sent::Purpose;
use sent::Sent;

/// IPv4 and UDP headers, bytes a packet; what is counted is what the narrowest link carries.
const HEADERS: usize = 28;

/// One transport's.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    epoch: Instant,
    sent: Sent,
    /// Bytes of unnumbered packets since the last numbered one.
    unnumbered: usize,
    wish: Option<u64>,
}

impl Bandwidth {
    pub(crate) fn new(now: Instant) -> Self {
        Self { epoch: now, sent: Sent::default(), unnumbered: 0, wish: None }
    }

    /// The transport-wide sequence number of the next packet.
    pub(crate) fn next_number(&self) -> [u8; 2] {
        (self.sent.next() as u16).to_be_bytes()
    }

    /// A packet of `len` bytes of UDP payload leaves, with `number` if that is in it.
    pub(crate) fn sent(&mut self, now: Instant, len: usize, number: Option<[u8; 2]>, _purpose: Purpose) {
        self.unnumbered += len + HEADERS;
        if number.is_some() {
            let size = u16::try_from(std::mem::take(&mut self.unnumbered)).unwrap_or(u16::MAX);
            self.sent.push(self.micros(now), size, 0);
        }
    }

    /// Bits per second for everything that is sent; `None` while nothing is known to limit it.
    pub(crate) fn budget(&self) -> Option<u64> {
        None
    }

    /// What an upgrade would need, bits per second.
    pub(crate) fn wish(&mut self, bits: Option<u64>) {
        self.wish = bits;
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX)
    }
}
