//! A room on several workers: each has mirrors of the tracks that are published at the others. A mirror's packets come from
//! the worker of its publisher, decrypted, as far as somebody here needs them; its key frames are asked for there. To
//! everything else it is a track like any other.

use std::time::Instant;

use super::super::control::{ExtensionIds, Kind, ReceiveSection, RoomId, TrackId, TransportId};
use super::super::leg::Leg;
use super::super::outbox::Outbox;
use super::super::rtp::{ExtensionMap, Header, Values};
use super::super::source::SenderClock;
use super::super::track::{MAX_LAYERS, Track};
use super::link::Mirrored;
use super::peer::{Peer, Stream};
use super::{Engine, TICK};

/// A packet on its way from worker to worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossed {
    pub(crate) track: TrackId,
    /// Which of the track's incoming streams.
    pub(crate) stream: u8,
    /// Rollover counter and sequence number.
    pub(crate) index: u64,
    /// Where the plain packet begins in the buffer that it is handed over in, and its length.
    pub(crate) start: usize,
    pub(crate) len: usize,
}

/// A packet that another worker needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossing {
    /// That worker, by its number.
    pub(crate) worker: usize,
    pub(crate) packet: Crossed,
}

/// What is published on a transport of another worker.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Mirror {
    /// The transport there.
    pub(crate) transport: TransportId,
    /// Its room, which is open on both workers.
    pub(crate) room: RoomId,
    /// The worker, by its number.
    pub(crate) worker: usize,
    /// Whether the transport leads to another bridge.
    pub(crate) relayed: bool,
    /// Header-extension ids of its packets.
    pub(crate) extensions: ExtensionIds,
    pub(crate) receive: Vec<ReceiveSection>,
}

/// What of a track is needed elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Needs {
    /// Which of its streams, a bit each, the lowest layer's first.
    pub(crate) streams: u8,
    /// The lowest so many layers: what its publisher has to send.
    pub(crate) layers: u8,
}

/// What one worker of a bridge is told about another.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Word {
    /// What is published there, whose packets come from there. Replaces what was told of the transport before.
    Mirror(Box<Mirror>),
    /// What that worker needs of a track from now on.
    Needs { track: TrackId, worker: usize, needs: Needs },
    /// It cannot go on without a key frame of a track's stream.
    KeyFrame { track: TrackId, stream: u8 },
    /// The sender's clock of a mirrored track's stream, from its sender report: NTP timestamp (32.32 fixed point) and the
    /// RTP timestamp of the same instant.
    Clock { track: TrackId, stream: u8, ntp: u64, rtp: u32 },
    /// A voice is held back: what comes next of it follows without a gap.
    Held { track: TrackId },
}

/// Something to tell another worker.
#[derive(Debug)]
pub(crate) struct Note {
    /// That worker, by its number.
    pub(crate) worker: usize,
    pub(crate) word: Word,
}

impl Engine {
    /// This is the worker of that number.
    pub(crate) fn numbered(self, number: usize) -> Self {
        Self { number, ..self }
    }

