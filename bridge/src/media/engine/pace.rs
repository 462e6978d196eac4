//! Sending what waits for its turn towards subscribers on narrow ways (`../pacer.rs`).

use std::time::Instant;

use super::super::control::{Event, Kind};
use super::super::leg::{Leg, Packet};
use super::super::outbox::Outbox;
use super::super::pacer::{Pacer, Waiting};
use super::peer::Peer;
use super::replay::stored;
use super::{Counters, Engine};

/// Copies a track's packets to a subscriber whose way is narrow, as far as they do not have to wait.
pub(super) fn copy_paced(
    now: Instant,
    peer: &mut Peer,
    leg: &mut Leg,
    packets: &[Packet<'_>],
    outbox: &mut Outbox,
    counters: &mut Counters,
) {
    for packet in packets {
        if !waits(now, peer, leg, packet)
            && let Some(mut to) = peer.destination()
            && leg.forward(now, packet, &mut to, outbox)
        {
            counters.copied(packet);
        }
    }
}

/// Whether a picture's packet waits (or is not wanted), so that nothing more is to be done about it now.
fn waits(now: Instant, peer: &mut Peer, leg: &mut Leg, packet: &Packet<'_>) -> bool {
    let Some(pacer) = &mut peer.pacer else { return false };
    let ready = pacer.is_empty() && peer.bandwidth.may_send(now);
    let rate = peer.bandwidth.pace().unwrap_or(f64::MAX);
    pacer.takes(leg, packet, ready, rate)
}

impl Engine {
    /// With time: whether a peer is paced, and what of that which waits may leave now.
    pub(super) fn pace(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.is_relay() {
            return; // to another bridge nothing is narrow
        }
        match (peer.bandwidth.pace().is_some(), peer.pacer.is_some()) {
            (true, false) => peer.pacer = Some(Box::<Pacer>::default()),
            (false, false) => return,
            _ => {}
        }
        while self.peers.get_mut(key).is_some_and(|peer| peer.bandwidth.may_send(now)) {
            if self.send_waiting(now, key).is_none() {
                break;
            }
        }
        if let Some(peer) = self.peers.get_mut(key)
            && peer.bandwidth.pace().is_none()
        {
            peer.pacer = None; // nothing waits any more, as nothing had to
        }
    }

    /// Sends the next packet that waits; its bytes of payload, `None` if nothing waits.
    pub(super) fn send_waiting(&mut self, now: Instant, key: usize) -> Option<usize> {
        loop {
            let waiting = self.peers.get_mut(key)?.pacer.as_mut()?.pop()?;
            if let Some(bytes) = self.send_one(now, key, &waiting) {
                return Some(bytes);
            }
        }
    }

    fn send_one(&mut self, now: Instant, key: usize, waiting: &Waiting) -> Option<usize> {
        let known = self.peers.get(key)?.legs.iter().find(|leg| leg.ssrc == waiting.ssrc)?;
        let track = self.tracks.get_mut(known.track).filter(|track| track.kind == Kind::Video)?;
        let map = &self.peers.get(track.peer)?.map;
        let leg = track.legs.iter_mut().find(|leg| leg.id == known.leg)?;
        if !leg.tail.leaves(waiting) {
            return None;
        }
        let encoding = &track.layers[usize::from(waiting.stream)];
        let Some(packet) = stored(encoding, waiting.stream, waiting.index, (&track.payload_types, map), now) else {
            leg.pause(); // too late: the history has forgotten it, and the rest is of no use
            return None;
        };
        let packet = Packet { newest: waiting.newest, ..packet };
        let mut to = self.peers.get_mut(key).and_then(Peer::destination)?;
        if !leg.forward(now, &packet, &mut to, &mut self.outbox) {
            return None;
        }
        self.counters.copied(&packet);
        if !leg.active {
            leg.active = true;
            self.events.push(Event::LegActive { transport: leg.transport, leg: leg.id, active: true });
        }
        Some(packet.payload.len())
    }
}
