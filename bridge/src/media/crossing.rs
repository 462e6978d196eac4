//! The ways of packets from worker to worker: a ring for each direction in which a room needs one, written by one thread and
//! read by another without a lock (`rtrb`). The reader makes it and sends the other end; a packet that does not fit is lost
//! like one on the network, and counted.

use std::io::Write as _;

use rtrb::chunks::ChunkError;
use rtrb::{Consumer, Producer, RingBuffer};

use super::control::TrackId;
use super::engine::{Crossed, Crossing};

/// Bytes that may wait in a ring: of 40 cameras at 500 kbit/s, what comes in four tenths of a second.
const CAPACITY: usize = 1 << 20;
/// Bytes taken at a stretch from all rings: what stays in the second-level cache.
const STRETCH: usize = 128 << 10;
/// What stands before each packet: track (8), index (8), stream (1), length (2).
const HEAD: usize = 19;

/// The writing end of a ring.
#[derive(Debug)]
pub(crate) struct Outlet(Producer<u8>);

impl Outlet {
    /// Writes a packet; false if the ring is full.
    fn push(&mut self, packet: &Crossed, bytes: &[u8]) -> bool {
        let Ok(len) = u16::try_from(bytes.len()) else { return false };
        if self.0.slots() < HEAD + bytes.len() {
            return false;
        }
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&packet.track.0.to_be_bytes());
        head[8..16].copy_from_slice(&packet.index.to_be_bytes());
        head[16] = packet.stream;
        head[17..].copy_from_slice(&len.to_be_bytes());
        // There is room for both.
        self.0.write_all(&head).and_then(|()| self.0.write_all(bytes)).is_ok()
    }
}

/// The way to another worker.
#[derive(Debug)]
struct To {
    worker: usize,
    outlet: Outlet,
    /// Whether something was written since it was woken.
    written: bool,
}

/// A worker's ends of its rings.
#[derive(Debug, Default)]
pub(crate) struct Crossings {
    to: Vec<To>,
    /// From other workers, by their numbers.
    from: Vec<(usize, Consumer<u8>)>,
    /// Packets taken out of rings, one after another.
    taken: Vec<u8>,
    packets: Vec<Crossed>,
}

impl Crossings {
    /// Makes a ring from another worker, unless there is one; its end to be sent there.
    pub(crate) fn open(&mut self, worker: usize) -> Option<Outlet> {
        if self.from.iter().any(|(other, _)| *other == worker) {
            return None;
        }
        let (producer, consumer) = RingBuffer::new(CAPACITY);
        self.from.push((worker, consumer));
        Some(Outlet(producer))
    }

    /// Another worker has made a ring to itself.
    pub(crate) fn opened(&mut self, worker: usize, outlet: Outlet) {
        self.to.push(To { worker, outlet, written: false });
    }

    /// Sends a packet to another worker; false if it is lost.
    pub(crate) fn push(&mut self, crossing: &Crossing, bytes: &[u8]) -> bool {
        let Some(to) = self.to.iter_mut().find(|to| to.worker == crossing.worker) else { return false };
        to.written = true;
        to.outlet.push(&crossing.packet, bytes)
    }

    /// The workers that have something to read since this was asked last.
    pub(crate) fn written(&mut self) -> impl Iterator<Item = usize> {
        self.to.iter_mut().filter_map(|to| std::mem::take(&mut to.written).then_some(to.worker))
    }

    /// Takes what has come from other workers, as much as fits into a stretch: the packets, the buffer they stand in, and
    /// whether there may be more.
    pub(crate) fn take(&mut self) -> (&[u8], &[Crossed], bool) {
        let Self { from, taken, packets, .. } = self;
        taken.clear();
        packets.clear();
        for (_, ring) in from {
            while taken.len() < STRETCH
                && let Some(crossed) = read(ring, taken)
            {
                packets.push(crossed);
            }
        }
        (taken, packets, taken.len() >= STRETCH)
    }
}

/// Takes the next packet out of a ring and puts it behind what was taken already. `None` if there is none that is whole.
fn read(ring: &mut Consumer<u8>, taken: &mut Vec<u8>) -> Option<Crossed> {
    let mut head = [0; HEAD];
    {
        let chunk = match ring.read_chunk(HEAD) {
            Ok(chunk) => chunk,
            Err(ChunkError::TooFewSlots(_)) => return None,
        };
        let (first, second) = chunk.as_slices();
        head[..first.len()].copy_from_slice(first);
        head[first.len()..].copy_from_slice(second);
    }
    let (track, rest) = head.split_first_chunk()?;
    let (index, rest) = rest.split_first_chunk()?;
    let len = usize::from(u16::from_be_bytes([rest[1], rest[2]]));
    let chunk = ring.read_chunk(HEAD + len).ok()?; // its writer may not have come to its end
    let (first, second) = chunk.as_slices();
    let start = taken.len();
    taken.extend_from_slice(first.get(HEAD..).unwrap_or_default());
    taken.extend_from_slice(second.get(HEAD.saturating_sub(first.len())..).unwrap_or_default());
    chunk.commit_all();
    let (track, index) = (TrackId(u64::from_be_bytes(*track)), u64::from_be_bytes(*index));
    Some(Crossed { track, stream: rest[0], index, start, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crossing(worker: usize, index: u64) -> Crossing {
        Crossing { worker, packet: Crossed { track: TrackId(7 << 40), stream: 2, index, start: 0, len: 0 } }
    }

    #[test]
    fn packets_cross_whole_and_in_order_until_the_ring_is_full() {
        let (mut here, mut there) = (Crossings::default(), Crossings::default());
        assert!(!here.push(&crossing(1, 0), b"x"), "nobody has asked for anything yet");
        here.opened(1, there.open(0).unwrap());
        assert!(there.open(0).is_none(), "one ring is enough");
        let (mut written, mut read) = (0_u64, 0);
        // Often around the ring, with packets that end anywhere in it.
        for round in 0..60 {
            loop {
                let packet = vec![written as u8; 1 + (written as usize * 37 + round) % 1500];
                if !here.push(&crossing(1, written), &packet) {
                    break;
                }
                written += 1;
            }
            assert_eq!(here.written().collect::<Vec<_>>(), [1]);
            assert_eq!(here.written().count(), 0);
            let all = round % 2 == 0;
            loop {
                let (buffer, packets, _) = there.take();
                for packet in packets {
                    let bytes = &buffer[packet.start..packet.start + packet.len];
                    assert!((packet.track, packet.stream, packet.index) == (TrackId(7 << 40), 2, read));
                    assert!(!bytes.is_empty() && bytes.iter().all(|byte| *byte == read as u8));
                    read += 1;
                }
                if packets.is_empty() || !all {
                    break;
                }
            }
            assert!(!all || read == written);
        }
        assert!(written > 30_000, "{written}");
    }

    #[test]
    fn a_packet_that_is_not_whole_waits() {
        let (mut producer, mut consumer) = RingBuffer::new(64);
        let mut taken = Vec::new();
        let mut head = [0; HEAD];
        head[18] = 3;
        producer.write_all(&head[..10]).unwrap();
        assert!(read(&mut consumer, &mut taken).is_none());
        producer.write_all(&head[10..]).unwrap();
        producer.write_all(b"ab").unwrap();
        assert!(read(&mut consumer, &mut taken).is_none());
        producer.write_all(b"c").unwrap();
        let crossed = read(&mut consumer, &mut taken).unwrap();
        assert!(crossed.len == 3 && taken == b"abc");
    }
}
