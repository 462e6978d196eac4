//! What somebody notices who comes while Redis is away: a room that is open on the server lets a few in, others are told to try
//! again, and when Redis is back all servers say the same, with everybody in it once.

#[path = "../../allocator/src/redis_server.rs"]
#[allow(dead_code, clippy::expect_used, reason = "made for the allocator's tests; a part is used here")]
mod redis_server;
mod stage;

use anyhow::{Context, Result, ensure};
use livekit_protocol::TrackSource;
use ratssaal_e2e::{
    bot::{Bot, Options, View},
    meeting::Meeting,
    server::{Server, turn},
};
use redis_server::Server as Redis;
use stage::{LIMIT, eventually, knock, people, ready, server, server_with, validate};

/// Data that survives a restart.
const KEPT: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// Waits until a server is lent so many seats.
async fn lent(server: &Server, seats: f64) -> Result<()> {
    eventually("seats are lent", seats, async || server.metric("ratssaal_seats_lent").await).await
}

/// Somebody who comes in by the lease.
async fn by_lease(server: &Server, options: Options) -> Result<Bot> {
    let name = "ratssaal_joins_total{result=\"leased\"}";
    let before = server.metric(name).await.unwrap_or(0.0);
    let bot = Bot::join(server, options).await.with_context(|| server.log())?;
    ensure!(server.metric(name).await? == before + 1.0, "not by the lease\n{}", server.log());
    Ok(bot)
}

/// Waits until one sees the other's camera.
async fn sees(viewer: &Bot, publisher: &str) -> Result<()> {
    let camera = |view: &View| view.track_of(publisher, TrackSource::Camera);
    let camera = viewer.wait("the camera is known", LIMIT, camera).await?;
    viewer.flows(&camera).await
}

/// Refused, to be tried again.
async fn refused(server: &Server, room: &str, identity: &str) -> Result<()> {
    let answer = knock(server, room, identity).await?;
    let (status, again) = (answer.status().as_u16(), answer.headers().get("retry-after").cloned());
    ensure!(status == 503 && again.is_some_and(|after| after == "1"), "{status}\n{}", server.log());
    Ok(())
}

