//! The recent packets of one simulcast layer, kept once for all subscribers: blocks of bytes and an index by sequence
//! number. NACKs of every leg are answered from it. There are as many blocks as what flows in the time in which a
//! subscriber can still use a packet takes, within bounds. Each is memory of the system's own: it goes back at once. All
//! streams of a new camera flow until it is known which of them are needed, and the C library would keep what they took.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use memmap2::MmapMut;

/// Bytes of a block.
const BLOCK: usize = 8 << 10;
/// Entries of the index at first.
const FEWEST: usize = 64;
/// Bytes of the blocks for each entry of the index at least: smaller packets are few.
const SMALL: usize = 64;
/// A block with packets that came so short a time ago is not written over, as long as there may be more of them …
const KEPT: Duration = Duration::from_millis(700);
/// … and one whose packets are all older than this is given back: not before, or it would be wanted again at the next
/// key frame.
const OLD: Duration = Duration::from_millis(2800);

/// Where a packet stands.
#[derive(Clone, Copy, Default)]
struct Entry {
    /// In the endless stream of bytes; its lowest 32 bits, of which far fewer are kept.
    position: u32,
    /// 0: nowhere.
    len: u16,
    sequence: u16,
}

struct Block {
    bytes: MmapMut,
    /// When its last packet came.
    written: Instant,
}

/// Plain (decrypted) packets, the oldest overwritten by the newest.
pub(crate) struct History {
    /// The oldest one first.
    blocks: VecDeque<Block>,
    index: Box<[Entry]>,
    /// Blocks there may be.
    most: usize,
    /// Where the oldest block begins in the endless stream.
    begin: u32,
    /// Bytes of the newest block that are taken.
    taken: usize,
}

impl History {
    /// Grows to `most` bytes of packets, rounded up to whole blocks.
    ///
    /// # Errors
    /// When the system has no memory for the first of them.
    pub(crate) fn new(now: Instant, most: usize) -> io::Result<Self> {
        let most = most.div_ceil(BLOCK).max(1);
        let blocks = VecDeque::from([Block { bytes: MmapMut::map_anon(BLOCK)?, written: now }]);
        Ok(Self { blocks, index: vec![Entry::default(); FEWEST].into(), most, begin: 0, taken: 0 })
    }

    /// Remembers a packet; one that is larger than a block is not remembered.
    pub(crate) fn push(&mut self, now: Instant, sequence: u16, packet: &[u8]) {
        if packet.len() > BLOCK {
            return;
        }
        if self.taken + packet.len() > BLOCK {
            self.next_block(now); // packets are in one piece
        }
        let position = self.begin.wrapping_add(((self.blocks.len() - 1) * BLOCK + self.taken) as u32);
        let Some(block) = self.blocks.back_mut() else { return };
        block.bytes[self.taken..self.taken + packet.len()].copy_from_slice(packet);
        block.written = now;
        self.taken += packet.len();
        let old = self.index[self.place(sequence)];
        if self.holds(&old) && old.sequence != sequence && self.index.len() * SMALL < self.blocks.len() * BLOCK {
            self.grow_index();
        }
        let place = self.place(sequence);
        self.index[place] = Entry { position, len: packet.len() as u16, sequence };
    }

    /// The packet with this sequence number, if it is still there.
    pub(crate) fn get(&self, sequence: u16) -> Option<&[u8]> {
        let entry = self.index[self.place(sequence)];
        if entry.sequence != sequence || !self.holds(&entry) {
            return None;
        }
        let offset = entry.position.wrapping_sub(self.begin) as usize;
        let block = self.blocks.get(offset / BLOCK)?;
        block.bytes.get(offset % BLOCK..)?.get(..usize::from(entry.len))
    }

    fn holds(&self, entry: &Entry) -> bool {
        entry.len > 0 && (entry.position.wrapping_sub(self.begin) as usize) < self.blocks.len() * BLOCK
    }

    /// An empty block: one more, or the oldest, if its packets have had their time or there is no more memory.
    fn next_block(&mut self, now: Instant) {
        let age = |block: &Block| now.saturating_duration_since(block.written);
        while self.blocks.len() > 1 && self.blocks.get(1).is_some_and(|second| age(second) > OLD) {
            self.forget_oldest();
        }
        let full = self.blocks.len() >= self.most || self.blocks.front().is_some_and(|oldest| age(oldest) >= KEPT);
        let more = if full { None } else { MmapMut::map_anon(BLOCK).ok() };
        let Some(bytes) = more.or_else(|| self.forget_oldest()) else { return };
        self.blocks.push_back(Block { bytes, written: now });
        self.taken = 0;
    }

    /// Twice as many entries.
    fn grow_index(&mut self) {
        let mut index = vec![Entry::default(); 2 * self.index.len()];
        for entry in self.index.iter().filter(|entry| self.holds(entry)) {
            let place = usize::from(entry.sequence) % index.len();
            index[place] = *entry;
        }
        self.index = index.into();
    }

