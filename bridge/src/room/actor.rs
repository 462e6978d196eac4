//! The task of one room: takes requests, the log's tail, media events and the clock, one at a time.
//!
//! It alone changes the room's state, and only by entries in the log's order (`local`); how commands become entries is in
//! `commit`, and what happens while the log cannot be written in `away`.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use livekit_protocol::{ConnectionQualityInfo, DisconnectReason};
use ratssaal_proto::allocator::v1::{LogEntry, Seat, TailFrame, tail_frame::Frame};
use ratssaal_proto::room::v1::Snapshot;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_stream::StreamExt as _;
use tonic::Streaming;
use tracing::{debug, warn};

use super::apply;
use super::arrivals::Arrivals;
use super::away::{Flight, Trouble, landing};
use super::command::{Actor, Command, Refusal};
use super::entry::{self, Logged};
use super::handle::{Request, Shared};
use super::herald::Herald;
use super::ids::ParticipantSid;
use super::inbox::Inbox;
use super::log::{BATCH, LogError, Mark, RoomLog};
use super::metrics::RoomMetrics;
use super::queue::{Parcel, Queue};
use super::relays::{Spread, ToRelay};
use super::session::ToSession;
use super::speakers::Speakers;
use super::state::{Participant, State};
use crate::media::control::{Event, TrackId};

/// How often slow sessions, retries, qualities and the room's counts are looked at.
const TICK: Duration = Duration::from_secs(1);

/// How long people are expected at another bridge.
const EXPECTED: Duration = Duration::from_secs(20);

/// How long the bridge somebody was moved away from still belongs to the room: media comes in there until the client is
/// connected to the other one. Longer than transports linger.
pub(super) const LINGERS: Duration = Duration::from_secs(5);

/// A command on its way into the log.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) actor: Actor,
    pub(super) command: Command,
    /// Nobody waits for a command that is retried in the background.
    pub(super) reply: Option<oneshot::Sender<Result<(), Refusal>>>,
}

impl Pending {
    pub(super) fn of_bridge(command: Command) -> Self {
        Self { actor: Actor::Bridge, command, reply: None }
    }

    pub(super) fn answer(self, answer: Result<(), Refusal>) {
        // Whoever asked may have gone meanwhile.
        let _ = self.reply.map(|reply| reply.send(answer));
    }
}

pub(super) struct RoomActor {
    pub(super) shared: Arc<Shared>,
    pub(super) log: RoomLog,
    /// This bridge's name.
    pub(super) bridge: String,
    /// Where it stands; empty without sites.
    pub(super) site: String,
    /// What the log says, and what is shown: that and what waits.
    pub(super) logged: Arc<State>,
    /// When the last entry of that was appended; 0 where it is not known.
    pub(super) at_ms: u64,
    pub(super) state: Arc<State>,
    pub(super) queue: Queue,
    /// Why the log is not written; whenever something waits.
    pub(super) trouble: Option<Trouble>,
    /// A call under way, and what it brings into the log.
    pub(super) flight: Option<Flight>,
    pub(super) airborne: Option<Parcel>,
    /// The next call may be due.
    pub(super) due: bool,
    /// The position and the head behind which the last append came second.
    pub(super) behind: Option<(u64, u64)>,
    /// What waits, as last counted.
    pub(super) counted: i64,
    /// Join ids that became participants, for the bridge's next report.
    pub(super) confirmed: Arc<Mutex<Vec<String>>>,
    /// `None` while the allocator is away.
    pub(super) tail: Option<Streaming<TailFrame>>,
    /// Inboxes of those whose joining is on its way into the log.
    pub(super) joining: HashMap<ParticipantSid, Inbox>,
    /// What the bridge has to log, with the next tick.
    pub(super) retry: VecDeque<Pending>,
    pub(super) speakers: Speakers,
    /// Who speaks by the media worker, and of those who are forwarded from other rooms.
    pub(super) measured: Vec<(ParticipantSid, f32)>,
    pub(super) forwarded: BTreeMap<ParticipantSid, f32>,
    /// Who speaks on this bridge, and on the others.
    pub(super) here: Vec<(ParticipantSid, f32)>,
    pub(super) elsewhere: BTreeMap<String, Vec<(ParticipantSid, f32)>>,
    /// The bridges the participants sit on, as last told, and whom that is told.
    pub(super) spread: BTreeSet<String>,
    /// Bridges that people are about to come to, or have just gone from, and until when they count.
    pub(super) expected: BTreeMap<String, Instant>,
    pub(super) spreads: Option<mpsc::UnboundedSender<Spread>>,
    /// Connection qualities as reported since the last time, and those of all who are visible as last told.
    pub(super) qualities: BTreeMap<ParticipantSid, ConnectionQualityInfo>,
    pub(super) rated: BTreeMap<ParticipantSid, ConnectionQualityInfo>,
    /// Participants and publishers as last told.
    pub(super) told: (u32, u32),
    pub(super) arrivals: Arrivals,
    pub(super) herald: Herald,
    pub(super) metrics: RoomMetrics,
}

