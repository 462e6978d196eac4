//! One look at one installation: observe, validate, plan, build, apply, tell.

mod balancer;
mod redis;
mod steps;
mod tell;
mod validate;

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use rand::RngCore as _;
use ratssaal_crds::VideoConference;
use ratssaal_crds::v1alpha1::SiteSpec;
use time::OffsetDateTime;
use tracing::{Instrument as _, error, info_span};

use crate::apply::is_owned;
use crate::build::{self, Credentials, Facts};
use crate::cluster::{ClusterError, Follower, View, Way};
use crate::controller::Context;
use crate::credentials::{self, Found, Own};
use crate::kind::Kind;
use crate::names::Names;
use crate::observe;
use crate::plan::{self, Bridge, Millis, Plan, World};
use crate::problem::Problem;
use crate::stores::Guarded;

pub(crate) use validate::resolve;

/// The next look if nothing happens: while something is going on, while something is wrong, else.
const SOON: Duration = Duration::from_secs(2);
const WRONG: Duration = Duration::from_secs(15);
const QUIET: Duration = Duration::from_secs(300);

/// Why a look failed. It is repeated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    /// The API server refused or did not answer.
    #[error("{0}: {1}")]
    Api(&'static str, #[source] kube::Error),
    /// The allocators cannot be asked.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// It took too long.
    #[error("the API server did not answer in time; see whether it is overloaded")]
    Late,
}

fn api(what: &'static str) -> impl Fn(kube::Error) -> ReconcileError {
    move |error| ReconcileError::Api(what, error)
}

/// Everything about the installation at hand.
struct Look<'a> {
    context: &'a Context,
    object: &'a VideoConference,
    names: Names,
    uid: String,
    problems: Vec<Problem>,
}

/// Looks at an installation and takes the next steps.
///
/// # Errors
/// When something failed that may work the next time.
pub(crate) async fn reconcile(object: &Guarded, context: &Context) -> Result<Action, ReconcileError> {
    let names = Names { name: object.name_any(), namespace: object.namespace().unwrap_or_default() };
    let uid = object.uid().unwrap_or_default();
    let installation = match &object.0 {
        Ok(installation) => installation,
        Err(error) => {
            error!(%error, installation = names.name, "this VideoConference cannot be read: update the CRDs, or correct it");
            return Ok(Action::requeue(QUIET));
        }
    };
    if installation.metadata.deletion_timestamp.is_some() {
        // Kubernetes deletes all that it owns; bridges end their meetings.
        return Ok(Action::await_change());
    }
    context.remember(&uid, |memory| memory.names = Some(names.clone()));
    let mut look = Look { context, object: installation, names, uid, problems: Vec::new() };
    look.take().await
}

