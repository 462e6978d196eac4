//! The service: checks what comes over gRPC, hands it to the store, follows logs and bridges, and reaps.

mod attach;
mod cluster;
mod grpc;
mod tail;

use std::sync::Arc;
use std::time::Instant;

use prometheus_client::registry::Registry;
use ratssaal_proto::allocator::v1::allocator_server::AllocatorServer;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::bounds;
use crate::clock::SystemClock;
use crate::config::{Config, ConfigError};
use crate::metrics::Metrics;
use crate::reaper::{Judge, reap};
use crate::store::{MemoryStore, Store};

/// The allocator. Cheap to clone: all clones are one.
#[derive(Debug)]
pub struct Service<S = MemoryStore> {
    inner: Arc<Inner<S>>,
}

#[derive(Debug)]
struct Inner<S> {
    store: S,
    config: Config,
    metrics: Metrics,
    /// Moves when orders to bridges have changed here.
    ordered: watch::Sender<()>,
    /// Whether the store answers.
    available: watch::Sender<bool>,
}

impl<S> Clone for Service<S> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl Service {
    /// An allocator that keeps everything in this process's memory.
    ///
    /// # Errors
    /// A setting that cannot work.
    pub fn in_memory(config: Config, registry: &mut Registry) -> Result<Self, ConfigError> {
        let store = MemoryStore::new(config.clone(), Arc::new(SystemClock::new()));
        Self::build(config, store, registry)
    }
}

impl<S: Store> Service<S> {
    /// An allocator on a store that was made with the same settings. Its metrics go to the registry.
    ///
    /// # Errors
    /// A setting that cannot work.
    pub fn build(config: Config, store: S, registry: &mut Registry) -> Result<Self, ConfigError> {
        config.check()?;
        let metrics = Metrics::new(registry);
        Ok(Self {
            inner: Arc::new(Inner {
                store,
                config,
                metrics,
                ordered: watch::Sender::new(()),
                available: watch::Sender::new(false),
            }),
        })
    }

    /// The gRPC service, to be added to a server.
    #[must_use]
    pub fn grpc(&self) -> AllocatorServer<Self> {
        AllocatorServer::new(self.clone())
            .max_decoding_message_size(bounds::MESSAGE)
            .max_encoding_message_size(2 * bounds::MESSAGE)
    }

    /// Whether the store answers; known while this [runs](Self::run).
    #[must_use]
    pub fn available(&self) -> watch::Receiver<bool> {
        self.inner.available.subscribe()
    }

    /// Reaps lost bridges and empty rooms until cancelled. Calls are answered as long as there is a server or an
    /// [`embedded`](crate::embedded) channel, also after that: bridges still log what happens while they shut down.
    pub async fn run(self, cancelled: CancellationToken) {
        let mut ticks = tokio::time::interval(self.inner.config.sweep_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut judge = Judge::new(Instant::now(), self.inner.config.expiry);
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return,
                _ = ticks.tick() => {
                    let answered = reap(&self.inner.store, &self.inner.metrics, &mut judge).await;
                    self.inner.available.send_if_modified(|available| std::mem::replace(available, answered) != answered);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
