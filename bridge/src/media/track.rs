//! A published track: its simulcast layers with what is received of each, what of it can be had, and who subscribes.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::allocation::{Ladder, Step};
use super::codec::Reader;
use super::control::{Codec, Kind, PayloadType, ReceiveSection, RoomId, TrackId, TransportId, Wanted};
use super::engine::Needs;
use super::history::History;
use super::layer::Layer;
use super::leg::Leg;
use super::rate::Meter;
use super::receiver::Receiver;
use super::redundancy::Recent;
use super::source::SenderClock;
use super::speakers::Loudness;
use super::supply::{Needed, Supply};

/// Layers of one track (`q`, `h`, `f`).
pub(crate) const MAX_LAYERS: usize = 3;
/// A spatial layer of a scalable stream is gone when another one is this far ahead.
const LAYER_GONE: Duration = Duration::from_millis(1500);
/// A key frame is asked for at most this often per layer, whatever the number of subscribers.
pub(crate) const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(300);
/// Bytes of history for repairs at most, by layer: a second or more of 150, 500 and 1700 kbit/s.
const HISTORY: [usize; MAX_LAYERS] = [32 << 10, 128 << 10, 256 << 10];
/// A layer that is silent for so long needs no history.
const FORGOTTEN: Duration = Duration::from_secs(5);

/// What layers take, bits per second, where nothing was measured and their publisher says nothing.
const USUAL: [u64; MAX_LAYERS] = [150_000, 500_000, 1_700_000];

/// One incoming stream: a simulcast layer, or the only one.
#[derive(Default)]
pub(crate) struct Encoding {
    pub(crate) ssrc: Option<u32>,
    /// The SSRC it will have, by the word of another server.
    expected: Option<u32>,
    pub(crate) receiver: Option<Receiver>,
    /// What its frames are.
    pub(crate) reader: Reader,
    pub(crate) history: Option<History>,
    pub(crate) last_packet: Option<Instant>,
    pub(crate) clock: Option<SenderClock>,
    /// A subscriber waits for a key frame that was not asked for yet.
    pub(crate) key_frame_wanted: bool,
    key_frame_asked: Option<Instant>,
    /// Where the last key frame begins (index of its first packet), and when it came.
    pub(crate) key_frame: Option<(u64, Instant)>,
}

impl Encoding {
    /// Whether to ask for a key frame now; marks it as asked.
    pub(crate) fn take_key_frame_request(&mut self, now: Instant) -> Option<u32> {
        let ssrc = self.ssrc.or(self.expected)?;
        let early = self.key_frame_asked.is_some_and(|at| now.duration_since(at) < KEY_FRAME_INTERVAL);
        if !self.key_frame_wanted || early {
            return None;
        }
        self.key_frame_wanted = false;
        self.key_frame_asked = Some(now);
        Some(ssrc)
    }

    /// The publisher sends this layer with a new SSRC.
    pub(crate) fn bind(&mut self, ssrc: u32) {
        if self.ssrc != Some(ssrc) {
            let asked = self.key_frame_asked.filter(|_| self.expected == Some(ssrc));
            let history = self.history.take();
            *self = Self { ssrc: Some(ssrc), history, key_frame_asked: asked, ..Self::default() };
        }
    }
}

