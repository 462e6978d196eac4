//! Golden files: every object as it is applied, for installations that show all branches. `UPDATE=1 cargo test`
//! writes them anew.

use ratssaal_crds::v1alpha1::{MediaExposure, VideoConferenceSpec};
use serde_json::{Value, json};

use super::*;
use crate::authority::Authority;
use crate::pki::Pair;
use crate::plan::Slot;

fn spec(value: Value) -> VideoConferenceSpec {
    serde_json::from_value(value).unwrap()
}

fn facts() -> Facts {
    Facts {
        names: Names { name: "konferenz".into(), namespace: "kreis".into() },
        uid: "11111111-2222-3333-4444-555555555555".into(),
        image: "registry.example/ratssaal:1.2.3".into(),
        keys: "keys-tag".into(),
        redis_authority: "redis-tag".into(),
        redis_password: "password-tag".into(),
        features: Features { pod_monitor: true, http_route: true, certificate: true },
    }
}

fn place(slot: Slot, node: Option<&str>) -> BridgePlace {
    BridgePlace {
        name: "konferenz-default-x7k2p".into(),
        node: node.map(str::to_owned),
        slot,
        addresses: Vec::new(),
        revision: "revision".into(),
    }
}

fn least() -> VideoConferenceSpec {
    spec(json!({"hostname": "konferenz.kreis.example"}))
}

