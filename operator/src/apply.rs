//! Server-side apply with as few writes as possible: an object that is as it should be is not written.
//!
//! What is compared is what the operator has an opinion on, and the tag of what it applied last, which tells what it has no
//! opinion on any more. Where the API server writes the same thing differently (a quantity, say), the first apply shows it,
//! and the object is left alone until it or the wish changes.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, Preconditions};
use kube::core::params::ValidationDirective;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tracing::{Instrument as _, info_span};

use crate::build::Object;
use crate::hash;
use crate::kind::Kind;
use crate::metrics::Metrics;
use crate::names::{APPLIED, MANAGER};
use crate::stores::Stores;

/// Applies objects of all installations.
pub(crate) struct Applier {
    client: Client,
    metrics: Metrics,
    /// What the last apply of an object made of it.
    last: Mutex<HashMap<(Kind, String, String), Last>>,
}

struct Last {
    version: u64,
    tag: String,
}

/// What became of an object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// It was as it should be.
    Unchanged,
    /// It was written.
    Written,
    /// Somebody else's object has its name; it was left alone.
    Foreign,
}

impl Applier {
    /// Through this client.
    pub(crate) fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, metrics, last: Mutex::default() }
    }

    fn api(&self, kind: Kind, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kind.resource())
    }

    /// The object that has this name now: as watched, or asked for, since a watch knows only what is labelled and is a
    /// moment behind.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub(crate) async fn live(
        &self,
        stores: &Stores,
        kind: Kind,
        namespace: &str,
        name: &str,
    ) -> kube::Result<Option<DynamicObject>> {
        match stores.get(kind, namespace, name) {
            Some(live) => Ok(Some((*live).clone())),
            None => self.api(kind, namespace).get_opt(name).await,
        }
    }

    /// Makes an object as it should be.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub(crate) async fn apply(
        &self,
        stores: &Stores,
        owner: &str,
        namespace: &str,
        object: &Object,
    ) -> kube::Result<Outcome> {
        let live = self.live(stores, object.kind, namespace, &object.name).await?;
        let key = (object.kind, namespace.to_owned(), object.name.clone());
        let tag = hash::short(&object.body.to_string());
        let wish = tagged(object, &tag);
        if let Some(live) = &live {
            if !is_owned(live, owner) {
                return Ok(Outcome::Foreign);
            }
            // What is being deleted cannot be mended; it is made anew when it is gone.
            if live.metadata.deletion_timestamp.is_some() {
                return Ok(Outcome::Unchanged);
            }
            let known = self.last.lock().unwrap_or_else(PoisonError::into_inner).get(&key).is_some_and(|last| {
                // What the last apply made of it, or what was there before it and is still watched.
                last.tag == tag && version(live) <= last.version
            });
            if known || is_as(&wish, live)? {
                return Ok(Outcome::Unchanged);
            }
        }
        let validation = Some(ValidationDirective::Strict);
        let params = PatchParams { field_validation: validation, ..PatchParams::apply(MANAGER).force() };
        let span = info_span!("write", kind = object.kind.name(), object = object.name);
        let api = self.api(object.kind, namespace);
        let written = api.patch(&object.name, &params, &Patch::Apply(&wish)).instrument(span).await?;
        self.metrics.written(object.kind.name());
        let last = Last { version: version(&written), tag };
        self.last.lock().unwrap_or_else(PoisonError::into_inner).insert(key, last);
        Ok(Outcome::Written)
    }

    /// Deletes what this installation owned but needs no more.
    ///
    /// # Errors
    /// When the API server refuses or does not answer.
    pub(crate) async fn delete_orphans(
        &self,
        stores: &Stores,
        owner: &str,
        namespace: &str,
        wanted: &HashSet<(Kind, String)>,
    ) -> kube::Result<()> {
        for (kind, object) in stores.owned(namespace, owner) {
            let name = object.name_any();
            if wanted.contains(&(kind, name.clone())) || object.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let uid = object.uid();
            let params = DeleteParams {
                preconditions: Some(Preconditions { uid, resource_version: None }),
                ..DeleteParams::background()
            };
            match self.api(kind, namespace).delete(&name, &params).await {
                Ok(_) => self.metrics.written(kind.name()),
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Forgets an installation that is no more.
    pub(crate) fn forget(&self, namespace: &str, name: &str) {
        let prefix = format!("{name}-");
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|(_, ns, object), _| ns != namespace || (object != name && !object.starts_with(&prefix)));
    }
}

/// Whether an object is as wished. (What a watch has listed does not say its kind.)
fn is_as(wish: &Value, live: &DynamicObject) -> kube::Result<bool> {
    let live = serde_json::to_value(live).map_err(kube::Error::SerdeError)?;
    let parts = wish.as_object().into_iter().flatten();
    let mut parts = parts.filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind"));
    Ok(parts.all(|(key, part)| live.get(key).map_or_else(|| is_nothing(part), |live| is_within(part, live))))
}

/// What is applied: the object with its tag. (Not Secrets: their fields never go, and a tag would tell of their content.)
fn tagged(object: &Object, tag: &str) -> Value {
    let mut wish = object.body.clone();
    if object.kind != Kind::Secret {
        wish["metadata"]["annotations"][APPLIED] = json!(tag);
    }
    wish
}

/// Versions of one object can be compared (Kubernetes 1.35 promises what etcd always did).
pub(crate) fn version(object: &impl ResourceExt) -> u64 {
    object.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Whether an object belongs to this installation.
pub(crate) fn is_owned(object: &DynamicObject, owner: &str) -> bool {
    object.owner_references().iter().any(|reference| reference.uid == owner && reference.controller == Some(true))
}

/// Whether everything in `wish` is in `live`. What Kubernetes leaves out when it is empty, false or 0 counts as there; of
/// owners others may be added.
fn is_within(wish: &Value, live: &Value) -> bool {
    match (wish, live) {
        (Value::Object(wish), Value::Object(live)) => wish.iter().all(|(key, value)| match live.get(key) {
            Some(Value::Array(all)) if key == "ownerReferences" => value
                .as_array()
                .is_some_and(|some| some.iter().all(|one| all.iter().any(|other| is_within(one, other)))),
            Some(live) => is_within(value, live),
            None => is_nothing(value),
        }),
        (Value::Array(wish), Value::Array(live)) => {
            wish.len() == live.len() && wish.iter().zip(live).all(|(wish, live)| is_within(wish, live))
        }
        (wish, live) => wish == live,
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_u64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(is_nothing),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_api_server_adds_is_no_difference() {
        let wish = json!({"spec": {"ports": [{"port": 80}], "type": "ClusterIP", "paused": false, "egress": []}});
        let live =
            json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}], "type": "ClusterIP", "clusterIP": "10.0.0.1"}});
        assert!(is_within(&wish, &live));
    }

    #[test]
    fn what_a_watch_has_listed_does_not_say_its_kind() {
        let wish = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": []}});
        let listed = |name: &str| serde_json::from_value(json!({"metadata": {"name": name, "uid": "1"}})).unwrap();
        assert!(is_as(&wish, &listed("a")).unwrap());
        assert!(!is_as(&wish, &listed("b")).unwrap());
    }

    #[test]
    fn the_tag_tells_of_what_is_not_wanted_any_more() {
        let body = json!({"metadata": {"annotations": {"a": "b"}}});
        let object = |kind| Object { kind, name: "a".into(), body: body.clone() };
        let before = tagged(&object(Kind::Ingress), "1");
        assert_eq!(before["metadata"]["annotations"], json!({"a": "b", APPLIED: "1"}));
        let fewer = Object { body: json!({"metadata": {}}), ..object(Kind::Ingress) };
        assert!(!is_within(&tagged(&fewer, "2"), &before));
        assert_eq!(tagged(&object(Kind::Secret), "1"), body);
    }

    #[test]
    fn what_people_change_is_one() {
        let wish = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"ports": [{"port": 80}], "replicas": 2}});
        for live in [
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"ports": [{"port": 81}], "replicas": 2}}),
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"ports": [{"port": 80}, {"port": 81}], "replicas": 2}}),
            json!({"metadata": {"labels": {}}, "spec": {"ports": [{"port": 80}], "replicas": 2}}),
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"ports": [{"port": 80}], "replicas": 0}}),
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"ports": [{"port": 80}]}}),
        ] {
            assert!(!is_within(&wish, &live), "{live}");
        }
        let owned = json!({"ownerReferences": [{"uid": "1"}]});
        assert!(is_within(&owned, &json!({"ownerReferences": [{"uid": "2"}, {"uid": "1", "kind": "X"}]})));
        assert!(!is_within(&owned, &json!({"ownerReferences": [{"uid": "2"}]})));
    }
}
