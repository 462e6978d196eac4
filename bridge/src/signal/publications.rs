//! What a client publishes: the tracks it announced (`add_track`), the m-sections it offers, and which belongs to which.
//!
//! Both may come first. A track and a section belong together when the second token of the section's `a=msid` is the
//! track's client id (`cid`). Pure: no I/O, no clock.
#![expect(deprecated, reason = "older clients read and write layers, stereo and DTX of a track in deprecated fields")]

use std::collections::BTreeMap;

use livekit_protocol::video_layer::Mode;
use livekit_protocol::{
    AddTrackRequest, AudioTrackFeature, SimulcastCodec, SimulcastCodecInfo, TrackInfo, TrackSource, TrackType,
    VideoLayer,
};

use crate::media::control::{Codec, Kind, TrackId};
use crate::room::TrackSid;

/// Tracks one participant may publish or announce at a time.
const MAX_TRACKS: usize = 32;
/// Layers, codecs, features a track may list.
const MAX_LIST: usize = 8;
/// The longest client id, bytes.
const MAX_CID: usize = 256;

/// Why a track cannot be announced.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum AddRefusal {
    #[error("only audio and video tracks can be added: send data as data packets")]
    Unsupported,
    #[error("a second codec for a published track is not supported: publish it with one codec")]
    BackupCodec,
    #[error("at most {MAX_TRACKS} tracks can be published: unpublish one first")]
    TooMany,
    #[error("the track's cid is missing or a list in it is too long: send a cid of at most {MAX_CID} bytes")]
    Invalid,
}

/// An m-section of an offer as it matters here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Offered<'a> {
    pub(crate) mid: &'a str,
    pub(crate) kind: Kind,
    /// The client id, where the client sends on this section.
    pub(crate) cid: Option<&'a str>,
}

/// A section on which the client sends.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Bound {
    pub(crate) cid: String,
    pub(crate) kind: Kind,
    /// At the media worker.
    pub(crate) media: TrackId,
    /// `None` until the track is announced.
    pub(crate) info: Option<TrackInfo>,
}

impl Bound {
    pub(crate) fn sid(&self) -> Option<TrackSid> {
        self.info.as_ref().map(|info| TrackSid::from(info.sid.as_str()))
    }
}

/// What an offer changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// The section of this mid now carries an announced track.
    Published(String),
    /// The track is not sent any more.
    Unpublished(TrackSid),
}

#[derive(Clone, PartialEq, Debug)]
struct Pending {
    cids: Vec<String>,
    info: TrackInfo,
}

/// Everything one client publishes.
#[derive(Default, Debug)]
pub(crate) struct Publications {
    pending: Vec<Pending>,
    bound: BTreeMap<String, Bound>,
}

