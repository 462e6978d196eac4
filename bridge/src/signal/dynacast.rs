//! What a publisher is told of the layers that anybody gets (`subscribed_quality_update`), and what the media worker is
//! told of the layers that a publisher describes. Pure.

use livekit_protocol::{
    SubscribedCodec, SubscribedQuality, SubscribedQualityUpdate, TrackInfo, TrackSource, VideoLayer, VideoQuality,
};

use super::description::{layers_at, layers_in};
use crate::media::control::{Codec, Command, TrackId};

/// Layers a track can have.
const LAYERS: usize = 3;

/// The message that says how many of the lowest layers of a track are `needed` in each of its codecs, by quality as its
/// publisher named them. Clients go by the codecs; the list outside of them is for older ones, which send only the first.
pub(crate) fn update(info: &TrackInfo, needed: impl Fn(usize) -> u8) -> SubscribedQualityUpdate {
    let name = |mime: &str| mime.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let codec = |place: usize| SubscribedCodec {
        codec: match info.codecs.get(place) {
            Some(codec) if place > 0 => name(&codec.mime_type),
            _ => name(&info.mime_type),
        },
        qualities: qualities(layers_at(info, place), needed(place)),
    };
    let subscribed_codecs: Vec<_> = (0..info.codecs.len().max(1)).map(codec).collect();
    #[expect(deprecated, reason = "older clients read it")]
    SubscribedQualityUpdate {
        track_sid: info.sid.clone(),
        subscribed_qualities: subscribed_codecs[0].qualities.clone(),
        subscribed_codecs,
    }
}

/// Which qualities the lowest `needed` of these layers are.
fn qualities(layers: &[VideoLayer], needed: u8) -> Vec<SubscribedQuality> {
    let highest = match usize::from(needed) {
        0 => None,
        needed if needed >= layers.len() => Some(VideoQuality::High),
        needed => Some(layers[needed - 1].quality()),
    };
    let quality = |quality: VideoQuality| SubscribedQuality {
        quality: quality.into(),
        enabled: highest.is_some_and(|highest| quality <= highest),
    };
    [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High].map(quality).into()
}

/// What the media worker has to know of a video track before its packets come, in the codec in which they come.
pub(crate) fn description(track: TrackId, info: &TrackInfo, codec: Option<Codec>) -> Command {
    let mut bitrates = [0; LAYERS];
    for (bits, layer) in bitrates.iter_mut().zip(layers_in(info, codec)) {
        *bits = layer.bitrate;
    }
    Command::DescribeTrack { track, screen: info.source() == TrackSource::ScreenShare, bitrates }
}

#[cfg(test)]
mod tests {
    use livekit_protocol::SimulcastCodecInfo;

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
        let update = update(info, |_| needed);
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
    fn each_codec_is_told_by_itself() {
        use VideoQuality::{High, Low, Medium};
        let mut track = info(&[High]);
        let backup =
            SimulcastCodecInfo { mime_type: "video/H264".into(), ..info(&[Low, Medium, High]).codecs[0].clone() };
        track.codecs.push(backup);
        for (needed, expected) in [([0, 2], [[false; 3], [true, true, false]]), ([1, 0], [[true; 3], [false; 3]])] {
            let update = update(&track, |place| needed[place]);
            let told = |codec: &SubscribedCodec| {
                let enabled: Vec<_> = codec.qualities.iter().map(|quality| quality.enabled).collect();
                (codec.codec.clone(), enabled)
            };
            let told: Vec<_> = update.subscribed_codecs.iter().map(told).collect();
            assert_eq!(told, [("vp8".to_owned(), expected[0].to_vec()), ("h264".to_owned(), expected[1].to_vec())]);
            #[expect(deprecated, reason = "older clients read it")]
            let plain = &update.subscribed_qualities;
            assert_eq!(*plain, update.subscribed_codecs[0].qualities);
        }
    }

    #[test]
    fn the_worker_learns_what_is_described() {
        let track = TrackId(7);
        let two = info(&[VideoQuality::Low, VideoQuality::High]);
        let Command::DescribeTrack { track: of, screen, bitrates } = description(track, &two, None) else { panic!() };
        assert_eq!((of, screen, bitrates), (track, true, [100, 200, 0]));
        let camera = TrackInfo { source: TrackSource::Camera.into(), ..info(&[VideoQuality::Low; 8]) };
        let Command::DescribeTrack { screen, bitrates, .. } = description(track, &camera, None) else { panic!() };
        assert_eq!((screen, bitrates), (false, [100, 200, 300]));
        let mut both = two;
        both.codecs[0].mime_type = "video/VP9".into();
        both.codecs
            .push(SimulcastCodecInfo { mime_type: "video/VP8".into(), ..info(&[VideoQuality::Low]).codecs[0].clone() });
        let Command::DescribeTrack { bitrates, .. } = description(track, &both, Some(Codec::Vp8)) else { panic!() };
        assert_eq!(bitrates, [100, 0, 0], "the codec's own");
    }
}
