//! What tests of this crate stand on: a bridge on the real embedded allocator, served over real HTTP.

#[path = "../../allocator/src/redis_server.rs"]
#[expect(dead_code, reason = "made for the allocator's tests; a part is used here")]
pub(crate) mod redis_server;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use ratssaal_allocator::store::{RedisSettings, RedisStore, Store};
use ratssaal_process::grpc::{Credentials, Listener};
use ratssaal_process::health::Health;
use ratssaal_process::http::{self, HttpConfig};
use ratssaal_process::metrics::Metrics;
use ratssaal_proto::allocator::v1::DrainRequest;
use ratssaal_proto::allocator::v1::allocator_client::AllocatorClient;
use secrecy::SecretString;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint, Server};
use tower::service_fn;

use crate::media::{Media, MediaConfig};
use crate::peers::Peers;
use crate::room::Rooms;
use crate::token::{Claims, Keys, VideoGrants};
use crate::{Asset, Assets, Config, Deps, Neighbourhood, Service};

/// The key pair of every test bridge.
pub(crate) const KEY: &str = "testkey";
pub(crate) const SECRET: &str = "a secret of at least thirty-two bytes";
/// Longer than anything in a test takes unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something that must come.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it did not happen in time")
}

/// A web client of three files.
struct TestAssets;

impl Assets for TestAssets {
    fn get(&self, path: &str) -> Option<Asset> {
        let (bytes, mime) = match path {
            "index.html" => ("<!doctype html><title>Ratssaal</title>", "text/html"),
            "assets/main-0123.js" => ("export {}", "text/javascript"),
            "assets/main-0123.js.gz" => ("pretend this is gzip", "application/gzip"),
            _ => return None,
        };
        Some(Asset { bytes: bytes.into(), mime: mime.into(), etag: format!("\"{path}\"") })
    }
}

/// Connections to an allocator in this process, all of which can be cut at once.
#[derive(Clone, Default)]
pub(crate) struct Line {
    cut: Arc<Mutex<CancellationToken>>,
}

impl Line {
    /// Breaks what is open and lets nothing new through.
    pub(crate) fn cut(&self) {
        self.cut.lock().unwrap().cancel();
    }

    /// Lets connections through again.
    pub(crate) fn mend(&self) {
        *self.cut.lock().unwrap() = CancellationToken::new();
    }

    fn to<S: Store>(&self, allocator: &ratssaal_allocator::Service<S>) -> Channel {
        let (callers, incoming) = mpsc::channel::<DuplexStream>(4);
        let incoming = ReceiverStream::new(incoming).map(Ok::<_, io::Error>);
        tokio::spawn(Server::builder().add_service(allocator.grpc()).serve_with_incoming(incoming));
        let line = self.clone();
        let connector = service_fn(move |_| {
            let (callers, cut) = (callers.clone(), line.cut.lock().unwrap().clone());
            async move {
                if cut.is_cancelled() {
                    return Err(io::Error::from(io::ErrorKind::ConnectionRefused));
                }
                let (near, mut here) = tokio::io::duplex(64 * 1024);
                let (mut there, far) = tokio::io::duplex(64 * 1024);
                callers.send(far).await.map_err(io::Error::other)?;
                tokio::spawn(async move {
                    cut.run_until_cancelled(tokio::io::copy_bidirectional(&mut here, &mut there)).await;
                });
                Ok(TokioIo::new(near))
            }
        });
        Endpoint::from_static("http://allocator.line").connect_with_connector_lazy(connector)
    }
}

/// A bridge that runs until it is dropped.
pub(crate) struct TestBridge {
    pub(crate) address: SocketAddr,
    pub(crate) rooms: Rooms,
    pub(crate) keys: Keys,
    pub(crate) metrics: Metrics,
    pub(crate) health: Health,
    /// Ends it as SIGTERM does.
    pub(crate) stop: CancellationToken,
    pub(crate) service: JoinHandle<()>,
    pub(crate) peers: Peers,
    _all: DropGuard,
}

/// Starts a bridge with these settings (its keys are [`KEY`] and [`SECRET`]) and waits until the allocator seats here.
pub(crate) async fn bridge(config: Config) -> TestBridge {
    let metrics = Metrics::new();
    let ports = "20000-29999".parse().unwrap(); // the first that is free
    let settings = MediaConfig { ports, workers: 1, bind: [127, 0, 0, 1].into(), ..MediaConfig::default() };
    let media = metrics.register(|registry| Media::start(&settings, registry).unwrap());
    bridge_on(media, metrics, config).await
}

/// The same on these media workers.
pub(crate) async fn bridge_on(media: Media, metrics: Metrics, config: Config) -> TestBridge {
    let allocator = in_memory(&metrics);
    start(media, metrics, config, allocator, ratssaal_allocator::embedded).await
}

/// The same with an allocator on this Redis, which opens rooms at once where it knows none: those that it has lost have to be
/// told to it by then.
pub(crate) async fn bridge_on_redis(url: String) -> TestBridge {
    settling(url, Config::default(), Duration::ZERO).await
}

