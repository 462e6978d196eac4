//! What arrives: how much in the recent past, and how long packets stand in queues on their way.
//!
//! The queue is measured as a *standing* one: the smallest one-way delay of a recent window, above the smallest one of the
//! last ten seconds. An SFU passes frames on as they come, in bursts; a burst delays its own last packets, but as long as
//! the link is idle in between, some packet of the window finds it empty. The minimum is also what jitter changes least.
//! (Google's GCC fits a line through the delays of paced packets instead, which bursts disturb; for the standing queue see
//! CoDel, RFC 8289 §3.1, for the windowed minimum BBR, draft-ietf-ccwg-bbr §5.5.)
//!
//! While the queue stands, the link is never idle, so what arrives then is what it carries.

/// Length of a slot, microseconds.
const SLOT: u64 = 25_000;
/// Slots kept: what the slowest sender's window may need.
const SLOTS: usize = 48;
/// The window: so many slots …
const WINDOW: u64 = 10;
/// … or more, until it has so many packets.
const WINDOW_PACKETS: u32 = 8;
/// Packets sent within this are one burst, microseconds.
const BURST: u64 = 5_000;
/// Length of a slot of the smallest delay, microseconds.
const BASE_SLOT: u64 = 1_000_000;
/// The smallest delay counts for so many of them; clocks drift apart by less than a millisecond meanwhile.
const BASE_SLOTS: usize = 10;

#[derive(Clone, Copy, Debug)]
struct Slot {
    number: u64,
    bytes: u32,
    packets: u32,
    /// Smallest one-way delay, microseconds on two clocks.
    delay: i64,
}

const EMPTY: Slot = Slot { number: u64::MAX, bytes: 0, packets: 0, delay: i64::MAX };

/// The recent past.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Recent {
    /// Bits per second that arrived.
    pub(super) rate: f64,
    /// How long every packet stood in queues at least, microseconds.
    pub(super) queue: i64,
}

/// Arrivals on the client's clock.
#[derive(Debug)]
pub(super) struct Arrivals {
    slots: [Slot; SLOTS],
    base: [(u64, i64); BASE_SLOTS],
    /// The newest arrival, microseconds.
    newest: u64,
    /// When the last packet was sent, its delay, and how much delays differ, microseconds.
    last: (u64, i64),
    jitter: i64,
}

impl Arrivals {
    pub(super) fn new() -> Self {
        Self {
            slots: [EMPTY; SLOTS],
            base: [(u64::MAX, i64::MAX); BASE_SLOTS],
            newest: 0,
            last: (u64::MAX, 0),
            jitter: 0,
        }
    }

    /// A packet of `bytes` sent at `sent` came at `at`, microseconds on either clock.
    pub(super) fn push(&mut self, sent: u64, at: u64, bytes: u32) {
        self.newest = self.newest.max(at);
        let delay = at.cast_signed().wrapping_sub(sent.cast_signed());
        let Some(slot) = self.slot(at) else { return };
        slot.bytes = slot.bytes.saturating_add(bytes);
        slot.packets += 1;
        slot.delay = slot.delay.min(delay);
        let number = at / BASE_SLOT;
        let base = &mut self.base[(number % BASE_SLOTS as u64) as usize];
        *base = (number, if base.0 == number { base.1.min(delay) } else { delay });
        if sent.abs_diff(self.last.0) > BURST {
            // RFC 3550 §6.4.1, but over the first packets of bursts only.
            let difference = delay.saturating_sub(self.last.1).saturating_abs().min(SLOT.cast_signed() * 4);
            self.jitter += (difference - self.jitter) / 16;
            self.last = (sent, delay);
        }
    }

    /// How much delays differ, microseconds.
    pub(super) fn jitter(&self) -> u64 {
        self.jitter.unsigned_abs()
    }

    /// So many bytes came before `at` of which nothing is known but that.
    pub(super) fn presume(&mut self, at: u64, bytes: u32) {
        if let Some(slot) = self.slot(at) {
            slot.bytes = slot.bytes.saturating_add(bytes);
        }
    }

    /// The slot of an arrival, unless that is too long ago to tell anything.
    fn slot(&mut self, at: u64) -> Option<&mut Slot> {
        let number = at / SLOT;
        if number + SLOTS as u64 <= self.newest / SLOT {
            return None;
        }
        let slot = &mut self.slots[(number % SLOTS as u64) as usize];
        if slot.number != number {
            *slot = Slot { number, ..EMPTY };
        }
        Some(slot)
    }

