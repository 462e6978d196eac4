//! What a client has of the bridge it comes from, by its own word (`sync_state`): its tracks, what its sections carry, its
//! data channels.

use std::collections::BTreeMap;

use livekit_protocol::{SignalTarget, SyncState, TrackInfo};

use super::super::description::{codecs_of, is_stereo};
use super::super::request::Path;
use super::super::transport::{GoingOn, Transport};
use super::Session;
use super::publisher::mint;
use super::subscriber::Subscriber;
use crate::media::control::{Channel, LegId};
use crate::room::TrackSid;
use crate::transport::sdp::{OfferedTrack, RemoteDescription, SdpError, SectionKind, SubscriberOffer};

impl Session {
    /// Takes over what the client has, once after it came from another bridge.
    ///
    /// # Errors
    /// What it has for receiving cannot be gone on with.
    pub(super) fn restore(&mut self, sync: &SyncState) -> Result<(), SdpError> {
        if !std::mem::take(&mut self.moving.restoring) {
            return Ok(());
        }
        let state = self.seat.room.state();
        let Some(me) = state.participant(&self.seat.sid) else { return Ok(()) };
        if let Some(waiting) = &mut self.moving.waiting {
            waiting.client_has(&sync.datachannel_receive_states);
        }
        for published in &sync.publish_tracks {
            let sid = published.track.as_ref().map_or("", |track| track.sid.as_str());
            if let Some(own) = me.track(&TrackSid::from(sid)) {
                self.publications.restore(&published.cid, TrackInfo::clone(own));
            }
        }
        let downlink = self.moving.downlink.take().map(|(_, downlink)| downlink);
        let own = GoingOn { channels: channels(sync, SignalTarget::Publisher), downlink };
        match self.path {
            Path::V1 => {
                self.restore_outlets(sync);
                self.restore_publisher(own);
            }
            Path::V0 => {
                if own.channels.iter().any(Option::is_some) {
                    self.restore_publisher(GoingOn { downlink: None, ..own });
                }
                let received = GoingOn { channels: channels(sync, SignalTarget::Subscriber), downlink };
                self.restore_subscriber(sync, received)?;
            }
        }
        tracing::debug!(
            participant = %self.seat.sid, tracks = sync.publish_tracks.len(), available = self.subscriptions.wanted().count(),
            carried = self.carried(), "restored from what the client has"
        );
        Ok(())
    }

    fn carried(&self) -> usize {
        self.subscriber.as_ref().map_or_else(|| self.outlets.legs().count(), Subscriber::carried)
    }

    fn restore_publisher(&mut self, with: GoingOn) {
        self.publisher.get_or_insert_with(|| Transport::new(&self.media, false)).goes_on(with);
    }

    /// v1: the sections of the last answer.
    fn restore_outlets(&mut self, sync: &SyncState) {
        let answer = sync.answer.as_ref().map(|answer| RemoteDescription::parse(&answer.sdp));
        if let Some(Err(error)) = &answer {
            tracing::warn!(participant = %self.seat.sid, %error, "what a client's sections carry cannot be read");
        }
        let Some(Ok(answer)) = answer else { return };
        for section in answer.sections.iter().filter(|section| section.direction.sends()) {
            let (SectionKind::Media(kind), Some((_, track))) = (section.kind, &section.msid) else { continue };
            let last_ssrc = &mut self.negotiation.last_ssrc;
            self.outlets.restore(&section.mid, kind, TrackSid::from(track.as_str()), || mint(last_ssrc));
        }
    }

    /// v0: the sections of the last offer.
    fn restore_subscriber(&mut self, sync: &SyncState, with: GoingOn) -> Result<(), SdpError> {
        let last = RemoteDescription::parse(sync.offer.as_ref().map_or("", |offer| &offer.sdp))?;
        let (mut legs, mut last_ssrc) = (BTreeMap::new(), 0);
        let subscriptions = &self.subscriptions;
        let offer = SubscriberOffer::restore(&last, |section, kind| {
            let (stream_id, track_id) = section.msid.clone()?;
            let sid = TrackSid::from(track_id.as_str());
            let track = subscriptions.track(&sid).filter(|track| track.kind == kind && !legs.contains_key(&sid))?;
            let leg = LegId::next();
            legs.insert(sid.clone(), (leg, section.mid.clone()));
            Some(OfferedTrack {
                leg,
                track: track.media,
                kind,
                stream_id,
                track_id,
                cname: track.publisher.to_string(),
                ssrc: mint(&mut last_ssrc),
                rtx_ssrc: mint(&mut last_ssrc),
                stereo: is_stereo(&track.info),
                wanted: subscriptions.layer(&sid),
                codecs: codecs_of(&track.info),
            })
        })?;
        let mut transport = Transport::new(&self.media, true);
        transport.goes_on(with);
        self.subscriber = Some(Subscriber::new(transport, offer, legs, last_ssrc));
        Ok(())
    }
}

/// The SCTP streams of the client's data channels on one of its PeerConnections, `_reliable` and `_lossy`.
fn channels(sync: &SyncState, on: SignalTarget) -> [Option<u16>; 2] {
    [Channel::Reliable, Channel::Lossy].map(|channel| {
        let of = |info: &&livekit_protocol::DataChannelInfo| info.label == channel.label() && info.target() == on;
        sync.data_channels.iter().find(of).and_then(|info| u16::try_from(info.id).ok())
    })
}