    /// What other workers need of the packets that came with the last call; they stand in its buffer.
    pub(crate) fn crossings(&mut self) -> std::vec::Drain<'_, Crossing> {
        self.crossings.drain(..)
    }

    /// The next thing that another worker is to be told.
    pub(crate) fn note(&mut self) -> Option<Note> {
        self.notes.pop_front()
    }

    /// Packets from other workers, which stand in `buffer`; `full` as for [`Self::datagrams`].
    pub(crate) fn crossed(
        &mut self,
        now: Instant,
        buffer: &[u8],
        packets: &[Crossed],
        full: &mut dyn FnMut(&mut Outbox),
    ) {
        for &Crossed { track, stream, index, start, len } in packets {
            // Its track may have ended meanwhile.
            let Some(&at) = self.by_track.get(&track) else { continue };
            let Some(bytes) = buffer.get(start..start + len) else { continue };
            let (Some(header), Some(track)) = (Header::read(bytes), self.tracks.get_mut(at)) else { continue };
            let layer = usize::from(stream);
            let Some(encoding) = track.layers.get_mut(layer).filter(|_| track.mirrored) else { continue };
            encoding.bind(header.ssrc);
            let Some(map) = self.peers.get(track.peer).map(|publisher| &publisher.map) else { continue };
            let values = Values::read(map, &header, bytes);
            let stream = Stream { ssrc: header.ssrc, track: at, layer, rtx: false };
            self.media(now, stream, index, &header, (start, bytes), values);
        }
        self.copy_waiting(now, buffer, full);
    }

    /// Takes what it is told about another worker.
    pub(crate) fn word(&mut self, now: Instant, word: Word) {
        match word {
            Word::Mirror(mirror) => self.mirror(now, *mirror),
            Word::Needs { track, worker, needs } => self.needed_by(now, track, worker, needs),
            Word::KeyFrame { track, stream } => self.asked_by_mirror(now, track, stream),
            Word::Clock { track, stream, ntp, rtp } => {
                let track = self.by_track.get(&track).and_then(|&at| self.tracks.get_mut(at));
                if let Some(layer) = track.and_then(|track| track.layers.get_mut(usize::from(stream))) {
                    layer.clock = Some(SenderClock { ntp, rtp, at: now });
                }
            }
            Word::Held { track } => {
                if let Some(track) = self.by_track.get(&track).and_then(|&at| self.tracks.get_mut(at)) {
                    track.legs.iter_mut().for_each(Leg::pause);
                }
            }
        }
    }

    /// The worker where a mirror's publisher is.
    fn home(&self, track: &Track) -> Option<usize> {
        self.peers.get(track.peer)?.link.mirrored().map(|mirrored| mirrored.worker)
    }

    /// Tells a mirror's home what is needed of it here.
    fn need(&mut self, home: usize, track: TrackId, needs: Needs) {
        let word = Word::Needs { track, worker: self.number, needs };
        self.notes.push_back(Note { worker: home, word });
    }

    fn mirror(&mut self, now: Instant, mirror: Mirror) {
        let Mirror { transport, room, worker, relayed, extensions, receive } = mirror;
        let key = match self.by_transport.get(&transport) {
            Some(&key) if self.peers[key].is_mirror() => key,
            Some(_) => return,
            None => {
                let Some(entry) = self.rooms.get_mut(&room) else { return };
                let key = self.peers.insert(Peer::mirror(now, (transport, room), Mirrored::new(now, worker, relayed)));
                entry.peers.push(key);
                self.by_transport.insert(transport, key);
                self.next_tick.get_or_insert(now + TICK);
                key
            }
        };
        (self.peers[key].ids, self.peers[key].map) = (extensions, ExtensionMap::new(&extensions));
        // A new track may stand where one was that ends now: their ids tell them apart.
        let known: Vec<TrackId> = self.peers[key].tracks.iter().map(|&at| self.tracks[at].id).collect();
        self.negotiate_tracks(now, key, receive);
        // Who speaks is found out from all voices, whoever hears them.
        let tracks = self.peers[key].tracks.iter().map(|&at| &self.tracks[at]);
        let new = tracks.filter(|track| track.kind == Kind::Audio && !known.contains(&track.id)).map(|track| track.id);
        for track in new.collect::<Vec<_>>() {
            self.need(worker, track, Needs { streams: 1, layers: 1 });
        }
    }

    /// Tells a mirror's home what of its picture is needed here.
    pub(super) fn pull(&mut self, at: usize, needs: Needs) {
        let Some(track) = self.tracks.get(at).filter(|track| track.kind == Kind::Video) else { return };
        if let Some(home) = self.home(track) {
            self.need(home, track.id, needs);
        }
    }

    /// Asks a mirror's home for the key frames that are wanted, as often as allowed.
    pub(super) fn ask_home(&mut self, now: Instant, at: usize) {
        let Some(worker) = self.tracks.get(at).and_then(|track| self.home(track)) else { return };
        let Track { id: track, layers, .. } = &mut self.tracks[at];
        for (stream, layer) in (0..).zip(layers) {
            if layer.take_key_frame_request(now).is_some() {
                self.notes.push_back(Note { worker, word: Word::KeyFrame { track: *track, stream } });
            }
        }
    }

    /// Another worker needs this of a track from now on.
    fn needed_by(&mut self, now: Instant, track: TrackId, worker: usize, needs: Needs) {
        let Some(&at) = self.by_track.get(&track) else { return };
        let track = &mut self.tracks[at];
        let new = track.needed_by(worker, needs);
        if track.kind == Kind::Video {
            for stream in (0..MAX_LAYERS).filter(|stream| new >> stream & 1 == 1) {
                track.layers[stream].key_frame_wanted = true;
            }
            self.request_key_frames(now, at);
            self.dynacast(now, at);
        }
    }

    /// Another worker waits for a key frame.
    fn asked_by_mirror(&mut self, now: Instant, track: TrackId, stream: u8) {
        let Some(&at) = self.by_track.get(&track) else { return };
        if let Some(layer) = self.tracks[at].layers.get_mut(usize::from(stream)) {
            layer.key_frame_wanted = true;
            self.request_key_frames(now, at);
        }
    }

    /// Tells all workers that need something of a track.
    pub(super) fn tell_elsewhere(&mut self, track: TrackId, word: &Word) {
        let track = self.by_track.get(&track).and_then(|&at| self.tracks.get(at));
        for (worker, _) in track.iter().flat_map(|track| &track.elsewhere) {
            self.notes.push_back(Note { worker: *worker, word: word.clone() });
        }
    }
}
