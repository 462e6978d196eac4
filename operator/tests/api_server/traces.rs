//! A look at an installation is one trace: the program itself, and a collector that takes what it exports by OTLP.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::cluster::Cluster;
use crate::collector::{Collector, Span};
use crate::world::{Program, World, free_port};

const NAME: &str = "konferenz";

/// The program that is under test elsewhere too.
fn binary() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let given = std::env::var_os("RATSSAAL_BIN").map(PathBuf::from);
    let all = [given, Some(target.join("debug/ratssaal"))];
    all.into_iter().flatten().find(|path| path.exists()).expect("no ratssaal binary: run `cargo build -p ratssaal`")
}

pub async fn a_look_is_one_trace_down_to_each_write(cluster: Cluster) {
    let collector = Collector::default();
    let endpoint = collector.start().await.unwrap();
    let (client, namespace) = cluster.prepare("traces").await;
    let world = World::new(client, namespace.clone());
    world.add_node(1).await;
    world.install(NAME, |_| {}).await;
    let more = [("RATSSAAL_OPERATOR__IDENTITY", "one"), ("RATSSAAL_OTLP__ENDPOINT", endpoint.as_str())];
    let _operator = Program::start(&binary(), &cluster, &namespace, free_port(), &more);
    let ours = |span: &Span| span.name == "reconcile" && span.attribute("installation") == NAME;
    const STEPS: [&str; 3] = ["validate", "apply", "tell"];
    // One look writes all of it, or several do: what the first one does not see yet, a node for example, a later one does.
    for (kind, step) in [("Secret", "apply"), ("Deployment", "apply"), ("Pod", "apply"), ("VideoConference", "tell")] {
        let wrote = |span: &Span| span.name == "write" && span.attribute("kind") == kind;
        let named = |trace: &[Span], name: &str| trace.iter().any(|span| span.name == name);
        let complete = |trace: &[Span]| trace.iter().any(ours) && STEPS.iter().all(|step| named(trace, step));
        let whole = collector.trace_of(wrote, complete).await.unwrap();
        let by_id: HashMap<&[u8], &Span> = whole.iter().map(|span| (span.id.as_slice(), span)).collect();
        let parent = |span: &Span| by_id.get(span.parent.as_slice()).map(|span| span.name.as_str());
        let looks: Vec<&Span> = whole.iter().filter(|span| span.name == "reconcile").collect();
        assert!(looks.len() == 1 && ours(looks[0]), "one look, of this installation: {whole:#?}");
        assert_eq!((looks[0].attribute("namespace"), looks[0].service.as_str()), (&*namespace, "ratssaal-operator"));
        for step in STEPS {
            let steps: Vec<&Span> = whole.iter().filter(|span| span.name == step).collect();
            assert!(steps.len() == 1 && parent(steps[0]) == Some("reconcile"), "{step}: {whole:#?}");
        }
        let mut writes = whole.iter().filter(|span| wrote(span));
        assert!(writes.all(|span| parent(span) == Some(step)), "{kind}: {whole:#?}");
    }
    world.remove_nodes().await;
}
