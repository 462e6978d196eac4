//! The WebSocket's frames: `SignalRequest` in, `SignalResponse` out, as protobuf (binary) or JSON (text).
//!
//! A client is answered in the form it last wrote in; before its first frame it gets protobuf.

use livekit_protocol::{SignalRequest, SignalResponse, signal_request, signal_response};
use prost::Message as _;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, Error};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// The longest message taken from a client, bytes. What a client says that comes back, its last offer and the answer to it,
/// fits ([`MAX_SDP`](crate::transport::sdp::MAX_SDP)).
pub(crate) const MAX_MESSAGE: usize = 2 << 20;
/// The longest frame and message that is read at all, bytes: one between the two is read to its end, so that the client
/// has written it when it is told why it is refused. Of a longer one nothing is read.
pub(crate) const MAX_READ: usize = 2 * MAX_MESSAGE;

/// How frames are written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Format {
    /// Protobuf in binary frames.
    #[default]
    Binary,
    /// Protobuf's JSON mapping in text frames.
    Json,
}

/// What arrived.
#[derive(Debug, PartialEq)]
pub(crate) enum Incoming {
    /// A request and the form it was written in.
    Request(Box<signal_request::Message>, Format),
    /// A frame that says nothing to us: WebSocket ping and pong, a request of a kind this version does not know.
    Nothing,
    /// The client closes the WebSocket.
    Closed,
}

/// A message that is no `SignalRequest`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a binary frame is no livekit.SignalRequest")]
    Protobuf,
    #[error("a text frame is no livekit.SignalRequest in JSON")]
    Json,
    #[error("a message has more than {} MiB", MAX_MESSAGE >> 20)]
    TooLong,
}

/// What a WebSocket gave: a message, one that is too long to be read, or its end.
pub(super) fn take(read: Option<Result<Message, Error>>) -> Option<Result<Message, Malformed>> {
    match read? {
        Ok(message) => Some(Ok(message)),
        // What was read is still in order, and so is the other direction.
        Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => Some(Err(Malformed::TooLong)),
        Err(_) => None,
    }
}

/// Reads one WebSocket message.
pub(crate) fn decode(message: Message) -> Result<Incoming, Malformed> {
    let (request, format) = match message {
        Message::Binary(bytes) if bytes.len() > MAX_MESSAGE => return Err(Malformed::TooLong),
        Message::Text(text) if text.len() > MAX_MESSAGE => return Err(Malformed::TooLong),
        Message::Binary(bytes) => (SignalRequest::decode(bytes).map_err(|_| Malformed::Protobuf)?, Format::Binary),
        Message::Text(text) => (serde_json::from_str(text.as_str()).map_err(|_| Malformed::Json)?, Format::Json),
        Message::Close(_) => return Ok(Incoming::Closed),
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(Incoming::Nothing),
    };
    let SignalRequest { message } = request;
    Ok(message.map_or(Incoming::Nothing, |message| Incoming::Request(Box::new(message), format)))
}

/// Writes one response.
pub(crate) fn encode(message: signal_response::Message, format: Format) -> Message {
    let response = SignalResponse { message: Some(message) };
    if format == Format::Json
        && let Ok(json) = serde_json::to_string(&response)
    {
        return Message::Text(json.into());
    }
    Message::Binary(response.encode_to_vec().into())
}

/// Why we close a WebSocket, as the client's close event shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Close {
    /// The session is over.
    Normal,
    /// A frame made no sense.
    Malformed,
    /// A message was longer than [`MAX_MESSAGE`].
    TooLong,
    /// More requests than any client makes.
    TooMany,
    /// Nothing was heard for the ping timeout.
    Silent,
    /// Another WebSocket took this session over.
    Replaced,
}

impl From<Malformed> for Close {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Protobuf | Malformed::Json => Self::Malformed,
            Malformed::TooLong => Self::TooLong,
        }
    }
}

impl Close {
    /// RFC 6455 §7.4.1 code and a sentence.
    pub(crate) fn frame(self) -> Message {
        let too_long;
        let (code, reason) = match self {
            Self::Normal => (CloseCode::Normal, ""),
            Self::Malformed => (CloseCode::Invalid, "the last frame is no signal request"),
            Self::TooLong => {
                too_long = format!("the last message is too long: at most {} MiB", MAX_MESSAGE >> 20);
                (CloseCode::Size, too_long.as_str())
            }
            Self::TooMany => (CloseCode::Policy, "too many signal requests: slow down"),
            Self::Silent => (CloseCode::Normal, "nothing was heard for too long: send pings"),
            Self::Replaced => (CloseCode::Normal, "another connection resumed this session"),
        };
        Message::Close(Some(CloseFrame { code, reason: reason.into() }))
    }
}

