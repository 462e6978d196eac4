//! In which of a track's codecs the client gets it.
//!
//! A track may come in several codecs, each a medium of its own at the worker. The client gets the first that it can decode,
//! by what it accepted for the leg. Where there is none of these yet but the publisher can send one, the publisher is asked
//! for it, and the leg leads to nothing until it comes. Where the publisher cannot send one either, the client is told once.

use livekit_protocol::signal_response::Message;
use livekit_protocol::{SubscriptionError, SubscriptionResponse};

use super::super::description::codec_named;
use super::Session;
use crate::media::control::{Codec, PayloadType, SendSection};
use crate::room::TrackSid;

impl Session {
    /// Leads all legs to what the client can decode, after a negotiation. The worker is yet to be told.
    pub(super) fn lead_legs(&mut self) {
        let subscriptions = &self.subscriptions;
        self.undecodable.retain(|sid| subscriptions.track(sid).is_some());
        let mut sections = std::mem::take(self.sections_sent());
        for section in &mut sections {
            if let Some(sid) = self.track_on(section.leg).cloned() {
                self.lead(&sid, section);
            }
        }
        *self.sections_sent() = sections;
    }

    /// The media of a track that is known changed: it comes in other codecs, or from elsewhere, as its publisher moved to
    /// another bridge. The client need not know.
    pub(super) fn lead_again(&mut self, sid: &TrackSid) {
        let Some(leg) = self.leg_of(sid) else { return };
        let Some(at) = self.sections_sent().iter().position(|section| section.leg == leg) else { return };
        let mut section = self.sections_sent()[at].clone();
        if !self.lead(sid, &mut section) {
            return;
        }
        self.sections_sent()[at] = section;
        match &self.subscriber {
            Some(subscriber) => subscriber.tell_worker(),
            None => self.tell_worker(),
        }
        // Its layers may be others.
        self.want(sid);
    }

    /// Leads one leg. True when it leads elsewhere than before.
    fn lead(&mut self, sid: &TrackSid, section: &mut SendSection) -> bool {
        let Some(local) = self.seat.room.track(sid) else { return false };
        let decodable = local.decodable(&section.payload_types);
        let missing = if decodable.is_none() { self.obtainable(sid, &section.payload_types) } else { None };
        if decodable.is_some() || missing.is_some() {
            self.undecodable.remove(sid);
        } else if !local.payload_types.is_empty() && self.undecodable.insert(sid.clone()) {
            self.tell_undecodable(sid);
        }
        let to = if let Some(codec) = missing {
            self.seat.room.want_codec(sid, codec);
            self.nothing
        } else {
            let media = decodable.unwrap_or_else(|| local.first());
            self.subscriptions.takes(sid, &media);
            media.track
        };
        section.wanted = self.subscriptions.layer(sid);
        std::mem::replace(&mut section.track, to) != to
    }

    /// Waiting for the track would be in vain.
    pub(super) fn tell_undecodable(&mut self, sid: &TrackSid) {
        let err = SubscriptionError::SeCodecUnsupported.into();
        self.link.send(Message::SubscriptionResponse(SubscriptionResponse { track_sid: sid.to_string(), err }));
    }

    /// The first codec among these in which a track's publisher could send it, besides the one in which it is sent.
    fn obtainable(&self, sid: &TrackSid, accepted: &[PayloadType]) -> Option<Codec> {
        let track = self.subscriptions.track(sid)?;
        let mut backups = track.info.codecs.iter().skip(1).filter_map(|codec| codec_named(&codec.mime_type));
        backups.find(|codec| accepted.iter().any(|known| known.codec == *codec))
    }

    /// What the client receives on, as negotiated.
    fn sections_sent(&mut self) -> &mut Vec<SendSection> {
        match &mut self.subscriber {
            Some(subscriber) => &mut subscriber.send,
            None => &mut self.negotiation.send,
        }
    }
}
