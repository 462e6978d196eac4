//! Which codecs are spoken, how they are recognised in a client's section, and what we offer ourselves.

use rtc::sdp::description::media::MediaDescription;

use crate::media::control::{Codec, Kind, PayloadType};

/// Longer format parameters are no codec we know.
const MAX_FMTP: usize = 256;

/// RTCP feedback that both sides understand (RFC 4585, RFC 5104, transport-wide congestion control, REMB).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Feedback {
    /// `nack`
    pub nack: bool,
    /// `nack pli`
    pub pli: bool,
    /// `ccm fir`
    pub fir: bool,
    /// `transport-cc`
    pub twcc: bool,
    /// `goog-remb`
    pub remb: bool,
}

impl Feedback {
    const AUDIO: Self = Self { nack: false, pli: false, fir: false, twcc: true, remb: false };
    const VIDEO: Self = Self { nack: true, pli: true, fir: true, twcc: true, remb: true };

    fn add(&mut self, name: &str) {
        match name {
            "nack" => self.nack = true,
            "nack pli" => self.pli = true,
            "ccm fir" => self.fir = true,
            "transport-cc" => self.twcc = true,
            "goog-remb" => self.remb = true,
            _ => {}
        }
    }

    /// The attribute values, in the order browsers write them.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        let all = [
            (self.remb, "goog-remb"),
            (self.twcc, "transport-cc"),
            (self.fir, "ccm fir"),
            (self.nack, "nack"),
            (self.pli, "nack pli"),
        ];
        all.into_iter().filter_map(|(on, name)| on.then_some(name))
    }
}

/// A codec in a section, with what is needed to write it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SectionCodec {
    /// Numbers and codec.
    pub payload: PayloadType,
    /// `a=fmtp`, without the payload type; empty if there is none.
    pub fmtp: String,
    /// `a=rtcp-fb`
    pub feedback: Feedback,
}

impl SectionCodec {
    /// `name/clock[/channels]` as in `a=rtpmap`.
    pub(super) fn encoding(&self) -> &'static str {
        match self.payload.codec {
            Codec::Opus => "opus/48000/2",
            Codec::Red => "red/48000/2",
            Codec::Vp8 => "VP8/90000",
            Codec::Vp9 => "VP9/90000",
            Codec::H264 => "H264/90000",
            Codec::Av1 => "AV1/90000",
        }
    }
}

/// A parameter of `a=fmtp` (`key=value;key=value`).
pub(super) fn parameter<'a>(fmtp: &'a str, key: &str) -> Option<&'a str> {
    fmtp.split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(k, _)| k.eq_ignore_ascii_case(key))
        .map(|p| p.1)
}

/// What is known of one payload type while a section is read.
#[derive(Default)]
struct Seen<'a> {
    encoding: &'a str,
    fmtp: &'a str,
    feedback: Feedback,
}

/// The codecs of a section that we speak, in its order of preference.
pub(super) fn of_section(media: &MediaDescription, kind: Kind) -> Vec<SectionCodec> {
    let number = |text: &str| text.parse::<u8>().ok().filter(|n| *n < 128);
    let mut seen: Vec<Seen<'_>> = (0..128).map(|_| Seen::default()).collect();
    let mut for_all = Feedback::default();
    for attribute in &media.attributes {
        let Some((payload, rest)) = attribute.value.as_deref().and_then(|value| value.split_once(' ')) else {
            continue;
        };
        let (payload, rest) = (number(payload), rest.trim());
        match (attribute.key.as_str(), payload) {
            ("rtpmap", Some(n)) => seen[usize::from(n)].encoding = rest,
            ("fmtp", Some(n)) => seen[usize::from(n)].fmtp = rest,
            ("rtcp-fb", Some(n)) => seen[usize::from(n)].feedback.add(rest),
            ("rtcp-fb", None) => for_all.add(rest),
            _ => {}
        }
    }
    let formats: Vec<u8> = media.media_name.formats.iter().filter_map(|format| number(format)).take(128).collect();
    let rtx_of = |n: u8| {
        formats.iter().copied().find(|rtx| {
            let rtx = &seen[usize::from(*rtx)];
            rtx.encoding.eq_ignore_ascii_case("rtx/90000") && parameter(rtx.fmtp, "apt").and_then(number) == Some(n)
        })
    };
    let mut codecs: Vec<SectionCodec> = Vec::new();
    for &n in &formats {
        let seen = &seen[usize::from(n)];
        let known = recognise(kind, seen.encoding, seen.fmtp).filter(|_| seen.fmtp.len() <= MAX_FMTP);
        let Some((codec, profile)) = known else { continue };
        if codecs.iter().any(|c| c.payload.number == n) {
            continue;
        }
        let rtx = rtx_of(n).filter(|_| kind == Kind::Video);
        let mut feedback = seen.feedback;
        for_all.names().for_each(|name| feedback.add(name));
        codecs.push(SectionCodec {
            payload: PayloadType { number: n, codec, rtx, profile },
            fmtp: seen.fmtp.to_owned(),
            feedback,
        });
    }
    // RED's format parameters name the payload types it carries; without Opus they would name nothing.
    if !codecs.iter().any(|c| c.payload.codec == Codec::Opus) {
        codecs.retain(|c| c.payload.codec != Codec::Red);
    }
    codecs
}

