//! What the benchmarks measure (feature `bench`): the forwarding path without sockets, a worker with real ones, and the
//! floor both are compared with.

mod everything;

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use prometheus_client::registry::Registry;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::control::*;
pub use super::hostile::Attack;
use super::outbox::{Outbox, Slot};
use super::rtp::{ExtensionMap, Header, Outgoing, Values};
use super::simulation::{Camera, Client, IDS, Wire, World, hash, leg, pair};
use super::twcc::{self, Recorder};
use super::udp::{Datagram, SendBatch, Socket};
use super::{Media, MediaConfig, MediaRoom};
use crate::transport::five_tuple::FiveTuple;
pub use everything::{Counted, Everything};

/// Bytes of payload in every measured packet.
pub const PAYLOAD: usize = 1100;

/// Seals 1100 bytes in place with AES-128-GCM: the floor of all forwarding.
#[expect(clippy::expect_used, reason = "a benchmark")]
pub fn floor_seal() -> impl FnMut() {
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).expect("16 bytes"));
    let (mut body, mut counter) = (vec![0xaa; PAYLOAD], 0u64);
    move || {
        counter += 1;
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&counter.to_be_bytes());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = key.seal_in_place_separate_tag(nonce, Aad::from([0; 20]), &mut body);
        let _ = std::hint::black_box(tag.expect("sealed"));
    }
}

/// A camera's packets of 1100 bytes, sealed by their publisher.
struct Source {
    client: Client,
    next: u64,
    frame: u32,
}

impl Source {
    fn packet(&mut self, frame_packet: usize, frame_packets: usize, key: bool) -> Vec<u8> {
        self.frame += u32::from(frame_packet == 0);
        let header = Outgoing {
            marker: frame_packet + 1 == frame_packets,
            payload_type: 96,
            sequence: self.next as u16,
            timestamp: self.frame.wrapping_mul(3000),
            ssrc: Camera::ssrc(0),
        };
        let (picture, base) = (self.frame as u16 & 0x7fff, self.frame as u8);
        let mut body = super::simulation::vp8_payload(picture, base, key, frame_packet == 0, 0);
        body.resize(PAYLOAD, 0xaa);
        let transport_wide = header.sequence.to_be_bytes();
        let packet = self.client.seal(&header, self.next, &[(IDS.mid, b"0"), (IDS.twcc, &transport_wide)], &body);
        self.next += 1;
        packet
    }
}

fn publish(wire: &mut impl Wire) -> (Source, TrackId) {
    let client = Client::connect(wire, "127.0.0.1:30000");
    let camera = Camera::new(&[]);
    client.negotiate(wire, vec![camera.section("0")], vec![]);
    (Source { client, next: 1, frame: 0 }, camera.track)
}

/// From frame to frame: thirty a second.
const INTERVAL: Duration = Duration::from_micros(33_333);

/// Packets of one frame: 1.5 Mbit/s at thirty frames a second.
pub const FRAME: usize = 6;

/// A subscriber who answers with transport-wide feedback, as browsers do.
struct Subscriber {
    client: Client,
    arrivals: Recorder,
}

/// One publisher and many subscribers in an engine without sockets.
pub struct Forwarding {
    world: World,
    source: Source,
    subscribers: Vec<Subscriber>,
    by_address: HashMap<SocketAddr, usize>,
    map: ExtensionMap,
    checked: Instant,
    answered: Instant,
    message: Vec<u8>,
    /// The SSRC of the first subscriber's leg, and the newest transport-wide number sent to it.
    attacked: u32,
    newest: u16,
}

/// Sealed packets as the socket hands them over: one after another in one buffer.
#[derive(Debug)]
pub struct Packets {
    buffer: Vec<u8>,
    datagrams: Vec<Datagram>,
}

impl Forwarding {
    /// Connects everybody and lets the media flow until everybody gets all of it.
    ///
    /// # Panics
    /// When somebody does not.
    #[must_use]
    pub fn new(subscribers: u16) -> Self {
        let mut world = World::new();
        let (source, track) = publish(&mut world);
        let mut attacked = None;
        let subscribers: Vec<Subscriber> = (0..subscribers)
            .map(|i| {
                let client = Client::connect(&mut world, &format!("127.0.0.1:{}", 30_001 + i));
                let leg = SendSection { transport_wide: true, ..leg(track, Kind::Video, "0") };
                attacked.get_or_insert(leg.ssrc);
                client.negotiate(&mut world, vec![], vec![leg]);
                Subscriber { client, arrivals: Recorder::new(world.now) }
            })
            .collect();
        let by_address = subscribers.iter().enumerate().map(|(at, known)| (known.client.address, at)).collect();
        let (now, map) = (world.now, ExtensionMap::new(&IDS));
        let (message, attacked) = (Vec::new(), attacked.unwrap_or_default());
        let (checked, answered, newest) = (now, now, 0);
        let mut this =
            Self { world, source, subscribers, by_address, map, checked, answered, message, attacked, newest };
        // The way to each subscriber has to be found out first. Legs begin with key frames.
        let mut whole = 0;
        for _ in 0..3000 {
            let before = this.forwarded();
            this.pass();
            let mut packets = this.seal(FRAME, true);
            this.forward(&mut packets);
            let all = this.forwarded() - before == (FRAME * this.subscribers.len()) as u64;
            whole = if all { whole + 1 } else { 0 };
            if whole == 90 {
                return this;
            }
        }
        panic!("not everybody gets everything");
    }

