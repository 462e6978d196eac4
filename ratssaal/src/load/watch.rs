//! What one participant receives: per stream what is expected and what came, how late, and where it stood still.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ratssaal_bridge::client::Packet;

use super::histogram::Histogram;
use super::stamp::{AUDIO, Clock, Stamp};

/// A stream that stands still for longer is frozen.
const FREEZE: Duration = Duration::from_millis(200);

/// Sums over streams of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Media {
    /// Packets that should have come: by the sequence numbers the server gave them.
    pub(super) expected: u64,
    /// Packets that came, retransmissions included, repetitions not.
    pub(super) received: u64,
    /// Of these, retransmissions.
    pub(super) repaired: u64,
    /// Packets of a stream's uninterrupted stretches that the server had never numbered: lost before it, or by it.
    pub(super) skipped: u64,
    /// Payload bytes.
    pub(super) bytes: u64,
    /// Gaps of more than 200 ms in a stream that is wanted and sent.
    pub(super) freezes: u64,
    /// How long these lasted together, ms.
    pub(super) frozen_ms: u64,
    /// Streams that are wanted.
    pub(super) wanted: u64,
    /// Wanted streams of which nothing came.
    pub(super) missing: u64,
    /// Packets by layer, the lowest first; audio has none.
    pub(super) layers: [u64; 3],
}

impl Media {
    /// Packets that were to come and did not.
    pub(super) fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.received)
    }

    pub(super) fn add(&mut self, other: &Self) {
        let sums: [(&mut u64, u64); 9] = [
            (&mut self.expected, other.expected),
            (&mut self.received, other.received),
            (&mut self.repaired, other.repaired),
            (&mut self.skipped, other.skipped),
            (&mut self.bytes, other.bytes),
            (&mut self.freezes, other.freezes),
            (&mut self.frozen_ms, other.frozen_ms),
            (&mut self.wanted, other.wanted),
            (&mut self.missing, other.missing),
        ];
        for (mine, theirs) in sums {
            *mine += theirs;
        }
        self.layers.iter_mut().zip(other.layers).for_each(|(mine, theirs)| *mine += theirs);
    }
}

/// What a participant, or a group of them, received.
#[derive(Clone, Default, Debug)]
pub(super) struct Received {
    pub(super) audio: Media,
    pub(super) video: Media,
    /// Packets that no publisher of ours sent: padding, probes, blank frames.
    pub(super) foreign: u64,
    /// From the publisher's send call to the receiver's, µs; without retransmissions.
    pub(super) latency: Histogram,
}

impl Received {
    pub(super) fn add(&mut self, other: &Self) {
        self.audio.add(&other.audio);
        self.video.add(&other.video);
        self.foreign += other.foreign;
        self.latency.merge(&other.latency);
    }
}

/// One SSRC.
struct Stream {
    /// What is expected counts from behind this index on.
    base: u64,
    highest: u64,
    received: u64,
    /// Index, running number and layer of the last packet in order.
    last: Option<(u64, u32, u8)>,
}

/// One publisher's audio or video as it arrives here, over whichever SSRC.
struct Flow {
    wanted: bool,
    /// When the last packet came, and when it was sent.
    last: Option<(Instant, u64)>,
    /// When it began to be wanted.
    since: Instant,
    arrived: bool,
}

/// A participant's eyes and ears.
pub(super) struct Watch {
    clock: Clock,
    streams: HashMap<u32, Stream>,
    /// By publisher and whether it is audio.
    flows: HashMap<(u32, bool), Flow>,
    received: Received,
    /// When the first packet came, and the first of a video.
    pub(super) first: Option<Instant>,
    pub(super) first_video: Option<Instant>,
    /// When the last packet came.
    pub(super) last: Option<Instant>,
}

impl Watch {
    pub(super) fn new(clock: Clock) -> Self {
        let (streams, flows, received) = Default::default();
        Self { clock, streams, flows, received, first: None, first_video: None, last: None }
    }

    /// What is to be received from now on: publishers' numbers, and whether it is their audio.
    pub(super) fn want(&mut self, now: Instant, wanted: &[(u32, bool)]) {
        for (key, flow) in &mut self.flows {
            if !wanted.contains(key) {
                flow.wanted = false;
                flow.last = None;
            }
        }
        for key in wanted {
            let flow = self.flows.entry(*key).or_insert(Flow { wanted: false, last: None, since: now, arrived: false });
            if !flow.wanted {
                (flow.wanted, flow.since, flow.last) = (true, now, None);
            }
        }
    }

