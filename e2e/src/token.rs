//! Access tokens: good ones, and the ones a server must refuse. Written out by hand, because libraries only make good ones.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::hmac;
use serde_json::{Value, json};

use crate::server::Server;

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// What a participant of `room` may do by default: everything but administration.
#[must_use]
pub fn grants(room: &str) -> Value {
    json!({ "roomJoin": true, "room": room, "canPublish": true, "canSubscribe": true, "canPublishData": true })
}

/// Claims for `identity` with `grants`, valid from a minute ago until in an hour.
#[must_use]
pub fn claims(server: &Server, identity: &str, grants: Value) -> Value {
    json!({
        "iss": server.key, "sub": identity, "name": identity, "nbf": now() - 60, "exp": now() + 3600, "video": grants,
    })
}

fn encode(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Signs `claims` with `secret` (HS256).
#[must_use]
pub fn sign(claims: &Value, secret: &str) -> String {
    let body = format!("{}.{}", encode(&json!({ "alg": "HS256", "typ": "JWT" })), encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body.as_bytes());
    format!("{body}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

/// The same claims with `alg: none` and no signature.
#[must_use]
pub fn unsigned(claims: &Value) -> String {
    format!("{}.{}.", encode(&json!({ "alg": "none", "typ": "JWT" })), encode(claims))
}

/// A token that lets `identity` into `room`.
#[must_use]
pub fn token(server: &Server, room: &str, identity: &str) -> String {
    sign(&claims(server, identity, grants(room)), &server.secret)
}
