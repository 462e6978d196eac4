//! An installation's life: it comes up, grows, is maintained and upgraded, is meddled with, and goes.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Event, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DeleteParams, EvictParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use ratssaal_crds::VideoConference;
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::cluster::{Cluster, eventually};
use crate::world::{Running, World, free_port};

const NAME: &str = "konferenz";

/// Two nodes with a bridge each, and everybody is there.
pub async fn up(cluster: &Cluster, case: &str) -> (World, Running) {
    up_with(cluster, case, cluster.admin().await).await
}

/// The same with an operator that uses this client.
pub async fn up_with(cluster: &Cluster, case: &str, operators: Client) -> (World, Running) {
    let (client, namespace) = cluster.prepare(case).await;
    let mut world = World::new(client, namespace.clone());
    world.add_node(1).await;
    world.add_node(2).await;
    world.install(NAME, |_| {}).await;
    let port = free_port();
    let operator = Running::start(operators, &namespace, "one", port);
    world.start_allocator(NAME, port).await;
    is_ready(&world, 2).await;
    (world, operator)
}

pub async fn is_ready(world: &World, bridges: u32) {
    is_ready_within(world, bridges, 60).await;
}

pub async fn is_ready_within(world: &World, bridges: u32, seconds: u64) {
    let objects: Api<VideoConference> = world.api();
    let what = format!("{bridges} bridges take participants");
    eventually(&what, seconds, async || {
        let object = objects.get(NAME).await.unwrap();
        object.status.unwrap_or_default().replicas == Some(bridges) && world.condition(NAME, "Ready").await.0 == "True"
    })
    .await;
}

/// The bridge on a node, by its Pod's name.
pub async fn bridge_on(world: &World, number: u32) -> String {
    let node = world.node_name(number);
    let pods = world.pods().await;
    let on = |pod: &&k8s_openapi::api::core::v1::Pod| pod.spec.as_ref().unwrap().node_name.as_deref() == Some(&*node);
    pods.iter().find(on).map(kube::ResourceExt::name_any).unwrap_or_default()
}

pub fn people(world: &World, bridge: &str, people: u32, stuck: bool) {
    let mut bridges = world.bridges.lock().unwrap();
    let bridge = bridges.get_mut(bridge).unwrap();
    (bridge.people, bridge.stuck) = (people, stuck);
}

pub async fn an_installation_comes_up_grows_drains_is_upgraded_and_goes(cluster: Cluster) {
    let (world, operator) = up(&cluster, "life").await;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = world.api();

    // A machine joins: nothing else is to be done.
    world.add_node(3).await;
    is_ready(&world, 3).await;

    // Maintenance: evictions are refused while people are there; then the bridge is gone.
    let first = bridge_on(&world, 1).await;
    people(&world, &first, 6, true);
    eventually("the people are seen", 30, async || {
        let object = world.api::<VideoConference>().get(NAME).await.unwrap();
        object.status.unwrap_or_default().participants == Some(6)
    })
    .await;
    world.cordon(1, true).await;
    eventually("the drain begins", 20, async || world.condition(NAME, "Progressing").await.0 == "True").await;
    eventually("the order arrives", 20, async || world.bridges.lock().unwrap()[&first].draining).await;
    // The client tries again and again, as kubectl drain does.
    if let Ok(answer) = timeout(Duration::from_secs(5), pods.evict(&first, &EvictParams::default())).await {
        let refused = answer.unwrap_err().to_string();
        assert!(refused.contains("disruption budget"), "{refused}");
    }
    assert_eq!(bridge_on(&world, 1).await, first, "with people on it, it stays");
    people(&world, &first, 6, false);
    eventually("the drained bridge is gone", 30, async || bridge_on(&world, 1).await.is_empty()).await;
    world.cordon(1, false).await;
    is_ready(&world, 3).await;

    // An upgrade: one by one, beside the old ones, people first.
    let old: Vec<String> = world.pods().await.iter().map(kube::ResourceExt::name_any).collect();
    old.iter().for_each(|bridge| people(&world, bridge, 4, false));
    world.change(NAME, json!({ "image": { "tag": "2" } })).await;
    let mut most = 0;
    eventually("all bridges are new", 120, async || {
        let pods = world.pods().await;
        let new = pods.iter().filter(|pod| !old.contains(&pod.name_any())).count();
        let serving = { world.bridges.lock().unwrap().values().filter(|bridge| !bridge.draining).count() };
        assert!(serving >= 2, "never more than one leaves at a time");
        most = most.max(pods.len());
        new == 3 && pods.len() == 3
    })
    .await;
    assert!(most == 4, "one more at a time, not {most}");
    is_ready(&world, 3).await;
    let images = world.pods().await;
    assert!(images.iter().all(|pod| pod.spec.as_ref().unwrap().containers[0].image.as_deref() == Some("registry.example/ratssaal:2")));

    // It goes, and all that belongs to it.
    world.api::<VideoConference>().delete(NAME, &DeleteParams::default()).await.unwrap();
    eventually("nothing is left", 90, async || {
        let all = ListParams::default().labels("app.kubernetes.io/managed-by=ratssaal-operator");
        world.api::<Deployment>().list(&all).await.unwrap().items.is_empty()
            && world.api::<StatefulSet>().list(&all).await.unwrap().items.is_empty()
            && world.api::<Secret>().list(&all).await.unwrap().items.is_empty()
            && world.api::<Service>().list(&all).await.unwrap().items.is_empty()
            && world.api::<Ingress>().list(&all).await.unwrap().items.is_empty()
            && world.api::<NetworkPolicy>().list(&all).await.unwrap().items.is_empty()
            && world.api::<PodDisruptionBudget>().list(&all).await.unwrap().items.is_empty()
            && world.api::<ServiceAccount>().list(&all).await.unwrap().items.is_empty()
            && world.pods().await.is_empty()
    })
    .await;
    operator.kill().await;
    world.remove_nodes().await;
}

