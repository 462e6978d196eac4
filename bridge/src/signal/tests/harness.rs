//! A client of the protocol, the offers it writes, and the worker's side.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Deref;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use livekit_protocol::signal_request::Message as Ask;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{
    AddTrackRequest, ConnectionSettings, JoinRequest, JoinResponse, ParticipantInfo, SessionDescription, SignalRequest,
    SignalResponse, TrackSource, TrackType, WrappedJoinRequest, participant_info,
};
use prost::Message as _;
use ratssaal_process::metrics::Metrics;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::config::{Config, SiteConfig};
use crate::media::control::{Command, Event, TransportId};
use crate::media::{Input, Media};
use crate::testing::{TestBridge, Town, bridge_on, guest, soon};
use crate::token::Claims;

/// A bridge whose media worker is the test.
pub(super) struct Watched {
    bridge: TestBridge,
    inputs: std::sync::mpsc::Receiver<Input>,
}

impl Deref for Watched {
    type Target = TestBridge;

    fn deref(&self) -> &TestBridge {
        &self.bridge
    }
}

/// Starts one.
pub(super) async fn bridge(config: Config) -> Watched {
    let (media, inputs) = Media::watched();
    Watched { bridge: bridge_on(media, Metrics::new(), config).await, inputs }
}

/// Two bridges on one allocator: the first takes nobody any more, so that whoever comes to it sits on the second.
pub(super) async fn entry_and_seat() -> (Watched, Watched, Town) {
    let (entry, seat, town) = two_bridges().await;
    town.order("eins", true).await;
    (entry, seat, town)
}

/// Two bridges on one allocator, `eins` and `zwei`.
pub(super) async fn two_bridges() -> (Watched, Watched, Town) {
    two_bridges_at(["", ""]).await
}

/// The same at these sites. Who comes to a site sits there.
pub(super) async fn two_bridges_at(sites: [&str; 2]) -> (Watched, Watched, Town) {
    let town = Town::new();
    let mut bridges = Vec::new();
    for ((name, byte), site) in [("eins", 0x11), ("zwei", 0x22)].into_iter().zip(sites) {
        let site = SiteConfig { name: site.to_owned(), ..SiteConfig::default() };
        let fingerprint = vec![format!("{byte:X}"); 32].join(":");
        let (media, inputs) = Media::watched_as(&fingerprint, vec![([127, 0, 0, 1], byte).into()]);
        bridges.push(Watched { bridge: town.bridge(name, media, Config { site, ..Config::default() }).await, inputs });
    }
    let (zwei, eins) = (bridges.pop().unwrap(), bridges.pop().unwrap());
    (eins, zwei, town)
}

/// Waits until it is so.
pub(super) async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), waiting).await.is_ok(), "never happened: {what}");
}

/// A client: a WebSocket and what came over it so far.
pub(super) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// How a client joins on v1.
pub(super) fn v1(request: JoinRequest) -> (&'static str, String) {
    let settings =
        request.connection_settings.unwrap_or(ConnectionSettings { auto_subscribe: true, ..Default::default() });
    let request = JoinRequest { connection_settings: Some(settings), ..request };
    let wrapped = WrappedJoinRequest { compression: 0, join_request: request.encode_to_vec() };
    let text = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, wrapped.encode_to_vec());
    ("/rtc/v1", format!("join_request={text}"))
}

/// How a client joins on v0.
pub(super) fn v0() -> (&'static str, String) {
    ("/rtc", "protocol=16&sdk=js&auto_subscribe=1".to_owned())
}

pub(super) fn token(bridge: &TestBridge, claims: &Claims) -> String {
    bridge.keys.mint(claims, Duration::from_secs(60))
}

impl Client {
    /// Opens a WebSocket as this identity in the room `rat`, or says why not.
    pub(super) async fn try_open(
        bridge: &TestBridge,
        claims: &Claims,
        (path, query): (&str, String),
    ) -> Result<Self, tungstenite::Error> {
        let url = format!("ws://{}{path}?{query}&access_token={}", bridge.address, token(bridge, claims));
        let (socket, _) = soon(connect_async(url)).await?;
        Ok(Self { socket })
    }

