//! What signalling orders: rooms, transports, tracks and legs come and go.

use std::time::Instant;

use super::super::control::{CloseReason, Command, Event, Kind, ReceiveSection, RoomId, SendSection, TrackId};
use super::super::leg::Leg;
use super::super::requests::Requests;
use super::super::rtp::ExtensionMap;
use super::super::track::Track;
use super::link::Link;
use super::peer::{LegRef, Peer};
use super::{Engine, Room};
use crate::transport::ice::IceLite;

impl Engine {
    /// Carries out a command. One for something that is gone already does nothing.
    pub(crate) fn command(&mut self, now: Instant, command: Command) {
        self.carry_out(now, command);
        self.settle(now);
    }

    fn carry_out(&mut self, now: Instant, command: Command) {
        match command {
            Command::OpenRoom { room } => {
                self.rooms.insert(room, Room::default());
            }
            Command::CloseRoom { room } => {
                let peers = self.rooms.get(&room).map(|room| room.peers.clone()).unwrap_or_default();
                peers.into_iter().for_each(|key| self.close(key, CloseReason::Room));
                self.rooms.remove(&room);
            }
            Command::ExpectChecks { transport, local_ufrag, local_pwd } => {
                self.expected.retain(|_, (other, _)| *other != transport);
                let ice = IceLite::expecting(now, &local_ufrag, &local_pwd);
                self.expected.insert(local_ufrag, (transport, ice));
            }
            Command::OpenTransport { transport, room, ice, dtls, open_channels } => {
                let Some(entry) = self.rooms.get_mut(&room) else { return };
                let early = self.expected.remove(&ice.local_ufrag);
                let lite = match early {
                    Some((_, early)) => early.answered(now, &ice),
                    None => IceLite::new(now, &ice),
                };
                let peer = Peer::new(now, &self.identity, (transport, room), lite, &dtls, open_channels);
                let key = self.peers.insert(peer);
                entry.peers.push(key);
                self.by_transport.insert(transport, key);
                self.by_ufrag.insert(ice.local_ufrag, key);
                self.next_tick.get_or_insert(now + super::TICK);
                self.bind_pairs(now, key);
            }
            Command::GoOn { transport, channels, downlink } => {
                let Some(&key) = self.by_transport.get(&transport) else { return };
                let peer = &mut self.peers[key];
                if let Link::Client(client) = &mut peer.link {
                    client.adopted = Some(channels);
                }
                if let Some(downlink) = downlink {
                    peer.bandwidth.go_on(downlink);
                }
            }
            Command::Describe { transport } => {
                let Some(&key) = self.by_transport.get(&transport) else { return };
                let downlink = self.peers[key].bandwidth.describe();
                self.events.push(Event::Described { transport, downlink });
            }
            Command::RestartIce { transport, ice } => {
                let Some(&key) = self.by_transport.get(&transport) else { return };
                let Link::Client(client) = &mut self.peers[key].link else { return };
                let unused = client.ice.restart(&ice);
                let early = self.expected.remove(&ice.local_ufrag);
                let retired = early.and_then(|(_, early)| client.ice.adopt(now, early));
                for ufrag in [unused, retired].into_iter().flatten() {
                    self.by_ufrag.remove(&ufrag);
                }
                self.by_ufrag.insert(ice.local_ufrag, key);
                self.bind_pairs(now, key);
            }
            Command::CloseTransport { transport } => {
                self.expected.retain(|_, (expected, _)| *expected != transport);
                if let Some(&key) = self.by_transport.get(&transport) {
                    self.close(key, CloseReason::Requested);
                }
            }
            Command::Negotiated { transport, extensions, receive, send } => {
                let Some(&key) = self.by_transport.get(&transport) else { return };
                let peer = &mut self.peers[key];
                peer.ids = extensions;
                peer.map = ExtensionMap::new(&extensions);
                peer.bandwidth.negotiated(extensions.twcc != 0 && send.iter().any(|section| section.transport_wide));
                self.negotiate_tracks(now, key, receive);
                self.negotiate_legs(key, send);
                self.expect_relayed(key);
            }
            Command::OpenRelay { transport, room, parameters } => self.open_relay(now, transport, room, &parameters),
            Command::Want { transport, leg, wanted } => {
                let Some(&key) = self.by_transport.get(&transport) else { return };
                let peer = &mut self.peers[key];
                if let Some(orphan) = peer.orphans.iter_mut().find(|orphan| orphan.leg == leg) {
                    orphan.wanted = wanted;
                }
                let Some(known) = peer.legs.iter_mut().find(|known| known.leg == leg) else { return };
                known.wanted = wanted.layer.is_some();
                let track = &mut self.tracks[known.track];
                let Some(index) = track.legs.iter().position(|known| known.id == leg) else { return };
                let leg = &mut track.legs[index];
                leg.fresh |= std::mem::replace(&mut leg.wanted, wanted) != wanted;
                if wanted.layer.is_none() {
                    track.aim(index, None);
                }
                self.reconsider(key);
            }
            Command::DescribeTrack { track, screen, bitrates } => {
                let Some(&at) = self.by_track.get(&track) else { return };
                let track = &mut self.tracks[at];
                (track.screen, track.described) = (screen, bitrates);
                self.reconsider_track(at);
            }
            Command::MuteTrack { track, muted } => {
                let Some(&at) = self.by_track.get(&track) else { return };
                let track = &mut self.tracks[at];
                track.muted = muted;
                let room = track.room;
                self.count_microphones(room);
                let track = &mut self.tracks[at];
                track.layers.iter_mut().for_each(|layer| layer.key_frame = None);
                if !muted {
                    // What was sent meanwhile is missing to everybody.
                    for leg in &mut track.legs {
                        leg.pause();
                        leg.fresh = true;
                    }
                    track.supply.restart(now);
                    if track.kind == Kind::Video && !track.relayed {
                        // Clients forget it while they are muted.
                        let (transport, track, layers) = (track.transport, track.id, track.supply.asked());
                        self.events.push(Event::LayersNeeded { transport, track, layers });
                    }
                }
                self.reconsider_track(at);
            }
            Command::ExemptTrack { track, exempt } => {
                if let Some(&at) = self.by_track.get(&track) {
                    self.tracks[at].exempt = exempt;
                }
            }
            Command::EncryptedTrack { track } => {
                if let Some(&at) = self.by_track.get(&track) {
                    self.tracks[at].encrypted = true;
                }
            }
            Command::SendData { transport, channel, payload } => {
                let Some(&key) = self.by_transport.get(&transport) else { return };
                let end = self.peers[key].send_data(now, channel, payload, &mut self.events);
                self.after_dtls(now, key, end);
            }
        }
    }

