//! The web client's files and pages.

use reqwest::{Client, Response};

use super::*;
use crate::Config;
use crate::testing::bridge;

async fn get(bridge: &TestBridge, path: &str, headers: &[(&str, &str)]) -> Response {
    let request = Client::new().get(format!("http://{}{path}", bridge.address));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    soon(request.send()).await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test]
async fn pages_are_the_client_and_missing_files_are_errors() {
    let bridge = bridge(Config::default()).await;
    for (path, status, mime) in [
        ("/", 200, "text/html"),
        ("/r/bauausschuss", 200, "text/html"),
        ("/index.html", 200, "text/html"),
        ("/assets/main-0123.js", 200, "text/javascript"),
        ("/assets/gone-4567.js", 404, ""),
        ("/assets/", 404, ""),
        ("/favicon.ico", 404, ""),
        ("/../Cargo.toml", 404, ""),
        ("/%2e%2e/secret.txt", 404, ""),
    ] {
        let response = get(&bridge, path, &[]).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert!(header(&response, "content-type").starts_with(mime), "{path}");
    }
    let head = Client::new().head(format!("http://{}/", bridge.address)).send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
}

#[tokio::test]
async fn hashed_files_are_kept_for_ever_and_pages_are_asked_for_again() {
    let bridge = bridge(Config::default()).await;
    let script = get(&bridge, "/assets/main-0123.js", &[]).await;
    assert_eq!(header(&script, "cache-control"), "public, max-age=31536000, immutable");
    let page = get(&bridge, "/r/x", &[]).await;
    assert_eq!(header(&page, "cache-control"), "no-cache");
    let etag = header(&page, "etag").to_owned();
    for (given, status) in [(etag.as_str(), 304), (&format!("\"x\", W/{etag}"), 304), ("\"x\"", 200)] {
        let again = get(&bridge, "/r/x", &[("if-none-match", given)]).await;
        assert_eq!(again.status().as_u16(), status, "{given}");
    }
}

#[tokio::test]
async fn compressed_files_go_to_those_who_take_them() {
    let bridge = bridge(Config::default()).await;
    for (accepted, encoding, body) in [
        ("gzip, deflate, br", "gzip", "pretend this is gzip"),
        ("br, GZIP;q=0.5", "gzip", "pretend this is gzip"),
        ("gzip;q=0", "", "export {}"),
        ("br", "", "export {}"),
    ] {
        let response = get(&bridge, "/assets/main-0123.js", &[("accept-encoding", accepted)]).await;
        assert_eq!(header(&response, "content-encoding"), encoding, "{accepted}");
        assert_eq!(header(&response, "content-type"), "text/javascript");
        assert_eq!(header(&response, "vary"), "accept-encoding");
        assert_eq!(response.text().await.unwrap(), body);
    }
}

#[tokio::test]
async fn the_browser_is_bound_to_this_origin() {
    let public_url = Some("https://konferenz.example.de".to_owned());
    let bridge = bridge(Config { public_url, ..Config::default() }).await;
    for path in ["/", "/assets/main-0123.js", "/missing.js"] {
        let response = get(&bridge, path, &[]).await;
        let policy = header(&response, "content-security-policy");
        for part in [
            "default-src 'self';",
            "script-src 'self' 'wasm-unsafe-eval';",
            "style-src 'self';",
            "connect-src 'self' wss://konferenz.example.de;",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {part} is missing in {policy}");
        }
        assert!(!policy.contains("unsafe-inline") && !policy.contains("'unsafe-eval'"), "{policy}");
        let permissions = header(&response, "permissions-policy");
        assert!(permissions.contains("camera=(self), microphone=(self), display-capture=(self)"), "{permissions}");
        assert_eq!(header(&response, "x-content-type-options"), "nosniff");
        assert_eq!(header(&response, "referrer-policy"), "no-referrer");
    }
}
