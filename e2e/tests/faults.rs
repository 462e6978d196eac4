//! What a meeting notices when a part of the cluster dies: real servers, allocators and Redis as processes, which are stopped,
//! paused, killed and restarted here. Never two rooms of one name, never two seats of one participant, no ban lost, and media
//! goes on wherever its own server lives.

#[path = "../../allocator/src/redis_server.rs"]
#[allow(dead_code, clippy::expect_used, reason = "made for the allocator's tests; a part is used here")]
mod redis_server;
mod stage;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use livekit_api::services::room::{RemoveParticipantOptions, UpdateParticipantOptions};
use livekit_protocol::{ParticipantPermission, TrackSource};
use ratssaal_e2e::{
    allocator::Allocator,
    bot::{Bot, Options, View},
    link::Link,
    meeting::Meeting,
    server::{Server, turn},
    token,
};
use redis_server::{Server as Redis, free_port};
use stage::{LIMIT, api, eventually, is_still, people, ready, server, server_with, sids, validate};
use tokio::time::{Instant, sleep};

/// How soon the next allocator is used when one dies or hangs.
const FAILOVER: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn redis_hangs_and_meetings_go_on() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let eins = server("eins", &redis.url()).await?;
    let meeting = Meeting::start(&eins).await?;
    let before = sids(&eins, "beside").await?;
    redis.signal("-STOP");
    meeting.goes_on(&eins).await?;
    let status = validate(&eins, "neu", "carla").await?;
    ensure!(status == 503, "a new room while Redis hangs: {status}\n{}", eins.log());
    redis.signal("-CONT");
    eventually("joining works again", 101, async || validate(&eins, "neu", "carla").await).await?;
    meeting.goes_on(&eins).await?;
    is_still(&eins, "beside", &before).await
}

/// As slow as on another continent, everything works; slower than any deadline, meetings go on and new ones are refused in time.
#[tokio::test(flavor = "multi_thread")]
async fn redis_is_slow() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let way = Link::to_socket(&redis.folder().join("redis.sock")).await?;
    let eins = server("eins", &format!("redis://{}", way.address())).await?;
    let meeting = Meeting::start(&eins).await?;
    let before = sids(&eins, "beside").await?;

    way.delay(Duration::from_millis(300));
    let began = Instant::now();
    let guest = Bot::join(&eins, Options::new("neu", 3, true)).await.with_context(|| eins.log())?;
    println!("Redis 300 ms late: in after {:?}", began.elapsed());
    ensure!(began.elapsed() > Duration::from_millis(300), "nothing was late");
    guest.leave().await?;
    meeting.goes_on(&eins).await?;

    way.delay(Duration::from_secs(3));
    let began = Instant::now();
    let status = validate(&eins, "ganz-neu", "carla").await?;
    println!("Redis 3 s late: {status} after {:?}", began.elapsed());
    ensure!(status == 503, "a new room while Redis is 3 s late: {status}\n{}", eins.log());
    ensure!(began.elapsed() < Duration::from_secs(6), "refused after {:?}", began.elapsed());
    meeting.goes_on(&eins).await?;

    way.delay(Duration::ZERO);
    eventually("joining works again", 101, async || validate(&eins, "ganz-neu", "carla").await).await?;
    meeting.goes_on(&eins).await?;
    is_still(&eins, "beside", &before).await
}

/// One of two servers has no way to Redis: its meeting goes on, it takes nobody new, and the other one does.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_cut_off_from_redis() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let way = Link::to_socket(&redis.folder().join("redis.sock")).await?;
    let eins = server("eins", &format!("redis://{}", way.address())).await?;
    let meeting = Meeting::start(&eins).await?;
    let before = sids(&eins, "beside").await?;
    let zwei = server("zwei", &redis.url()).await?;
    eventually("both are attached", 2.0, async || ready(&zwei).await).await?;

    way.cut();
    eventually("the other one misses it", 1.0, async || ready(&zwei).await).await?;
    meeting.goes_on(&eins).await?;
    let status = validate(&eins, "neu", "carla").await?;
    ensure!(status == 503, "a new room without Redis: {status}\n{}", eins.log());
    let elsewhere = Bot::join(&zwei, Options::new("neu", 3, false)).await.context("the other one takes people")?;
    meeting.goes_on(&eins).await?;

    way.mend();
    eventually("it is back", 2.0, async || ready(&zwei).await).await?;
    eventually("it takes people again", 101, async || validate(&eins, "noch-neuer", "carla").await).await?;
    let both = vec!["bot-1".to_owned(), "bot-2".to_owned()];
    for server in [&eins, &zwei] {
        eventually("nobody was put out", both.clone(), async || people(server, "beside").await).await?;
        is_still(server, "beside", &before).await?;
    }
    meeting.goes_on(&eins).await?;
    elsewhere.check_alive()
}

