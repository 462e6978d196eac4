//! What tells a client's datagrams from everybody else's: protocol, our address and theirs (RFC 8445 §4, "candidate pair").

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The transport protocol of a candidate pair.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Protocol {
    /// RFC 768.
    Udp,
}

/// Protocol, local and remote address: the identity of a transport's way through the network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FiveTuple {
    /// By which protocol.
    pub protocol: Protocol,
    /// Ours: where the other side's datagrams arrive, and where ours leave from. Unspecified where the kernel chooses.
    pub local: SocketAddr,
    /// Theirs.
    pub remote: SocketAddr,
}

impl FiveTuple {
    /// By UDP.
    #[must_use]
    pub const fn udp(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { protocol: Protocol::Udp, local, remote }
    }

    /// By UDP, from whatever address of ours the kernel chooses.
    #[must_use]
    pub const fn towards(remote: SocketAddr) -> Self {
        let unspecified = match remote {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        Self::udp(SocketAddr::new(unspecified, 0), remote)
    }
}
