//! Bad datagrams: each is dropped and counted, the meeting beside goes on, and nothing is left behind.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use ratssaal_e2e::{
    bot::{Bot, Options},
    meeting::Meeting,
    metrics::{Before, Metrics},
    raw::{Raw, client_hello_fragment},
    received::Received,
    server::{Server, turn},
    wire::{Kind, Tamper, is_srtcp, kind},
};

/// What an attack may leave in memory: allocators keep some, leaks of a flood would be far above it.
const SLACK: u64 = 12 << 20;
/// How long half-open connections may live: the handshake's deadline and the session's.
const HALF_OPEN: Duration = Duration::from_secs(45);

#[tokio::test(flavor = "multi_thread")]
async fn connectivity_checks_need_integrity() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    let base = Before::read(&server).await?;
    let raw = Raw::join(&server, "stun", "raw").await?;
    let before = Metrics::read(&server).await?;
    let wait = Duration::from_millis(300);
    let username = format!("{}:rawu", raw.ufrag);
    let refused = [
        ("no integrity", raw.check_with(&username, None)?),
        ("the wrong password", raw.check_with(&username, Some("not the password of anything"))?),
        ("an unknown user", raw.check_with("nobody:rawu", Some("not the password of anything"))?),
        ("no user", raw.check_with("", None)?),
    ];
    for (what, check) in &refused {
        ensure!(!raw.is_answered(check, wait)?, "a check with {what} was answered with success");
    }
    let mut cut = raw.check()?;
    cut.raw.truncate(cut.raw.len() - 5);
    ensure!(!raw.is_answered(&cut, wait)?, "a truncated check was answered");
    let mut damaged = raw.check()?;
    damaged.raw[30] ^= 1;
    ensure!(!raw.is_answered(&damaged, wait)?, "a changed check was answered");
    before.grows(&server, "media_dropped", &[], 6.0).await?;
    raw.open()?;
    meeting.goes_on(&server).await?;
    drop(raw);
    base.is_restored(&server, SLACK, HALF_OPEN).await
}

#[tokio::test(flavor = "multi_thread")]
async fn junk_at_line_rate() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    let raw = Raw::join(&server, "junk", "raw").await?;
    let (before, base) = (Metrics::read(&server).await?, Before::read(&server).await?);
    let sent = tokio::task::spawn_blocking(move || flood(raw.socket.peer_addr()?, Duration::from_secs(2))).await??;
    println!("{sent} junk datagrams in 2 s");
    // The kernel drops what does not fit its queue: a part of them is seen and counted.
    before.grows(&server, "media_dropped", &[], 1000.0).await?;
    meeting.goes_on(&server).await?;
    base.is_restored(&server, SLACK, HALF_OPEN).await
}

