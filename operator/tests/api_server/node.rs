//! Machines that are lost: what the operator does for the parts that Kubernetes leaves there.

use std::sync::atomic::Ordering;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt as _;
use kube::api::ListParams;
use tokio::time::sleep;

use crate::cluster::{Cluster, eventually};
use crate::life::{is_ready, up};
use crate::told::told;
use crate::world::World;

const NAME: &str = "konferenz";

async fn redis(world: &World) -> Option<Pod> {
    world.api::<Pod>().get_opt(&format!("{NAME}-redis-0")).await.unwrap()
}

fn node_of(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

pub async fn redis_leaves_a_node_that_is_lost_when_no_allocator_reaches_it(cluster: Cluster) {
    let (world, operator) = up(&cluster, "lost").await;
    eventually("Redis has a node", 60, async || redis(&world).await.is_some_and(|pod| node_of(&pod).is_some())).await;
    let before = redis(&world).await.unwrap();
    let node = node_of(&before).unwrap();

    // Only the kubelet is away: an allocator on the other node reaches Redis.
    world.set_silent(&node, true).await;
    let note = told(&world, NAME, "Degraded", "RedisNodeLost").await;
    assert!(note.contains(&node) && note.contains("stays there"), "{note}");
    eventually("Kubernetes wants it gone after half a minute", 60, async || {
        redis(&world).await.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some())
    })
    .await;
    // Longer than the operator waits before it moves Redis.
    sleep(Duration::from_secs(5)).await;
    assert_eq!(
        redis(&world).await.unwrap().uid(),
        before.uid(),
        "an allocator reaches it: it stays, and Kubernetes leaves it"
    );

    // Now nobody does.
    world.redis_answers.store(false, Ordering::Relaxed);
    eventually("Redis is on the other node", 30, async || {
        redis(&world)
            .await
            .is_some_and(|pod| pod.uid() != before.uid() && node_of(&pod).is_some_and(|other| other != node))
    })
    .await;
    eventually("an Event says so", 20, async || {
        let events = world.api::<Event>().list(&ListParams::default()).await.unwrap();
        let says = |event: &Event| event.message.as_ref().is_some_and(|message| message.contains(&node));
        events.iter().any(|event| event.reason.as_deref() == Some("RedisMoved") && says(event))
    })
    .await;
    world.redis_answers.store(true, Ordering::Relaxed);
    let moved = redis(&world).await.unwrap();
    eventually("nothing is wrong with Redis any more", 30, async || {
        world.condition(NAME, "Degraded").await.1 != "RedisNodeLost"
    })
    .await;

    // The machine is back: the new one stays where it is.
    world.set_silent(&node, false).await;
    is_ready(&world, 2).await;
    assert_eq!(redis(&world).await.unwrap().uid(), moved.uid());
    operator.kill().await;
    world.remove_nodes().await;
}
