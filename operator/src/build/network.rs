//! Who may talk to whom within the cluster. (The node's network is not subject to policies: bridges with HostNetwork are not.)

use ratssaal_crds::v1alpha1::VideoConferenceSpec;
use serde_json::{Value, json};

use super::common::{object, selector};
use super::{Facts, Object};
use crate::kind::Kind;
use crate::names::{COMPONENT, NAME};

pub(super) fn objects(spec: &VideoConferenceSpec, facts: &Facts) -> Vec<Object> {
    let mut objects = vec![bridges(spec, facts), allocators(spec, facts)];
    if spec.redis.managed.is_some() {
        objects.push(redis(facts));
    }
    objects
}

fn policy(facts: &Facts, part: &str, name: &str, ingress: Value, egress: Option<Value>) -> Object {
    let mut policy = object(facts, Kind::NetworkPolicy, name, part);
    let mut spec = json!({
        "podSelector": { "matchLabels": selector(facts, part) },
        "policyTypes": ["Ingress"],
        "ingress": ingress,
    });
    if let Some(egress) = egress {
        spec["policyTypes"] = json!(["Ingress", "Egress"]);
        spec["egress"] = egress;
    }
    policy.body["spec"] = spec;
    policy
}

fn from(facts: &Facts, part: &str) -> Value {
    json!({ "podSelector": { "matchLabels": selector(facts, part) } })
}

fn dns() -> Value {
    json!({ "ports": [{ "protocol": "UDP", "port": 53 }, { "protocol": "TCP", "port": 53 }] })
}

/// Browsers reach HTTP and media from anywhere, gRPC is for the installation's bridges and the operator. Media and webhooks
/// go anywhere.
fn bridges(spec: &VideoConferenceSpec, facts: &Facts) -> Object {
    let first = spec.media.window();
    let media = json!({ "protocol": "UDP", "port": first.0, "endPort": first.1 });
    let ingress = json!([
        { "ports": [{ "protocol": "TCP", "port": "http" }, media] },
        { "from": [from(facts, "bridge"), operators()], "ports": [{ "protocol": "TCP", "port": "peers" }] },
    ]);
    policy(facts, "bridge", &facts.names.bridges(), ingress, None)
}

/// Bridges and the operator reach gRPC, anybody the probes and metrics.
fn allocators(spec: &VideoConferenceSpec, facts: &Facts) -> Object {
    let ingress = json!([
        { "from": [from(facts, "bridge"), operators()], "ports": [{ "protocol": "TCP", "port": "grpc" }] },
        { "ports": [{ "protocol": "TCP", "port": "http" }] },
    ]);
    // With a Redis or a collector elsewhere its address is not known here.
    let inside = spec.redis.managed.is_some() && spec.observability.otlp_endpoint.is_none();
    let egress = json!([dns(), { "to": [from(facts, "redis")], "ports": [{ "protocol": "TCP", "port": "redis" }] }]);
    policy(facts, "allocator", &facts.names.allocator(), ingress, inside.then_some(egress))
}

fn redis(facts: &Facts) -> Object {
    let ingress = json!([{ "from": [from(facts, "allocator")], "ports": [{ "protocol": "TCP", "port": "redis" }] }]);
    policy(facts, "redis", &facts.names.redis(), ingress, Some(json!([])))
}

/// The operator, in whichever namespace it runs.
fn operators() -> Value {
    json!({
        "namespaceSelector": {},
        "podSelector": { "matchLabels": { NAME: "ratssaal", COMPONENT: "operator" } },
    })
}
