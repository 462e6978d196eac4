//! What was sent on one transport, by transport-wide sequence number: a ring that feedback is matched with. Made with the
//! first packet, so that transports that only receive have none, and as large as what is sent in a second and a half.

/// Packets remembered at most, a power of two: two seconds of 1000 packets a second, far more than feedback is late by.
pub(crate) const REMEMBERED: usize = 2048;
/// Packets remembered at first.
const FEWEST: usize = 256;
/// A packet that is younger is not given up for a new one as long as there may be more, microseconds.
const USEFUL: u32 = 1_500_000;

/// Why a packet was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Purpose {
    /// It came from the publisher.
    Media,
    /// The subscriber asked for it again.
    Repair,
    /// Only to find out what the way carries.
    Probe,
}

/// What is known of a packet's arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// No feedback has mentioned it.
    Unknown,
    /// Feedback says that it has not arrived; it may yet.
    Lost,
    /// It has arrived.
    Arrived,
}

/// One packet. 8 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    /// When it was sent, microseconds since the estimator's epoch: the lower 32 bits.
    at: u32,
    /// Bytes on the wire, with those of unnumbered packets sent before it.
    pub(crate) size: u16,
    pub(crate) fate: Fate,
    /// The probe cluster during which it was sent; 0 is none.
    pub(crate) cluster: u8,
}

impl Packet {
    /// When it was sent, microseconds since the estimator's epoch; that is less than 71 minutes before `now`.
    pub(crate) fn at(&self, now: u64) -> u64 {
        now.saturating_sub(u64::from((now as u32).wrapping_sub(self.at)))
    }
}

/// The ring.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    ring: Box<[Packet]>,
    /// Extended sequence numbers of the next packet, and of the oldest that is remembered.
    next: u64,
    oldest: u64,
}

impl Sent {
    /// The first packet is to have this number.
    pub(crate) fn begin(&mut self, number: u16) {
        if self.ring.is_empty() {
            // As if it had wrapped around once: what is reported may be older.
            self.next = (1 << 16) + u64::from(number);
            self.oldest = self.next;
        }
    }

    /// The extended sequence number of the next packet.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The next packet has been sent.
    pub(crate) fn push(&mut self, at: u64, size: u16, cluster: u8) {
        let at = at as u32;
        if self.next - self.oldest == self.ring.len() as u64 {
            let oldest = self.ring.get(self.place(self.oldest));
            let young = oldest.is_none_or(|oldest| at.wrapping_sub(oldest.at) < USEFUL);
            if young && self.ring.len() < REMEMBERED {
                self.grow();
            } else {
                self.oldest += 1;
            }
        }
        let place = self.place(self.next);
        self.ring[place] = Packet { at, size, fate: Fate::Unknown, cluster };
        self.next += 1;
    }

    /// The packet with this extended sequence number, if it is remembered.
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Packet> {
        let place = self.place(number);
        self.ring.get_mut(place).filter(|_| (self.oldest..self.next).contains(&number))
    }

    fn place(&self, number: u64) -> usize {
        number as usize & self.ring.len().wrapping_sub(1)
    }

    /// Twice as much room, or the first.
    fn grow(&mut self) {
        let unused = Packet { at: 0, size: 0, fate: Fate::Unknown, cluster: 0 };
        let len = (2 * self.ring.len()).max(FEWEST);
        let mut ring: Box<[Packet]> = vec![unused; len].into();
        for number in self.oldest..self.next {
            ring[number as usize & (len - 1)] = self.ring[self.place(number)];
        }
        self.ring = ring;
    }

    /// The extended number of a sent and remembered packet by the 16 bits on the wire.
    pub(crate) fn extend(&self, number: u16) -> Option<u64> {
        let behind = (self.next as u16).wrapping_sub(number);
        let extended = self.next.checked_sub(u64::from(behind))?;
        (behind != 0 && usize::from(behind) <= REMEMBERED).then_some(extended)
    }
}

/// Length of a slot of the meter, microseconds.
const SLOT: u64 = 25_000;
const SLOTS: usize = 41;

