//! Bridges' Pods: what is known of them, and the plan's steps carried out.
//!
//! A watch is a moment behind. So that a step is not taken twice, what the API server answered to the last step counts until
//! the watch has caught up.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use rand::RngCore as _;
use serde_json::json;
use tracing::{Instrument as _, info_span};

use crate::apply::version;
use crate::hash;
use crate::names::{DRAINING_SINCE, DRAINING_WHY, MANAGER, Names, PROTECTED};
use crate::plan::{Millis, Why};
use crate::stores::Stores;

/// How long a watch may be behind.
const BEHIND: Duration = Duration::from_secs(30);

/// A name for a bridge that is to be made.
pub(crate) fn new_name(names: &Names, site: &str) -> String {
    let mut random = [0; 8];
    rand::rng().fill_bytes(&mut random);
    named(names, site, &format!("{random:?}"))
}

/// The name of a bridge that `what` tells from others of its site.
pub(crate) fn named(names: &Names, site: &str, what: &str) -> String {
    let suffix: String = hash::short(what).chars().take(5).collect();
    format!("{}-{site}-{suffix}", names.name)
}

/// Pods as the last step left them.
#[derive(Default)]
pub(crate) struct Ahead(Mutex<HashMap<(String, String), (Instant, Step)>>);

#[derive(Clone)]
enum Step {
    /// Made; a watch that does not know it yet will.
    Made(Pod),
    /// Changed; a watch that does not know it any more is right.
    Changed(Pod),
    /// Deleted at once, without a grace period.
    Gone(Option<String>),
}

impl Ahead {
    fn note(&self, namespace: &str, name: &str, step: Step) {
        let key = (namespace.to_owned(), name.to_owned());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, (Instant::now(), step));
    }

    /// An installation's bridges: as watched, or as the last step left them if that is newer.
    pub(crate) fn pods(&self, stores: &Stores, namespace: &str, owner: &str) -> Vec<Pod> {
        let ours = |pod: &Pod| {
            let owned = pod.owner_references().iter().any(|reference| reference.uid == owner);
            owned && pod.namespace().as_deref() == Some(namespace)
        };
        let watched = stores.pods.of(owner).into_iter().filter(|pod| ours(pod));
        let watched = watched.map(|pod| (pod.name_any(), (*pod).clone())).collect();
        self.correct(watched, namespace, ours)
    }

    fn correct(&self, mut pods: HashMap<String, Pod>, namespace: &str, ours: impl Fn(&Pod) -> bool) -> Vec<Pod> {
        let mut steps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        steps.retain(|_, (at, _)| at.elapsed() < BEHIND);
        let here: Vec<_> = steps.iter().filter(|((space, _), _)| space == namespace).collect();
        let mut settled = Vec::new();
        for (key, (_, step)) in here {
            let known = pods.get(&key.1);
            match step {
                Step::Made(pod) | Step::Changed(pod) if !ours(pod) => continue,
                Step::Made(pod) if known.is_none() => drop(pods.insert(key.1.clone(), pod.clone())),
                Step::Changed(pod) if known.is_some_and(|known| version(known) < version(pod)) => {
                    pods.insert(key.1.clone(), pod.clone());
                }
                Step::Gone(uid) if known.is_some_and(|known| known.uid() == *uid) => drop(pods.remove(&key.1)),
                _ => settled.push(key.clone()),
            }
        }
        for key in settled {
            steps.remove(&key);
        }
        let mut pods: Vec<Pod> = pods.into_values().collect();
        pods.sort_by_key(ResourceExt::name_any);
        pods
    }
}

/// The Pods of one namespace.
pub(crate) struct Bridges<'a> {
    client: &'a Client,
    ahead: &'a Ahead,
    namespace: &'a str,
}

impl<'a> Bridges<'a> {
    /// Of this namespace.
    pub(crate) fn new(client: &'a Client, ahead: &'a Ahead, namespace: &'a str) -> Self {
        Self { client, ahead, namespace }
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    /// Makes one.
    ///
    /// # Errors
    /// When the API server refuses (Pod Security, quota) or does not answer.
    pub(crate) async fn create(&self, body: &serde_json::Value) -> kube::Result<()> {
        let pod: Pod = serde_json::from_value(body.clone()).map_err(kube::Error::SerdeError)?;
        let params = PostParams { field_manager: Some(MANAGER.into()), ..PostParams::default() };
        let span = info_span!("write", kind = "Pod", object = pod.name_any());
        let pod = self.api().create(&params, &pod).instrument(span).await?;
        self.ahead.note(self.namespace, &pod.name_any(), Step::Made(pod));
        Ok(())
    }

    /// Notes since when and why it leaves.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub(crate) async fn mark(&self, name: &str, since: Millis, why: Why) -> kube::Result<()> {
        let annotations = json!({ DRAINING_SINCE: since.to_string(), DRAINING_WHY: why.name() });
        self.patch(name, &json!({ "metadata": { "annotations": annotations } })).await
    }

    /// Takes that back.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub(crate) async fn unmark(&self, name: &str) -> kube::Result<()> {
        let annotations = json!({ DRAINING_SINCE: null, DRAINING_WHY: null });
        self.patch(name, &json!({ "metadata": { "annotations": annotations } })).await
    }

    /// Lets evictions through, then deletes it: with its grace period, because its port must not be taken over under it.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub(crate) async fn delete(&self, pod: &Pod) -> kube::Result<()> {
        let name = pod.name_any();
        self.patch(&name, &json!({ "metadata": { "labels": { PROTECTED: "false" } } })).await?;
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        match self.api().delete(&name, &params).await {
            // With a grace period there is still a Pod.
            Ok(answer) => {
                let left = answer.left().filter(|left| left.metadata.deletion_grace_period_seconds != Some(0));
                let step = left.map_or_else(|| Step::Gone(pod.uid()), Step::Changed);
                self.ahead.note(self.namespace, &name, step);
            }
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {
                self.ahead.note(self.namespace, &name, Step::Gone(pod.uid()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn patch(&self, name: &str, patch: &serde_json::Value) -> kube::Result<()> {
        let params = PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        match self.api().patch(name, &params, &Patch::Merge(patch)).await {
            Ok(pod) => self.ahead.note(self.namespace, name, Step::Changed(pod)),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(version: &str, note: &str) -> Pod {
        let metadata = json!({ "name": "a", "uid": "1", "resourceVersion": version, "labels": { "note": note } });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    /// What is known after a step, for each state of the watch.
    fn after(step: &Step, watched: Option<Pod>) -> Option<String> {
        let ahead = Ahead::default();
        ahead.note("ns", "a", step.clone());
        let watched = watched.map(|pod| ("a".to_owned(), pod)).into_iter().collect();
        ahead.correct(watched, "ns", |_| true).first().map(|pod| pod.labels()["note"].clone())
    }

    #[test]
    fn the_last_step_counts_until_the_watch_has_caught_up() {
        let (old, new) = (pod("9", "old"), pod("11", "new"));
        for (step, nothing, older, newer) in [
            (Step::Made(pod("10", "step")), Some("step"), Some("old"), Some("new")),
            (Step::Changed(pod("10", "step")), None, Some("step"), Some("new")),
            (Step::Gone(Some("1".into())), None, None, None),
            (Step::Gone(Some("another".into())), None, Some("old"), Some("new")),
        ] {
            let known = [after(&step, None), after(&step, Some(old.clone())), after(&step, Some(new.clone()))];
            assert_eq!(known.each_ref().map(Option::as_deref), [nothing, older, newer]);
        }
    }
}
