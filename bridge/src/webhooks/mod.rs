//! Webhooks: what happens in rooms is told to other servers, as LiveKit tells it.
//!
//! `events` says what an entry of a room's log means to them, and which bridge tells it: the room's keeper, which every
//! bridge derives from the log, so that each event is told once. `queue` tells a room's events to each address in their
//! order and tries again, `post` makes the request.

pub(crate) mod events;
mod post;
mod queue;

use std::sync::Arc;
use std::time::Duration;

use livekit_protocol::WebhookEvent;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;

use self::post::{Poster, Target};
use crate::config::WebhookConfig;
use crate::token::Keys;

/// Events that wait for one address, per room; beyond them events are dropped.
const WAITING: usize = 1000;

/// Why webhooks cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// Not an address.
    #[error("webhook.urls: {0:?} is no address; write http://host/path or https://host/path")]
    Address(String),
    /// Not a key.
    #[error("webhook.key: {0:?} is no API key of [keys]; leave it out to sign with the first one")]
    Key(String),
    /// The authorities for HTTPS.
    #[error(transparent)]
    Tls(#[from] ratssaal_process::tls::TlsError),
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// The counters.
#[derive(Clone, Default, Debug)]
struct Metrics {
    posts: Family<ResultLabel, Counter>,
    waiting: Gauge,
}

impl Metrics {
    fn count(&self, result: &'static str) {
        self.posts.get_or_create(&ResultLabel { result }).inc();
    }
}

/// The webhooks of this bridge. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Webhooks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    poster: Poster,
    targets: Vec<Target>,
    metrics: Metrics,
}

impl Webhooks {
    /// As configured; `None` without addresses.
    pub(crate) fn new(
        config: &WebhookConfig,
        keys: Arc<Keys>,
        registry: &mut Registry,
    ) -> Result<Option<Self>, WebhookError> {
        if config.urls.is_empty() {
            return Ok(None);
        }
        if let Some(key) = config.key.as_ref().filter(|key| !keys.has(key)) {
            return Err(WebhookError::Key(key.clone()));
        }
        let targets: Vec<Target> = config.urls.iter().map(|url| url.parse()).collect::<Result<_, _>>()?;
        let secure = targets.iter().any(Target::is_secure);
        let poster = Poster::new(keys, config.key.clone(), config.ca.as_deref(), secure)?;
        let metrics = Metrics::default();
        let registry = registry.sub_registry_with_prefix("webhook");
        let help = "Requests that told an event, by result: ok, retried, given_up, dropped";
        registry.register("posts", help, metrics.posts.clone());
        registry.register("waiting", "Events that wait to be told", metrics.waiting.clone());
        Ok(Some(Self { inner: Arc::new(Inner { poster, targets, metrics }) }))
    }

    /// For the events of one room.
    pub(crate) fn room(&self) -> RoomHooks {
        let queues = self.inner.targets.iter().map(|target| {
            let (sender, events) = mpsc::channel(WAITING);
            tokio::spawn(queue::run(Arc::clone(&self.inner), target.clone(), events));
            sender
        });
        RoomHooks { queues: queues.collect(), metrics: self.inner.metrics.clone() }
    }

    /// Waits until everything has been told, but not for long.
    pub(crate) async fn flush(&self, within: Duration) {
        let empty = async {
            while self.inner.metrics.waiting.get() > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(within, empty).await.is_err() {
            let waiting = self.inner.metrics.waiting.get();
            tracing::warn!(waiting, "this server stops before all webhooks could be told");
        }
    }
}

/// One room's events. What is queued is told even when this is dropped.
#[derive(Debug)]
pub(crate) struct RoomHooks {
    queues: Vec<mpsc::Sender<Arc<WebhookEvent>>>,
    metrics: Metrics,
}

impl RoomHooks {
    /// Tells an event after those before it.
    pub(crate) fn tell(&self, event: WebhookEvent) {
        let event = Arc::new(event);
        for queue in &self.queues {
            if queue.try_send(Arc::clone(&event)).is_ok() {
                self.metrics.waiting.inc();
            } else {
                self.metrics.count("dropped");
                tracing::warn!(
                    event = event.event,
                    id = event.id,
                    "a webhook is dropped: too many wait for its address"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests;
