//! How good a connection is, in the three words the protocol has for it.

use livekit_protocol::{ConnectionQuality, ConnectionQualityInfo};

use crate::room::ParticipantSid;

/// Scores from 0 to 5 as the protocol's own server gives them; the client shows only the word.
const BEST: f32 = 5.0;

/// Judges the latest measurement: fractions of packets lost on both ways (0.0–1.0), and the round-trip time in
/// milliseconds (0 while unknown).
///
/// Loss is what hurts: concealment and retransmission hide about 2 %; from 8 % on speech breaks up. `LOST` is never said:
/// clients reconnect after ten seconds of it, and a connection that is really lost is closed by the media worker.
pub(crate) fn judge(participant: &ParticipantSid, loss_up: f32, loss_down: f32, rtt_ms: f32) -> ConnectionQualityInfo {
    let loss = loss_up.max(loss_down).clamp(0.0, 1.0);
    let quality = match (loss, rtt_ms) {
        (loss, rtt) if loss >= 0.08 || rtt >= 800.0 => ConnectionQuality::Poor,
        (loss, rtt) if loss >= 0.02 || rtt >= 300.0 => ConnectionQuality::Good,
        _ => ConnectionQuality::Excellent,
    };
    let score = (BEST - loss * 25.0 - (rtt_ms / 1000.0)).clamp(0.0, BEST);
    ConnectionQualityInfo { participant_sid: participant.to_string(), quality: quality.into(), score }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_and_delay_lower_it() {
        let me = ParticipantSid::from("PA_me");
        let cases = [
            ((0.0, 0.0, 0.0), ConnectionQuality::Excellent),
            ((0.01, 0.0, 120.0), ConnectionQuality::Excellent),
            ((0.0, 0.03, 20.0), ConnectionQuality::Good),
            ((0.0, 0.0, 400.0), ConnectionQuality::Good),
            ((0.1, 0.0, 20.0), ConnectionQuality::Poor),
            ((0.0, 0.0, 900.0), ConnectionQuality::Poor),
            ((f32::NAN, 1.0, 0.0), ConnectionQuality::Poor),
        ];
        for ((up, down, rtt), expected) in cases {
            let info = judge(&me, up, down, rtt);
            assert_eq!(info.quality(), expected, "{up} {down} {rtt}");
            assert!((0.0..=BEST).contains(&info.score));
        }
    }
}