/// Two servers cannot reach each other, but Redis: whoever sits on one and came through the other comes back directly, whoever
/// comes new through the other sits there; when the way is mended all are in one meeting.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_cut_off_from_each_other() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let mut ways = Vec::new();
    let mut servers = Vec::new();
    let mut meeting = None;
    for name in ["eins", "zwei"] {
        let listen = format!("127.0.0.1:{}", free_port());
        let way = Link::to_port(&listen).await?;
        let told = format!("http://{}", way.address());
        let server = server_with(name, &redis.url(), &["--peer-listen", &listen, "--peer-address", &told]).await?;
        // The first one has the room.
        if meeting.is_none() {
            meeting = Some(Meeting::start(&server).await?);
        }
        ways.push(way);
        servers.push(server);
    }
    let (meeting, eins, zwei) = (meeting.context("no meeting")?, &servers[0], &servers[1]);
    let options = Options { resumes: true, ..Options::new("beside", 3, true).v1(true) };
    let through = Bot::join(zwei, options).await?;
    ensure!(zwei.metric("ratssaal_signal_relayed").await? == 1.0, "it sits where the room is");
    let camera = |view: &View| view.track_of("bot-1", TrackSource::Camera);
    let camera = through.wait("a camera is known", LIMIT, camera).await?;
    through.flows(&camera).await?;

    ways.iter().for_each(Link::cut);
    through.wait("it loses its WebSocket", LIMIT, |view| view.away.clone()).await?;
    through.flows(&camera).await.context("media needs no other server")?;
    through.resume(eins).await.with_context(|| eins.log())?;
    eventually("somebody new gets in", 101, async || validate(zwei, "beside", "probe").await).await?;
    let apart = Bot::join(zwei, Options::new("beside", 4, true)).await.with_context(|| zwei.log())?;
    meeting.goes_on(eins).await?;

    ways.iter().for_each(Link::mend);
    let known = |view: &View| view.track_of("bot-1", TrackSource::Camera);
    let known = apart.wait("it knows the others", LIMIT, known).await?;
    let comes = |view: &View| (view.packets_of(&known) > 20).then_some(());
    apart.wait("it sees them", LIMIT, comes).await.with_context(|| format!("{}\n{}", eins.log(), zwei.log()))?;
    let own = through.wait("they know it", LIMIT, |view| view.track_of("bot-4", TrackSource::Camera)).await?;
    through.wait("they see it", LIMIT, |view| (view.packets_of(&own) > 20).then_some(())).await?;
    let all = ["bot-1", "bot-2", "bot-3", "bot-4"].map(str::to_owned).to_vec();
    for server in &servers {
        let here = async || Ok(people(server, "beside").await?.into_iter().filter(|who| who != "probe").collect());
        eventually("all are in one room", all.clone(), here).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_restarted_with_its_data() -> Result<()> {
    redis_restarted(&["--appendonly", "yes", "--appendfsync", "always"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_restarted_empty() -> Result<()> {
    redis_restarted(&[]).await
}

async fn redis_restarted(arguments: &[&str]) -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::start(tempfile::tempdir()?, arguments);
    let url = redis.url();
    let eins = server("eins", &url).await?;
    let meeting = Meeting::start(&eins).await?;
    let before = sids(&eins, "beside").await?;
    api(&eins).update_room_metadata("beside", "Tagesordnung").await?;
    let banned = token::token(&eins, "beside", "gast");
    ban(&eins, "beside", "gast").await?;

    let folder = redis.crash();
    meeting.goes_on(&eins).await?;
    let redis = Redis::start(folder, arguments);
    assert_eq!(redis.url(), url);
    eventually("the room is known again", before.clone(), async || sids(&eins, "beside").await).await?;
    let both = vec!["bot-1".to_owned(), "bot-2".to_owned()];
    eventually("both are in it", both, async || people(&eins, "beside").await).await?;
    // A server that comes now reads the same room from the store.
    let zwei = server("zwei", &url).await?;
    eventually("another server knows it", before, async || sids(&zwei, "beside").await).await?;
    let told = async || Ok(api(&eins).list_rooms(vec!["beside".into()]).await?.pop().context("gone")?.metadata);
    eventually("its metadata is there", "Tagesordnung".to_owned(), told).await?;
    ensure!(refused(&eins, &banned).await?, "the ban was lost");
    eventually("joining works", 101, async || validate(&eins, "beside", "carla").await).await?;
    meeting.goes_on(&eins).await
}

/// Throws somebody out for good who is in for a moment.
async fn ban(server: &Server, room: &str, identity: &str) -> Result<()> {
    let options = Options { identity: identity.to_owned(), ..Options::new(room, 9, false) };
    let guest = Bot::join(server, options).await?;
    let in_a_minute = i64::try_from(token::now() + 60)? * 1000;
    let options = RemoveParticipantOptions { revoke_token_ts: in_a_minute };
    api(server).remove_participant_with_options(room, identity, options).await?;
    guest.wait("the guest is out", LIMIT, |view| view.ended.clone()).await?;
    Ok(())
}

/// Whether a token does not open its room.
async fn refused(server: &Server, token: &str) -> Result<bool> {
    let options = Options { identity: "gast".to_owned(), ..Options::new("beside", 9, false) };
    Ok(Bot::join_with(server, options, token).await.is_err())
}

/// -9: the room stays what it was, those who sat there are logged as left, and its place can be taken at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_killed() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let eins = server("eins", &redis.url()).await?;
    let meeting = Meeting::start(&eins).await?;
    let permission = ParticipantPermission { can_subscribe: true, ..ParticipantPermission::default() };
    let options = UpdateParticipantOptions { permission: Some(permission), ..UpdateParticipantOptions::default() };
    api(&eins).update_participant("beside", "bot-2", options).await?;
    api(&eins).update_room_metadata("beside", "Beschluss").await?;
    ban(&eins, "beside", "gast").await?;
    let before = sids(&eins, "beside").await?;
    let zwei = server("zwei", &redis.url()).await?;

    eins.signal("KILL")?;
    // Whoever comes back is the same participant, once.
    let back = Bot::join(&zwei, Options::new("beside", 1, true).v1(true));
    let back = match back.await {
        Ok(back) => back,
        // Until its report has expired, seats there are still given out.
        Err(_) => {
            eventually("a seat elsewhere", 101, async || validate(&zwei, "beside", "probe").await).await?;
            Bot::join(&zwei, Options::new("beside", 1, true).v1(true)).await?
        }
    };
    drop(meeting);
    is_still(&zwei, "beside", &before).await?;
    eventually("who did not come back has left", vec!["bot-1".to_owned()], async || {
        Ok(people(&zwei, "beside").await?.into_iter().filter(|identity| identity != "probe").collect())
    })
    .await?;
    ensure!(back.view(|view| view.room.metadata.clone()) == "Beschluss", "the room's metadata was lost");
    ensure!(refused(&zwei, &token::token(&zwei, "beside", "gast")).await?, "the ban was lost");
    back.check_alive()
}

/// A replica that lagged was promoted, or a machine died before its disk had everything: servers have read more of a room's log
/// than Redis has.
#[tokio::test(flavor = "multi_thread")]
async fn redis_comes_back_with_older_data() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let eins = server_with("eins", &redis.url(), &["--seats", "3"]).await?;
    let meeting = Meeting::start(&eins).await?;
    let zwei = server("zwei", &redis.url()).await?;
    eventually("both are attached", 2.0, async || ready(&zwei).await).await?;
    let third = Bot::join(&eins, Options::new("beside", 3, true)).await.with_context(|| eins.log())?;
    let named = |numbers: [u32; 3]| numbers.map(|number| format!("bot-{number}")).to_vec();
    eventually("three are in", named([1, 2, 3]), async || people(&zwei, "beside").await).await?;
    let before = sids(&eins, "beside").await?;
    redis.save();
    // What is lost: one comes, to the other server, and one leaves.
    let fourth = Bot::join(&zwei, Options::new("beside", 4, true)).await.with_context(|| zwei.log())?;
    let here = async || zwei.metric("ratssaal_participants{state=\"active\"}").await;
    eventually("it sits on the second one", 1.0, here).await?;
    third.leave().await?;
    for server in [&eins, &zwei] {
        eventually("one came and one left", named([1, 2, 4]), async || people(server, "beside").await).await?;
    }

    let _redis = Redis::start(redis.crash(), &[]);
    eventually("each has one seat", 3.0, async || eins.metric("ratssaal_allocator_seats").await).await?;
    for server in [&eins, &zwei] {
        eventually("so it is still", named([1, 2, 4]), async || people(server, "beside").await).await?;
        is_still(server, "beside", &before).await?;
    }
    meeting.goes_on(&eins).await?;
    fourth.check_alive()?;
    eventually("people get in", 101, async || validate(&zwei, "beside", "probe").await).await?;
    let fifth = Bot::join(&eins, Options::new("beside", 5, false)).await.with_context(|| eins.log())?;
    for publisher in ["bot-1", "bot-4"] {
        let camera = |view: &View| view.track_of(publisher, TrackSource::Camera);
        fifth.flows(&fifth.wait("a camera is known", LIMIT, camera).await?).await?;
    }
    Ok(())
}

/// SIGSTOP for longer than the grace period: whoever sat there may have come back elsewhere, and sits there only.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_paused() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let eins = server("eins", &redis.url()).await?;
    let first = Bot::join(&eins, Options::new("pause", 1, true)).await?;
    let before = sids(&eins, "pause").await?;
    let zwei = server("zwei", &redis.url()).await?;
    eins.signal("STOP")?;
    eventually("a seat elsewhere", 101, async || validate(&zwei, "pause", "bot-1").await).await?;
    let second = Bot::join(&zwei, Options::new("pause", 1, true)).await?;
    eventually("it is in the room once", vec!["bot-1".to_owned()], async || people(&zwei, "pause").await).await?;
    eins.signal("CONT")?;
    first.wait("the older session is put out", LIMIT, |view| view.ended.clone()).await?;
    eventually("both servers say the same", vec!["bot-1".to_owned()], async || people(&eins, "pause").await).await?;
    is_still(&eins, "pause", &before).await?;
    is_still(&zwei, "pause", &before).await?;
    second.check_alive()?;
    let ready = async || Ok(reqwest::get(format!("{}/readyz", eins.http)).await?.status().as_u16());
    eventually("it takes people again", 200, ready).await
}

