//! Reading what a client says of arrivals: transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01
//! §3.1) and REMB (draft-alvestrand-rmcat-remb-03 §2.2). Nothing is copied or allocated, and a message is checked as a
//! whole before anything of it counts.

use super::sent::REMEMBERED;

/// RTCP header, both SSRCs, base sequence number, status count, reference time and feedback count.
const FIXED: usize = 20;

/// One transport-wide feedback message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TransportFeedback<'a> {
    /// The first sequence number it speaks of.
    pub(crate) base: u16,
    /// How many it speaks of, 1 to [`REMEMBERED`].
    pub(crate) count: u16,
    /// What the deltas begin at: 24 bits, multiples of 64 ms on the client's clock.
    pub(crate) reference: u32,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    /// Reads a message with its RTCP header; `None` if its counts contradict each other or no sender could have meant it.
    pub(crate) fn read(packet: &'a [u8]) -> Option<Self> {
        let (fixed, body) = packet.split_first_chunk::<FIXED>()?;
        let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
        let (base, count) = (word(12), word(14));
        if count == 0 || usize::from(count) > REMEMBERED {
            return None;
        }
        let reference = u32::from_be_bytes([0, fixed[16], fixed[17], fixed[18]]);
        let (mut left, mut at, mut needed) = (count, 0, 0);
        while left > 0 {
            let chunk = Chunk::read(*body.get(at..)?.first_chunk()?);
            at += 2;
            let taken = chunk.left.min(left);
            needed += match chunk.run() {
                Some(symbol) => usize::from(taken) * bytes(symbol)?,
                None => Chunk { left: taken, ..chunk }.map(bytes).sum::<Option<usize>>()?,
            };
            left -= taken;
        }
        let (chunks, deltas) = body.split_at(at);
        (deltas.len() >= needed).then_some(Self { base, count, reference, chunks, deltas })
    }

    /// For each packet in order: ticks of 250 µs since the one that arrived before it (the first: since the reference), or
    /// `None` if it had not arrived.
    pub(crate) fn arrivals(&self) -> impl Iterator<Item = Option<i16>> + use<'a> {
        let (mut chunks, mut deltas, mut left) = (self.chunks, self.deltas, self.count);
        let mut chunk = Chunk { bits: 0, width: 0, left: 0 };
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let symbol = loop {
                if let Some(symbol) = chunk.next() {
                    break symbol;
                }
                let (head, rest) = chunks.split_first_chunk()?;
                (chunk, chunks) = (Chunk::read(*head), rest);
            };
            Some(match symbol {
                1 => {
                    let (&delta, rest) = deltas.split_first()?;
                    deltas = rest;
                    Some(i16::from(delta))
                }
                2 => {
                    let (delta, rest) = deltas.split_first_chunk()?;
                    deltas = rest;
                    Some(i16::from_be_bytes(*delta))
                }
                _ => None,
            })
        })
    }
}

/// Bytes of delta that a status symbol comes with; 3 is reserved.
fn bytes(symbol: u8) -> Option<usize> {
    (symbol < 3).then_some(usize::from(symbol))
}

/// The rest of one packet status chunk, as an iterator over its symbols.
#[derive(Clone, Copy)]
struct Chunk {
    bits: u16,
    /// Bits a symbol; 0 is a run of one.
    width: u8,
    left: u16,
}

impl Chunk {
    fn read(word: [u8; 2]) -> Self {
        let word = u16::from_be_bytes(word);
        match word >> 14 {
            0 | 1 => Self { bits: word >> 13, width: 0, left: word & 0x1fff },
            2 => Self { bits: word & 0x3fff, width: 1, left: 14 },
            _ => Self { bits: word & 0x3fff, width: 2, left: 7 },
        }
    }

    /// The symbol of a run.
    fn run(self) -> Option<u8> {
        (self.width == 0).then_some(self.bits as u8)
    }
}

impl Iterator for Chunk {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        self.left = self.left.checked_sub(1)?;
        Some(match self.width {
            0 => self.bits as u8,
            1 => {
                let symbol = self.bits >> 13 & 1;
                self.bits <<= 1;
                symbol as u8
            }
            _ => {
                let symbol = self.bits >> 12 & 3;
                self.bits <<= 2;
                symbol as u8
            }
        })
    }
}