impl Look<'_> {
    async fn take(&mut self) -> Result<Action, ReconcileError> {
        let object = self.object;
        let spec = &object.spec;
        let (now, time) = (OffsetDateTime::now_utc(), Timestamp::now());
        let millis = Millis::try_from(time.as_millisecond()).unwrap_or(0);

        // Observe and validate.
        let given_keys = self.given_keys().await?;
        self.validate(now).instrument(info_span!("validate")).await?;
        let mut facts = self.facts();
        let Some(own) = self.own_secrets(&facts, now).await? else {
            let seen = self.seen(None, millis);
            self.tell(&Plan::default(), &seen, None, time).await?;
            return Ok(Action::requeue(WRONG));
        };
        facts.keys = given_keys.or_else(|| own.keys.clone()).unwrap_or_default();
        facts.redis_authority.clone_from(&own.redis_authority);
        facts.redis_password.clone_from(&own.redis_password);
        let view = self.view(&own)?;
        let world = self.world(&facts, view.as_ref(), millis);

        // Plan.
        let mut plan = plan::plan(&world);
        let noted = plan.notes.iter().filter(|note| note.is_problem());
        self.problems.extend(noted.map(|note| Problem::new(note.reason(), false, note.text())));
        if self.problems.iter().any(|problem| problem.reason == "PortTaken" && problem.fatal) {
            plan.actions.retain(|action| !matches!(action, plan::Action::Create { .. }));
        }
        self.remember_calm(&plan, millis);

        // Build and apply.
        let failed = if spec.paused {
            None
        } else {
            self.apply(&facts, &own, &plan, &world, millis).instrument(info_span!("apply")).await.err()
        };

        // Tell.
        let seen = self.seen(view.as_ref(), millis);
        let figures_due = self.tell(&plan, &seen, view.as_ref(), time).instrument(info_span!("tell")).await?;
        match failed {
            Some(error) => Err(error),
            None => Ok(Action::requeue(figures_due.unwrap_or(QUIET).min(self.pause(&plan)))),
        }
    }

    /// While something is awaited that says nothing when it comes, such as a deadline: the longer nothing has happened, the longer.
    fn pause(&self, plan: &Plan) -> Duration {
        let idle = self.context.remember(&self.uid, |memory| {
            memory.idle =
                (plan.progressing && plan.actions.is_empty()).then(|| memory.idle.unwrap_or_else(Instant::now));
            memory.idle
        });
        if plan.progressing {
            idle.map_or(SOON, |since| since.elapsed().clamp(SOON, WRONG))
        } else if !self.problems.is_empty() || !plan.calm.is_empty() {
            WRONG
        } else {
            QUIET
        }
    }

    fn facts(&self) -> Facts {
        let own = self.context.config.image.clone().unwrap_or_default();
        Facts {
            names: self.names.clone(),
            uid: self.uid.clone(),
            image: build::image(&self.object.spec, &own),
            keys: String::new(),
            redis_authority: String::new(),
            redis_password: String::new(),
            features: self.context.features,
        }
    }

    /// The installation's own Secrets; `None` if there is something wrong with them that a person must mend.
    async fn own_secrets(&mut self, facts: &Facts, now: OffsetDateTime) -> Result<Option<Own>, ReconcileError> {
        let (spec, namespace) = (&self.object.spec, &self.names.namespace);
        let mut there: BTreeMap<String, Found> = BTreeMap::new();
        for name in credentials::names(spec, &self.names) {
            let live = self.context.applier.live(&self.context.stores, Kind::Secret, namespace, &name).await;
            let Some(live) = live.map_err(api("a Secret cannot be read"))? else { continue };
            if !is_owned(&live, &self.uid) {
                self.problems.push(Problem::name_taken("Secret", &name));
                return Ok(None);
            }
            there.insert(name, Found::read(&live));
        }
        let mut random = || {
            let mut bytes = [0; 32];
            rand::rng().fill_bytes(&mut bytes);
            Credentials(bytes)
        };
        match credentials::own(spec, facts, &|name| there.get(name).cloned(), now, &mut random) {
            Ok(own) => Ok(Some(own)),
            Err(error) => {
                let text = format!(
                    "the installation's own authority in Secret {} cannot be used ({error}): put it back from a backup, or \
                     delete the Secret, and all parts get new certificates",
                    self.names.authority()
                );
                self.problems.push(Problem::new("AuthorityUnusable", true, text));
                Ok(None)
            }
        }
    }

    /// What the allocators say; begins to follow them if that has not happened yet.
    fn view(&self, own: &Own) -> Result<Option<View>, ReconcileError> {
        let (name, namespace) = (&self.names.name, &self.names.namespace);
        let way = Way {
            authority: own.authority.signer.clone(),
            trusted: own.authority.trusted(),
            name: name.clone(),
            host: self.names.host(&self.names.allocator()),
            address: self.context.config.allocator(name, namespace),
        };
        let reference = ObjectRef::<Guarded>::new(name).within(namespace);
        self.context.remember(&self.uid, |memory| {
            if memory.follower.as_ref().is_none_or(|follower| !follower.fits(&way)) {
                memory.follower = Some(Follower::start(&way, self.context.waker(&reference))?);
            }
            Ok(memory.follower.as_ref().and_then(Follower::view))
        })
    }

    fn pods(&self) -> Vec<Pod> {
        self.context.ahead.pods(&self.context.stores, &self.names.namespace, &self.uid)
    }

    /// The bridges as they are known now.
    fn seen(&self, view: Option<&View>, now: Millis) -> Vec<(Bridge, Pod)> {
        let pods = self.pods().into_iter();
        pods.filter_map(|pod| Some((observe::bridge(&pod, view, now)?, pod))).collect()
    }

    fn world(&self, facts: &Facts, view: Option<&View>, now: Millis) -> World {
        let spec = &self.object.spec;
        let calm = self.context.remember(&self.uid, |memory| memory.calm.clone());
        let site = |site: &SiteSpec| {
            observe::site(site, build::pod_revision(spec, facts, site), calm.get(&site.name).copied())
        };
        let bridges: Vec<Bridge> = self.seen(view, now).into_iter().map(|(bridge, _)| bridge).collect();
        if let Some(view) = view {
            view.keep(&bridges.iter().map(|bridge| bridge.name.as_str()).collect::<HashSet<_>>());
        }
        World {
            now,
            paused: spec.paused,
            sites: spec.sites().iter().map(site).collect(),
            floor: spec.replicas.unwrap_or(0),
            drain_deadline: Millis::from(spec.drain.deadline_seconds) * 1000,
            nodes: self.context.stores.nodes.state().iter().map(|node| observe::node(node, spec)).collect(),
            bridges,
            redis: self.redis(now),
        }
    }

    fn remember_calm(&self, plan: &Plan, now: Millis) {
        self.context.remember(&self.uid, |memory| {
            memory.calm.retain(|site, _| plan.calm.contains(site));
            for site in &plan.calm {
                memory.calm.entry(site.clone()).or_insert(now);
            }
        });
    }
}
