//! The operator's metrics.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram};
use prometheus_client::registry::Registry;
use ratssaal_crds::v1alpha1::{BridgeState, BridgeStatus};

use crate::names::Names;

/// Seconds of reconciling: from nothing to do to an API server under load.
const BUCKETS: [f64; 11] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByKind {
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ByReason {
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Bridges {
    namespace: String,
    installation: String,
    state: &'static str,
}

impl Bridges {
    fn of(names: &Names, state: &'static str) -> Self {
        Self { namespace: names.namespace.clone(), installation: names.name.clone(), state }
    }
}

/// Bridges' states, as labels.
const STATES: [(BridgeState, &str); 6] = [
    (BridgeState::Starting, "starting"),
    (BridgeState::Ready, "ready"),
    (BridgeState::Draining, "draining"),
    (BridgeState::Drained, "drained"),
    (BridgeState::Lost, "lost"),
    (BridgeState::Failed, "failed"),
];

/// The operator's metrics. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    seconds: Histogram,
    errors: Counter,
    writes: Family<ByKind, Counter>,
    actions: Family<ByReason, Counter>,
    bridges: Family<Bridges, Gauge>,
    leader: Gauge,
}

impl Metrics {
    /// Registers them.
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            seconds: Histogram::new(BUCKETS),
            errors: Counter::default(),
            writes: Family::default(),
            actions: Family::default(),
            bridges: Family::default(),
            leader: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("operator");
        registry.register("reconcile_seconds", "How long one look at an installation took", metrics.seconds.clone());
        registry.register("reconcile_errors", "Looks that failed and are repeated", metrics.errors.clone());
        registry.register("writes", "Objects written or deleted, by kind", metrics.writes.clone());
        registry.register("bridge_actions", "Bridges created, drained and deleted", metrics.actions.clone());
        registry.register("bridges", "Bridges by state", metrics.bridges.clone());
        registry.register("leader", "1 while this operator is the one that acts", metrics.leader.clone());
        metrics
    }

    /// One look is over.
    pub(crate) fn reconciled(&self, took: Duration, failed: bool) {
        self.seconds.observe(took.as_secs_f64());
        if failed {
            self.errors.inc();
        }
    }

    /// An object was written or deleted.
    pub(crate) fn written(&self, kind: &str) {
        self.writes.get_or_create(&ByKind { kind: kind.into() }).inc();
    }

    /// A step was taken.
    pub(crate) fn acted(&self, reason: &str) {
        self.actions.get_or_create(&ByReason { reason: reason.into() }).inc();
    }

    /// An installation's bridges are these.
    pub(crate) fn set_bridges(&self, names: &Names, bridges: &[BridgeStatus]) {
        for (state, label) in STATES {
            let number = bridges.iter().filter(|bridge| bridge.state == state).count();
            let gauge = self.bridges.get_or_create(&Bridges::of(names, label));
            gauge.set(i64::try_from(number).unwrap_or(i64::MAX));
        }
    }

    /// An installation is no more.
    pub(crate) fn forget(&self, names: &Names) {
        for (_, label) in STATES {
            self.bridges.remove(&Bridges::of(names, label));
        }
    }

    /// Whether this operator acts.
    pub(crate) fn set_leader(&self, leader: bool) {
        self.leader.set(leader.into());
    }
}