    /// Takes a packet; true when its stream needs a key frame to begin with.
    pub(super) fn packet(&mut self, now: Instant, packet: &Packet<'_>) -> bool {
        let stream = self.streams.entry(packet.ssrc).or_insert_with(|| Stream {
            base: packet.index.wrapping_sub(1),
            highest: packet.index.wrapping_sub(1),
            received: 0,
            last: None,
        });
        let video = packet.payload_type != ratssaal_bridge::client::sdp::OPUS;
        let media = if video { &mut self.received.video } else { &mut self.received.audio };
        let counts = packet.index.wrapping_sub(stream.base) < 1 << 47;
        if counts && packet.index != stream.base {
            if packet.index > stream.highest || stream.highest.wrapping_add(1) == packet.index {
                stream.highest = packet.index;
            }
            stream.received += 1;
            media.bytes += packet.payload.len() as u64;
            media.repaired += u64::from(packet.repaired);
        }
        let Some(stamp) = Stamp::read(packet.payload) else {
            self.received.foreign += 1;
            return false;
        };
        let first = stream.last.is_none();
        media.skipped += stream.skipped(packet.index, &stamp);
        self.first.get_or_insert(now);
        self.last = Some(now);
        if stamp.kind == AUDIO {
            self.flow(now, (stamp.publisher, true), &stamp);
        } else {
            self.first_video.get_or_insert(now);
            if let Some(layer) = self.received.video.layers.get_mut(usize::from(stamp.kind)) {
                *layer += 1;
            }
            self.flow(now, (stamp.publisher, false), &stamp);
        }
        if !packet.repaired {
            self.received.latency.record(self.clock.micros(now).saturating_sub(stamp.sent));
        }
        first && stamp.kind != AUDIO && !stamp.key
    }

    fn flow(&mut self, now: Instant, key: (u32, bool), stamp: &Stamp) {
        let Some(flow) = self.flows.get_mut(&key).filter(|flow| flow.wanted) else { return };
        flow.arrived = true;
        if let Some((at, sent)) = flow.last {
            // Audio is not sent in pauses; a camera sends always.
            let pause = if key.1 { Duration::from_micros(stamp.sent.saturating_sub(sent)) } else { Duration::ZERO };
            let gap = now.saturating_duration_since(at).saturating_sub(pause);
            self.freeze(key.1, gap);
        }
        if let Some(flow) = self.flows.get_mut(&key) {
            let sent = flow.last.map_or(stamp.sent, |(_, sent)| sent.max(stamp.sent));
            flow.last = Some((now, sent));
        }
    }

    fn freeze(&mut self, audio: bool, gap: Duration) {
        if gap > FREEZE {
            let media = if audio { &mut self.received.audio } else { &mut self.received.video };
            media.freezes += 1;
            media.frozen_ms += gap.as_millis() as u64;
        }
    }

    /// From now on is measured.
    pub(super) fn reset(&mut self, now: Instant) {
        for stream in self.streams.values_mut() {
            (stream.base, stream.received) = (stream.highest, 0);
        }
        for flow in self.flows.values_mut() {
            (flow.arrived, flow.since) = (false, now);
        }
        self.received = Received::default();
    }

    /// The publishers stop: a video that stands still now is frozen, one that stops later is not.
    pub(super) fn last_call(&mut self, now: Instant) {
        let gaps: Vec<Duration> = self
            .flows
            .iter()
            .filter(|((_, audio), flow)| !audio && flow.wanted)
            .map(|(_, flow)| now.saturating_duration_since(flow.last.map_or(flow.since, |(at, _)| at.max(flow.since))))
            .collect();
        gaps.into_iter().for_each(|gap| self.freeze(false, gap));
        self.flows.values_mut().for_each(|flow| flow.last = None);
    }

    /// What came since the last reset. `audio_sent` says that all publishers' audio was sent in that time.
    pub(super) fn received(&self) -> Received {
        let mut received = self.received.clone();
        for stream in self.streams.values() {
            let (expected, came) = (stream.highest.wrapping_sub(stream.base), stream.received);
            let media = if stream.is_audio() { &mut received.audio } else { &mut received.video };
            media.expected += expected;
            media.received += came.min(expected);
        }
        for ((_, audio), flow) in self.flows.iter().filter(|(_, flow)| flow.wanted) {
            let media = if *audio { &mut received.audio } else { &mut received.video };
            media.wanted += 1;
            media.missing += u64::from(!flow.arrived);
        }
        received
    }
}

impl Stream {
    fn is_audio(&self) -> bool {
        self.last.is_some_and(|(.., kind)| kind == AUDIO)
    }

    /// How many of the publisher's packets the server left out before this one without a gap in its own numbers.
    fn skipped(&mut self, index: u64, stamp: &Stamp) -> u64 {
        let last = self.last;
        if last.is_some_and(|(at, ..)| index <= at) {
            return 0; // came late
        }
        self.last = Some((index, stamp.number, stamp.kind));
        match last {
            // A key frame begins: the server may have switched or resumed here.
            Some((at, number, kind)) if kind == stamp.kind && !stamp.key => {
                let (steps, numbers) = (index - at, u64::from(stamp.number.wrapping_sub(number)));
                if numbers < 1 << 16 { numbers.saturating_sub(steps) } else { 0 }
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
