//! WebSockets of clients (RFC 6455): `tungstenite` speaks the protocol. It keeps room for the largest frame for as long as the
//! connection lives, in both directions, and a browser in a large room offers half a MiB once; so it gets no large frames: what
//! comes is cut on its way in, what goes out is sent in parts.

mod cut;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{Sink, SinkExt as _};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use self::cut::Cut;
use super::wire::MAX_READ;

/// The longest frame that is read or written, bytes.
const PART: usize = 4 * 1024;

/// A client's WebSocket.
pub(crate) type WebSocket = WebSocketStream<Cut<TokioIo<Upgraded>>>;

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(PART)
        .write_buffer_size(PART)
        .max_message_size(Some(MAX_READ))
        .max_frame_size(Some(MAX_READ))
}

/// A request that becomes a WebSocket when it is answered so.
pub(crate) struct Upgrade {
    on: OnUpgrade,
    accept: HeaderValue,
}

/// A request that cannot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoUpgrade {
    /// It does not ask for it.
    Plain,
    /// Another version of the protocol.
    Version,
    /// Without the client's key.
    Key,
}

impl IntoResponse for NoUpgrade {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::Plain => (StatusCode::UPGRADE_REQUIRED, "open this as a WebSocket, over HTTP/1.1"),
            Self::Version => (StatusCode::UPGRADE_REQUIRED, "this takes version 13 of the WebSocket protocol"),
            Self::Key => (StatusCode::BAD_REQUEST, "a WebSocket needs the header Sec-WebSocket-Key"),
        };
        let mut response = (status, message).into_response();
        if status == StatusCode::UPGRADE_REQUIRED {
            let headers = response.headers_mut();
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        response
    }
}

/// Whether one of a header's comma-separated words is this one.
fn says(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|said| said.trim().eq_ignore_ascii_case(word))
}

impl<S: Sync> FromRequestParts<S> for Upgrade {
    type Rejection = NoUpgrade;

    /// RFC 6455 §4.2.1.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NoUpgrade> {
        let headers = &parts.headers;
        if !says(headers, &header::CONNECTION, "upgrade") || !says(headers, &header::UPGRADE, "websocket") {
            return Err(NoUpgrade::Plain);
        }
        if !says(headers, &header::SEC_WEBSOCKET_VERSION, "13") {
            return Err(NoUpgrade::Version);
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY).ok_or(NoUpgrade::Key)?;
        let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).map_err(|_| NoUpgrade::Key)?;
        let on = parts.extensions.remove().ok_or(NoUpgrade::Plain)?;
        Ok(Self { on, accept })
    }
}

