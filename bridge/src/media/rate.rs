//! How many bits per second the layers of a track take, measured where its packets come in.
//!
//! A packet costs two additions; everything else is done when a window closes.

use std::time::{Duration, Instant};

use super::codec::Frame;
use super::track::MAX_LAYERS;

/// Temporal layers told apart; higher ones count as the highest.
pub(crate) const MAX_TEMPORAL: usize = 4;
/// The shortest window.
const WINDOW: Duration = Duration::from_millis(500);
/// The mean is over about so many windows: a key frame among them changes it little.
const MEAN: u8 = 8;
/// A lower mean is believed by this part a window: a camera that stutters for a moment would be taken for a cheap one.
const FALL: f32 = 1.0 / 16.0;
/// A longer silence says nothing about the rate.
const STALE: Duration = Duration::from_secs(2);
/// What a packet costs on the wire beyond its bytes here: SRTP tag (16), a header extension or two (8), UDP and IP (28).
const OVERHEAD: u32 = 52;

/// One layer by itself.
#[derive(Clone, Copy, Default, Debug)]
struct Cell {
    bytes: u32,
    /// Of these, what higher spatial layers need.
    needed: u32,
    frames: u16,
    /// Windows in the means, at most [`MEAN`].
    windows: u8,
    /// Bits per second: the mean of the last seconds …
    mean: f32,
    /// … and what it is taken for.
    rate: u32,
    needed_rate: u32,
    /// Frames per second, smoothed.
    fps: f32,
}

/// The meter of a track.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    cells: [[Cell; MAX_TEMPORAL]; MAX_LAYERS],
    /// When each spatial layer was last seen, to the grain of [`Meter::roll`].
    seen: [Option<Instant>; MAX_LAYERS],
    /// What `seen` was made of.
    counted: [u32; MAX_LAYERS],
    since: Instant,
}

impl Meter {
    pub(crate) fn new(now: Instant) -> Self {
        Self { cells: Default::default(), seen: [None; MAX_LAYERS], counted: [0; MAX_LAYERS], since: now }
    }

    /// A packet of this many bytes, RTP header included, which is the `last` of its picture or not.
    pub(crate) fn count(&mut self, spatial: u8, frame: &Frame, bytes: usize, last: bool) {
        let spatial = usize::from(spatial).min(MAX_LAYERS - 1);
        let cell = &mut self.cells[spatial][usize::from(frame.temporal).min(MAX_TEMPORAL - 1)];
        let bytes = bytes as u32 + OVERHEAD;
        cell.bytes = cell.bytes.saturating_add(bytes);
        cell.needed = cell.needed.saturating_add(if frame.for_higher { bytes } else { 0 });
        cell.frames = cell.frames.saturating_add(u16::from(last || frame.end));
        self.counted[spatial] = self.counted[spatial].wrapping_add(1);
    }

    /// Closes the window if it is long enough. To be called several times a second. Only the lowest `asked` spatial layers
    /// are measured: of one that its publisher was told to stop, Firefox sends a trickle, and what it will cost when it
    /// comes back is what it cost before.
    pub(crate) fn roll(&mut self, now: Instant, asked: u8) {
        for (seen, counted) in self.seen.iter_mut().zip(&mut self.counted) {
            if std::mem::take(counted) > 0 {
                *seen = Some(now);
            }
        }
        let passed = now.duration_since(self.since);
        if passed < WINDOW {
            return;
        }
        self.since = now;
        let per_second = 1.0 / passed.as_secs_f32();
        for (spatial, layer) in self.cells.iter_mut().enumerate() {
            // A layer that is silent keeps its last rate, too.
            let silent = spatial >= usize::from(asked) || layer.iter().all(|cell| cell.bytes == 0);
            for cell in layer {
                let (bytes, needed) = (std::mem::take(&mut cell.bytes), std::mem::take(&mut cell.needed));
                let frames = std::mem::take(&mut cell.frames);
                if !silent && passed < STALE {
                    let bits = |bytes: u32| bytes as f32 * 8.0 * per_second;
                    cell.windows = (cell.windows + 1).min(MEAN);
                    cell.mean += (bits(bytes) - cell.mean) / f32::from(cell.windows);
                    let rate = cell.rate as f32;
                    cell.rate = cell.mean.max(rate - (rate - cell.mean) * FALL) as u32;
                    cell.needed_rate = smooth(cell.needed_rate as f32, bits(needed)) as u32;
                    cell.fps = smooth(cell.fps, f32::from(frames) * per_second);
                }
            }
        }
    }

