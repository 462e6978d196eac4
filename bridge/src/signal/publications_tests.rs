//! Tracks and sections find each other, whichever comes first.

use livekit_protocol::{SimulcastCodec, TrackSource, TrackType, VideoLayer, VideoQuality};

use super::super::description::layers_in;
use super::*;

fn microphone(cid: &str) -> AddTrackRequest {
    AddTrackRequest { cid: cid.into(), source: TrackSource::Microphone.into(), ..Default::default() }
}

fn camera(cid: &str) -> AddTrackRequest {
    let layer = |quality: VideoQuality, width, height| VideoLayer {
        quality: quality.into(),
        width,
        height,
        ..Default::default()
    };
    AddTrackRequest {
        cid: cid.into(),
        r#type: TrackType::Video.into(),
        source: TrackSource::Camera.into(),
        layers: vec![
            layer(VideoQuality::High, 1280, 720),
            layer(VideoQuality::Low, 320, 180),
            layer(VideoQuality::Medium, 640, 360),
        ],
        simulcast_codecs: vec![SimulcastCodec { codec: "vp8".into(), cid: cid.into(), ..Default::default() }],
        ..Default::default()
    }
}

fn audio<'a>(mid: &'a str, cid: &'a str) -> Offered<'a> {
    Offered { mid, kind: Kind::Audio, cid: Some(cid) }
}

fn video<'a>(mid: &'a str, cid: &'a str) -> Offered<'a> {
    Offered { mid, kind: Kind::Video, cid: Some(cid) }
}

fn sid(info: &TrackInfo) -> TrackSid {
    TrackSid::from(info.sid.as_str())
}

/// What a section carries: a track, in which of its codecs.
fn sent(own: &Publications, mid: &str) -> Option<(TrackSid, usize)> {
    own.section(mid).unwrap().carries.clone().map(|part| (part.sid, part.codec))
}

/// A camera in VP9 that can be had in VP8 as well.
fn camera_with_backup(cid: &str) -> AddTrackRequest {
    let codec = |codec: &str, cid: &str| SimulcastCodec { codec: codec.into(), cid: cid.into(), ..Default::default() };
    AddTrackRequest { simulcast_codecs: vec![codec("vp9", cid), codec("vp8", "")], ..camera(cid) }
}

/// The backup of that, as `livekit-client` announces it when it is asked for it.
fn backup(of: &TrackInfo, cid: &str) -> AddTrackRequest {
    let request = camera(cid);
    let codec = SimulcastCodec { layers: request.layers.clone(), ..request.simulcast_codecs[0].clone() };
    AddTrackRequest { sid: of.sid.clone(), simulcast_codecs: vec![codec], ..request }
}

/// By codec, whether any and whether all of its qualities are asked for.
fn asked(update: &SubscribedQualityUpdate) -> Vec<(&str, bool, bool)> {
    let codecs = update.subscribed_codecs.iter().map(|codec| {
        let enabled = |quality: &livekit_protocol::SubscribedQuality| quality.enabled;
        (codec.codec.as_str(), codec.qualities.iter().any(enabled), codec.qualities.iter().all(enabled))
    });
    codecs.collect()
}

#[test]
fn announced_then_offered() {
    let mut own = Publications::default();
    let (info, mids) = own.add(microphone("m")).unwrap();
    assert!(mids.is_empty());
    assert_eq!(own.offered(&[video("0", "x"), audio("1", "m")]), [Change::Published("1".into())]);
    assert_eq!(sent(&own, "1"), Some((sid(&info), 0)));
    assert_eq!(sent(&own, "0"), None, "nobody announced x");
}

#[test]
fn offered_then_announced() {
    let mut own = Publications::default();
    assert_eq!(own.offered(&[audio("0", "m")]), []);
    let media = own.section("0").unwrap().media;
    let (info, mids) = own.add(microphone("m")).unwrap();
    assert_eq!(mids, ["0"]);
    assert_eq!(sent(&own, "0"), Some((sid(&info), 0)));
    assert_eq!(own.section("0").unwrap().media, media, "the media track is the same before and after");
}

