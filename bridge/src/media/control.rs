//! What signalling and the media workers say to each other: [`Command`]s in, [`Event`]s out.
//!
//! Everything here is plain data. Signalling (tokio) negotiates SDP, mints the ids and SSRCs, and sends commands to the
//! worker that owns the room; the worker (one thread, no locks) answers with events. Neither side shares state.

use std::net::SocketAddr;

use bytes::Bytes;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(pub u64);

        impl $name {
            /// A new id, unique in this process.
            #[must_use]
            pub fn next() -> Self {
                use std::sync::atomic::{AtomicU64, Ordering};
                static NEXT: AtomicU64 = AtomicU64::new(1);
                Self(NEXT.fetch_add(1, Ordering::Relaxed))
            }
        }
    };
}

id!(
    /// A room as the media workers know it.
    RoomId
);
id!(
    /// One PeerConnection: ICE, DTLS, SRTP and SCTP towards one client. A v0 participant has two, a v1 participant one.
    TransportId
);
id!(
    /// A published track (all its simulcast layers).
    TrackId
);
id!(
    /// One subscriber's copy of a published track.
    LegId
);

/// Audio or video.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// The codecs that are forwarded. RTX is a property of a codec's payload type, not a codec here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Codec {
    /// RFC 7587, DTX and in-band FEC passed through.
    Opus,
    /// RFC 2198 redundant Opus (`audio/red`), passed through whole.
    Red,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184, packetisation mode 1.
    H264,
    /// AOM's RTP payload format for AV1.
    Av1,
}

impl Codec {
    /// Audio or video.
    #[must_use]
    pub fn kind(self) -> Kind {
        match self {
            Self::Opus | Self::Red => Kind::Audio,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => Kind::Video,
        }
    }
}

/// A negotiated payload type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PayloadType {
    /// The number in the RTP header, 0–127.
    pub number: u8,
    /// What it carries.
    pub codec: Codec,
    /// The payload type of its retransmissions (RFC 4588), if negotiated.
    pub rtx: Option<u8>,
    /// H.264 `profile-level-id` (24 bits); 0 where it does not apply. Two H.264 payload types match when their
    /// upper 16 bits (profile_idc, constraint flags) do.
    pub profile: u32,
}

/// Header-extension ids as negotiated on one transport (RFC 8285); 0 is "not negotiated".
/// Ids are the same in all sections of a BUNDLE.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`
    pub mid: u8,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`
    pub rid: u8,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`
    pub repaired_rid: u8,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level`
    pub audio_level: u8,
    /// transport-wide congestion control, draft-holmer-rmcat-transport-wide-cc-extensions-01
    pub twcc: u8,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`
    pub abs_send_time: u8,
    /// AV1 dependency descriptor
    pub dependency_descriptor: u8,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`
    pub abs_capture_time: u8,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`
    pub playout_delay: u8,
    /// `urn:3gpp:video-orientation`
    pub video_orientation: u8,
}

/// ICE credentials of both sides (RFC 8445 §5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceParameters {
    /// Ours: at least 24 random bits, unique in this process; the demultiplexer finds the transport by it.
    pub local_ufrag: String,
    /// Ours: at least 128 random bits.
    pub local_pwd: String,
    /// The peer's.
    pub remote_ufrag: String,
    /// The peer's.
    pub remote_pwd: String,
}

impl std::fmt::Debug for IceParameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IceParameters({}:{})", self.local_ufrag, self.remote_ufrag)
    }
}

/// A way to another bridge for one room, as the two bridges have agreed on it: no ICE and no DTLS, since they know each
/// other already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RelayParameters {
    /// Where the other bridge's worker can be reached, best first.
    pub remote: Vec<SocketAddr>,
    /// What we seal with; made by us.
    pub seal: RelayKey,
    /// What we open with; made by the other bridge.
    pub open: RelayKey,
    /// The SSRC that the other bridge's RTCP bears; chosen by us, unique on the worker.
    pub listen_ssrc: u32,
    /// The SSRC that our RTCP bears; chosen by the other bridge.
    pub report_ssrc: u32,
    /// At most so many bits per second towards the other bridge; `None` is no limit.
    pub limit: Option<u64>,
}

/// A master key and salt of SRTP with AES-GCM (RFC 7714): 16 or 32 and 12 bytes. It is used for one session of two bridges
/// and never again.
#[derive(Clone, PartialEq, Eq)]
pub struct RelayKey {
    /// The key.
    pub key: Vec<u8>,
    /// The salt.
    pub salt: Vec<u8>,
}

