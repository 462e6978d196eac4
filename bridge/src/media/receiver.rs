//! What the SFU knows of one incoming RTP stream: order, loss, jitter (RFC 3550 §6.4, A.3, A.8) and which packets to ask
//! for again (RFC 4585 §6.2.1).

use std::time::{Duration, Instant};

/// A missing packet is first asked for after this long, so that mere reordering costs nothing.
const NACK_DELAY: Duration = Duration::from_millis(8);
/// Asked for again after one round trip, at least after this.
const NACK_REPEAT: Duration = Duration::from_millis(30);
/// Then it is given up.
const NACK_TRIES: u8 = 8;
/// More missing at once is not repaired packet by packet; a key frame is asked for instead.
const MAX_MISSING: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Missing {
    index: u64,
    due: Instant,
    tries: u8,
}

/// One SSRC.
#[derive(Debug)]
pub(crate) struct Receiver {
    clock_rate: u32,
    first: u64,
    highest: u64,
    received: u64,
    missing: Vec<Missing>,
    jitter: f64,
    last_transit: Option<f64>,
    epoch: Instant,
    reported: (u64, u64),
    windowed: (u64, u64),
    /// The last sender report: (middle 32 bits of NTP, when it came).
    sender_report: Option<(u32, Instant)>,
    overrun: bool,
}

/// What a receiver report says (RFC 3550 §6.4.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Report {
    pub(crate) fraction_lost: u8,
    pub(crate) total_lost: u32,
    pub(crate) highest: u32,
    pub(crate) jitter: u32,
    pub(crate) last_sr: u32,
    pub(crate) delay: u32,
}

impl Receiver {
    /// Starts with its first packet's index (rollover counter and sequence number).
    pub(crate) fn new(now: Instant, clock_rate: u32, index: u64) -> Self {
        Self {
            clock_rate,
            first: index,
            highest: index.wrapping_sub(1),
            received: 0,
            missing: Vec::new(),
            jitter: 0.0,
            last_transit: None,
            epoch: now,
            reported: (0, 0),
            windowed: (0, 0),
            sender_report: None,
            overrun: false,
        }
    }

    /// A packet came, by itself or as a retransmission; true if no later one has come yet. `nack` says whether gaps are
    /// to be repaired.
    pub(crate) fn receive(&mut self, now: Instant, index: u64, timestamp: u32, nack: bool) -> bool {
        self.received += 1;
        let next = self.highest.wrapping_add(1);
        let newest = index >= next;
        if newest {
            if nack && index > next {
                self.miss(now, next..index);
            }
            self.highest = index;
            self.measure_jitter(now, timestamp);
        } else {
            self.first = self.first.min(index);
            if let Ok(at) = self.missing.binary_search_by_key(&index, |m| m.index) {
                self.missing.remove(at);
            }
        }
        newest
    }

    /// The highest index that has come.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// The index of a packet that is missed, by its sequence number.
    pub(crate) fn missing_index(&self, sequence: u16) -> Option<u64> {
        let same = |missing: &&Missing| missing.index as u16 == sequence;
        self.missing.iter().find(same).map(|missing| missing.index)
    }

    fn miss(&mut self, now: Instant, range: std::ops::Range<u64>) {
        if self.missing.len() + usize::try_from(range.end - range.start).unwrap_or(usize::MAX) > MAX_MISSING {
            self.missing.clear();
            self.overrun = true;
            return;
        }
        self.missing.extend(range.map(|index| Missing { index, due: now + NACK_DELAY, tries: 0 }));
    }

    fn measure_jitter(&mut self, now: Instant, timestamp: u32) {
        let arrival = now.duration_since(self.epoch).as_secs_f64() * f64::from(self.clock_rate);
        let transit = arrival - f64::from(timestamp);
        if let Some(last) = self.last_transit {
            let difference = (transit - last).abs();
            if difference < f64::from(self.clock_rate) {
                self.jitter += (difference - self.jitter) / 16.0; // a jump of the timestamp is no jitter
            }
        }
        self.last_transit = Some(transit);
    }

    /// Sequence numbers to ask for now, oldest first; appended to `out`.
    pub(crate) fn due_nacks(&mut self, now: Instant, rtt: Duration, out: &mut Vec<u16>) {
        let repeat = rtt.max(NACK_REPEAT);
        self.missing.retain_mut(|missing| {
            if missing.due > now {
                return true;
            }
            if missing.tries == NACK_TRIES {
                return false;
            }
            missing.tries += 1;
            missing.due = now + repeat;
            out.push(missing.index as u16);
            true
        });
    }

    /// Whether so much went missing that only a key frame helps; asked once.
    pub(crate) fn take_overrun(&mut self) -> bool {
        std::mem::take(&mut self.overrun)
    }

    /// A sender report came.
    pub(crate) fn sender_report(&mut self, now: Instant, ntp: u64) {
        let middle = (ntp >> 16) as u32;
        self.sender_report = Some((middle, now));
    }

