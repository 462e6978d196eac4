//! Somebody with a camera and a microphone, as Chromium on a busy machine sends them: three VP8 streams whose frames come
//! unevenly, are of uneven sizes and are made up for after key frames; Opus while they speak.

use super::super::super::super::control::*;
use super::super::super::super::network::{MS, Random, SECOND};
use super::super::super::super::rtcp::{self, Feedback};
use super::super::super::super::rtp::Outgoing;
use super::super::super::super::simulation::{Camera, Client, IDS, Wire, World, sound_section};

/// Bits per second of each stream.
pub(super) const LAYERS: [f64; 3] = [150e3, 450e3, 1_700e3];
/// A key frame is as large as so many others at the usual rate …
const KEY: f64 = 6.0;
/// … of frames a second.
const USUAL_FPS: f64 = 15.0;
const AUDIO_SSRC: u32 = 100;
/// Bytes of Opus in 20 ms: 32 kbit/s.
const OPUS: usize = 80;

pub(super) struct Encoder {
    pub(super) client: Client,
    pub(super) camera: Camera,
    pub(super) microphone: TrackId,
    /// So many layers are asked for.
    pub(super) asked: u8,
    /// Frames a second, between these.
    pub(super) fps: (f64, f64),
    pub(super) speaks: bool,
    /// When something was said, and its timestamp.
    pub(super) spoken: Vec<(u64, u32)>,
    /// Key frames that were asked for.
    pub(super) requests: usize,
    keys: [bool; 3],
    debt: [f64; 3],
    rhythm: f64,
    usual: f64,
    next: u64,
    next_audio: u64,
    sequence: u64,
    random: Random,
}

impl Encoder {
    pub(super) fn new(world: &mut World, number: u16, fps: (f64, f64)) -> Self {
        let client = Client::connect(world, &format!("127.0.0.1:{}", 2000 + number));
        let camera = Camera::new(&["q", "h", "f"]);
        let microphone = TrackId::next();
        let sound = sound_section("1", microphone, AUDIO_SSRC);
        client.negotiate(world, vec![camera.section("0"), sound], vec![]);
        let seed = 0x9e37_79b9_7f4a_7c15 ^ (u64::from(number) << 20);
        Self {
            client,
            camera,
            microphone,
            asked: 3,
            fps,
            speaks: false,
            spoken: Vec::new(),
            requests: 0,
            keys: [true; 3],
            debt: [0.0; 3],
            rhythm: fps.1,
            usual: fps.1,
            next: u64::from(number) * 7 * MS,
            next_audio: u64::from(number) * 3 * MS,
            sequence: 0,
            random: Random(seed),
        }
    }

    /// So many layers are needed from now on.
    pub(super) fn ask(&mut self, layers: u8) {
        for key in &mut self.keys[self.asked.min(layers).into()..layers.into()] {
            *key = true; // an encoder begins with a key frame
        }
        self.asked = layers;
    }

    /// What is due at `now`, microseconds, is sent.
    pub(super) fn step(&mut self, world: &mut World, now: u64) {
        while self.next_audio <= now {
            self.say(world);
        }
        while self.next <= now {
            self.show(world);
        }
        for report in self.client.receive(world).1 {
            for feedback in rtcp::read(&report) {
                if let Feedback::KeyFrame(_) = feedback {
                    // libvpx answers with a key frame on every stream.
                    self.requests += 1;
                    self.keys = [true; 3];
                }
            }
        }
    }

    fn say(&mut self, world: &mut World) {
        let at = self.next_audio;
        self.next_audio += 20 * MS;
        // Whoever is silent says so now and then (DTX).
        if !self.speaks && !at.is_multiple_of(400 * MS) {
            return;
        }
        let timestamp = (at / MS * 48) as u32;
        let header =
            Outgoing { marker: false, payload_type: 111, sequence: self.sequence as u16, timestamp, ssrc: AUDIO_SSRC };
        let (level, size) = if self.speaks { (30u8, OPUS) } else { (127, 3) };
        let body: Vec<u8> = timestamp.to_be_bytes().into_iter().chain(std::iter::repeat(7)).take(size).collect();
        let values: [(u8, &[u8]); 2] = [(IDS.mid, b"1"), (IDS.audio_level, &[level])];
        let packet = self.client.seal(&header, self.sequence, &values, &body);
        self.sequence += 1;
        world.send(self.client.address, packet);
        if self.speaks {
            self.spoken.push((at, timestamp));
        }
    }

    fn show(&mut self, world: &mut World) {
        let at = self.next;
        let (slowest, fastest) = self.fps;
        // The rhythm wanders; now and then the machine has something else to do.
        self.rhythm = (self.rhythm * (0.75 + 0.5 * self.random.unit())).clamp(slowest, fastest);
        let stall = if self.random.unit() < 0.02 { (self.random.unit() * 0.4 * SECOND as f64) as u64 } else { 0 };
        self.next += (SECOND as f64 / self.rhythm) as u64 + stall;
        // Rate control knows the frame rate of the last seconds.
        self.usual += (self.rhythm - self.usual) / 20.0;
        for (layer, bits) in LAYERS.into_iter().enumerate().take(self.asked.into()) {
            let key = std::mem::take(&mut self.keys[layer]);
            let usual = bits / 8.0 / self.usual;
            let noise = 0.5 + self.random.unit();
            let size = if key {
                KEY * bits / 8.0 / USUAL_FPS
            } else {
                usual * noise - self.debt[layer].clamp(0.0, usual / 2.0)
            };
            self.debt[layer] += size - usual * noise;
            let size = (size as usize).max(100);
            let packets = size.div_ceil(1100);
            self.camera.payload = size / packets;
            for packet in self.camera.frame(&mut self.client, "0", layer, (at / MS) as u32, key, packets) {
                world.send(self.client.address, packet);
            }
        }
    }
}
