//! Tracks and sections find each other, whichever comes first.

use livekit_protocol::VideoQuality;

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

#[test]
fn announced_then_offered() {
    let mut own = Publications::default();
    let (info, mid) = own.add(microphone("m")).unwrap();
    assert_eq!(mid, None);
    assert_eq!(own.offered(&[video("0", "x"), audio("1", "m")]), [Change::Published("1".into())]);
    assert_eq!(own.section("1").unwrap().sid(), Some(sid(&info)));
    assert_eq!(own.mid_of(&sid(&info)), Some("1"));
    assert_eq!(own.section("0").unwrap().info, None, "nobody announced x");
}

#[test]
fn offered_then_announced() {
    let mut own = Publications::default();
    assert_eq!(own.offered(&[audio("0", "m")]), []);
    let media = own.section("0").unwrap().media;
    let (info, mid) = own.add(microphone("m")).unwrap();
    assert_eq!(mid.as_deref(), Some("0"));
    assert_eq!(own.section("0").unwrap().sid(), Some(sid(&info)));
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
    assert_eq!(own.section("0").unwrap().sid(), Some(sid(&b)), "a is in section 1, so section 0 is b");
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
    let layers: Vec<_> = layers(&info).iter().map(|l| (l.height, l.rid.as_str(), l.spatial_layer)).collect();
    assert_eq!(layers, [(180, "q", 0), (360, "h", 1), (720, "f", 2)]);
    assert_eq!((info.mid.as_str(), info.mime_type.as_str()), ("3", "video/VP8"));
    assert_eq!(own.negotiated("9", None, &[]), None);
}

#[test]
fn refusals() {
    let mut own = Publications::default();
    let data = AddTrackRequest { r#type: TrackType::Data.into(), ..microphone("d") };
    assert_eq!(own.add(data), Err(AddRefusal::Unsupported));
    assert_eq!(own.add(AddTrackRequest { sid: "TR_x".into(), ..camera("c") }), Err(AddRefusal::BackupCodec));
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
    assert_eq!(own.section("0").unwrap().info, None);
    assert!(!own.has(&c.sid));
}
