//! The server's side: accepts, shakes hands aside, gives finished connections to a tonic server.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;
use tracing::{debug, info, warn};

use super::{Caller, Credentials, GrpcError};
use crate::tls::Mutual;

/// How long a handshake may take, and how many may be under way.
const HANDSHAKE: Duration = Duration::from_secs(5);
const HANDSHAKES: usize = 256;

/// A bound address for gRPC.
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Mutual>,
}

impl Listener {
    /// Binds the address. Without TLS only a loopback address can be had.
    ///
    /// # Errors
    /// When files or address cannot be used.
    pub async fn bind(address: SocketAddr, credentials: &Credentials) -> Result<Self, GrpcError> {
        let tls = match &credentials.0 {
            Some(mutual) => Some(mutual.clone()),
            None if address.ip().to_canonical().is_loopback() => None,
            None => return Err(GrpcError::Plain(address.to_string())),
        };
        let failed = |source| GrpcError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, tls })
    }

    /// The address in use; tells the port when 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that are ready for HTTP/2, until `stop`.
    pub fn incoming(self, stop: CancellationToken) -> impl Stream<Item = io::Result<Io>> + Send + use<> {
        let (ready, incoming) = mpsc::channel(HANDSHAKES);
        tokio::spawn(async move {
            info!(address = %self.address, mutual_tls = self.tls.is_some(), "listening for gRPC");
            let slots = Arc::new(Semaphore::new(HANDSHAKES));
            while let Some(accepted) = stop.run_until_cancelled(self.listener.accept()).await {
                let (stream, peer) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        warn!(%error, "cannot accept gRPC connections at the moment");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
                let acceptor = self.tls.as_ref().map(|mutual| TlsAcceptor::from(mutual.server()));
                let ready = ready.clone();
                tokio::spawn(async move {
                    // Calls are small and must not wait for acknowledgements.
                    let _ = stream.set_nodelay(true);
                    let io = match acceptor {
                        None => Io::Plain(stream),
                        Some(acceptor) => match timeout(HANDSHAKE, acceptor.accept(stream)).await {
                            Ok(Ok(stream)) => Io::Tls(Box::new(stream)),
                            Ok(Err(error)) => return debug!(%peer, %error, "gRPC connection refused"),
                            Err(_) => return debug!(%peer, "no TLS handshake in time"),
                        },
                    };
                    drop(slot);
                    // The server has ended if nobody takes it.
                    let _ = ready.send(Ok(io)).await;
                });
            }
        });
        ReceiverStream::new(incoming)
    }
}

/// An accepted connection.
#[derive(Debug)]
pub enum Io {
    /// On a loopback address.
    Plain(TcpStream),
    /// Both sides have shown their certificates.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Io {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        match self {
            Self::Plain(_) => Caller::Local,
            Self::Tls(stream) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                shown.map_or(Caller::Certified(Vec::new()), Caller::of)
            }
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
