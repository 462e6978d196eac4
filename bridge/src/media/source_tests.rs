//! What a decoder makes of what a leg takes: model streams go through [`Source`] with layers changed at random, packets
//! lost, late and doubled, and a reference decoder looks at the result.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::super::codec::Reader;
use super::super::codec::scalable::{Encoder, Frame as Made, Mode};
use super::super::rtp::{Header, Outgoing, OutgoingExtensions, Values, payload};
use super::*;

/// How the stream is coded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Coding {
    Av1,
    /// With dependency descriptor.
    Vp9Described,
    /// With its payload descriptor only.
    Vp9,
    Vp8,
}

const PACKETS: u64 = 2;
const DESCRIPTOR: u8 = 12;

/// One packet of the stream.
#[derive(Clone)]
struct Sent {
    index: u64,
    bytes: Vec<u8>,
    frame: Made,
    /// Which of the frame's packets.
    part: u64,
}

/// A publisher's stream.
struct Stream {
    coding: Coding,
    mode: Mode,
    encoder: Encoder,
    index: u64,
    picture: u64,
    /// Pictures since the last key picture.
    since: u64,
    tl0: u8,
}

impl Stream {
    fn new(coding: Coding, mode: Mode) -> Self {
        Self { coding, mode, encoder: Encoder::new(mode), index: 65_530, picture: 32_760, since: 0, tl0: 250 }
    }

    fn payload(&self, frame: &Made, part: u64) -> Vec<u8> {
        let (start, end) = (part == 0, part + 1 == PACKETS);
        let id = (self.picture as u16 & 0x7fff | 0x8000).to_be_bytes();
        match self.coding {
            Coding::Av1 => vec![if frame.key && frame.spatial == 0 && start { 0x08 } else { 0 }, 0xaa],
            Coding::Vp8 => {
                // What is not layer sync refers to something above the base layer.
                let sync = frame.temporal > 0 && self.since % 4 != 3;
                let layer = frame.temporal << 6 | u8::from(sync) << 5;
                let first = 0x80 | u8::from(start) << 4;
                vec![first, 0xe0, id[0], id[1], self.tl0, layer, u8::from(!frame.key), 0xaa]
            }
            Coding::Vp9 | Coding::Vp9Described => {
                let serves = !frame.last && (frame.key || self.mode != Mode::L3T3Key);
                let flags = 0x80
                    | u8::from(!frame.key) << 6
                    | 0x20
                    | u8::from(start) << 3
                    | u8::from(end) << 2
                    | u8::from(!serves);
                let inter_layer = frame.spatial > 0 && (frame.key || self.mode != Mode::L3T3Key);
                let layer = frame.temporal << 5 | 0x10 | frame.spatial << 1 | u8::from(inter_layer);
                vec![flags, id[0], id[1], layer, self.tl0, 0xaa]
            }
        }
    }

    /// The packets of the next picture.
    fn picture(&mut self, key: bool) -> Vec<Sent> {
        let frames = self.encoder.picture(key);
        if frames[0].key {
            self.since = 0;
        }
        if frames[0].temporal == 0 {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        let timestamp = (self.picture as u32).wrapping_mul(3000);
        let mut all = Vec::new();
        for frame in frames {
            for part in 0..PACKETS {
                let descriptor = frame.descriptor(part == 0, part + 1 == PACKETS);
                let described = !matches!(self.coding, Coding::Vp8 | Coding::Vp9);
                let values: &[(u8, &[u8])] = if described { &[(DESCRIPTOR, &descriptor)] } else { &[] };
                let header = Outgoing {
                    marker: frame.last && part + 1 == PACKETS,
                    payload_type: 96,
                    sequence: self.index as u16,
                    timestamp,
                    ssrc: 1,
                };
                let mut bytes = Vec::new();
                OutgoingExtensions::of(values).write(&header, &mut bytes);
                bytes.extend(self.payload(&frame, part));
                all.push(Sent { index: self.index, bytes, frame: frame.clone(), part });
                self.index += 1;
            }
        }
        self.picture += 1;
        self.since += 1;
        all
    }
}

/// What a subscriber got.
#[derive(Clone, Debug)]
struct Got {
    index: u64,
    source: u64,
    marker: bool,
    timestamp: u32,
    payload: Vec<u8>,
    descriptor: Option<Vec<u8>>,
}

/// A leg on one stream.
struct Line {
    codec: Codec,
    reader: Reader,
    highest: Option<u64>,
    now: Instant,
    progress: Progress,
    source: Option<Source>,
    limit: Layer,
    got: Vec<Got>,
}

impl Line {
    fn new(coding: Coding, limit: Layer) -> Self {
        let codec = match coding {
            Coding::Av1 => Codec::Av1,
            Coding::Vp8 => Codec::Vp8,
            Coding::Vp9 | Coding::Vp9Described => Codec::Vp9,
        };
        let progress = Progress::new(1000);
        let now = Instant::now();
        Self { codec, reader: Reader::default(), highest: None, now, progress, source: None, limit, got: Vec::new() }
    }

