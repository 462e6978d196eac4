//! The load client against our own server, both as processes: what it counts is what was sent.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use common::{Server, certificate, run};
use serde_json::Value;

/// Runs the load against a server; gives status, what it printed, and its JSON.
fn load(server: &Server, args: &[&str]) -> (Option<i32>, String, String, Value) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("load.json");
    let fixed = ["load", "--dev", "--url", &server.url, "--settle", "1s", "--json", file.to_str().unwrap()];
    let (code, out, err) = run(&[&fixed, args].concat());
    let json = std::fs::read_to_string(file).ok().and_then(|text| serde_json::from_str(&text).ok());
    (code, out, err, json.unwrap_or_default())
}

fn count(json: &Value, path: &str) -> u64 {
    json.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {json:#}"))
}

/// So many people were there, and so many streams of each kind came, all of them whole.
fn everything_arrived(json: &Value, people: u64, streams: u64) {
    assert_eq!((count(json, "/joins/connected"), count(json, "/joins/failed")), (people, 0));
    for kind in ["audio", "video"] {
        let of = |what: &str| count(json, &format!("/clean/{kind}/{what}"));
        assert_eq!((of("streams_wanted"), of("streams_missing")), (streams, 0), "{kind}: {json:#}");
        assert_eq!((of("lost"), of("skipped"), of("expected")), (0, 0, of("received")), "{kind}: {json:#}");
        assert!(of("received") > streams * 30, "{kind}: {json:#}");
    }
    assert_eq!(count(json, "/clean/foreign_packets"), 0);
}

#[test]
fn in_a_room_of_five_everything_arrives() {
    let server = Server::dev(&[]);
    let args = ["--publishers", "5", "--subscribers", "0", "--talk", "1", "--ramp", "50", "--duration", "3s"];
    let (code, out, err, json) = load(&server, &args);
    assert_eq!(code, Some(0), "{err}{out}");
    everything_arrived(&json, 5, 20);
    assert_eq!(count(&json, "/clean/unauthentic"), 0);
    // Only probes repeat what is here already: 32 KB for each participant at first, and a twentieth of what it is sent.
    let most = 5 * 32 + count(&json, "/clean/video/received") / 20;
    assert!(count(&json, "/clean/duplicates") <= most, "{most}: {json:#}");
    assert!(out.contains("forwarding latency") && out.contains("20 wanted, 0 missing"), "{out}");
}

#[test]
fn a_room_on_three_workers_is_one_room() {
    let server = Server::dev(&["--media-workers", "3", "--spread", "2"]);
    let args = ["--publishers", "5", "--subscribers", "1", "--talk", "1", "--ramp", "50", "--duration", "3s"];
    let (code, out, err, json) = load(&server, &args);
    assert_eq!(code, Some(0), "{err}{out}");
    everything_arrived(&json, 6, 25);
    let crossed = server.metric("ratssaal_media_crossed_packets_total");
    let received = server.metric("ratssaal_media_received_packets_total");
    // Everything is watched on all three, nothing crosses twice the same way.
    assert!(crossed > received / 2 && crossed <= 2 * received, "{crossed} of {received}");
    assert_eq!(server.metric("ratssaal_media_lost_crossings_total"), 0);
}

#[test]
fn a_server_with_tls_is_loaded_if_its_authority_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), "localhost", 2200);
    let [cert, key, ca] =
        ["cert.pem", "key.pem", "ca.pem"].map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    let server = Server::dev(&["--certificate", &cert, "--key", &key]);
    let port = server.url.rsplit(':').next().unwrap().trim_end_matches('/');
    let url = format!("wss://localhost:{port}");
    let args = ["load", "--dev", "--url", &url, "--publishers", "2", "--subscribers", "0", "--duration", "1s"];
    let (code, out, err) = run(&[&args[..], &["--settle", "0s", "--ca", &ca]].concat());
    assert_eq!(code, Some(0), "{err}{out}");
    let (code, _, err) = run(&args);
    assert_eq!(code, Some(1));
    assert!(err.contains("UnknownIssuer") && err.contains("--ca"), "{err}");
}