impl RelayKey {
    /// A new one for AES-256-GCM.
    #[must_use]
    pub fn random() -> Self {
        Self { key: rand::random::<[u8; 32]>().to_vec(), salt: rand::random::<[u8; 12]>().to_vec() }
    }
}

impl std::fmt::Debug for RelayKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RelayKey({} bits)", self.key.len() * 8)
    }
}

/// What the SDP says of DTLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DtlsParameters {
    /// SHA-256 of the peer's certificate (`a=fingerprint`).
    pub remote_fingerprint: [u8; 32],
    /// Whether we are the DTLS client. Answers say `setup:passive`, so normally false.
    pub active: bool,
}

/// One m-section on which the client sends: a published track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceiveSection {
    /// `a=mid`
    pub mid: String,
    /// The published track.
    pub track: TrackId,
    /// Audio or video.
    pub kind: Kind,
    /// In the order of the answer.
    pub payload_types: Vec<PayloadType>,
    /// Simulcast RIDs from the lowest to the highest layer (`["q", "h", "f"]`); empty without simulcast.
    pub rids: Vec<String>,
    /// From `a=ssrc` and `a=ssrc-group:FID` or `SIM`, or by the word of another bridge: (media, its RTX), lowest layer first; 0 where
    /// it is not known. Often empty: then learnt from mid and rid.
    pub ssrcs: Vec<(u32, Option<u32>)>,
}

/// One m-section on which the client receives: a subscriber's copy of a track.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SendSection {
    /// This copy.
    pub leg: LegId,
    /// Of which published track.
    pub track: TrackId,
    /// `a=mid`
    pub mid: String,
    /// What the subscriber accepts; a packet whose codec is not among them is not forwarded.
    pub payload_types: Vec<PayloadType>,
    /// Our SSRC for this leg, unique on the transport.
    pub ssrc: u32,
    /// Our RTX SSRC.
    pub rtx_ssrc: u32,
    /// Whether this section takes part in transport-wide congestion control. Firefox's audio sections do not: it would
    /// report every packet numbered there as lost.
    pub transport_wide: bool,
    /// What of the track this subscriber wants at first.
    pub wanted: Wanted,
}

/// What a subscriber wants of a track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The highest simulcast layer (index into [`ReceiveSection::rids`]; 0 is the lowest); `None` pauses the leg.
    /// More than the track has means its highest.
    pub layer: Option<u8>,
    /// So many frames per second are enough; 0: all there are.
    pub fps: u8,
    /// Which tracks to serve first when the bandwidth is short, 1 the first; 0: no matter.
    pub priority: u8,
}

impl Wanted {
    /// The best layer there is.
    pub const BEST: Self = Self::up_to(u8::MAX);
    /// Nothing.
    pub const PAUSED: Self = Self { layer: None, fps: 0, priority: 0 };

    /// At most this layer, with all its frames.
    #[must_use]
    pub const fn up_to(layer: u8) -> Self {
        Self { layer: Some(layer), fps: 0, priority: 0 }
    }
}

/// The data channels of the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Channel {
    /// `_reliable`: ordered, reliable.
    Reliable,
    /// `_lossy`: unordered, no retransmissions.
    Lossy,
}

impl Channel {
    /// The label in DCEP's OPEN.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Reliable => "_reliable",
            Self::Lossy => "_lossy",
        }
    }
}