pub async fn in_steady_state_nothing_is_written(cluster: Cluster) {
    let (client, asked) = cluster.recording(None).await;
    let (world, operator) = up_with(&cluster, "steady", client).await;
    eventually("it settles", 60, async || world.condition(NAME, "Progressing").await.0 == "False").await;
    // Until the last status has come back to the operator.
    let looks = || operator.figure("operator_reconcile_seconds_count");
    let touch = async |number: usize| {
        let seen = looks();
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { "touched": number.to_string() } } }));
        world.api::<VideoConference>().patch(NAME, &PatchParams::default(), &patch).await.unwrap();
        eventually("it has looked", 20, async || looks() > seen).await;
    };
    let mut number = 0;
    eventually("a look writes nothing", 30, async || {
        let before = asked.writes();
        number += 1;
        touch(number).await;
        asked.writes() == before
    })
    .await;
    let object = world.api::<VideoConference>().get(NAME).await.unwrap();
    let before = asked.writes();
    assert!(
        before["patch apps/deployments"] >= 1 && before["create /pods"] >= 2,
        "it has written what there is: {before:?}"
    );
    for number in 100..120 {
        touch(number).await;
    }
    assert_eq!(asked.writes(), before, "writes in steady state");
    let after = world.api::<VideoConference>().get(NAME).await.unwrap();
    assert_eq!(object.status, after.status);
    // Neither does an operator that has just started.
    operator.kill().await;
    let (client, asked) = cluster.recording(None).await;
    let port = world.allocator.lock().unwrap().unwrap();
    let operator = Running::start(client, &world.namespace, "one", port);
    eventually("the new one has looked", 30, async || operator.figure("operator_reconcile_seconds_count") >= 3.0).await;
    is_ready(&world, 2).await;
    assert!(asked.writes().is_empty(), "an operator that starts mends nothing that is right: {:?}", asked.writes());
    assert_eq!(object.status, world.api::<VideoConference>().get(NAME).await.unwrap().status);
    operator.kill().await;
    world.remove_nodes().await;
}

