//! How good a participant's connection is, in the words the protocol has for it: excellent, good, poor, lost. Pure.
//!
//! The score is a transmission rating as in the E-model (ITU-T G.107), simplified as is usual where only loss, delay and
//! jitter are known: 100, less what loss and delay take away, and for pictures less 35 for each layer that is missing.
//! Above 80 is excellent, above 40 good. docs/operations.md says what that means in numbers.

use livekit_protocol::{ConnectionQuality, ConnectionQualityInfo};

use crate::media::control::{Quality, TransportId, Way};
use crate::room::ParticipantSid;

/// The best rating.
const BEST: f32 = 100.0;
/// Ratings do not fall below this, so that a connection that recovers is seen to.
const WORST: f32 = 30.0;
/// Above this it is excellent …
const EXCELLENT: f32 = 80.0;
/// … and above this good.
const GOOD: f32 = 40.0;
/// What one percent of lost audio takes away: Opus conceals and repairs a little.
const AUDIO_LOSS: f32 = 5.3;
/// What one percent of lost video packets takes away: pictures stand still until they are repaired.
const VIDEO_LOSS: f32 = 10.0;
/// What a missing layer takes away.
const LAYER: f32 = 35.0;
/// Weight of a new rating that is worse than the last, and of one that is better.
const FALL: f32 = 0.8;
const RISE: f32 = 0.4;

/// What is known of one participant's connection: one transport or two.
#[derive(Default, Debug)]
pub(crate) struct Judge {
    transports: Vec<(TransportId, Verdict)>,
}

#[derive(Clone, Copy, Debug)]
struct Verdict {
    rating: f32,
    silent: bool,
}

impl Judge {
    /// Takes the latest measurement of a transport. The participant's connection is as good as its worst transport, and
    /// lost when nothing comes on any of them: clients make a new connection after ten seconds of that.
    pub(crate) fn take(
        &mut self,
        participant: &ParticipantSid,
        of: TransportId,
        now: &Quality,
    ) -> ConnectionQualityInfo {
        let fresh = rate(now);
        match self.transports.iter_mut().find(|(transport, _)| *transport == of) {
            Some((_, last)) => {
                let weight = if fresh < last.rating { FALL } else { RISE };
                let rating = (last.rating + (fresh - last.rating) * weight).max(WORST);
                // What was measured in silence says nothing.
                *last = Verdict { rating: if now.silent { last.rating } else { rating }, silent: now.silent };
            }
            None => self.transports.push((of, Verdict { rating: fresh.max(WORST), silent: now.silent })),
        }
        let rating = self.transports.iter().map(|(_, verdict)| verdict.rating).fold(BEST, f32::min);
        let lost = self.transports.iter().all(|(_, verdict)| verdict.silent);
        let quality = match rating {
            _ if lost => ConnectionQuality::Lost,
            rating if rating > EXCELLENT => ConnectionQuality::Excellent,
            rating if rating > GOOD => ConnectionQuality::Good,
            _ => ConnectionQuality::Poor,
        };
        let score = if lost { 1.0 } else { opinion(rating) };
        ConnectionQualityInfo { participant_sid: participant.to_string(), quality: quality.into(), score }
    }

    /// A transport is closed.
    pub(crate) fn forget(&mut self, of: TransportId) {
        self.transports.retain(|(transport, _)| *transport != of);
    }
}

/// The rating of one measurement.
fn rate(now: &Quality) -> f32 {
    let way = |way: &Way| {
        let delay = finite(now.rtt_ms) / 2.0 + 2.0 * finite(way.jitter_ms);
        // Up to 160 ms nobody minds; from there on people fall into each other's word.
        let delay = if delay > 160.0 { (delay - 120.0) / 10.0 } else { delay / 40.0 };
        let percent = |loss: f32| finite(loss).min(1.0) * 100.0;
        let loss = (percent(way.audio_loss) * AUDIO_LOSS).max(percent(way.video_loss) * VIDEO_LOSS);
        (BEST - delay - loss).min(BEST - finite(way.layers_short) * LAYER)
    };
    way(&now.up).min(way(&now.down)).clamp(0.0, BEST)
}

