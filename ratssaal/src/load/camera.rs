//! A camera: VP8 in simulcast layers as an encoder would send it. The pictures are noise, but their sizes, key frames and
//! payload descriptors (RFC 7741 §4.2) are what a server sees of a real one.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::stamp::{self, Stamp};

/// Bytes of payload in a packet, at most, as libwebrtc has it.
const PACKET: usize = 1180;
/// A key frame is so many times as large as the average frame.
const KEY: f64 = 5.0;
/// What was sent too much is saved again over about so many frames.
const PAYBACK: f64 = 12.0;
/// The descriptor: X|S, I|L|T, 15-bit picture id, TL0PICIDX, TID|Y.
const DESCRIPTOR: usize = 6;
/// Frame tag, start code, width and height (RFC 6386 §9.1).
const HEADER: usize = 10;

/// One layer, as the options say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LayerSpec {
    pub(super) rid: &'static str,
    pub(super) width: u16,
    pub(super) height: u16,
    /// bit/s
    pub(super) bitrate: u32,
}

/// One layer at work.
struct Layer {
    spec: LayerSpec,
    enabled: bool,
    key_wanted: bool,
    /// Bytes sent too much so far.
    debt: f64,
    picture: u16,
    number: u32,
    /// Added to all RTP timestamps, as encoders do.
    offset: u32,
    random: StdRng,
}

/// A publisher's camera.
pub(super) struct Camera {
    publisher: u32,
    fps: f64,
    frame: u64,
    layers: Vec<Layer>,
    payload: Vec<u8>,
}

/// A packet to be sent.
pub(super) struct Sample<'a> {
    pub(super) layer: usize,
    pub(super) marker: bool,
    pub(super) timestamp: u32,
    pub(super) payload: &'a [u8],
}

impl Camera {
    pub(super) fn new(publisher: u32, seed: u64, fps: f64, specs: &[LayerSpec]) -> Self {
        let layer = |(at, spec): (usize, &LayerSpec)| {
            let mut random = StdRng::seed_from_u64(seed ^ u64::from(publisher) << 8 ^ at as u64);
            let (offset, picture) = (random.random(), random.random::<u16>() & 0x7fff);
            Layer { spec: *spec, enabled: true, key_wanted: true, debt: 0.0, picture, number: 0, offset, random }
        };
        Self {
            publisher,
            fps,
            frame: 0,
            layers: specs.iter().enumerate().map(layer).collect(),
            payload: Vec::with_capacity(PACKET + 64),
        }
    }

    /// How many layers it has.
    pub(super) fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Somebody needs a key frame: the next frame is one.
    pub(super) fn key_frame(&mut self, layer: usize) {
        if let Some(layer) = self.layers.get_mut(layer) {
            layer.key_wanted = true;
        }
    }

    /// Dynacast: which layers somebody watches.
    pub(super) fn enable(&mut self, layer: usize, enabled: bool) {
        if let Some(layer) = self.layers.get_mut(layer) {
            layer.key_wanted |= enabled && !layer.enabled;
            layer.enabled = enabled;
        }
    }

    /// The packets of the next frame in all enabled layers, sent at `sent` (µs since the run's start).
    pub(super) fn frame(&mut self, sent: u64, mut each: impl FnMut(Sample<'_>)) {
        let ticks = (self.frame as f64 * 90_000.0 / self.fps) as u64 as u32;
        self.frame += 1;
        // A single layer is the high one.
        let lowest = if self.layers.len() == 1 { 2 } else { 0 };
        for (at, layer) in self.layers.iter_mut().enumerate().filter(|(_, layer)| layer.enabled) {
            let key = std::mem::take(&mut layer.key_wanted);
            let bytes = layer.size(self.fps, key);
            // libwebrtc makes a frame's packets equally large, to a byte.
            let count = bytes.div_ceil(PACKET).max(1);
            for packet in 0..count {
                let size =
                    (bytes * (packet + 1) / count - bytes * packet / count).max(DESCRIPTOR + HEADER + stamp::SIZE);
                let first = packet == 0;
                layer.write(&mut self.payload, size, first, key);
                let stamp = Stamp {
                    publisher: self.publisher,
                    kind: at as u8 + lowest,
                    key: key && first,
                    number: layer.number,
                    sent,
                };
                stamp.write(&mut self.payload);
                layer.number = layer.number.wrapping_add(1);
                each(Sample {
                    layer: at,
                    marker: packet + 1 == count,
                    timestamp: ticks.wrapping_add(layer.offset),
                    payload: &self.payload,
                });
            }
            layer.picture = (layer.picture + 1) & 0x7fff;
        }
    }
}

impl Layer {
    /// The next frame's size, bytes: noisy, but on average what the bitrate says.
    fn size(&mut self, fps: f64, key: bool) -> usize {
        let average = f64::from(self.spec.bitrate) / 8.0 / fps;
        let wanted =
            if key { KEY * average } else { average * self.random.random_range(0.7..1.3) - self.debt / PAYBACK };
        let size = wanted.max(0.25 * average);
        self.debt += size - average;
        size as usize
    }

