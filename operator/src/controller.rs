//! The loop: whatever changes about an installation leads to one look at it, at most a few at the same time, with a growing
//! pause after failures.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use kube::runtime::controller::{Action, Controller, Error};
use kube::runtime::events::{Recorder, Reporter};
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::utils::Backoff;
use kube::runtime::{WatchStreamExt as _, reflector, watcher};
use kube::{Client, ResourceExt as _};
use tokio::sync::{OnceCell, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info_span, warn};

use crate::apply::Applier;
use crate::bridges::Ahead;
use crate::build::Features;
use crate::cluster::Follower;
use crate::config::OperatorConfig;
use crate::kind::Kind;
use crate::metrics::Metrics;
use crate::names::{MANAGER, Names};
use crate::plan::Millis;
use crate::reconcile::{ReconcileError, reconcile, resolve};
use crate::stores::{Guarded, Stores, api};

/// The pause after the first failure, and the longest one.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));
/// Changes that come together are looked at together: a look begins so long after the first of them. (The controller's own
/// debouncing is put off by each further change.)
const GATHER: Duration = Duration::from_millis(100);
/// How long one look may take.
const LOOK: Duration = Duration::from_secs(60);
/// How many installations may wait to be looked at because of their allocators.
const QUEUE: usize = 1024;

/// The pause of all watches after one has failed; each waits longer by itself.
struct Brief;

impl Iterator for Brief {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(GATHER)
    }
}

impl Backoff for Brief {
    fn reset(&mut self) {}
}

/// What all looks share.
pub(crate) struct Context {
    /// The API server.
    pub(crate) client: Client,
    /// What the operator is told.
    pub(crate) config: OperatorConfig,
    /// What is watched.
    pub(crate) stores: Stores,
    /// As many looks at the same time as may be. (To the controller there is no limit: looks that gather changes wait for time only.)
    looks: Semaphore,
    /// Set when everything has been listed once. One task at a time may wait for a store.
    ready: OnceCell<()>,
    /// The installations of this scope.
    pub(crate) installations: Store<Guarded>,
    /// What the cluster has.
    pub(crate) features: Features,
    /// Writes.
    pub(crate) applier: Applier,
    /// Pods as the last step left them.
    pub(crate) ahead: Ahead,
    /// Says what happened.
    pub(crate) recorder: Recorder,
    /// The operator's metrics.
    pub(crate) metrics: Metrics,
    /// What is remembered of each installation, by uid. All of it may be lost.
    memory: Mutex<HashMap<String, Memory>>,
    /// Asks for a look at an installation.
    wake: mpsc::Sender<ObjectRef<Guarded>>,
}

/// What is remembered of one installation.
#[derive(Default)]
pub(crate) struct Memory {
    /// Its name.
    pub(crate) names: Option<Names>,
    /// Since when anything is remembered.
    pub(crate) since: Option<Instant>,
    /// Failures in a row.
    failures: u32,
    /// Its allocators.
    pub(crate) follower: Option<Follower>,
    /// Since when a scaled site has had more seats than needed.
    pub(crate) calm: HashMap<String, Millis>,
    /// Since when there has been something to wait for, but nothing to do.
    pub(crate) idle: Option<Instant>,
    /// What people were told last.
    pub(crate) told: Vec<String>,
    /// Fields of the status that the cluster's definition does not know, and when that was seen last.
    pub(crate) unknown: Option<(Vec<String>, Instant)>,
    /// When the status was written last.
    pub(crate) figures: Option<Instant>,
    /// The node of the managed Redis that does not report, and since when it was seen not to.
    pub(crate) silent: Option<(String, Millis)>,
    /// The host name that was looked up last, when, and whether it was found.
    pub(crate) resolved: Option<(String, Instant, bool)>,
}

impl Context {
    /// Works on what is remembered of an installation.
    pub(crate) fn remember<T>(&self, uid: &str, work: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        work(memory.entry(uid.to_owned()).or_default())
    }

    /// A channel whose messages ask for a look at this installation.
    pub(crate) fn waker(&self, object: &ObjectRef<Guarded>) -> mpsc::Sender<()> {
        let (sender, mut receiver) = mpsc::channel(1);
        let (wake, object) = (self.wake.clone(), object.clone());
        tokio::spawn(async move {
            while receiver.recv().await.is_some() {
                if wake.send(object.clone()).await.is_err() {
                    return;
                }
            }
        });
        sender
    }

    /// Forgets installations that are no more.
    fn forget_gone(&self) {
        let there: HashSet<String> = self.installations.state().iter().filter_map(|object| object.uid()).collect();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<Names> =
            memory.extract_if(|uid, _| !there.contains(uid)).filter_map(|(_, memory)| memory.names).collect();
        drop(memory);
        for names in gone {
            self.applier.forget(&names.namespace, &names.name);
            self.metrics.forget(&names);
        }
    }
}