    /// Bits per second of a spatial layer by itself up to a temporal layer; `None` until it was measured.
    pub(crate) fn bits(&self, spatial: u8, temporal: u8) -> Option<u64> {
        let cells = self.up_to(spatial, temporal);
        Some(cells.iter().map(|cell| u64::from(cell.rate)).sum()).filter(|bits| *bits > 0)
    }

    /// Bits per second of what higher spatial layers need of this one, up to a temporal layer.
    pub(crate) fn shared(&self, spatial: u8, temporal: u8) -> u64 {
        self.up_to(spatial, temporal).iter().map(|cell| u64::from(cell.needed_rate)).sum()
    }

    /// The highest temporal layer of a spatial one that was measured.
    pub(crate) fn temporal(&self, spatial: u8) -> Option<u8> {
        self.up_to(spatial, u8::MAX).iter().rposition(|cell| cell.rate > 0).map(|temporal| temporal as u8)
    }

    /// The lowest temporal layer of a spatial one with this many frames per second, within a fifth; `u8::MAX` (all) where
    /// no part of the layers would do.
    pub(crate) fn temporal_for(&self, spatial: u8, fps: u8) -> u8 {
        let mut sum = 0.0;
        let enough = |cell: &Cell| {
            sum += cell.fps;
            sum >= f32::from(fps) * 0.8
        };
        self.up_to(spatial, u8::MAX).iter().position(enough).map_or(u8::MAX, |temporal| temporal as u8)
    }

    /// When a spatial layer was last seen.
    pub(crate) fn seen(&self, spatial: u8) -> Option<Instant> {
        self.seen.get(usize::from(spatial)).copied().flatten()
    }

    fn up_to(&self, spatial: u8, temporal: u8) -> &[Cell] {
        let layer = self.cells.get(usize::from(spatial)).map_or(&[][..], |layer| &layer[..]);
        &layer[..layer.len().min(usize::from(temporal).saturating_add(1))]
    }
}

