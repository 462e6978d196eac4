//! Two neighbouring builds in one cluster, as while a new version is rolled out: servers and allocators of both on one Redis.
//! People on servers of both share a room: they see and hear each other, are told the same of everybody, go over from one
//! build to the other when theirs is drained, and back, and nobody is out.
//!
//! `RATSSAAL_NEIGHBOUR_BIN` is the other build, as `scripts/test` keeps it of the run before; without it there is nothing to test.

#[path = "../../allocator/src/redis_server.rs"]
#[allow(dead_code, clippy::expect_used, reason = "made for the allocator's tests; a part is used here")]
mod redis_server;
mod stage;

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::{Path, PathBuf},
    process::{Command, exit},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use livekit_api::services::room::UpdateParticipantOptions;
use livekit_protocol::{
    DataPacket, MuteTrackRequest, ParticipantInfo, TrackSource, UserPacket, data_packet::Value,
    signal_request::Message as Request,
};
use ratssaal_e2e::{
    allocator::Allocator,
    bot::{Bot, Options, View},
    server::{self, Server},
};
use redis_server::{Server as Redis, free_port};
use stage::{LIMIT, api, eventually, people};
use tokio::time::{Instant, sleep};

const ROOM: &str = "nachbarn";
/// How many are in the room: every other one comes to the first server.
const PEOPLE: u32 = 4;
/// New packets of a track that show that it flows.
const FLOWING: u64 = 20;

#[derive(Clone, Copy)]
enum Build {
    Ours,
    Neighbour,
}
use Build::{Neighbour, Ours};

/// Who is of which build.
struct Mix {
    name: &'static str,
    allocators: &'static [Build],
    /// Each is attached to the allocator of its number, or to the only one.
    servers: [Build; 2],
}

const MIXES: [Mix; 3] = [
    Mix { name: "a_server_is_of_the_neighbouring_build", allocators: &[Ours], servers: [Neighbour, Ours] },
    Mix { name: "the_allocator_is_of_the_neighbouring_build", allocators: &[Neighbour], servers: [Ours, Neighbour] },
    Mix { name: "half_of_everything_is", allocators: &[Neighbour, Ours], servers: [Neighbour, Ours] },
];

fn main() {
    let filters: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if env::args().any(|argument| argument == "--list") {
        MIXES.iter().for_each(|mix| println!("{}: test", mix.name));
        return;
    }
    let chosen = |mix: &&Mix| filters.is_empty() || filters.iter().any(|part| mix.name.contains(part.as_str()));
    let chosen: Vec<&Mix> = MIXES.iter().filter(chosen).collect();
    let Some(neighbour) = env::var_os("RATSSAAL_NEIGHBOUR_BIN").filter(|path| !path.is_empty()).map(PathBuf::from)
    else {
        if !chosen.is_empty() {
            println!(
                "SKIPPED: {} tests of two builds in one cluster: RATSSAAL_NEIGHBOUR_BIN names no other build",
                chosen.len()
            );
        }
        println!("test result: ok. 0 passed; 0 failed; {} ignored", chosen.len());
        return;
    };
    println!("The neighbour is {}", neighbour.display());
    let Ok(runtime) = tokio::runtime::Runtime::new() else { exit(1) };
    let mut failed = Vec::new();
    for mix in &chosen {
        let began = Instant::now();
        let result = runtime.block_on(meeting(mix, &neighbour));
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("test {} ... {word} ({:.1} s)", mix.name, began.elapsed().as_secs_f64());
        if let Err(error) = result {
            println!("{error:?}");
            failed.push(mix.name);
        }
    }
    let (word, passed) = (if failed.is_empty() { "ok" } else { "FAILED" }, chosen.len() - failed.len());
    println!("\ntest result: {word}. {passed} passed; {} failed; 0 ignored {failed:?}", failed.len());
    exit(i32::from(!failed.is_empty()));
}

async fn meeting(mix: &Mix, neighbour: &Path) -> Result<()> {
    let cluster = Cluster::start(mix, neighbour).await?;
    let mut bots = Vec::new();
    for number in 0..PEOPLE {
        bots.push(cluster.join(number).await?);
    }
    let met = meet(&cluster, &mut bots).await;
    met.with_context(|| cluster.servers.iter().map(Server::log).collect::<Vec<_>>().join("\n----\n"))
}

async fn meet(cluster: &Cluster, bots: &mut [Bot]) -> Result<()> {
    cluster.seated([2.0, 2.0]).await?;
    all_flows(bots).await?;
    cluster.all_tell_the_same(bots).await?;
    both_decide(cluster, bots).await?;
    all_hear(bots).await?;

    cluster.drain(0, &[0, 2], bots).await?;
    cluster.seated([0.0, 4.0]).await?;
    all_flows(bots).await?;
    cluster.all_tell_the_same(bots).await?;
    all_hear(bots).await?;

    cluster.order("undrain", 0)?;
    cluster.drain(1, &[0, 1, 2, 3], bots).await?;
    cluster.seated([4.0, 0.0]).await?;
    all_flows(bots).await?;
    cluster.all_tell_the_same(bots).await?;
    all_hear(bots).await?;
    bots.iter().try_for_each(Bot::check_alive)
}

