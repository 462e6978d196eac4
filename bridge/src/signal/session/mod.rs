//! One client's session: the task that speaks for a participant from its joining to its leaving.
//!
//! It waits for several things at once: the client's requests (`requests`), the room's messages (`room`), the media
//! worker's events (`media`), the client's return (`returning`), and time (`clocks`). Each is handled to its end before the
//! next. Negotiation of the PeerConnections is in `publisher` (the client offers) and `subscriber` (v0, we offer). What is
//! decided purely lies beside this folder.

mod clocks;
mod codecs;
mod media;
mod moving;
mod publisher;
mod reliable;
mod requests;
mod restoring;
mod returning;
mod room;
mod subscriber;
mod waiting;

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::leave_request::Action;
use livekit_protocol::signal_response::Message;
use livekit_protocol::{AddTrackRequest, DisconnectReason, ParticipantInfo, SessionDescription};
use ratssaal_process::grpc::Origin;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use self::clocks::{Clocks, Due};
pub(crate) use self::moving::HandedOver;
use self::moving::Moving;
use self::reliable::Reliable;
use super::admission::Place;
use super::link::{Frame, Link, Socket};
use super::metrics::{Ended, Rated};
use super::outlets::Outlets;
use super::publications::Publications;
use super::quality::Judge;
use super::rate::RateLimit;
use super::request::{Opening, Path};
use super::resume::{Registration, Visit};
use super::subscriptions::Subscriptions;
use super::transport::{Transport, next_event};
use super::wire::{Close, Incoming};
use super::{Inner, messages};
use crate::media::MediaRoom;
use crate::media::control::{Event, TrackId};
use crate::room::{Actor, Command, Joined, ParticipantSid, Presence, RoomHandle, ToSession, TrackSid};
use crate::token::{Claims, REFRESH_TTL};

/// Messages of the room that are taken together before subscriptions are settled.
const BATCH: usize = 256;
/// How long a participant who was sent to another bridge stays in the room until it is there.
const MOVING: Duration = Duration::from_secs(5);
/// Participants who left whom a client that was away may not have heard of.
const FAREWELLS: usize = 256;

/// A client that comes back over a new WebSocket.
#[derive(Debug)]
pub(crate) struct Return {
    pub(crate) socket: Socket,
    pub(crate) opening: Opening,
}

/// Where a session's participant sits; leaves the room when dropped, whatever ends the session.
#[derive(Debug)]
struct Seat {
    room: RoomHandle,
    sid: ParticipantSid,
    /// Kept until the room knows of the leaving: without it the room takes the session for broken.
    inbox: Option<mpsc::Receiver<ToSession>>,
    reason: DisconnectReason,
    left: bool,
}

impl Seat {
    /// The room's next message; `None` when the room has put this participant out. Cancel-safe.
    async fn next(&mut self) -> Option<ToSession> {
        self.inbox.as_mut()?.recv().await
    }

    fn try_next(&mut self) -> Option<ToSession> {
        self.inbox.as_mut()?.try_recv().ok()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if !self.left {
            let (room, sid, reason) = (self.room.clone(), self.sid.clone(), self.reason);
            let mut inbox = self.inbox.take();
            tokio::spawn(async move {
                // The others see it until it has come in again, which puts it out here.
                if reason == DisconnectReason::Migration && timeout(MOVING, put_out(inbox.as_mut())).await.is_ok() {
                    return;
                }
                room.leave(sid, reason).await;
                drop(inbox);
            });
        }
    }
}

/// Waits until the room has put the participant out.
async fn put_out(inbox: Option<&mut mpsc::Receiver<ToSession>>) {
    let Some(inbox) = inbox else { return };
    while inbox.recv().await.is_some_and(|message| !matches!(message, ToSession::Leave { .. })) {}
}

