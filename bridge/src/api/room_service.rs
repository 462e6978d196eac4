//! The server API: the methods of `livekit.RoomService`.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::HeaderMap;
use livekit_protocol::data_packet::Kind;
use livekit_protocol::participant_info::KindDetail;
use livekit_protocol::{
    CreateRoomRequest, DeleteRoomRequest, DeleteRoomResponse, DisconnectReason, ForwardParticipantRequest,
    ForwardParticipantResponse, ListParticipantsRequest, ListParticipantsResponse, ListRoomsRequest, ListRoomsResponse,
    MoveParticipantRequest, MoveParticipantResponse, MuteRoomTrackRequest, MuteRoomTrackResponse, ParticipantInfo,
    PerformRpcRequest, PerformRpcResponse, RemoveParticipantResponse, Room, RoomConfiguration, RoomParticipantIdentity,
    SendDataRequest, SendDataResponse, UpdateParticipantRequest, UpdateRoomMetadataRequest, UpdateSubscriptionsRequest,
    UpdateSubscriptionsResponse,
};

use super::Api;
use super::auth;
use super::seated;
use super::twirp::{Code, Encoding, TwirpError};
use crate::media::control::MAX_MESSAGE;
use crate::room::{Actor, Command, ParticipantSid, RoomHandle, TrackSid};
use crate::token::Claims;

pub(super) type Answer<T> = Result<T, TwirpError>;

/// What a data packet has around its payload at most, bytes.
const DATA_OVERHEAD: usize = 16 * 1024;

/// One call: authenticates, reads, does, writes, counts.
pub(super) async fn call(
    State(api): State<Api>,
    Path(method): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let (name, outcome) = dispatch(&api, &method, &headers, body).await;
    let result = outcome.as_ref().map_or_else(|error| error.code.name(), |_| "ok");
    api.metrics.count(name, result);
    outcome.unwrap_or_else(TwirpError::into_response)
}

