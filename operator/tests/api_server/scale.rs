//! Two hundred installations with a thousand bridges on the API server alone: how long a look takes, and how much memory the
//! operator needs. `RATSSAAL_SCALE=200` runs it in full; else it is a small version that only has to work.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use tokio::time::sleep;

use crate::cluster::{Cluster, eventually};
use crate::world::{Running, World, free_port};

pub async fn two_hundred_installations_with_a_thousand_bridges(cluster: Cluster) {
    let number: u32 = std::env::var("RATSSAAL_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let (client, namespace) = cluster.prepare("scale").await;
    let world = World::new(client.clone(), namespace.clone());
    for node in 1..=5 {
        world.add_node(node).await;
    }
    let begin = Instant::now();
    for installation in 0..number {
        // Ranges of their own: all are on the same nodes.
        let port = 10_000 + installation * 10;
        world.install(&format!("k{installation}"), |spec| spec["media"] = serde_json::json!({ "port": port })).await;
    }
    let operator = Running::start(client, &namespace, "one", free_port());
    let pods: Api<Pod> = world.api();
    let bridges = ListParams::default().labels("app.kubernetes.io/component=bridge");
    let wanted = usize::try_from(number * 5).unwrap();
    eventually("all bridges are made", 600, async || {
        sleep(Duration::from_secs(1)).await;
        pods.list_metadata(&bridges).await.unwrap().items.len() == wanted
    })
    .await;
    let took = begin.elapsed();
    let memory = std::fs::read_to_string("/proc/self/status").unwrap();
    let memory = memory.lines().find(|line| line.starts_with("VmRSS")).unwrap_or_default().to_owned();
    let looks = operator.figure("operator_reconcile_seconds_count");
    println!(
        "{number} installations, {wanted} bridges: all made after {:.1} s; {looks} looks; {memory}",
        took.as_secs_f64()
    );
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &operator.registry).unwrap();
    for line in text.lines().filter(|line| line.contains("reconcile_seconds") || line.contains("writes_total")) {
        println!("  {line}");
    }
    operator.kill().await;
    world.remove_nodes().await;
}
