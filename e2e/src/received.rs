//! Counting what arrives: per received track its packets, gaps, repetitions, and whether every payload is what was sent.

use std::collections::{BTreeMap, BTreeSet};

use crate::media::{self, Stamp};

/// What one subscriber received of one track.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Whether it is a video track.
    pub video: bool,
    /// Packets, repetitions not counted.
    pub packets: u64,
    /// Packets that came twice.
    pub repeated: u64,
    /// Packets whose payload is not what any publisher sent; padding is not counted.
    pub damaged: u64,
    /// Sequence numbers (extended) that have not come although later ones have.
    pub missing: BTreeSet<u64>,
    /// The publisher's number, by the stamps.
    pub publisher: Option<u32>,
    /// Packets by layer.
    pub layers: BTreeMap<u8, u64>,
    /// How often the layer changed.
    pub switches: u64,
    /// How often a layer went on with a key frame after a pause.
    pub pauses: u64,
    /// Packets that the publisher sent in an uninterrupted stretch of one layer, but that did not come.
    pub lost_stamps: u64,
    ssrc: Option<u32>,
    highest: Option<u64>,
    last: Option<Stamp>,
    ahead: BTreeSet<u32>,
}

impl Received {
    /// A track nothing has come of.
    #[must_use]
    pub fn new(video: bool) -> Self {
        Self { video, ..Self::default() }
    }

    /// Takes a packet: its SSRC, sequence number and payload. A track that was taken away and given back comes with
    /// another SSRC, whose sequence numbers begin anew (RFC 3550 §5.1).
    pub fn packet(&mut self, ssrc: u32, sequence: u16, payload: &[u8]) {
        if self.ssrc.replace(ssrc).is_some_and(|before| before != ssrc) {
            (self.highest, self.last) = (None, None);
            self.ahead.clear();
        }
        if !self.sequence(sequence) {
            self.repeated += 1;
            return;
        }
        self.packets += 1;
        if payload.is_empty() {
            return;
        }
        match media::stamp(payload, self.video) {
            Some(stamp) if self.publisher.is_none_or(|publisher| publisher == stamp.publisher) => {
                self.stamp(stamp, self.video && media::is_key_start(payload));
            }
            _ => self.damaged += 1,
        }
    }

    /// Extends the sequence number and keeps the missing ones; false for a repetition.
    fn sequence(&mut self, sequence: u16) -> bool {
        let Some(highest) = self.highest else {
            self.highest = Some(0x1_0000 + u64::from(sequence));
            return true;
        };
        let ahead = sequence
            .wrapping_sub(highest.to_le_bytes().first_chunk().map_or(0, |low: &[u8; 2]| u16::from_le_bytes(*low)));
        if ahead == 0 {
            false
        } else if ahead < 0x8000 {
            let now = highest + u64::from(ahead);
            self.missing.extend(highest + 1..now);
            self.highest = Some(now);
            true
        } else {
            self.missing.remove(&(highest - u64::from(ahead.wrapping_neg())))
        }
    }

    /// `fresh`: a key frame begins. The server may have paused the track before it for want of bandwidth; what it lost on
    /// the way shows in the sequence numbers.
    fn stamp(&mut self, stamp: Stamp, fresh: bool) {
        self.publisher = Some(stamp.publisher);
        *self.layers.entry(stamp.layer).or_default() += 1;
        match self.last {
            Some(last) if last.layer == stamp.layer => {
                if self.ahead.remove(&stamp.counter) {
                    self.lost_stamps -= 1; // came late
                    return;
                }
                if stamp.counter > last.counter + 1 && fresh {
                    self.pauses += 1;
                } else if stamp.counter > last.counter {
                    for skipped in last.counter + 1..stamp.counter {
                        self.ahead.insert(skipped);
                        self.lost_stamps += 1;
                    }
                } else {
                    return;
                }
            }
            Some(_) => {
                self.switches += 1;
                self.ahead.clear();
            }
            None => {}
        }
        self.last = Some(stamp);
    }

    /// Whether everything came, once, unchanged.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.damaged == 0 && self.lost_stamps == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::opus;

    #[test]
    fn a_gap_is_missing_until_it_comes() {
        let mut received = Received::new(false);
        received.packet(1, 65_534, &opus(1, 0));
        received.packet(1, 1, &opus(1, 3));
        assert_eq!((received.missing.len(), received.lost_stamps), (2, 2));
        received.packet(1, 0, &opus(1, 2));
        received.packet(1, 65_535, &opus(1, 1));
        assert!(received.is_complete());
        received.packet(1, 0, &opus(1, 2));
        assert_eq!((received.packets, received.repeated), (4, 1));
    }

    #[test]
    fn a_pause_ends_with_a_key_frame() {
        let frame = |counter, key| media::vp8_frame(1, 0, counter, 7, key).swap_remove(0);
        let mut received = Received::new(true);
        received.packet(1, 1, &frame(0, true));
        received.packet(1, 2, &frame(7, true));
        assert_eq!((received.lost_stamps, received.pauses), (0, 1));
        received.packet(1, 3, &frame(9, false));
        assert_eq!(received.lost_stamps, 1, "but not with any other");
    }

    #[test]
    fn a_new_ssrc_counts_from_its_own_start() {
        let mut received = Received::new(false);
        received.packet(1, 30_000, &opus(1, 0));
        received.packet(2, 29_000, &opus(1, 50));
        received.packet(2, 29_001, &opus(1, 51));
        assert_eq!((received.packets, received.repeated), (3, 0));
        assert!(received.is_complete());
    }

    #[test]
    fn another_publishers_packet_is_damage() {
        let mut received = Received::new(false);
        received.packet(1, 1, &opus(1, 0));
        received.packet(1, 2, &opus(2, 1));
        assert_eq!(received.damaged, 1);
        assert!(!received.is_complete());
    }

    #[test]
    fn a_skipped_stamp_without_a_gap_is_loss() {
        let mut received = Received::new(false);
        received.packet(1, 1, &opus(1, 0));
        received.packet(1, 2, &opus(1, 2));
        assert_eq!(received.lost_stamps, 1);
    }
}
