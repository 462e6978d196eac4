//! A microphone: Opus packets of 20 ms while somebody speaks, and of DTX's pause signal (one each 400 ms) in between.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::stamp::{self, AUDIO, Stamp};

/// Samples at 48 kHz in a packet of 20 ms.
const SAMPLES: u32 = 960;
/// In a pause one packet of so many is sent.
const DTX: u32 = 20;
/// How long somebody speaks at a stretch, packets.
const TURN: std::ops::Range<f64> = 50.0..300.0;
/// RFC 6464: no voice, silence.
const SILENCE: u8 = 127;

/// A publisher's microphone.
pub(super) struct Microphone {
    publisher: u32,
    /// The share of the time in which it speaks.
    talk: f64,
    bytes: usize,
    speaking: bool,
    /// Packets until that changes.
    left: u32,
    tick: u32,
    number: u32,
    offset: u32,
    random: StdRng,
    payload: Vec<u8>,
}

/// A packet to be sent.
pub(super) struct Sample<'a> {
    /// A stretch of speech begins (RFC 3551 §4.1).
    pub(super) marker: bool,
    pub(super) timestamp: u32,
    /// RFC 6464: bit 7 voice, bits 0–6 −dBov.
    pub(super) level: u8,
    pub(super) payload: &'a [u8],
}

impl Microphone {
    /// `talk` is the share of the time in which there is speech, `bitrate` that of speech, bit/s.
    pub(super) fn new(publisher: u32, seed: u64, talk: f64, bitrate: u32) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ u64::from(publisher) << 8 ^ u64::from(AUDIO));
        let speaking = random.random_bool(talk.clamp(0.0, 1.0));
        let offset = random.random();
        let bytes = (bitrate as usize / 8 / 50).max(stamp::SIZE + 1);
        let payload = Vec::with_capacity(bytes);
        Self { publisher, talk, bytes, speaking, left: 1, tick: 0, number: 0, offset, random, payload }
    }

    /// 20 ms later: the packet, if there is one. `sent` is in µs since the run's start.
    pub(super) fn packet(&mut self, sent: u64) -> Option<Sample<'_>> {
        self.tick = self.tick.wrapping_add(1);
        self.left -= 1;
        let mut marker = false;
        if self.left == 0 {
            marker = self.turn();
        }
        if !self.speaking && !self.tick.is_multiple_of(DTX) {
            return None;
        }
        let (level, size) = if self.speaking {
            (0x80 | self.random.random_range(15..35), self.bytes)
        } else {
            (SILENCE, stamp::SIZE + 1)
        };
        self.payload.clear();
        self.payload.push(0xf8); // CELT, 20 ms, mono
        self.payload.resize(size - stamp::SIZE, 0xaa);
        let stamp = Stamp { publisher: self.publisher, kind: AUDIO, key: false, number: self.number, sent };
        stamp.write(&mut self.payload);
        self.number = self.number.wrapping_add(1);
        let timestamp = self.tick.wrapping_mul(SAMPLES).wrapping_add(self.offset);
        Some(Sample { marker, timestamp, level, payload: &self.payload })
    }

    /// Speech ends or begins; true if it begins.
    fn turn(&mut self) -> bool {
        let before = self.speaking;
        let stretch = self.random.random_range(TURN);
        self.speaking = self.talk >= 1.0 || self.talk > 0.0 && !before;
        // Pauses are as long as it takes to keep the share.
        let packets = if self.speaking { stretch } else { stretch * (1.0 - self.talk) / self.talk.max(0.01) };
        self.left = (packets as u32).max(1);
        self.speaking && !before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speech_has_its_share_and_pauses_are_nearly_silent() {
        for talk in [0.0, 0.2, 0.5, 1.0] {
            let (mut voiced, mut silent, mut starts) = (0u32, 0u32, 0);
            let mut microphone = Microphone::new(3, 5, talk, 32_000);
            for _ in 0..100_000 {
                let Some(sample) = microphone.packet(0) else { continue };
                starts += u32::from(sample.marker);
                if sample.level & 0x80 != 0 {
                    assert_eq!(sample.payload.len(), 80);
                    voiced += 1;
                } else {
                    silent += 1;
                }
            }
            let share = f64::from(voiced) / 100_000.0;
            assert!((share - talk).abs() < 0.06, "{talk}: {share}");
            let pauses = 100_000 - voiced;
            assert!(silent.abs_diff(pauses / DTX) < pauses / 100 + 2, "{talk}: {silent} of {pauses}");
            assert_eq!(starts > 5, talk > 0.0 && talk < 1.0, "{talk}: {starts}");
        }
    }
}
