//! What people and Prometheus are told: Events, the status, figures.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use kube::{CustomResourceExt as _, Resource as _};
use ratssaal_crds::VideoConference;
use serde_json::{Value, json};
use tracing::{Instrument as _, debug, info, info_span, warn};

use super::{Look, ReconcileError, api};
use crate::cluster::View;
use crate::definition;
use crate::names::MANAGER;
use crate::plan::{Bridge, Plan};
use crate::problem::Problem;
use crate::status::{self, Seen};

/// Figures of a status are written at most so often.
const FIGURES: Duration = Duration::from_secs(10);
/// How long the allocators may take to answer an operator that has just begun, and when it looks again.
const NEW: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(500);
/// How often it is tried whether the cluster's definition knows by now what it did not.
const RECHECK: Duration = Duration::from_secs(60);
/// What an Event's note takes.
const NOTE: usize = 900;

impl Look<'_> {
    /// A step was taken.
    pub(super) async fn happened(&self, reason: &str, note: String) {
        self.context.metrics.acted(reason);
        info!(installation = self.names.name, namespace = self.names.namespace, reason, note, "step");
        self.publish(EventType::Normal, reason, note).await;
    }

    async fn publish(&self, type_: EventType, reason: &str, mut note: String) {
        if let Some((at, _)) = note.char_indices().nth(NOTE) {
            note.truncate(at);
        }
        let action = "Reconcile".to_owned();
        let event = Event { type_, reason: reason.into(), note: Some(note), action, secondary: None };
        if let Err(error) = self.context.recorder.publish(&event, &self.object.object_ref(&())).await {
            debug!(%error, "an Event was not written");
        }
    }

    /// Writes the status if it says something new. When only figures are new they may have to wait: then for how long.
    pub(super) async fn tell(
        &mut self,
        plan: &Plan,
        bridges: &[(Bridge, Pod)],
        view: Option<&View>,
        now: Timestamp,
    ) -> Result<Option<Duration>, ReconcileError> {
        let unknown = self.context.remember(&self.uid, |memory| memory.unknown.clone());
        let (unknown, seen_at) = unknown.map_or((Vec::new(), None), |(fields, at)| (fields, Some(at)));
        if !unknown.is_empty() {
            self.problems.push(definition::outdated());
        }
        self.problems.sort();
        self.problems.dedup();
        let before = self.object.status.clone().unwrap_or_default();
        // An operator that has just begun does not know yet what the allocators say: the last status is truer.
        if view.is_none() && !before.bridges.is_empty() && self.is_new_here() {
            return Ok(Some(AGAIN));
        }
        let texts: Vec<String> = self.problems.iter().map(|problem| problem.text.clone()).collect();
        let told = self.context.remember(&self.uid, |memory| std::mem::replace(&mut memory.told, texts));
        let degraded = before.conditions.iter().find(|condition| condition.type_ == "Degraded");
        let is_told = |problem: &&Problem| {
            told.contains(&problem.text) || degraded.is_some_and(|condition| condition.message.contains(&problem.text))
        };
        for problem in self.problems.iter().filter(|problem| !is_told(problem)) {
            self.publish(EventType::Warning, problem.reason, problem.text.clone()).await;
        }
        let seen = Seen {
            spec: &self.object.spec,
            generation: self.object.metadata.generation,
            before: &before,
            names: &self.names,
            bridges,
            view,
            plan,
            problems: &self.problems,
            now,
        };
        let status = status::status(&seen);
        self.context.metrics.set_bridges(&self.names, &status.bridges);
        let whole = json!(status);
        let known = serde_json::from_value(definition::without(whole.clone(), &unknown)).unwrap_or(status);
        let again = seen_at.is_some_and(|at| at.elapsed() >= RECHECK);
        if known == before && !again {
            return Ok(None);
        }
        if !again && status::differs_in_figures_only(&known, &before) {
            let written = self.context.remember(&self.uid, |memory| memory.figures);
            let wait = written.map_or(Duration::ZERO, |at| FIGURES.saturating_sub(at.elapsed()));
            if !wait.is_zero() {
                return Ok(Some(wait));
            }
        }
        let left_out: &[String] = if again { &[] } else { &unknown };
        let found = self.write(whole, left_out).await?;
        let written = found == left_out;
        let at = seen_at.filter(|_| !again && found == unknown).unwrap_or_else(Instant::now);
        let settled = found == unknown && (written || known == before);
        if !found.is_empty() && found != unknown {
            warn!(installation = self.names.name, fields = ?found, "the definition of VideoConference is older than this operator");
        }
        self.context.remember(&self.uid, |memory| {
            if written {
                memory.figures = Some(Instant::now());
            }
            memory.unknown = (!found.is_empty()).then_some((found, at));
        });
        Ok((!settled).then_some(AGAIN))
    }

    fn is_new_here(&self) -> bool {
        self.context.remember(&self.uid, |memory| memory.since.get_or_insert_with(Instant::now).elapsed() < NEW)
    }

    /// Writes the status without these fields, unless the cluster's definition turns out not to know some: which it does not.
    async fn write(&self, whole: Value, left_out: &[String]) -> Result<Vec<String>, ReconcileError> {
        let failed = api("the status cannot be written");
        match self.apply_status(&definition::without(whole.clone(), left_out)).await {
            Ok(()) => Ok(left_out.to_vec()),
            Err(kube::Error::Api(status)) if definition::is_about_unknown_fields(&status.message) => {
                let unknown = self.unknown_fields(&whole).await.map_err(&failed)?;
                let is_new = !unknown.is_empty() && unknown != left_out;
                if is_new { Ok(unknown) } else { Err(failed(kube::Error::Api(status))) }
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn objects(&self) -> Api<DynamicObject> {
        let resource = VideoConference::api_resource();
        Api::namespaced_with(self.context.client.clone(), &self.names.namespace, &resource)
    }

    async fn apply_status(&self, status: &Value) -> kube::Result<()> {
        let body = json!({ "apiVersion": "ratssaal.io/v1alpha1", "kind": "VideoConference", "status": status });
        let params = PatchParams::apply(MANAGER).force();
        let span = info_span!("write", kind = "VideoConference", object = self.names.name);
        match self.objects().patch_status(&self.names.name, &params, &Patch::Apply(&body)).instrument(span).await {
            Ok(_) => {
                self.context.metrics.written("VideoConference");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Tries what the API server would keep of a status: a patch of another kind drops what is not known.
    async fn unknown_fields(&self, status: &Value) -> kube::Result<Vec<String>> {
        let params = PatchParams { dry_run: true, field_manager: Some(MANAGER.into()), ..PatchParams::default() };
        let patch = Patch::Merge(json!({ "status": status }));
        let kept = self.objects().patch_status(&self.names.name, &params, &patch).await?;
        Ok(definition::unknown(status, &kept.data["status"]))
    }
}