    /// Joins and takes the join response.
    pub(super) async fn join(bridge: &TestBridge, claims: &Claims, way: (&str, String)) -> (Self, JoinResponse) {
        let mut client = Self::try_open(bridge, claims, way).await.unwrap();
        match client.next().await.unwrap() {
            Told::Join(join) => (client, join),
            other => panic!("the first message is {other:?}"),
        }
    }

    /// Joins the room `rat` on v1 with this first offer.
    pub(super) async fn offering(bridge: &TestBridge, identity: &str, sdp: &str) -> (Self, JoinResponse) {
        Self::offering_as(bridge, &guest("rat", identity), sdp).await
    }

    /// The same with these claims.
    pub(super) async fn offering_as(bridge: &TestBridge, claims: &Claims, sdp: &str) -> (Self, JoinResponse) {
        let offer = SessionDescription { r#type: "offer".into(), sdp: sdp.into(), id: 1, ..Default::default() };
        let request = JoinRequest { publisher_offer: Some(offer), ..Default::default() };
        Self::join(bridge, claims, v1(request)).await
    }

    pub(super) async fn ask(&mut self, message: Ask) {
        let request = SignalRequest { message: Some(message) };
        self.raw(Message::Binary(request.encode_to_vec().into())).await;
    }

    pub(super) async fn offer(&mut self, id: u32, sdp: String) {
        self.ask(Ask::Offer(SessionDescription { r#type: "offer".into(), sdp, id, ..Default::default() })).await;
    }

    pub(super) async fn raw(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    pub(super) async fn try_raw(&mut self, message: Message) -> Result<(), tungstenite::Error> {
        self.socket.send(message).await
    }

    /// The next text frame.
    pub(super) async fn text(&mut self) -> String {
        loop {
            if let Message::Text(text) = soon(self.socket.next()).await.unwrap().unwrap() {
                return text.to_string();
            }
        }
    }

    /// The next response; `None` when the WebSocket is closed.
    pub(super) async fn next(&mut self) -> Option<Told> {
        loop {
            match soon(self.socket.next()).await {
                Some(Ok(Message::Binary(bytes))) => return SignalResponse::decode(bytes).unwrap().message,
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    /// The close frame, after whatever is before it.
    pub(super) async fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            match soon(self.socket.next()).await {
                Some(Ok(Message::Close(frame))) => return frame.map(|f| (f.code.into(), f.reason.to_string())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The first response of which `pick` makes something; others are skipped.
    pub(super) async fn until<T>(&mut self, mut pick: impl FnMut(Told) -> Option<T>) -> T {
        loop {
            let message = self.next().await.expect("the WebSocket stays open");
            if let Some(picked) = pick(message) {
                return picked;
            }
        }
    }

    /// Waits until everything this client asked for before has been done.
    pub(super) async fn settled(&mut self) {
        self.ask(Ask::Ping(1)).await;
        self.until(|told| matches!(told, Told::Pong(_)).then_some(())).await;
    }

    pub(super) async fn answer(&mut self) -> SessionDescription {
        self.until(|told| if let Told::Answer(answer) = told { Some(answer) } else { None }).await
    }

    /// The first update of a participant that satisfies `is`.
    pub(super) async fn update(&mut self, is: impl Fn(&ParticipantInfo) -> bool) -> ParticipantInfo {
        let pick = |told| match told {
            Told::Update(update) => update.participants.into_iter().find(|info| is(info)),
            _ => None,
        };
        self.until(pick).await
    }

    /// The goodbye: reason and action.
    pub(super) async fn goodbye(&mut self) -> livekit_protocol::LeaveRequest {
        self.until(|told| if let Told::Leave(leave) = told { Some(leave) } else { None }).await
    }
}

pub(super) fn is_active(info: &ParticipantInfo) -> bool {
    info.state() == participant_info::State::Active
}

/// A track as a client announces it.
pub(super) fn track(cid: &str, r#type: TrackType, source: TrackSource) -> AddTrackRequest {
    AddTrackRequest { cid: cid.into(), r#type: r#type.into(), source: source.into(), ..Default::default() }
}

/// A section of an offer: kind (`audio`, `video` in VP8 only, `vp9` in VP9 and VP8), direction and (where the client sends)
/// client id.
pub(super) type Section<'a> = (&'a str, &'a str, Option<&'a str>);

pub(super) const AUDIO_IN: Section<'_> = ("audio", "recvonly", None);
pub(super) const VIDEO_IN: Section<'_> = ("video", "recvonly", None);

/// An offer as a browser writes it, shortened: a data section (mid 0) and these (mids 1, 2, …).
pub(super) fn offer(sections: &[Section<'_>]) -> String {
    offer_with("ufra", sections)
}

/// The same with an ICE user fragment of four characters.
pub(super) fn offer_with(ufrag: &str, sections: &[Section<'_>]) -> String {
    let mids: Vec<_> = (0..=sections.len()).map(|mid| mid.to_string()).collect();
    let fingerprint = ["AB"; 32].join(":");
    let transport = format!(
        "c=IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {fingerprint}\r\n\
         a=setup:actpass\r\n",
        "p".repeat(24)
    );
    let mut sdp = format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\na=extmap-allow-mixed\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{transport}a=mid:0\r\na=sctp-port:5000\r\n",
        mids.join(" ")
    );
    for (index, (kind, direction, cid)) in sections.iter().enumerate() {
        let codecs = match *kind {
            "audio" => "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10\r\n",
            "vp9" => {
                "m=video 9 UDP/TLS/RTP/SAVPF 98 99 96 97\r\na=rtpmap:98 VP9/90000\r\na=fmtp:98 profile-id=0\r\n\
                 a=rtcp-fb:98 nack pli\r\na=rtpmap:99 rtx/90000\r\na=fmtp:99 apt=98\r\na=rtpmap:96 VP8/90000\r\n\
                 a=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
            }
            _ => {
                "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\n\
                 a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n"
            }
        };
        let _ = write!(sdp, "{codecs}{transport}a=mid:{}\r\na={direction}\r\na=rtcp-mux\r\n", index + 1);
        if let Some(cid) = cid {
            let _ = write!(sdp, "a=msid:- {cid}\r\n");
        }
    }
    sdp
}

/// The media worker's side of a bridge.
#[derive(Default)]
pub(super) struct Worker {
    sinks: HashMap<TransportId, mpsc::Sender<Event>>,
    commands: Vec<Command>,
}

impl Worker {
    /// Takes what the worker was told since. What leads to a response is told before the response is sent.
    pub(super) fn look(&mut self, bridge: &Watched) -> Vec<Command> {
        for input in bridge.inputs.try_iter() {
            match input {
                Input::Command(command) => self.commands.push(command),
                Input::TransportSink(transport, sink) => drop(self.sinks.insert(transport, sink)),
                Input::Word(_) | Input::RoomSink(..) | Input::Way(..) | Input::Stop => {}
            }
        }
        std::mem::take(&mut self.commands)
    }

    /// Says something about a transport to its session.
    pub(super) fn say(&self, transport: TransportId, event: Event) {
        self.sinks[&transport].try_send(event).unwrap();
    }

    /// Says that a transport is connected.
    pub(super) fn connect(&self, transport: TransportId) {
        self.say(transport, Event::Connected { transport, remote: "127.0.0.1:9".parse().unwrap() });
    }
}

/// The transports that were opened.
pub(super) fn opened(commands: &[Command]) -> Vec<TransportId> {
    let open = commands.iter().filter_map(|command| match command {
        Command::OpenTransport { transport, .. } => Some(*transport),
        _ => None,
    });
    open.collect()
}
