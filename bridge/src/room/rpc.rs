//! Remote procedure calls of the server API: a participant's client is asked and answers with data packets.
//!
//! The packets are those with which clients call each other (`RpcRequest`, `RpcAck`, `RpcResponse`); the caller is
//! `server`, and what a client answers to a request of ours goes to whoever waits for it and to nobody else.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use livekit_protocol::data_packet::Value;
use livekit_protocol::{DataPacket, PerformRpcRequest, RpcRequest, RpcResponse, rpc_response};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::handle::RoomHandle;
use super::ids::{ParticipantSid, random_base62};
use super::session::ToSession;
use crate::media::control::Channel;

/// Who calls, as clients see it. No participant is told apart by this; it only has to be answered.
const SERVER: &str = "server";
/// How long a client may take to say that it has got the request; the SDKs use the same.
const ACKNOWLEDGE: Duration = Duration::from_secs(7);
/// How long an answer may take unless the caller says so, and at most.
const ANSWER: Duration = Duration::from_secs(15);
const MAX_ANSWER: Duration = Duration::from_secs(60);
/// The longest payload, bytes; the SDKs' limit.
const MAX_PAYLOAD: usize = 15 * 1024;
/// Calls that wait for answers in one room.
const MAX_CALLS: usize = 1024;
/// Version of the packets.
const VERSION: u32 = 1;

/// Why a call got no answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RpcError {
    /// Its session is not on this bridge, or not any more.
    #[error("the participant is being connected: try again in a second")]
    NotHere,
    /// The payload.
    #[error("the payload is longer than {MAX_PAYLOAD} bytes: send less")]
    TooLarge,
    /// Too many at once.
    #[error("{MAX_CALLS} calls wait for answers in this room already: try again when some have ended")]
    TooMany,
    /// No acknowledgement.
    #[error("the participant's client did not acknowledge the call in time: it may be reconnecting or know no calls")]
    Silent,
    /// No answer.
    #[error("the participant's client did not answer in time: ask for a longer response_timeout_ms")]
    Late,
    /// It has left.
    #[error("the participant left before it answered")]
    Left,
    /// It has no such method.
    #[error("the participant's client has no such method")]
    Unsupported,
    /// Its method failed.
    #[error("the participant's method answered with error {code}: {message}")]
    Refused {
        /// The method's.
        code: u32,
        /// The method's.
        message: String,
    },
}

/// LiveKit's `UNSUPPORTED_METHOD`.
const UNSUPPORTED_METHOD: u32 = 1400;

/// How long a call with this `response_timeout_ms` takes at most.
pub(crate) fn longest(response_timeout_ms: u32) -> Duration {
    ACKNOWLEDGE + answer_within(response_timeout_ms)
}

fn answer_within(response_timeout_ms: u32) -> Duration {
    match response_timeout_ms {
        0 => ANSWER,
        ms => Duration::from_millis(ms.into()).min(MAX_ANSWER),
    }
}

/// What a client says of a call.
#[derive(Debug)]
enum Said {
    Got,
    Answer(RpcResponse),
}

/// The calls of one room that wait for answers.
#[derive(Default, Debug)]
pub(super) struct Calls {
    waiting: Mutex<HashMap<String, (ParticipantSid, mpsc::Sender<Said>)>>,
}

impl Calls {
    /// Takes a packet that belongs to a call of the server; gives all others back.
    pub(super) fn take(&self, from: &ParticipantSid, packet: DataPacket) -> Option<DataPacket> {
        let id = match &packet.value {
            Some(Value::RpcAck(ack)) => &ack.request_id,
            Some(Value::RpcResponse(response)) => &response.request_id,
            _ => return Some(packet),
        };
        let waiter = self.waiting().get(id).filter(|(asked, _)| asked == from).map(|(_, waiter)| waiter.clone());
        let Some(waiter) = waiter else { return Some(packet) };
        let said = match packet.value {
            Some(Value::RpcResponse(response)) => Said::Answer(response),
            _ => Said::Got,
        };
        // Nobody waits any more, or it was said before.
        let _ = waiter.try_send(said);
        None
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, (ParticipantSid, mpsc::Sender<Said>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call's place; given back when dropped.
struct Waiting<'a> {
    calls: &'a Calls,
    id: String,
    said: mpsc::Receiver<Said>,
}

impl<'a> Waiting<'a> {
    fn new(calls: &'a Calls, who: &ParticipantSid) -> Result<Self, RpcError> {
        let mut waiting = calls.waiting();
        if waiting.len() >= MAX_CALLS {
            return Err(RpcError::TooMany);
        }
        // An acknowledgement and an answer.
        let (sender, said) = mpsc::channel(2);
        let id = random_base62(22);
        waiting.insert(id.clone(), (who.clone(), sender));
        Ok(Self { calls, id, said })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.calls.waiting().remove(&self.id);
    }
}

impl RoomHandle {
    /// Calls a method of a participant whose session is on this bridge and gives its answer.
    ///
    /// # Errors
    /// It could not be asked, did not answer, or answered with an error.
    pub async fn perform_rpc(&self, request: PerformRpcRequest) -> Result<String, RpcError> {
        if request.payload.len() > MAX_PAYLOAD {
            return Err(RpcError::TooLarge);
        }
        let who = self.state().by_identity(&request.destination_identity).map(|who| who.sid.clone());
        let who = who.ok_or(RpcError::NotHere)?;
        let mut call = Waiting::new(&self.shared.calls, &who)?;
        let answer_within = answer_within(request.response_timeout_ms);
        let packet = DataPacket {
            participant_identity: SERVER.to_owned(),
            destination_identities: vec![request.destination_identity],
            value: Some(Value::RpcRequest(RpcRequest {
                id: call.id.clone(),
                method: request.method,
                payload: request.payload,
                response_timeout_ms: u32::try_from(answer_within.as_millis()).unwrap_or(u32::MAX),
                version: VERSION,
                ..RpcRequest::default()
            })),
            ..DataPacket::default()
        };
        let message = ToSession::Data { channel: Channel::Reliable, bytes: packet.encode_to_vec().into() };
        if !self.tell(&who, message) {
            return Err(RpcError::NotHere);
        }
        let asked = Instant::now();
        let mut by = asked + ACKNOWLEDGE;
        let mut late = RpcError::Silent;
        loop {
            match timeout_at(by, call.said.recv()).await {
                Ok(Some(Said::Got)) => (by, late) = (asked + ACKNOWLEDGE + answer_within, RpcError::Late),
                Ok(Some(Said::Answer(response))) => return outcome(response),
                Ok(None) => return Err(RpcError::Left),
                Err(_) if self.state().participant(&who).is_none() => return Err(RpcError::Left),
                Err(_) => return Err(late),
            }
        }
    }
}

fn outcome(response: RpcResponse) -> Result<String, RpcError> {
    match response.value {
        Some(rpc_response::Value::Payload(payload)) => Ok(payload),
        Some(rpc_response::Value::Error(error)) if error.code == UNSUPPORTED_METHOD => Err(RpcError::Unsupported),
        Some(rpc_response::Value::Error(error)) => {
            Err(RpcError::Refused { code: error.code, message: error.message.chars().take(256).collect() })
        }
        Some(rpc_response::Value::CompressedPayload(_)) | None => {
            let message = "its answer is in a form that was not asked for".to_owned();
            Err(RpcError::Refused { code: 0, message })
        }
    }
}
