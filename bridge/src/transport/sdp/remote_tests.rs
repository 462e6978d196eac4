//! Reading: refusals, bounds, old conventions, and that no text makes it panic.

use proptest::prelude::*;

use super::super::answer::{Answerer, OpusOptions, Plan};
use super::super::fixtures::*;
use super::*;
use crate::media::control::TrackId;

fn error(sdp: &str) -> SdpError {
    RemoteDescription::parse(sdp).unwrap_err()
}

#[test]
fn what_is_missing_is_named() {
    let good = CHROMIUM_V1_JOIN;
    for (attribute, line) in [
        ("ice-ufrag", "a=ice-ufrag:"),
        ("ice-pwd", "a=ice-pwd:"),
        ("fingerprint", "a=fingerprint:"),
        ("setup", "a=setup:"),
        ("mid", "a=mid:"),
    ] {
        let without: String = good.lines().filter(|l| !l.starts_with(line)).map(|l| format!("{l}\r\n")).collect();
        assert_eq!(error(&without), SdpError::attribute(attribute, "0"));
    }
    for (from, to, attribute) in [
        ("a=fingerprint:sha-256 ", "a=fingerprint:sha-1 ", "fingerprint"),
        ("a=fingerprint:sha-256 ", "a=fingerprint:sha-256 00:", "fingerprint"),
        ("a=setup:actpass", "a=setup:holdconn", "setup"),
        ("a=ice-ufrag:", "a=ice-ufrag:\u{1f600}", "ice-ufrag"),
    ] {
        assert_eq!(error(&good.replace(from, to)), SdpError::attribute(attribute, "0"));
    }
    assert_eq!(error("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n"), SdpError::NoSections);
    assert!(matches!(error("hello"), SdpError::Syntax(_)));
    assert_eq!(error(&good.replace("a=mid:1\r\n", "a=mid:0\r\n")), SdpError::DuplicateMid("0".to_owned()));
    let strange = SdpError::attribute("mid", "1");
    assert_eq!(error(&good.replace("a=mid:1\r\n", "a=mid:1 2\r\n")), strange);
}

#[test]
fn size_is_bounded() {
    let long = format!("{CHROMIUM_V1_JOIN}{}", "a=x\r\n".repeat(MAX_SDP / 5));
    assert_eq!(error(&long), SdpError::TooLong(long.len()));
    let many = format!("{CHROMIUM_V1_JOIN}{}", "m=audio 0 X 0\r\n".repeat(MAX_SECTIONS));
    assert_eq!(error(&many), SdpError::TooManySections(MAX_SECTIONS + 3));
}

#[test]
fn the_session_level_counts_where_sections_are_silent() {
    let lines: Vec<&str> = CHROMIUM_V1_JOIN.lines().collect();
    let transport = ["a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:"];
    let is_transport = |line: &&&str| transport.iter().any(|start| line.starts_with(start));
    let moved: Vec<&str> = lines.iter().filter(is_transport).take(4).copied().collect();
    let rest: Vec<&str> = lines.iter().filter(|line| !is_transport(line)).copied().collect();
    let first_section = rest.iter().position(|line| line.starts_with("m=")).unwrap();
    let sdp = [&rest[..first_section], &moved, &rest[first_section..]].concat().join("\r\n") + "\r\n";
    assert_eq!(
        RemoteDescription::parse(&sdp).unwrap().transport,
        RemoteDescription::parse(CHROMIUM_V1_JOIN).unwrap().transport
    );
}

#[test]
fn the_track_id_of_a_published_track_is_the_second_word_of_msid() {
    for publish in [CHROMIUM_V1_PUBLISH, FIREFOX_V1_PUBLISH] {
        let description = RemoteDescription::parse(publish).unwrap();
        for section in description.sections.iter().filter(|section| section.direction == Direction::SendOnly) {
            let (stream, track) = section.msid.as_ref().unwrap();
            assert!(publish.contains(&format!("a=msid:{stream} {track}\r\n")));
        }
    }
}

/// A camera with these extra lines.
fn camera(lines: &str) -> RemoteSection {
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE v\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\n\
         a=mid:v\r\na=setup:actpass\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 {}\r\n\
         a=sendonly\r\na=rtpmap:96 VP8/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n{lines}",
        vec!["AB"; 32].join(":")
    );
    RemoteDescription::parse(&sdp).unwrap().sections.remove(0)
}

#[test]
fn old_clients_declare_layers_by_ssrc() {
    let section = camera(
        "a=ssrc-group:SIM 1 2 3\r\na=ssrc-group:FID 1 11\r\na=ssrc-group:FID 2 12\r\na=ssrc-group:FID 3 13\r\na=ssrc:1 cname:x\r\n\
         a=ssrc:1 msid:stream track\r\n",
    );
    assert_eq!(section.ssrcs, [(1, Some(11)), (2, Some(12)), (3, Some(13))]);
    assert_eq!(section.msid, Some(("stream".to_owned(), "track".to_owned())));
    assert_eq!(camera("a=ssrc-group:FID 1 11\r\na=ssrc:1 cname:x\r\n").ssrcs, [(1, Some(11))]);
    assert_eq!(camera("a=ssrc:5 cname:x\r\n").ssrcs, [(5, None)]);
    assert_eq!(camera("").ssrcs, []);
}

