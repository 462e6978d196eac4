//! One room on several bridges: real servers on one real Redis, bots of the independent webrtc crate. Everybody sees and
//! hears everybody, wherever they sit; data stays in order; what dies and comes back does so without anybody rejoining.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use livekit_protocol::{DataPacket, UserPacket, data_packet::Value};
use ratssaal_e2e::{
    bot::{Bot, Heard, Options, View},
    metrics::Metrics,
    server::{Server, turn},
};
use tokio::time::{Instant, sleep};

#[path = "../../allocator/src/redis_server.rs"]
#[expect(dead_code, clippy::expect_used, reason = "made for the allocator's tests; a part is used here")]
mod redis_server;

use redis_server::Server as Redis;

/// Packets of each track that must come: audio four seconds, video with room for its start.
const AUDIO: u64 = 200;
const VIDEO: u64 = 60;

/// Several bridges with so many seats each.
struct Cluster {
    bridges: Vec<Server>,
    redis: Redis,
    seats: String,
}

impl Cluster {
    async fn start(names: &[&str], seats: u32) -> Result<Self> {
        let mut cluster = Self { bridges: Vec::new(), redis: Redis::new(), seats: seats.to_string() };
        for name in names {
            cluster.add(name).await?;
        }
        Ok(cluster)
    }

    /// Starts one more bridge, at a site of its own: who comes to it sits there as long as there is room.
    async fn add(&mut self, name: &str) -> Result<()> {
        let redis = self.redis.url();
        let settings = [
            ("RATSSAAL_CLUSTER__REDIS", redis.as_str()),
            ("RATSSAAL_CLUSTER__BRIDGE", name),
            ("RATSSAAL_SITE__NAME", name),
            ("RATSSAAL_ROOM__SEATS", &self.seats),
            ("RATSSAAL_MEDIA__WORKERS", "1"),
        ];
        self.bridges.push(Server::start_with(&settings).await?);
        Ok(())
    }

    fn logs(&self) -> String {
        self.bridges.iter().map(Server::log).collect::<Vec<_>>().join("\n----\n")
    }

    /// Participants that sit on each bridge.
    async fn seated(&self) -> Result<Vec<f64>> {
        let mut all = Vec::new();
        for bridge in &self.bridges {
            all.push(Metrics::read(bridge).await?.sum("ratssaal_participants{", &[]));
        }
        Ok(all)
    }

    /// So many join through the bridges in turn, all publishing.
    async fn join(&self, room: &str, count: u32) -> Result<Vec<Bot>> {
        let mut bots = Vec::new();
        for number in 0..count {
            let through = &self.bridges[number as usize % self.bridges.len()];
            bots.push(self.join_through(through, room, number).await?);
        }
        Ok(bots)
    }

    /// One joins; it may have to be waited until it is known that a bridge is dead.
    async fn join_through(&self, through: &Server, room: &str, number: u32) -> Result<Bot> {
        let end = Instant::now() + Duration::from_secs(15);
        loop {
            match Bot::join(through, Options::new(room, number, true).v1(number.is_multiple_of(2))).await {
                Err(error) if format!("{error:#}").contains("503") && Instant::now() < end => {
                    sleep(Duration::from_millis(200)).await;
                }
                joined => return joined.with_context(|| format!("bot {number}:\n{}", self.logs())),
            }
        }
    }
}

/// How many received tracks have enough packets.
fn flowing(view: &View) -> usize {
    view.received.values().filter(|received| received.packets >= if received.video { VIDEO } else { AUDIO }).count()
}

/// Waits until everybody has media of everybody else.
async fn all_flows(cluster: &Cluster, bots: &[Bot]) -> Result<()> {
    let expected = 2 * (bots.len() - 1);
    for bot in bots {
        let what = format!("{} gets {expected} tracks", bot.options.identity);
        let waited = bot.wait(&what, Duration::from_secs(40), |view| (flowing(view) >= expected).then_some(())).await;
        waited.map_err(|error| {
            let seen = bot.view(|view| format!("{} of {expected} flow: {:#?}", flowing(view), view.received));
            error.context(format!("{seen}\n{}", cluster.logs()))
        })?;
        bot.check_alive()?;
    }
    Ok(())
}

/// Waits until everybody has got something new of each track there was.
async fn all_goes_on(cluster: &Cluster, bots: &[Bot], within: Duration) -> Result<()> {
    for bot in bots {
        let before: Vec<(String, u64)> =
            bot.view(|view| view.received.iter().map(|(sid, received)| (sid.clone(), received.packets)).collect());
        let new = |view: &View| before.iter().all(|(sid, packets)| view.packets_of(sid) >= packets + 20).then_some(());
        let what = format!("{} goes on", bot.options.identity);
        if let Err(error) = bot.wait(&what, within, new).await {
            let still = bot.view(|view| {
                let still = before.iter().filter(|(sid, packets)| view.packets_of(sid) < packets + 20);
                still.map(|(sid, _)| format!("{sid}: {:?}", view.received.get(sid))).collect::<Vec<_>>().join("\n")
            });
            return Err(error.context(format!("{still}\n{}", cluster.logs())));
        }
        bot.check_alive()?;
    }
    Ok(())
}

