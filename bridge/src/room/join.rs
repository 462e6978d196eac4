//! The way into a room: a seat from the allocator, the room opened or found here, the joining logged.

use std::collections::BTreeMap;
use std::time::Duration;

use livekit_protocol::{ClientInfo, ParticipantInfo};
use ratssaal_proto::allocator::v1::refusal::Code;
use ratssaal_proto::allocator::v1::{
    Needs, PlaceRequest, PlaceResponse, Refusal as AllocatorRefusal, ReleaseRequest, Seat,
};
use tokio::sync::mpsc;
use tracing::Instrument as _;

use super::command::{Newcomer, Refusal};
use super::handle::RoomHandle;
use super::ids::{ParticipantSid, RoomSid, random_base62};
use super::inbox::Inbox;
use super::limits;
use super::log::within;
use super::metrics::JoinLabel;
use super::registry::Rooms;
use super::session::ToSession;
use crate::token::Claims;

/// Attempts when the room ends just while somebody joins.
const ATTEMPTS: usize = 3;
/// How long a room that is open here takes to find out that it has ended, where the allocator does not know it any more: it asks
/// each second.
const FINDS_OUT: Duration = Duration::from_millis(1500);

/// Somebody wants to come in; the token has been verified.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// From the token.
    pub claims: Claims,
    /// What the client says of itself.
    pub client: ClientInfo,
    /// Random id of this attempt; the same again when it is retried.
    pub join_id: String,
    /// The opening of the room that it is forwarded from: then its seat is on this bridge, where its media is.
    pub forwarded_from: Option<RoomSid>,
}

/// Somebody is in.
#[derive(Debug)]
pub struct Joined {
    /// The room.
    pub room: RoomHandle,
    /// The newcomer's stay.
    pub sid: ParticipantSid,
    /// The newcomer as others see it.
    pub me: ParticipantInfo,
    /// Everybody else the newcomer may see.
    pub others: Vec<ParticipantInfo>,
    /// The room as the protocol shows it.
    pub info: livekit_protocol::Room,
    /// What the room tells this participant from now on, starting with the tracks that are there already. Keep it until
    /// [`RoomHandle::leave`] has resolved: a dropped inbox counts as a broken session.
    pub inbox: mpsc::Receiver<ToSession>,
    /// By this bridge's lease: nobody could be asked.
    pub leased: bool,
}

/// Where somebody's seat is.
#[derive(Debug)]
pub enum Way {
    /// On this bridge: it is in.
    Here(Box<Joined>),
    /// On another one, which has to be asked to let it in; if it does not, the seat is [given back](Rooms::give_back).
    There(Box<PlaceResponse>),
}

/// Why somebody cannot come in.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JoinRefusal {
    /// The token does not say which room, or not that its bearer may join it.
    #[error("the token does not let its bearer join a room; it needs `roomJoin` and `room`")]
    NoGrant,
    /// No free seat, here or in the room.
    #[error("{message}")]
    Full {
        /// What to do.
        message: String,
    },
    /// The room is not open and rooms are not opened by joining.
    #[error("there is no room of this name; it has to be created first")]
    UnknownRoom,
    /// Not now.
    #[error("joining is not possible right now ({message}); try again in {retry_after_ms} ms")]
    Unavailable {
        /// What is wrong.
        message: String,
        /// Milliseconds.
        retry_after_ms: u64,
    },
    /// The room refuses.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl JoinRefusal {
    /// The metric's label.
    fn label(&self) -> &'static str {
        match self {
            Self::NoGrant => "no_grant",
            Self::Full { .. } => "full",
            Self::UnknownRoom => "unknown_room",
            Self::Unavailable { .. } => "unavailable",
            Self::Refused(_) => "refused",
        }
    }
}

impl From<tonic::Status> for JoinRefusal {
    fn from(status: tonic::Status) -> Self {
        let message = status.message().to_owned();
        let refusal = AllocatorRefusal::from_status(&status);
        match refusal.as_ref().map(AllocatorRefusal::code) {
            Some(Code::Full | Code::Quota) => Self::Full { message },
            Some(Code::UnknownRoom) => Self::UnknownRoom,
            Some(Code::Invalid) => Self::Refused(Refusal::Invalid {
                what: "the allocator does not take this room name or identity; use shorter ones",
            }),
            _ => {
                let after = refusal.map_or(0, |refusal| u64::from(refusal.retry_after_ms));
                Self::Unavailable { message, retry_after_ms: after.max(limits::RETRY_AFTER_MS) }
            }
        }
    }
}

