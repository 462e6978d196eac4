//! The `[cluster]` section: this process among others. Without it a server is on its own.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use ratssaal_allocator::{
    Config, Service, embedded,
    store::{RedisSettings, RedisStore, Store},
};
use ratssaal_process::{
    exit::Usage,
    grpc::{self, Identity},
    metrics::Metrics,
};
use secrecy::SecretString;
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// A bridge that has no name needs none.
const ALONE: &str = "local";

/// The `[cluster]` section.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ClusterConfig {
    /// This bridge's name.
    bridge: Option<String>,
    /// Where the shared Redis is.
    pub(crate) redis: Option<SecretString>,
    redis_ca: Option<PathBuf>,
    redis_prefix: String,
    /// Allocators to use instead of an own one.
    allocator: Option<String>,
    /// Where an allocator listens.
    pub(crate) listen: SocketAddr,
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self {
            bridge: None,
            redis: None,
            redis_ca: None,
            redis_prefix: "ratssaal".into(),
            allocator: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 7890)),
            ca: None,
            certificate: None,
            key: None,
        }
    }
}

/// The way to the allocator.
pub(crate) struct Control {
    /// To it.
    pub(crate) channel: Channel,
    /// The own one, until it is cancelled.
    pub(crate) own: JoinHandle<()>,
}

impl ClusterConfig {
    pub(crate) fn check(&self) -> Result<(), Usage> {
        match (&self.redis, &self.allocator) {
            (Some(_), Some(_)) => Err(Usage(
                "cluster.redis and cluster.allocator are both given; give cluster.redis for an own allocator on it, or \
                 cluster.allocator to use others"
                    .into(),
            )),
            _ => Ok(()),
        }
    }

    /// This bridge's name: as configured, else the machine's in a cluster.
    pub(crate) fn bridge(&self) -> String {
        let alone = self.redis.is_none() && self.allocator.is_none();
        let host = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
        let name = self.bridge.clone().or_else(|| if alone { None } else { host() });
        name.filter(|name| !name.is_empty()).unwrap_or_else(|| ALONE.into())
    }

    /// Who this process is among the cluster's.
    pub(crate) fn identity(&self) -> Identity {
        Identity { ca: self.ca.clone(), certificate: self.certificate.clone(), key: self.key.clone() }
    }

    /// The shared store, if there is one.
    pub(crate) fn store(&self, config: &Config) -> Result<Option<RedisStore>> {
        let Some(url) = self.redis.clone() else { return Ok(None) };
        let settings =
            RedisSettings { ca: self.redis_ca.clone(), prefix: self.redis_prefix.clone(), ..RedisSettings::new(url) };
        let store = RedisStore::connect(settings, config).map_err(|error| Usage(error.to_string()))?;
        Ok(Some(store))
    }

    /// The allocator that a server uses: others, an own one on the shared Redis, or an own one in memory.
    pub(crate) fn control(&self, config: Config, metrics: &Metrics, stop: &CancellationToken) -> Result<Control> {
        if let Some(addresses) = &self.allocator {
            let channel = grpc::channel(addresses, &self.identity(), metrics);
            let channel = channel.map_err(|error| Usage(error.to_string()))?;
            return Ok(Control { channel, own: tokio::spawn(stop.clone().cancelled_owned()) });
        }
        Ok(match self.store(&config)? {
            Some(store) => own(metrics.register(|registry| Service::build(config, store, registry))?, stop),
            None => own(metrics.register(|registry| Service::in_memory(config, registry))?, stop),
        })
    }
}

fn own<S: Store>(service: Service<S>, stop: &CancellationToken) -> Control {
    Control { channel: embedded(&service), own: tokio::spawn(service.run(stop.clone())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_or_one_of_two_ways() {
        assert_eq!(ClusterConfig::default().bridge(), ALONE);
        let named = ClusterConfig { bridge: Some("rathaus".into()), ..ClusterConfig::default() };
        assert_eq!(named.bridge(), "rathaus");
        let both = ClusterConfig {
            redis: Some("redis://user:geheim@h".to_owned().into()),
            allocator: Some("https://a:1".into()),
            ..ClusterConfig::default()
        };
        assert!(!both.check().unwrap_err().0.contains("geheim"));
        assert!(!format!("{both:?}").contains("geheim"));
    }
}
