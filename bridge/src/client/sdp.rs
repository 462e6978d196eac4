//! The SDP of a load test's participant: offers of exactly what it sends and gets, and what it needs of an answer.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;

use thiserror::Error;

use super::stun;
use super::types::Local;
use crate::media::control::ExtensionIds;

/// Payload type of Opus in our offers.
pub const OPUS: u8 = 111;
/// Payload type of VP8 in our offers.
pub const VP8: u8 = 96;
/// Payload type of VP8's retransmissions in our offers.
pub const RTX: u8 = 97;

/// The longest description that is read, bytes: a thousand sections fit.
const MAX_SDP: usize = 2 << 20;

const EXTENSIONS: [(&str, u8, bool); 5] = [
    ("urn:ietf:params:rtp-hdrext:ssrc-audio-level", 1, true),
    ("http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", 3, true),
    ("urn:ietf:params:rtp-hdrext:sdes:mid", 4, true),
    ("urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", 10, false),
    ("urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id", 11, false),
];

/// A section of an offer. Its mid is its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Section {
    /// A microphone.
    SendAudio {
        /// Second token of `a=msid`, as in the track's announcement.
        cid: String,
        /// Its SSRC.
        ssrc: u32,
    },
    /// A camera.
    SendVideo {
        /// Second token of `a=msid`, as in the track's announcement.
        cid: String,
        /// SSRC and RTX SSRC of each layer.
        ssrcs: Vec<(u32, u32)>,
        /// Names of the simulcast layers, lowest first; none: one layer without a name, known by its SSRC.
        rids: Vec<String>,
    },
    /// Gets somebody's audio.
    ReceiveAudio,
    /// Gets somebody's video.
    ReceiveVideo,
}

/// Writes an offer. `version` grows from offer to offer of one session.
#[must_use]
pub fn offer(local: &Local, session: u64, version: u32, sections: &[Section]) -> String {
    let mut sdp = format!("v=0\r\no=- {session} {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE");
    (0..sections.len()).for_each(|mid| put(&mut sdp, format_args!(" {mid}")));
    sdp.push_str("\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS *\r\n");
    for (mid, section) in sections.iter().enumerate() {
        write_section(&mut sdp, local, mid, section);
    }
    sdp
}

/// A `String` takes everything.
fn put(sdp: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = sdp.write_fmt(text);
}