    /// A packet comes; true if it is taken.
    fn receive(&mut self, sent: &Sent) -> bool {
        let header = Header::read(&sent.bytes).unwrap();
        let payload = payload(&header, &sent.bytes).unwrap();
        let dependency_descriptor = header.elements(&sent.bytes).next().map(|(_, value)| value);
        let newest = self.highest.is_none_or(|highest| sent.index > highest);
        self.highest = self.highest.max(Some(sent.index));
        let frame = self.reader.read(self.codec, payload, dependency_descriptor, newest);
        self.now += Duration::from_millis(3);
        let packet = Packet {
            layer: 0,
            index: sent.index,
            header,
            values: Values { dependency_descriptor, ..Values::default() },
            bare: false,
            payload,
            padding: 0,
            codec: self.codec,
            frame,
            structure: self.reader.structure().map(|structure| &**structure),
            clock: None,
            earlier: None,
            newest,
            arrived: self.now,
        };
        if self.source.is_none() {
            if !(newest && frame.key_start) {
                return false;
            }
            self.source = Some(Source::new(&packet, self.limit, (None, &self.progress), 90_000));
        }
        let source = self.source.as_mut().unwrap();
        let Some((index, rewrite)) = source.take(&packet, self.now, self.limit, &mut self.progress) else {
            return false;
        };
        let mut copy = payload.to_vec();
        rewrite.payload(frame.counters.as_ref(), &mut copy);
        let mut buffer = [0; MAX_DESCRIPTOR];
        let descriptor = rewrite.descriptor(&packet, &mut buffer).map(<[u8]>::to_vec);
        let Rewrite { marker, timestamp, .. } = rewrite;
        self.got.push(Got { index, source: sent.index, marker, timestamp, payload: copy, descriptor });
        true
    }

    fn lacks(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.selection.lacks(self.limit))
    }

    fn flowing(&self) -> Layer {
        self.source.as_ref().unwrap().selection.flowing()
    }
}

/// Checks what was got of what was sent, with packets `lost` on the way in, and others that came so late that what
/// refers to them had to be decided on without them (`undecided`) and were left out: whatever is taken is whole and refers
/// to nothing that was left out, numbers have no gaps but for losses, and every picture ends with a marker.
fn check(sent: &[Sent], lost: &HashSet<u64>, undecided: &HashSet<u64>, got: &[Got], coding: Coding) {
    let by_index: HashMap<u64, &Sent> = sent.iter().map(|sent| (sent.index, sent)).collect();
    let mut frames: BTreeMap<u64, HashSet<u64>> = BTreeMap::new();
    for packet in got {
        let sent = by_index[&packet.source];
        assert!(frames.entry(sent.frame.number).or_default().insert(sent.part), "{packet:?} twice");
    }
    let missing: HashSet<u64> = lost.union(undecided).copied().collect();
    let lost_frames: HashSet<u64> = missing.iter().map(|index| by_index[index].frame.number).collect();
    for (number, parts) in &frames {
        assert!(parts.len() as u64 == PACKETS || lost_frames.contains(number), "frame {number} is cut");
        let frame = &sent.iter().find(|sent| sent.frame.number == *number).unwrap().frame;
        for reference in &frame.references {
            assert!(
                frames.contains_key(reference) || lost_frames.contains(reference),
                "{coding:?}: frame {number} of ({}, {}) refers to {reference}, which was left out",
                frame.spatial,
                frame.temporal,
            );
        }
    }
    // Sequence numbers follow the order of sending, without gaps but for losses.
    let mut in_order = got.to_vec();
    in_order.sort_by_key(|got| got.source);
    for pair in in_order.windows(2) {
        let gap = pair[1].index.checked_sub(pair[0].index + 1).expect("in order");
        let missing = missing.iter().filter(|index| (pair[0].source..pair[1].source).contains(index)).count();
        assert!(gap as usize <= missing, "{gap} numbers missing for {missing} losses");
        assert!(pair[1].timestamp.wrapping_sub(pair[0].timestamp).cast_signed() >= 0);
    }
    if missing.is_empty() {
        for pair in in_order.windows(2) {
            assert_eq!(pair[0].timestamp != pair[1].timestamp, pair[0].marker, "{coding:?}: {pair:?}");
        }
    }
    if coding == Coding::Vp8 {
        for pair in in_order.windows(2).filter(|_| missing.is_empty()) {
            let numbers = |got: &Got| (u16::from_be_bytes([got.payload[2] & 0x7f, got.payload[3]]), got.payload[4]);
            let (before, after) = (numbers(&pair[0]), numbers(&pair[1]));
            let step = u16::from(pair[0].marker);
            let base = pair[0].marker && pair[1].payload[5] >> 6 == 0;
            assert_eq!(after.0, before.0.wrapping_add(step) & 0x7fff, "picture ids go on");
            assert_eq!(after.1, before.1.wrapping_add(base.into()), "TL0PICIDX counts base pictures");
        }
    }
}

