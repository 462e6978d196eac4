//! Data channels of one transport: SCTP (RFC 8831) and DCEP (RFC 8832) over the DTLS records of [`super::dtls`].
//!
//! Two channels matter, `_reliable` and `_lossy`; others are acknowledged and ignored. Who opens them depends on the
//! PeerConnection: the client in v1 and on v0's publisher, we on v0's subscriber. INIT is the client's part (browsers send it in
//! both DTLS roles); where none comes and we need the channels, we send it.

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::sctp::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppi, ServerConfig, StreamEvent, TransportConfig,
};
use rtc::shared::TransportProtocol;
use thiserror::Error;

use super::backlog::Backlog;
use super::dcep::{self, Dcep};
use super::sctp_guard::{Guard, Verdict};
use crate::media::control::{Channel, MAX_MESSAGE};

/// How long the client's INIT is waited for before we send ours.
pub const INIT_PATIENCE: Duration = Duration::from_secs(1);
/// What may wait for one slow client on `_reliable`, bytes, each message counting 256 more than it has. Above it the client is to be disconnected: skipping a reliable
/// message is not an option and neither is memory without end.
pub const MAX_RELIABLE_BUFFER: usize = 4 << 20;
/// What may wait on `_lossy`, bytes; newer messages are dropped above it.
pub const MAX_LOSSY_BUFFER: usize = 256 << 10;

/// Each INIT makes an association, a repeated one too. Chromium repeats it eight times.
const MAX_INITS: usize = 16;
/// SCTP streams (data channels) of a client. Chromium opens at most 1024.
const MAX_STREAMS: usize = 1024;
/// Receive window, bytes: one message of the largest size and as much again.
const WINDOW: u32 = 512 << 10;

/// The endpoint routes by remote address; only ICE knows where datagrams really go.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 65535));

#[expect(clippy::cast_possible_truncation, reason = "262144")]
fn transport_config() -> TransportConfig {
    TransportConfig::default().with_max_message_size(MAX_MESSAGE as u32).with_max_receive_buffer_size(WINDOW)
}

static ENDPOINT: LazyLock<Arc<EndpointConfig>> = LazyLock::new(Arc::default);
static SERVER: LazyLock<Arc<ServerConfig>> = LazyLock::new(|| Arc::new(ServerConfig::new(transport_config())));

/// What happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DataEvent {
    /// A channel can be used.
    Open(Channel),
    /// A message came.
    Message(Channel, Bytes),
    /// There are no data channels any more, and none will come again on this transport.
    Ended(DataEnd),
}

/// Why the data channels ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DataEnd {
    /// The peer aborted or shut down SCTP, or violated it.
    #[error("the peer ended SCTP")]
    Peer,
    /// More streams, fragments or resets than any honest client needs.
    #[error("the peer exceeded the limits of its data channels")]
    Limits,
}

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum SendRefusal {
    /// More than [`MAX_MESSAGE`] bytes.
    #[error("the message has {0} bytes; data channels carry at most 262144")]
    TooLarge(usize),
    /// More than [`MAX_RELIABLE_BUFFER`] would wait on `_reliable`: this client is too slow, disconnect it.
    #[error("the client does not read its reliable messages; disconnect it")]
    Overflow,
    /// SCTP has ended.
    #[error("the data channels have ended")]
    Ended,
}

/// How far a channel of the protocol is.
#[derive(Debug)]
struct State {
    stream: Option<u16>,
    open: bool,
    backlog: Backlog,
}

impl State {
    fn new(limit: usize) -> Self {
        Self { stream: None, open: false, backlog: Backlog::new(limit) }
    }

    fn closed(&mut self) {
        (self.stream, self.open) = (None, false);
        self.backlog.clear();
    }
}