fn finite(value: f32) -> f32 {
    if value.is_finite() { value.max(0.0) } else { 0.0 }
}

/// The mean opinion score (1 to 4.5) of a rating, ITU-T G.107 annex B.
fn opinion(rating: f32) -> f32 {
    1.0 + 0.035 * rating + 0.000_007 * rating * (rating - 60.0) * (BEST - rating)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TransportId = TransportId(1);
    const TWO: TransportId = TransportId(2);
    const FINE: Way = Way { audio_loss: 0.0, video_loss: 0.0, jitter_ms: 5.0, layers_short: 0.0 };

    fn measured(up: Way, down: Way, rtt_ms: f32) -> Quality {
        Quality { up, down, rtt_ms, silent: false }
    }

    fn take(judge: &mut Judge, of: TransportId, now: &Quality) -> ConnectionQuality {
        let info = judge.take(&ParticipantSid::from("PA_me"), of, now);
        assert!((1.0..=4.5).contains(&info.score), "{}", info.score);
        info.quality()
    }

    #[test]
    fn loss_delay_and_missing_layers_lower_it() {
        use ConnectionQuality::{Excellent, Good, Poor};
        let audio = |audio_loss| Way { audio_loss, ..FINE };
        let video = |video_loss| Way { video_loss, ..FINE };
        let short = |layers_short| Way { layers_short, ..FINE };
        let cases = [
            (measured(FINE, FINE, 30.0), Excellent),
            (measured(audio(0.03), FINE, 30.0), Excellent),
            (measured(audio(0.05), FINE, 30.0), Good),
            (measured(FINE, audio(0.15), 30.0), Poor),
            (measured(video(0.015), FINE, 30.0), Excellent),
            (measured(FINE, video(0.03), 30.0), Good),
            (measured(video(0.07), FINE, 30.0), Poor),
            (measured(FINE, FINE, 250.0), Excellent),
            (measured(FINE, FINE, 700.0), Good),
            (measured(FINE, FINE, 1500.0), Poor),
            (measured(FINE, Way { jitter_ms: 200.0, ..FINE }, 100.0), Good),
            (measured(FINE, short(0.3), 30.0), Excellent),
            (measured(FINE, short(1.0), 30.0), Good),
            (measured(short(2.0), FINE, 30.0), Poor),
            (measured(audio(f32::NAN), video(f32::INFINITY), f32::NAN), Excellent),
        ];
        for (case, expected) in cases {
            assert_eq!(take(&mut Judge::default(), ONE, &case), expected, "{case:?}");
        }
    }

    #[test]
    fn it_falls_quickly_and_recovers_slowly() {
        let mut judge = Judge::default();
        let (fine, bad) = (measured(FINE, FINE, 30.0), measured(Way { video_loss: 0.1, ..FINE }, FINE, 30.0));
        assert_eq!(take(&mut judge, ONE, &fine), ConnectionQuality::Excellent);
        assert_eq!(take(&mut judge, ONE, &bad), ConnectionQuality::Poor);
        assert_eq!(take(&mut judge, ONE, &fine), ConnectionQuality::Good);
        let windows = (1..10).find(|_| take(&mut judge, ONE, &fine) == ConnectionQuality::Excellent);
        assert_eq!(windows, Some(2));
    }

    #[test]
    fn lost_is_only_said_when_nothing_comes_at_all() {
        let mut judge = Judge::default();
        let (fine, silent) = (measured(FINE, FINE, 30.0), Quality { silent: true, ..measured(FINE, FINE, 30.0) });
        take(&mut judge, ONE, &fine);
        take(&mut judge, TWO, &fine);
        assert_eq!(take(&mut judge, ONE, &silent), ConnectionQuality::Excellent, "the other one lives");
        assert_eq!(take(&mut judge, TWO, &silent), ConnectionQuality::Lost);
        assert_eq!(take(&mut judge, TWO, &fine), ConnectionQuality::Excellent);
        take(&mut judge, TWO, &silent);
        judge.forget(ONE);
        assert_eq!(take(&mut judge, TWO, &fine), ConnectionQuality::Excellent);
    }
}
