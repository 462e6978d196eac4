//! Two hundred installations with a thousand bridges on the API server alone: how long a look takes, how much memory the operator
//! needs, and that it writes nothing once everything is as it should be. `RATSSAAL_SCALE=200` runs it in full; else it is a
//! small version. With `RATSSAAL_BIN` the operator's own memory is measured as well.

use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams, Patch, PatchParams};
use prometheus_client::registry::Registry;
use ratssaal_crds::VideoConference;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::cluster::{Cluster, eventually};
use crate::world::{Program, Running, World, free_port, total};

/// Installations, unless `RATSSAAL_SCALE` says how many.
const SMALL: u32 = 4;

/// How many looks took at most so long (s).
fn looks(registry: &Registry) -> Vec<(f64, f64)> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
    let buckets = text.lines().filter_map(|line| line.strip_prefix("operator_reconcile_seconds_bucket{le=\""));
    let bucket = |line: &str| {
        let (most, count) = line.split_once("\"} ")?;
        Some((most.parse().ok()?, count.parse().ok()?))
    };
    buckets.filter_map(bucket).collect()
}

/// A quantile in milliseconds of what came after `before`, as Prometheus' histogram_quantile finds it.
fn quantile(q: f64, before: &[(f64, f64)], after: &[(f64, f64)]) -> f64 {
    let count = |at: usize| after[at].1 - before.get(at).map_or(0.0, |bucket| bucket.1);
    let rank = q * count(after.len() - 1);
    let at = (0..after.len()).find(|at| count(*at) >= rank).unwrap();
    let (low, below) = if at == 0 { (0.0, 0.0) } else { (after[at - 1].0, count(at - 1)) };
    let high = if after[at].0.is_finite() { after[at].0 } else { low };
    1000.0 * (low + (high - low) * ((rank - below) / (count(at) - below).max(1.0)))
}

/// Memory of a process, MiB: `VmRSS` now, `VmHWM` at most.
fn memory(process: &str, what: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':')).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// A figure of the operator as a process.
async fn figure(port: u16, name: &str) -> Option<f64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    Some(total(&text, name))
}

/// The operator as the process that it is begins anew on all that is there.
async fn as_a_process(program: &Path, cluster: &Cluster, namespace: &str, number: u32) {
    let (begin, http) = (Instant::now(), free_port());
    let process = Program::start(program, cluster, namespace, http, &[]);
    eventually("the process looks at all", 300, async || {
        figure(http, "ratssaal_operator_reconcile_seconds_count").await.is_some_and(|looks| looks >= f64::from(number))
    })
    .await;
    let (looked, id) = (begin.elapsed(), process.id().to_string());
    println!(
        "  as a process: all looked at after {:.1} s, {:.0} writes, {:.0} MiB, at most {:.0} MiB",
        looked.as_secs_f64(),
        figure(http, "ratssaal_operator_writes_total").await.unwrap(),
        memory(&id, "VmRSS"),
        memory(&id, "VmHWM"),
    );
}

pub async fn two_hundred_installations_with_a_thousand_bridges(cluster: Cluster) {
    let number: u32 = std::env::var("RATSSAAL_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(SMALL);
    let (client, namespace) = cluster.prepare("scale").await;
    let world = World::new(client, namespace.clone());
    for node in 1..=5 {
        world.add_node(node).await;
    }
    for installation in 0..number {
        // Ranges of their own: all are on the same nodes.
        let (name, port) = (format!("k{installation}"), 10_000 + installation * 10);
        let change = |spec: &mut Value| {
            spec["hostname"] = json!(format!("{name}.example"));
            spec["media"] = json!({ "port": port });
        };
        world.install(&name, change).await;
    }
    let (before, begin) = (memory("self", "VmRSS"), Instant::now());
    let (operators, asked) = cluster.recording(None).await;
    let operator = Running::start(operators, &namespace, "one", free_port());
    let pods: Api<Pod> = world.api();
    let bridges = ListParams::default().labels("app.kubernetes.io/component=bridge");
    let wanted = usize::try_from(number * 5).unwrap();
    eventually("all bridges are made", 900, async || {
        sleep(Duration::from_secs(1)).await;
        pods.list_metadata(&bridges).await.unwrap().items.len() == wanted
    })
    .await;
    let made = begin.elapsed();
    let count = || operator.figure("operator_reconcile_seconds_count");
    let objects: Api<VideoConference> = world.api();
    let mut touched = 0;
    let mut round = async || {
        let seen = count();
        touched += 1;
        for installation in 0..number {
            let patch = Patch::Merge(json!({ "metadata": { "annotations": { "touched": touched.to_string() } } }));
            objects.patch(&format!("k{installation}"), &PatchParams::default(), &patch).await.unwrap();
        }
        eventually("all are looked at", 300, async || count() >= seen + f64::from(number)).await;
    };
    eventually("all bridges run", 900, async || world.bridges.lock().unwrap().len() == wanted).await;
    // That is told, until rounds of looks have nothing to write.
    let (mut written, mut quiet) = (asked.writes(), 0);
    eventually("it settles", 900, async || {
        sleep(Duration::from_secs(2)).await;
        round().await;
        let before = std::mem::replace(&mut written, asked.writes());
        quiet = if before == written { quiet + 1 } else { 0 };
        quiet == 2
    })
    .await;
    let building = looks(&operator.registry);
    println!(
        "{number} installations, {wanted} bridges: all made after {:.1} s, at rest after {:.1} s; {} looks, p50 {:.1} ms, p99 {:.1} ms; \
         {} writes; operator and simulation took {:.0} MiB",
        made.as_secs_f64(),
        begin.elapsed().as_secs_f64(),
        count(),
        quantile(0.5, &[], &building),
        quantile(0.99, &[], &building),
        written.values().sum::<usize>(),
        memory("self", "VmRSS") - before,
    );

    let mut most: Vec<_> = written.iter().collect();
    most.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let most = most.iter().take(6).map(|(what, count)| format!("{what} {count}"));
    println!("  most of the writes: {}", most.collect::<Vec<_>>().join(", "));

    // At rest: each is looked at again.
    let (seen, begin) = (count(), Instant::now());
    round().await;
    println!(
        "  at rest: {} looks in {:.1} s, p50 {:.1} ms, p99 {:.1} ms, {} writes",
        count() - seen,
        begin.elapsed().as_secs_f64(),
        quantile(0.5, &building, &looks(&operator.registry)),
        quantile(0.99, &building, &looks(&operator.registry)),
        asked.writes().values().sum::<usize>() - written.values().sum::<usize>(),
    );
    assert!(
        written["create /pods"] >= wanted && written["patch ratssaal.io/videoconferences/status"] > 0,
        "{written:?}"
    );
    assert_eq!(asked.writes(), written, "writes at rest");
    operator.kill().await;
    if let Some(program) = std::env::var_os("RATSSAAL_BIN").filter(|_| number > SMALL) {
        as_a_process(program.as_ref(), &cluster, &namespace, number).await;
    }
    world.remove_nodes().await;
}
