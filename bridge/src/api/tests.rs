//! The HTTP APIs over real HTTP on the real embedded allocator: the server API by livekit-api's client, everything else
//! and the errors by raw requests.

mod own;
mod server;
mod site;

use http::StatusCode;
use livekit_protocol::ClientInfo;
use serde_json::Value;

use crate::room::ids::random_base62;
use crate::room::{JoinRequest, Joined, Way};
use crate::testing::{TestBridge, guest, soon};

/// Somebody who is in a room, as a session would be.
async fn enter(bridge: &TestBridge, room: &str, identity: &str) -> Joined {
    let request = JoinRequest {
        claims: guest(room, identity),
        client: ClientInfo::default(),
        join_id: random_base62(12),
        forwarded_from: None,
    };
    match soon(bridge.rooms.join(&request, &[])).await.unwrap() {
        Way::Here(joined) => *joined,
        Way::There(placed) => panic!("{placed:?}"),
    }
}

async fn post(bridge: &TestBridge, path: &str, body: &str, token: Option<&str>) -> (StatusCode, Value) {
    let url = format!("http://{}{path}", bridge.address);
    let request = reqwest::Client::new().post(url).header("content-type", "application/json").body(body.to_owned());
    let request = token.into_iter().fold(request, reqwest::RequestBuilder::bearer_auth);
    let response = soon(request.send()).await.unwrap();
    let status = response.status();
    (status, serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or(Value::Null))
}
