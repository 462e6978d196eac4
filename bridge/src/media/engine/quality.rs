//! What a peer's connection is like: loss, jitter and layers both ways, measured over five seconds, and whether anything
//! comes from it at all. Signalling makes words of it.

use std::time::{Duration, Instant};

use super::super::control::{Event, Kind, Quality, Way};
use super::Engine;
use crate::transport::ice::CONSENT_TIMEOUT;

/// How often a peer hears of it.
const INTERVAL: Duration = Duration::from_secs(5);
/// A peer of which nothing authenticated was heard for so long is silent. Checks of consent alone come every 4 to 6 s
/// (RFC 7675 §5.1).
const SILENT_AFTER: Duration = Duration::from_secs(7);

/// Losses of one kind: lost, of so many.
#[derive(Clone, Copy, Default, Debug)]
struct Losses {
    lost: f32,
    of: f32,
}

impl Losses {
    fn share(self) -> f32 {
        if self.of > 0.0 { (self.lost / self.of).clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// One direction since the last event.
#[derive(Clone, Copy, Default, Debug)]
struct Side {
    audio: Losses,
    video: Losses,
    /// The largest, milliseconds.
    jitter: f32,
}

impl Side {
    fn add(&mut self, kind: Kind, lost: f32, of: f32, jitter: f32) {
        let losses = if kind == Kind::Audio { &mut self.audio } else { &mut self.video };
        losses.lost += lost;
        losses.of += of;
        if kind == Kind::Audio {
            self.jitter = self.jitter.max(jitter); // a picture's packets leave in bursts
        }
    }

    fn way(self, layers_short: f32) -> Way {
        let (audio_loss, video_loss) = (self.audio.share(), self.video.share());
        Way { audio_loss, video_loss, jitter_ms: self.jitter, layers_short }
    }
}

/// What was measured of a peer.
#[derive(Debug)]
pub(super) struct Measured {
    down: Side,
    due: Instant,
    silent: bool,
    /// The share lost that the last report has named.
    lost: Option<f32>,
}

impl Measured {
    pub(super) fn new(now: Instant) -> Self {
        Self { down: Side::default(), due: now + INTERVAL, silent: false, lost: None }
    }

    /// A receiver report on one of the peer's legs: the fraction lost since the last one, and the jitter in milliseconds.
    pub(super) fn received(&mut self, kind: Kind, loss: f32, jitter: f32) {
        self.down.add(kind, loss, 1.0, jitter);
        self.lost = Some(self.lost.map_or(loss, |lost| lost.max(loss)));
    }
}

impl Measured {
    /// The largest share lost that a report has named since the last call.
    pub(super) fn lost(&mut self) -> Option<f32> {
        self.lost.take()
    }
}

impl Engine {
    /// Every second: says what a peer's connection is like if it is time to, or it fell silent or came back.
    pub(super) fn quality(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.connected()) else { return };
        let silent = now.saturating_duration_since(peer.link.expires_at() - CONSENT_TIMEOUT) > SILENT_AFTER;
        if now < peer.measured.due && silent == peer.measured.silent {
            return;
        }
        let (mut up, mut stopped) = (Side::default(), 0);
        for &at in &peer.tracks {
            let Some(track) = self.tracks.get_mut(at) else { continue };
            let kind = track.kind;
            for receiver in track.layers.iter_mut().filter_map(|layer| layer.receiver.as_mut()) {
                let (expected, lost) = receiver.window();
                up.add(kind, lost as f32, expected as f32, receiver.jitter_ms());
            }
            if !track.muted {
                let came = [0, 1, 2].map(|stream: usize| track.layers[stream].last_packet.is_some());
                stopped = stopped.max(track.supply.stopped(came));
            }
        }
        let down = std::mem::take(&mut peer.measured.down);
        (peer.measured.due, peer.measured.silent) = (now + INTERVAL, silent);
        let quality = Quality {
            up: up.way(stopped as f32),
            down: down.way(peer.allocation.short),
            rtt_ms: peer.rtt.map_or(0.0, |rtt| rtt.as_secs_f32() * 1000.0),
            silent,
        };
        self.events.push(Event::Quality { transport: peer.id, quality });
    }
}