/// One participant's session.
#[derive(Debug)]
pub(crate) struct Session {
    signal: Arc<Inner>,
    seat: Seat,
    /// The room's media, on the worker where this participant's transports are.
    media: MediaRoom,
    claims: Claims,
    path: Path,
    /// Whether the client takes several tracks in one stream.
    in_sync: bool,
    link: Link,
    returns: Registration,
    place: Option<Place>,
    /// The joining, to whose trace everything belongs until media can flow.
    joining: Origin,
    rate: RateLimit,
    clocks: Clocks,
    /// Media can flow.
    active: bool,
    /// Participants who left, for a client that was away when it was told.
    farewells: VecDeque<(Instant, ParticipantInfo)>,
    publications: Publications,
    /// Own tracks of which the client knows that somebody gets them.
    heard_by_others: BTreeSet<TrackSid>,
    subscriptions: Subscriptions,
    quality: Judge,
    /// Its place in the count by quality.
    rated: Rated,
    outlets: Outlets,
    /// Whether what the client receives has to be negotiated anew.
    unsettled: bool,
    /// What legs lead to whose track does not come yet in a codec that the client can decode. There never is such a track.
    nothing: TrackId,
    /// Tracks of which the client was told that it can decode none of their codecs.
    undecodable: BTreeSet<TrackSid>,
    publisher: Option<Transport>,
    subscriber: Option<subscriber::Subscriber>,
    negotiation: publisher::Negotiation,
    /// The client's reliable data packets.
    reliable: Reliable,
    moving: Moving,
    first: Option<Box<First>>,
}

/// Whether the session goes on.
type Flow = ControlFlow<Ended>;

/// What woke the session.
enum Input {
    Frame(Frame),
    Room(Option<ToSession>),
    Media(Event),
    Visit(Box<Visit>),
    Due(Due),
}

/// How a session begins: on v1 the first requests come with the joining.
#[derive(Debug)]
struct First {
    welcome: Message,
    tracks: Vec<AddTrackRequest>,
    offer: Option<SessionDescription>,
}

impl Session {
    /// For a participant who is in the room already. It is a part of the span in which this is called until media can flow.
    pub(crate) fn new(
        signal: Arc<Inner>,
        joined: Joined,
        mut opening: Opening,
        returns: Registration,
        place: Place,
    ) -> Box<Self> {
        let welcome = messages::join(&joined, opening.path);
        let first = First { welcome, tracks: std::mem::take(&mut opening.tracks), offer: opening.offer.take() };
        let session = Self::silent(signal, (joined.room, joined.sid, joined.inbox), &opening, returns, place);
        Box::new(Self { first: Some(Box::new(first)), joining: Origin::current(), ..session })
    }

    /// One that has nothing to say yet.
    fn silent(
        signal: Arc<Inner>,
        (room, sid, inbox): (RoomHandle, ParticipantSid, mpsc::Receiver<ToSession>),
        opening: &Opening,
        returns: Registration,
        place: Place,
    ) -> Self {
        let now = Instant::now();
        let (inbox, rated) = (Some(inbox), signal.metrics.rated());
        Self {
            signal,
            media: room.media().seat(),
            seat: Seat { room, sid, inbox, reason: DisconnectReason::JoinFailure, left: false },
            claims: opening.claims.clone(),
            path: opening.path,
            in_sync: opening.takes_streams(),
            link: Link::down(),
            returns,
            place: Some(place),
            joining: Origin::default(),
            rate: RateLimit::new(now),
            clocks: Clocks::new(now),
            active: false,
            farewells: VecDeque::new(),
            publications: Publications::default(),
            heard_by_others: BTreeSet::new(),
            subscriptions: Subscriptions::new(opening.auto_subscribe, opening.adaptive_stream),
            quality: Judge::default(),
            rated,
            outlets: Outlets::default(),
            unsettled: false,
            nothing: TrackId::next(),
            undecodable: BTreeSet::new(),
            publisher: None,
            subscriber: None,
            negotiation: publisher::Negotiation::default(),
            reliable: Reliable::default(),
            moving: Moving::new(opening),
            first: None,
        }
    }

    /// Tells the client that it is in and speaks for it until it leaves.
    pub(crate) async fn run(mut self: Box<Self>, socket: Socket) {
        self.link.attach(socket);
        let ended = self.speak().await;
        self.finish(ended);
    }

