//! Bad WebSockets, protobufs, SDP and tokens: a clear refusal each, and the meeting beside goes on.

use std::{io::Write, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use flate2::{Compression, write::GzEncoder};
use livekit_protocol::{
    DisconnectReason, JoinRequest, Ping, SessionDescription, SignalRequest, UpdateTrackSettings, WrappedJoinRequest,
    leave_request, signal_request, signal_response,
};
use prost::Message as _;
use ratssaal_e2e::{
    meeting::Meeting,
    metrics::{Before, Metrics},
    raw,
    server::{Server, turn},
    signal::{self, Receiver, Sender},
    token,
};
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

/// What the attacks may leave in memory.
const SLACK: u64 = 12 << 20;
const LIMIT: Duration = Duration::from_secs(45);

async fn joined(server: &Server, identity: &str) -> Result<(Sender, Receiver)> {
    let path = signal::path_v0(&token::token(server, "signalling", identity), true);
    let (sender, mut receiver) = signal::open(server, &path).await?;
    let first = timeout(Duration::from_secs(5), receiver.next()).await.context("no join response")??;
    ensure!(matches!(first, Some(signal_response::Message::Join(_))), "the first response is {first:?}");
    Ok((sender, receiver))
}

/// Whether the server ends the session within 5 s, by `leave` or by closing the WebSocket.
async fn is_ended(receiver: &mut Receiver) -> bool {
    let ended = async {
        loop {
            match receiver.next().await {
                Ok(Some(signal_response::Message::Leave(_)) | None) | Err(_) => return,
                Ok(Some(_)) => {}
            }
        }
    };
    timeout(Duration::from_secs(5), ended).await.is_ok()
}

/// Reads until the session is refused for good, and the code with which the WebSocket is closed after it.
async fn refused_with(receiver: &mut Receiver) -> Result<Option<u16>> {
    let refused = async {
        loop {
            match receiver.next().await? {
                Some(signal_response::Message::Leave(leave)) => {
                    // With another session it would be the same.
                    ensure!(leave.reason() == DisconnectReason::StateMismatch, "{leave:?}");
                    ensure!(leave.action() == leave_request::Action::Disconnect, "{leave:?}");
                    return receiver.close_code().await;
                }
                Some(_) => {}
                None => bail!("closed without a word"),
            }
        }
    };
    timeout(Duration::from_secs(5), refused).await.context("the session goes on")?
}

/// What came of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    /// The session is over: the client sent what no client sends, and would send it again.
    Refused,
    /// The offer was answered, and the session goes on.
    Answered,
    /// Nothing came of it, and the session goes on.
    Ignored,
}

