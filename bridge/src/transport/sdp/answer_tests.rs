//! Answers: golden texts to real browsers' offers (which the browsers accepted), and what they mean for the worker.

use super::super::fixtures::*;
use super::super::remote::Direction;
use super::*;

fn answerer() -> Answerer {
    Answerer { session_id: 43, ..Answerer::new() }
}

/// The client publishes wherever it sends and gets track 7 wherever it receives.
fn plan(section: &RemoteSection) -> Plan {
    let number: u32 = section.mid.bytes().map(u32::from).sum();
    match section.direction {
        Direction::SendOnly => {
            Plan::Receive { track: TrackId(u64::from(number)), prefer: None, opus: OpusOptions::default() }
        }
        Direction::RecvOnly => Plan::Send(SendPlan {
            leg: LegId(u64::from(number)),
            track: TrackId(7),
            stream_id: format!("PA_berta|TR_{number}"),
            track_id: format!("TR_{number}"),
            cname: "PA_berta".to_owned(),
            ssrc: 1000 + number,
            rtx_ssrc: 2000 + number,
            wanted: Wanted::BEST,
            codecs: Vec::new(),
        }),
        _ => Plan::Inactive,
    }
}

fn parse(sdp: &str) -> RemoteDescription {
    RemoteDescription::parse(sdp).unwrap()
}

#[test]
fn chromium_joins_and_publishes() {
    let mut answerer = answerer();
    let join = answerer.answer(&parse(CHROMIUM_V1_JOIN), &local(), plan).unwrap();
    insta::assert_snapshot!("chromium_v1_join", join.sdp);
    assert!(join.data && join.receive.is_empty());
    assert_eq!(join.send.iter().map(|send| send.mid.as_str()).collect::<Vec<_>>(), ["0", "1"]);
    let publish = answerer.answer(&parse(CHROMIUM_V1_PUBLISH), &local(), plan).unwrap();
    insta::assert_snapshot!("chromium_v1_publish", publish.sdp);
    assert_eq!(publish.send, join.send);
    let [audio, video] = &publish.receive[..] else { panic!("a microphone and a camera") };
    assert_eq!((audio.kind, &audio.rids[..]), (Kind::Audio, &[][..]));
    assert_eq!(
        audio.payload_types.iter().map(|p| (p.number, p.codec)).collect::<Vec<_>>(),
        [(111, Codec::Opus), (63, Codec::Red)]
    );
    assert_eq!(video.rids, ["q", "h", "f"]);
    let vp8 = video.payload_types[0];
    assert_eq!((vp8.number, vp8.codec, vp8.rtx), (96, Codec::Vp8, Some(97)));
    assert!(video.payload_types.iter().any(|p| p.codec == Codec::H264 && p.profile == 0x42_e01f));
    assert!(video.payload_types.iter().any(|p| p.codec == Codec::Av1));
    let ids = publish.extensions;
    assert!(
        [ids.mid, ids.rid, ids.repaired_rid, ids.audio_level, ids.twcc, ids.dependency_descriptor]
            .iter()
            .all(|id| *id != 0)
    );
    assert_eq!((ids.video_orientation, ids.abs_send_time), (0, 0));
}

#[test]
fn firefox_joins_and_publishes() {
    let mut answerer = answerer();
    let join = answerer.answer(&parse(FIREFOX_V1_JOIN), &local(), plan).unwrap();
    insta::assert_snapshot!("firefox_v1_join", join.sdp);
    let publish = answerer.answer(&parse(FIREFOX_V1_PUBLISH), &local(), plan).unwrap();
    insta::assert_snapshot!("firefox_v1_publish", publish.sdp);
    assert_eq!(publish.receive[1].rids, ["q", "h", "f"]);
    assert_eq!(publish.receive[1].payload_types[0].number, 120);
    assert!(publish.sdp.contains(&format!(
        "a=extmap:{}/recvonly urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        publish.extensions.rid
    )));
}