/// A clock that is wrong by ten minutes, either way, on one of two servers.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_is_wrong() -> Result<()> {
    let _turn = turn().await;
    for offset in ["+10m", "-10m"] {
        let redis = Redis::new();
        let zwei = server("zwei", &redis.url()).await?;
        let arguments = ["--bridge", "eins", "--redis", &redis.url(), "--media-workers", "1", "--drain-within", "1s"];
        let eins = Server::start_as(&["faketime", "-f", offset], &arguments).await.context("scripts/need clock")?;
        let both_attached = async || {
            let metrics = reqwest::get(format!("{}/metrics", zwei.http)).await?.text().await?;
            let line = metrics.lines().find(|line| line.starts_with("ratssaal_allocator_bridges{state=\"ready\"}"));
            Ok(line.is_some_and(|line| line.ends_with(" 2")))
        };
        eventually("both are attached", true, both_attached).await?;
        // For longer than a report lives: nobody is taken for dead.
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            ensure!(both_attached().await?, "{offset}: a server was lost");
            sleep(Duration::from_millis(200)).await;
        }
        ensure!(reqwest::get(format!("{}/readyz", eins.http)).await?.status() == 200);
        // Whoever's token holds by the true time gets in there, is seen from everywhere, and gets media.
        let mut claims = token::claims(&eins, "bot-1", token::grants("uhr"));
        claims["nbf"] = (token::now() - 3600).into();
        let token = token::sign(&claims, &eins.secret);
        let first = Bot::join_with(&eins, Options::new("uhr", 1, true), &token).await.context(offset)?;
        let second = Bot::join(&zwei, Options::new("uhr", 2, false)).await.context(offset)?;
        let both = vec!["bot-1".to_owned(), "bot-2".to_owned()];
        eventually("both are in the room", both, async || people(&zwei, "uhr").await).await?;
        first.wait("they see each other", LIMIT, |view| view.other("bot-2").map(|_| ())).await?;
        let camera = |view: &View| view.track_of("bot-1", TrackSource::Camera);
        second.flows(&second.wait("the camera is known", LIMIT, camera).await?).await?;
        first.check_alive()?;
    }
    Ok(())
}

