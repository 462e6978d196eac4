//! Our answers to a client's offers: v1's only PeerConnection and v0's publisher.

use rtc::sdp::description::media::MediaDescription;

use super::codecs::{SectionCodec, narrow, parameter};
use super::error::SdpError;
use super::extensions::{self, Extension};
use super::remote::{RemoteDescription, RemoteSection, SectionKind, Setup};
use super::write::{self, LocalTransport, Section};
use crate::media::control::{
    Codec, ExtensionIds, Kind, LegId, PayloadType, ReceiveSection, SendSection, TrackId, Wanted,
};

/// How Opus is to be sent to us.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OpusOptions {
    /// Two channels.
    pub stereo: bool,
    /// Discontinuous transmission: next to nothing while silent.
    pub dtx: bool,
}

/// What becomes of an audio or video section of an offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Plan {
    /// The client publishes a track here. Becomes [`Plan::Inactive`] where the client does not send.
    Receive {
        /// The published track.
        track: TrackId,
        /// The codec to put first, so that the client uses it; others keep the client's order.
        prefer: Option<Codec>,
        /// For audio.
        opus: OpusOptions,
    },
    /// The client gets a track here. Becomes [`Plan::Inactive`] where the client does not receive.
    Send(SendPlan),
    /// Nothing for now; the section can be used later.
    Inactive,
}

/// A track sent to a client in a section of its offer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendPlan {
    /// This copy.
    pub leg: LegId,
    /// Of which published track.
    pub track: TrackId,
    /// First token of `a=msid`: `PA_x|TR_y`.
    pub stream_id: String,
    /// Second token of `a=msid`: `TR_y`.
    pub track_id: String,
    /// Canonical name; tracks that share it are played in sync. The publisher's sid.
    pub cname: String,
    /// Our SSRC, the same in each answer.
    pub ssrc: u32,
    /// Our RTX SSRC, the same in each answer.
    pub rtx_ssrc: u32,
    /// What of the track is wanted at first.
    pub wanted: Wanted,
    /// The codecs that it may come in; empty: not known. Others are not accepted for it where the client has offered one of these.
    pub codecs: Vec<Codec>,
}

/// An answer and what it means for the media worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// To send to the client.
    pub sdp: String,
    /// For `Command::Negotiated`.
    pub extensions: ExtensionIds,
    /// For `Command::Negotiated`: the sections where a track is published.
    pub receive: Vec<ReceiveSection>,
    /// For `Command::Negotiated`: the sections where a track is sent.
    pub send: Vec<SendSection>,
    /// Whether the data channel section is there and used.
    pub data: bool,
}

/// Answers the successive offers of one PeerConnection.
#[derive(Debug)]
pub struct Answerer {
    session_id: u64,
    version: u64,
    /// The sections so far: mid, and whether it was rejected (then another may take its place).
    sections: Vec<(String, bool)>,
    fingerprint: Option<[u8; 32]>,
}

impl Default for Answerer {
    fn default() -> Self {
        Self::new()
    }
}

impl Answerer {
    /// Of a new PeerConnection.
    #[must_use]
    pub fn new() -> Self {
        Self { session_id: write::session_id(), version: 0, sections: Vec::new(), fingerprint: None }
    }

    /// Answers an offer. `plan` is asked for each audio and video section that the client does not reject, in their order;
    /// the data channel section is accepted, everything else rejected. A section without a codec that we speak is rejected
    /// whatever the plan says.
    ///
    /// # Errors
    /// When the sections are not those of the last offer with new ones behind, or the certificate is another one. The
    /// state is as before then.
    pub fn answer(
        &mut self,
        offer: &RemoteDescription,
        local: &LocalTransport,
        mut plan: impl FnMut(&RemoteSection) -> Plan,
    ) -> Result<Answer, SdpError> {
        self.check(offer)?;
        let setup = if offer.transport.setup == Setup::Passive { "active" } else { "passive" };
        let mut answer = Answer {
            sdp: String::new(),
            extensions: ExtensionIds::default(),
            receive: vec![],
            send: vec![],
            data: false,
        };
        let mut sections: Vec<(Option<String>, MediaDescription)> = Vec::with_capacity(offer.sections.len());
        let mut active = false;
        for offered in &offer.sections {
            let used = (answer.data, answer.receive.len(), answer.send.len());
            let section = match offered.kind {
                _ if offered.rejected => None,
                SectionKind::Data => {
                    answer.data = true;
                    Some(Section::data())
                }
                SectionKind::Media(kind) => media(offered, kind, plan(offered), &mut answer),
                SectionKind::Other => None,
            };
            sections.push(match section {
                Some(section) => {
                    // The first section that is used carries the candidates of all. Pion and webrtc-rs read none from an
                    // inactive one: for them the first that is active has them as well.
                    let first = sections.iter().all(|(mid, _)| mid.is_none());
                    let first_active = !active && used != (answer.data, answer.receive.len(), answer.send.len());
                    active |= first_active;
                    (Some(offered.mid.clone()), section.finish(&offered.mid, local, setup, first || first_active))
                }
                None => {
                    let (media, protos, formats) = &offered.media;
                    (None, Section::new(media, 0, protos, formats.clone()).rejected(&offered.mid))
                }
            });
        }
        self.version += 1;
        self.sections = offer
            .sections
            .iter()
            .zip(&sections)
            .map(|(offered, (mid, _))| (offered.mid.clone(), mid.is_none()))
            .collect();
        self.fingerprint = Some(offer.transport.fingerprint);
        answer.sdp = write::document(self.session_id, self.version, offer.allow_mixed, sections);
        Ok(answer)
    }