    /// The window that ends with the newest arrival; `None` while it has too few packets to tell.
    pub(super) fn recent(&self) -> Option<Recent> {
        let last = self.newest / SLOT;
        let (mut bytes, mut packets, mut delay) = (0u64, 0, i64::MAX);
        for back in 0..(SLOTS as u64).min(last + 1) {
            let slot = &self.slots[((last - back) % SLOTS as u64) as usize];
            if slot.number == last - back {
                bytes += u64::from(slot.bytes);
                packets += slot.packets;
                delay = delay.min(slot.delay);
            }
            if back + 1 >= WINDOW && packets >= WINDOW_PACKETS {
                let span = self.newest + 1 - (last - back) * SLOT;
                return Some(Recent {
                    rate: bytes as f64 * 8e6 / span as f64,
                    queue: delay.saturating_sub(self.smallest()?),
                });
            }
        }
        None
    }

    fn smallest(&self) -> Option<i64> {
        let newest = self.newest / BASE_SLOT;
        let valid = self.base.iter().filter(|(number, _)| *number <= newest && number + BASE_SLOTS as u64 > newest);
        valid.map(|(_, delay)| *delay).min()
    }

    /// What is the smallest delay now counts as no queue: the way has changed, or others keep the queue full.
    pub(super) fn rebase(&mut self) {
        self.base = [(u64::MAX, i64::MAX); BASE_SLOTS];
        let last = self.newest / SLOT;
        let window = self.slots.iter().filter(|slot| slot.number <= last && slot.number + WINDOW > last);
        if let Some(delay) = window.map(|slot| slot.delay).min() {
            let number = self.newest / BASE_SLOT;
            self.base[(number % BASE_SLOTS as u64) as usize] = (number, delay);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1000;

    /// Frames of `packets` every 33 ms from `from` on, over a link that takes `serial` microseconds a packet.
    fn frames(arrivals: &mut Arrivals, from: u64, count: u64, packets: u64, serial: u64) -> u64 {
        let mut free = 0;
        for frame in 0..count {
            let sent = from + frame * 33 * MS;
            for _ in 0..packets {
                free = free.max(sent) + serial;
                arrivals.push(sent, free + 1_000_000_000, 1000);
            }
        }
        from + count * 33 * MS
    }

    #[test]
    fn bursts_with_pauses_are_no_queue() {
        let mut arrivals = Arrivals::new();
        assert_eq!(arrivals.recent(), None);
        frames(&mut arrivals, 0, 60, 8, 4 * MS); // 32 of 33 ms busy
        let recent = arrivals.recent().unwrap();
        assert!(recent.queue < MS as i64, "{recent:?}");
        assert!((1_900_000.0..2_100_000.0).contains(&recent.rate), "8 packets in 33 ms: {recent:?}");
    }

    #[test]
    fn a_link_that_is_never_idle_shows_its_queue_and_its_rate() {
        let mut arrivals = Arrivals::new();
        let at = frames(&mut arrivals, 0, 30, 8, MS);
        frames(&mut arrivals, at, 30, 8, 8 * MS); // 64 ms of work every 33
        let recent = arrivals.recent().unwrap();
        assert!((400 * MS as i64..1000 * MS as i64).contains(&recent.queue), "{recent:?}");
        assert!((950_000.0..1_050_000.0).contains(&recent.rate), "1000 bytes in 8 ms: {recent:?}");
        arrivals.rebase();
        let rebased = arrivals.recent().unwrap();
        assert_eq!((rebased.queue, rebased.rate), (0, recent.rate));
    }

    #[test]
    fn few_packets_take_a_longer_window() {
        let mut arrivals = Arrivals::new();
        frames(&mut arrivals, 0, 5, 1, MS);
        assert_eq!(arrivals.recent(), None);
        let mut arrivals = Arrivals::new();
        for packet in 0..20 {
            arrivals.push(packet * 100 * MS, packet * 100 * MS + 50 * MS, 100);
        }
        let recent = arrivals.recent().unwrap();
        assert!((7_000.0..10_000.0).contains(&recent.rate), "100 bytes every 100 ms: {recent:?}");
    }

    #[test]
    fn absurd_times_do_not_overflow() {
        let mut arrivals = Arrivals::new();
        for (sent, at) in [(0, u64::MAX / 2), (u64::MAX / 2, 0), (5, 5), (u64::MAX / 2, u64::MAX / 2)] {
            arrivals.push(sent, at, u32::MAX);
            let _ = arrivals.recent();
            arrivals.rebase();
        }
    }
}
