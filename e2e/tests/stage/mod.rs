//! Servers of a cluster on one Redis, and what is asked of them.
#![allow(dead_code, reason = "each test uses a part")]

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use livekit_api::services::room::RoomClient;
use ratssaal_e2e::{server::Server, token};
use serde_json::Value;
use tokio::time::{Instant, sleep};

/// Longest that anything may take that is to happen by itself: a lost server is noticed after 13 s.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A server of the cluster on this Redis.
pub(crate) async fn server(name: &str, redis: &str) -> Result<Server> {
    server_with(name, redis, &[]).await
}

/// The same with further arguments.
pub(crate) async fn server_with(name: &str, redis: &str, more: &[&str]) -> Result<Server> {
    let arguments = ["--bridge", name, "--redis", redis, "--media-workers", "1", "--drain-within", "1s"];
    Server::start_as(&[], &[&arguments, more].concat()).await
}

/// The bridges that a server's own allocator holds for ready.
pub(crate) async fn ready(server: &Server) -> Result<f64> {
    server.metric("ratssaal_allocator_bridges{state=\"ready\"}").await
}

pub(crate) fn api(server: &Server) -> RoomClient {
    RoomClient::with_api_key(&server.http, &server.key, &server.secret)
}

/// What a server answers to a call of its API that a client library does not know: status and body.
pub(crate) async fn twirp(server: &Server, method: &str, grants: Value, request: Value) -> Result<(u16, Value)> {
    let token = token::sign(&token::claims(server, "admin", grants), &server.secret);
    let url = format!("{}/twirp/livekit.RoomService/{method}", server.http);
    let answer = reqwest::Client::new().post(url).bearer_auth(token).json(&request).send().await?;
    Ok((answer.status().as_u16(), answer.json().await?))
}

/// The identities in a room as this server tells them, sorted.
pub(crate) async fn people(server: &Server, room: &str) -> Result<Vec<String>> {
    let mut people: Vec<String> =
        api(server).list_participants(room).await?.into_iter().map(|participant| participant.identity).collect();
    people.sort_unstable();
    Ok(people)
}

/// The sids of the rooms of a name.
pub(crate) async fn sids(server: &Server, room: &str) -> Result<Vec<String>> {
    let rooms = api(server).list_rooms(vec![]).await?;
    Ok(rooms.into_iter().filter(|open| open.name == room).map(|open| open.sid).collect())
}

/// Asks until the answer is right; then nothing else may have been said but errors in between.
pub(crate) async fn eventually<T: std::fmt::Debug + PartialEq>(
    what: &str,
    right: T,
    mut ask: impl AsyncFnMut() -> Result<T>,
) -> Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        let said = ask().await;
        if said.as_ref().is_ok_and(|said| *said == right) {
            return Ok(());
        }
        if Instant::now() > end {
            bail!("{what}: not {right:?} within {LIMIT:?}, but {said:?}");
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The first answer that is not an error, as there may be some while a server finds back to Redis.
pub(crate) async fn answered<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + LIMIT;
    loop {
        match ask().await {
            Ok(said) => return Ok(said),
            Err(error) if Instant::now() > end => return Err(error.context(format!("{what}: no answer in {LIMIT:?}"))),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Whether a room is still the one of before: the first answer has to say so.
pub(crate) async fn is_still(server: &Server, room: &str, before: &[String]) -> Result<()> {
    let now = answered("which room it is", async || sids(server, room).await).await?;
    ensure!(now == before && now.len() == 1, "{room} was {before:?} and is {now:?}");
    Ok(())
}

/// Whether somebody could get in: the status of the answer to a plain request.
pub(crate) async fn validate(server: &Server, room: &str, identity: &str) -> Result<u16> {
    Ok(knock(server, room, identity).await?.status().as_u16())
}

/// The answer to a plain request to come in.
pub(crate) async fn knock(server: &Server, room: &str, identity: &str) -> Result<reqwest::Response> {
    let token = token::token(server, room, identity);
    let answer = reqwest::Client::new()
        .get(format!("{}/rtc?access_token={token}&auto_subscribe=1", server.http))
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .timeout(LIMIT)
        .send()
        .await?;
    Ok(answer)
}
