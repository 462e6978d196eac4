//! Who gets which track in which layer.

use livekit_protocol::SimulcastCodecInfo;

use super::*;

fn sid(name: &str) -> TrackSid {
    TrackSid::from(name)
}

fn layer(quality: VideoQuality, width: u32, height: u32) -> VideoLayer {
    VideoLayer { quality: quality.into(), width, height, ..Default::default() }
}

fn camera() -> Available {
    let layers = vec![
        layer(VideoQuality::Low, 320, 180),
        layer(VideoQuality::Medium, 640, 360),
        layer(VideoQuality::High, 1280, 720),
    ];
    Available {
        publisher: ParticipantSid::from("PA_p"),
        kind: Kind::Video,
        media: TrackId(1),
        codec: None,
        layers: layers.len(),
        info: TrackInfo {
            width: 1280,
            height: 720,
            codecs: vec![SimulcastCodecInfo { layers, ..Default::default() }],
            ..Default::default()
        }
        .into(),
    }
}

fn microphone() -> Available {
    Available { kind: Kind::Audio, layers: 1, info: TrackInfo::default().into(), ..camera() }
}

fn names(subscriptions: &Subscriptions) -> Vec<&str> {
    subscriptions.wanted().map(|(sid, _)| sid.as_str()).collect()
}

fn settings(quality: VideoQuality, width: u32, height: u32) -> UpdateTrackSettings {
    UpdateTrackSettings { quality: quality.into(), width, height, ..Default::default() }
}

#[test]
fn auto_subscribe_takes_all_but_the_declined() {
    let mut own = Subscriptions::new(true, false);
    own.ask([sid("TR_c")], false);
    for name in ["TR_b", "TR_a", "TR_c"] {
        own.available(sid(name), microphone());
    }
    assert_eq!(names(&own), ["TR_b", "TR_a"], "in the order of availability");
    own.ask([sid("TR_c")], true);
    own.ask([sid("TR_b")], false);
    assert_eq!(names(&own), ["TR_a", "TR_c"]);
    own.unavailable(&sid("TR_a"));
    assert_eq!(names(&own), ["TR_c"]);
}

#[test]
fn without_auto_subscribe_only_the_asked_for() {
    let mut own = Subscriptions::new(false, false);
    own.available(sid("TR_a"), microphone());
    own.ask([sid("TR_b")], true);
    assert!(names(&own).is_empty());
    own.available(sid("TR_b"), microphone());
    assert_eq!(names(&own), ["TR_b"], "asked before it was there");
}

#[test]
fn a_decision_survives_a_lapse_of_permission() {
    let mut own = Subscriptions::new(true, false);
    own.available(sid("TR_a"), microphone());
    own.ask([sid("TR_a")], false);
    own.unavailable(&sid("TR_a"));
    own.available(sid("TR_a"), microphone());
    assert!(names(&own).is_empty());
}

#[test]
fn an_updated_track_keeps_its_place() {
    let mut own = Subscriptions::new(true, false);
    own.available(sid("TR_a"), microphone());
    own.available(sid("TR_b"), microphone());
    own.available(sid("TR_a"), camera());
    assert_eq!(names(&own), ["TR_a", "TR_b"]);
    assert_eq!(own.track(&sid("TR_a")).unwrap().kind, Kind::Video);
}

#[test]
fn layers_follow_what_is_shown() {
    let best = Wanted::BEST;
    let nth = |n| Wanted::up_to(n);
    let cases = [
        (settings(VideoQuality::Low, 0, 0), nth(0)),
        (settings(VideoQuality::Medium, 0, 0), nth(1)),
        (settings(VideoQuality::High, 0, 0), best),
        (settings(VideoQuality::High, 160, 90), nth(0)),
        (settings(VideoQuality::High, 400, 225), nth(0)),
        (settings(VideoQuality::High, 402, 226), nth(1)),
        (settings(VideoQuality::High, 640, 360), nth(1)),
        (settings(VideoQuality::Low, 1280, 720), best),
        (settings(VideoQuality::Low, 3840, 2160), best),
        (UpdateTrackSettings { disabled: true, ..settings(VideoQuality::High, 0, 0) }, Wanted::PAUSED),
    ];
    for (settings, expected) in cases {
        let mut own = Subscriptions::new(true, false);
        own.set(sid("TR_c"), &settings);
        own.available(sid("TR_c"), camera());
        assert_eq!(own.layer(&sid("TR_c")), expected, "{settings:?}");
    }
}

#[test]
fn portrait_pictures_are_measured_by_their_width() {
    let mut own = Subscriptions::new(true, false);
    let mut portrait = camera();
    let info = Arc::make_mut(&mut portrait.info);
    (info.width, info.height) = (720, 1280);
    for layer in &mut info.codecs[0].layers {
        (layer.width, layer.height) = (layer.height, layer.width);
    }
    own.available(sid("TR_c"), portrait);
    own.set(sid("TR_c"), &settings(VideoQuality::High, 180, 320));
    assert_eq!(own.layer(&sid("TR_c")), Wanted::up_to(0));
}

#[test]
fn two_layers_low_and_medium() {
    let mut own = Subscriptions::new(true, false);
    let mut small = camera();
    Arc::make_mut(&mut small.info).codecs[0].layers.pop();
    small.layers = 2;
    own.available(sid("TR_c"), small);
    own.set(sid("TR_c"), &settings(VideoQuality::Medium, 0, 0));
    assert_eq!(own.layer(&sid("TR_c")), Wanted::up_to(1));
}

#[test]
fn before_anything_is_said() {
    let mut eager = Subscriptions::new(true, false);
    eager.available(sid("TR_c"), camera());
    assert_eq!(eager.layer(&sid("TR_c")), Wanted::BEST);
    let mut adaptive = Subscriptions::new(true, true);
    adaptive.available(sid("TR_c"), camera());
    adaptive.available(sid("TR_m"), microphone());
    assert_eq!(adaptive.layer(&sid("TR_c")), Wanted::up_to(0));
    assert_eq!(adaptive.layer(&sid("TR_m")), Wanted::BEST, "sound has one layer");
    assert_eq!(adaptive.layer(&sid("TR_none")), Wanted::PAUSED);
}

#[test]
fn wishes_are_bounded() {
    let mut own = Subscriptions::new(true, false);
    own.ask((0..MAX_WISHES * 2).map(|n| sid(&n.to_string())), false);
    assert_eq!(own.wishes.len(), MAX_WISHES);
}

#[test]
fn frames_and_priority_are_passed_on() {
    let mut own = Subscriptions::new(true, true);
    own.available(sid("TR_c"), camera());
    let settings = UpdateTrackSettings { width: 320, height: 180, fps: 15, priority: 1, ..Default::default() };
    own.set(sid("TR_c"), &settings);
    assert_eq!(own.layer(&sid("TR_c")), Wanted { layer: Some(0), fps: 15, priority: 1 });
    own.set(sid("TR_c"), &UpdateTrackSettings { fps: 1000, priority: 9999, ..settings.clone() });
    assert_eq!(own.layer(&sid("TR_c")), Wanted { layer: Some(0), fps: 255, priority: 255 }, "bounded");
    own.set(sid("TR_c"), &UpdateTrackSettings { disabled: true, ..settings });
    assert_eq!(own.layer(&sid("TR_c")), Wanted::PAUSED);
}
