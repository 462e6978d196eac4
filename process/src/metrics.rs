//! The process's metrics: one prometheus-client registry, shown as OpenMetrics text at `/metrics`.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{encoding::text::encode, registry::Registry};

/// The `Content-Type` of [`Metrics::encode`]'s text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The registry of this process. Clones share it; every name in it starts with `ratssaal_`.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// An empty registry.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix("ratssaal"))))
    }

    /// Lends the registry to a part of the process, to register its metrics once at start (or a
    /// [`Collector`](prometheus_client::collector::Collector) for values that are computed when asked for).
    pub fn register<T>(&self, register: impl FnOnce(&mut Registry) -> T) -> T {
        register(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// All metrics as OpenMetrics text.
    ///
    /// # Errors
    /// When a collector fails to write its values.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn clones_share_one_registry_with_our_prefix() {
        let metrics = Metrics::new();
        let joins: Counter = metrics.clone().register(|registry| {
            let joins = Counter::default();
            registry.register("joins", "Participants who joined", joins.clone());
            joins
        });
        joins.inc_by(3);
        let text = metrics.encode().unwrap();
        assert!(text.contains("ratssaal_joins_total 3\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
