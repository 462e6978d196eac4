//! The operator: makes of each `VideoConference` bridges, allocators, Redis and the way in, and keeps them so.
//!
//! A look at an installation goes observe → [`problem`] → [`plan`] → [`build`] → apply → status; the middle ones are pure. It
//! talks to the API server and to the installations' allocators, never to Redis or to media. While it is away meetings go
//! on; nothing grows or is replaced.
#![forbid(unsafe_code)]

mod apply;
pub mod authority;
mod bridges;
pub mod build;
mod cluster;
mod config;
mod controller;
pub mod credentials;
mod definition;
mod hash;
mod kind;
mod leader;
mod metrics;
pub mod names;
mod observe;
mod owned;
pub mod pki;
pub mod plan;
pub mod problem;
mod reconcile;
pub mod rights;
mod status;
mod stores;

use kube::Client;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use config::OperatorConfig;
pub use kind::Kind;
pub use leader::{LEASE, LeaderError};
pub use metrics::Metrics;

/// Why the operator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No way to the API server is known.
    #[error("no Kubernetes found: {0}; run the operator in a cluster, or set KUBECONFIG")]
    Config(#[source] kube::Error),
    /// The API server does not answer.
    #[error("the API server does not answer: {0}; check its address and the operator's rights")]
    Api(#[source] kube::Error),
    /// Of several operators none can lead.
    #[error(transparent)]
    Leader(#[from] LeaderError),
}

/// The operator, connected.
pub struct Operator {
    client: Client,
    config: OperatorConfig,
    metrics: Metrics,
}

impl Operator {
    /// With this client.
    pub fn new(client: Client, config: OperatorConfig, metrics: Metrics) -> Self {
        Self { client, config, metrics }
    }

    /// Finds the API server by the Pod's account or KUBECONFIG.
    ///
    /// # Errors
    /// When there is none.
    pub async fn connect(mut config: OperatorConfig, metrics: Metrics) -> Result<Self, OperatorError> {
        let client = Client::try_default().await.map_err(OperatorError::Config)?;
        if config.identity.is_empty() {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            config.identity = format!("{}-{}", host.trim(), std::process::id());
        }
        Ok(Self::new(client, config, metrics))
    }

    /// Whether the API server answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn check(&self) -> Result<(), OperatorError> {
        self.client.apiserver_version().await.map(|_| ()).map_err(OperatorError::Api)
    }

    /// Looks after all installations while it holds the Lease, until `stop`; then it gives the Lease back.
    ///
    /// # Errors
    /// When the API server does not answer at the start.
    pub async fn run(self, stop: CancellationToken) -> Result<(), OperatorError> {
        let features = controller::features(&self.client).await.map_err(OperatorError::Api)?;
        let act = || async {
            let mut scopes = JoinSet::new();
            for scope in self.config.scopes() {
                let (client, config) = (self.client.clone(), self.config.clone());
                scopes.spawn(controller::run(client, config, scope, features, self.metrics.clone(), stop.clone()));
            }
            // A part that fails takes the others with it, and all begin anew.
            while let Some(Ok(())) = scopes.join_next().await {}
        };
        leader::lead(self.client.clone(), &self.config, &self.metrics, &stop, act).await?;
        Ok(())
    }
}