    pub(super) fn negotiate_tracks(&mut self, now: Instant, key: usize, sections: Vec<ReceiveSection>) {
        let old = self.peers[key].tracks.clone();
        for at in old {
            if !sections.iter().any(|section| section.track == self.tracks[at].id) {
                self.remove_track(at);
            }
        }
        let (transport, room) = (self.peers[key].id, self.peers[key].room);
        for section in &sections {
            match self.by_track.get(&section.track) {
                Some(&at) if self.tracks[at].peer == key => self.tracks[at].renegotiate(section),
                Some(_) => {} // somebody else's: signalling does not do that
                None => {
                    let mirrored = self.peers[key].link.mirrored();
                    let relayed = self.peers[key].is_relay() || mirrored.is_some();
                    let mut track = Track::new(now, section, room, transport, key, relayed);
                    if let Some(mirrored) = mirrored {
                        track.mirrored = true;
                        track.voice = if mirrored.relayed { track.voice } else { key };
                    }
                    if self.peers[key].link.goes_on() {
                        track.expect(section);
                    }
                    let at = self.tracks.insert(track);
                    self.by_track.insert(section.track, at);
                    self.peers[key].tracks.push(at);
                    if let Some(room) = self.rooms.get_mut(&room) {
                        room.tracks.push(at);
                    }
                    self.adopt(section.track, at);
                }
            }
        }
        self.peers[key].sections = sections;
        self.count_microphones(room);
    }

    /// How many voices there are decides whether all are forwarded.
    fn count_microphones(&mut self, room: RoomId) {
        let Some(room) = self.rooms.get_mut(&room) else { return };
        let open = |at: &&usize| self.tracks.get(**at).is_some_and(|t| t.kind == Kind::Audio && !t.muted);
        room.microphones = room.tracks.iter().filter(open).count();
    }

    /// Legs that were there before their track.
    fn adopt(&mut self, track: TrackId, at: usize) {
        let room = self.tracks[at].room;
        let peers = self.rooms.get(&room).map(|room| room.peers.clone()).unwrap_or_default();
        for key in peers {
            let (found, rest) =
                std::mem::take(&mut self.peers[key].orphans).into_iter().partition(|orphan| orphan.track == track);
            self.peers[key].orphans = rest;
            let found: Vec<SendSection> = found;
            found.into_iter().for_each(|section| self.add_leg(key, at, section));
        }
    }

    fn negotiate_legs(&mut self, key: usize, sections: Vec<SendSection>) {
        let peer = &mut self.peers[key];
        peer.orphans.clear();
        let gone: Vec<LegRef> =
            peer.legs.iter().copied().filter(|known| !sections.iter().any(|s| s.leg == known.leg)).collect();
        gone.into_iter().for_each(|leg| self.remove_leg(key, leg));
        for section in sections {
            let known = self.peers[key].legs.iter().find(|known| known.leg == section.leg).map(|known| known.track);
            match (known, self.by_track.get(&section.track)) {
                (Some(at), Some(&to)) if at != to => self.retarget_leg(key, (at, to), section),
                (Some(at), _) => {
                    let Track { legs, payload_types, layer_count, .. } = &mut self.tracks[at];
                    if let Some(leg) = legs.iter_mut().find(|leg| leg.id == section.leg) {
                        leg.renegotiate(section);
                        leg.translate(payload_types, *layer_count);
                    }
                }
                (None, Some(&at)) => self.add_leg(key, at, section),
                (None, None) => self.peers[key].orphans.push(section),
            }
        }
    }

