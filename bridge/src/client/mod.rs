//! The client's end of a media transport, made of the same parts as the server's: what a load test needs to be many
//! participants at little cost.
//!
//! [`Transport`] is sans-IO: datagrams and the time go in; datagrams come out into [`Outgoing`], everything else as
//! [`Event`]s. [`Port`] is its socket (batched, GSO and GRO). [`sdp`] writes the offers and reads the answers of exactly
//! what it does: Opus, VP8 in simulcast layers with RTX, transport-wide feedback, no data channels.
//!
//! It connects as the controlling ICE agent with host candidates of the server, over UDP only.

mod ice;
mod port;
pub mod sdp;
mod source;
mod stream;
mod stun;
mod transport;
#[cfg(test)]
mod transport_tests;
mod types;

pub use port::{Incoming, Outgoing, Port};
pub use source::{Source, SourceId};
pub use stream::Packet;
pub use transport::Transport;
pub use types::{Ended, Event, Local, TransportTotals};