const ALL: Layer = Layer { spatial: u8::MAX, temporal: u8::MAX };

fn layer(spatial: u8, temporal: u8) -> Layer {
    Layer { spatial, temporal }
}

/// Runs (pictures, limit) one after another; returns the layers taken in each.
fn run(coding: Coding, mode: Mode, phases: &[(usize, Layer, bool)]) -> Vec<Vec<(u8, u8)>> {
    let mut stream = Stream::new(coding, mode);
    let mut line = Line::new(coding, phases[0].1);
    let (mut sent, mut taken) = (Vec::new(), Vec::new());
    for (pictures, limit, key) in phases {
        line.limit = *limit;
        let mut seen = Vec::new();
        for picture in 0..*pictures {
            for packet in stream.picture(*key && picture == 0) {
                let taken = line.receive(&packet);
                if taken && packet.part == 0 {
                    seen.push((packet.frame.spatial, packet.frame.temporal));
                }
                sent.push(packet);
            }
        }
        taken.push(seen);
    }
    check(&sent, &HashSet::new(), &HashSet::new(), &line.got, coding);
    taken
}

#[test]
fn temporal_layers_go_at_once_and_come_at_a_switch_point() {
    for (coding, mode) in [
        (Coding::Vp8, Mode::L1T3),
        (Coding::Vp9, Mode::L1T3),
        (Coding::Av1, Mode::L1T3),
        (Coding::Vp9Described, Mode::L1T3),
    ] {
        let phases = [
            (8, ALL, true),
            (8, layer(0, 0), false),
            (8, layer(0, 1), false),
            (8, ALL, false),
            (4, layer(0, 0), false),
        ];
        let all = run(coding, mode, &phases)
            .iter()
            .map(|seen| seen.iter().map(|layer| layer.1).collect())
            .collect::<Vec<Vec<_>>>();
        assert_eq!(all[0], [0, 2, 1, 2, 0, 2, 1, 2], "{coding:?}");
        assert_eq!(all[1], [0, 0], "{coding:?}");
        assert_eq!(all[2], [0, 1, 0, 1], "{coding:?}");
        assert_eq!(all[3], [0, 2, 1, 2, 0, 2, 1, 2], "{coding:?}");
        assert_eq!(all[4], [0], "{coding:?}");
    }
}

#[test]
fn spatial_layers_build_on_each_other() {
    for coding in [Coding::Av1, Coding::Vp9Described, Coding::Vp9] {
        let phases =
            [(4, ALL, true), (4, layer(1, 9), false), (4, layer(0, 9), false), (4, ALL, false), (4, ALL, true)];
        let all = run(coding, Mode::L3T3, &phases);
        let spatial: Vec<Vec<u8>> = all.iter().map(|seen| seen.iter().map(|layer| layer.0).collect()).collect();
        assert_eq!(spatial[0], [0, 1, 2].repeat(4), "{coding:?}");
        assert_eq!(spatial[1], [0, 1].repeat(4), "{coding:?}: down at once");
        assert_eq!(spatial[2], [0].repeat(4), "{coding:?}");
        assert_eq!(spatial[3], [0].repeat(4), "{coding:?}: not up without a key frame");
        assert_eq!(spatial[4], [0, 1, 2].repeat(4), "{coding:?}");
    }
}

