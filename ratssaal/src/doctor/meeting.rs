//! Two visitors who meet: tokens, WebSocket, UDP, sound from one to the other.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use livekit_token::{AccessToken, VideoGrants};
use secrecy::ExposeSecret;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::finding::{Checks, Finding, Problem, plain};
use super::line::{Line, STEP};
use super::options::Options;
use super::visitor::{self, Happening, Visit};
use super::web;
use crate::load::wire::Failure;

/// Packets of sound that must come: a second of it.
const SOUND: usize = 50;
/// Sound may take so long to begin and to come.
const PATIENCE: Duration = Duration::from_secs(8);
/// Tokens live just as long as needed.
const TOKEN: Duration = Duration::from_secs(300);

#[derive(Deserialize)]
struct JoinAnswer {
    token: String,
}

#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    message: String,
}

struct Guest {
    happenings: mpsc::UnboundedReceiver<Happening>,
    session: JoinHandle<Result<(), Failure>>,
}

/// The checks from the token on.
pub(super) async fn examine<W: Write>(options: &Options, line: &Line, checks: &mut Checks<W>) -> anyhow::Result<()> {
    // Nobody else meets here by chance.
    let room = format!("doctor-{:016x}", rand::random::<u64>());
    let (first, second) = match tokens(options, line, &room).await {
        Ok(tokens) => tokens,
        Err(problem) => {
            checks.note("token", Err(problem))?;
            return checks.skip_rest();
        }
    };
    checks.note(
        "token",
        Ok(Finding::new(match &options.key {
            Some((key, _)) => format!("signed with {key}"),
            None => "given to guests".to_owned(),
        })),
    )?;
    let leave = CancellationToken::new();
    let clock = Instant::now();
    let mut guests = Vec::new();
    for (token, speaks) in [(first, true), (second, false)] {
        match enter(line, token, speaks, clock, leave.clone()).await {
            Ok(guest) => guests.push(guest),
            Err(problem) => {
                checks.note("websocket", Err(problem))?;
                leave.cancel();
                return checks.skip_rest();
            }
        }
    }
    checks.note(
        "websocket",
        Ok(Finding::new(format!("both participants are in after {} ms", clock.elapsed().as_millis()))),
    )?;
    let heard = udp(&mut guests).await;
    let well = checks.note("udp", heard)?;
    leave.cancel();
    for guest in guests {
        // Leaving in order is a courtesy; the room ends without it, too.
        let _ = timeout(Duration::from_secs(2), guest.session).await;
    }
    if !well {
        return checks.skip_rest();
    }
    checks.note("seats", seats(line).await)?;
    Ok(())
}

/// Two tokens for the room.
async fn tokens(options: &Options, line: &Line, room: &str) -> Result<(String, String), Problem> {
    Ok(match &options.key {
        Some((key, secret)) => {
            let sign = |identity: &str| {
                let grants = VideoGrants { room_join: true, room: room.to_owned(), ..VideoGrants::default() };
                let token = AccessToken::with_api_key(key, secret.expose_secret());
                let token =
                    token.with_ttl(TOKEN).with_identity(identity).with_name("Doctor").with_grants(grants).to_jwt();
                token.map_err(|error| Problem::new(format!("a token cannot be signed ({error})"), "check --api-secret"))
            };
            (sign("doctor-1")?, sign("doctor-2")?)
        }
        None => (guest_token(line, room).await?, guest_token(line, room).await?),
    })
}

