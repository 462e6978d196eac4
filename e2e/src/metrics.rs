//! The server's counters (`/metrics`, OpenMetrics text) and its memory (`/proc`).

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result};

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

    /// The sum of all samples whose name starts with `prefix` and has every one of `labels` (`key="value"`).
    #[must_use]
    pub fn sum(&self, prefix: &str, labels: &[&str]) -> f64 {
        self.0
            .iter()
            .filter(|(name, _)| name.starts_with(prefix) && labels.iter().all(|label| name.contains(label)))
            .map(|(_, value)| value)
            .sum()
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
