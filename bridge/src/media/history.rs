//! The recent packets of one simulcast layer, kept once for all subscribers: a ring of bytes and an index by sequence
//! number. NACKs of every leg are answered from it. The ring is as large as what flows in the time in which a subscriber can
//! still use a packet, within bounds.

use std::time::{Duration, Instant};

/// Bytes of the ring at first.
const FIRST: usize = 16 << 10;
/// Bytes of the ring for each entry of the index.
const DENSITY: usize = 256;
/// A ring that is filled in less time than this grows, as long as it may.
const KEPT: Duration = Duration::from_millis(700);

#[derive(Clone, Copy, Default)]
struct Entry {
    /// Position in the endless stream of bytes; the ring offset is `position % capacity`.
    position: u64,
    len: u16,
    sequence: u16,
}

/// Plain (decrypted) packets, the oldest overwritten by the newest.
pub(crate) struct History {
    bytes: Box<[u8]>,
    index: Box<[Entry]>,
    /// Bytes it may grow to.
    most: usize,
    /// Where the next packet goes, in the endless stream.
    position: u64,
    /// When the ring began to be filled this time.
    began: Instant,
}

impl History {
    /// Grows to `most` bytes of packets; that is [`FIRST`] or less, or its double as often as one likes.
    pub(crate) fn new(now: Instant, most: usize) -> Self {
        let first = FIRST.min(most);
        // Position 0 stays unused, so that a default entry is never valid.
        Self { bytes: vec![0; first].into(), index: index(first), most, position: first as u64, began: now }
    }

    /// Remembers a packet; one that does not fit at all is not remembered.
    pub(crate) fn push(&mut self, now: Instant, sequence: u16, packet: &[u8]) {
        let capacity = self.bytes.len();
        let Ok(len) = u16::try_from(packet.len()) else { return };
        if packet.len() > capacity {
            return;
        }
        let mut offset = self.offset(self.position);
        if offset + packet.len() > capacity {
            self.position += (capacity - offset) as u64; // packets do not wrap
            if now.saturating_duration_since(self.began) < KEPT && 2 * capacity <= self.most {
                self.grow();
            }
            self.began = now;
            offset = self.offset(self.position);
        }
        self.bytes[offset..offset + packet.len()].copy_from_slice(packet);
        let place = self.place(sequence);
        self.index[place] = Entry { position: self.position, len, sequence };
        self.position += packet.len() as u64;
    }

    /// The packet with this sequence number, if it is still there.
    pub(crate) fn get(&self, sequence: u16) -> Option<&[u8]> {
        let entry = self.index[self.place(sequence)];
        let there = entry.sequence == sequence && self.holds(&entry);
        let offset = self.offset(entry.position);
        there.then(|| &self.bytes[offset..offset + usize::from(entry.len)])
    }

    fn holds(&self, entry: &Entry) -> bool {
        entry.position > 0 && entry.position + self.bytes.len() as u64 >= self.position
    }

    /// Twice the room, when the ring is just full: its bytes become one half of the new one.
    fn grow(&mut self) {
        let old = self.bytes.len();
        let mut bytes: Box<[u8]> = vec![0; 2 * old].into();
        let half = (self.position % (2 * old) as u64) as usize; // where the next half begins
        let from = if half == 0 { old } else { 0 };
        bytes[from..from + old].copy_from_slice(&self.bytes);
        let mut index = index(2 * old);
        for entry in self.index.iter().filter(|entry| self.holds(entry)) {
            index[usize::from(entry.sequence) % index.len()] = *entry;
        }
        (self.bytes, self.index) = (bytes, index);
    }

    fn place(&self, sequence: u16) -> usize {
        usize::from(sequence) % self.index.len()
    }

    fn offset(&self, position: u64) -> usize {
        (position % self.bytes.len() as u64) as usize
    }
}

fn index(bytes: usize) -> Box<[Entry]> {
    vec![Entry::default(); bytes.div_ceil(DENSITY).next_power_of_two()].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_the_newest_and_never_a_wrong_packet(
            sizes in proptest::collection::vec(300usize..1200, 1..400), start: u16, millis in 0u64..40,
        ) {
            let mut now = Instant::now();
            let mut history = History::new(now, 64 << 10);
            let packet = |i: usize| vec![(i % 251) as u8; sizes[i]];
            for (i, _) in sizes.iter().enumerate() {
                now += Duration::from_millis(millis);
                history.push(now, start.wrapping_add(i as u16), &packet(i));
            }
            let last = sizes.len() - 1;
            prop_assert_eq!(history.get(start.wrapping_add(last as u16)), Some(&packet(last)[..]));
            let mut kept = 0;
            for (i, size) in sizes.iter().enumerate() {
                if let Some(found) = history.get(start.wrapping_add(i as u16)) {
                    prop_assert_eq!(found, &packet(i)[..]);
                    kept += size;
                }
            }
            // Everything that fits is kept, but for what the unwrapped end of the ring wastes.
            let all: usize = sizes.iter().sum();
            prop_assert!(kept + 1200 * 2 >= all.min(FIRST), "{kept} of {all}");
            prop_assert!(kept <= 64 << 10);
        }
    }

    #[test]
    fn an_absent_packet_is_absent() {
        let now = Instant::now();
        let mut history = History::new(now, 4096);
        assert_eq!(history.get(0), None);
        history.push(now, 7, b"seven");
        assert_eq!(history.get(7), Some(&b"seven"[..]));
        assert_eq!(history.get(7 + 1024), None);
    }

    /// (bytes of the ring, how many of the newest packets are there) after ten seconds of so many bits per second.
    fn after_ten_seconds(bits: u64) -> (usize, usize) {
        let mut now = Instant::now();
        let mut history = History::new(now, 256 << 10);
        let packets = bits * 10 / 8 / 1000;
        for i in 0..packets {
            history.push(now, i as u16, &[i as u8; 1000]);
            now += Duration::from_micros(10_000_000 / packets);
        }
        let newest = (0..packets).rev().take_while(|i| history.get(*i as u16) == Some(&[*i as u8; 1000][..])).count();
        (history.bytes.len(), newest)
    }

    #[test]
    fn it_is_as_large_as_what_flows() {
        for (bits, bytes) in [(150_000, 16 << 10), (200_000, 32 << 10), (500_000, 64 << 10), (1_700_000, 256 << 10)] {
            let (size, newest) = after_ten_seconds(bits);
            assert_eq!(size, bytes, "{bits}");
            assert!(newest as u64 * 8000 >= bits * 7 / 10, "most of a second: {newest} packets at {bits}");
        }
        assert_eq!(after_ten_seconds(6_000_000).0, 256 << 10, "no more than it may");
    }
}