    fn finish(mut self: Box<Self>, ended: Ended) {
        if !self.moving.is_over() {
            self.release_data();
        }
        let subscriber = self.subscriber.take().map(|subscriber| subscriber.transport);
        let lingering = self.moving.is_over().then(|| self.signal.rooms.linger());
        for transport in self.publisher.take().into_iter().chain(subscriber) {
            match &lingering {
                Some(lingering) => transport.linger(lingering.clone()),
                None => transport.part(),
            }
        }
        self.signal.metrics.ended(ended);
        tracing::info!(participant = %self.seat.sid, reason = ?self.seat.reason, ?ended, "session ended");
    }

    /// Until the end. What needs much room is boxed: most of the time a session waits.
    async fn speak(&mut self) -> Ended {
        if let Some(first) = self.first.take()
            && let ControlFlow::Break(ended) = Box::pin(self.begin(*first)).await
        {
            return ended;
        }
        loop {
            let input = self.wait().await;
            if let ControlFlow::Break(ended) = self.handle(input).await {
                return ended;
            }
            if self.unsettled {
                self.settle();
            }
        }
    }

    /// The join response, what the client asked for with its joining, and v0's first offer.
    async fn begin(&mut self, first: First) -> Flow {
        self.link.send(first.welcome);
        // The tracks that are there already wait in the inbox: they can be in the first answer or offer.
        while let Some(message) = self.seat.try_next() {
            self.on_room(message)?;
        }
        for track in first.tracks {
            self.add_track(track).await;
        }
        if let Some(offer) = first.offer {
            self.offer(offer).await?;
        }
        if self.path == Path::V0 {
            self.open_subscriber();
        }
        ControlFlow::Continue(())
    }

    async fn wait(&mut self) -> Input {
        let clock = self.clocks.next(self.signal.settings.resume_within);
        let repeat = self.reliable.due().map(|at| (at, Due::Repeat));
        let (at, due) = repeat.filter(|(at, _)| *at < clock.0).unwrap_or(clock);
        let subscriber = self.subscriber.as_mut().map(|subscriber| &mut subscriber.transport);
        tokio::select! {
            frame = self.link.next() => Input::Frame(frame),
            message = self.seat.next() => Input::Room(message),
            event = next_event(self.publisher.as_mut(), subscriber) => Input::Media(event),
            visit = self.returns.next() => Input::Visit(Box::new(visit)),
            () = sleep_until(at.into()) => Input::Due(due),
        }
    }

    async fn handle(&mut self, input: Input) -> Flow {
        match input {
            Input::Frame(Frame::Message(message)) => {
                self.clocks.heard = Instant::now();
                let Incoming::Request(request, _) = message else { return ControlFlow::Continue(()) };
                if !self.rate.take(self.clocks.heard) {
                    tracing::info!(participant = %self.seat.sid, "too many signal requests");
                    return self.end(
                        DisconnectReason::StateMismatch,
                        Action::Disconnect,
                        Close::TooMany,
                        Ended::Refused,
                    );
                }
                Box::pin(self.request(*request)).await
            }
            Input::Frame(Frame::Malformed(malformed)) => {
                tracing::info!(participant = %self.seat.sid, %malformed, "the client is refused");
                self.end(DisconnectReason::StateMismatch, Action::Disconnect, malformed.into(), Ended::Refused)
            }
            Input::Frame(Frame::Gone) => self.gone(),
            Input::Room(message) => {
                let mut next = message;
                if next.is_none() {
                    return self.overrun();
                }
                for _ in 0..BATCH {
                    let Some(message) = next else { break };
                    self.on_room(message)?;
                    next = self.seat.try_next();
                }
                ControlFlow::Continue(())
            }
            Input::Media(event) => self.on_media(event).await,
            Input::Visit(visit) => match *visit {
                Visit::Return(back) => Box::pin(self.come_back(*back)).await,
                Visit::HandOver(reply) => {
                    self.hand_over(reply);
                    ControlFlow::Continue(())
                }
            },
            Input::Due(due) => self.due(due),
        }
    }

