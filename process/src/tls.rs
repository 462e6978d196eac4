//! TLS for the listener: certificate and key from PEM files, re-read when they change.
//!
//! Versions, suites and groups are those BSI TR-02102-2 recommends and browsers have: TLS 1.3 and 1.2, AES-GCM with
//! ephemeral ECDH on secp256r1 and secp384r1. (X25519 is not in that guideline; Chromium, which offers it first, pays
//! one more round trip at its first connection.)

mod followed;
mod mutual;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig, SignatureScheme,
    client::ResolvesClientCert,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::metrics::Metrics;
use followed::Followed;

pub use mutual::Mutual;

/// How often the files are looked at.
pub const POLL: Duration = Duration::from_secs(5);
/// Certificate chains and keys are a few kilobytes; more is a mistake.
const MAX_FILE: u64 = 1 << 20;
/// What a file of authorities must hold.
const AUTHORITY: &str = "authority's certificate";

/// Where certificate and key are.
#[derive(Clone, Debug)]
pub struct Files {
    /// PEM file with the server's certificate first, then the intermediate ones.
    pub certificate: PathBuf,
    /// PEM file with the private key (PKCS#8, PKCS#1 or SEC1), not encrypted.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; check the path and the file's permissions", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file is not what its setting promises.
    #[error("{path} holds no usable {what}; it must be a PEM file of at most 1 MiB", path = .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// The two files do not belong together, or the key is of an unknown kind.
    #[error("{certificate} and {key} cannot be used together: {source}; give the private key that belongs to the certificate",
        certificate = .files.certificate.display(), key = .files.key.display())]
    Pair {
        /// Both files.
        files: Files,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The system trusts nobody.
    #[error(
        "this system has no certificates of authorities; install its package ca-certificates, or name a file of them"
    )]
    NoAuthorities,
    /// The provider lacks the protocol versions: a build with the wrong features.
    #[error("TLS cannot be set up: {0}; this build lacks TLS 1.2 or 1.3")]
    Setup(rustls::Error),
}

/// The certificate in use, and the watch over its files. Clones share it.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    files: Files,
    provider: Arc<CryptoProvider>,
    followed: Followed<Contents, CertifiedKey>,
}

#[derive(PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// What a look at the files found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The files are as they were.
    Unchanged,
    /// What is new is in use for new connections.
    Replaced,
    /// The files changed and cannot be used; what there was stays.
    Kept,
}

impl Certificate {
    /// Reads both files.
    ///
    /// # Errors
    /// When they cannot be read or used: at start a wrong certificate is a reason not to start.
    pub fn load(files: Files, metrics: &Metrics) -> Result<Self, TlsError> {
        Self::load_for("", files, metrics)
    }

    /// The same for another use, whose name the metrics' names begin with.
    pub(crate) fn load_for(name: &str, files: Files, metrics: &Metrics) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let contents = Contents::read(&files)?;
        let key = contents.parse(&files, &provider)?;
        let followed = Followed::new(&format!("{name}tls"), "certificate", (contents, key), metrics);
        Ok(Self(Arc::new(Inner { files, provider, followed })))
    }

    /// The rustls configuration that always presents the current certificate and speaks HTTP/2 and HTTP/1.1.
    ///
    /// # Errors
    /// When this build of rustls lacks the protocol versions.
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let builder = ServerConfig::builder_with_provider(self.0.provider.clone());
        let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Setup)?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Resolver(self.clone())));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// Looks at the files once and takes over what is new and good.
    pub fn check(&self) -> Checked {
        let Inner { files, provider, followed } = &*self.0;
        followed.check(&files.certificate, Contents::read(files), |contents| contents.parse(files, provider))
    }

    /// Looks at the files every `interval` until `shutdown`.
    pub async fn watch(self, interval: Duration, shutdown: CancellationToken) {
        every(interval, shutdown, move || _ = self.check()).await;
    }
}

/// Looks every `interval` until `shutdown`.
async fn every(interval: Duration, shutdown: CancellationToken, look: impl Fn() + Send + Sync + 'static) {
    let (mut ticks, look) = (tokio::time::interval(interval), Arc::new(look));
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        let look = Arc::clone(&look);
        // Files may lie on a slow volume: keep the reading off the runtime's threads.
        if tokio::task::spawn_blocking(move || look()).await.is_err() {
            error!("looking at the certificate files failed, trying again");
        }
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.0.files).finish()
    }
}

#[derive(Debug)]
struct Resolver(Certificate);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.0.followed.current())
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.0.followed.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The rustls configuration of an HTTPS client without a certificate of its own, which trusts these authorities (PEM), or
/// those of the system.
///
/// # Errors
/// When there are none, or their file cannot be used.
pub fn client_config(authorities: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let roots = match authorities {
        Some(path) => roots(path, &read(path, AUTHORITY)?)?,
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(TlsError::NoAuthorities);
            }
            roots
        }
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(TlsError::Setup)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The authorities in a PEM file's content.
fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, TlsError> {
    let unusable = || TlsError::Content { path: path.to_owned(), what: AUTHORITY };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.map_err(|_| unusable())?).map_err(|_| unusable())?;
    }
    if roots.is_empty() { Err(unusable()) } else { Ok(roots) }
}

impl Contents {
    fn read(files: &Files) -> Result<Self, TlsError> {
        Ok(Self { certificate: read(&files.certificate, "certificate")?, key: read(&files.key, "private key")? })
    }

    fn parse(&self, files: &Files, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let content = |path: &Path, what| TlsError::Content { path: path.to_owned(), what };
        let chain = CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| content(&files.certificate, "certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|_| content(&files.key, "private key"))?;
        CertifiedKey::from_der(chain, key, provider).map_err(|source| TlsError::Pair { files: files.clone(), source })
    }
}

fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(TlsError::Content { path: path.to_owned(), what });
    }
    fs::read(path).map_err(failed)
}

/// The suites and groups of BSI TR-02102-2 that rustls has.
fn provider() -> CryptoProvider {
    use ring::{cipher_suite as suite, kx_group};
    CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![kx_group::SECP256R1, kx_group::SECP384R1],
        ..ring::default_provider()
    }
}
