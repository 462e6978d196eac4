//! What the forwarder must know of a codec's payload: where key frames and layers begin, and the counters to be rewritten.
//!
//! Only the clear header of the RTP payload format and the dependency descriptor are read; end-to-end encrypted media
//! stays opaque.

mod bits;
mod counters;
mod dependency;
#[cfg(any(test, feature = "bench"))]
#[cfg_attr(not(test), allow(dead_code, reason = "the benchmarks use less of it than the tests"))]
#[allow(clippy::unwrap_used, reason = "support of tests and benchmarks")]
pub(crate) mod scalable;
mod vp8;
mod vp9;

pub(crate) use counters::{Counters, Offsets};
pub(crate) use dependency::{Dependencies, Indication, Structure, with_mask};

use std::sync::Arc;

use super::control::Codec;
use counters::PictureCount;
use dependency::Descriptors;

/// What one packet says of its frame. A frame is one spatial layer of a picture.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    /// Spatial layer within the stream, 0 the lowest (always 0 without SVC).
    pub(crate) spatial: u8,
    /// Temporal layer, 0 the base.
    pub(crate) temporal: u8,
    /// The packet is the first of its frame.
    pub(crate) start: bool,
    /// The packet is the last of its frame; known of scalable streams only, others have the marker.
    pub(crate) end: bool,
    /// Needed by someone who gets a higher spatial layer; otherwise only by those who get this one as their highest.
    pub(crate) for_higher: bool,
    /// Refers to no earlier picture (of its spatial layer); known of VP9 only.
    pub(crate) independent: bool,
    /// Belongs to a key frame. Of VP8, H.264 and AV1 without dependency descriptor known of the first packet only.
    pub(crate) key: bool,
    /// A decoder can start with this packet: it is the first of a key frame.
    pub(crate) key_start: bool,
    /// Layer sync (VP8): refers to the base layer only, so that its temporal layer can be taken up here.
    pub(crate) layer_sync: bool,
    /// Switching-up point (VP9): higher temporal layers can be taken up behind this picture.
    pub(crate) switch_up: bool,
    /// Counts frames where the stream numbers them: packets of a frame share it.
    pub(crate) number: Option<u64>,
    /// Picture id and TL0PICIDX of VP8 and VP9, to be kept continuous over layer switches.
    pub(crate) counters: Option<Counters>,
    /// From the dependency descriptor.
    pub(crate) dependencies: Option<Dependencies>,
}

impl Frame {
    /// Reads the payload descriptor; a malformed one is no key frame and is forwarded as it is.
    pub(crate) fn read(codec: Codec, payload: &[u8]) -> Self {
        match codec {
            Codec::Vp8 => vp8::read(payload),
            Codec::Vp9 => vp9::read(payload),
            Codec::H264 => key_start(h264_key_start(payload)),
            Codec::Av1 => key_start(av1_key_start(payload)),
            Codec::Opus | Codec::Red => key_start(true),
        }
    }
}

fn key_start(key_start: bool) -> Frame {
    Frame { key: key_start, key_start, ..Frame::default() }
}

/// Reads the packets of one stream: counts its frames on, and keeps what the dependency descriptor refers to.
#[derive(Default, Debug)]
pub(crate) struct Reader {
    pictures: PictureCount,
    descriptors: Descriptors,
}

impl Reader {
    /// Reads a packet as it comes. `newest`: no later one has come yet.
    pub(crate) fn read(&mut self, codec: Codec, payload: &[u8], descriptor: Option<&[u8]>, newest: bool) -> Frame {
        let mut frame = Frame::read(codec, payload);
        match descriptor.and_then(|bytes| self.descriptors.read(bytes, newest)) {
            Some(dependencies) => self.describe(&mut frame, dependencies),
            None if self.is_described(descriptor) => {}
            None => frame.number = frame.counters.and_then(|counters| self.pictures.take(&counters)),
        }
        self.number_layers(codec, &mut frame);
        frame
    }

    /// Reads a packet of the stream's recent past.
    pub(crate) fn reread(&self, codec: Codec, payload: &[u8], descriptor: Option<&[u8]>) -> Frame {
        let mut frame = Frame::read(codec, payload);
        match descriptor.and_then(|bytes| self.descriptors.reread(bytes)) {
            Some(dependencies) => self.describe(&mut frame, dependencies),
            None if self.is_described(descriptor) => {}
            None => frame.number = frame.counters.and_then(|counters| self.pictures.of(&counters)),
        }
        self.number_layers(codec, &mut frame);
        frame
    }

    /// The structure of the stream's last key frame, where it has dependency descriptors.
    pub(crate) fn structure(&self) -> Option<&Arc<Structure>> {
        self.descriptors.structure()
    }

