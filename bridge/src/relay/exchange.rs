//! What two bridges agree on about the media of one room: sessions with their keys, tracks that can be had, and what is
//! pulled of them. Pure: messages and events in, [`Action`]s out.
//!
//! A **session** is a pair of openings, one of each side, each with a key that only its maker seals with. When the stream
//! between the bridges breaks, both begin a session anew: other keys, other SSRCs. The transport at the media worker, the
//! tracks on it and everybody's subscriptions stay; they go on with the next key frame.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use ratssaal_proto::bridge::v1::relay_room::Message;
use ratssaal_proto::bridge::v1::{RelayClose, RelayOpen, RelayPull, RelayTracks};

use super::wire::{self, Layer, Offer, Open, Part};
use crate::media::control::{
    Codec, Command, ExtensionIds, Kind, LegId, ReceiveSection, RelayKey, RelayParameters, RoomId, SendSection, TrackId,
    TransportId, Wanted,
};
use crate::room::{LocalMedia, LocalTrack, ParticipantSid, TrackSid};

/// What follows.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Action {
    /// Tell the other bridge.
    Send(Message),
    /// Order the media worker.
    Media(Command),
    /// Media of a track there can be had here, or in other codecs than before.
    Publish(TrackSid, LocalTrack),
    /// It cannot any more.
    Withdraw(TrackSid, LocalTrack),
    /// Somebody there gets a track of this participant.
    Subscribed(ParticipantSid, TrackSid),
}

/// A track of the other bridge, in one of its codecs.
#[derive(Debug)]
struct Remote {
    offer: Offer,
    media: TrackId,
    /// The SSRCs of its streams in this session, lowest first.
    streams: Vec<(u32, u32)>,
    /// Which streams are needed here, a bit each; of a single one its layers, from the lowest.
    needed: u8,
}

/// A track of ours, in one of its codecs.
#[derive(Debug)]
struct Own {
    offer: Offer,
    media: TrackId,
    /// What the other bridge pulls of it.
    pulled: Vec<(LegId, Layer)>,
}

/// One room's exchange with one other bridge.
#[derive(Debug)]
pub(super) struct Exchange {
    /// The transport at the media worker; another one after it was closed.
    transport: TransportId,
    room: RoomId,
    peer: Arc<str>,
    /// Whether our name sorts first, and our numbers are used both ways.
    leads: bool,
    addresses: Vec<SocketAddr>,
    limit: Option<u64>,
    /// Our opening, and whether a session was made of it.
    mine: Open,
    used: bool,
    theirs: Option<Open>,
    own: BTreeMap<Part, Own>,
    remote: BTreeMap<Part, Remote>,
    by_media: HashMap<TrackId, Part>,
    /// The codecs that somebody here needs and in which tracks there do not come.
    wanted: BTreeSet<(TrackSid, Codec)>,
    /// Whether the worker knows the transport.
    opened: bool,
    actions: Vec<Action>,
}

impl Exchange {
    /// For a room on this worker, which can be reached at `addresses`; at most `limit` bits per second are sent.
    pub(super) fn new(room: RoomId, addresses: &[SocketAddr], peer: &str, me: &str, limit: Option<u64>) -> Self {
        Self {
            transport: TransportId::next(),
            room,
            peer: peer.into(),
            leads: me < peer,
            addresses: addresses.to_vec(),
            limit,
            mine: opening(addresses),
            used: false,
            theirs: None,
            own: BTreeMap::new(),
            remote: BTreeMap::new(),
            by_media: HashMap::new(),
            wanted: BTreeSet::new(),
            opened: false,
            actions: Vec::new(),
        }
    }

    /// Whether the other bridge has the room and listens.
    pub(super) fn is_open(&self) -> bool {
        self.theirs.is_some()
    }

    /// What is to be done, in this order.
    pub(super) fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// There is a (new) stream to the other bridge.
    pub(super) fn linked(&mut self, limit: Option<u64>) {
        self.limit = limit;
        self.renew();
        self.theirs = None;
        self.send_open(0);
    }