#[test]
fn an_ice_restart_is_seen_and_changes_nothing_else() {
    for (publish, restart) in [(CHROMIUM_V1_PUBLISH, CHROMIUM_V1_RESTART), (FIREFOX_V1_PUBLISH, FIREFOX_V1_RESTART)] {
        let (before, after) = (parse(publish), parse(restart));
        assert!(after.transport.restarts_ice(&before.transport) && !before.transport.restarts_ice(&before.transport));
        let mut answerer = answerer();
        let first = answerer.answer(&before, &local(), plan).unwrap();
        let second = answerer.answer(&after, &local(), plan).unwrap();
        assert_eq!((first.receive, first.send, first.extensions), (second.receive, second.send, second.extensions));
    }
}

#[test]
fn the_preferred_codec_comes_first_and_opus_options_are_written() {
    let prefer = |section: &RemoteSection| match plan(section) {
        Plan::Receive { track, .. } => {
            Plan::Receive { track, prefer: Some(Codec::Vp9), opus: OpusOptions { stereo: true, dtx: true } }
        }
        other => other,
    };
    let answer = answerer().answer(&parse(CHROMIUM_V1_PUBLISH), &local(), prefer).unwrap();
    let order: Vec<Codec> = answer.receive[1].payload_types.iter().map(|p| p.codec).collect();
    assert_eq!((order[0], order[1]), (Codec::Vp9, Codec::Vp8), "the rest as the client has it");
    assert_eq!(answer.receive[0].payload_types[0].codec, Codec::Opus);
    assert!(answer.sdp.contains("a=fmtp:111 minptime=10;useinbandfec=1;stereo=1;usedtx=1\r\n"));
    let red = |section: &RemoteSection| match plan(section) {
        Plan::Receive { track, opus, .. } => Plan::Receive { track, prefer: Some(Codec::Red), opus },
        other => other,
    };
    let answer = answerer().answer(&parse(CHROMIUM_V1_PUBLISH), &local(), red).unwrap();
    assert_eq!(answer.receive[0].payload_types[0].codec, Codec::Red);
}

#[test]
fn a_track_is_answered_in_the_codecs_that_it_comes_in() {
    let sections = |codecs: &[Codec]| {
        let with = |section: &RemoteSection| match plan(section) {
            Plan::Send(send) => Plan::Send(SendPlan { codecs: codecs.to_vec(), ..send }),
            other => other,
        };
        let answer = answerer().answer(&parse(CHROMIUM_V1_PUBLISH), &local(), with).unwrap();
        let video = answer.send.into_iter().find(|section| section.payload_types[0].codec.kind() == Kind::Video);
        let section =
            answer.sdp.split("\r\nm=").find(|section| section.contains("a=sendonly") && section.contains("VP8"));
        (video.unwrap().payload_types, section.unwrap_or_default().to_owned())
    };
    let (all, text) = sections(&[]);
    assert!(all.iter().any(|payload| payload.codec == Codec::H264) && text.contains("H264"));
    let (few, text) = sections(&[Codec::Vp9, Codec::Vp8]);
    assert!(few.iter().all(|payload| [Codec::Vp8, Codec::Vp9].contains(&payload.codec)), "{few:?}");
    assert!(few.len() > 1 && few.iter().all(|payload| payload.rtx.is_some()));
    assert!(text.contains("VP9") && !text.contains("H264"), "{text}");
    assert_eq!(sections(&[Codec::Opus]).0, all, "none of them is offered: what the client has is known all the same");
}

#[test]
fn plans_against_the_direction_become_inactive() {
    let opposite = |section: &RemoteSection| match section.direction {
        Direction::RecvOnly => Plan::Receive { track: TrackId(1), prefer: None, opus: OpusOptions::default() },
        _ => match plan(&RemoteSection { direction: Direction::RecvOnly, ..section.clone() }) {
            Plan::Send(send) => Plan::Send(send),
            _ => unreachable!(),
        },
    };
    let answer = answerer().answer(&parse(CHROMIUM_V1_PUBLISH), &local(), opposite).unwrap();
    assert!(answer.receive.is_empty() && answer.send.is_empty());
    assert_eq!(answer.sdp.matches("a=inactive").count(), 4);
    assert!(!answer.sdp.contains("a=ssrc") && !answer.sdp.contains("a=simulcast"));
}