/// The data channels of one transport.
pub struct Data {
    endpoint: Endpoint,
    /// The peer goes on with the one whose INIT ACK it got: all are kept until one is established, or a lost INIT ACK would be
    /// the end of the data channels.
    pending: Vec<(AssociationHandle, Association)>,
    association: Option<(AssociationHandle, Association)>,
    /// Streams on which a DCEP OPEN came or was sent, and the channel where it is one of the protocol's.
    streams: HashMap<u16, Option<Channel>>,
    reliable: State,
    lossy: State,
    guard: Guard,
    /// When to send INIT ourselves.
    initiate_at: Option<Instant>,
    /// We open the channels.
    opens: bool,
    /// The streams of channels that the client had before this association, `_reliable` and `_lossy`.
    adopted: [Option<u16>; 2],
    /// The parity of the streams that we open (RFC 8832 §6): even for the DTLS client.
    first_stream: u16,
    ended: bool,
    events: VecDeque<DataEvent>,
    out: VecDeque<Bytes>,
}

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Data").field("reliable", &self.reliable).field("lossy", &self.lossy).finish_non_exhaustive()
    }
}

impl Data {
    /// For a transport whose DTLS is connected. `active`: we are the DTLS client. `opens`: we open the channels.
    #[must_use]
    pub fn new(now: Instant, active: bool, opens: bool) -> Self {
        Self {
            endpoint: Endpoint::new(PEER, TransportProtocol::UDP, Arc::clone(&ENDPOINT), Some(Arc::clone(&SERVER))),
            pending: Vec::new(),
            association: None,
            streams: HashMap::new(),
            reliable: State::new(MAX_RELIABLE_BUFFER),
            lossy: State::new(MAX_LOSSY_BUFFER),
            guard: Guard::default(),
            initiate_at: (active || opens).then(|| now + INIT_PATIENCE),
            opens,
            adopted: [None; 2],
            first_stream: u16::from(!active),
            ended: false,
            events: VecDeque::new(),
            out: VecDeque::new(),
        }
    }

    /// The client has data channels already, of an association with another server: `_reliable` and `_lossy` go on, on these
    /// streams. It does not know that the other end is another one, so INIT is ours to send: to the client its peer has
    /// restarted (RFC 9260 §5.2.2).
    pub fn adopt(&mut self, now: Instant, streams: [Option<u16>; 2]) {
        self.adopted = streams;
        self.initiate_at = Some(now);
        self.handle_timeout(now);
    }

    fn state(&mut self, channel: Channel) -> &mut State {
        match channel {
            Channel::Reliable => &mut self.reliable,
            Channel::Lossy => &mut self.lossy,
        }
    }

    /// Whether messages on this channel leave at once.
    #[must_use]
    pub fn is_open(&self, channel: Channel) -> bool {
        match channel {
            Channel::Reliable => self.reliable.open,
            Channel::Lossy => self.lossy.open,
        }
    }

    /// An SCTP packet: the application data of a DTLS record. Nothing in it is an error of ours; what is malformed is ignored.
    pub fn handle(&mut self, now: Instant, packet: Bytes) {
        if self.ended {
            return;
        }
        match self.guard.inbound(&packet) {
            Verdict::Pass => {}
            Verdict::Drop => return,
            Verdict::End => return self.end(now, DataEnd::Limits),
        }
        match self.endpoint.handle(now, PEER, None, packet) {
            Some((handle, DatagramEvent::NewAssociation(new))) => {
                // The peer's INIT takes precedence over ours: two associations in the making confuse both.
                self.pending.retain(|(_, association)| association.side().is_server());
                self.initiate_at = None;
                self.pending.push((handle, new));
                if self.pending.len() >= MAX_INITS {
                    self.endpoint.reject_new_associations();
                }
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                let mut all = self.pending.iter_mut().chain(&mut self.association);
                if let Some((_, association)) = all.find(|(known, _)| *known == handle) {
                    association.handle_event(event);
                }
                if let Some(at) = self.pending.iter().position(|(_, association)| !association.is_handshaking()) {
                    self.association = Some(self.pending.swap_remove(at));
                    self.pending.clear();
                    self.initiate_at = None;
                    self.endpoint.reject_new_associations();
                    self.open_channels(now);
                }
            }
            _ => {}
        }
        self.read(now);
    }

    /// Goes on with the channels that the client had.
    fn open_adopted(&mut self, now: Instant) {
        let Some((handle, mut association)) = self.association.take() else { return };
        for (channel, id) in [Channel::Reliable, Channel::Lossy].into_iter().zip(self.adopted) {
            let (Some(id), Some((_, reliability))) = (id, dcep::open(channel)) else { continue };
            if let Ok(mut stream) = association.open_stream(id, Ppi::Binary) {
                reliability.apply(&mut stream);
                self.streams.insert(id, Some(channel));
                self.state(channel).stream = Some(id);
                self.opened(now, &mut association, channel);
            }
        }
        self.association = Some((handle, association));
    }

