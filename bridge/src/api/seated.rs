//! Calls of the server API that need the bridge on which a participant sits: done here, or sent there over `bridge.v1`.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use livekit_protocol::data_packet::{Kind, Value};
use livekit_protocol::{
    DataPacket, ForwardParticipantRequest, ForwardParticipantResponse, MoveParticipantRequest, MoveParticipantResponse,
    PerformRpcRequest, PerformRpcResponse, SendDataRequest, SendDataResponse, UpdateSubscriptionsRequest,
    UpdateSubscriptionsResponse, UserPacket,
};
use prost::Message;
use ratssaal_proto::bridge::v1::call_response::Outcome;
use ratssaal_proto::bridge::v1::{CallError, CallRequest, CallResponse};

use super::Api;
use super::room_service::Answer;
use super::twirp::{Code, TwirpError};
use crate::forward::{self, ForwardRefusal};
use crate::media::control::Channel;
use crate::peers::{DEADLINE, Peers};
use crate::room::rpc::{self, RpcError};
use crate::room::{JoinRefusal, RoomHandle, Rooms, ToSession, TrackSid};

/// One call, checked: who calls may do it, and what it names is in the room.
#[derive(Clone, Debug)]
pub(super) enum Call {
    UpdateSubscriptions(UpdateSubscriptionsRequest),
    SendData(SendDataRequest),
    PerformRpc(PerformRpcRequest),
    MoveParticipant(MoveParticipantRequest),
    ForwardParticipant(ForwardParticipantRequest),
}

impl Call {
    fn method(&self) -> &'static str {
        match self {
            Self::UpdateSubscriptions(_) => "UpdateSubscriptions",
            Self::SendData(_) => "SendData",
            Self::PerformRpc(_) => "PerformRpc",
            Self::MoveParticipant(_) => "MoveParticipant",
            Self::ForwardParticipant(_) => "ForwardParticipant",
        }
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::UpdateSubscriptions(request) => request.encode_to_vec(),
            Self::SendData(request) => request.encode_to_vec(),
            Self::PerformRpc(request) => request.encode_to_vec(),
            Self::MoveParticipant(request) => request.encode_to_vec(),
            Self::ForwardParticipant(request) => request.encode_to_vec(),
        }
    }

    fn decode(method: &str, request: Bytes) -> Answer<Self> {
        let read = match method {
            "UpdateSubscriptions" => Message::decode(request).map(Self::UpdateSubscriptions),
            "SendData" => Message::decode(request).map(Self::SendData),
            "PerformRpc" => Message::decode(request).map(Self::PerformRpc),
            "MoveParticipant" => Message::decode(request).map(Self::MoveParticipant),
            "ForwardParticipant" => Message::decode(request).map(Self::ForwardParticipant),
            _ => {
                let message = format!("bridges of this version do not ask each other for {method:?}");
                return Err(TwirpError::new(Code::Unimplemented, message));
            }
        };
        read.map_err(|error| TwirpError::new(Code::Malformed, error.to_string()))
    }

    /// How long another bridge may take.
    fn within(&self) -> Duration {
        match self {
            Self::PerformRpc(request) => rpc::longest(request.response_timeout_ms) + DEADLINE,
            _ => DEADLINE,
        }
    }

    /// Does it for the participants who sit here, and answers in LiveKit's encoding.
    async fn perform(self, rooms: &Rooms, peers: &Peers, room: &RoomHandle) -> Answer<Vec<u8>> {
        match self {
            Self::UpdateSubscriptions(request) => {
                let subscription = ToSession::Subscription { tracks: tracks(&request), subscribe: request.subscribe };
                tell(room, &request.identity, subscription)?;
                Ok(UpdateSubscriptionsResponse {}.encode_to_vec())
            }
            Self::SendData(request) => {
                let channel = match Kind::try_from(request.kind) {
                    Ok(Kind::Lossy) => Channel::Lossy,
                    _ => Channel::Reliable,
                };
                room.send_data(packet(request), channel);
                Ok(SendDataResponse {}.encode_to_vec())
            }
            Self::PerformRpc(request) => {
                let payload = room.perform_rpc(request).await.map_err(TwirpError::from)?;
                Ok(PerformRpcResponse { payload }.encode_to_vec())
            }
            Self::MoveParticipant(request) => {
                tell(room, &request.identity, ToSession::MoveTo { room: request.destination_room.as_str().into() })?;
                Ok(MoveParticipantResponse {}.encode_to_vec())
            }
            Self::ForwardParticipant(request) => {
                let (identity, destination) = (&request.identity, &request.destination_room);
                forward::start(rooms, peers, room, identity, destination).await.map_err(TwirpError::from)?;
                Ok(ForwardParticipantResponse {}.encode_to_vec())
            }
        }
    }
}

/// The tracks of a subscription request, in both of its forms.
pub(super) fn tracks(request: &UpdateSubscriptionsRequest) -> Vec<TrackSid> {
    let named = request.participant_tracks.iter().flat_map(|tracks| &tracks.track_sids);
    request.track_sids.iter().chain(named).map(|sid| sid.as_str().into()).collect()
}

fn tell(room: &RoomHandle, identity: &str, message: ToSession) -> Answer<()> {
    let state = room.state();
    match state.by_identity(identity) {
        Some(who) if room.tell(&who.sid, message) => Ok(()),
        _ => Err(TwirpError::new(Code::Unavailable, "the participant is being connected: try again in a second")),
    }
}

