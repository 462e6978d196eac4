//! What the media worker says of the client's PeerConnections.

use std::ops::ControlFlow;
use std::time::Instant;

use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_response::Message;
use livekit_protocol::{DataPacket, DisconnectReason, StreamState, StreamStateInfo, StreamStateUpdate};
use prost::Message as _;

use super::super::metrics::Ended;
use super::super::request::Path;
use super::super::transport::Transport;
use super::super::wire::Close;
use super::{Flow, Session};
use crate::media::control::{Channel, CloseReason, Event, LegId, TrackId, TransportId};

impl Session {
    pub(super) async fn on_media(&mut self, event: Event) -> Flow {
        match event {
            Event::Connected { transport, remote } => {
                tracing::debug!(participant = %self.seat.sid, ?transport, %remote, "connected");
                if self.is_primary(transport) {
                    Box::pin(self.connected()).await;
                }
            }
            Event::Closed { transport, reason } => return self.closed(transport, reason),
            Event::Data { channel, payload, .. } => self.data(channel, &payload),
            Event::LegActive { leg, active, .. } => self.stream_state(leg, active),
            Event::LayersNeeded { track, layers, .. } => self.layers_needed(track, layers),
            Event::Described { downlink, .. } => self.described(downlink),
            Event::StreamKnown { track, layer, rtx, ssrc, .. } => self.stream_known(track, layer, rtx, ssrc),
            Event::Quality { transport, quality } => {
                let info = self.quality.take(&self.seat.sid, transport, &quality);
                self.rated.set(info.quality());
                self.seat.room.report_quality(info);
            }
            Event::ChannelOpen { transport, channel } if self.is_primary(transport) => self.channel_open(channel),
            // Speakers and started tracks are the room's.
            Event::TrackStarted { .. }
            | Event::ChannelOpen { .. }
            | Event::Speakers { .. }
            | Event::StreamsNeeded { .. }
            | Event::Relayed { .. } => {}
        }
        ControlFlow::Continue(())
    }

    /// A PeerConnection is gone for good. The client makes new ones, unless it has left for good itself.
    fn closed(&mut self, transport: TransportId, reason: CloseReason) -> Flow {
        tracing::info!(participant = %self.seat.sid, ?transport, ?reason, "PeerConnection closed");
        self.quality.forget(transport);
        let disconnect = match reason {
            // Ours, or the room's end, which the room tells.
            CloseReason::Requested | CloseReason::Room => return ControlFlow::Continue(()),
            _ if self.clocks.moving.is_some() => return self.gone_elsewhere(),
            // Somebody who closes the page closes both; no need to wait for a return.
            CloseReason::Peer if !self.link.is_up() => DisconnectReason::ClientInitiated,
            CloseReason::Peer | CloseReason::Timeout => DisconnectReason::ConnectionTimeout,
            CloseReason::Dtls | CloseReason::Data => DisconnectReason::MediaFailure,
        };
        self.end(disconnect, Action::Reconnect, Close::Normal, Ended::MediaLost)
    }

    /// A data packet of this client goes to the room, once.
    fn data(&mut self, channel: Channel, payload: &[u8]) {
        let Ok(packet) = DataPacket::decode(payload) else {
            self.signal.metrics.malformed_data.inc();
            return;
        };
        if channel != Channel::Reliable {
            return self.seat.room.route_data(&self.seat.sid, packet, channel);
        }
        let Self { seat, reliable, .. } = self;
        reliable.take(packet, payload.len(), Instant::now(), |packet| {
            seat.room.route_data(&seat.sid, packet, channel);
        });
    }

    /// What was missing before these reliable packets does not come any more.
    pub(super) fn release_data(&mut self) {
        let Self { seat, reliable, .. } = self;
        reliable.release(|packet| seat.room.route_data(&seat.sid, packet, Channel::Reliable));
    }

    /// What of a published track anybody gets (dynacast). Clients that do not take part in it send on.
    pub(super) fn layers_needed(&mut self, media: TrackId, layers: u8) {
        if let Some(update) = self.publications.needed(media, layers) {
            self.link.send(Message::SubscribedQualityUpdate(update));
        }
    }

    fn stream_state(&mut self, leg: LegId, active: bool) {
        let Some(sid) = self.track_on(leg) else { return };
        let Some(track) = self.subscriptions.track(sid) else { return };
        let state = if active { StreamState::Active } else { StreamState::Paused };
        let info = StreamStateInfo {
            participant_sid: track.publisher.to_string(),
            track_sid: sid.to_string(),
            state: state.into(),
        };
        self.link.send(Message::StreamStateUpdate(StreamStateUpdate { stream_states: vec![info] }));
    }

    /// Whether this transport decides if the participant is connected: the one it receives on.
    fn is_primary(&self, transport: TransportId) -> bool {
        self.data_transport().is_some_and(|own| own.id == transport)
    }

    /// The transport on which the client gets tracks and data.
    pub(super) fn data_transport(&self) -> Option<&Transport> {
        match self.path {
            Path::V0 => self.subscriber.as_ref().map(|subscriber| &subscriber.transport),
            Path::V1 => self.publisher.as_ref(),
        }
    }
}