#[test]
fn sections_must_keep_their_place() {
    let mut answerer = answerer();
    answerer.answer(&parse(CHROMIUM_V1_PUBLISH), &local(), plan).unwrap();
    let shorter = answerer.answer(&parse(CHROMIUM_V1_JOIN), &local(), plan);
    assert!(matches!(shorter, Err(SdpError::Reordered { index: 3, .. })), "{shorter:?}");
    let renamed = CHROMIUM_V1_PUBLISH.replace("a=mid:1\r\n", "a=mid:9\r\n").replace("BUNDLE 0 1", "BUNDLE 0 9");
    assert!(matches!(answerer.answer(&parse(&renamed), &local(), plan), Err(SdpError::Reordered { index: 1, .. })));
    let other =
        CHROMIUM_V1_PUBLISH.replace("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 00:").replacen(":00", "", 0);
    assert!(RemoteDescription::parse(&other).is_err());
    answerer.answer(&parse(CHROMIUM_V1_PUBLISH), &local(), plan).unwrap();
}

#[test]
fn a_section_that_the_client_stopped_may_be_taken_over() {
    let mut answerer = answerer();
    let stopped = CHROMIUM_V1_PUBLISH.replacen("m=video 9", "m=video 0", 1).replace("BUNDLE 0 1 2", "BUNDLE 0 2");
    let answer = answerer.answer(&parse(&stopped), &local(), plan).unwrap();
    assert!(answer.sdp.contains("m=video 0 ") && answer.send.len() == 1);
    let renamed = CHROMIUM_V1_PUBLISH.replace("a=mid:1\r\n", "a=mid:9\r\n").replace("BUNDLE 0 1", "BUNDLE 0 9");
    assert_eq!(answerer.answer(&parse(&renamed), &local(), plan).unwrap().send.len(), 2);
}

#[test]
fn another_certificate_within_a_connection_is_refused() {
    let mut answerer = answerer();
    answerer.answer(&parse(CHROMIUM_V1_JOIN), &local(), plan).unwrap();
    let foreign = answerer.answer(&parse(FIREFOX_V1_JOIN), &local(), plan);
    assert_eq!(foreign, Err(SdpError::FingerprintChanged));
}

#[test]
fn an_unknown_codec_alone_rejects_the_section_and_nothing_else() {
    let strange = CHROMIUM_V1_JOIN.replace("opus/48000/2", "speex/16000");
    let answer = answerer().answer(&parse(&strange), &local(), plan).unwrap();
    assert!(answer.sdp.contains("m=audio 0 ") && answer.data);
    assert_eq!(answer.send.len(), 1);
    assert_eq!(answer.sdp.matches("a=candidate").count(), 2, "the first used section carries the candidates");
}

#[test]
fn candidates_stand_in_an_active_section_too() {
    let answer = answerer().answer(&parse(CHROMIUM_V1_JOIN), &local(), |_| Plan::Inactive).unwrap();
    let sections: Vec<_> = answer.sdp.split("\r\nm=").skip(1).collect();
    assert!(sections[0].contains("a=inactive") && sections[0].contains("a=candidate"));
    for section in &sections[1..] {
        assert_eq!(section.starts_with("application"), section.contains("a=candidate"), "{section}");
    }
}

#[test]
fn versions_grow_and_the_dtls_role_follows_the_offer() {
    let mut answerer = answerer();
    for version in 1..=3 {
        let answer = answerer.answer(&parse(CHROMIUM_V1_JOIN), &local(), plan).unwrap();
        assert!(answer.sdp.contains(&format!("o=- 43 {version} IN IP4 ")) && answer.sdp.contains("a=setup:passive"));
    }
    let passive = CHROMIUM_V1_JOIN.replace("setup:actpass", "setup:passive");
    let offer = parse(&passive);
    assert!(offer.transport.dtls().active);
    assert!(answerer.answer(&offer, &local(), plan).unwrap().sdp.contains("a=setup:active"));
}