fn packet(request: SendDataRequest) -> DataPacket {
    #[expect(deprecated, reason = "older servers address by sids")]
    let user = UserPacket {
        payload: request.data,
        destination_sids: request.destination_sids,
        topic: request.topic,
        nonce: request.nonce,
        ..UserPacket::default()
    };
    DataPacket {
        destination_identities: request.destination_identities,
        value: Some(Value::User(user)),
        ..DataPacket::default()
    }
}

/// Does a call that concerns one participant, where it sits.
pub(super) async fn of_one<A: Message + Default>(
    api: &Api,
    room: &RoomHandle,
    identity: &str,
    call: Call,
) -> Answer<A> {
    let bridge = room.state().by_identity(identity).map(|who| who.bridge.clone()).unwrap_or_default();
    let answer = if bridge == api.rooms.bridge() {
        call.perform(&api.rooms, &api.peers, room).await?.into()
    } else {
        ask(&api.peers, &bridge, room, &call).await?
    };
    A::decode(answer).map_err(|error| TwirpError::new(Code::Internal, error.to_string()))
}

/// Does a call that concerns all participants, on each bridge that has some.
pub(super) async fn of_all(api: &Api, room: &RoomHandle, call: Call) -> Answer<()> {
    let me = api.rooms.bridge();
    let others: BTreeSet<String> =
        room.state().participants().map(|who| who.bridge.clone()).filter(|bridge| bridge != me).collect();
    let asked = join_all(others.iter().map(|bridge| ask(&api.peers, bridge, room, &call))).await;
    call.perform(&api.rooms, &api.peers, room).await?;
    asked.into_iter().try_for_each(|answer| answer.map(drop))
}

/// Asks another bridge.
async fn ask(peers: &Peers, bridge: &str, room: &RoomHandle, call: &Call) -> Answer<Bytes> {
    let request = CallRequest {
        room_sid: room.state().room().sid.to_string(),
        method: call.method().to_owned(),
        request: call.encode().into(),
    };
    let answer = peers.call(bridge, call.within(), |mut peer| async move { peer.call(request).await }).await;
    match answer {
        Ok(CallResponse { outcome: Some(Outcome::Response(response)) }) => Ok(response),
        Ok(CallResponse { outcome: Some(Outcome::Error(error)) }) => {
            Err(TwirpError::new(Code::of_name(&error.code), error.message))
        }
        Ok(CallResponse { outcome: None }) => {
            Err(TwirpError::new(Code::Internal, format!("bridge {bridge:?} gives an empty answer")))
        }
        Err(error) => {
            tracing::warn!(bridge, method = call.method(), %error, "a bridge does not take a call of the server API");
            let message = "a participant's server cannot be reached right now: try again in a moment";
            Err(TwirpError::new(Code::Unavailable, message))
        }
    }
}

/// Asks the bridge where a participant sits now to forward it.
pub(crate) async fn forward_there(
    peers: &Peers,
    bridge: &str,
    room: &RoomHandle,
    request: ForwardParticipantRequest,
) -> Result<(), String> {
    let asked = ask(peers, bridge, room, &Call::ForwardParticipant(request)).await;
    asked.map(drop).map_err(|error| error.message)
}

/// Does a call that another bridge asks for.
pub(crate) async fn answer(rooms: &Rooms, peers: &Peers, request: CallRequest) -> CallResponse {
    let outcome = async {
        let call = Call::decode(&request.method, request.request)?;
        let gone = || TwirpError::new(Code::NotFound, "that room is not open here: its participants have just left");
        let room = rooms.by_sid(&request.room_sid).ok_or_else(gone)?;
        call.perform(rooms, peers, &room).await
    };
    let outcome = match outcome.await {
        Ok(response) => Outcome::Response(response.into()),
        Err(error) => Outcome::Error(CallError { code: error.code.name().to_owned(), message: error.message }),
    };
    CallResponse { outcome: Some(outcome) }
}

impl From<ForwardRefusal> for TwirpError {
    fn from(refusal: ForwardRefusal) -> Self {
        let code = match &refusal {
            ForwardRefusal::NotHere | ForwardRefusal::NoSeat => Code::Unavailable,
            ForwardRefusal::NotOpen => Code::NotFound,
            ForwardRefusal::Taken => Code::AlreadyExists,
            ForwardRefusal::Hidden | ForwardRefusal::Forwarded => Code::FailedPrecondition,
            ForwardRefusal::Join(JoinRefusal::Full { .. }) => Code::ResourceExhausted,
            ForwardRefusal::Join(JoinRefusal::UnknownRoom) => Code::NotFound,
            ForwardRefusal::Join(JoinRefusal::Refused(refusal)) | ForwardRefusal::Room(refusal) => {
                return refusal.clone().into();
            }
            ForwardRefusal::Join(JoinRefusal::NoGrant | JoinRefusal::Unavailable { .. }) => Code::Unavailable,
        };
        Self::new(code, refusal.to_string())
    }
}

impl From<RpcError> for TwirpError {
    fn from(error: RpcError) -> Self {
        let code = match error {
            RpcError::NotHere => Code::Unavailable,
            RpcError::TooLarge => Code::InvalidArgument,
            RpcError::TooMany => Code::ResourceExhausted,
            RpcError::Silent | RpcError::Late => Code::DeadlineExceeded,
            RpcError::Left => Code::NotFound,
            RpcError::Unsupported => Code::Unimplemented,
            RpcError::Refused { .. } => Code::Aborted,
        };
        Self::new(code, error.to_string())
    }
}
