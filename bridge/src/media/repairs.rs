//! What one leg has sent lately, to answer NACKs: where each packet is in its stream's history and how it was rewritten.
//! Only what was sent can be repeated.
//!
//! A packet takes 20 bytes, and there are as many of them as flow in the time in which a subscriber can still use one
//! again: most legs of a large room show a small picture, or nothing.

use std::time::{Duration, Instant};

use super::codec::Offsets;
use super::source::Rewrite;

/// Packets a subscriber can ask for again, at first and at most; powers of two. At most: 1.5 Mbit/s for 3 s.
const FEWEST: usize = 64;
const MOST: usize = 512;
/// A packet that is younger is not given up for a new one as long as there may be more of them.
const USEFUL: u16 = ticks(Duration::from_millis(1000));
/// Packets among which one is chosen to be sent again unasked.
const RECENT: u64 = 48;
/// One that was sent again is not chosen within this.
const UNASKED_PAUSE: u16 = ticks(Duration::from_millis(1000));
/// The same packet is not sent again within this.
const REPAIR_PAUSE: u16 = ticks(Duration::from_millis(20));
/// The grain of times here. They wrap around after four minutes; a leg that was silent for so long may at worst
/// refuse one repair, or keep a little more than it needs.
const TICK: Duration = Duration::from_millis(4);

const fn ticks(time: Duration) -> u16 {
    (time.as_millis() / TICK.as_millis()) as u16
}

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

/// The same, made small.
#[derive(Clone, Copy, Default, Debug)]
struct Sent {
    timestamp: u32,
    sequence: u16,
    /// The lower bits of the index.
    index: u16,
    picture_id: u16,
    frame_number: u16,
    /// When it was sent, and sent again.
    at: u16,
    repeated: u16,
    tl0: u8,
    /// Stream (low bits) and the flags below.
    flags: u8,
}

const STREAM: u8 = 0x0f;
const MARKER: u8 = 0x10;
const MASKED: u8 = 0x20;
const REPEATED: u8 = 0x40;
const VALID: u8 = 0x80;

/// A ring of sent packets; takes memory from the first one on.
#[derive(Default)]
pub(crate) struct Repairs {
    ring: Box<[Sent]>,
    /// Masks of the decode targets, by place: few legs get a part of a stream with dependency descriptors.
    masks: Box<[u32]>,
    epoch: Option<Instant>,
}

impl Repairs {
    /// Makes room, once.
    pub(crate) fn prepare(&mut self, now: Instant) {
        if self.ring.is_empty() {
            self.ring = vec![Sent::default(); FEWEST].into();
            self.epoch = Some(now);
        }
    }

    /// A packet was sent.
    pub(crate) fn push(&mut self, now: Instant, repair: &Repair) {
        if self.ring.is_empty() {
            return;
        }
        let at = self.time(now);
        let Rewrite { timestamp, marker, offsets, frame_number, mask } = repair.rewrite;
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let sent = Sent {
            timestamp,
            sequence: repair.sequence,
            index: repair.index as u16,
            picture_id: offsets.picture_id,
            frame_number,
            at,
            repeated: 0,
            tl0: offsets.tl0,
            flags: VALID | repair.stream & STREAM | flag(marker, MARKER) | flag(mask.is_some(), MASKED),
        };
        let mut place = self.place(repair.index);
        let old = self.ring[place];
        if old.flags & VALID != 0 && self.ring.len() < MOST && at.wrapping_sub(old.at) < USEFUL {
            self.grow();
            place = self.place(repair.index);
        }
        self.ring[place] = sent;
        if let Some(mask) = mask {
            if self.masks.is_empty() {
                self.masks = vec![0; self.ring.len()].into();
            }
            self.masks[place] = mask;
        }
    }

    /// The newest packet before `next` that was not repeated lately, of those that are remembered still: unasked.
    pub(crate) fn newest(&mut self, now: Instant, next: u64) -> Option<Repair> {
        let time = self.time(now);
        let chosen = |index: &u64| {
            let sent = self.ring.get(self.place(*index));
            let sent = sent.filter(|sent| sent.flags & VALID != 0 && sent.index == *index as u16);
            sent.is_some_and(|sent| sent.flags & REPEATED == 0 || time.wrapping_sub(sent.repeated) >= UNASKED_PAUSE)
        };
        let index = (next.saturating_sub(RECENT)..next).rev().find(chosen)?;
        self.take(now, next, index as u16)
    }

