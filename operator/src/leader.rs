//! Of several operators one acts: the holder of a Lease.
//!
//! A Lease that did not change for its whole duration, on the clock of who looks, may be taken: clocks of nodes may differ.
//! Every write names the version that was read, so of two that take it at once one succeeds. The holder stops acting
//! [`DEADLINE`] after its last success, before anybody else may begin.

use std::pin::pin;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::config::OperatorConfig;
use crate::metrics::Metrics;
use crate::names::MANAGER;

/// The Lease.
pub const LEASE: &str = "ratssaal-operator";
/// After so long without word from its holder another one takes it.
const DURATION: Duration = Duration::from_secs(15);
/// A holder that has not renewed it for so long does not act any more.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed, or looked at.
const PERIOD: Duration = Duration::from_secs(3);
/// The next attempt after one that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long a look that has begun may take when the operator stops.
const PATIENCE: Duration = Duration::from_secs(8);

/// Why there is no leader.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// The Lease cannot be used.
    #[error(
        "the Lease {LEASE} in namespace {0} cannot be used: {1}; check that the namespace exists and the operator's rights"
    )]
    Lease(String, #[source] Box<kube::Error>),
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    /// It is this operator's, from the beginning of the attempt on.
    Mine,
    /// Somebody else holds it.
    Theirs,
    /// It changed under the attempt.
    Again,
}

/// What to do with the Lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Renew,
    Take,
    Wait,
}

/// `still` is how long it has not changed.
fn step(lease: &Lease, me: &str, still: Duration) -> Step {
    let spec = lease.spec.as_ref();
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    let duration = seconds.map_or(DURATION, |seconds| Duration::from_secs(seconds).max(DEADLINE));
    if holder == me {
        Step::Renew
    } else if holder.is_empty() || still >= duration {
        Step::Take
    } else {
        Step::Wait
    }
}

/// The Lease as this operator sees it.
struct Candidate {
    api: Api<Lease>,
    me: String,
    /// Its version, and since when.
    seen: Option<(String, Instant)>,
}

impl Candidate {
    async fn attempt(&mut self) -> kube::Result<Outcome> {
        let now = json!(MicroTime(Timestamp::now()));
        let seconds = DURATION.as_secs();
        let Some(lease) = self.api.get_opt(LEASE).await? else {
            let spec = json!({ "holderIdentity": self.me, "leaseDurationSeconds": seconds, "acquireTime": now, "renewTime": now });
            let lease = json!({ "metadata": { "name": LEASE }, "spec": spec });
            let lease: Lease = serde_json::from_value(lease).map_err(kube::Error::SerdeError)?;
            let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
            return match self.api.create(&params, &lease).await {
                Ok(_) => Ok(Outcome::Mine),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(Outcome::Again),
                Err(error) => Err(error),
            };
        };
        let version = lease.resource_version().unwrap_or_default();
        if self.seen.as_ref().is_none_or(|(known, _)| *known != version) {
            self.seen = Some((version.clone(), Instant::now()));
        }
        let still = self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let spec = match step(&lease, &self.me, still) {
            Step::Wait => return Ok(Outcome::Theirs),
            Step::Renew => json!({ "renewTime": now, "leaseDurationSeconds": seconds }),
            Step::Take => {
                let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
                json!({
                    "holderIdentity": self.me, "leaseDurationSeconds": seconds, "acquireTime": now, "renewTime": now,
                    "leaseTransitions": transitions.saturating_add(1),
                })
            }
        };
        Ok(if self.write(&version, &spec).await? { Outcome::Mine } else { Outcome::Again })
    }

