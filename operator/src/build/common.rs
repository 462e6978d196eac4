//! What all objects have in common: metadata, security contexts, accounts.

use ratssaal_crds::v1alpha1::{ImageSpec, PullPolicy, VideoConferenceSpec};
use serde_json::{Value, json};

use super::{Facts, Object};
use crate::kind::Kind;
use crate::names::{COMPONENT, INSTANCE, MANAGED_BY, MANAGER, NAME};

/// The user that Ratssaal's image runs as.
pub(super) const USER: i64 = 65532;

/// An object of this installation, without its spec.
pub(super) fn object(facts: &Facts, kind: Kind, name: &str, component: &str) -> Object {
    let body = json!({
        "apiVersion": kind.api_version(),
        "kind": kind.name(),
        "metadata": {
            "name": name,
            "namespace": facts.names.namespace,
            "labels": labels(facts, component),
            "ownerReferences": [owner(facts)],
        },
    });
    Object { kind, name: name.to_owned(), body }
}

/// The labels of everything that belongs to a part.
pub(super) fn labels(facts: &Facts, component: &str) -> Value {
    json!({
        NAME: "ratssaal",
        INSTANCE: facts.names.name,
        COMPONENT: component,
        MANAGED_BY: MANAGER,
    })
}

/// What selects a part's Pods.
pub(super) fn selector(facts: &Facts, component: &str) -> Value {
    json!({ NAME: "ratssaal", INSTANCE: facts.names.name, COMPONENT: component })
}

fn owner(facts: &Facts) -> Value {
    json!({
        "apiVersion": "ratssaal.io/v1alpha1",
        "kind": "VideoConference",
        "name": facts.names.name,
        "uid": facts.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    })
}

/// An account for each part, without rights and without a token in its Pods.
pub(super) fn accounts(spec: &VideoConferenceSpec, facts: &Facts) -> Vec<Object> {
    let mut parts = vec![("bridge", facts.names.bridge_account()), ("allocator", facts.names.allocator())];
    if spec.redis.managed.is_some() {
        parts.push(("redis", facts.names.redis()));
    }
    let account = |(component, name): (&str, String)| {
        let mut object = object(facts, Kind::ServiceAccount, &name, component);
        object.body["automountServiceAccountToken"] = json!(false);
        object
    };
    parts.into_iter().map(account).collect()
}

/// A Pod that may do nothing but run: the level "restricted" of the Pod Security Standards.
pub(super) fn pod_security(user: i64) -> Value {
    json!({
        "runAsNonRoot": true,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

/// The same for a container.
pub(super) fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    })
}

/// From a node that is lost a Pod is taken after half a minute, not after Kubernetes' five. (What a StatefulSet had there comes
/// elsewhere only when the node is back, or when its Pod is given up: `plan/redis.rs`.)
pub(super) fn tolerations() -> Value {
    let taint = |key: &str| json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30 });
    json!([taint("node.kubernetes.io/not-ready"), taint("node.kubernetes.io/unreachable")])
}

/// When the image is fetched.
pub(super) fn pull_policy(image: Option<&ImageSpec>) -> &'static str {
    match image.and_then(|image| image.pull_policy) {
        Some(PullPolicy::Always) => "Always",
        Some(PullPolicy::Never) => "Never",
        Some(PullPolicy::IfNotPresent) | None => "IfNotPresent",
    }
}

/// Secrets with access to the registry.
pub(super) fn pull_secrets(image: Option<&ImageSpec>) -> Value {
    let secrets = image.map(|image| image.pull_secrets.as_slice()).unwrap_or_default();
    secrets.iter().map(|secret| json!({ "name": secret.name })).collect()
}

/// A probe of one of a process's own paths.
pub(super) fn probe(path: &str, scheme: &str, period: u32, failures: u32) -> Value {
    json!({
        "httpGet": { "path": path, "port": "http", "scheme": scheme },
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    })
}

/// A Secret as files.
pub(super) fn secret_volume(name: &str, secret: &str) -> Value {
    json!({ "name": name, "secret": { "secretName": secret, "defaultMode": 0o440 } })
}

/// Where a volume's files are.
pub(super) fn mount(name: &str, path: &str) -> Value {
    json!({ "name": name, "mountPath": path, "readOnly": true })
}