impl Upgrade {
    /// Answers so, and runs this with the WebSocket once the client has got the answer. It is dropped if the client has gone.
    pub(crate) fn on_upgrade<R>(self, run: impl FnOnce(WebSocket) -> R + Send + 'static) -> Response
    where
        R: Future<Output = ()> + Send,
    {
        let Self { on, accept } = self;
        tokio::spawn(async move {
            match on.await {
                Ok(upgraded) => {
                    let stream = Cut::new(TokioIo::new(upgraded));
                    run(WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await).await;
                }
                Err(error) => tracing::debug!(%error, "a client has gone before its WebSocket was open"),
            }
        });
        let headers = [
            (header::CONNECTION, HeaderValue::from_static("upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, accept),
        ];
        (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
    }
}

/// Hands a message on to be sent, a long one in several frames.
///
/// # Errors
/// When the WebSocket is gone.
pub(super) async fn feed(
    sink: &mut (impl Sink<Message, Error = Error> + Unpin),
    message: Message,
) -> Result<(), Error> {
    let (mut rest, data) = match message {
        Message::Binary(bytes) if bytes.len() > PART => (bytes, Data::Binary),
        Message::Text(text) if text.len() > PART => (Bytes::from(text), Data::Text),
        short => return sink.feed(short).await,
    };
    let mut data = Some(data);
    while !rest.is_empty() {
        let part = rest.split_to(rest.len().min(PART));
        let opcode = OpCode::Data(data.take().unwrap_or(Data::Continue));
        sink.feed(Message::Frame(Frame::message(part, opcode, rest.is_empty()))).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use http::Request;
    use tokio::io::duplex;

    use super::*;

    async fn asks(headers: &[(HeaderName, &str)]) -> NoUpgrade {
        let mut request = Request::new(());
        for (name, value) in headers {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let refused = Upgrade::from_request_parts(&mut request.into_parts().0, &()).await;
        refused.err().expect("there is no connection")
    }

    #[tokio::test]
    async fn what_is_no_websocket_is_told_what_to_do() {
        let upgrade = [(header::CONNECTION, "keep-alive, Upgrade"), (header::UPGRADE, "WebSocket")];
        assert_eq!(asks(&[]).await, NoUpgrade::Plain);
        assert_eq!(asks(&upgrade[..1]).await, NoUpgrade::Plain);
        assert_eq!(asks(&[(header::CONNECTION, "close"), upgrade[1].clone()]).await, NoUpgrade::Plain);
        assert_eq!(asks(&upgrade).await, NoUpgrade::Version);
        let old = [&upgrade[..], &[(header::SEC_WEBSOCKET_VERSION, "8")]].concat();
        assert_eq!(asks(&old).await, NoUpgrade::Version);
        let version = [&upgrade[..], &[(header::SEC_WEBSOCKET_VERSION, "13")]].concat();
        assert_eq!(asks(&version).await, NoUpgrade::Key);
        let whole = [&version[..], &[(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")]].concat();
        assert_eq!(asks(&whole).await, NoUpgrade::Plain, "over HTTP/2 there is nothing to upgrade");
        let response = NoUpgrade::Version.into_response();
        assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(response.headers()[header::SEC_WEBSOCKET_VERSION], "13");
    }

    /// What a client gets, frame by frame: opcode, whether it is the last one, and how long.
    async fn frames(messages: Vec<Message>) -> (Vec<(u8, bool, usize)>, Vec<Message>) {
        let (near, far) = duplex(1 << 20);
        let mut sink = WebSocketStream::from_raw_socket(near, Role::Server, Some(config())).await;
        for message in messages {
            feed(&mut sink, message).await.unwrap();
        }
        sink.close(None).await.unwrap();
        drop(sink);
        let mut bytes = Vec::new();
        tokio::io::copy(&mut { far }, &mut bytes).await.unwrap();
        let client = WebSocketStream::from_partially_read(duplex(1).0, bytes.clone(), Role::Client, None).await;
        let read = client.take_while(|read| std::future::ready(read.is_ok())).map(Result::unwrap).collect().await;
        let (mut seen, mut rest) = (Vec::new(), &bytes[..]);
        while let [first, length, after @ ..] = rest {
            let (length, after) = match length {
                126 => (usize::from(u16::from_be_bytes([after[0], after[1]])), &after[2..]),
                short => (usize::from(*short), after),
            };
            seen.push((first & 0x0f, first & 0x80 != 0, length));
            rest = &after[length..];
        }
        (seen, read)
    }

    #[tokio::test]
    async fn what_is_long_goes_out_in_parts() {
        let binary: Vec<u8> = (0..10_000u32).map(|n| n.to_le_bytes()[0]).collect();
        let text = format!("{}ü", "x".repeat(PART - 1));
        let messages = vec![Message::Binary(binary.into()), Message::Binary(vec![7; PART].into()), Message::text(text)];
        let (seen, read) = frames(messages.clone()).await;
        let parts = [
            (2, false, PART),
            (0, false, PART),
            (0, true, 10_000 - 2 * PART),
            (2, true, PART),
            (1, false, PART),
            (0, true, 1),
            (8, true, 0),
        ];
        assert_eq!(seen, parts);
        assert_eq!(read[..3], messages);
    }
}