fn names(numbers: &[u32]) -> Vec<String> {
    numbers.iter().map(|number| format!("bot-{number}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_away_and_comes_back_with_its_data() -> Result<()> {
    come_and_go(KEPT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_away_and_comes_back_empty() -> Result<()> {
    come_and_go(&[]).await
}

async fn come_and_go(arguments: &[&str]) -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::start(tempfile::tempdir()?, arguments);
    let url = redis.url();
    // 28 are free then: two are lent.
    let eins = server_with("eins", &url, &["--seats", "30"]).await?;
    let meeting = Meeting::start(&eins).await?;
    let zwei = server("zwei", &url).await?;
    eventually("both are attached", 2.0, async || ready(&zwei).await).await?;
    lent(&eins, 2.0).await?;

    let folder = redis.crash();
    let third = by_lease(&eins, Options::new("beside", 3, true)).await?;
    sees(&third, "bot-1").await?;
    for bot in &meeting.bots {
        sees(bot, "bot-3").await?;
    }
    let fourth = by_lease(&eins, Options::new("beside", 4, false).v1(true)).await?;
    sees(&fourth, "bot-3").await?;
    refused(&eins, "beside", "bot-5").await.context("one too many for the lease")?;
    refused(&eins, "neu", "bot-5").await.context("a room that is not open here")?;
    refused(&zwei, "beside", "bot-5").await.context("a room that is open elsewhere only")?;
    for server in [&eins, &zwei] {
        let away = async || Ok(server.log().contains("not attached to the allocator"));
        eventually("it is known that nobody can be asked", true, away).await?;
        let status = reqwest::get(format!("{}/readyz", server.http)).await?.status();
        ensure!(status == 200, "{status}: a Service would lead nobody here, who may come in or come back");
    }
    // Who leaves is gone for those here at once.
    fourth.leave().await?;
    let gone = |view: &View| view.other("bot-4").is_none().then_some(());
    third.wait("it has left", LIMIT, gone).await?;
    ensure!(eins.metric("ratssaal_room_log_waiting").await? > 0.0, "it is logged already");
    meeting.goes_on(&eins).await?;

    let _redis = Redis::start(folder, arguments);
    for server in [&zwei, &eins] {
        eventually("each is in once", names(&[1, 2, 3]), async || people(server, "beside").await).await?;
    }
    eventually("each has one seat", 3.0, async || zwei.metric("ratssaal_allocator_seats").await).await?;
    eventually("nothing waits any more", 0.0, async || eins.metric("ratssaal_room_log_waiting").await).await?;
    third.check_alive()?;
    meeting.goes_on(&eins).await?;
    let status = async || validate(&zwei, "beside", "probe").await;
    eventually("people come through any server", 101, status).await?;
    let fifth = Bot::join(&zwei, Options::new("beside", 5, false)).await.with_context(|| zwei.log())?;
    sees(&fifth, "bot-3").await
}

/// Not gone, but without an answer: the same.
#[tokio::test(flavor = "multi_thread")]
async fn redis_hangs() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let eins = server_with("eins", &redis.url(), &["--seats", "30"]).await?;
    let meeting = Meeting::start(&eins).await?;
    lent(&eins, 2.0).await?;
    redis.signal("-STOP");
    let third = by_lease(&eins, Options::new("beside", 3, true)).await?;
    for bot in &meeting.bots {
        sees(bot, "bot-3").await?;
    }
    redis.signal("-CONT");
    eventually("it is in", 3.0, async || eins.metric("ratssaal_allocator_seats").await).await?;
    eventually("nothing waits any more", 0.0, async || eins.metric("ratssaal_room_log_waiting").await).await?;
    ensure!(people(&eins, "beside").await? == names(&[1, 2, 3]), "somebody is missing or there twice");
    third.check_alive()?;
    meeting.goes_on(&eins).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_dies_while_redis_is_away_and_comes_back_with_its_data() -> Result<()> {
    server_dies(KEPT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_dies_while_redis_is_away_and_comes_back_empty() -> Result<()> {
    server_dies(&[]).await
}

/// Of a room on two servers one is killed: who sat there comes to the other one by its lease and is in the room once, and who
/// does not come back is logged as left in the end.
async fn server_dies(arguments: &[&str]) -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::start(tempfile::tempdir()?, arguments);
    let url = redis.url();
    let mut eins = server_with("eins", &url, &["--seats", "2"]).await?;
    let meeting = Meeting::start(&eins).await?;
    let zwei = server_with("zwei", &url, &["--seats", "30"]).await?;
    let third = Bot::join(&zwei, Options::new("beside", 3, true)).await.with_context(|| zwei.log())?;
    let here = async || zwei.metric("ratssaal_participants{state=\"active\"}").await;
    eventually("it sits on the second one", 1.0, here).await?;
    sees(&third, "bot-1").await?;
    lent(&zwei, 2.0).await?;

    let folder = redis.crash();
    eins.kill();
    drop(meeting);
    let first = by_lease(&zwei, Options::new("beside", 1, true).v1(true)).await?;
    sees(&third, "bot-1").await?;
    sees(&first, "bot-3").await?;

    let _redis = Redis::start(folder, arguments);
    eventually("who came back is in once", names(&[1, 3]), async || people(&zwei, "beside").await).await?;
    eventually("each has one seat", 2.0, async || zwei.metric("ratssaal_allocator_seats").await).await?;
    let drei = server("drei", &url).await?;
    eventually("another server says the same", names(&[1, 3]), async || people(&drei, "beside").await).await?;
    first.check_alive()?;
    third.check_alive()
}
