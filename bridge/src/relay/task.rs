//! One room's relay to one other bridge: hears the room, the other bridge and the media worker, and does what `exchange`
//! makes of it.

use std::time::Duration;

use bytes::Bytes;
use livekit_protocol::{ConnectionQualityInfo, DataPacket, TrackType};
use prost::Message as _;
use ratssaal_proto::bridge::v1::relay_frame::Frame;
use ratssaal_proto::bridge::v1::relay_room::Message;
use ratssaal_proto::bridge::v1::{RelayData, RelayFrame, RelayQuality, RelayRoom};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::Context;
use super::exchange::{Action, Exchange};
use super::metrics::RelayLabel;
use super::pair::Order;
use super::wire;
use crate::media::control::{Channel, Command, Event};
use crate::room::relays::ToRelay;
use crate::room::{LocalTrack, ParticipantSid, RoomHandle, TrackSid};
use crate::signal;

/// Messages of the other bridge that wait.
const QUEUE: usize = 4096;
/// Without a stream to the other bridge, its tracks can be had for so long: media may flow on, and nobody's picture need go
/// for a short interruption.
const PATIENCE: Duration = Duration::from_secs(5);
/// With a stream, media must have come through within this.
const REACH: Duration = Duration::from_secs(5);
/// How long a data packet or a track waits for the room's log to be where its sender was.
const CATCH_UP: Duration = Duration::from_secs(2);
/// Data packets kept while there is no stream.
const MAX_BACKLOG: usize = 1024;
/// Qualities in one message.
const MAX_INFOS: usize = 1024;

/// What the task is told by its pair. When the pair drops its end, the relay is not needed any more.
#[derive(Debug)]
pub(super) enum ToTask {
    /// There is a (new) stream to the other bridge.
    Linked { number: u64, out: mpsc::Sender<RelayFrame>, limit: Option<u64> },
    /// There is none.
    Unlinked,
    /// The other bridge says something about this room.
    Frame(Message),
}

/// Starts a room's relay.
pub(super) fn start(
    context: Context,
    room: RoomHandle,
    peer: &str,
    orders: mpsc::UnboundedSender<Order>,
) -> mpsc::Sender<ToTask> {
    let (sender, inputs) = mpsc::channel(QUEUE);
    let media = room.media();
    let mut exchange = Exchange::new(media.id(), media.candidates(), peer, context.peers.me(), None);
    exchange.own_tracks(room.own_tracks());
    let label = RelayLabel { peer: peer.to_owned(), room: room.sid().to_string() };
    let relay = Relay {
        applied: room.applied(),
        context,
        room,
        peer: peer.to_owned(),
        label,
        orders,
        exchange,
        link: None,
        media: None,
        deadline: None,
        reached: false,
        silent: false,
        waived: 0,
        backlog: Vec::new(),
        speaking: Vec::new(),
    };
    tokio::spawn(relay.run(inputs));
    sender
}

/// What time will bring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    /// The other bridge has been away for too long.
    GiveUp,
    /// Media should have come through.
    Reached,
}

struct Relay {
    context: Context,
    room: RoomHandle,
    peer: String,
    label: RelayLabel,
    orders: mpsc::UnboundedSender<Order>,
    exchange: Exchange,
    link: Option<(u64, mpsc::Sender<RelayFrame>)>,
    /// Events of the transport, while the worker has it.
    media: Option<mpsc::Receiver<Event>>,
    deadline: Option<(Instant, Due)>,
    reached: bool,
    silent: bool,
    applied: watch::Receiver<u64>,
    /// The log is not waited for up to this sequence: that was in vain.
    waived: u64,
    /// Reliable data for the time when the other bridge listens (again).
    backlog: Vec<Message>,
    speaking: Vec<(ParticipantSid, f32)>,
}

impl Relay {
    async fn run(mut self, mut inputs: mpsc::Receiver<ToTask>) {
        let (own, mut told) = self.room.connect_relay(&self.peer);
        // What changed before the room knew of this relay.
        self.exchange.own_tracks(self.room.own_tracks());
        loop {
            tokio::select! {
                input = inputs.recv() => match input {
                    Some(input) => self.take(input).await,
                    None => break,
                },
                event = event(&mut self.media) => self.on_media(event),
                Some(message) = told.recv() => self.on_room(message),
                due = due(self.deadline) => self.on_time(due),
            }
            self.act();
        }
        self.exchange.close();
        self.act();
        self.room.disconnect_relay(&self.peer, &own);
        self.context.metrics.sent.remove(&self.label);
        self.context.metrics.received.remove(&self.label);
    }

