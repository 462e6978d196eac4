//! The recent packets of one simulcast layer, kept once for all subscribers: a ring of bytes and an index by sequence
//! number. NACKs of every leg are answered from it.

/// Packets that can be found again; a power of two.
const INDEX: usize = 1024;

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
    /// Where the next packet goes, in the endless stream.
    position: u64,
}

impl History {
    /// `capacity` bytes of packets.
    pub(crate) fn new(capacity: usize) -> Self {
        // Position 0 stays unused, so that a default entry is never valid.
        Self { bytes: vec![0; capacity].into(), index: vec![Entry::default(); INDEX].into(), position: capacity as u64 }
    }

    /// Remembers a packet; one that does not fit at all is not remembered.
    pub(crate) fn push(&mut self, sequence: u16, packet: &[u8]) {
        let capacity = self.bytes.len();
        let Ok(len) = u16::try_from(packet.len()) else { return };
        if packet.len() > capacity {
            return;
        }
        let mut offset = self.offset(self.position);
        if offset + packet.len() > capacity {
            self.position += (capacity - offset) as u64; // packets do not wrap
            offset = 0;
        }
        self.bytes[offset..offset + packet.len()].copy_from_slice(packet);
        self.index[usize::from(sequence) % INDEX] = Entry { position: self.position, len, sequence };
        self.position += packet.len() as u64;
    }

    /// The packet with this sequence number, if it is still there.
    pub(crate) fn get(&self, sequence: u16) -> Option<&[u8]> {
        let entry = self.index[usize::from(sequence) % INDEX];
        let there = entry.position > 0
            && entry.sequence == sequence
            && entry.position + self.bytes.len() as u64 >= self.position;
        let offset = self.offset(entry.position);
        there.then(|| &self.bytes[offset..offset + usize::from(entry.len)])
    }

    fn offset(&self, position: u64) -> usize {
        (position % self.bytes.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_the_newest_and_never_a_wrong_packet(sizes in proptest::collection::vec(1usize..300, 1..200), start: u16) {
            let mut history = History::new(4096);
            let packet = |i: usize| vec![(i % 251) as u8; sizes[i]];
            for (i, _) in sizes.iter().enumerate() {
                history.push(start.wrapping_add(i as u16), &packet(i));
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
            prop_assert!(kept + 2 * 300 >= sizes.iter().sum::<usize>().min(4096));
        }
    }

    #[test]
    fn an_absent_packet_is_absent() {
        let mut history = History::new(4096);
        assert_eq!(history.get(0), None);
        history.push(7, b"seven");
        assert_eq!(history.get(7), Some(&b"seven"[..]));
        assert_eq!(history.get(7 + 1024), None);
    }
}
