//! The process's HTTP listener: configuration, binding, the accept loop and its ordered end.
//!
//! `connection.rs` serves one accepted socket, `origin.rs` knows whom requests come from, `ops.rs` holds the paths every process answers.

mod connection;
mod ops;
mod origin;

use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use ipnet::IpNet;
use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use serde::{Deserialize, Deserializer, de::Error as _};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::timeout::RequestBodyTimeoutLayer;
use tracing::{info, warn};

use crate::{
    exit::Usage,
    metrics::Metrics,
    tls::{self, Certificate, TlsError},
    units,
};

pub use connection::{PATIENCE, Peer};
pub use ops::router as ops_router;
use origin::Proxies;

/// How long open connections may finish after shutdown began.
pub const GRACE: Duration = Duration::from_secs(10);

/// The `[http]` section.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Address and port to listen on.
    #[serde(deserialize_with = "address")]
    pub bind: SocketAddr,
    /// PEM file with the certificate chain; with [`key`](Self::key) it turns HTTPS on.
    pub certificate: Option<PathBuf>,
    /// PEM file with the private key.
    pub key: Option<PathBuf>,
    /// Where browsers reach this server, e.g. `https://meet.example.de`, if that is not what `bind` says.
    pub public_url: Option<String>,
    /// Allow plain HTTP on other than loopback addresses: only behind a proxy that does HTTPS, since browsers give
    /// no camera or microphone to pages from plain HTTP.
    pub plain: bool,
    /// Connections open at the same time, WebSockets included; more wait in the system's queue.
    pub max_connections: usize,
    /// Networks of proxies in front, whose `X-Forwarded-For` tells whom requests come from: limits count by that.
    #[serde(deserialize_with = "units::list")]
    pub trusted_proxies: Vec<IpNet>,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 7880)),
            certificate: None,
            key: None,
            public_url: None,
            plain: false,
            max_connections: 10_000,
            trusted_proxies: Vec::new(),
        }
    }
}

impl HttpConfig {
    /// Whether the settings fit together; [`Server::bind`] asks this too.
    ///
    /// # Errors
    /// One sentence that says which setting to change.
    pub fn check(&self) -> Result<(), Usage> {
        let loopback = self.bind.ip().to_canonical().is_loopback();
        let problem = match (&self.certificate, &self.key) {
            (Some(_), None) => "http.certificate is given without http.key; give both for HTTPS or neither".into(),
            (None, Some(_)) => "http.key is given without http.certificate; give both for HTTPS or neither".into(),
            (None, None) if !loopback && !self.plain => format!(
                "http.bind {} is not a loopback address and browsers give no camera to plain HTTP; give http.certificate \
                 and http.key, or http.plain = true if a proxy in front of this server does HTTPS",
                self.bind
            ),
            _ if self.max_connections == 0 => "http.max_connections is 0; give at least 1".into(),
            _ if !self.public_url.as_deref().is_none_or(is_url) => {
                "http.public_url is not an address like https://meet.example.de; write scheme and host, no path".into()
            }
            _ => return Ok(()),
        };
        Err(Usage(problem))
    }
}

/// Why the listener could not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The settings contradict each other.
    #[error("{}", .0.0)]
    Config(Usage),
    /// Another process listens there.
    #[error("{0} is in use by another process; stop that one or give another address with http.bind (--bind)")]
    InUse(SocketAddr),
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}; give an address of this machine with http.bind (--bind)")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A bound listener, ready to serve.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<(Certificate, TlsAcceptor)>,
    max_connections: usize,
    proxies: Proxies,
    grace: Duration,
    counters: Counters,
}

#[derive(Clone, Debug, Default)]
struct Counters {
    open: Gauge,
    accepted: Counter,
    failed: Counter,
}

