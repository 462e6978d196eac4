//! Transport-wide feedback towards publishers (draft-holmer-rmcat-transport-wide-cc-extensions-01): without it Chromium
//! stays at 70 kbit/s. Every packet counts, retransmissions and padding too.

use std::time::{Duration, Instant};

/// How often feedback goes out while packets come in.
pub(crate) const INTERVAL: Duration = Duration::from_millis(50);

/// Sequence numbers one feedback message may span; it stays below 1200 bytes with two-byte deltas.
const MAX_SPAN: u64 = 400;
/// Arrivals kept; more in one interval is no real sender.
const MAX_ARRIVALS: usize = 8192;
/// One tick of the format.
const TICK: Duration = Duration::from_micros(250);
/// The reference time counts in 64 ms.
const TICKS_PER_REFERENCE: i64 = 256;

/// Records arrivals and writes feedback messages.
#[derive(Debug)]
pub(crate) struct Recorder {
    epoch: Instant,
    /// Highest extended sequence number so far.
    highest: Option<u64>,
    /// (extended sequence number, ticks since the epoch), in order of arrival.
    arrivals: Vec<(u64, i64)>,
    /// Sequence numbers below were reported already.
    reported: u64,
    count: u8,
}

impl Recorder {
    pub(crate) fn new(now: Instant) -> Self {
        Self { epoch: now, highest: None, arrivals: Vec::with_capacity(256), reported: 0, count: 0 }
    }

    /// A packet with this transport-wide sequence number came.
    pub(crate) fn record(&mut self, now: Instant, sequence: u16) {
        if self.arrivals.len() >= MAX_ARRIVALS {
            return;
        }
        let highest = self.highest.unwrap_or(0x1_0000 + u64::from(sequence));
        let delta = i64::from(sequence.wrapping_sub(highest as u16) as i16);
        let extended = highest.saturating_add_signed(delta);
        self.highest = Some(highest.max(extended));
        let ticks = now.duration_since(self.epoch).as_micros() / TICK.as_micros();
        self.arrivals.push((extended, i64::try_from(ticks).unwrap_or(i64::MAX)));
    }

    /// Appends one feedback message (an RTCP packet) about `media` to `out`; false when there is nothing to report.
    pub(crate) fn write(&mut self, sender: u32, media: u32, out: &mut Vec<u8>) -> bool {
        self.arrivals.sort_unstable();
        self.arrivals.dedup_by_key(|&mut (sequence, _)| sequence);
        let Some(&(lowest, first_ticks)) = self.arrivals.first() else { return false };
        // Gaps between messages are losses too, so begin where the last message ended, if it is not far.
        let base = if self.reported != 0 && self.reported < lowest && lowest - self.reported < MAX_SPAN / 2 {
            self.reported
        } else {
            lowest
        };
        let start = out.len();
        let reference = first_ticks.div_euclid(TICKS_PER_REFERENCE);
        let (mut symbols, mut deltas) = ([0u8; MAX_SPAN as usize], [0i16; MAX_SPAN as usize]);
        let (mut last, mut span, mut taken) = (reference * TICKS_PER_REFERENCE, 0, 0);
        for &(sequence, ticks) in &self.arrivals {
            let Ok(delta) = i16::try_from(ticks - last) else { break };
            let at = sequence - base;
            if at >= MAX_SPAN {
                break;
            }
            let at = usize::try_from(at).unwrap_or(0);
            symbols[at] = if (0..256).contains(&delta) { 1 } else { 2 };
            deltas[taken] = delta;
            (last, span, taken) = (ticks, at + 1, taken + 1);
        }
        if taken == 0 {
            // The first arrival lies further from the reference than a delta reaches: cannot be with ticks < 256.
            self.arrivals.clear();
            return false;
        }
        self.arrivals.drain(..taken);
        self.reported = base + span as u64;

        out.extend_from_slice(&[0x8f, 205, 0, 0]);
        out.extend_from_slice(&sender.to_be_bytes());
        out.extend_from_slice(&media.to_be_bytes());
        out.extend_from_slice(&(base as u16).to_be_bytes());
        out.extend_from_slice(&(span as u16).to_be_bytes());
        out.extend_from_slice(&((reference as u32) << 8 | u32::from(self.count)).to_be_bytes());
        self.count = self.count.wrapping_add(1);
        for chunk in symbols[..span].chunks(7) {
            let bits = chunk.iter().zip((0..7).rev()).fold(0u16, |bits, (&s, i)| bits | u16::from(s) << (2 * i));
            out.extend_from_slice(&(0xc000 | bits).to_be_bytes()); // a status vector of two-bit symbols
        }
        for &delta in &deltas[..taken] {
            match u8::try_from(delta) {
                Ok(small) => out.push(small),
                Err(_) => out.extend_from_slice(&delta.to_be_bytes()),
            }
        }
        let padding = (out.len() - start).next_multiple_of(4) - (out.len() - start);
        out.extend_from_slice(&[0; 3][..padding]);
        let words = u16::try_from((out.len() - start) / 4 - 1).unwrap_or(0);
        out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
        true
    }

    /// Whether anything waits to be reported.
    pub(crate) fn is_empty(&self) -> bool {
        self.arrivals.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rtc::interceptor::convert_twcc;
    use rtc::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
    use rtc::shared::marshal::Unmarshal;

    /// What an independent implementation reads: sequence numbers, and whether each arrived.
    fn read(message: &[u8]) -> Vec<(u16, bool)> {
        let feedback = TransportLayerCc::unmarshal(&mut &message[..]).unwrap();
        let count = usize::from(feedback.packet_status_count); // it reads the last chunk's spare symbols too
        convert_twcc(&feedback).iter().take(count).map(|a| (a.sequence_number, a.arrival.is_some())).collect()
    }

    #[test]
    fn losses_between_messages_are_reported_once() {
        let start = Instant::now();
        let mut recorder = Recorder::new(start);
        let mut at = start;
        for sequence in [65_533u16, 65_534, 0, 1] {
            recorder.record(at, sequence);
            at += Duration::from_millis(5);
        }
        let mut out = Vec::new();
        assert!(recorder.write(1, 2, &mut out));
        assert_eq!(read(&out), [(65_533, true), (65_534, true), (65_535, false), (0, true), (1, true)]);
        recorder.record(at, 3);
        out.clear();
        assert!(recorder.write(1, 2, &mut out));
        assert_eq!(read(&out), [(2, false), (3, true)]);
        assert!(!recorder.write(1, 2, &mut out));
    }

    proptest! {
        #[test]
        fn every_arrival_is_reported_and_nothing_else(
            steps in proptest::collection::vec((0u16..30, 0u64..400_000), 1..300), first: u16
        ) {
            let start = Instant::now();
            let mut recorder = Recorder::new(start);
            let (mut sequence, mut at) = (first, start);
            let mut sent = std::collections::BTreeSet::new();
            let mut reported = std::collections::BTreeSet::new();
            for (gap, micros) in steps {
                sequence = sequence.wrapping_add(gap + 1);
                at += Duration::from_micros(micros);
                recorder.record(at, sequence);
                sent.insert(sequence);
            }
            let mut out = Vec::new();
            while recorder.write(1, 2, &mut out) {
                prop_assert!(out.len() <= 1200);
                prop_assert_eq!(out.len() % 4, 0);
                for (sequence, arrived) in read(&out) {
                    prop_assert_eq!(arrived, sent.contains(&sequence));
                    if arrived {
                        prop_assert!(reported.insert(sequence), "once");
                    }
                }
                out.clear();
            }
            prop_assert_eq!(sent, reported);
        }
    }
}
