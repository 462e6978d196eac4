//! The signalling WebSocket as a client speaks it: protobuf `SignalRequest` out, `SignalResponse` in.

use anyhow::{Context, Result, bail};
use base64::{Engine, prelude::BASE64_URL_SAFE};
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use livekit_protocol::{
    self as proto, JoinRequest, SignalRequest, SignalResponse, WrappedJoinRequest, signal_request, signal_response,
};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::server::Server;

/// The protocol number the bots announce.
pub const PROTOCOL: i32 = 15;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The writing half.
pub struct Sender(SplitSink<Socket, Message>);

/// The reading half.
pub struct Receiver(SplitStream<Socket>);

/// Opens any path of the server as a WebSocket.
///
/// # Errors
/// The server refuses the upgrade; the message has its status and text.
pub async fn open(server: &Server, path: &str) -> Result<(Sender, Receiver)> {
    let (socket, _) = match connect_async(format!("{}{path}", server.ws())).await {
        Ok(open) => open,
        Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
            let text = response.body().as_deref().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
            bail!("the WebSocket was refused with {}: {text}", response.status());
        }
        Err(error) => return Err(error).context("opening the WebSocket"),
    };
    let (sender, receiver) = socket.split();
    Ok((Sender(sender), Receiver(receiver)))
}

/// The path and query of a v0 join (`/rtc`).
#[must_use]
pub fn path_v0(token: &str, auto_subscribe: bool) -> String {
    format!(
        "/rtc?access_token={token}&auto_subscribe={}&sdk=rust&version=0.1.0&protocol={PROTOCOL}",
        u8::from(auto_subscribe)
    )
}

/// The path and query of a v1 join (`/rtc/v1`): everything is in the `join_request`.
#[must_use]
pub fn path_v1(token: &str, join: &JoinRequest) -> String {
    let wrapped = WrappedJoinRequest { compression: 0, join_request: join.encode_to_vec() };
    format!("/rtc/v1?access_token={token}&join_request={}", BASE64_URL_SAFE.encode(wrapped.encode_to_vec()))
}

/// What the bots say of themselves.
#[must_use]
pub fn client_info() -> proto::ClientInfo {
    proto::ClientInfo {
        sdk: proto::client_info::Sdk::Rust as i32,
        version: "0.1.0".to_owned(),
        protocol: PROTOCOL,
        os: "linux".to_owned(),
        ..proto::ClientInfo::default()
    }
}

impl Sender {
    /// Sends one request.
    ///
    /// # Errors
    /// The WebSocket is closed.
    pub async fn send(&mut self, message: signal_request::Message) -> Result<()> {
        let request = SignalRequest { message: Some(message) };
        self.raw(Message::Binary(request.encode_to_vec().into())).await
    }

    /// Sends anything, however wrong.
    ///
    /// # Errors
    /// The WebSocket is closed.
    pub async fn raw(&mut self, message: Message) -> Result<()> {
        Ok(self.0.send(message).await?)
    }

    /// Closes the WebSocket; one that is closed already stays so.
    pub async fn close(&mut self) {
        let _ = self.0.close().await;
    }
}

impl Receiver {
    /// The next response; `None` once the server has closed the WebSocket.
    ///
    /// # Errors
    /// The connection broke, or the server sent what is not a `SignalResponse`.
    pub async fn next(&mut self) -> Result<Option<signal_response::Message>> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) => {
                    // A kind this protocol crate does not know is skipped, as clients do.
                    if let Some(message) = SignalResponse::decode(bytes)?.message {
                        return Ok(Some(message));
                    }
                }
                Some(Ok(Message::Close(_))) | None => return Ok(None),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
            }
        }
    }

    /// Reads until the server closes the WebSocket; the close code it gave, if any.
    ///
    /// # Errors
    /// The connection broke without a close frame.
    pub async fn close_code(&mut self) -> Result<Option<u16>> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Close(frame))) => return Ok(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(None),
            }
        }
    }
}
