//! What the allocators say of an installation's bridges, and the orders to drain.
//!
//! One task per installation follows `allocator.v1` `Cluster`; the controller reads its last word. The operator shows a
//! certificate with the role `operator` that it makes itself of the installation's authority, in memory only.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use ratssaal_proto::allocator::v1::allocator_client::AllocatorClient;
use ratssaal_proto::allocator::v1::{BridgeInfo, BridgeState, ClusterRequest, ClusterView, DrainRequest};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use tracing::{debug, info};

use crate::pki::{self, Pair, PkiError, Subject};
use crate::plan::{Attachment, Health, Millis, Seats};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(2);
/// How often the connection is asked whether it lives, and how long it may take to answer.
const PULSE: Duration = Duration::from_secs(2);
/// How long a call may take.
const CALL: Duration = Duration::from_secs(5);
/// Between two attempts.
const RETRY: Duration = Duration::from_secs(1);
/// How long the last word counts when no allocator answers.
const FRESH: Duration = Duration::from_secs(10);

/// Why an allocator cannot be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// The authority is unusable.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Certificate or key do not work with TLS.
    #[error("the operator's own certificate cannot be used: {0}")]
    Tls(String),
    /// An allocator does not answer or refuses.
    #[error("the allocators of {0} do not answer: {1}")]
    Call(String, #[source] Box<tonic::Status>),
}

/// Who asks which installation's allocators, and how.
#[derive(Clone)]
pub(crate) struct Way {
    /// The installation's authority, with which the operator makes its own certificate.
    pub(crate) authority: Pair,
    /// The certificates that it trusts, as PEM: two while another authority takes its place.
    pub(crate) trusted: String,
    /// Its name, as in the authority.
    pub(crate) name: String,
    /// The host that the allocators' certificate names.
    pub(crate) host: String,
    /// Where they are reached: `host:port`.
    pub(crate) address: String,
}

/// The allocators' last word on all bridges of an installation.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    bridges: BTreeMap<String, BridgeInfo>,
    /// Bridges asked for that are not there, and since when.
    absent: Arc<Mutex<HashMap<String, Millis>>>,
}

impl View {
    /// What is said of a bridge.
    pub(crate) fn attachment(&self, name: &str, now: Millis) -> Attachment {
        let known = self.bridges.get(name).and_then(|info| Some((info, info.report.as_ref()?)));
        let Some((info, report)) = known.filter(|(_, report)| report.state() != BridgeState::Gone) else {
            let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
            return Attachment::Absent(*absent.entry(name.to_owned()).or_insert(now));
        };
        let health = match report.state() {
            BridgeState::Draining => Health::Draining,
            BridgeState::Drained => Health::Drained,
            BridgeState::Ready | BridgeState::Unspecified | BridgeState::Gone => Health::Ready,
        };
        let limit = report.load.as_ref().map_or(0, |load| load.seat_limit);
        Attachment::Present { health, seats: Seats { taken: info.seats, limit }, expired: info.expired }
    }

    /// The allocators' own words on a bridge.
    pub(crate) fn info(&self, name: &str) -> Option<&BridgeInfo> {
        self.bridges.get(name)
    }

    /// Forgets since when bridges are missing that nobody asks for any more.
    pub(crate) fn keep(&self, names: &HashSet<&str>) {
        self.absent.lock().unwrap_or_else(PoisonError::into_inner).retain(|name, _| names.contains(name.as_str()));
    }

    fn apply(&mut self, message: ClusterView) {
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if message.complete {
            // Before this nothing was known, so nobody was missing either.
            absent.clear();
            self.bridges.clear();
        }
        for name in message.gone {
            self.bridges.remove(&name);
        }
        for info in message.bridges {
            if let Some(name) = info.report.as_ref().map(|report| report.bridge.clone()) {
                absent.remove(&name);
                self.bridges.insert(name, info);
            }
        }
    }