fn everything() -> VideoConferenceSpec {
    spec(json!({
        "hostname": "konferenz.kreis.example",
        "image": {"tag": "1.3.0", "pullPolicy": "Never", "pullSecrets": [{"name": "registry"}]},
        "tls": {"secretName": "konferenz-tls"},
        "exposure": {"service": {"type": "NodePort", "nodePort": 30443, "annotations": {"a.example/b": "c"}}},
        "sites": [{
            "name": "halle", "nodeSelector": {"ratssaal.io/site": "halle"},
            "tolerations": [{"key": "media", "operator": "Exists", "effect": "NoSchedule"}],
            "bridges": {"min": 1, "max": 6, "bufferParticipants": 60, "seats": 300,
                "resources": {"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}}},
        }],
        "media": {"exposure": "HostNetwork", "port": 20000, "workers": 3, "addresses": ["203.0.113.7"]},
        "rooms": {"maxParticipants": 50, "autoCreate": false},
        "drain": {"deadlineSeconds": 600, "batchSize": 5},
        "redis": {"managed": {"storage": "1Gi", "storageClassName": "fast", "image": "registry.example/redis:7"}},
        "access": {"apiKeysSecretRef": {"name": "our-keys"}},
        "brand": {"name": "Konferenz $(HOME)", "imprint": "https://kreis.example/impressum", "accent": "#00589c"},
        "observability": {"otlpEndpoint": "http://collector:4317", "logLevel": "debug"},
    }))
}

fn elsewhere() -> VideoConferenceSpec {
    spec(json!({
        "hostname": "konferenz.kreis.example",
        "tls": {"issuerRef": {"name": "letsencrypt", "kind": "ClusterIssuer"}},
        "exposure": {"ingress": {"className": "nginx", "annotations": {"a.example/b": "c"}}},
        "redis": {"urlSecretRef": {"name": "redis", "key": "url"}},
        "observability": {"podMonitor": false},
    }))
}

fn gateway() -> VideoConferenceSpec {
    spec(json!({
        "hostname": "konferenz.kreis.example",
        "exposure": {"gateway": {"parentRefs": [{"name": "g", "namespace": "infra", "sectionName": "https"}]}},
        "media": {"exposure": "LoadBalancer"},
    }))
}

fn yaml(objects: &[Object]) -> String {
    objects.iter().map(|object| format!("---\n{}", serde_saphyr::to_string(&object.body).unwrap())).collect()
}

/// Compares with a file in `tests/golden`.
fn golden(name: &str, objects: &[Object]) {
    let file = format!("{}/tests/golden/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = yaml(objects);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        kept == text,
        "{file} is not what is built; UPDATE=1 cargo test -p ratssaal-operator writes it anew:\n{text}"
    );
}

#[test]
fn objects_of_the_least_installation() {
    golden("least", &objects(&least(), &facts()));
}

#[test]
fn objects_with_everything_set() {
    golden("everything", &objects(&everything(), &facts()));
}

#[test]
fn objects_with_ingress_cert_manager_and_own_redis() {
    golden("elsewhere", &objects(&elsewhere(), &facts()));
}

#[test]
fn objects_at_a_gateway() {
    golden("gateway", &objects(&gateway(), &facts()));
}

#[test]
fn bridges() {
    let (least, everything, gateway) = (least(), everything(), gateway());
    let site = |spec: &VideoConferenceSpec| spec.sites().remove(0);
    golden("bridge_per_node", &[pod(&least, &facts(), &site(&least), &place(Slot::A, Some("node-1")))]);
    golden("bridge_with_everything", &[pod(&everything, &facts(), &site(&everything), &place(Slot::B, None))]);
    let mut balanced = place(Slot::A, None);
    balanced.addresses = vec!["198.51.100.9".into()];
    let objects = [
        load_balancer(&gateway, &facts(), &balanced.name, "default", Slot::A),
        pod(&gateway, &facts(), &site(&gateway), &balanced),
    ];
    golden("bridge_behind_load_balancer", &objects);
}

#[test]
fn secrets() {
    let pair = Pair { certificate: "CERTIFICATE".into(), key: "KEY".into() };
    let random = Credentials([7; 32]);
    let mut objects = vec![authority(&facts(), &Authority::settled(pair.clone()))];
    objects.extend(leaves(&least(), &facts().names).iter().map(|subject| leaf(&facts(), subject, &pair, "AUTHORITY")));
    objects.push(redis_credentials(&facts(), &random));
    objects.push(api_keys(&facts(), &random));
    golden("secrets", &objects);
}

#[test]
fn images() {
    let image_of = |image: Value, own: &str| super::image(&spec(json!({"hostname": "a.example", "image": image})), own);
    for (given, own, expected) in [
        (json!({}), "r.example:5000/x:1", "r.example:5000/x:1"),
        (json!({"tag": "2"}), "r.example:5000/x:1", "r.example:5000/x:2"),
        (json!({"tag": "2"}), "r.example:5000/x", "r.example:5000/x:2"),
        (json!({"repository": "y"}), "x:1", "y:1"),
        (json!({"repository": "y"}), "x@sha256:ab", "y@sha256:ab"),
        (json!({"digest": "sha256:cd"}), "x:1", "x@sha256:cd"),
    ] {
        assert_eq!(image_of(given, own), expected);
    }
    assert_eq!(image(&least(), "x:1"), "x:1");
}

#[test]
fn the_revision_changes_with_what_concerns_a_running_bridge_only() {
    let revision = |change: &dyn Fn(&mut VideoConferenceSpec)| {
        let mut spec = least();
        change(&mut spec);
        pod_revision(&spec, &facts(), &spec.sites()[0])
    };
    let plain = revision(&|_| {});
    assert_eq!(plain, revision(&|spec| spec.paused = true));
    assert_eq!(plain, revision(&|spec| spec.redis.managed = Some(Default::default())));
    assert_ne!(plain, revision(&|spec| spec.media.port = 11000));
    assert_ne!(plain, revision(&|spec| spec.media.exposure = MediaExposure::PodIP));
    assert_ne!(plain, revision(&|spec| spec.hostname = "b.example".into()));
    assert_ne!(plain, revision(&|spec| spec.drain.deadline_seconds = 60));
    let mut newer = facts();
    newer.image = "registry.example/ratssaal:1.2.4".into();
    assert_ne!(plain, pod_revision(&least(), &newer, &least().sites()[0]));
}

#[test]
fn no_object_is_named_longer_than_kubernetes_takes() {
    let mut facts = facts();
    facts.names.name = "a".repeat(30);
    for spec in [least(), everything(), elsewhere(), gateway()] {
        for object in objects(&spec, &facts) {
            assert!(object.name.len() <= 52, "{}", object.name);
        }
    }
}
