//! A client's WebSocket as its session sees it, whether it is on this bridge or on another one: requests come in, responses
//! go out through a bounded queue, and what must not get lost while there is no WebSocket is kept for the next one.

use std::collections::VecDeque;
use std::future::pending;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use livekit_protocol::signal_response;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::across::Relayed;
use super::websocket::{self, WebSocket};
use super::wire::{self, Close, Format, Incoming, Malformed};

/// Responses that may wait for a slow client.
pub(super) const QUEUE: usize = 512;
/// Responses that go out together when so many wait.
const TOGETHER: usize = 32;
/// How long they may take to go out.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// Responses that are kept for a client that is away.
const KEEP: usize = 256;

/// What came from the WebSocket.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A message.
    Message(Incoming),
    /// Bytes that are none.
    Malformed(Malformed),
    /// The WebSocket is gone.
    Gone,
}

/// A client's WebSocket.
#[derive(Debug)]
pub(crate) enum Socket {
    /// On this bridge.
    Own(Box<WebSocket>),
    /// On another one.
    Relayed(Box<Relayed>),
}

/// Where frames come from.
#[derive(Debug)]
enum Reader {
    Own(SplitStream<WebSocket>),
    Relayed(Box<Relayed>),
}

impl Reader {
    /// The next frame; `None` when the WebSocket is gone. Cancel-safe.
    async fn next(&mut self) -> Option<Result<Message, Malformed>> {
        match self {
            Self::Own(stream) => wire::take(stream.next().await),
            Self::Relayed(relayed) => relayed.next().await.map(Ok),
        }
    }
}

/// Both directions.
#[derive(Debug)]
pub(crate) struct Link {
    reader: Option<Reader>,
    writer: Option<mpsc::Sender<Message>>,
    format: Format,
    kept: VecDeque<signal_response::Message>,
}

impl Link {
    /// Without a WebSocket.
    pub(crate) fn down() -> Self {
        Self { reader: None, writer: None, format: Format::default(), kept: VecDeque::new() }
    }

    /// Speaks over this WebSocket.
    pub(crate) fn new(socket: Socket) -> Self {
        let mut link = Self::down();
        link.attach(socket);
        link
    }

    /// Speaks over this WebSocket from now on. What was kept waits for [`Link::flush`].
    pub(crate) fn attach(&mut self, socket: Socket) {
        let (reader, writer) = match socket {
            Socket::Own(socket) => {
                let (sink, stream) = (*socket).split();
                (Reader::Own(stream), writer(sink))
            }
            Socket::Relayed(relayed) => {
                let out = relayed.out.clone();
                (Reader::Relayed(relayed), out)
            }
        };
        (self.reader, self.writer, self.format) = (Some(reader), Some(writer), Format::default());
    }

    /// Whether there is a WebSocket.
    pub(crate) fn is_up(&self) -> bool {
        self.reader.is_some()
    }

    /// The next frame; pending while there is no WebSocket. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Frame {
        let Some(reader) = &mut self.reader else { return pending().await };
        match reader.next().await {
            Some(message) => match message.and_then(wire::decode) {
                Ok(Incoming::Closed) => Frame::Gone,
                Ok(incoming) => {
                    if let Incoming::Request(_, format) = &incoming {
                        self.format = *format;
                    }
                    Frame::Message(incoming)
                }
                Err(malformed) => Frame::Malformed(malformed),
            },
            None => Frame::Gone,
        }
    }

    /// Sends a response, or keeps it while there is no WebSocket and it will still mean something later. A client that does
    /// not read loses its WebSocket.
    pub(crate) fn send(&mut self, message: signal_response::Message) {
        if let Some(writer) = &self.writer {
            if writer.try_send(wire::encode(message, self.format)).is_err() {
                self.drop_socket();
            }
        } else if lasts(&message) && self.kept.len() < KEEP {
            self.kept.push_back(message);
        }
    }

    /// Sends what was kept.
    pub(crate) fn flush(&mut self) {
        for message in std::mem::take(&mut self.kept) {
            self.send(message);
        }
    }

    /// Lets the WebSocket go after what is queued, saying why.
    pub(crate) fn close(&mut self, why: Close) {
        if let Some(writer) = self.writer.take() {
            // A full queue means a client that does not read: it would not read this either.
            let _ = writer.try_send(why.frame());
        }
        self.drop_socket();
    }

    fn drop_socket(&mut self) {
        (self.reader, self.writer) = (None, None);
    }
}

/// Whether a response still means something to a client that comes back. The rest is told anew when it does, or is stale.
fn lasts(message: &signal_response::Message) -> bool {
    use signal_response::Message as M;
    !matches!(
        message,
        M::Answer(_)
            | M::Offer(_)
            | M::Trickle(_)
            | M::Update(_)
            | M::RoomUpdate(_)
            | M::SpeakersChanged(_)
            | M::ConnectionQuality(_)
            | M::MediaSectionsRequirement(_)
            | M::RefreshToken(_)
            | M::Pong(_)
            | M::PongResp(_)
    )
}

/// Starts to write to a WebSocket; the end of the queue is its end.
pub(super) fn writer(sink: SplitSink<WebSocket, Message>) -> mpsc::Sender<Message> {
    let (writer, queue) = mpsc::channel(QUEUE);
    tokio::spawn(write(sink, queue));
    writer
}

/// Writes until the queue's other end is gone, the client does not read, or the WebSocket is closed.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut queue: mpsc::Receiver<Message>) {
    let mut waiting = Vec::with_capacity(TOGETHER);
    while queue.recv_many(&mut waiting, TOGETHER).await > 0 {
        let close = waiting.iter().position(|message| matches!(message, Message::Close(_)));
        waiting.truncate(close.map_or(TOGETHER, |at| at + 1));
        let send = async {
            for message in waiting.drain(..) {
                websocket::feed(&mut sink, message).await?;
            }
            sink.flush().await
        };
        if !matches!(timeout(SEND_TIMEOUT, send).await, Ok(Ok(()))) || close.is_some() {
            break;
        }
    }
    // The queue ends here, so that the session notices at its next message.
    drop(queue);
    let _ = timeout(SEND_TIMEOUT, sink.close()).await;
}