pub async fn what_is_changed_or_deleted_by_hand_is_put_back(cluster: Cluster) {
    let (world, operator) = up(&cluster, "meddle").await;
    let deployments: Api<Deployment> = world.api();
    let name = format!("{NAME}-allocator");
    let params = PatchParams::default();
    // An edit, and one by another server-side apply that forces its way.
    deployments.patch(&name, &params, &Patch::Merge(json!({ "spec": { "replicas": 0 } }))).await.unwrap();
    eventually("two allocators again", 20, async || {
        deployments.get(&name).await.unwrap().spec.unwrap().replicas == Some(2)
    })
    .await;
    let apply = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name }, "spec": { "replicas": 7 } });
    deployments.patch(&name, &PatchParams::apply("somebody").force(), &Patch::Apply(apply)).await.unwrap();
    eventually("two allocators again", 20, async || {
        deployments.get(&name).await.unwrap().spec.unwrap().replicas == Some(2)
    })
    .await;
    // Deleted objects come back; what somebody added is his.
    let services: Api<Service> = world.api();
    services.patch(NAME, &params, &Patch::Merge(json!({ "metadata": { "labels": { "ours": "no" } } }))).await.unwrap();
    services.delete(&format!("{NAME}-bridges"), &DeleteParams::default()).await.unwrap();
    world.api::<PodDisruptionBudget>().delete(&format!("{NAME}-bridges"), &DeleteParams::default()).await.unwrap();
    let secrets: Api<Secret> = world.api();
    let certificate = format!("{NAME}-bridge-tls");
    let broken = json!({ "data": { "tls.crt": "YnJva2Vu" } });
    secrets.patch(&certificate, &params, &Patch::Merge(broken)).await.unwrap();
    let redis = format!("{NAME}-redis");
    let sets: Api<StatefulSet> = world.api();
    let generation = sets.get(&redis).await.unwrap().metadata.generation;
    secrets.delete(&format!("{redis}-tls"), &DeleteParams::default()).await.unwrap();
    eventually("all is back", 30, async || {
        let good = secrets.get(&certificate).await.unwrap().data.unwrap()["tls.crt"].0.starts_with(b"-----BEGIN");
        let service = services.get_opt(&format!("{NAME}-bridges")).await.unwrap();
        let budget = world.api::<PodDisruptionBudget>().get_opt(&format!("{NAME}-bridges")).await.unwrap();
        let renewed = secrets.get_opt(&format!("{redis}-tls")).await.unwrap().is_some();
        let service = service.is_some_and(|service| service.metadata.deletion_timestamp.is_none());
        good && renewed && service && budget.is_some()
    })
    .await;
    assert_eq!(sets.get(&redis).await.unwrap().metadata.generation, generation, "a new certificate restarts nobody");
    assert_eq!(services.get(NAME).await.unwrap().labels()["ours"], "no");
    // A Pod deleted by hand is a crash: another one comes at once.
    let first = bridge_on(&world, 1).await;
    world.api::<k8s_openapi::api::core::v1::Pod>().delete(&first, &DeleteParams::default()).await.unwrap();
    eventually("another bridge is there", 30, async || {
        let now = bridge_on(&world, 1).await;
        !now.is_empty() && now != first
    })
    .await;
    is_ready(&world, 2).await;
    operator.kill().await;
    world.remove_nodes().await;
}

pub async fn a_foreign_object_is_left_alone_and_told(cluster: Cluster) {
    let (client, namespace) = cluster.prepare("foreign").await;
    let world = World::new(client.clone(), namespace.clone());
    let foreign = json!({
        "metadata": { "name": format!("{NAME}-allocator") },
        "spec": { "ports": [{ "port": 1 }], "selector": { "their": "own" } },
    });
    let services: Api<Service> = world.api();
    services.create(&PostParams::default(), &serde_json::from_value(foreign).unwrap()).await.unwrap();
    world.add_node(1).await;
    world.install(NAME, |_| {}).await;
    let operator = Running::start(client, &namespace, "one", free_port());
    eventually("the condition says so", 30, async || world.condition(NAME, "Degraded").await.1 == "NameTaken").await;
    let (_, _, message) = world.condition(NAME, "Degraded").await;
    assert!(message.contains("Service konferenz-allocator") && message.contains("delete or rename"), "{message}");
    let left = services.get(&format!("{NAME}-allocator")).await.unwrap();
    assert_eq!(left.spec.unwrap().selector.unwrap()["their"], "own");
    eventually("an Event says so too", 20, async || {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
        events.iter().any(|event| event.reason.as_deref() == Some("NameTaken"))
    })
    .await;
    operator.kill().await;
    world.remove_nodes().await;
}