/// The same with these settings, one of several: lost rooms can have come back before new ones are opened.
pub(crate) async fn bridge_of(url: String, bridge: Config) -> TestBridge {
    settling(url, bridge, Duration::from_millis(500)).await
}

async fn settling(url: String, bridge: Config, settle: Duration) -> TestBridge {
    let (media, _) = Media::watched();
    let metrics = Metrics::new();
    let config = ratssaal_allocator::Config { settle, ..settings() };
    let store = RedisStore::connect(RedisSettings::new(url.into()), &config).unwrap();
    let allocator = metrics.register(|registry| ratssaal_allocator::Service::build(config, store, registry).unwrap());
    start(media, metrics, bridge, allocator, ratssaal_allocator::embedded).await
}

fn settings() -> ratssaal_allocator::Config {
    ratssaal_allocator::Config { sweep_interval: Duration::from_millis(20), ..Default::default() }
}

fn in_memory(metrics: &Metrics) -> ratssaal_allocator::Service {
    metrics.register(|registry| ratssaal_allocator::Service::in_memory(settings(), registry).unwrap())
}

/// The same with a line to the allocator that can be cut.
pub(crate) async fn bridge_on_a_line(config: Config) -> (TestBridge, Line) {
    let (media, _) = Media::watched();
    let line = Line::default();
    let metrics = Metrics::new();
    let allocator = in_memory(&metrics);
    let bridge = start(media, metrics, config, allocator, |allocator| line.to(allocator)).await;
    (bridge, line)
}

async fn start<S: Store>(
    media: Media,
    metrics: Metrics,
    config: Config,
    allocator: ratssaal_allocator::Service<S>,
    connect: impl FnOnce(&ratssaal_allocator::Service<S>) -> Channel,
) -> TestBridge {
    let all = CancellationToken::new();
    let channel = connect(&allocator);
    tokio::spawn(allocator.run(all.clone()));
    start_on(media, metrics, config, channel, None, all).await
}

/// Several bridges on one allocator in memory.
pub(crate) struct Town {
    allocator: Channel,
    _all: DropGuard,
}

impl Town {
    pub(crate) fn new() -> Self {
        let (allocator, all) = (in_memory(&Metrics::new()), CancellationToken::new());
        let channel = ratssaal_allocator::embedded(&allocator);
        tokio::spawn(allocator.run(all.clone()));
        Self { allocator: channel, _all: all.drop_guard() }
    }

    /// Starts a bridge of this name that the others reach.
    pub(crate) async fn bridge(&self, name: &str, media: Media, config: Config) -> TestBridge {
        let credentials = Credentials::default();
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), &credentials).await.unwrap();
        let address = format!("http://{}", listener.address());
        let neighbourhood = Some(Neighbourhood { listener, address, credentials });
        let config = Config { bridge: name.to_owned(), ..config };
        let all = CancellationToken::new();
        start_on(media, Metrics::new(), config, self.allocator.clone(), neighbourhood, all).await
    }

    /// Orders a bridge to be drained, so that nobody new sits there, or takes that back.
    pub(crate) async fn order(&self, name: &str, drain: bool) {
        let order = DrainRequest { bridge: name.to_owned(), drain, within_ms: 0 };
        AllocatorClient::new(self.allocator.clone()).drain(order).await.unwrap();
    }
}

async fn start_on(
    media: Media,
    metrics: Metrics,
    config: Config,
    allocator: Channel,
    neighbourhood: Option<Neighbourhood>,
    all: CancellationToken,
) -> TestBridge {
    let health = Health::new();
    let keys = [(KEY.to_owned(), SecretString::from(SECRET))];
    let config = Config { keys: keys.clone().into(), ..config };
    let deps = Deps {
        allocator,
        neighbourhood,
        media,
        assets: Arc::new(TestAssets),
        metrics: metrics.clone(),
        health: health.clone(),
    };
    let service = Service::build(config, deps).unwrap();
    let settings = HttpConfig { bind: "127.0.0.1:0".parse().unwrap(), ..HttpConfig::default() };
    let server = http::Server::bind(&settings, &metrics).await.unwrap();
    let address = server.address();
    tokio::spawn(server.serve(service.router(), all.clone()));
    let (rooms, peers, mut attached) = (service.rooms().clone(), service.peers().clone(), service.attached());
    let stop = all.child_token();
    let service = tokio::spawn(service.run(stop.clone()));
    soon(attached.wait_for(|attached| *attached)).await.unwrap();
    TestBridge {
        address,
        rooms,
        keys: Keys::new(keys.iter().map(|(name, secret)| (name.as_str(), secret))).unwrap(),
        metrics,
        health,
        stop,
        service,
        peers,
        _all: all.drop_guard(),
    }
}

/// Claims that let somebody into a room with everything allowed.
pub(crate) fn guest(room: &str, identity: &str) -> Claims {
    Claims {
        identity: identity.to_owned(),
        name: identity.to_uppercase(),
        grants: VideoGrants { room_join: true, room: room.to_owned(), ..VideoGrants::default() },
        ..Claims::default()
    }
}
