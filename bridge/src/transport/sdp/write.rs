//! What our answers and offers have in common: the session's lines and a section's.

use std::net::SocketAddr;

use rtc::sdp::description::common::{Address, ConnectionInformation};
use rtc::sdp::description::media::{MediaDescription, MediaName, RangedPort};
use rtc::sdp::description::session::SessionDescription;

use super::codecs::SectionCodec;
use crate::media::control::MAX_MESSAGE;

/// Our side of a transport.
#[derive(Clone, PartialEq, Eq)]
pub struct LocalTransport {
    /// Our `a=ice-ufrag`.
    pub ice_ufrag: String,
    /// Our `a=ice-pwd`.
    pub ice_pwd: String,
    /// SHA-256 of our certificate, `AB:CD:…`.
    pub fingerprint: String,
    /// Host candidates, best first.
    pub candidates: Vec<SocketAddr>,
}

impl std::fmt::Debug for LocalTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalTransport")
            .field("ice_ufrag", &self.ice_ufrag)
            .field("candidates", &self.candidates)
            .finish_non_exhaustive()
    }
}

impl LocalTransport {
    /// The candidate lines of component 1 (RFC 8839 §5.1); there is no other.
    fn candidates(&self) -> impl Iterator<Item = String> {
        self.candidates.iter().zip(1u32..).map(|(address, foundation)| {
            // RFC 8445 §5.1.2.1: type preference 126 (host), local preference falling, component 1.
            let priority = (126 << 24) + (65_536u32.saturating_sub(foundation) << 8) + 255;
            format!("{foundation} 1 udp {priority} {} {} typ host", address.ip(), address.port())
        })
    }
}

/// A random session id below 2^62, so that every implementation can read it.
pub(super) fn session_id() -> u64 {
    rand::random::<u64>() >> 2
}

/// The whole document. `sections` come with their mid where they are in the BUNDLE group.
pub(super) fn document(
    id: u64,
    version: u64,
    allow_mixed: bool,
    sections: Vec<(Option<String>, MediaDescription)>,
) -> String {
    let mut session = SessionDescription::new_jsep_session_description(false);
    session.origin.session_id = id;
    // The library takes a part of the clock; it has to grow (RFC 8829 §5.2.2).
    session.origin.session_version = version;
    let bundled: Vec<&str> = sections.iter().filter_map(|(mid, _)| mid.as_deref()).collect();
    session = session
        .with_value_attribute("group".to_owned(), format!("BUNDLE {}", bundled.join(" ")))
        .with_property_attribute("ice-lite".to_owned())
        .with_value_attribute("msid-semantic".to_owned(), " WMS *".to_owned());
    if allow_mixed {
        session = session.with_property_attribute("extmap-allow-mixed".to_owned());
    }
    session.media_descriptions = sections.into_iter().map(|(_, media)| media).collect();
    session.marshal()
}

/// An m-section under construction.
pub(super) struct Section(MediaDescription);

impl Section {
    /// `m=` and `c=`; port 0 rejects the section.
    pub(super) fn new(media: &str, port: u16, protos: &[String], formats: Vec<String>) -> Self {
        let address = Some(Address { address: "0.0.0.0".to_owned(), ttl: None, range: None });
        Self(MediaDescription {
            media_name: MediaName {
                media: media.to_owned(),
                port: RangedPort { value: isize::try_from(port).unwrap_or_default(), range: None },
                protos: protos.to_owned(),
                formats,
            },
            connection_information: Some(ConnectionInformation {
                network_type: "IN".to_owned(),
                address_type: "IP4".to_owned(),
                address,
            }),
            ..MediaDescription::default()
        })
    }

    /// The data channel section (RFC 8841).
    pub(super) fn data() -> Self {
        let protos = ["UDP", "DTLS", "SCTP"].map(str::to_owned);
        let mut section = Self::new("application", 9, &protos, vec!["webrtc-datachannel".to_owned()]);
        section.value("sctp-port", "5000");
        section.value("max-message-size", MAX_MESSAGE.to_string());
        section
    }

    /// An audio or video section with these codecs, which must not be empty.
    pub(super) fn rtp(media: &str, codecs: &[SectionCodec]) -> Self {
        let protos = ["UDP", "TLS", "RTP", "SAVPF"].map(str::to_owned);
        let mut section = Self::new(media, 9, &protos, Vec::new());
        for codec in codecs {
            let number = codec.payload.number;
            section.0.media_name.formats.push(number.to_string());
            section.value("rtpmap", format!("{number} {}", codec.encoding()));
            if !codec.fmtp.is_empty() {
                section.value("fmtp", format!("{number} {}", codec.fmtp));
            }
            for name in codec.feedback.names() {
                section.value("rtcp-fb", format!("{number} {name}"));
            }
            if let Some(rtx) = codec.payload.rtx {
                section.0.media_name.formats.push(rtx.to_string());
                section.value("rtpmap", format!("{rtx} rtx/90000"));
                section.value("fmtp", format!("{rtx} apt={number}"));
            }
        }
        section
    }

    /// `a=key`
    pub(super) fn flag(&mut self, key: &str) {
        self.0 = std::mem::take(&mut self.0).with_property_attribute(key.to_owned());
    }

    /// `a=key:value`
    pub(super) fn value(&mut self, key: &str, value: impl Into<String>) {
        self.0 = std::mem::take(&mut self.0).with_value_attribute(key.to_owned(), value.into());
    }

    /// What a section that sends says of its track and SSRCs.
    pub(super) fn source(&mut self, stream: &str, track: &str, cname: &str, ssrc: u32, rtx: Option<u32>) {
        self.value("msid", format!("{stream} {track}"));
        if let Some(rtx) = rtx {
            self.value("ssrc-group", format!("FID {ssrc} {rtx}"));
        }
        for ssrc in std::iter::once(ssrc).chain(rtx) {
            self.value("ssrc", format!("{ssrc} cname:{cname}"));
        }
    }

    /// Adds mid, ICE and DTLS; candidates only where asked for: one section's are valid for the whole bundle.
    pub(super) fn finish(
        mut self,
        mid: &str,
        local: &LocalTransport,
        setup: &str,
        candidates: bool,
    ) -> MediaDescription {
        self.value("mid", mid);
        self.value("ice-ufrag", local.ice_ufrag.as_str());
        self.value("ice-pwd", local.ice_pwd.as_str());
        self.value("fingerprint", format!("sha-256 {}", local.fingerprint));
        self.value("setup", setup);
        if candidates {
            for candidate in local.candidates() {
                self.value("candidate", candidate);
            }
            self.flag("end-of-candidates");
        }
        self.0
    }

    /// A rejected section: nothing but its mid.
    pub(super) fn rejected(mut self, mid: &str) -> MediaDescription {
        self.value("mid", mid);
        self.flag("inactive");
        self.0
    }
}

/// `audio` or `video`.
pub(super) fn media_name(kind: crate::media::control::Kind) -> &'static str {
    match kind {
        crate::media::control::Kind::Audio => "audio",
        crate::media::control::Kind::Video => "video",
    }
}