/// Up quickly, so that nobody is given what does not fit; down slowly, so that a still picture is not taken for a cheap one.
fn smooth(old: f32, new: f32) -> f32 {
    match new - old {
        _ if old == 0.0 => new,
        more if more > 0.0 => old + more / 2.0,
        less => old + less / 8.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// `seconds` of frames thirty times a second, every second one in temporal layer 1.
    fn run(meter: &mut Meter, now: &mut Instant, seconds: u32, bytes: usize) {
        for turn in 0..seconds * 30 {
            let frame = Frame { temporal: (turn % 2) as u8, for_higher: turn % 30 == 0, ..Frame::default() };
            meter.count(1, &frame, bytes, true);
            *now += Duration::from_secs(1) / 30;
            if turn % 3 == 0 {
                meter.roll(*now, 3);
            }
        }
    }

    #[test]
    fn rates_are_those_of_the_wire() {
        let mut now = Instant::now();
        let mut meter = Meter::new(now);
        assert_eq!((meter.bits(1, u8::MAX), meter.temporal(1)), (None, None));
        run(&mut meter, &mut now, 4, 948);
        let (base, all) = (meter.bits(1, 0).unwrap(), meter.bits(1, u8::MAX).unwrap());
        assert!((118_000..128_000).contains(&base), "15 × 1000 bytes a second: {base}");
        assert!((236_000..256_000).contains(&all), "{all}");
        let shared = meter.shared(1, u8::MAX);
        assert!((4_000..16_000).contains(&shared), "one frame a second: {shared}");
        assert_eq!((meter.bits(0, u8::MAX), meter.bits(2, u8::MAX), meter.bits(9, 9)), (None, None, None));
        assert_eq!((meter.temporal(1), meter.temporal(0)), (Some(1), None));
        assert_eq!((meter.temporal_for(1, 15), meter.temporal_for(1, 30), meter.temporal_for(1, 60)), (0, 1, u8::MAX));
    }

    #[test]
    fn more_is_noticed_in_seconds_and_less_slowly() {
        let mut now = Instant::now();
        let mut meter = Meter::new(now);
        run(&mut meter, &mut now, 5, 448);
        let low = meter.bits(1, u8::MAX).unwrap();
        assert!((115_000..130_000).contains(&low), "{low}");
        run(&mut meter, &mut now, 4, 1948);
        let high = meter.bits(1, u8::MAX).unwrap();
        assert!(high > 300_000, "of 480: {high}");
        run(&mut meter, &mut now, 2, 448);
        let after = meter.bits(1, u8::MAX).unwrap();
        assert!(after < high && after * 10 > high * 8, "{after} of {high}");
        run(&mut meter, &mut now, 20, 448);
        let after = meter.bits(1, u8::MAX).unwrap();
        assert!(after < 200_000, "{after}");
    }

    #[test]
    fn a_key_frame_and_a_stutter_hardly_change_a_price() {
        let mut now = Instant::now();
        let mut meter = Meter::new(now);
        run(&mut meter, &mut now, 8, 948);
        let before = meter.bits(1, u8::MAX).unwrap();
        for _ in 0..10 {
            meter.count(1, &Frame::default(), 948, false); // a key frame of a third of a second
        }
        run(&mut meter, &mut now, 1, 948);
        let key = meter.bits(1, u8::MAX).unwrap();
        assert!(key < before * 115 / 100, "{key} of {before}");
        for _ in 0..6 {
            now += 250 * MS;
            meter.count(1, &Frame::default(), 948, true); // four a second
            meter.roll(now, 3);
        }
        let slow = meter.bits(1, u8::MAX).unwrap();
        assert!(slow > before * 85 / 100, "{slow} of {before}");
    }

    #[test]
    fn a_trickle_of_what_is_not_asked_for_is_no_measure() {
        let mut now = Instant::now();
        let mut meter = Meter::new(now);
        run(&mut meter, &mut now, 3, 948);
        meter.roll(now, 3);
        let before = meter.bits(1, u8::MAX);
        for _ in 0..100 {
            now += 100 * MS;
            meter.count(1, &Frame::default(), 40, true);
            meter.roll(now, 1);
        }
        let (before, after) = (before.unwrap() as f64, meter.bits(1, u8::MAX).unwrap() as f64);
        assert!((0.8..1.2).contains(&(after / before)), "{before} → {after}");
        assert_eq!(meter.seen(1), Some(now), "but it is seen");
    }

    #[test]
    fn a_silent_layer_keeps_its_rate_and_is_not_seen() {
        let mut now = Instant::now();
        let mut meter = Meter::new(now);
        run(&mut meter, &mut now, 3, 948);
        meter.roll(now, 3);
        let (before, seen) = (meter.bits(1, u8::MAX), meter.seen(1).unwrap());
        assert_eq!(seen, now);
        for _ in 0..100 {
            now += 100 * MS;
            meter.roll(now, 3);
        }
        assert_eq!(meter.seen(1), Some(seen));
        let (before, after) = (before.unwrap() as f64, meter.bits(1, u8::MAX).unwrap() as f64);
        assert!((0.8..1.2).contains(&(after / before)), "{before} → {after}");
    }
}
