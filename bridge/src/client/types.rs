//! What a transport is told, and what it tells.

use thiserror::Error;

use super::source::SourceId;
use super::stream::Packet;
use crate::transport::dtls::{DtlsEnd, Identity};
use crate::transport::ice::generate_credentials;

/// Our side of a transport, as its SDP says it.
#[derive(Clone, Debug)]
pub struct Local {
    /// `a=ice-ufrag`
    pub ufrag: String,
    /// `a=ice-pwd`
    pub password: String,
    /// The certificate, shared by all participants of a load test.
    pub identity: Identity,
}

impl Local {
    /// Fresh credentials.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        let (ufrag, password) = generate_credentials();
        Self { ufrag, password, identity: identity.clone() }
    }
}

/// What happens on a transport.
#[derive(Debug)]
pub enum Event<'a> {
    /// Media can flow; the SRTP protection profile.
    Connected(String),
    /// A media packet.
    Packet(Packet<'a>),
    /// The server asks for a key frame of one of our sources.
    KeyFrameWanted(SourceId),
    /// Nothing more comes.
    Ended(Ended),
}

/// Why a transport ended.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Ended {
    /// The server does not answer connectivity checks.
    #[error("the server's UDP port did not answer for 30 s; check that UDP can reach the addresses it announces")]
    Unreachable,
    /// DTLS.
    #[error(transparent)]
    Dtls(#[from] DtlsEnd),
    /// The keys do not fit the profile.
    #[error("DTLS exported keys that do not fit the SRTP profile; this is a bug, please report it")]
    Keys,
}

/// Counters of a transport since its beginning.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct TransportTotals {
    /// Packets of our sources sent, without retransmissions.
    pub sent: u64,
    /// Retransmissions sent.
    pub repairs_sent: u64,
    /// SRTP packets that came, retransmissions and padding included.
    pub received: u64,
    /// Their bytes, without tag.
    pub received_bytes: u64,
    /// Sequence numbers asked for again.
    pub nacks_sent: u64,
    /// Key frames asked for.
    pub key_frames_asked: u64,
    /// Packets that were sent again although they were here already: asked for in vain, or the server's probes, which repeat
    /// recent packets.
    pub duplicates: u64,
    /// Datagrams that are not authentic, or replays.
    pub unauthentic: u64,
}

impl TransportTotals {
    /// What came since an earlier reading.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            sent: self.sent - earlier.sent,
            repairs_sent: self.repairs_sent - earlier.repairs_sent,
            received: self.received - earlier.received,
            received_bytes: self.received_bytes - earlier.received_bytes,
            nacks_sent: self.nacks_sent - earlier.nacks_sent,
            key_frames_asked: self.key_frames_asked - earlier.key_frames_asked,
            duplicates: self.duplicates - earlier.duplicates,
            unauthentic: self.unauthentic - earlier.unauthentic,
        }
    }
}