#[test]
fn in_key_modes_only_the_highest_layer_flows() {
    for coding in [Coding::Av1, Coding::Vp9Described, Coding::Vp9] {
        let phases = [(8, ALL, true), (8, layer(0, 9), false), (8, layer(0, 9), true), (4, layer(1, 9), true)];
        let all = run(coding, Mode::L3T3Key, &phases);
        assert_eq!(all[0][..3], [(0, 0), (1, 0), (2, 0)], "{coding:?}");
        assert!(all[0][3..].iter().all(|layer| layer.0 == 2) && all[0].len() == 10, "{coding:?}: {:?}", all[0]);
        if coding != Coding::Vp9 {
            assert_eq!(all[1], [(2, 0), (2, 0)], "{coding:?}: until the key frame, the least there is");
        }
        assert_eq!(all[2], [0, 2, 1, 2, 0, 2, 1, 2].map(|temporal| (0, temporal)), "{coding:?}");
        assert_eq!(all[3], [(0, 0), (1, 0), (1, 2), (1, 1), (1, 2)], "{coding:?}");
    }
}

#[test]
fn a_key_frame_is_lacked_where_nothing_else_leads_up() {
    let mut stream = Stream::new(Coding::Av1, Mode::L3T3Key);
    let mut line = Line::new(Coding::Av1, layer(1, 9));
    let mut pictures = |line: &mut Line, key: bool| {
        for picture in 0..4 {
            for packet in stream.picture(key && picture == 0) {
                line.receive(&packet);
            }
        }
        (line.lacks(), line.flowing())
    };
    assert_eq!(pictures(&mut line, true), (false, layer(1, 2)));
    line.limit = ALL;
    assert!(line.lacks(), "known at once");
    assert_eq!(pictures(&mut line, false), (true, layer(1, 2)));
    assert_eq!(pictures(&mut line, true), (false, layer(2, 2)));
    line.limit = layer(7, 1);
    assert_eq!(pictures(&mut line, false), (false, layer(2, 1)), "the highest there is will do");
    line.limit = layer(0, 2);
    assert_eq!(pictures(&mut line, false), (true, layer(2, 0)));
}

#[test]
fn the_mask_names_what_can_be_decoded() {
    let mut stream = Stream::new(Coding::Av1, Mode::L3T3);
    let mut line = Line::new(Coding::Av1, layer(1, 1));
    let mut reader = Reader::default();
    for _ in 0..6 {
        for packet in stream.picture(false) {
            line.receive(&packet);
        }
    }
    for got in &line.got {
        let descriptor = got.descriptor.as_deref().unwrap();
        let dependencies = reader.read(Codec::Av1, &[0, 0], Some(descriptor), true).dependencies.unwrap();
        if dependencies.start && !dependencies.structure {
            // Targets (spatial, temporal) are numbered 3 s + t: (0, 0), (0, 1), (1, 0), (1, 1).
            assert_eq!(dependencies.active, 0b000_011_011);
        }
    }
}

#[test]
fn numbers_go_on_over_a_change_of_streams() {
    for coding in [Coding::Av1, Coding::Vp9Described, Coding::Vp8] {
        let mut line = Line::new(coding, layer(0, 0));
        let (mut frame_numbers, mut reader) = (Vec::new(), Reader::default());
        for _ in 0..3 {
            let mut stream = Stream::new(coding, Mode::L1T3);
            line.reader = Reader::default();
            line.highest = None;
            line.now += Duration::from_millis(500);
            for picture in 0..9 {
                for packet in stream.picture(picture == 0) {
                    if picture == 0 && packet.part == 0 {
                        line.source = None; // another stream
                    }
                    line.receive(&packet);
                }
            }
        }
        assert_eq!(line.got.len(), 3 * 3 * PACKETS as usize);
        for pair in line.got.windows(2) {
            assert_eq!(pair[1].index, pair[0].index + 1);
            let ticks = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
            assert_eq!(ticks > 0, pair[0].marker);
            assert!(ticks < 90_000);
        }
        for got in line.got.iter().filter(|_| coding != Coding::Vp8) {
            let frame = reader.read(line.codec, &got.payload, got.descriptor.as_deref(), true);
            frame_numbers.push(frame.dependencies.unwrap().number);
        }
        assert!(frame_numbers.is_sorted(), "{frame_numbers:?}");
        frame_numbers.dedup();
        assert_eq!(frame_numbers.len(), if coding == Coding::Vp8 { 0 } else { 9 });
    }
}

