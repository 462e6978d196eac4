//! The handles by which signalling reaches the media workers: [`Media`] (the pool) and [`MediaRoom`] (one room's worker).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{OnceLock, mpsc as std_mpsc};

use tokio::sync::mpsc;

use super::control::{Command, Event, RoomId, TransportId};
use super::stats::{SocketStats, Stats};

/// Events that may wait for a session before it counts as dead and loses them.
const EVENT_QUEUE: usize = 1024;

/// What a worker thread takes from its queue.
#[derive(Debug)]
pub(crate) enum Input {
    /// A command for the engine.
    Command(Command),
    /// Where a transport's events go.
    TransportSink(TransportId, mpsc::Sender<Event>),
    /// Where a room's events go.
    RoomSink(RoomId, mpsc::Sender<Event>),
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
    pub(crate) stats: Stats,
    pub(crate) socket_stats: SocketStats,
    pub(crate) alive: AtomicBool,
    /// The thread's folder in `/proc`, told by itself.
    pub(crate) task: OnceLock<PathBuf>,
}

impl WorkerHandle {
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
}

impl Media {
    /// Opens a room on the worker with the fewest rooms. The receiver gets the room's events ([`Event::Speakers`]).
    /// The room ends when the last clone of the [`MediaRoom`] is dropped.
    #[must_use]
    pub fn open_room(&self) -> (MediaRoom, mpsc::Receiver<Event>) {
        let room = RoomId::next();
        let worker = self.workers.iter().min_by_key(|w| w.rooms.load(Ordering::Relaxed));
        #[expect(clippy::expect_used, reason = "`Media::start` makes at least one worker")]
        let worker = Arc::clone(worker.expect("at least one worker"));
        worker.rooms.fetch_add(1, Ordering::Relaxed);
        let (sink, events) = mpsc::channel(EVENT_QUEUE);
        worker.send(Input::RoomSink(room, sink));
        worker.send(Input::Command(Command::OpenRoom { room }));
        let fingerprint = Arc::clone(&self.fingerprint);
        (MediaRoom { inner: Arc::new(Inner { room, worker, fingerprint }) }, events)
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
        let (inputs, queue) = std_mpsc::channel();
        let poll = mio::Poll::new().unwrap();
        let worker = WorkerHandle {
            inputs,
            waker: mio::Waker::new(poll.registry(), mio::Token(0)).unwrap(),
            candidates,
            rooms: AtomicUsize::new(0),
            stats: Stats::default(),
            socket_stats: SocketStats::default(),
            alive: AtomicBool::new(true),
            task: OnceLock::new(),
        };
        (Self { workers: [Arc::new(worker)].into(), fingerprint: fingerprint.into(), link_bps: 0 }, queue)
    }
}

/// A room on its worker. Cheap to clone; the last clone's drop closes the room.
#[derive(Clone, Debug)]
pub struct MediaRoom {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    room: RoomId,
    worker: Arc<WorkerHandle>,
    fingerprint: Arc<str>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.worker.rooms.fetch_sub(1, Ordering::Relaxed);
        self.worker.send(Input::Command(Command::CloseRoom { room: self.room }));
    }
}

impl MediaRoom {
    /// The room's id in commands and events.
    #[must_use]
    pub fn id(&self) -> RoomId {
        self.inner.room
    }

    /// Announces a transport: its events go to the returned receiver. Call it before [`Command::OpenTransport`].
    /// A receiver that is not read loses events once 1024 wait.
    #[must_use]
    pub fn attach(&self, transport: TransportId) -> mpsc::Receiver<Event> {
        let (sink, events) = mpsc::channel(EVENT_QUEUE);
        self.inner.worker.send(Input::TransportSink(transport, sink));
        events
    }

    /// Sends a command to the room's worker. Never blocks; order is kept.
    pub fn send(&self, command: Command) {
        self.inner.worker.send(Input::Command(command));
    }

    /// The addresses of this room's worker to write as host candidates, best first.
    #[must_use]
    pub fn candidates(&self) -> &[SocketAddr] {
        &self.inner.worker.candidates
    }

    /// SHA-256 of our DTLS certificate as SDP writes it (`AB:CD:…`).
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.inner.fingerprint
    }
}
