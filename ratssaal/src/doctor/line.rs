//! A connection to the installation: its name, its address, its certificate.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use ratssaal_process::exit::Usage;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use x509_cert::der::Decode;

use super::finding::{Finding, Problem};
use super::options::Options;
use crate::stream::Stream;

/// Each step may take so long.
pub(super) const STEP: Duration = Duration::from_secs(10);
/// A certificate that ends sooner should have been renewed.
const SOON: Duration = Duration::from_secs(14 * 86_400);
const DAY: u64 = 86_400;

/// How to reach the installation.
pub(super) struct Line {
    https: bool,
    host: String,
    port: u16,
    given: Option<IpAddr>,
    addresses: Vec<SocketAddr>,
    config: Arc<ClientConfig>,
}

impl Line {
    /// Knows the authorities to trust.
    ///
    /// # Errors
    /// A file of `--ca` cannot be used.
    pub(super) fn new(options: &Options) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        // A system with a broken file among many still has the others; without any, the certificate check says so.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for path in &options.authorities {
            let bad = || Usage(format!("--ca {}: no PEM file with certificates that can be read", path.display()));
            let mut found = CertificateDer::pem_file_iter(path).map_err(|_| bad())?.peekable();
            found.peek().ok_or_else(bad)?;
            for certificate in found {
                roots.add(certificate.map_err(|_| bad())?).map_err(|_| bad())?;
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("TLS cannot be set up")?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            https: options.https,
            host: options.host.clone(),
            port: options.port,
            given: options.address,
            addresses: Vec::new(),
            config: Arc::new(config),
        })
    }

    /// The host's name.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The host and port as they stand in requests.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.https, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// The base of WebSocket addresses.
    pub(super) fn socket_base(&self) -> String {
        format!("{}://{}", if self.https { "wss" } else { "ws" }, self.authority())
    }

    /// Finds the addresses.
    pub(super) async fn resolve(&mut self) -> Result<Finding, Problem> {
        if let Some(address) = self.given {
            self.addresses = vec![SocketAddr::new(address, self.port)];
            return Ok(Finding::new(format!("{} is taken to be {address}, as told", self.host)));
        }
        let advice = "create an A or AAAA record for it, or correct --url";
        let found = timeout(STEP, lookup_host((self.host.as_str(), self.port))).await;
        let found =
            found.map_err(|_| Problem::new("DNS does not answer within 10 s", "check this machine's DNS server"))?;
        let found = found.map_err(|error| Problem::new(format!("{} is no known name ({error})", self.host), advice))?;
        self.addresses = found.collect();
        self.addresses.dedup();
        if self.addresses.is_empty() {
            return Err(Problem::new(format!("{} has no address", self.host), advice));
        }
        let list: Vec<String> = self.addresses.iter().map(|address| address.ip().to_string()).collect();
        Ok(Finding::new(format!("{} is {}", self.host, list.join(", "))))
    }

    /// Connects to every address, as browsers may take any; checks the certificate.
    pub(super) async fn probe(&mut self) -> Result<Finding, Problem> {
        let mut finding = None;
        for address in self.addresses.clone() {
            let tcp = self.tcp(address).await?;
            if self.https {
                let (_, found) = self.secure(tcp).await?;
                finding = Some(found);
            }
        }
        finding.map_or_else(
            || match self.host.as_str() {
                "localhost" | "127.0.0.1" | "::1" => Ok(Finding::new("none needed on this machine itself")),
                _ => Ok(Finding::new("plain HTTP")
                    .but("browsers give no camera or microphone to it; give it a certificate")),
            },
            Ok,
        )
    }

    /// A connection ready for HTTP.
    pub(super) async fn open(&self) -> Result<Stream, Problem> {
        let address =
            *self.addresses.first().ok_or_else(|| Problem::new("no address", "this is a bug, please report it"))?;
        let tcp = self.tcp(address).await?;
        if self.https { Ok(self.secure(tcp).await?.0) } else { Ok(Box::new(tcp)) }
    }

    async fn tcp(&self, address: SocketAddr) -> Result<TcpStream, Problem> {
        let advice = format!("check that the server runs and that the firewall lets TCP port {} through", self.port);
        let silent = Problem::new(format!("{address} does not answer within 10 s"), advice.clone());
        let connected = timeout(STEP, TcpStream::connect(address)).await.map_err(|_| silent)?;
        connected.map_err(|error| Problem::new(format!("{address} refuses connections ({error})"), advice))
    }

    async fn secure(&self, tcp: TcpStream) -> Result<(Stream, Finding), Problem> {
        let name = ServerName::try_from(self.host.clone());
        let name = name.map_err(|_| Problem::new(format!("{} is no host name", self.host), "correct --url"))?;
        let shaken = timeout(STEP, TlsConnector::from(Arc::clone(&self.config)).connect(name, tcp)).await;
        let slow =
            || Problem::new("the TLS handshake takes more than 10 s", "check what listens on that port, and its load");
        let stream = shaken.map_err(|_| slow())?.map_err(|error| handshake_problem(&self.host, &error))?;
        let session = stream.get_ref().1;
        let version = session.protocol_version().map_or("TLS", |version| version.as_str().unwrap_or("TLS"));
        let end = session.peer_certificates().and_then(|chain| end_of(chain.first()?));
        let finding = validity(&self.host, &version.replace('v', " ").replace('_', "."), end, now());
        Ok((Box::new(stream), finding))
    }
}

