//! Signalling across bridges: the client's WebSocket is here and its seat on another bridge (`entry`), or the other way
//! round (`seat`). What crosses are the WebSocket's frames as they are, after an opening that says what was checked here:
//! the token's claims and the request.

mod entry;
mod seat;

pub(super) use entry::{Line, NoLine};
pub(super) use seat::Relayed;

use std::net::{IpAddr, Ipv4Addr};

use livekit_protocol::JoinRequest;
use prost::Message as _;
use ratssaal_proto::allocator::v1::PlaceResponse;
use ratssaal_proto::bridge::v1::{self as wire, SignalDown, SignalPath, SignalUp, signal_down, signal_up};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::request::{BadRequest, Opening, Path};
use crate::token::Claims;

/// Frames that wait on their way up.
const QUEUE: usize = 32;

/// How a client opened its WebSocket, for the bridge on which its seat or its session is.
pub(super) fn opening(opening: &Opening, address: IpAddr, placed: Option<PlaceResponse>) -> wire::Opening {
    let path = match opening.path {
        Path::V0 => SignalPath::V0,
        Path::V1 => SignalPath::V1,
    };
    wire::Opening {
        path: path.into(),
        claims: opening.claims.to_json().into(),
        request: opening.request().encode_to_vec().into(),
        client_address: address.to_string(),
        placed,
    }
}

/// The opposite.
fn read(opening: &wire::Opening) -> Result<(Opening, IpAddr), BadRequest> {
    let path = match opening.path() {
        SignalPath::V0 => Path::V0,
        SignalPath::V1 => Path::V1,
        SignalPath::Unspecified => return Err(BadRequest::Inner),
    };
    let claims = Claims::from_json(&opening.claims)?;
    if claims.identity.is_empty() {
        return Err(BadRequest::NoJoin);
    }
    let request = JoinRequest::decode(opening.request.clone()).map_err(|_| BadRequest::Inner)?;
    let address = opening.client_address.parse().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
    Ok((Opening::new(path, claims, request)?, address))
}

/// A frame of the client; `None` for those that end at the WebSocket (ping, pong, close).
fn up(frame: Message) -> Option<SignalUp> {
    let message = match frame {
        Message::Binary(bytes) => signal_up::Message::Binary(bytes),
        Message::Text(text) => signal_up::Message::Text(text.to_string()),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => return None,
    };
    Some(SignalUp { message: Some(message) })
}

/// The opposite; `None` for what is no frame.
fn from_up(message: SignalUp) -> Option<Message> {
    match message.message? {
        signal_up::Message::Binary(bytes) => Some(Message::Binary(bytes)),
        signal_up::Message::Text(text) => Some(Message::Text(text.into())),
        signal_up::Message::Opening(_) => None,
    }
}

/// A frame for the client.
fn down(frame: Message) -> SignalDown {
    let message = match frame {
        Message::Binary(bytes) => Some(signal_down::Message::Binary(bytes)),
        Message::Text(text) => Some(signal_down::Message::Text(text.to_string())),
        Message::Close(close) => {
            let code = |close: CloseFrame| (u16::from(close.code).into(), close.reason.to_string());
            let (code, reason) = close.map(code).unwrap_or_default();
            Some(signal_down::Message::Closed(wire::Closed { code, reason }))
        }
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => None,
    };
    SignalDown { message }
}

/// The opposite; `None` for what is no frame.
fn from_down(message: SignalDown) -> Option<Message> {
    match message.message? {
        signal_down::Message::Binary(bytes) => Some(Message::Binary(bytes)),
        signal_down::Message::Text(text) => Some(Message::Text(text.into())),
        signal_down::Message::Closed(wire::Closed { code, reason }) => {
            let code = u16::try_from(code).ok().filter(|code| (1000..5000).contains(code));
            Some(Message::Close(code.map(|code| CloseFrame { code: code.into(), reason: reason.into() })))
        }
        signal_down::Message::Accepted(_) | signal_down::Message::Refused(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use livekit_protocol::{AddTrackRequest, ClientInfo, SessionDescription, SyncState};
    use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

    use super::*;
    use crate::testing::guest;

    #[test]
    fn an_opening_arrives_as_it_was() {
        let mut claims = guest("rat", "ä b");
        claims.metadata = "{}".to_owned();
        claims.attributes = HashMap::from([("hand".to_owned(), "up".to_owned())]);
        claims.grants.can_publish = Some(false);
        claims.grants.can_publish_sources = vec!["camera".to_owned()];
        claims.issued_at = 17;
        let before = Opening {
            path: Path::V1,
            claims,
            client: ClientInfo { version: "2.23.0".to_owned(), protocol: 16, ..ClientInfo::default() },
            auto_subscribe: true,
            adaptive_stream: true,
            resume: Some("PA_x".into()),
            offer: Some(SessionDescription { sdp: "v=0".to_owned(), ..SessionDescription::default() }),
            tracks: vec![AddTrackRequest { cid: "c".to_owned(), ..AddTrackRequest::default() }],
            sync: Some(SyncState { track_sids_disabled: vec!["TR_x".to_owned()], ..SyncState::default() }),
        };
        let address: IpAddr = "2001:db8::1".parse().unwrap();
        let (after, from) = read(&opening(&before, address, None)).unwrap();
        let compared = |opening: &Opening| Claims { expires_at: 0, ..opening.claims.clone() };
        assert_eq!((compared(&after), from), (compared(&before), address));
        assert_eq!((after.request(), after.path), (before.request(), before.path));
    }

    #[test]
    fn a_bad_opening_is_refused() {
        let good = opening(&read(&guest_opening()).unwrap().0, Ipv4Addr::LOCALHOST.into(), None);
        for bad in [
            wire::Opening { path: 9, ..good.clone() },
            wire::Opening { claims: "{".into(), ..good.clone() },
            wire::Opening { claims: "{}".into(), ..good.clone() },
            wire::Opening { request: vec![0xff; 9].into(), ..good.clone() },
        ] {
            assert!(read(&bad).is_err(), "{bad:?}");
        }
    }

    fn guest_opening() -> wire::Opening {
        wire::Opening { path: 1, claims: guest("rat", "a").to_json().into(), ..wire::Opening::default() }
    }

    #[test]
    fn frames_arrive_as_they_were() {
        for frame in [Message::Binary(vec![1, 2].into()), Message::Text("{}".into())] {
            assert_eq!(up(frame.clone()).and_then(from_up), Some(frame.clone()));
            assert_eq!(from_down(down(frame.clone())), Some(frame));
        }
        let close = Message::Close(Some(CloseFrame { code: CloseCode::Policy, reason: "slow down".into() }));
        assert_eq!(from_down(down(close.clone())), Some(close));
        assert_eq!(up(Message::Ping(vec![].into())), None);
        let odd =
            SignalDown { message: Some(signal_down::Message::Closed(wire::Closed { code: 99, ..Default::default() })) };
        assert_eq!(from_down(odd), Some(Message::Close(None)), "a code that WebSockets do not have");
    }
}
