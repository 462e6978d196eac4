//! A PeerConnection of the `webrtc` crate, set up as a LiveKit client's: VP8 with RTX, Opus, the usual header extensions.

use std::sync::Arc;

use anyhow::Result;
use rtc::{
    media_stream::MediaStreamTrack,
    rtp_transceiver::rtp_sender::{
        RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters, RTCRtpEncodingParameters,
        RTCRtpHeaderExtensionCapability, RtpCodecKind,
    },
};
use tokio::sync::mpsc;
use webrtc::{
    data_channel::DataChannel,
    media_stream::track_remote::TrackRemote,
    peer_connection::{
        MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCPeerConnectionIceEvent,
        RTCPeerConnectionState, Registry, configure_nack, configure_rtcp_reports,
        configure_simulcast_extension_headers, configure_twcc,
    },
    runtime::{Runtime, TokioRuntime},
};

use crate::{
    media::LAYERS,
    wire::{Tamper, Wire},
};

const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

/// Which of a participant's PeerConnections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The one the client offers (in v1 the only one).
    Publisher,
    /// The one the server offers (v0).
    Subscriber,
}

/// What a PeerConnection reports.
pub enum Event {
    /// A local candidate, as JSON for `trickle`.
    Candidate(Side, String),
    /// The connection's state.
    State(Side, RTCPeerConnectionState),
    /// The first packet of a received track.
    Track(Arc<dyn TrackRemote>),
    /// A data channel the server opened.
    Channel(Arc<dyn DataChannel>),
}

struct Handler {
    side: Side,
    events: mpsc::UnboundedSender<Event>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_candidate(&self, event: RTCPeerConnectionIceEvent) {
        if let Ok(init) = event.candidate.to_json()
            && let Ok(json) = serde_json::to_string(&init)
        {
            let _ = self.events.send(Event::Candidate(self.side, json));
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        let _ = self.events.send(Event::State(self.side, state));
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let _ = self.events.send(Event::Track(track));
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let _ = self.events.send(Event::Channel(channel));
    }
}

/// A new PeerConnection that reports to `events`, over an untouched network or a tampered one.
///
/// # Errors
/// No socket can be opened.
pub async fn connect(
    side: Side,
    events: mpsc::UnboundedSender<Event>,
    tamper: Option<Arc<dyn Tamper>>,
) -> Result<Arc<dyn PeerConnection>> {
    let mut media = MediaEngine::default();
    media.register_codec(opus(), RtpCodecKind::Audio)?;
    media.register_codec(vp8(), RtpCodecKind::Video)?;
    media.register_codec(rtx(), RtpCodecKind::Video)?;
    for uri in [MID, AUDIO_LEVEL] {
        media.register_header_extension(
            RTCRtpHeaderExtensionCapability { uri: uri.to_owned() },
            RtpCodecKind::Audio,
            None,
        )?;
    }
    configure_simulcast_extension_headers(&mut media)?;
    let registry = configure_nack(Registry::new(), &mut media);
    let registry = configure_rtcp_reports(configure_twcc(registry, &mut media)?);
    let runtime: Arc<dyn Runtime> = match tamper {
        Some(tamper) => Arc::new(Wire(tamper)),
        None => Arc::new(TokioRuntime),
    };
    let connection = PeerConnectionBuilder::new()
        .with_runtime(runtime)
        .with_media_engine(media)
        .with_interceptor_registry(registry)
        .with_handler(Arc::new(Handler { side, events }))
        .with_udp_addrs(vec!["0.0.0.0:0"])
        .build()
        .await?;
    Ok(Arc::new(connection))
}

fn opus() -> RTCRtpCodecParameters {
    RTCRtpCodecParameters { rtp_codec: opus_codec(), payload_type: 111 }
}

fn opus_codec() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: "audio/opus".to_owned(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".to_owned(),
        rtcp_feedback: vec![],
    }
}

fn vp8() -> RTCRtpCodecParameters {
    RTCRtpCodecParameters { rtp_codec: vp8_codec(), payload_type: 96 }
}

fn vp8_codec() -> RTCRtpCodec {
    let feedback = |kind: &str, parameter: &str| RTCPFeedback { typ: kind.to_owned(), parameter: parameter.to_owned() };
    RTCRtpCodec {
        mime_type: "video/VP8".to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: String::new(),
        rtcp_feedback: vec![
            feedback("goog-remb", ""),
            feedback("ccm", "fir"),
            feedback("nack", ""),
            feedback("nack", "pli"),
        ],
    }
}

fn rtx() -> RTCRtpCodecParameters {
    let rtp_codec = RTCRtpCodec {
        mime_type: "video/rtx".to_owned(),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: "apt=96".to_owned(),
        rtcp_feedback: vec![],
    };
    RTCRtpCodecParameters { rtp_codec, payload_type: 97 }
}

/// A local track: VP8 with the rids of [`LAYERS`], or Opus. `id` becomes the second token of `a=msid`, LiveKit's `cid`.
#[must_use]
pub fn local_track(id: &str, video: bool) -> MediaStreamTrack {
    let encoding = |rid: &str, codec: &RTCRtpCodec| RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            rid: rid.to_owned(),
            ssrc: Some(rand::random()),
            ..RTCRtpCodingParameters::default()
        },
        active: true,
        codec: codec.clone(),
        ..RTCRtpEncodingParameters::default()
    };
    let (kind, encodings) = if video {
        (RtpCodecKind::Video, LAYERS.iter().map(|(rid, ..)| encoding(rid, &vp8_codec())).collect())
    } else {
        (RtpCodecKind::Audio, vec![encoding("", &opus_codec())])
    };
    MediaStreamTrack::new("bot".to_owned(), id.to_owned(), id.to_owned(), kind, encodings)
}
