//! A worker: one thread that carries the media of many participants. It waits for datagrams, commands and time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use ratssaal_bridge::client::sdp::Remote;
use ratssaal_bridge::client::{Incoming, Outgoing, TransportTotals};

use super::participant::{Opening, Participant, Summary};
use super::stamp::Clock;

const WAKER: Token = Token(usize::MAX);
/// Grain of reports, retransmission requests and connectivity checks of a participant: it has its turn in one of so many.
/// Hundreds of machines do not report at one moment.
const TURNS: usize = 10;
const TURN: Duration = Duration::from_millis(1);
/// Grain of bad lines.
const LINE: Duration = Duration::from_millis(1);
const AUDIO: Duration = Duration::from_millis(20);

/// A participant of one worker.
pub(super) type Seat = usize;

/// What a worker is told.
pub(super) enum Command {
    Open(Seat, Box<Opening>),
    Remote(Seat, Box<Remote>),
    Candidate(Seat, std::net::SocketAddr),
    Layers(Seat, [bool; 3]),
    Want(Seat, Vec<(u32, bool)>),
    Close(Seat),
    /// What counts begins now.
    Reset,
    /// Publishers stop.
    Stop,
    /// How it went so far.
    Summaries(mpsc::Sender<Vec<Summary>>),
    End,
}

/// Counters of all workers, readable at any time.
#[derive(Default)]
pub(super) struct Meter {
    /// Packets sent by publishers.
    pub(super) sent: AtomicU64,
    /// Packets received.
    pub(super) received: AtomicU64,
    /// Their bytes.
    pub(super) bytes: AtomicU64,
}

/// A handle to a worker's thread.
#[derive(Clone)]
pub(super) struct Worker {
    commands: mpsc::Sender<Command>,
    waker: Arc<Waker>,
}

impl Worker {
    /// Starts a thread.
    ///
    /// # Errors
    /// The system has no more threads or file descriptors.
    pub(super) fn start(number: usize, clock: Clock, fps: f64, meter: Arc<Meter>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (commands, queue) = mpsc::channel();
        let run = move || {
            let thread = Thread {
                poll,
                queue,
                clock,
                frame: Duration::from_secs_f64(1.0 / fps),
                meter,
                counted: TransportTotals::default(),
                seats: Vec::new(),
                due: BinaryHeap::new(),
                unfinished: Vec::new(),
                incoming: Incoming::default(),
                outgoing: Outgoing::default(),
            };
            thread.run();
        };
        std::thread::Builder::new().name(format!("load-{number}")).spawn(run)?;
        Ok(Self { commands, waker })
    }

    /// Tells it something; one that has ended does not listen.
    pub(super) fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            // It would notice at its next tick as well.
            let _ = self.waker.wake();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Audio,
    Video,
}

struct Thread {
    poll: Poll,
    queue: mpsc::Receiver<Command>,
    clock: Clock,
    frame: Duration,
    meter: Arc<Meter>,
    counted: TransportTotals,
    seats: Vec<Option<Participant>>,
    due: BinaryHeap<Reverse<(Instant, Seat, Due)>>,
    /// Sockets with more to receive.
    unfinished: Vec<Seat>,
    incoming: Incoming,
    outgoing: Outgoing,
}

impl Thread {
    fn run(mut self) {
        let mut ready = Events::with_capacity(1024);
        let (mut turn, mut tick, mut line) = (0, Instant::now(), Instant::now());
        loop {
            let now = Instant::now();
            let mut until = self.due.peek().map_or(tick, |Reverse((at, ..))| tick.min(*at));
            let impaired = self.seats.iter().flatten().any(Participant::is_impaired);
            if impaired {
                until = until.min(line);
            }
            let wait = if self.unfinished.is_empty() { until.saturating_duration_since(now) } else { Duration::ZERO };
            if let Err(error) = self.poll.poll(&mut ready, Some(wait))
                && error.kind() != io::ErrorKind::Interrupted
            {
                eprintln!("ratssaal: a load worker cannot wait for datagrams: {error}");
                return;
            }
            if !self.commands() {
                return;
            }
            let again = std::mem::take(&mut self.unfinished);
            let tokens =
                ready.iter().map(mio::event::Event::token).filter(|token| *token != WAKER).map(|token| token.0);
            for seat in again.into_iter().chain(tokens) {
                let Some(Some(participant)) = self.seats.get_mut(seat) else { continue };
                if participant.receive(&mut self.incoming, &mut self.outgoing) {
                    self.unfinished.push(seat);
                }
                self.begin(seat);
                self.publish();
            }
            self.publish();
            let now = Instant::now();
            if impaired && now >= line {
                line = now + LINE;
                for seat in 0..self.seats.len() {
                    if let Some(participant) = &mut self.seats[seat] {
                        participant.lines(now, &mut self.outgoing);
                    }
                    self.begin(seat);
                }
            }
            if now >= tick {
                tick = now + TURN;
                turn = (turn + 1) % TURNS;
                for seat in (turn..self.seats.len()).step_by(TURNS) {
                    if let Some(participant) = &mut self.seats[seat] {
                        participant.tick(now, &mut self.outgoing);
                    }
                    self.publish();
                }
                if turn == 0 {
                    self.count();
                }
            }
        }
    }

