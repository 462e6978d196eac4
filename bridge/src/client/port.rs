//! A participant's own UDP socket, and the batches that go through it. Every transport has a socket of its own, because
//! servers tell participants behind one port apart by the address they come from.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, Protocol, SockRef, Type};

use crate::media::outbox::{Outbox, Slot};
use crate::media::udp::{ReceiveBatch, SendBatch, Socket};
use crate::transport::five_tuple::FiveTuple;

/// Socket buffers, bytes: some key frames of a meeting.
const SOCKET_BUFFER: usize = 1 << 20;

/// A non-blocking UDP socket.
#[derive(Debug)]
pub struct Port {
    socket: Socket,
    address: SocketAddr,
}

impl Port {
    /// Binds a free port for IPv6 and IPv4, or for IPv4 alone where the machine has no other.
    ///
    /// # Errors
    /// There are no more ports or file descriptors.
    pub fn any() -> io::Result<Self> {
        Self::dual().or_else(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))).and_then(Self::new)
    }

    fn dual() -> io::Result<UdpSocket> {
        let socket = socket2::Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_only_v6(false)?;
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into())?;
        Ok(socket.into())
    }

    fn new(socket: UdpSocket) -> io::Result<Self> {
        let reference = SockRef::from(&socket);
        // Smaller ones work too, they only lose more when this thread is late.
        let _ = reference.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = reference.set_send_buffer_size(SOCKET_BUFFER);
        let address = socket.local_addr()?;
        Ok(Self { socket: Socket::new(socket)?, address })
    }

    /// The address it is bound to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Receives one batch and hands over each datagram with its source. True when there may be more.
    ///
    /// # Errors
    /// What the socket says but "nothing there".
    pub fn receive(&self, buffers: &mut Incoming, mut each: impl FnMut(SocketAddr, &mut [u8])) -> io::Result<bool> {
        let messages = match self.socket.receive(&mut buffers.0) {
            Ok(messages) => messages,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let (buffer, datagrams) = buffers.0.datagrams();
        for datagram in datagrams {
            each(datagram.from.remote, &mut buffer[datagram.start..][..datagram.len]);
        }
        Ok(messages == ReceiveBatch::MESSAGES)
    }

    /// Sends everything that waits and forgets it; how many datagrams the kernel did not take.
    pub fn send(&mut self, outgoing: &mut Outgoing) -> u64 {
        if outgoing.outbox.is_empty() {
            return 0;
        }
        let sent = self.socket.send(&outgoing.outbox, &mut outgoing.batch);
        outgoing.outbox.clear();
        sent.refused
    }
}

impl AsRawFd for Port {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Buffers for receiving, shared by the ports of a thread.
pub struct Incoming(ReceiveBatch);

impl Default for Incoming {
    fn default() -> Self {
        Self(ReceiveBatch::new())
    }
}

/// Datagrams of one transport on their way out; shared by the ports of a thread, empty between them.
pub struct Outgoing {
    outbox: Outbox,
    slot: Slot,
    batch: SendBatch,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { outbox: Outbox::new(), slot: Slot::STALE, batch: SendBatch::new() }
    }
}

impl Outgoing {
    /// A ready datagram.
    pub fn push(&mut self, to: SocketAddr, datagram: &[u8]) {
        self.outbox.push(&FiveTuple::towards(to), &mut self.slot, datagram);
    }

    /// Where the next datagram is written, see [`Self::commit`].
    pub(super) fn arena(&mut self) -> &mut Vec<u8> {
        self.outbox.arena()
    }

    /// Queues what was written from `start` on.
    pub(super) fn commit(&mut self, to: SocketAddr, start: usize) {
        self.outbox.commit(&FiveTuple::towards(to), &mut self.slot, start);
    }

    /// Forgets what was written from `start` on.
    pub(super) fn abort(&mut self, start: usize) {
        self.outbox.abort(start);
    }

    /// What waits, with its destination.
    pub fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        self.outbox.queues().flat_map(|(to, datagrams)| datagrams.map(move |datagram| (to.remote, datagram)))
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.outbox.clear();
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outbox.is_empty()
    }
}
