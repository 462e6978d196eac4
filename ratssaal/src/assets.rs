//! The web client's files: `web/dist` as the release binary carries it, or as a debug build finds it on disk.

use std::borrow::Cow;

use bytes::Bytes;
use ratssaal_bridge::{Asset, Assets};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "../web/dist"]
#[allow_missing = true]
struct Dist;

/// What a binary without the web client shows.
const NOT_BUILT: &str = "<!doctype html><html lang=\"de\"><meta charset=\"utf-8\"><title>Ratssaal</title><h1>Ratssaal</h1>\
    <p>Der Server läuft, aber ohne Web-Client. Rufen Sie <code>make web</code> auf und bauen und starten Sie den Server neu.</p>\
    <p lang=\"en\">The server runs, but without the web client. Run <code>make web</code>, then build and start the server \
    again.</p></html>\n";

/// The files of the web client, or a page that says how to build it.
pub(crate) struct WebClient;

impl Assets for WebClient {
    fn get(&self, path: &str) -> Option<Asset> {
        match Dist::get(path) {
            Some(EmbeddedFile { data, metadata }) => Some(asset(path, data, metadata.sha256_hash())),
            None => (path == "index.html").then(not_built),
        }
    }
}

fn asset(path: &str, data: Cow<'static, [u8]>, hash: [u8; 32]) -> Asset {
    let mime = mime_guess::from_path(path).first_or_octet_stream();
    let charset = if mime.type_() == "text" { "; charset=utf-8" } else { "" };
    let hash: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let bytes = match data {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    Asset { bytes, mime: format!("{mime}{charset}").into(), etag: format!("\"{hash}\"") }
}

fn not_built() -> Asset {
    let bytes = Bytes::from_static(NOT_BUILT.as_bytes());
    Asset { bytes, mime: "text/html; charset=utf-8".into(), etag: "\"not-built\"".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_a_page_and_nothing_outside_the_folder() {
        let page = WebClient.get("index.html").unwrap();
        assert_eq!(page.mime, "text/html; charset=utf-8");
        assert!(String::from_utf8_lossy(&page.bytes).contains("<title>"));
        for outside in ["../package.json", "/etc/passwd", "assets/../../package.json", "nothing.js"] {
            assert!(WebClient.get(outside).is_none(), "{outside}");
        }
    }

    #[test]
    fn the_page_is_the_built_one_if_there_is_one() {
        let page = WebClient.get("index.html").unwrap().bytes;
        match std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../web/dist/index.html")) {
            Ok(built) => assert_eq!(page, built),
            Err(_) => assert_eq!(page, NOT_BUILT),
        }
    }

    #[test]
    fn types_and_tags() {
        let script = asset("assets/a.js", b"1".into(), [1; 32]);
        assert_eq!(script.mime, "text/javascript; charset=utf-8");
        assert_eq!(script.etag, format!("\"{}\"", "01".repeat(16)));
        assert_eq!(asset("a.woff2", b"".into(), [0; 32]).mime, "font/woff2");
    }
}