#[test]
fn rids_are_read_in_the_order_of_simulcast() {
    let rids = "a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=rid:x recv\r\n";
    let read = |simulcast: &str| camera(&format!("{rids}a=simulcast:{simulcast}\r\n")).rids;
    assert_eq!(read("send f;h;q"), ["f", "h", "q"]);
    assert_eq!(read("recv x send q,h;~f"), ["q", "f"]);
    assert_eq!(read("send q;q;nobody;x"), ["q"]);
    assert_eq!(read("recv q;h"), Vec::<String>::new());
    assert_eq!(read("send"), Vec::<String>::new());
}

#[test]
fn layers_are_sorted_from_the_lowest() {
    let lines = "a=rid:q send\r\na=rid:h send\r\na=rid:f send\r\na=simulcast:send f;h;q\r\n";
    let offer =
        RemoteDescription { sections: vec![camera(lines)], ..RemoteDescription::parse(CHROMIUM_V1_JOIN).unwrap() };
    let receive = |_: &RemoteSection| Plan::Receive { track: TrackId(1), prefer: None, opus: OpusOptions::default() };
    let answer = Answerer::new().answer(&offer, &local(), receive).unwrap();
    assert_eq!(answer.receive[0].rids, ["q", "h", "f"]);
    assert!(answer.sdp.contains("a=simulcast:recv f;h;q\r\n"), "the answer keeps the offered order");
}

#[test]
fn codecs_we_do_not_speak_are_left_out() {
    let codecs = |lines: &str| {
        let section = camera(lines);
        section.codecs.iter().map(|c| (c.payload.number, c.payload.codec, c.payload.profile)).collect::<Vec<_>>()
    };
    use crate::media::control::Codec::{H264, Vp8, Vp9};
    assert_eq!(codecs(""), [(96, Vp8, 0)]);
    assert_eq!(codecs("a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=0;profile-level-id=42e01f\r\n"), []);
    assert_eq!(
        codecs("a=rtpmap:96 h264/90000\r\na=fmtp:96 profile-level-id=42E01F; packetization-mode=1\r\n"),
        [(96, H264, 0x42_e01f)]
    );
    assert_eq!(codecs("a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42e01f00\r\n"), []);
    assert_eq!(codecs("a=rtpmap:96 VP9/90000\r\na=fmtp:96 profile-id=2\r\n"), []);
    assert_eq!(codecs("a=rtpmap:96 VP9/90000\r\n"), [(96, Vp9, 0)]);
    assert_eq!(codecs(&format!("a=fmtp:96 {}\r\n", "x".repeat(300))), []);
    assert!(camera("a=rtcp-fb:* nack\r\na=rtcp-fb:96 nack pli\r\n").codecs[0].feedback.nack);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "(?s).{0,400}") {
        let _ = RemoteDescription::parse(&text);
    }

    /// Real offers with lines dropped, doubled, swapped and cut: read or refused, and what is read can be answered so that
    /// the answer has the same sections in the same order.
    #[test]
    fn damaged_offers_are_refused_or_answered_section_by_section(
        which in 0usize..4,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..4, any::<u8>()), 0..30),
    ) {
        let source = [CHROMIUM_V1_JOIN, CHROMIUM_V1_PUBLISH, FIREFOX_V1_JOIN, FIREFOX_V1_PUBLISH][which];
        let mut lines: Vec<String> = source.lines().map(str::to_owned).collect();
        for (at, what, seed) in edits {
            let at = at.index(lines.len());
            match what {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[at].clone()),
                2 => {
                    let other = usize::from(seed) % lines.len();
                    lines.swap(at, other);
                }
                _ => {
                    let cut = lines[at].len() * usize::from(seed) / 256;
                    lines[at].truncate(cut);
                }
            }
            if lines.is_empty() {
                break;
            }
        }
        let text = lines.join("\r\n") + "\r\n";
        if let Ok(offer) = RemoteDescription::parse(&text) {
            let receive = |_: &RemoteSection| Plan::Receive { track: TrackId(1), prefer: None, opus: OpusOptions::default() };
            let answer = Answerer::new().answer(&offer, &local(), receive).unwrap();
            let mids: Vec<&str> = answer.sdp.lines().filter_map(|line| line.strip_prefix("a=mid:")).collect();
            let offered: Vec<&str> = offer.sections.iter().map(|section| section.mid.as_str()).collect();
            prop_assert_eq!(mids, offered);
            prop_assert_eq!(answer.sdp.lines().filter(|line| line.starts_with("m=")).count(), offer.sections.len());
        }
    }
}
