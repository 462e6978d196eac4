//! Everything at once, with its allocations counted: simulcast whose layers are switched, a scalable stream, sound sent twice,
//! repairs both ways, a subscriber on a narrow way, ticks, reports, and a room on two workers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::super::codec::scalable::{Encoder, Mode};
use super::super::control::*;
use super::super::crossing::Crossings;
use super::super::engine::{Crossed, Mirror, Note, Word};
use super::super::rtcp::Writer;
use super::super::rtp::Outgoing;
use super::super::simulation::{
    Camera, Client, Got, IDS, Wire, World, leg, opus, pair, read_payload, sound_section, vp8_payload,
};
use super::super::twcc::Recorder;
use super::super::udp::Datagram;

const TICK: Duration = Duration::from_millis(10);
/// Ticks between two pictures, and between two packets of sound.
const PICTURE: u32 = 4;
const SOUND: u32 = 2;
/// Pictures between two key frames, and between two changes of what is wanted: below three seconds, so that nothing ends.
const KEY: u32 = 25;
const CHANGE: u32 = 50;
/// One of so many packets is lost: of the camera's on the way in; on the way out as feedback tells, and as is asked for again.
const LOST_IN: usize = 37;
const LOST_OUT: usize = 25;
/// Bytes of payload in each packet of the camera.
const PAYLOAD: usize = 1000;
/// What the subscriber on the narrow way names, bits per second: 700 000, as mantissa and exponent of REMB.
const NARROW: (u32, u32) = (175_000, 2);
const SCALABLE_SSRC: u32 = 3000;
const SOUND_SSRC: u32 = 77;

/// What happened while allocations were counted.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counted {
    /// Allocations on the way of packets and feedback, and with time.
    pub allocations: u64,
    /// Copies sent to subscribers.
    pub forwarded: u64,
    /// Packets from worker to worker.
    pub crossed: u64,
    /// How often a subscriber got another layer than before.
    pub switched: u64,
    /// Packets of the scalable stream that arrived.
    pub scalable: u64,
    /// Packets of sound that arrived with those before them.
    pub twice: u64,
    /// Packets sent to a subscriber later than they came.
    pub paced: u64,
    /// Packets sent again, those asked for again, and those that came again.
    pub retransmitted: u64,
    /// See above.
    pub asked: u64,
    /// See above.
    pub repaired: u64,
}

/// Who sends.
struct Publisher {
    client: Client,
    camera: Camera,
    scalable: TrackId,
    encoder: Encoder,
    microphone: TrackId,
    /// Sequence numbers of the scalable stream, of sound, and of repairs.
    next: (u64, u16, u64),
    /// Packets of the camera so far.
    sent: usize,
    /// Those lost and yet to be repaired: sequence number and timestamp.
    lost: Vec<([u8; 2], u32)>,
}

impl Publisher {
    /// All packets of the pictures at a time in milliseconds.
    fn pictures(&mut self, ms: u32, key: bool) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for (layer, packets) in [(0, 1), (1, 2), (2, 5)] {
            for packet in self.camera.frame(&mut self.client, "0", layer, ms, key, packets) {
                self.sent += 1;
                if layer == 2 && self.sent.is_multiple_of(LOST_IN) {
                    let timestamp = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
                    self.lost.push(([packet[2], packet[3]], timestamp));
                } else {
                    all.push(packet);
                }
            }
        }
        for frame in self.encoder.picture(key) {
            let header = Outgoing {
                marker: frame.last,
                payload_type: 45,
                sequence: self.next.0 as u16,
                timestamp: ms * 90,
                ssrc: SCALABLE_SSRC,
            };
            let descriptor = frame.descriptor(true, true);
            let start = if frame.key && frame.spatial == 0 { 0x08 } else { 0 };
            let values: [(u8, &[u8]); 2] = [(IDS.mid, b"1"), (IDS.dependency_descriptor, &descriptor)];
            all.push(self.client.seal(&header, self.next.0, &values, &[start; 500]));
            self.next.0 += 1;
        }
        all
    }

    fn sound(&mut self) -> Vec<Vec<u8>> {
        self.next.1 = self.next.1.wrapping_add(1);
        vec![self.client.spoken(SOUND_SSRC, self.next.1, 20)]
    }

    /// What was lost is sent again (RFC 4588).
    fn repairs(&mut self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for (sequence, timestamp) in std::mem::take(&mut self.lost) {
            let ssrc = Camera::rtx_ssrc(2);
            let header = Outgoing { marker: false, payload_type: 97, sequence: self.next.2 as u16, timestamp, ssrc };
            let body = [&sequence[..], &vp8_payload(0, 0, false, false, 2)].concat();
            let values: [(u8, &[u8]); 2] = [(IDS.mid, b"0"), (IDS.repaired_rid, b"f")];
            all.push(self.client.seal(&header, self.next.2, &values, &body));
            self.next.2 += 1;
        }
        all
    }

    /// Its clocks.
    fn reports(&mut self, ms: u32) -> Vec<u8> {
        let ntp = u64::from(ms) * ((1 << 32) / 1000);
        let mut writer = Writer::default();
        for layer in 0..3 {
            writer.sender_report(Camera::ssrc(layer), (ntp, (ms * 90).wrapping_add(7_777 * layer as u32), 1, 1));
        }
        writer.sender_report(SOUND_SSRC, (ntp, ms * 48, 1, 1));
        self.client.seal_rtcp(writer.bytes())
    }
}

