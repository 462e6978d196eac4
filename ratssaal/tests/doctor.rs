//! `ratssaal doctor` against our own server, healthy and broken in one way after the other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

mod common;

use std::net::TcpListener;
use std::path::Path;

use common::{Server, certificate, finish, ratssaal, run};

/// Exit status and the line of each check.
fn doctor(args: &[&str]) -> (Option<i32>, Vec<String>) {
    let (code, out, err) = run(&[&["doctor"], args].concat());
    let lines: Vec<String> = out.lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 7, "one line for each check: {out}{err}");
    (code, lines)
}

/// That a check's line says `how`, and holds `part`.
fn says(lines: &[String], check: &str, how: &str, part: &str) {
    let line = lines.iter().find(|line| line.starts_with(check)).unwrap_or_else(|| panic!("{check} in {lines:#?}"));
    assert!(
        line[check.len()..].trim_start().starts_with(how) && line.contains(part),
        "{check} {how} {part}: {lines:#?}"
    );
}

#[test]
fn a_healthy_server_passes_every_check() {
    let server = Server::dev(&["--name", "Stadt Musterstadt", "--seats", "40"]);
    let (code, lines) = doctor(&["--url", &server.url]);
    assert_eq!(code, Some(0), "{lines:#?}");
    let built = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../web/dist/index.html")).exists();
    says(&lines, "http", if built { "ok" } else { "WARN" }, "Stadt Musterstadt");
    for (check, part) in [
        ("name", "127.0.0.1"),
        ("certificate", "none needed"),
        ("token", "guests"),
        ("websocket", "both participants"),
        ("udp", "sound goes from one participant to the other"),
        ("seats", "of 40 are free"),
    ] {
        says(&lines, check, "ok", part);
    }
}

#[test]
fn closed_rooms_need_a_key() {
    let server = Server::dev(&["--auto-create=false"]);
    let (code, lines) = doctor(&["--url", &server.url]);
    assert_eq!(code, Some(1), "{lines:#?}");
    says(&lines, "token", "BAD", "--api-key");
    says(&lines, "udp", "–", "not checked");
}

#[test]
fn a_wrong_key_is_told_from_a_full_server() {
    let server = Server::dev(&["--seats", "1"]);
    let wrong = ["--api-key", "devkey", "--api-secret", "another-secret-another-secret-another"];
    let (code, lines) = doctor(&[&["--url", &server.url], &wrong[..]].concat());
    assert_eq!(code, Some(1), "{lines:#?}");
    says(&lines, "websocket", "BAD", "--api-secret");
    let (code, lines) = doctor(&["--url", &server.url]);
    assert_eq!(code, Some(1), "{lines:#?}");
    says(&lines, "websocket", "BAD", "add a machine");
}

#[test]
fn udp_that_does_not_get_through_is_found() {
    let server = Server::dev(&["--media-bind", "127.0.0.1", "--advertise", "127.0.0.2"]);
    let (code, lines) = doctor(&["--url", &server.url]);
    assert_eq!(code, Some(1), "{lines:#?}");
    says(&lines, "websocket", "ok", "");
    says(&lines, "udp", "BAD", "127.0.0.2");
    says(&lines, "udp", "BAD", "firewall");
}

#[test]
fn a_name_nobody_knows_and_a_port_nobody_listens_on() {
    let (code, lines) = doctor(&["--url", "https://nothing.invalid"]);
    assert_eq!(code, Some(1), "{lines:#?}");
    says(&lines, "name", "BAD", "A or AAAA record");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (_, lines) = doctor(&["--url", &format!("http://127.0.0.1:{port}")]);
    says(&lines, "certificate", "BAD", "firewall");
}

#[test]
fn mistakes_on_the_command_line_are_64() {
    for args in [
        &["doctor"][..],
        &["doctor", "--url", "meet.example"],
        &["doctor", "--url", "http://localhost", "--ca", "/nowhere"],
    ] {
        assert_eq!(run(args).0, Some(64), "{args:?}");
    }
}

/// What the doctor says of a server with such a certificate.
fn behind(name: &str, year: i32, trusted: bool) -> (Option<i32>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    certificate(folder.path(), name, year);
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (cert, key, ca) = (file("cert.pem"), file("key.pem"), file("ca.pem"));
    let server = Server::dev(&["--certificate", &cert, "--key", &key]);
    let port = server.url.rsplit(':').next().unwrap().trim_end_matches('/');
    let url = format!("https://rat.example:{port}");
    let mut args = vec!["doctor", "--url", &url, "--address", "127.0.0.1"];
    args.extend(if trusted { vec!["--ca", &ca] } else { Vec::new() });
    let (code, out, _) = finish(ratssaal(&args).output().unwrap());
    (code, out.lines().map(str::to_owned).collect())
}

#[test]
fn certificates_are_judged() {
    let (code, lines) = behind("rat.example", 2200, true);
    assert_eq!(code, Some(0), "{lines:#?}");
    says(&lines, "certificate", "ok", "TLS 1.3, valid for rat.example");
    says(&lines, "udp", "ok", "");
    for (name, year, trusted, part) in [
        ("rat.example", 2200, false, "not trusted here"),
        ("other.example", 2200, true, "not for rat.example"),
        ("rat.example", 2021, true, "expired"),
    ] {
        let (code, lines) = behind(name, year, trusted);
        assert_eq!(code, Some(1), "{lines:#?}");
        says(&lines, "certificate", "BAD", part);
        says(&lines, "http", "–", "not checked");
    }
}
