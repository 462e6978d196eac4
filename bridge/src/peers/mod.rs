//! The other bridges of the cluster: where they are, channels to them, and the server they reach this one by.
//!
//! [`Peers`] is the way to others: by name, over one channel each. [`server`] takes their calls. An address is learnt from
//! seats or asked of the allocator, and asked anew when it turns out to be wrong.

mod names;
pub mod server;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ratssaal_process::grpc::{self, Credentials, GrpcError};
use ratssaal_proto::allocator::v1::ClusterRequest;
use ratssaal_proto::allocator::v1::allocator_client::AllocatorClient;
use ratssaal_proto::bridge::v1::RelayFrame;
use ratssaal_proto::bridge::v1::bridge_client::BridgeClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

pub use names::Names;

/// The largest message between bridges, bytes: one of a client on another bridge, and what is said of it.
pub const MAX_MESSAGE: usize = crate::signal::MAX_MESSAGE + (64 << 10);
/// How long the allocator may take to tell the bridges, and a bridge to answer a call.
pub const DEADLINE: Duration = Duration::from_secs(3);
/// How soon the allocator is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// A channel that nobody asked for in this time is let go; what runs over it goes on.
const IDLE: Duration = Duration::from_secs(600);
/// Relay frames that wait for a peer.
const RELAY_QUEUE: usize = 1024;

/// A client of another bridge, which names both in each call.
pub type Peer = BridgeClient<InterceptedService<Channel, Names>>;

/// Why a bridge cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The allocator does not know it.
    #[error("no bridge named {0:?} is attached to the allocator")]
    Unknown(String),
    /// It reports no address, or none that can be used.
    #[error("bridge {bridge:?} reports an address that cannot be used ({source}): set cluster.peer_address there")]
    Address {
        /// Which.
        bridge: String,
        /// What is wrong with it.
        source: Box<GrpcError>,
    },
    /// The allocator does not tell.
    #[error("the allocator does not tell where bridges are: {0}")]
    Allocator(Box<Status>),
    /// It refuses, or did not answer.
    #[error("bridge {bridge:?} does not take the call: {status}")]
    Refused {
        /// Which.
        bridge: String,
        /// Its words.
        status: Box<Status>,
    },
}

/// A relay stream with another bridge, whoever opened it.
#[derive(Debug)]
pub struct RelayLink {
    /// The other bridge's name.
    pub peer: String,
    /// What it says.
    pub frames: Streaming<RelayFrame>,
    /// What is said to it; when it is dropped the stream ends.
    pub out: mpsc::Sender<RelayFrame>,
}

/// The other bridges. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Peers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    me: String,
    allocator: AllocatorClient<Channel>,
    credentials: Credentials,
    known: Mutex<HashMap<String, Known>>,
    /// When the allocator was last asked; held while it is.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Known {
    address: String,
    channel: Option<Channel>,
    used: Instant,
}

impl Peers {
    /// For the bridge of this name.
    #[must_use]
    pub fn new(me: String, allocator: Channel, credentials: Credentials) -> Self {
        let allocator = AllocatorClient::new(allocator);
        let (known, asked) = (Mutex::default(), tokio::sync::Mutex::default());
        Self { inner: Arc::new(Inner { me, allocator, credentials, known, asked }) }
    }

    /// This bridge's name.
    #[must_use]
    pub fn me(&self) -> &str {
        &self.inner.me
    }

    /// Remembers where a bridge is.
    pub fn learn(&self, bridge: &str, address: &str) {
        let mut known = self.known();
        if known.get(bridge).is_some_and(|known| known.address == address) {
            return;
        }
        known.retain(|_, known| known.used.elapsed() < IDLE);
        known.insert(bridge.to_owned(), Known { address: address.to_owned(), channel: None, used: Instant::now() });
    }

    /// Where a bridge is, if that is known.
    #[must_use]
    pub fn address_of(&self, bridge: &str) -> Option<String> {
        self.known().get(bridge).map(|known| known.address.clone())
    }

