//! The HTTP side of signalling: `/rtc`, `/rtc/v1` (WebSockets) and their `/validate`, which tells a browser's page in plain
//! HTTP why the WebSocket was refused, as the WebSocket API does not.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use livekit_protocol::DisconnectReason;
use livekit_protocol::leave_request::Action;
use ratssaal_process::http::Peer;
use ratssaal_proto::bridge::v1::Refused;
use tokio::time::timeout;
use tracing::Instrument as _;

use super::across::{self, Line};
use super::admission::Place;
use super::arrival::{self, Arrival, NotFound};
use super::coming;
use super::link::{Link, Socket};
use super::request::{self, BadRequest, Opening, Path};
use super::resume::Way;
use super::session::{Return, Session};
use super::websocket::{NoUpgrade, Upgrade};
use super::wire::Close;
use super::{Inner, Signal, messages};
use crate::room::{JoinRefusal, ParticipantSid, Refusal};

/// How long letting somebody in may take; clients give up after this.
pub(super) const JOIN_WITHIN: Duration = Duration::from_secs(5);

/// Why a client is not let in, as HTTP says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Denial {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    /// Seconds.
    retry_after: Option<u64>,
}

impl Denial {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        Self { status, message: message.into(), retry_after }
    }

    /// Too many at once.
    pub(super) fn crowded() -> Self {
        Self::unavailable("too many clients are connecting right now: try again in a moment")
    }

    /// It took too long.
    pub(super) fn late() -> Self {
        Self::unavailable("joining took too long: try again in a moment")
    }

    pub(super) fn retry_after_ms(mut self, milliseconds: u64) -> Self {
        if milliseconds > 0 {
            self.retry_after = Some(milliseconds.div_ceil(1000));
        }
        self
    }

    /// For the bridge that has the client's WebSocket.
    pub(super) fn refused(self) -> Refused {
        Refused {
            status: self.status.as_u16().into(),
            message: self.message,
            retry_after_ms: self.retry_after.unwrap_or_default() * 1000,
            ..Refused::default()
        }
    }
}

impl From<BadRequest> for Denial {
    fn from(error: BadRequest) -> Self {
        Self::new(error.status(), error.to_string())
    }
}

impl From<JoinRefusal> for Denial {
    fn from(refusal: JoinRefusal) -> Self {
        let status = match &refusal {
            JoinRefusal::NoGrant => StatusCode::UNAUTHORIZED,
            // `livekit-client` reads this sentence: other 404s mean to it that /rtc/v1 is unknown here.
            JoinRefusal::UnknownRoom => {
                return Self::new(StatusCode::NOT_FOUND, format!("requested room does not exist: {refusal}"));
            }
            JoinRefusal::Refused(Refusal::NotAllowed { .. } | Refusal::Revoked) => StatusCode::FORBIDDEN,
            JoinRefusal::Refused(Refusal::TooLarge { .. } | Refusal::Invalid { .. }) => StatusCode::BAD_REQUEST,
            JoinRefusal::Full { .. } | JoinRefusal::Unavailable { .. } | JoinRefusal::Refused(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        let denial = Self::new(status, refusal.to_string());
        match refusal {
            JoinRefusal::Unavailable { retry_after_ms, .. }
            | JoinRefusal::Refused(Refusal::Unavailable { retry_after_ms }) => denial.retry_after_ms(retry_after_ms),
            _ => denial,
        }
    }
}

impl IntoResponse for Denial {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.message).into_response();
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

type Pairs = Result<Query<HashMap<String, String>>, QueryRejection>;
type Asked = Result<Upgrade, NoUpgrade>;

pub(super) fn router(signal: Signal) -> Router {
    let open = |path: Path| {
        get(move |State(signal): State<Signal>, peer, query: Pairs, headers: HeaderMap, upgrade: Asked| async move {
            let peer: Option<Extension<Peer>> = peer;
            open(signal.inner, path, peer, query, headers, upgrade).await
        })
    };
    let check = |path: Path| {
        get(move |State(signal): State<Signal>, query: Pairs, headers: HeaderMap| async move {
            let mut response = validate(&signal.inner, path, query, &headers).into_response();
            // The page may come from anywhere; what protects the room is the token.
            let everyone = HeaderValue::from_static("*");
            response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, everyone);
            response
        })
    };
    Router::new()
        .route("/rtc", open(Path::V0))
        .route("/rtc/v1", open(Path::V1))
        .route("/rtc/validate", check(Path::V0))
        .route("/rtc/v1/validate", check(Path::V1))
        .with_state(signal)
}

fn validate(signal: &Inner, path: Path, query: Pairs, headers: &HeaderMap) -> Result<&'static str, Denial> {
    let opening = read(signal, path, query, headers)?;
    match signal.denials.recent(&opening.claims.grants.room, &opening.claims.identity) {
        Some(denial) => Err(denial),
        None => Ok("success"),
    }
}