fn packet(text: &str) -> DataPacket {
    let user = UserPacket { payload: text.as_bytes().to_vec(), ..UserPacket::default() };
    DataPacket { value: Some(Value::User(user)), ..DataPacket::default() }
}

fn texts(data: &[Heard], from: &str) -> Vec<String> {
    let texts = data.iter().filter(|heard| heard.packet.participant_identity == from);
    let text = |heard: &Heard| match &heard.packet.value {
        Some(Value::User(user)) => String::from_utf8_lossy(&user.payload).into_owned(),
        _ => String::new(),
    };
    texts.map(text).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everybody_sees_and_hears_everybody_and_nothing_is_lost() -> Result<()> {
    let _turn = turn().await;
    let cluster = Cluster::start(&["eins", "zwei", "drei"], 2).await?;
    let bots = cluster.join("spread", 6).await?;
    all_flows(&cluster, &bots).await?;
    assert_eq!(cluster.seated().await?, [2.0, 2.0, 2.0], "the room is on all bridges");
    for bridge in &cluster.bridges {
        let sent = Metrics::read(bridge).await?.sum("ratssaal_relay_sent_packets_total", &[]);
        ensure!(sent > 100.0, "only {sent} packets were relayed:\n{}", bridge.log());
    }

    // Data: each one's in order, to everybody, once.
    for number in 0..50 {
        for bot in &bots {
            bot.send(packet(&format!("{number}")), true)?;
        }
    }
    let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
    for bot in &bots {
        for other in bots.iter().filter(|other| other.options.number != bot.options.number) {
            let from = &other.options.identity;
            let what = format!("{} has all of {from}", bot.options.identity);
            let complete = |view: &View| Some(texts(&view.data, from)).filter(|texts| texts.len() >= 50);
            let got = bot.wait(&what, Duration::from_secs(10), complete).await.context(cluster.logs())?;
            assert_eq!(got, expected, "{what}");
        }
        assert!(bot.view(|view| texts(&view.data, &bot.options.identity).is_empty()), "nobody hears itself");
    }

    for bot in &bots {
        bot.stop_publishing().await?;
    }
    for bot in &bots {
        let senders = bot.has_everything().await?;
        assert_eq!(senders.len(), bots.len() - 1, "{} has media of {senders:?}", bot.options.identity);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bridge_that_was_paused_is_heard_again_without_anybody_rejoining() -> Result<()> {
    let _turn = turn().await;
    let cluster = Cluster::start(&["eins", "zwei"], 2).await?;
    let bots = cluster.join("pause", 4).await?;
    all_flows(&cluster, &bots).await?;
    // Longer than the relay's patience, shorter than the grace of the seats.
    cluster.bridges[1].signal("STOP")?;
    sleep(Duration::from_secs(10)).await;
    cluster.bridges[1].signal("CONT")?;
    all_goes_on(&cluster, &bots, Duration::from_secs(20)).await?;
    let connects = Metrics::read(&cluster.bridges[0]).await?.sum("ratssaal_relay_connects_total", &[]);
    assert!(connects >= 2.0, "the bridges found each other again: {connects}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bridge_that_dies_takes_only_its_own_along_and_a_new_one_is_relayed_to() -> Result<()> {
    let _turn = turn().await;
    let mut cluster = Cluster::start(&["eins", "zwei"], 2).await?;
    let bots = cluster.join("death", 3).await?;
    all_flows(&cluster, &bots).await?;
    assert_eq!(cluster.seated().await?, [2.0, 1.0]);
    let dead = cluster.bridges.pop().context("two bridges")?;
    dead.signal("KILL")?;
    drop(dead);
    // Those who sat there are gone when their seats' grace is over; the others are told.
    let mut survivors: Vec<Bot> = bots.into_iter().filter(|bot| bot.options.number != 1).collect();
    for bot in &survivors {
        let what = format!("{} knows who is left", bot.options.identity);
        let alone = |view: &View| (view.others.len() == 1).then_some(());
        bot.wait(&what, Duration::from_secs(30), alone).await.context(cluster.logs())?;
        bot.check_alive()?;
    }

    cluster.add("zwei").await?;
    for number in 10..12 {
        survivors.push(cluster.join_through(&cluster.bridges[1], "death", number).await?);
    }
    all_flows(&cluster, &survivors).await?;
    assert_eq!(cluster.seated().await?, [2.0, 2.0]);
    Ok(())
}
