//! A published track: its simulcast layers with what is received of each, who subscribes, and which layer each subscriber
//! gets.

use std::time::{Duration, Instant};

use super::codec::Reader;
use super::control::{Codec, Kind, PayloadType, ReceiveSection, RoomId, TrackId, TransportId};
use super::history::History;
use super::layer::Layer;
use super::leg::{Leg, SenderClock};
use super::receiver::Receiver;
use super::speakers::Loudness;

/// Layers of one track (`q`, `h`, `f`).
pub(crate) const MAX_LAYERS: usize = 3;
/// A layer counts as paused by its publisher when another one is this far ahead.
const LAYER_PAUSE: Duration = Duration::from_millis(1500);
/// A key frame is asked for at most this often per layer, whatever the number of subscribers.
pub(crate) const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(300);
/// Bytes of history for repairs, by layer: about a second each of 150, 500 and 1700 kbit/s.
const HISTORY: [usize; MAX_LAYERS] = [32 << 10, 96 << 10, 256 << 10];

/// One incoming stream: a simulcast layer, or the only one.
#[derive(Default)]
pub(crate) struct Encoding {
    pub(crate) ssrc: Option<u32>,
    pub(crate) receiver: Option<Receiver>,
    /// What its frames are.
    pub(crate) reader: Reader,
    pub(crate) history: Option<History>,
    pub(crate) last_packet: Option<Instant>,
    pub(crate) clock: Option<SenderClock>,
    /// A subscriber waits for a key frame that was not asked for yet.
    pub(crate) key_frame_wanted: bool,
    key_frame_asked: Option<Instant>,
}

impl Encoding {
    /// Whether to ask for a key frame now; marks it as asked.
    pub(crate) fn take_key_frame_request(&mut self, now: Instant) -> Option<u32> {
        let ssrc = self.ssrc?;
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
            *self = Self { ssrc: Some(ssrc), history: self.history.take(), ..Self::default() };
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
    pub(crate) kind: Kind,
    pub(crate) payload_types: Vec<PayloadType>,
    pub(crate) layers: [Encoding; MAX_LAYERS],
    /// How many of `layers` the SDP announced.
    pub(crate) layer_count: usize,
    pub(crate) codec: Option<Codec>,
    pub(crate) muted: bool,
    pub(crate) loudness: Loudness,
    /// Forwarded however many voices there are.
    pub(crate) exempt: bool,
    /// Whether its voice is held back now.
    pub(crate) held: bool,
    pub(crate) legs: Vec<Leg>,
}

impl Track {
    pub(crate) fn new(section: &ReceiveSection, room: RoomId, transport: TransportId, peer: usize) -> Self {
        let mut track = Self {
            id: section.track,
            room,
            transport,
            peer,
            kind: section.kind,
            payload_types: Vec::new(),
            layers: Default::default(),
            layer_count: 1,
            codec: None,
            muted: false,
            loudness: Loudness::default(),
            exempt: false,
            held: false,
            legs: Vec::new(),
        };
        track.renegotiate(section);
        track
    }

    /// A renegotiation named this track (again).
    pub(crate) fn renegotiate(&mut self, section: &ReceiveSection) {
        self.payload_types.clone_from(&section.payload_types);
        self.layer_count = section.rids.len().max(section.ssrcs.len()).clamp(1, MAX_LAYERS);
        for leg in &mut self.legs {
            leg.translate(&self.payload_types);
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
    pub(crate) fn history(&mut self, layer: usize) -> Option<&mut History> {
        if self.kind == Kind::Audio {
            return None;
        }
        // A track without simulcast is as large as the highest layer.
        let size = if self.layer_count == 1 { HISTORY[MAX_LAYERS - 1] } else { HISTORY[layer] };
        Some(self.layers[layer].history.get_or_insert_with(|| History::new(size)))
    }

    /// Layers that flow: silent ones fall behind the others.
    pub(crate) fn active_layers(&self) -> impl DoubleEndedIterator<Item = u8> + '_ {
        const NUMBERS: [u8; MAX_LAYERS] = [0, 1, 2];
        let newest = self.layers.iter().filter_map(|layer| layer.last_packet).max();
        self.layers.iter().zip(NUMBERS).filter_map(move |(layer, number)| {
            let last = layer.last_packet?;
            newest.is_some_and(|newest| newest.duration_since(last) < LAYER_PAUSE).then_some(number)
        })
    }

    /// The best layer for someone who wants at most `wanted`: the highest that flows up to that, else the lowest that
    /// flows. While nothing has come yet, what is wanted. (Bandwidth towards the subscriber will bound `wanted` here.)
    fn choose(&self, wanted: Option<u8>) -> Option<Layer> {
        let wanted = wanted?;
        let allowed = self.active_layers().rfind(|&layer| layer <= wanted);
        let highest = (self.layer_count - 1) as u8;
        Some(Layer::full(allowed.or_else(|| self.active_layers().next()).unwrap_or(wanted.min(highest))))
    }

    /// Gives leg `at` its target and marks the layers whose key frames are missing.
    pub(crate) fn retarget(&mut self, at: usize) {
        let target = self.choose(self.legs[at].wanted.layer);
        let leg = &mut self.legs[at];
        leg.target = target;
        if target.is_none() {
            leg.pause();
        } else if leg.needs_key_frame()
            && let Some(layer) = target.and_then(|layer| self.layers.get_mut(usize::from(layer.spatial)))
        {
            layer.key_frame_wanted = true;
        }
    }

    /// The same for all legs.
    pub(crate) fn retarget_all(&mut self) {
        for at in 0..self.legs.len() {
            self.retarget(at);
        }
    }
}
