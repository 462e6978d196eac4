//! Operators in trouble: killed in the middle of every step, and an API server that refuses everything for a while.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Api, DynamicObject, ListParams};
use ratssaal_operator::Kind;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::cluster::{Cluster, Fate, eventually, is_write};
use crate::life::{is_ready, is_ready_within, up_with};
use crate::world::{Running, World, free_port};

const NAME: &str = "konferenz";

/// Every field of a value, by its path.
fn fields(path: &str, value: &Value, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(inner) => inner.iter().for_each(|(name, value)| {
            // The name of an API key is random.
            let name = if name.starts_with("API") { "API" } else { name };
            fields(&format!("{path}.{name}"), value, all);
        }),
        Value::Array(inner) => {
            inner.iter().enumerate().for_each(|(at, value)| fields(&format!("{path}[{at}]"), value, all));
        }
        _ => _ = all.insert(path.to_owned()),
    }
}

/// All that belongs to an installation: kinds, names and fields, without what is random or Kubernetes' own.
async fn shape(world: &World) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for kind in Kind::APPLIED.into_iter().chain([Kind::Pod]) {
        let objects: Api<DynamicObject> =
            Api::namespaced_with(world.client.clone(), &world.namespace, &kind.resource());
        let ours = ListParams::default().labels("app.kubernetes.io/managed-by=ratssaal-operator");
        let is_ours =
            |object: &DynamicObject| kind != Kind::Pod || object.labels()["app.kubernetes.io/component"] == "bridge";
        for object in objects.list(&ours).await.unwrap().into_iter().filter(is_ours) {
            let node = object.data["spec"]["nodeName"].as_str().map(|node| node.replace(&world.namespace, "case"));
            let pod = node.map(|node| format!("on {node}"));
            let name = if kind == Kind::Pod { pod.unwrap_or_default() } else { object.name_any() };
            let path = format!("{} {name}", kind.name());
            fields(&format!("{path}: labels"), &json!(object.labels()), &mut all);
            for part in ["spec", "data"] {
                fields(&format!("{path}: {part}"), &object.data[part], &mut all);
            }
            all.insert(path);
        }
    }
    all
}

async fn authority(world: &World) -> Option<Value> {
    let secrets: Api<DynamicObject> =
        Api::namespaced_with(world.client.clone(), &world.namespace, &Kind::Secret.resource());
    secrets.get_opt(&format!("{NAME}-ca")).await.unwrap().map(|secret| secret.data["data"].clone())
}

/// Two nodes and an installation, without an operator yet.
async fn wanted(cluster: &Cluster, case: &str) -> World {
    let (client, namespace) = cluster.prepare(case).await;
    let world = World::new(client, namespace);
    world.add_node(1).await;
    world.add_node(2).await;
    world.install(NAME, |_| {}).await;
    world
}

/// Each of its writes is carried out, and the operator is killed before it hears of it; another one begins. So every state that
/// a first look goes through is one that an operator begins in.
pub async fn an_operator_killed_after_each_of_its_writes_gets_there(cluster: Cluster) {
    let mut reference = wanted(&cluster, "unharmed").await;
    let port = free_port();
    let unharmed = Running::start(reference.client.clone(), &reference.namespace, "one", port);
    reference.start_allocator(NAME, port).await;
    is_ready(&reference, 2).await;
    let mut world = wanted(&cluster, "steps").await;
    let port = free_port();
    let (mut kills, mut first_authority) = (0, None);
    loop {
        let (client, asked) = cluster.recording(None).await;
        let mut written = false;
        asked.decide(move |right| {
            if written {
                return Fate::Lost;
            }
            // Events are no state: an operator that begins anew tells everything anew, before it writes the status.
            written = is_write(right) && !right.ends_with("/events");
            if written { Fate::Unheard } else { Fate::Answered }
        });
        let operator = Running::start(client, &world.namespace, "one", port);
        let carried_out = timeout(Duration::from_secs(30), asked.unheard()).await;
        operator.kill().await;
        carried_out.expect("the next operator goes on where the last one was killed");
        kills += 1;
        if first_authority.is_none() {
            first_authority = authority(&world).await;
        }
        // The status is what is written last.
        if world.pods().await.len() == 2 && !world.condition(NAME, "Ready").await.0.is_empty() {
            break;
        }
        assert!(kills < 100, "it goes round in circles");
    }
    let operator = Running::start(world.client.clone(), &world.namespace, "one", port);
    world.start_allocator(NAME, port).await;
    is_ready(&world, 2).await;
    let until = Instant::now() + Duration::from_secs(30);
    let expected = loop {
        let (there, expected) = (shape(&world).await, shape(&reference).await);
        let difference: Vec<&String> = there.symmetric_difference(&expected).collect();
        if difference.is_empty() {
            break expected;
        }
        assert!(Instant::now() < until, "not the same objects as without harm: {difference:#?}");
        sleep(Duration::from_millis(200)).await;
    };
    let objects = expected.iter().filter(|path| !path.contains(':')).count();
    assert!(objects >= 20 && kills >= objects, "{kills} kills for {objects} objects: {expected:#?}");
    assert!(
        first_authority.is_some() && authority(&world).await == first_authority,
        "one authority from the beginning"
    );
    unharmed.kill().await;
    operator.kill().await;
    world.remove_nodes().await;
    reference.remove_nodes().await;
}

/// Everything is refused for half a minute, in the three ways of an API server in need, the Lease's renewal too.
pub async fn half_a_minute_of_api_errors_harms_nobody(cluster: Cluster) {
    let (client, asked) = cluster.recording(None).await;
    let (world, operator) = up_with(&cluster, "errors", client).await;
    let names = async || world.pods().await.iter().map(kube::ResourceExt::name_any).collect::<BTreeSet<_>>();
    let before = names().await;
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    asked.decide(move |_| Fate::Refused([500, 429, 409][count.fetch_add(1, Ordering::Relaxed) % 3]));
    // There is work to do meanwhile.
    world.add_node(3).await;
    world.change(NAME, json!({ "image": { "tag": "2" } })).await;
    sleep(Duration::from_secs(30)).await;
    assert!(refused.load(Ordering::Relaxed) >= 10, "{} refusals", refused.load(Ordering::Relaxed));
    assert_eq!(names().await, before, "nothing happens meanwhile");
    asked.decide(|_| Fate::Answered);
    is_ready_within(&world, 3, 180).await;
    eventually("all bridges have the new image", 120, async || {
        let names = names().await;
        names.len() == 3 && names.is_disjoint(&before)
    })
    .await;
    is_ready(&world, 3).await;
    assert!(operator.figure("operator_leader") > 0.5);
    operator.kill().await;
    world.remove_nodes().await;
}
