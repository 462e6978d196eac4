//! What a client publishes: the tracks it announced (`add_track`), the m-sections it offers, and which belongs to which.
//!
//! Both may come first. A track and a section belong together when the second token of the section's `a=msid` is the
//! track's client id (`cid`). A track may be sent in several codecs, each on a section of its own with a client id of its
//! own: the first one is for everybody, the others (backups) for those who cannot decode it. Pure: no I/O, no clock.
#![expect(deprecated, reason = "older clients read stereo and DTX of a track in deprecated fields")]

use std::collections::{BTreeMap, BTreeSet};

use livekit_protocol::{AddTrackRequest, AudioTrackFeature, SubscribedQualityUpdate, TrackInfo};

use super::description::{MAX_CODECS, codec_info, codec_named, describe, kind_of, mime, name_layers, place_of};
use super::dynacast;
use crate::media::control::{Codec, Kind, TrackId};
use crate::room::TrackSid;

/// Tracks one participant may publish or announce at a time; each codec of a track counts.
const MAX_TRACKS: usize = 32;
/// Layers, codecs, features a track may list.
const MAX_LIST: usize = 8;
/// The longest client id, bytes.
const MAX_CID: usize = 256;
/// All the layers there are.
const ALL: u8 = u8::MAX;

/// Why a track cannot be announced.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum AddRefusal {
    #[error("only audio and video tracks can be added: send data as data packets")]
    Unsupported,
    #[error("at most {MAX_TRACKS} tracks can be published, each codec of a track counts: unpublish one first")]
    TooMany,
    #[error("the track's cid is missing or a list in it is too long: send a cid of at most {MAX_CID} bytes")]
    Invalid,
    #[error("there is no video track with this sid to add a codec to: add a new track without a sid")]
    NoSuchTrack,
    #[error(
        "a track has each codec once and at most {MAX_CODECS}: name a video codec in simulcast_codecs that it has not"
    )]
    Codec,
}

/// An m-section of an offer as it matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Offered<'a> {
    pub(crate) mid: &'a str,
    pub(crate) kind: Kind,
    /// The client id, where the client sends on this section.
    pub(crate) cid: Option<&'a str>,
}

/// A track in one of its codecs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub(crate) sid: TrackSid,
    /// Counted from the first, as in `TrackInfo.codecs`.
    pub(crate) codec: usize,
}

/// A section on which the client sends.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Bound {
    pub(crate) cid: String,
    pub(crate) kind: Kind,
    /// At the media worker.
    pub(crate) media: TrackId,
    /// `None` until it is announced.
    pub(crate) carries: Option<Part>,
    /// How many of its lowest layers anybody gets.
    needed: u8,
}

impl Bound {
    /// Whether it carries this track, and in which codec.
    fn codec_of(&self, sid: &TrackSid) -> Option<usize> {
        self.carries.as_ref().filter(|part| part.sid == *sid).map(|part| part.codec)
    }
}

/// What an offer changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// The section of this mid now carries an announced track, or another codec of one.
    Published(String),
    /// The track is not sent any more.
    Unpublished(TrackSid),
    /// The track is not sent any more in one of its other codecs.
    CodecStopped(TrackSid),
}

#[derive(Clone, PartialEq, Debug)]
struct Pending {
    cids: Vec<String>,
    kind: Kind,
    part: Part,
}

/// A track that is announced or published.
#[derive(Clone, PartialEq, Debug)]
struct Track {
    info: TrackInfo,
    /// The codecs that are not sent yet and that somebody needs.
    asked: BTreeSet<usize>,
}

/// Everything one client publishes.
#[derive(Default, Debug)]
pub(crate) struct Publications {
    tracks: BTreeMap<TrackSid, Track>,
    pending: Vec<Pending>,
    bound: BTreeMap<String, Bound>,
}

