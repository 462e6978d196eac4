//! gRPC between our processes: [`Listener`] takes connections, [`channel`] makes them, both with TLS in which each side
//! shows a certificate of the cluster's authority. Without TLS only on loopback addresses.

mod channel;
mod listener;

use std::path::PathBuf;
use std::{io, net::SocketAddr};

use crate::metrics::Metrics;
use crate::tls::{Certificate, Files, TlsError};

pub use channel::channel;
pub use listener::{Io, Listener};

/// Who this process is among the cluster's, and whom it trusts: all three files, or none on loopback addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// PEM file with the certificates of the cluster's authority.
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
    #[error("{0:?} is no address of an allocator: write https://host:port, several separated by commas")]
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

impl Identity {
    /// The certificate and the authority's file; `None` without TLS.
    fn load(&self, metrics: &Metrics) -> Result<Option<(Certificate, PathBuf)>, GrpcError> {
        match (&self.ca, &self.certificate, &self.key) {
            (None, None, None) => Ok(None),
            (Some(ca), Some(certificate), Some(key)) => {
                let files = Files { certificate: certificate.clone(), key: key.clone() };
                Ok(Some((Certificate::load(files, metrics)?, ca.clone())))
            }
            _ => Err(GrpcError::Incomplete),
        }
    }
}
