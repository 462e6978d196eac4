//! Logs: readable lines on a terminal, one JSON object per line otherwise, and spans to OpenTelemetry if configured.

use std::io::{self, IsTerminal};

use serde::Deserialize;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, registry, util::SubscriberInitExt};

use crate::{exit::Usage, telemetry::Telemetry};

/// The `[log]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug` or `trace`, or a list like `info,ratssaal_bridge=debug`. The variable
    /// `RATSSAAL_LOG` is a short name for this setting.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// [`Text`](Self::Text) if standard error is a terminal, else [`Json`](Self::Json).
    #[default]
    Auto,
    /// For people.
    Text,
    /// One object per line, for collectors.
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

impl LogConfig {
    /// Whether the level is one.
    ///
    /// # Errors
    /// One sentence that says what to write instead.
    pub fn check(&self) -> Result<(), Usage> {
        self.filter().map(drop)
    }

    fn filter(&self) -> Result<EnvFilter, Usage> {
        let problem =
            |error| format!("log.level {:?}: {error}; write info, debug or info,ratssaal_bridge=debug", self.level);
        EnvFilter::builder().parse(&self.level).map_err(|error| Usage(problem(error)))
    }
}

/// Starts logging to standard error for the whole process, and sends spans on if there is a [`Telemetry`].
///
/// # Errors
/// When the level cannot be read, or when logging was started before.
pub fn init(config: &LogConfig, telemetry: Option<&Telemetry>) -> anyhow::Result<()> {
    let json = match config.format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
    } else {
        lines.with_target(false).with_ansi(io::stderr().is_terminal()).boxed()
    };
    registry().with(config.filter()?).with(lines).with(telemetry.map(Telemetry::layer)).try_init()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let check = |level: &str| LogConfig { level: level.into(), ..LogConfig::default() }.check();
        for good in ["info", "debug", "info,ratssaal_bridge=trace", "off"] {
            assert!(check(good).is_ok(), "{good}");
        }
        let message = check("info,bridge=loud").unwrap_err().to_string();
        assert!(message.starts_with("log.level \"info,bridge=loud\""), "{message}");
    }
}
