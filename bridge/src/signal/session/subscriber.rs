//! The PeerConnection that we offer: v0's for receiving.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::time::Instant;

use livekit_protocol::SessionDescription;
use livekit_protocol::signal_response::Message;

use super::super::description::{codecs_of, is_stereo};
use super::super::request::Path;
use super::super::transport::Transport;
use super::publisher::{mint, stream_id};
use super::{Flow, Session};
use crate::media::control::{Command, ExtensionIds, LegId, SendSection};
use crate::room::TrackSid;
use crate::transport::sdp::{OfferedTrack, RemoteDescription, SubscriberOffer};

/// v0's PeerConnection for receiving.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) transport: Transport,
    pub(super) offer: SubscriberOffer,
    /// Of the last offer; grows.
    id: u32,
    /// The tracks it carries: leg and mid.
    legs: BTreeMap<TrackSid, (LegId, String)>,
    extensions: ExtensionIds,
    pub(super) send: Vec<SendSection>,
    last_ssrc: u32,
}

impl Session {
    /// Right after the join, with the tracks that are there or none.
    pub(super) fn open_subscriber(&mut self) {
        let transport = Transport::new(&self.media, true);
        self.subscriber = Some(Subscriber::new(transport, SubscriberOffer::new(), BTreeMap::new(), 0));
        self.settle_v0();
    }

    /// What the client receives may have changed.
    pub(super) fn settle(&mut self) {
        self.unsettled = false;
        match self.path {
            Path::V0 => self.settle_v0(),
            Path::V1 => self.settle_v1(),
        }
    }

    fn settle_v0(&mut self) {
        let Some(subscriber) = &mut self.subscriber else { return };
        let wanted: BTreeSet<&TrackSid> = self.subscriptions.wanted().map(|(sid, _)| sid).collect();
        let legs = subscriber.legs.len();
        let offer = &mut subscriber.offer;
        subscriber.legs.retain(|sid, (leg, _)| {
            let keep = wanted.contains(sid);
            if !keep {
                offer.remove(*leg);
            }
            keep
        });
        if subscriber.legs.len() < legs {
            // What it shall not have any more stops at once.
            subscriber.send.retain(|section| subscriber.legs.values().any(|(leg, _)| *leg == section.leg));
            subscriber.tell_worker();
        }
        let changed = wanted.len() > subscriber.legs.len() || subscriber.offer.needs_offer();
        let now = Instant::now();
        if !changed || subscriber.offer.awaits_answer() || !self.clocks.settles(now, subscriber.offer.sections()) {
            return;
        }
        for (sid, track) in self.subscriptions.wanted() {
            if subscriber.legs.contains_key(sid) {
                continue;
            }
            let leg = LegId::next();
            let in_sync = self.in_sync && !subscriber.offer.takes_over(track.kind);
            let mid = subscriber.offer.add(OfferedTrack {
                leg,
                track: track.media,
                kind: track.kind,
                stream_id: stream_id(sid, track, in_sync),
                track_id: sid.to_string(),
                cname: track.publisher.to_string(),
                ssrc: mint(&mut subscriber.last_ssrc),
                rtx_ssrc: mint(&mut subscriber.last_ssrc),
                stereo: is_stereo(&track.info),
                wanted: self.subscriptions.layer(sid),
                codecs: codecs_of(&track.info),
            });
            subscriber.legs.insert(sid.clone(), (leg, mid.to_owned()));
        }
        self.send_offer();
    }

    fn send_offer(&mut self) {
        let Some(subscriber) = &mut self.subscriber else { return };
        subscriber.id += 1;
        let id = subscriber.id;
        let sdp = subscriber.offer.offer(&subscriber.transport.local());
        let by_mid = subscriber.legs.iter().map(|(sid, (_, mid))| (mid.clone(), sid.to_string()));
        let mid_to_track_id: HashMap<String, String> = by_mid.collect();
        tracing::debug!(participant = %self.seat.sid, id, "offering");
        self.link.send(Message::Offer(SessionDescription { r#type: "offer".to_owned(), sdp, id, mid_to_track_id }));
    }

    /// After the client has come back: its network may be another one.
    pub(super) fn restart_subscriber(&mut self) {
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.transport.renew();
            self.send_offer();
        }
    }

    /// The client's answer to our offer. One to an older offer says nothing any more.
    pub(super) fn answer(&mut self, answer: &SessionDescription) -> Flow {
        let span = self.negotiating("server", answer.id);
        let current = |subscriber: &Subscriber| {
            (answer.id == 0 || answer.id == subscriber.id) && subscriber.offer.awaits_answer()
        };
        if !self.subscriber.as_ref().is_some_and(current) {
            return ControlFlow::Continue(());
        }
        let outcome = span.in_scope(|| {
            let Some(subscriber) = &mut self.subscriber else { return Ok(()) };
            let remote = RemoteDescription::parse(&answer.sdp)?;
            let accepted = subscriber.offer.accept(&remote)?;
            subscriber.transport.take(&accepted.transport);
            let carried = |leg: LegId| subscriber.send.iter().any(|section| section.leg == leg);
            let new: Vec<LegId> = accepted.send.iter().map(|s| s.leg).filter(|leg| !carried(*leg)).collect();
            (subscriber.extensions, subscriber.send) = (accepted.extensions, accepted.send);
            self.lead_legs();
            if let Some(subscriber) = &self.subscriber {
                subscriber.tell_worker();
            }
            let new: Vec<TrackSid> = new.iter().filter_map(|leg| self.track_on(*leg).cloned()).collect();
            self.subscribed(&new);
            self.unsettled = true;
            Ok(())
        });
        if let Err(error) = outcome {
            return self.refuse_description(&error);
        }
        ControlFlow::Continue(())
    }

    /// The leg on which the client gets a track.
    pub(super) fn leg_of(&self, sid: &TrackSid) -> Option<LegId> {
        match &self.subscriber {
            Some(subscriber) => subscriber.legs.get(sid).map(|(leg, _)| *leg),
            None => self.outlets.leg(sid).map(|leg| leg.leg),
        }
    }

    /// The track that a leg carries.
    pub(super) fn track_on(&self, leg: LegId) -> Option<&TrackSid> {
        match &self.subscriber {
            Some(subscriber) => subscriber.legs.iter().find(|(_, (own, _))| *own == leg).map(|(sid, _)| sid),
            None => self.outlets.legs().find(|(_, own)| own.leg == leg).map(|(_, own)| &own.track),
        }
    }
}

impl Subscriber {
    /// One of which the client has these sections and tracks already, or nothing.
    pub(super) fn new(
        transport: Transport,
        offer: SubscriberOffer,
        legs: BTreeMap<TrackSid, (LegId, String)>,
        last_ssrc: u32,
    ) -> Self {
        Self { transport, offer, id: 0, legs, extensions: ExtensionIds::default(), send: Vec::new(), last_ssrc }
    }

    /// How many tracks it carries.
    pub(super) fn carried(&self) -> usize {
        self.legs.len()
    }

    pub(super) fn tell_worker(&self) {
        self.transport.send(Command::Negotiated {
            transport: self.transport.id,
            extensions: self.extensions,
            receive: Vec::new(),
            send: self.send.clone(),
        });
    }
}