/// Who gets it.
struct Listener {
    client: Client,
    worker: usize,
    camera: SendSection,
    scalable: SendSection,
    sound: SendSection,
    /// Whether it answers with transport-wide feedback, else it names a narrow way.
    transport_wide: bool,
    arrivals: Recorder,
    packets: usize,
    /// What it asks for again.
    missing: Vec<u16>,
    layer: Option<u8>,
}

impl Listener {
    fn new(worlds: &mut [World; 2], (worker, port): (usize, u16), transport_wide: bool, of: &Publisher) -> Self {
        let world = &mut worlds[worker];
        let client = Client::connect(world, &format!("127.0.0.1:{port}"));
        let plain = |codec, number| PayloadType { number, codec, rtx: None, profile: 0 };
        let section = |track, kind, mid| SendSection { transport_wide, ..leg(track, kind, mid) };
        let camera = section(of.camera.track, Kind::Video, "0");
        let scalable = SendSection {
            payload_types: vec![plain(Codec::Av1, 99)],
            wanted: Wanted::up_to(1),
            ..section(of.scalable, Kind::Video, "1")
        };
        let sound = SendSection {
            payload_types: vec![opus(109), plain(Codec::Red, 98)],
            ..section(of.microphone, Kind::Audio, "2")
        };
        client.negotiate(world, vec![], vec![camera.clone(), scalable.clone(), sound.clone()]);
        let arrivals = Recorder::new(world.now);
        let (packets, missing, layer) = (0, Vec::new(), None);
        Self { client, worker, camera, scalable, sound, transport_wide, arrivals, packets, missing, layer }
    }

    /// Takes a packet; `late` if time had passed since it came from the publisher.
    fn take(&mut self, now: Instant, got: &Got, late: bool, counted: &mut Counted) {
        self.packets += 1;
        let lost = self.packets.is_multiple_of(LOST_OUT);
        if let Some(number) = got.number.filter(|_| !lost) {
            self.arrivals.record(now, number);
        }
        if got.header.ssrc == self.camera.ssrc {
            let layer = read_payload(&got.payload).2;
            counted.switched += u64::from(self.layer.replace(layer).is_some_and(|before| before != layer));
            counted.paced += u64::from(late && !self.transport_wide);
            self.missing.extend(lost.then_some(got.header.sequence));
        } else if got.header.ssrc == self.scalable.ssrc {
            counted.scalable += 1;
        } else if got.header.ssrc == self.sound.ssrc {
            counted.twice += u64::from(got.header.payload_type == 98);
        }
    }

    /// What it has to say, sealed.
    fn answers(&mut self) -> Vec<Vec<u8>> {
        let (mut all, mut message) = (Vec::new(), Vec::new());
        if !self.missing.is_empty() {
            let mut writer = Writer::default();
            writer.nack(self.camera.ssrc, &std::mem::take(&mut self.missing));
            all.push(self.client.seal_rtcp(writer.bytes()));
        }
        while self.transport_wide && self.arrivals.write(1, 2, &mut message) {
            all.push(self.client.seal_rtcp(&message));
            message.clear();
        }
        if !self.transport_wide {
            all.push(self.client.seal_rtcp(&remb(NARROW)));
            // It loses sound, too (RFC 3550 §6.4.2).
            let mut report = vec![0x81, 201, 0, 7, 0, 0, 0, 9];
            report.extend_from_slice(&self.sound.ssrc.to_be_bytes());
            report.extend_from_slice(&[13, 0, 0, 1]);
            report.extend_from_slice(&[0; 16]);
            all.push(self.client.seal_rtcp(&report));
        }
        all
    }
}

