//! What is wrong is told, as a condition and as an Event, with what to do; and is not told any more when it is mended.

use k8s_openapi::api::core::v1::{Event, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use ratssaal_crds::VideoConference;
use ratssaal_operator::pki::{self, Subject};
use serde_json::json;
use time::{Duration, OffsetDateTime};

use crate::cluster::{Cluster, eventually};
use crate::life::is_ready;
use crate::world::{Running, World, free_port};

const NAME: &str = "konferenz";
/// The host name of installations here.
const HOST: &str = "localhost.localdomain";

/// Has the operator look once more: what is not watched is looked at after a while only.
pub async fn touch(world: &World, name: &str) {
    let now = Timestamp::now().to_string();
    let patch = Patch::Merge(json!({ "metadata": { "annotations": { "touched": now } } }));
    world.api::<VideoConference>().patch(name, &PatchParams::default(), &patch).await.unwrap();
}

/// Waits until a condition has this reason and a warning about the installation the same words; the words.
pub async fn told(world: &World, name: &str, condition: &str, reason: &str) -> String {
    let what = format!("{condition} of {name} is {reason}");
    eventually(&what, 30, async || world.condition(name, condition).await.1 == reason).await;
    let (status, _, message) = world.condition(name, condition).await;
    assert_eq!(status, if condition == "Ready" { "False" } else { "True" }, "{message}");
    let mut note = String::new();
    eventually(&format!("an Event says {reason}"), 20, async || {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
        let found = events.iter().find(|event| {
            event.reason.as_deref() == Some(reason)
                && event.type_.as_deref() == Some("Warning")
                && event.involved_object.name.as_deref() == Some(name)
        });
        note = found.and_then(|event| event.message.clone()).unwrap_or_default();
        found.is_some()
    })
    .await;
    assert!(message.contains(&note) && note.len() > 40, "the same words: {message:?}, {note:?}");
    note
}

/// Waits until nothing of this is told any more.
async fn mended(world: &World, name: &str, reason: &str) {
    eventually(&format!("{reason} is mended"), 30, async || {
        touch(world, name).await;
        world.condition(name, "Degraded").await.1 != reason && world.condition(name, "Ready").await.1 != reason
    })
    .await;
}

async fn start(cluster: &Cluster, case: &str) -> (World, Running, u16) {
    let (client, namespace) = cluster.prepare(case).await;
    let world = World::new(client.clone(), namespace.clone());
    world.add_node(1).await;
    let port = free_port();
    let operator = Running::start(client, &namespace, "one", port);
    (world, operator, port)
}

pub async fn a_host_name_that_nobody_knows(cluster: Cluster) {
    let (mut world, operator, port) = start(&cluster, "host").await;
    // RFC 6761: never anybody's.
    world.install(NAME, |spec| spec["hostname"] = json!("konferenz.invalid")).await;
    world.start_allocator(NAME, port).await;
    let note = told(&world, NAME, "Degraded", "HostnameNotResolvable").await;
    assert!(note.contains("konferenz.invalid") && note.contains("spec.hostname"), "{note}");
    // It may be known where people are: they can meet.
    is_ready(&world, 1).await;
    // Another name is looked up at once. (This one needs no DNS; an Ingress does not take it, which is told instead.)
    world.change(NAME, json!({ "hostname": "1.0.0.127" })).await;
    eventually("nothing is said of DNS any more", 20, async || {
        !world.condition(NAME, "Degraded").await.2.contains("not known in DNS")
    })
    .await;
    operator.kill().await;
    world.remove_nodes().await;
}

/// A certificate for this host, made so many days ago (it is good for 180), with its key.
async fn certificate(world: &World, host: &str, days: i64) {
    let made = OffsetDateTime::now_utc() - Duration::days(days);
    let authority = pki::new_authority("test", made).unwrap();
    let pair = pki::issue(&authority, "test", &Subject { role: "bridge", hosts: vec![host.into()] }, made).unwrap();
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "t" }, "type": "kubernetes.io/tls",
        "stringData": { "tls.crt": pair.certificate, "tls.key": pair.key },
    });
    let params = PatchParams::apply("test").force();
    world.api::<Secret>().patch("t", &params, &Patch::Apply(secret)).await.unwrap();
    touch(world, NAME).await;
}

