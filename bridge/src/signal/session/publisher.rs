//! The PeerConnection that the client offers: v0's for publishing, v1's for everything.
//!
//! On v1 we cannot offer. When what the client receives has to change, we say how many m-sections are missing
//! (`media_sections_requirement`, none being an answer too); the client adds them and offers.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::time::Instant;

use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_response::Message;
use livekit_protocol::{DisconnectReason, MediaSectionsRequirement, SessionDescription, TrackInfo};
use tracing::Instrument as _;

use super::super::description::{codec_named, codecs_of, is_stereo, may_pause};
use super::super::metrics::Ended;
use super::super::outlets::Missing;
use super::super::publications::{Bound, Change, Offered};
use super::super::request::Path;
use super::super::subscriptions::Available;
use super::super::transport::Transport;
use super::super::wire::Close;
use super::super::{dynacast, messages};
use super::{Flow, Session};
use crate::media::control::{Codec, Command as MediaCommand, ExtensionIds, Kind, ReceiveSection, SendSection};
use crate::room::{Command, LocalMedia, LocalTrack, TrackSid};
use crate::transport::sdp::{
    Answer, Answerer, OpusOptions, Plan, RemoteDescription, RemoteSection, SdpError, SectionKind, SendPlan,
};

/// What has been negotiated on this PeerConnection.
#[derive(Default, Debug)]
pub(crate) struct Negotiation {
    answerer: Answerer,
    extensions: ExtensionIds,
    pub(super) receive: Vec<ReceiveSection>,
    pub(super) send: Vec<SendSection>,
    /// m-sections of the last offer.
    sections: usize,
    /// The last requirement, and how many sections there were then.
    asked: Option<(Missing, usize)>,
    /// Whether the client has not offered since.
    waiting: bool,
    /// Where our SSRCs on this transport have got to.
    pub(super) last_ssrc: u32,
}

/// How the stream of a track that is sent to a client is called in its SDP. `in_sync`: the client finds its tracks by their
/// mids or ids, so that the tracks of one stream (a person's picture and voice) can bear one name and are played in sync.
pub(super) fn stream_id(track: &TrackSid, available: &Available, in_sync: bool) -> String {
    let (publisher, stream) = (&available.publisher, available.info.stream.as_str());
    // The publisher chose the name: it must not end up as other words of the SDP, nor as another track's sid.
    let plain = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let usable = (1..=MAX_STREAM_NAME).contains(&stream.len()) && plain(stream) && !stream.starts_with("TR_");
    if in_sync && usable { format!("{publisher}|{stream}") } else { format!("{publisher}|{track}") }
}

/// The longest name of a stream that is used, bytes.
const MAX_STREAM_NAME: usize = 64;

/// An SSRC unlike the `last` one handed out on a transport, and unlike 0.
pub(super) fn mint(last: &mut u32) -> u32 {
    *last = if *last == 0 { rand::random::<u32>() } else { last.wrapping_add(1) }.max(1);
    *last
}

impl Session {
    /// The client's offer: read, plan, answer, and tell the worker and the room what it brought.
    pub(super) async fn offer(&mut self, offer: SessionDescription) -> Flow {
        let span = self.negotiating("client", offer.id);
        async {
            let changes = match self.take_offer(&offer) {
                Ok(changes) => changes,
                Err(error) => return self.refuse_description(&error),
            };
            for change in changes {
                match change {
                    Change::Unpublished(sid) => self.unpublish(sid).await,
                    Change::CodecStopped(sid) => self.publish_codec(&sid).await,
                    Change::Published(mid) => self.publish(&mid).await,
                }
            }
            if self.path == Path::V1 {
                self.require_sections();
            }
            ControlFlow::Continue(())
        }
        .instrument(span)
        .await
    }

    /// The span of a negotiation. What has to be agreed before media can flow is a part of the joining.
    pub(super) fn negotiating(&self, by: &'static str, id: u32) -> tracing::Span {
        let span = tracing::info_span!("negotiation", participant = %self.seat.sid, by, id);
        if !self.active {
            self.joining.adopt(&span);
        }
        span
    }

