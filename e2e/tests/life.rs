//! A server's beginning and end as its clients see them: they can join as soon as it says so, and are told when it stops.

#[path = "../../allocator/src/redis_server.rs"]
#[expect(dead_code, clippy::expect_used, reason = "made for the allocator's tests; a part is used here")]
mod redis_server;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use livekit_protocol::signal_response::Message;
use ratssaal_e2e::{
    bot::{Bot, Options, View},
    meeting::Meeting,
    server::{Server, turn},
    signal, token,
    wait::until,
};
use tokio::time::{Instant, timeout};

/// How soon after the line that prints the address somebody is in.
const SOON: Duration = Duration::from_secs(1);
/// And media flows between two whose WebRTC is not the fastest.
const FLOWING: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn people_can_join_within_a_second_of_the_line_with_the_address() -> Result<()> {
    let _turn = turn().await;
    for v1 in [false, true] {
        let server = Server::start_announced(&[]).await?;
        let said = Instant::now();
        // The first thing that is asked of it at all.
        let path = signal::path_v0(&token::token(&server, "sofort", "erste"), true);
        let (_sender, mut receiver) = signal::open(&server, &path).await?;
        let first = timeout(LIMIT, receiver.next()).await.context("no join response")??;
        ensure!(matches!(first, Some(Message::Join(_))), "the first response is {first:?}");
        let answered = said.elapsed();

        let join = |number| Bot::join(&server, Options::new("sofort", number, true).v1(v1));
        let (eins, zwei) = tokio::try_join!(join(1), join(2)).with_context(|| server.log())?;
        let connected = said.elapsed();
        for bot in [&eins, &zwei] {
            let both =
                |view: &View| (view.received.values().filter(|track| track.packets > 0).count() == 2).then_some(());
            bot.wait("camera and microphone of the other come", LIMIT, both).await?;
        }
        let flowing = said.elapsed();
        println!("v1 {v1}: join response after {answered:?}, connected {connected:?}, media {flowing:?}");
        ensure!(answered < SOON, "in only {answered:?} after the line with the address");
        ensure!(flowing < FLOWING, "media only {flowing:?} after the line with the address");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_tells_everybody_and_ends_with_0() -> Result<()> {
    let _turn = turn().await;
    let mut server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    server.signal("TERM")?;
    let status = server.ends(LIMIT).await?;
    for bot in &meeting.bots {
        let ended = bot.wait("it is told", LIMIT, |view| view.ended.clone()).await?;
        ensure!(ended.contains("ServerShutdown"), "{}: {ended}", bot.options.identity);
    }
    ensure!(status.code() == Some(0), "{status}: {}", server.log());
    Ok(())
}

/// A server of a cluster that is to stop keeps its meetings until they can go elsewhere, and here they cannot: the second
/// signal ends it all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_it_at_once_with_people_in() -> Result<()> {
    let _turn = turn().await;
    let redis = redis_server::Server::new();
    let mut server = Server::start_as(&[], &["--bridge", "eins", "--redis", &redis.url()]).await?;
    let meeting = Meeting::start(&server).await?;
    server.signal("TERM")?;
    until("it takes the signal", LIMIT, || server.log().contains("shutting down").then_some(())).await?;
    meeting.goes_on(&server).await?;
    ensure!(server.ended().is_none(), "it ended with people in: {}", server.log());
    server.signal("TERM")?;
    let status = server.ends(Duration::from_secs(1)).await?;
    ensure!(status.code() == Some(128 + 15), "{status}: {}", server.log());
    Ok(())
}
