//! What one leg has sent lately, to answer NACKs: where each packet is in its stream's history and how it was rewritten.
//! Only what was sent can be repeated.

use std::time::{Duration, Instant};

use super::source::Rewrite;

/// Packets a subscriber can ask for again; a power of two. 1.5 Mbit/s for 3 s.
const REPAIRABLE: u64 = 512;
/// The same packet is not sent again within this.
const REPAIR_PAUSE: Duration = Duration::from_millis(20);

/// Where a packet that is asked for again is to be found, and what it looked like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repair {
    /// The incoming stream it was of, and its sequence number there.
    pub(crate) stream: u8,
    pub(crate) sequence: u16,
    /// Its index on the leg.
    pub(crate) index: u64,
    pub(crate) rewrite: Rewrite,
}

#[derive(Clone, Copy)]
struct Sent {
    repair: Repair,
    repeated: Option<Instant>,
}

/// A ring of sent packets; takes memory from the first one on.
#[derive(Default)]
pub(crate) struct Repairs(Vec<Option<Sent>>);

impl Repairs {
    /// Makes room, once.
    pub(crate) fn prepare(&mut self) {
        if self.0.is_empty() {
            self.0 = vec![None; REPAIRABLE as usize];
        }
    }

    /// A packet was sent.
    pub(crate) fn push(&mut self, repair: Repair) {
        if let Some(place) = self.0.get_mut((repair.index % REPAIRABLE) as usize) {
            *place = Some(Sent { repair, repeated: None });
        }
    }

    /// The packet before `next` with this sequence number, unless it was just repeated.
    pub(crate) fn take(&mut self, now: Instant, next: u64, sequence: u16) -> Option<Repair> {
        let behind = (next as u16).wrapping_sub(sequence);
        let index = next.checked_sub(u64::from(behind)).filter(|_| behind != 0)?;
        let sent = self.0.get_mut((index % REPAIRABLE) as usize)?.as_mut().filter(|sent| sent.repair.index == index)?;
        if sent.repeated.is_some_and(|at| now.duration_since(at) < REPAIR_PAUSE) {
            return None;
        }
        sent.repeated = Some(now);
        Some(sent.repair)
    }
}