    /// Sealed packets to forward, of frames of [`FRAME`] packets. Time passes meanwhile, so that what is due by time and
    /// what subscribers answer is done outside of what is measured.
    pub fn packets(&mut self, count: usize) -> Packets {
        self.pass();
        self.seal(count, false)
    }

    fn seal(&mut self, count: usize, key: bool) -> Packets {
        let (mut buffer, mut datagrams) = (Vec::new(), Vec::new());
        for i in 0..count {
            let packet = self.source.packet(i % FRAME, FRAME, key);
            let from = pair(self.source.client.address);
            datagrams.push(Datagram { from, start: buffer.len(), len: packet.len(), waited: Duration::ZERO });
            buffer.extend_from_slice(&packet);
        }
        Packets { buffer, datagrams }
    }

    /// RTCP of the first subscriber full of one thing: so many datagrams, each as large as one can be.
    pub fn attack(&mut self, attack: Attack, count: usize) -> Packets {
        self.pass();
        let client = &mut self.subscribers[0].client;
        let (from, number) = (pair(client.address), self.newest);
        let compound = attack.compound(self.attacked, number, number);
        let (mut buffer, mut datagrams) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let packet = client.seal_rtcp(&compound);
            datagrams.push(Datagram { from, start: buffer.len(), len: packet.len(), waited: Duration::ZERO });
            buffer.extend_from_slice(&packet);
        }
        Packets { buffer, datagrams }
    }

    /// What was forwarded arrives, time passes, and subscribers answer.
    fn pass(&mut self) {
        self.arrive();
        self.world.pass(INTERVAL);
        if self.world.now > self.checked + Duration::from_secs(10) {
            self.checked = self.world.now;
            for subscriber in &mut self.subscribers {
                subscriber.client.check(&mut self.world, false); // consent
            }
        }
        if self.world.now > self.answered + twcc::INTERVAL {
            self.answered = self.world.now;
            self.world.take(self.source.client.address); // what nobody takes would stay, and fill the caches
            for subscriber in &mut self.subscribers {
                for datagram in self.world.take(subscriber.client.address) {
                    note(&mut subscriber.arrivals, self.world.now, &self.map, &datagram); // probes
                }
                self.message.clear();
                while subscriber.arrivals.write(1, 2, &mut self.message) {
                    subscriber.client.rtcp(&mut self.world, &self.message);
                    self.message.clear();
                }
            }
        }
    }

    /// What was forwarded arrives.
    fn arrive(&mut self) {
        let (now, map) = (self.world.now, &self.map);
        for (to, datagrams) in self.world.engine.outbox().queues() {
            if let Some(&at) = self.by_address.get(&to.remote) {
                for datagram in datagrams {
                    let number = note(&mut self.subscribers[at].arrivals, now, map, datagram);
                    self.newest = number.filter(|_| at == 0).unwrap_or(self.newest);
                }
            }
        }
        self.world.engine.sent();
        self.world.engine.events();
    }

    /// Forwards a batch to all subscribers, up to the point where it would be handed to the kernel.
    pub fn forward(&mut self, packets: &mut Packets) {
        let Packets { buffer, datagrams } = packets;
        self.world.engine.datagrams(self.world.now, buffer, datagrams, &mut |_| {});
        std::hint::black_box(self.world.engine.outbox().bytes());
    }

    /// Copies sent so far.
    #[must_use]
    pub fn forwarded(&self) -> u64 {
        self.world.engine.counters().forwarded
    }
}

/// Notes a packet's arrival by its number, which is not encrypted.
fn note(arrivals: &mut Recorder, now: Instant, map: &ExtensionMap, datagram: &[u8]) -> Option<u16> {
    let header = Header::read(datagram).filter(|header| !(64..=95).contains(&header.payload_type))?;
    let number = Values::read(map, &header, datagram).twcc?;
    arrivals.record(now, number);
    Some(number)
}