/// A published track.
pub(crate) struct Track {
    pub(crate) id: TrackId,
    pub(crate) room: RoomId,
    pub(crate) transport: TransportId,
    /// The publisher's key in the engine.
    pub(crate) peer: usize,
    /// Tells whose voice or picture it is: that key again, or of a track from another bridge its participant's.
    pub(crate) voice: usize,
    /// Whether it comes from another bridge, or from another worker: nothing of it comes unasked.
    pub(crate) relayed: bool,
    /// Whether it comes from another worker.
    pub(crate) mirrored: bool,
    pub(crate) kind: Kind,
    pub(crate) payload_types: Vec<PayloadType>,
    pub(crate) layers: [Encoding; MAX_LAYERS],
    /// How many of `layers` the SDP announced.
    pub(crate) layer_count: usize,
    pub(crate) codec: Option<Codec>,
    pub(crate) muted: bool,
    /// Whether it shows a screen.
    pub(crate) screen: bool,
    /// What its publisher says the layers take, bits per second; 0 is unknown.
    pub(crate) described: [u32; MAX_LAYERS],
    pub(crate) meter: Meter,
    pub(crate) supply: Supply,
    /// Which layers could be had at the last look.
    had: [bool; MAX_LAYERS],
    pub(crate) loudness: Loudness,
    /// Forwarded however many voices there are.
    pub(crate) exempt: bool,
    /// Encrypted by its clients: nothing can be put around a payload.
    pub(crate) encrypted: bool,
    /// What was said last, while a subscriber gets that again.
    pub(crate) recent: Option<Box<Recent>>,
    /// Whether its voice is held back now.
    pub(crate) held: bool,
    pub(crate) legs: Vec<Leg>,
    /// What other workers need of it.
    pub(crate) elsewhere: SmallVec<[(usize, Needs); 2]>,
}

impl Track {
    pub(crate) fn new(
        now: Instant,
        section: &ReceiveSection,
        room: RoomId,
        transport: TransportId,
        peer: usize,
        relayed: bool,
    ) -> Self {
        let asked = if relayed { 0 } else { layer_count(section) };
        let mut track = Self {
            id: section.track,
            room,
            transport,
            peer,
            voice: if relayed { participant(&section.mid) } else { peer },
            relayed,
            mirrored: false,
            kind: section.kind,
            payload_types: Vec::new(),
            layers: Default::default(),
            layer_count: 1,
            codec: None,
            muted: false,
            screen: false,
            described: [0; MAX_LAYERS],
            meter: Meter::new(now),
            supply: Supply::new(now, asked),
            had: [false; MAX_LAYERS],
            loudness: Loudness::default(),
            exempt: false,
            encrypted: false,
            recent: None,
            held: false,
            legs: Vec::new(),
            elsewhere: SmallVec::new(),
        };
        track.renegotiate(section);
        track
    }

    /// A renegotiation named this track (again).
    pub(crate) fn renegotiate(&mut self, section: &ReceiveSection) {
        self.payload_types.clone_from(&section.payload_types);
        self.layer_count = layer_count(section);
        for leg in &mut self.legs {
            leg.translate(&self.payload_types, self.layer_count);
        }
    }

    /// Whether anybody gets it, here or at another worker.
    pub(crate) fn is_taken(&self) -> bool {
        !self.legs.is_empty() || !self.elsewhere.is_empty()
    }

    /// What another worker needs of it from now on; the streams that it did not need before, a bit each.
    pub(crate) fn needed_by(&mut self, worker: usize, needs: Needs) -> u8 {
        let before = self.elsewhere.iter().find(|(other, _)| *other == worker).map_or(0, |(_, needs)| needs.streams);
        self.elsewhere.retain(|(other, _)| *other != worker);
        if needs != Needs::default() {
            self.elsewhere.push((worker, needs));
        }
        needs.streams & !before
    }

    /// These streams will come, whose key frames can be asked for before their first packet.
    pub(crate) fn expect(&mut self, section: &ReceiveSection) {
        for (layer, (ssrc, _)) in self.layers.iter_mut().zip(&section.ssrcs).filter(|(_, (ssrc, _))| *ssrc != 0) {
            (layer.expected, layer.key_frame_wanted) = (Some(*ssrc), self.kind == Kind::Video);
        }
    }

    /// The payload type of a media packet.
    pub(crate) fn media(&self, payload_type: u8) -> Option<PayloadType> {
        self.payload_types.iter().copied().find(|p| p.number == payload_type)
    }