/// The codec of an `a=rtpmap` and `a=fmtp`, with the H.264 profile, if we forward it.
fn recognise(kind: Kind, encoding: &str, fmtp: &str) -> Option<(Codec, u32)> {
    let (name, clock) = encoding.split_once('/')?;
    let is = |wanted: &str, rate: &str| name.eq_ignore_ascii_case(wanted) && clock == rate;
    let zero = |key| parameter(fmtp, key).is_none_or(|value| value == "0");
    Some(match kind {
        Kind::Audio if is("opus", "48000/2") => (Codec::Opus, 0),
        Kind::Audio if is("red", "48000/2") => (Codec::Red, 0),
        Kind::Video if is("VP8", "90000") => (Codec::Vp8, 0),
        Kind::Video if is("VP9", "90000") && zero("profile-id") => (Codec::Vp9, 0),
        Kind::Video if is("AV1", "90000") && zero("profile") => (Codec::Av1, 0),
        Kind::Video if is("H264", "90000") && parameter(fmtp, "packetization-mode") == Some("1") => {
            // RFC 6184 §8.1: without the parameter, baseline.
            let profile = parameter(fmtp, "profile-level-id").unwrap_or("42000a");
            let profile = u32::from_str_radix(profile, 16).ok().filter(|p| *p < 1 << 24 && profile.len() == 6)?;
            (Codec::H264, profile)
        }
        _ => return None,
    })
}

/// Leaves the codecs that a track may come in, if these are known and one of them is here. A browser prepares for each codec of each
/// section, and reads all of them again in each negotiation: in a room of eighty most of what is negotiated would be codecs that never
/// come.
pub(super) fn narrow(codecs: &mut Vec<SectionCodec>, to: &[Codec]) {
    let comes = |codec: &SectionCodec| to.contains(&codec.payload.codec);
    if codecs.iter().any(comes) {
        codecs.retain(comes);
    }
}

/// What we offer, in order. The numbers are ours alone: packets are renumbered for each subscriber.
pub(super) fn ours(kind: Kind) -> Vec<SectionCodec> {
    let make = |number, codec, rtx, profile, fmtp: &str, feedback| SectionCodec {
        payload: PayloadType { number, codec, rtx, profile },
        fmtp: fmtp.to_owned(),
        feedback,
    };
    let h264 = |number, profile: u32| {
        let fmtp = format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile:06x}");
        make(number, Codec::H264, Some(number + 1), profile, &fmtp, Feedback::VIDEO)
    };
    match kind {
        Kind::Audio => vec![
            make(111, Codec::Opus, None, 0, "minptime=10;useinbandfec=1", Feedback::AUDIO),
            make(63, Codec::Red, None, 0, "111/111", Feedback::AUDIO),
        ],
        Kind::Video => vec![
            make(96, Codec::Vp8, Some(97), 0, "", Feedback::VIDEO),
            h264(106, 0x42_e01f), // constrained baseline: what every browser has
            h264(102, 0x42_001f), // baseline
            h264(114, 0x4d_001f), // main
            h264(116, 0x64_001f), // high
            h264(118, 0x64_0c1f), // constrained high: Safari
            make(98, Codec::Vp9, Some(99), 0, "profile-id=0", Feedback::VIDEO),
            make(45, Codec::Av1, Some(46), 0, "", Feedback::VIDEO),
        ],
    }
}
