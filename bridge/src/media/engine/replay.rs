//! What the history is good for: packets that are asked for again, and a fresh key frame for a subscriber that waits for
//! one. The key frame and all that has come since are sent at once; the decoder catches up within a moment, and the
//! publisher need not make another key frame for everybody.

use std::time::{Duration, Instant};

use super::super::codec::Frame;
use super::super::control::{Kind, PayloadType};
use super::super::leg::Packet;
use super::super::receiver::Receiver;
use super::super::rtp::{self, ExtensionMap, Header, Values};
use super::super::track::Encoding;
use super::Engine;
use super::peer::Peer;

/// A key frame older than this is no beginning: too much would have to be caught up with.
const MAX_AGE: Duration = Duration::from_secs(1);
/// The same for a subscriber that has a picture and would have a better one: it would see the past again.
const MAX_AGE_UP: Duration = Duration::from_millis(300);
/// Packets sent at once at most.
const MAX_PACKETS: u64 = 256;
/// Bytes sent at once at most where nothing is known of the way to the subscriber.
const BURST: u64 = 128 << 10;

/// How much may be sent at once to one peer: half a second of its budget, again after a second.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Allowance(Option<(Instant, u64)>);

impl Allowance {
    /// Whether `bytes` may be sent now, in addition to what flows.
    fn take(&mut self, now: Instant, budget: Option<u64>, bytes: u64) -> bool {
        let full = budget.map_or(BURST, |bits| (bits / 16).min(BURST));
        let left = match self.0 {
            None => full,
            Some((at, left)) => {
                let millis = now.duration_since(at).as_millis().min(1000) as u64;
                full.min(left + full * millis / 1000)
            }
        };
        let enough = bytes <= left;
        self.0 = Some((now, if enough { left - bytes } else { left }));
        enough
    }
}

/// A packet out of an incoming stream's history.
pub(super) fn stored<'a>(
    encoding: &'a Encoding,
    stream: u8,
    index: u64,
    (types, map): (&[PayloadType], &ExtensionMap),
    arrived: Instant,
) -> Option<Packet<'a>> {
    let bytes = encoding.history.as_ref()?.get(index as u16)?;
    let header = Header::read(bytes).filter(|header| Some(header.ssrc) == encoding.ssrc)?;
    let payload = rtp::payload(&header, bytes)?;
    let codec = types.iter().find(|known| known.number == header.payload_type)?.codec;
    let values = Values::read(map, &header, bytes);
    let frame: Frame = encoding.reader.reread(codec, payload, values.dependency_descriptor);
    let structure = encoding.reader.structure().map(|structure| &**structure);
    let (clock, padding, bare, earlier) = (encoding.clock, 0, values.is_bare(), None);
    Some(Packet {
        layer: stream,
        index,
        header,
        values,
        bare,
        payload,
        padding,
        codec,
        frame,
        structure,
        clock,
        earlier,
        newest: true,
        arrived,
    })
}

impl Engine {
    /// Starts legs of a track that wait for a key frame with the last one, where that is fresh and at hand.
    pub(super) fn start_from_history(&mut self, now: Instant, at: usize) {
        let Some(track) = self.tracks.get_mut(at).filter(|track| track.kind == Kind::Video && !track.muted) else {
            return;
        };
        let (layers, types) = (&track.layers, &track.payload_types);
        for leg in &mut track.legs {
            let Some(stream) = leg.awaits() else { continue };
            let Some(encoding) = layers.get(usize::from(stream)) else { continue };
            let Some((key, came)) = encoding.key_frame else { continue };
            let Some(last) = encoding.receiver.as_ref().map(Receiver::highest) else { continue };
            let rises =
                leg.current().zip(leg.target).is_some_and(|(current, target)| current.spatial <= target.spatial);
            let old = now.duration_since(came) > if rises { MAX_AGE_UP } else { MAX_AGE };
            if old || last.wrapping_sub(key) >= MAX_PACKETS {
                continue;
            }
            let Some(history) = &encoding.history else { continue };
            // One packet missing, and nothing is gained: what follows could not be decoded.
            let Some(bytes) =
                (key..=last).try_fold(0, |sum, index| Some(sum + history.get(index as u16)?.len() as u64))
            else {
                continue;
            };
            let Some(peer) = self.peers.get_mut(leg.peer) else { continue };
            let budget = peer.budget();
            if !peer.allowance.take(now, budget, bytes) {
                continue;
            }
            leg.pause();
            if let Some(pacer) = &mut peer.pacer {
                for index in key..=last {
                    let len = history.get(index as u16).map_or(0, <[u8]>::len);
                    pacer.push(leg, stream, index, true, len);
                }
                self.counters.replayed += 1;
                continue;
            }
            for index in key..=last {
                let Some(publisher) = self.peers.get(track.peer) else { return };
                let Some(packet) = stored(encoding, stream, index, (types, &publisher.map), came) else { break };
                let Some(mut to) = self.peers.get_mut(leg.peer).and_then(Peer::destination) else { break };
                if leg.forward(now, &packet, &mut to, &mut self.outbox) {
                    self.counters.copied(&packet);
                }
            }
            self.counters.replayed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_bounded_by_the_budget() {
        let start = Instant::now();
        let mut allowance = Allowance::default();
        let budget = Some(1_600_000); // 100 kB in half a second
        assert!(!allowance.take(start, budget, 100_001));
        assert!(allowance.take(start, budget, 60_000));
        assert!(!allowance.take(start, budget, 40_001));
        assert!(allowance.take(start, budget, 40_000));
        assert!(!allowance.take(start + Duration::from_millis(499), budget, 50_000));
        assert!(allowance.take(start + Duration::from_millis(501), budget, 50_000));
        assert!(!allowance.take(start + Duration::from_secs(9), budget, 100_001), "never more");
        assert!(!allowance.take(start + Duration::from_secs(9), None, BURST + 1));
        assert!(allowance.take(start + Duration::from_secs(10), None, BURST));
    }
}