    /// Sends DCEP OPEN for both channels.
    fn open_channels(&mut self, now: Instant) {
        self.open_adopted(now);
        if !self.opens {
            return;
        }
        for channel in [Channel::Reliable, Channel::Lossy] {
            if self.state(channel).stream.is_some() {
                continue; // the client had it
            }
            let Some((_, association)) = &mut self.association else { return };
            let taken = association.stream_ids();
            let free =
                (self.first_stream..).step_by(2).find(|id| !taken.contains(id) && !self.streams.contains_key(id));
            let (Some(id), Some((open, reliability))) = (free, dcep::open(channel)) else { continue };
            if let Ok(mut stream) = association.open_stream(id, Ppi::Binary) {
                reliability.apply(&mut stream);
                let _ = stream.write_chunk_with_ppi(now, &open, Ppi::Dcep);
                self.streams.insert(id, Some(channel));
                self.state(channel).stream = Some(id);
            }
        }
    }

    /// Takes what the association has.
    fn read(&mut self, now: Instant) {
        let Some((handle, mut association)) = self.association.take() else { return };
        while let Some(event) = association.poll() {
            match event {
                Event::Stream(StreamEvent::Readable { id }) => {
                    // Edge-triggered: until there is nothing, or nothing comes again on this stream.
                    while let Ok(Some(chunks)) = association.stream(id).and_then(|mut stream| stream.read_sctp()) {
                        self.guard.read(chunks.len());
                        if let Ok(payload) = chunks.to_payload(MAX_MESSAGE) {
                            self.message(now, &mut association, id, chunks.ppi, payload.freeze());
                        }
                    }
                }
                Event::Stream(StreamEvent::BufferedAmountReleased { id, n_bytes }) => {
                    for state in [&mut self.reliable, &mut self.lossy] {
                        if state.stream == Some(id) {
                            state.backlog.released(n_bytes);
                        }
                    }
                }
                // Also how one closed channel is reported, with the association alive.
                Event::AssociationLost { id, .. } => self.stream_closed(id),
                _ => {}
            }
        }
        // The library queues each stream that the peer opens until somebody accepts it.
        while association.accept_stream().is_some() {}
        let (closed, streams) = (association.is_closed(), association.stream_ids().len().max(self.streams.len()));
        self.association = Some((handle, association));
        if closed {
            self.end(now, DataEnd::Peer);
        } else if streams > MAX_STREAMS {
            self.end(now, DataEnd::Limits);
        }
    }

    fn message(&mut self, now: Instant, association: &mut Association, id: u16, ppi: Ppi, payload: Bytes) {
        match (ppi, self.streams.get(&id)) {
            (Ppi::Dcep, _) => self.dcep(now, association, id, &payload),
            (Ppi::StringEmpty | Ppi::BinaryEmpty, Some(Some(channel))) => {
                self.events.push_back(DataEvent::Message(*channel, Bytes::new()));
            }
            (_, Some(Some(channel))) => self.events.push_back(DataEvent::Message(*channel, payload)),
            // Another channel, or one that was never announced.
            _ => {}
        }
    }

    fn dcep(&mut self, now: Instant, association: &mut Association, id: u16, payload: &[u8]) {
        match dcep::read(payload) {
            // A second OPEN on a stream is no use to an honest client, and its ACK memory to another one.
            Some(Dcep::Open(..)) if self.streams.contains_key(&id) => {}
            Some(Dcep::Open(known, reliability)) => {
                // On a transport where we open the channels, the client has none to open.
                let channel = known.filter(|_| !self.opens);
                let Ok(mut stream) = association.stream(id) else { return };
                reliability.apply(&mut stream);
                if let Some(ack) = dcep::ack() {
                    let _ = stream.write_chunk_with_ppi(now, &ack, Ppi::Dcep);
                }
                self.streams.insert(id, channel);
                if let Some(channel) = channel {
                    self.state(channel).stream = Some(id);
                    self.opened(now, association, channel);
                }
            }
            Some(Dcep::Ack) => {
                if let Some(Some(channel)) = self.streams.get(&id).copied().filter(|_| self.opens) {
                    self.opened(now, association, channel);
                }
            }
            None => {}
        }
    }