    /// Media does not come any more, and will not soon: the tracks there cannot be had until there is a session again.
    pub(super) fn given_up(&mut self) {
        self.renew();
        self.theirs = None;
        self.withdraw_all();
        for own in self.own.values_mut() {
            own.pulled.clear();
        }
        if std::mem::take(&mut self.opened) {
            let transport = std::mem::replace(&mut self.transport, TransportId::next());
            self.actions.push(Action::Media(Command::CloseTransport { transport }));
        }
    }

    /// The relay ends.
    pub(super) fn close(&mut self) {
        self.given_up();
        self.actions.push(Action::Send(Message::Close(RelayClose {})));
    }

    /// The other bridge needs no relay any more; it may come back.
    pub(super) fn closed(&mut self) {
        self.given_up();
    }

    /// The other bridge's opening.
    pub(super) fn open(&mut self, open: RelayOpen) {
        let Some(open) = Open::decode(open) else {
            tracing::warn!(peer = &*self.peer, "the opening of a relay cannot be used; do the versions fit?");
            return;
        };
        if self.theirs.as_ref().is_some_and(|theirs| theirs.session == open.session) {
            return;
        }
        if self.used {
            self.renew();
        }
        if open.answers != self.mine.session {
            self.send_open(open.session);
        }
        self.used = true;
        self.opened = true;
        let parameters = RelayParameters {
            remote: open.addresses.clone(),
            seal: self.mine.key.clone(),
            open: open.key.clone(),
            listen_ssrc: self.mine.report_ssrc,
            report_ssrc: open.report_ssrc,
            limit: self.limit,
        };
        self.theirs = Some(open);
        let (transport, room) = (self.transport, self.room);
        self.actions.push(Action::Media(Command::OpenRelay { transport, room, parameters: Box::new(parameters) }));
        for own in self.own.values_mut() {
            own.pulled.clear();
        }
        for remote in self.remote.values_mut() {
            remote.streams = streams(&remote.offer);
        }
        self.negotiate();
        self.send_tracks();
        for part in self.remote.keys().cloned().collect::<Vec<_>>() {
            self.pull(&part);
        }
        let wanted = self.wanted.iter().map(|(sid, codec)| Action::Send(Message::Codec(wire::want(sid, *codec))));
        self.actions.extend(wanted);
    }

    /// The tracks that have media on this bridge.
    pub(super) fn own_tracks(&mut self, tracks: Vec<(TrackSid, LocalTrack)>) {
        let mut before = std::mem::take(&mut self.own);
        let mut changed = false;
        let all = tracks.iter().flat_map(|(sid, track)| {
            let media = std::iter::once(track.first()).chain(track.backups.iter().cloned());
            media.enumerate().map(move |(place, media)| ((sid.clone(), place), &track.publisher, media))
        });
        for (part, publisher, media) in all {
            let Some(kind) = media.codec().map(Codec::kind) else { continue };
            let offer = Offer {
                publisher: publisher.clone(),
                instance: media.track.0,
                kind,
                payload_types: wire::renumber(&media.payload_types),
                rids: media.rids,
            };
            let known = before.remove(&part).filter(|own| own.media == media.track);
            changed |= known.as_ref().is_none_or(|own| own.offer != offer);
            let pulled = known.map(|own| own.pulled).unwrap_or_default();
            self.own.insert(part, Own { offer, media: media.track, pulled });
        }
        changed |= !before.is_empty();
        if changed && self.theirs.is_some() {
            let pulled = before.values().any(|own| !own.pulled.is_empty());
            self.send_tracks();
            if pulled {
                self.negotiate();
            }
        }
    }

    /// The tracks of the other bridge.
    pub(super) fn remote_tracks(&mut self, tracks: RelayTracks) {
        if self.theirs.is_none() {
            return; // of a session that is over
        }
        let mut before = std::mem::take(&mut self.remote);
        let (mut changed, mut gone) = (BTreeSet::new(), Vec::new());
        for (part, offer) in wire::read_tracks(tracks) {
            match before.remove(&part) {
                Some(known) if known.offer == offer => drop(self.remote.insert(part, known)),
                known => {
                    gone.extend(known.map(|known| (part.clone(), known)));
                    let (media, streams) = (TrackId::next(), streams(&offer));
                    self.by_media.insert(media, part.clone());
                    changed.insert(part.0.clone());
                    self.remote.insert(part, Remote { offer, media, streams, needed: 0 });
                }
            }
        }
        gone.extend(before);
        for ((sid, place), remote) in gone {
            self.by_media.remove(&remote.media);
            if place == 0 {
                // Whoever needs another codec of what comes instead asks for it again.
                self.wanted.retain(|(wanted, _)| *wanted != sid);
                let track = self.local(&remote, Vec::new());
                self.actions.push(Action::Withdraw(sid, track));
            } else {
                changed.insert(sid);
            }
        }
        self.negotiate();
        for sid in changed {
            if let Some(track) = self.published(&sid) {
                self.actions.push(Action::Publish(sid, track));
            }
        }
        let remote = &self.remote;
        self.wanted.retain(|(sid, codec)| lacks(remote, sid, *codec));
    }

