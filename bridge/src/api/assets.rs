//! The web client: its files and pages, and the headers that bind the browser to this origin.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};

/// The page of all client routes.
const INDEX: &str = "index.html";
/// Files whose names change with their content.
const HASHED: &str = "assets/";

/// A file of the web client.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Its content.
    pub bytes: Bytes,
    /// Its media type.
    pub mime: Cow<'static, str>,
    /// Its strong entity tag, with the quotes.
    pub etag: String,
}

/// Where the web client's files come from.
pub trait Assets: Send + Sync + 'static {
    /// A file by its path without a leading slash (`index.html`, `assets/main-4f3c.js`). A file that was compressed before
    /// stands beside its original as `….gz`.
    fn get(&self, path: &str) -> Option<Asset>;
}

struct Site {
    assets: Arc<dyn Assets>,
}

/// All paths that nothing else answers: files, and the client's own routes as its page.
pub(super) fn router(assets: Arc<dyn Assets>, public_url: Option<&str>) -> Router {
    let headers = Arc::new(security_headers(public_url));
    Router::new()
        .fallback(get(file))
        .with_state(Arc::new(Site { assets }))
        .layer(middleware::from_fn_with_state(headers, secure))
}

async fn file(State(site): State<Arc<Site>>, request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    let gzip = accepts_gzip(request.headers());
    if let Some(asset) = site.assets.get(path).filter(|_| !path.is_empty()) {
        return answer(&*site.assets, path, &asset, gzip, request.headers());
    }
    // A client route has no dot in its last part; a file that is not there is an error, not a page.
    let looks_like_file = path.rsplit('/').next().is_some_and(|last| last.contains('.'));
    match site.assets.get(INDEX) {
        Some(index) if !looks_like_file && !path.starts_with(HASHED) => {
            answer(&*site.assets, INDEX, &index, gzip, request.headers())
        }
        _ => (StatusCode::NOT_FOUND, "There is no such page here. / Diese Seite gibt es hier nicht.\n").into_response(),
    }
}

fn answer(assets: &dyn Assets, path: &str, asset: &Asset, gzip: bool, request: &HeaderMap) -> Response {
    let compressed = gzip.then(|| assets.get(&format!("{path}.gz"))).flatten();
    let (body, etag, encoding) = match &compressed {
        Some(compressed) => (&compressed.bytes, &compressed.etag, Some("gzip")),
        None => (&asset.bytes, &asset.etag, None),
    };
    let cache = if path.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = if matches_etag(request, etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Response::new(Body::from(body.clone()))
    };
    let headers = response.headers_mut();
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, &asset.mime);
    set(header::ETAG, etag);
    set(header::CACHE_CONTROL, cache);
    set(header::VARY, "accept-encoding");
    if let Some(encoding) = encoding {
        set(header::CONTENT_ENCODING, encoding);
    }
    response
}

fn matches_etag(request: &HeaderMap, etag: &str) -> bool {
    let given = request.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    given.is_some_and(|given| given.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag))
}

/// Whether `Accept-Encoding` names gzip without refusing it (RFC 9110 §12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = parts.any(|q| q.strip_prefix("q=").is_some_and(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0)));
        named && !refused
    })
}

async fn secure(State(headers): State<Arc<HeaderMap>>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in headers.iter() {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// The browser loads and contacts nothing but this origin, shows the page in no foreign frame, and gives camera,
/// microphone and screen to this page only.
fn security_headers(public_url: Option<&str>) -> HeaderMap {
    // 'self' covers ws: and wss: of the same host in CSP 3; browsers that read it more narrowly need them named.
    let sockets = public_url.and_then(|url| {
        let (scheme, rest) = url.trim_end_matches('/').split_once("://")?;
        Some(format!(" {}://{rest}", if scheme == "https" { "wss" } else { "ws" }))
    });
    let policy = format!(
        "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; connect-src 'self'{}; \
         img-src 'self' data: blob:; media-src 'self' blob:; worker-src 'self' blob:; font-src 'self'; object-src 'none'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
        sockets.unwrap_or_default()
    );
    let mut headers = HeaderMap::new();
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    for (name, value) in [
        (
            "permissions-policy",
            "camera=(self), microphone=(self), display-capture=(self), geolocation=(), payment=(), usb=()",
        ),
        ("referrer-policy", "no-referrer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
}