    fn opened(&mut self, now: Instant, association: &mut Association, channel: Channel) {
        let state = self.state(channel);
        if state.open {
            return; // a second one with this label takes its place
        }
        state.open = true;
        let (held, stream) = (state.backlog.take_held(), state.stream);
        self.events.push_back(DataEvent::Open(channel));
        for payload in held {
            write(now, association, stream, payload);
        }
    }

    fn stream_closed(&mut self, id: u16) {
        self.streams.remove(&id);
        for state in [&mut self.reliable, &mut self.lossy] {
            if state.stream == Some(id) {
                state.closed();
            }
        }
    }

    fn end(&mut self, now: Instant, why: DataEnd) {
        if !self.ended {
            if let Some((_, association)) = &mut self.association {
                let _ = association.abort();
                self.collect_transmits(now);
            }
            self.ended = true;
            self.association = None;
            self.pending.clear();
            self.initiate_at = None;
            self.reliable.closed();
            self.lossy.closed();
            self.events.push_back(DataEvent::Ended(why));
        }
    }

    /// Sends a message, or keeps it until the channel is open. A lossy message for which there is no room is dropped silently.
    ///
    /// # Errors
    /// See [`SendRefusal`]; after [`SendRefusal::Overflow`] messages are missing and the client must be disconnected.
    pub fn send(&mut self, now: Instant, channel: Channel, payload: Bytes) -> Result<(), SendRefusal> {
        if self.ended {
            return Err(SendRefusal::Ended);
        }
        if payload.len() > MAX_MESSAGE {
            return Err(SendRefusal::TooLarge(payload.len()));
        }
        let state = self.state(channel);
        if !state.backlog.admit(payload.len()) {
            return match channel {
                Channel::Reliable => Err(SendRefusal::Overflow),
                Channel::Lossy => Ok(()),
            };
        }
        let stream = state.stream;
        if !state.open {
            state.backlog.hold(payload);
        } else if let Some((_, association)) = &mut self.association {
            write(now, association, stream, payload);
        }
        Ok(())
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<DataEvent> {
        self.events.pop_front()
    }

    /// The next SCTP packet to write into a DTLS record. Call it last in a batch of input: then one SACK covers all of it.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        if self.out.is_empty() {
            self.collect_transmits(now);
        }
        self.out.pop_front()
    }

    fn collect_transmits(&mut self, now: Instant) {
        for (_, association) in self.pending.iter_mut().chain(&mut self.association) {
            while let Some(transmit) = association.poll_transmit(now) {
                if let Payload::RawEncode(packets) = transmit.message {
                    for packet in packets {
                        self.guard.outbound(&packet, WINDOW);
                        self.out.push_back(packet);
                    }
                }
            }
        }
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let associations = self.pending.iter().chain(&self.association).filter_map(|(_, a)| a.poll_timeout());
        associations.chain(self.initiate_at).min()
    }

    /// The time has come, or any time later.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.initiate_at.is_some_and(|at| at <= now) {
            self.initiate_at = None;
            if let Ok(association) = self.endpoint.connect(now, ClientConfig::new(transport_config()), PEER) {
                self.pending.push(association);
            }
        }
        for (_, association) in self.pending.iter_mut().chain(&mut self.association) {
            association.handle_timeout(now);
        }
        self.read(now);
    }
}

fn write(now: Instant, association: &mut Association, stream: Option<u16>, payload: Bytes) {
    // SCTP has no empty messages (RFC 8831 §6.6).
    let (payload, ppi) =
        if payload.is_empty() { (Bytes::from_static(&[0]), Ppi::BinaryEmpty) } else { (payload, Ppi::Binary) };
    if let Some(mut stream) = stream.and_then(|id| association.stream(id).ok()) {
        let _ = stream.write_chunk_with_ppi(now, &payload, ppi);
    }
}

#[cfg(test)]
#[path = "data_tests.rs"]
mod tests;