impl Server {
    /// Binds the address and reads the certificate, if one is configured.
    ///
    /// # Errors
    /// When the settings contradict each other, the address is taken or not ours, or the certificate is unusable.
    pub async fn bind(config: &HttpConfig, metrics: &Metrics) -> Result<Self, HttpError> {
        config.check().map_err(HttpError::Config)?;
        let tls = match (&config.certificate, &config.key) {
            (Some(certificate), Some(key)) => {
                let files = tls::Files { certificate: certificate.clone(), key: key.clone() };
                let certificate = Certificate::load(files, metrics)?;
                let acceptor = TlsAcceptor::from(Arc::new(certificate.server_config()?));
                Some((certificate, acceptor))
            }
            _ => None,
        };
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => HttpError::InUse(config.bind),
            _ => HttpError::Bind { address: config.bind, source },
        };
        let listener = TcpListener::bind(config.bind).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let counters = Counters::default();
        metrics.register(|registry| {
            registry.register(
                "http_connections_open",
                "Open HTTP connections, WebSockets included",
                counters.open.clone(),
            );
            registry.register("http_connections", "HTTP connections accepted", counters.accepted.clone());
            registry.register(
                "http_connection_failures",
                "Connections ended by a failed TLS handshake, bad HTTP, or silence",
                counters.failed.clone(),
            );
        });
        let (max_connections, proxies) = (config.max_connections, Proxies::new(&config.trusted_proxies));
        Ok(Self { listener, address, tls, max_connections, proxies, grace: GRACE, counters })
    }

    /// The address in use; tells the port when `bind` said 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether this server speaks HTTPS.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// How long open connections may finish after shutdown began, instead of [`GRACE`].
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Answers requests with `router` until `shutdown` is cancelled; then stops accepting, lets requests and
    /// WebSockets in progress finish for the grace time and returns. Every request carries a [`Peer`] extension.
    pub async fn serve(self, router: Router, shutdown: CancellationToken) {
        let tasks = TaskTracker::new();
        let tls = self.tls.map(|(certificate, acceptor)| {
            tokio::spawn(certificate.watch(tls::POLL, shutdown.clone()));
            acceptor
        });
        // A request body must keep moving: a client that stops in the middle of one is cut off.
        let router = router.layer(RequestBodyTimeoutLayer::new(PATIENCE));
        let permits = Arc::new(Semaphore::new(self.max_connections.min(Semaphore::MAX_PERMITS)));
        info!(address = %self.address, https = tls.is_some(), "listening");

        while let Some(accepted) = shutdown.run_until_cancelled(accept(&self.listener, &permits)).await {
            let Some((stream, peer, permit)) = accepted else { break };
            self.counters.accepted.inc();
            let held = connection::Held::new(permit, self.counters.open.clone());
            let connection = connection::serve(
                stream,
                (peer, self.proxies.clone()),
                tls.clone(),
                held,
                router.clone(),
                shutdown.clone(),
            );
            let failed = self.counters.failed.clone();
            tasks.spawn(async move {
                if let Err(error) = connection.await {
                    failed.inc();
                    tracing::debug!(%peer, %error, "connection ended");
                }
            });
        }
        drop(self.listener);
        tasks.close();
        let all = u32::try_from(self.max_connections).unwrap_or(u32::MAX);
        // Permits live as long as their sockets, also of those that became WebSockets.
        let finished = async { (tasks.wait().await, permits.acquire_many(all).await.is_ok()) };
        if timeout(self.grace, finished).await.is_err() {
            warn!(open = self.counters.open.get(), "connections still open after the grace time are cut");
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .field("secure", &self.is_secure())
            .finish_non_exhaustive()
    }
}

/// The next connection, once there is room for one. `None` when the semaphore was closed, which nobody does.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return Some((stream, peer, permit)),
            // The client gave up between SYN and accept, or file descriptors ran out; the latter needs a moment.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!(%error, "cannot accept connections at the moment; raise the limit of open files if this repeats");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let problem = || D::Error::custom(format!("{text:?} is not address:port; write 127.0.0.1:7880 or [::]:7880"));
    text.parse().map_err(|_| problem())
}

fn is_url(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some()
            && matches!(uri.path(), "" | "/")
            && uri.query().is_none()
    })
}