    fn check(&self, offer: &RemoteDescription) -> Result<(), SdpError> {
        if self.fingerprint.is_some_and(|known| known != offer.transport.fingerprint) {
            return Err(SdpError::FingerprintChanged);
        }
        for (index, (was, rejected)) in self.sections.iter().enumerate() {
            let is = offer.sections.get(index).map(|section| section.mid.as_str());
            if is != Some(was) && (is.is_none() || !rejected) {
                let is = is.unwrap_or_default().to_owned();
                return Err(SdpError::Reordered { index, was: was.clone(), is });
            }
        }
        Ok(())
    }
}

/// An audio or video section; `None` rejects it.
fn media(offered: &RemoteSection, kind: Kind, plan: Plan, answer: &mut Answer) -> Option<Section> {
    let mut codecs = offered.codecs.clone();
    if codecs.is_empty() {
        return None;
    }
    let sends = offered.direction.sends();
    let receives = offered.direction.receives();
    let payload_types = |codecs: &[SectionCodec]| codecs.iter().map(|c| c.payload).collect::<Vec<PayloadType>>();
    let section = match plan {
        Plan::Receive { track, prefer, opus } if sends => {
            for codec in &mut codecs {
                codec.feedback.remb = false; // what clients send is controlled by transport-wide feedback
                if codec.payload.codec == Codec::Opus {
                    codec.fmtp = opus_wanted(&codec.fmtp, opus);
                }
            }
            // A stable sort: within the preferred codec and the others, the client's order.
            codecs.sort_by_key(|codec| Some(codec.payload.codec) != prefer);
            let mut section = Section::rtp(write::media_name(kind), &codecs);
            accept_extensions(&mut section, offered, kind, &mut answer.extensions);
            section.flag("recvonly");
            for rid in &offered.rids {
                section.value("rid", format!("{rid} recv"));
            }
            if !offered.rids.is_empty() {
                section.value("simulcast", format!("recv {}", offered.rids.join(";")));
            }
            answer.receive.push(ReceiveSection {
                mid: offered.mid.clone(),
                track,
                kind,
                payload_types: payload_types(&codecs),
                rids: lowest_first(&offered.rids),
                ssrcs: offered.ssrcs.clone(),
            });
            section
        }
        Plan::Send(plan) if receives => {
            narrow(&mut codecs, &plan.codecs);
            let mut section = Section::rtp(write::media_name(kind), &codecs);
            accept_extensions(&mut section, offered, kind, &mut answer.extensions);
            section.flag("sendonly");
            let rtx = codecs.iter().any(|codec| codec.payload.rtx.is_some()).then_some(plan.rtx_ssrc);
            section.source(&plan.stream_id, &plan.track_id, &plan.cname, plan.ssrc, rtx);
            answer.send.push(SendSection {
                leg: plan.leg,
                track: plan.track,
                mid: offered.mid.clone(),
                payload_types: payload_types(&codecs),
                ssrc: plan.ssrc,
                rtx_ssrc: plan.rtx_ssrc,
                transport_wide: offered.extensions.iter().any(|known| known.extension == Extension::Twcc)
                    && codecs.iter().any(|codec| codec.feedback.twcc),
                wanted: plan.wanted,
            });
            section
        }
        Plan::Receive { .. } | Plan::Send(_) | Plan::Inactive => {
            let mut section = Section::rtp(write::media_name(kind), &codecs);
            accept_extensions(&mut section, offered, kind, &mut answer.extensions);
            section.flag("inactive");
            section
        }
    };
    let mut section = section;
    section.flag("rtcp-mux");
    if offered.reduced_size {
        section.flag("rtcp-rsize");
    }
    Some(section)
}

/// Writes the extensions that both know, whichever way the section goes: Chromium 156 offers to a later section only what
/// earlier ones of its kind have negotiated, and fails to publish in layers when RID was not among it.
/// Ids are the same in the whole bundle (RFC 8843 §9.2): one that contradicts an earlier section is left out.
fn accept_extensions(section: &mut Section, offered: &RemoteSection, kind: Kind, ids: &mut ExtensionIds) {
    for extension in offered.extensions.iter().filter(|e| extensions::accepted(kind).contains(&e.extension)) {
        let slot = extension.extension.slot(ids);
        if *slot == 0 || *slot == extension.id {
            *slot = extension.id;
            let (id, direction, uri) = (extension.id, extension.answer_direction, extension.extension.uri());
            section.value("extmap", format!("{id}{direction} {uri}"));
        }
    }
}

/// The format parameters by which we ask for Opus: what the client offered, and what is wanted of it.
fn opus_wanted(offered: &str, options: OpusOptions) -> String {
    let mut wanted = vec!["minptime=10".to_owned(), "useinbandfec=1".to_owned()];
    let on = |key| parameter(offered, key) == Some("1");
    // Not `stereo=1`: that is what the client can play, and Firefox always writes it.
    if options.stereo || on("sprop-stereo") {
        wanted.push("stereo=1".to_owned());
    }
    if options.dtx || on("usedtx") {
        wanted.push("usedtx=1".to_owned());
    }
    for key in ["maxaveragebitrate", "maxplaybackrate"] {
        if let Some(value) = parameter(offered, key).and_then(|value| value.parse::<u32>().ok()) {
            wanted.push(format!("{key}={value}"));
        }
    }
    wanted.join(";")
}

/// RIDs from the lowest to the highest layer: the protocol's names in their order, others as the client lists them.
fn lowest_first(rids: &[String]) -> Vec<String> {
    let mut sorted = rids.to_vec();
    let rank = |rid: &String| ["q", "h", "f"].iter().position(|known| known == rid);
    if sorted.iter().all(|rid| rank(rid).is_some()) {
        sorted.sort_by_key(rank);
    }
    sorted
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
