//! TLS in which both sides show a certificate of the cluster's authorities. Their file is followed like the certificate's:
//! a new authority comes beside the old one, later the old one goes, and nothing is restarted.
//!
//! Other authorities make other rustls configurations, not other verifiers in the same ones: whoever resumed a session that
//! such a configuration remembers would get in without a look at its certificate.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ServerConfig};
use tokio_util::sync::CancellationToken;

use super::followed::Followed;
use super::{AUTHORITY, Certificate, Checked, Files, Resolver, TlsError, every, read, roots};
use crate::metrics::Metrics;

/// Certificate and authorities in use, and the watch over their files. Clones share them.
#[derive(Clone, Debug)]
pub struct Mutual(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    certificate: Certificate,
    /// PEM file.
    authorities: PathBuf,
    followed: Followed<Vec<u8>, Configurations>,
}

#[derive(Debug)]
struct Configurations {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Mutual {
    /// Reads all three files. The names of the metrics begin with `name`.
    ///
    /// # Errors
    /// When they cannot be read or used: at start that is a reason not to start.
    pub fn load(name: &str, files: Files, authorities: PathBuf, metrics: &Metrics) -> Result<Self, TlsError> {
        let certificate = Certificate::load_for(name, files, metrics)?;
        let pem = read(&authorities, AUTHORITY)?;
        let made = Configurations::new(&certificate, &authorities, &pem)?;
        let followed = Followed::new(&format!("{name}ca"), "authorities", (pem, made), metrics);
        Ok(Self(Arc::new(Inner { certificate, authorities, followed })))
    }

    /// The rustls configuration for the next connection of a gRPC server: it lets in only who shows a certificate of these
    /// authorities.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.followed.current().server)
    }

    /// The rustls configuration for the next connection of a gRPC client: it shows the certificate and trusts only these
    /// authorities.
    #[must_use]
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0.followed.current().client)
    }

    /// Looks at the files once and takes over what is new and good; what became of the authorities.
    pub fn check(&self) -> Checked {
        let Inner { certificate, authorities, followed } = &*self.0;
        certificate.check();
        let make = |pem: &Vec<u8>| Configurations::new(certificate, authorities, pem);
        followed.check(authorities, read(authorities, AUTHORITY), make)
    }

    /// Looks at all three files every `interval` until `shutdown`.
    pub async fn watch(self, interval: Duration, shutdown: CancellationToken) {
        every(interval, shutdown, move || _ = self.check()).await;
    }
}

impl Configurations {
    fn new(certificate: &Certificate, authorities: &Path, pem: &[u8]) -> Result<Self, TlsError> {
        let unusable = || TlsError::Content { path: authorities.to_owned(), what: AUTHORITY };
        let (roots, provider) = (roots(authorities, pem)?, &certificate.0.provider);
        let resolver = Arc::new(Resolver(certificate.clone()));
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), Arc::clone(provider));
        let verifier = verifier.build().map_err(|_| unusable())?;
        let server = ServerConfig::builder_with_provider(Arc::clone(provider));
        let server = server.with_safe_default_protocol_versions().map_err(TlsError::Setup)?;
        let mut server = server.with_client_cert_verifier(verifier).with_cert_resolver(resolver.clone());
        let client = ClientConfig::builder_with_provider(Arc::clone(provider));
        let client = client.with_safe_default_protocol_versions().map_err(TlsError::Setup)?;
        let mut client = client.with_root_certificates(roots).with_client_cert_resolver(resolver);
        server.alpn_protocols = vec![b"h2".to_vec()];
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
    }
}