impl Publications {
    /// Takes an announced track. The second value is the mid of its section if that has been offered already.
    /// Announcing the same client id again before it is offered gives the same track.
    pub(crate) fn add(&mut self, request: AddTrackRequest) -> Result<(TrackInfo, Option<String>), AddRefusal> {
        if !request.sid.is_empty() {
            return Err(AddRefusal::BackupCodec);
        }
        let kind = kind_of(request.r#type()).ok_or(AddRefusal::Unsupported)?;
        let lists = [request.layers.len(), request.simulcast_codecs.len(), request.audio_features.len()];
        if request.cid.is_empty() || request.cid.len() > MAX_CID || lists.iter().any(|&length| length > MAX_LIST) {
            return Err(AddRefusal::Invalid);
        }
        if let Some(pending) = self.pending.iter().find(|pending| pending.cids.contains(&request.cid)) {
            return Ok((pending.info.clone(), None));
        }
        if self.pending.len() + self.bound.len() >= MAX_TRACKS {
            return Err(AddRefusal::TooMany);
        }
        let mut cids = vec![request.cid.clone()];
        cids.extend(request.simulcast_codecs.iter().map(|codec| codec.cid.clone()).filter(|cid| !cid.is_empty()));
        let info = describe(request);
        let early = |bound: &Bound| bound.info.is_none() && bound.kind == kind && cids.contains(&bound.cid);
        if let Some((mid, bound)) = self.bound.iter_mut().find(|(_, bound)| early(bound)) {
            bound.info = Some(info.clone());
            return Ok((info, Some(mid.clone())));
        }
        self.pending.push(Pending { cids, info: info.clone() });
        Ok((info, None))
    }

    /// Takes a track that was published through another bridge, by the client id that its section bears.
    pub(crate) fn restore(&mut self, cid: &str, info: TrackInfo) {
        if self.has(&info.sid) || self.pending.len() + self.bound.len() >= MAX_TRACKS || cid.len() > MAX_CID {
            return;
        }
        let mut cids = vec![cid.to_owned()];
        cids.extend(info.codecs.iter().map(|codec| codec.cid.clone()).filter(|cid| !cid.is_empty()));
        self.pending.push(Pending { cids, info });
    }

    /// Takes the sections of an offer, all of them.
    pub(crate) fn offered(&mut self, sections: &[Offered<'_>]) -> Vec<Change> {
        let mut changes = Vec::new();
        let still = |mid: &str, bound: &Bound| {
            sections.iter().any(|s| s.mid == mid && s.kind == bound.kind && s.cid == Some(&bound.cid))
        };
        self.bound.retain(|mid, bound| {
            let keep = still(mid, bound);
            if !keep {
                changes.extend(bound.sid().map(Change::Unpublished));
            }
            keep
        });
        for section in sections {
            let Some(cid) = section.cid else { continue };
            if self.bound.contains_key(section.mid) || self.bound.len() >= MAX_TRACKS {
                continue;
            }
            let info = self.take_pending(section.kind, cid, sections);
            if info.is_some() {
                changes.push(Change::Published(section.mid.to_owned()));
            }
            let bound = Bound { cid: cid.to_owned(), kind: section.kind, media: TrackId::next(), info };
            self.bound.insert(section.mid.to_owned(), bound);
        }
        changes
    }

    /// The announced track of a section: the one with its client id, else (some stacks change the id when the track is
    /// added to the PeerConnection) the first of its kind whose client id no section of the offer has.
    fn take_pending(&mut self, kind: Kind, cid: &str, sections: &[Offered<'_>]) -> Option<TrackInfo> {
        let named = |pending: &Pending, cid: &str| pending.cids.iter().any(|own| own == cid);
        let of_kind = |pending: &Pending| kind_of(pending.info.r#type()) == Some(kind);
        let exact = self.pending.iter().position(|pending| of_kind(pending) && named(pending, cid));
        let index = exact.or_else(|| {
            let elsewhere = |p: &Pending| sections.iter().filter_map(|s| s.cid).any(|cid| named(p, cid));
            self.pending.iter().position(|pending| of_kind(pending) && !elsewhere(pending))
        })?;
        Some(self.pending.remove(index).info)
    }

    /// What the section of this mid carries.
    pub(crate) fn section(&self, mid: &str) -> Option<&Bound> {
        self.bound.get(mid)
    }

    /// The published track that the media worker calls so.
    pub(crate) fn at_worker(&self, media: TrackId) -> Option<&TrackInfo> {
        self.bound.values().find(|bound| bound.media == media)?.info.as_ref()
    }

    /// The mid a track is sent on.
    pub(crate) fn mid_of(&self, sid: &TrackSid) -> Option<&str> {
        self.bound.iter().find(|(_, bound)| bound.sid().as_ref() == Some(sid)).map(|(mid, _)| mid.as_str())
    }

    /// The negotiated facts of a section become part of its track: mid, codec, RIDs from the lowest layer to the highest.
    pub(crate) fn negotiated(&mut self, mid: &str, codec: Option<Codec>, rids: &[String]) -> Option<TrackInfo> {
        let info = self.bound.get_mut(mid)?.info.as_mut()?;
        mid.clone_into(&mut info.mid);
        if let Some(codec) = codec {
            mime(codec).clone_into(&mut info.mime_type);
        }
        let layers = info.layers.iter_mut();
        for (index, layer) in layers.enumerate() {
            layer.spatial_layer = i32::try_from(index).unwrap_or_default();
            layer.rid = rids.get(index).cloned().unwrap_or_default();
        }
        let (mime_type, layers) = (info.mime_type.clone(), info.layers.clone());
        if let Some(first) = info.codecs.first_mut() {
            mid.clone_into(&mut first.mid);
            first.mime_type = mime_type;
            first.layers = layers;
        }
        Some(info.clone())
    }

    /// Mutes or unmutes a track, published or only announced. `None` when there is no such track.
    pub(crate) fn mute(&mut self, sid: &str, muted: bool) -> Option<()> {
        self.info_mut(sid)?.muted = muted;
        Some(())
    }

    /// Other features of a microphone. The changed description if the track is bound to a section.
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

    /// Forgets a track that the room unpublished; its section stays idle until the client stops it.
    pub(crate) fn revoke(&mut self, sid: &TrackSid) {
        self.pending.retain(|pending| pending.info.sid != sid.as_str());
        if let Some(mid) = self.mid_of(sid).map(str::to_owned)
            && let Some(bound) = self.bound.get_mut(&mid)
        {
            bound.info = None;
        }
    }

    /// Whether this client publishes, or has announced, the track.
    pub(crate) fn has(&self, sid: &str) -> bool {
        self.infos().any(|info| info.sid == sid)
    }

    fn infos(&self) -> impl Iterator<Item = &TrackInfo> {
        let bound = self.bound.values().filter_map(|bound| bound.info.as_ref());
        bound.chain(self.pending.iter().map(|pending| &pending.info))
    }

    fn info_mut(&mut self, sid: &str) -> Option<&mut TrackInfo> {
        let bound = self.bound.values_mut().filter_map(|bound| bound.info.as_mut());
        bound.chain(self.pending.iter_mut().map(|pending| &mut pending.info)).find(|info| info.sid == sid)
    }
}

fn kind_of(r#type: TrackType) -> Option<Kind> {
    match r#type {
        TrackType::Audio => Some(Kind::Audio),
        TrackType::Video => Some(Kind::Video),
        TrackType::Data => None,
    }
}

/// A codec's MIME type as the protocol writes it.
pub(crate) fn mime(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "audio/opus",
        Codec::Red => "audio/red",
        Codec::Vp8 => "video/VP8",
        Codec::Vp9 => "video/VP9",
        Codec::H264 => "video/H264",
        Codec::Av1 => "video/AV1",
    }
}

/// The codec a client wants to publish with (`VP8` or `video/VP8`, in any case), if it says and we know it.
pub(crate) fn codec_named(name: &str) -> Option<Codec> {
    const ALL: [Codec; 6] = [Codec::Opus, Codec::Red, Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1];
    let short = name.rsplit('/').next().unwrap_or_default();
    ALL.into_iter().find(|codec| mime(*codec).rsplit('/').next().is_some_and(|own| own.eq_ignore_ascii_case(short)))
}

/// The simulcast layers of a track, lowest first.
pub(crate) fn layers(info: &TrackInfo) -> &[VideoLayer] {
    info.codecs.first().map(|codec| codec.layers.as_slice()).filter(|layers| !layers.is_empty()).unwrap_or(&info.layers)
}

/// Whether a track has two channels.
pub(crate) fn is_stereo(info: &TrackInfo) -> bool {
    info.stereo || info.audio_features.contains(&AudioTrackFeature::TfStereo.into())
}

/// Whether a track may fall silent on the wire while nobody speaks.
pub(crate) fn may_pause(info: &TrackInfo) -> bool {
    !info.disable_dtx && !info.audio_features.contains(&AudioTrackFeature::TfNoDtx.into())
}

/// The protocol's description of a newly announced track, with a fresh sid.
fn describe(request: AddTrackRequest) -> TrackInfo {
    let by_quality = |mut layers: Vec<VideoLayer>| {
        layers.sort_by_key(|layer| layer.quality);
        layers
    };
    let first = request.simulcast_codecs.first();
    let codec = first.and_then(|codec| codec_named(&codec.codec));
    let own_layers = first.map(|codec| codec.layers.clone()).filter(|layers| !layers.is_empty());
    let layers = by_quality(own_layers.unwrap_or_else(|| request.layers.clone()));
    let mode = match (first.map(SimulcastCodec::video_layer_mode), codec) {
        (Some(mode), _) if mode != Mode::Unused => mode,
        (_, Some(Codec::Vp9 | Codec::Av1)) => Mode::MultipleSpatialLayersPerStream,
        _ => Mode::OneSpatialLayerPerStream,
    };
    let stream = match request.source() {
        _ if !request.stream.is_empty() => request.stream.clone(),
        // What belongs together is played in sync.
        TrackSource::ScreenShare | TrackSource::ScreenShareAudio => "screen_share".to_owned(),
        _ => "camera".to_owned(),
    };
    let mut audio_features = request.audio_features.clone();
    for (wanted, feature) in
        [(request.stereo, AudioTrackFeature::TfStereo), (request.disable_dtx, AudioTrackFeature::TfNoDtx)]
    {
        if wanted && !audio_features.contains(&feature.into()) {
            audio_features.push(feature.into());
        }
    }
    let mime_type = codec.map(mime).unwrap_or_default().to_owned();
    TrackInfo {
        sid: TrackSid::random().into(),
        r#type: request.r#type,
        name: request.name,
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast: mode != Mode::MultipleSpatialLayersPerStream && layers.len() > 1,
        disable_dtx: request.disable_dtx,
        source: request.source,
        codecs: vec![SimulcastCodecInfo {
            mime_type: mime_type.clone(),
            cid: request.cid,
            layers: layers.clone(),
            video_layer_mode: mode.into(),
            ..SimulcastCodecInfo::default()
        }],
        mime_type,
        layers,
        stereo: request.stereo,
        disable_red: request.disable_red,
        encryption: request.encryption,
        stream,
        audio_features,
        packet_trailer_features: request.packet_trailer_features,
        ..TrackInfo::default()
    }
}

#[cfg(test)]
#[path = "publications_tests.rs"]
mod tests;
