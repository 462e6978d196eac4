//! The allocators: a Deployment of two, their Service, and the budget that keeps one of them.

use ratssaal_crds::v1alpha1::VideoConferenceSpec;
use serde_json::{Value, json};

use super::common::{
    USER, container_security, labels, mount, object, pod_security, probe, pull_policy, pull_secrets, secret_volume,
    selector, tolerations,
};
use super::environment::Environment;
use super::{ALLOCATOR_PORT, Facts, HTTP_PORT, Object};
use crate::kind::Kind;

const REPLICAS: u32 = 2;
const FOLDER: &str = "/etc/ratssaal/cluster";
const PART: &str = "allocator";

pub(super) fn objects(spec: &VideoConferenceSpec, facts: &Facts) -> Vec<Object> {
    let name = facts.names.allocator();
    let mut metadata = json!({ "labels": labels(facts, PART) });
    if spec.redis.managed.is_some() {
        metadata["annotations"] = json!({ "ratssaal.io/password": facts.redis_password });
    }
    let mut deployment = object(facts, Kind::Deployment, &name, PART);
    deployment.body["spec"] = json!({
        "replicas": REPLICAS,
        "selector": { "matchLabels": selector(facts, PART) },
        "strategy": { "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } },
        "template": { "metadata": metadata, "spec": pod(spec, facts) },
    });
    let mut service = object(facts, Kind::Service, &name, PART);
    service.body["spec"] = json!({
        "type": "ClusterIP",
        "selector": selector(facts, PART),
        "ports": [{ "name": "grpc", "protocol": "TCP", "port": ALLOCATOR_PORT, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c" }],
    });
    let mut budget = object(facts, Kind::PodDisruptionBudget, &name, PART);
    budget.body["spec"] = json!({ "minAvailable": 1, "selector": { "matchLabels": selector(facts, PART) } });
    vec![deployment, service, budget]
}

fn pod(spec: &VideoConferenceSpec, facts: &Facts) -> Value {
    json!({
        "serviceAccountName": facts.names.allocator(),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "imagePullSecrets": pull_secrets(spec.image.as_ref()),
        "securityContext": pod_security(USER),
        "tolerations": tolerations(),
        "topologySpreadConstraints": [{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": { "matchLabels": selector(facts, PART) },
        }],
        "volumes": [secret_volume("cluster", &facts.names.certificate(PART))],
        "containers": [{
            "name": "allocator",
            "image": facts.image,
            "imagePullPolicy": pull_policy(spec.image.as_ref()),
            "args": ["allocator"],
            "env": environment(spec, facts).into_value(),
            "ports": [
                { "name": "grpc", "protocol": "TCP", "containerPort": ALLOCATOR_PORT },
                { "name": "http", "protocol": "TCP", "containerPort": HTTP_PORT },
            ],
            "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
            "volumeMounts": [mount("cluster", FOLDER)],
            "securityContext": container_security(),
            "readinessProbe": probe("/readyz", "HTTP", 1, 2),
            "livenessProbe": probe("/livez", "HTTP", 10, 6),
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }],
    })
}

fn environment(spec: &VideoConferenceSpec, facts: &Facts) -> Environment {
    let mut env = Environment::new();
    env.set("http.bind", format!("[::]:{HTTP_PORT}")).set("http.plain", true);
    env.set("cluster.listen", format!("[::]:{ALLOCATOR_PORT}")).identity(FOLDER);
    match &spec.redis.url_secret_ref {
        Some(own) => env.secret("cluster.redis", &own.name, &own.key),
        None => {
            env.secret("cluster.redis", &facts.names.redis(), "url").set("cluster.redis_ca", format!("{FOLDER}/ca.crt"))
        }
    };
    // Installations that share a Redis do not meet in it.
    env.set("cluster.redis_prefix", format!("{}-{}", facts.names.namespace, facts.names.name));
    env.set("log.level", &spec.observability.log_level).set("log.format", "json");
    env.set_if("otlp.endpoint", spec.observability.otlp_endpoint.as_deref());
    env
}