/// Looks after all installations of a scope until `stop`.
pub(crate) async fn run(
    client: Client,
    config: OperatorConfig,
    scope: Option<String>,
    features: Features,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let scope = scope.as_deref();
    let (stores, watches) = Stores::watch(&client, scope, features);
    let (wake, woken) = mpsc::channel(QUEUE);
    let (installations, writer) = store();
    let objects = watcher(api::<Guarded>(&client, scope), watcher::Config::default()).default_backoff();
    let controller = Controller::for_stream(reflector(writer, objects).applied_objects(), installations);
    let reporter = Reporter { controller: MANAGER.into(), instance: Some(config.identity.clone()) };
    let context = Arc::new(Context {
        applier: Applier::new(client.clone(), metrics.clone()),
        recorder: Recorder::new(client.clone(), reporter),
        stores,
        looks: Semaphore::new(config.concurrency.into()),
        ready: OnceCell::new(),
        installations: controller.store(),
        features,
        ahead: Ahead::default(),
        metrics,
        memory: Mutex::default(),
        wake,
        client,
        config,
    });
    let mut controller = controller
        .trigger_backoff(Brief)
        .owns_stream(watches.pods)
        .reconcile_all_on(watches.nodes)
        .reconcile_on(tokio_stream::wrappers::ReceiverStream::new(woken))
        .graceful_shutdown_on(stop.cancelled_owned());
    for (kind, stream) in watches.objects {
        controller = controller.owns_stream_with(stream, kind.resource());
    }
    let mut results = std::pin::pin!(controller.run(look, after_failure, Arc::clone(&context)));
    while let Some(result) = results.next().await {
        match result {
            // Failures of a look are logged where they happen.
            Ok(_) | Err(Error::ReconcilerFailed(..)) => {}
            Err(Error::ObjectNotFound(_)) => context.forget_gone(),
            Err(Error::QueueError(error)) => warn!(%error, "something cannot be watched: see the operator's rights"),
            Err(error) => warn!(%error, "the queue of looks"),
        }
    }
    debug!("all looks are over");
}

async fn look(object: Arc<Guarded>, context: Arc<Context>) -> Result<Action, ReconcileError> {
    let (name, namespace) = (object.name_any(), object.namespace().unwrap_or_default());
    let span = info_span!("reconcile", installation = %name, %namespace);
    sleep(GATHER).await;
    resolve(&object, &context).await;
    let Ok(_permit) = context.looks.acquire().await else { return Ok(Action::await_change()) };
    // Until everything has been listed once, what is there would look as if it were missing.
    match timeout(LOOK, context.ready.get_or_try_init(|| context.stores.ready())).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => return Ok(Action::await_change()),
        Err(_) => return Err(ReconcileError::Late),
    }
    // As it is now, not as it was when the look was asked for.
    let object = context.installations.get(&ObjectRef::from_obj(&*object)).unwrap_or(object);
    let begin = Instant::now();
    let result = timeout(LOOK, reconcile(&object, &context).instrument(span)).await;
    let result = result.unwrap_or(Err(ReconcileError::Late));
    context.metrics.reconciled(begin.elapsed(), result.is_err());
    if result.is_ok() {
        context.remember(&object.uid().unwrap_or_default(), |memory| memory.failures = 0);
    }
    result
}

fn after_failure(object: Arc<Guarded>, error: &ReconcileError, context: Arc<Context>) -> Action {
    let failures = context.remember(&object.uid().unwrap_or_default(), |memory| {
        memory.failures = memory.failures.saturating_add(1);
        memory.failures
    });
    let pause = PAUSE.0.saturating_mul(1 << failures.saturating_sub(1).min(7)).min(PAUSE.1);
    warn!(installation = object.name_any(), namespace = object.namespace(), %error, ?pause, "a look failed");
    Action::requeue(pause)
}

/// Which optional kinds the cluster knows.
///
/// # Errors
/// When the API server does not answer.
pub(crate) async fn features(client: &Client) -> kube::Result<Features> {
    let has = async |kind: Kind| {
        let resource = kind.resource();
        match client.list_api_group_resources(&resource.api_version).await {
            Ok(list) => Ok(list.resources.iter().any(|known| known.name == resource.plural)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(error),
        }
    };
    Ok(Features {
        pod_monitor: has(Kind::PodMonitor).await?,
        http_route: has(Kind::HttpRoute).await?,
        certificate: has(Kind::Certificate).await?,
    })
}
