//! The bridge that has the client's WebSocket: a line to the one that has its seat, and the frames that go over it.

use std::time::Duration;

use futures_util::StreamExt as _;
use livekit_protocol::DisconnectReason;
use livekit_protocol::leave_request::Action;
use ratssaal_proto::bridge::v1::{self as wire, Refused, SignalDown, SignalUp, signal_down, signal_up};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::super::link;
use super::super::messages;
use super::super::websocket::WebSocket;
use super::super::wire::{Close, Format, encode, take};
use super::{QUEUE, from_down, up};
use crate::peers::{PeerError, Peers};

/// How long another bridge may take to take a line, joins aside: it answers at once or is not there.
const REACH: Duration = Duration::from_millis(1500);
/// How long it may take to let somebody in.
const ANSWER: Duration = Duration::from_secs(4);

/// A client's signalling on its way to another bridge.
#[derive(Debug)]
pub(crate) struct Line {
    bridge: String,
    up: mpsc::Sender<SignalUp>,
    down: Streaming<SignalDown>,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum NoLine {
    /// The bridge is not there.
    Unreachable(PeerError),
    /// It does not let the client in.
    Refused(Refused),
}

impl Line {
    /// Asks a bridge to let a client in or back.
    pub(crate) async fn open(peers: &Peers, bridge: &str, opening: wire::Opening) -> Result<Self, NoLine> {
        let (up, queue) = mpsc::channel(QUEUE);
        // The queue is empty and its receiver is held.
        let _ = up.try_send(SignalUp { message: Some(signal_up::Message::Opening(opening)) });
        let opened = peers.call(bridge, REACH, |mut peer| async move { peer.signal(ReceiverStream::new(queue)).await });
        let mut down = opened.await.map_err(NoLine::Unreachable)?;
        let status = match timeout(ANSWER, down.message()).await {
            Ok(Ok(Some(SignalDown { message: Some(signal_down::Message::Accepted(_)) }))) => {
                return Ok(Self { bridge: bridge.to_owned(), up, down });
            }
            Ok(Ok(Some(SignalDown { message: Some(signal_down::Message::Refused(refused)) }))) => {
                return Err(NoLine::Refused(refused));
            }
            Ok(Ok(_)) => Status::internal("it neither accepts nor refuses the client"),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded("it did not let the client in in time"),
        };
        Err(NoLine::Unreachable(PeerError::Refused { bridge: bridge.to_owned(), status: Box::new(status) }))
    }

    /// Passes frames on in both directions until either end is gone or this bridge stops. A client whose line is lost is
    /// told to resume: its session waits for it, or another bridge tells it that there is none.
    pub(crate) async fn pump(mut self, socket: WebSocket, stopping: CancellationToken) {
        let (sink, mut frames) = socket.split();
        let writer = link::writer(sink);
        let mut format = Format::default();
        loop {
            tokio::select! {
                frame = frames.next() => match take(frame) {
                    Some(Ok(Message::Close(_))) | None => return,
                    // Where the session is, the client is away from now on; it may come back.
                    Some(Err(malformed)) => {
                        let _ = writer.try_send(Close::from(malformed).frame());
                        return;
                    }
                    Some(Ok(frame)) => {
                        match &frame {
                            Message::Binary(_) => format = Format::Binary,
                            Message::Text(_) => format = Format::Json,
                            _ => {}
                        }
                        let Some(frame) = up(frame) else { continue };
                        if self.up.send(frame).await.is_err() {
                            break;
                        }
                    }
                },
                told = self.down.message() => match told {
                    Ok(Some(told)) => {
                        let Some(frame) = from_down(told) else { continue };
                        let last = matches!(frame, Message::Close(_));
                        // A full queue means a client that does not read. It may come back; the session waits.
                        if writer.try_send(frame).is_err() || last {
                            return;
                        }
                    }
                    Ok(None) | Err(_) => break,
                },
                () = stopping.cancelled() => break,
            }
        }
        tracing::info!(bridge = self.bridge, "the way to a client's session is lost: it is told to resume");
        let leave = messages::leave(DisconnectReason::SignalClose, Action::Resume);
        let _ = writer.try_send(encode(leave, format));
        let _ = writer.try_send(Close::Normal.frame());
    }
}
