//! Clients that take and do not give: half-open connections, and subscribers that stop reading. Others notice nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use livekit_protocol::{DataPacket, Ping, UpdateParticipantMetadata, UserPacket, data_packet, signal_request::Message};
use ratssaal_e2e::{
    bot::{Bot, Options, View},
    meeting::Meeting,
    metrics::{Before, Metrics},
    server::{Server, turn},
    signal, token,
    wire::{Kind, Tamper, kind},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

const SLACK: u64 = 12 << 20;
const LIMIT: Duration = Duration::from_secs(45);

/// Rounds of an attack: what the second leaves in memory above the first is left for good.
const ROUNDS: u32 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_half_open_websockets() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    half_open(&server, &meeting).await?;
    let base = Before::read(&server).await?;
    for _ in 1..ROUNDS {
        half_open(&server, &meeting).await?;
    }
    base.is_restored(&server, SLACK, LIMIT).await
}

async fn half_open(server: &Server, meeting: &Meeting) -> Result<()> {
    let address = server.http.trim_start_matches("http://").to_owned();
    let mut open = Vec::new();
    for number in 0..1000u32 {
        let mut stream = TcpStream::connect(&address).await?;
        // Some say nothing, some half a request, the others a whole one up to its last line.
        let part: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /rtc?access_tok",
            _ => b"GET /rtc HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        };
        stream.write_all(part).await?;
        open.push(stream);
    }
    meeting.goes_on(server).await?;
    let newcomer = Bot::join(server, Options::new("newcomers", 1, true)).await;
    newcomer.context("joining beside 1000 half-open connections")?.leave().await?;
    if Server::is_ours() {
        for (number, stream) in open.iter_mut().enumerate() {
            let mut answer = Vec::new();
            let closed = timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
            ensure!(closed.is_ok(), "half-open connection {number} is still open after 30 s");
        }
    }
    drop(open);
    meeting.goes_on(server).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_stops_reading_its_websocket() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    let room = "deaf-websocket";
    let grants = json!({ "roomJoin": true, "room": room, "canUpdateOwnMetadata": true });
    let talker_token = token::sign(&token::claims(&server, "bot-1", grants), &server.secret);
    let talker = Bot::join_with(&server, Options::new(room, 1, true), &talker_token).await?;
    let hearer = Bot::join(&server, Options::new(room, 2, false)).await?;
    deaf_websocket(&server, room, &talker, &hearer).await?;
    let (before, base) = (Metrics::read(&server).await?, Before::read(&server).await?);
    for _ in 1..ROUNDS {
        deaf_websocket(&server, room, &talker, &hearer).await?;
    }
    meeting.goes_on(&server).await?;
    // Without its WebSocket it can never be connected.
    before.grows(&server, "signal_sessions_ended", &["reason=\"NeverConnected\""], f64::from(ROUNDS - 1)).await?;
    base.is_restored(&server, SLACK, LIMIT).await
}

async fn deaf_websocket(server: &Server, room: &str, talker: &Bot, hearer: &Bot) -> Result<()> {
    let path = signal::path_v0(&token::token(server, room, "deaf"), true);
    // Joined, never read from again, but pinging: only what waits for it tells that it does not read.
    let (mut deaf, _unread) = signal::open(server, &path).await?;
    let limit = Duration::from_secs(20);
    hearer.wait("the deaf one is in", limit, |view| view.other("deaf").map(|_| ())).await?;
    for batch in 0..30u32 {
        for number in 0..30u32 {
            let metadata = format!("{batch:03}{number:03}{}", "m".repeat(30_000));
            let update = UpdateParticipantMetadata { metadata, ..UpdateParticipantMetadata::default() };
            talker.request(Message::UpdateMetadata(update))?;
        }
        let last = format!("{batch:03}029");
        let heard = |view: &View| view.other("bot-1")?.metadata.starts_with(&last).then_some(());
        hearer.wait("the updates reach who reads", limit, heard).await?;
        // Refused once the server has let go.
        let _ = deaf.send(Message::PingReq(Ping { timestamp: 1, rtt: 0 })).await;
    }
    if Server::is_ours() {
        let gone = |view: &View| view.other("deaf").is_none().then_some(());
        hearer.wait("who does not read is let go", Duration::from_secs(60), gone).await?;
    }
    Ok(())
}

/// Once told, nothing of the data channels arrives any more.
#[derive(Debug, Default)]
struct Deaf(AtomicBool);

impl Tamper for Deaf {
    fn incoming(&self, datagram: &[u8]) -> bool {
        !self.0.load(Ordering::Relaxed) || kind(datagram) != Kind::Dtls
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_stops_reading_its_data_channel() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    let room = "deaf-channel";
    let talker = Bot::join(&server, Options::new(room, 1, true).v1(true)).await?;
    let hearer = Bot::join(&server, Options::new(room, 2, true).v1(true)).await?;
    let deafness = Arc::new(Deaf::default());
    let deaf = Bot::join(&server, Options::new(room, 3, true).v1(true).tampered(deafness.clone())).await?;
    let (before, base) = (Metrics::read(&server).await?, Before::read(&server).await?);
    deafness.0.store(true, Ordering::Relaxed);
    // 10 MB: far above what may wait for one subscriber.
    let count = 800usize;
    for number in 0..count {
        let payload = [&number.to_be_bytes()[..], &[7; 13_000]].concat();
        let user = UserPacket { payload, ..UserPacket::default() };
        talker.send(DataPacket { value: Some(data_packet::Value::User(user)), ..DataPacket::default() }, true)?;
        if number % 50 == 49 {
            let heard = |view: &View| (view.data.len() > number).then_some(());
            hearer.wait("who reads gets all of it", Duration::from_secs(30), heard).await?;
        }
    }
    hearer.view(|view| {
        for (number, heard) in view.data.iter().enumerate() {
            let Some(data_packet::Value::User(user)) = &heard.packet.value else { panic!("a user packet was sent") };
            assert_eq!(user.payload[..8], number.to_be_bytes(), "in order");
            assert_eq!(heard.packet.participant_identity, "bot-1");
        }
        assert_eq!(view.data.len(), count);
    });
    // Its session was over as soon as more waited for it than may wait: it is told to come anew, and the others see it go.
    let told = deaf.wait("who does not read is told", LIMIT, |view| view.ended.clone()).await?;
    ensure!(told.contains("MediaFailure"), "{told}");
    hearer.wait("it is gone", LIMIT, |view| view.other("bot-3").is_none().then_some(())).await?;
    before.grows(&server, "signal_sessions_ended", &["reason=\"MediaLost\""], 1.0).await?;
    talker.check_alive()?;
    meeting.goes_on(&server).await?;
    drop(deaf);
    base.is_restored(&server, SLACK, LIMIT).await
}
