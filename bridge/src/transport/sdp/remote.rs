//! A client's offer or answer, read into a bounded neutral form.

use std::io::Cursor;

use rtc::sdp::description::media::MediaDescription;
use rtc::sdp::description::session::SessionDescription;

use super::codecs::{self, SectionCodec};
use super::error::SdpError;
use super::extensions::{self, SectionExtension};
use crate::media::control::{DtlsParameters, IceParameters, Kind};

/// The longest description that is read, bytes. Chromium offers each sound and picture that it only receives with all codecs
/// that it has: 6 kB for both, and there are as many as others publish.
pub const MAX_SDP: usize = 1 << 20;
/// The most sections of a description that is read.
pub const MAX_SECTIONS: usize = 512;
/// Simulcast layers of a section; the protocol has three.
const MAX_RIDS: usize = 8;
/// Declared SSRC groups of a section.
const MAX_GROUPS: usize = 16;

/// `a=setup` (RFC 4145).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Setup {
    /// The writer is the DTLS client.
    Active,
    /// The writer is the DTLS server.
    Passive,
    /// Either: only in offers.
    ActPass,
}

/// Which way media flows, as the writer sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Both ways.
    SendRecv,
    /// The writer sends.
    SendOnly,
    /// The writer receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

impl Direction {
    /// Whether the writer sends.
    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the writer receives.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// What a section is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SectionKind {
    /// Audio or video over RTP.
    Media(Kind),
    /// SCTP data channels.
    Data,
    /// Something that we do not speak; always rejected.
    Other,
}

/// ICE and DTLS of a description. Everything is bundled, so there is one of it.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteTransport {
    /// `a=ice-ufrag`
    pub ice_ufrag: String,
    /// `a=ice-pwd`
    pub ice_pwd: String,
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// `a=setup`
    pub setup: Setup,
}

impl std::fmt::Debug for RemoteTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteTransport")
            .field("ice_ufrag", &self.ice_ufrag)
            .field("setup", &self.setup)
            .finish_non_exhaustive()
    }
}

impl RemoteTransport {
    /// Together with our credentials.
    #[must_use]
    pub fn ice(&self, local_ufrag: &str, local_pwd: &str) -> IceParameters {
        IceParameters {
            local_ufrag: local_ufrag.to_owned(),
            local_pwd: local_pwd.to_owned(),
            remote_ufrag: self.ice_ufrag.clone(),
            remote_pwd: self.ice_pwd.clone(),
        }
    }

    /// For the worker: we are passive wherever the client can be active.
    #[must_use]
    pub fn dtls(&self) -> DtlsParameters {
        DtlsParameters { remote_fingerprint: self.fingerprint, active: self.setup == Setup::Passive }
    }

    /// Whether this description asks for an ICE restart compared with an earlier one (RFC 8839 §4.4.3.1.1): answer it with
    /// fresh credentials of our own.
    #[must_use]
    pub fn restarts_ice(&self, earlier: &Self) -> bool {
        self.ice_ufrag != earlier.ice_ufrag || self.ice_pwd != earlier.ice_pwd
    }
}

/// One m-section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteSection {
    /// `a=mid`, unique in the description.
    pub mid: String,
    /// What it is for.
    pub kind: SectionKind,
    /// As the client sees it; after a rejection [`Direction::Inactive`].
    pub direction: Direction,
    /// Port 0 without `a=bundle-only`, or not in the BUNDLE group: not used.
    pub rejected: bool,
    /// `a=msid`: stream id and track id. The track id of a published track is the `cid` of its `AddTrackRequest`.
    pub msid: Option<(String, String)>,
    /// Simulcast RIDs the client sends, in its order; empty without simulcast.
    pub rids: Vec<String>,
    /// `a=ssrc-group:SIM` and `FID`: (media, its RTX) in their order. Only without RIDs.
    pub ssrcs: Vec<(u32, Option<u32>)>,
    /// The codecs that we speak, in the client's order of preference.
    pub codecs: Vec<SectionCodec>,
    /// The header extensions that we know.
    pub extensions: Vec<SectionExtension>,
    /// `a=rtcp-rsize`
    pub(super) reduced_size: bool,
    /// `m=`: media, protocol, formats; for answering sections that we reject.
    pub(super) media: (String, Vec<String>, Vec<String>),
}

/// An offer or an answer of a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemoteDescription {
    /// ICE and DTLS.
    pub transport: RemoteTransport,
    /// In their order.
    pub sections: Vec<RemoteSection>,
    /// `a=extmap-allow-mixed`
    pub(super) allow_mixed: bool,
}