/// Sends a request and a ping, and reads until one of them has ended the session or been answered.
async fn outcome(sender: &mut Sender, receiver: &mut Receiver, request: signal_request::Message) -> Result<Outcome> {
    sender.send(request).await?;
    sender.send(signal_request::Message::PingReq(Ping { timestamp: 77, rtt: 0 })).await?;
    let read = async {
        let mut outcome = Outcome::Ignored;
        loop {
            match receiver.next().await? {
                Some(signal_response::Message::Leave(leave)) => {
                    // With another session it would be the same.
                    ensure!(leave.reason() == DisconnectReason::StateMismatch, "{leave:?}");
                    ensure!(leave.action() == leave_request::Action::Disconnect, "{leave:?}");
                    ensure!(receiver.close_code().await? == Some(1007), "closed with another code");
                    return Ok(Outcome::Refused);
                }
                Some(signal_response::Message::Answer(_)) => outcome = Outcome::Answered,
                Some(signal_response::Message::PongResp(pong)) if pong.last_ping_timestamp == 77 => return Ok(outcome),
                Some(_) => {}
                None => bail!("closed without a word"),
            }
        }
    };
    timeout(Duration::from_secs(5), read).await.context("the session hangs")?
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_no_requests() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    let (before, base) = (Metrics::read(&server).await?, Before::read(&server).await?);
    // A field of 2^60 bytes, a group that never ends, a varint of eleven bytes, plain noise.
    let lies = [
        vec![0x0A, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10],
        vec![0x0B; 4000],
        vec![0xFF; 11],
        (0..997u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect(),
    ];
    let mut bad: Vec<(&str, Message)> =
        lies.into_iter().map(|bytes| ("a malformed protobuf", Message::Binary(bytes.into()))).collect();
    bad.push(("text that is no JSON", Message::Text("{\"offer\": [".into())));
    let count = f64::from(u32::try_from(bad.len())?);
    for (what, message) in bad {
        let (mut sender, mut receiver) = joined(&server, "bad-frame").await?;
        sender.raw(message).await?;
        let refused = refused_with(&mut receiver).await;
        let right = refused.as_ref().is_ok_and(|code| *code == Some(1007));
        ensure!(right || !Server::is_ours(), "{what}: {refused:?}");
    }
    before.grows(&server, "signal_sessions_ended", &["reason=\"Refused\""], count).await?;
    meeting.goes_on(&server).await?;
    base.is_restored(&server, SLACK, LIMIT).await
}

/// A binary message in several frames.
fn in_frames(count: usize, each: usize) -> Vec<Message> {
    let kind = |n| OpCode::Data(if n == 0 { Data::Binary } else { Data::Continue });
    (0..count).map(|n| Message::Frame(Frame::message(vec![0; each], kind(n), n + 1 == count))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_too_long() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    let (before, base) = (Metrics::read(&server).await?, Before::read(&server).await?);
    let bad: Vec<(&str, Vec<Message>)> = vec![
        ("a byte above 2 MiB", vec![Message::Binary(vec![0; (2 << 20) + 1].into())]),
        ("a frame of 4 MiB", vec![Message::Binary(vec![0; 4 << 20].into())]),
        ("a text of 4 MiB", vec![Message::Text(" ".repeat(4 << 20).into())]),
        ("thirty frames of 100 kB", in_frames(30, 100_000)),
        // Of these the server does not read the end.
        ("a frame of eight megabytes", vec![Message::Binary(vec![0; 8 << 20].into())]),
        ("eighty frames of 100 kB", in_frames(80, 100_000)),
    ];
    let count = f64::from(u32::try_from(bad.len())?);
    for (what, messages) in bad {
        let (mut sender, mut receiver) = joined(&server, "too-long").await?;
        for message in messages {
            // The server may close while it is still being written.
            if sender.raw(message).await.is_err() {
                break;
            }
        }
        let refused = refused_with(&mut receiver).await;
        let right = refused.as_ref().is_ok_and(|code| *code == Some(1009));
        ensure!(right || !Server::is_ours(), "{what}: {refused:?}");
    }
    before.grows(&server, "signal_sessions_ended", &["reason=\"Refused\""], count).await?;
    meeting.goes_on(&server).await?;
    base.is_restored(&server, SLACK, LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_requests() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    let (before, base) = (Metrics::read(&server).await?, Before::read(&server).await?);
    let settings = signal_request::Message::TrackSetting(UpdateTrackSettings::default());
    let ping = signal_request::Message::PingReq(Ping { timestamp: 1, rtt: 0 });
    for (what, message) in [("requests without an answer", settings), ("pings", ping)] {
        let (mut sender, mut receiver) = joined(&server, "flood").await?;
        let bytes = SignalRequest { message: Some(message) }.encode_to_vec();
        let reading = tokio::spawn(async move { is_ended(&mut receiver).await });
        for _ in 0..20_000 {
            if sender.raw(Message::Binary(bytes.clone().into())).await.is_err() {
                break;
            }
        }
        let refused = reading.await?;
        ensure!(refused || !Server::is_ours(), "twenty thousand {what} at once are served");
    }
    // Pings may first be more than answers can be sent: that session is not refused but cut off.
    before.grows(&server, "signal_sessions_ended", &["reason=\"Refused\""], 1.0).await?;
    meeting.goes_on(&server).await?;
    base.is_restored(&server, SLACK, LIMIT).await
}

/// Offers that no client makes.
fn bad_offers() -> Vec<(&'static str, String, Outcome)> {
    use Outcome::{Answered, Refused};
    let good = raw::offer();
    let section = |n: u32| {
        format!(
            "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:{n}\r\na=recvonly\r\na=rtpmap:96 VP8/90000\r\n"
        )
    };
    vec![
        ("nothing", String::new(), Refused),
        ("noise", "\u{1F980}".repeat(3000), Refused),
        ("no version", good.replace("v=0\r\n", ""), Refused),
        ("no credentials", good.replace("a=ice-ufrag:rawu\r\n", ""), Refused),
        ("a short password", good.replace("rawpasswordrawpasswordra", "short"), Refused),
        (
            "no fingerprint",
            good.lines().filter(|line| !line.starts_with("a=fingerprint")).map(|line| format!("{line}\r\n")).collect(),
            Refused,
        ),
        ("a fingerprint that is none", good.replace("AB:AB:AB", "XY:AB"), Refused),
        // A client may say of itself what it likes.
        ("an endless line", format!("{good}a={}\r\n", "x".repeat(100_000)), Answered),
        ("a thousand sections", format!("{good}{}", (1..=1000).map(section).collect::<String>()), Refused),
        ("lines without an end", good.replace("\r\n", "\r"), Refused),
        ("numbers that do not fit", good.replace("m=application 9", "m=application 99999999999999999999"), Refused),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn sdp_that_no_client_sends() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    let (before, base) = (Metrics::read(&server).await?, Before::read(&server).await?);
    let mut refused = 0.0;
    for (what, sdp, expected) in bad_offers() {
        let (mut sender, mut receiver) = joined(&server, "bad-sdp").await?;
        let offer = SessionDescription { r#type: "offer".to_owned(), sdp, id: 1, ..SessionDescription::default() };
        let offer = signal_request::Message::Offer(offer);
        let outcome = outcome(&mut sender, &mut receiver, offer).await;
        if Server::is_ours() {
            let outcome = outcome.with_context(|| format!("an offer with {what}"))?;
            ensure!(outcome == expected, "an offer with {what}: {outcome:?}");
        }
        refused += f64::from(u8::from(expected == Outcome::Refused));
    }
    before.grows(&server, "signal_sessions_ended", &["reason=\"Refused\""], refused).await?;
    for (what, message, expected) in [
        (
            "an answer to nothing",
            signal_request::Message::Answer(SessionDescription { sdp: raw::offer(), ..SessionDescription::default() }),
            Outcome::Refused,
        ),
        (
            "a candidate that is none",
            signal_request::Message::Trickle(livekit_protocol::TrickleRequest {
                candidate_init: "{\"candidate\":17}".to_owned(),
                ..livekit_protocol::TrickleRequest::default()
            }),
            Outcome::Ignored,
        ),
        (
            "a mute of a track that is not there",
            signal_request::Message::Mute(livekit_protocol::MuteTrackRequest {
                sid: "TR_nothing".to_owned(),
                muted: true,
            }),
            Outcome::Ignored,
        ),
    ] {
        let (mut sender, mut receiver) = joined(&server, "bad-request").await?;
        let outcome = outcome(&mut sender, &mut receiver, message).await;
        let right = outcome.as_ref().is_ok_and(|outcome| *outcome == expected);
        ensure!(right || !Server::is_ours(), "{what}: {outcome:?}");
    }
    meeting.goes_on(&server).await?;
    base.is_restored(&server, SLACK, LIMIT).await
}

/// `GET` with status and text.
async fn get(server: &Server, path: &str) -> Result<(u16, String, bool)> {
    let response =
        reqwest::Client::new().get(format!("{}{path}", server.http)).timeout(Duration::from_secs(10)).send().await?;
    let cors = response.headers().contains_key("access-control-allow-origin");
    Ok((response.status().as_u16(), response.text().await?, cors))
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_do_not_hold() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    let (before, base) = (Metrics::read(&server).await?, Before::read(&server).await?);
    let claims = |changes: Value| {
        let mut claims = token::claims(&server, "somebody", token::grants("tokens"));
        for (key, value) in changes.as_object().cloned().unwrap_or_default() {
            claims[key] = value;
        }
        claims
    };
    let good = token::sign(&claims(json!({})), &server.secret);
    let (status, text, _) = get(&server, &format!("/rtc/validate?access_token={good}")).await?;
    ensure!(status == 200, "a good token gets {status} {text}");
    let mut changed = good.clone();
    changed.replace_range(
        good.len() / 2..good.len() / 2 + 1,
        if &good[good.len() / 2..=good.len() / 2] == "A" { "B" } else { "A" },
    );
    let bad = [
        ("expired", token::sign(&claims(json!({ "exp": token::now() - 3600 })), &server.secret)),
        ("not yet valid", token::sign(&claims(json!({ "nbf": token::now() + 3600 })), &server.secret)),
        ("without an expiry", {
            let mut claims = claims(json!({}));
            claims.as_object_mut().map(|claims| claims.remove("exp"));
            token::sign(&claims, &server.secret)
        }),
        ("signed with another secret", token::sign(&claims(json!({})), "another-secret-another-secret-another")),
        ("of an unknown key", token::sign(&claims(json!({ "iss": "nobody" })), &server.secret)),
        ("unsigned (alg none)", token::unsigned(&claims(json!({})))),
        ("changed", changed),
        ("without an identity", token::sign(&claims(json!({ "sub": "" })), &server.secret)),
        ("without roomJoin", token::sign(&claims(json!({ "video": { "room": "tokens" } })), &server.secret)),
        ("without a room", token::sign(&claims(json!({ "video": { "roomJoin": true } })), &server.secret)),
        ("garbage", "a.b.c".to_owned()),
        ("empty", String::new()),
    ];
    let mut refused = 0.0;
    for (what, token) in &bad {
        // A token without an expiry is LiveKit's matter; we require one.
        if *what == "without an expiry" && !Server::is_ours() {
            continue;
        }
        for path in ["/rtc/validate", "/rtc/v1/validate"] {
            let (status, text, cors) = get(&server, &format!("{path}?access_token={token}")).await?;
            // LiveKit answers 400 where the claims are incomplete, and v1 asks for a join request first.
            ensure!(matches!(status, 400 | 401 | 403), "{path} with a token {what} answers {status} {text}");
            ensure!(cors, "{path} refuses a token {what} without CORS: browsers would call it unreachable");
            ensure!(!Server::is_ours() || !text.is_empty(), "{path} refuses a token {what} without a reason");
        }
        for path in [signal::path_v0(token, true), signal::path_v1(token, &JoinRequest::default())] {
            let Err(denied) = signal::open(&server, &path).await else { bail!("{path} with a token {what} is open") };
            let denied = denied.to_string();
            let status = ["400", "401", "403"].iter().any(|status| denied.contains(&format!("refused with {status}")));
            ensure!(status, "{path} with a token {what}: {denied}");
            refused += 1.0;
        }
    }
    before.grows(&server, "signal_refused", &[], refused).await?;

    // A moderator of one room is nobody in another.
    let grants = json!({ "roomJoin": true, "room": "tokens", "roomAdmin": true });
    let moderator = token::sign(&token::claims(&server, "moderator", grants), &server.secret);
    let url = format!("{}/twirp/livekit.RoomService/ListParticipants", server.http);
    let call = reqwest::Client::new().post(url).bearer_auth(moderator).json(&json!({ "room": "beside" }));
    let status = call.timeout(Duration::from_secs(10)).send().await?.status().as_u16();
    ensure!(matches!(status, 401 | 403), "the wrong room's moderator gets {status}");
    meeting.goes_on(&server).await?;
    base.is_restored(&server, SLACK, LIMIT).await
}

fn bomb() -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..40 {
        encoder.write_all(&[0; 1 << 20])?;
    }
    Ok(encoder.finish()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn join_requests_that_are_none() -> Result<()> {
    let _turn = turn().await;
    let server = Server::start().await?;
    let meeting = Meeting::start(&server).await?;
    let (before, base) = (Metrics::read(&server).await?, Before::read(&server).await?);
    let token = token::token(&server, "join-requests", "somebody");
    let encode = |wrapped: WrappedJoinRequest| {
        use base64::{Engine, prelude::BASE64_URL_SAFE};
        BASE64_URL_SAFE.encode(wrapped.encode_to_vec())
    };
    let offer = SessionDescription {
        r#type: "offer".to_owned(),
        sdp: "v=0".repeat(50),
        id: 1,
        ..SessionDescription::default()
    };
    let bad_offer = JoinRequest { publisher_offer: Some(offer), ..JoinRequest::default() }.encode_to_vec();
    let requests = [
        ("no base64", "%%%%".to_owned()),
        ("no protobuf", encode(WrappedJoinRequest { compression: 0, join_request: vec![0xFF; 40] })),
        ("no gzip", encode(WrappedJoinRequest { compression: 1, join_request: vec![0x1F, 0x8B, 8, 0, 1, 2, 3] })),
        ("40 MB in 40 kB of gzip", encode(WrappedJoinRequest { compression: 1, join_request: bomb()? })),
        ("a bad offer", encode(WrappedJoinRequest { compression: 0, join_request: bad_offer })),
    ];
    for (what, request) in requests {
        // LiveKit unpacks whatever comes, and lets a bad offer wait for a good one.
        if (what.starts_with("40 MB") || what == "a bad offer") && !Server::is_ours() {
            continue;
        }
        let path = format!("/rtc/v1?access_token={token}&join_request={request}");
        match signal::open(&server, &path).await {
            Err(_) => {}
            Ok((_, mut receiver)) => {
                ensure!(is_ended(&mut receiver).await, "a join request with {what} is accepted");
            }
        }
    }
    before.grows(&server, "signal_refused", &[], 4.0).await?;
    before.grows(&server, "signal_sessions_ended", &["reason=\"Refused\""], 1.0).await?;
    joined(&server, "after").await?;
    meeting.goes_on(&server).await?;
    base.is_restored(&server, SLACK, LIMIT).await
}
