//! Sound sent twice (RFC 2198): towards subscribers who lose packets, each packet of Opus carries the one or two before it.
//! So a single loss costs nothing, however long the way; browsers neither ask for Opus again (no NACK) nor is a repair in
//! time where the way is long.

use std::collections::VecDeque;

/// Packets before the present one that are sent again at most.
pub(crate) const DEPTH: usize = 2;
/// A redundant block is at most so long, bytes, and so much older, ticks (RFC 2198 §3).
const LONGEST: usize = 1023;
const OLDEST: u32 = 16_383;
/// From this share of packets lost on one packet is sent again, from that one two, and below the third none …
const LOSSY: f32 = 0.006;
const VERY_LOSSY: f32 = 0.05;
const CLEAN: f32 = 0.002;
/// Weight of a second's loss in the mean.
const WEIGHT: f32 = 0.25;

/// The last packets of a voice.
#[derive(Default, Debug)]
pub(crate) struct Recent(VecDeque<(u32, Vec<u8>)>);

impl Recent {
    /// A packet has been forwarded. Its memory is used again and again.
    pub(crate) fn push(&mut self, timestamp: u32, payload: &[u8]) {
        let mut bytes = if self.0.len() < DEPTH { Vec::new() } else { self.0.pop_front().unwrap_or_default().1 };
        bytes.clear();
        bytes.extend_from_slice(payload);
        self.0.push_back((timestamp, bytes));
    }

    /// Appends the payload with up to `depth` packets before it, all of Opus with this payload type.
    pub(crate) fn write(&self, payload_type: u8, timestamp: u32, payload: &[u8], depth: u8, out: &mut Vec<u8>) {
        let age = |of: u32| timestamp.wrapping_sub(of);
        let fits =
            |(of, bytes): &&(u32, Vec<u8>)| (1..=OLDEST).contains(&age(*of)) && (1..=LONGEST).contains(&bytes.len());
        let blocks = || self.0.iter().rev().take(depth.into()).rev().filter(fits);
        for (of, bytes) in blocks() {
            let [_, high, middle, low] = (age(*of) << 10 | bytes.len() as u32).to_be_bytes();
            out.extend_from_slice(&[0x80 | payload_type, high, middle, low]);
        }
        out.push(payload_type);
        blocks().for_each(|(_, bytes)| out.extend_from_slice(bytes));
        out.extend_from_slice(payload);
    }
}

/// How much of the sound one subscriber gets again.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Redundancy {
    loss: f32,
    depth: u8,
}

impl Redundancy {
    /// How many packets are sent again.
    pub(crate) fn depth(&self) -> u8 {
        self.depth
    }

    /// A second has passed in which this share was lost. How many packets are sent again from now on.
    pub(crate) fn observe(&mut self, lost: f32) -> u8 {
        self.loss += (lost - self.loss) * WEIGHT;
        self.depth = match self.loss {
            loss if loss >= VERY_LOSSY => DEPTH as u8,
            loss if loss >= VERY_LOSSY / 2.0 => self.depth.max(1),
            loss if loss >= LOSSY => 1,
            loss if loss < CLEAN => 0,
            _ => self.depth.min(1),
        };
        self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The blocks of a payload: (type, age, bytes).
    fn read(payload: &[u8]) -> Vec<(u8, u32, Vec<u8>)> {
        let (mut heads, mut at) = (Vec::new(), 0);
        while payload[at] & 0x80 != 0 {
            let word = u32::from_be_bytes(*payload[at..].first_chunk().unwrap());
            heads.push(((word >> 24) as u8 & 0x7f, word >> 10 & 0x3fff, (word & 0x3ff) as usize));
            at += 4;
        }
        let last = payload[at];
        at += 1;
        let mut blocks = Vec::new();
        for (kind, age, len) in heads {
            blocks.push((kind, age, payload[at..at + len].to_vec()));
            at += len;
        }
        blocks.push((last, 0, payload[at..].to_vec()));
        blocks
    }

    #[test]
    fn the_packets_before_are_in_it_oldest_first() {
        let mut recent = Recent::default();
        let mut written = |timestamp: u32, payload: &[u8], depth: u8| {
            let mut out = Vec::new();
            recent.write(111, timestamp, payload, depth, &mut out);
            recent.push(timestamp, payload);
            read(&out)
        };
        let block = |age: u32, bytes: &[u8]| (111, age, bytes.to_vec());
        let start = u32::MAX - 1000;
        assert_eq!(written(start, b"one", 2), [block(0, b"one")]);
        assert_eq!(written(start.wrapping_add(960), b"two", 2), [block(960, b"one"), block(0, b"two")]);
        let third = start.wrapping_add(1920);
        assert_eq!(written(third, b"three", 2), [block(1920, b"one"), block(960, b"two"), block(0, b"three")]);
        assert_eq!(written(start.wrapping_add(2880), b"four", 1), [block(960, b"three"), block(0, b"four")]);
        // After silence what was said before it is of no use.
        let later = start.wrapping_add(2880 + 19_200);
        assert_eq!(written(later, b"five", 2), [block(0, b"five")]);
        assert_eq!(written(later, &[7; 1100], 2).len(), 1, "the same time");
        assert_eq!(written(later.wrapping_add(960), b"six", 1), [block(0, b"six")], "too long to be sent again");
    }

    #[test]
    fn who_loses_gets_more_and_is_not_judged_by_one_second() {
        let mut redundancy = Redundancy::default();
        assert_eq!((redundancy.observe(0.0), redundancy.observe(0.02)), (0, 0));
        let depths: Vec<u8> = (0..10).map(|_| redundancy.observe(0.02)).collect();
        assert_eq!(depths.last(), Some(&1));
        assert_eq!((0..20).map(|_| redundancy.observe(0.1)).last(), Some(2));
        assert_eq!((0..2).map(|_| redundancy.observe(0.0)).last(), Some(2));
        assert_eq!((0..4).map(|_| redundancy.observe(0.0)).last(), Some(1));
        assert_eq!((0..30).map(|_| redundancy.observe(0.0)).last(), Some(0));
    }
}