    /// The payload type whose retransmissions bear this one.
    pub(crate) fn repaired_by(&self, payload_type: u8) -> Option<PayloadType> {
        self.payload_types.iter().copied().find(|p| p.rtx == Some(payload_type))
    }

    /// Prepares a layer for its first packet.
    pub(crate) fn history(&mut self, now: Instant, layer: usize) -> Option<&mut History> {
        if self.kind == Kind::Audio {
            return None;
        }
        // A track without simulcast is as large as the highest layer.
        let size = if self.layer_count == 1 { HISTORY[MAX_LAYERS - 1] } else { HISTORY[layer] };
        let history = &mut self.layers[layer].history;
        if history.is_none() {
            *history = History::new(now, size).ok(); // no memory now, perhaps for the next packet
        }
        history.as_mut()
    }

    /// Looks again which layers can be had. True when others can than before.
    pub(crate) fn look(&mut self, now: Instant) -> bool {
        let asked = if self.layer_count > 1 { self.supply.asked() } else { u8::MAX };
        self.meter.roll(now, asked);
        for layer in &mut self.layers {
            if layer.last_packet.is_some_and(|at| now.duration_since(at) > FORGOTTEN) {
                layer.history = None;
            }
        }
        if self.muted {
            return false;
        }
        self.supply.look(now, [0, 1, 2].map(|stream: usize| self.layers[stream].last_packet));
        let has = [0, 1, 2].map(|spatial| self.has(spatial));
        std::mem::replace(&mut self.had, has) != has
    }

    /// Whether a spatial layer can be had: it flows, or would if its publisher was asked for it.
    fn has(&self, spatial: u8) -> bool {
        if self.layer_count > 1 {
            return usize::from(spatial) < self.layer_count && self.supply.has(spatial);
        }
        let newest = (0..MAX_LAYERS as u8).filter_map(|spatial| self.meter.seen(spatial)).max();
        match (newest, self.meter.seen(spatial)) {
            (None, _) => spatial == 0,
            (Some(newest), Some(seen)) => newest.duration_since(seen) < LAYER_GONE,
            (Some(_), None) => false,
        }
    }

    /// What can be forwarded of a video track to somebody who wants this much of it, and what it costs. Of layers above
    /// `wanted` there is none but the lowest that can be had, if nothing else can.
    pub(crate) fn ladder(&self, wanted: Wanted) -> Ladder {
        let mut ladder = Ladder::new();
        let Some(top) = wanted.layer.filter(|_| !self.muted) else { return ladder };
        let Some(lowest) = (0..MAX_LAYERS as u8).find(|&spatial| self.has(spatial)) else { return ladder };
        for spatial in (lowest..=top.clamp(lowest, MAX_LAYERS as u8 - 1)).filter(|&spatial| self.has(spatial)) {
            let all = self.meter.temporal(spatial).unwrap_or(0);
            let last = if wanted.fps == 0 { all } else { all.min(self.meter.temporal_for(spatial, wanted.fps)) };
            // A larger picture that stutters is no improvement; of a screen it is.
            let first = if spatial > lowest && all > 1 && !self.screen { 1.min(last) } else { 0 };
            for temporal in first..=last {
                let layer = if temporal == all { Layer::full(spatial) } else { Layer { spatial, temporal } };
                let bits = self.bits(spatial, layer.temporal);
                // What shows more for less is always better.
                while ladder.last().is_some_and(|step: &Step| step.bits >= bits) {
                    ladder.pop();
                }
                ladder.push(Step { layer, bits });
            }
        }
        ladder
    }

    /// The one step of a leg that carries this very layer of a simulcast track to another bridge.
    pub(crate) fn exact_step(&self, wanted: Wanted) -> Ladder {
        let step = |spatial| Step { layer: Layer::full(spatial), bits: self.own_bits(spatial, u8::MAX) };
        wanted.layer.filter(|_| !self.muted).map(step).into_iter().collect()
    }

