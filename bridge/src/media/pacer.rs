//! What waits to be sent to a subscriber whose way is narrow: pictures, so that a key frame does not fill a queue out there
//! in which sound would be late and other packets lost.
//!
//! Nothing is copied: what waits is remembered by its place in its stream's history, and is selected, numbered and sealed
//! when its turn comes, as if it had come just then. So what is left out meanwhile leaves no gap, and feedback measures the
//! way and not the waiting. Peers whose way was not seen full lately have none of this.

use std::collections::VecDeque;

use super::leg::{Leg, Packet};

/// So many seconds of sending may wait; more is not shown any more.
const LONGEST: f64 = 1.0;
/// Nothing is dropped below so many bytes: a key frame is to get through.
const SHORTEST: f64 = 48_000.0;
/// Bytes around a payload: RTP header and extensions, tag, UDP and IP.
pub(crate) const AROUND: usize = 80;

/// A packet that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting {
    /// The leg, by its SSRC, and its tail when it came.
    pub(crate) ssrc: u32,
    epoch: u8,
    /// The incoming stream and the index there.
    pub(crate) stream: u8,
    pub(crate) index: u64,
    pub(crate) newest: bool,
    bytes: u16,
}

/// What of one leg waits.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Tail {
    /// What waits from before is void.
    epoch: u8,
    /// How many packets, and of which incoming stream.
    count: u32,
    stream: u8,
}

impl Tail {
    /// The incoming stream that will be copied when all that waits has left; `None` if nothing waits.
    pub(crate) fn stream(&self) -> Option<u8> {
        (self.count > 0).then_some(self.stream)
    }

    /// What waits is void.
    pub(crate) fn clear(&mut self) {
        if self.count > 0 {
            (self.epoch, self.count) = (self.epoch.wrapping_add(1), 0);
        }
    }

    /// A packet's turn has come; false if it is void.
    pub(crate) fn leaves(&mut self, waiting: &Waiting) -> bool {
        let valid = self.count > 0 && self.epoch == waiting.epoch;
        self.count -= u32::from(valid);
        valid
    }
}

/// One peer's.
#[derive(Default, Debug)]
pub(crate) struct Pacer {
    queue: VecDeque<Waiting>,
    bytes: usize,
}

impl Pacer {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// A packet has come for a leg: whether that is all about it for now, as it waits or is not wanted. `ready` if a packet
    /// might leave at once; `rate` are the bytes a second that do.
    pub(crate) fn takes(&mut self, leg: &mut Leg, packet: &Packet<'_>, ready: bool, rate: f64) -> bool {
        if ready && self.queue.is_empty() {
            return false;
        }
        let current = leg.tail.stream().or(leg.stream());
        let goes_on = match leg.tail.stream() {
            Some(stream) => stream == packet.layer,
            None => leg.copies(packet),
        };
        if !goes_on {
            if !leg.may_begin(packet, current) {
                return true;
            }
            // What waits is overtaken by the key frame, and packets of the stream that flows are left out from now on: should
            // the key frame's turn never come, that stream goes on from its next one.
            self.give_up(leg);
        }
        if self.bytes as f64 > (rate * LONGEST).max(SHORTEST) {
            self.give_up(leg);
            return true;
        }
        self.push(leg, packet.layer, packet.index, packet.newest, packet.payload.len());
        true
    }

    /// A packet waits.
    pub(crate) fn push(&mut self, leg: &mut Leg, stream: u8, index: u64, newest: bool, bytes: usize) {
        let bytes = u16::try_from(bytes + AROUND).unwrap_or(u16::MAX);
        let tail = &mut leg.tail;
        (tail.stream, tail.count) = (stream, tail.count + 1);
        self.queue.push_back(Waiting { ssrc: leg.ssrc, epoch: tail.epoch, stream, index, newest, bytes });
        self.bytes += usize::from(bytes);
    }

    /// What waits of a leg is of no use any more, and its stream has a gap from here on.
    fn give_up(&mut self, leg: &mut Leg) {
        leg.pause();
        self.queue.retain(|waiting| waiting.ssrc != leg.ssrc);
        self.bytes = self.queue.iter().map(|waiting| usize::from(waiting.bytes)).sum();
    }

    /// The next one's turn has come.
    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.queue.pop_front()?;
        self.bytes -= usize::from(waiting.bytes);
        Some(waiting)
    }
}
