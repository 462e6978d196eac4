//! Signalling: the LiveKit client protocol between a client's WebSocket and the room, the media worker and the SDP.
//!
//! A client's way in: `http` takes the request, `request` reads it, `admission` counts it, the room lets the participant
//! in, and `session` is the task that speaks for it from then on, over `link` in the frames of `wire`. What a session
//! decides is in pure parts: `publications` (which track is in which section), `subscriptions` (what is wanted, how large),
//! `outlets` (which section carries what to the client). A client that lost its WebSocket finds its session by `resume`.
//! When the seat is on another bridge (`arrival`), the WebSocket's frames are relayed (`across`). A client that a drained
//! bridge sends away goes on with its session here (`coming`).

mod across;
mod admission;
mod arrival;
mod coming;
mod denials;
mod description;
mod dynacast;
mod http;
mod link;
mod messages;
mod metrics;
mod outlets;
mod publications;
mod quality;
mod rate;
mod request;
mod resume;
mod session;
mod subscriptions;
mod transport;
mod websocket;
mod wire;

pub(crate) use dynacast::description as describe_track;
pub(crate) use wire::MAX_MESSAGE;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::peers::Peers;
use crate::room::Rooms;
use crate::token::Keys;

/// What can be set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a participant whose WebSocket is gone may take to come back before it leaves the room.
    pub resume_within: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { resume_within: Duration::from_secs(20) }
    }
}

/// The signalling endpoints of this bridge. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Signal {
    inner: Arc<Inner>,
}

/// What all sessions share.
#[derive(Debug)]
struct Inner {
    rooms: Rooms,
    peers: Peers,
    keys: Arc<Keys>,
    settings: Settings,
    /// This bridge stops: clients whose signalling it relays go on through another one.
    stopping: CancellationToken,
    metrics: metrics::Metrics,
    sessions: resume::Sessions,
    /// Whom other bridges are about to send here.
    coming: coming::Coming,
    admission: admission::Admission,
    denials: denials::Denials,
}

impl Signal {
    /// Lets clients with tokens of these keys into these rooms.
    #[must_use]
    pub fn new(rooms: Rooms, peers: Peers, keys: Arc<Keys>, settings: Settings, registry: &mut Registry) -> Self {
        let inner = Inner {
            rooms,
            peers,
            keys,
            settings,
            stopping: CancellationToken::new(),
            metrics: metrics::Metrics::register(registry),
            sessions: resume::Sessions::default(),
            coming: coming::Coming::default(),
            admission: admission::Admission::default(),
            denials: denials::Denials::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// `/rtc`, `/rtc/v1`, `/rtc/validate`, `/rtc/v1/validate`. Needs [`ratssaal_process::http::Peer`] as an extension of each
    /// request to tell networks apart; without it all clients count as one network.
    pub fn router(&self) -> Router {
        http::router(self.clone())
    }

    /// This bridge stops: clients whose session is on another bridge are told to resume through another one.
    pub(crate) fn stop(&self) {
        self.inner.stopping.cancel();
    }
}

#[cfg(test)]
mod tests;