    async fn take(&mut self, input: ToTask) {
        match input {
            ToTask::Linked { number, out, limit } => {
                self.link = Some((number, out));
                self.reached = false;
                self.deadline = Some((Instant::now() + REACH, Due::Reached));
                self.exchange.linked(limit);
            }
            ToTask::Unlinked => {
                self.link = None;
                self.deadline = Some((Instant::now() + PATIENCE, Due::GiveUp));
                self.room.relayed_speakers(&self.peer, Vec::new());
            }
            ToTask::Frame(message) => self.hear(message).await,
        }
    }

    async fn hear(&mut self, message: Message) {
        match message {
            Message::Open(open) => {
                self.exchange.open(open);
                if self.exchange.is_open() {
                    self.act();
                    for message in std::mem::take(&mut self.backlog) {
                        self.send(message);
                    }
                    self.send(Message::Speakers(wire::speakers(&self.speaking)));
                }
            }
            Message::Close(_) => {
                self.exchange.closed();
                self.room.relayed_speakers(&self.peer, Vec::new());
            }
            Message::Tracks(tracks) => {
                self.catch_up(tracks.after).await;
                self.exchange.remote_tracks(tracks);
            }
            Message::Pull(pull) => self.exchange.pulled(&pull),
            Message::Codec(want) => {
                if let Some((track, codec)) = wire::read_want(&want) {
                    // Nobody's who has gone from here meanwhile: those who need it ask again where the track comes from.
                    self.room.relayed_want(&track, codec);
                }
            }
            Message::Speakers(speakers) => {
                let speakers = self.theirs(wire::read_speakers(&speakers));
                self.room.relayed_speakers(&self.peer, speakers);
            }
            Message::Quality(quality) => {
                let state = self.room.state();
                let infos = quality.infos.into_iter().take(MAX_INFOS);
                let infos = infos.filter_map(|info| ConnectionQualityInfo::decode(info).ok());
                let there = |sid: &str| state.participant(&sid.into()).is_some_and(|who| who.bridge == self.peer);
                infos.filter(|info| there(&info.participant_sid)).for_each(|info| self.room.report_quality(info));
            }
            Message::Data(data) => self.data(data).await,
        }
    }

    /// Of these, those who sit at the other bridge: a bridge speaks for nobody else.
    fn theirs(&self, speakers: Vec<(ParticipantSid, f32)>) -> Vec<(ParticipantSid, f32)> {
        let state = self.room.state();
        let there = |sid: &ParticipantSid| state.participant(sid).is_some_and(|who| who.bridge == self.peer);
        speakers.into_iter().filter(|(sid, _)| there(sid)).collect()
    }

    async fn data(&mut self, data: RelayData) {
        let Ok(packet) = DataPacket::decode(data.packet) else { return };
        self.catch_up(data.after).await;
        let sender = (!data.sender_sid.is_empty()).then(|| ParticipantSid::from(data.sender_sid.as_str()));
        let state = self.room.state();
        let elsewhere = |sid| state.participant(sid).is_some_and(|who| !who.sat_on(&self.peer, data.after));
        if sender.as_ref().is_some_and(elsewhere) {
            return; // somebody else's
        }
        let channel = if data.reliable { Channel::Reliable } else { Channel::Lossy };
        self.room.relayed_data(sender.as_ref(), packet, channel);
    }

    /// Waits until the room's log is here where it was there, for a while.
    async fn catch_up(&mut self, after: u64) {
        if after > self.waived {
            let reached = self.applied.wait_for(|applied| *applied >= after);
            if timeout(CATCH_UP, reached).await.is_err() {
                debug!(room = %self.room.name(), peer = self.peer, "the other bridge is ahead of the room's log");
                self.waived = after;
            }
        }
    }

    fn on_room(&mut self, message: ToRelay) {
        match message {
            ToRelay::Tracks => self.exchange.own_tracks(self.room.own_tracks()),
            ToRelay::Data { sender, channel, packet, after } => {
                let reliable = channel == Channel::Reliable;
                let sender_sid = sender.map(|sid| sid.to_string()).unwrap_or_default();
                let message = Message::Data(RelayData { packet, reliable, sender_sid, after });
                if self.link.is_some() && self.exchange.is_open() {
                    self.send(message);
                } else if reliable && self.backlog.len() < MAX_BACKLOG {
                    self.backlog.push(message);
                }
            }
            ToRelay::CodecWanted { track, codec } => self.exchange.want(&track, codec),
            ToRelay::Speakers(speakers) => {
                self.send(Message::Speakers(wire::speakers(&speakers)));
                self.speaking = speakers;
            }
            ToRelay::Quality(infos) => {
                let infos = infos.iter().map(|info| Bytes::from(info.encode_to_vec())).collect();
                self.send(Message::Quality(RelayQuality { infos }));
            }
        }
    }

