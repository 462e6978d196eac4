//! Publishing: the announcement of a camera and a microphone, and the task that sends their packets.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use livekit_protocol::{AddTrackRequest, SimulcastCodec, TrackSource, TrackType, VideoLayer, VideoQuality};
use rtc::{
    media_stream::MediaStreamTrack,
    rtp,
    rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit, rtp_sender::RTCRtpEncodingParameters},
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use webrtc::{
    media_stream::track_local::{TrackLocal, static_rtp::TrackLocalStaticRTP},
    peer_connection::PeerConnection,
    rtp_transceiver::RtpTransceiver,
};

use super::state::Shared;
use crate::{
    media::{self, AUDIO, LAYERS},
    peer::local_track,
};

/// A video frame every so many ticks of 20 ms: 10 fps.
const TICKS_PER_FRAME: u64 = 5;
/// A key frame every so many frames, so that a subscriber never waits long for one.
const FRAMES_PER_KEY: u64 = 10;

/// A local track with its transceiver.
pub(super) struct Publication {
    cid: String,
    video: bool,
    track: Arc<TrackLocalStaticRTP>,
    encodings: Vec<RTCRtpEncodingParameters>,
    transceiver: Arc<dyn RtpTransceiver>,
}

impl Publication {
    /// Adds a camera or a microphone to a PeerConnection; the next offer has it.
    pub(super) async fn add(connection: &dyn PeerConnection, video: bool) -> Result<Self> {
        let cid = format!("{}-{:08x}", if video { "camera" } else { "microphone" }, rand::random::<u32>());
        let description: MediaStreamTrack = local_track(&cid, video);
        let encodings = description.codings().to_vec();
        let track = Arc::new(TrackLocalStaticRTP::new(description));
        let init = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Sendonly,
            streams: vec!["bot".to_owned()],
            send_encodings: encodings.clone(),
        };
        let transceiver =
            connection.add_transceiver_from_track(Arc::clone(&track) as Arc<dyn TrackLocal>, Some(init)).await?;
        Ok(Self { cid, video, track, encodings, transceiver })
    }

    /// Its `add_track`.
    pub(super) fn announcement(&self) -> AddTrackRequest {
        if !self.video {
            return AddTrackRequest {
                cid: self.cid.clone(),
                name: "microphone".to_owned(),
                r#type: TrackType::Audio as i32,
                source: TrackSource::Microphone as i32,
                ..AddTrackRequest::default()
            };
        }
        let qualities = [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High];
        let layers: Vec<_> = LAYERS
            .iter()
            .zip(qualities)
            .map(|((rid, width, height, packets), quality)| VideoLayer {
                quality: quality as i32,
                width: *width,
                height: *height,
                bitrate: u32::from(*packets) * 80_000,
                rid: (*rid).to_owned(),
                ..VideoLayer::default()
            })
            .collect();
        AddTrackRequest {
            cid: self.cid.clone(),
            name: "camera".to_owned(),
            r#type: TrackType::Video as i32,
            source: TrackSource::Camera as i32,
            width: LAYERS[2].1,
            height: LAYERS[2].2,
            layers: layers.clone(),
            simulcast_codecs: vec![SimulcastCodec {
                codec: "vp8".to_owned(),
                cid: self.cid.clone(),
                layers,
                ..SimulcastCodec::default()
            }],
            ..AddTrackRequest::default()
        }
    }

    async fn output(&self) -> Result<Output> {
        let sender = self.transceiver.sender().await?.context("the transceiver has no sender")?;
        let parameters = sender.get_parameters().await?.rtp_parameters;
        let id = |uri: &str| {
            let found = parameters.header_extensions.iter().find(|extension| extension.uri == uri);
            found.and_then(|extension| u8::try_from(extension.id).ok())
        };
        let mid = self.transceiver.mid().await?.context("the section has no mid")?;
        let name = if self.video { "video/vp8" } else { "audio/opus" };
        let codec = parameters.codecs.iter().find(|codec| codec.rtp_codec.mime_type.eq_ignore_ascii_case(name));
        let payload_type = codec.with_context(|| format!("{name} was not negotiated"))?.payload_type;
        let mid = id("urn:ietf:params:rtp-hdrext:sdes:mid").map(|id| (id, Bytes::from(mid)));
        let rid = id("urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id");
        let level = id("urn:ietf:params:rtp-hdrext:ssrc-audio-level");
        let streams = self
            .encodings
            .iter()
            .map(|encoding| Stream {
                ssrc: encoding.rtp_coding_parameters.ssrc.unwrap_or_default(),
                rid: encoding.rtp_coding_parameters.rid.clone().into(),
                sequence: rand::random(),
                counter: 0,
            })
            .collect();
        Ok(Output { track: Arc::clone(&self.track), payload_type, mid, rid, level, streams })
    }
}

