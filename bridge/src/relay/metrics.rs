//! What relays count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// One room's relay to one bridge.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct RelayLabel {
    pub(crate) peer: String,
    /// The room's sid: names may tell more than metrics should.
    pub(crate) room: String,
}

/// Another bridge.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
pub(crate) struct PeerLabel {
    pub(crate) peer: String,
}

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub(crate) struct RelayMetrics {
    pub(super) sent: Family<RelayLabel, Counter>,
    pub(super) received: Family<RelayLabel, Counter>,
    pub(super) links: Family<PeerLabel, Gauge>,
    pub(super) linked: Family<PeerLabel, Counter>,
    pub(super) withdrawn: Counter,
}

impl RelayMetrics {
    /// Makes the metrics and registers them.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            sent: Family::default(),
            received: Family::default(),
            links: Family::default(),
            linked: Family::default(),
            withdrawn: Counter::default(),
        };
        let help = "Bytes of media sent to another bridge, by room";
        registry.register("relay_room_sent_bytes", help, metrics.sent.clone());
        let help = "Bytes of media received from another bridge, by room";
        registry.register("relay_room_received_bytes", help, metrics.received.clone());
        registry.register("relay_links", "Whether there is a stream to another bridge", metrics.links.clone());
        registry.register("relay_connects", "Streams to other bridges that began", metrics.linked.clone());
        let help = "Tracks taken back because their bridge was away for too long";
        registry.register("relay_withdrawn_tracks", help, metrics.withdrawn.clone());
        metrics
    }
}
