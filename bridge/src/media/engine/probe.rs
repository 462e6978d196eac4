//! Probing towards subscribers, when the estimate asks for it: with what waits to be sent anyway, with the newest packets of
//! a video leg once more (they may be lost, and nobody has had to ask), and with padding. The last two on the RTX stream.

use std::time::Instant;

use super::super::bandwidth::Purpose;
use super::super::control::Kind;
use super::super::pacer::AROUND;
use super::Engine;
use super::peer::{LegRef, Peer};
use super::replay::stored;

/// A repetition is at most so many bytes larger than what is to be sent.
const ROUNDING: usize = 600;

impl Engine {
    /// Lets a peer's estimate know the time, and sends what it wants to probe with.
    pub(super) fn probe(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.connected()) else { return };
        peer.bandwidth.tick(now);
        let mut due = peer.bandwidth.probe(now);
        while due > 0 {
            let Some(sent) = self.send_waiting(now, key) else { break };
            due = due.saturating_sub(sent + AROUND);
        }
        // Any leg will do: what is measured is the way, not the track.
        for at in 0..self.peers.get(key).map_or(0, |peer| peer.legs.len()) {
            if due == 0 {
                return;
            }
            let Some(known) = self.peers.get(key).and_then(|peer| peer.legs.get(at)).copied() else { return };
            due = self.repeat(now, key, known, due);
            due = self.pad(now, key, known, due);
        }
        if due > 0
            && let Some(peer) = self.peers.get_mut(key)
        {
            peer.bandwidth.cannot_probe(now);
        }
    }

    /// Sends the newest packets of a leg again; how many bytes are left to be sent.
    fn repeat(&mut self, now: Instant, key: usize, known: LegRef, mut due: usize) -> usize {
        let Some(track) = self.tracks.get_mut(known.track).filter(|track| track.kind == Kind::Video) else {
            return due;
        };
        let Some(leg) = track.legs.iter_mut().find(|leg| leg.id == known.leg) else { return due };
        while due > ROUNDING {
            let Some(repair) = leg.newest(now) else { break };
            let layer = &track.layers[usize::from(repair.stream)];
            let index = u64::from(repair.sequence);
            let Some(publisher) = self.peers.get(track.peer) else { break };
            let types = (&track.payload_types[..], &publisher.map);
            let Some(packet) = stored(layer, repair.stream, index, types, now) else { break };
            let bytes = packet.payload.len() + AROUND;
            let Some(mut to) = self.peers.get_mut(key).and_then(Peer::destination) else { break };
            if bytes > due + ROUNDING || !leg.repair(now, (&repair, Purpose::Probe), &packet, &mut to, &mut self.outbox)
            {
                break;
            }
            due = due.saturating_sub(bytes);
            self.counters.probe_bytes += bytes as u64;
        }
        due
    }

    /// Sends padding on a leg; how many bytes are left to be sent.
    fn pad(&mut self, now: Instant, key: usize, known: LegRef, mut due: usize) -> usize {
        let Some(track) = self.tracks.get_mut(known.track).filter(|track| track.kind == Kind::Video) else {
            return due;
        };
        let Some(leg) = track.legs.iter_mut().find(|leg| leg.id == known.leg) else { return due };
        while due > 0 {
            let Some(mut to) = self.peers.get_mut(key).and_then(Peer::destination) else { break };
            let sent = leg.pad(now, due, &mut to, &mut self.outbox);
            if sent == 0 {
                break; // this leg cannot
            }
            due = due.saturating_sub(sent);
            self.counters.probe_bytes += sent as u64;
        }
        due
    }
}
