//! The bridge as one service: built from its configuration and what it depends on, then run until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use ratssaal_process::grpc::{Credentials, Listener};
use ratssaal_process::health::{Check, Health};
use ratssaal_process::metrics::Metrics;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{info, warn};

use crate::api::assets::Assets;
use crate::api::{self, Parts};
use crate::config::Config;
use crate::media::Media;
use crate::peers::server::{self, Handlers};
use crate::peers::{Peers, RelayLink};
use crate::room::Rooms;
use crate::room::report::{self, Identity};
use crate::signal::{self, Signal};
use crate::token::{KeyError, Keys};

/// How long telling everybody that this server stops may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// Relay streams of other bridges that wait to be taken.
const RELAYS: usize = 64;

/// How a bridge and the others of its cluster reach each other.
#[derive(Debug)]
pub struct Neighbourhood {
    /// Where the others connect to.
    pub listener: Listener,
    /// What they are told of that: `https://host:port`.
    pub address: String,
    /// How this bridge connects to them.
    pub credentials: Credentials,
}

/// What a bridge needs of its process.
pub struct Deps {
    /// To the allocator, over the network or embedded.
    pub allocator: Channel,
    /// The other bridges; `None` for one on its own.
    pub neighbourhood: Option<Neighbourhood>,
    /// The media workers.
    pub media: Media,
    /// The web client's files.
    pub assets: Arc<dyn Assets>,
    /// Where its metrics go.
    pub metrics: Metrics,
    /// Where it says whether it may get traffic.
    pub health: Health,
}

/// Why a bridge cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The API keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
}

/// A bridge.
#[derive(Debug)]
pub struct Service {
    rooms: Rooms,
    router: Router,
    me: Identity,
    peers: Peers,
    listener: Option<Listener>,
    handlers: Handlers,
    relays: mpsc::Receiver<RelayLink>,
    attached: watch::Sender<bool>,
    readiness: Check,
}

impl Service {
    /// Puts a bridge together. Nothing runs before [`Service::run`].
    ///
    /// # Errors
    /// A setting that cannot work.
    pub fn build(config: Config, deps: Deps) -> Result<Self, BuildError> {
        let keys = Arc::new(Keys::new(config.keys.iter().map(|(name, secret)| (name.as_str(), secret)))?);
        let (listener, address, credentials) = match deps.neighbourhood {
            Some(Neighbourhood { listener, address, credentials }) => (Some(listener), address, credentials),
            None => (None, String::new(), Credentials::default()),
        };
        let peers = Peers::new(config.bridge.clone(), deps.allocator.clone(), credentials);
        let (taken, relays) = mpsc::channel(RELAYS);
        let handlers = Handlers { me: config.bridge.clone(), relays: taken, drains: watch::Sender::default() };
        let me = Identity { site: config.site.name, address, seats: config.room.seats.max(1) };
        let open_rooms = config.room.auto_create;
        let signalling = signal::Settings { resume_within: config.room.departure_timeout };
        let (rooms, router) = deps.metrics.register(|registry| {
            let rooms = Rooms::new(config.bridge, config.room, deps.allocator, deps.media, registry);
            let parts = Parts {
                rooms: rooms.clone(),
                keys: Arc::clone(&keys),
                brand: config.brand,
                open_rooms,
                public_url: config.public_url,
                assets: deps.assets,
            };
            let signal = Signal::new(rooms.clone(), keys, signalling, registry);
            (rooms, api::router(parts, registry).merge(signal.router()))
        });
        let readiness = deps.health.readiness("allocator");
        let attached = watch::Sender::new(false);
        Ok(Self { rooms, router, me, peers, listener, handlers, relays, attached, readiness })
    }

    /// Everything this bridge answers over HTTP.
    pub fn router(&self) -> Router {
        self.router.clone()
    }

    /// The rooms of this bridge.
    #[must_use]
    pub fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// The other bridges.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Turns true when the allocator seats participants here.
    #[must_use]
    pub fn attached(&self) -> watch::Receiver<bool> {
        self.attached.subscribe()
    }

    /// Runs until cancelled: reports to the allocator, and at the end tells everybody here that the server stops. HTTP is
    /// served by the process, which should cut WebSockets only some seconds after that.
    pub async fn run(self, cancelled: CancellationToken) {
        let Self { rooms, me, listener, handlers, relays, attached, readiness, .. } = self;
        let stopped = CancellationToken::new();
        let mut changes = attached.subscribe();
        let report = report::run(rooms.clone(), me, handlers.drains.subscribe(), attached, stopped.clone());
        let serve = async {
            match listener {
                Some(listener) => server::serve(handlers, listener, stopped.clone()).await,
                None => stopped.cancelled().await,
            }
            drop(relays);
        };
        let follow = async {
            loop {
                if *changes.borrow_and_update() {
                    readiness.ok();
                } else {
                    readiness.failing("not attached to the allocator");
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let goodbye = async {
            cancelled.cancelled().await;
            info!(rooms = rooms.all().len(), "telling everybody that this server stops");
            if tokio::time::timeout(GOODBYE, rooms.shutdown()).await.is_err() {
                warn!("not everybody could be told in time that this server stops");
            }
            stopped.cancel();
        };
        tokio::join!(report, serve, follow, goodbye);
    }
}
