//! VP9's payload descriptor (RFC 9628 §4.2): layers, references and where a picture of a layer begins and ends.

use super::Frame;
use super::counters::Counters;

/// More pictures than this a frame cannot refer to (RFC 9628 §4.2.1).
const MAX_REFERENCES: usize = 3;

pub(super) fn read(payload: &[u8]) -> Frame {
    read_descriptor(payload).unwrap_or_default()
}

fn read_descriptor(payload: &[u8]) -> Option<Frame> {
    let flags = *payload.first()?; // I P L F B E V Z
    let flag = |bit: u8| flags & bit != 0;
    let (inter_picture, flexible) = (flag(0x40), flag(0x10));
    let mut at = 1;
    let mut counters = None;
    if flag(0x80) {
        let high = *payload.get(at)?;
        let wide = high & 0x80 != 0;
        let id = if wide { u16::from_be_bytes([high & 0x7f, *payload.get(at + 1)?]) } else { u16::from(high) };
        counters = Some(Counters { picture_id: Some((u8::try_from(at).ok()?, wide, id)), tl0: None });
        at += 1 + usize::from(wide);
    }
    let mut frame = Frame { start: flag(0x08), end: flag(0x04), for_higher: !flag(0x01), ..Frame::default() };
    let mut inter_layer = false;
    if flag(0x20) {
        let layer = *payload.get(at)?; // TID(3) U SID(3) D
        (frame.temporal, frame.switch_up, frame.spatial) = (layer >> 5, layer & 0x10 != 0, layer >> 1 & 7);
        inter_layer = layer & 1 != 0;
        at += 1;
        if !flexible {
            let tl0 = (u8::try_from(at).ok()?, *payload.get(at)?);
            if let Some(counters) = &mut counters {
                counters.tl0 = Some(tl0);
            }
            at += 1;
        }
    }
    if flexible && inter_picture {
        for _ in 0..MAX_REFERENCES {
            let reference = *payload.get(at)?; // P_DIFF(7) N
            at += 1;
            if reference & 1 == 0 {
                break;
            }
        }
    }
    if flag(0x02) {
        at = skip_scalability_structure(payload, at)?;
    }
    payload.get(at)?; // a descriptor without anything behind it is cut off
    frame.counters = counters;
    frame.independent = !inter_picture;
    frame.key = !inter_picture && (frame.spatial == 0 || inter_layer);
    frame.key_start = !inter_picture && frame.start && frame.spatial == 0;
    Some(frame)
}

/// The scalability structure says sizes and a pattern of pictures, which the forwarder need not know.
fn skip_scalability_structure(payload: &[u8], mut at: usize) -> Option<usize> {
    let head = *payload.get(at)?; // N_S(3) Y G
    at += 1;
    if head & 0x10 != 0 {
        at += 4 * (usize::from(head >> 5) + 1); // width and height of each spatial layer
    }
    if head & 0x08 != 0 {
        let pictures = *payload.get(at)?;
        at += 1;
        for _ in 0..pictures {
            let picture = *payload.get(at)?; // TID(3) U R(2)
            at += 1 + usize::from(picture >> 2 & 3);
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// I, P, L, F, B, E, V, Z as named.
    fn flags(names: &str) -> u8 {
        "IPLFBEVZ".chars().enumerate().map(|(i, name)| u8::from(names.contains(name)) << (7 - i)).sum()
    }

    #[test]
    fn layers_are_read_in_flexible_mode() {
        // Picture 0x1234, TID 2, U, SID 1, D; two references; a byte of VP9.
        let payload = [flags("IPLFBZ"), 0x92, 0x34, 2 << 5 | 0x10 | 1 << 1 | 1, 3 << 1 | 1, 5 << 1, 0xaa];
        let frame = read(&payload);
        assert_eq!((frame.spatial, frame.temporal, frame.switch_up), (1, 2, true));
        assert_eq!((frame.start, frame.end, frame.for_higher), (true, false, false));
        assert!(!frame.key && !frame.key_start && !frame.independent);
        let counters = frame.counters.unwrap();
        assert_eq!((counters.picture_id, counters.tl0), (Some((1, true, 0x1234)), None));
        assert_eq!(read(&payload[..6]), Frame::default(), "cut off");
    }

    #[test]
    fn counters_are_read_in_non_flexible_mode_behind_a_structure() {
        // 7-bit picture id, TL0PICIDX 9; two spatial layers with sizes, two pictures in a group.
        let structure = [1 << 5 | 0x18, 1, 64, 0, 180, 2, 128, 1, 104, 2, 0, 1 << 5 | 0x10 | 1 << 2, 1];
        let mut payload = vec![flags("ILBEV"), 0x45, 0, 9];
        payload.extend(structure);
        payload.push(0xaa);
        let frame = read(&payload);
        let counters = frame.counters.unwrap();
        assert_eq!((counters.picture_id, counters.tl0), (Some((1, false, 0x45)), Some((3, 9))));
        assert!(frame.key && frame.key_start && frame.end && frame.for_higher);
        payload.pop();
        assert_eq!(read(&payload), Frame::default(), "cut off");
    }

    #[test]
    fn an_upper_layer_of_a_key_picture_is_no_start() {
        let frame = read(&[flags("ILFB"), 0x05, 1 << 1 | 1, 0xaa]);
        assert!(frame.key && !frame.key_start && frame.independent);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let frame = read(&bytes);
            prop_assert!(!frame.key_start || frame.spatial == 0);
        }
    }
}
