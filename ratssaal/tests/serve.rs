//! The running binary: the ready line, probes, the web client, signals, sources of configuration.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use common::{Server, finish, ratssaal, run};

fn get(server: &Server, path: &str) -> String {
    server.get(path)
}

#[test]
fn when_it_says_ready_it_is() {
    let server = Server::dev(&[]);
    for path in ["/readyz", "/livez"] {
        let answer = get(&server, path);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    let metrics = get(&server, "/metrics");
    for name in ["ratssaal_http_connections_total", "ratssaal_rooms"] {
        assert!(metrics.contains(name), "{name} is missing in {metrics}");
    }
}

#[test]
fn the_operations_page_explains_every_metric() {
    let page = include_str!("../../docs/operations.md");
    let metrics = get(&Server::dev(&[]), "/metrics");
    let names: Vec<&str> = metrics.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next()).collect();
    assert!(names.len() > 30, "{metrics}");
    for name in names {
        assert!(page.contains(&format!("`{name}")), "{name} is missing in docs/operations.md");
    }
}

#[test]
fn the_start_page_is_there_or_says_how_to_build_it() {
    let server = Server::dev(&[]);
    let answer = get(&server, "/");
    let built = answer.contains("<script");
    let told = answer.contains("make web");
    assert!(answer.contains("text/html") && (built || told), "{answer}");
    assert!(answer.to_lowercase().contains("content-security-policy: "), "{answer}");
}

#[test]
fn one_sigterm_ends_it_in_order() {
    for signal in ["TERM", "INT"] {
        let server = Server::dev(&["--log-format", "json"]);
        server.signal(signal);
        let (status, log) = server.end();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains(&format!("\"signal\":\"SIG{signal}\"")), "{log}");
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let server = Server::dev(&["--log-format", "text"]);
    // A request whose body is not sent to the end keeps the server from ending; it asks for that body by 100 Continue.
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let head = "POST /api/v1/join HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n";
    stream.write_all(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes()).unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100");
    server.signal("TERM");
    server.wait_for_log("shutting down");
    server.signal("TERM");
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(143), "{log}");
}

#[test]
fn the_configuration_comes_from_file_environment_and_flags() {
    let folder = tempfile::tempdir().unwrap();
    let (_, keys, _) = run(&["keys"]);
    let path = folder.path().join("ratssaal.toml");
    std::fs::write(&path, format!("{keys}\n[brand]\nname = \"Aus der Datei\"\n[http]\nbind = \"127.0.0.1:1\"\n"))
        .unwrap();
    let mut command = ratssaal(&["serve", "--dev", "--bind", "127.0.0.1:0", "--media-workers", "1"]);
    command.env("RATSSAAL_CONFIG", &path).env("RATSSAAL_BRAND__IMPRINT", "https://www.example.de/impressum");
    let server = Server::start(command);
    let answer = get(&server, "/api/v1/config");
    assert!(answer.contains("Aus der Datei") && answer.contains("https://www.example.de/impressum"), "{answer}");
}

#[test]
fn what_a_newer_operator_sets_is_left_out_and_logged() {
    let mut command = ratssaal(&["serve", "--dev", "--bind", "127.0.0.1:0", "--media-workers", "1"]);
    command.env("RATSSAAL_HTTP__FUTURE", "1");
    let (status, _, said) = finish(command.output().unwrap());
    assert!(status == Some(64) && said.contains("http.future"), "{status:?} {said}");
    command.env("RATSSAAL_UNKNOWN_SETTINGS", "warn");
    let log = Server::start(command).wait_for_log("left out");
    assert!(log.contains("unknown setting http.future in the environment variable RATSSAAL_HTTP__FUTURE"), "{log}");
}

#[test]
fn logs_are_json_when_nobody_sits_at_a_terminal() {
    let server = Server::dev(&[]);
    let log = server.wait_for_log("listening");
    for line in log.lines() {
        let value: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(value["level"].is_string() && value["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn secrets_are_in_no_log() {
    let server = Server::dev(&["--log-level", "trace"]);
    get(&server, "/readyz");
    server.signal("TERM");
    let (_, log) = server.end();
    assert!(log.len() > 1000 && !log.contains("secret-secret"), "{}", log.len());
}