impl Rooms {
    /// Lets somebody in: reserves a seat, and if it is here opens or finds the room and logs the joining. Seats on bridges
    /// to `avoid` are not taken.
    ///
    /// # Errors
    /// See [`JoinRefusal`]; nothing is left behind.
    pub async fn join(&self, request: &JoinRequest, avoid: &[String]) -> Result<Way, JoinRefusal> {
        let span = tracing::info_span!("join", room = %request.claims.grants.room, identity = %request.claims.identity);
        let way = self.try_join(request, avoid).instrument(span).await;
        self.count_join(match &way {
            Ok(Way::Here(joined)) if joined.leased => "leased",
            Ok(Way::Here(_)) => "ok",
            Ok(Way::There(_)) => "elsewhere",
            Err(refusal) => refusal.label(),
        });
        way
    }

    /// Lets somebody in to whom another bridge was given a seat here.
    ///
    /// # Errors
    /// See [`JoinRefusal`]; the seat stays reserved.
    pub async fn enter(&self, request: &JoinRequest, placed: &PlaceResponse) -> Result<Joined, JoinRefusal> {
        let span =
            tracing::info_span!("enter", room = %request.claims.grants.room, identity = %request.claims.identity);
        let entered = match request.claims.grants.room_join {
            true => self.take_seat(request, placed).instrument(span).await,
            false => Err(JoinRefusal::NoGrant),
        };
        self.count_join(entered.as_ref().map_or_else(JoinRefusal::label, |_| "ok"));
        entered
    }

    /// Gives a reserved seat back.
    pub async fn give_back(&self, placed: &PlaceResponse) {
        let Some(seat) = &placed.seat else { return };
        let (room, room_sid) =
            placed.room.as_ref().map(|room| (room.name.clone(), room.sid.clone())).unwrap_or_default();
        let release = ReleaseRequest { room, room_sid, join_id: seat.join_id.clone() };
        // A seat that cannot be given back lapses by itself.
        let _ = within(self.allocator().release(release)).await;
    }

    fn count_join(&self, result: &'static str) {
        self.metrics().joins.get_or_create(&JoinLabel { result }).inc();
    }

