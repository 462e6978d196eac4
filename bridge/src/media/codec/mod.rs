//! What the forwarder must know of a codec's payload: where a key frame begins, and VP8's counters.
//!
//! Only the clear header of the RTP payload format is read; end-to-end encrypted media stays opaque.

mod vp8;

pub(crate) use vp8::{Counters as Vp8Counters, Offsets as Vp8Offsets};

use super::control::Codec;

/// What one packet's payload says.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    /// Spatial layer within the stream, 0 the lowest (always 0 without SVC).
    pub(crate) spatial: u8,
    /// Temporal layer, 0 the base.
    pub(crate) temporal: u8,
    /// A decoder can start with this packet: it is the first of a key frame.
    pub(crate) key_start: bool,
    /// From this picture on, its temporal layer can be decoded by someone who has only had the lower ones.
    pub(crate) switch_up: bool,
    /// VP8's picture id and TL0PICIDX, to be kept continuous over layer switches.
    pub(crate) vp8: Option<Vp8Counters>,
}

impl Frame {
    /// Reads the payload descriptor; a malformed one is no key frame and is forwarded as it is.
    pub(crate) fn read(codec: Codec, payload: &[u8]) -> Self {
        match codec {
            Codec::Vp8 => vp8::read(payload),
            Codec::Vp9 => Self { key_start: vp9_key_start(payload), ..Self::default() },
            Codec::H264 => Self { key_start: h264_key_start(payload), ..Self::default() },
            Codec::Av1 => Self { key_start: av1_key_start(payload), ..Self::default() },
            Codec::Opus | Codec::Red => Self { key_start: true, ..Self::default() },
        }
    }
}

/// RFC 9628 §4.2: not inter-picture predicted, beginning of a frame, base spatial layer.
fn vp9_key_start(payload: &[u8]) -> bool {
    let [flags, rest @ ..] = payload else { return false };
    let (i, p, l, b) = (flags & 0x80 != 0, flags & 0x40 != 0, flags & 0x20 != 0, flags & 0x08 != 0);
    if p || !b {
        return false;
    }
    let picture_id = match rest.first() {
        _ if !i => 0,
        Some(first) => 1 + usize::from(first & 0x80 != 0),
        None => return false,
    };
    // TID(3) U SID(3) D
    !l || rest.get(picture_id).is_some_and(|layer| layer >> 1 & 7 == 0)
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
            ("VP9 flexible key, base layer", Codec::Vp9, &[0b1010_1000, 0x81, 0x02, 0b0000_0000, 0], true),
            ("VP9 key, second spatial layer", Codec::Vp9, &[0b1010_1000, 0x81, 0x02, 0b0000_0011, 0], false),
            ("VP9 key, not the beginning", Codec::Vp9, &[0b1010_0000, 0x01, 0, 0], false),
            ("VP9 inter", Codec::Vp9, &[0b1110_1000, 0x01, 0, 0], false),
            ("VP9 no layers", Codec::Vp9, &[0b1000_1000, 0x01], true),
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
