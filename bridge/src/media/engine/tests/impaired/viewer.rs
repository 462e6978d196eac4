//! Somebody who watches and listens at the end of a bad line: asks for what is missing, decodes what is whole, plays sound
//! from a buffer as long as arrivals need it, and tells how that was.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::super::super::super::control::*;
use super::super::super::super::network::{Line, Link, MS, Random, SECOND};
use super::super::super::super::rtcp;
use super::super::super::super::simulation::{Client, Got, World};
use super::super::super::super::twcc::Recorder;

pub(super) const OPUS: u8 = 109;
pub(super) const RED: u8 = 63;
/// The buffer of sound is as long as all but so many arrivals in a hundred need it, in whole packets and one more (as
/// NetEq's), and at least so long.
const LATE: usize = 3;
const PACKET: u64 = 20 * MS;
const SHORTEST_BUFFER: u64 = 60 * MS;
/// Arrivals it goes by.
const REMEMBERED: usize = 500;

/// One stream of pictures.
#[derive(Default)]
pub(super) struct Picture {
    highest: Option<u64>,
    /// The first packet of the next frame; `None` before a key frame.
    next: Option<u64>,
    pieces: BTreeMap<u64, Piece>,
    /// Missing packets: when asked for last, and how often.
    missing: BTreeMap<u64, (u64, u8)>,
    /// When each frame was whole, and of which layer.
    pub(super) shown: Vec<(u64, u8)>,
    began: Option<u64>,
    asked: u64,
}

struct Piece {
    marker: bool,
    begins: bool,
    key: bool,
    layer: u8,
}

impl Picture {
    fn extend(&self, sequence: u16) -> u64 {
        let highest = self.highest.unwrap_or(0x1_0000 + u64::from(sequence));
        highest.saturating_add_signed(i64::from(sequence.wrapping_sub(highest as u16) as i16))
    }

    fn take(&mut self, now: u64, sequence: u16, marker: bool, payload: &[u8]) {
        let sequence = self.extend(sequence);
        self.began.get_or_insert(now);
        let from = self.highest.map_or(sequence, |highest| highest + 1);
        for missing in from..sequence {
            self.missing.insert(missing, (0, 0));
        }
        self.highest = Some(self.highest.unwrap_or(sequence).max(sequence));
        self.missing.remove(&sequence);
        if self.next.is_none_or(|next| sequence >= next) {
            let (begins, key) = (payload[0] & 0x10 != 0, payload[6] & 1 == 0);
            let layer = *payload.last().unwrap();
            self.pieces.insert(sequence, Piece { marker, begins, key: begins && key, layer });
        }
        while self.decode(now) {}
    }

    /// The sequence number behind the frame that begins at `first`, if it is whole.
    fn whole(&self, first: u64) -> Option<u64> {
        self.pieces.get(&first).filter(|piece| piece.begins)?;
        let mut at = first;
        while !self.pieces.get(&at)?.marker {
            at += 1;
        }
        Some(at + 1)
    }

    fn decode(&mut self, now: u64) -> bool {
        let next = self.next.filter(|&next| self.whole(next).is_some());
        let key = || {
            self.pieces.iter().filter(|(_, piece)| piece.key).map(|(at, _)| *at).find(|&at| self.whole(at).is_some())
        };
        let Some(first) = next.or_else(key) else { return false };
        let Some(behind) = self.whole(first) else { return false };
        self.shown.push((now, self.pieces[&first].layer));
        self.pieces = self.pieces.split_off(&behind);
        self.missing = self.missing.split_off(&behind);
        self.next = Some(behind);
        true
    }

    /// What to ask for again, and whether to ask for a key frame.
    fn wants(&mut self, now: u64, rtt: u64) -> (Vec<u16>, bool) {
        let due = |(_, state): &(&u64, &mut (u64, u8))| {
            let (asked, tries) = **state;
            tries < 10 && now >= asked + rtt * u64::from(tries > 0)
        };
        let again: Vec<u16> = self
            .missing
            .iter_mut()
            .filter(due)
            .map(|(sequence, state)| {
                *state = (now, state.1 + 1);
                *sequence as u16
            })
            .collect();
        let (since, patience) = match self.shown.last() {
            None => (self.began, 200 * MS),
            // Nothing comes: nothing is missing either.
            Some(_) if self.pieces.is_empty() => (None, 0),
            Some((at, _)) => (Some(*at), 3 * SECOND),
        };
        let key = since.is_some_and(|since| now > since + patience && now > self.asked + SECOND);
        if key {
            self.asked = now;
        }
        (again, key)
    }

