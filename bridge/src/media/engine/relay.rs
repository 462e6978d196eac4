//! What is different towards another bridge: its packets are known by their SSRCs, its legs are pulled one by one, and
//! nothing of it is renegotiated by SDP.

use std::time::Instant;

use super::super::control::{Event, RelayParameters, RoomId, TransportId};
use super::peer::Peer;
use super::{Engine, TICK};
use crate::transport::five_tuple::FiveTuple;

impl Engine {
    /// The way to another bridge that a packet claims to come on: its SSRC was chosen here. Many rooms share a pair of
    /// ports, and addresses may change behind NAT, so the address alone says nothing; the key decides.
    pub(super) fn relay_of(&self, datagram: &[u8], rtcp: bool) -> Option<usize> {
        if self.by_relay_ssrc.is_empty() {
            return None;
        }
        let at = if rtcp { 4 } else { 8 };
        let ssrc = u32::from_be_bytes(*datagram.get(at..)?.first_chunk()?);
        self.by_relay_ssrc.get(&ssrc).copied()
    }

    /// Opens the way to another bridge for a room, or gives the open one new keys.
    pub(super) fn open_relay(
        &mut self,
        now: Instant,
        transport: TransportId,
        room: RoomId,
        parameters: &RelayParameters,
    ) {
        let key = match self.by_transport.get(&transport) {
            Some(&key) if self.peers[key].is_relay() => {
                // What it pulled went with its session.
                for leg in self.peers[key].legs.clone() {
                    self.keep_supply(leg.track);
                    self.remove_leg(key, leg);
                }
                if !self.peers[key].rekey(now, parameters) {
                    return;
                }
                key
            }
            Some(_) => return,
            None => {
                let Some(entry) = self.rooms.get_mut(&room) else { return };
                let Some(peer) = Peer::relay(now, (transport, room), parameters) else { return };
                let key = self.peers.insert(peer);
                entry.peers.push(key);
                self.by_transport.insert(transport, key);
                self.next_tick.get_or_insert(now + TICK);
                key
            }
        };
        self.expect_relayed(key);
        self.peers[key].try_path(now, &mut self.writer, &mut self.outbox);
    }

    /// A leg to another bridge goes without a word from there: its track's publisher does not stop at once.
    pub(super) fn keep_supply(&mut self, at: usize) {
        if let Some(track) = self.tracks.get_mut(at) {
            track.supply.keep();
        }
    }

    /// Notes which SSRCs a bridge was told to use.
    pub(super) fn expect_relayed(&mut self, key: usize) {
        let Some(peer) = self.peers.get(key) else { return };
        let Some(path) = peer.link.relay() else { return };
        self.by_relay_ssrc.retain(|_, holder| *holder != key);
        self.by_relay_ssrc.insert(path.listen_ssrc, key);
        for (media, rtx) in peer.sections.iter().flat_map(|section| &section.ssrcs) {
            self.by_relay_ssrc.insert(*media, key);
            self.by_relay_ssrc.extend(rtx.map(|rtx| (rtx, key)));
        }
    }

    /// The first authentic packet of another bridge has come: it is answered at once, so that the way is known both ways.
    pub(super) fn reached(&mut self, now: Instant, key: usize, from: FiveTuple) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        self.writer.clear();
        self.writer.receiver_report(&[]);
        peer.send_rtcp(&mut self.writer, &mut self.outbox);
        self.events.push(Event::Connected { transport: peer.id, remote: from.remote });
        self.open_legs(now, key);
    }

    /// Each second: how much was relayed on a way.
    pub(super) fn relay_report(&mut self, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let Some(path) = peer.link.relay_mut() else { return };
        let (sent, received) = (std::mem::take(&mut path.sent), std::mem::take(&mut path.received));
        if sent > 0 || received > 0 {
            self.events.push(Event::Relayed { transport: peer.id, sent, received });
        }
    }
}
