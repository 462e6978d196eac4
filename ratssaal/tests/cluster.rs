//! Several real processes on one real Redis: servers with an own allocator, and servers that use others.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;
#[path = "../../allocator/src/redis_server.rs"]
#[expect(dead_code, reason = "made for the allocator's tests; a part is used here")]
mod redis_server;

use std::process::{Child, Stdio};

use common::{eventually, get, ratssaal, run};
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
        let [grpc, http] = [(); 2].map(|()| format!("127.0.0.1:{}", free_port()));
        let mut command = ratssaal(&["allocator", "--redis", &redis.url(), "--listen", &grpc, "--bind", &http]);
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
        number(&get(&self.http, "/metrics").unwrap(), name)
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn number(metrics: &str, name: &str) -> u64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or(0)
}

#[test]
fn servers_on_one_redis_know_each_other() {
    let redis = Redis::new();
    let servers = ["eins", "zwei"].map(|name| serve(name, &["--redis", &redis.url()]));
    for server in &servers {
        eventually("both are seen", || {
            number(&server.get("/metrics"), "ratssaal_allocator_bridges{state=\"ready\"}") == 2
        });
    }
    let [first, second] = servers;
    first.signal("TERM");
    assert!(first.end().0.success());
    eventually("one has said goodbye", || {
        number(&second.get("/metrics"), "ratssaal_allocator_bridges{state=\"ready\"}") == 1
    });
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
