//! RTP header extensions (RFC 8285): which are negotiated in which section, and their ids.

use rtc::sdp::description::media::MediaDescription;

use crate::media::control::{ExtensionIds, Kind};

/// A header extension that we know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extension {
    /// `sdes:mid`
    Mid,
    /// `sdes:rtp-stream-id`
    Rid,
    /// `sdes:repaired-rtp-stream-id`
    RepairedRid,
    /// `ssrc-audio-level`
    AudioLevel,
    /// transport-wide congestion control
    Twcc,
    /// `abs-send-time`
    AbsSendTime,
    /// AV1 dependency descriptor
    DependencyDescriptor,
    /// `abs-capture-time`
    AbsCaptureTime,
    /// `playout-delay`
    PlayoutDelay,
    /// `urn:3gpp:video-orientation`
    VideoOrientation,
}

use Extension::{
    AbsCaptureTime, AbsSendTime, AudioLevel, DependencyDescriptor, Mid, PlayoutDelay, RepairedRid, Rid, Twcc,
    VideoOrientation,
};

const ALL: [(Extension, &str); 10] = [
    (Mid, "urn:ietf:params:rtp-hdrext:sdes:mid"),
    (Rid, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"),
    (RepairedRid, "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"),
    (AudioLevel, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
    (Twcc, "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"),
    (AbsSendTime, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
    (DependencyDescriptor, "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension"),
    (AbsCaptureTime, "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"),
    (PlayoutDelay, "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"),
    (VideoOrientation, "urn:3gpp:video-orientation"),
];

impl Extension {
    pub(super) fn uri(self) -> &'static str {
        ALL.iter().find(|(extension, _)| *extension == self).map_or("", |(_, uri)| uri)
    }

    fn of_uri(uri: &str) -> Option<Self> {
        ALL.iter().find(|(_, known)| *known == uri).map(|(extension, _)| *extension)
    }

    /// Its place in the ids of a transport.
    pub(super) fn slot(self, ids: &mut ExtensionIds) -> &mut u8 {
        match self {
            Mid => &mut ids.mid,
            Rid => &mut ids.rid,
            RepairedRid => &mut ids.repaired_rid,
            AudioLevel => &mut ids.audio_level,
            Twcc => &mut ids.twcc,
            AbsSendTime => &mut ids.abs_send_time,
            DependencyDescriptor => &mut ids.dependency_descriptor,
            AbsCaptureTime => &mut ids.abs_capture_time,
            PlayoutDelay => &mut ids.playout_delay,
            VideoOrientation => &mut ids.video_orientation,
        }
    }
}

/// What we accept in a client's section. Not the video orientation: without it, senders rotate the picture themselves and
/// every receiver sees it upright.
pub(super) fn accepted(kind: Kind) -> &'static [Extension] {
    match kind {
        Kind::Audio => &[Mid, AudioLevel, Twcc, AbsCaptureTime],
        Kind::Video => &[Mid, Rid, RepairedRid, Twcc, DependencyDescriptor, AbsCaptureTime, PlayoutDelay],
    }
}

/// What we offer to send, with the id in our own offers (1–14, so that one-byte headers do).
pub(super) fn sent(kind: Kind) -> &'static [(Extension, u8)] {
    match kind {
        Kind::Audio => &[(AudioLevel, 1), (Twcc, 3), (Mid, 4), (AbsCaptureTime, 5)],
        Kind::Video => &[(Twcc, 3), (Mid, 4), (AbsCaptureTime, 5), (PlayoutDelay, 6), (DependencyDescriptor, 8)],
    }
}

/// One `a=extmap` of a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SectionExtension {
    /// Which.
    pub extension: Extension,
    /// Its id, 1–255.
    pub id: u8,
    /// The direction to write into an answer: the offered one mirrored (Firefox offers `9/sendonly`).
    pub(super) answer_direction: &'static str,
}

/// The extensions of a section that we know, each at most once.
pub(super) fn of_section(media: &MediaDescription) -> Vec<SectionExtension> {
    let mut extensions: Vec<SectionExtension> = Vec::new();
    for attribute in media.attributes.iter().filter(|attribute| attribute.key == "extmap") {
        let mut words = attribute.value.as_deref().unwrap_or_default().split_ascii_whitespace();
        let (Some(id), Some(extension)) = (words.next(), words.next().and_then(Extension::of_uri)) else { continue };
        let (id, direction) = id.split_once('/').map_or((id, None), |(id, direction)| (id, Some(direction)));
        let answer_direction = match direction {
            Some("sendonly") => "/recvonly",
            Some("recvonly") => "/sendonly",
            Some("inactive") => continue,
            _ => "",
        };
        // 15 is reserved in one-byte headers (RFC 8285 §4.2).
        let Some(id) = id.parse::<u8>().ok().filter(|id| *id != 0 && *id != 15) else { continue };
        if !extensions.iter().any(|e| e.extension == extension || e.id == id) {
            extensions.push(SectionExtension { extension, id, answer_direction });
        }
    }
    extensions
}
