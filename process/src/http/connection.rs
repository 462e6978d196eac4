//! One accepted socket: TLS handshake, HTTP/1.1 or HTTP/2, time limits for the silent, graceful end.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body};
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::origin::Proxies;

/// How long a client may take for its TLS handshake, for one request's headers (or to ask again on an open
/// connection), and between two pieces of a request body.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Request line and headers together (HTTP/1 lets up to twice of it pass, as it checks between reads); access tokens
/// travel in the query of WebSocket requests.
const MAX_HEAD: usize = 64 << 10;
/// Length of the HTTP/2 client preface (RFC 9113, section 3.4).
const PREFACE: usize = 24;

/// Who sent a request: an extension of every request that [`Server::serve`](super::Server::serve) hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The other end of the TCP connection (a proxy's, if there is one).
    pub address: SocketAddr,
    /// Whom the request comes from: `address`, or what trusted proxies say.
    pub client: IpAddr,
    /// Whether the connection is TLS.
    pub secure: bool,
}

/// What an open connection holds: its place under the limit and in the gauge, as long as its socket lives.
pub(super) struct Held {
    _permit: OwnedSemaphorePermit,
    open: Gauge,
}

impl Held {
    pub(super) fn new(permit: OwnedSemaphorePermit, open: Gauge) -> Self {
        open.inc();
        Self { _permit: permit, open }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.open.dec();
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error("TLS handshake: {0}")]
    Handshake(io::Error),
    #[error("no TLS handshake within {PATIENCE:?}")]
    Silent,
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
}

/// Serves one connection to its end.
pub(super) async fn serve(
    stream: TcpStream,
    (peer, proxies): (SocketAddr, Proxies),
    tls: Option<TlsAcceptor>,
    held: Held,
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), ConnectionError> {
    // Signalling messages are small and must not wait for acknowledgements.
    let _ = stream.set_nodelay(true);
    let peer = (Peer { address: peer, client: peer.ip(), secure: tls.is_some() }, proxies);
    let Some(acceptor) = tls else {
        return http1(Socket::new(stream, held, None), peer, router, shutdown).await;
    };
    let stream = timeout(PATIENCE, acceptor.accept(stream)).await.map_err(|_| ConnectionError::Silent)?;
    let stream = stream.map_err(ConnectionError::Handshake)?;
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        http2(Socket::new(stream, held, Some(PATIENCE)), peer, router, shutdown).await
    } else {
        http1(Socket::new(stream, held, None), peer, router, shutdown).await
    }
}

async fn http1<S>(
    socket: Socket<S>,
    peer: (Peer, Proxies),
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(router.clone(), request, peer.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return Ok(result?),
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

async fn http2<S>(
    socket: Socket<S>,
    peer: (Peer, Proxies),
    router: Router,
    shutdown: CancellationToken,
) -> Result<(), ConnectionError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| answer(router.clone(), request, peer.clone()));
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PATIENCE * 2)
        .keep_alive_timeout(PATIENCE)
        .max_concurrent_streams(100)
        .max_header_list_size(MAX_HEAD as u32)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return Ok(result?),
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}

async fn answer(
    router: Router,
    mut request: Request<Incoming>,
    (peer, proxies): (Peer, Proxies),
) -> Result<axum::response::Response, std::convert::Infallible> {
    let client = proxies.origin(peer.client, request.headers());
    request.extensions_mut().insert(Peer { client, ..peer });
    router.oneshot(request.map(Body::new)).await
}

/// A stream that carries its [`Held`] and, for HTTP/2, ends a client that does not send its preface in time (hyper
/// would wait for it without end).
struct Socket<S> {
    stream: S,
    _held: Held,
    preface: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Socket<S> {
    fn new(stream: S, held: Held, preface: Option<Duration>) -> Self {
        Self { stream, _held: held, preface: preface.map(|patience| (Box::pin(sleep(patience)), PREFACE)) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let Some((deadline, missing)) = &mut self.preface else { return result };
        *missing = missing.saturating_sub(buffer.filled().len() - before);
        if *missing == 0 {
            self.preface = None;
            return result;
        }
        match result {
            Poll::Pending if deadline.as_mut().poll(cx).is_ready() => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            result => result,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