/// Answers with the method's name for the metrics, which a client cannot invent.
async fn dispatch(
    api: &Api,
    method: &str,
    headers: &HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> (&'static str, Answer<Response>) {
    macro_rules! methods {
        ($($name:literal => $handler:path),+ $(,)?) => {
            match method {
                $($name => ($name, async {
                    let encoding = Encoding::of(headers)?;
                    let claims = auth::claims(&api.keys, headers)?;
                    let body = body.map_err(|error| TwirpError::new(Code::Malformed, error.body_text()))?;
                    let answer = $handler(api, &claims, encoding.read(&body)?).await?;
                    encoding.write(&answer)
                }.await),)+
                _ => ("unknown", Err(super::twirp::bad_route().await)),
            }
        };
    }
    methods! {
        "CreateRoom" => create_room,
        "ListRooms" => list_rooms,
        "DeleteRoom" => delete_room,
        "ListParticipants" => list_participants,
        "GetParticipant" => get_participant,
        "RemoveParticipant" => remove_participant,
        "MutePublishedTrack" => mute_published_track,
        "UpdateParticipant" => update_participant,
        "UpdateSubscriptions" => update_subscriptions,
        "SendData" => send_data,
        "UpdateRoomMetadata" => update_room_metadata,
        "MoveParticipant" => move_participant,
        "ForwardParticipant" => forward_participant,
        "PerformRpc" => perform_rpc,
    }
}

async fn create_room(api: &Api, claims: &Claims, request: CreateRoomRequest) -> Answer<Room> {
    auth::may_create(claims)?;
    if request.name.is_empty() {
        return Err(TwirpError::new(Code::InvalidArgument, "a room needs a name: set `name`"));
    }
    if request.egress.is_some() || !request.agents.is_empty() {
        let message = "recording and agents are not offered by this server: leave `egress` and `agents` unset";
        return Err(TwirpError::new(Code::Unimplemented, message));
    }
    let config = RoomConfiguration {
        empty_timeout: request.empty_timeout,
        departure_timeout: request.departure_timeout,
        max_participants: request.max_participants,
        metadata: request.metadata,
        ..RoomConfiguration::default()
    };
    // What a node is in LiveKit's cluster is a site in ours: servers come and go.
    let room = api.rooms.create(&request.name, Some(&config), &request.node_id, false).await?;
    let room = room.ok_or_else(|| TwirpError::new(Code::Internal, "the room was neither opened nor found"))?;
    Ok(room.state().info())
}

async fn list_rooms(api: &Api, claims: &Claims, request: ListRoomsRequest) -> Answer<ListRoomsResponse> {
    auth::may_list(claims)?;
    Ok(ListRoomsResponse { rooms: api.rooms.list(request.names).await? })
}

async fn delete_room(api: &Api, claims: &Claims, request: DeleteRoomRequest) -> Answer<DeleteRoomResponse> {
    auth::may_end(claims, &request.room)?;
    let reason = DisconnectReason::RoomDeleted;
    room(api, &request.room).await?.submit(Actor::Admin, Command::End { reason }).await?;
    Ok(DeleteRoomResponse {})
}

async fn list_participants(
    api: &Api,
    claims: &Claims,
    request: ListParticipantsRequest,
) -> Answer<ListParticipantsResponse> {
    auth::may_administer(claims, &request.room)?;
    // As LiveKit has it: a room that is not open has nobody in it.
    let room = api.rooms.find(&request.room).await?;
    let participants = room.map(|room| room.state().participants().map(|who| who.info()).collect());
    Ok(ListParticipantsResponse { participants: participants.unwrap_or_default() })
}

async fn get_participant(api: &Api, claims: &Claims, request: RoomParticipantIdentity) -> Answer<ParticipantInfo> {
    auth::may_administer(claims, &request.room)?;
    let room = room(api, &request.room).await?;
    participant(&room, &request.identity).map(|(_, info)| info)
}

async fn remove_participant(
    api: &Api,
    claims: &Claims,
    request: RoomParticipantIdentity,
) -> Answer<RemoveParticipantResponse> {
    auth::may_administer(claims, &request.room)?;
    let room = room(api, &request.room).await?;
    participant(&room, &request.identity)?;
    let revoke_before_ms = (request.revoke_token_ts > 0).then_some(request.revoke_token_ts);
    let identity = request.identity.as_str().into();
    room.submit(Actor::Admin, Command::Remove { identity, revoke_before_ms }).await?;
    Ok(RemoveParticipantResponse {})
}

async fn mute_published_track(
    api: &Api,
    claims: &Claims,
    request: MuteRoomTrackRequest,
) -> Answer<MuteRoomTrackResponse> {
    auth::may_administer(claims, &request.room)?;
    let room = room(api, &request.room).await?;
    let track = TrackSid::from(request.track_sid.as_str());
    let (publisher, _) = at_home(&room, &request.identity)?;
    owned(&room, &publisher, &track)?;
    room.submit(Actor::Admin, Command::Mute { track: track.clone(), muted: request.muted }).await?;
    Ok(MuteRoomTrackResponse { track: Some(owned(&room, &publisher, &track)?) })
}

async fn update_participant(api: &Api, claims: &Claims, request: UpdateParticipantRequest) -> Answer<ParticipantInfo> {
    auth::may_administer(claims, &request.room)?;
    let room = room(api, &request.room).await?;
    let (participant_sid, _) = at_home(&room, &request.identity)?;
    let given = |text: String| (!text.is_empty()).then_some(text);
    let describe = Command::Describe {
        participant: participant_sid.clone(),
        name: given(request.name),
        metadata: given(request.metadata),
        attributes: request.attributes.into_iter().collect::<BTreeMap<_, _>>(),
    };
    room.submit(Actor::Admin, describe).await?;
    if let Some(permission) = request.permission {
        let permit = Command::Permit { participant: participant_sid, permission };
        room.submit(Actor::Admin, permit).await?;
    }
    participant(&room, &request.identity).map(|(_, info)| info)
}

async fn update_subscriptions(
    api: &Api,
    claims: &Claims,
    request: UpdateSubscriptionsRequest,
) -> Answer<UpdateSubscriptionsResponse> {
    auth::may_administer(claims, &request.room)?;
    let room = room(api, &request.room).await?;
    at_home(&room, &request.identity)?;
    let state = room.state();
    if seated::tracks(&request).iter().any(|track| state.track(track).is_none()) {
        return Err(TwirpError::new(
            Code::NotFound,
            "one of the tracks is not published in this room: list participants",
        ));
    }
    seated::of_one(api, &room, &request.identity, seated::Call::UpdateSubscriptions(request.clone())).await
}

async fn send_data(api: &Api, claims: &Claims, request: SendDataRequest) -> Answer<SendDataResponse> {
    auth::may_administer(claims, &request.room)?;
    if !matches!(request.nonce.len(), 0 | 16) {
        return Err(TwirpError::new(Code::InvalidArgument, "`nonce` has 16 bytes or is not set"));
    }
    if request.data.len() > MAX_MESSAGE - DATA_OVERHEAD {
        let limit = MAX_MESSAGE - DATA_OVERHEAD;
        let message = format!("`data` has {} bytes: send at most {limit} at a time", request.data.len());
        return Err(TwirpError::new(Code::InvalidArgument, message));
    }
    if Kind::try_from(request.kind).is_err() {
        return Err(TwirpError::new(Code::InvalidArgument, "`kind` is RELIABLE or LOSSY"));
    }
    let room = room(api, &request.room).await?;
    seated::of_all(api, &room, seated::Call::SendData(request)).await?;
    Ok(SendDataResponse {})
}

async fn perform_rpc(api: &Api, claims: &Claims, request: PerformRpcRequest) -> Answer<PerformRpcResponse> {
    auth::may_administer(claims, &request.room)?;
    let room = room(api, &request.room).await?;
    at_home(&room, &request.destination_identity)?;
    let identity = request.destination_identity.clone();
    seated::of_one(api, &room, &identity, seated::Call::PerformRpc(request)).await
}

async fn move_participant(
    api: &Api,
    claims: &Claims,
    request: MoveParticipantRequest,
) -> Answer<MoveParticipantResponse> {
    let (identity, destination) = (request.identity.clone(), &request.destination_room);
    let from = on_the_way(api, claims, (&request.room, &identity), destination).await?;
    if !api.rooms.is_open(destination).await? {
        return Err(TwirpError::new(Code::NotFound, "the destination room is not open: create it first"));
    }
    seated::of_one(api, &from, &identity, seated::Call::MoveParticipant(request)).await
}

async fn forward_participant(
    api: &Api,
    claims: &Claims,
    request: ForwardParticipantRequest,
) -> Answer<ForwardParticipantResponse> {
    let identity = request.identity.clone();
    let from = on_the_way(api, claims, (&request.room, &identity), &request.destination_room).await?;
    seated::of_one(api, &from, &identity, seated::Call::ForwardParticipant(request)).await
}

/// The room of somebody who is to come into another one too, or instead.
async fn on_the_way(
    api: &Api,
    claims: &Claims,
    (from, identity): (&str, &str),
    destination: &str,
) -> Answer<RoomHandle> {
    auth::may_move(claims, from, destination)?;
    if from == destination {
        return Err(TwirpError::new(Code::InvalidArgument, "`destination_room` is another room than `room`"));
    }
    let from = room(api, from).await?;
    at_home(&from, identity)?;
    Ok(from)
}

async fn update_room_metadata(api: &Api, claims: &Claims, request: UpdateRoomMetadataRequest) -> Answer<Room> {
    auth::may_administer(claims, &request.room)?;
    let room = room(api, &request.room).await?;
    room.submit(Actor::Admin, Command::DescribeRoom { metadata: request.metadata }).await?;
    Ok(room.state().info())
}

async fn room(api: &Api, name: &str) -> Answer<RoomHandle> {
    let room = api.rooms.find(name).await?;
    room.ok_or_else(|| TwirpError::new(Code::NotFound, "there is no open room of this name: list the rooms"))
}

fn participant(room: &RoomHandle, identity: &str) -> Answer<(ParticipantSid, ParticipantInfo)> {
    if identity.is_empty() {
        return Err(TwirpError::new(Code::InvalidArgument, "set `identity` to the participant's"));
    }
    let state = room.state();
    let participant = state.by_identity(identity).map(|participant| (participant.sid.clone(), participant.info()));
    let message = "there is no participant of this identity in the room: list the participants";
    participant.ok_or_else(|| TwirpError::new(Code::NotFound, message))
}

/// A participant whose client is in this room: what is asked of one that is forwarded into it would not reach anybody.
fn at_home(room: &RoomHandle, identity: &str) -> Answer<(ParticipantSid, ParticipantInfo)> {
    let (sid, info) = participant(room, identity)?;
    if info.kind_details.contains(&(KindDetail::Forwarded as i32)) {
        let message = "this participant is forwarded from another room: ask there, or remove it here";
        return Err(TwirpError::new(Code::FailedPrecondition, message));
    }
    Ok((sid, info))
}

/// A track of this publisher.
fn owned(room: &RoomHandle, publisher: &ParticipantSid, track: &TrackSid) -> Answer<livekit_protocol::TrackInfo> {
    let state = room.state();
    let found = state.track(track).filter(|(owner, _)| owner.sid == *publisher);
    let info = found.map(|(_, info)| livekit_protocol::TrackInfo::clone(info));
    info.ok_or_else(|| TwirpError::new(Code::NotFound, "this participant has not published such a track"))
}
