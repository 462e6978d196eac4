//! The `[cluster]` section: this process among others. Without it a server is on its own.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::Result;
use ratssaal_allocator::{
    Config, Service, embedded,
    store::{RedisSettings, RedisStore, Store},
};
use ratssaal_bridge::{Neighbourhood, config::DrainConfig};
use ratssaal_process::{
    exit::Usage,
    grpc::{self, Credentials, GrpcError, Identity, Listener},
    metrics::Metrics,
    units,
};
use secrecy::SecretString;
use serde::Deserialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// What to do without a way to the allocators.
const NO_CLUSTER: &str = "nothing says where the cluster is; give its allocators (--allocator https://host:7890) or its Redis \
     (--redis redis://host)";
/// A bridge that has no name needs none.
const ALONE: &str = "local";

/// How often the cluster's own Redis looks for a new certificate: an authority's replacement leaves an hour for it.
const REREAD: Duration = Duration::from_secs(60);

/// Where a server with a certificate listens for others.
const PEER_PORT: u16 = 7891;

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
    /// Where a server listens for other servers, and what they are told of that.
    peer_listen: Option<SocketAddr>,
    peer_address: Option<String>,
    /// How a server hands its participants over when it stops.
    drain_batch: usize,
    #[serde(deserialize_with = "units::duration")]
    drain_within: Duration,
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
            peer_listen: None,
            peer_address: None,
            drain_batch: DrainConfig::default().batch,
            drain_within: DrainConfig::default().within,
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
        let name = self.bridge.clone().or_else(|| if self.is_alone() { None } else { host() });
        name.filter(|name| !name.is_empty()).unwrap_or_else(|| ALONE.into())
    }

    /// How this bridge hands its participants over when it stops, if there are others.
    pub(crate) fn handover(&self) -> Option<DrainConfig> {
        let drain = DrainConfig { batch: self.drain_batch, within: self.drain_within };
        (!self.is_alone()).then_some(drain)
    }

    fn is_alone(&self) -> bool {
        self.redis.is_none() && self.allocator.is_none()
    }

    /// Who this process is among the cluster's, read from its files.
    pub(crate) fn credentials(&self, metrics: &Metrics) -> Result<Credentials> {
        let identity = Identity { ca: self.ca.clone(), certificate: self.certificate.clone(), key: self.key.clone() };
        Ok(identity.load(metrics).map_err(usage)?)
    }

    /// Where the cluster's other servers reach this one, if it is in a cluster: as configured, else any port on loopback,
    /// or with a certificate [`PEER_PORT`] on every address.
    pub(crate) async fn neighbourhood(&self, credentials: &Credentials) -> Result<Option<Neighbourhood>> {
        if self.is_alone() {
            return Ok(None);
        }
        let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, PEER_PORT));
        let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let default = if credentials.are_given() { everywhere } else { here };
        let listener = match Listener::bind(self.peer_listen.unwrap_or(default), credentials).await {
            Err(error @ GrpcError::Plain(_)) => return Err(usage(error).into()),
            bound => bound?,
        };
        let address = match &self.peer_address {
            Some(address) => {
                grpc::peer(address, credentials).map_err(usage)?;
                address.clone()
            }
            None => reached_at(listener.address(), credentials),
        };
        Ok(Some(Neighbourhood { listener, address, credentials: credentials.clone() }))
    }

    /// The shared store, if there is one.
    pub(crate) fn store(&self, config: &Config) -> Result<Option<RedisStore>> {
        let Some(url) = self.redis.clone() else { return Ok(None) };
        // Redis with a certificate of the cluster's own authority is the cluster's own.
        let own = self.redis_ca.is_some() && self.redis_ca == self.ca;
        let settings = RedisSettings {
            ca: self.redis_ca.clone(),
            prefix: self.redis_prefix.clone(),
            reread: own.then_some(REREAD),
            ..RedisSettings::new(url)
        };
        let store = RedisStore::connect(settings, config).map_err(|error| Usage(error.to_string()))?;
        Ok(Some(store))
    }

    /// The way of a command to the allocators: theirs, or straight to the shared store.
    pub(crate) fn client(&self, metrics: &Metrics) -> Result<Channel> {
        if let Some(addresses) = &self.allocator {
            return Ok(grpc::channel(addresses, &self.credentials(metrics)?).map_err(usage)?);
        }
        let config = Config::default();
        let store = self.store(&config)?.ok_or_else(|| Usage(NO_CLUSTER.into()))?;
        // Not run: what time has done is for the cluster's own allocators.
        Ok(embedded(&metrics.register(|registry| Service::build(config, store, registry))?))
    }

    /// The allocator that a server uses: others, an own one on the shared Redis, or an own one in memory.
    pub(crate) fn control(
        &self,
        config: Config,
        credentials: &Credentials,
        metrics: &Metrics,
        stop: &CancellationToken,
    ) -> Result<Control> {
        if let Some(addresses) = &self.allocator {
            let channel = grpc::channel(addresses, credentials).map_err(usage)?;
            return Ok(Control { channel, own: tokio::spawn(stop.clone().cancelled_owned()) });
        }
        Ok(match self.store(&config)? {
            Some(store) => own(metrics.register(|registry| Service::build(config, store, registry))?, stop),
            None => own(metrics.register(|registry| Service::in_memory(config, registry))?, stop),
        })
    }
}

/// The address under which others find a listener: the one it is bound to, or this machine's name.
fn reached_at(bound: SocketAddr, credentials: &Credentials) -> String {
    let scheme = if credentials.are_given() { "https" } else { "http" };
    match (bound.ip().is_unspecified(), host()) {
        (true, Some(host)) => format!("{scheme}://{host}:{}", bound.port()),
        _ => format!("{scheme}://{bound}"),
    }
}

/// This machine's name.
fn host() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

fn usage(error: GrpcError) -> Usage {
    Usage(error.to_string())
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
