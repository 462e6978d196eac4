//! `make cluster` as far as it is ours to run here: its script with the binary of this build, on loopback. It gets ready, is
//! looked at by `ratssaal status`, and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use common::{ratssaal, run, signal};
use tempfile::TempDir;

/// TCP ports the script counts from the first one: HTTP, Redis, gRPC.
const PORTS: u16 = 26;
/// From the first port of a cluster to that of the next, which may run at the same time: its UDP ports, a thousand above, are
/// more than those.
const APART: u32 = 64;

/// The first of a cluster's free ports, which no other gets.
fn first_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(APART);
    // Below those that the kernel gives out by itself (32768 and up).
    let next = || 20_000 + (begin.wrapping_add(NEXT.fetch_add(APART, Ordering::Relaxed)) % 9_000) as u16;
    let free = |first: &u16| (0..PORTS).all(|n| TcpListener::bind(("127.0.0.1", first + n)).is_ok());
    std::iter::repeat_with(next).find(free).unwrap()
}

/// The script on free ports, in a folder that is its own.
fn script() -> (Command, u16, TempDir) {
    let port = first_port();
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/cluster"));
    command.env("RATSSAAL_BIN", env!("CARGO_BIN_EXE_ratssaal")).env("NAMESPACES", "no");
    command.env("PORT", port.to_string()).env("TMPDIR", folder.path()).stdin(Stdio::null());
    (command, port, folder)
}

/// Neither its files, nor its processes, nor anything on its ports.
fn is_gone(port: u16, folder: &TempDir) {
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
    let name = folder.path().to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap();
    // One that has ended meanwhile has no command line.
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.unwrap().path().join("cmdline")).ok());
    let left: Vec<_> = lines.filter(|line| line.contains(name)).collect();
    assert!(left.is_empty(), "{left:?}");
    for port in (0..PORTS).map(|n| port + n) {
        TcpListener::bind(("127.0.0.1", port)).unwrap_or_else(|error| panic!("port {port}: {error}"));
    }
}

#[test]
fn it_gets_ready_and_ends_without_a_trace() {
    let (mut command, port, folder) = script();
    let output = command.env("HOLD", "no").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    let address = format!("http://localhost:{port}");
    for part in ["Der Cluster ist bereit. Öffnen Sie", "The cluster is ready. Open", &address] {
        assert!(out.contains(part), "{part:?} is missing in {out}{err}");
    }
    is_gone(port, &folder);
}

/// The running script; ended with what it started when dropped.
struct Running(Child, BufReader<ChildStdout>);

impl Running {
    /// Reads what it prints up to a line with this.
    fn wait_for(&mut self, text: &str) -> String {
        let mut read = String::new();
        while !read.contains(text) {
            let more = self.1.read_line(&mut read).unwrap();
            assert!(more > 0, "it ended without {text:?}: {read}");
        }
        read
    }

    fn end(&mut self) -> Option<i32> {
        signal(&self.0, "TERM");
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.end();
        }
    }
}

#[test]
fn status_shows_it_once_and_live() {
    let (mut command, port, folder) = script();
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let mut cluster = Running(child, out);
    let said = cluster.wait_for("Logs:");
    let config = said.split("--config ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();

    let (code, out, err) = run(&["status", "--json", "--config", &config]);
    assert_eq!(code, Some(0), "{err}");
    let view: serde_json::Value = serde_json::from_str(&out).unwrap();
    let bridges: Vec<_> =
        view["bridges"].as_array().unwrap().iter().map(|b| (&b["name"], &b["site"], &b["state"])).collect();
    let expected = [("drei", "kreishaus"), ("eins", "rathaus"), ("zwei", "rathaus")];
    assert_eq!(bridges.len(), expected.len(), "{out}");
    for ((name, site, state), (wanted, at)) in bridges.into_iter().zip(expected) {
        assert!(name == wanted && site == at && state == "ready", "{out}");
    }
    let (code, table, _) = run(&["status", "--config", &config]);
    assert!(
        code == Some(0) && expected.iter().all(|(name, site)| table.contains(name) && table.contains(site)),
        "{table}"
    );

    // Live: one view after the other, until it is told to end.
    let mut watch = ratssaal(&["status", "--watch", "--json", "--config", &config]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let view: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(view["bridges"].as_array().unwrap().len(), 3, "{view}");
    }
    signal(&watch, "INT");
    let began = Instant::now();
    let status = loop {
        if let Some(status) = watch.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "it goes on after Ctrl+C");
        thread::sleep(Duration::from_millis(10));
    };
    let mut err = String::new();
    watch.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert!(status.success() && err.is_empty(), "{status}: {err}");

    assert_eq!(cluster.end(), Some(128 + 15));
    is_gone(port, &folder);
}
