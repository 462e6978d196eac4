//! Participants on the independent `webrtc` crate, v0 and v1 mixed: what one publishes is what the others get.

use std::time::Duration;

use anyhow::Result;
use ratssaal_e2e::{
    bot::{Bot, Options},
    server::Server,
};

#[tokio::test(flavor = "multi_thread")]
async fn everyone_gets_what_everyone_publishes() -> Result<()> {
    let server = Server::start().await?;
    let mut bots = Vec::new();
    for number in 0..4 {
        bots.push(Bot::join(&server, Options::new("bots", number, true).v1(number % 2 == 1)).await?);
    }
    for bot in &bots {
        let what = format!("{} gets 3 cameras and 3 microphones", bot.options.identity);
        let enough = |view: &ratssaal_e2e::bot::View| {
            let flowing = view.received.values().filter(|received| received.packets > 50);
            (flowing.count() == 6).then_some(())
        };
        let waited = bot.wait(&what, Duration::from_secs(20), enough).await;
        waited.map_err(|error| error.context(bot.view(|view| format!("{:#?}\n{}", view.received, server.log()))))?;
        bot.check_alive()?;
    }
    for bot in &bots {
        bot.view(|view| {
            for (sid, received) in &view.received {
                assert!(received.is_complete(), "{} {sid}: {received:?}", bot.options.identity);
            }
        });
    }
    for bot in bots {
        bot.leave().await?;
    }
    Ok(())
}