/// The test is the cloud that gives load balancers their addresses.
pub async fn a_bridge_comes_when_its_load_balancer_has_an_address(cluster: Cluster) {
    let (client, namespace) = cluster.prepare("balancer").await;
    let mut world = World::new(client.clone(), namespace.clone());
    world.add_node(1).await;
    world.install(NAME, |spec| spec["media"] = json!({ "exposure": "LoadBalancer" })).await;
    let port = free_port();
    let operator = Running::start(client, &namespace, "one", port);
    world.start_allocator(NAME, port).await;
    let services: Api<Service> = world.api();
    let balancers = async || {
        let media = ListParams::default().labels("app.kubernetes.io/component=media");
        let found = services.list(&media).await.unwrap().items;
        found.iter().map(kube::ResourceExt::name_any).collect::<Vec<_>>()
    };
    eventually("it waits", 60, async || world.condition(NAME, "Degraded").await.1 == "AddressPending").await;
    let names = balancers().await;
    assert_eq!(names.len(), 1, "{names:?}");
    assert!(world.condition(NAME, "Degraded").await.2.contains(&names[0]) && world.pods().await.is_empty());

    let give = async |entry: serde_json::Value| {
        let patch = Patch::Merge(json!({ "status": { "loadBalancer": { "ingress": [entry] } } }));
        services.patch_status(&names[0], &PatchParams::default(), &patch).await.unwrap();
    };
    give(json!({ "hostname": "balancer.example" })).await;
    eventually("a host name is no address", 30, async || {
        world.condition(NAME, "Degraded").await.2.contains("balancer.example")
    })
    .await;
    give(json!({ "ip": "198.51.100.7" })).await;
    is_ready(&world, 1).await;
    let bridge = world.pods().await.remove(0);
    assert_eq!(bridge.name_any(), names[0]);
    let env = bridge.spec.unwrap().containers.remove(0).env.unwrap_or_default();
    let told = env.iter().find(|variable| variable.name == "RATSSAAL_MEDIA__ADVERTISE");
    assert_eq!(told.and_then(|variable| variable.value.as_deref()), Some("198.51.100.7"));

    // A crash: the next bridge is behind the same load balancer.
    let pods: Api<k8s_openapi::api::core::v1::Pod> = world.api();
    let uid = pods.get(&names[0]).await.unwrap().uid();
    pods.delete(&names[0], &DeleteParams::default().grace_period(0)).await.unwrap();
    eventually("another bridge is there", 60, async || {
        let now = world.pods().await;
        now.len() == 1 && now[0].uid() != uid
    })
    .await;
    is_ready(&world, 1).await;
    assert_eq!(balancers().await, names);
    operator.kill().await;
    world.remove_nodes().await;
}

pub async fn a_rollout_that_fails_stops_and_can_be_undone(cluster: Cluster) {
    let (world, operator) = up(&cluster, "rollout").await;
    let old: Vec<String> = world.pods().await.iter().map(kube::ResourceExt::name_any).collect();
    world.broken.lock().unwrap().push("registry.example/ratssaal:broken".into());
    world.change(NAME, json!({ "image": { "tag": "broken" } })).await;
    eventually("the rollout stops", 60, async || world.condition(NAME, "Degraded").await.1 == "RolloutStopped").await;
    let message = world.condition(NAME, "Degraded").await.2;
    assert!(message.contains("ErrImageNeverPull") && message.contains("spec.image"), "{message}");
    sleep(Duration::from_secs(3)).await;
    let names: Vec<String> = world.pods().await.iter().map(kube::ResourceExt::name_any).collect();
    assert!(old.iter().all(|bridge| names.contains(bridge)) && names.len() == 3, "{names:?}");
    assert_eq!(world.condition(NAME, "Ready").await.0, "True", "people meet meanwhile");
    world.change(NAME, json!({ "image": null })).await;
    eventually("only the old ones are left", 60, async || {
        let names: Vec<String> = world.pods().await.iter().map(kube::ResourceExt::name_any).collect();
        names.len() == 2 && old.iter().all(|bridge| names.contains(bridge))
    })
    .await;
    eventually("nothing is wrong any more", 30, async || world.condition(NAME, "Degraded").await.1 != "RolloutStopped")
        .await;
    operator.kill().await;
    world.remove_nodes().await;
}
