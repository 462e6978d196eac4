//! Data packets: who gets them, and what is written into them.

use std::sync::Arc;

use livekit_protocol::DataPacket;

use super::handle::Shared;
use super::ids::ParticipantSid;
use crate::media::control::Channel;

/// Routes a packet; see [`super::RoomHandle::route_data`]. Without a sender it comes from the server API.
pub(super) fn route(_shared: &Arc<Shared>, _from: Option<&ParticipantSid>, _packet: DataPacket, _channel: Channel) {}
