//! The parts of one PeerConnection below the media: ICE-lite, DTLS, SCTP data channels, and the SDP that negotiates them.
//!
//! Everything is sans-IO: datagrams and the time are passed in, datagrams, events and deadlines come out. No part opens a
//! socket, reads a clock or knows another part; the media engine connects them, signalling uses [`sdp`].

mod backlog;
pub mod data;
mod dcep;
pub mod dtls;
mod dtls_crypto;
pub mod five_tuple;
pub mod ice;
#[cfg(test)]
mod peer_tests;
mod sctp_guard;
pub mod sdp;
#[cfg(test)]
mod simnet;
pub(crate) mod stun;