fn now() -> Duration {
    static START: OnceLock<Duration> = OnceLock::new();
    // Before 1970 there is no valid certificate.
    *START.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// When a certificate ends, since 1970.
fn end_of(certificate: &CertificateDer<'_>) -> Option<Duration> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    Some(certificate.tbs_certificate().validity().not_after.to_unix_duration())
}

/// What a good certificate says.
fn validity(host: &str, version: &str, end: Option<Duration>, now: Duration) -> Finding {
    let Some(end) = end else { return Finding::new(format!("{version}, valid for {host}")) };
    let left = end.saturating_sub(now);
    let finding = Finding::new(format!("{version}, valid for {host} another {} days", left.as_secs() / DAY));
    if left < SOON { finding.but("renew it now, or find out why it is not renewed by itself") } else { finding }
}

/// What a failed handshake means.
fn handshake_problem(host: &str, error: &std::io::Error) -> Problem {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = inner else {
        let what = format!("the TLS handshake fails ({error})");
        return Problem::new(what, "check that this port speaks TLS 1.2 or 1.3 (http:// if it should not)");
    };
    match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            Problem::new("the certificate has expired", "renew it; the server takes the new files over by itself")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Problem::new(
            "the certificate is not valid yet",
            "check the clocks of this machine and of the one that issued it",
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Problem::new(
            format!("the certificate is not for {host}"),
            "have one issued for that name, or correct --url",
        ),
        CertificateError::UnknownIssuer => Problem::new(
            "the certificate is of an authority that is not trusted here, or intermediate certificates are missing",
            "give the server the whole chain; for an authority of your own see --ca, and install it on all devices",
        ),
        other => Problem::new(format!("the certificate cannot be used ({other})"), "have a new one issued"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_that_ends_soon_is_a_warning() {
        let day = Duration::from_secs(DAY);
        let good = validity("a.example", "TLS 1.3", Some(day * 30), day);
        assert_eq!(good, Finding::new("TLS 1.3, valid for a.example another 29 days"));
        assert_ne!(
            validity("a.example", "TLS 1.3", Some(day * 14), day),
            Finding::new("TLS 1.3, valid for a.example another 13 days")
        );
    }

    #[test]
    fn failures_say_what_to_do() {
        for (error, part) in [
            (CertificateError::Expired, "renew"),
            (CertificateError::NotValidYet, "clocks"),
            (CertificateError::NotValidForName, "issued for that name"),
            (CertificateError::UnknownIssuer, "whole chain"),
            (CertificateError::Revoked, "new one"),
        ] {
            let error = std::io::Error::other(rustls::Error::InvalidCertificate(error));
            let problem = handshake_problem("a.example", &error);
            assert!(problem.advice.contains(part), "{problem:?}");
        }
        let problem = handshake_problem("a.example", &std::io::Error::other("not TLS"));
        assert!(problem.advice.contains("http://"), "{problem:?}");
    }
}
