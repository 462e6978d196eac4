//! Our offers for v0's subscriber PeerConnection and the client's answers to them.

use super::codecs;
use super::error::SdpError;
use super::extensions::{self, Extension};
use super::remote::{RemoteDescription, RemoteSection, RemoteTransport, SectionKind, Setup};
use super::write::{self, LocalTransport, Section};
use crate::media::control::{Codec, ExtensionIds, Kind, LegId, SendSection, TrackId, Wanted};

/// A track to be sent to the subscriber.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OfferedTrack {
    /// This copy.
    pub leg: LegId,
    /// Of which published track.
    pub track: TrackId,
    /// Audio or video.
    pub kind: Kind,
    /// First token of `a=msid`: `PA_x|TR_y`.
    pub stream_id: String,
    /// Second token of `a=msid`: `TR_y`.
    pub track_id: String,
    /// Canonical name; tracks that share it are played in sync. The publisher's sid.
    pub cname: String,
    /// Our SSRC.
    pub ssrc: u32,
    /// Our RTX SSRC; unused for audio.
    pub rtx_ssrc: u32,
    /// The publisher sends two channels.
    pub stereo: bool,
    /// What of the track is wanted at first.
    pub wanted: Wanted,
    /// The codecs that it may come in; empty: not known. No others are offered for it.
    pub codecs: Vec<Codec>,
}

/// What an answer to our offer means for the media worker.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The client's ICE and DTLS.
    pub transport: RemoteTransport,
    /// For `Command::Negotiated`.
    pub extensions: ExtensionIds,
    /// For `Command::Negotiated`: the sections that the client receives.
    pub send: Vec<SendSection>,
}

/// An audio or video section. The data section is not among these; it is always the first, with mid 0.
#[derive(Debug)]
struct Slot {
    mid: String,
    kind: Kind,
    track: Option<OfferedTrack>,
    /// The leg in the last offer.
    offered: Option<LegId>,
    /// Answered as inactive, so that another track may take it. Not before: a browser that sees one track replaced by
    /// another without a pause fires no `track` event.
    free: bool,
}

/// The offering side of v0's subscriber PeerConnection.
#[derive(Debug)]
pub struct SubscriberOffer {
    session_id: u64,
    version: u64,
    slots: Vec<Slot>,
    /// How many of them the last offer had.
    offered: usize,
    changed: bool,
    awaiting: bool,
}

impl Default for SubscriberOffer {
    fn default() -> Self {
        Self::new()
    }
}

impl SubscriberOffer {
    /// Without tracks: only the data section, which the protocol wants offered right after the join.
    #[must_use]
    pub fn new() -> Self {
        Self {
            session_id: write::session_id(),
            version: 0,
            slots: Vec::new(),
            offered: 0,
            changed: true,
            awaiting: false,
        }
    }

    /// Goes on with what another server has offered last. `carried` says which track a section that it sent on carries now;
    /// a section without one is offered inactive, and may carry another one after that.
    ///
    /// # Errors
    /// It is not an offer of a server like this one: its sections are not a data section and media sections behind it, in
    /// the order of their mids.
    pub fn restore(
        last: &RemoteDescription,
        mut carried: impl FnMut(&RemoteSection, Kind) -> Option<OfferedTrack>,
    ) -> Result<Self, SdpError> {
        let mut slots = Vec::new();
        for (index, section) in last.sections.iter().enumerate() {
            match section.kind {
                _ if section.mid != index.to_string() => {
                    return Err(SdpError::Reordered { index, was: index.to_string(), is: section.mid.clone() });
                }
                SectionKind::Data if index == 0 => {}
                SectionKind::Media(kind) if index > 0 => {
                    let sends = section.direction.sends();
                    let track = if sends { carried(section, kind) } else { None };
                    slots.push(Slot { mid: section.mid.clone(), kind, track, offered: None, free: !sends });
                }
                _ => return Err(SdpError::attribute("mid", section.mid.as_str())),
            }
        }
        Ok(Self { slots, ..Self::new() })
    }

    fn free(&self, kind: Kind) -> Option<usize> {
        self.slots.iter().position(|slot| slot.free && slot.track.is_none() && slot.kind == kind)
    }

    /// Whether the next track of this kind gets a section that another one had. Browsers call what they receive in it by
    /// the first one's track id for ever: then only the stream's id can tell which track it is.
    #[must_use]
    pub fn takes_over(&self, kind: Kind) -> bool {
        self.free(kind).is_some()
    }

    /// Adds a track in a free section of its kind or a new one. Returns its mid.
    pub fn add(&mut self, track: OfferedTrack) -> &str {
        self.changed = true;
        let index = self.free(track.kind).unwrap_or_else(|| {
            let mid = (self.slots.len() + 1).to_string();
            self.slots.push(Slot { mid, kind: track.kind, track: None, offered: None, free: false });
            self.slots.len() - 1
        });
        let slot = &mut self.slots[index];
        slot.free = false;
        slot.track = Some(track);
        &slot.mid
    }

