//! What a publisher is told of the layers that anybody gets (`subscribed_quality_update`), and what the media worker is
//! told of the layers that a publisher describes. Pure.

use livekit_protocol::{
    SubscribedCodec, SubscribedQuality, SubscribedQualityUpdate, TrackInfo, TrackSource, VideoQuality,
};

use super::publications::layers as described;
use crate::media::control::{Command, TrackId};

/// Layers a track can have.
const LAYERS: usize = 3;

/// The message that says that the lowest `needed` layers of a track are needed, by quality as its publisher named them.
/// Clients go by the codecs; the list outside of them is for older ones.
pub(crate) fn update(info: &TrackInfo, needed: u8) -> SubscribedQualityUpdate {
    let layers = described(info);
    let highest = match usize::from(needed) {
        0 => None,
        needed if needed >= layers.len() => Some(VideoQuality::High),
        needed => Some(layers[needed - 1].quality()),
    };
    let quality = |quality: VideoQuality| SubscribedQuality {
        quality: quality.into(),
        enabled: highest.is_some_and(|highest| quality <= highest),
    };
    let qualities: Vec<_> = [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High].map(quality).into();
    let codec = info.mime_type.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    #[expect(deprecated, reason = "older clients read it")]
    SubscribedQualityUpdate {
        track_sid: info.sid.clone(),
        subscribed_qualities: qualities.clone(),
        subscribed_codecs: vec![SubscribedCodec { codec, qualities }],
    }
}

/// What the media worker has to know of a video track before its packets come.
pub(crate) fn description(track: TrackId, info: &TrackInfo) -> Command {
    let mut bitrates = [0; LAYERS];
    for (bits, layer) in bitrates.iter_mut().zip(described(info)) {
        *bits = layer.bitrate;
    }
    Command::DescribeTrack { track, screen: info.source() == TrackSource::ScreenShare, bitrates }
}

#[cfg(test)]
mod tests {
    use livekit_protocol::{SimulcastCodecInfo, VideoLayer};

    use super::*;

    fn info(qualities: &[VideoQuality]) -> TrackInfo {
        let layer = |(index, &quality): (usize, &VideoQuality)| VideoLayer {
            quality: quality.into(),
            bitrate: 100 * (index as u32 + 1),
            ..Default::default()
        };
        TrackInfo {
            sid: "TR_c".into(),
            mime_type: "video/VP8".into(),
            source: TrackSource::ScreenShare.into(),
            codecs: vec![SimulcastCodecInfo {
                layers: qualities.iter().enumerate().map(layer).collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn enabled(info: &TrackInfo, needed: u8) -> Vec<bool> {
        let update = update(info, needed);
        assert_eq!((update.track_sid.as_str(), update.subscribed_codecs.len()), ("TR_c", 1));
        assert_eq!(update.subscribed_codecs[0].codec, "vp8");
        #[expect(deprecated, reason = "older clients read it")]
        let plain = &update.subscribed_qualities;
        assert_eq!(*plain, update.subscribed_codecs[0].qualities);
        assert_eq!(plain.iter().map(|quality| quality.quality).collect::<Vec<_>>(), [0, 1, 2]);
        plain.iter().map(|quality| quality.enabled).collect()
    }

    #[test]
    fn layers_are_told_by_quality() {
        use VideoQuality::{High, Low, Medium};
        let three = info(&[Low, Medium, High]);
        let expected = [[false; 3], [true, false, false], [true, true, false], [true; 3], [true; 3]];
        for (needed, expected) in expected.iter().enumerate() {
            assert_eq!(enabled(&three, needed as u8), expected, "{needed}");
        }
        let two = info(&[Low, Medium]);
        assert_eq!(enabled(&two, 1), [true, false, false]);
        assert_eq!(enabled(&two, 2), [true; 3], "all there are");
        let one = info(&[High]);
        assert_eq!((enabled(&one, 0), enabled(&one, 1)), (vec![false; 3], vec![true; 3]));
        assert_eq!(enabled(&info(&[]), 1), [true; 3], "a client that describes nothing");
    }

    #[test]
    fn the_worker_learns_what_is_described() {
        let track = TrackId(7);
        let two = info(&[VideoQuality::Low, VideoQuality::High]);
        let Command::DescribeTrack { track: of, screen, bitrates } = description(track, &two) else { panic!() };
        assert_eq!((of, screen, bitrates), (track, true, [100, 200, 0]));
        let camera = TrackInfo { source: TrackSource::Camera.into(), ..info(&[VideoQuality::Low; 8]) };
        let Command::DescribeTrack { screen, bitrates, .. } = description(track, &camera) else { panic!() };
        assert_eq!((screen, bitrates), (false, [100, 200, 300]));
    }
}
