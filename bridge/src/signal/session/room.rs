//! What the room says becomes what the client is told.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use livekit_protocol::leave_request::Action;
use livekit_protocol::participant_info::State as WireState;
use livekit_protocol::signal_response::Message;
use livekit_protocol::{
    ConnectionQualityUpdate, DisconnectReason, MuteTrackRequest, ParticipantInfo, ParticipantPermission,
    ParticipantUpdate, RoomUpdate, SpeakersChanged, SubscriptionPermissionUpdate, TrackSource, TrackSubscribed,
    TrackUnpublishedResponse,
};

use super::super::metrics::Ended;
use super::super::subscriptions::Available;
use super::super::wire::Close;
use super::{FAREWELLS, Flow, Session};
use crate::media::control::Kind;
use crate::room::{ToSession, TrackSid};
use crate::token::Claims;

impl Session {
    pub(super) fn on_room(&mut self, message: ToSession) -> Flow {
        match message {
            ToSession::Participants(participants) => {
                let (now, state) = (Instant::now(), self.seat.room.state());
                for info in participants.iter() {
                    if info.state() == WireState::Disconnected {
                        self.farewells.push_back((now, info.clone()));
                    }
                    for track in &info.tracks {
                        if let Some((_, track)) = state.track(&track.sid.as_str().into()) {
                            self.subscriptions.describe(track);
                        }
                    }
                }
                let surplus = self.farewells.len().saturating_sub(FAREWELLS);
                self.farewells.drain(..surplus);
                self.link.send(Message::Update(ParticipantUpdate { participants: participants.to_vec() }));
                if participants.iter().any(|info| info.sid == self.seat.sid.as_str() && !self.is_claimed(info)) {
                    self.refresh_token();
                }
            }
            ToSession::Room(room) => {
                self.link.send(Message::RoomUpdate(RoomUpdate { room: Some((*room).clone()) }));
            }
            ToSession::TrackAvailable(sid) => self.available(sid),
            ToSession::TrackUnavailable(sid) => {
                self.subscriptions.unavailable(&sid);
                self.unsettled = true;
            }
            ToSession::Speakers(speakers) => {
                self.link.send(Message::SpeakersChanged(SpeakersChanged { speakers: speakers.to_vec() }));
            }
            ToSession::Quality(updates) => {
                self.link.send(Message::ConnectionQuality(ConnectionQualityUpdate { updates: updates.to_vec() }));
            }
            ToSession::SetMuted { track, muted } => {
                // Gone already if it is none of ours any more.
                let _ = self.publications.mute(track.as_str(), muted);
                self.link.send(Message::Mute(MuteTrackRequest { sid: track.into(), muted }));
            }
            ToSession::Subscription { tracks, subscribe } => {
                self.subscriptions.ask(tracks, subscribe);
                self.unsettled = true;
            }
            ToSession::Permission(permission) => self.permission(&permission),
            ToSession::SubscriptionPermission { publisher, track, allowed } => {
                let update = SubscriptionPermissionUpdate {
                    participant_sid: publisher.into(),
                    track_sid: track.into(),
                    allowed,
                };
                self.link.send(Message::SubscriptionPermissionUpdate(update));
            }
            ToSession::TrackUnpublished(track) => {
                self.publications.revoke(&track);
                self.heard_by_others.remove(&track);
                self.link.send(Message::TrackUnpublished(TrackUnpublishedResponse { track_sid: track.into() }));
            }
            ToSession::TrackSubscribed(track) => {
                if self.publications.has(track.as_str()) && self.heard_by_others.insert(track.clone()) {
                    self.link.send(Message::TrackSubscribed(TrackSubscribed { track_sid: track.into() }));
                }
            }
            ToSession::CodecWanted { track, codec } => {
                if let Some(update) = self.publications.ask(&track, codec) {
                    tracing::debug!(participant = %self.seat.sid, %track, ?codec, "asked for another codec of a track");
                    self.link.send(Message::SubscribedQualityUpdate(update));
                }
            }
            ToSession::Data { channel, bytes } => self.say(channel, bytes),
            ToSession::Move { to } => self.send_away(to),
            ToSession::MovedAway => return self.moved_away(),
            ToSession::MoveTo { room } => {
                // Its next token is for the other room: with that it joins there.
                self.claims.grants.room = room.to_string();
                self.claims.room_config = None;
                self.refresh_token();
                return self.end(DisconnectReason::Migration, Action::Reconnect, Close::Normal, Ended::Room);
            }
            ToSession::Leave { reason, action } => {
                self.seat.left = true;
                return self.end(reason, action, Close::Normal, Ended::Room);
            }
        }
        ControlFlow::Continue(())
    }

    /// Whether this participant's token says what it is called and what it says of itself: with a token that does not, it
    /// would come back from a server that dies as somebody it is not any more.
    fn is_claimed(&self, me: &ParticipantInfo) -> bool {
        let Claims { name, metadata, attributes, .. } = &self.claims;
        (name, metadata, attributes) == (&me.name, &me.metadata, &me.attributes)
    }

    /// A track of somebody else has media here.
    fn available(&mut self, sid: TrackSid) {
        let state = self.seat.room.state();
        let (Some((publisher, info)), Some(local)) = (state.track(&sid), self.seat.room.track(&sid)) else {
            return; // unpublished since; that is the next message
        };
        let kind = match info.r#type() {
            livekit_protocol::TrackType::Audio => Kind::Audio,
            _ => Kind::Video,
        };
        let first = local.first();
        let track = Available {
            publisher: publisher.sid.clone(),
            kind,
            media: first.track,
            codec: first.codec(),
            layers: first.rids.len().max(1),
            info: Arc::clone(info),
        };
        let known = self.subscriptions.track(&sid).is_some();
        if !known && self.leg_of(&sid).is_some() {
            // It went a moment ago and comes from elsewhere: something new to the client, which is yet to hear of the end.
            self.settle();
        }
        self.subscriptions.available(sid.clone(), track);
        if known {
            self.lead_again(&sid);
        }
        self.unsettled = true;
    }

    /// What this participant may do changed; its token follows at once, so that a reconnect brings nothing back.
    fn permission(&mut self, permission: &ParticipantPermission) {
        let grants = &mut self.claims.grants;
        grants.can_publish = Some(permission.can_publish);
        grants.can_subscribe = Some(permission.can_subscribe);
        grants.can_publish_data = Some(permission.can_publish_data);
        grants.can_update_own_metadata = Some(permission.can_update_metadata);
        grants.hidden = permission.hidden;
        let name = |source: &i32| TrackSource::try_from(*source).ok().map(|s| s.as_str_name().to_ascii_lowercase());
        grants.can_publish_sources = permission.can_publish_sources.iter().filter_map(name).collect();
        self.refresh_token();
    }
}
