//! What the SFU knows of one incoming RTP stream: order, loss and jitter (RFC 3550 §6.4, A.3, A.8).

use std::time::{Duration, Instant};

use super::gaps::Gaps;

/// After so many packets the jitter is known: its mean goes over sixteen.
const SETTLED: u64 = 64;

/// One SSRC.
#[derive(Debug)]
pub(crate) struct Receiver {
    clock_rate: u32,
    first: u64,
    highest: u64,
    received: u64,
    /// Where what is missing is to be asked for again.
    gaps: Option<Gaps>,
    jitter: f64,
    last_transit: Option<f64>,
    epoch: Instant,
    reported: (u64, u64),
    windowed: (u64, u64),
    /// The last sender report: (middle 32 bits of NTP, when it came).
    sender_report: Option<(u32, Instant)>,
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
    /// Starts with its first packet's index (rollover counter and sequence number). `repairs` says whether what is missing is
    /// to be asked for again.
    pub(crate) fn new(now: Instant, clock_rate: u32, index: u64, repairs: bool) -> Self {
        Self {
            clock_rate,
            first: index,
            highest: index.wrapping_sub(1),
            received: 0,
            gaps: repairs.then(Gaps::default),
            jitter: 0.0,
            last_transit: None,
            epoch: now,
            reported: (0, 0),
            windowed: (0, 0),
            sender_report: None,
        }
    }

    /// A packet came, by itself or as a `repair`; true if no later one has come yet.
    pub(crate) fn receive(&mut self, now: Instant, index: u64, timestamp: u32, repair: bool) -> bool {
        self.received += 1;
        let next = self.highest.wrapping_add(1);
        let newest = index >= next;
        if newest {
            if let Some(gaps) = self.gaps.as_mut().filter(|_| index > next) {
                gaps.miss(now, next..index);
            }
            self.highest = index;
        } else {
            self.first = self.first.min(index);
            if let Some(gaps) = &mut self.gaps {
                gaps.arrived(now, index, repair);
            }
        }
        if !repair {
            self.measure_jitter(now, timestamp);
        }
        newest
    }

    /// A key frame begins with the packet of that index.
    pub(crate) fn begin_anew(&mut self, index: u64) {
        if let Some(gaps) = &mut self.gaps {
            gaps.begin_anew(index);
        }
    }

    /// The highest index that has come.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// The index of a packet that is missed, by its sequence number.
    pub(crate) fn missing_index(&self, sequence: u16) -> Option<u64> {
        self.gaps.as_ref()?.index_of(sequence)
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
        let jitter = Duration::from_secs_f64(self.jitter / f64::from(self.clock_rate));
        let jitter = Some(jitter).filter(|_| self.received >= SETTLED);
        if let Some(gaps) = &mut self.gaps {
            gaps.due(now, jitter, rtt, out);
        }
    }

    /// Whether so much went missing that only a key frame helps; asked once.
    pub(crate) fn take_overrun(&mut self) -> bool {
        self.gaps.as_mut().is_some_and(Gaps::take_overrun)
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
            receiver.receive(now, index, index as u32 * 3000, false);
        }
    }

    #[test]
    fn gaps_are_asked_for_until_filled() {
        let start = Instant::now();
        let mut receiver = Receiver::new(start, 90_000, 65_534, true);
        receive(&mut receiver, start, [65_534, 65_538]);
        let mut out = Vec::new();
        receiver.due_nacks(start + 24 * MS, 10 * MS, &mut out);
        assert_eq!(out, [0u16; 0], "reordering has a moment to resolve, longer while nothing is known");
        receiver.due_nacks(start + 25 * MS, 10 * MS, &mut out);
        assert_eq!(out, [65_535, 0, 1]);
        receiver.receive(start + 26 * MS, 65_536, 0, true);
        assert_eq!((receiver.missing_index(0), receiver.missing_index(1)), (None, Some(65_537)));
        out.clear();
        receiver.due_nacks(start + 54 * MS, 10 * MS, &mut out);
        assert_eq!(out, [0u16; 0], "not before a round trip");
        receiver.due_nacks(start + 55 * MS, 10 * MS, &mut out);
        assert_eq!(out, [65_535, 1]);
    }

    #[test]
    fn the_report_counts_loss_since_the_last_one() {
        let start = Instant::now();
        let mut receiver = Receiver::new(start, 90_000, 0, true);
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
        let mut receiver = Receiver::new(start, 90_000, 0, false);
        for i in 0..1000u32 {
            let at = start + i * 20 * MS + if i % 2 == 0 { 10 * MS } else { Duration::ZERO };
            receiver.receive(at, u64::from(i), i * 1800, false);
        }
        let jitter = receiver.report(start).jitter;
        assert!((850..=900).contains(&jitter), "10 ms are 900 ticks: {jitter}");
    }
}
