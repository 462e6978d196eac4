//! VP8's payload descriptor (RFC 7741 §4.2): key frames, temporal layers, picture id and TL0PICIDX.

use super::Frame;
use super::counters::Counters;

pub(super) fn read(payload: &[u8]) -> Frame {
    read_descriptor(payload).unwrap_or_default()
}

fn read_descriptor(payload: &[u8]) -> Option<Frame> {
    let first = *payload.first()?;
    let mut at = 1;
    let (mut counters, mut temporal, mut layer_sync) = (None, 0, false);
    if first & 0x80 != 0 {
        let flags = *payload.get(at)?;
        at += 1;
        let mut found = Counters { picture_id: None, tl0: None };
        if flags & 0x80 != 0 {
            let high = *payload.get(at)?;
            let wide = high & 0x80 != 0;
            let offset = u8::try_from(at).ok()?;
            let id = if wide { u16::from_be_bytes([high & 0x7f, *payload.get(at + 1)?]) } else { u16::from(high) };
            found.picture_id = Some((offset, wide, id));
            at += 1 + usize::from(wide);
        }
        if flags & 0x40 != 0 {
            found.tl0 = Some((u8::try_from(at).ok()?, *payload.get(at)?));
            at += 1;
        }
        if flags & 0x30 != 0 {
            let layer = *payload.get(at)?; // TID(2) Y KEYIDX(5)
            if flags & 0x20 != 0 {
                (temporal, layer_sync) = (layer >> 6, layer & 0x20 != 0);
            }
            at += 1;
        }
        counters = Some(found);
    }
    // S set and partition 0: the frame begins here; P in the frame tag is clear on key frames (RFC 7741 §4.3).
    let start = first & 0x10 != 0 && first & 0x07 == 0;
    let key_start = start && payload.get(at).is_some_and(|tag| tag & 1 == 0);
    Some(Frame { temporal, start, key: key_start, key_start, layer_sync, counters, ..Frame::default() })
}

#[cfg(test)]
mod tests {
    use super::super::counters::Offsets;
    use super::*;
    use proptest::prelude::*;

    /// X, S; I L T K; 15-bit picture id; TL0PICIDX; TID; frame tag.
    fn payload(picture_id: u16, tl0: u8, key: bool) -> Vec<u8> {
        let [high, low] = picture_id.to_be_bytes();
        vec![0x90, 0xe0, 0x80 | high, low, tl0, 0x20, u8::from(!key), 0xaa]
    }

    #[test]
    fn a_key_frame_begins_in_partition_0() {
        assert!(read(&payload(5, 1, true)).key_start);
        assert!(!read(&payload(5, 1, false)).key_start);
        assert!(read(&[0x10, 0x00]).key_start, "no extension");
        assert!(!read(&[0x00, 0x00]).key_start, "not the start");
        assert!(!read(&[0x11, 0x00]).key_start, "partition 1");
        assert_eq!(read(&[0x90, 0x80, 0x80]), Frame::default(), "cut off");
    }

    #[test]
    fn temporal_layers_are_read() {
        let of = |layer: u8| read(&[0x90, 0xf0, 0x80, 1, 7, layer, 1, 0xaa]);
        assert_eq!((of(0x00).temporal, of(0x00).layer_sync), (0, false));
        assert_eq!((of(0xa3).temporal, of(0xa3).layer_sync), (2, true), "Y: layer sync");
        let key_index_only = read(&[0x90, 0x10, 0xff, 1]);
        assert_eq!(
            (key_index_only.temporal, key_index_only.layer_sync),
            (0, false),
            "T is clear: TID and Y are undefined"
        );
    }

    #[test]
    fn counters_go_on_after_a_switch() {
        let first = payload(100, 7, true);
        let counters = read(&first).counters.unwrap();
        let offsets = Offsets::after(Some((0x7fff, 255)), &counters);
        let mut copy = first.clone();
        offsets.rewrite(&counters, &mut copy);
        assert_eq!(copy, payload(0, 0, true));
        let next = payload(101, 8, false);
        let counters = read(&next).counters.unwrap();
        let mut copy = next.clone();
        offsets.rewrite(&counters, &mut copy);
        assert_eq!(copy, payload(1, 1, false));
    }

    #[test]
    fn a_narrow_picture_id_stays_narrow() {
        let narrow = [0x90, 0x80, 0x7f, 0x00];
        let counters = read(&narrow).counters.unwrap();
        let mut copy = narrow;
        Offsets::after(Some((0x7fff, 0)), &counters).rewrite(&counters, &mut copy);
        assert_eq!(copy, [0x90, 0x80, 0x00, 0x00]);
    }

    proptest! {
        #[test]
        fn rewriting_any_payload_keeps_its_size_and_shape(bytes in proptest::collection::vec(any::<u8>(), 0..20), id: u16, tl0: u8) {
            let frame = read(&bytes);
            if let Some(counters) = frame.counters {
                let offsets = Offsets::after(Some((id & 0x7fff, tl0)), &counters);
                let mut copy = bytes.clone();
                offsets.rewrite(&counters, &mut copy);
                let again = read(&copy);
                prop_assert_eq!(again.key_start, frame.key_start);
                if counters.tl0.is_some() {
                    prop_assert_eq!(again.counters.unwrap().tl0.unwrap().1, tl0.wrapping_add(1));
                }
            }
        }
    }
}
