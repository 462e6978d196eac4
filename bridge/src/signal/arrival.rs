//! Where a client's session is or will be: here, or on another bridge to which its signalling is relayed.

use std::collections::VecDeque;
use std::net::IpAddr;

use http::StatusCode;

use super::Inner;
use super::across::{self, Line, NoLine};
use super::http::Denial;
use super::request::Opening;
use crate::room::ids::random_base62;
use crate::room::{JoinRequest, Joined, ParticipantSid, Way};

/// Bridges that are tried before somebody is sent away.
const ATTEMPTS: usize = 3;
/// How often a session may have moved while it is looked for.
const MOVES: usize = 3;
/// Bridges that are asked for a session while the allocator does not tell where the room is.
const ASKED: usize = 16;

/// Somebody is in.
#[derive(Debug)]
pub(super) enum Arrival {
    /// On this bridge.
    Here(Box<Joined>),
    /// On another one.
    There(Box<Line>),
}

/// Lets a new participant into its room, on whichever bridge it gets a seat. A bridge that cannot be reached, or takes nobody
/// right now, gives up the seat, and another one is asked for.
pub(super) async fn join(signal: &Inner, opening: &Opening, address: IpAddr) -> Result<Arrival, Denial> {
    let mut avoid = Vec::new();
    let message = "the server that has a seat for you cannot be reached right now: try again in a moment";
    let mut last = Denial::unavailable(message);
    for _ in 0..ATTEMPTS {
        let (claims, client) = (opening.claims.clone(), opening.client.clone());
        let request = JoinRequest { claims, client, join_id: random_base62(20), forwarded_from: None };
        let placed = match signal.rooms.join(&request, &avoid).await? {
            Way::Here(joined) => return Ok(Arrival::Here(joined)),
            Way::There(placed) => *placed,
        };
        let seat = placed.seat.clone().unwrap_or_default();
        signal.peers.learn(&seat.bridge, &seat.bridge_address);
        let asked = across::opening(opening, address, Some(placed.clone()));
        let refused = match Line::open(&signal.peers, &seat.bridge, asked).await {
            Ok(line) => return Ok(Arrival::There(Box::new(line))),
            Err(no_line) => no_line,
        };
        signal.rooms.give_back(&placed).await;
        match refused {
            NoLine::Refused(refused) if refused.ended => {}
            NoLine::Refused(refused) => {
                last = Denial::of_another(&refused);
                if last.status != StatusCode::SERVICE_UNAVAILABLE {
                    return Err(last);
                }
                avoid.push(seat.bridge);
            }
            NoLine::Unreachable(error) => {
                tracing::warn!(bridge = seat.bridge, %error, "a seat's bridge cannot be reached: another one is tried");
                avoid.push(seat.bridge);
            }
        }
    }
    Err(last)
}

/// Why a session on another bridge cannot be resumed.
#[derive(Debug)]
pub(super) enum NotFound {
    /// It is over: the client joins anew.
    Over,
    /// Nobody can tell: the client tries again.
    Unknown(Denial),
}

/// The line to a session on another bridge.
pub(super) async fn resume(
    signal: &Inner,
    opening: &Opening,
    sid: &ParticipantSid,
    address: IpAddr,
) -> Result<Line, NotFound> {
    let (bridges, certain) = candidates(signal, &opening.claims.grants.room, sid).await;
    let mut bridges: VecDeque<String> = bridges.into();
    let mut moves = 0;
    while let Some(bridge) = bridges.pop_front() {
        match Line::open(&signal.peers, &bridge, across::opening(opening, address, None)).await {
            Ok(line) => return Ok(line),
            Err(NoLine::Refused(refused)) if refused.unknown => {}
            Err(NoLine::Refused(refused)) if !refused.moved_to.is_empty() && moves < MOVES => {
                moves += 1;
                bridges.push_front(refused.moved_to);
            }
            Err(NoLine::Refused(refused)) => return Err(NotFound::Unknown(Denial::of_another(&refused))),
            Err(NoLine::Unreachable(error)) => {
                tracing::warn!(bridge, %error, "a bridge that may have a client's session cannot be reached");
            }
        }
    }
    if certain {
        return Err(NotFound::Over);
    }
    let message = "the allocator does not tell where this session is: try again in a moment";
    Err(NotFound::Unknown(Denial::unavailable(message)))
}

/// The bridges on which a session may be, and whether there are no others.
async fn candidates(signal: &Inner, room: &str, sid: &ParticipantSid) -> (Vec<String>, bool) {
    let me = signal.rooms.bridge();
    if let Some(room) = signal.rooms.get(room)
        && let Some(who) = room.state().participant(sid)
    {
        let elsewhere = Some(who.bridge.clone()).filter(|bridge| bridge != me);
        return (elsewhere.into_iter().collect(), true);
    }
    match signal.rooms.list_open(vec![room.to_owned()]).await {
        Ok(open) => {
            let bridges = open.into_iter().flat_map(|room| room.bridges).map(|has| has.bridge);
            (bridges.filter(|bridge| bridge != me).collect(), true)
        }
        Err(_) => (signal.peers.known_names(ASKED), false),
    }
}

impl Denial {
    /// Not now.
    pub(super) fn unavailable(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// What another bridge answered.
    fn of_another(refused: &ratssaal_proto::bridge::v1::Refused) -> Self {
        let status = u16::try_from(refused.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.filter(|status| status.is_client_error() || status.is_server_error());
        let denial = Self::new(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE), refused.message.clone());
        denial.retry_after_ms(refused.retry_after_ms)
    }
}
