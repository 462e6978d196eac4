//! What signalling counts.

use livekit_protocol::ConnectionQuality;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Why a session ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelValue)]
pub(crate) enum Ended {
    /// The client left.
    Client,
    /// The room said so: removed, replaced, room over, shutdown.
    Room,
    /// The WebSocket was gone and the client did not come back, or not with what it had.
    Lost,
    /// The client never got connected.
    NeverConnected,
    /// A PeerConnection closed.
    MediaLost,
    /// Malformed or far too many requests.
    Refused,
    /// The session did not keep up with its room.
    Overrun,
    /// Sent to another bridge by a drain.
    Moved,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct EndedLabel {
    reason: Ended,
}

/// Why somebody was not let in.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RefusedLabel {
    status: u16,
}

/// How good a participant's connection is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct QualityLabel {
    quality: &'static str,
}

impl QualityLabel {
    const ALL: [ConnectionQuality; 4] =
        [ConnectionQuality::Excellent, ConnectionQuality::Good, ConnectionQuality::Poor, ConnectionQuality::Lost];

    fn of(quality: ConnectionQuality) -> Self {
        let quality = match quality {
            ConnectionQuality::Excellent => "excellent",
            ConnectionQuality::Good => "good",
            ConnectionQuality::Poor => "poor",
            ConnectionQuality::Lost => "lost",
        };
        Self { quality }
    }
}

/// One participant among those whose connections are counted by quality, from the first measurement on until it is dropped.
#[derive(Debug)]
pub(crate) struct Rated {
    all: Family<QualityLabel, Gauge>,
    now: Option<ConnectionQuality>,
}

impl Rated {
    pub(crate) fn set(&mut self, quality: ConnectionQuality) {
        self.all.get_or_create(&QualityLabel::of(quality)).inc();
        self.forget();
        self.now = Some(quality);
    }

    fn forget(&mut self) {
        if let Some(quality) = self.now.take() {
            self.all.get_or_create(&QualityLabel::of(quality)).dec();
        }
    }
}

impl Drop for Rated {
    fn drop(&mut self) {
        self.forget();
    }
}

/// The counters.
#[derive(Clone, Default, Debug)]
pub(crate) struct Metrics {
    ended: Family<EndedLabel, Counter>,
    refused: Family<RefusedLabel, Counter>,
    qualities: Family<QualityLabel, Gauge>,
    /// Clients whose session is on another bridge, now.
    pub(crate) relayed: Gauge,
    /// Sessions that a client resumed.
    pub(crate) resumed: Counter,
    /// Messages on data channels that are no data packets.
    pub(crate) malformed_data: Counter,
}

impl Metrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        for quality in QualityLabel::ALL {
            metrics.qualities.get_or_create(&QualityLabel::of(quality)).set(0);
        }
        let help = "Participants on this bridge by the quality of their connections";
        registry.register("participants_by_quality", help, metrics.qualities.clone());
        let registry = registry.sub_registry_with_prefix("signal");
        registry.register("sessions_ended", "Sessions that ended, by reason", metrics.ended.clone());
        registry.register("refused", "Requests to join that were refused, by HTTP status", metrics.refused.clone());
        let help = "WebSockets whose session is on another bridge";
        registry.register("relayed", help, metrics.relayed.clone());
        registry.register("resumed", "Sessions resumed over a new WebSocket", metrics.resumed.clone());
        let help = "Data-channel messages dropped because they are no data packets";
        registry.register("malformed_data", help, metrics.malformed_data.clone());
        metrics
    }

    pub(crate) fn ended(&self, reason: Ended) {
        self.ended.get_or_create(&EndedLabel { reason }).inc();
    }

    /// For a participant whose connection is not rated yet.
    pub(crate) fn rated(&self) -> Rated {
        Rated { all: self.qualities.clone(), now: None }
    }

    pub(crate) fn refused(&self, status: http::StatusCode) {
        self.refused.get_or_create(&RefusedLabel { status: status.as_u16() }).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_participant_counts_once_by_the_latest_quality() {
        use ConnectionQuality::{Excellent, Good, Lost, Poor};
        let metrics = Metrics::register(&mut Registry::default());
        let counted = || QualityLabel::ALL.map(|one| metrics.qualities.get_or_create(&QualityLabel::of(one)).get());
        let (mut anna, mut bela) = (metrics.rated(), metrics.rated());
        assert_eq!(counted(), [0; 4], "not measured yet");
        for (quality, expected) in [
            (Excellent, [1, 0, 0, 0]),
            (Excellent, [1, 0, 0, 0]),
            (Good, [0, 1, 0, 0]),
            (Poor, [0, 0, 1, 0]),
            (Lost, [0, 0, 0, 1]),
        ] {
            anna.set(quality);
            assert_eq!(counted(), expected);
        }
        bela.set(Lost);
        assert_eq!(counted(), [0, 0, 0, 2]);
        drop(anna);
        assert_eq!(counted(), [0, 0, 0, 1]);
        drop(bela);
        assert_eq!(counted(), [0; 4]);
    }
}
