//! A media worker: one thread with one UDP port and one [`Engine`]. It waits for datagrams, commands, time and what other
//! workers pass on to it, and sends what comes of them batch by batch.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::sync::mpsc;

use super::config::{MediaConfig, PortRange};
use super::control::{Command, Event, RoomId, TransportId};
use super::crossing::Crossings;
use super::engine::{Crossed, Engine, Note, Word};
use super::handle::{Input, Media, WorkerHandle};
use super::ports::Port;
use super::stats::MediaCollector;
use super::steering;
use super::udp::{ReceiveBatch, SendBatch, Socket};
use crate::load;
use crate::transport::dtls::{DEFAULT_RTO, DtlsError, Identity};

const SOCKET: Token = Token(0);
const WAKER: Token = Token(1);

/// Receive calls before other work gets a turn.
const RECEIVE_ROUNDS: usize = 8;
/// How often abandoned transports are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// How often a worker looks how busy it is …
const LOOK: Duration = Duration::from_millis(100);
/// … from how many copies in that time on it lets datagrams gather: about half a per cent of a core …
const BUSY: u64 = 200;
/// … and from which part of that time on, spent working, it does not: enough of them come while it works. From half of
/// that on it is less and less.
const AT_WORK: f64 = 0.5;
/// Datagrams that are there so soon after they were asked for have come before that.
const AT_ONCE: Duration = Duration::from_micros(20);

/// Why the media workers cannot start.
#[derive(Debug, Error)]
pub enum MediaError {
    /// No port is left.
    #[error("no free UDP port among {ports} on {bind}: {source}; end what uses them or set media.ports to others")]
    Ports {
        /// The configured ports.
        ports: PortRange,
        /// The configured address.
        bind: IpAddr,
        /// The last port's error.
        source: io::Error,
    },
    /// The operating system refused something else.
    #[error("cannot start a media worker: {0}")]
    Io(#[from] io::Error),
    /// No certificate.
    #[error("cannot make the DTLS certificate: {0}")]
    Dtls(#[from] DtlsError),
}

impl Media {
    /// Starts the workers; each binds a UDP port of its own. Metrics go into `registry`.
    ///
    /// # Errors
    /// When the ports are taken or a thread cannot be made; the text says what to do.
    pub fn start(config: &MediaConfig, registry: &mut Registry) -> Result<Self, MediaError> {
        let identity = Identity::generate(DEFAULT_RTO)?;
        let addresses = config.addresses();
        let mut ports = config.ports.range();
        let mut workers = Vec::new();
        let all = Arc::new(OnceLock::new());
        for number in 0..config.worker_count() {
            let port = match Port::next(config, &mut ports) {
                Ok(port) => port,
                Err(error) if workers.is_empty() => {
                    return Err(MediaError::Ports { ports: config.ports, bind: config.bind, source: error });
                }
                Err(error) => {
                    tracing::warn!(workers = workers.len(), %error, "fewer media workers than wanted: no more free ports");
                    break;
                }
            };
            workers.push(spawn((number, &all), port, &addresses, identity.clone(), config)?);
        }
        let workers: Arc<[Arc<WorkerHandle>]> = workers.into();
        let _ = all.set(workers.iter().map(Arc::downgrade).collect());
        registry.register_collector(Box::new(MediaCollector(Arc::clone(&workers))));
        let link_bps = if config.link == 0 { load::link_bps(&addresses) } else { config.link };
        let spread = usize::from(config.spread);
        Ok(Self { workers, fingerprint: identity.fingerprint().into(), link_bps, spread })
    }

    /// Whether all worker threads are alive.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.workers.iter().all(|worker| worker.alive.load(Ordering::Relaxed))
    }

    /// The workers' UDP ports.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        self.workers.iter().filter_map(|worker| worker.candidates.first().map(SocketAddr::port)).collect()
    }

    /// Says goodbye to everyone and ends the threads.
    pub fn stop(&self) {
        self.workers.iter().for_each(|worker| worker.send(Input::Stop));
    }
}

