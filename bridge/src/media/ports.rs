//! A worker's UDP port: one socket for what is taken at once and, where the kernel can tell them apart, one for what can
//! wait (`steering.rs`).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket as RawSocket, Type};

use super::config::MediaConfig;
use super::udp::Socket;

/// The sockets of one port.
pub(super) struct Port {
    /// Of what is taken at once; of everything where there is no other one.
    pub(super) socket: Socket,
    /// Of what can wait.
    pub(super) reports: Option<Socket>,
}

impl Port {
    /// Takes the next free one of those that the configuration allows.
    ///
    /// # Errors
    /// The last one's, when all of them are taken.
    pub(super) fn next(config: &MediaConfig, ports: &mut impl Iterator<Item = u16>) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for port in ports {
            match Self::take(config, port) {
                Ok(port) => return Ok(port),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn take(config: &MediaConfig, port: u16) -> io::Result<Self> {
        let address = SocketAddr::new(config.bind, port);
        // Nobody else has the port once this one is bound: only then may it be shared.
        let first = bind(address, false).or_else(|error| match error.raw_os_error() {
            // No IPv6 in this kernel or container.
            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
                if address == SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port) =>
            {
                bind(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), false)
            }
            _ => Err(error),
        })?;
        let second = first.set_reuse_port(true).and_then(|()| bind(local(&first)?, true));
        let size = config.socket_buffer as usize;
        let socket = open(first, size)?;
        let reports = second.and_then(|second| socket.steer().and_then(|()| open(second, size)));
        if let Err(error) = &reports {
            tracing::warn!(port, %error, "the kernel does not tell reports from media: both wake the worker");
        }
        Ok(Self { socket, reports: reports.ok() })
    }
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<RawSocket> {
    let socket = RawSocket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// With large buffers, if the system gives them.
fn open(socket: RawSocket, size: usize) -> io::Result<Socket> {
    for (what, result) in [("send", socket.set_send_buffer_size(size)), ("receive", socket.set_recv_buffer_size(size))]
    {
        if let Err(error) = result {
            tracing::warn!(%error, size, "the {what} buffer keeps its size");
        }
    }
    Socket::new(socket.into())
}

fn local(socket: &RawSocket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::super::steering;
    use super::super::udp::ReceiveBatch;
    use super::*;

    /// A port that is free at present, of the system's choice.
    fn port(bind: &str) -> Port {
        let config = MediaConfig { bind: bind.parse().unwrap(), ..MediaConfig::default() };
        Port::next(&config, &mut std::iter::once(0)).unwrap()
    }

    /// What has come to a socket.
    fn received(socket: &Socket) -> Vec<Vec<u8>> {
        let (mut batch, mut all) = (ReceiveBatch::new(), Vec::new());
        while socket.receive(&mut batch).is_ok() {
            let (buffer, datagrams) = batch.datagrams();
            all.extend(datagrams.iter().map(|datagram| buffer[datagram.start..][..datagram.len].to_vec()));
        }
        all
    }

    #[test]
    fn what_can_wait_comes_to_its_own_socket() {
        for (bind, from) in [("127.0.0.1", "127.0.0.1"), ("::", "127.0.0.1"), ("::", "::1")] {
            let Port { socket, reports } = port(bind);
            let reports = reports.expect("this kernel tells them apart");
            let client = UdpSocket::bind((from, 0)).unwrap();
            client.connect((from, socket.local().port())).unwrap();
            let seconds = [0, 1, 72, 96, 192, 200, 201, 202, 204, 205, 206, 207, 223, 254, 255];
            for second in seconds {
                let all: Vec<_> = (0..=255).map(|first| vec![first, second, first, second]).collect();
                all.iter().for_each(|datagram| assert_eq!(client.send(datagram).unwrap(), 4));
                let (late, soon): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| steering::can_wait(one));
                assert_eq!((received(&socket), received(&reports)), (soon, late), "{bind} {second}");
            }
            client.send(&[0x81]).unwrap();
            client.send(&[]).unwrap();
            assert_eq!(received(&socket), [[0x81]], "too short to tell; nothing in it, nothing received");
            assert!(received(&reports).is_empty());
        }
    }

    #[test]
    fn nobody_else_gets_a_port_that_is_taken() {
        let taken = port("127.0.0.1");
        let number = taken.socket.local().port();
        let config = MediaConfig { bind: taken.socket.local().ip(), ..MediaConfig::default() };
        let again = Port::next(&config, &mut std::iter::once(number));
        assert_eq!(again.err().map(|error| error.kind()), Some(io::ErrorKind::AddrInUse));
    }
}