/// To a worker. Commands for an unknown id are ignored: the other side may have closed at the same instant.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    /// Makes a room on this worker.
    OpenRoom {
        /// The new room.
        room: RoomId,
    },
    /// Ends a room and closes what is still in it.
    CloseRoom {
        /// Which one.
        room: RoomId,
    },
    /// The client is sent an offer: its connectivity checks, which may come before its answer does, are answered.
    ExpectChecks {
        /// Which transport, not open yet or about to restart ICE.
        transport: TransportId,
        /// Ours, as offered.
        local_ufrag: String,
        /// Ours, as offered.
        local_pwd: String,
    },
    /// Prepares a PeerConnection; the client's connectivity checks may come at any time after.
    OpenTransport {
        /// The new transport.
        transport: TransportId,
        /// Its room.
        room: RoomId,
        /// ICE credentials.
        ice: IceParameters,
        /// DTLS role and fingerprint.
        dtls: DtlsParameters,
        /// True where the server opens `_reliable` and `_lossy` itself (v0's subscriber PeerConnection).
        open_channels: bool,
    },
    /// The client of a transport that is being opened goes on with a PeerConnection that it made with another server.
    GoOn {
        /// The transport.
        transport: TransportId,
        /// The SCTP streams of `_reliable` and `_lossy`, which go on in an association that replaces the client's.
        channels: [Option<u16>; 2],
        /// What the other server knew of the way to the client.
        downlink: Option<Downlink>,
    },
    /// Asks for [`Event::Described`].
    Describe {
        /// The transport.
        transport: TransportId,
    },
    /// Opens the way to another bridge. On a transport that is open already, keys, addresses and SSRCs are replaced: what
    /// comes from there stays known, what goes there has to be negotiated again.
    ///
    /// [`Command::Negotiated`] then has sections without mids. What comes from there is told by the declared SSRCs, whose
    /// packets bear no mid; the sections' `mid` names the participant. Each section to send carries exactly one stream of a
    /// track with several, [`Wanted::layer`], and of any other track the layers up to it.
    OpenRelay {
        /// The transport.
        transport: TransportId,
        /// Its room.
        room: RoomId,
        /// What the bridges agreed on.
        parameters: Box<RelayParameters>,
    },
    /// New ICE credentials (ICE restart); DTLS and SRTP go on.
    RestartIce {
        /// Which transport.
        transport: TransportId,
        /// The new credentials.
        ice: IceParameters,
    },
    /// Closes a transport with its legs and tracks, sends close_notify.
    CloseTransport {
        /// Which one.
        transport: TransportId,
    },
    /// The negotiated state of a transport. Replaces the earlier one: tracks and legs not named any more are removed, the
    /// others go on undisturbed.
    Negotiated {
        /// Which transport.
        transport: TransportId,
        /// Header-extension ids.
        extensions: ExtensionIds,
        /// What the client sends.
        receive: Vec<ReceiveSection>,
        /// What the client gets.
        send: Vec<SendSection>,
    },
    /// What a subscriber wants of a track from now on.
    Want {
        /// The subscriber's transport.
        transport: TransportId,
        /// Which leg.
        leg: LegId,
        /// What it wants.
        wanted: Wanted,
    },
    /// What its publisher says of a track.
    DescribeTrack {
        /// Which track; negotiated before.
        track: TrackId,
        /// Whether it shows a screen: that is served first and rather sharp than smooth.
        screen: bool,
        /// The bits per second of each layer, the lowest first, for as long as nothing was measured; 0 is unknown.
        bitrates: [u32; 3],
    },
    /// A muted track is not forwarded, whatever its publisher sends.
    MuteTrack {
        /// Which track.
        track: TrackId,
        /// Muted or not.
        muted: bool,
    },
    /// An audio track that everybody gets also in rooms where only the loudest voices are forwarded: a screen share's
    /// sound, an interpreter.
    ExemptTrack {
        /// Which track.
        track: TrackId,
        /// Exempt or not.
        exempt: bool,
    },
    /// A track whose payload its clients encrypt (end to end): nothing can be put around it.
    EncryptedTrack {
        /// Which track.
        track: TrackId,
    },
    /// Sends one message on a data channel of the protocol; waits (bounded) until the channel is open.
    SendData {
        /// To which transport.
        transport: TransportId,
        /// Which channel.
        channel: Channel,
        /// The message, at most [`MAX_MESSAGE`] bytes.
        payload: Bytes,
    },
}

/// The largest data-channel message, bytes, either way (`a=max-message-size`).
pub const MAX_MESSAGE: usize = 262_144;

