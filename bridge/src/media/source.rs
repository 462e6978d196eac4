//! The stream a leg copies from, and what becomes of its numbers: sequence numbers without gaps, timestamps on one line,
//! picture ids and frame numbers that only go on.

use std::time::Instant;

use super::codec::{Counters, Frame, Offsets, with_mask};
use super::control::Codec;
use super::layer::Layer;
use super::leg::Packet;
use super::selection::{Choice, Selection};
use super::sequence::SequenceMap;

/// Sender's clock of one stream, from its sender reports.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct SenderClock {
    /// NTP timestamp (32.32 fixed point, seconds since 1900) …
    pub(crate) ntp: u64,
    /// … and the RTP timestamp of the same instant.
    pub(crate) rtp: u32,
    /// When the report came.
    pub(crate) at: Instant,
}

impl SenderClock {
    /// Seconds on the sender's clock at an RTP timestamp, from an arbitrary start.
    fn seconds(&self, timestamp: u32, clock_rate: u32) -> f64 {
        let since = timestamp.wrapping_sub(self.rtp).cast_signed();
        self.ntp as f64 / 4_294_967_296.0 + f64::from(since) / f64::from(clock_rate)
    }
}

/// How a packet is made a leg's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rewrite {
    pub(crate) timestamp: u32,
    pub(crate) marker: bool,
    /// Added to picture id and TL0PICIDX.
    pub(super) offsets: Offsets,
    /// Added to the dependency descriptor's frame number.
    pub(super) frame_number: u16,
    /// The decode targets to announce.
    pub(super) mask: Option<u32>,
}

/// Seconds that a timestamp may be behind without being taken for a jump.
const CATCH_UP: u32 = 2;
/// The widest dependency descriptor.
pub(crate) const MAX_DESCRIPTOR: usize = 255;

impl Rewrite {
    /// Whether the dependency descriptor leaves as another than it came.
    pub(crate) fn changes_descriptor(&self) -> bool {
        self.mask.is_some() || self.frame_number != 0
    }

    /// The dependency descriptor as the leg sends it; in `buffer` (zeros) where it differs from the packet's.
    pub(crate) fn descriptor<'a>(&self, packet: &Packet<'a>, buffer: &'a mut [u8; MAX_DESCRIPTOR]) -> Option<&'a [u8]> {
        let bytes = packet.values.dependency_descriptor?;
        let masked = self.mask.zip(packet.frame.dependencies).zip(packet.structure);
        let len = masked.and_then(|((mask, dependencies), structure)| {
            with_mask(bytes, &dependencies, structure.target_count(), mask, buffer)
        });
        let len = len.or_else(|| {
            buffer.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(bytes.len())
        });
        let Some(written) = len.and_then(|len| buffer.get_mut(..len)) else { return Some(bytes) };
        // start(1) end(1) template(6) number(16)
        if let Some([high, low]) = written.get(1..3).and_then(|number| number.first_chunk().copied()) {
            let number = u16::from_be_bytes([high, low]).wrapping_add(self.frame_number);
            written[1..3].copy_from_slice(&number.to_be_bytes());
        }
        Some(written)
    }

    /// Rewrites the copy of a payload.
    pub(crate) fn payload(&self, counters: Option<&Counters>, payload: &mut [u8]) {
        if let Some(counters) = counters {
            self.offsets.rewrite(counters, payload);
        }
    }
}

/// Where a leg's numbers stand, over all the streams it has copied from.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Progress {
    /// The next index (rollover counter and sequence number).
    pub(crate) next: u64,
    timestamp: u32,
    at: Option<Instant>,
    counters: Option<(u16, u8)>,
    frame_number: Option<u16>,
}

impl Progress {
    /// Nothing was sent; `next` is the first index.
    pub(crate) fn new(next: u64) -> Self {
        Self { next, ..Self::default() }
    }

    /// When the newest packet was sent.
    pub(crate) fn sent_at(&self) -> Option<Instant> {
        self.at
    }

    /// The timestamp of the newest packet that was sent.
    pub(crate) fn timestamp(&self) -> Option<u32> {
        self.at.map(|_| self.timestamp)
    }
}

/// The stream a leg copies from.
#[derive(Debug)]
pub(crate) struct Source {
    /// Which of the track's incoming streams.
    pub(crate) stream: u8,
    ssrc: u32,
    pub(crate) selection: Selection,
    sequence: SequenceMap,
    /// VP8's picture ids count the pictures that are taken; those of VP9 and frame numbers keep their distances, which its
    /// references are told in.
    pictures: Option<SequenceMap>,
    /// What is added to the timestamp.
    pub(crate) timestamp: u32,
    offsets: Offsets,
    frame_number: u16,
    /// The timestamp of the stream's last packet.
    last: Option<u32>,
    /// How far a timestamp may be behind what the leg has shown, ticks.
    catch_up: u32,
    clock: Option<SenderClock>,
}

