//! The configuration of `ratssaal serve`: its sections, and the three sources they come from.

use std::{collections::BTreeMap, env, path::PathBuf};

use clap::{ArgMatches, parser::ValueSource};
use ratssaal_bridge::{
    config::{BrandConfig, RoomConfig, SiteConfig, WebhookConfig},
    media::MediaConfig,
    token::Keys,
};
use ratssaal_operator::OperatorConfig;
use ratssaal_process::{
    config::{ConfigError, Sources},
    exit::Usage,
    http::HttpConfig,
    logs::{self, LogConfig},
    telemetry::{OtlpConfig, Telemetry},
};
use secrecy::SecretString;
use serde::Deserialize;

use crate::{
    cluster::ClusterConfig,
    settings::{Setting, allocator_settings, client_settings, operator_settings, serve_settings},
};

/// The key pair of `--dev`.
pub(crate) const DEV: (&str, &str) = ("devkey", "secret-secret-secret-secret-secret");

/// What to do without an API key.
pub(crate) const NO_KEYS: &str = "no API key is configured; run `ratssaal keys > ratssaal.toml` and give --config ratssaal.toml \
     (`ratssaal token --help` says how to make access tokens with it), or try it on this machine only with --dev";

/// What to do without a Redis.
pub(crate) const NO_REDIS: &str = "an allocator keeps everything in Redis; give cluster.redis, e.g. redis://localhost";

/// What to do without an image.
pub(crate) const NO_IMAGE: &str =
    "the operator must know what bridges run; give operator.image, e.g. registry.example/ratssaal:0.1.0";

/// Everything `serve` is told.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) http: HttpConfig,
    /// API key → secret.
    pub(crate) keys: BTreeMap<String, SecretString>,
    pub(crate) media: MediaConfig,
    pub(crate) room: RoomConfig,
    pub(crate) site: SiteConfig,
    pub(crate) cluster: ClusterConfig,
    pub(crate) brand: BrandConfig,
    pub(crate) webhook: WebhookConfig,
    pub(crate) log: LogConfig,
    pub(crate) otlp: OtlpConfig,
    pub(crate) operator: OperatorConfig,
    /// Whether `--dev` was given.
    #[serde(skip)]
    pub(crate) dev: bool,
    /// What was left out, since a newer operator than this program said it.
    #[serde(skip)]
    left_out: Vec<ConfigError>,
}

impl Config {
    /// Begins to log, and says what was left out.
    pub(crate) fn start_logs(&self, telemetry: Option<&Telemetry>) -> anyhow::Result<()> {
        logs::init(&self.log, telemetry)?;
        for setting in &self.left_out {
            tracing::warn!("{setting}: left out, as RATSSAAL_UNKNOWN_SETTINGS=warn asks for");
        }
        Ok(())
    }
}

/// Reads file, environment and flags.
fn read(matches: &ArgMatches, settings: impl Iterator<Item = &'static Setting>) -> anyhow::Result<Config> {
    let mut sources = sources(matches);
    for setting in settings {
        if let (Some(value), Some(ValueSource::CommandLine)) =
            (matches.get_one::<String>(setting.key), matches.value_source(setting.key))
        {
            sources = sources.flag(format!("--{}", setting.flag), setting.key, value);
        }
    }
    let (config, left_out) = sources.load_known()?;
    Ok(Config { left_out, ..config })
}

/// What every process checks before anything starts.
fn check(config: &Config) -> anyhow::Result<()> {
    config.http.check()?;
    config.log.check()?;
    config.otlp.check()?;
    Ok(())
}

/// Reads file, environment and the flags of `allocator`.
pub(crate) fn load_allocator(matches: &ArgMatches) -> anyhow::Result<Config> {
    let config = read(matches, allocator_settings())?;
    check(&config)?;
    if config.cluster.redis.is_none() {
        return Err(Usage(NO_REDIS.into()).into());
    }
    Ok(config)
}

/// Reads file, environment and the flags of `operator`.
pub(crate) fn load_operator(matches: &ArgMatches) -> anyhow::Result<Config> {
    let config = read(matches, operator_settings())?;
    check(&config)?;
    config.operator.check().map_err(|what| Usage(what.into()))?;
    if config.operator.image.as_ref().is_none_or(String::is_empty) {
        return Err(Usage(NO_IMAGE.into()).into());
    }
    Ok(config)
}

/// Reads file, environment and the flags of `serve`, and checks what can be checked before anything starts.
pub(crate) fn load(matches: &ArgMatches) -> anyhow::Result<Config> {
    let mut config = read(matches, serve_settings())?;
    config.dev = matches.get_flag("dev");
    if config.dev {
        if !config.http.bind.ip().to_canonical().is_loopback() {
            return Err(Usage(format!(
                "--dev uses a key pair that everybody knows, so it works on loopback only, not on {}; leave --dev out and \
                 make a key pair with `ratssaal keys`",
                config.http.bind
            ))
            .into());
        }
        add_dev(&mut config);
    }
    check(&config)?;
    config.cluster.check()?;
    if config.keys.is_empty() {
        return Err(Usage(NO_KEYS.into()).into());
    }
    Keys::new(config.keys.iter().map(|(name, secret)| (name.as_str(), secret)))
        .map_err(|error| Usage(error.to_string()))?;
    Ok(config)
}

/// Reads what reaches the cluster's allocators: file, environment and flags of `status` and `bridge`.
pub(crate) fn load_cluster(matches: &ArgMatches) -> anyhow::Result<ClusterConfig> {
    let cluster = read(matches, client_settings())?.cluster;
    cluster.check()?;
    Ok(cluster)
}

/// Reads file and environment for subcommands that only need the keys.
pub(crate) fn load_without_flags(matches: &ArgMatches) -> anyhow::Result<Config> {
    let mut config = read(matches, std::iter::empty())?;
    if matches.get_flag("dev") {
        config.keys.clear();
        add_dev(&mut config);
    }
    Ok(config)
}

fn add_dev(config: &mut Config) {
    config.keys.insert(DEV.0.into(), SecretString::from(DEV.1));
}

fn sources(matches: &ArgMatches) -> Sources {
    // Names and values that are not Unicode cannot be settings.
    let variables =
        env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let sources = Sources::new().secrets("keys").environment(variables);
    match matches.get_one::<PathBuf>("config") {
        Some(file) => sources.file(file),
        None => sources,
    }
}
