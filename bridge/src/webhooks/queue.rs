//! One room's events on their way to one address: in their order, again and again until they are taken.

use std::sync::Arc;
use std::time::Duration;

use livekit_protocol::WebhookEvent;
use tokio::sync::mpsc;

use super::Inner;
use super::post::Target;

/// Pauses before an event is told again: the first, and at most. Each is twice the one before.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Attempts before an event is given up; with the pauses some two minutes.
const ATTEMPTS: u32 = 9;

/// Until the room is closed and all is told.
pub(super) async fn run(hooks: Arc<Inner>, target: Target, mut events: mpsc::Receiver<Arc<WebhookEvent>>) {
    while let Some(event) = events.recv().await {
        tell(&hooks, &target, &event).await;
        hooks.metrics.waiting.dec();
    }
}

async fn tell(hooks: &Inner, target: &Target, event: &WebhookEvent) {
    let Ok(body) = serde_json::to_vec(event) else { return };
    let mut pause = PAUSE.0;
    for attempt in 1..=ATTEMPTS {
        let error = match hooks.poster.post(target, &body).await {
            Ok(()) => return hooks.metrics.count("ok"),
            Err(error) => error,
        };
        if attempt == ATTEMPTS || !error.may_pass() {
            hooks.metrics.count("given_up");
            tracing::error!(%target, event = event.event, id = event.id, %error, "a webhook is given up");
            return;
        }
        hooks.metrics.count("retried");
        tracing::warn!(%target, event = event.event, id = event.id, %error, "a webhook is told again in a moment");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}