/// Servers, each at a site of its own: who comes to one sits there as long as it takes people.
struct Cluster {
    servers: Vec<Server>,
    allocators: Vec<(Allocator, String)>,
    _redis: Redis,
}

/// The servers' names.
const NAMES: [&str; 2] = ["eins", "zwei"];

impl Cluster {
    async fn start(mix: &Mix, neighbour: &Path) -> Result<Self> {
        let ours = server::binary()?;
        let binary = |build: Build| match build {
            Ours => ours.as_path(),
            Neighbour => neighbour,
        };
        let redis = Redis::new();
        let mut allocators = Vec::new();
        for build in mix.allocators {
            let listen = format!("127.0.0.1:{}", free_port());
            let allocator = Allocator::start_from(binary(*build), &redis.url(), &listen, &[])?;
            allocators.push((allocator, format!("http://{listen}")));
        }
        let mut servers = Vec::new();
        for (number, build) in mix.servers.into_iter().enumerate() {
            let (name, allocator) = (NAMES[number], &allocators[number % allocators.len()].1);
            let arguments = ["--bridge", name, "--site", name, "--allocator", allocator, "--media-workers", "1"];
            servers.push(Server::start_from(binary(build), &arguments).await?);
        }
        Ok(Self { servers, allocators, _redis: redis })
    }

    /// One comes through its server, wherever it is seated then. It may take a moment until all know who takes people.
    async fn join(&self, number: u32) -> Result<Bot> {
        let through = &self.servers[number as usize % self.servers.len()];
        let end = Instant::now() + LIMIT;
        loop {
            match Bot::join(through, Options::new(ROOM, number, true).v1(number >= 2)).await {
                Err(error) if format!("{error:#}").contains("503") && Instant::now() < end => {
                    sleep(Duration::from_millis(100)).await;
                }
                joined => return joined.with_context(|| format!("bot {number}:\n{}", through.log())),
            }
        }
    }

    async fn seated(&self, expected: [f64; 2]) -> Result<()> {
        for (server, expected) in self.servers.iter().zip(expected) {
            let here = async || server.metric("ratssaal_participants{state=\"active\"}").await;
            eventually("people sit where they are to sit", expected, here).await?;
        }
        Ok(())
    }