    /// Forgets where a bridge is: it was not there.
    pub fn doubt(&self, bridge: &str) {
        self.known().remove(bridge);
    }

    /// The names of the bridges whose address is known, at most `limit`.
    #[must_use]
    pub fn known_names(&self, limit: usize) -> Vec<String> {
        self.known().keys().filter(|name| **name != self.inner.me).take(limit).cloned().collect()
    }

    /// The client of a bridge. It connects with its first call.
    ///
    /// # Errors
    /// It is unknown, or its address cannot be used.
    pub async fn to(&self, bridge: &str) -> Result<Peer, PeerError> {
        let channel = match self.channel(bridge)? {
            Some(channel) => channel,
            None => {
                self.ask(bridge).await?;
                self.channel(bridge)?.ok_or_else(|| PeerError::Unknown(bridge.to_owned()))?
            }
        };
        let client = BridgeClient::with_interceptor(channel, Names::new(&self.inner.me, bridge));
        Ok(client.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
    }

    /// Opens a relay stream to a bridge.
    ///
    /// # Errors
    /// It cannot be reached or refuses.
    pub async fn relay(&self, bridge: &str) -> Result<RelayLink, PeerError> {
        let (out, queue) = mpsc::channel(RELAY_QUEUE);
        let frames =
            self.call(bridge, DEADLINE, |mut peer| async move { peer.relay(ReceiverStream::new(queue)).await });
        Ok(RelayLink { peer: bridge.to_owned(), frames: frames.await?, out })
    }

    /// One call of a bridge, which is to answer (of streams: to begin) within this time.
    ///
    /// # Errors
    /// It cannot be reached, refuses, or does not answer in time. Where it is is then asked anew next time.
    pub async fn call<T, F>(&self, bridge: &str, within: Duration, call: impl FnOnce(Peer) -> F) -> Result<T, PeerError>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let peer = self.to(bridge).await?;
        let late = || Status::deadline_exceeded("it did not answer in time");
        let answer = tokio::time::timeout(within, call(peer)).await.unwrap_or_else(|_| Err(late()));
        answer.map(tonic::Response::into_inner).map_err(|status| {
            if matches!(status.code(), Code::Unavailable | Code::FailedPrecondition) {
                self.doubt(bridge);
            }
            PeerError::Refused { bridge: bridge.to_owned(), status: Box::new(status) }
        })
    }

    fn channel(&self, bridge: &str) -> Result<Option<Channel>, PeerError> {
        let mut all = self.known();
        let Some(known) = all.get_mut(bridge) else { return Ok(None) };
        known.used = Instant::now();
        if known.channel.is_none() {
            let made = grpc::peer(&known.address, &self.inner.credentials);
            let unusable = |source| PeerError::Address { bridge: bridge.to_owned(), source: Box::new(source) };
            match made.map_err(unusable) {
                Ok(channel) => known.channel = Some(channel),
                Err(error) => {
                    all.remove(bridge);
                    return Err(error);
                }
            }
        }
        Ok(known.channel.clone())
    }

    /// Asks the allocator where all bridges are, once for all who want to know.
    async fn ask(&self, bridge: &str) -> Result<(), PeerError> {
        let mut asked = self.inner.asked.lock().await;
        if self.known().contains_key(bridge) {
            return Ok(()); // somebody else asked meanwhile
        }
        if let Some(next) = asked.map(|at| at + ASK_AGAIN) {
            tokio::time::sleep_until(next.into()).await;
        }
        *asked = Some(Instant::now());
        let views = async {
            let mut views = self.inner.allocator.clone().cluster(ClusterRequest { watch: false }).await?.into_inner();
            views.message().await
        };
        let late = |_| Status::deadline_exceeded("it did not answer in time");
        let view = tokio::time::timeout(DEADLINE, views)
            .await
            .map_err(late)
            .flatten()
            .map_err(|status| PeerError::Allocator(Box::new(status)))?;
        for report in view.unwrap_or_default().bridges.into_iter().filter_map(|bridge| bridge.report) {
            self.learn(&report.bridge, &report.address);
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