async fn guest_token(line: &Line, room: &str) -> Result<String, Problem> {
    let answer = web::post(line, "/api/v1/join", &serde_json::json!({ "room": room, "name": "Doctor" })).await?;
    if answer.status == 200 {
        let bad = |_| Problem::new("/api/v1/join gives no token", "let the proxy pass all paths on to Ratssaal");
        return serde_json::from_slice::<JoinAnswer>(&answer.body).map(|answer| answer.token).map_err(bad);
    }
    let refusal: Refusal = serde_json::from_slice(&answer.body).unwrap_or_default();
    Err(match refusal.error.as_str() {
        "" => Problem::new(
            format!("/api/v1/join gives status {}: {}", answer.status, answer.text()),
            "let the proxy pass all paths on to Ratssaal",
        ),
        "no_such_room" | "rooms_closed" => {
            Problem::new("guests may not open rooms here", "give --api-key and --api-secret, with which the doctor may")
        }
        code => Problem::new(
            format!("guests get no token: {} ({})", plain(&refusal.message, 200), plain(code, 40)),
            "try again later, or give --api-key and --api-secret",
        ),
    })
}

/// Lets a visitor in; returns when the server has.
async fn enter(
    line: &Line,
    token: String,
    speaks: bool,
    clock: Instant,
    leave: CancellationToken,
) -> Result<Guest, Problem> {
    let (sender, mut happenings) = mpsc::unbounded_channel();
    let (base, stream) = (line.socket_base(), line.open().await?);
    let visit = Visit { base, stream, token, speaks, clock, happenings: sender, leave };
    // Its buffers for datagrams stay on this thread.
    let session = spawn_local(visitor::run(visit));
    match timeout(STEP, happenings.recv()).await {
        Ok(Some(_)) => Ok(Guest { happenings, session }),
        Ok(None) => Err(ended(session).await.map_or_else(
            || Problem::new("the server ended the session at once", "its log says why"),
            |failure| refused(&failure),
        )),
        Err(_) => {
            session.abort();
            let what = "the WebSocket opens, but the server says nothing for 10 s";
            Err(Problem::new(what, "let the proxy pass WebSockets on without buffering them"))
        }
    }
}

/// Why a session is over.
async fn ended(session: JoinHandle<Result<(), Failure>>) -> Option<Failure> {
    session.await.ok()?.err()
}

/// What a failure to join means to whoever runs the installation.
fn refused(failure: &Failure) -> Problem {
    match failure {
        Failure::Token { why } => Problem::new(
            format!("the server refuses the token ({why})"),
            "check --api-key and --api-secret; without them, that all servers have the same [keys] and their clocks are right",
        ),
        Failure::NoRoute { status, .. } => Problem::new(
            format!("WebSockets do not get through (status {status})"),
            "let the proxy pass /rtc on with the headers Upgrade and Connection",
        ),
        Failure::Full { why, .. } => {
            Problem::new(format!("there is no free seat ({why})"), "add a machine, or raise the number of seats")
        }
        other => Problem::new(other.to_string(), "the server's log says more"),
    }
}

/// Waits until the listener has heard a second of the speaker.
async fn udp(guests: &mut [Guest]) -> Result<Finding, Problem> {
    let [speaker, listener] = guests else {
        return Err(Problem::new("nobody to listen", "this is a bug, please report it"));
    };
    let deadline = tokio::time::Instant::now() + STEP;
    connected(speaker, deadline).await?;
    let address = connected(listener, deadline).await?;
    let mut late = Vec::new();
    let heard = timeout(PATIENCE, async {
        while late.len() < SOUND {
            match listener.happenings.recv().await {
                Some(Happening::Heard(delay)) => late.push(delay),
                Some(_) => {}
                None => return false,
            }
        }
        true
    });
    let all = heard.await == Ok(true);
    late.sort_unstable();
    let median = late
        .get(late.len() / 2)
        .map_or_else(String::new, |delay| format!(", {:.1} ms each", delay.as_secs_f64() * 1e3));
    if all {
        return Ok(Finding::new(format!("{address}: sound goes from one participant to the other{median}")));
    }
    let what = format!("UDP to {address} works, but only {} of {SOUND} packets of sound came within 8 s", late.len());
    Err(Problem::new(what, "look for packet loss on the way, and at the server's load"))
}

