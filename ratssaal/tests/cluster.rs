//! Several real processes on one real Redis: servers with an own allocator, and servers that use others.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
#[path = "../../allocator/src/redis_server.rs"]
#[expect(dead_code, reason = "made for the allocator's tests; a part is used here")]
mod redis_server;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use common::{eventually, get, metric, ratssaal, run, signal};
use redis_server::{Server as Redis, free_port};

/// Starts a server with a name.
fn serve(name: &str, more: &[&str]) -> common::Server {
    common::Server::dev(&[&["--bridge", name][..], more].concat())
}

/// A running `ratssaal allocator`, killed when dropped.
struct Allocator {
    child: Child,
    grpc: String,
    http: String,
}

impl Allocator {
    fn start(redis: &Redis) -> Self {
        Self::start_with(redis, &[])
    }

    fn start_with(redis: &Redis, more: &[&str]) -> Self {
        let [grpc, http] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
        let fixed = ["allocator", "--redis", &redis.url(), "--listen", &grpc, "--bind", &http];
        let mut command = ratssaal(&[&fixed, more].concat());
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let allocator = Self { child, grpc, http };
        eventually("an allocator is ready", || allocator.is_ready());
        allocator
    }

    fn is_ready(&self) -> bool {
        get(&self.http, "/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
    }

    /// A metric's value.
    fn metric(&self, name: &str) -> u64 {
        metric(&self.http, name)
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn servers_on_one_redis_know_each_other() {
    let redis = Redis::new();
    let servers = ["eins", "zwei"].map(|name| serve(name, &["--redis", &redis.url()]));
    for server in &servers {
        eventually("both are seen", || server.metric("ratssaal_allocator_bridges{state=\"ready\"}") == 2);
    }
    let [first, second] = servers;
    first.signal("TERM");
    assert!(first.end().0.success());
    eventually("one has said goodbye", || second.metric("ratssaal_allocator_bridges{state=\"ready\"}") == 1);
}

#[test]
fn another_allocator_takes_over() {
    let redis = Redis::new();
    let mut allocators = [Allocator::start(&redis), Allocator::start(&redis)];
    let addresses = allocators.each_ref().map(|allocator| format!("http://{}", allocator.grpc)).join(",");
    let server = serve("eins", &["--allocator", &addresses]);
    let reports = "ratssaal_allocator_calls_total{call=\"report\",result=\"ok\"}";
    let used = usize::from(allocators[1].metric(reports) > 0);
    allocators[used].child.kill().unwrap();
    eventually("it reports to the other", || allocators[1 - used].metric(reports) > 0);
    eventually("it is ready", || server.get("/readyz").starts_with("HTTP/1.1 200 "));
}

#[test]
fn an_allocator_is_ready_while_redis_answers() {
    let redis = Redis::new();
    let allocator = Allocator::start(&redis);
    redis.signal("-STOP");
    eventually("it says so", || !allocator.is_ready());
    assert!(get(&allocator.http, "/livez").unwrap().starts_with("HTTP/1.1 200 "), "restarting it would not help");
    redis.signal("-CONT");
    eventually("it is ready again", || allocator.is_ready());
}

/// Certificates of an authority, made by our own command.
struct Certificates<'a>(&'a Path);

impl Certificates<'_> {
    fn make(&self, name: &str, role: &str) {
        let arguments = ["certificate", self.0.to_str().unwrap(), name, "--role", role, "--host", "localhost"];
        let (status, _, error) = run(&arguments);
        assert_eq!(status, Some(0), "{error}");
    }

    /// What a process of the cluster reads; `to` says which of it.
    fn copy(&self, name: &str, to: &Path) {
        for ending in ["pem", "key"] {
            fs::copy(self.0.join(format!("{name}.{ending}")), to.join(format!("own.{ending}"))).unwrap();
        }
    }

    fn authority(&self) -> String {
        fs::read_to_string(self.0.join("ca.pem")).unwrap()
    }
}

/// The settings that name a process's three files.
fn files(folder: &Path) -> Vec<String> {
    let all = [("--cluster-ca", "ca.pem"), ("--cluster-certificate", "own.pem"), ("--cluster-key", "own.key")];
    all.iter().flat_map(|(flag, name)| [(*flag).to_owned(), folder.join(name).display().to_string()]).collect()
}

/// The cluster's authority is replaced by another one, step by step, and nothing is restarted: each process goes on, and
/// makes and takes new connections at each step. In the end the old authority's certificates are worth nothing.
#[test]
fn the_authority_is_replaced_while_all_run() {
    let (redis, folder) = (Redis::new(), tempfile::tempdir().unwrap());
    let [old, new, allocators, bridges, operators] = ["old", "new", "allocator", "bridge", "operator"].map(|name| {
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    });
    let (old, new) = (Certificates(&old), Certificates(&new));
    for authority in [&old, &new] {
        for role in ["allocator", "bridge", "operator"] {
            authority.make(role, role);
        }
    }
    let both = format!("{}{}", old.authority(), new.authority());
    let trust = |pem: &str| [&allocators, &bridges].map(|folder| fs::write(folder.join("ca.pem"), pem).unwrap());
    let certify = |by: &Certificates<'_>| {
        by.copy("allocator", &allocators);
        by.copy("bridge", &bridges);
    };
    trust(&old.authority());
    certify(&old);