impl RemoteDescription {
    /// Reads a description.
    ///
    /// # Errors
    /// When it is too large, not SDP, or lacks what WebRTC requires.
    pub fn parse(sdp: &str) -> Result<Self, SdpError> {
        if sdp.len() > MAX_SDP {
            return Err(SdpError::TooLong(sdp.len()));
        }
        let sections = sdp.lines().filter(|line| line.starts_with("m=")).count();
        if sections > MAX_SECTIONS {
            return Err(SdpError::TooManySections(sections));
        }
        let document = SessionDescription::unmarshal(&mut Cursor::new(sdp))
            .map_err(|error| SdpError::Syntax(error.to_string().chars().take(200).collect()))?;
        let bundle = document
            .attributes
            .iter()
            .filter(|attribute| attribute.key == "group")
            .find_map(|attribute| attribute.value.as_deref()?.strip_prefix("BUNDLE"))
            .map(|mids| mids.split_ascii_whitespace().collect::<Vec<_>>());
        let mut sections: Vec<RemoteSection> = Vec::with_capacity(document.media_descriptions.len());
        let mut mids = std::collections::HashSet::new();
        for (index, media) in document.media_descriptions.iter().enumerate() {
            let section = RemoteSection::read(index, media, bundle.as_deref())?;
            if !mids.insert(section.mid.clone()) {
                return Err(SdpError::DuplicateMid(section.mid));
            }
            sections.push(section);
        }
        // The section whose transport all others share (RFC 8843 §7.3): the first that is used.
        let used = sections.iter().position(|section| !section.rejected).unwrap_or(0);
        let media = document.media_descriptions.get(used).ok_or(SdpError::NoSections)?;
        let transport = RemoteTransport::read(&document, media, &sections[used].mid)?;
        let allow_mixed = document.attributes.iter().any(|attribute| attribute.key == "extmap-allow-mixed");
        Ok(Self { transport, sections, allow_mixed })
    }

    /// The section with this mid.
    #[must_use]
    pub fn section(&self, mid: &str) -> Option<&RemoteSection> {
        self.sections.iter().find(|section| section.mid == mid)
    }
}

impl RemoteTransport {
    fn read(session: &SessionDescription, media: &MediaDescription, mid: &str) -> Result<Self, SdpError> {
        // Browsers write these in each section, others once for the session.
        let values = |key: &'static str| {
            let attributes = media.attributes.iter().chain(&session.attributes);
            attributes.filter(move |attribute| attribute.key == key).filter_map(|attribute| attribute.value.as_deref())
        };
        let missing = |key| SdpError::attribute(key, mid);
        let credential = |key, length: std::ops::RangeInclusive<usize>| {
            let is_ice_char = |c: u8| c.is_ascii_alphanumeric() || c == b'+' || c == b'/' || c == b'-' || c == b'_';
            values(key)
                .next()
                .filter(|value| length.contains(&value.len()) && value.bytes().all(is_ice_char))
                .map(str::to_owned)
                .ok_or(missing(key))
        };
        let fingerprint = values("fingerprint").find_map(|value| {
            let (algorithm, hash) = value.split_once(' ')?;
            algorithm.eq_ignore_ascii_case("sha-256").then(|| parse_fingerprint(hash.trim()))?
        });
        let setup = match values("setup").next() {
            Some("active") => Setup::Active,
            Some("passive") => Setup::Passive,
            Some("actpass") => Setup::ActPass,
            _ => return Err(missing("setup")),
        };
        Ok(Self {
            ice_ufrag: credential("ice-ufrag", 4..=256)?,
            ice_pwd: credential("ice-pwd", 22..=256)?,
            fingerprint: fingerprint.ok_or(missing("fingerprint"))?,
            setup,
        })
    }
}

/// `AB:CD:…`, 32 bytes.
fn parse_fingerprint(text: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    let mut bytes = text.split(':');
    for slot in &mut hash {
        let byte = bytes.next().filter(|byte| byte.len() == 2 && byte.bytes().all(|c| c.is_ascii_hexdigit()))?;
        *slot = u8::from_str_radix(byte, 16).ok()?;
    }
    bytes.next().is_none().then_some(hash)
}

/// A `token` of RFC 4566 of reasonable length: what we are willing to write back.
fn is_token(text: &str, longest: usize) -> bool {
    !text.is_empty()
        && text.len() <= longest
        && text.bytes().all(|c| c.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]".contains(&c))
}