    /// A description that cannot be used: a client that sends it again after reconnecting would get no further.
    pub(super) fn refuse_description(&mut self, error: &SdpError) -> Flow {
        tracing::info!(participant = %self.seat.sid, %error, "a description is refused");
        self.end(DisconnectReason::StateMismatch, Action::Disconnect, Close::Malformed, Ended::Refused)
    }

    fn take_offer(&mut self, offer: &SessionDescription) -> Result<Vec<Change>, SdpError> {
        let remote = RemoteDescription::parse(&offer.sdp)?;
        let publisher = self.publisher.get_or_insert_with(|| Transport::new(&self.media, false));
        publisher.prepare(&remote.transport);
        let changes = self.publications.offered(&offered(&remote));
        self.negotiation.waiting = false;
        self.negotiation.sections = remote.sections.len();
        if self.path == Path::V1 {
            self.outlets.sections(receivable(&remote));
            self.outlets.release(&self.subscriptions.wanted().map(|(sid, _)| sid.clone()).collect());
            let wanted = self.subscriptions.wanted().map(|(sid, track)| (sid, track.kind));
            let last_ssrc = &mut self.negotiation.last_ssrc;
            self.outlets.fill(wanted, || mint(last_ssrc));
        }
        let (publications, outlets, subscriptions) = (&self.publications, &self.outlets, &self.subscriptions);
        let in_sync = self.in_sync;
        let answer = self.negotiation.answerer.answer(&remote, &publisher.local(), |section| {
            if let Some(bound) = publications.section(&section.mid) {
                return receive(bound, bound.carries.as_ref().and_then(|part| publications.info(&part.sid)));
            }
            let leg = outlets.on(&section.mid);
            match leg.and_then(|leg| Some((leg, subscriptions.track(&leg.track)?))) {
                Some((leg, track)) => Plan::Send(SendPlan {
                    leg: leg.leg,
                    track: track.media,
                    stream_id: stream_id(&leg.track, track, in_sync),
                    track_id: leg.track.to_string(),
                    cname: track.publisher.to_string(),
                    ssrc: leg.ssrc,
                    rtx_ssrc: leg.rtx_ssrc,
                    wanted: subscriptions.layer(&leg.track),
                    codecs: codecs_of(&track.info),
                }),
                None => Plan::Inactive,
            }
        })?;
        publisher.take(&remote.transport);
        self.answered(offer.id, answer);
        Ok(changes)
    }

