//! The managed Redis: one Pod, with TLS and a password, reachable by the allocators only.

use ratssaal_crds::v1alpha1::{ManagedRedis, VideoConferenceSpec};
use serde_json::{Value, json};

use super::common::{container_security, labels, mount, object, pod_security, secret_volume, selector, tolerations};
use super::{Facts, Object, REDIS_PORT};
use crate::kind::Kind;

const PART: &str = "redis";
/// The user `redis` of the usual images.
const USER: i64 = 999;
/// Where its certificate is.
pub(super) const TLS_FOLDER: &str = "/etc/redis-tls";

pub(super) fn objects(spec: &VideoConferenceSpec, facts: &Facts) -> Vec<Object> {
    let Some(managed) = &spec.redis.managed else { return Vec::new() };
    let name = facts.names.redis();
    let mut set = object(facts, Kind::StatefulSet, &name, PART);
    let claims = match &managed.storage {
        Some(storage) => {
            let mut claim = json!({
                "metadata": { "name": "data" },
                "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": storage } } },
            });
            if let Some(class) = &managed.storage_class_name {
                claim["spec"]["storageClassName"] = json!(class);
            }
            vec![claim]
        }
        None => Vec::new(),
    };
    set.body["spec"] = json!({
        "replicas": 1,
        "serviceName": name,
        "selector": { "matchLabels": selector(facts, PART) },
        "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Delete", "whenScaled": "Retain" },
        "template": {
            "metadata": {
                "labels": labels(facts, PART),
                "annotations": {
                    "ratssaal.io/authority": facts.redis_authority, "ratssaal.io/password": facts.redis_password,
                },
            },
            "spec": pod(managed, facts),
        },
    });
    if !claims.is_empty() {
        set.body["spec"]["volumeClaimTemplates"] = Value::Array(claims);
    }
    let mut service = object(facts, Kind::Service, &name, PART);
    service.body["spec"] = json!({
        "clusterIP": "None",
        "selector": selector(facts, PART),
        "ports": [{ "name": "redis", "protocol": "TCP", "port": REDIS_PORT, "targetPort": "redis" }],
    });
    vec![set, service]
}

fn pod(managed: &ManagedRedis, facts: &Facts) -> Value {
    let mut volumes = vec![
        secret_volume("tls", &facts.names.certificate(PART)),
        json!({ "name": "config", "secret": {
            "secretName": facts.names.redis(), "defaultMode": 0o440, "items": [{ "key": "redis.conf", "path": "redis.conf" }],
        } }),
    ];
    if managed.storage.is_none() {
        volumes.push(json!({ "name": "data", "emptyDir": {} }));
    }
    let probe =
        |period: u32| json!({ "tcpSocket": { "port": "redis" }, "periodSeconds": period, "failureThreshold": 6 });
    json!({
        "serviceAccountName": facts.names.redis(),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "securityContext": pod_security(USER),
        "terminationGracePeriodSeconds": 30,
        "tolerations": tolerations(),
        "volumes": volumes,
        "containers": [{
            "name": "redis",
            "image": managed.image,
            "command": ["redis-server", "/etc/redis/redis.conf"],
            "ports": [{ "name": "redis", "protocol": "TCP", "containerPort": REDIS_PORT }],
            "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
            "volumeMounts": [mount("tls", TLS_FOLDER), mount("config", "/etc/redis"), { "name": "data", "mountPath": "/data" }],
            "securityContext": container_security(),
            "readinessProbe": probe(1),
            "livenessProbe": probe(10),
        }],
    })
}