impl RemoteSection {
    fn read(index: usize, media: &MediaDescription, bundle: Option<&[&str]>) -> Result<Self, SdpError> {
        let name = &media.media_name;
        let mid = media.attribute("mid").flatten().filter(|mid| is_token(mid, 64));
        let mid = mid.ok_or_else(|| SdpError::attribute("mid", index.to_string()))?.to_owned();
        let has = |key| media.has_attribute(key);
        let kind = match (name.media.as_str(), name.protos.join("/").as_str()) {
            ("audio", "UDP/TLS/RTP/SAVPF") => SectionKind::Media(Kind::Audio),
            ("video", "UDP/TLS/RTP/SAVPF") => SectionKind::Media(Kind::Video),
            ("application", "UDP/DTLS/SCTP") if name.formats.iter().any(|f| f == "webrtc-datachannel") => {
                SectionKind::Data
            }
            _ => SectionKind::Other,
        };
        let unused = name.port.value == 0 && !has("bundle-only");
        let outside = bundle.map_or(index > 0, |mids| !mids.contains(&mid.as_str()));
        let rejected = unused || outside || kind == SectionKind::Other;
        let direction = match () {
            () if rejected || has("inactive") => Direction::Inactive,
            () if has("sendonly") => Direction::SendOnly,
            () if has("recvonly") => Direction::RecvOnly,
            () => Direction::SendRecv,
        };
        let rids = simulcast(media);
        let SectionKind::Media(media_kind) = kind else {
            return Ok(Self {
                mid,
                kind,
                direction,
                rejected,
                msid: None,
                rids: Vec::new(),
                ssrcs: Vec::new(),
                codecs: Vec::new(),
                extensions: Vec::new(),
                reduced_size: false,
                media: (name.media.clone(), name.protos.clone(), name.formats.clone()),
            });
        };
        Ok(Self {
            mid,
            kind,
            direction,
            rejected,
            msid: msid(media),
            ssrcs: if rids.is_empty() { ssrcs(media) } else { Vec::new() },
            rids,
            codecs: codecs::of_section(media, media_kind),
            extensions: extensions::of_section(media),
            reduced_size: has("rtcp-rsize"),
            media: (name.media.clone(), name.protos.clone(), name.formats.clone()),
        })
    }
}

/// `a=msid:<stream> <track>`; Plan B clients write it into `a=ssrc` only.
fn msid(media: &MediaDescription) -> Option<(String, String)> {
    let of_ssrc = || {
        let values = media.attributes.iter().filter(|attribute| attribute.key == "ssrc");
        values.filter_map(|attribute| attribute.value.as_deref()?.split_once(" msid:")).map(|(_, msid)| msid).next()
    };
    let mut words = media.attribute("msid").flatten().or_else(of_ssrc)?.split_ascii_whitespace();
    let (stream, track) = (words.next()?, words.next()?);
    (stream.len() <= 256 && track.len() <= 256).then(|| (stream.to_owned(), track.to_owned()))
}

/// The RIDs of `a=simulcast:send` (RFC 8853), first alternatives only, paused or not.
fn simulcast(media: &MediaDescription) -> Vec<String> {
    let Some(value) = media.attribute("simulcast").flatten() else { return Vec::new() };
    let mut words = value.split_ascii_whitespace();
    while let (Some(direction), Some(list)) = (words.next(), words.next()) {
        if direction != "send" {
            continue;
        }
        let mut rids: Vec<String> = Vec::new();
        for alternatives in list.split(';').take(MAX_RIDS) {
            let rid = alternatives.split(',').next().unwrap_or_default().trim_start_matches('~');
            let declared = media.attributes.iter().filter(|attribute| attribute.key == "rid").any(|attribute| {
                attribute.value.as_deref().is_some_and(|value| {
                    let mut words = value.split_ascii_whitespace();
                    words.next() == Some(rid) && words.next() == Some("send")
                })
            });
            let legal = rid.len() <= 16 && !rid.is_empty() && rid.bytes().all(|c| c.is_ascii_alphanumeric());
            if declared && legal && !rids.iter().any(|known| known == rid) {
                rids.push(rid.to_owned());
            }
        }
        return rids;
    }
    Vec::new()
}

/// The media SSRCs that `a=ssrc-group:SIM` lists (else the first one), each with its RTX by `FID`.
fn ssrcs(media: &MediaDescription) -> Vec<(u32, Option<u32>)> {
    let groups = |semantics: &'static str| {
        let values = media.attributes.iter().filter(|attribute| attribute.key == "ssrc-group");
        values.take(MAX_GROUPS).filter_map(move |attribute| {
            let mut words = attribute.value.as_deref()?.split_ascii_whitespace();
            (words.next() == Some(semantics))
                .then(|| words.filter_map(|w| w.parse().ok()).take(MAX_RIDS).collect::<Vec<u32>>())
        })
    };
    let pairs: Vec<(u32, u32)> = groups("FID").filter_map(|group| Some((*group.first()?, *group.get(1)?))).collect();
    let rtx = |ssrc| pairs.iter().find(|(media, _)| *media == ssrc).map(|(_, rtx)| *rtx);
    let first = || {
        let declared = media.attributes.iter().find(|attribute| attribute.key == "ssrc")?;
        declared.value.as_deref()?.split(' ').next()?.parse().ok()
    };
    let sources = groups("SIM")
        .next()
        .unwrap_or_else(|| pairs.first().map(|(media, _)| *media).or_else(first).into_iter().collect());
    sources.into_iter().map(|ssrc| (ssrc, rtx(ssrc))).collect()
}

#[cfg(test)]
#[path = "remote_tests.rs"]
mod tests;
