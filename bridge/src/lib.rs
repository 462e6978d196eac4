//! The SFU: LiveKit-protocol signalling, WebRTC media forwarding, server API and the web client.
//!
//! | module | owns |
//! |---|---|
//! | [`media`] | a packet's way: sockets, SRTP, forwarding, congestion feedback; one thread per worker |
//! | [`transport`] | ICE, DTLS, SCTP and SDP: what a PeerConnection is made of |
//! | [`room`] | who is in a room and what each is told: a pure state machine over the room's log |
//! | [`signal`] | a client's WebSocket, its session, and what is negotiated with it |
//! | [`token`] | access tokens |
//! | [`client`] | the other end of a media transport, for load tests |
//! | [`peers`] | the cluster's other bridges: channels to them, the server they call |
//! | [`api`] | the server API, our own API, the web client's files |
//! | `forward` | participants who are shown in another room, too |
//! | `webhooks` | tells other servers what happens in rooms |
//! | [`Service`] | all of it put together |

pub mod api;
pub mod client;
pub mod config;
mod drain;
mod forward;
mod load;
pub mod media;
pub mod peers;
mod relay;
pub mod room;
mod service;
pub mod signal;
#[cfg(test)]
mod testing;
pub mod token;
pub mod transport;
mod webhooks;

pub use api::assets::{Asset, Assets};
pub use config::Config;
pub use service::{BuildError, Deps, Neighbourhood, Service};
pub use webhooks::WebhookError;