    /// Whose transport has come up begins to publish.
    fn begin(&mut self, seat: Seat) {
        if let Some(Some(participant)) = self.seats.get_mut(seat)
            && participant.start()
        {
            let now = Instant::now();
            // Not all at the same moment: as people's devices are.
            let phase = self.frame.mul_f64((seat as f64 * 0.618_034).fract());
            self.due.push(Reverse((now + phase, seat, Due::Video)));
            self.due.push(Reverse((now + AUDIO.mul_f64((seat as f64 * 0.618_034).fract()), seat, Due::Audio)));
        }
    }

    /// Sends what is due; called between any two other things, since what was late would all be sent at once.
    fn publish(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, seat, what))) = self.due.peek().copied().filter(|Reverse((at, ..))| *at <= now) {
            self.due.pop();
            let Some(Some(participant)) = self.seats.get_mut(seat) else { continue };
            let out = &mut self.outgoing;
            let (more, pause) = match what {
                Due::Audio => (participant.speak(Instant::now(), out), AUDIO),
                Due::Video => (participant.film(Instant::now(), out), self.frame),
            };
            if more {
                self.due.push(Reverse((at + pause, seat, what)));
            }
        }
    }

    /// False when it is time to end.
    fn commands(&mut self) -> bool {
        while let Ok(command) = self.queue.try_recv() {
            let now = Instant::now();
            match command {
                Command::Open(seat, opening) => self.open(now, seat, *opening),
                Command::Remote(seat, remote) => {
                    self.with(seat, |participant| participant.transport().remote(now, &remote));
                }
                Command::Candidate(seat, address) => {
                    self.with(seat, |participant| participant.transport().add_candidate(address));
                }
                Command::Layers(seat, layers) => self.with(seat, |participant| participant.enable(layers)),
                Command::Want(seat, wanted) => self.with(seat, |participant| participant.watch().want(now, &wanted)),
                Command::Close(seat) => {
                    // It stays for its summary.
                    if let Some(Some(participant)) = self.seats.get_mut(seat) {
                        participant.close(&mut self.outgoing);
                    }
                }
                Command::Reset => self.seats.iter_mut().flatten().for_each(|participant| participant.reset(now)),
                Command::Stop => self.seats.iter_mut().flatten().for_each(|participant| participant.stop(now)),
                Command::Summaries(reply) => {
                    // Whoever asked may have given up.
                    let _ = reply.send(self.seats.iter().flatten().map(Participant::summary).collect());
                }
                Command::End => return false,
            }
        }
        true
    }

    fn open(&mut self, now: Instant, seat: Seat, opening: Opening) {
        let mut participant = match Participant::new(now, self.clock, opening) {
            Ok(participant) => participant,
            Err(error) => {
                eprintln!("ratssaal: no UDP socket for a participant: {error}; raise the limit with `ulimit -n 8192`");
                return;
            }
        };
        let fd = participant.port().as_raw_fd();
        if let Err(error) = self.poll.registry().register(&mut SourceFd(&fd), Token(seat), Interest::READABLE) {
            eprintln!("ratssaal: a participant's socket cannot be waited for: {error}");
            return;
        }
        if self.seats.len() <= seat {
            self.seats.resize_with(seat + 1, || None);
        }
        if let Some(before) = &self.seats[seat] {
            participant.follow(before);
            // What the connection before would have sent next.
            self.due.retain(|Reverse((_, owner, _))| *owner != seat);
        }
        self.seats[seat] = Some(participant);
    }

    fn with(&mut self, seat: Seat, action: impl FnOnce(&mut Participant)) {
        if let Some(Some(participant)) = self.seats.get_mut(seat) {
            action(participant);
        }
    }

    /// Adds what came since the last time to the common counters.
    fn count(&mut self) {
        let mut sum = TransportTotals::default();
        for participant in self.seats.iter().flatten() {
            let totals = participant.totals();
            sum.sent += totals.sent;
            sum.received += totals.received;
            sum.received_bytes += totals.received_bytes;
        }
        let before = std::mem::replace(&mut self.counted, sum);
        // What a connection counted goes with it when its participant makes another.
        self.meter.sent.fetch_add(sum.sent.saturating_sub(before.sent), Relaxed);
        self.meter.received.fetch_add(sum.received.saturating_sub(before.received), Relaxed);
        self.meter.bytes.fetch_add(sum.received_bytes.saturating_sub(before.received_bytes), Relaxed);
    }
}
