//! Settings as they travel to Pods: in their environment, because that cannot change under a running process. (A ConfigMap
//! could: a bridge that restarts in the middle of a rollout would read the next revision's settings.)

use serde_json::{Value, json};

/// Environment variables in order.
#[derive(Clone, Debug)]
pub(super) struct Environment(Vec<Value>);

impl Environment {
    /// Without a setting. The image may be older than this operator: what it does not know yet it leaves out, and says so.
    pub(super) fn new() -> Self {
        let mut new = Self(Vec::new());
        new.name_value("RATSSAAL_UNKNOWN_SETTINGS", "warn");
        new
    }

    /// A setting, e.g. `http.bind`.
    pub(super) fn set(&mut self, key: &str, value: impl ToString) -> &mut Self {
        self.0.push(json!({ "name": variable(key), "value": value.to_string() }));
        self
    }

    /// A setting that may be missing.
    pub(super) fn set_if(&mut self, key: &str, value: Option<impl ToString>) -> &mut Self {
        if let Some(value) = value {
            self.set(key, value);
        }
        self
    }

    /// A field of the Pod, e.g. `status.hostIP`.
    pub(super) fn field(&mut self, key: &str, path: &str) -> &mut Self {
        self.0.push(json!({ "name": variable(key), "valueFrom": { "fieldRef": { "fieldPath": path } } }));
        self
    }

    /// A plain variable from a field of the Pod, for use as `$(NAME)` in later ones.
    pub(super) fn name_field(&mut self, name: &str, path: &str) -> &mut Self {
        self.0.push(json!({ "name": name, "valueFrom": { "fieldRef": { "fieldPath": path } } }));
        self
    }

    /// A plain variable.
    pub(super) fn name_value(&mut self, name: &str, value: &str) -> &mut Self {
        self.0.push(json!({ "name": name, "value": value }));
        self
    }

    /// A key of a Secret.
    pub(super) fn secret(&mut self, key: &str, secret: &str, entry: &str) -> &mut Self {
        self.0.push(json!({
            "name": variable(key),
            "valueFrom": { "secretKeyRef": { "name": secret, "key": entry } },
        }));
        self
    }

    /// The certificate in the cluster, as mounted at `folder`.
    pub(super) fn identity(&mut self, folder: &str) -> &mut Self {
        self.set("cluster.ca", format!("{folder}/ca.crt"))
            .set("cluster.certificate", format!("{folder}/tls.crt"))
            .set("cluster.key", format!("{folder}/tls.key"))
    }

    /// For the container.
    pub(super) fn into_value(self) -> Value {
        Value::Array(self.0)
    }
}

fn variable(key: &str) -> String {
    format!("RATSSAAL_{}", key.to_uppercase().replace('.', "__"))
}