    /// Somebody here can decode a track only in this codec, in which it does not come.
    pub(super) fn want(&mut self, sid: &TrackSid, codec: Codec) {
        let new = lacks(&self.remote, sid, codec) && self.wanted.insert((sid.clone(), codec));
        if new && self.theirs.is_some() {
            self.actions.push(Action::Send(Message::Codec(wire::want(sid, codec))));
        }
    }

    /// Somebody here needs these streams of a track there, a bit each, or of a track of one stream these layers of it.
    pub(super) fn needed(&mut self, media: TrackId, layers: u8) {
        let Some(part) = self.by_media.get(&media).cloned() else { return };
        if let Some(remote) = self.remote.get_mut(&part) {
            remote.needed = layers;
            if self.theirs.is_some() {
                self.pull(&part);
                if layers == 0 {
                    let message = wire::pull(&part, &[]);
                    self.actions.push(Action::Send(Message::Pull(message)));
                }
            }
        }
    }

    /// The other bridge pulls a track.
    pub(super) fn pulled(&mut self, pull: &RelayPull) {
        let (part, layers) = wire::read_pull(pull);
        let Some(own) = self.own.get_mut(&part).filter(|_| self.theirs.is_some()) else { return };
        let streams = own.offer.streams();
        let first = own.pulled.is_empty() && !layers.is_empty();
        let before = std::mem::take(&mut own.pulled);
        for layer in layers.into_iter().filter(|layer| streams == 1 || usize::from(layer.layer) < streams) {
            let known = before.iter().find(|(_, known)| known.ssrc == layer.ssrc).map(|(leg, _)| *leg);
            own.pulled.push((known.unwrap_or_else(LegId::next), layer));
        }
        let publisher = own.offer.publisher.clone();
        let wants: Vec<_> = own.pulled.iter().map(|(leg, layer)| (*leg, Wanted::up_to(layer.layer))).collect();
        self.negotiate();
        let transport = self.transport;
        for (leg, wanted) in wants {
            self.actions.push(Action::Media(Command::Want { transport, leg, wanted }));
        }
        if first {
            self.actions.push(Action::Subscribed(publisher, part.0));
        }
    }

    fn renew(&mut self) {
        self.mine = opening(&self.addresses);
        self.used = false;
    }

    fn withdraw_all(&mut self) {
        for ((sid, _), remote) in std::mem::take(&mut self.remote).into_iter().filter(|((_, place), _)| *place == 0) {
            let track = self.local(&remote, Vec::new());
            self.actions.push(Action::Withdraw(sid, track));
        }
        self.by_media.clear();
        self.wanted.clear();
    }

    fn send_open(&mut self, answers: u64) {
        let open = Open { answers, ..self.mine.clone() };
        self.actions.push(Action::Send(Message::Open(open.encode())));
    }

    fn send_tracks(&mut self) {
        let tracks = wire::tracks(self.own.iter().map(|(part, own)| (part, &own.offer)));
        self.actions.push(Action::Send(Message::Tracks(tracks)));
    }

    /// Pulls what is needed of a track.
    fn pull(&mut self, part: &Part) {
        let Some(remote) = self.remote.get(part).filter(|remote| remote.needed > 0) else { return };
        let layer = |(index, &(ssrc, rtx_ssrc)): (usize, &(u32, u32))| Layer { layer: index as u8, ssrc, rtx_ssrc };
        let layers: Vec<Layer> = match &remote.streams[..] {
            [only] => vec![layer((highest(remote.needed), only))],
            all => all.iter().enumerate().filter(|(index, _)| remote.needed >> index & 1 == 1).map(layer).collect(),
        };
        let message = wire::pull(part, &layers);
        self.actions.push(Action::Send(Message::Pull(message)));
    }

