//! What the bridge answers over HTTP besides signalling: the server API, our own API for the web client, its files.

pub mod assets;
mod auth;
mod error;
mod join;
mod metrics;
mod names;
mod rate;
mod room_service;
mod rooms;
pub(crate) mod seated;
mod site;
mod twirp;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use prometheus_client::registry::Registry;

use self::assets::Assets;
use self::metrics::ApiMetrics;
use self::rate::Limits;
use crate::config::BrandConfig;
use crate::peers::Peers;
use crate::room::Rooms;
use crate::token::Keys;

/// The largest body of a server-API call, bytes.
const MAX_SERVER_BODY: usize = 1024 * 1024;
/// The largest body of a call of our own API, bytes.
const MAX_OWN_BODY: usize = 16 * 1024;

/// What the handlers share.
#[derive(Clone)]
pub(crate) struct Api {
    rooms: Rooms,
    peers: Peers,
    keys: Arc<Keys>,
    brand: Arc<BrandConfig>,
    /// Whether anybody may open a room.
    open_rooms: bool,
    limits: Arc<Limits>,
    metrics: ApiMetrics,
}

/// What [`router`] is made from.
pub(crate) struct Parts {
    pub(crate) rooms: Rooms,
    pub(crate) peers: Peers,
    pub(crate) keys: Arc<Keys>,
    pub(crate) brand: BrandConfig,
    pub(crate) open_rooms: bool,
    pub(crate) public_url: Option<String>,
    pub(crate) assets: Arc<dyn Assets>,
}

/// The routes of this module. Everything that is not named is a page or a file of the web client.
pub(crate) fn router(parts: Parts, registry: &mut Registry) -> Router {
    let api = Api {
        rooms: parts.rooms,
        peers: parts.peers,
        keys: parts.keys,
        brand: Arc::new(parts.brand),
        open_rooms: parts.open_rooms,
        limits: Arc::default(),
        metrics: ApiMetrics::register(registry),
    };
    let server = Router::new()
        .route("/twirp/livekit.RoomService/{method}", post(room_service::call).fallback(twirp::bad_route))
        .route("/twirp/{*path}", axum::routing::any(twirp::bad_route))
        .layer(DefaultBodyLimit::max(MAX_SERVER_BODY));
    let own = Router::new()
        .route("/api/v1/config", get(site::config))
        .route("/api/v1/rooms", post(rooms::open))
        .route("/api/v1/join", post(join::join))
        .route("/api/{*path}", axum::routing::any(error::no_such_endpoint))
        .layer(DefaultBodyLimit::max(MAX_OWN_BODY));
    server.merge(own).with_state(api).merge(assets::router(parts.assets, parts.public_url.as_deref()))
}