/// All workers, by their numbers, once they are there.
type Others = Arc<OnceLock<Vec<Weak<WorkerHandle>>>>;

fn other(others: &Others, number: usize) -> Option<Arc<WorkerHandle>> {
    others.get()?.get(number)?.upgrade()
}

fn spawn(
    (number, others): (usize, &Others),
    Port { socket, reports }: Port,
    addresses: &[IpAddr],
    identity: Identity,
    config: &MediaConfig,
) -> Result<Arc<WorkerHandle>, MediaError> {
    let local = socket.local();
    let v6 = local.is_ipv6();
    let poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&socket.as_raw_fd()), SOCKET, Interest::READABLE)?;
    let (inputs, queue) = channel();
    let waker = Waker::new(poll.registry(), WAKER)?;
    let reachable = addresses.iter().filter(|ip| v6 || ip.is_ipv4());
    let candidates = reachable.map(|ip| SocketAddr::new(*ip, local.port())).collect();
    let handle = Arc::new(WorkerHandle::new(inputs, waker, candidates));
    tracing::info!(
        worker = number,
        %local,
        gso = socket.gso(),
        gro = socket.gro(),
        reports = reports.is_some(),
        candidates = ?handle.candidates,
        "media worker"
    );
    let (own, others) = (Arc::clone(&handle), Arc::clone(others));
    let (gather, hearing) = (config.gather, config.hearing());
    let core = config.pin.then(|| core_affinity::get_core_ids().unwrap_or_default());
    let core = core.and_then(|cores| cores.get(number % cores.len().max(1)).copied());
    if config.pin && core.is_none() {
        tracing::warn!(worker = number, "the system does not say which cores there are: the worker is not pinned");
    }
    let run = move || {
        if let Some(core) = core
            && !core_affinity::set_for_current(core)
        {
            tracing::warn!(worker = number, core = core.id, "the system does not let the worker be pinned to its core");
        }
        let worker = Worker {
            poll,
            socket,
            reports,
            queue,
            handle: own,
            number,
            others,
            crossings: Crossings::default(),
            engine: Engine::new(identity).numbered(number).hearing(hearing),
            receive: ReceiveBatch::new(),
            send: SendBatch::new(),
            transports: HashMap::new(),
            rooms: HashMap::new(),
            swept: Instant::now(),
            pace: Pace::new(gather, Instant::now()),
        };
        worker.run();
    };
    std::thread::Builder::new().name(format!("media-{number}")).spawn(run)?;
    Ok(handle)
}

struct Worker {
    poll: Poll,
    socket: Socket,
    /// Where what can wait comes, if the kernel tells it apart; nobody is woken by it.
    reports: Option<Socket>,
    queue: Receiver<Input>,
    handle: Arc<WorkerHandle>,
    number: usize,
    others: Others,
    crossings: Crossings,
    engine: Engine,
    receive: ReceiveBatch,
    send: SendBatch,
    transports: HashMap<TransportId, mpsc::Sender<Event>>,
    rooms: HashMap<RoomId, mpsc::Sender<Event>>,
    swept: Instant,
    pace: Pace,
}

/// Whether datagrams are let gather for a moment before they are taken. A publisher's frame comes as several packets
/// within a millisecond; forwarded together they leave in one run per subscriber.
struct Pace {
    /// How long at the most; zero never.
    gather: Duration,
    /// How long at present: less where the worker is busy.
    gathers: Duration,
    looked: Instant,
    /// Copies forwarded by then.
    forwarded: u64,
    /// How long it has waited since, for datagrams and for their gathering.
    waited: Duration,
    /// When datagrams were taken last.
    taken: Instant,
}

impl Pace {
    fn new(gather: Duration, now: Instant) -> Self {
        Self { gather, gathers: Duration::ZERO, looked: now, forwarded: 0, waited: Duration::ZERO, taken: now }
    }

