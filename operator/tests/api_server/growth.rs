//! Bridges come where they are wanted: on nodes that get a label, by free seats, by `kubectl scale`.

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use ratssaal_crds::VideoConference;
use serde_json::json;

use crate::cluster::{Cluster, eventually};
use crate::life::{bridge_on, is_ready, people};
use crate::told::told;
use crate::world::{Running, World, free_port};

const NAME: &str = "konferenz";

pub async fn a_node_that_gets_the_label_has_a_bridge(cluster: Cluster) {
    let (client, namespace) = cluster.prepare("label").await;
    let mut world = World::new(client.clone(), namespace.clone());
    world.add_node(1).await;
    let label = format!("{namespace}/site");
    world.install(NAME, |spec| spec["sites"] = json!([{ "name": "a", "nodeSelector": { &label: "a" } }])).await;
    let port = free_port();
    let operator = Running::start(client.clone(), &namespace, "one", port);
    world.start_allocator(NAME, port).await;
    // What to do is said, and it is what helps.
    let said = told(&world, NAME, "Degraded", "NoNode").await;
    let command = format!("kubectl label node NAME {label}=a");
    assert!(said.contains(&command), "{said}");
    assert!(world.pods().await.is_empty());
    let command = command.replace("NAME", &world.node_name(1));
    cluster.kubectl(&command.split(' ').skip(1).collect::<Vec<_>>());
    is_ready(&world, 1).await;
    assert!(!bridge_on(&world, 1).await.is_empty());
    eventually("nothing is wrong any more", 20, async || world.condition(NAME, "Degraded").await.1 != "NoNode").await;
    // Without the label it leaves again.
    let nodes: Api<Node> = Api::all(client);
    let patch = Patch::Merge(json!({ "metadata": { "labels": { &label: null } } }));
    nodes.patch(&world.node_name(1), &PatchParams::default(), &patch).await.unwrap();
    eventually("the bridge has left", 30, async || world.pods().await.is_empty()).await;
    operator.kill().await;
    world.remove_nodes().await;
}

pub async fn seats_are_kept_free_between_the_least_and_the_most_bridges_and_kubectl_scales(cluster: Cluster) {
    let (client, namespace) = cluster.prepare("seats").await;
    let mut world = World::new(client.clone(), namespace.clone());
    for node in 1..=4 {
        world.add_node(node).await;
    }
    // The simulated bridges have a hundred seats each.
    let bridges = json!({ "min": 1, "max": 4, "bufferParticipants": 20 });
    let selector = world.selector();
    world
        .install(NAME, |spec| spec["sites"] = json!([{ "name": "a", "nodeSelector": selector, "bridges": bridges }]))
        .await;
    let port = free_port();
    let operator = Running::start(client.clone(), &namespace, "one", port);
    world.start_allocator(NAME, port).await;
    is_ready(&world, 1).await;
    let looks = async |number: f64| {
        let seen = operator.figure("operator_reconcile_seconds_count");
        let mut touched = 0;
        eventually("it looks again and again", 60, async || {
            touched += 1;
            let patch = Patch::Merge(json!({ "metadata": { "annotations": { "touched": touched.to_string() } } }));
            world.api::<VideoConference>().patch(NAME, &PatchParams::default(), &patch).await.unwrap();
            operator.figure("operator_reconcile_seconds_count") >= seen + number
        })
        .await;
    };
    looks(3.0).await;
    assert_eq!(world.pods().await.len(), 1, "one has room for the buffer");

    // Ninety people: ten seats are free, twenty are wanted.
    let everybody = |number: u32| {
        let names: Vec<String> = world.bridges.lock().unwrap().keys().cloned().collect();
        names.iter().for_each(|bridge| people(&world, bridge, number, false));
    };
    everybody(90);
    is_ready(&world, 2).await;

    // A large event: the least number for a while.
    let scale = |number: u32| {
        let replicas = format!("--replicas={number}");
        cluster.kubectl(&["--namespace", &namespace, "scale", &format!("vconf/{NAME}"), &replicas])
    };
    scale(3);
    is_ready(&world, 3).await;
    let read = world.api::<VideoConference>().get_scale(NAME).await.unwrap();
    let status = read.status.unwrap();
    assert_eq!((read.spec.unwrap().replicas, status.replicas), (Some(3), 3));
    let selected = status.selector.unwrap_or_default();
    assert!(selected.contains("bridge"), "what an autoscaler would count: {selected:?}");

    // All full: one more, and then no more than the most, whatever is asked for.
    everybody(100);
    is_ready(&world, 4).await;
    everybody(100);
    scale(9);
    looks(3.0).await;
    assert_eq!(world.pods().await.len(), 4, "never more than the most");
    operator.kill().await;
    world.remove_nodes().await;
}