/// A message that names a bandwidth (draft-alvestrand-rmcat-remb-03 §2.2).
fn remb((mantissa, exponent): (u32, u32)) -> Vec<u8> {
    let mut message = vec![0x8f, 206, 0, 5, 0, 0, 0, 1, 0, 0, 0, 0, b'R', b'E', b'M', b'B', 1];
    message.extend_from_slice(&(exponent << 18 | mantissa).to_be_bytes()[1..]);
    message.extend_from_slice(&[0, 0, 0, 9]);
    message
}

/// A room on two workers in which everything happens.
pub struct Everything {
    worlds: [World; 2],
    rings: [Crossings; 2],
    publisher: Publisher,
    listeners: Vec<Listener>,
    ticks: u32,
    /// How many allocations there were since the program began.
    allocations: fn() -> u64,
    counted: Counted,
}

impl std::fmt::Debug for Everything {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Everything").field("counted", &self.counted).finish_non_exhaustive()
    }
}

impl Everything {
    /// Connects everybody. `allocations` tells how many there were since the program began.
    #[must_use]
    pub fn new(allocations: fn() -> u64) -> Self {
        let mut here = World::new();
        let there = here.beside(1);
        let client = Client::connect(&mut here, "127.0.0.1:30000");
        let mut camera = Camera::new(&["q", "h", "f"]);
        camera.payload = PAYLOAD;
        let (scalable, microphone) = (TrackId::next(), TrackId::next());
        let av1 = PayloadType { number: 45, codec: Codec::Av1, rtx: Some(46), profile: 0 };
        let second = ReceiveSection {
            mid: "1".to_owned(),
            track: scalable,
            kind: Kind::Video,
            payload_types: vec![av1],
            rids: Vec::new(),
            ssrcs: Vec::new(),
        };
        let receive = vec![camera.section("0"), second, sound_section("2", microphone, SOUND_SSRC)];
        client.negotiate(&mut here, receive.clone(), vec![]);
        let (transport, room) = (client.transport, here.room);
        let mirror = Mirror { transport, room, worker: 0, relayed: false, extensions: IDS, receive };
        let mut worlds = [here, there];
        worlds[1].word(Word::Mirror(Box::new(mirror)));
        let encoder = Encoder::new(Mode::L3T3);
        let (next, sent, lost) = ((1, 0, 1), 0, Vec::new());
        let publisher = Publisher { client, camera, scalable, encoder, microphone, next, sent, lost };
        let listeners = [((0, 30_001), true), ((0, 30_002), false), ((1, 30_003), true)];
        let listeners = listeners.map(|(place, wide)| Listener::new(&mut worlds, place, wide, &publisher)).into();
        let (rings, counted) = ([Crossings::default(), Crossings::default()], Counted::default());
        let mut this = Self { worlds, rings, publisher, listeners, ticks: 0, allocations, counted };
        this.tell();
        this
    }

    /// Lets so much time pass, and tells what happened in it.
    pub fn run(&mut self, time: Duration) -> Counted {
        self.counted = Counted::default();
        let before = self.totals();
        for _ in 0..time.as_millis() / TICK.as_millis() {
            self.step();
        }
        let after = self.totals();
        let [forwarded, retransmitted, asked, repaired] = std::array::from_fn(|at| after[at] - before[at]);
        Counted { forwarded, retransmitted, asked, repaired, ..self.counted }
    }

    fn totals(&self) -> [u64; 4] {
        self.worlds.iter().fold([0; 4], |sum, world| {
            let counters = world.engine.counters();
            let own = [counters.forwarded, counters.retransmitted, counters.nacks_sent, counters.repaired];
            std::array::from_fn(|at| sum[at] + own[at])
        })
    }

