//! Who plays what: a participant's number, what it publishes, whom it sees.

use livekit_protocol::{AddTrackRequest, SimulcastCodec, TrackSource, TrackType, VideoLayer, VideoQuality};
use ratssaal_bridge::client::Source;
use ratssaal_bridge::client::sdp::{OPUS, RTX, Section, VP8};

use super::camera::{Camera, LayerSpec};
use super::impairment::Impairment;
use super::microphone::Microphone;
use super::participant::Published;

/// Clock rates of Opus (RFC 7587) and video.
const CLOCKS: (u32, u32) = (48_000, 90_000);
/// Speech, bit/s.
const OPUS_BITRATE: u32 = 32_000;

/// A participant's role.
#[derive(Clone, Debug)]
pub(super) struct Cast {
    /// Unique in the whole run.
    pub(super) number: u32,
    pub(super) seed: u64,
    /// Publishes audio; the share of time with speech.
    pub(super) talk: Option<f64>,
    /// Publishes video in these layers.
    pub(super) layers: Vec<LayerSpec>,
    pub(super) fps: f64,
    /// How many others are seen; none: all.
    pub(super) tiles: Option<usize>,
    /// Width and height of a tile, pixels.
    pub(super) tile: (u32, u32),
    pub(super) dynacast: bool,
    pub(super) impairment: Impairment,
}

/// The identity of a participant in tokens.
pub(super) fn identity(number: u32) -> String {
    format!("load-{number:05}")
}

/// The number in an identity that is ours.
pub(super) fn number_of(identity: &str) -> Option<u32> {
    identity.strip_prefix("load-")?.parse().ok()
}

impl Cast {
    fn cid(&self, what: &str) -> String {
        format!("{what}-{}", self.number)
    }

    /// Unique on a transport, which is enough; RTX has the next one.
    fn ssrc(&self, at: u32) -> u32 {
        0x1000_0000 + self.number * 16 + 2 * at
    }

    /// Names of layers only where there are several, as browsers do.
    fn rids(&self) -> Vec<String> {
        if self.layers.len() > 1 { self.layers.iter().map(|layer| layer.rid.to_owned()).collect() } else { Vec::new() }
    }

    /// What it publishes, and the sections of its offer for that.
    pub(super) fn publish(&self) -> (Published, Vec<Section>) {
        let (mut published, mut sections) = (Published::default(), Vec::new());
        if let Some(talk) = self.talk {
            let (mid, ssrc) = (sections.len().to_string(), self.ssrc(0));
            sections.push(Section::SendAudio { cid: self.cid("microphone"), ssrc });
            let source = Source { mid, rid: None, ssrc, rtx: None, payload_type: OPUS, clock_rate: CLOCKS.0 };
            let microphone = Microphone::new(self.number, self.seed, talk, OPUS_BITRATE);
            published.microphone = Some((microphone, source));
        }
        if !self.layers.is_empty() {
            let (mid, rids) = (sections.len().to_string(), self.rids());
            let ssrcs: Vec<_> = (1..).take(self.layers.len()).map(|at| (self.ssrc(at), self.ssrc(at) + 1)).collect();
            let source = |(at, (ssrc, rtx)): (usize, &(u32, u32))| Source {
                mid: mid.clone(),
                rid: rids.get(at).cloned(),
                ssrc: *ssrc,
                rtx: Some((*rtx, RTX)),
                payload_type: VP8,
                clock_rate: CLOCKS.1,
            };
            let sources = ssrcs.iter().enumerate().map(source).collect();
            sections.push(Section::SendVideo { cid: self.cid("camera"), ssrcs, rids });
            published.camera = Some((Camera::new(self.number, self.seed, self.fps, &self.layers), sources));
        }
        (published, sections)
    }

