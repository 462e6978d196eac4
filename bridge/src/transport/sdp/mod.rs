//! SDP offer/answer (RFC 8829, 8859, 8853) in the conventions of the LiveKit protocol.
//!
//! - [`RemoteDescription::parse`] turns a client's offer or answer into a bounded, neutral form.
//! - [`Answerer`] writes our answers: v1's only PeerConnection and v0's publisher. Which section does what is decided by the
//!   caller ([`Plan`]); the result is what the media worker needs ([`Answer`]).
//! - [`SubscriberOffer`] writes and grows our offer for v0's subscriber PeerConnection and reads its answers.
//!
//! Sections keep their place for ever and inactive ones are used again; everything is bundled on one transport; we are
//! ICE-lite with host candidates; codecs and header extensions not known to `codecs` and `extensions` are left out.
//! `rtc::sdp` reads and writes the document, what it means is decided here.

mod answer;
mod codecs;
mod error;
mod extensions;
#[cfg(test)]
mod fixtures;
mod offer;
mod remote;
mod write;

pub use answer::{Answer, Answerer, OpusOptions, Plan, SendPlan};
pub use codecs::{Feedback, SectionCodec};
pub use error::SdpError;
pub use extensions::{Extension, SectionExtension};
pub use offer::{Accepted, OfferedTrack, SubscriberOffer};
pub use remote::{
    Direction, MAX_SDP, MAX_SECTIONS, RemoteDescription, RemoteSection, RemoteTransport, SectionKind, Setup,
};
pub use write::LocalTransport;
