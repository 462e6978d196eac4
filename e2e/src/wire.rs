//! A participant's network, tampered with: what a bot's sockets send and receive can be repeated, cut, dropped or added to.
//!
//! A [`Tamper`] decides per datagram; [`Wire`] is the `webrtc` crate's runtime with sockets that ask it.

use std::{
    collections::VecDeque,
    future::Future,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{io::ReadBuf, net::UdpSocket};
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime, TokioRuntime,
    Transmit,
};

/// What a datagram is, by its first byte (RFC 7983 §7).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// STUN.
    Stun,
    /// DTLS: the handshake, and data channels after it.
    Dtls,
    /// SRTP or SRTCP.
    Srtp,
    /// Nothing that belongs here.
    Other,
}

/// The kind of a datagram.
#[must_use]
pub fn kind(datagram: &[u8]) -> Kind {
    match datagram.first() {
        Some(0..=3) => Kind::Stun,
        Some(20..=63) => Kind::Dtls,
        Some(128..=191) => Kind::Srtp,
        _ => Kind::Other,
    }
}

/// Whether a datagram is SRTCP rather than SRTP (RFC 5761 §4).
#[must_use]
pub fn is_srtcp(datagram: &[u8]) -> bool {
    kind(datagram) == Kind::Srtp && datagram.get(1).is_some_and(|second| (192..=223).contains(second))
}

/// What happens to a participant's datagrams.
pub trait Tamper: Send + Sync + std::fmt::Debug + 'static {
    /// What leaves instead of an outgoing datagram, in this order.
    fn outgoing(&self, datagram: &[u8]) -> Vec<Vec<u8>> {
        vec![datagram.to_vec()]
    }

    /// Whether an incoming datagram arrives.
    fn incoming(&self, datagram: &[u8]) -> bool {
        let _ = datagram;
        true
    }
}

/// The tokio runtime with tampered sockets.
#[derive(Debug)]
pub struct Wire(pub Arc<dyn Tamper>);

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for Wire {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        TokioRuntime.spawn(future)
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        socket.set_nonblocking(true)?;
        let (socket, tamper) = (UdpSocket::from_std(socket)?, Arc::clone(&self.0));
        Ok(Arc::new(Socket { socket, tamper, backlog: Mutex::default() }))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    fn connect_tcp<'a>(&'a self, remote: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        TokioRuntime.connect_tcp(remote)
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        TokioRuntime.resolve_host(host)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }
}

#[derive(Debug)]
struct Socket {
    socket: UdpSocket,
    tamper: Arc<dyn Tamper>,
    /// What leaves instead of the datagrams handed over so far, and has not yet.
    backlog: Mutex<VecDeque<(Vec<u8>, SocketAddr)>>,
}

impl AsyncUdpSocket for Socket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn poll_send(&self, context: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        let mut backlog = self.backlog.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((datagram, to)) = backlog.front() {
            ready!(self.socket.poll_send_to(context, datagram, *to))?;
            backlog.pop_front();
        }
        for datagram in self.tamper.outgoing(transmit.contents) {
            backlog.push_back((datagram, transmit.destination));
        }
        while let Some((datagram, to)) = backlog.front() {
            // A full socket keeps the rest for the next call: the datagram itself is taken.
            match self.socket.poll_send_to(context, datagram, *to) {
                Poll::Ready(sent) => drop(sent?),
                Poll::Pending => break,
            }
            backlog.pop_front();
        }
        Poll::Ready(Ok(transmit.contents.len()))
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buffer), Some(meta)) = (buffers.first_mut(), meta.first_mut()) else { return Poll::Ready(Ok(0)) };
        loop {
            let mut read = ReadBuf::new(buffer);
            let from = ready!(self.socket.poll_recv_from(context, &mut read))?;
            let datagram = read.filled();
            if self.tamper.incoming(datagram) {
                *meta = RecvMeta::default();
                (meta.addr, meta.len, meta.stride) = (from, datagram.len(), datagram.len().max(1));
                return Poll::Ready(Ok(1));
            }
        }
    }
}