    /// One tick, and what is sent in it.
    fn step(&mut self) {
        let (ms, from) = (self.ticks * 10, self.publisher.client.address);
        if self.ticks.is_multiple_of(PICTURE) {
            let picture = self.ticks / PICTURE;
            if picture.is_multiple_of(CHANGE) {
                self.want(2 - (picture / CHANGE % 3) as u8);
            }
            let mut packets = self.publisher.repairs();
            packets.extend(self.publisher.pictures(ms, picture.is_multiple_of(KEY)));
            self.deliver(0, from, &packets);
        }
        if self.ticks.is_multiple_of(SOUND) {
            let packets = self.publisher.sound();
            self.deliver(0, from, &packets);
        }
        self.take(false);
        self.ticks += 1;
        self.pass();
        self.take(true);
        if self.ticks.is_multiple_of(5) {
            for at in 0..self.listeners.len() {
                let (worker, from) = (self.listeners[at].worker, self.listeners[at].client.address);
                let answers = self.listeners[at].answers();
                self.deliver(worker, from, &answers);
            }
        }
        if self.ticks.is_multiple_of(100) {
            let report = self.publisher.reports(ms);
            self.deliver(0, from, &[report]);
        }
        if self.ticks.is_multiple_of(1000) {
            self.publisher.client.check(&mut self.worlds[0], false); // consent
            for listener in &mut self.listeners {
                listener.client.check(&mut self.worlds[listener.worker], false);
            }
        }
    }

    /// Everybody wants this layer of the camera.
    fn want(&mut self, layer: u8) {
        for listener in &self.listeners {
            let (transport, leg) = (listener.client.transport, listener.camera.leg);
            let wanted = Wanted::up_to(layer);
            self.worlds[listener.worker].command(Command::Want { transport, leg, wanted });
        }
        self.tell();
    }

    /// Counts the allocations of something.
    fn count(&mut self, what: impl FnOnce(&mut Self)) {
        let before = (self.allocations)();
        what(self);
        self.counted.allocations += (self.allocations)() - before;
    }

    /// Datagrams come to a worker in one receive call, and what of them the other one needs goes there.
    fn deliver(&mut self, worker: usize, from: SocketAddr, packets: &[Vec<u8>]) {
        let mut datagrams = Vec::new();
        let mut buffer = Vec::new();
        for packet in packets {
            datagrams.push(Datagram {
                from: pair(from),
                start: buffer.len(),
                len: packet.len(),
                waited: Duration::ZERO,
            });
            buffer.extend_from_slice(packet);
        }
        self.count(|this| {
            let now = this.worlds[worker].now;
            let engine = &mut this.worlds[worker].engine;
            engine.datagrams(now, &mut buffer, &datagrams, &mut |_| {});
            for crossing in engine.crossings() {
                let Crossed { start, len, .. } = crossing.packet;
                let crossed = this.rings[worker].push(&crossing, &buffer[start..start + len]);
                this.counted.crossed += u64::from(crossed);
            }
            let (bytes, packets, _) = this.rings[1 - worker].take();
            this.worlds[1 - worker].engine.crossed(now, bytes, packets, &mut |_| {});
        });
        self.tell();
    }

    /// The workers tell each other what they have to know. Who needs packets of one for the first time makes the way for them.
    fn tell(&mut self) {
        self.count(|this| {
            let told = |this: &mut Self, from: usize| {
                let Some(Note { worker, word }) = this.worlds[from].engine.note() else { return false };
                if let Word::Needs { .. } = word
                    && let Some(outlet) = this.rings[from].open(worker)
                {
                    this.rings[worker].opened(from, outlet);
                }
                let now = this.worlds[worker].now;
                this.worlds[worker].engine.word(now, word);
                true
            };
            while told(this, 0) | told(this, 1) {}
        });
    }

    /// Time passes.
    fn pass(&mut self) {
        for world in &mut self.worlds {
            world.now += TICK;
        }
        self.count(|this| {
            for world in &mut this.worlds {
                world.engine.handle_timeout(world.now);
            }
        });
        self.tell();
    }

    /// What was sent arrives.
    fn take(&mut self, late: bool) {
        for world in &mut self.worlds {
            world.collect();
            world.events.clear();
            world.take(self.publisher.client.address);
        }
        for listener in &mut self.listeners {
            let world = &mut self.worlds[listener.worker];
            for got in listener.client.receive(world).0 {
                listener.take(world.now, &got, late, &mut self.counted);
            }
        }
    }
}