    /// What makes a difference for the plan and the status.
    fn essence(&self) -> Vec<(&str, i32, u32, u32, bool)> {
        let all = self.bridges.iter().map(|(name, info)| {
            let report = info.report.as_ref();
            let load = report.and_then(|report| report.load.as_ref());
            let (state, limit) = (report.map_or(0, |report| report.state), load.map_or(0, |load| load.seat_limit));
            (name.as_str(), state, info.seats, limit, info.expired)
        });
        all.collect()
    }
}

/// Follows one installation's allocators.
pub(crate) struct Follower {
    state: Arc<Mutex<State>>,
    client: AllocatorClient<Channel>,
    task: AbortHandle,
    way: String,
    name: String,
}

#[derive(Default)]
struct State {
    view: Option<View>,
    /// When the last word came.
    heard: Option<Instant>,
    following: bool,
}

impl Follower {
    /// Begins; `changed` is told whenever something has changed that matters.
    ///
    /// # Errors
    /// When the authority is unusable.
    pub(crate) fn start(way: &Way, changed: mpsc::Sender<()>) -> Result<Self, ClusterError> {
        let client = AllocatorClient::new(channel(way)?);
        let state = Arc::new(Mutex::new(State::default()));
        let task = tokio::spawn(follow(client.clone(), Arc::clone(&state), changed, way.name.clone())).abort_handle();
        Ok(Self { state, client, task, way: fingerprint(way), name: way.name.clone() })
    }

    /// Whether it still goes the right way: the authority may have been made anew.
    pub(crate) fn fits(&self, way: &Way) -> bool {
        self.way == fingerprint(way)
    }

    /// The last word, if it is fresh.
    pub(crate) fn view(&self) -> Option<View> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = state.following || state.heard.is_some_and(|heard| heard.elapsed() < FRESH);
        state.view.clone().filter(|_| fresh)
    }

    /// For orders to its bridges.
    pub(crate) fn orders(&self) -> Orders {
        Orders { client: self.client.clone(), name: self.name.clone() }
    }
}

/// Orders to an installation's bridges.
pub(crate) struct Orders {
    client: AllocatorClient<Channel>,
    name: String,
}

impl Orders {
    /// Orders a bridge to move its people within this time, or (`None`) to take people again.
    ///
    /// # Errors
    /// When no allocator takes the order.
    pub(crate) async fn drain(&mut self, bridge: &str, within: Option<Millis>) -> Result<(), ClusterError> {
        let (drain, within_ms) = (within.is_some(), within.unwrap_or(0));
        let call = self.client.drain(DrainRequest { bridge: bridge.to_owned(), drain, within_ms });
        let answer = timeout(CALL, call).await.unwrap_or_else(|_| Err(tonic::Status::deadline_exceeded("no answer")));
        answer.map(|_| ()).map_err(|status| ClusterError::Call(self.name.clone(), Box::new(status)))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn fingerprint(way: &Way) -> String {
    crate::hash::short(&format!("{}{}{}", way.trusted, way.host, way.address))
}

async fn follow(
    mut client: AllocatorClient<Channel>,
    state: Arc<Mutex<State>>,
    changed: mpsc::Sender<()>,
    name: String,
) {
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        match timeout(CALL, client.cluster(ClusterRequest { watch: true })).await {
            Ok(Ok(answer)) => {
                let mut stream = answer.into_inner();
                while let Ok(Some(message)) = stream.message().await {
                    let different = {
                        let mut state = lock();
                        let mut view = state.view.clone().unwrap_or_default();
                        view.apply(message);
                        let different =
                            state.view.as_ref().is_none_or(|old| old.essence() != view.essence()) || !state.following;
                        (state.view, state.heard, state.following) = (Some(view), Some(Instant::now()), true);
                        different
                    };
                    // A full queue means that somebody looks soon anyway.
                    if different && changed.try_send(()).is_err() && changed.is_closed() {
                        return;
                    }
                }
                let mut state = lock();
                (state.following, state.heard) = (false, Some(Instant::now()));
                info!(installation = name, "the allocators do not answer any more");
            }
            Ok(Err(status)) => debug!(installation = name, %status, "the allocators do not answer"),
            Err(_) => debug!(installation = name, "the allocators do not answer in time"),
        }
        sleep(RETRY).await;
    }
}

/// A channel that shows the operator's certificate and trusts the installation's authority only.
fn channel(way: &Way) -> Result<Channel, ClusterError> {
    let tls = |error: &dyn std::fmt::Display| ClusterError::Tls(error.to_string());
    let subject = Subject { role: "operator", hosts: vec!["operator".into()] };
    let own = pki::issue(&way.authority, &way.name, &subject, time::OffsetDateTime::now_utc())?;
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(way.trusted.as_bytes()) {
        roots.add(root.map_err(|error| tls(&error))?).map_err(|error| tls(&error))?;
    }
    let certificate = CertificateDer::from_pem_slice(own.certificate.as_bytes()).map_err(|error| tls(&error))?;
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).map_err(|error| tls(&error))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| tls(&error))?;
    let mut config = builder
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate], key)
        .map_err(|error| tls(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let host = ServerName::try_from(way.host.clone()).map_err(|error| tls(&error))?;
    let address = way.address.clone();
    let endpoint = Endpoint::from_static("http://allocator.cluster")
        .http2_keep_alive_interval(PULSE)
        .keep_alive_timeout(PULSE)
        .keep_alive_while_idle(true);
    Ok(endpoint.connect_with_connector_lazy(service_fn(move |_: http::Uri| {
        let (connector, host, address) = (connector.clone(), host.clone(), address.clone());
        async move {
            let dial = async {
                let stream = TcpStream::connect(&address).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(connector.connect(host, stream).await?))
            };
            timeout(CONNECT, dial).await.unwrap_or_else(|late| Err(late.into()))
        }
    })))
}