    /// The packet before `next` with this sequence number, unless it was just repeated.
    pub(crate) fn take(&mut self, now: Instant, next: u64, sequence: u16) -> Option<Repair> {
        let behind = (next as u16).wrapping_sub(sequence);
        let index = next.checked_sub(u64::from(behind)).filter(|_| behind != 0)?;
        let (time, place) = (self.time(now), self.place(index));
        let sent = self.ring.get_mut(place).filter(|sent| sent.flags & VALID != 0 && sent.index == index as u16)?;
        if sent.flags & REPEATED != 0 && time.wrapping_sub(sent.repeated) < REPAIR_PAUSE {
            return None;
        }
        sent.flags |= REPEATED;
        sent.repeated = time;
        Some(Repair {
            stream: sent.flags & STREAM,
            sequence: sent.sequence,
            index,
            rewrite: Rewrite {
                timestamp: sent.timestamp,
                marker: sent.flags & MARKER != 0,
                offsets: Offsets { picture_id: sent.picture_id, tl0: sent.tl0 },
                frame_number: sent.frame_number,
                mask: (sent.flags & MASKED != 0).then(|| self.masks.get(place).copied()).flatten(),
            },
        })
    }

    fn place(&self, index: u64) -> usize {
        index as usize & self.ring.len().wrapping_sub(1)
    }

    fn time(&self, now: Instant) -> u16 {
        let Some(since) = self.epoch.map(|epoch| now.saturating_duration_since(epoch)) else { return 0 };
        let millis = since.as_secs().wrapping_mul(1000) + u64::from(since.subsec_millis());
        (millis / TICK.as_millis() as u64) as u16
    }

    /// Twice as much room. A few times in a leg's life.
    fn grow(&mut self) {
        let len = 2 * self.ring.len();
        let mut ring: Box<[Sent]> = vec![Sent::default(); len].into();
        let mut masks: Box<[u32]> = if self.masks.is_empty() { Box::default() } else { vec![0; len].into() };
        for (old, sent) in self.ring.iter().enumerate().filter(|(_, sent)| sent.flags & VALID != 0) {
            let place = usize::from(sent.index) & (len - 1);
            ring[place] = *sent;
            if let (Some(to), Some(from)) = (masks.get_mut(place), self.masks.get(old)) {
                *to = *from;
            }
        }
        (self.ring, self.masks) = (ring, masks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn repair(index: u64) -> Repair {
        let offsets = Offsets { picture_id: index as u16 ^ 0x5555, tl0: index as u8 };
        let mask = index.is_multiple_of(3).then_some(index as u32 | 1 << 31);
        let rewrite = Rewrite {
            timestamp: index as u32 * 7,
            marker: index % 2 == 1,
            offsets,
            frame_number: (index as u16).wrapping_add(9),
            mask,
        };
        Repair { stream: (index % 3) as u8, sequence: !(index as u16), index, rewrite }
    }

    /// Sends packets `every` so often; which of the last thousand can be had then, newest first.
    fn kept(every: Duration) -> usize {
        let mut now = Instant::now();
        let mut repairs = Repairs::default();
        repairs.prepare(now);
        let (first, count) = (65_000u64, 1500);
        for index in first..first + count {
            repairs.push(now, &repair(index));
            now += every;
        }
        let next = first + count;
        let found: Vec<u64> =
            (next - 1000..next).filter(|&index| repairs.take(now, next, index as u16).is_some()).collect();
        assert_eq!(found, (next - found.len() as u64..next).collect::<Vec<_>>(), "the newest, without gaps");
        found.len()
    }

    #[test]
    fn as_much_is_kept_as_flows_in_a_second() {
        assert_eq!(kept(30 * MS), 64);
        assert_eq!(kept(7 * MS), 256);
        assert_eq!(kept(MS), 512, "at most");
    }

    #[test]
    fn a_packet_is_found_as_it_was_and_not_twice_in_a_row() {
        let mut now = Instant::now();
        let mut repairs = Repairs::default();
        assert!(repairs.take(now, 5, 4).is_none());
        repairs.push(now, &repair(4));
        assert!(repairs.take(now, 5, 4).is_none(), "there was no room yet");
        repairs.prepare(now);
        for index in 65_530..65_640 {
            now += 3 * MS;
            repairs.push(now, &repair(index));
        }
        for index in 65_540..65_640u64 {
            let found = repairs.take(now, 65_640, index as u16).unwrap();
            assert_eq!(format!("{found:?}"), format!("{:?}", repair(index)));
            assert!(repairs.take(now + 15 * MS, 65_640, index as u16).is_none());
            assert!(repairs.take(now + 24 * MS, 65_640, index as u16).is_some());
        }
        assert!(repairs.take(now, 65_640, 65_640u64 as u16).is_none(), "not sent yet");
    }

    #[test]
    fn a_packet_takes_twenty_bytes() {
        assert_eq!(size_of::<Sent>(), 20);
    }
}
