//! How the protocol describes a track: its codecs, their layers, how its sound is sent. Pure.
#![expect(deprecated, reason = "older clients read and write layers, stereo and DTX of a track in deprecated fields")]

use livekit_protocol::video_layer::Mode;
use livekit_protocol::{
    AddTrackRequest, AudioTrackFeature, SimulcastCodec, SimulcastCodecInfo, TrackInfo, TrackSource, TrackType,
    VideoLayer,
};

use crate::media::control::{Codec, Kind};
use crate::room::TrackSid;

/// Codecs in which one track is published.
pub(crate) const MAX_CODECS: usize = 4;

/// Audio or video; data is no media.
pub(crate) fn kind_of(r#type: TrackType) -> Option<Kind> {
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

/// The codec that a client calls so (`VP8` or `video/VP8`, in any case), if it says and we know it.
pub(crate) fn codec_named(name: &str) -> Option<Codec> {
    const ALL: [Codec; 6] = [Codec::Opus, Codec::Red, Codec::Vp8, Codec::H264, Codec::Vp9, Codec::Av1];
    let short = name.rsplit('/').next().unwrap_or_default();
    ALL.into_iter().find(|codec| mime(*codec).rsplit('/').next().is_some_and(|own| own.eq_ignore_ascii_case(short)))
}

/// The codecs in which a track may come, each once: those that it is described in, and the one that browsers go on with when
/// their encoder of another one fails. Empty for sound, and where nothing is described.
pub(crate) fn codecs_of(info: &TrackInfo) -> Vec<Codec> {
    let names = info.codecs.iter().map(|codec| codec.mime_type.as_str()).chain([info.mime_type.as_str()]);
    let mut codecs = Vec::new();
    for codec in names.filter_map(codec_named).filter(|codec| codec.kind() == Kind::Video) {
        if !codecs.contains(&codec) {
            codecs.push(codec);
        }
    }
    if !codecs.is_empty() && !codecs.contains(&Codec::Vp8) {
        codecs.push(Codec::Vp8);
    }
    codecs
}

/// In which of its codecs, counted from the first, a track is described to be.
pub(crate) fn place_of(info: &TrackInfo, codec: Codec) -> Option<usize> {
    info.codecs.iter().position(|known| codec_named(&known.mime_type) == Some(codec))
}

/// The layers of a track in one of its codecs, lowest first; empty where they are not described.
pub(crate) fn layers_at(info: &TrackInfo, place: usize) -> &[VideoLayer] {
    match info.codecs.get(place).map(|codec| codec.layers.as_slice()) {
        Some(layers) if place > 0 || !layers.is_empty() => layers,
        _ if place > 0 => &[],
        _ => &info.layers,
    }
}

/// The same by the codec's name. Of a codec that is not described they are those of the first.
pub(crate) fn layers_in(info: &TrackInfo, codec: Option<Codec>) -> &[VideoLayer] {
    layers_at(info, codec.and_then(|codec| place_of(info, codec)).unwrap_or_default())
}

/// Whether a track has two channels.
pub(crate) fn is_stereo(info: &TrackInfo) -> bool {
    info.stereo || info.audio_features.contains(&AudioTrackFeature::TfStereo.into())
}

/// Whether a track may fall silent on the wire while nobody speaks.
pub(crate) fn may_pause(info: &TrackInfo) -> bool {
    !info.disable_dtx && !info.audio_features.contains(&AudioTrackFeature::TfNoDtx.into())
}

/// The negotiated RIDs become part of the layers, lowest first.
pub(crate) fn name_layers(layers: &mut [VideoLayer], rids: &[String]) {
    for (index, layer) in layers.iter_mut().enumerate() {
        layer.spatial_layer = i32::try_from(index).unwrap_or_default();
        layer.rid = rids.get(index).cloned().unwrap_or_default();
    }
}

/// One codec of a track as a client announces it, with these layers where it names none for the codec itself.
pub(crate) fn codec_info(said: Option<&SimulcastCodec>, cid: &str, layers: &[VideoLayer]) -> SimulcastCodecInfo {
    let codec = said.and_then(|said| codec_named(&said.codec));
    let own = said.map(|said| said.layers.as_slice()).filter(|layers| !layers.is_empty());
    let mut layers = own.unwrap_or(layers).to_vec();
    layers.sort_by_key(|layer| layer.quality);
    let mode = match (said.map(SimulcastCodec::video_layer_mode), codec) {
        (Some(mode), _) if mode != Mode::Unused => mode,
        (_, Some(Codec::Vp9 | Codec::Av1)) => Mode::MultipleSpatialLayersPerStream,
        _ => Mode::OneSpatialLayerPerStream,
    };
    SimulcastCodecInfo {
        mime_type: codec.map(mime).unwrap_or_default().to_owned(),
        cid: cid.to_owned(),
        layers,
        video_layer_mode: mode.into(),
        ..SimulcastCodecInfo::default()
    }
}

/// All codecs of a newly announced track, the preferred one first. The others are for those who cannot decode it; most
/// clients send them only when they are asked to, and have no client id for them before.
fn codecs(request: &AddTrackRequest) -> Vec<SimulcastCodecInfo> {
    let mut codecs = vec![codec_info(request.simulcast_codecs.first(), &request.cid, &request.layers)];
    if request.r#type() != TrackType::Video {
        return codecs;
    }
    for said in request.simulcast_codecs.iter().skip(1) {
        let cid = Some(said.cid.as_str()).filter(|cid| !codecs.iter().any(|known| known.cid == *cid));
        let info = codec_info(Some(said), cid.unwrap_or_default(), &[]);
        let video = codec_named(&said.codec).is_some_and(|codec| codec.kind() == Kind::Video);
        let new = codecs.iter().all(|known| known.mime_type != info.mime_type);
        if video && new && codecs.len() < MAX_CODECS {
            codecs.push(info);
        }
    }
    codecs
}