    /// A leg carries another track from now on, which is the same to the subscriber: its numbers go on.
    fn retarget_leg(&mut self, key: usize, (from, to): (usize, usize), section: SendSection) {
        let Some(index) = self.tracks[from].legs.iter().position(|leg| leg.id == section.leg) else { return };
        let mut leg = self.tracks[from].legs.swap_remove(index);
        leg.pause();
        leg.fresh = true;
        leg.renegotiate(section);
        let track = &mut self.tracks[to];
        leg.translate(&track.payload_types, track.layer_count);
        if let Some(known) = self.peers[key].legs.iter_mut().find(|known| known.leg == leg.id) {
            (known.track, known.at) = (to, track.legs.len());
        }
        track.legs.push(leg);
        self.reconsider(key);
    }

    fn add_leg(&mut self, key: usize, at: usize, section: SendSection) {
        let (peer, track) = (&mut self.peers[key], &mut self.tracks[at]);
        let wanted = section.wanted.layer.is_some();
        peer.legs.push(LegRef {
            leg: section.leg,
            track: at,
            ssrc: section.ssrc,
            wanted,
            at: track.legs.len(),
            requests: Requests::default(),
        });
        let mut leg = Leg::new(section, peer.id, key, track.kind, rand::random());
        leg.exact = peer.is_relay();
        leg.translate(&track.payload_types, track.layer_count);
        if let Some(outbound) = &mut peer.outbound {
            leg.open(outbound);
        }
        track.legs.push(leg);
        self.reconsider(key);
    }

    /// SRTP of a peer is up: its legs can start, and ask for key frames only now.
    pub(super) fn open_legs(&mut self, now: Instant, key: usize) {
        let peer = &mut self.peers[key];
        let Some(outbound) = &mut peer.outbound else { return };
        let mut tracks: Vec<usize> = peer.legs.iter().map(|leg| leg.track).collect();
        tracks.sort_unstable();
        tracks.dedup();
        for &at in &tracks {
            let track = &mut self.tracks[at];
            for index in 0..track.legs.len() {
                if track.legs[index].peer == key {
                    track.legs[index].open(outbound);
                }
            }
        }
        self.allocate(now, key);
        // Who goes on with a PeerConnection sends what cannot be decoded here without what it has sent elsewhere.
        for at in self.peers[key].tracks.clone() {
            self.request_key_frames(now, at);
        }
    }

    pub(super) fn remove_leg(&mut self, key: usize, leg: LegRef) {
        let peer = &mut self.peers[key];
        peer.legs.retain(|known| known.leg != leg.leg);
        let Some(track) = self.tracks.get_mut(leg.track) else { return };
        if let Some(index) = track.legs.iter().position(|known| known.id == leg.leg) {
            let mut leg = track.legs.swap_remove(index);
            if let Some(outbound) = &mut peer.outbound {
                leg.close(outbound);
            }
        }
    }

    fn remove_track(&mut self, at: usize) {
        let mut track = self.tracks.remove(at);
        self.by_track.remove(&track.id);
        if let Some(room) = self.rooms.get_mut(&track.room) {
            room.tracks.retain(|&key| key != at);
            room.voices.remove(at);
            room.microphones = room.microphones.saturating_sub(usize::from(track.kind == Kind::Audio && !track.muted));
        }
        if let Some(publisher) = self.peers.get_mut(track.peer) {
            publisher.unbind(at);
        }
        for leg in &mut track.legs {
            let Some(peer) = self.peers.get_mut(leg.peer) else { continue };
            peer.legs.retain(|known| known.leg != leg.id);
            if let Some(outbound) = &mut peer.outbound {
                leg.close(outbound);
            }
        }
    }

    /// Ends a transport with all it has.
    pub(super) fn close(&mut self, key: usize, reason: CloseReason) {
        let Some(mut peer) = self.peers.try_remove(key) else { return };
        peer.close(&mut self.outbox);
        self.last = None;
        self.by_transport.remove(&peer.id);
        self.by_ufrag.retain(|_, &mut holder| holder != key);
        self.by_pair.retain(|_, &mut holder| holder != key);
        self.by_relay_ssrc.retain(|_, &mut holder| holder != key);
        if let Some(room) = self.rooms.get_mut(&peer.room) {
            room.peers.retain(|&other| other != key);
            room.spotlight.forget(key);
        }
        for leg in std::mem::take(&mut peer.legs) {
            if peer.is_relay() {
                self.keep_supply(leg.track);
            }
            if let Some(track) = self.tracks.get_mut(leg.track) {
                track.legs.retain(|known| known.id != leg.leg);
            }
        }
        std::mem::take(&mut peer.tracks).into_iter().for_each(|at| self.remove_track(at));
        if !peer.is_mirror() {
            self.events.push(Event::Closed { transport: peer.id, reason });
        }
    }
}