    /// The bits per second of a layer on the wire, with what it needs of those below it in the same stream.
    fn bits(&self, spatial: u8, temporal: u8) -> u64 {
        let below = if self.layer_count > 1 { 0 } else { spatial };
        self.own_bits(spatial, temporal) + (0..below).map(|lower| self.meter.shared(lower, temporal)).sum::<u64>()
    }

    fn own_bits(&self, spatial: u8, temporal: u8) -> u64 {
        let index = usize::from(spatial).min(MAX_LAYERS - 1);
        let usual = if self.layer_count == 1 { USUAL[MAX_LAYERS - 1] } else { USUAL[index] };
        let described = Some(u64::from(self.described[index])).filter(|bits| *bits > 0);
        self.meter.bits(spatial, temporal).or(described).unwrap_or(usual)
    }

    /// The audio's bits per second on the wire.
    pub(crate) fn audio_bits(&self) -> u64 {
        self.meter.bits(0, u8::MAX).unwrap_or(0)
    }

    /// Marks the streams that legs wait for a key frame of.
    pub(crate) fn mark_awaited(&mut self) {
        for leg in &self.legs {
            let Some(stream) = leg.awaits() else { continue };
            if leg.exact {
                if let Some(encoding) = self.layers.get_mut(usize::from(stream)) {
                    encoding.key_frame_wanted = true;
                }
                continue;
            }
            let up_to = &mut self.layers[..=usize::from(stream).min(MAX_LAYERS - 1)];
            // Who has nothing yet begins with a lower one, as long as that one has not come.
            let flowing = up_to.iter().rposition(|encoding| encoding.ssrc.is_some()).filter(|_| leg.stream().is_none());
            if let Some(encoding) = up_to.get_mut(flowing.unwrap_or(usize::from(stream))) {
                encoding.key_frame_wanted = true;
            }
        }
    }

    /// Gives leg `at` its target.
    pub(crate) fn aim(&mut self, at: usize, target: Option<Layer>) {
        let leg = &mut self.legs[at];
        leg.target = target;
        if target.is_none() {
            leg.pause();
        }
    }

    /// Which streams of a track with several are needed, a bit each. Nothing of it goes to another bridge, since it comes
    /// from one or from another worker.
    pub(crate) fn needed_exactly(&self) -> Needed {
        let top = self.layer_count.min(MAX_LAYERS) as u8 - 1;
        let targets = self.legs.iter().filter_map(|leg| leg.target).map(|target| target.spatial.min(top));
        let wanted = self.legs.iter().filter_map(|leg| leg.wanted.layer).map(|layer| layer.min(top));
        Needed {
            here: targets.fold(0, |all, layer| all | 1 << layer),
            wanted: wanted.fold(0, |all, layer| all | ((2 << layer) - 1)),
            elsewhere: self.elsewhere.iter().fold(0, |all, (_, needs)| all | needs.streams),
        }
    }

    /// How many of the lowest layers are needed.
    pub(crate) fn needed(&self) -> Needed {
        let count = |layer: Option<u8>| layer.map_or(0, |layer| layer.saturating_add(1));
        let mut needed = Needed::default();
        for leg in &self.legs {
            let target = count(leg.target.map(|target| target.spatial));
            if leg.exact {
                needed.elsewhere = needed.elsewhere.max(target);
            } else {
                (needed.here, needed.wanted) = (needed.here.max(target), needed.wanted.max(count(leg.wanted.layer)));
            }
        }
        let workers = self.elsewhere.iter().map(|(_, needs)| needs.layers);
        needed.elsewhere = workers.fold(needed.elsewhere, u8::max);
        needed
    }
}

/// A number for a participant who sits on another bridge; keys in the engine are small.
fn participant(name: &str) -> usize {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish() as usize | 1 << (usize::BITS - 1)
}

fn layer_count(section: &ReceiveSection) -> usize {
    section.rids.len().max(section.ssrcs.len()).clamp(1, MAX_LAYERS)
}