#[test]
fn repeated_offers_change_nothing_and_missing_sections_unpublish() {
    let mut own = Publications::default();
    let (first, _) = own.add(microphone("m")).unwrap();
    own.offered(&[audio("0", "m")]);
    assert_eq!(own.offered(&[audio("0", "m"), Offered { mid: "1", kind: Kind::Video, cid: None }]), []);
    let stopped = Offered { mid: "0", kind: Kind::Audio, cid: None };
    assert_eq!(own.offered(&[stopped]), [Change::Unpublished(sid(&first))]);
}

#[test]
fn unpublishing_and_publishing_the_same_track_at_once() {
    let mut own = Publications::default();
    let (old, _) = own.add(microphone("m")).unwrap();
    own.offered(&[audio("0", "m")]);
    let (new, _) = own.add(microphone("m")).unwrap();
    assert_ne!(old.sid, new.sid);
    let changes = own.offered(&[Offered { mid: "0", kind: Kind::Audio, cid: None }, audio("1", "m")]);
    assert_eq!(changes, [Change::Unpublished(sid(&old)), Change::Published("1".into())]);
}

#[test]
fn a_reused_section_is_a_new_track() {
    let mut own = Publications::default();
    let (old, _) = own.add(microphone("a")).unwrap();
    own.offered(&[audio("0", "a")]);
    let media = own.section("0").unwrap().media;
    own.add(microphone("b")).unwrap();
    let changes = own.offered(&[audio("0", "b")]);
    assert_eq!(changes, [Change::Unpublished(sid(&old)), Change::Published("0".into())]);
    assert_ne!(own.section("0").unwrap().media, media);
}

#[test]
fn a_changed_client_id_falls_back_to_the_kind_but_takes_nobody_elses_track() {
    let mut own = Publications::default();
    own.add(microphone("a")).unwrap();
    let (b, _) = own.add(microphone("b")).unwrap();
    let changes = own.offered(&[audio("0", "changed"), audio("1", "a")]);
    assert_eq!(changes.len(), 2);
    assert_eq!(sent(&own, "0"), Some((sid(&b), 0)), "a is in section 1, so section 0 is b");
    let mut own = Publications::default();
    own.add(camera("c")).unwrap();
    assert_eq!(own.offered(&[audio("0", "c")]), [], "a camera is not sent on an audio section");
}

#[test]
fn layers_are_sorted_and_get_their_rids() {
    let mut own = Publications::default();
    own.add(camera("c")).unwrap();
    own.offered(&[video("3", "c")]);
    let rids = ["q", "h", "f"].map(str::to_owned);
    let info = own.negotiated("3", Some(Codec::Vp8), &rids).unwrap();
    let layers: Vec<_> = layers_in(&info, None).iter().map(|l| (l.height, l.rid.as_str(), l.spatial_layer)).collect();
    assert_eq!(layers, [(180, "q", 0), (360, "h", 1), (720, "f", 2)]);
    assert_eq!((info.mid.as_str(), info.mime_type.as_str()), ("3", "video/VP8"));
    assert_eq!(own.negotiated("9", None, &[]), None);
}