/// Found by the property below: what was left out before a key picture is not there for a frame that comes after it.
#[test]
fn a_late_frame_from_before_a_key_picture_is_not_taken_where_its_layer_was_left_out() {
    let mut stream = Stream::new(Coding::Vp9, Mode::L3T3Key);
    let mut line = Line::new(Coding::Vp9, ALL);
    let (mut sent, mut late) = (Vec::new(), Vec::new());
    for picture in 0..9 {
        for packet in stream.picture(picture == 8) {
            sent.push(packet.clone());
            if matches!(picture, 4 | 7) && packet.frame.spatial == 0 {
                late.push(packet);
            } else {
                line.receive(&packet);
            }
        }
    }
    let taken = late.iter().filter(|packet| line.receive(packet)).count();
    assert_eq!(taken, 0, "the base layer did not flow");
    let undecided = late.iter().map(|packet| packet.index).collect();
    check(&sent, &HashSet::new(), &undecided, &line.got, Coding::Vp9);
}

fn coding_and_mode() -> impl Strategy<Value = (Coding, Mode)> {
    prop_oneof![
        (Just(Coding::Av1), proptest::sample::select(Mode::ALL.to_vec())),
        (Just(Coding::Vp9Described), proptest::sample::select(Mode::ALL.to_vec())),
        (Just(Coding::Vp9), proptest::sample::select(Mode::ALL.to_vec())),
        (Just(Coding::Vp8), proptest::sample::select(vec![Mode::L1T1, Mode::L1T3])),
    ]
}

/// What happens at a picture: another limit, a key frame.
fn happenings() -> impl Strategy<Value = Vec<(Option<(u8, u8)>, bool)>> {
    let limit = proptest::option::weighted(0.2, (0u8..4, 0u8..4));
    proptest::collection::vec((limit, proptest::bool::weighted(0.08)), 10..120)
}

proptest! {
    #[test]
    fn whatever_is_taken_can_be_decoded((coding, mode) in coding_and_mode(), happenings in happenings()) {
        let mut stream = Stream::new(coding, mode);
        let mut line = Line::new(coding, ALL);
        let mut sent = Vec::new();
        for (limit, key) in happenings {
            if let Some((spatial, temporal)) = limit {
                line.limit = layer(spatial, temporal);
            }
            for packet in stream.picture(key) {
                line.receive(&packet);
                sent.push(packet);
            }
            let base = sent.last().is_some_and(|packet| packet.frame.temporal == 0);
            prop_assert!(!base || line.got.last().is_some_and(|got| got.source + 2 * 3 * PACKETS > stream.index), "it flows");
        }
        check(&sent, &HashSet::new(), &HashSet::new(), &line.got, coding);
    }

    #[test]
    fn losses_and_disorder_do_not_mislead(
        (coding, mode) in coding_and_mode(),
        happenings in happenings(),
        fates in proptest::collection::vec((0u8..20, 1usize..12), 40..400),
    ) {
        let mut stream = Stream::new(coding, mode);
        let mut line = Line::new(coding, ALL);
        let (mut sent, mut lost, mut late) = (Vec::new(), HashSet::new(), Vec::new());
        let mut undecided = HashSet::new();
        let mut fates = fates.into_iter().cycle();
        for (limit, key) in happenings {
            if let Some((spatial, temporal)) = limit {
                line.limit = layer(spatial, temporal);
            }
            for packet in stream.picture(key) {
                sent.push(packet.clone());
                let (fate, delay) = fates.next().unwrap();
                match fate {
                    0 => { lost.insert(packet.index); }
                    1 | 2 => late.push((delay, packet)),
                    _ => { line.receive(&packet); }
                }
                for (delay, _) in &mut late {
                    *delay -= 1;
                }
                let due: Vec<Sent> = late.extract_if(.., |(delay, _)| *delay == 0).map(|(_, packet)| packet).collect();
                for packet in due {
                    let late = line.highest.is_some_and(|highest| packet.index < highest);
                    if !line.receive(&packet) && late {
                        undecided.insert(packet.index);
                    }
                }
            }
        }
        lost.extend(late.iter().map(|(_, packet)| packet.index));
        check(&sent, &lost, &undecided, &line.got, coding);
    }
}