fn write_section(sdp: &mut String, local: &Local, mid: usize, section: &Section) {
    let audio = matches!(section, Section::SendAudio { .. } | Section::ReceiveAudio);
    let (fingerprint, Local { ufrag, password, .. }) = (local.identity.fingerprint(), local);
    let media = if audio {
        format!("audio 9 UDP/TLS/RTP/SAVPF {OPUS}")
    } else {
        format!("video 9 UDP/TLS/RTP/SAVPF {VP8} {RTX}")
    };
    put(
        sdp,
        format_args!(
            "m={media}\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n\
         a=ice-options:trickle\r\na=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=mid:{mid}\r\n"
        ),
    );
    for (uri, id, for_audio) in EXTENSIONS {
        // The audio level says nothing of a picture.
        if if audio { for_audio } else { id != 1 } {
            put(sdp, format_args!("a=extmap:{id} {uri}\r\n"));
        }
    }
    sdp.push_str(match section {
        Section::SendAudio { .. } | Section::SendVideo { .. } => "a=sendonly\r\n",
        Section::ReceiveAudio | Section::ReceiveVideo => "a=recvonly\r\n",
    });
    if let Section::SendAudio { cid, .. } | Section::SendVideo { cid, .. } = section {
        put(sdp, format_args!("a=msid:- {cid}\r\n"));
    }
    sdp.push_str("a=rtcp-mux\r\na=rtcp-rsize\r\n");
    if audio {
        put(
            sdp,
            format_args!(
                "a=rtpmap:{OPUS} opus/48000/2\r\na=rtcp-fb:{OPUS} transport-cc\r\na=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n"
            ),
        );
    } else {
        put(sdp, format_args!("a=rtpmap:{VP8} VP8/90000\r\n"));
        for feedback in ["transport-cc", "ccm fir", "nack", "nack pli"] {
            put(sdp, format_args!("a=rtcp-fb:{VP8} {feedback}\r\n"));
        }
        put(sdp, format_args!("a=rtpmap:{RTX} rtx/90000\r\na=fmtp:{RTX} apt={VP8}\r\n"));
    }
    match section {
        Section::SendAudio { ssrc, cid } => {
            put(sdp, format_args!("a=ssrc:{ssrc} cname:load\r\na=ssrc:{ssrc} msid:- {cid}\r\n"));
        }
        Section::SendVideo { rids, .. } if !rids.is_empty() => {
            rids.iter().for_each(|rid| put(sdp, format_args!("a=rid:{rid} send\r\n")));
            put(sdp, format_args!("a=simulcast:send {}\r\n", rids.join(";")));
        }
        Section::SendVideo { ssrcs, cid, .. } => {
            for (ssrc, rtx) in ssrcs.iter().take(1) {
                put(sdp, format_args!("a=ssrc-group:FID {ssrc} {rtx}\r\n"));
                for ssrc in [ssrc, rtx] {
                    put(sdp, format_args!("a=ssrc:{ssrc} cname:load\r\na=ssrc:{ssrc} msid:- {cid}\r\n"));
                }
            }
        }
        Section::ReceiveAudio | Section::ReceiveVideo => {}
    }
}

/// Why an answer is of no use.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum SdpError {
    /// Too long.
    #[error("the server's description is longer than 2 MiB")]
    TooLong,
    /// An attribute is missing or makes no sense.
    #[error("the server's description has no usable a={0}; it does not speak WebRTC as it should")]
    Missing(&'static str),
}

/// What the payload types and SSRCs of incoming packets mean.
#[derive(Clone, Default, Debug)]
pub struct Mapping {
    clock_rates: HashMap<u8, u32>,
    /// RTX SSRC → media SSRC, and the media SSRC itself → 0.
    groups: HashMap<u32, u32>,
}

impl Mapping {
    /// The media that an RTX SSRC repairs.
    pub(super) fn repaired_by(&self, ssrc: u32) -> Option<u32> {
        self.groups.get(&ssrc).copied().filter(|media| *media != 0)
    }

    /// Whether an SSRC has RTX.
    pub(super) fn is_repairable(&self, ssrc: u32) -> bool {
        self.groups.get(&ssrc) == Some(&0)
    }

    /// The RTP clock of a payload type; `None` for one that was not negotiated.
    pub(super) fn clock_rate(&self, payload_type: u8) -> Option<u32> {
        self.clock_rates.get(&payload_type).copied()
    }
}

/// What is needed of a server's description.
#[derive(Clone, Debug)]
pub struct Remote {
    /// `a=ice-ufrag`
    pub ufrag: String,
    /// `a=ice-pwd`
    pub password: String,
    /// `a=fingerprint:sha-256`
    pub fingerprint: [u8; 32],
    /// It is the DTLS client (`a=setup:active`).
    pub active: bool,
    /// Its UDP addresses over IPv4.
    pub candidates: Vec<SocketAddr>,
    /// Ids of header extensions, 0 where one was refused.
    pub extensions: ExtensionIds,
    /// Payload types and SSRCs.
    pub mapping: Mapping,
    /// Whether each section carries something, in their order.
    pub active_sections: Vec<bool>,
}