#[test]
fn refusals() {
    let mut own = Publications::default();
    let data = AddTrackRequest { r#type: TrackType::Data.into(), ..microphone("d") };
    assert_eq!(own.add(data), Err(AddRefusal::Unsupported));
    assert_eq!(own.add(AddTrackRequest { sid: "TR_x".into(), ..camera("c") }), Err(AddRefusal::NoSuchTrack));
    assert_eq!(own.add(microphone("")), Err(AddRefusal::Invalid));
    assert_eq!(own.add(AddTrackRequest { audio_features: vec![0; 99], ..microphone("m") }), Err(AddRefusal::Invalid));
    for n in 0..MAX_TRACKS {
        own.add(microphone(&n.to_string())).unwrap();
    }
    assert_eq!(own.add(microphone("more")), Err(AddRefusal::TooMany));
    let (again, _) = own.add(microphone("0")).unwrap();
    assert!(own.has(&again.sid), "a repeated announcement is the same track");
}

#[test]
fn mute_features_and_size_reach_announced_and_bound_tracks() {
    let mut own = Publications::default();
    let (m, _) = own.add(microphone("m")).unwrap();
    let (c, _) = own.add(camera("c")).unwrap();
    own.offered(&[video("0", "c")]);
    assert_eq!(own.mute(&m.sid, true), Some(()));
    assert_eq!(own.mute("TR_none", true), None);
    assert!(own.set_features(&m.sid, vec![AudioTrackFeature::TfNoDtx.into()]).unwrap().muted);
    assert_eq!(own.set_size(&c.sid, 640, 480).unwrap().height, 480);
    own.revoke(&sid(&c));
    assert_eq!(sent(&own, "0"), None);
    assert!(!own.has(&c.sid));
}

#[test]
fn a_backup_is_asked_for_announced_and_offered() {
    let mut own = Publications::default();
    let (info, _) = own.add(camera_with_backup("c")).unwrap();
    own.offered(&[video("0", "c")]);
    own.negotiated("0", Some(Codec::Vp9), &[]).unwrap();
    let track = sid(&info);
    let update = own.ask(&track, Codec::Vp8).unwrap();
    assert_eq!(update.track_sid, info.sid);
    assert_eq!(asked(&update), [("vp9", true, true), ("vp8", true, true)]);
    assert_eq!(own.ask(&track, Codec::Vp8), None, "it has been told");
    assert_eq!(own.ask(&track, Codec::H264), None, "it cannot be had");
    assert_eq!(own.ask(&"TR_none".into(), Codec::Vp8), None);

    let (same, mids) = own.add(backup(&info, "b")).unwrap();
    assert_eq!((same.sid.as_str(), mids.len()), (info.sid.as_str(), 0));
    assert_eq!(own.add(backup(&info, "b")).unwrap().0, same, "a repeated announcement");
    let sections = [video("0", "c"), video("1", "b")];
    assert_eq!(own.offered(&sections), [Change::Published("1".into())]);
    let rids = ["q", "h", "f"].map(str::to_owned);
    let both = own.negotiated("1", Some(Codec::Vp8), &rids).unwrap();
    assert_eq!((both.mid.as_str(), both.mime_type.as_str()), ("0", "video/VP9"), "the track is its first codec");
    let known: Vec<_> = both.codecs.iter().map(|c| (c.mime_type.as_str(), c.cid.as_str(), c.mid.as_str())).collect();
    assert_eq!(known, [("video/VP9", "c", "0"), ("video/VP8", "b", "1")]);
    let layers: Vec<_> = both.codecs[1].layers.iter().map(|l| (l.height, l.rid.as_str())).collect();
    assert_eq!(layers, [(180, "q"), (360, "h"), (720, "f")]);
    let mids: Vec<_> = own.sections_of(&track).into_iter().map(|(mid, _)| mid).collect();
    assert_eq!(mids, ["0", "1"]);
    assert_eq!(own.ask(&track, Codec::Vp8), None, "it is sent");
}

#[test]
fn each_codec_is_needed_by_itself() {
    let mut own = Publications::default();
    let (info, _) = own.add(camera_with_backup("c")).unwrap();
    own.offered(&[video("0", "c")]);
    let first = own.section("0").unwrap().media;
    assert_eq!(asked(&own.needed(first, 0).unwrap()), [("vp9", false, false), ("vp8", false, false)]);
    own.ask(&sid(&info), Codec::Vp8).unwrap();
    own.add(backup(&info, "b")).unwrap();
    own.offered(&[video("0", "c"), video("1", "b")]);
    own.negotiated("1", Some(Codec::Vp8), &["q", "h", "f"].map(str::to_owned)).unwrap();
    let second = own.section("1").unwrap().media;
    assert_eq!(asked(&own.needed(first, 3).unwrap()), [("vp9", true, true), ("vp8", true, true)]);
    assert_eq!(asked(&own.needed(second, 1).unwrap()), [("vp9", true, true), ("vp8", true, false)]);
    assert_eq!(asked(&own.needed(second, 0).unwrap()), [("vp9", true, true), ("vp8", false, false)]);
    assert_eq!(asked(&own.needed(first, 0).unwrap()), [("vp9", false, false), ("vp8", false, false)]);
    assert_eq!(own.needed(TrackId::next(), 1), None);
}

#[test]
fn a_backup_goes_alone_and_with_its_track() {
    let mut own = Publications::default();
    let (info, _) = own.add(camera_with_backup("c")).unwrap();
    let track = sid(&info);
    own.add(backup(&info, "b")).unwrap();
    assert_eq!(own.offered(&[video("0", "c"), video("1", "b")]).len(), 2);
    assert_eq!(own.offered(&[video("0", "c")]), [Change::CodecStopped(track.clone())]);
    assert_eq!(own.info(&track).unwrap().codecs[1].cid, "");
    assert!(own.ask(&track, Codec::Vp8).is_some(), "it can be had again");
    own.add(backup(&info, "d")).unwrap();
    own.offered(&[video("0", "c"), video("2", "d")]);
    assert_eq!(sent(&own, "2"), Some((track.clone(), 1)));
    let second = own.section("2").unwrap().media;
    assert_eq!(own.offered(&[video("2", "d")]), [Change::Unpublished(track.clone())]);
    assert_eq!(sent(&own, "2"), None, "without the first codec there is no track");
    assert_eq!(own.needed(second, 0), None);
    assert!(!own.has(&info.sid));

    let (info, _) = own.add(camera_with_backup("e")).unwrap();
    own.add(backup(&info, "f")).unwrap();
    own.offered(&[video("0", "e"), video("1", "f")]);
    assert_eq!(own.offered(&[]), [Change::Unpublished(sid(&info))], "once");
}

#[test]
fn codecs_that_cannot_be_added() {
    let mut own = Publications::default();
    let (info, _) = own.add(camera_with_backup("c")).unwrap();
    let named = |codec: &str| SimulcastCodec { codec: codec.into(), cid: "b".into(), ..Default::default() };
    for codecs in [vec![], vec![named("opus")], vec![named("vp7")], vec![named("vp9")]] {
        let request = AddTrackRequest { simulcast_codecs: codecs.clone(), ..backup(&info, "b") };
        assert_eq!(own.add(request), Err(AddRefusal::Codec), "{codecs:?}");
    }
    own.add(backup(&info, "b")).unwrap();
    assert_eq!(own.add(backup(&info, "other")), Err(AddRefusal::Codec), "it is on its way");
    own.offered(&[video("0", "c"), video("1", "b")]);
    assert_eq!(own.add(backup(&info, "other")), Err(AddRefusal::Codec), "it is sent");
    let (voice, _) = own.add(microphone("m")).unwrap();
    assert_eq!(own.add(backup(&voice, "x")), Err(AddRefusal::NoSuchTrack));
    for (codec, expected) in [("h264", Ok(3)), ("av1", Ok(4))] {
        let request = AddTrackRequest { simulcast_codecs: vec![named(codec)], ..backup(&info, codec) };
        assert_eq!(own.add(request).map(|(info, _)| info.codecs.len()), expected, "one that was not announced before");
    }
}

#[test]
fn a_track_in_two_codecs_comes_from_another_bridge() {
    let mut own = Publications::default();
    let (info, _) = own.add(camera_with_backup("c")).unwrap();
    own.add(backup(&info, "b")).unwrap();
    own.offered(&[video("0", "c"), video("1", "b")]);
    own.negotiated("1", Some(Codec::Vp8), &[]).unwrap();
    let logged = own.negotiated("0", Some(Codec::Vp9), &[]).unwrap();
    let mut there = Publications::default();
    there.restore("c", logged.clone());
    assert_eq!(there.offered(&[video("0", "c"), video("1", "b")]).len(), 2);
    assert_eq!((sent(&there, "0"), sent(&there, "1")), (sent(&own, "0"), sent(&own, "1")));
    let mut there = Publications::default();
    there.restore("c", own.add(camera_with_backup("e")).unwrap().0);
    assert_eq!(
        there.offered(&[video("0", "e"), video("1", "x")]).len(),
        1,
        "a backup that was never sent is not waited for"
    );
}
