//! Probing towards subscribers: padding on the RTX stream of a video leg, when the estimate asks for it.

use std::time::Instant;

use super::super::control::Kind;
use super::Engine;
use super::peer::Peer;

impl Engine {
    /// Lets a peer's estimate know the time, and sends what it wants to probe with.
    pub(super) fn probe(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.connected()) else { return };
        peer.bandwidth.tick(now);
        let mut due = peer.bandwidth.probe(now);
        if due == 0 {
            return;
        }
        // Any leg will do: what is measured is the way, not the track.
        for at in 0..peer.legs.len() {
            let Some(known) = self.peers.get(key).and_then(|peer| peer.legs.get(at)).copied() else { return };
            let Some(track) = self.tracks.get_mut(known.track).filter(|track| track.kind == Kind::Video) else {
                continue;
            };
            let Some(leg) = track.legs.iter_mut().find(|leg| leg.id == known.leg) else { continue };
            while due > 0 {
                let Some(mut to) = self.peers.get_mut(key).and_then(Peer::destination) else { return };
                let sent = leg.pad(now, due, &mut to, &mut self.outbox);
                if sent == 0 {
                    break; // this leg cannot
                }
                due = due.saturating_sub(sent);
                self.counters.probe_bytes += sent as u64;
            }
            if due == 0 {
                return;
            }
        }
        if let Some(peer) = self.peers.get_mut(key) {
            peer.bandwidth.cannot_probe(now);
        }
    }
}