impl Remote {
    /// Reads a description.
    ///
    /// # Errors
    /// It is too long, or something that every WebRTC answer has is missing.
    pub fn parse(sdp: &str) -> Result<Self, SdpError> {
        if sdp.len() > MAX_SDP {
            return Err(SdpError::TooLong);
        }
        let mut remote = Self {
            ufrag: String::new(),
            password: String::new(),
            fingerprint: [0; 32],
            active: false,
            candidates: Vec::new(),
            extensions: ExtensionIds::default(),
            mapping: Mapping::default(),
            active_sections: Vec::new(),
        };
        let mut fingerprint = None;
        for line in sdp.lines() {
            if line.starts_with("m=") {
                remote.active_sections.push(line.split(' ').nth(1) != Some("0"));
                continue;
            }
            let Some(attribute) = line.strip_prefix("a=") else { continue };
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            match name {
                "ice-ufrag" => value.clone_into(&mut remote.ufrag),
                "ice-pwd" => value.clone_into(&mut remote.password),
                "setup" => remote.active = value == "active",
                "fingerprint" => fingerprint = fingerprint.or_else(|| read_fingerprint(value)),
                "candidate" => remote.candidates.extend(stun::candidate(attribute)),
                "inactive" => {
                    if let Some(active) = remote.active_sections.last_mut() {
                        *active = false;
                    }
                }
                "rtpmap" => remote.mapping.clock_rates.extend(read_rtpmap(value)),
                "ssrc-group" => {
                    if let Some((media, rtx)) = read_group(value) {
                        remote.mapping.groups.extend([(rtx, media), (media, 0)]);
                    }
                }
                "extmap" => read_extension(value, &mut remote.extensions),
                _ => {}
            }
        }
        remote.fingerprint = fingerprint.ok_or(SdpError::Missing("fingerprint:sha-256"))?;
        match (remote.ufrag.is_empty(), remote.password.is_empty()) {
            (true, _) => Err(SdpError::Missing("ice-ufrag")),
            (_, true) => Err(SdpError::Missing("ice-pwd")),
            _ => Ok(remote),
        }
    }
}

/// The UDP address in a trickled `candidate:` line, if it is one.
#[must_use]
pub fn candidate(line: &str) -> Option<SocketAddr> {
    stun::candidate(line.strip_prefix("a=").unwrap_or(line))
}

fn read_fingerprint(value: &str) -> Option<[u8; 32]> {
    let (algorithm, digits) = value.split_once(' ')?;
    let mut hash = [0; 32];
    let mut bytes = digits.trim().split(':');
    for byte in &mut hash {
        *byte = u8::from_str_radix(bytes.next()?, 16).ok()?;
    }
    (algorithm.eq_ignore_ascii_case("sha-256") && bytes.next().is_none()).then_some(hash)
}

/// Payload type and clock; RTX has none of its own, its packets are known by their SSRC.
fn read_rtpmap(value: &str) -> Option<(u8, u32)> {
    let (number, encoding) = value.split_once(' ')?;
    let mut parts = encoding.split('/');
    let name = parts.next()?;
    let clock = parts.next()?.parse().ok()?;
    (!name.eq_ignore_ascii_case("rtx")).then_some((number.parse().ok()?, clock))
}

fn read_group(value: &str) -> Option<(u32, u32)> {
    let mut words = value.strip_prefix("FID ")?.split_ascii_whitespace().map(str::parse);
    Some((words.next()?.ok()?, words.next()?.ok()?))
}

fn read_extension(value: &str, ids: &mut ExtensionIds) {
    let Some((id, uri)) = value.split_once(' ') else { return };
    let Ok(id) = id.split('/').next().unwrap_or_default().parse() else { return };
    let uri = uri.split(' ').next().unwrap_or_default();
    match EXTENSIONS.iter().find(|(known, ..)| *known == uri) {
        Some((_, 1, _)) => ids.audio_level = id,
        Some((_, 3, _)) => ids.twcc = id,
        Some((_, 4, _)) => ids.mid = id,
        Some((_, 10, _)) => ids.rid = id,
        Some((_, 11, _)) => ids.repaired_rid = id,
        _ => {}
    }
}
