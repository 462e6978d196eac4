//! What signalling counts.

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

/// The counters.
#[derive(Clone, Default, Debug)]
pub(crate) struct Metrics {
    ended: Family<EndedLabel, Counter>,
    refused: Family<RefusedLabel, Counter>,
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

    pub(crate) fn refused(&self, status: http::StatusCode) {
        self.refused.get_or_create(&RefusedLabel { status: status.as_u16() }).inc();
    }
}