pub async fn secrets_that_are_missing_and_certificates_that_are_wrong(cluster: Cluster) {
    let (world, operator, _) = start(&cluster, "secrets").await;
    world.install(NAME, |spec| spec["tls"] = json!({ "secretName": "t" })).await;
    let note = told(&world, NAME, "Ready", "CertificateMissing").await;
    assert!(note.contains("kubectl create secret tls t "), "{note}");
    for (host, days, reason, words) in [
        (HOST, 181, "CertificateExpired", "put a new one there"),
        ("konferenz.nachbar.example", 0, "CertificateForOtherName", "konferenz.nachbar.example, not for localhost"),
    ] {
        certificate(&world, host, days).await;
        let note = told(&world, NAME, "Ready", reason).await;
        assert!(note.contains(words) && note.contains("Secret t "), "{note}");
    }
    certificate(&world, HOST, 170).await;
    let note = told(&world, NAME, "Degraded", "CertificateExpiresSoon").await;
    assert!(note.contains("expires in 9 days") || note.contains("expires in 10 days"), "{note}");
    certificate(&world, HOST, 0).await;
    mended(&world, NAME, "CertificateExpiresSoon").await;

    world.change(NAME, json!({ "access": { "apiKeysSecretRef": { "name": "k" } } })).await;
    let note = told(&world, NAME, "Ready", "ApiKeysUnusable").await;
    assert!(note.contains("Secret k of spec.access.apiKeysSecretRef is missing"), "{note}");
    world.change(NAME, json!({ "access": { "apiKeysSecretRef": null } })).await;
    mended(&world, NAME, "ApiKeysUnusable").await;

    world.api::<VideoConference>().delete(NAME, &DeleteParams::default()).await.unwrap();
    let own = json!({ "urlSecretRef": { "name": "r", "key": "url" } });
    world.install("eigenes-redis", |spec| spec["redis"] = own).await;
    let note = told(&world, "eigenes-redis", "Ready", "RedisAddressMissing").await;
    assert!(note.contains("Secret r of spec.redis.urlSecretRef is missing"), "{note}");
    operator.kill().await;
    world.remove_nodes().await;
}

pub async fn ports_that_another_installation_has(cluster: Cluster) {
    let (mut world, operator, port) = start(&cluster, "ports").await;
    world.install(NAME, |_| {}).await;
    world.start_allocator(NAME, port).await;
    is_ready(&world, 1).await;
    // Ages are in whole seconds.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    world.install("nachbar", |spec| spec["media"] = json!({ "port": 10002 })).await;
    let note = told(&world, "nachbar", "Ready", "PortTaken").await;
    assert!(note.contains(&world.node_name(1)) && note.contains(&format!("{}/{NAME}", world.namespace)), "{note}");
    assert_eq!(world.pods().await.len(), 1, "it starts no bridge");
    assert_eq!(world.condition(NAME, "Ready").await.0, "True", "the older one keeps what it has");
    // The advice helps.
    let advice = note.split("set spec.media.port to ").nth(1).and_then(|port| port.parse::<u16>().ok());
    assert_eq!(advice, Some(10004), "{note}");
    world.change("nachbar", json!({ "media": { "port": advice } })).await;
    mended(&world, "nachbar", "PortTaken").await;
    eventually("it has a bridge", 30, async || world.pods().await.len() == 2).await;
    operator.kill().await;
    world.remove_nodes().await;
}

pub async fn an_image_that_cannot_be_pulled(cluster: Cluster) {
    let (mut world, operator, port) = start(&cluster, "image").await;
    let missing = "registry.example/ratssaal:missing";
    world.broken.lock().unwrap().push(missing.to_owned());
    world.install(NAME, |spec| spec["image"] = json!({ "tag": "missing" })).await;
    world.start_allocator(NAME, port).await;
    let note = told(&world, NAME, "Degraded", "ImageUnavailable").await;
    let bridge = kube::ResourceExt::name_any(&world.pods().await[0]);
    assert!(note.contains(&bridge) && note.contains("spec.image.pullSecrets"), "{note}");
    world.change(NAME, json!({ "image": { "tag": "1" } })).await;
    is_ready(&world, 1).await;
    mended(&world, NAME, "ImageUnavailable").await;
    let pods = world.api::<k8s_openapi::api::core::v1::Pod>().list(&ListParams::default()).await.unwrap();
    let images = pods.iter().filter(|pod| kube::ResourceExt::name_any(*pod) == bridge).count();
    assert_eq!(images, 0, "the one that never ran is gone");
    operator.kill().await;
    world.remove_nodes().await;
}