impl Publications {
    /// Takes an announced track, or with the sid of one another codec of it. The second value is the mids of its sections
    /// that have been offered already. Announcing the same client id again before it is offered gives the same track.
    pub(crate) fn add(&mut self, request: AddTrackRequest) -> Result<(TrackInfo, Vec<String>), AddRefusal> {
        let kind = kind_of(request.r#type()).ok_or(AddRefusal::Unsupported)?;
        let lists = [request.layers.len(), request.simulcast_codecs.len(), request.audio_features.len()];
        if request.cid.is_empty() || request.cid.len() > MAX_CID || lists.iter().any(|&length| length > MAX_LIST) {
            return Err(AddRefusal::Invalid);
        }
        if !request.sid.is_empty() {
            return self.add_codec(kind, &request);
        }
        let again = |pending: &&Pending| pending.part.codec == 0 && pending.cids.contains(&request.cid);
        if let Some(track) = self.pending.iter().find(again).and_then(|known| self.tracks.get(&known.part.sid)) {
            return Ok((track.info.clone(), Vec::new()));
        }
        self.has_room(1)?;
        let own = request.simulcast_codecs.first().map(|codec| codec.cid.clone());
        let info = describe(request);
        let mut mids = Vec::new();
        for (codec, known) in info.codecs.iter().enumerate().filter(|(_, known)| !known.cid.is_empty()) {
            let also = own.iter().filter(|own| codec == 0 && !own.is_empty());
            let cids = [&known.cid].into_iter().chain(also).cloned().collect();
            mids.extend(self.attach(cids, kind, Part { sid: info.sid.as_str().into(), codec }));
        }
        self.tracks.insert(info.sid.as_str().into(), Track { info: info.clone(), asked: BTreeSet::new() });
        Ok((info, mids))
    }

    /// Takes another codec of a track.
    fn add_codec(&mut self, kind: Kind, request: &AddTrackRequest) -> Result<(TrackInfo, Vec<String>), AddRefusal> {
        let sid = TrackSid::from(request.sid.as_str());
        let video = |track: &&Track| kind == Kind::Video && kind_of(track.info.r#type()) == Some(kind);
        let track = self.tracks.get(&sid).filter(video).ok_or(AddRefusal::NoSuchTrack)?;
        let said = request.simulcast_codecs.first();
        let named = said.and_then(|said| codec_named(&said.codec)).filter(|codec| codec.kind() == kind);
        let codec = place_of(&track.info, named.ok_or(AddRefusal::Codec)?).unwrap_or(track.info.codecs.len());
        let part = Part { sid: sid.clone(), codec };
        if let Some(pending) = self.pending.iter().find(|pending| pending.part == part) {
            let again = pending.cids.contains(&request.cid);
            return if again { Ok((track.info.clone(), Vec::new())) } else { Err(AddRefusal::Codec) };
        }
        let taken = self.bound.values().any(|bound| bound.carries.as_ref() == Some(&part));
        if codec == 0 || codec >= MAX_CODECS || taken {
            return Err(AddRefusal::Codec);
        }
        self.has_room(1)?;
        let described = codec_info(said, &request.cid, &request.layers);
        if let Some(Track { info, .. }) = self.tracks.get_mut(&sid) {
            match info.codecs.get_mut(codec) {
                Some(known) => *known = described,
                None => info.codecs.push(described),
            }
        }
        let mids = self.attach(vec![request.cid.clone()], kind, part).into_iter().collect();
        Ok((self.info(&sid).cloned().unwrap_or_default(), mids))
    }

    fn has_room(&self, more: usize) -> Result<(), AddRefusal> {
        let all = self.pending.len() + self.bound.len() + more;
        if all > MAX_TRACKS { Err(AddRefusal::TooMany) } else { Ok(()) }
    }

    /// Finds the section of what was announced, or lets it wait for one.
    fn attach(&mut self, cids: Vec<String>, kind: Kind, part: Part) -> Option<String> {
        let early = |bound: &Bound| bound.carries.is_none() && bound.kind == kind && cids.contains(&bound.cid);
        if let Some((mid, bound)) = self.bound.iter_mut().find(|(_, bound)| early(bound)) {
            bound.carries = Some(part);
            return Some(mid.clone());
        }
        self.pending.push(Pending { cids, kind, part });
        None
    }

    /// Takes a track that was published through another bridge, by the client id that its section bears.
    pub(crate) fn restore(&mut self, cid: &str, info: TrackInfo) {
        let Some(kind) = kind_of(info.r#type()) else { return };
        let sent = |codec: usize| codec == 0 || info.codecs.get(codec).is_some_and(|codec| !codec.cid.is_empty());
        let sent: Vec<usize> = (0..info.codecs.len().clamp(1, MAX_CODECS)).filter(|codec| sent(*codec)).collect();
        if self.has(&info.sid) || self.has_room(sent.len()).is_err() || cid.len() > MAX_CID {
            return;
        }
        let sid = TrackSid::from(info.sid.as_str());
        for codec in sent {
            let known = info.codecs.get(codec).map(|codec| codec.cid.clone()).filter(|cid| !cid.is_empty());
            let cids = [cid.to_owned()].into_iter().filter(|_| codec == 0).chain(known).collect();
            self.pending.push(Pending { cids, kind, part: Part { sid: sid.clone(), codec } });
        }
        self.tracks.insert(sid, Track { info, asked: BTreeSet::new() });
    }

    /// Takes the sections of an offer, all of them.
    pub(crate) fn offered(&mut self, sections: &[Offered<'_>]) -> Vec<Change> {
        let mut changes = self.drop_unsent(sections);
        for section in sections {
            let Some(cid) = section.cid else { continue };
            if self.bound.contains_key(section.mid) || self.bound.len() >= MAX_TRACKS {
                continue;
            }
            let carries = self.take_pending(section.kind, cid, sections);
            if carries.is_some() {
                changes.push(Change::Published(section.mid.to_owned()));
            }
            let media = TrackId::next();
            let bound = Bound { cid: cid.to_owned(), kind: section.kind, media, carries, needed: ALL };
            self.bound.insert(section.mid.to_owned(), bound);
        }
        changes
    }

    /// What is not sent any more. A track is its first codec: without that one its sections are idle until the client stops
    /// them.
    fn drop_unsent(&mut self, sections: &[Offered<'_>]) -> Vec<Change> {
        let still = |mid: &str, bound: &Bound| {
            sections.iter().any(|s| s.mid == mid && s.kind == bound.kind && s.cid == Some(&bound.cid))
        };
        let mut gone = Vec::new();
        self.bound.retain(|mid, bound| {
            let keep = still(mid, bound);
            if !keep {
                gone.extend(bound.carries.take());
            }
            keep
        });
        let (backups, first): (Vec<Part>, Vec<Part>) = gone.into_iter().partition(|part| part.codec > 0);
        let mut changes = Vec::new();
        for Part { sid, .. } in first {
            self.revoke(&sid);
            changes.push(Change::Unpublished(sid));
        }
        for Part { sid, codec } in backups {
            let Some(track) = self.tracks.get_mut(&sid) else { continue };
            track.asked.remove(&codec);
            if let Some(known) = track.info.codecs.get_mut(codec) {
                (known.cid, known.mid) = (String::new(), String::new());
            }
            changes.push(Change::CodecStopped(sid));
        }
        changes
    }

    /// The announced track of a section: the one with its client id, else (some stacks change the id when the track is
    /// added to the PeerConnection) the first of its kind whose client id no section of the offer has.
    fn take_pending(&mut self, kind: Kind, cid: &str, sections: &[Offered<'_>]) -> Option<Part> {
        let named = |pending: &Pending, cid: &str| pending.cids.iter().any(|own| own == cid);
        let exact = self.pending.iter().position(|pending| pending.kind == kind && named(pending, cid));
        let index = exact.or_else(|| {
            let elsewhere = |p: &Pending| sections.iter().filter_map(|s| s.cid).any(|cid| named(p, cid));
            self.pending.iter().position(|pending| pending.kind == kind && !elsewhere(pending))
        })?;
        Some(self.pending.remove(index).part)
    }

    /// What the section of this mid carries.
    pub(crate) fn section(&self, mid: &str) -> Option<&Bound> {
        self.bound.get(mid)
    }

    /// A track that is announced or published.
    pub(crate) fn info(&self, sid: &TrackSid) -> Option<&TrackInfo> {
        self.tracks.get(sid).map(|track| &track.info)
    }

    /// The sections on which a track is sent, each with its mid, that of the first codec first.
    pub(crate) fn sections_of(&self, sid: &TrackSid) -> Vec<(&str, &Bound)> {
        let mut sections: Vec<_> =
            self.bound.iter().filter_map(|(mid, bound)| Some((bound.codec_of(sid)?, (mid.as_str(), bound)))).collect();
        sections.sort_by_key(|(codec, _)| *codec);
        sections.into_iter().map(|(_, section)| section).collect()
    }

    /// Somebody gets so many of the lowest layers of what comes on a section: what its publisher is to be told.
    pub(crate) fn needed(&mut self, media: TrackId, layers: u8) -> Option<SubscribedQualityUpdate> {
        let bound = self.bound.values_mut().find(|bound| bound.media == media)?;
        bound.needed = layers;
        let sid = bound.carries.as_ref()?.sid.clone();
        self.qualities(&sid)
    }

    /// Somebody can decode a track in this codec only: what its publisher is to be told, if it does not send that yet and has
    /// not been asked.
    pub(crate) fn ask(&mut self, sid: &TrackSid, codec: Codec) -> Option<SubscribedQualityUpdate> {
        let track = self.tracks.get_mut(sid)?;
        let place = place_of(&track.info, codec)?;
        let sent = self.bound.values().any(|bound| bound.codec_of(sid) == Some(place));
        if sent || !track.asked.insert(place) {
            return None;
        }
        self.qualities(sid)
    }

    /// What is needed of a track in each of its codecs. One that is not sent yet is needed in full when somebody needs it.
    fn qualities(&self, sid: &TrackSid) -> Option<SubscribedQualityUpdate> {
        let Track { info, asked } = self.tracks.get(sid)?;
        let needed = |codec: usize| {
            let bound = self.bound.values().find(|bound| bound.codec_of(sid) == Some(codec));
            bound.map_or(if codec == 0 || asked.contains(&codec) { ALL } else { 0 }, |bound| bound.needed)
        };
        Some(dynacast::update(info, needed))
    }

    /// The negotiated facts of a section become part of its track: mid, codec, RIDs from the lowest layer to the highest.
    pub(crate) fn negotiated(&mut self, mid: &str, codec: Option<Codec>, rids: &[String]) -> Option<TrackInfo> {
        let Part { sid, codec: place } = self.bound.get(mid)?.carries.as_ref()?;
        let info = &mut self.tracks.get_mut(sid)?.info;
        if *place == 0 {
            mid.clone_into(&mut info.mid);
            if let Some(codec) = codec {
                mime(codec).clone_into(&mut info.mime_type);
            }
            name_layers(&mut info.layers, rids);
        }
        if let Some(known) = info.codecs.get_mut(*place) {
            mid.clone_into(&mut known.mid);
            if let Some(codec) = codec {
                mime(codec).clone_into(&mut known.mime_type);
            }
            name_layers(&mut known.layers, rids);
        }
        Some(info.clone())
    }

    /// Mutes or unmutes a track, published or only announced. `None` when there is no such track.
    pub(crate) fn mute(&mut self, sid: &str, muted: bool) -> Option<()> {
        self.info_mut(sid)?.muted = muted;
        Some(())
    }

    /// Other features of a microphone. The changed description if there is such a track.
    pub(crate) fn set_features(&mut self, sid: &str, features: Vec<i32>) -> Option<TrackInfo> {
        if features.len() > MAX_LIST {
            return None;
        }
        let info = self.info_mut(sid)?;
        info.stereo = features.contains(&AudioTrackFeature::TfStereo.into());
        info.disable_dtx = features.contains(&AudioTrackFeature::TfNoDtx.into());
        info.audio_features = features;
        Some(info.clone())
    }

    /// Another size of a camera's or screen's picture, pixels.
    pub(crate) fn set_size(&mut self, sid: &str, width: u32, height: u32) -> Option<TrackInfo> {
        let info = self.info_mut(sid)?;
        (info.width, info.height) = (width, height);
        Some(info.clone())
    }

    /// Forgets a track that the room unpublished; its sections stay idle until the client stops them.
    pub(crate) fn revoke(&mut self, sid: &TrackSid) {
        self.tracks.remove(sid);
        self.pending.retain(|pending| pending.part.sid != *sid);
        for bound in self.bound.values_mut().filter(|bound| bound.codec_of(sid).is_some()) {
            bound.carries = None;
        }
    }

    /// Whether this client publishes, or has announced, the track.
    pub(crate) fn has(&self, sid: &str) -> bool {
        self.tracks.contains_key(sid)
    }

    fn info_mut(&mut self, sid: &str) -> Option<&mut TrackInfo> {
        self.tracks.get_mut(sid).map(|track| &mut track.info)
    }
}

#[cfg(test)]
#[path = "publications_tests.rs"]
mod tests;
