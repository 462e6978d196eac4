//! What people and Prometheus are told: Events, the status, figures.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::Resource as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::events::{Event, EventType};
use ratssaal_crds::VideoConference;
use ratssaal_crds::v1alpha1::VideoConferenceStatus;
use serde_json::json;
use tracing::{Instrument as _, debug, info, info_span};

use super::{Look, ReconcileError};
use crate::cluster::View;
use crate::names::MANAGER;
use crate::plan::{Bridge, Plan};
use crate::problem::Problem;
use crate::status::{self, Seen};

/// Figures of a status are written at most so often.
const FIGURES: Duration = Duration::from_secs(10);
/// How long the allocators may take to answer an operator that has just begun, and when it looks again.
const NEW: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(500);
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
        if status == before {
            return Ok(None);
        }
        if status::differs_in_figures_only(&status, &before) {
            let written = self.context.remember(&self.uid, |memory| memory.figures);
            let wait = written.map_or(Duration::ZERO, |at| FIGURES.saturating_sub(at.elapsed()));
            if !wait.is_zero() {
                return Ok(Some(wait));
            }
        }
        self.write(&status).await?;
        self.context.remember(&self.uid, |memory| memory.figures = Some(Instant::now()));
        Ok(None)
    }

    fn is_new_here(&self) -> bool {
        self.context.remember(&self.uid, |memory| memory.since.get_or_insert_with(Instant::now).elapsed() < NEW)
    }

    async fn write(&self, status: &VideoConferenceStatus) -> Result<(), ReconcileError> {
        let objects: Api<VideoConference> = Api::namespaced(self.context.client.clone(), &self.names.namespace);
        let body = json!({ "apiVersion": "ratssaal.io/v1alpha1", "kind": "VideoConference", "status": status });
        let params = PatchParams::apply(MANAGER).force();
        let span = info_span!("write", kind = "VideoConference", object = self.names.name);
        match objects.patch_status(&self.names.name, &params, &Patch::Apply(&body)).instrument(span).await {
            Ok(_) => {
                self.context.metrics.written("VideoConference");
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(ReconcileError::Api("the status cannot be written", error)),
        }
    }
}
