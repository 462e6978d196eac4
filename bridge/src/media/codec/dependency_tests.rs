//! The descriptor against a structure written by hand and against a model of a scalable encoder.

use proptest::prelude::*;

use super::super::scalable::{Encoder, Mode};
use super::*;

const MAX_LEN: usize = 255;

/// The bytes of fields written as binary digits.
fn bytes_of(fields: &[&str]) -> Vec<u8> {
    let mut bytes = [0; MAX_LEN];
    let mut bits = BitWriter::new(&mut bytes);
    for digit in fields.iter().flat_map(|field| field.chars()).filter(char::is_ascii_digit) {
        bits.write(1, digit.to_digit(2).unwrap()).unwrap();
    }
    let len = bits.len();
    bytes[..len].to_vec()
}

/// L1T2 by hand: two templates of T0 (key and delta) and one of T1, two decode targets, one chain.
fn l1t2() -> Vec<u8> {
    bytes_of(&[
        "1 1 000000 0000000001100100", // first and last packet, template 0, frame 100
        "1 0 0 0 0",                   // a structure, nothing else
        "000000 00001",                // its id, two decode targets
        "00 01 11",                    // T0, T0, then T1, no more
        "10 10",                       // T0 key: switch for both targets
        "10 11",                       // T0: switch, required
        "00 01",                       // T1: not present, discardable
        "0",                           // T0 key refers to nothing
        "1 0001 0",                    // T0: two frames ago
        "1 0000 0",                    // T1: the frame before
        "10",                          // one chain: ns(3)
        "0000 0010 0001",              // how far from the chain's last frame each template is
        "0",                           // no resolutions
    ])
}

#[test]
fn a_structure_is_read_and_kept_for_later_packets() {
    let mut reader = Descriptors::default();
    assert!(reader.read(&[0x82, 0, 101], true).is_none(), "no structure yet");
    let key = reader.read(&l1t2(), true).unwrap();
    assert!(key.structure && key.start && key.end);
    assert_eq!((key.number as u16, key.active), (100, 0b11));
    assert_eq!((key.references().count(), key.before_in_chain(0)), (0, None));
    let structure = reader.structure().unwrap();
    let layer = |temporal| Layer { spatial: 0, temporal };
    assert_eq!(structure.targets().collect::<Vec<_>>(), [(1, layer(1)), (0, layer(0))]);
    assert_eq!((structure.chains(), structure.chain_of(0), structure.chain_of(1)), (1, Some(0), Some(0)));
    // Template 2: T1.
    let frame = reader.read(&[0x82, 0, 101], true).unwrap();
    assert_eq!((frame.layer(), frame.start, frame.end), (layer(1), true, false));
    assert_eq!((frame.indication(0), frame.indication(1)), (Indication::NotPresent, Indication::Discardable));
    assert_eq!(frame.references().collect::<Vec<_>>(), [key.number]);
    assert_eq!(frame.before_in_chain(0), Some(key.number));
    assert!(reader.read(&[0x83, 0, 102], true).is_none(), "there is no template 3");
}

#[test]
fn custom_fields_overrule_the_template() {
    let mut reader = Descriptors::default();
    let key = reader.read(&l1t2(), true).unwrap();
    let bytes = bytes_of(&[
        "1 0 000010 0000000001101110", // template 2, frame 110
        "0 1 1 1 1",                   // everything but a structure
        "01",                          // target 0 is active
        "01 10",                       // discardable for it, though, and a switch for target 1: lowest target first
        "10 00001001 00",              // refers to ten frames ago, in eight bits
        "00001010",                    // and so far it is from the chain's last frame
    ]);
    let frame = reader.read(&bytes, true).unwrap();
    assert_eq!(frame.active, 0b01);
    assert_eq!((frame.indication(0), frame.indication(1)), (Indication::Discardable, Indication::Switch));
    assert_eq!(frame.references().collect::<Vec<_>>(), [key.number]);
    assert_eq!(frame.before_in_chain(0), Some(key.number));
    assert_eq!(reader.read(&[0x82, 0, 111], true).unwrap().active, 0b01, "until the next bitmask or structure");
    assert!(reader.read(&bytes[..bytes.len() - 1], true).is_none(), "cut off");
}

