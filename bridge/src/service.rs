//! The bridge as one service: built from its configuration and what it depends on, then run until it is told to stop.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use prometheus_client::metrics::gauge::Gauge;
use ratssaal_process::grpc::{Credentials, Listener};
use ratssaal_process::health::{Check, Health};
use ratssaal_process::metrics::Metrics;
use ratssaal_proto::bridge::v1::DrainRequest;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tracing::{info, warn};

use crate::api::assets::Assets;
use crate::api::{self, Parts};
use crate::config::{Config, DrainConfig};
use crate::drain::{Drain, Mover, Source};
use crate::load::Meter;
use crate::media::Media;
use crate::peers::server::{self, Handlers};
use crate::peers::{Peers, RelayLink};
use crate::relay::{self, RelayMetrics};
use crate::room::Rooms;
use crate::room::ids::random_base62;
use crate::room::relays::Spread;
use crate::room::report::{self, Identity};
use crate::signal::{self, Signal};
use crate::token::{KeyError, Keys};
use crate::webhooks::WebhookError;
use crate::webhooks::Webhooks;

/// How long telling everybody that this server stops may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// How often it is looked whether everybody was moved away.
const LOOK: Duration = Duration::from_millis(50);
/// While the allocator is away, how often it is looked whether this bridge still is of use to anybody.
const WHILE_AWAY: Duration = Duration::from_secs(1);
/// How long an ending process asks where its participants could go without an answer of any allocator: then the whole
/// installation ends, or is in no state in which they could join elsewhere.
const UNANSWERED: Duration = Duration::from_secs(20);
/// What those who are told to reconnect at the deadline may take for it.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long telling webhooks of that may take.
const FLUSH: Duration = Duration::from_secs(3);
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
    /// The webhooks cannot be told.
    #[error(transparent)]
    Webhooks(#[from] WebhookError),
}