    /// Looks now and then at how much is forwarded, and how much time is left beside it.
    fn look(&mut self, now: Instant, forwarded: u64) {
        if now < self.looked + LOOK {
            return;
        }
        let time = now - self.looked;
        // A worker that slept long was not busy, however much came at once now.
        let pays = time < 2 * LOOK && forwarded - self.forwarded >= BUSY;
        let working = 1.0 - self.waited.as_secs_f64() / time.as_secs_f64();
        self.gathers =
            if pays { self.gather.mul_f64((2.0 * (1.0 - working / AT_WORK)).clamp(0.0, 1.0)) } else { Duration::ZERO };
        (self.looked, self.forwarded, self.waited) = (now, forwarded, Duration::ZERO);
    }

    /// How much longer datagrams may gather, if that pays. The worker asked for them at `asked` and has them `now`. If it
    /// did not have to wait they came while it worked, the first of them soon after it had taken those before.
    fn rest(&self, asked: Instant, now: Instant) -> Duration {
        let waited = now.saturating_duration_since(asked);
        let gathered = if waited < AT_ONCE { now.saturating_duration_since(self.taken) } else { Duration::ZERO };
        self.gathers.saturating_sub(gathered)
    }
}

/// Tells the handle that the thread is gone, by whatever way.
struct Alive(Arc<WorkerHandle>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.store(false, Ordering::Relaxed);
    }
}