/// The CPU time of a thread of this process, by its name.
fn thread_cpu(name: &str) -> Option<Duration> {
    for task in fs::read_dir("/proc/self/task").ok()?.flatten() {
        let path = task.path();
        if fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name) {
            let line = fs::read_to_string(path.join("schedstat")).ok()?;
            return line.split(' ').next()?.parse().ok().map(Duration::from_nanos);
        }
    }
    None
}

/// Real sockets of many clients, towards a real worker.
struct Sockets {
    room: MediaRoom,
    server: SocketAddr,
    fingerprint: [u8; 32],
    sockets: HashMap<SocketAddr, UdpSocket>,
    /// Keeps the transports' event queues open.
    sinks: Vec<tokio::sync::mpsc::Receiver<Event>>,
}

impl Wire for Sockets {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn room(&self) -> RoomId {
        self.room.id()
    }

    fn server(&self) -> [u8; 32] {
        self.fingerprint
    }

    fn command(&mut self, command: Command) {
        if let Command::OpenTransport { transport, .. } = &command {
            self.sinks.push(self.room.attach(*transport));
        }
        self.room.send(command);
    }

    #[expect(clippy::expect_used, reason = "a benchmark")]
    fn send(&mut self, from: SocketAddr, datagram: Vec<u8>) {
        let socket = self.sockets.entry(from).or_insert_with(|| {
            let socket = UdpSocket::bind(from).expect("a free port");
            socket.set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout");
            socket
        });
        socket.send_to(&datagram, self.server).expect("sent");
    }

    fn take(&mut self, to: SocketAddr) -> Vec<Vec<u8>> {
        let Some(socket) = self.sockets.get(&to) else { return Vec::new() };
        let (mut all, mut buffer) = (Vec::new(), [0; 2048]);
        while let Ok(len) = socket.recv(&mut buffer) {
            all.push(buffer[..len].to_vec());
        }
        all
    }
}

/// What a run over loopback cost.
#[derive(Clone, Copy, Debug)]
pub struct Loopback {
    /// Copies the worker sent.
    pub forwarded: u64,
    /// Copies that arrived.
    pub arrived: u64,
    /// The worker's CPU time.
    pub cpu: Duration,
    /// How long it ran.
    pub wall: Duration,
    /// Datagrams per message given to the kernel (GSO).
    pub run_length: f64,
}