#[test]
fn media_flows_over_ipv6_where_that_is_what_is_advertised() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        return println!("SKIPPED: this machine has no IPv6");
    }
    let server = Server::dev(&["--advertise", "::1"]);
    let args = ["--publishers", "2", "--subscribers", "0", "--talk", "1", "--duration", "2s"];
    let (code, out, err, json) = load(&server, &args);
    assert_eq!(code, Some(0), "{err}{out}");
    for kind in ["audio", "video"] {
        let of = |what: &str| count(&json, &format!("/clean/{kind}/{what}"));
        assert_eq!((of("streams_wanted"), of("streams_missing"), of("lost")), (2, 0, 0), "{kind}: {json:#}");
        assert!(of("received") > 2 * 20, "{kind}: {json:#}");
    }
}

#[test]
fn a_bad_line_loses_what_it_should_and_disturbs_nobody_else() {
    let server = Server::dev(&[]);
    // Below the tenth from which on the server takes loss for a narrow line and sends less.
    let bad = ["--impaired", "0.34", "--loss", "6", "--delay", "20ms", "--jitter", "5ms"];
    let args = ["--publishers", "2", "--subscribers", "1", "--talk", "1", "--duration", "5s"];
    let (code, out, err, json) = load(&server, &[&bad[..], &args].concat());
    assert_eq!(code, Some(0), "{err}{out}");
    assert_eq!((count(&json, "/clean/participants"), count(&json, "/impaired/participants")), (2, 1));
    for path in ["/clean/audio/lost", "/clean/video/lost", "/clean/audio/skipped", "/clean/video/skipped"] {
        assert_eq!(count(&json, path), 0, "{path}: {json:#}");
    }
    let (lost, expected) = (count(&json, "/impaired/audio/lost"), count(&json, "/impaired/audio/expected"));
    let share = lost as f64 / expected as f64;
    assert!((0.02..0.12).contains(&share), "audio is not repaired: {lost} of {expected}");
    assert!(count(&json, "/impaired/video/repaired") > 3, "video is: {json:#}");
    let latency = json.pointer("/impaired/forwarding_latency_ms/p50").and_then(Value::as_f64).unwrap();
    assert!(latency >= 20.0, "{latency}");
}

#[test]
fn tiles_decide_what_is_sent() {
    let server = Server::dev(&[]);
    let args = ["--publishers", "4", "--subscribers", "0", "--tiles", "2", "--tile", "320x180", "--duration", "6s"];
    let (code, out, err, json) = load(&server, &args);
    assert_eq!(code, Some(0), "{err}{out}");
    assert_eq!((count(&json, "/clean/video/streams_wanted"), count(&json, "/clean/video/streams_missing")), (8, 0));
    assert_eq!(count(&json, "/clean/audio/streams_wanted"), 12);
    let layer = |at: u8| count(&json, &format!("/clean/video/packets_by_layer/{at}"));
    assert!(layer(0) > 0 && layer(1) == 0 && layer(2) == 0, "{json:#}");
}

#[test]
fn failures_say_what_to_do() {
    let server = Server::dev(&[]);
    let url = server.url.clone();
    let refused = |args: &[&str], status: i32, parts: &[&str]| {
        let (code, out, err) = run(&[&["load"], args].concat());
        assert_eq!(code, Some(status), "{args:?}: {err}");
        assert!(out.is_empty(), "{args:?}: {out}");
        assert_eq!(err.lines().count(), 1, "{args:?} says one sentence: {err}");
        for part in parts {
            assert!(err.contains(part), "{args:?}: {part:?} is missing in: {err}");
        }
    };
    refused(
        &["--url", &url, "--api-key", "devkey", "--api-secret", "wrong"],
        1,
        &["refuses the token", "--api-secret"],
    );
    refused(&["--url", "http://127.0.0.1:1", "--dev"], 1, &["cannot be reached", "--url"]);
    let elsewhere = format!("{url}/nowhere");
    refused(&["--url", &elsewhere, "--dev"], 1, &["no /rtc/v1", "LiveKit protocol"]);
    refused(&["--dev", "--url", &url, "--server-pid", "4000000000"], 1, &["--server-pid"]);
    refused(&["--url", &url], 64, &["--api-key"]);
    refused(&["--dev", "--url", "ftp://example.org"], 64, &["https://"]);
}
