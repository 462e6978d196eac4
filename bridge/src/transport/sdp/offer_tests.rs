//! The v0 subscriber offer: golden texts, what browsers answered to exactly these texts, and its invariants.

use proptest::prelude::*;

use super::super::fixtures::*;
use super::super::remote::{Direction, SectionKind};
use super::*;

fn track(leg: u64, kind: Kind) -> OfferedTrack {
    OfferedTrack {
        leg: LegId(leg),
        track: TrackId(leg + 100),
        kind,
        stream_id: format!("PA_anna|TR_{leg}"),
        track_id: format!("TR_{leg}"),
        cname: "PA_anna".to_owned(),
        ssrc: 1000 + u32::try_from(leg).unwrap(),
        rtx_ssrc: 2000 + u32::try_from(leg).unwrap(),
        stereo: leg == 3,
        wanted: Wanted::BEST,
        codecs: Vec::new(),
    }
}

#[test]
fn a_track_is_offered_in_the_codecs_that_it_comes_in() {
    let mut offer = subscriber();
    offer.add(OfferedTrack { codecs: vec![Codec::H264, Codec::Vp8], ..track(1, Kind::Video) });
    offer.add(track(2, Kind::Video));
    let sdp = offer.offer(&local());
    let sections: Vec<_> = sdp.split("\r\nm=video").skip(1).collect();
    assert!(sections[0].contains("VP8/") && sections[0].contains("H264/"));
    assert!(!sections[0].contains("VP9/") && !sections[0].contains("AV1/"), "{}", sections[0]);
    assert!(sections[1].contains("VP9/") && sections[1].contains("AV1/"), "not known: all");
}

fn subscriber() -> SubscriberOffer {
    SubscriberOffer { session_id: 42, ..SubscriberOffer::new() }
}

fn legs(accepted: &Accepted) -> Vec<(u64, &str)> {
    accepted.send.iter().map(|send| (send.leg.0, send.mid.as_str())).collect()
}

/// The four offers of a meeting and the browsers' answers to them.
#[test]
fn browsers_accept_the_growing_offer() {
    for answers in [
        [CHROMIUM_V0_ANSWER1, CHROMIUM_V0_ANSWER2, CHROMIUM_V0_ANSWER3, CHROMIUM_V0_ANSWER4],
        [FIREFOX_V0_ANSWER1, FIREFOX_V0_ANSWER2, FIREFOX_V0_ANSWER3, FIREFOX_V0_ANSWER4],
    ] {
        let answers = answers.map(|answer| RemoteDescription::parse(answer).unwrap());
        let mut offer = subscriber();
        assert!(offer.needs_offer(), "right after the join, without tracks");
        insta::assert_snapshot!("offer1", offer.offer(&local()));
        assert!(offer.awaits_answer() && !offer.needs_offer());
        assert_eq!(legs(&offer.accept(&answers[0]).unwrap()), []);
        assert!(!offer.awaits_answer());

        assert_eq!(offer.add(track(1, Kind::Audio)), "1");
        assert_eq!(offer.add(track(2, Kind::Video)), "2");
        insta::assert_snapshot!("offer2", offer.offer(&local()));
        let accepted = offer.accept(&answers[1]).unwrap();
        assert_eq!(legs(&accepted), [(1, "1"), (2, "2")]);
        assert!(!accepted.transport.dtls().active, "browsers are the DTLS client");
        let ids = ExtensionIds { mid: 4, twcc: 3, audio_level: 1, ..accepted.extensions };
        assert_eq!(accepted.extensions, ids);
        let vp8 = accepted.send[1].payload_types[0];
        assert_eq!((vp8.codec, vp8.number, vp8.rtx), (Codec::Vp8, 96, Some(97)));

        assert!(offer.remove(LegId(2)));
        insta::assert_snapshot!("offer3", offer.offer(&local()));
        assert_eq!(legs(&offer.accept(&answers[2]).unwrap()), [(1, "1")]);

        assert_eq!(offer.add(track(3, Kind::Audio)), "3");
        assert_eq!(offer.add(track(4, Kind::Video)), "2", "the section of track 2 is used again");
        insta::assert_snapshot!("offer4", offer.offer(&local()));
        assert_eq!(legs(&offer.accept(&answers[3]).unwrap()), [(1, "1"), (4, "2"), (3, "3")]);
    }
}