impl Worker {
    fn run(mut self) {
        let _alive = Alive(Arc::clone(&self.handle));
        if let Ok(task) = std::fs::read_link("/proc/thread-self") {
            let _ = self.handle.task.set(task);
        }
        let mut ready = Events::with_capacity(4);
        let (mut more, mut behind) = (false, false);
        loop {
            let asked = Instant::now();
            let wait = match self.engine.poll_timeout() {
                _ if more => Duration::ZERO,
                Some(at) => at.saturating_duration_since(asked),
                None => SWEEP,
            };
            if let Err(error) = self.poll.poll(&mut ready, Some(wait))
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "the media worker cannot wait for datagrams");
                return;
            }
            let woken = Instant::now();
            self.pace.waited += woken - asked;
            if !self.commands() {
                self.engine.shut_down();
                self.flush();
                self.dispatch();
                return;
            }
            if !more && ready.iter().any(|event| event.token() == SOCKET) {
                let rest = self.pace.rest(asked, woken);
                if !rest.is_zero() {
                    std::thread::sleep(rest);
                    self.pace.waited += rest;
                }
            }
            more = self.datagrams();
            more |= self.crossed();
            let now = Instant::now();
            self.pace.look(now, self.engine.counters().forwarded);
            if behind || self.engine.poll_timeout().is_none_or(|due| due <= now) {
                behind = self.reports();
                more |= behind;
            }
            self.engine.handle_timeout(now);
            self.flush();
            self.tell_others();
            self.dispatch();
            self.sweep(now);
            self.handle.stats.publish(self.engine.counters());
        }
    }

    /// False when it is time to stop.
    fn commands(&mut self) -> bool {
        while let Ok(input) = self.queue.try_recv() {
            match input {
                Input::Command(command) => {
                    if let Command::CloseRoom { room } = command {
                        self.rooms.remove(&room);
                    }
                    self.engine.command(Instant::now(), command);
                }
                Input::Word(word) => self.engine.word(Instant::now(), word),
                Input::TransportSink(transport, sink) => {
                    self.transports.insert(transport, sink);
                }
                Input::RoomSink(room, sink) => {
                    self.rooms.insert(room, sink);
                }
                Input::Way(worker, outlet) => self.crossings.opened(worker, outlet),
                Input::Stop => return false,
            }
        }
        true
    }

    /// Receives and forwards; true when there may be more.
    fn datagrams(&mut self) -> bool {
        for _ in 0..RECEIVE_ROUNDS {
            match self.socket.receive(&mut self.receive) {
                Ok(messages) => {
                    let now = Instant::now();
                    self.pace.taken = now;
                    self.received(now);
                    // A batch that is not full was all there was.
                    if messages < ReceiveBatch::MESSAGES {
                        return false;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) => {
                    tracing::debug!(%error, "receive"); // an ICMP error of an earlier datagram
                    return true;
                }
            }
        }
        true
    }

    /// Takes what could wait until now; true when there may be more.
    fn reports(&mut self) -> bool {
        for _ in 0..RECEIVE_ROUNDS {
            let Some(reports) = &self.reports else { return false };
            let Ok(messages) = reports.receive(&mut self.receive) else { return false };
            if self.receive.first().is_some_and(|first| !steering::can_wait(first)) {
                tracing::warn!(
                    worker = self.number,
                    "the kernel does not tell reports from media: both wake the worker from now on"
                );
                self.reports = None; // everything comes to the other socket then
            }
            self.received(Instant::now());
            if messages < ReceiveBatch::MESSAGES {
                return false;
            }
        }
        true
    }

    /// Handles what the last call received.
    fn received(&mut self, now: Instant) {
        let Self { engine, socket, send, handle, receive, crossings, .. } = self;
        let forwarded = engine.counters().forwarded;
        let (buffer, datagrams) = receive.datagrams();
        let bytes = datagrams.iter().map(|datagram| datagram.len as u64).sum();
        handle.socket_stats.add_received(datagrams.len() as u64, bytes);
        engine.datagrams(now, buffer, datagrams, &mut |outbox| {
            handle.socket_stats.add(&socket.send(outbox, send));
            outbox.clear();
        });
        for crossing in engine.crossings() {
            let Crossed { start, len, .. } = crossing.packet;
            let crossed = buffer.get(start..start + len).is_some_and(|bytes| crossings.push(&crossing, bytes));
            handle.socket_stats.add_crossed(crossed);
        }
        self.wake_others();
        self.flush();
        if self.engine.counters().forwarded > forwarded {
            self.handle.socket_stats.add_forwarded(SystemTime::now(), self.receive.arrivals());
        }
    }

    /// Takes and forwards what other workers have passed on; true when there may be more.
    fn crossed(&mut self) -> bool {
        let Self { engine, socket, send, handle, crossings, .. } = self;
        let (buffer, packets, more) = crossings.take();
        if packets.is_empty() {
            return false;
        }
        engine.crossed(Instant::now(), buffer, packets, &mut |outbox| {
            handle.socket_stats.add(&socket.send(outbox, send));
            outbox.clear();
        });
        self.flush();
        more
    }

    /// Other workers have something to read.
    fn wake_others(&mut self) {
        let Self { crossings, others, .. } = self;
        for number in crossings.written() {
            if let Some(other) = other(others, number) {
                let _ = other.waker.wake(); // one that has ended reads nothing more
            }
        }
    }

    /// Tells other workers what they have to know. Who needs packets of one for the first time makes the way for them.
    fn tell_others(&mut self) {
        while let Some(Note { worker, word }) = self.engine.note() {
            let Some(other) = other(&self.others, worker) else { continue };
            if let Word::Needs { .. } = word
                && let Some(outlet) = self.crossings.open(worker)
            {
                other.send(Input::Way(self.number, outlet));
            }
            other.send(Input::Word(word));
        }
    }

    fn flush(&mut self) {
        if !self.engine.outbox().is_empty() {
            let sent = self.socket.send(self.engine.outbox(), &mut self.send);
            self.handle.socket_stats.add(&sent);
            self.engine.sent();
        }
    }

    fn dispatch(&mut self) {
        for event in self.engine.events() {
            let (sink, last) = match &event {
                Event::Speakers { room, .. } => (self.rooms.get(room), None),
                Event::Closed { transport, .. } => (self.transports.get(transport), Some(*transport)),
                Event::Connected { transport, .. }
                | Event::ChannelOpen { transport, .. }
                | Event::Data { transport, .. }
                | Event::TrackStarted { transport, .. }
                | Event::Described { transport, .. }
                | Event::StreamKnown { transport, .. }
                | Event::LegActive { transport, .. }
                | Event::LayersNeeded { transport, .. }
                | Event::StreamsNeeded { transport, .. }
                | Event::Relayed { transport, .. }
                | Event::Quality { transport, .. } => (self.transports.get(transport), None),
            };
            if sink.is_some_and(|sink| sink.try_send(event).is_err()) {
                self.handle.socket_stats.lost_events.fetch_add(1, Ordering::Relaxed);
            }
            if let Some(transport) = last {
                self.transports.remove(&transport);
            }
        }
    }

    /// Closes transports whose session is gone without a word, and counts what there is.
    fn sweep(&mut self, now: Instant) {
        if now < self.swept + SWEEP {
            return;
        }
        self.swept = now;
        let abandoned: Vec<TransportId> =
            self.transports.iter().filter(|(_, sink)| sink.is_closed()).map(|(id, _)| *id).collect();
        for transport in abandoned {
            self.transports.remove(&transport);
            self.engine.command(now, Command::CloseTransport { transport });
        }
        let (rooms, transports, tracks, legs) = self.engine.sizes();
        let stats = &self.handle.stats;
        stats.limited.store(self.engine.limited() as u64, Ordering::Relaxed);
        for (gauge, value) in
            [(&stats.rooms, rooms), (&stats.transports, transports), (&stats.tracks, tracks), (&stats.legs, legs)]
        {
            gauge.store(value as u64, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_while_the_worker_worked_has_gathered_already() {
        let (start, us) = (Instant::now(), Duration::from_micros);
        let gather = us(1000);
        let mut pace = Pace::new(gather, start);
        assert_eq!(pace.rest(start, start + us(500)), us(0), "nothing to be won");
        pace.waited = LOOK;
        pace.look(start + LOOK, BUSY);
        assert_eq!(pace.rest(start + us(100), start + us(500)), gather, "they came when it had nothing to do");
        assert_eq!(pace.rest(start + us(400), start + us(401)), us(599), "the first may have come at its beginning");
        assert_eq!(pace.rest(start + us(1500), start + us(1501)), us(0), "they have waited for long enough");
        pace.gathers = us(0);
        assert_eq!(pace.rest(start + us(100), start + us(500)), us(0));
    }

    #[test]
    fn the_busier_a_worker_is_the_less_gathers() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::from_millis(1), start);
        for (look, waited, gathers) in [(1, 0.8, 1000), (2, 0.6, 400), (3, 0.5, 0), (4, 0.3, 0), (5, 1.0, 1000)] {
            pace.waited = LOOK.mul_f64(waited);
            pace.look(start + look * LOOK, u64::from(look) * BUSY);
            assert_eq!(pace.gathers.as_micros(), gathers, "{waited} of the time waited");
        }
        pace.look(start + 6 * LOOK, 6 * BUSY - 1);
        assert_eq!(pace.gathers, Duration::ZERO, "too few to gather");
        pace.look(start + 8 * LOOK, 9 * BUSY);
        assert_eq!(pace.gathers, Duration::ZERO, "it slept");
    }

    /// Waits for it, for ten seconds at the most.
    fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_socket_for_reports_that_gets_anything_else_is_given_up() {
        let socket = || Socket::new(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let (socket, reports) = (socket(), socket());
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(reports.local()).unwrap();
        let port = Port { socket, reports: Some(reports) };
        let identity = Identity::generate(DEFAULT_RTO).unwrap();
        let worker = spawn((0, &Others::default()), port, &[], identity, &MediaConfig::default()).unwrap();
        let received = || worker.socket_stats.received.load(Ordering::Relaxed);
        client.send(&[0x81, 201, 0, 0]).unwrap();
        wait_for("a report is read", || received() == 1);
        client.send(&[0x90, 96, 0, 0]).unwrap();
        wait_for("media is read as well", || received() == 2);
        wait_for("and the socket closed", || {
            client.send(&[0x81, 201, 0, 0]).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        });
        assert!(worker.alive.load(Ordering::Relaxed));
        worker.send(Input::Stop);
        wait_for("the worker ends", || !worker.alive.load(Ordering::Relaxed));
    }
}