/// Sends datagrams of every first byte and many lengths as fast as one thread can; returns how many.
fn flood(to: SocketAddr, time: Duration) -> Result<u64> {
    let sockets = (0..8).map(|_| UdpSocket::bind("0.0.0.0:0")).collect::<Result<Vec<_>, _>>()?;
    let end = Instant::now() + time;
    let mut junk = [0u8; 1200];
    let mut sent = 0u64;
    while Instant::now() < end {
        for (index, byte) in junk.iter_mut().enumerate() {
            *byte = (sent ^ index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()[7];
        }
        for first in 0..=255u8 {
            junk[0] = first;
            let length = usize::from(junk[1]) * 4 + 1;
            let socket = &sockets[usize::from(first) % sockets.len()];
            // A full send queue is what this is about.
            let _ = socket.send_to(&junk[..length], to);
            sent += 1;
        }
    }
    Ok(sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_in_one_byte_fragments() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    let (before, base) = (Metrics::read(&server).await?, Before::read(&server).await?);
    for order in ["forwards", "backwards", "every other"] {
        let raw = Raw::join(&server, "fragments", "raw").await?;
        raw.open()?;
        let total = 30_000u32;
        for index in 0..total {
            let offset = match order {
                "forwards" => index,
                "backwards" => total - 1 - index,
                _ => (index * 2) % total,
            };
            raw.socket.send(&client_hello_fragment(index.into(), total, offset, &[0x42]))?;
        }
        meeting.goes_on(&server).await?;
    }
    before.grows(&server, "media_handshakes_failed", &[], 3.0).await?;
    base.is_restored(&server, SLACK, HALF_OPEN).await
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_are_never_finished() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    let (before, base) = (Metrics::read(&server).await?, Before::read(&server).await?);
    let mut raws = Vec::new();
    for number in 0..50 {
        let raw = Raw::join(&server, "unfinished", &format!("raw-{number}")).await?;
        raw.open()?;
        if number % 2 == 0 {
            raw.socket.send(&client_hello_fragment(0, 200, 0, &[0x42; 20]))?;
        }
        raws.push(raw);
    }
    meeting.goes_on(&server).await?;
    // Their WebSockets stay open: the server ends what never connects by itself.
    base.is_restored(&server, SLACK, HALF_OPEN).await?;
    before.grows(&server, "media_handshakes_failed", &[], 50.0).await?;
    drop(raws);
    meeting.goes_on(&server).await
}

/// Sends every SRTP packet changed, twice, and cut, and some again much later.
#[derive(Debug, Default)]
struct Forger {
    sent: AtomicU64,
    old: std::sync::Mutex<Vec<Vec<u8>>>,
}

impl Tamper for Forger {
    fn outgoing(&self, datagram: &[u8]) -> Vec<Vec<u8>> {
        if kind(datagram) != Kind::Srtp || is_srtcp(datagram) {
            return vec![datagram.to_vec()];
        }
        let count = self.sent.fetch_add(1, Ordering::Relaxed);
        let mut changed = datagram.to_vec();
        let middle = changed.len() / 2;
        changed[middle] ^= 0x10;
        let cut = |length: usize| datagram[..length.min(datagram.len())].to_vec();
        // The changed one first: it must not stand in the way of the true one.
        let mut out =
            vec![changed, datagram.to_vec(), datagram.to_vec(), cut(datagram.len() - 3), cut(20), cut(11), cut(1)];
        if let Ok(mut old) = self.old.lock() {
            if count.is_multiple_of(50) {
                old.push(datagram.to_vec());
            }
            if count % 400 == 399 {
                out.extend(old.iter().cloned());
            }
        }
        out
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_repeated_and_truncated_srtp() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    let forger = Arc::new(Forger::default());
    let (before, base) = (Metrics::read(&server).await?, Before::read(&server).await?);
    let listener = Bot::join(&server, Options::new("forged", 1, false)).await?;
    let forging = Bot::join(&server, Options::new("forged", 2, true).tampered(forger.clone())).await?;
    let enough = |view: &ratssaal_e2e::bot::View| {
        (view.received.values().filter(|track| track.packets > 150).count() == 2).then_some(())
    };
    // 4 s: a track of 10 or more packets a second, and audio of 50.
    listener.wait("both tracks arrive", Duration::from_secs(20), enough).await?;
    listener.check_alive()?;
    listener.view(|view| {
        for (sid, received) in &view.received {
            assert!(received.damaged == 0 && received.repeated == 0, "{sid}: {received:?}");
        }
    });
    let complete = |view: &ratssaal_e2e::bot::View| view.received.values().all(Received::is_complete).then_some(());
    listener.wait("nothing true was lost", Duration::from_secs(10), complete).await?;
    let forged = u32::try_from(forger.sent.load(Ordering::Relaxed))?;
    before.grows(&server, "media_dropped_unauthentic", &[], f64::from(forged)).await?;
    meeting.goes_on(&server).await?;
    drop((listener, forging));
    base.is_restored(&server, SLACK, HALF_OPEN).await
}

/// Loses the first DTLS datagram that leaves, and sends every later one twice.
#[derive(Debug, Default)]
struct Shaky(AtomicU64);

impl Tamper for Shaky {
    fn outgoing(&self, datagram: &[u8]) -> Vec<Vec<u8>> {
        if kind(datagram) != Kind::Dtls {
            return vec![datagram.to_vec()];
        }
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => vec![],
            _ => vec![datagram.to_vec(); 2],
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_repeated_handshake_datagrams() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    let base = Before::read(&server).await?;
    let shaky =
        Bot::join(&server, Options::new("beside", 3, true).v1(true).tampered(Arc::new(Shaky::default()))).await?;
    let flowing = |view: &ratssaal_e2e::bot::View| {
        (view.received.values().filter(|track| track.packets > 20).count() == 4).then_some(())
    };
    shaky.wait("media flows after a shaky handshake", Duration::from_secs(20), flowing).await?;
    meeting.goes_on(&server).await?;
    drop(shaky);
    base.is_restored(&server, SLACK, HALF_OPEN).await
}
