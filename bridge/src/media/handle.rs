//! The handles by which signalling reaches the media workers: [`Media`] (the pool) and [`MediaRoom`] (one room's workers).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{OnceLock, mpsc as std_mpsc};

use tokio::sync::mpsc;

use super::control::{Command, Event, RoomId, TransportId};
use super::crossing::Outlet;
use super::engine::Word;
use super::spread::Spread;
use super::stats::{SocketStats, Stats};

/// Events that may wait for a session before it counts as dead and loses them.
const EVENT_QUEUE: usize = 1024;

/// What a worker thread takes from its queue.
#[derive(Debug)]
pub(crate) enum Input {
    /// A command for the engine.
    Command(Command),
    /// What the engine has to know about another worker.
    Word(Word),
    /// Where a transport's events go.
    TransportSink(TransportId, mpsc::Sender<Event>),
    /// Where a room's events go.
    RoomSink(RoomId, mpsc::Sender<Event>),
    /// A ring to the worker of that number, for what it needs.
    Way(usize, Outlet),
    /// End the thread after saying goodbye to everyone.
    Stop,
}

/// One worker thread as others see it.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) inputs: std_mpsc::Sender<Input>,
    pub(crate) waker: mio::Waker,
    pub(crate) candidates: Vec<SocketAddr>,
    pub(crate) rooms: AtomicUsize,
    /// Participants, of all rooms.
    pub(crate) seats: AtomicUsize,
    pub(crate) stats: Stats,
    pub(crate) socket_stats: SocketStats,
    pub(crate) alive: AtomicBool,
    /// The thread's folder in `/proc`, told by itself.
    pub(crate) task: OnceLock<PathBuf>,
}

impl WorkerHandle {
    pub(crate) fn new(inputs: std_mpsc::Sender<Input>, waker: mio::Waker, candidates: Vec<SocketAddr>) -> Self {
        Self {
            inputs,
            waker,
            candidates,
            rooms: AtomicUsize::new(0),
            seats: AtomicUsize::new(0),
            stats: Stats::default(),
            socket_stats: SocketStats::default(),
            alive: AtomicBool::new(true),
            task: OnceLock::new(),
        }
    }

    pub(crate) fn send(&self, input: Input) {
        // A worker that has ended takes nothing more; its transports are gone with it.
        if self.inputs.send(input).is_ok() {
            let _ = self.waker.wake();
        }
    }
}

/// The pool of media workers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Media {
    pub(crate) workers: Arc<[Arc<WorkerHandle>]>,
    pub(crate) fingerprint: Arc<str>,
    /// What the link carries each way, bits per second; 0 if unknown.
    pub(crate) link_bps: u64,
    /// Participants of a room on one worker before the next takes more; 0 keeps rooms on one.
    pub(crate) spread: usize,
}

impl Media {
    /// Opens a room on the worker with the fewest participants. The receiver gets the room's events ([`Event::Speakers`]).
    /// The room ends when the last clone of the [`MediaRoom`] is dropped.
    #[must_use]
    pub fn open_room(&self) -> (MediaRoom, mpsc::Receiver<Event>) {
        let room = RoomId::next();
        let (sink, events) = mpsc::channel(EVENT_QUEUE);
        let spread = Arc::new(Spread::new(room, Arc::clone(&self.workers), self.spread));
        spread.worker(spread.home()).send(Input::RoomSink(room, sink));
        (MediaRoom { spread, seat: None, fingerprint: Arc::clone(&self.fingerprint) }, events)
    }
}

#[cfg(test)]
impl Media {
    /// A pool whose one worker is the caller: it reads what rooms and sessions send.
    pub(crate) fn watched() -> (Self, std_mpsc::Receiver<Input>) {
        Self::watched_as("00", Vec::new())
    }

    /// The same with this fingerprint and these addresses.
    pub(crate) fn watched_as(fingerprint: &str, candidates: Vec<SocketAddr>) -> (Self, std_mpsc::Receiver<Input>) {
        let (media, mut queues) = Self::watched_workers(fingerprint, &[candidates], 0);
        (media, queues.remove(0))
    }

    /// Several workers with these addresses, and after how many participants a room is spread over them.
    pub(crate) fn watched_workers(
        fingerprint: &str,
        workers: &[Vec<SocketAddr>],
        spread: usize,
    ) -> (Self, Vec<std_mpsc::Receiver<Input>>) {
        let watched = |candidates: &Vec<SocketAddr>| {
            let (inputs, queue) = std_mpsc::channel();
            let poll = mio::Poll::new().unwrap();
            let waker = mio::Waker::new(poll.registry(), mio::Token(0)).unwrap();
            (Arc::new(WorkerHandle::new(inputs, waker, candidates.clone())), queue)
        };
        let (workers, queues): (Vec<_>, _) = workers.iter().map(watched).unzip();
        (Self { workers: workers.into(), fingerprint: fingerprint.into(), link_bps: 0, spread }, queues)
    }
}

/// A room on its workers, as one of its participants sees it or nobody in particular. Cheap to clone; the last clone's drop
/// closes the room.
#[derive(Clone, Debug)]
pub struct MediaRoom {
    spread: Arc<Spread>,
    seat: Option<Arc<Seat>>,
    fingerprint: Arc<str>,
}

/// A participant's place on a worker; given back when dropped.
#[derive(Debug)]
struct Seat {
    spread: Arc<Spread>,
    worker: usize,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.spread.unseat(self.worker);
    }
}

impl MediaRoom {
    /// The room for one more participant, whose transports are all on one worker. The place is taken until the last clone is
    /// dropped.
    #[must_use]
    pub fn seat(&self) -> Self {
        let seat = Seat { worker: self.spread.seat(), spread: Arc::clone(&self.spread) };
        Self { seat: Some(Arc::new(seat)), ..self.clone() }
    }

    /// The worker's number: of the participant, or where the room began.
    fn number(&self) -> usize {
        self.seat.as_ref().map_or_else(|| self.spread.home(), |seat| seat.worker)
    }

    fn worker(&self) -> &WorkerHandle {
        self.spread.worker(self.number())
    }

    /// The room's id in commands and events.
    #[must_use]
    pub fn id(&self) -> RoomId {
        self.spread.room
    }

    /// Announces a transport: its events go to the returned receiver. Call it before [`Command::OpenTransport`].
    /// A receiver that is not read loses events once 1024 wait.
    #[must_use]
    pub fn attach(&self, transport: TransportId) -> mpsc::Receiver<Event> {
        let (sink, events) = mpsc::channel(EVENT_QUEUE);
        self.worker().send(Input::TransportSink(transport, sink));
        events
    }

    /// Sends a command to the worker, and what concerns the whole room to its other workers. Never blocks; order is kept.
    pub fn send(&self, command: Command) {
        self.spread.send(self.number(), command);
    }

    /// What is published in another room can be sent to participants of this one from now on.
    pub(crate) fn borrow_from(&self, source: &Self) {
        self.spread.borrow_from(&source.spread);
    }

    /// The addresses of the worker to write as host candidates, best first.
    #[must_use]
    pub fn candidates(&self) -> &[SocketAddr] {
        &self.worker().candidates
    }

    /// SHA-256 of our DTLS certificate as SDP writes it (`AB:CD:…`).
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}
