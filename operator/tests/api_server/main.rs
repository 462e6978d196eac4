//! The operator against a real API server with real controllers and the real scheduler, but without machines: what a kubelet
//! and a bridge would say is said by [`world`]; allocators are real ones, in memory.
//!
//! Without the programs of Kubernetes (`scripts/kubernetes`, which needs Go once) all of it is skipped, loudly. With
//! `RATSSAAL_TEST_CLUSTER=FOLDER` a cluster that is up already is used. Arguments choose cases by a part of their names.
#![allow(clippy::unwrap_used, clippy::expect_used, unreachable_pub, missing_docs, reason = "tests")]

mod cluster;
#[path = "../../../e2e/tests/collector/mod.rs"]
#[expect(dead_code, reason = "a part is used here")]
mod collector;
mod growth;
mod life;
mod node;
mod scale;
mod skew;
mod takeover;
mod told;
mod traces;
mod trouble;
mod world;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::time::Instant;

use futures_util::FutureExt as _;

use cluster::Cluster;

type Case = (&'static str, fn(Cluster) -> Pin<Box<dyn Future<Output = ()>>>);

macro_rules! cases {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$((stringify!($name), |cluster| Box::pin($module::$name(cluster)))),*]
    };
}

const CASES: &[Case] = cases![
    life::an_installation_comes_up_grows_drains_is_upgraded_and_goes,
    life::in_steady_state_nothing_is_written,
    life::what_is_changed_or_deleted_by_hand_is_put_back,
    life::a_foreign_object_is_left_alone_and_told,
    life::a_bridge_comes_when_its_load_balancer_has_an_address,
    life::a_rollout_that_fails_stops_and_can_be_undone,
    node::redis_leaves_a_node_that_is_lost_when_no_allocator_reaches_it,
    growth::a_node_that_gets_the_label_has_a_bridge,
    growth::seats_are_kept_free_between_the_least_and_the_most_bridges_and_kubectl_scales,
    skew::a_definition_older_than_the_operator_is_told_and_an_older_object_goes_on,
    told::a_host_name_that_nobody_knows,
    told::secrets_that_are_missing_and_certificates_that_are_wrong,
    told::ports_that_another_installation_has,
    told::an_image_that_cannot_be_pulled,
    takeover::of_two_operators_one_acts_and_the_other_takes_over,
    takeover::an_operator_that_is_killed_again_and_again_gets_there,
    trouble::an_operator_killed_after_each_of_its_writes_gets_there,
    trouble::half_a_minute_of_api_errors_harms_nobody,
    traces::a_look_is_one_trace_down_to_each_write,
    takeover::every_right_is_needed_and_no_other,
    scale::two_hundred_installations_with_a_thousand_bridges,
    // Last: of a control plane that has been away something may still be missing for a while.
    takeover::the_api_server_may_restart,
];

fn main() {
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if std::env::args().any(|arg| arg == "--list") {
        CASES.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    let chosen: Vec<&Case> = CASES
        .iter()
        .filter(|(name, _)| filters.is_empty() || filters.iter().any(|part| name.contains(part.as_str())))
        .collect();
    if chosen.is_empty() {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored");
        return;
    }
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(reason) => {
            for (name, _) in &chosen {
                println!("test {name} ... SKIPPED");
            }
            println!("SKIPPED: {} tests of the operator on a real API server: {reason}", chosen.len());
            println!("test result: ok. 0 passed; 0 failed; {} ignored", chosen.len());
            // Where it must run, it must run.
            std::process::exit(i32::from(std::env::var_os("RATSSAAL_KUBERNETES_REQUIRED").is_some()));
        }
    };
    if std::env::var_os("RATSSAAL_LOG").is_some() {
        tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_env("RATSSAAL_LOG")).init();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut failed = Vec::new();
    for (name, case) in &chosen {
        let begin = Instant::now();
        let result = runtime.block_on(AssertUnwindSafe(case(cluster.clone())).catch_unwind());
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("test {name} ... {word} ({:.1} s)", begin.elapsed().as_secs_f64());
        if result.is_err() {
            failed.push(*name);
        }
    }
    runtime.shutdown_background();
    cluster.stop();
    let (word, passed) = (if failed.is_empty() { "ok" } else { "FAILED" }, chosen.len() - failed.len());
    println!("\ntest result: {word}. {passed} passed; {} failed; 0 ignored {failed:?}", failed.len());
    std::process::exit(i32::from(!failed.is_empty()));
}