    fn due(&mut self, due: Due) -> Flow {
        match due {
            Due::Silent => {
                self.link.close(Close::Silent);
                self.gone()
            }
            Due::Away => self.end(DisconnectReason::SignalClose, Action::Reconnect, Close::Normal, Ended::Lost),
            Due::Connect => {
                self.end(DisconnectReason::ConnectionTimeout, Action::Reconnect, Close::Normal, Ended::NeverConnected)
            }
            Due::Refresh => {
                self.refresh_token();
                ControlFlow::Continue(())
            }
            Due::Moving => self.stays_here(),
            Due::Repeat => {
                self.release_data();
                ControlFlow::Continue(())
            }
            Due::Settle => {
                self.clocks.gathered();
                self.unsettled = true;
                ControlFlow::Continue(())
            }
        }
    }

    /// The WebSocket is gone; the session waits for the client to come back, if it still can: with what it has, from here or
    /// from the bridge that it came from.
    fn gone(&mut self) -> Flow {
        self.link.close(Close::Normal);
        let now = Instant::now();
        self.clocks.away = Some(now);
        self.reliable.away(now, self.signal.settings.resume_within);
        if !self.active && self.clocks.moving.is_none() && !self.moving.came {
            return self.end(DisconnectReason::SignalClose, Action::Reconnect, Close::Normal, Ended::NeverConnected);
        }
        ControlFlow::Continue(())
    }

    /// The room put this participant out because its session did not keep up.
    fn overrun(&mut self) -> Flow {
        self.seat.left = true;
        self.end(DisconnectReason::StateMismatch, Action::Reconnect, Close::Normal, Ended::Overrun)
    }

    /// A token that lets the client in again later, with what it may do now.
    fn refresh_token(&mut self) {
        self.clocks.refresh = Instant::now() + REFRESH_TTL / 2;
        let state = self.seat.room.state();
        if let Some(me) = state.participant(&self.seat.sid) {
            self.claims.name.clone_from(&me.name);
            self.claims.metadata.clone_from(&me.metadata);
            self.claims.attributes = me.attributes.clone().into_iter().collect();
        }
        self.link.send(Message::RefreshToken(self.signal.keys.mint(&self.claims, REFRESH_TTL)));
    }

    /// Says goodbye. The room hears of it when the session is dropped.
    fn end(&mut self, reason: DisconnectReason, action: Action, close: Close, ended: Ended) -> Flow {
        self.link.send(messages::leave(reason, action));
        self.link.close(close);
        self.seat.reason = reason;
        ControlFlow::Break(ended)
    }

    /// Media can flow.
    async fn connected(&mut self) {
        if std::mem::replace(&mut self.active, true) {
            return;
        }
        (self.clocks.connect_by, self.place) = (None, None);
        let (participant, presence) = (self.seat.sid.clone(), Presence::Active);
        if let Err(refusal) = self.seat.room.submit(Actor::Bridge, Command::Progress { participant, presence }).await {
            tracing::warn!(participant = %self.seat.sid, %refusal, "the room did not take a participant's progress");
        }
    }

    /// The client gets these tracks from now on: their publishers hear of it.
    fn subscribed(&self, tracks: &[TrackSid]) {
        for sid in tracks {
            if let Some(track) = self.subscriptions.track(sid) {
                // On another bridge its publisher hears of it from there.
                let _ = self.seat.room.tell(&track.publisher, ToSession::TrackSubscribed(sid.clone()));
            }
        }
    }

    fn actor(&self) -> Actor {
        Actor::Participant(self.seat.sid.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes<R>(_: impl FnOnce(Box<Session>, Socket) -> R) -> usize {
        size_of::<R>()
    }

    /// What every participant of a bridge takes, besides what it has in the room and in the media worker.
    #[test]
    fn a_session_is_small() {
        let (state, task) = (size_of::<Session>(), takes(Session::run));
        assert!(state <= 4096 && task <= 1024, "state {state} bytes, task {task} bytes");
    }
}