    /// Packets expected and lost since the start.
    fn totals(&self) -> (u64, u64) {
        let expected = self.highest.wrapping_add(1) - self.first;
        (expected, expected.saturating_sub(self.received))
    }

    /// Packets expected since the last call, and how many of them have not come in the end.
    pub(crate) fn window(&mut self) -> (u64, u64) {
        let (expected, lost) = self.totals();
        let before = std::mem::replace(&mut self.windowed, (expected, lost));
        (expected.saturating_sub(before.0), lost.saturating_sub(before.1))
    }

    /// The interarrival jitter, milliseconds.
    pub(crate) fn jitter_ms(&self) -> f32 {
        (self.jitter * 1000.0 / f64::from(self.clock_rate)) as f32
    }

    /// The report block for now; the fraction covers the time since the last call.
    pub(crate) fn report(&mut self, now: Instant) -> Report {
        let (expected, lost) = self.totals();
        let (expected_before, lost_before) = std::mem::replace(&mut self.reported, (expected, lost));
        let (expected_now, lost_now) = (expected - expected_before.min(expected), lost.saturating_sub(lost_before));
        let (last_sr, delay) = self
            .sender_report
            .map_or((0, 0), |(middle, at)| (middle, (now.duration_since(at).as_secs_f64() * 65_536.0) as u32));
        Report {
            fraction_lost: u8::try_from((lost_now * 256).checked_div(expected_now).unwrap_or(0)).unwrap_or(255),
            total_lost: u32::try_from(lost).unwrap_or(u32::MAX).min(0x7f_ffff),
            highest: self.highest as u32,
            jitter: self.jitter as u32,
            last_sr,
            delay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn receive(receiver: &mut Receiver, now: Instant, indices: impl IntoIterator<Item = u64>) {
        for index in indices {
            receiver.receive(now, index, index as u32 * 3000, true);
        }
    }

    #[test]
    fn gaps_are_asked_for_until_filled() {
        let start = Instant::now();
        let mut receiver = Receiver::new(start, 90_000, 65_534);
        receive(&mut receiver, start, [65_534, 65_538]);
        let mut out = Vec::new();
        receiver.due_nacks(start + 7 * MS, 10 * MS, &mut out);
        assert_eq!(out, [0u16; 0], "reordering has a moment to resolve");
        receiver.due_nacks(start + 8 * MS, 10 * MS, &mut out);
        assert_eq!(out, [65_535, 0, 1]);
        receive(&mut receiver, start + 9 * MS, [65_536]);
        out.clear();
        receiver.due_nacks(start + 37 * MS, 10 * MS, &mut out);
        assert_eq!(out, [0u16; 0], "not before a round trip");
        receiver.due_nacks(start + 38 * MS, 10 * MS, &mut out);
        assert_eq!(out, [65_535, 1]);
        out.clear();
        for i in 1..100 {
            receiver.due_nacks(start + 38 * MS + i * 50 * MS, 10 * MS, &mut out);
        }
        assert_eq!(out.len(), 2 * usize::from(NACK_TRIES - 2), "given up in the end");
    }

    #[test]
    fn a_great_gap_asks_for_a_key_frame_instead() {
        let start = Instant::now();
        let mut receiver = Receiver::new(start, 90_000, 100);
        receive(&mut receiver, start, [100, 1000]);
        let mut out = Vec::new();
        receiver.due_nacks(start + 100 * MS, 10 * MS, &mut out);
        assert!(out.is_empty());
        assert!(receiver.take_overrun());
        assert!(!receiver.take_overrun());
    }

    #[test]
    fn the_report_counts_loss_since_the_last_one() {
        let start = Instant::now();
        let mut receiver = Receiver::new(start, 90_000, 0);
        receive(&mut receiver, start, (0..100).filter(|i| i % 4 != 1));
        let report = receiver.report(start);
        assert_eq!((report.fraction_lost, report.total_lost, report.highest), (64, 25, 99));
        receive(&mut receiver, start, 100..200);
        receiver.sender_report(start, 0x1234_5678_9abc_def0);
        let report = receiver.report(start + 500 * MS);
        assert_eq!((report.fraction_lost, report.total_lost, report.highest), (0, 25, 199));
        assert_eq!((report.last_sr, report.delay), (0x5678_9abc, 32_768));
    }

    #[test]
    fn jitter_is_the_smoothed_difference_of_transit_times() {
        let start = Instant::now();
        let mut receiver = Receiver::new(start, 90_000, 0);
        for i in 0..1000u32 {
            let at = start + i * 20 * MS + if i % 2 == 0 { 10 * MS } else { Duration::ZERO };
            receiver.receive(at, u64::from(i), i * 1800, false);
        }
        let jitter = receiver.report(start).jitter;
        assert!((850..=900).contains(&jitter), "10 ms are 900 ticks: {jitter}");
    }
}
