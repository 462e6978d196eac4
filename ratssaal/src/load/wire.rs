//! The signalling WebSocket of the LiveKit protocol as a client speaks it.

use std::sync::Arc;
use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use http::Uri;
use livekit_protocol::{
    JoinRequest, SignalRequest, SignalResponse, WrappedJoinRequest, signal_request, signal_response,
};
use prost::Message as _;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error as WsError, Message},
};

use crate::stream::Stream;

/// Opening a WebSocket may take so long.
const CONNECT: Duration = Duration::from_secs(15);

type Socket = WebSocketStream<Stream>;

/// Why a participant is not, or no longer, in the room. The texts say what to do.
#[derive(Clone, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// TCP.
    #[error("{url} cannot be reached ({why}); check --url and that the server runs")]
    Unreachable { url: String, why: String },
    /// TLS.
    #[error("no TLS with {url} ({why}); check the address, and give its certificate authority with --ca")]
    Untrusted { url: String, why: String },
    /// 401, 403.
    #[error("the server refuses the token ({why}); check --api-key and --api-secret")]
    Token { why: String },
    /// The path is unknown.
    #[error(
        "there is no /rtc/v1 at {url} ({status}); is it a server of the LiveKit protocol, with one PeerConnection a client?"
    )]
    NoRoute { status: u16, url: String },
    /// 429, 503.
    #[error(
        "the server takes nobody in ({status}: {why}); its limits are reached, ask for fewer participants or a slower --ramp"
    )]
    Full { status: u16, why: String },
    /// Another answer.
    #[error("the server refuses to join ({status}: {why})")]
    Refused { status: u16, why: String },
    /// The session's end.
    #[error("the server ended the session: {0}")]
    Left(String),
    /// A violation of the protocol.
    #[error("the server does not speak the protocol as expected: {0}")]
    Protocol(String),
    /// The WebSocket broke.
    #[error("the signalling connection broke: {0}")]
    Broken(String),
    /// The media transport ended.
    #[error("no media: {0}")]
    Media(String),
    /// It took too long.
    #[error("not joined after {0} s: {1}")]
    Slow(u64, &'static str),
}

/// The writing half.
pub(crate) struct Sender(SplitSink<Socket, Message>);
/// The reading half.
pub(crate) struct Receiver(SplitStream<Socket>);

/// The address of a WebSocket: `path` at a base URL whose scheme may be http or ws.
pub(super) fn address(base: &str, path: &str) -> String {
    format!("{}{path}", base.trim_end_matches('/').replacen("http", "ws", 1))
}

/// The path and query of a v1 join.
pub(crate) fn join_path(token: &str, join: &JoinRequest) -> String {
    let wrapped = WrappedJoinRequest { compression: 0, join_request: join.encode_to_vec() };
    format!("/rtc/v1?access_token={token}&join_request={}", BASE64_URL_SAFE.encode(wrapped.encode_to_vec()))
}

/// Opens a WebSocket, with TLS if there is a configuration for it.
pub(super) async fn open(
    base: &str,
    tls: Option<&Arc<ClientConfig>>,
    path: &str,
) -> Result<(Sender, Receiver), Failure> {
    let unreachable = |why: String| Failure::Unreachable { url: base.to_owned(), why };
    let url: Uri = base.parse().map_err(|error| unreachable(format!("{error}")))?;
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_u16().unwrap_or(if tls.is_some() { 443 } else { 80 });
    let silent = || unreachable("no answer in 15 s".to_owned());
    let connected = timeout(CONNECT, TcpStream::connect((host, port))).await.map_err(|_| silent())?;
    let tcp = connected.map_err(|error| unreachable(error.to_string()))?;
    // As browsers do; without it the system only sends later.
    let _ = tcp.set_nodelay(true);
    let stream: Stream = match tls {
        None => Box::new(tcp),
        Some(config) => {
            let untrusted = |why: String| Failure::Untrusted { url: base.to_owned(), why };
            let name = ServerName::try_from(host.to_owned()).map_err(|error| untrusted(error.to_string()))?;
            let shaken = timeout(CONNECT, TlsConnector::from(Arc::clone(config)).connect(name, tcp)).await;
            Box::new(shaken.map_err(|_| silent())?.map_err(|error| untrusted(error.to_string()))?)
        }
    };
    open_over(stream, base, path).await
}

/// Opens a WebSocket over a connection that leads to `base`.
pub(crate) async fn open_over(stream: Stream, base: &str, path: &str) -> Result<(Sender, Receiver), Failure> {
    let unreachable = |why: String| Failure::Unreachable { url: base.to_owned(), why };
    let connected = timeout(CONNECT, client_async(address(base, path), stream)).await;
    match connected.map_err(|_| unreachable("no answer in 15 s".to_owned()))? {
        Ok((socket, _)) => {
            let (sender, receiver) = socket.split();
            Ok((Sender(sender), Receiver(receiver)))
        }
        Err(WsError::Http(response)) => {
            let status = response.status().as_u16();
            let text = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default();
            let why: String = text.trim().chars().filter(|c| !c.is_control()).take(200).collect();
            Err(match status {
                401 | 403 => Failure::Token { why },
                200..=399 | 404 => Failure::NoRoute { status, url: base.to_owned() },
                429 | 503 => Failure::Full { status, why },
                _ => Failure::Refused { status, why },
            })
        }
        Err(error) => Err(unreachable(error.to_string())),
    }
}

impl Sender {
    /// Sends one request.
    pub(crate) async fn send(&mut self, message: signal_request::Message) -> Result<(), Failure> {
        let request = SignalRequest { message: Some(message) };
        let frame = Message::Binary(request.encode_to_vec().into());
        self.0.send(frame).await.map_err(|error| Failure::Broken(error.to_string()))
    }

    /// Closes the WebSocket; one that is closed already stays so.
    pub(crate) async fn close(&mut self) {
        let _ = self.0.close().await;
    }
}

impl Receiver {
    /// The next response.
    pub(crate) async fn next(&mut self) -> Result<signal_response::Message, Failure> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) => {
                    let response = SignalResponse::decode(bytes);
                    let response = response.map_err(|error| Failure::Protocol(error.to_string()))?;
                    // A kind this protocol crate does not know is skipped, as clients do.
                    if let Some(message) = response.message {
                        return Ok(message);
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    let why = frame.map_or_else(String::new, |frame| frame.reason.to_string());
                    return Err(Failure::Left(format!("WebSocket closed {why}")));
                }
                None => return Err(Failure::Left("WebSocket closed".to_owned())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(Failure::Broken(error.to_string())),
            }
        }
    }
}
