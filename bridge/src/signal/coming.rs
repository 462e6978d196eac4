//! Participants whom a drained bridge sends here: this bridge is told beforehand, opens the room with everybody's media, and
//! goes on with their sessions when their clients come.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use livekit_protocol::UpdateTrackSettings;
use prost::Message as _;
use ratssaal_proto::allocator::v1::Seat;
use ratssaal_proto::bridge::v1::{self as wire, PrepareRequest, PrepareResponse, TakeOverRequest, TakeOverResponse};
use tokio::time::{sleep, timeout};
use tonic::{Code, Status};

use super::admission::Place;
use super::http::{Denial, JOIN_WITHIN};
use super::request::Opening;
use super::session::{HandedOver, Session};
use super::{Inner, Signal};
use crate::media::control::Downlink;
use crate::peers::PeerError;
use crate::room::{ParticipantSid, RoomSid};

/// How long somebody who was announced is waited for; the seat lapses a little sooner.
const PATIENCE: Duration = Duration::from_secs(15);
/// Who is waited for at most.
const MOST: usize = 4096;
/// People in one announcement.
const MOST_AT_ONCE: usize = 256;
/// How long the media of a room that is prepared may take.
const MEDIA: Duration = Duration::from_millis(1500);
/// How often it is looked whether it is there.
const LOOK: Duration = Duration::from_millis(10);
/// How long a bridge may take to say what a session there knows.
const HAND_OVER: Duration = Duration::from_secs(1);
/// Settings that are taken from it.
const MAX_SETTINGS: usize = 4096;

/// Somebody who comes.
#[derive(Clone, Debug)]
struct Guest {
    room: RoomSid,
    seat: Seat,
    until: Instant,
}

/// Who comes. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub(super) struct Coming {
    guests: Arc<Mutex<HashMap<ParticipantSid, Guest>>>,
}

impl Coming {
    fn guests(&self) -> MutexGuard<'_, HashMap<ParticipantSid, Guest>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody of this sid is waited for.
    pub(super) fn has(&self, sid: &ParticipantSid) -> bool {
        self.guests().get(sid).is_some_and(|guest| guest.until > Instant::now())
    }

    fn expect(&self, room: &RoomSid, sid: ParticipantSid, seat: Seat) {
        let (mut guests, now) = (self.guests(), Instant::now());
        guests.retain(|_, guest| guest.until > now);
        if guests.len() < MOST {
            guests.insert(sid, Guest { room: room.clone(), seat, until: now + PATIENCE });
        }
    }

    fn find(&self, sid: &ParticipantSid) -> Option<Guest> {
        self.guests().get(sid).filter(|guest| guest.until > Instant::now()).cloned()
    }
}

impl Signal {
    /// People of a room are about to come, here or to another bridge of the room.
    ///
    /// # Errors
    /// The room cannot be opened here.
    pub(crate) async fn prepare(&self, from: &str, request: PrepareRequest) -> Result<PrepareResponse, Status> {
        let Inner { rooms, coming, .. } = &*self.inner;
        let info = request.room.ok_or_else(|| Status::invalid_argument("the request names no room"))?;
        let sid = RoomSid::from(info.sid.as_str());
        if request.bridge != rooms.bridge() {
            if let Some(room) = rooms.of(&sid) {
                room.expect(&request.bridge);
            }
            return Ok(PrepareResponse { missing: 0 });
        }
        let began = Instant::now();
        let unavailable = |refusal: crate::room::Refusal| Status::unavailable(refusal.to_string());
        let room = rooms.open(&info, false, "").await.map_err(unavailable)?;
        room.expect(rooms.bridge());
        for guest in request.coming.into_iter().take(MOST_AT_ONCE) {
            let Some(seat) = guest.seat.filter(|seat| seat.bridge == rooms.bridge()) else { continue };
            coming.expect(&sid, guest.participant_sid.into(), seat);
        }
        let mut applied = room.applied();
        let media = async {
            let _ = applied.wait_for(|applied| *applied >= request.after).await;
            while room.lacking(rooms.bridge()) > 0 {
                sleep(LOOK).await;
            }
        };
        let _ = timeout(MEDIA, media).await;
        let missing = room.lacking(rooms.bridge());
        tracing::info!(room = %room.name(), from, missing, ms = began.elapsed().as_millis(), "people of a room will come here");
        Ok(PrepareResponse { missing: u32::try_from(missing).unwrap_or(u32::MAX) })
    }

