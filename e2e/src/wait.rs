//! Waiting on conditions within a bound, never on time alone.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

/// Asks `probe` every 20 ms until it answers `Some`, at most for `limit`; then fails naming `what`.
pub async fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if Instant::now() > end {
            bail!("{what}: not within {limit:?}");
        }
        sleep(Duration::from_millis(20)).await;
    }
}
