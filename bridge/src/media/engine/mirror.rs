//! A room on several workers: each has mirrors of the tracks that are published at the others. A mirror's packets come from
//! the worker of its publisher, decrypted, as far as somebody here needs them; its key frames are asked for there. To
//! everything else it is a track like any other.

use std::time::Instant;

use super::super::control::{Command, Kind, Mirror, Needs, TrackId};
use super::super::outbox::Outbox;
use super::super::rtp::{ExtensionMap, Header, Values};
use super::super::track::MAX_LAYERS;
use super::link::Mirrored;
use super::peer::{Peer, Stream};
use super::{Engine, TICK};

/// A packet that another worker needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossing {
    /// That worker, by its number.
    pub(crate) worker: usize,
    pub(crate) track: TrackId,
    /// Which of the track's incoming streams.
    pub(crate) stream: u8,
    /// Rollover counter and sequence number.
    pub(crate) index: u64,
    /// Where the plain packet begins in the receive buffer, and its length.
    pub(crate) start: usize,
    pub(crate) len: usize,
}

/// A packet that came from another worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crossed {
    pub(crate) track: TrackId,
    pub(crate) stream: u8,
    pub(crate) index: u64,
    /// Where it begins in the buffer that it is handed over in, and its length.
    pub(crate) start: usize,
    pub(crate) len: usize,
}

/// Something to tell another worker.
#[derive(Debug)]
pub(crate) struct Note {
    /// That worker, by its number.
    pub(crate) worker: usize,
    pub(crate) command: Command,
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

    /// What is published on a transport of another worker, from now on.
    pub(super) fn mirror(&mut self, now: Instant, mirror: Mirror) {
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
        let known = self.peers[key].tracks.clone();
        self.negotiate_tracks(now, key, receive);
        // Who speaks is found out from all voices, whoever hears them.
        for &at in self.peers[key].tracks.iter().filter(|at| !known.contains(at)) {
            let track = &self.tracks[at];
            if track.kind == Kind::Audio {
                let needs = Needs { streams: 1, layers: 1 };
                let command = Command::MirrorNeeds { track: track.id, worker: self.number, needs };
                self.notes.push_back(Note { worker, command });
            }
        }
    }

    /// Tells a mirror's worker what is needed of it. False if the track is none.
    pub(super) fn pull(&mut self, at: usize, streams: u8, layers: u8) -> bool {
        let Some(track) = self.tracks.get(at).filter(|track| track.mirrored) else { return false };
        let mirrored = self.peers.get(track.peer).and_then(|publisher| publisher.link.mirrored());
        if let Some(Mirrored { worker, .. }) = mirrored.filter(|_| track.kind == Kind::Video) {
            let needs = Needs { streams, layers };
            let command = Command::MirrorNeeds { track: track.id, worker: self.number, needs };
            self.notes.push_back(Note { worker, command });
        }
        true
    }

    /// Asks a mirror's worker for the key frames that are wanted, as often as allowed. False if the track is none.
    pub(super) fn ask_home(&mut self, now: Instant, at: usize) -> bool {
        let Some(track) = self.tracks.get_mut(at).filter(|track| track.mirrored) else { return false };
        let mirrored = self.peers.get(track.peer).and_then(|publisher| publisher.link.mirrored());
        let Some(Mirrored { worker, .. }) = mirrored else { return true };
        let id = track.id;
        for (stream, layer) in track.layers.iter_mut().enumerate() {
            if layer.take_key_frame_request(now).is_some() {
                self.notes.push_back(Note { worker, command: Command::MirrorAsks { track: id, stream: stream as u8 } });
            }
        }
        true
    }

    /// Another worker needs this of a track from now on.
    pub(super) fn needed_by(&mut self, now: Instant, track: TrackId, worker: usize, needs: Needs) {
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
    pub(super) fn asked_by_mirror(&mut self, now: Instant, track: TrackId, stream: u8) {
        let Some(&at) = self.by_track.get(&track) else { return };
        if let Some(layer) = self.tracks[at].layers.get_mut(usize::from(stream)) {
            layer.key_frame_wanted = true;
            self.request_key_frames(now, at);
        }
    }

    /// Tells all workers that need something of a track.
    pub(super) fn tell_elsewhere(&mut self, track: TrackId, command: &Command) {
        let track = self.by_track.get(&track).and_then(|&at| self.tracks.get(at));
        for (worker, _) in track.iter().flat_map(|track| &track.elsewhere) {
            self.notes.push_back(Note { worker: *worker, command: command.clone() });
        }
    }
}