#[cfg(test)]
mod tests {
    use livekit_protocol::{MuteTrackRequest, Ping};

    use super::*;

    fn mute() -> signal_request::Message {
        signal_request::Message::Mute(MuteTrackRequest { sid: "TR_a".into(), muted: true })
    }

    #[test]
    fn requests_are_read_in_both_forms() {
        let request = SignalRequest { message: Some(mute()) };
        let binary = Message::Binary(request.encode_to_vec().into());
        assert_eq!(decode(binary), Ok(Incoming::Request(Box::new(mute()), Format::Binary)));
        let text = Message::Text(r#"{"mute":{"sid":"TR_a","muted":true}}"#.into());
        assert_eq!(decode(text), Ok(Incoming::Request(Box::new(mute()), Format::Json)));
        let text = Message::Text(r#"{"pingReq":{"timestamp":"17","rtt":"3"}}"#.into());
        let ping = signal_request::Message::PingReq(Ping { timestamp: 17, rtt: 3 });
        assert_eq!(decode(text), Ok(Incoming::Request(Box::new(ping), Format::Json)));
    }

    #[test]
    fn nonsense_is_refused_and_unknown_kinds_are_not() {
        assert_eq!(decode(Message::Binary(vec![0xff; 9].into())), Err(Malformed::Protobuf));
        assert_eq!(decode(Message::Text("{".into())), Err(Malformed::Json));
        assert_eq!(decode(Message::Binary(vec![0xf2, 0x3f, 0].into())), Ok(Incoming::Nothing), "field 1022");
        assert_eq!(decode(Message::Ping(vec![1].into())), Ok(Incoming::Nothing));
        assert_eq!(decode(Message::Close(None)), Ok(Incoming::Closed));
    }

    #[test]
    fn what_is_too_long_is_refused_by_its_length() {
        let fits = SignalRequest { message: Some(mute()) };
        let long = |length: usize| {
            let name = "n".repeat(length);
            let request = livekit_protocol::UpdateParticipantMetadata { name, ..Default::default() };
            SignalRequest { message: Some(signal_request::Message::UpdateMetadata(request)) }.encode_to_vec()
        };
        assert!(matches!(decode(Message::Binary(fits.encode_to_vec().into())), Ok(Incoming::Request(..))));
        let around = (MAX_MESSAGE - 16..MAX_MESSAGE).find(|length| long(*length).len() == MAX_MESSAGE).unwrap();
        assert!(matches!(decode(Message::Binary(long(around).into())), Ok(Incoming::Request(..))));
        assert_eq!(decode(Message::Binary(long(around + 1).into())), Err(Malformed::TooLong));
        let text = |length: usize| Message::Text(format!("{{{}}}", " ".repeat(length - 2)).into());
        assert_eq!(decode(text(MAX_MESSAGE)), Ok(Incoming::Nothing));
        assert_eq!(decode(text(MAX_MESSAGE + 1)), Err(Malformed::TooLong));
    }

    #[test]
    fn only_a_length_is_told_from_a_lost_websocket() {
        let error = |error: Error| take(Some(Err(error)));
        let long = CapacityError::MessageTooLong { size: MAX_READ + 1, max_size: MAX_READ };
        assert_eq!(error(Error::Capacity(long)), Some(Err(Malformed::TooLong)));
        assert_eq!(error(Error::AttackAttempt), None);
        assert_eq!(take(None), None);
        assert_eq!(take(Some(Ok(Message::Text("{}".into())))), Some(Ok(Message::Text("{}".into()))));
    }

    #[test]
    fn responses_take_the_clients_form() {
        let pong = signal_response::Message::Pong(5);
        let Message::Binary(bytes) = encode(pong.clone(), Format::Binary) else { panic!("binary") };
        assert_eq!(SignalResponse::decode(bytes).unwrap().message, Some(pong.clone()));
        assert_eq!(encode(pong, Format::Json), Message::Text(r#"{"pong":"5"}"#.into()));
    }
}
