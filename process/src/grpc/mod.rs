//! gRPC between our processes: [`Listener`] takes connections, [`channel`] and [`peer`] make them, both with TLS in which
//! each side shows a certificate of the cluster's authority. Without TLS only on loopback addresses. What a caller may do
//! is in its certificate: [`Caller`]. [`TraceContext`], [`Traces`] and [`Origin`] make one trace of what
//! several processes do, at once and later.

mod caller;
mod channel;
mod listener;
mod trace;

use std::path::PathBuf;
use std::{io, net::SocketAddr};

use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::tls::{self, Files, Mutual, TlsError};

pub use caller::{Caller, Role, require};
pub use channel::{channel, peer};
pub use listener::{Io, Listener};
pub use trace::{Origin, TraceContext, Traced, Traces};

/// Who this process is among the cluster's, and whom it trusts: all three files, or none on loopback addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// PEM file with the certificates of the cluster's authority, re-read when it changes: two while one replaces the other.
    pub ca: Option<PathBuf>,
    /// PEM file with this process's certificate chain, re-read when it changes.
    pub certificate: Option<PathBuf>,
    /// PEM file with its private key.
    pub key: Option<PathBuf>,
}

/// Why gRPC cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// One of three files is missing.
    #[error(
        "TLS between our processes needs three files: cluster.ca, cluster.certificate and cluster.key; give all or none"
    )]
    Incomplete,
    /// Plain gRPC to or from other machines.
    #[error(
        "{0} is not a loopback address, and between machines each side must show a certificate: give cluster.ca, \
         cluster.certificate and cluster.key"
    )]
    Plain(String),
    /// Not an address.
    #[error("{0:?} is no address: write https://host:port, several allocators separated by commas")]
    Address(String),
    /// The address cannot be bound.
    #[error("cannot listen for gRPC on {address}: {source}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A file cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// The loaded identity: what listeners and channels of this process share. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Credentials(Option<Mutual>);

impl Credentials {
    /// Whether there is a certificate; without it only loopback addresses can be used.
    #[must_use]
    pub fn are_given(&self) -> bool {
        self.0.is_some()
    }
}

impl Identity {
    /// Reads the files, and again whenever they change until the process ends. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// One of the files is missing or cannot be used.
    pub fn load(&self, metrics: &Metrics) -> Result<Credentials, GrpcError> {
        match (&self.ca, &self.certificate, &self.key) {
            (None, None, None) => Ok(Credentials(None)),
            (Some(ca), Some(certificate), Some(key)) => {
                let files = Files { certificate: certificate.clone(), key: key.clone() };
                let mutual = Mutual::load("cluster_", files, ca.clone(), metrics)?;
                tokio::spawn(mutual.clone().watch(tls::POLL, CancellationToken::new()));
                Ok(Credentials(Some(mutual)))
            }
            _ => Err(GrpcError::Incomplete),
        }
    }
}