    /// Frames are numbered by their descriptors. A packet whose descriptor cannot be read has no number then.
    fn is_described(&self, descriptor: Option<&[u8]>) -> bool {
        descriptor.is_some() || self.structure().is_some()
    }

    /// The descriptor knows better than the payload.
    fn describe(&self, frame: &mut Frame, dependencies: Dependencies) {
        let layer = dependencies.layer();
        (frame.spatial, frame.temporal) = (layer.spatial, layer.temporal);
        (frame.start, frame.end) = (dependencies.start, dependencies.end);
        frame.for_higher = self.descriptors.serves_above(&dependencies);
        frame.key_start |= dependencies.structure && dependencies.start;
        frame.key |= frame.key_start;
        frame.number = Some(dependencies.number);
        frame.dependencies = Some(dependencies);
    }

    /// VP9 numbers pictures, of up to eight spatial layers each.
    fn number_layers(&self, codec: Codec, frame: &mut Frame) {
        if codec == Codec::Vp9 && frame.dependencies.is_none() {
            frame.number = frame.number.map(|picture| picture << 3 | u64::from(frame.spatial));
        }
    }
}

/// RFC 6184: a sequence parameter set, alone, aggregated (STAP-A) or as the start of a fragment (FU-A). libwebrtc puts
/// one before every IDR picture.
fn h264_key_start(payload: &[u8]) -> bool {
    const SPS: u8 = 7;
    match payload {
        [head, rest @ ..] => match head & 0x1f {
            SPS => true,
            24 => {
                let mut rest = rest;
                while let [a, b, tail @ ..] = rest {
                    let len = usize::from(u16::from_be_bytes([*a, *b]));
                    match tail.first() {
                        Some(nal) if nal & 0x1f == SPS => return true,
                        Some(_) if len > 0 && len <= tail.len() => rest = &tail[len..],
                        _ => return false,
                    }
                }
                false
            }
            28 => rest.first().is_some_and(|fu| fu & 0x80 != 0 && fu & 0x1f == SPS),
            _ => false,
        },
        [] => false,
    }
}

/// AOM RTP payload format for AV1 §4.4: N is set on the first packet of a coded video sequence, Z never with it.
fn av1_key_start(payload: &[u8]) -> bool {
    payload.first().is_some_and(|head| head & 0x08 != 0 && head & 0x80 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_frames_are_recognised() {
        let cases: &[(&str, Codec, &[u8], bool)] = &[
            ("VP9 key, base layer", Codec::Vp9, &[0b1010_1000, 0x81, 0x02, 0b0000_0000, 0, 0], true),
            ("VP9 key, second spatial layer", Codec::Vp9, &[0b1010_1000, 0x81, 0x02, 0b0000_0011, 0, 0], false),
            ("VP9 key, not the beginning", Codec::Vp9, &[0b1010_0000, 0x01, 0, 0], false),
            ("VP9 inter", Codec::Vp9, &[0b1110_1000, 0x01, 0, 0], false),
            ("VP9 no layers", Codec::Vp9, &[0b1000_1000, 0x01, 0], true),
            ("VP9 cut off", Codec::Vp9, &[0b1010_1000], false),
            ("H264 SPS", Codec::H264, &[0x67, 0x42], true),
            ("H264 IDR slice", Codec::H264, &[0x65, 0x88], false),
            ("H264 STAP-A AUD, SPS, PPS", Codec::H264, &[0x78, 0, 2, 9, 0x10, 0, 2, 0x67, 0x42, 0, 1, 0x68], true),
            ("H264 STAP-A of slices", Codec::H264, &[0x78, 0, 2, 0x61, 1, 0, 2, 0x61, 1], false),
            ("H264 STAP-A lying about lengths", Codec::H264, &[0x78, 0xff, 0xff, 0x61], false),
            ("H264 STAP-A of nothing", Codec::H264, &[0x78, 0, 0, 0, 0], false),
            ("H264 FU-A start of SPS", Codec::H264, &[0x7c, 0x87, 0], true),
            ("H264 FU-A rest", Codec::H264, &[0x7c, 0x07, 0], false),
            ("AV1 new sequence", Codec::Av1, &[0b0001_1000, 10], true),
            ("AV1 continued", Codec::Av1, &[0b1001_1000, 10], false),
            ("AV1 inter", Codec::Av1, &[0b0001_0000, 50], false),
            ("AV1 empty", Codec::Av1, &[], false),
            ("Opus", Codec::Opus, &[0xfc], true),
        ];
        for (name, codec, payload, expected) in cases {
            assert_eq!(Frame::read(*codec, payload).key_start, *expected, "{name}");
        }
    }
}