/// Another server goes on where this one was: the browser sees the same sections with the same tracks.
#[test]
fn another_server_goes_on_with_the_sections() {
    let answers = [CHROMIUM_V0_ANSWER1, CHROMIUM_V0_ANSWER2, CHROMIUM_V0_ANSWER3];
    let answers = answers.map(|answer| RemoteDescription::parse(answer).unwrap());
    let mut here = subscriber();
    here.offer(&local());
    here.accept(&answers[0]).unwrap();
    here.add(track(1, Kind::Audio));
    here.add(track(2, Kind::Video));
    let second = RemoteDescription::parse(&here.offer(&local())).unwrap();
    here.accept(&answers[1]).unwrap();

    let number = |section: &RemoteSection| section.msid.as_ref().unwrap().1.trim_start_matches("TR_").parse().unwrap();
    let mut there = SubscriberOffer::restore(&second, |section, kind| Some(track(number(section), kind))).unwrap();
    assert!(there.needs_offer() && !there.awaits_answer());
    let tracks = |offer: &str| {
        let offer = RemoteDescription::parse(offer).unwrap();
        offer.sections.into_iter().map(|section| (section.mid, section.direction, section.msid)).collect::<Vec<_>>()
    };
    let offer = there.offer(&local());
    assert_eq!(
        tracks(&offer),
        second.sections.iter().map(|s| (s.mid.clone(), s.direction, s.msid.clone())).collect::<Vec<_>>()
    );
    assert_eq!(legs(&there.accept(&answers[1]).unwrap()), [(1, "1"), (2, "2")]);
    assert_eq!(there.add(track(3, Kind::Audio)), "3");

    // A track that is gone meanwhile: its section may be used again once the client knows.
    let audio = |section: &RemoteSection, kind| (kind == Kind::Audio).then(|| track(number(section), kind));
    let mut there = SubscriberOffer::restore(&second, audio).unwrap();
    assert_eq!(there.add(track(4, Kind::Video)), "3", "not yet");
    let mut there = SubscriberOffer::restore(&second, audio).unwrap();
    let third = there.offer(&local());
    there.accept(&answers[2]).unwrap();
    assert_eq!(there.add(track(4, Kind::Video)), "2");
    let mut there = SubscriberOffer::restore(&RemoteDescription::parse(&third).unwrap(), audio).unwrap();
    assert_eq!(there.add(track(4, Kind::Video)), "2", "the client knew before");

    let mut strange = second.clone();
    strange.sections.swap(1, 2);
    assert!(matches!(SubscriberOffer::restore(&strange, audio), Err(SdpError::Reordered { index: 1, .. })));
    let mut strange = second;
    strange.sections[1].kind = SectionKind::Other;
    assert!(SubscriberOffer::restore(&strange, audio).is_err());
}

#[test]
fn a_section_is_used_again_only_after_it_was_answered_as_inactive() {
    let mut offer = subscriber();
    offer.offer(&local());
    offer.add(track(1, Kind::Audio));
    offer.add(track(2, Kind::Video));
    offer.offer(&local());
    offer.remove(LegId(2));
    assert_eq!(offer.add(track(5, Kind::Video)), "3", "the client may not have noticed yet that track 2 is gone");
    let answer = RemoteDescription::parse(CHROMIUM_V0_ANSWER2).unwrap();
    assert_eq!(
        legs(&offer.accept(&answer).unwrap()),
        [(1, "1")],
        "neither the one removed nor the one not yet offered"
    );
    assert!(offer.needs_offer());
}