    /// Whether it still had this version.
    async fn write(&mut self, version: &str, spec: &serde_json::Value) -> kube::Result<bool> {
        let patch = Patch::Merge(json!({ "metadata": { "resourceVersion": version }, "spec": spec }));
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        match self.api.patch(LEASE, &params, &patch).await {
            Ok(lease) => {
                self.seen = lease.resource_version().map(|version| (version, Instant::now()));
                Ok(true)
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until it is this operator's; since when.
    async fn acquire(&mut self) -> Instant {
        loop {
            let begin = Instant::now();
            let pause = match timeout(DEADLINE, self.attempt()).await {
                Ok(Ok(Outcome::Mine)) => return begin,
                Ok(Ok(Outcome::Theirs)) => PERIOD,
                Ok(Ok(Outcome::Again)) => RETRY,
                Ok(Err(error)) => {
                    warn!(%error, "the Lease cannot be read or written");
                    RETRY
                }
                Err(_) => RETRY,
            };
            sleep(pause).await;
        }
    }

    /// Renews it until that has not succeeded for too long; why.
    async fn hold(&mut self, mut renewed: Instant) -> &'static str {
        let mut pause = PERIOD;
        loop {
            sleep(pause.min(DEADLINE.saturating_sub(renewed.elapsed()))).await;
            let begin = Instant::now();
            let left = DEADLINE.saturating_sub(renewed.elapsed());
            match timeout(left, self.attempt()).await {
                Ok(Ok(Outcome::Mine)) => (renewed, pause) = (begin, PERIOD),
                Ok(Ok(Outcome::Theirs)) => return "another operator has taken the Lease",
                Ok(Ok(Outcome::Again)) => pause = RETRY,
                Ok(Err(error)) => {
                    debug!(%error, "the Lease was not renewed");
                    pause = RETRY;
                }
                Err(_) => {}
            }
            if renewed.elapsed() >= DEADLINE {
                return "the Lease could not be renewed: the API server does not answer";
            }
        }
    }

    /// Lets others take it at once.
    async fn give_back(&mut self) -> kube::Result<()> {
        let Some(lease) = self.api.get_opt(LEASE).await? else { return Ok(()) };
        if step(&lease, &self.me, Duration::ZERO) == Step::Renew {
            let version = lease.resource_version().unwrap_or_default();
            self.write(&version, &json!({ "holderIdentity": null, "renewTime": null, "acquireTime": null })).await?;
        }
        Ok(())
    }
}

/// Runs `act` while this operator holds the Lease, until `stop`. What `act` gives must end at `stop` by itself; it is dropped
/// the moment the Lease is lost.
///
/// # Errors
/// When the Lease cannot be created or read at the start.
pub(crate) async fn lead<F: Future<Output = ()>>(
    client: Client,
    config: &OperatorConfig,
    metrics: &Metrics,
    stop: &CancellationToken,
    act: impl Fn() -> F,
) -> Result<(), LeaderError> {
    let api = Api::namespaced(client, &config.namespace);
    let mut candidate = Candidate { api, me: config.identity.clone(), seen: None };
    let first = candidate.api.get_opt(LEASE).await;
    first.map_err(|error| LeaderError::Lease(config.namespace.clone(), Box::new(error)))?;
    while !stop.is_cancelled() {
        let since = tokio::select! {
            () = stop.cancelled() => break,
            since = candidate.acquire() => since,
        };
        info!(identity = config.identity, "this operator acts");
        metrics.set_leader(true);
        let overdue = async {
            stop.cancelled().await;
            sleep(PATIENCE).await;
        };
        let lost = {
            let acting = pin!(act());
            tokio::select! {
                () = acting => None,
                why = candidate.hold(since) => Some(why),
                () = overdue => Some("a look was not over in time"),
            }
        };
        metrics.set_leader(false);
        match lost {
            Some(why) => warn!(why, "this operator does not act any more"),
            None if stop.is_cancelled() => info!("this operator has stopped acting"),
            None => {
                error!("acting has failed, it begins anew; please report what the log says before this");
                sleep(RETRY).await;
            }
        }
    }
    if let Err(error) = timeout(RETRY, candidate.give_back()).await.unwrap_or(Ok(())) {
        warn!(%error, "the Lease was not given back: another operator waits until it lapses");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_renewed_by_its_holder_and_taken_by_others_when_it_has_lapsed() {
        let lease = |spec: serde_json::Value| -> Lease { serde_json::from_value(json!({ "spec": spec })).unwrap() };
        let held = |seconds: i32| lease(json!({ "holderIdentity": "one", "leaseDurationSeconds": seconds }));
        let seconds = Duration::from_secs;
        for (lease, me, still, expected) in [
            (held(15), "one", 0, Step::Renew),
            (held(15), "one", 100, Step::Renew),
            (held(15), "two", 14, Step::Wait),
            (held(15), "two", 15, Step::Take),
            (held(60), "two", 30, Step::Wait),
            // Never sooner than its holder stops, whatever is written there.
            (held(1), "two", 9, Step::Wait),
            (held(-7), "two", 14, Step::Wait),
            (lease(json!({})), "two", 0, Step::Take),
            (lease(json!({ "holderIdentity": "" })), "two", 0, Step::Take),
            (Lease::default(), "two", 0, Step::Take),
        ] {
            assert_eq!(step(&lease, me, seconds(still)), expected, "{lease:?} {me} {still}");
        }
        assert!(DEADLINE + RETRY < DURATION);
    }
}