struct Stream {
    ssrc: u32,
    rid: Bytes,
    sequence: u16,
    counter: u32,
}

struct Output {
    track: Arc<TrackLocalStaticRTP>,
    payload_type: u8,
    mid: Option<(u8, Bytes)>,
    rid: Option<u8>,
    level: Option<u8>,
    streams: Vec<Stream>,
}

impl Output {
    async fn write(&mut self, stream: usize, timestamp: u32, marker: bool, payload: Bytes) -> Result<()> {
        let stream = &mut self.streams[stream];
        let mut header = rtp::header::Header {
            version: 2,
            marker,
            payload_type: self.payload_type,
            sequence_number: stream.sequence,
            timestamp,
            ssrc: stream.ssrc,
            ..rtp::header::Header::default()
        };
        if let Some((id, mid)) = &self.mid {
            header.set_extension(*id, mid.clone())?;
        }
        if let Some(id) = self.rid
            && !stream.rid.is_empty()
        {
            header.set_extension(id, stream.rid.clone())?;
        }
        if let Some(id) = self.level {
            header.set_extension(id, Bytes::from_static(&[0x80 | 20]))?; // voice, -20 dBov
        }
        stream.sequence = stream.sequence.wrapping_add(1);
        stream.counter += 1;
        Ok(self.track.write_rtp(rtp::Packet { header, payload }).await?)
    }
}

/// Sends media until told to stop: an Opus packet each 20 ms, a video frame in three layers each 100 ms.
pub(super) async fn run(
    publications: Arc<[Publication]>,
    number: u32,
    shared: Arc<Shared>,
    stop: CancellationToken,
) -> Result<()> {
    let mut outputs = Vec::new();
    for publication in publications.iter() {
        outputs.push((publication.video, publication.output().await?));
    }
    shared.change(|view| view.publishing = true);
    let result = send(&mut outputs, number, &shared, &stop).await;
    shared.change(|view| view.publishing = false);
    result
}

async fn send(outputs: &mut [(bool, Output)], number: u32, shared: &Shared, stop: &CancellationToken) -> Result<()> {
    let mut ticks = interval(Duration::from_millis(20));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for tick in 0u64.. {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
        }
        for (video, output) in &mut *outputs {
            let clock = if *video { 1800 } else { 960 };
            let timestamp = u32::try_from((tick * clock) & u64::from(u32::MAX)).unwrap_or_default();
            if !*video {
                let counter = output.streams[0].counter;
                output.write(0, timestamp, false, media::opus(number, counter)).await?;
                shared.change(|view| *view.sent.entry(AUDIO).or_default() += 1);
            } else if tick % TICKS_PER_FRAME == u64::from(number) % TICKS_PER_FRAME {
                let frame = tick / TICKS_PER_FRAME;
                frame_of(output, number, frame, timestamp, shared).await?;
            }
        }
    }
    Ok(())
}

async fn frame_of(output: &mut Output, number: u32, frame: u64, timestamp: u32, shared: &Shared) -> Result<()> {
    let picture = u16::try_from(frame & 0x7FFF).unwrap_or_default();
    for layer in 0..LAYERS.len() {
        let counter = output.streams[layer].counter;
        let layer_number = u8::try_from(layer).unwrap_or_default();
        let packets = media::vp8_frame(number, layer_number, counter, picture, frame.is_multiple_of(FRAMES_PER_KEY));
        let last = packets.len() - 1;
        for (index, payload) in packets.into_iter().enumerate() {
            output.write(layer, timestamp, index == last, payload).await?;
            shared.change(|view| *view.sent.entry(layer_number).or_default() += 1);
        }
    }
    Ok(())
}