#[test]
fn an_answer_to_something_else_is_refused() {
    let mut offer = subscriber();
    offer.offer(&local());
    offer.add(track(1, Kind::Audio));
    offer.add(track(2, Kind::Video));
    offer.offer(&local());
    let short = RemoteDescription::parse(CHROMIUM_V0_ANSWER1).unwrap();
    let error = SdpError::Reordered { index: 1, was: "1".to_owned(), is: String::new() };
    assert_eq!(offer.accept(&short), Err(error));
    assert!(offer.awaits_answer());
}

#[test]
fn a_rejected_or_inactive_section_gets_no_media() {
    for (from, to) in [("m=video 9", "m=video 0"), ("a=recvonly", "a=inactive")] {
        let mut offer = subscriber();
        offer.add(track(1, Kind::Audio));
        offer.add(track(2, Kind::Video));
        offer.offer(&local());
        let answer = CHROMIUM_V0_ANSWER2.replace(from, to);
        assert_ne!(answer, CHROMIUM_V0_ANSWER2);
        let accepted = offer.accept(&RemoteDescription::parse(&answer).unwrap()).unwrap();
        assert!(accepted.send.iter().all(|send| send.leg == LegId(1)) && accepted.send.len() < 2);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(Kind),
    Remove(usize),
    Negotiate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        Just(Step::Add(Kind::Audio)),
        Just(Step::Add(Kind::Video)),
        (0usize..20).prop_map(Step::Remove),
        Just(Step::Negotiate),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Whatever comes and goes: sections keep their place and kind, each track has exactly one, versions grow, and what the
    /// offer says is what its own text reads as.
    #[test]
    fn sections_never_move(steps in steps()) {
        let (mut offer, mut present, mut next) = (subscriber(), Vec::new(), 0);
        let mut sections: Vec<(String, SectionKind)> = Vec::new();
        for step in steps.into_iter().chain([Step::Negotiate]) {
            match step {
                Step::Add(kind) => {
                    next += 1;
                    let mid = offer.add(track(next, kind)).to_owned();
                    prop_assert!(present.iter().all(|(_, other)| *other != mid));
                    present.push((next, mid));
                }
                Step::Remove(n) if !present.is_empty() => {
                    let (leg, _) = present.swap_remove(n % present.len());
                    prop_assert!(offer.remove(LegId(leg)));
                    prop_assert!(!offer.remove(LegId(leg)));
                }
                Step::Remove(_) => {}
                Step::Negotiate => {
                    let text = offer.offer(&local());
                    let read = RemoteDescription::parse(&text).unwrap();
                    let now: Vec<_> = read.sections.iter().map(|s| (s.mid.clone(), s.kind)).collect();
                    prop_assert!(now.starts_with(&sections), "{now:?} after {sections:?}");
                    sections = now;
                    for (leg, mid) in &present {
                        let section = read.section(mid).unwrap();
                        prop_assert_eq!(section.direction, Direction::SendOnly);
                        prop_assert_eq!(&section.msid.as_ref().unwrap().1, &format!("TR_{leg}"));
                        prop_assert_eq!(&section.codecs, &codecs_as_read(section.kind, *leg == 3));
                    }
                    prop_assert_eq!(read.sections.iter().filter(|s| s.direction == Direction::SendOnly).count(), present.len());
                    // The answer of a client that takes everything.
                    let answer = text.replace("a=sendonly", "a=recvonly").replace("setup:actpass", "setup:active");
                    let accepted = offer.accept(&RemoteDescription::parse(&answer).unwrap()).unwrap();
                    prop_assert_eq!(accepted.send.len(), present.len());
                }
            }
        }
    }
}

fn codecs_as_read(kind: SectionKind, stereo: bool) -> Vec<codecs::SectionCodec> {
    let SectionKind::Media(kind) = kind else { return Vec::new() };
    let mut ours = codecs::ours(kind);
    if stereo && kind == Kind::Audio {
        ours[0].fmtp.push_str(";stereo=1;sprop-stereo=1");
    }
    ours
}