    /// The longest time without a new frame between two moments, seconds.
    pub(super) fn longest_freeze(&self, from: u64, to: u64) -> f64 {
        let times = self.shown.iter().map(|(at, _)| *at).filter(|at| (from..to).contains(at));
        let mut last = from;
        let mut longest = 0;
        for at in times.chain([to]) {
            longest = longest.max(at - last);
            last = at;
        }
        longest as f64 / SECOND as f64
    }

    /// When another layer came than before, and which.
    pub(super) fn changes(&self, from: u64) -> Vec<(u64, u8)> {
        let changed = self.shown.windows(2).filter(|pair| pair[0].1 != pair[1].1).map(|pair| pair[1]);
        changed.filter(|(at, _)| *at >= from).collect()
    }
}

/// One voice: when each piece of it, by timestamp, came first.
#[derive(Default)]
pub(super) struct Sound(HashMap<u32, u64>);

impl Sound {
    fn take(&mut self, now: u64, payload_type: u8, timestamp: u32, payload: &[u8]) {
        let mut take = |timestamp: u32, block: &[u8]| {
            if block.len() > 3 {
                assert_eq!(block[..4], timestamp.to_be_bytes(), "what was said then");
            }
            self.0.entry(timestamp).or_insert(now);
        };
        if payload_type == OPUS {
            return take(timestamp, payload);
        }
        // RFC 2198: four bytes a redundant block, one for the last.
        let (mut at, mut blocks) = (0, Vec::new());
        while payload[at] & 0x80 != 0 {
            assert_eq!(payload[at] & 0x7f, OPUS);
            let bits = u32::from_be_bytes([0, payload[at + 1], payload[at + 2], payload[at + 3]]);
            blocks.push((bits >> 10, (bits & 0x3ff) as usize));
            at += 4;
        }
        assert_eq!(payload[at], OPUS);
        at += 1;
        for (offset, len) in blocks {
            take(timestamp.wrapping_sub(offset), &payload[at..at + len]);
            at += len;
        }
        take(timestamp, &payload[at..]);
    }

    /// The share of what was said that was not there when it was to be played.
    pub(super) fn concealed(&self, spoken: &[(u64, u32)], from: u64, to: u64) -> f64 {
        let (mut delays, mut said, mut concealed) = (Vec::<u64>::new(), 0, 0);
        for (at, timestamp) in spoken.iter().filter(|(at, _)| *at < to) {
            let delay = self.0.get(timestamp).map(|arrival| arrival - at);
            let recent = &delays[delays.len() - delays.len().min(REMEMBERED)..];
            let mut sorted = recent.to_vec();
            sorted.sort_unstable();
            let first = sorted.first().copied().unwrap_or(0);
            let needed = sorted.get(sorted.len() * (100 - LATE) / 100).copied().unwrap_or(first);
            let packets = (needed - first).div_ceil(PACKET) + 1;
            let buffer = first + (packets * PACKET).max(SHORTEST_BUFFER);
            if *at >= from {
                said += 1;
                concealed += u32::from(delay.is_none_or(|delay| delay > buffer));
            }
            delays.extend(delay);
        }
        f64::from(concealed) / f64::from(said.max(1))
    }
}

pub(super) struct Viewer {
    pub(super) client: Client,
    pub(super) link: Link,
    pub(super) line: Line,
    /// By SSRC; pictures by that of their repairs too.
    pub(super) pictures: BTreeMap<u32, Picture>,
    repairs: BTreeMap<u32, u32>,
    pub(super) sounds: BTreeMap<u32, Sound>,
    /// Whether it sends transport-wide feedback; else it names its bandwidth (REMB).
    pub(super) transport_wide: bool,
    received: Vec<(u64, usize)>,
    named: f64,
    random: Random,
    recorder: Recorder,
    start: Instant,
    arriving: BTreeMap<(u64, u64), Got>,
    answers: BTreeMap<(u64, u64), Vec<u8>>,
    serial: u64,
    /// What is sent again, or only to probe, never arrives.
    pub(super) loses_repairs: bool,
    /// Bytes of padding that came.
    pub(super) padding: usize,
}

impl Viewer {
    pub(super) fn new(world: &World, client: Client, link: Link, legs: &[SendSection]) -> Self {
        let video = || legs.iter().filter(|leg| leg.payload_types[0].codec.kind() == Kind::Video);
        let audio = legs.iter().filter(|leg| leg.payload_types[0].codec.kind() == Kind::Audio);
        Self {
            client,
            link,
            line: Line::default(),
            pictures: video().map(|leg| (leg.ssrc, Picture::default())).collect(),
            repairs: video().map(|leg| (leg.rtx_ssrc, leg.ssrc)).collect(),
            sounds: audio.map(|leg| (leg.ssrc, Sound::default())).collect(),
            transport_wide: true,
            received: Vec::new(),
            named: 300e3,
            random: Random(0x2545_f491_4f6c_dd1d),
            recorder: Recorder::new(world.now),
            start: world.now,
            arriving: BTreeMap::new(),
            answers: BTreeMap::new(),
            serial: 0,
            loses_repairs: false,
            padding: 0,
        }
    }

