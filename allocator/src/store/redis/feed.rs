//! The subscription that tells this process how far the logs of its followed rooms are.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::timeout;
use tracing::debug;

use super::address::Address;
use super::{Inner, schema};
use crate::store::Position;

/// Between attempts to subscribe.
const RETRY: Duration = Duration::from_millis(200);
/// How often all heads are looked at though nothing was said: nothing is known to make that necessary.
const LOOK: Duration = Duration::from_secs(30);
/// Heads asked for at once.
const BATCH: usize = 256;

/// Listens until the store is dropped.
pub(super) async fn listen(inner: std::sync::Weak<Inner>, mut address: Address) {
    loop {
        let Some(strong) = inner.upgrade() else { return };
        let patience = strong.settings.timeout;
        let (channel, mut link) = (schema::moved(&strong.prefix), strong.link.number());
        link.mark_unchanged();
        address.reread(&strong.settings);
        drop(strong);
        if let Ok(Ok(mut messages)) = timeout(patience * 2, subscribe(&address, &channel, patience)).await {
            let mut look = tokio::time::interval(LOOK);
            loop {
                tokio::select! {
                    message = messages.next() => match (message, inner.upgrade()) {
                        (Some(message), Some(strong)) => strong.positions.take(message.get_payload_bytes()),
                        _ => break,
                    },
                    // The first tick comes at once: what moved before we listened.
                    _ = look.tick() => match inner.upgrade() {
                        Some(strong) => catch_up(&strong).await,
                        None => return,
                    },
                    changed = link.changed() => if changed.is_err() || link.borrow_and_update().is_some() { break },
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn subscribe(
    address: &Address,
    channel: &str,
    patience: Duration,
) -> Result<impl futures_util::Stream<Item = redis::Msg> + Unpin + use<>, redis::RedisError> {
    let client = address.primary(patience).await?;
    let mut subscription = client.get_async_pubsub().await?;
    subscription.subscribe(channel).await?;
    Ok(Box::pin(subscription.into_on_message()))
}

/// Asks how far all followed logs are.
async fn catch_up(inner: &Arc<Inner>) {
    for known in inner.positions.followed().chunks(BATCH) {
        match inner.heads(known).await {
            Ok(heads) => {
                for ((sid, before), head) in known.iter().zip(heads) {
                    match head {
                        Some(position) => inner.positions.seen(sid, *before, position),
                        None => inner.positions.unknown(sid),
                    }
                }
            }
            Err(refusal) => return debug!(%refusal, "cannot look how far the logs are"),
        }
    }
}

/// What a script says of one log: its head (negative: unknown) and whether it has ended.
pub(super) fn position(head: i64, ended: bool) -> Option<Position> {
    u64::try_from(head).ok().map(|head| Position { head, ended })
}