#[test]
fn numbers_count_on_over_their_16_bits() {
    let mut reader = Descriptors::default();
    let first = reader.read(&l1t2(), true).unwrap().number;
    let of = |reader: &mut Descriptors, number: u16| {
        let [high, low] = number.to_be_bytes();
        reader.read(&[0x82, high, low], true).unwrap().number
    };
    assert_eq!(of(&mut reader, 30_100), first + 30_000);
    assert_eq!(of(&mut reader, 60_100), first + 60_000);
    assert_eq!(of(&mut reader, 99), first + 65_535);
    assert_eq!(of(&mut reader, 65_535), first + 65_435, "late");
    // An encoder that begins anew does not go back.
    let mut again = l1t2();
    again[2] = 50;
    assert_eq!(reader.read(&again, true).unwrap().number, first + 65_536 - 50 + 65_536);
}

#[test]
fn a_mask_is_added_and_replaced() {
    for mode in Mode::ALL {
        let mut encoder = Encoder::new(mode);
        let mut reader = Descriptors::default();
        for _ in 0..3 {
            for frame in encoder.picture(false) {
                let bytes = frame.descriptor(true, true);
                let read = reader.read(&bytes, true).unwrap();
                let count = reader.structure().unwrap().target_count();
                let mut out = [0; MAX_LEN];
                let Some(len) = with_mask(&bytes, &read, count, 1, &mut out) else {
                    assert!(read.structure);
                    continue;
                };
                let once = reader.reread(&out[..len]).unwrap();
                assert_eq!(once.active, 1, "{mode:?}");
                let mut again = [0; MAX_LEN];
                let len = with_mask(&out[..len], &once, count, 0, &mut again).unwrap();
                let twice = reader.reread(&again[..len]).unwrap();
                assert_eq!(twice.active, 0);
                assert_eq!(
                    (twice.frame, twice.number, twice.start, twice.end),
                    (read.frame, read.number, read.start, read.end)
                );
            }
        }
    }
}

#[test]
fn the_model_encoder_is_understood() {
    for mode in Mode::ALL {
        let mut encoder = Encoder::new(mode);
        let mut reader = Descriptors::default();
        let mut first = None;
        for picture in 0..40 {
            for frame in encoder.picture(picture == 17) {
                let read = reader.read(&frame.descriptor(true, false), true).unwrap();
                let base = *first.get_or_insert(read.number.wrapping_sub(frame.number));
                assert_eq!(read.number - base, frame.number);
                assert_eq!(read.layer(), Layer { spatial: frame.spatial, temporal: frame.temporal });
                let references: Vec<u64> = read.references().map(|number| number - base).collect();
                assert_eq!(references, frame.references, "{mode:?}");
                assert_eq!(read.structure, frame.key && frame.spatial == 0);
                assert_eq!((read.start, read.end), (true, false));
            }
        }
        let structure = reader.structure().unwrap();
        assert_eq!(structure.targets().next().unwrap().1, mode.highest());
        assert_eq!(structure.targets().last().unwrap().1, Layer { spatial: 0, temporal: 0 });
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(
        packets in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..=MAX_LEN), any::<bool>()), 1..8),
        known: bool,
        mask: u32,
    ) {
        let mut reader = Descriptors::default();
        if known {
            reader.read(&l1t2(), true).unwrap();
        }
        for (bytes, newest) in packets {
            if let Some(read) = reader.read(&bytes, newest) {
                let structure = reader.structure().unwrap();
                prop_assert!((1..=MAX_TARGETS).contains(&structure.target_count()));
                for (target, _) in structure.targets() {
                    prop_assert!(structure.chain_of(target).is_none_or(|chain| chain < structure.chains()));
                    read.indication(target);
                }
                read.references().for_each(drop);
                let mut out = [0; MAX_LEN];
                let _ = with_mask(&bytes, &read, structure.target_count(), mask, &mut out);
            }
        }
    }

    #[test]
    fn damaged_descriptors_are_read_without_panic(at in 0usize..20, bit in 0u8..8, pictures in 1usize..6) {
        for mode in Mode::ALL {
            let mut encoder = Encoder::new(mode);
            let mut reader = Descriptors::default();
            for frame in (0..pictures).flat_map(|_| encoder.picture(false)).collect::<Vec<_>>() {
                let mut bytes = frame.descriptor(true, true);
                let len = bytes.len();
                bytes[at % len] ^= 1 << bit;
                let _ = reader.read(&bytes, true);
            }
        }
    }
}
