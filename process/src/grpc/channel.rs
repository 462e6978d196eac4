//! The client's side: [`channel`] to whichever of several addresses answers, [`peer`] to exactly one.
//!
//! A channel holds one connection. It is asked every [`PULSE`] whether it lives, so a server that died, hangs or was cut off
//! is noticed within 0.65 s; the next call then goes to the next address. A peer gets more time, for cutting it off cuts the
//! clients whose signalling runs over it.

use std::io;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use tracing::{debug, info};

use super::{Credentials, GrpcError};
use crate::tls::Mutual;

/// How often a connection is asked whether it lives, and how long it may take to answer.
/// Together with the repetition of the call that found it out (0.15 s), the next server is to be used within a second.
const PULSE: Duration = Duration::from_millis(250);
const PULSE_ANSWER: Duration = Duration::from_millis(400);
/// The same towards a peer.
const PEER_PULSE: Duration = Duration::from_secs(1);
const PEER_PULSE_ANSWER: Duration = Duration::from_secs(2);
/// How long one address may take to take a connection.
const CONNECT: Duration = Duration::from_millis(400);
/// Flow-control window of a call and of the connection: a large snapshot must not wait for the reader's answer.
const WINDOW: u32 = 4 << 20;

#[derive(Debug)]
struct Address {
    host: String,
    port: u16,
    secure: bool,
}

struct Dialer {
    addresses: Vec<Address>,
    tls: Option<Mutual>,
    /// Where to begin next: after the one that was in use last, for that one has broken.
    next: AtomicUsize,
}

/// A channel to the first of these addresses (`https://host:port`, separated by commas) that answers, beginning anywhere so
/// that many clients spread over them. It connects with its first call, and again whenever it has to. Must be called within
/// a Tokio runtime.
///
/// # Errors
/// An address that is none, plain HTTP to another machine, files that cannot be used.
pub fn channel(addresses: &str, credentials: &Credentials) -> Result<Channel, GrpcError> {
    let parsed = addresses.split(',').map(|text| Address::from_str(text.trim()));
    let dialer = Dialer::new(parsed.collect::<Result<_, _>>()?, credentials)?;
    let endpoint = Endpoint::from_static("http://allocator.cluster")
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keep_alive_interval(PULSE)
        .keep_alive_timeout(PULSE_ANSWER);
    Ok(dialer.connect(endpoint))
}

/// A channel to the one process at this address (`https://host:port`). It connects with its first call, and again whenever
/// it has to. Must be called within a Tokio runtime.
///
/// # Errors
/// An address that is none, plain HTTP to another machine, files that cannot be used.
pub fn peer(address: &str, credentials: &Credentials) -> Result<Channel, GrpcError> {
    let dialer = Dialer::new(vec![Address::from_str(address)?], credentials)?;
    let endpoint = Endpoint::from_static("http://peer.cluster")
        .initial_connection_window_size(WINDOW)
        .http2_keep_alive_interval(PEER_PULSE)
        .keep_alive_timeout(PEER_PULSE_ANSWER);
    Ok(dialer.connect(endpoint))
}

/// What tonic drives: plain or TLS.
trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Stream for T {}

impl Dialer {
    fn new(addresses: Vec<Address>, credentials: &Credentials) -> Result<Self, GrpcError> {
        let tls = credentials.0.clone();
        if let Some(address) = addresses.iter().find(|address| address.secure && tls.is_none()) {
            return Err(GrpcError::Plain(address.host.clone()));
        }
        let first = std::process::id() as usize % addresses.len();
        Ok(Self { addresses, tls, next: AtomicUsize::new(first) })
    }

    fn connect(self, endpoint: Endpoint) -> Channel {
        let dialer = Arc::new(self);
        let connector = service_fn(move |_: Uri| {
            let dialer = Arc::clone(&dialer);
            async move { dialer.dial().await }
        });
        endpoint.keep_alive_while_idle(true).connect_with_connector_lazy(connector)
    }

    async fn dial(&self) -> io::Result<TokioIo<Box<dyn Stream>>> {
        let mut last = io::Error::from(io::ErrorKind::NotConnected);
        for _ in 0..self.addresses.len() {
            let at = self.next.fetch_add(1, Ordering::Relaxed) % self.addresses.len();
            let address = &self.addresses[at];
            match timeout(CONNECT, self.reach(address)).await.unwrap_or_else(|late| Err(late.into())) {
                Ok(stream) => {
                    info!(host = address.host, port = address.port, "connected over gRPC");
                    return Ok(TokioIo::new(stream));
                }
                Err(error) => {
                    debug!(host = address.host, port = address.port, %error, "no gRPC connection");
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn reach(&self, address: &Address) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
        stream.set_nodelay(true)?;
        match (&self.tls, address.secure) {
            (Some(mutual), true) => {
                let tls = TlsConnector::from(mutual.client());
                let name = ServerName::try_from(address.host.clone()).map_err(io::Error::other)?;
                Ok(Box::new(tls.connect(name, stream).await?))
            }
            _ => Ok(Box::new(stream)),
        }
    }
}

impl FromStr for Address {
    type Err = GrpcError;

    fn from_str(text: &str) -> Result<Self, GrpcError> {
        let none = || GrpcError::Address(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| none())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(none()),
        };
        let (Some(host), Some(port), "" | "/") = (uri.host(), uri.port_u16(), uri.path()) else { return Err(none()) };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let loopback = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        if !secure && !loopback {
            return Err(GrpcError::Plain(text.to_owned()));
        }
        Ok(Self { host, port, secure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["https://allocator:7890", "http://127.0.0.1:7890", "http://[::1]:7890/", "https://[2001:db8::1]:1"]
        {
            assert!(Address::from_str(good).is_ok(), "{good}");
        }
        for bad in ["", "allocator:7890", "https://allocator", "ftp://x:1", "https://x:1/path", "redis://x:1"] {
            assert!(matches!(Address::from_str(bad), Err(GrpcError::Address(_))), "{bad}");
        }
        assert!(
            matches!(Address::from_str("http://10.0.0.1:7890"), Err(GrpcError::Plain(_))),
            "no secrets in the clear"
        );
    }
}
