//! Generated media whose every packet says where it comes from: VP8 in three simulcast layers, and Opus.
//!
//! The payloads are not decodable pictures, but look like VP8 and Opus to whoever forwards them (RFC 7741 §4.2: payload
//! descriptor with picture id, TL0PICIDX and temporal id; RFC 6386 §9.1: frame tag and key frame header). After these
//! comes a [`Stamp`] and bytes that follow from it, so that a receiver can tell any change on the way.

use bytes::{BufMut, Bytes, BytesMut};

/// The simulcast layers in their order on the wire: rid, width, height, packets per frame.
pub const LAYERS: [(&str, u32, u32, u8); 3] = [("q", 320, 180, 1), ("h", 640, 360, 2), ("f", 1280, 720, 4)];
/// The layer number of audio in a [`Stamp`].
pub const AUDIO: u8 = 9;
/// Bytes of filling in a video packet.
const VIDEO_FILL: usize = 950;
/// Bytes of filling in an audio packet.
const AUDIO_FILL: usize = 60;
/// VP8 payload descriptor as written here: X|S, I|L|T, 15-bit picture id, TL0PICIDX, TID|Y.
const DESCRIPTOR: usize = 6;
/// Bytes before the stamp in the first packet of a frame: frame tag, start code, width and height.
const FRAME_HEADER: usize = 10;

/// Where a packet comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The publisher's number.
    pub publisher: u32,
    /// Index into [`LAYERS`], or [`AUDIO`].
    pub layer: u8,
    /// Counts the packets of this publisher and layer from 0.
    pub counter: u32,
}

impl Stamp {
    const SIZE: usize = 9;

    fn fill(self) -> u8 {
        let mix = self.publisher.wrapping_mul(31) ^ self.counter.wrapping_mul(17) ^ u32::from(self.layer);
        mix.to_le_bytes()[0]
    }

    fn write(self, out: &mut BytesMut, fill: usize) {
        out.put_u32(self.publisher);
        out.put_u8(self.layer);
        out.put_u32(self.counter);
        out.put_bytes(self.fill(), fill);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (head, fill) = bytes.split_at_checked(Self::SIZE)?;
        let stamp = Self {
            publisher: u32::from_be_bytes(head.get(..4)?.try_into().ok()?),
            layer: *head.get(4)?,
            counter: u32::from_be_bytes(head.get(5..9)?.try_into().ok()?),
        };
        (!fill.is_empty() && fill.iter().all(|byte| *byte == stamp.fill())).then_some(stamp)
    }
}

/// The packets of one frame, payloads only.
#[must_use]
pub fn vp8_frame(publisher: u32, layer: u8, first_counter: u32, picture: u16, key: bool) -> Vec<Bytes> {
    let (_, width, height, packets) = LAYERS[usize::from(layer)];
    (0..packets)
        .map(|index| {
            let mut out = BytesMut::with_capacity(1200);
            out.put_u8(0x80 | if index == 0 { 0x10 } else { 0 }); // X, S
            out.put_u8(0xE0); // I, L, T
            out.put_u16(0x8000 | picture & 0x7FFF);
            out.put_u8(picture.to_le_bytes()[0]); // TL0PICIDX: every frame is of the base temporal layer
            out.put_u8(0x20); // TID 0, Y
            if index == 0 {
                out.put_slice(&[if key { 0x10 } else { 0x11 }, 0x02, 0x00, 0x9D, 0x01, 0x2A]);
                out.put_u16_le(u16::try_from(width).unwrap_or(u16::MAX));
                out.put_u16_le(u16::try_from(height).unwrap_or(u16::MAX));
            }
            Stamp { publisher, layer, counter: first_counter + u32::from(index) }.write(&mut out, VIDEO_FILL);
            out.freeze()
        })
        .collect()
}

/// One Opus packet's payload: a table-of-contents byte (CELT, 20 ms, mono) and a stamp.
#[must_use]
pub fn opus(publisher: u32, counter: u32) -> Bytes {
    let mut out = BytesMut::with_capacity(80);
    out.put_u8(0xF8);
    Stamp { publisher, layer: AUDIO, counter }.write(&mut out, AUDIO_FILL);
    out.freeze()
}

/// Reads the stamp back from a received payload; `None` if anything in it was changed.
#[must_use]
pub fn stamp(payload: &[u8], video: bool) -> Option<Stamp> {
    if !video {
        return Stamp::read(payload.get(1..)?);
    }
    let (first, flags) = (*payload.first()?, *payload.get(1)?);
    // A forwarder may shorten the picture id to 7 bits, never drop fields that were there.
    let long = *payload.get(2)? & 0x80 != 0;
    let descriptor =
        if first & 0x80 == 0 || flags & 0xE0 != 0xE0 { return None } else { DESCRIPTOR - usize::from(!long) };
    let header = if first & 0x10 != 0 { FRAME_HEADER } else { 0 };
    Stamp::read(payload.get(descriptor + header..)?)
}

/// Whether a VP8 payload is a key frame's beginning (RFC 6386 §9.1: the frame tag's lowest bit is 0).
#[must_use]
pub fn is_key_start(payload: &[u8]) -> bool {
    let long = payload.get(2).is_some_and(|byte| byte & 0x80 != 0);
    let tag = payload.get(DESCRIPTOR - usize::from(!long));
    payload.first().is_some_and(|first| first & 0x10 != 0) && tag.is_some_and(|tag| tag & 1 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_survive_and_changes_show() {
        let frame = vp8_frame(7, 2, 100, 0x1234, true);
        assert_eq!(frame.len(), 4);
        for (index, packet) in (0u32..).zip(&frame) {
            assert_eq!(stamp(packet, true), Some(Stamp { publisher: 7, layer: 2, counter: 100 + index }));
        }
        let mut changed = frame[3].to_vec();
        changed[500] ^= 1;
        assert_eq!(stamp(&changed, true), None);
        assert_eq!(stamp(&opus(3, 9), false), Some(Stamp { publisher: 3, layer: AUDIO, counter: 9 }));
        assert_eq!(stamp(&[], true), None);
    }
}