    fn on_media(&mut self, event: Event) {
        match event {
            Event::LayersNeeded { track, layers, .. } => {
                let all = 1u8.checked_shl(layers.into()).map_or(u8::MAX, |bit| bit - 1);
                self.exchange.needed(track, all);
            }
            Event::StreamsNeeded { track, streams, .. } => self.exchange.needed(track, streams),
            Event::Connected { remote, .. } => {
                self.reached = true;
                info!(room = %self.room.name(), peer = self.peer, %remote, "relay: media comes through");
            }
            Event::Relayed { sent, received, .. } => {
                self.context.metrics.sent.get_or_create(&self.label).inc_by(sent);
                self.context.metrics.received.get_or_create(&self.label).inc_by(received);
            }
            Event::Quality { quality, .. } => {
                if quality.silent && !self.silent {
                    warn!(room = %self.room.name(), peer = self.peer, "relay: no media packets come from this bridge");
                }
                self.silent = quality.silent;
            }
            Event::Closed { .. } => self.media = None,
            _ => {}
        }
    }

    fn on_time(&mut self, due: Due) {
        self.deadline = None;
        match due {
            Due::GiveUp => {
                warn!(room = %self.room.name(), peer = self.peer, "relay: the bridge stays away; what is published there cannot be had");
                self.backlog.clear();
                self.exchange.given_up();
            }
            Due::Reached if !self.reached => {
                let addresses = self.room.media().candidates();
                warn!(
                    room = %self.room.name(), peer = self.peer, ours = ?addresses,
                    "relay: no media packet has come from this bridge: bridges must reach each other's UDP ports (media.ports, media.advertise)"
                );
            }
            Due::Reached => {}
        }
    }

    fn act(&mut self) {
        for action in self.exchange.actions() {
            match action {
                Action::Send(message) => self.send(message),
                Action::Media(command) => {
                    let media = self.room.media();
                    match &command {
                        Command::OpenRelay { transport, .. } if self.media.is_none() => {
                            self.media = Some(media.attach(*transport));
                        }
                        Command::CloseTransport { .. } => self.media = None,
                        _ => {}
                    }
                    media.send(command);
                }
                // Its publisher has gone from there, and it comes from where that sits now.
                Action::Publish(sid, track) if self.is_stale(&sid, &track) => {
                    debug!(room = %self.room.name(), peer = self.peer, track = %sid, "relay: a track comes from elsewhere already");
                }
                Action::Publish(sid, track) => {
                    debug!(room = %self.room.name(), peer = self.peer, track = %sid, media = track.media.0, "relay: a track is there");
                    self.describe(&sid, &track).into_iter().for_each(|describe| self.room.media().send(describe));
                    self.room.publish_media(&sid, track);
                }
                Action::Withdraw(sid, track) => {
                    debug!(room = %self.room.name(), peer = self.peer, track = %sid, media = track.media.0, "relay: a track is gone");
                    self.context.metrics.withdrawn.inc();
                    self.room.withdraw_media(&sid, &track);
                }
                Action::Subscribed(publisher, track) => self.room.relayed_subscription(&publisher, &track),
            }
        }
    }

    /// Whether a track that the other bridge has comes from its publisher's own bridge already, this one or a third: the
    /// publisher has been moved from there, which that bridge has yet to say.
    fn is_stale(&self, sid: &TrackSid, track: &LocalTrack) -> bool {
        let state = self.room.state();
        let Some(who) = state.participant(&track.publisher).filter(|who| who.bridge != self.peer) else { return false };
        let from = |known: &LocalTrack| known.relay.as_deref().unwrap_or(self.context.peers.me()) == who.bridge;
        self.room.track(sid).is_some_and(|known| from(&known))
    }

    /// What the log says of a track, for the worker.
    fn describe(&self, sid: &TrackSid, track: &LocalTrack) -> Vec<Command> {
        let state = self.room.state();
        let Some((_, info)) = state.track(sid).filter(|(_, info)| info.r#type() == TrackType::Video) else {
            return Vec::new();
        };
        let media = std::iter::once(track.first()).chain(track.backups.iter().cloned());
        media.map(|media| signal::describe_track(media.track, info, media.codec())).collect()
    }

    fn send(&mut self, mut message: Message) {
        let Some((number, out)) = &self.link else { return };
        if let Message::Tracks(tracks) = &mut message {
            tracks.after = self.room.state().sequence();
        }
        let room = RelayRoom { room_sid: self.label.room.clone(), message: Some(message) };
        if out.try_send(RelayFrame { frame: Some(Frame::Room(room)) }).is_err() {
            // Nothing may be missing in between: both begin anew.
            let _ = self.orders.send(Order::Overrun(*number));
            self.link = None;
        }
    }
}

/// The transport's next event. Never resolves while there is none.
async fn event(media: &mut Option<mpsc::Receiver<Event>>) -> Event {
    match media {
        Some(events) => match events.recv().await {
            Some(event) => event,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Resolves when it is time.
async fn due(deadline: Option<(Instant, Due)>) -> Due {
    match deadline {
        Some((at, due)) => {
            sleep_until(at).await;
            due
        }
        None => std::future::pending().await,
    }
}