/// From a worker.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// ICE and DTLS are up, media can flow.
    Connected {
        /// Which transport.
        transport: TransportId,
        /// The client's address.
        remote: SocketAddr,
    },
    /// The transport is gone (already removed from the worker).
    Closed {
        /// Which transport.
        transport: TransportId,
        /// Why.
        reason: CloseReason,
    },
    /// A data channel of the protocol is open in this direction.
    ChannelOpen {
        /// Which transport.
        transport: TransportId,
        /// Which channel.
        channel: Channel,
    },
    /// A message on a data channel of the protocol.
    Data {
        /// From which transport.
        transport: TransportId,
        /// Which channel.
        channel: Channel,
        /// The message.
        payload: Bytes,
    },
    /// The first media packet of a track, or of another codec of it.
    TrackStarted {
        /// The publisher's transport.
        transport: TransportId,
        /// Which track.
        track: TrackId,
        /// What is sent.
        codec: Codec,
    },
    /// What is known of the way to a client, as [`Command::Describe`] asks.
    Described {
        /// The transport.
        transport: TransportId,
        /// The way.
        downlink: Downlink,
    },
    /// By its mid and RID it is known now what an SSRC is for. A client may leave these out once it knows that its packets have
    /// come.
    StreamKnown {
        /// The publisher's transport.
        transport: TransportId,
        /// Which track.
        track: TrackId,
        /// Which of its layers, 0 the lowest.
        layer: u8,
        /// Whether it repairs that layer (RTX).
        rtx: bool,
        /// The SSRC.
        ssrc: u32,
    },
    /// Forwarding to a leg started (again), or stopped because the subscriber's bandwidth does not suffice. Not what
    /// [`Command::Want`] does.
    LegActive {
        /// The subscriber's transport.
        transport: TransportId,
        /// Which leg.
        leg: LegId,
        /// Whether packets flow.
        active: bool,
    },
    /// Which layers of a track anybody gets (dynacast): its publisher need not send more, and has to send these. Until
    /// the first of these events that is all of them. More at once, fewer after a few seconds; never of a muted track,
    /// but once when it is unmuted. Of a track of one stream that comes from another bridge nothing is sent before the
    /// first of them; only such audio tracks have them, too.
    LayersNeeded {
        /// The publisher's transport.
        transport: TransportId,
        /// Which track.
        track: TrackId,
        /// The lowest so many, by RID or spatial layer; 0: nobody gets the track.
        layers: u8,
    },
    /// Who speaks in a room, loudest first. Only when it changed, at most every 300 ms; an empty list is silence.
    Speakers {
        /// The room.
        room: RoomId,
        /// (track, level from 0.0 to 1.0)
        speakers: Vec<(TrackId, f32)>,
    },
    /// Which streams of a track with several that comes from another bridge are to be pulled. Until the first of these
    /// events that is none.
    StreamsNeeded {
        /// The transport to the other bridge.
        transport: TransportId,
        /// Which track.
        track: TrackId,
        /// A bit each, the lowest layer's first.
        streams: u8,
    },
    /// What went over the way to another bridge in the last second; not while it is nothing.
    Relayed {
        /// Which way.
        transport: TransportId,
        /// Bytes of SRTP there.
        sent: u64,
        /// Bytes of RTP from there.
        received: u64,
    },
    /// What a transport's connection is like, every 5 s, and at once when it fell silent or came back.
    Quality {
        /// Which transport.
        transport: TransportId,
        /// Since the last report.
        quality: Quality,
    },
}

/// One direction of a connection.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Way {
    /// Fraction of audio packets lost, 0.0–1.0; towards us what was not repaired, towards the client as it reports.
    pub audio_loss: f32,
    /// The same of video packets.
    pub video_loss: f32,
    /// Interarrival jitter of audio (RFC 3550 §6.4.1), milliseconds.
    pub jitter_ms: f32,
    /// Layers that should come and do not: towards us of the publisher's worst track, towards the client in the mean of
    /// the tracks that it wants and for which its bandwidth does not suffice.
    pub layers_short: f32,
}

/// What a connection is like.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Quality {
    /// Towards us.
    pub up: Way,
    /// Towards the client.
    pub down: Way,
    /// Round-trip time, milliseconds; 0 while unknown.
    pub rtt_ms: f32,
    /// Nothing authenticated has come for some seconds.
    pub silent: bool,
}

/// What is known of the way to a client.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Downlink {
    /// The next packet's transport-wide sequence number. What a client has got counts for it whoever sent it: another server
    /// has to go on behind it.
    pub next_number: u16,
    /// What it is estimated to carry, bits per second; 0 where nothing is known.
    pub bits: u64,
}

/// Why a transport is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CloseReason {
    /// By command.
    Requested,
    /// The client sent close_notify.
    Peer,
    /// No connectivity check within 30 s of opening, or no authenticated packet for 30 s (RFC 7675).
    Timeout,
    /// The DTLS handshake failed: wrong certificate, no SRTP profile, or not finished within 15 s.
    Dtls,
    /// Its data channels: a limit of SCTP's was exceeded, or the client does not read its reliable messages.
    Data,
    /// Its room was closed.
    Room,
}
