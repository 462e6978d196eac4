//! How the other side of a transport is reached: a client by ICE and DTLS, another bridge by the address and the keys that
//! the bridges have told each other, another worker's transport not at all.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use smallvec::SmallVec;

use super::super::control::{Channel, RelayParameters};
use crate::transport::data::Data;
use crate::transport::dtls::Dtls;
use crate::transport::five_tuple::FiveTuple;
use crate::transport::ice::{CONSENT_TIMEOUT, IceLite};

/// As long as nothing has been heard of the other bridge, all its addresses are tried this often.
const TRY_EVERY: Duration = Duration::from_millis(200);
/// And again after so long a silence: reports come each second.
const LOST_AFTER: Duration = Duration::from_secs(3);

/// The other side of a transport.
pub(super) enum Link {
    /// A client's PeerConnection.
    Client(Box<Client>),
    /// Another bridge's worker.
    Relay(Box<Path>),
    /// A transport of another worker of this bridge.
    Mirror(Mirrored),
}

/// A transport of another worker of this bridge: nothing is sent to it from here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mirrored {
    /// The worker, by its number.
    pub(super) worker: usize,
    /// Whether it leads to another bridge.
    pub(super) relayed: bool,
    since: Instant,
}

impl Mirrored {
    pub(super) fn new(now: Instant, worker: usize, relayed: bool) -> Self {
        Self { worker, relayed, since: now }
    }
}

/// What a client's PeerConnection has besides SRTP.
pub(super) struct Client {
    pub(super) ice: IceLite,
    pub(super) dtls: Dtls,
    /// From the moment DTLS is up.
    pub(super) data: Option<Data>,
    /// Messages to send once it is.
    pub(super) early: Vec<(Channel, Bytes)>,
    pub(super) active: bool,
    pub(super) open_channels: bool,
    /// SCTP streams of the data channels that the client has already, `_reliable` and `_lossy`.
    pub(super) adopted: Option<[Option<u16>; 2]>,
}

impl Link {
    /// Whether the client goes on with a PeerConnection that it made with another server, and is yet to be connected.
    pub(super) fn goes_on(&self) -> bool {
        matches!(self, Self::Client(client) if client.adopted.is_some())
    }

    /// Where to send.
    pub(super) fn selected(&self) -> Option<FiveTuple> {
        match self {
            Self::Client(client) => client.ice.selected(),
            Self::Relay(path) => path.to(),
            Self::Mirror(_) => None,
        }
    }

    /// Something authentic came from there. True if the other side was not reachable before.
    pub(super) fn heard(&mut self, now: Instant, from: FiveTuple) -> bool {
        match self {
            Self::Client(client) => {
                client.ice.heard(now);
                false
            }
            Self::Relay(path) => path.heard(now, from),
            Self::Mirror(_) => false,
        }
    }

    /// When it counts as gone unless something is heard before.
    pub(super) fn expires_at(&self) -> Instant {
        match self {
            Self::Client(client) => client.ice.expires_at(),
            Self::Relay(path) => path.last_heard + CONSENT_TIMEOUT,
            Self::Mirror(mirrored) => mirrored.since,
        }
    }

    /// Whether it is gone. Another bridge never is by itself: the bridges tell each other when a room needs no relay. Nor is
    /// a transport of another worker, which tells.
    pub(super) fn expired(&self, now: Instant) -> bool {
        match self {
            Self::Client(client) => client.ice.expired(now),
            Self::Relay(_) | Self::Mirror(_) => false,
        }
    }

    /// The way to another bridge.
    pub(super) fn relay(&self) -> Option<&Path> {
        match self {
            Self::Client(_) | Self::Mirror(_) => None,
            Self::Relay(path) => Some(path),
        }
    }

    /// The same, to be changed.
    pub(super) fn relay_mut(&mut self) -> Option<&mut Path> {
        match self {
            Self::Client(_) | Self::Mirror(_) => None,
            Self::Relay(path) => Some(path),
        }
    }

    /// A transport of another worker.
    pub(super) fn mirrored(&self) -> Option<Mirrored> {
        if let Self::Mirror(mirrored) = self { Some(*mirrored) } else { None }
    }
}

/// The way to another bridge's worker.
#[derive(Debug)]
pub(super) struct Path {
    /// Where it says it can be reached, best first.
    candidates: SmallVec<[SocketAddr; 4]>,
    /// Where its last authentic packet came from: that leads through whatever NAT is between, and follows it.
    selected: Option<FiveTuple>,
    last_heard: Instant,
    next_try: Instant,
    /// The SSRC of its RTCP, chosen by us.
    pub(super) listen_ssrc: u32,
    /// The SSRC of our RTCP, chosen by it.
    pub(super) report_ssrc: u32,
    /// RTP bytes both ways, SRTP's included.
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Path {
    pub(super) fn new(now: Instant, parameters: &RelayParameters) -> Self {
        Self {
            candidates: parameters.remote.iter().copied().collect(),
            selected: None,
            last_heard: now,
            next_try: now,
            listen_ssrc: parameters.listen_ssrc,
            report_ssrc: parameters.report_ssrc,
            sent: 0,
            received: 0,
        }
    }

    fn to(&self) -> Option<FiveTuple> {
        self.selected.or_else(|| self.candidates.first().copied().map(FiveTuple::towards))
    }

    fn heard(&mut self, now: Instant, from: FiveTuple) -> bool {
        let first = self.selected.is_none();
        (self.selected, self.last_heard) = (Some(from), now);
        first
    }

    /// The addresses to try now, because nothing comes from the other side.
    pub(super) fn try_now(&mut self, now: Instant) -> &[SocketAddr] {
        let lost = self.selected.is_none() || now.saturating_duration_since(self.last_heard) > LOST_AFTER;
        if !lost || now < self.next_try {
            return &[];
        }
        self.next_try = now + TRY_EVERY;
        &self.candidates
    }
}