    let own = files(&allocators);
    let allocator = Allocator::start_with(&redis, &own.iter().map(String::as_str).collect::<Vec<_>>());
    let address = format!("https://localhost:{}", allocator.grpc.rsplit(':').next().unwrap());
    let start = |name| {
        let (own, peers) = (files(&bridges), format!("127.0.0.1:{}", free_port()));
        let mut more = vec!["--allocator", &address, "--peer-listen", &peers];
        more.extend(own.iter().map(String::as_str));
        serve(name, &more)
    };
    let bridge = start("eins");
    let ready = |server: &common::Server| server.get("/readyz").starts_with("HTTP/1.1 200 ");
    eventually("it is ready", || ready(&bridge));
    // The gRPC connection that it has breaks, so that it needs another one.
    let reconnects = || {
        signal(&allocator.child, "STOP");
        let attached = || bridge.metric("ratssaal_bridge_attached");
        eventually("the bridge notices that the allocator hangs", || attached() == 0);
        signal(&allocator.child, "CONT");
        eventually("it is connected again", || attached() == 1);
    };
    // An operator with a certificate of this authority that trusts these gets in.
    let gets_in = |by: &Certificates<'_>, trusted: &str| {
        by.copy("operator", &operators);
        fs::write(operators.join("ca.pem"), trusted).unwrap();
        let own = files(&operators);
        let mut arguments = vec!["status", "--json", "--allocator", &address];
        arguments.extend(own.iter().map(String::as_str));
        run(&arguments).0 == Some(0)
    };
    let counts = |what: &str, count| {
        let name = format!("ratssaal_cluster_{what}_total");
        let both = || allocator.metric(&name) == count && bridge.metric(&name) == count;
        eventually(&format!("{what} is {count}"), both);
    };
    assert!(gets_in(&old, &both) && !gets_in(&new, &both));

    // First everybody trusts the new one beside the old one.
    trust(&both);
    counts("ca_reloads", 1);
    assert!(gets_in(&old, &old.authority()) && gets_in(&new, &both));
    reconnects();

    // Then certificates are of the new one.
    certify(&new);
    counts("tls_reloads", 1);
    assert!(gets_in(&old, &both) && gets_in(&new, &new.authority()));
    assert!(!gets_in(&old, &old.authority()), "the allocator shows another certificate now");
    reconnects();

    // At last nobody trusts the old one. A broken file before that changes nothing.
    trust("no certificate");
    counts("ca_reload_failures", 1);
    assert!(gets_in(&old, &both));
    trust(&new.authority());
    counts("ca_reloads", 2);
    assert!(gets_in(&new, &new.authority()) && !gets_in(&old, &both));
    reconnects();
    let second = start("zwei");
    eventually("a new bridge is ready", || ready(&second));
    eventually("both are there", || allocator.metric("ratssaal_allocator_bridges{state=\"ready\"}") == 2);
}

#[test]
fn what_cannot_work_is_said_at_once() {
    let cases: [(&[&str], &str); 5] = [
        (&["allocator"], "cluster.redis"),
        (&["allocator", "--redis", "http://user:geheim@x"], "redis://host:6379"),
        (
            &["allocator", "--redis", "redis://x", "--listen", "0.0.0.0:0", "--bind", "127.0.0.1:0"],
            "cluster.certificate",
        ),
        (&["serve", "--dev", "--redis", "redis://x", "--allocator", "https://x:1"], "both given"),
        (&["serve", "--dev", "--bind", "127.0.0.1:0", "--allocator", "http://192.0.2.1:1"], "cluster.certificate"),
    ];
    for (args, expected) in cases {
        let (status, _, error) = run(args);
        assert!(
            status != Some(0) && error.contains(expected) && !error.contains("geheim"),
            "{args:?}: {status:?} {error}"
        );
    }
}