    /// Descriptor, frame header, noise: all but the stamp.
    fn write(&self, out: &mut Vec<u8>, size: usize, first: bool, key: bool) {
        let [high, low] = self.picture.to_be_bytes();
        out.clear();
        out.extend_from_slice(&[if first { 0x90 } else { 0x80 }, 0xe0, 0x80 | high, low, low, 0x20]);
        if first {
            out.extend_from_slice(&[if key { 0x10 } else { 0x11 }, 2, 0]);
            if key {
                out.extend_from_slice(&[0x9d, 0x01, 0x2a]);
                out.extend_from_slice(&self.spec.width.to_le_bytes());
                out.extend_from_slice(&self.spec.height.to_le_bytes());
            }
        }
        out.resize(size - stamp::SIZE, 0xaa);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYERS: [LayerSpec; 3] = [
        LayerSpec { rid: "q", width: 320, height: 180, bitrate: 150_000 },
        LayerSpec { rid: "h", width: 640, height: 360, bitrate: 500_000 },
        LayerSpec { rid: "f", width: 1280, height: 720, bitrate: 1_700_000 },
    ];

    /// (bytes, packets, key frames) of each layer in ten seconds, with a key frame asked for in the middle.
    fn ten_seconds(seed: u64) -> Vec<(usize, u32, u32)> {
        let mut camera = Camera::new(7, seed, 30.0, &LAYERS);
        let mut sums = vec![(0, 0, 0); 3];
        for frame in 0..300 {
            if frame == 150 {
                (0..3).for_each(|layer| camera.key_frame(layer));
            }
            camera.frame(frame, |sample| {
                let stamp = Stamp::read(sample.payload).expect("a stamp");
                let sum = &mut sums[sample.layer];
                assert_eq!((stamp.publisher, stamp.number, stamp.sent), (7, sum.1, frame));
                assert!(sample.payload.len() <= PACKET + 1, "{}", sample.payload.len());
                *sum = (sum.0 + sample.payload.len(), sum.1 + 1, sum.2 + u32::from(stamp.key));
            });
        }
        sums
    }

    #[test]
    fn layers_keep_their_bitrates_and_seeds_repeat() {
        let sums = ten_seconds(1);
        for ((bytes, _, keys), spec) in sums.iter().zip(&LAYERS) {
            let rate = *bytes as f64 * 8.0 / 10.0 / f64::from(spec.bitrate);
            assert!((0.95..1.05).contains(&rate), "{}: {rate}", spec.rid);
            assert_eq!(*keys, 2);
        }
        assert_eq!(sums, ten_seconds(1));
        assert_ne!(sums, ten_seconds(2));
    }

    #[test]
    fn a_layer_nobody_watches_is_silent_and_comes_back_with_a_key_frame() {
        let mut camera = Camera::new(7, 1, 30.0, &LAYERS);
        let layers = |camera: &mut Camera| {
            let mut seen = Vec::new();
            camera.frame(0, |sample| {
                let key = Stamp::read(sample.payload).expect("a stamp").key;
                if !seen.iter().any(|(layer, _)| *layer == sample.layer) {
                    seen.push((sample.layer, key));
                }
            });
            seen
        };
        assert_eq!(layers(&mut camera), [(0, true), (1, true), (2, true)]);
        camera.enable(2, false);
        assert_eq!(layers(&mut camera), [(0, false), (1, false)]);
        camera.enable(2, true);
        assert_eq!(layers(&mut camera), [(0, false), (1, false), (2, true)]);
    }
}