    /// The announcements of its tracks.
    pub(super) fn announcements(&self) -> Vec<AddTrackRequest> {
        let mut all = Vec::new();
        if self.talk.is_some() {
            all.push(AddTrackRequest {
                cid: self.cid("microphone"),
                name: "microphone".to_owned(),
                r#type: TrackType::Audio as i32,
                source: TrackSource::Microphone as i32,
                ..AddTrackRequest::default()
            });
        }
        if let Some(top) = self.layers.last() {
            let layer = |(at, layer): (usize, &LayerSpec)| VideoLayer {
                quality: self.quality(at) as i32,
                width: layer.width.into(),
                height: layer.height.into(),
                bitrate: layer.bitrate,
                rid: if self.layers.len() > 1 { layer.rid.to_owned() } else { String::new() },
                ..VideoLayer::default()
            };
            let layers: Vec<_> = self.layers.iter().enumerate().map(layer).collect();
            let cid = self.cid("camera");
            let codec = SimulcastCodec {
                codec: "vp8".to_owned(),
                cid: cid.clone(),
                layers: layers.clone(),
                ..SimulcastCodec::default()
            };
            all.push(AddTrackRequest {
                cid,
                name: "camera".to_owned(),
                r#type: TrackType::Video as i32,
                source: TrackSource::Camera as i32,
                width: top.width.into(),
                height: top.height.into(),
                layers,
                simulcast_codecs: vec![codec],
                ..AddTrackRequest::default()
            });
        }
        all
    }

    /// The protocol's name of a layer; a single one is the best.
    fn quality(&self, layer: usize) -> VideoQuality {
        match layer {
            _ if self.layers.len() == 1 => VideoQuality::High,
            0 => VideoQuality::Low,
            1 => VideoQuality::Medium,
            _ => VideoQuality::High,
        }
    }

    /// Which layers to send when these qualities (low, medium, high) are wanted; `None`: as before.
    pub(super) fn layers_wanted(&self, qualities: &[bool; 3]) -> Option<[bool; 3]> {
        if !self.dynacast {
            return None;
        }
        if self.layers.len() == 1 {
            return Some([qualities.contains(&true), false, false]);
        }
        let mut wanted = [false; 3];
        let all = self.layers.len();
        wanted[..all].copy_from_slice(&qualities[..all]);
        // With two layers, the best that can be had stands for high.
        if all == 2 {
            wanted[1] |= qualities[2];
        }
        Some(wanted)
    }

    /// Whom of those with a camera it sees: those that follow it in number, round about, so that all are seen equally often.
    pub(super) fn visible(&self, cameras: &[u32]) -> Vec<u32> {
        let mut sorted: Vec<u32> = cameras.iter().copied().filter(|number| *number != self.number).collect();
        sorted.sort_unstable();
        let behind = sorted.partition_point(|number| *number < self.number);
        sorted.rotate_left(behind);
        sorted.truncate(self.tiles.unwrap_or(usize::MAX));
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(number: u32, layers: usize, tiles: Option<usize>) -> Cast {
        let layer = LayerSpec { rid: "q", width: 320, height: 180, bitrate: 150_000 };
        Cast {
            number,
            seed: 1,
            talk: Some(0.2),
            layers: vec![layer; layers],
            fps: 30.0,
            tiles,
            tile: (640, 360),
            dynacast: true,
            impairment: Impairment::default(),
        }
    }

    #[test]
    fn everybody_is_seen_equally_often() {
        let all: Vec<u32> = (0..30).collect();
        let mut seen = [0; 30];
        for number in &all {
            let visible = cast(*number, 3, Some(9)).visible(&all);
            assert_eq!(visible.len(), 9);
            assert!(!visible.contains(number));
            visible.iter().for_each(|other| seen[*other as usize] += 1);
        }
        assert_eq!(seen, [9; 30]);
        assert_eq!(cast(5, 3, None).visible(&all).len(), 29);
    }

    #[test]
    fn wanted_qualities_are_layers() {
        assert_eq!(cast(0, 3, None).layers_wanted(&[true, false, true]), Some([true, false, true]));
        assert_eq!(cast(0, 2, None).layers_wanted(&[true, false, true]), Some([true, true, false]));
        assert_eq!(cast(0, 1, None).layers_wanted(&[false, false, true]), Some([true, false, false]));
        assert_eq!(cast(0, 1, None).layers_wanted(&[false; 3]), Some([false; 3]));
        assert_eq!(Cast { dynacast: false, ..cast(0, 3, None) }.layers_wanted(&[false; 3]), None);
    }

    #[test]
    fn identities_are_recognised() {
        assert_eq!(number_of(&identity(42)), Some(42));
        assert_eq!(number_of("somebody"), None);
    }
}