#[cfg(test)]
mod tests {
    use ratssaal_proto::allocator::v1::{BridgeReport, Load};

    use super::*;

    fn info(name: &str, state: BridgeState, seats: u32) -> BridgeInfo {
        let load = Some(Load { seat_limit: 100, ..Load::default() });
        let report = BridgeReport { bridge: name.into(), state: state.into(), load, ..BridgeReport::default() };
        BridgeInfo { report: Some(report), seats, ..BridgeInfo::default() }
    }

    fn told(complete: bool, bridges: Vec<BridgeInfo>, gone: &[&str]) -> ClusterView {
        ClusterView { complete, bridges, gone: gone.iter().map(|name| (*name).to_owned()).collect() }
    }

    #[test]
    fn a_bridge_is_absent_since_it_was_first_missed_in_this_stream() {
        let mut view = View::default();
        view.apply(told(true, vec![info("a", BridgeState::Ready, 3)], &[]));
        let seats = Seats { taken: 3, limit: 100 };
        assert_eq!(view.attachment("a", 1), Attachment::Present { health: Health::Ready, seats, expired: false });
        assert_eq!(view.attachment("b", 1), Attachment::Absent(1));
        assert_eq!(view.attachment("b", 5), Attachment::Absent(1));
        // It came and went between two looks.
        view.apply(told(false, vec![info("b", BridgeState::Drained, 0)], &["a"]));
        view.apply(told(false, vec![], &["b"]));
        assert_eq!(view.attachment("b", 9), Attachment::Absent(9));
        assert_eq!(view.attachment("a", 9), Attachment::Absent(9));
        // The allocators were away: what was missing then may have come and not be back yet.
        view.apply(told(true, vec![], &[]));
        assert_eq!(view.attachment("b", 40_000), Attachment::Absent(40_000));
        view.apply(told(false, vec![info("b", BridgeState::Gone, 0)], &[]));
        assert_eq!(view.attachment("b", 41_000), Attachment::Absent(41_000));
        view.keep(&HashSet::from(["b"]));
        assert_eq!(view.absent.lock().unwrap().len(), 1);
    }
}
