//! What was sent on one transport, by transport-wide sequence number: a ring that feedback is matched with. Made with the
//! first packet, so that transports that only receive have none; nothing is allocated after that.

/// Packets remembered, a power of two: two seconds of 1000 packets a second, far more than feedback is late by.
pub(crate) const REMEMBERED: usize = 2048;

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

/// One packet. 16 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    /// When it was sent, microseconds since the estimator's epoch.
    pub(crate) at: u64,
    /// Low 32 bits of its extended sequence number.
    tag: u32,
    /// Bytes on the wire, with those of unnumbered packets sent before it.
    pub(crate) size: u16,
    pub(crate) fate: Fate,
    /// The probe cluster during which it was sent; 0 is none.
    pub(crate) cluster: u8,
}

/// The ring.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    ring: Box<[Packet]>,
    /// Extended sequence number of the next packet.
    next: u64,
}

impl Sent {
    /// The extended sequence number of the next packet.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The next packet has been sent.
    pub(crate) fn push(&mut self, at: u64, size: u16, cluster: u8) {
        if self.ring.is_empty() {
            let unused = Packet { at: 0, tag: u32::MAX, size: 0, fate: Fate::Unknown, cluster: 0 };
            self.ring = vec![unused; REMEMBERED].into();
        }
        let packet = Packet { at, tag: self.next as u32, size, fate: Fate::Unknown, cluster };
        self.ring[place(self.next)] = packet;
        self.next += 1;
    }

    /// The packet with this extended sequence number, if it is remembered.
    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Packet> {
        self.ring.get_mut(place(number)).filter(|packet| packet.tag == number as u32)
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

fn place(number: u64) -> usize {
    (number % REMEMBERED as u64) as usize
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
        assert_eq!((newest, sent.get_mut(newest).unwrap().at), (69_999, 69_999));
        let oldest = 70_000 - REMEMBERED as u64;
        assert_eq!(sent.extend(oldest as u16), Some(oldest));
        assert_eq!(sent.get_mut(oldest).unwrap().at, oldest);
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
    fn a_packet_takes_sixteen_bytes() {
        assert_eq!(size_of::<Packet>(), 16);
    }
}