impl RoomActor {
    /// Runs until the room has ended or this bridge leaves it.
    pub(super) async fn run(
        mut self,
        mut requests: mpsc::UnboundedReceiver<Request>,
        mut media: mpsc::Receiver<Event>,
    ) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        while self.state.ended().is_none() {
            if self.due {
                self.take_off();
            }
            tokio::select! {
                _ = requests.recv_many(&mut batch, BATCH) => {
                    self.metrics.queued.dec_by(i64::try_from(batch.len()).unwrap_or(i64::MAX));
                    if let Some(stopped) = self.take(&mut batch).await {
                        let _ = stopped.send(());
                        break;
                    }
                }
                frame = next_frame(&mut self.tail) => self.take_frame(frame),
                landed = landing(&mut self.flight) => self.land(landed),
                Some(event) = media.recv() => self.take_media(event),
                () = self.arrivals.due() => self.announce_arrivals(&BTreeSet::new()),
                _ = tick.tick() => self.take_tick().await,
            }
        }
        self.close();
        requests.close();
        while let Some(request) = requests.recv().await {
            self.metrics.queued.dec();
            match request {
                Request::Submit { reply, .. }
                | Request::Join { reply, .. }
                | Request::Admit { reply, .. }
                | Request::TakeOver { reply, .. } => drop(reply.send(Err(Refusal::Ended))),
                Request::Shutdown { reply } => drop(reply.send(())),
                Request::Bound(_) | Request::Unbound(..) | Request::Speaking(..) | Request::Voice(..) => {}
                Request::Quality(_) | Request::Opened | Request::Expect(_) => {}
            }
        }
    }

    /// Handles requests in their order, neighbouring commands as one batch. Answers with the reply of a shutdown.
    async fn take(&mut self, requests: &mut Vec<Request>) -> Option<oneshot::Sender<()>> {
        let mut commands = VecDeque::new();
        for request in requests.drain(..) {
            match request {
                Request::Submit { actor, command, reply } => {
                    commands.push_back(Pending { actor, command, reply: Some(reply) });
                }
                Request::Join { newcomer, inbox, reply } => {
                    self.joining.insert(newcomer.sid.clone(), inbox);
                    let (actor, command) = (Actor::Bridge, Command::Join(newcomer));
                    commands.push_back(Pending { actor, command, reply: Some(reply) });
                }
                Request::Admit { newcomer, inbox, elsewhere, reply } => {
                    // Whoever asked may have gone meanwhile.
                    let _ = reply.send(self.admit_by_lease(newcomer, inbox, elsewhere));
                }
                Request::TakeOver { participant, join_id, inbox, reply } => {
                    self.joining.insert(participant.clone(), inbox);
                    let bridge = self.bridge.clone();
                    let (actor, command) = (Actor::Bridge, Command::Move { participant, bridge, join_id });
                    commands.push_back(Pending { actor, command, reply: Some(reply) });
                }
                Request::Expect(bridge) => {
                    self.expect(bridge, EXPECTED);
                    self.spread();
                }
                Request::Quality(info) => {
                    self.qualities.insert(info.participant_sid.as_str().into(), info);
                }
                Request::Opened => self.herald.opened(&self.state),
                Request::Bound(track) => {
                    self.commit(std::mem::take(&mut commands)).await;
                    self.bound(&track);
                }
                Request::Unbound(track, media) => self.unbound(&track, media),
                Request::Speaking(bridge, speakers) => {
                    self.elsewhere.insert(bridge, speakers);
                    self.speak();
                }
                Request::Voice(sid, level) => {
                    self.forwarded.remove(&sid);
                    self.forwarded.extend(level.map(|level| (sid, level)));
                    self.hear();
                }
                Request::Shutdown { reply } => {
                    self.commit(std::mem::take(&mut commands)).await;
                    self.stop_waiting();
                    let reason = DisconnectReason::ServerShutdown;
                    let here = self.state.participants().filter(|participant| participant.bridge == self.bridge);
                    let leave = |participant| Pending::of_bridge(Command::Leave { participant, reason });
                    let leaves = here.map(|participant| leave(participant.sid.clone())).collect();
                    self.commit(leaves).await;
                    return Some(reply);
                }
            }
        }
        self.commit(commands).await;
        None
    }

    /// Takes the next piece of the log's tail.
    pub(super) fn take_frame(&mut self, frame: Option<TailFrame>) {
        let Some(frame) = frame.and_then(|frame| frame.frame) else {
            (self.tail, self.due) = (None, true);
            return;
        };
        match frame {
            Frame::Opened(_) => {}
            Frame::Entries(entries) => {
                let read =
                    |entry: LogEntry| Logged { at_ms: entry.at_ms, ..Logged::decode(entry.sequence, entry.entry) };
                self.apply_all(entries.entries.into_iter().map(read).collect());
            }
            Frame::Snapshot(snapshot) => self.take_snapshot(snapshot.sequence, snapshot.state),
            Frame::Closed(_) => self.end(DisconnectReason::RoomClosed),
        }
    }

    fn take_snapshot(&mut self, sequence: u64, state: bytes::Bytes) {
        use prost::Message as _;
        if sequence <= self.logged.sequence() {
            return;
        }
        match Snapshot::decode(state) {
            Ok(snapshot) => {
                let mut after = State::clone(&self.logged);
                apply::restore(&mut after, sequence, &snapshot);
                self.jump_to(after);
            }
            Err(error) => {
                warn!(room = %self.shared.name, %error, "a room's snapshot cannot be read; its participants rejoin");
                self.end(DisconnectReason::StateMismatch);
            }
        }
    }

    /// Where we are in the log.
    pub(super) fn mark(&self) -> Mark {
        Mark { sequence: self.logged.sequence(), at_ms: self.at_ms }
    }

    /// Reads the tail again from where we are, and waits for that. Tried again each second while the allocator is away.
    pub(super) async fn reopen_tail(&mut self) {
        match self.log.tail(self.mark()).await {
            Ok(tail) => self.tail = Some(tail),
            Err(LogError::Ended | LogError::Conflict { .. }) => match self.restore().await {
                // Taken back, or to be tried again: then the clock reads on.
                Some(_) => self.tail = self.log.tail(self.mark()).await.ok(),
                None => self.end(DisconnectReason::RoomClosed),
            },
            Err(error) => debug!(room = %self.shared.name, %error, "the room's log cannot be read"),
        }
    }

    /// The allocator does not know the room. If it has lost its data, it is told of the room again; `None` if the room has
    /// ended, else the head of its log as far as it is known.
    pub(super) async fn restore(&mut self) -> Option<u64> {
        let (state, seats) = self.known();
        match self.log.restore(self.mark(), state, seats).await {
            Ok(info) => {
                warn!(room = %self.shared.name, "the allocator had lost this room and has taken it back");
                let head = info.head;
                self.log.renew(info);
                Some(head)
            }
            Err(LogError::Ended) => None,
            Err(error) => {
                debug!(room = %self.shared.name, %error, "the allocator does not know this room, nor take it back yet");
                Some(self.logged.sequence())
            }
        }
    }

    /// The logged state as the allocator keeps it, with the seats in it.
    pub(super) fn known(&self) -> (bytes::Bytes, Vec<Seat>) {
        let seat = |who: &Participant| Seat {
            join_id: who.join_id.clone(),
            identity: who.identity.to_string(),
            participant_sid: who.sid.to_string(),
            bridge: who.bridge.clone(),
            ..Seat::default()
        };
        let seats = self.logged.participants().map(|who| seat(who)).collect();
        (entry::bytes_of(&apply::snapshot(&self.logged)), seats)
    }

    fn take_media(&mut self, event: Event) {
        let Event::Speakers { speakers, .. } = event else { return };
        self.measured = {
            let tracks = self.shared.tracks.read().unwrap_or_else(PoisonError::into_inner);
            // Those who sit elsewhere are told by their bridges, whether their sound comes here or not.
            let own = |media| tracks.values().find(|track| track.media == media && track.relay.is_none());
            let speaking = |(media, level): (TrackId, f32)| Some((own(media)?.publisher.clone(), level));
            speakers.into_iter().filter_map(speaking).collect()
        };
        self.hear();
    }

    /// Tells what changed in who of this bridge speaks.
    fn hear(&mut self) {
        let forwarded = self.forwarded.iter().map(|(sid, level)| (sid.clone(), *level));
        let here: Vec<(ParticipantSid, f32)> = self.measured.iter().cloned().chain(forwarded).collect();
        if here != self.here {
            self.shared.tell_relays(&ToRelay::Speakers(here.clone()));
            self.here = here;
            self.speak();
        }
    }

    /// Tells what changed in who speaks, here and on the other bridges.
    fn speak(&mut self) {
        self.elsewhere.retain(|_, speakers| !speakers.is_empty());
        let all = self.here.iter().chain(self.elsewhere.values().flatten());
        let present = all.filter(|(sid, _)| self.state.participant(sid).is_some());
        let changes = self.speakers.update(present.cloned());
        if !changes.is_empty() {
            self.tell_all(&ToSession::Speakers(changes.into()));
        }
    }

    async fn take_tick(&mut self) {
        self.due |= self.tail.is_none() || self.trouble.is_some();
        let mut commands = std::mem::take(&mut self.retry);
        commands.extend(self.broken_sessions().into_iter().map(|participant| {
            let reason = DisconnectReason::SignalClose;
            Pending::of_bridge(Command::Leave { participant, reason })
        }));
        self.commit(commands).await;
        self.stop_expecting();
        self.tell_qualities();
        self.tell_counts();
    }
}

/// The tail's next frame; `None` when it has ended or broken. Never resolves without a tail: the clock reopens it.
async fn next_frame(tail: &mut Option<Streaming<TailFrame>>) -> Option<TailFrame> {
    match tail {
        Some(tail) => tail.next().await.and_then(Result::ok),
        None => std::future::pending().await,
    }
}