/// A bridge.
#[derive(Debug)]
pub struct Service {
    rooms: Rooms,
    hooks: Option<Webhooks>,
    router: Router,
    me: Identity,
    peers: Peers,
    listener: Option<Listener>,
    handlers: Handlers,
    relays: mpsc::Receiver<RelayLink>,
    spreads: mpsc::UnboundedReceiver<Spread>,
    relay: relay::Context,
    meter: Meter,
    drain: Drain,
    mover: Mover,
    /// How a process that ends hands its participants over, if there are other bridges.
    handover: Option<DrainConfig>,
    closing: CancellationToken,
    attached: watch::Sender<bool>,
    /// The same as `attached`, once `readiness` says it.
    ready: watch::Sender<bool>,
    readiness: Check,
    attached_gauge: Gauge,
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
        let site = config.site.name;
        let site_limit = Some(config.site.relay_limit).filter(|bits| *bits > 0);
        let me = Identity { site: site.clone(), address };
        let seats = config.room.seats;
        let open_rooms = config.room.auto_create;
        let signalling = signal::Settings { resume_within: config.room.departure_timeout };
        let (drain, handover) = (Drain::default(), config.drain);
        let attached_gauge = Gauge::default();
        let (rooms, hooks, signal, relay_metrics, router, meter, mover) = deps.metrics.register(|registry| {
            let help = "Whether the allocator seats people on this bridge: 1, or 0 while it is away";
            registry.register("bridge_attached", help, attached_gauge.clone());
            let meter = Meter::new(deps.media.clone(), seats, registry);
            let hooks = Webhooks::new(&config.webhook, Arc::clone(&keys), registry)?;
            let rooms = Rooms::new(
                (config.bridge.clone(), site.clone()),
                config.room,
                deps.allocator,
                deps.media,
                hooks.clone(),
                registry,
            );
            let batch = handover.unwrap_or_default().batch;
            let mover = Mover::new(drain.clone(), rooms.clone(), peers.clone(), batch, registry);
            let parts = Parts {
                rooms: rooms.clone(),
                peers: peers.clone(),
                keys: Arc::clone(&keys),
                brand: config.brand,
                open_rooms,
                public_url: config.public_url,
                assets: deps.assets,
            };
            let signal = Signal::new(rooms.clone(), peers.clone(), keys, signalling, registry);
            let router = api::router(parts, registry).merge(signal.router());
            Ok::<_, WebhookError>((rooms, hooks, signal, RelayMetrics::register(registry), router, meter, mover))
        })?;
        let handlers = Handlers {
            me: config.bridge,
            rooms: rooms.clone(),
            peers: peers.clone(),
            signal,
            relays: taken,
            drains: watch::Sender::default(),
        };
        let relay = relay::Context {
            peers: peers.clone(),
            incarnation: random_base62(16),
            site,
            site_limit,
            metrics: relay_metrics,
        };
        let spreads = rooms.spreads();
        let readiness = deps.health.readiness("allocator");
        let attached = watch::Sender::new(false);
        let closing = CancellationToken::new();
        Ok(Self {
            rooms,
            hooks,
            router,
            me,
            peers,
            listener,
            handlers,
            relays,
            spreads,
            relay,
            meter,
            drain,
            mover,
            handover,
            closing,
            attached,
            ready: watch::Sender::new(false),
            readiness,
            attached_gauge,
        })
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
        self.ready.subscribe()
    }

    /// Is cancelled when nobody shall come in over HTTP any more: at the end, after participants were handed over.
    #[must_use]
    pub fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Runs until cancelled: reports to the allocator; at the end hands participants over to other bridges, if there are
    /// any, and tells who is left that the server stops. HTTP is served by the process until [`Service::closing`], which
    /// should cut WebSockets only some seconds after that.
    pub async fn run(self, cancelled: CancellationToken) {
        let signal = self.handlers.signal.clone();
        let Self {
            rooms,
            hooks,
            me,
            meter,
            listener,
            handlers,
            relays,
            spreads,
            relay,
            attached,
            ready,
            readiness,
            attached_gauge,
            drain,
            mover,
            handover,
            closing,
            ..
        } = self;
        let stopped = CancellationToken::new();
        let mut changes = attached.subscribe();
        let report = report::run(rooms.clone(), me, meter, drain.clone(), attached, stopped.clone());
        let operator = obey(handlers.drains.subscribe(), &drain, &stopped);
        let moving = mover.run(stopped.clone());
        let serve = async {
            match listener {
                Some(listener) => server::serve(handlers, listener, stopped.clone()).await,
                None => stopped.cancelled().await,
            }
        };
        let relay = relay::run(relay, spreads, relays, stopped.clone());
        let follow = async {
            let mut known = false;
            loop {
                let attached = *changes.borrow_and_update();
                known |= attached;
                attached_gauge.set(attached.into());
                // Whoever comes back to a meeting here, or may come in by the lease, finds this bridge only while it is ready.
                if attached || (known && (rooms.count().0 > 0 || rooms.lease().left() > 0)) {
                    readiness.ok();
                } else {
                    readiness.failing("the allocator seats nobody here: it is not there, or its store has just begun");
                }
                ready.send_replace(attached);
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = tokio::time::sleep(WHILE_AWAY), if !attached => {}
                }
            }
        };
        let goodbye = async {
            cancelled.cancelled().await;
            if let Some(handover) = handover {
                hand_over(&rooms, &drain, handover.within).await;
            }
            closing.cancel();
            info!(rooms = rooms.all().len(), "telling everybody that this server stops");
            signal.stop();
            if tokio::time::timeout(GOODBYE, rooms.shutdown()).await.is_err() {
                warn!("not everybody could be told in time that this server stops");
            }
            if let Some(hooks) = hooks {
                hooks.flush(FLUSH).await;
            }
            stopped.cancel();
        };
        tokio::join!(report, operator, moving, serve, relay, follow, goodbye);
    }
}

/// Passes an operator's orders to this bridge on.
async fn obey(mut orders: watch::Receiver<Option<DrainRequest>>, drain: &Drain, stopped: &CancellationToken) {
    while let Some(Ok(())) = stopped.run_until_cancelled(orders.changed()).await {
        match &*orders.borrow_and_update() {
            Some(order) if order.drain => {
                let within = (order.within_ms != 0).then(|| Duration::from_millis(order.within_ms));
                drain.order(Source::Operator, within);
            }
            _ => drain.take_back(Source::Operator),
        }
    }
}

/// Waits until everybody was moved away and media flows elsewhere, or the time is over and those who are left have been told
/// to reconnect, or nobody says where they could go.
async fn hand_over(rooms: &Rooms, drain: &Drain, within: Duration) {
    drain.order(Source::Process, Some(within));
    let now = tokio::time::Instant::now;
    let end = now() + within + LAST_WORDS;
    while now() < end && (rooms.count().0 > 0 || rooms.is_lingering()) {
        if drain.unanswered() >= UNANSWERED {
            warn!(seconds = UNANSWERED.as_secs(), "no allocator says where participants could go: their meetings end");
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}
