//! A client that lost its WebSocket comes back: its PeerConnections went on, it is told what it may have missed.

use std::ops::ControlFlow;
use std::time::Instant;

use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_response::Message;
use livekit_protocol::{DisconnectReason, ParticipantInfo, ParticipantUpdate, RoomUpdate, SyncState};

use super::super::messages;
use super::super::metrics::Ended;
use super::super::wire::Close;
use super::{Flow, Return, Session, requests};
use crate::token::Claims;

impl Session {
    /// The same client over a new WebSocket: the PeerConnections go on, it is told what it may have missed.
    pub(super) async fn come_back(&mut self, back: Return) -> Flow {
        let now = Instant::now();
        let missed_since = self.clocks.heard;
        self.link.close(Close::Replaced);
        self.link.attach(back.socket);
        self.link.send(messages::reconnect(self.reliable.acknowledged()));
        self.reliable.back(now);
        (self.clocks.heard, self.clocks.away) = (now, None);
        self.stay();
        self.claims = Claims { room_config: self.claims.room_config.take(), ..back.opening.claims };
        self.signal.metrics.resumed.inc();
        let state = self.seat.room.state();
        let recent = self.farewells.iter().filter(|(at, _)| *at >= missed_since).map(|(_, info)| info.clone());
        let mut participants: Vec<ParticipantInfo> = recent.collect();
        participants.extend(state.others(&self.seat.sid));
        participants.extend(state.participant(&self.seat.sid).map(|me| me.info()));
        self.link.send(Message::Update(ParticipantUpdate { participants }));
        self.link.send(Message::RoomUpdate(RoomUpdate { room: Some(state.info()) }));
        self.link.flush();
        self.refresh_token();
        if let Some(sync) = back.opening.sync {
            self.synchronise(&sync)?;
        }
        if let Some(offer) = back.opening.offer {
            self.offer(offer).await?;
        }
        self.restart_subscriber();
        self.unsettled = true;
        ControlFlow::Continue(())
    }

    /// What a client that came back still has. It cannot go on with less than it published.
    pub(super) fn synchronise(&mut self, sync: &SyncState) -> Flow {
        if let Err(error) = self.restore(sync) {
            tracing::info!(participant = %self.seat.sid, %error, "what a client has from another bridge cannot be gone on with");
            return self.end(DisconnectReason::StateMismatch, Action::Reconnect, Close::Normal, Ended::Lost);
        }
        let published = sync.publish_tracks.iter().filter_map(|published| published.track.as_ref());
        if let Some(lost) = published.map(|track| &track.sid).find(|sid| !self.publications.has(sid)) {
            tracing::info!(participant = %self.seat.sid, track = %lost, "a resuming client has a track that we do not");
            return self.end(DisconnectReason::StateMismatch, Action::Reconnect, Close::Normal, Ended::Lost);
        }
        if let Some(subscription) = &sync.subscription {
            self.subscriptions.ask(requests::sids(subscription), subscription.subscribe);
        }
        self.disable(&sync.track_sids_disabled);
        self.unsettled = true;
        ControlFlow::Continue(())
    }
}
