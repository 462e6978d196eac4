//! Thirty participants in one room, ten of them with a simulcast camera and a microphone, everyone subscribed to everything:
//! nothing is lost on loopback, nothing is changed, nothing comes from the wrong one.
//!
//! `E2E_PARTICIPANTS` and `E2E_PUBLISHERS` change the size.

use std::{env, time::Duration};

use anyhow::{Context, Result};
use ratssaal_e2e::{
    bot::{Bot, Options, View},
    media::AUDIO,
    received::Received,
    server::Server,
};

/// Audio packets everyone must have of everyone: four seconds.
const AUDIO_PACKETS: u64 = 200;
/// Video packets everyone must have of everyone: four seconds of the lowest layer, with room for its start.
const VIDEO_PACKETS: u64 = 30;

fn size(name: &str, default: u32) -> u32 {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// How many received tracks have enough packets.
fn flowing(view: &View) -> usize {
    let enough = |video| if video { VIDEO_PACKETS } else { AUDIO_PACKETS };
    view.received.values().filter(|received| received.packets >= enough(received.video)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn thirty() -> Result<()> {
    let server = Server::start().await?;
    let (participants, publishers) = (size("E2E_PARTICIPANTS", 30), size("E2E_PUBLISHERS", 10));
    let mut bots = Vec::new();
    for number in 0..participants {
        // Listeners first, so that publications also reach who is there already; every third on v1.
        let publish = number >= participants - publishers;
        let joined = Bot::join(&server, Options::new("thirty", number, publish).v1(number % 3 == 0)).await;
        bots.push(joined.with_context(|| format!("bot {number}:\n{}", server.log()))?);
    }
    for bot in &bots {
        let expected = 2 * usize::try_from(publishers - u32::from(bot.options.publish))?;
        let what = format!("{} gets {expected} tracks", bot.options.identity);
        let waited = bot.wait(&what, Duration::from_secs(60), |view| (flowing(view) >= expected).then_some(())).await;
        waited.map_err(|error| {
            error.context(
                bot.view(|view| {
                    format!("{} of {expected} flow: {:#?}\n{}", flowing(view), view.received, server.log())
                }),
            )
        })?;
        bot.check_alive()?;
    }
    for bot in bots.iter().filter(|bot| bot.options.publish) {
        bot.stop_publishing().await?;
    }
    for bot in &bots {
        let senders = match bot.has_everything().await {
            Ok(senders) => senders,
            Err(error) => {
                let lacking: Vec<&str> = {
                    let lacks = |bot: &&Bot| bot.view(|view| !view.received.values().all(Received::is_complete));
                    bots.iter().filter(lacks).map(|bot| bot.options.identity.as_str()).collect()
                };
                let metrics = reqwest::get(format!("{}/metrics", server.http)).await?.text().await?;
                let media: Vec<&str> = metrics.lines().filter(|line| line.starts_with("ratssaal_media_")).collect();
                return Err(error.context(format!("{lacking:?} lack something\n{}", media.join("\n"))));
            }
        };
        assert!(!senders.contains(&bot.options.number), "{} got its own media back", bot.options.identity);
        let others = publishers - u32::from(bot.options.publish);
        assert_eq!(senders.len(), usize::try_from(others)?, "{} has media of {senders:?}", bot.options.identity);
    }
    let received: u64 = bots.iter().map(|bot| bot.view(View::packets)).sum();
    let sent: u64 = bots.iter().map(|bot| bot.view(|view| view.sent.values().sum::<u64>())).sum();
    let audio: u64 = bots.iter().map(|bot| bot.view(|view| view.sent.get(&AUDIO).copied().unwrap_or_default())).sum();
    println!(
        "{participants} participants, {publishers} publishing: {sent} packets sent ({audio} audio), {received} received, none lost"
    );
    Ok(())
}
