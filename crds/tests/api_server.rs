//! The definition and its rules on a real API server: right objects are taken, each wrong one is refused with the message that
//! was meant, and so are changes that must not be made.
//!
//! Without the programs of Kubernetes (`scripts/kubernetes`, which needs Go once) all of it is skipped, loudly; with
//! `RATSSAAL_TEST_CLUSTER=FOLDER` a cluster that is up already is used. It has a `main` of its own, because libtest keeps to
//! itself what a test that passes says, and `scripts/test` counts what was skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

include!("cases/objects.rs");
include!("cases/fields.rs");

/// A control plane; ends when it is dropped, unless somebody else started it.
struct Cluster {
    folder: PathBuf,
    own: bool,
}

fn script(arguments: &[&str]) -> Result<(), String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/kubernetes");
    let output = Command::new(script).args(arguments).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else {
        Err(text.lines().last().unwrap_or("scripts/kubernetes failed without a word").to_owned())
    }
}

impl Cluster {
    fn start() -> Result<Self, String> {
        if let Some(folder) = std::env::var_os("RATSSAAL_TEST_CLUSTER") {
            return Ok(Self { folder: folder.into(), own: false });
        }
        // Short, because sockets are in it.
        let folder = std::env::temp_dir().join(format!("rc-{}", std::process::id()));
        script(&["up", &folder.to_string_lossy()])?;
        Ok(Self { folder, own: true })
    }

    /// Gives kubectl an object; what it says if it fails.
    fn kubectl(&self, arguments: &[&str], object: &str) -> Result<String, String> {
        let mut command = Command::new(self.folder.join("kubectl"));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(object.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    fn apply(&self, object: &Value, dry: bool) -> Result<String, String> {
        let dry = if dry { "--dry-run=server" } else { "--dry-run=none" };
        self.kubectl(&["apply", dry, "--server-side", "--force-conflicts", "-f", "-"], &object.to_string())
    }

    /// Brings the definition, and waits until it is served: its path may answer a moment after it is there.
    fn define(&self) {
        self.kubectl(&["apply", "--server-side", "-f", "-"], &ratssaal_crds::yaml().unwrap()).unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while let Err(error) = self.apply(&object(good().remove(0).1), true) {
            assert!(Instant::now() < until, "{error}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.own {
            let _ = script(&["down", &self.folder.to_string_lossy()]);
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

type Case = (&'static str, fn(&Cluster));

const CASES: &[Case] = &[
    ("rules_hold_on_a_real_api_server", rules_hold_on_a_real_api_server),
    ("every_field_wrong_in_turn_is_refused_by_name", every_field_wrong_in_turn_is_refused_by_name),
];

fn main() {
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|part| name.contains(part.as_str()));
    let chosen: Vec<&Case> = CASES.iter().filter(|(name, _)| wanted(name)).collect();
    if std::env::args().any(|arg| arg == "--list") {
        CASES.iter().for_each(|(name, _)| println!("{name}: test"));
        return;
    }
    if chosen.is_empty() {
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored");
        return;
    }
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(reason) => {
            println!("SKIPPED: {} tests of the definition on a real API server: {reason}", chosen.len());
            println!("test result: ok. 0 passed; 0 failed; {} ignored", chosen.len());
            // Where it must run, it must run.
            std::process::exit(i32::from(std::env::var_os("RATSSAAL_KUBERNETES_REQUIRED").is_some()));
        }
    };
    let passes = |case: fn(&Cluster)| std::panic::catch_unwind(AssertUnwindSafe(|| case(&cluster))).is_ok();
    let mut failed = Vec::new();
    if !passes(Cluster::define) {
        failed.push("the definition is served");
    }
    let can_run = failed.is_empty();
    for (name, case) in chosen.iter().filter(|_| can_run) {
        let ok = passes(*case);
        println!("test {name} ... {}", if ok { "ok" } else { "FAILED" });
        if !ok {
            failed.push(name);
        }
    }
    drop(cluster);
    let (word, passed) = (if failed.is_empty() { "ok" } else { "FAILED" }, chosen.len().saturating_sub(failed.len()));
    println!("\ntest result: {word}. {passed} passed; {} failed; 0 ignored {failed:?}", failed.len());
    std::process::exit(i32::from(!failed.is_empty()));
}

fn rules_hold_on_a_real_api_server(cluster: &Cluster) {
    for (name, spec) in good() {
        if let Err(error) = cluster.apply(&object(spec), true) {
            panic!("{name}: {error}");
        }
    }
    for (spec, expected) in bad_by_rule().into_iter().chain(bad_fields()) {
        let error = cluster.apply(&object(spec.clone()), true).unwrap_err();
        assert!(error.contains(expected), "{spec}: {error}");
    }
    for name in ["1a", "a.b", "a-name-that-is-longer-than-thirty-characters"] {
        let mut object = object(good().remove(0).1);
        object["metadata"]["name"] = json!(name);
        let error = cluster.apply(&object, true).unwrap_err();
        assert!(error.contains("metadata.name must be"), "{name}: {error}");
    }
    for (before, after, expected) in bad_changes() {
        cluster.apply(&object(before), false).unwrap();
        let error = cluster.apply(&object(after), true).unwrap_err();
        assert!(error.contains(expected), "{error}");
        cluster.kubectl(&["delete", "vconf", "konferenz"], "").unwrap();
    }
    // What is left out is filled in.
    let filled = cluster
        .kubectl(&["create", "--dry-run=server", "-o", "json", "-f", "-"], &object(good().remove(0).1).to_string());
    let filled: Value = serde_json::from_str(&filled.unwrap()).unwrap();
    assert_eq!(filled["spec"]["media"]["port"], 10000);
    assert_eq!(filled["spec"]["drain"]["deadlineSeconds"], 3600);
    assert_eq!(filled["spec"]["exposure"], json!({"ingress": {}}));
    assert_eq!(filled["spec"]["redis"]["managed"]["image"], "docker.io/library/redis:7.2-alpine");
    let explained = cluster.kubectl(&["explain", "vconf.spec.media.port"], "").unwrap();
    assert!(explained.contains("First UDP port"), "{explained}");
}

fn every_field_wrong_in_turn_is_refused_by_name(cluster: &Cluster) {
    let definition = ratssaal_crds::definition().unwrap();
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let all = wrong_in_turn(schema);
    let fields = all.iter().filter(|wrong| wrong.what == "another type").count();
    assert!(fields >= 85 && all.len() > 2 * fields, "{} cases of {fields} fields", all.len());
    // In one call, whose answer has a line for each object; kubectl would look at a list by itself first.
    let items = all.iter().enumerate().map(|(number, wrong)| {
        let mut object = object(wrong.spec.clone());
        object["metadata"]["name"] = json!(format!("f{number}"));
        object
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items.collect::<Vec<_>>()});
    let said = cluster
        .kubectl(&["create", "--dry-run=server", "--validate=ignore", "-f", "-"], &list.to_string())
        .unwrap_err();
    let mut faults = Vec::new();
    for (number, Wrong { path, what, .. }) in all.iter().enumerate() {
        let about = format!("\"f{number}\" is invalid:");
        match said.lines().find(|line| line.contains(&about)) {
            Some(line) if line.contains(&format!("{path}:")) => {}
            Some(line) => faults.push(format!("{path}, {what}: the message does not name it: {line}")),
            None => faults.push(format!("{path}, {what}: taken")),
        }
    }
    assert!(faults.is_empty(), "{} of {} cases:\n{}", faults.len(), all.len(), faults.join("\n"));
}