    /// The worker learns what was negotiated before the client does, so that nothing arrives unexpectedly.
    fn answered(&mut self, id: u32, answer: Answer) {
        let unheard: Vec<_> = self
            .outlets
            .legs()
            .filter(|(_, leg)| answer.send.iter().all(|sent| sent.leg != leg.leg))
            .map(|(_, leg)| leg.track.clone())
            .collect();
        let by_mid: HashMap<String, String> = self
            .outlets
            .legs()
            .filter(|(_, leg)| !unheard.contains(&leg.track))
            .map(|(outlet, leg)| (outlet.mid.clone(), leg.track.to_string()))
            .collect();
        let new = self.outlets.legs().filter(|(_, leg)| !leg.told && !unheard.contains(&leg.track));
        tracing::debug!(
            participant = %self.seat.sid, receive = answer.receive.len(), send = answer.send.len(), ?unheard, "answering"
        );
        self.subscribed(&new.map(|(_, leg)| leg.track.clone()).collect::<Vec<_>>());
        self.outlets.told();
        self.negotiation.extensions = answer.extensions;
        self.negotiation.receive = answer.receive;
        self.moving.recognise(&mut self.negotiation.receive);
        self.negotiation.send = answer.send;
        if self.path == Path::V1 {
            self.lead_legs();
        }
        self.tell_worker();
        let answer = SessionDescription { r#type: "answer".to_owned(), sdp: answer.sdp, id, mid_to_track_id: by_mid };
        self.link.send(Message::Answer(answer));
        for track in unheard {
            self.tell_undecodable(&track);
            self.subscriptions.ask([track], false);
            self.unsettled = true;
        }
    }

    pub(super) fn tell_worker(&self) {
        let Some(publisher) = &self.publisher else { return };
        publisher.send(MediaCommand::Negotiated {
            transport: publisher.id,
            extensions: self.negotiation.extensions,
            receive: self.negotiation.receive.clone(),
            send: self.negotiation.send.clone(),
        });
    }

    /// An announced track has its section, or one more for another codec: the room and the others hear of it.
    pub(super) async fn publish(&mut self, mid: &str) {
        let section = self.negotiation.receive.iter().find(|section| section.mid == mid);
        let Some(section) = section.cloned() else { return };
        let codec = section.payload_types.first().map(|payload| payload.codec);
        let Some(track) = self.publications.negotiated(mid, codec, &section.rids) else { return };
        if let (Some(publisher), Kind::Video) = (&self.publisher, section.kind) {
            publisher.send(dynacast::description(section.track, &track, codec));
        }
        let sid = TrackSid::from(track.sid.as_str());
        let all = u8::try_from(section.rids.len().max(1)).unwrap_or(u8::MAX);
        if self.publications.section(mid).and_then(|bound| bound.carries.as_ref()).is_some_and(|part| part.codec > 0) {
            self.layers_needed(section.track, all);
            return self.publish_codec(&sid).await;
        }
        let came_along = self.seat.room.state().track(&sid).is_some();
        let published = if came_along {
            // What the client was told elsewhere of the layers that are needed holds here no more.
            self.layers_needed(section.track, all);
            Ok(())
        } else {
            let command = Command::Publish { participant: self.seat.sid.clone(), track: Box::new(track) };
            self.seat.room.submit(self.actor(), command).await
        };
        match published {
            Ok(()) => self.bind(&sid),
            Err(refusal) => {
                tracing::info!(participant = %self.seat.sid, track = %sid, %refusal, "a track is refused");
                self.publications.revoke(&sid);
                let message = refusal.to_string();
                self.link.send(messages::response(0, messages::reason(&refusal), message, None));
                self.link.send(Message::TrackUnpublished(livekit_protocol::TrackUnpublishedResponse {
                    track_sid: sid.into(),
                }));
            }
        }
    }

    /// A published track is sent in one codec more, or fewer. Others are told before its media comes, so that they know its
    /// layers.
    async fn publish_codec(&mut self, sid: &TrackSid) {
        self.update_track(self.publications.info(sid).cloned()).await;
        // If it is not published yet, or not any more, there is nothing to be said.
        if self.seat.room.state().track(sid).is_some() {
            self.bind(sid);
        }
    }

    /// Says in which sections a published track comes, one for each codec.
    fn bind(&self, sid: &TrackSid) {
        let sections = self.publications.sections_of(sid).into_iter();
        let mut media = sections.filter_map(|(mid, bound)| {
            let section = self.negotiation.receive.iter().find(|section| section.mid == mid)?;
            let ReceiveSection { payload_types, rids, .. } = section.clone();
            Some((bound.carries.as_ref()?.codec, LocalMedia { track: bound.media, payload_types, rids }))
        });
        // Without its first codec it is no track.
        let Some((0, LocalMedia { track, payload_types, rids })) = media.next() else { return };
        let backups = media.map(|(_, media)| media).collect();
        let publisher = self.seat.sid.clone();
        self.seat.room.publish_media(
            sid,
            LocalTrack { media: track, payload_types, rids, publisher, relay: None, borrowed: false, backups },
        );
    }

    async fn unpublish(&mut self, track: TrackSid) {
        if let Err(refusal) = self.seat.room.submit(self.actor(), Command::Unpublish { track }).await {
            // It was unpublished by the room a moment ago, or goes when the participant leaves.
            tracing::debug!(participant = %self.seat.sid, %refusal, "a track was not unpublished");
        }
    }

    /// v1: what the client receives has changed. What it shall not have any more stops at once.
    pub(super) fn settle_v1(&mut self) {
        let wanted: BTreeSet<TrackSid> = self.subscriptions.wanted().map(|(sid, _)| sid.clone()).collect();
        if self.outlets.release(&wanted) {
            let outlets = &self.outlets;
            self.negotiation.send.retain(|section| outlets.legs().any(|(_, leg)| leg.leg == section.leg));
            self.tell_worker();
        }
        self.require_sections();
    }

    /// v1: asks the client for an offer with enough sections, if one is needed and has not been asked for.
    fn require_sections(&mut self) {
        let open = self.publisher.as_ref().is_some_and(Transport::is_open);
        let Some(missing) = self.outlets.needs(self.subscriptions.wanted().map(|(sid, track)| (sid, track.kind)))
        else {
            self.negotiation.asked = None;
            return;
        };
        let asked = Some((missing, self.negotiation.sections));
        // Asking a client again that did not add what it was asked for would go on for ever.
        if !open || self.negotiation.waiting || (!missing.is_none() && self.negotiation.asked == asked) {
            return;
        }
        if !self.clocks.settles(Instant::now(), self.negotiation.sections) {
            return;
        }
        (self.negotiation.asked, self.negotiation.waiting) = (asked, true);
        let requirement = MediaSectionsRequirement { num_audios: missing.audio, num_videos: missing.video };
        self.link.send(Message::MediaSectionsRequirement(requirement));
    }
}

/// The audio and video sections of an offer as publications see them.
fn offered(remote: &RemoteDescription) -> Vec<Offered<'_>> {
    let sections = remote.sections.iter().filter(|section| !section.rejected);
    sections
        .filter_map(|section| {
            let SectionKind::Media(kind) = section.kind else { return None };
            let cid = section.msid.as_ref().filter(|_| section.direction.sends()).map(|(_, track)| track.as_str());
            Some(Offered { mid: &section.mid, kind, cid })
        })
        .collect()
}

