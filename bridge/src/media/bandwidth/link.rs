//! A sender that keeps to its estimate, a line on a simulated clock, and a client that answers with our own recorder of
//! arrivals. Everything is drawn from one seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Bandwidth, Purpose};
pub(super) use crate::media::network::{Line, Link, MS, Random, SECOND};
use crate::media::twcc::Recorder;

/// Bytes of SRTP around a payload: header, extensions, tag.
const FRAMING: usize = 36;

/// One moment, every 10 ms.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Microseconds since the start.
    pub(super) at: u64,
    pub(super) estimate: f64,
    /// Bits per second of media that the sender sends.
    pub(super) media: f64,
    /// The queue on the link, microseconds.
    pub(super) queue: u64,
}

/// Sender, link and client.
pub(super) struct Simulation {
    start: Instant,
    pub(super) now: u64,
    pub(super) link: Link,
    pub(super) bandwidth: Bandwidth,
    /// Bits per second of the picture's layers; the highest that fits is sent.
    pub(super) layers: Vec<f64>,
    /// A frame every so often is so many times as large.
    pub(super) key_frames: (u64, f64),
    /// Whether an upgrade is worth a probe.
    pub(super) wishes: bool,
    /// How long a change of layer takes, as it waits for a key frame.
    pub(super) switch: u64,
    /// What is sent, bits per second, and since when.
    pub(super) chosen: (f64, u64),
    random: Random,
    recorder: Recorder,
    pub(super) line: Line,
    arriving: BTreeMap<(u64, u64), u16>,
    answers: BTreeMap<(u64, u64), Vec<u8>>,
    serial: u64,
    debt: f64,
    pub(super) samples: Vec<Sample>,
    /// (when, bytes, padding) of everything sent.
    pub(super) sent: Vec<(u64, usize, bool)>,
}

impl Simulation {
    pub(super) fn new(link: Link, layers: &[f64]) -> Self {
        let start = Instant::now();
        let mut bandwidth = Bandwidth::new(start);
        bandwidth.negotiated(true);
        Self {
            start,
            now: 0,
            link,
            bandwidth,
            layers: layers.to_vec(),
            key_frames: (u64::MAX, 1.0),
            wishes: true,
            switch: 100 * MS,
            chosen: (layers[0], 0),
            random: Random(0x9e37_79b9_7f4a_7c15),
            recorder: Recorder::new(start),
            line: Line::default(),
            arriving: BTreeMap::new(),
            answers: BTreeMap::new(),
            serial: 0,
            debt: 0.0,
            samples: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// Draws from another seed.
    pub(super) fn seed(&mut self, seed: u64) {
        self.random = Random(seed);
    }

    pub(super) fn instant(&self) -> Instant {
        self.start + Duration::from_micros(self.now)
    }

    pub(super) fn estimate(&self) -> f64 {
        self.bandwidth.budget().unwrap() as f64
    }

    /// Lets seconds pass, millisecond by millisecond.
    pub(super) fn run(&mut self, seconds: f64) {
        let end = self.now + (seconds * SECOND as f64) as u64;
        while self.now < end {
            self.now += MS;
            self.arrive();
            self.send();
            if self.now.is_multiple_of(10 * MS) {
                self.tick();
            }
        }
    }

    /// The samples of the last seconds.
    pub(super) fn last(&self, seconds: f64) -> impl Iterator<Item = &Sample> {
        let from = self.now.saturating_sub((seconds * SECOND as f64) as u64);
        self.samples.iter().filter(move |sample| sample.at > from)
    }

    fn arrive(&mut self) {
        while let Some(entry) = self.arriving.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let at = self.start + Duration::from_micros(entry.key().0);
            self.recorder.record(at, entry.remove());
        }
        if self.now.is_multiple_of(50 * MS) {
            let mut answer = Vec::new();
            while self.recorder.write(1, 2, &mut answer) {
                let answer = std::mem::take(&mut answer);
                self.serial += 1;
                if self.random.unit() >= self.link.feedback_loss {
                    self.answers.insert((self.now + self.link.feedback_delay, self.serial), answer);
                }
            }
        }
        while let Some(entry) = self.answers.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let answer = entry.remove();
            assert!(self.bandwidth.feedback(self.instant(), &answer), "honest feedback is taken");
        }
    }

    fn send(&mut self) {
        if self.now.is_multiple_of(20 * MS) {
            self.packet(80, Purpose::Media); // 32 kbit/s of Opus
        }
        let frame = 33 * MS;
        if self.now.is_multiple_of(frame) && self.media() > 0.0 {
            let key = (self.now / frame).is_multiple_of(self.key_frames.0 / frame);
            let usual = self.media() * frame as f64 / 8e6;
            // A key frame is made up for by the frames after it, as encoders do.
            let size = if key { usual * self.key_frames.1 } else { usual - self.debt.min(usual / 2.0) };
            self.debt += size - usual;
            let mut left = size as usize;
            while left > 0 {
                let payload = left.min(1100);
                self.packet(payload, Purpose::Media);
                left -= payload;
            }
        }
    }

    fn media(&self) -> f64 {
        self.chosen.0
    }

    fn packet(&mut self, payload: usize, purpose: Purpose) {
        let len = payload + FRAMING;
        let number = self.bandwidth.next_number();
        self.bandwidth.sent(self.instant(), len, Some(number), purpose);
        self.sent.push((self.now, len + 28, purpose == Purpose::Probe));
        for at in self.line.take(&self.link, &mut self.random, self.now, len + 28).into_iter().flatten() {
            self.serial += 1;
            self.arriving.insert((at, self.serial), u16::from_be_bytes(number));
        }
    }

    fn tick(&mut self) {
        let now = self.instant();
        self.bandwidth.tick(now);
        let audio = (80 + FRAMING + 28) as f64 * 8.0 * 50.0;
        let gross = |layer: f64| layer * (1100 + FRAMING + 28) as f64 / 1100.0 + audio;
        let budget = self.estimate();
        let fits = self.layers.iter().copied().rfind(|layer| gross(*layer) <= budget).unwrap_or(0.0);
        if fits != self.chosen.0 && self.now >= self.chosen.1 + self.switch {
            self.chosen = (fits, self.now);
        }
        let next = self.layers.iter().copied().find(|layer| gross(*layer) > budget);
        self.bandwidth.wish(next.map(|next| gross(next) as u64).filter(|_| self.wishes), fits == 0.0);
        let mut padding = self.bandwidth.probe(now);
        while padding > 0 {
            let len = padding.min(224);
            self.packet(len, Purpose::Probe);
            padding = padding.saturating_sub(len + FRAMING + 28);
        }
        let queue = self.line.queue(self.now);
        let sample = Sample { at: self.now, estimate: self.estimate(), media: self.media(), queue };
        self.samples.push(sample);
    }
}