    /// Removes a track; its section becomes inactive. False if it is not there.
    pub fn remove(&mut self, leg: LegId) -> bool {
        let found = self.slots.iter_mut().find(|slot| slot.track.as_ref().is_some_and(|track| track.leg == leg));
        let Some(slot) = found else { return false };
        slot.track = None;
        // Never offered: nobody has seen it.
        slot.free = slot.offered.is_none();
        self.changed = true;
        true
    }

    /// m-sections for media, those without a track among them.
    #[must_use]
    pub fn sections(&self) -> usize {
        self.slots.len()
    }

    /// Whether tracks came or went since the last [`Self::offer`].
    #[must_use]
    pub fn needs_offer(&self) -> bool {
        self.changed
    }

    /// Whether an offer is out; only one may be at a time.
    #[must_use]
    pub fn awaits_answer(&self) -> bool {
        self.awaiting
    }

    /// The offer of what there is now. With other ICE credentials in `local` than before it asks for an ICE restart.
    pub fn offer(&mut self, local: &LocalTransport) -> String {
        self.version += 1;
        self.changed = false;
        self.awaiting = true;
        self.offered = self.slots.len();
        let mut sections = vec![(Some("0".to_owned()), Section::data().finish("0", local, "actpass", true))];
        for slot in &mut self.slots {
            slot.offered = slot.track.as_ref().map(|track| track.leg);
            let mut codecs = codecs::ours(slot.kind);
            if let Some(track) = &slot.track {
                codecs::narrow(&mut codecs, &track.codecs);
                for opus in codecs.iter_mut().filter(|codec| track.stereo && codec.payload.codec == Codec::Opus) {
                    opus.fmtp.push_str(";stereo=1;sprop-stereo=1");
                }
            }
            let mut section = Section::rtp(write::media_name(slot.kind), &codecs);
            for (extension, id) in extensions::sent(slot.kind) {
                section.value("extmap", format!("{id} {}", extension.uri()));
            }
            if let Some(track) = &slot.track {
                section.flag("sendonly");
                let rtx = (slot.kind == Kind::Video).then_some(track.rtx_ssrc);
                section.source(&track.stream_id, &track.track_id, &track.cname, track.ssrc, rtx);
            } else {
                section.flag("inactive");
            }
            section.flag("rtcp-mux");
            section.flag("rtcp-rsize");
            sections.push((Some(slot.mid.clone()), section.finish(&slot.mid, local, "actpass", false)));
        }
        write::document(self.session_id, self.version, true, sections)
    }

    /// Reads the answer to the last offer. Tracks removed since are left out, tracks added since wait for the next offer.
    ///
    /// # Errors
    /// When it cannot be read or its sections are not those of the offer. The offer counts as unanswered then.
    pub fn accept(&mut self, answer: &RemoteDescription) -> Result<Accepted, SdpError> {
        let mids = std::iter::once("0").chain(self.slots[..self.offered].iter().map(|slot| slot.mid.as_str()));
        for (index, was) in mids.enumerate() {
            let is = answer.sections.get(index).map_or("", |section| section.mid.as_str());
            if is != was {
                return Err(SdpError::Reordered { index, was: was.to_owned(), is: is.to_owned() });
            }
        }
        if answer.transport.setup == Setup::ActPass {
            return Err(SdpError::attribute("setup", "0"));
        }
        let mut accepted =
            Accepted { transport: answer.transport.clone(), extensions: ExtensionIds::default(), send: Vec::new() };
        for slot in &mut self.slots[..self.offered] {
            let Some(section) = answer.section(&slot.mid) else { continue };
            let ours = extensions::sent(slot.kind);
            for extension in &section.extensions {
                if ours.contains(&(extension.extension, extension.id)) {
                    *extension.extension.slot(&mut accepted.extensions) = extension.id;
                }
            }
            let Some(track) = &slot.track else {
                slot.free = slot.offered.is_none();
                continue;
            };
            if slot.offered != Some(track.leg) || section.rejected || !section.direction.receives() {
                continue;
            }
            let payload_types = codecs::ours(slot.kind)
                .into_iter()
                .map(|codec| codec.payload)
                .filter_map(|mut ours| {
                    let theirs = section.codecs.iter().find(|codec| codec.payload.number == ours.number)?;
                    ours.rtx = ours.rtx.filter(|rtx| theirs.payload.rtx == Some(*rtx));
                    (theirs.payload.codec == ours.codec).then_some(ours)
                })
                .collect::<Vec<_>>();
            if !payload_types.is_empty() {
                accepted.send.push(SendSection {
                    leg: track.leg,
                    track: track.track,
                    mid: slot.mid.clone(),
                    payload_types,
                    ssrc: track.ssrc,
                    rtx_ssrc: track.rtx_ssrc,
                    transport_wide: section.extensions.iter().any(|known| known.extension == Extension::Twcc)
                        && section.codecs.iter().any(|codec| codec.feedback.twcc),
                    wanted: track.wanted,
                });
            }
        }
        self.awaiting = false;
        Ok(accepted)
    }
}

#[cfg(test)]
#[path = "offer_tests.rs"]
mod tests;