/// Runs a worker with real sockets: one publisher, `subscribers` receivers, frames of `frame_packets` packets of 1100
/// bytes thirty times a second, and a worker that lets datagrams gather for `gather`.
///
/// # Panics
/// When the machine does not give what it needs.
#[must_use]
#[expect(clippy::expect_used, reason = "a benchmark")]
pub fn loopback(subscribers: u16, frame_packets: usize, gather: Duration, duration: Duration) -> Loopback {
    let config = MediaConfig {
        workers: 1,
        gather,
        bind: [127, 0, 0, 1].into(),
        ports: "29000-29099".parse().expect("a range"),
        ..MediaConfig::default()
    };
    let media = Media::start(&config, &mut Registry::default()).expect("a worker");
    let (room, _events) = media.open_room();
    let (server, fingerprint) = (room.candidates()[0], hash(room.fingerprint()));
    let mut wire = Sockets { room, server, fingerprint, sockets: HashMap::new(), sinks: Vec::new() };
    let (mut source, track) = publish(&mut wire);
    let clients: Vec<Client> = (0..subscribers)
        .map(|i| {
            let client = Client::connect(&mut wire, &format!("127.0.0.1:{}", 30_001 + i));
            client.negotiate(&mut wire, vec![], vec![leg(track, Kind::Video, "0")]);
            client
        })
        .collect();
    wire.sockets.values().for_each(|socket| socket.set_nonblocking(true).expect("non-blocking"));
    let from = source.client.address;
    let mut arrived = 0u64;
    let mut drain = |wire: &Sockets| {
        let mut buffer = [0; 2048];
        for client in &clients {
            let socket = &wire.sockets[&client.address];
            loop {
                match socket.recv(&mut buffer) {
                    Ok(len) if len > 1000 => arrived += 1,
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    let stats = |read: fn(&super::stats::Stats) -> &std::sync::atomic::AtomicU64| {
        read(&media.workers[0].stats).load(std::sync::atomic::Ordering::Relaxed)
    };
    let socket_stats = &media.workers[0].socket_stats;
    let sent = || {
        use std::sync::atomic::Ordering::Relaxed;
        (socket_stats.datagrams.load(Relaxed), socket_stats.runs.load(Relaxed))
    };
    let (cpu, forwarded, before) = (thread_cpu("media-0").expect("schedstat"), stats(|s| &s.forwarded), sent());
    let start = Instant::now();
    let mut frame = 0u32;
    while start.elapsed() < duration {
        for i in 0..frame_packets {
            let packet = source.packet(i, frame_packets, frame == 0);
            wire.send(from, packet);
        }
        frame += 1;
        let next = start + frame * INTERVAL;
        while Instant::now() < next {
            drain(&wire);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    drain(&wire);
    let (datagrams, runs) = sent();
    let result = Loopback {
        forwarded: stats(|s| &s.forwarded) - forwarded,
        arrived,
        cpu: thread_cpu("media-0").expect("schedstat") - cpu,
        wall: start.elapsed(),
        run_length: (datagrams - before.0) as f64 / (runs - before.1).max(1) as f64,
    };
    media.stop();
    while media.is_healthy() {
        std::thread::sleep(Duration::from_millis(1)); // the next run looks for its thread by name
    }
    result
}

/// What a tight loop of sends costs: CPU time for each datagram of 1100 bytes and a tag, sent to `destinations` in runs of
/// `run` with GSO, by the same code that the worker uses.
///
/// # Panics
/// When the machine does not give what it needs.
#[must_use]
#[expect(clippy::expect_used, reason = "a benchmark")]
pub fn floor_send(destinations: usize, run: usize, rounds: u32) -> Duration {
    let (mut sends, receivers) = Sends::to(destinations, run);
    let name = fs::read_to_string("/proc/thread-self/comm").expect("a name");
    let (mut batch, mut spent, mut sent) = (SendBatch::new(), Duration::ZERO, 0);
    for _ in 0..rounds {
        let before = thread_cpu(name.trim()).expect("schedstat");
        sent += sends.send(&mut batch);
        spent += thread_cpu(name.trim()).expect("schedstat") - before;
        receivers.iter().for_each(empty);
    }
    spent / sent.max(1)
}

/// What a thread costs that does nothing but seal and send, at the worker's pace: thirty times a second each of
/// `destinations` gets `run` datagrams of 1100 bytes, sealed with one AES-128-GCM key and sent with GSO, and the thread
/// sleeps in between, while another one receives. CPU time for each datagram.
///
/// # Panics
/// When the machine does not give what it needs.
#[must_use]
#[expect(clippy::expect_used, reason = "a benchmark")]
pub fn floor_paced(destinations: usize, run: usize, duration: Duration) -> Duration {
    let (mut sends, receivers) = Sends::to(destinations, run);
    let work = move || {
        let (mut seal, mut batch, mut sent) = (floor_seal(), SendBatch::new(), 0);
        let start = Instant::now();
        let before = thread_cpu("floor").expect("schedstat");
        for frame in 1.. {
            (0..destinations * run).for_each(|_| seal());
            sent += sends.send(&mut batch);
            let next = start + frame * INTERVAL;
            if start.elapsed() >= duration {
                break;
            }
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        (thread_cpu("floor").expect("schedstat") - before) / sent.max(1)
    };
    let worker = std::thread::Builder::new().name("floor".into()).spawn(work).expect("a thread");
    while !worker.is_finished() {
        receivers.iter().for_each(empty);
        std::thread::sleep(Duration::from_millis(2));
    }
    worker.join().expect("it ended")
}

/// A frame for each of many destinations, ready to be sent again and again.
struct Sends {
    socket: Socket,
    outbox: Outbox,
}

impl Sends {
    /// They, and who receives them.
    #[expect(clippy::expect_used, reason = "a benchmark")]
    fn to(destinations: usize, run: usize) -> (Self, Vec<UdpSocket>) {
        let receivers: Vec<UdpSocket> =
            (0..destinations).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port")).collect();
        let socket = Socket::new(UdpSocket::bind("127.0.0.1:0").expect("a port")).expect("a socket");
        let mut outbox = Outbox::new();
        for receiver in &receivers {
            receiver.set_nonblocking(true).expect("non-blocking");
            let (to, mut slot) = (FiveTuple::towards(receiver.local_addr().expect("bound")), Slot::STALE);
            (0..run).for_each(|_| outbox.push(&to, &mut slot, &[0xaa; PAYLOAD + 36]));
        }
        (Self { socket, outbox }, receivers)
    }

    /// How many datagrams it sent.
    #[expect(clippy::expect_used, reason = "a benchmark")]
    fn send(&mut self, batch: &mut SendBatch) -> u32 {
        u32::try_from(self.socket.send(&self.outbox, batch).datagrams).expect("fits")
    }
}

/// Takes all that has come.
fn empty(receiver: &UdpSocket) {
    let mut buffer = [0; 2048];
    while receiver.recv(&mut buffer).is_ok() {}
}