/// The sections of an offer on which the client only receives.
fn receivable(remote: &RemoteDescription) -> impl Iterator<Item = (&str, Kind)> {
    let only_receives = |section: &&RemoteSection| section.direction.receives() && !section.direction.sends();
    remote.sections.iter().filter(only_receives).filter_map(|section| match section.kind {
        SectionKind::Media(kind) => Some((section.mid.as_str(), kind)),
        SectionKind::Data | SectionKind::Other => None,
    })
}

/// How a section is answered on which the client sends.
fn receive(bound: &Bound, info: Option<&TrackInfo>) -> Plan {
    let codec = bound.carries.as_ref().map_or(0, |part| part.codec);
    let asked = info.and_then(|info| codec_named(&info.codecs.get(codec)?.mime_type));
    // RED would leave out subscribers that do not know it: the packet is passed on as it is.
    let prefer = if bound.kind == Kind::Audio { Some(Codec::Opus) } else { asked };
    let opus = OpusOptions { stereo: info.is_some_and(is_stereo), dtx: info.is_none_or(may_pause) };
    Plan::Receive { track: bound.media, prefer, opus }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::control::TrackId;

    #[test]
    fn tracks_of_one_stream_are_called_alike_where_the_client_can_take_it() {
        let id = |stream: &str, in_sync| {
            let info = TrackInfo { stream: stream.to_owned(), ..TrackInfo::default() }.into();
            let (publisher, media) = ("PA_a".into(), TrackId::next());
            let available = Available { publisher, kind: Kind::Audio, media, codec: None, layers: 1, info };
            stream_id(&TrackSid::from("TR_1"), &available, in_sync)
        };
        assert_eq!(id("camera", true), "PA_a|camera");
        assert_eq!(id("camera", false), "PA_a|TR_1");
        for unusable in ["", "TR_2", "a b", "a\r\na=x", "ä", &"x".repeat(65)] {
            assert_eq!(id(unusable, true), "PA_a|TR_1", "{unusable}");
        }
    }
}