    /// Another bridge goes on with a session that is here.
    ///
    /// # Errors
    /// The client was not sent there.
    pub(crate) async fn hand_over(&self, to: &str, request: &TakeOverRequest) -> Result<TakeOverResponse, Status> {
        let sid = ParticipantSid::from(request.participant_sid.as_str());
        let handed = self.inner.sessions.hand_over(&sid, to).await;
        let handed = handed.ok_or_else(|| Status::not_found("this client was not sent to that bridge"))?;
        let settings = handed.settings.iter().map(|settings| settings.encode_to_vec().into()).collect();
        let HandedOver { last_reliable, encodings, downlink, .. } = handed;
        let downlink = downlink.map(|way| wire::Downlink { next_number: way.next_number.into(), bits: way.bits });
        Ok(TakeOverResponse { last_reliable, settings, encodings, downlink })
    }
}

/// Goes on with the session of somebody who was sent here; `None` if nobody of this sid, identity and room was.
pub(super) async fn take_over(
    signal: &Arc<Inner>,
    opening: &Opening,
    sid: &ParticipantSid,
    place: Place,
) -> Result<Option<Box<Session>>, Denial> {
    timeout(JOIN_WITHIN, find_and_take(signal, opening, sid, place)).await.unwrap_or_else(|_| Err(Denial::late()))
}

async fn find_and_take(
    signal: &Arc<Inner>,
    opening: &Opening,
    sid: &ParticipantSid,
    place: Place,
) -> Result<Option<Box<Session>>, Denial> {
    let Some(guest) = signal.coming.find(sid) else { return Ok(None) };
    let Some(room) = signal.rooms.of(&guest.room) else { return Ok(None) };
    let (identity, name) = (&opening.claims.identity, &opening.claims.grants.room);
    let me = room.state().participant(sid).cloned();
    let Some(me) = me.filter(|who| who.identity.as_str() == identity && room.name().as_str() == name) else {
        return Ok(None);
    };
    let began = Instant::now();
    let request = TakeOverRequest { room_sid: guest.room.to_string(), participant_sid: sid.to_string() };
    let asked = signal.peers.call(&me.bridge, HAND_OVER, |mut peer| async move { peer.take_over(request).await });
    let handed = match asked.await {
        Ok(handed) => HandedOver {
            last_reliable: handed.last_reliable,
            settings: handed
                .settings
                .into_iter()
                .take(MAX_SETTINGS)
                .filter_map(|s| UpdateTrackSettings::decode(s).ok())
                .collect(),
            encodings: handed.encodings,
            downlink: handed.downlink.map(|way| Downlink { next_number: way.next_number as u16, bits: way.bits }),
        },
        Err(PeerError::Refused { status, .. }) if status.code() == Code::NotFound => {
            return Err(Denial::unavailable("the session stays where it is: try again in a moment"));
        }
        Err(error) => {
            // It may be gone already. What its client had is told by the client.
            tracing::warn!(bridge = me.bridge, %error, "a session is taken over without a word of the bridge it was on");
            HandedOver::default()
        }
    };
    let asked_ms = began.elapsed().as_millis();
    let join_id = &guest.seat.join_id;
    let inbox = room.take_over(sid.clone(), join_id.clone()).await;
    let inbox = inbox.map_err(|refusal| Denial::unavailable(&refusal.to_string()))?;
    signal.rooms.confirmed(join_id);
    signal.coming.guests().remove(sid);
    let ms = began.elapsed().as_millis();
    tracing::info!(participant = %sid, room = %room.name(), from = me.bridge, asked_ms, ms, "goes on here");
    let returns = signal.sessions.register(sid.clone(), identity, name);
    let seat = (room, sid.clone(), inbox);
    Ok(Some(Session::taken_over(Arc::clone(signal), seat, handed, opening, (returns, place))))
}