/// How many bytes were sent in the last second.
#[derive(Debug)]
pub(crate) struct Meter {
    slots: [(u64, u32); SLOTS],
    began: Option<u64>,
}

impl Default for Meter {
    fn default() -> Self {
        Self { slots: [(u64::MAX, 0); SLOTS], began: None }
    }
}

impl Meter {
    pub(crate) fn add(&mut self, now: u64, bytes: u16) {
        self.began.get_or_insert(now);
        let number = now / SLOT;
        let slot = &mut self.slots[(number % SLOTS as u64) as usize];
        let before = if slot.0 == number { slot.1 } else { 0 };
        *slot = (number, before.saturating_add(u32::from(bytes)));
    }

    /// When the first packet was sent.
    pub(crate) fn began(&self) -> Option<u64> {
        self.began
    }

    /// Bits per second over the last `window` microseconds, at most a second, or since the first packet.
    pub(crate) fn rate(&self, now: u64, window: u64) -> f64 {
        let Some(began) = self.began else { return 0.0 };
        let oldest = now.saturating_sub(window).max(began) / SLOT;
        let valid = self.slots.iter().filter(|(number, _)| *number != u64::MAX && *number >= oldest);
        let bytes: u64 = valid.map(|(_, bytes)| u64::from(*bytes)).sum();
        bytes as f64 * 8e6 / (now + SLOT - oldest * SLOT) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_found_by_what_the_wire_says() {
        let mut sent = Sent::default();
        assert_eq!(sent.extend(0), None, "nothing sent yet");
        assert!(sent.get_mut(0).is_none());
        for at in 0..70_000 {
            sent.push(at, 1000, 0);
        }
        assert_eq!(sent.extend(70_000u64 as u16), None, "not sent yet");
        let newest = sent.extend(69_999u64 as u16).unwrap();
        assert_eq!((newest, sent.get_mut(newest).unwrap().at(70_000)), (69_999, 69_999));
        let oldest = 70_000 - REMEMBERED as u64;
        assert_eq!(sent.extend(oldest as u16), Some(oldest));
        assert_eq!(sent.get_mut(oldest).unwrap().at(70_000), oldest);
        assert_eq!(sent.extend((oldest - 1) as u16), None, "forgotten");
        assert!(sent.get_mut(oldest - 1).is_none());
    }

    #[test]
    fn the_meter_knows_the_last_second() {
        let mut meter = Meter::default();
        assert_eq!(meter.rate(0, 1_000_000), 0.0);
        for packet in 0..1000 {
            meter.add(packet * 10_000, 1250); // 1 Mbit/s
        }
        for window in [300_000, 1_000_000] {
            let rate = meter.rate(9_999_000, window);
            assert!((0.9e6..1.1e6).contains(&rate), "{rate}");
        }
        assert_eq!(meter.rate(12_000_000, 1_000_000), 0.0);
    }

    #[test]
    fn as_much_is_remembered_as_is_sent_in_a_while() {
        for (every, len) in [(10_000, 256), (4_000, 512), (1_000, 2048), (100, 2048)] {
            let start = u64::from(u32::MAX) - 1_000_000; // the times' lower bits wrap around
            let (mut sent, mut at) = (Sent::default(), start);
            for number in 0..3000u64 {
                sent.push(at, number as u16, 0);
                let oldest = (number + 1).saturating_sub(len);
                for known in [oldest, number / 2, number] {
                    let found = sent.get_mut(known).map(|packet| (packet.size, packet.at(at)));
                    let expected = (known as u16, start + known * every);
                    assert!(
                        found == Some(expected) || (found.is_none() && known < oldest),
                        "{known} of {number}: {found:?}"
                    );
                }
                at += every;
            }
            assert_eq!(sent.ring.len() as u64, len, "every {every} µs");
            assert!(sent.get_mut(3000).is_none() && sent.get_mut(2999 - len).is_none());
        }
    }

    #[test]
    fn a_packet_takes_eight_bytes() {
        assert_eq!(size_of::<Packet>(), 8);
    }
}
