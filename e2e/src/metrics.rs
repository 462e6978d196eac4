//! The server's counters (`/metrics`, OpenMetrics text) and its memory (`/proc`).

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

use crate::server::Server;

/// One reading of `/metrics`: every sample by its name with labels.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads them from a server.
    ///
    /// # Errors
    /// The server does not answer within 10 s.
    pub async fn read(server: &Server) -> Result<Self> {
        if !Server::is_ours() {
            return Ok(Self::default());
        }
        let url = format!("{}/metrics", server.http);
        let text = reqwest::Client::new()
            .get(url)
            .timeout(Duration::from_secs(10))
            .send()
            .await?
            .error_for_status()?
            .text()
            .await?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        Self(
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(|line| {
                    let (name, value) = line.rsplit_once(' ')?;
                    Some((name.to_owned(), value.parse().ok()?))
                })
                .collect(),
        )
    }

    /// The sum of all samples whose name contains `name` and that have every one of `labels` (`key="value"`).
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[&str]) -> f64 {
        self.0
            .iter()
            .filter(|(sample, _)| sample.contains(name) && labels.iter().all(|label| sample.contains(label)))
            .map(|(_, value)| value)
            .sum()
    }

    /// Waits until the sum has grown by `least` since this reading.
    ///
    /// # Errors
    /// Not within 10 s. Against a LiveKit server, which counts otherwise, nothing is waited for.
    pub async fn grows(&self, server: &Server, name: &str, labels: &[&str], least: f64) -> Result<()> {
        if !Server::is_ours() {
            return Ok(());
        }
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let now = Self::read(server).await?;
            let grown = now.sum(name, labels) - self.sum(name, labels);
            if grown >= least {
                return Ok(());
            }
            ensure!(
                Instant::now() < end,
                "{name} {labels:?} has grown by {grown}, not {least}:\n{}",
                now.matching(name)
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// All samples, for a failing test's message.
    #[must_use]
    pub fn matching(&self, part: &str) -> String {
        self.0.iter().filter(|(name, _)| name.contains(part)).map(|(name, value)| format!("{name} {value}\n")).collect()
    }
}

/// The resident memory of a process in bytes (`VmRSS`).
///
/// # Errors
/// There is no such process.
pub fn resident(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS line")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}

/// The server's memory and connections before an attack, to be had again after it.
#[derive(Debug)]
pub struct Before {
    resident: u64,
    transports: f64,
}

impl Before {
    /// Takes the reading; nothing for a server that was not started here.
    ///
    /// # Errors
    /// The server is gone.
    pub async fn read(server: &Server) -> Result<Self> {
        let Some(pid) = server.pid() else { return Ok(Self { resident: 0, transports: 0.0 }) };
        let transports = || async { Ok::<_, anyhow::Error>(Metrics::read(server).await?.sum(TRANSPORTS, &[])) };
        // The workers publish their figures now and then: what stays the same for two seconds is current.
        let (mut last, mut since) = (transports().await?, Instant::now());
        while since.elapsed() < Duration::from_secs(2) {
            sleep(Duration::from_millis(100)).await;
            let now = transports().await?;
            if now.total_cmp(&last).is_ne() {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(Self { resident: resident(pid)?, transports: last })
    }

    /// Waits until no connection is left behind and memory is back to within `slack` bytes.
    ///
    /// # Errors
    /// Not within `limit`.
    pub async fn is_restored(&self, server: &Server, slack: u64, limit: Duration) -> Result<()> {
        let Some(pid) = server.pid() else { return Ok(()) };
        let end = Instant::now() + limit;
        loop {
            let now = Self { resident: resident(pid)?, transports: Metrics::read(server).await?.sum(TRANSPORTS, &[]) };
            // A LiveKit server's memory is its garbage collector's matter.
            if !Server::is_ours() || (now.transports <= self.transports && now.resident <= self.resident + slack) {
                println!("memory: {} KiB before, {} KiB after", self.resident >> 10, now.resident >> 10);
                return Ok(());
            }
            ensure!(Instant::now() < end, "before: {self:?}, after {limit:?}: {now:?}, allowed: {slack} bytes more");
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The gauge of PeerConnections on the server.
const TRANSPORTS: &str = "media_transports";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_by_prefix_and_label() {
        let metrics = Metrics::parse("# TYPE a counter\na_total{x=\"1\"} 2\na_total{x=\"2\"} 3\nb 7\n# EOF\n");
        assert_eq!(metrics.sum("a_total", &[]), 5.0);
        assert_eq!(metrics.sum("a_total", &["x=\"2\""]), 3.0);
        assert_eq!(metrics.matching("b"), "b 7\n");
    }
}