    fn forget_oldest(&mut self) -> Option<MmapMut> {
        let oldest = self.blocks.pop_front()?;
        self.begin = self.begin.wrapping_add(BLOCK as u32);
        Some(oldest.bytes)
    }

    fn place(&self, sequence: u16) -> usize {
        usize::from(sequence) % self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_the_newest_and_never_a_wrong_packet(
            sizes in proptest::collection::vec(80usize..1200, 1..400), start: u16, millis in 0u64..40,
        ) {
            let mut now = Instant::now();
            let mut history = History::new(now, 64 << 10).unwrap();
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
            let newest = |(i, _): &(usize, &usize)| (millis * (last - i) as u64) < KEPT.as_millis() as u64;
            let wanted: usize = sizes.iter().enumerate().filter(newest).map(|(_, size)| size).sum();
            // What is of use is kept, but for what the blocks' ends waste, and a block is full before there is another.
            prop_assert!(kept >= wanted.min(7 * BLOCK - 8 * 1200), "{kept} of {wanted}");
            prop_assert!(kept <= 64 << 10);
        }
    }

    #[test]
    fn an_absent_packet_is_absent() {
        let now = Instant::now();
        let mut history = History::new(now, 4096).unwrap();
        assert_eq!(history.get(0), None);
        history.push(now, 7, b"seven");
        assert_eq!(history.get(7), Some(&b"seven"[..]));
        assert_eq!(history.get(7 + 1024), None);
    }

    /// Packets of 1000 bytes for some seconds at so many bits per second.
    fn flow(history: &mut History, now: &mut Instant, first: u16, bits: u64, seconds: u64) -> u16 {
        let packets = bits * seconds / 8 / 1000;
        for i in 0..packets {
            history.push(*now, first.wrapping_add(i as u16), &[7; 1000]);
            *now += Duration::from_secs(seconds) / packets as u32;
        }
        first.wrapping_add(packets as u16)
    }

    #[test]
    fn it_is_as_large_as_what_flows() {
        for (bits, most) in [(150_000, 32), (200_000, 32), (500_000, 128), (1_700_000, 256)] {
            let mut now = Instant::now();
            let mut history = History::new(now, most << 10).unwrap();
            let next = flow(&mut history, &mut now, 0, bits, 10);
            let there = (1..=next).take_while(|back| history.get(next - back).is_some()).count() as u64;
            let wanted = bits * 7 / 10 / 8000;
            assert!(there >= wanted, "{there} of {wanted} packets at {bits}");
            let blocks = history.blocks.len() as u64;
            assert!((blocks - 2) * 8 <= wanted, "{blocks} blocks for {wanted} packets at {bits}");
        }
        let mut now = Instant::now();
        let mut history = History::new(now, 256 << 10).unwrap();
        flow(&mut history, &mut now, 0, 6_000_000, 10);
        assert_eq!(history.blocks.len(), 32, "no more than it may");
    }

    #[test]
    fn what_a_burst_took_is_given_back_when_it_is_long_past() {
        let mut now = Instant::now();
        let mut history = History::new(now, 256 << 10).unwrap();
        let next = flow(&mut history, &mut now, 0, 6_000_000, 1);
        assert_eq!(history.blocks.len(), 32);
        let next = flow(&mut history, &mut now, next, 500_000, 1);
        assert_eq!(history.blocks.len(), 32, "not at once");
        let next = flow(&mut history, &mut now, next, 500_000, 9);
        let blocks = history.blocks.len();
        assert!(blocks < 27, "what flows in 2.8 s, and one: {blocks}");
        flow(&mut history, &mut now, next, 100_000, 10);
        assert!(history.blocks.len() < 7, "{}", history.blocks.len());
    }

    #[test]
    fn small_packets_are_found_as_well() {
        let now = Instant::now();
        let mut history = History::new(now, 8 << 10).unwrap();
        (0..BLOCK as u16 / 70).for_each(|i| history.push(now, i, &[i as u8; 70]));
        assert!((0..BLOCK as u16 / 70).all(|i| history.get(i) == Some(&[i as u8; 70][..])));
    }

    #[test]
    fn the_stream_of_bytes_has_no_end() {
        let mut now = Instant::now();
        let mut history = History::new(now, 32 << 10).unwrap();
        history.begin = u32::MAX - 3 * BLOCK as u32 + 1;
        for i in 0..100u16 {
            history.push(now, i, &[i as u8; 1000]);
            now += Duration::from_millis(1);
            for back in 0..=i.min(24) {
                assert_eq!(history.get(i - back), Some(&[(i - back) as u8; 1000][..]), "{back} before {i}");
            }
        }
    }

    #[test]
    fn what_is_larger_than_a_block_is_not_remembered() {
        let now = Instant::now();
        let mut history = History::new(now, 32 << 10).unwrap();
        history.push(now, 1, &[1; BLOCK]);
        history.push(now, 2, &[2; BLOCK + 1]);
        assert_eq!((history.get(1).map(<[u8]>::len), history.get(2)), (Some(BLOCK), None));
    }
}