fn read(signal: &Inner, path: Path, query: Pairs, headers: &HeaderMap) -> Result<Opening, Denial> {
    let Query(query) = query.map_err(|error| Denial::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    Ok(request::parse(path, &query, headers, &signal.keys)?)
}

async fn open(
    signal: Arc<Inner>,
    path: Path,
    peer: Option<Extension<Peer>>,
    query: Pairs,
    headers: HeaderMap,
    upgrade: Asked,
) -> Response {
    // Whoever asks without a WebSocket learns what is wrong with the request first.
    let outcome = match read(&signal, path, query, &headers) {
        Err(denial) => Err(denial),
        Ok(opening) => match upgrade {
            Err(no_upgrade) => return no_upgrade.into_response(),
            Ok(upgrade) => {
                let address = peer.map_or(Ipv4Addr::UNSPECIFIED.into(), |Extension(peer)| peer.client);
                match signal.admission.enter(address).ok_or_else(Denial::crowded) {
                    Ok(place) => enter(&signal, upgrade, opening, address, place).await,
                    Err(denial) => Err(denial),
                }
            }
        },
    };
    outcome.unwrap_or_else(|denial| {
        signal.metrics.refused(denial.status);
        tracing::info!(status = denial.status.as_u16(), message = %denial.message, "a client is not let in");
        denial.into_response()
    })
}

async fn enter(
    signal: &Arc<Inner>,
    upgrade: Upgrade,
    opening: Opening,
    address: IpAddr,
    place: Place,
) -> Result<Response, Denial> {
    match opening.resume.clone() {
        Some(sid) => resume(signal, upgrade, opening, address, place, &sid).await,
        None => join(signal, upgrade, opening, address, place).await,
    }
}

/// Lets a new participant into its room.
async fn join(
    signal: &Arc<Inner>,
    upgrade: Upgrade,
    opening: Opening,
    address: IpAddr,
    place: Place,
) -> Result<Response, Denial> {
    let (room, identity) = (opening.claims.grants.room.clone(), opening.claims.identity.clone());
    let span = tracing::info_span!("join", %room, %identity, path = ?opening.path);
    let arrived = timeout(JOIN_WITHIN, arrival::join(signal, &opening, address)).instrument(span.clone()).await;
    match arrived.unwrap_or_else(|_| Err(Denial::late())) {
        Ok(Arrival::Here(joined)) => {
            let returns = signal.sessions.register(joined.sid.clone(), &identity, &room);
            let session = span.in_scope(|| Session::new(Arc::clone(signal), *joined, opening, returns, place));
            // If the upgrade fails, dropping the session takes the participant out of the room.
            Ok(upgrade.on_upgrade(move |socket| session.run(Socket::Own(Box::new(socket)))))
        }
        // If the upgrade fails, dropping the line ends the session there.
        Ok(Arrival::There(line)) => Ok(pass_on(signal, upgrade, *line)),
        Err(denial) => {
            signal.denials.remember(room, identity, denial.clone());
            Err(denial)
        }
    }
}

/// Relays a client's signalling. Whether it gets connected is for the session to see.
fn pass_on(signal: &Arc<Inner>, upgrade: Upgrade, line: Line) -> Response {
    let signal = Arc::clone(signal);
    upgrade.on_upgrade(move |socket| async move {
        signal.metrics.relayed.inc();
        line.pump(socket, signal.stopping.clone()).await;
        signal.metrics.relayed.dec();
    })
}

/// Lets a client come back to its session, here or on another bridge.
async fn resume(
    signal: &Arc<Inner>,
    upgrade: Upgrade,
    opening: Opening,
    address: IpAddr,
    place: Place,
    sid: &ParticipantSid,
) -> Result<Response, Denial> {
    let session = signal.sessions.find(sid, &opening.claims.identity, &opening.claims.grants.room);
    match &session {
        Some(Way { moved_to: None, .. }) => {}
        Some(Way { moved_to: Some(bridge), .. }) => {
            // If it does not take it, the session here goes on.
            match Line::open(&signal.peers, bridge, across::opening(&opening, address, None)).await {
                Ok(line) => return Ok(pass_on(signal, upgrade, line)),
                Err(no_line) => tracing::warn!(bridge, ?no_line, "a client is not taken where it was sent: it stays"),
            }
        }
        None if signal.coming.has(sid) => {
            let Some(session) = coming::take_over(signal, &opening, sid, place).await? else {
                return Err(Denial::unavailable("the session cannot go on here: try again in a moment"));
            };
            let go_on = move |socket| session.go_on(Return { socket: Socket::Own(Box::new(socket)), opening });
            return Ok(upgrade.on_upgrade(go_on));
        }
        None => match timeout(JOIN_WITHIN, arrival::resume(signal, &opening, sid, address)).await {
            Ok(Ok(line)) => return Ok(pass_on(signal, upgrade, line)),
            Ok(Err(NotFound::Over)) => {}
            Ok(Err(NotFound::Unknown(denial))) => return Err(denial),
            Err(_) => return Err(Denial::late()),
        },
    }
    Ok(upgrade.on_upgrade(move |socket| async move {
        let socket = Socket::Own(Box::new(socket));
        let gone = match session {
            Some(session) => match session.returns.send(Box::new(Return { socket, opening })).await {
                Ok(()) => None,
                Err(unsent) => Some(unsent.0.socket),
            },
            None => Some(socket),
        };
        if let Some(socket) = gone {
            let mut link = Link::new(socket);
            link.send(messages::leave(DisconnectReason::StateMismatch, Action::Reconnect));
            link.close(Close::Normal);
        }
        drop(place);
    }))
}
