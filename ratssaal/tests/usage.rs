//! What the binary says to a wrong command line or configuration: one sentence and the right exit status.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::net::{TcpListener, UdpSocket};

use common::{Server, finish, ratssaal, run};

/// Asserts the status and that standard error is one line with these parts.
fn refused(args: &[&str], status: i32, parts: &[&str]) {
    let (code, out, err) = run(args);
    assert_eq!(code, Some(status), "{args:?}: {err}");
    assert_eq!(err.lines().count(), 1, "{args:?} says one sentence: {err}");
    assert!(out.is_empty(), "{args:?}: {out}");
    for part in parts {
        assert!(err.contains(part), "{args:?}: {part:?} is missing in: {err}");
    }
}

#[test]
fn without_keys_it_says_how_to_make_them() {
    let remedies = ["no API key", "`ratssaal keys", "--config", "`ratssaal token --help`", "--dev"];
    refused(&["serve"], 64, &remedies);
    refused(&["token", "--room", "r", "--identity", "i"], 64, &remedies);
}

#[test]
fn the_built_in_key_works_on_loopback_only() {
    refused(&["serve", "--dev", "--bind", "0.0.0.0:7880"], 64, &["--dev", "loopback", "ratssaal keys"]);
    refused(&["serve", "--dev", "--bind", "0.0.0.0:7880", "--plain"], 64, &["--dev", "loopback"]);
}

#[test]
fn mistakes_in_the_configuration_name_key_source_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let unknown = write("unknown.toml", "[http]\nbnd = \"127.0.0.1:0\"\n");
    refused(&["serve", "--dev", "--config", &unknown], 64, &["http.bnd", &unknown, "did you mean bind?"]);
    let short = write("short.yaml", "keys:\n  mine: hush-hush\n");
    refused(&["serve", "--config", &short], 64, &["mine", "32"]);
    let (_, _, err) = run(&["serve", "--config", &short]);
    assert!(!err.contains("hush"), "{err}");
    refused(&["serve", "--dev", "--bind", "localhost"], 64, &["http.bind", "--bind", "127.0.0.1:7880"]);
    refused(&["serve", "--dev", "--media-ports", "9-1"], 64, &["media.ports", "--media-ports", "7882-7897"]);
    refused(&["serve", "--dev", "--empty-timeout", "5"], 64, &["room.empty_timeout", "5m"]);
    refused(&["serve", "--dev", "--log-level", "loud=very"], 64, &["log.level"]);
    refused(&["serve", "--dev", "--otlp-endpoint", "collector"], 64, &["otlp.endpoint", "http://localhost:4317"]);
    refused(&["serve", "--dev", "--certificate", "x.pem"], 64, &["http.key"]);
    refused(&["serve", "--config", "nowhere.toml"], 64, &["nowhere.toml", "--config"]);

    let output = ratssaal(&["serve", "--dev"]).env("RATSSAAL_ROOM__SEAT", "9").output().unwrap();
    let (code, _, err) = finish(output);
    assert_eq!(code, Some(64));
    assert!(err.contains("room.seat in the environment variable RATSSAAL_ROOM__SEAT; did you mean seats?"), "{err}");
}

#[test]
fn plain_http_on_the_network_is_refused_unless_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("c.toml");
    std::fs::write(&config, "[keys]\nmine = \"0123456789012345678901234567890123\"\n").unwrap();
    let config = config.to_str().unwrap();
    refused(&["serve", "--config", config, "--bind", "0.0.0.0:0"], 64, &["http.bind 0.0.0.0:0", "http.plain = true"]);
}

#[test]
fn an_operator_without_an_image_or_a_cluster_says_what_is_missing() {
    refused(&["operator"], 64, &["operator.image", "registry.example"]);
    refused(
        &["operator", "--operator-image", "i", "--operator-allocator", "here"],
        64,
        &["operator.allocator", "port"],
    );
    refused(&["operator", "--operator-image", "i", "--concurrency", "0"], 64, &["operator.concurrency"]);
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("kubeconfig");
    let mut operator = ratssaal(&["operator", "--operator-image", "i", "--bind", "127.0.0.1:0"]);
    let (code, _, err) = finish(operator.env("KUBECONFIG", nowhere).output().unwrap());
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("no Kubernetes found") && err.contains("KUBECONFIG"), "{err}");
}

#[test]
fn a_port_in_use_ends_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, out, err) = run(&["serve", "--dev", "--bind", &address]);
    assert_eq!(code, Some(1), "{err}");
    assert!(out.is_empty(), "no promise before it is kept: {out}");
    let last = err.lines().last().unwrap();
    assert!(last.contains(&address) && last.contains("in use") && last.contains("--bind"), "{err}");
}

#[test]
fn media_ports_in_use_end_with_1() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ports = format!("{port}-{port}");
    let (code, out, err) =
        run(&["serve", "--dev", "--bind", "127.0.0.1:0", "--media-bind", "127.0.0.1", "--media-ports", &ports]);
    assert_eq!(code, Some(1), "{err}");
    assert!(out.is_empty(), "no promise before it is kept: {out}");
    let last = err.lines().last().unwrap();
    for part in ["no free UDP port", &port, "127.0.0.1", "in use", "media.ports"] {
        assert!(last.contains(part), "{part:?} is missing in: {err}");
    }
    // Whoever does what it says gets on.
    drop(taken);
    drop(Server::dev(&["--media-bind", "127.0.0.1", "--media-ports", &ports]));
}

#[test]
fn wrong_flags_end_with_64_and_help_with_0() {
    for args in [&["serve", "--bnd", "x"][..], &["sreve"], &["token", "--ttl"], &[]] {
        assert_eq!(run(args).0, Some(64), "{args:?}");
    }
    let (code, help, _) = run(&["serve", "--help"]);
    assert_eq!(code, Some(0));
    for part in ["--bind", "http.bind", "127.0.0.1:7880", "5m", "4MiB", "Exit status", "RATSSAAL_HTTP__BIND"] {
        assert!(help.contains(part), "{part} is missing in:\n{help}");
    }
    assert_eq!(run(&["--version"]).0, Some(0));
}
