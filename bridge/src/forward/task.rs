//! One participant's copy in another room: hears both rooms and makes the copy follow.

use std::time::Duration;

use livekit_protocol::{ConnectionQualityInfo, DisconnectReason, ForwardParticipantRequest};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::differences::differences;
use crate::api::seated;
use crate::peers::Peers;
use crate::room::relays::ToRelay;
use crate::room::{
    Actor, Command, Joined, LocalTrack, Participant, ParticipantSid, Presence, RoomHandle, Rooms, ToSession, TrackSid,
};

/// Before trying again what could not be logged, or another bridge would not take over.
const RETRY: Duration = Duration::from_secs(1);
/// How often another bridge is asked to go on.
const ATTEMPTS: usize = 5;

/// What is to happen next.
enum Next {
    /// The copy is as its original.
    Wait,
    /// Something of it could not be logged.
    Again,
    /// The original is out of its room, or its room has ended.
    Ended(DisconnectReason),
    /// The original sits on that bridge now.
    Moved(String),
}

pub(super) struct Forwarding {
    rooms: Rooms,
    peers: Peers,
    from: RoomHandle,
    /// The original.
    who: ParticipantSid,
    copy: ParticipantSid,
    to: RoomHandle,
    inbox: mpsc::Receiver<ToSession>,
    level: Option<f32>,
    again: Option<Instant>,
}

impl Forwarding {
    pub(super) fn new(rooms: Rooms, peers: Peers, from: RoomHandle, who: ParticipantSid, copy: Joined) -> Self {
        let Joined { room: to, sid: copy, inbox, .. } = copy;
        Self { rooms, peers, from, who, copy, to, inbox, level: None, again: None }
    }

    /// Follows until one of the two is out of its room.
    pub(super) async fn run(mut self) {
        let listener = format!("forward {}", self.copy);
        let (own, mut told) = self.from.connect_relay(&listener);
        let applied = self.from.applied();
        self.to.media().borrow_from(self.from.media());
        let progress = Command::Progress { participant: self.copy.clone(), presence: Presence::Active };
        if let Err(refusal) = self.to.submit(Actor::Bridge, progress).await {
            debug!(copy = %self.copy, %refusal, "a copy in another room is not shown as connected");
        }
        let reason = self.follow(&mut told, applied).await;
        self.from.disconnect_relay(&listener, &own);
        let Self { from, to, copy, .. } = self;
        if let Some(reason) = reason {
            info!(room = %from.name(), to = %to.name(), %copy, "no longer forwarded into another room");
            to.leave(copy, reason).await;
        }
    }

    /// The reason for which the copy has to leave; `None` if it is out already.
    async fn follow(
        &mut self,
        told: &mut mpsc::Receiver<ToRelay>,
        mut applied: watch::Receiver<u64>,
    ) -> Option<DisconnectReason> {
        loop {
            applied.mark_unchanged();
            match self.look().await {
                Next::Wait => self.again = None,
                Next::Again => self.again = Some(Instant::now() + RETRY),
                Next::Ended(reason) => return Some(reason),
                Next::Moved(bridge) => return self.hand_over(&bridge).await,
            }
            tokio::select! {
                // Its sender lives as long as the room's handle.
                _ = applied.changed() => {}
                Some(message) = told.recv() => self.hear(message),
                message = self.inbox.recv() => match message {
                    Some(ToSession::Leave { .. }) | None => return None,
                    Some(message) => self.pass_on(message),
                },
                () = reached(self.again) => {}
            }
        }
    }

    /// Logs what differs, and lets the other room have the media.
    async fn look(&mut self) -> Next {
        let state = self.from.state();
        if let Some(reason) = state.ended() {
            return Next::Ended(reason);
        }
        let Some(original) = state.participant(&self.who).filter(|who| !who.permission.hidden) else {
            return Next::Ended(DisconnectReason::ClientInitiated);
        };
        if original.bridge != self.rooms.bridge() {
            return Next::Moved(original.bridge.clone());
        }
        let there = self.to.state();
        // Its inbox tells when it is out.
        let Some(copy) = there.participant(&self.copy) else { return Next::Wait };
        let mut next = Next::Wait;
        for command in differences(original, copy) {
            if let Err(refusal) = self.to.submit(Actor::Bridge, command).await {
                debug!(to = %self.to.name(), copy = %self.copy, %refusal, "a copy in another room does not follow yet");
                next = Next::Again;
            }
        }
        // Relays are told of media whose track is logged.
        self.lend(original);
        next
    }

    /// The other room has the media that its tracks have here.
    fn lend(&self, original: &Participant) {
        for info in &original.tracks {
            let sid = TrackSid::from(info.sid.as_str());
            let Some(track) = self.from.track(&sid).filter(|track| track.relay.is_none()) else { continue };
            let lent = LocalTrack { publisher: self.copy.clone(), borrowed: true, ..track };
            if self.to.track(&sid).as_ref() != Some(&lent) {
                self.to.publish_media(&sid, lent);
            }
        }
    }

    /// Of what the other room says to the copy its original hears what concerns the tracks. That it shall go to another bridge is
    /// for nobody: its original goes.
    fn pass_on(&self, message: ToSession) {
        match message {
            ToSession::TrackSubscribed(track) => self.from.relayed_subscription(&self.who, &track),
            ToSession::CodecWanted { track, codec } => {
                let _ = self.from.relayed_want(&track, codec);
            }
            _ => {}
        }
    }

    fn hear(&mut self, message: ToRelay) {
        match message {
            ToRelay::Speakers(speakers) => {
                let level = speakers.iter().filter(|(sid, _)| *sid == self.who).map(|(_, level)| *level);
                let level = level.max_by(f32::total_cmp);
                if level != self.level {
                    self.level = level;
                    self.to.report_voice(&self.copy, level);
                }
            }
            ToRelay::Quality(infos) => {
                let own = infos.into_iter().filter(|info| info.participant_sid == self.who.as_str());
                own.for_each(|info| {
                    let participant_sid = self.copy.to_string();
                    self.to.report_quality(ConnectionQualityInfo { participant_sid, ..info });
                });
            }
            // Looked at whenever anything was said.
            ToRelay::Tracks => {}
            // What it sends is for its own room, and what that lacks is asked for elsewhere.
            ToRelay::Data { .. } | ToRelay::CodecWanted { .. } => {}
        }
    }

    /// The original sits elsewhere: that bridge makes a copy of its own, which takes the place of this one.
    async fn hand_over(&mut self, bridge: &str) -> Option<DisconnectReason> {
        let identity = self.to.state().participant(&self.copy)?.identity.to_string();
        let request = ForwardParticipantRequest {
            room: self.from.name().to_string(),
            identity,
            destination_room: self.to.name().to_string(),
        };
        for _ in 0..ATTEMPTS {
            match seated::forward_there(&self.peers, bridge, &self.from, request.clone()).await {
                Ok(()) => break,
                Err(error) => warn!(bridge, to = %self.to.name(), %error, "a bridge does not go on forwarding yet"),
            }
            sleep(RETRY).await;
        }
        Some(DisconnectReason::Migration)
    }
}

/// Resolves at that time; never without one.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