    /// An operator's order, by the command of our build.
    fn order(&self, verb: &str, server: usize) -> Result<()> {
        let allocator = &self.allocators[server % self.allocators.len()].1;
        let order = ["bridge", verb, NAMES[server], "--allocator", allocator];
        let done = Command::new(server::binary()?).args(order).output()?;
        ensure!(done.status.success(), "{verb}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    /// Drains a server. Who sits there is sent away and comes anew, as clients do whose connection cannot be moved; nobody is
    /// missing in the room meanwhile, whichever server is asked.
    async fn drain(&self, server: usize, who: &[usize], bots: &mut [Bot]) -> Result<()> {
        let names: Vec<String> = bots.iter().map(|bot| bot.options.identity.clone()).collect();
        self.order("drain", server)?;
        let moved = tokio::select! {
            moved = try_join_all(who.iter().map(|&number| self.comes_anew(&bots[number]))) => moved?,
            missed = self.watch(&names) => return missed,
        };
        for (&number, anew) in who.iter().zip(moved) {
            bots[number] = anew;
        }
        Ok(())
    }

    async fn comes_anew(&self, bot: &Bot) -> Result<Bot> {
        let told = bot.wait("it is sent away", LIMIT, |view| view.ended.clone()).await?;
        ensure!(told.contains("Migration"), "{told}");
        self.join(bot.options.number).await
    }

    /// Ends only when somebody is missing.
    async fn watch(&self, names: &[String]) -> Result<()> {
        loop {
            for server in &self.servers {
                let here = people(server, ROOM).await?;
                ensure!(names.iter().all(|name| here.contains(name)), "somebody is out, only {here:?} are in");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until all servers and all people say the same of everybody.
    async fn all_tell_the_same(&self, bots: &[Bot]) -> Result<()> {
        let differences = async || {
            let first = told_of(&api(&self.servers[0]).list_participants(ROOM).await?);
            let second = told_of(&api(&self.servers[1]).list_participants(ROOM).await?);
            ensure!(first.len() == bots.len(), "{first:?}");
            let mut different: Vec<String> = first.symmetric_difference(&second).cloned().collect();
            for bot in bots {
                let known = told_of(&bot.view(|view| view.others.values().cloned().collect::<Vec<_>>()));
                let own = format!("{} ", bot.options.identity);
                let others = first.iter().filter(|line| !line.starts_with(&own)).cloned().collect();
                different.extend(known.symmetric_difference(&others).map(|line| format!("{own}{line}")));
            }
            Ok(different)
        };
        eventually("all say the same", vec![], differences).await
    }
}

/// What is told of people: who they are, and their tracks.
fn told_of(people: &[ParticipantInfo]) -> BTreeSet<String> {
    let tracks = |who: &ParticipantInfo| {
        who.tracks
            .iter()
            .map(|track| format!("{} {:?} {}", track.sid, track.source(), track.muted))
            .collect::<BTreeSet<_>>()
    };
    people.iter().map(|who| format!("{} {} {:?} {:?}", who.identity, who.sid, who.metadata, tracks(who))).collect()
}

/// The tracks of the others that are not muted.
fn heard_and_seen(view: &View) -> BTreeSet<String> {
    let tracks = view.others.values().flat_map(|other| &other.tracks);
    tracks.filter(|track| !track.muted).map(|track| track.sid.clone()).collect()
}

/// Waits until everybody gets something new of each camera and each microphone there is.
async fn all_flows(bots: &[Bot]) -> Result<()> {
    for bot in bots {
        let before: BTreeMap<String, u64> =
            bot.view(|view| view.received.iter().map(|(sid, received)| (sid.clone(), received.packets)).collect());
        let new = |view: &View, sid: &String| view.packets_of(sid) >= before.get(sid).unwrap_or(&0) + FLOWING;
        let flows = |view: &View| {
            let tracks = heard_and_seen(view);
            let cameras = view.others.keys().filter_map(|name| view.track_of(name, TrackSource::Camera)).count();
            (cameras + 1 == bots.len() && tracks.iter().all(|sid| new(view, sid))).then_some(())
        };
        let waited = bot.wait("it gets everybody's media", LIMIT, flows).await;
        waited.with_context(|| bot.view(|view| format!("{}: {:#?}", bot.options.identity, view.received)))?;
        bot.check_alive()?;
    }
    Ok(())
}

/// The sid of one's own `camera` or `microphone`.
fn own(view: &View, what: &str) -> Option<String> {
    view.published.iter().find(|(cid, _)| cid.starts_with(what)).map(|(_, sid)| sid.clone())
}

/// What is decided at a server of one build is done by the other one: names, muting, the room's own data.
async fn both_decide(cluster: &Cluster, bots: &[Bot]) -> Result<()> {
    // Each mutes somebody who sits at the other one.
    for (server, muted) in cluster.servers.iter().zip([1, 2]) {
        let name = &bots[muted].options.identity;
        let metadata = format!("{name} redet");
        let options = UpdateParticipantOptions { metadata: metadata.clone(), ..UpdateParticipantOptions::default() };
        api(server).update_participant(ROOM, name, options).await?;
        let microphone = bots[muted].view(|view| own(view, "microphone")).context("no microphone")?;
        api(server).mute_published_track(ROOM, name, &microphone, true).await?;
        let told = |view: &View| view.muted.get(&microphone).copied().filter(|muted| *muted);
        bots[muted].wait("it is told", LIMIT, told).await?;
        for bot in bots.iter().filter(|bot| bot.options.identity != *name) {
            let told = |view: &View| {
                let who = view.other(name)?;
                let muted = who.tracks.iter().any(|track| track.sid == microphone && track.muted);
                (muted && who.metadata == metadata).then_some(())
            };
            bot.wait("the others are told", LIMIT, told).await?;
        }
        api(server).update_room_metadata(ROOM, &metadata).await?;
        for bot in bots {
            bot.wait("the room's metadata", LIMIT, |view| (view.room.metadata == metadata).then_some(())).await?;
        }
    }
    // And people mute themselves.
    for bot in [&bots[0], &bots[3]] {
        let camera = bot.view(|view| own(view, "camera")).context("no camera")?;
        for muted in [true, false] {
            bot.request(Request::Mute(MuteTrackRequest { sid: camera.clone(), muted }))?;
            for other in bots.iter().filter(|other| other.options.number != bot.options.number) {
                let told = |view: &View| {
                    let tracks = &view.other(&bot.options.identity)?.tracks;
                    tracks.iter().find(|track| track.sid == camera && track.muted == muted).map(|_| ())
                };
                other.wait("it mutes its camera", LIMIT, told).await?;
            }
        }
    }
    cluster.all_tell_the_same(bots).await?;
    all_flows(bots).await
}

/// What anybody says, all others hear once.
async fn all_hear(bots: &[Bot]) -> Result<()> {
    for bot in bots {
        let (me, before) = bot.view(|view| (view.me.sid.clone(), view.data.len()));
        let said = format!("{me} says this after {before}");
        let user = UserPacket { payload: said.clone().into_bytes(), ..UserPacket::default() };
        bot.send(DataPacket { value: Some(Value::User(user)), ..DataPacket::default() }, true)?;
        for other in bots.iter().filter(|other| other.options.number != bot.options.number) {
            let heard = |view: &View| {
                let heard = view.data.iter().filter(|heard| is(&heard.packet, &said)).count();
                (heard > 0).then_some(heard)
            };
            let times = other.wait("the others hear it", LIMIT, heard).await?;
            ensure!(times == 1, "{} heard it {times} times", other.options.identity);
        }
    }
    Ok(())
}

fn is(packet: &DataPacket, text: &str) -> bool {
    matches!(&packet.value, Some(Value::User(user)) if user.payload == text.as_bytes())
}