    /// Carries what was sent over the line, plays it, and answers.
    pub(super) fn step(&mut self, world: &mut World, now: u64) {
        for packet in self.client.receive(world).0 {
            if self.loses_repairs && self.repairs.contains_key(&packet.header.ssrc) {
                continue;
            }
            let bytes = wire(&packet);
            for at in self.line.take(&self.link, &mut self.random, now, bytes).into_iter().flatten() {
                self.serial += 1;
                self.arriving.insert((at, self.serial), packet.clone());
            }
        }
        while let Some(entry) = self.arriving.first_entry().filter(|entry| entry.key().0 <= now) {
            let ((at, _), packet) = entry.remove_entry();
            self.arrived(at, &packet);
        }
        if now.is_multiple_of(20 * MS) {
            self.ask(now);
        }
        if now.is_multiple_of(50 * MS) && self.transport_wide {
            let mut message = Vec::new();
            while self.recorder.write(1, 2, &mut message) {
                let message = std::mem::take(&mut message);
                self.answer(now, message);
            }
        }
        if now.is_multiple_of(200 * MS) && !self.transport_wide {
            self.name_bandwidth(now);
        }
        while let Some(entry) = self.answers.first_entry().filter(|entry| entry.key().0 <= now) {
            let message = entry.remove();
            self.client.rtcp(world, &message);
        }
    }

    fn arrived(&mut self, at: u64, packet: &Got) {
        if let Some(number) = packet.number {
            self.recorder.record(self.start + Duration::from_micros(at), number);
        }
        self.received.push((at, wire(packet)));
        self.padding += packet.padding;
        let header = &packet.header;
        if let Some(sound) = self.sounds.get_mut(&header.ssrc) {
            sound.take(at, header.payload_type, header.timestamp, &packet.payload);
        } else if let Some(picture) = self.pictures.get_mut(&header.ssrc) {
            picture.take(at, header.sequence, header.marker, &packet.payload);
        } else if let (Some(original), Some((sequence, payload))) =
            (self.repairs.get(&header.ssrc), packet.payload.split_first_chunk::<2>())
            && let Some(picture) = self.pictures.get_mut(original)
        {
            picture.take(at, u16::from_be_bytes(*sequence), header.marker, payload);
        }
    }

    fn ask(&mut self, now: u64) {
        let rtt = self.link.delay + self.link.feedback_delay + 20 * MS;
        let mut messages = Vec::new();
        for (&ssrc, picture) in &mut self.pictures {
            let (again, key) = picture.wants(now, rtt);
            let mut writer = rtcp::Writer::default();
            if !again.is_empty() {
                writer.nack(ssrc, &again);
            }
            if key {
                writer.picture_loss(ssrc);
            }
            messages.extend((!writer.bytes().is_empty()).then(|| writer.bytes().to_vec()));
        }
        messages.into_iter().for_each(|message| self.answer(now, message));
    }

    /// REMB (draft-alvestrand-rmcat-remb-03 §2.2) as libwebrtc's receiver names it: less than what comes while a queue
    /// stands; else slowly more, but no more than what comes and a half.
    fn name_bandwidth(&mut self, now: u64) {
        let from = now.saturating_sub(SECOND / 2);
        self.received.retain(|(at, _)| *at >= from);
        let rate = self.received.iter().map(|(_, bytes)| bytes * 16).sum::<usize>() as f64;
        self.named = if self.line.queue(now) > 50 * MS {
            0.85 * rate
        } else {
            self.named.max((1.016 * self.named).min(1.5 * rate + 10e3))
        };
        let bits = self.named.max(20e3) as u32;
        let mut message = vec![0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1];
        let exponent = (32 - bits.leading_zeros()).saturating_sub(18);
        let mantissa = bits >> exponent;
        message.extend_from_slice(&((exponent << 18) | mantissa).to_be_bytes()[1..]);
        message.extend_from_slice(&[0, 0, 0, 9]);
        self.answer(now, message);
    }

    fn answer(&mut self, now: u64, message: Vec<u8>) {
        self.serial += 1;
        if self.random.unit() >= self.link.feedback_loss {
            self.answers.insert((now + self.link.feedback_delay, self.serial), message);
        }
    }
}

/// Bytes on the wire.
fn wire(packet: &Got) -> usize {
    packet.header.len + packet.payload.len() + packet.padding + 16 + 28
}
