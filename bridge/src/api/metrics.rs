//! What the HTTP APIs count.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// The labels of [`ApiMetrics::requests`].
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Call {
    /// The method of the server API, or the path of our own.
    call: &'static str,
    /// `ok` or the error's code.
    result: &'static str,
}

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub(super) struct ApiMetrics {
    requests: Family<Call, Counter>,
}

impl ApiMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let requests = Family::<Call, Counter>::default();
        registry.register("api_requests", "Calls of the HTTP APIs by result", requests.clone());
        Self { requests }
    }

    pub(super) fn count(&self, call: &'static str, result: &'static str) {
        self.requests.get_or_create(&Call { call, result }).inc();
    }
}
