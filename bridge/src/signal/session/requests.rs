//! What the client asks for.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use livekit_protocol::request_response::{Reason, Request};
use livekit_protocol::signal_request::Message as Ask;
use livekit_protocol::signal_response::Message;
use livekit_protocol::{
    AddTrackRequest, DisconnectReason, MuteTrackRequest, Ping, Pong, SubscriptionPermission, TrackPublishedResponse,
    UpdateParticipantMetadata, UpdateSubscription, UpdateTrackSettings,
};

use super::super::messages::{self, unix_ms};
use super::super::metrics::Ended;
use super::super::wire::Close;
use super::{Flow, Session};
use crate::media::control::Command as MediaCommand;
use crate::room::{Command, Refusal, TrackSid};

/// The tracks of a subscription request, in both of its forms.
pub(super) fn sids(subscription: &UpdateSubscription) -> Vec<TrackSid> {
    let by_participant = subscription.participant_tracks.iter().flat_map(|tracks| &tracks.track_sids);
    subscription.track_sids.iter().chain(by_participant).map(|sid| TrackSid::from(sid.as_str())).collect()
}

impl Session {
    pub(super) async fn request(&mut self, request: Ask) -> Flow {
        match request {
            Ask::Offer(offer) => return self.offer(offer).await,
            Ask::Answer(answer) => return self.answer(&answer),
            Ask::AddTrack(request) => self.add_track(request).await,
            Ask::Mute(mute) => self.mute(mute).await,
            Ask::Subscription(subscription) => {
                self.subscriptions.ask(sids(&subscription), subscription.subscribe);
                self.unsettled = true;
            }
            Ask::TrackSetting(settings) => self.track_setting(&settings),
            // A client that starts anew elsewhere says goodbye here first.
            Ask::Leave(_) if self.clocks.moving.is_some() => return self.gone_elsewhere(),
            Ask::Leave(leave) => {
                let reason = match leave.reason() {
                    DisconnectReason::UnknownReason => DisconnectReason::ClientInitiated,
                    reason => reason,
                };
                self.seat.reason = reason;
                self.link.close(Close::Normal);
                return ControlFlow::Break(Ended::Client);
            }
            Ask::SubscriptionPermission(permission) => self.permit_subscribers(permission).await,
            Ask::SyncState(sync) => return self.synchronise(&sync),
            Ask::Ping(_) => self.link.send(Message::Pong(unix_ms())),
            Ask::PingReq(Ping { timestamp, .. }) => {
                self.link.send(Message::PongResp(Pong { last_ping_timestamp: timestamp, timestamp: unix_ms() }));
            }
            Ask::UpdateMetadata(update) => self.describe(update).await,
            Ask::UpdateAudioTrack(update) => {
                let track = self.publications.set_features(&update.track_sid, update.features);
                self.update_track(track).await;
            }
            Ask::UpdateVideoTrack(update) => {
                let track = self.publications.set_size(&update.track_sid, update.width, update.height);
                self.update_track(track).await;
            }
            Ask::PublishDataTrackRequest(request) => {
                self.unsupported(Request::PublishDataTrack(request));
            }
            Ask::UnpublishDataTrackRequest(request) => {
                self.unsupported(Request::UnpublishDataTrack(request));
            }
            // We are the ICE-lite side: a client's address is learnt from its connectivity checks.
            Ask::Trickle(_) => {}
            // Not offered by this server: layers by request (deprecated), test scenarios, data tracks, data blobs.
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn respond(&mut self, request_id: u32, reason: Reason, message: String, request: Option<Request>) {
        self.link.send(messages::response(request_id, reason, message, request));
    }

    fn unsupported(&mut self, request: Request) {
        let message = "data tracks are not supported by this server: use data packets".to_owned();
        self.respond(0, Reason::UnsupportedType, message, Some(request));
    }

    pub(super) async fn add_track(&mut self, request: AddTrackRequest) {
        let state = self.seat.room.state();
        let allowed = state.participant(&self.seat.sid).is_some_and(|me| me.may_publish(request.source()));
        if !allowed {
            let message = format!("not allowed to publish from source {}", request.source().as_str_name());
            self.respond(0, Reason::NotAllowed, message, Some(Request::AddTrack(request)));
            return;
        }
        let cid = request.cid.clone();
        match self.publications.add(request.clone()) {
            Ok((track, mids)) => {
                self.link.send(Message::TrackPublished(TrackPublishedResponse { cid, track: Some(track) }));
                for mid in mids {
                    self.publish(&mid).await;
                }
            }
            Err(refusal) => {
                use super::super::publications::AddRefusal;
                let reason = match refusal {
                    AddRefusal::Unsupported => Reason::UnsupportedType,
                    AddRefusal::TooMany => Reason::LimitExceeded,
                    AddRefusal::NoSuchTrack => Reason::NotFound,
                    AddRefusal::Invalid | AddRefusal::Codec => Reason::InvalidRequest,
                };
                self.respond(0, reason, refusal.to_string(), Some(Request::AddTrack(request)));
            }
        }
    }

    async fn mute(&mut self, mute: MuteTrackRequest) {
        let track = TrackSid::from(mute.sid.as_str());
        let outcome = match self.publications.mute(&mute.sid, mute.muted) {
            None => Err(Refusal::NoSuchTrack),
            // Announced only: it will be published as muted as it is then.
            Some(()) if self.seat.room.state().track(&track).is_none() => Ok(()),
            Some(()) => self.seat.room.submit(self.actor(), Command::Mute { track, muted: mute.muted }).await,
        };
        if let Err(refusal) = outcome {
            self.respond(0, messages::reason(&refusal), refusal.to_string(), Some(Request::Mute(mute)));
        }
    }

    fn track_setting(&mut self, settings: &UpdateTrackSettings) {
        for sid in &settings.track_sids {
            let sid = TrackSid::from(sid.as_str());
            self.subscriptions.set(sid.clone(), settings);
            self.want(&sid);
        }
    }

    /// A client that came back does not show these tracks.
    pub(super) fn disable(&mut self, sids: &[String]) {
        self.track_setting(&UpdateTrackSettings { track_sids: sids.to_vec(), disabled: true, ..Default::default() });
    }

    /// Tells the media worker which layer of a track the client wants now.
    pub(super) fn want(&mut self, sid: &TrackSid) {
        let wanted = self.subscriptions.layer(sid);
        if let (Some(leg), Some(transport)) = (self.leg_of(sid), self.data_transport()) {
            transport.send(MediaCommand::Want { transport: transport.id, leg, wanted });
        }
    }

    async fn permit_subscribers(&mut self, permission: SubscriptionPermission) {
        let participant = self.seat.sid.clone();
        let command = Command::AllowSubscribers { participant, permission };
        if let Err(refusal) = self.seat.room.submit(self.actor(), command).await {
            self.respond(0, messages::reason(&refusal), refusal.to_string(), None);
        }
    }

    async fn describe(&mut self, update: UpdateParticipantMetadata) {
        let said = |text: &String| (!text.is_empty()).then(|| text.clone());
        let command = Command::Describe {
            participant: self.seat.sid.clone(),
            name: said(&update.name),
            metadata: said(&update.metadata),
            attributes: update.attributes.clone().into_iter().collect::<BTreeMap<_, _>>(),
        };
        let (reason, message) = match self.seat.room.submit(self.actor(), command).await {
            Ok(()) => (Reason::Ok, String::new()),
            Err(refusal) => (messages::reason(&refusal), refusal.to_string()),
        };
        self.respond(update.request_id, reason, message, Some(Request::UpdateMetadata(update)));
    }

    /// A track's description changed. Nobody waits for an answer to this, and an announced track is told when published.
    pub(super) async fn update_track(&mut self, track: Option<livekit_protocol::TrackInfo>) {
        let Some(track) = track else { return };
        if self.seat.room.state().track(&TrackSid::from(track.sid.as_str())).is_none() {
            return;
        }
        let command = Command::UpdateTrack { track: Box::new(track) };
        if let Err(refusal) = self.seat.room.submit(self.actor(), command).await {
            tracing::debug!(participant = %self.seat.sid, %refusal, "a track's new description was refused");
        }
    }
}