/// One of two allocators is killed, then the other one paused: joins go on with whichever lives.
#[tokio::test(flavor = "multi_thread")]
async fn an_allocator_is_killed() -> Result<()> {
    let _turn = turn().await;
    let redis = Redis::new();
    let mut allocators = Vec::new();
    for _ in 0..2 {
        let listen = format!("127.0.0.1:{}", free_port());
        allocators.push((Allocator::start(&redis.url(), &listen, &[])?, format!("http://{listen}")));
    }
    let addresses = allocators.iter().map(|(_, address)| address.as_str()).collect::<Vec<_>>().join(",");
    let arguments = ["--bridge", "eins", "--allocator", &addresses, "--media-workers", "1"];
    let eins = Server::start_as(&[], &arguments).await?;
    let meeting = Meeting::start(&eins).await?;
    let mut fastest = [Duration::MAX; 2];
    for (number, how) in ["KILL", "STOP", "KILL", "STOP"].into_iter().enumerate() {
        let (allocator, address) = allocators.remove(0);
        let began = Instant::now();
        allocator.signal(how)?;
        eventually("joining works", 101, async || validate(&eins, "beside", &format!("gast-{number}")).await).await?;
        let took = began.elapsed();
        println!("{how}: {took:?} until the next one was used");
        fastest[number % 2] = took.min(fastest[number % 2]);
        meeting.goes_on(&eins).await?;
        drop(allocator);
        let listen = address.trim_start_matches("http://");
        allocators.push((Allocator::start(&redis.url(), listen, &[])?, address.clone()));
    }
    // Of two each, since this machine does other things too.
    ensure!(fastest.iter().all(|took| *took < FAILOVER), "{fastest:?} until the next one was used");
    Ok(())
}