impl Source {
    /// Continues with another stream from `packet` on, the first of a key frame: timestamps by the sender's clock where it
    /// is known, by the time passed where not.
    pub(crate) fn new(
        packet: &Packet<'_>,
        limit: Layer,
        (before, progress): (Option<&Self>, &Progress),
        clock_rate: u32,
    ) -> Self {
        let clock = packet.clock;
        let timestamp = progress.at.map_or(0, |at| {
            let passed = if packet.arrived >= at {
                packet.arrived.duration_since(at).as_secs_f64()
            } else {
                -at.duration_since(packet.arrived).as_secs_f64()
            };
            let by_clock = before.and_then(|source| {
                let before = source.clock?.seconds(source.last?, clock_rate);
                Some(clock?.seconds(packet.header.timestamp, clock_rate) - before)
            });
            // A clock that disagrees with ours by more than half a second is not believed.
            let seconds = by_clock.filter(|by_clock| (by_clock - passed).abs() < 0.5).unwrap_or(passed);
            let ticks = (seconds * f64::from(clock_rate)) as i64;
            progress.timestamp.wrapping_add(ticks as u32).wrapping_sub(packet.header.timestamp)
        });
        let Frame { number, counters, dependencies, .. } = packet.frame;
        let offsets = counters.map_or_else(Offsets::default, |first| Offsets::after(progress.counters, &first));
        let pictures = counters.zip(number).filter(|_| packet.codec == Codec::Vp8).map(|(first, number)| {
            let out = u64::from(offsets.map(&first).0);
            SequenceMap::new(number, 1 << 32 | out)
        });
        let frame_number = dependencies
            .zip(progress.frame_number)
            .map_or(0, |(first, last)| last.wrapping_add(1).wrapping_sub(first.number as u16));
        Self {
            stream: packet.layer,
            ssrc: packet.header.ssrc,
            selection: Selection::new(&packet.frame, limit),
            sequence: SequenceMap::new(packet.index, progress.next),
            pictures,
            timestamp,
            offsets,
            frame_number,
            last: None,
            catch_up: CATCH_UP * clock_rate,
            clock,
        }
    }

    /// Whether a packet is of this stream.
    pub(crate) fn is_of(&self, packet: &Packet<'_>) -> bool {
        self.stream == packet.layer && self.ssrc == packet.header.ssrc
    }

    /// Whether a packet that has just come went out of the history already.
    pub(crate) fn has(&self, packet: &Packet<'_>) -> bool {
        packet.newest && self.last.is_some() && packet.index <= self.sequence.highest()
    }

    /// What becomes of a packet: its index on the leg, and how it is rewritten. `None` leaves it out.
    pub(crate) fn take(
        &mut self,
        packet: &Packet<'_>,
        now: Instant,
        limit: Layer,
        progress: &mut Progress,
    ) -> Option<(u64, Rewrite)> {
        if packet.payload.is_empty() {
            self.sequence.skip(packet.index, None); // padding only
            return None;
        }
        let frame = &packet.frame;
        let Choice { taken, ends_picture, mask, decided } = self.selection.choose(frame, packet.structure, limit);
        if !taken {
            self.sequence.skip(packet.index, frame.number);
            if let (Some(number), Some(pictures)) = (decided, &mut self.pictures) {
                pictures.skip(number, None);
            }
            return None;
        }
        let index = self.sequence.map(packet.index)?;
        let mut offsets = self.offsets;
        if let (Some(pictures), Some(number), Some(counters)) = (&mut self.pictures, frame.number, &frame.counters) {
            offsets.picture_id = counters.offset_to(pictures.map(number)?);
        }
        if packet.clock.is_some() {
            self.clock = packet.clock;
        }
        let mut timestamp = packet.header.timestamp.wrapping_add(self.timestamp);
        let newest = index >= progress.next;
        if newest {
            // Frames older than what the leg has shown already (out of the history) follow at once.
            let behind = progress.timestamp.wrapping_sub(timestamp);
            if progress.at.is_some() && behind <= self.catch_up {
                let same = self.last == Some(packet.header.timestamp);
                timestamp = progress.timestamp.wrapping_add(u32::from(!same));
            }
            self.last = Some(packet.header.timestamp);
            progress.next = index + 1;
            progress.timestamp = timestamp;
            progress.at = Some(now);
            progress.counters = frame.counters.map(|counters| offsets.map(&counters)).or(progress.counters);
        }
        if let Some(dependencies) = &frame.dependencies {
            let number = (dependencies.number as u16).wrapping_add(self.frame_number);
            let later = progress.frame_number.is_none_or(|last| number.wrapping_sub(last).cast_signed() > 0);
            if later {
                progress.frame_number = Some(number);
            }
        }
        let marker = packet.header.marker || ends_picture;
        Some((index, Rewrite { timestamp, marker, offsets, frame_number: self.frame_number, mask }))
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