/// Waits until a visitor's media can flow; the server's address.
async fn connected(guest: &mut Guest, deadline: tokio::time::Instant) -> Result<SocketAddr, Problem> {
    let mut tried = Vec::new();
    loop {
        match timeout_at(deadline, guest.happenings.recv()).await {
            Ok(Some(Happening::Connected(address))) => return Ok(address),
            Ok(Some(Happening::Candidates(more))) => tried.extend(more),
            Ok(Some(_)) => {}
            Ok(None) => return Err(Problem::new("the server ended the session", "its log says why")),
            Err(_) => return Err(unreachable(&mut tried)),
        }
    }
}

fn unreachable(tried: &mut Vec<SocketAddr>) -> Problem {
    tried.sort_unstable();
    tried.dedup();
    if tried.is_empty() {
        return Problem::new("the server names no address for UDP", "set the addresses it tells (media.advertise)");
    }
    let list: Vec<String> = tried.iter().map(ToString::to_string).collect();
    let private = tried.iter().all(|address| matches!(address, SocketAddr::V4(v4) if v4.ip().is_private()));
    let hint =
        if private { "; these are private addresses: from outside, media.advertise must name public ones" } else { "" };
    let what = format!("no UDP connection to {} within 10 s", list.join(", "));
    Problem::new(what, format!("let UDP through to these ports in every firewall on the way{hint}"))
}

/// How many more participants there is room for, as far as the server that answers tells.
async fn seats(line: &Line) -> Result<Finding, Problem> {
    let answer = web::get(line, "/metrics").await?;
    let text = String::from_utf8_lossy(&answer.body);
    let all = sum(&text, "ratssaal_bridge_seat_limit");
    let Some(all) = all.filter(|all| answer.status == 200 && *all > 0.0) else {
        return Ok(Finding::new(
            "there were two; the server's metrics, which tell the number, are not open to this machine",
        ));
    };
    let free = (all - sum(&text, "ratssaal_participants").unwrap_or_default()).max(0.0);
    let finding = Finding::new(format!("{free:.0} of {all:.0} are free on the server that answers"));
    Ok(if free < all / 10.0 { finding.but("add a machine before they are gone") } else { finding })
}

/// The sum over a metric's labels in OpenMetrics text.
fn sum(text: &str, name: &str) -> Option<f64> {
    text.lines().fold(None, |sum, line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with([' ', '{']));
        let value = rest.and_then(|rest| rest.rsplit_once(' ')?.1.parse::<f64>().ok());
        value.map_or(sum, |value| Some(sum.unwrap_or_default() + value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_over_their_labels() {
        let text = "# TYPE ratssaal_participants gauge\nratssaal_participants{state=\"joined\"} 3\nratssaal_participants{state=\"active\"} 4\n\
                    ratssaal_participants_peak 99\nratssaal_bridge_seat_limit 1000\n";
        assert_eq!(sum(text, "ratssaal_participants"), Some(7.0));
        assert_eq!(sum(text, "ratssaal_bridge_seat_limit"), Some(1000.0));
        assert_eq!(sum(text, "ratssaal_nothing"), None);
    }

    #[test]
    fn unreachable_addresses_are_named_and_private_ones_explained() {
        let mut private = vec!["10.0.0.7:10000".parse().unwrap(), "10.0.0.7:10000".parse().unwrap()];
        let problem = unreachable(&mut private);
        assert_eq!(problem.what, "no UDP connection to 10.0.0.7:10000 within 10 s");
        assert!(problem.advice.contains("media.advertise"));
        let problem = unreachable(&mut vec!["203.0.113.7:10000".parse().unwrap()]);
        assert!(!problem.advice.contains("media.advertise"), "{problem:?}");
        assert!(unreachable(&mut Vec::new()).advice.contains("media.advertise"));
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (failure, part) in [
            (Failure::Token { why: String::new() }, "clocks"),
            (Failure::NoRoute { status: 404, url: String::new() }, "Upgrade"),
            (Failure::Full { status: 503, why: String::new() }, "add a machine"),
            (Failure::Left("SERVER_SHUTDOWN".to_owned()), "log"),
        ] {
            assert!(refused(&failure).advice.contains(part), "{failure:?}");
        }
    }
}