/// The protocol's description of a newly announced track, with a fresh sid.
pub(crate) fn describe(request: AddTrackRequest) -> TrackInfo {
    let codecs = codecs(&request);
    let first = codecs.first().cloned().unwrap_or_default();
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
    TrackInfo {
        sid: TrackSid::random().into(),
        r#type: request.r#type,
        name: request.name,
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast: first.video_layer_mode() != Mode::MultipleSpatialLayersPerStream && first.layers.len() > 1,
        disable_dtx: request.disable_dtx,
        source: request.source,
        codecs,
        mime_type: first.mime_type,
        layers: first.layers,
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
mod tests {
    use super::*;

    fn said(codec: &str, cid: &str) -> SimulcastCodec {
        SimulcastCodec { codec: codec.into(), cid: cid.into(), ..Default::default() }
    }

    fn announced(codecs: Vec<SimulcastCodec>) -> AddTrackRequest {
        let layer = |height| VideoLayer { height, ..Default::default() };
        AddTrackRequest {
            cid: "c".into(),
            r#type: TrackType::Video.into(),
            layers: vec![layer(720)],
            simulcast_codecs: codecs,
            ..Default::default()
        }
    }

    #[test]
    fn every_announced_codec_is_described_once() {
        let codecs = ["vp9", "VP8", "vp8", "opus", "h265", "h264", "av1"];
        let info = describe(announced(codecs.map(|codec| said(codec, "")).to_vec()));
        let known: Vec<_> = info.codecs.iter().map(|codec| (codec.mime_type.as_str(), codec.cid.as_str())).collect();
        assert_eq!(known, [("video/VP9", "c"), ("video/VP8", ""), ("video/H264", ""), ("video/AV1", "")]);
        assert_eq!(info.mime_type, "video/VP9");
        assert_eq!(place_of(&info, Codec::H264), Some(2));
        assert_eq!(codecs_of(&info), [Codec::Vp9, Codec::Vp8, Codec::H264, Codec::Av1]);
        assert_eq!(codecs_of(&describe(announced(vec![said("av1", "c")]))), [Codec::Av1, Codec::Vp8]);
        assert_eq!(codecs_of(&describe(announced(Vec::new()))), []);
        let none = describe(announced(Vec::new()));
        assert_eq!((none.codecs.len(), none.mime_type.as_str()), (1, ""), "a client that names no codec");
        let same = describe(announced(vec![said("vp9", "c"), said("vp8", "c"), said("h264", "d")]));
        assert_eq!(same.codecs.iter().map(|codec| codec.cid.as_str()).collect::<Vec<_>>(), ["c", "", "d"]);
    }

    #[test]
    fn each_codec_has_its_own_layers() {
        let two =
            vec![VideoLayer { height: 180, ..Default::default() }, VideoLayer { height: 360, ..Default::default() }];
        let backup = SimulcastCodec { layers: two, ..said("vp8", "") };
        let info = describe(announced(vec![said("vp9", "c"), backup, said("h264", "")]));
        let heights = |codec| layers_in(&info, codec).iter().map(|layer| layer.height).collect::<Vec<_>>();
        assert_eq!(heights(Some(Codec::Vp9)), [720]);
        assert_eq!(heights(Some(Codec::Vp8)), [180, 360]);
        assert_eq!(heights(Some(Codec::H264)), [0; 0], "not described: not those of another codec");
        assert_eq!(
            (heights(None), heights(Some(Codec::Av1))),
            (vec![720], vec![720]),
            "not listed: the first is meant"
        );
        let older = TrackInfo { layers: info.layers.clone(), ..TrackInfo::default() };
        assert_eq!(layers_in(&older, Some(Codec::Vp8)).len(), 1);
    }
}