/// The bits per second of a REMB message with its RTCP header, whatever they are.
pub(crate) fn read_remb(packet: &[u8]) -> Option<u64> {
    let fixed: &[u8; 20] = packet.first_chunk()?;
    if &fixed[12..16] != b"REMB" {
        return None;
    }
    let exponent = u32::from(fixed[17] >> 2);
    let mantissa = u128::from(u32::from_be_bytes([0, fixed[17] & 3, fixed[18], fixed[19]]));
    Some(u64::try_from(mantissa << exponent).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::twcc::Recorder;
    use proptest::prelude::*;
    use std::time::{Duration, Instant};

    fn message(base: u16, count: u16, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
        packet.extend_from_slice(&base.to_be_bytes());
        packet.extend_from_slice(&count.to_be_bytes());
        packet.extend_from_slice(&[0, 1, 2, 9]);
        packet.extend_from_slice(rest);
        packet
    }

    /// All chunks of §3.1.3 and §3.1.4, and both sizes of deltas.
    #[test]
    fn every_kind_of_chunk_is_read() {
        let read = |count, rest: &[u8]| {
            let packet = message(7, count, rest);
            TransportFeedback::read(&packet).map(|f| f.arrivals().collect::<Vec<_>>())
        };
        assert_eq!(read(3, &[0x00, 0xdd]), Some(vec![None; 3]), "a run of 221 lost, of which three count");
        assert_eq!(read(24, &[0x60, 0x18]), None, "the reserved symbol");
        assert_eq!(read(2, &[0x20, 0x02, 4, 255]), Some(vec![Some(4), Some(255)]), "a run of small deltas");
        assert_eq!(read(2, &[0x40, 0x02, 0xff, 0xfe, 1, 0]), Some(vec![Some(-2), Some(256)]), "a run of large ones");
        let bits = read(14, &[0x9f, 0x1c, 1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
        let arrived: Vec<bool> = bits.iter().map(Option::is_some).collect();
        let expected = [0, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0, 0].map(|bit| bit == 1);
        assert_eq!(arrived, expected);
        // 11 | 00 01 10 00 01 00 10: two-bit symbols.
        let two = read(7, &[0b1100_0110, 0b0001_0010, 9, 0xff, 0, 8, 1, 0]);
        assert_eq!(two, Some(vec![None, Some(9), Some(-256), None, Some(8), None, Some(256)]));
        assert_eq!(read(0, &[0x20, 0x02]), None, "nothing");
        assert_eq!(read(3, &[0x20, 0x02, 1, 1]), None, "fewer statuses than announced");
        assert_eq!(read(2, &[0x20, 0x02, 1]), None, "fewer deltas than statuses");
        assert_eq!(read(2049, &[0x1f, 0xff]), None, "more than anybody remembers");
        let packet = message(7, 1, &[0x20, 0x01, 4]);
        let feedback = TransportFeedback::read(&packet).unwrap();
        assert_eq!((feedback.base, feedback.count, feedback.reference), (7, 1, 0x0102));
    }

    #[test]
    fn remb_is_bounded_by_what_fits() {
        let remb = |exponent: u8, mantissa: u32| {
            let [_, high, middle, low] = mantissa.to_be_bytes();
            let mut packet = vec![0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0];
            packet.extend_from_slice(b"REMB");
            packet.extend_from_slice(&[1, exponent << 2 | high, middle, low, 0, 0, 0, 9]);
            read_remb(&packet)
        };
        assert_eq!(remb(0, 0), Some(0));
        assert_eq!(remb(3, 62_500), Some(500_000));
        assert_eq!(remb(46, 1 << 17), Some(1 << 63));
        assert_eq!(remb(63, 0x3_ffff), Some(u64::MAX));
        assert_eq!(read_remb(&[0; 19]), None);
        assert_eq!(read_remb(&[0; 24]), None, "another application's feedback");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut packet in proptest::collection::vec(any::<u8>(), 0..200), small: bool) {
            if small && packet.len() > 15 {
                packet[14] = 0;
            }
            if let Some(feedback) = TransportFeedback::read(&packet) {
                prop_assert_eq!(feedback.arrivals().count(), usize::from(feedback.count), "what was checked is there");
            }
            let _ = read_remb(&packet);
        }

        #[test]
        fn what_is_written_is_read(steps in proptest::collection::vec((0u16..30, 0u64..60_000), 1..100), first: u16) {
            let start = Instant::now();
            let mut recorder = Recorder::new(start);
            let (mut sequence, mut at) = (first, start);
            let mut sent = Vec::new();
            for (gap, micros) in steps {
                sequence = sequence.wrapping_add(gap + 1);
                at += Duration::from_micros(micros);
                recorder.record(at, sequence);
                sent.push((sequence, at.duration_since(start).as_micros() as i64 / 250));
            }
            let (mut out, mut read) = (Vec::new(), Vec::new());
            while recorder.write(1, 2, &mut out) {
                let feedback = TransportFeedback::read(&out).unwrap();
                let mut ticks = i64::from(feedback.reference) * 256;
                let mut sequence = feedback.base;
                for arrival in feedback.arrivals() {
                    if let Some(delta) = arrival {
                        ticks += i64::from(delta);
                        read.push((sequence, ticks));
                    }
                    sequence = sequence.wrapping_add(1);
                }
                out.clear();
            }
            prop_assert_eq!(read, sent);
        }
    }
}