    async fn try_join(&self, request: &JoinRequest, avoid: &[String]) -> Result<Way, JoinRefusal> {
        if !request.claims.grants.room_join || request.claims.grants.room.is_empty() {
            return Err(JoinRefusal::NoGrant);
        }
        let mut attempt = 1;
        loop {
            match self.join_once(request, avoid).await {
                // It ended between finding and entering: the name is free again.
                Err(JoinRefusal::Refused(Refusal::Ended)) if attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn join_once(&self, request: &JoinRequest, avoid: &[String]) -> Result<Way, JoinRefusal> {
        let here = self.get(&request.claims.grants.room);
        let placed = match self.reserve(request, avoid, here.is_some()).await {
            Ok(placed) => placed,
            Err(status) => {
                if let (JoinRefusal::UnknownRoom, Some(room)) = (status.clone().into(), here) {
                    return Err(room.why_unknown().await.into());
                }
                let lent = if AllocatorRefusal::is_away(&status) { self.borrow(request).await? } else { None };
                return lent.ok_or_else(|| status.into());
            }
        };
        if placed.seat.as_ref().is_some_and(|seat| seat.bridge != self.bridge()) {
            return Ok(Way::There(Box::new(placed)));
        }
        let entered = self.take_seat(request, &placed).await;
        if entered.is_err() {
            self.give_back(&placed).await;
        }
        Ok(Way::Here(Box::new(entered?)))
    }

    /// Lets somebody into a room that is open here by the lease, since nobody can be asked; `None` where that is not possible.
    async fn borrow(&self, request: &JoinRequest) -> Result<Option<Way>, JoinRefusal> {
        let Some(room) = self.get(&request.claims.grants.room).filter(|_| !self.is_closing()) else { return Ok(None) };
        let Some(entering) = self.lease().take(|| self.seated()) else { return Ok(None) };
        // A join id of its own: the store may know the request's.
        let seat = Seat {
            join_id: random_base62(20),
            participant_sid: ParticipantSid::random().to_string(),
            ..Seat::default()
        };
        let (inbox, receiver) = Inbox::new();
        match room.admit(self.newcomer(request, &seat), inbox, entering.elsewhere()).await {
            Ok(()) => {}
            Err(Refusal::Unavailable { .. }) => return Ok(None),
            Err(refusal) => return Err(refusal.into()),
        }
        entering.seated();
        tracing::info!("let in by the lease: no allocator or no store answers");
        let joined = joined(room, seat.participant_sid.as_str().into(), receiver)?;
        Ok(Some(Way::Here(Box::new(Joined { leased: true, ..joined }))))
    }

    /// Reserves a seat. Opens no room that is open here: a store that does not know it has lost it, and is about to be told.
    async fn reserve(
        &self,
        request: &JoinRequest,
        avoid: &[String],
        is_here: bool,
    ) -> Result<PlaceResponse, tonic::Status> {
        let claims = &request.claims;
        let place = PlaceRequest {
            room: claims.grants.room.clone(),
            identity: claims.identity.clone(),
            join_id: request.join_id.clone(),
            participant_sid: ParticipantSid::random().to_string(),
            sites: self.sites(),
            // A copy opens nothing.
            open: self.settings_for(claims).filter(|_| !is_here && request.forwarded_from.is_none()),
            avoid: avoid.to_vec(),
            needs: request.forwarded_from.as_ref().map(|_| Needs { features: vec![self.bridge().to_owned()] }),
        };
        self.place(place).await
    }

    async fn take_seat(&self, request: &JoinRequest, placed: &PlaceResponse) -> Result<Joined, JoinRefusal> {
        let (Some(seat), Some(info)) = (&placed.seat, &placed.room) else {
            let message = "the allocator's answer holds no seat".to_owned();
            return Err(JoinRefusal::Unavailable { message, retry_after_ms: limits::RETRY_AFTER_MS });
        };
        let Some(_entering) = self.lease().enter(|| self.seated()) else {
            let message = "this server has given its last seats while the store was away".to_owned();
            return Err(JoinRefusal::Unavailable { message, retry_after_ms: limits::RETRY_AFTER_MS });
        };
        let metadata = request.claims.room_config.as_ref().map_or("", |config| config.metadata.as_str());
        let room = self.open(info, placed.opened, metadata).await?;
        let (inbox, receiver) = Inbox::new();
        let sid = ParticipantSid::from(seat.participant_sid.as_str());
        room.join(self.newcomer(request, seat), inbox).await?;
        self.confirmed(&seat.join_id);

        Ok(joined(room, sid, receiver)?)
    }

    fn newcomer(&self, request: &JoinRequest, seat: &Seat) -> Newcomer {
        let claims = &request.claims;
        Newcomer {
            sid: seat.participant_sid.as_str().into(),
            identity: claims.identity.as_str().into(),
            name: claims.name.clone(),
            metadata: claims.metadata.clone(),
            attributes: claims.attributes.clone().into_iter().collect::<BTreeMap<_, _>>(),
            kind: claims.kind as i32,
            permission: claims.permission(),
            client_protocol: request.client.client_protocol,
            capabilities: request.client.capabilities.clone(),
            token_issued_ms: i64::try_from(claims.issued_at.saturating_mul(1000)).unwrap_or(i64::MAX),
            bridge: self.bridge().to_owned(),
            join_id: seat.join_id.clone(),
            forwarded_from: request.forwarded_from.clone(),
        }
    }
}

impl RoomHandle {
    /// The allocator does not know this room: says that it has ended, or, if its store has lost it, that it is to be asked again
    /// when it has been told of it.
    pub(super) async fn why_unknown(&self) -> Refusal {
        match tokio::time::timeout(FINDS_OUT, self.shared.requests.closed()).await {
            Ok(()) => Refusal::Ended,
            Err(_) => Refusal::unavailable(),
        }
    }
}

/// Somebody who is in, with what it may see.
fn joined(room: RoomHandle, sid: ParticipantSid, inbox: mpsc::Receiver<ToSession>) -> Result<Joined, Refusal> {
    let state = room.state();
    // Already replaced by a still newer session of the same identity: its inbox says so.
    let me = state.participant(&sid).ok_or(Refusal::Ended)?.info();
    let (others, info) = (state.others(&sid), state.info());
    Ok(Joined { room, sid, me, others, info, inbox, leased: false })
}