    /// What flows on the transport, both ways.
    fn negotiate(&mut self) {
        let Some(theirs) = &self.theirs else { return };
        let extensions = if self.leads { wire::EXTENSIONS } else { known(&theirs.extensions) };
        let receive = self.remote.values().map(|remote| ReceiveSection {
            mid: remote.offer.publisher.to_string(),
            track: remote.media,
            kind: remote.offer.kind,
            payload_types: remote.offer.payload_types.clone(),
            rids: remote.offer.rids.clone(),
            ssrcs: remote.streams.iter().map(|&(ssrc, rtx)| (ssrc, Some(rtx))).collect(),
        });
        let send = self.own.values().flat_map(|own| {
            own.pulled.iter().map(|&(leg, layer)| SendSection {
                leg,
                track: own.media,
                mid: String::new(),
                payload_types: own.offer.payload_types.clone(),
                ssrc: layer.ssrc,
                rtx_ssrc: layer.rtx_ssrc,
                transport_wide: false,
                wanted: Wanted::up_to(layer.layer),
            })
        });
        let (receive, send) = (receive.collect(), send.collect());
        let transport = self.transport;
        self.actions.push(Action::Media(Command::Negotiated { transport, extensions, receive, send }));
    }

    /// A track there in all its codecs.
    fn published(&self, sid: &TrackSid) -> Option<LocalTrack> {
        let first = self.remote.get(&(sid.clone(), 0))?;
        let backups = (1..=wire::MAX_BACKUPS).filter_map(|place| self.remote.get(&(sid.clone(), place)));
        let backup = |remote: &Remote| LocalMedia {
            track: remote.media,
            payload_types: remote.offer.payload_types.clone(),
            rids: remote.offer.rids.clone(),
        };
        Some(self.local(first, backups.map(backup).collect()))
    }

    fn local(&self, remote: &Remote, backups: Vec<LocalMedia>) -> LocalTrack {
        LocalTrack {
            media: remote.media,
            payload_types: remote.offer.payload_types.clone(),
            rids: remote.offer.rids.clone(),
            publisher: remote.offer.publisher.clone(),
            relay: Some(Arc::clone(&self.peer)),
            borrowed: false,
            backups,
        }
    }
}

/// Whether a track there does not come in this codec.
fn lacks(remote: &BTreeMap<Part, Remote>, sid: &TrackSid, codec: Codec) -> bool {
    let own: Vec<_> = remote.range((sid.clone(), 0)..=(sid.clone(), wire::MAX_BACKUPS)).collect();
    !own.is_empty() && own.iter().all(|(_, known)| known.offer.codec() != Some(codec))
}

/// The highest of some layers, a bit each.
fn highest(layers: u8) -> usize {
    (u8::BITS - layers.leading_zeros()).saturating_sub(1) as usize
}

/// A new opening of ours.
fn opening(addresses: &[SocketAddr]) -> Open {
    Open {
        session: rand::random::<u64>().max(1),
        answers: 0,
        addresses: addresses.to_vec(),
        key: RelayKey::random(),
        report_ssrc: ssrc(),
        extensions: wire::EXTENSIONS,
    }
}

/// SSRCs for the streams of a track, each with that of its retransmissions.
fn streams(offer: &Offer) -> Vec<(u32, u32)> {
    let streams = if offer.kind == Kind::Audio { 1 } else { offer.streams() };
    (0..streams).map(|_| (ssrc(), ssrc())).collect()
}

/// Random, so that rooms on the same worker do not share one; and none of those with a meaning.
fn ssrc() -> u32 {
    rand::random_range(0x1_0000..=u32::MAX)
}

/// Of the extensions another version numbers, those that this one passes on.
fn known(theirs: &ExtensionIds) -> ExtensionIds {
    ExtensionIds {
        audio_level: theirs.audio_level,
        dependency_descriptor: theirs.dependency_descriptor,
        abs_capture_time: theirs.abs_capture_time,
        playout_delay: theirs.playout_delay,
        video_orientation: theirs.video_orientation,
        ..ExtensionIds::default()
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
