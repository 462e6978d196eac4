//! A room on two workers of one bridge: two engines, and what goes from one to the other.

use super::super::super::audio::SMALL_ROOM;
use super::super::super::control::*;
use super::super::super::rtcp::{self, Feedback, Writer};
use super::super::super::simulation::*;
use super::super::{Mirror, Note, Word};
use super::extensions::{OTHER_IDS, taken};

/// Somebody with camera and microphone on one worker, somebody who gets them on another one.
struct Workers {
    here: World,
    there: World,
    publisher: Client,
    camera: Camera,
    microphone: TrackId,
    spoken: u16,
    subscriber: Client,
    legs: Vec<SendSection>,
    /// The streams of the camera that crossed since it was looked at, by packets; and the sound's packets.
    pictures: [usize; 3],
    sounds: usize,
}

impl Workers {
    fn new() -> Self {
        let mut here = World::new();
        let mut there = here.beside(1);
        let publisher = Client::connect(&mut here, "127.0.0.1:1001");
        let camera = Camera::new(&["q", "h", "f"]);
        let subscriber = Client::connect(&mut there, "127.0.0.1:2001");
        let microphone = TrackId::next();
        let legs = vec![leg(camera.track, Kind::Video, "3"), leg(microphone, Kind::Audio, "4")];
        let mut workers = Self {
            here,
            there,
            publisher,
            camera,
            microphone,
            spoken: 0,
            subscriber,
            legs,
            pictures: [0; 3],
            sounds: 0,
        };
        workers.publish(true);
        workers
    }

    /// What the publisher sends, as both workers are told.
    fn publish(&mut self, sound: bool) {
        let mut receive = vec![self.camera.section("7")];
        receive.extend(sound.then(|| sound_section("8", self.microphone, 77)));
        self.publisher.negotiate(&mut self.here, receive.clone(), vec![]);
        let (transport, room) = (self.publisher.transport, self.here.room);
        let mirror = Mirror { transport, room, worker: 0, relayed: false, extensions: IDS, receive };
        self.there.word(Word::Mirror(Box::new(mirror)));
        self.pump();
    }

    fn subscribe(&mut self) {
        self.subscriber.negotiate(&mut self.there, vec![], self.legs.clone());
        self.pump();
    }

    fn want(&mut self, layer: Option<u8>) {
        let (transport, leg) = (self.subscriber.transport, self.legs[0].leg);
        let wanted = Wanted { layer, ..Wanted::BEST };
        self.there.command(Command::Want { transport, leg, wanted });
        self.pump();
    }

    /// What the workers have for each other.
    fn pump(&mut self) {
        loop {
            let mut quiet = true;
            let packets = std::mem::take(&mut self.here.crossings);
            for (crossing, _) in &packets {
                assert_eq!(crossing.worker, 1);
                match crossing.packet.track == self.camera.track {
                    true => self.pictures[usize::from(crossing.packet.stream)] += 1,
                    false => self.sounds += 1,
                }
            }
            self.there.cross(&packets);
            while let Some(Note { worker, word }) = self.there.engine.note() {
                assert_eq!(worker, 0);
                quiet = false;
                self.here.word(word);
            }
            while let Some(Note { worker, word }) = self.here.engine.note() {
                assert_eq!(worker, 1);
                quiet = false;
                self.there.word(word);
            }
            if quiet {
                return;
            }
        }
    }

    fn pass(&mut self, time: std::time::Duration) {
        let ticks = time.as_millis() / 10;
        for _ in 0..ticks {
            self.here.pass(10 * MS);
            self.there.pass(10 * MS);
            self.pump();
        }
    }

    /// A frame of each of these layers and a packet of sound; loses packets of the camera by their numbers in the frame.
    fn moment(&mut self, ms: u32, layers: &[usize], key: bool, loses: impl Fn(usize) -> bool) -> Vec<Vec<u8>> {
        let mut lost = Vec::new();
        for &layer in layers {
            let frame = self.camera.frame(&mut self.publisher, "7", layer, ms, key, 3);
            for (number, packet) in frame.into_iter().enumerate() {
                if loses(number) {
                    lost.push(packet);
                } else {
                    self.here.send(self.publisher.address, packet);
                }
            }
        }
        let packet = self.publisher.spoken(77, self.spoken, 30);
        self.spoken += 1;
        self.here.send(self.publisher.address, packet);
        self.pass(40 * MS);
        lost
    }

    /// Frames of these layers for so long, beginning with a key frame.
    fn flow(&mut self, from_ms: u32, frames: u32, layers: &[usize]) {
        for frame in 0..frames {
            self.moment(from_ms + 40 * frame, layers, frame == 0, |_| false);
        }
    }

    /// (layers of the pictures, packets of sound) that the subscriber got.
    fn got(&mut self) -> (Vec<u8>, usize) {
        let (packets, _) = self.subscriber.receive(&mut self.there);
        let video = |got: &&Got| got.header.ssrc == self.legs[0].ssrc;
        let layers = packets.iter().filter(video).map(|got| read_payload(&got.payload).2).collect();
        (layers, packets.iter().filter(|got| got.header.ssrc == self.legs[1].ssrc).count())
    }

    /// The key frames and packets that the publisher is asked for: SSRCs, sequence numbers.
    fn asked(&mut self) -> (Vec<u32>, Vec<u16>) {
        let (_, reports) = self.publisher.receive(&mut self.here);
        let (mut key_frames, mut packets) = (Vec::new(), Vec::new());
        for report in reports {
            for feedback in rtcp::read(&report) {
                match feedback {
                    Feedback::KeyFrame(ssrc) => key_frames.push(ssrc),
                    Feedback::Nack(nack) => packets.extend(nack.sequences()),
                    _ => {}
                }
            }
        }
        (key_frames, packets)
    }

    /// How many layers of the camera the publisher was told to send, since the last call.
    fn told(&mut self) -> Vec<u8> {
        let track = self.camera.track;
        let told = self.here.events.drain(..).filter_map(|event| match event {
            Event::LayersNeeded { track: of, layers, .. } if of == track => Some(layers),
            _ => None,
        });
        told.collect()
    }

    fn crossed(&mut self) -> ([usize; 3], usize) {
        (std::mem::take(&mut self.pictures), std::mem::take(&mut self.sounds))
    }
}

#[test]
fn only_what_is_watched_crosses() {
    let mut workers = Workers::new();
    workers.flow(0, 10, &[0, 1, 2]);
    assert_eq!(workers.crossed(), ([0; 3], 10), "voices tell who speaks");
    workers.subscribe();
    workers.want(Some(2));
    let (asked, _) = workers.asked();
    assert!(asked.contains(&Camera::ssrc(2)) || asked.contains(&Camera::ssrc(0)), "{asked:?}");
    workers.flow(400, 30, &[0, 1, 2]);
    let (layers, sounds) = workers.got();
    assert!(layers.len() >= 60 && layers[30..].iter().all(|layer| *layer == 2), "{layers:?}");
    assert_eq!(sounds, 30);
    workers.flow(1_600, 100, &[0, 1, 2]);
    workers.crossed();
    workers.flow(5_600, 10, &[0, 1, 2]);
    assert_eq!(workers.crossed(), ([0, 0, 30], 10), "one stream of three");
    workers.got();
    workers.want(None);
    workers.here.events.clear();
    // The worker of the one who watched waits three seconds before it says so; the publisher's has nothing to wait for.
    workers.flow(6_000, 70, &[0, 1, 2]);
    assert_eq!(workers.told(), [0_u8; 0]);
    workers.flow(8_800, 15, &[0, 1, 2]);
    assert_eq!(workers.told(), [0], "the publisher need not send what nobody watches anywhere");
    workers.crossed();
    workers.flow(9_400, 100, &[0, 1, 2]);
    assert_eq!((workers.crossed(), workers.told()), (([0; 3], 100), vec![]));
    // What comes and goes within these seconds is not told.
    workers.want(Some(2));
    assert_eq!(workers.told(), [3]);
    for second in 0..8 {
        workers.want(Some(2).filter(|_| second % 2 == 1));
        workers.flow(13_400 + 1000 * second, 25, &[0, 1, 2]);
    }
    assert_eq!(workers.told(), [0_u8; 0]);
    assert!(workers.there.events.iter().all(|event| !matches!(event, Event::LayersNeeded { .. })), "only one asks");
}

#[test]
fn a_key_frame_is_asked_for_at_the_publisher() {
    let mut workers = Workers::new();
    workers.subscribe();
    workers.want(Some(0));
    workers.flow(0, 20, &[0, 1, 2]);
    workers.asked();
    workers.pass(400 * MS);
    let mut writer = Writer::default();
    writer.picture_loss(workers.legs[0].ssrc);
    let request = writer.bytes().to_vec();
    for _ in 0..5 {
        workers.subscriber.rtcp(&mut workers.there, &request);
        workers.pump();
    }
    assert_eq!(workers.asked().0, [Camera::ssrc(0)], "once for all requests");
}

#[test]
fn what_the_publisher_repairs_crosses_too() {
    let mut workers = Workers::new();
    workers.subscribe();
    workers.want(Some(0));
    workers.flow(0, 10, &[0]);
    workers.asked();
    let (before, _) = workers.got();
    assert!(before.len() >= 24, "{before:?}");
    let lost = workers.moment(400, &[0], false, |number| number == 1);
    workers.moment(440, &[0], false, |_| false);
    let (_, asked) = workers.asked();
    assert!(!asked.is_empty(), "the publisher is asked by its own worker");
    assert_eq!(workers.got().0.len(), 5);
    for packet in lost {
        workers.here.send(workers.publisher.address, packet);
    }
    workers.pump();
    assert_eq!(workers.got().0.len(), 1);
    let (_, asked) = workers.asked();
    assert_eq!(asked, [0_u16; 0], "and by nobody else");
}

#[test]
fn capture_time_and_playout_delay_cross_to_other_ids() {
    let mut workers = Workers::new();
    workers.camera.timed = true;
    workers.subscriber.negotiate_as(&mut workers.there, OTHER_IDS, vec![], workers.legs.clone());
    workers.pump();
    workers.want(Some(0));
    workers.flow(0, 20, &[0]);
    let (packets, _) = workers.subscriber.receive(&mut workers.there);
    let pictures: Vec<_> = packets.iter().filter(|got| got.header.ssrc == workers.legs[0].ssrc).map(taken).collect();
    let all: Vec<_> = (0..20).flat_map(|frame| [Some(40 * frame); 3]).collect();
    assert!(pictures.len() > 40 && all.ends_with(&pictures), "{pictures:?}");
}

#[test]
fn what_ends_at_its_worker_ends_at_the_others() {
    let mut workers = Workers::new();
    workers.subscribe();
    workers.want(Some(0));
    workers.flow(0, 10, &[0]);
    workers.got();
    assert_eq!(workers.there.engine.sizes(), (1, 1, 0, 2), "a mirror is counted where it comes from");
    workers.publish(false);
    workers.flow(400, 5, &[0]);
    assert!(matches!(workers.got(), (layers, 0) if layers.len() == 15));
    let transport = workers.publisher.transport;
    workers.there.command(Command::CloseTransport { transport });
    assert_eq!(workers.there.engine.sizes(), (1, 1, 0, 0));
    workers.flow(600, 5, &[0]);
    assert_eq!(workers.got(), (vec![], 0), "late packets find nothing");
    assert!(workers.there.events.iter().all(|event| !matches!(event, Event::Closed { .. })), "it is not closed there");
}

#[test]
fn a_microphone_in_the_place_of_another_is_heard_too() {
    let mut workers = Workers::new();
    workers.subscribe();
    workers.flow(0, 10, &[]);
    assert!(matches!(workers.got(), (_, 10)));
    // One negotiation removes the microphone and brings another one, which the engines keep where the first was.
    workers.microphone = TrackId::next();
    workers.publish(true);
    workers.legs[1] = leg(workers.microphone, Kind::Audio, "4");
    workers.subscribe();
    workers.flow(400, 10, &[]);
    assert!(matches!(workers.got(), (_, 10)));
}

#[test]
fn the_loudest_of_both_workers_are_heard() {
    // Everybody speaks on one worker, and two more on the other.
    let mut here = World::new();
    let mut there = here.beside(1);
    let mut speaker = Client::connect(&mut here, "127.0.0.1:1001");
    let tracks: Vec<TrackId> = (0..=SMALL_ROOM).map(|_| TrackId::next()).collect();
    let section = |(number, &track): (usize, &TrackId)| sound_section(number, track, 100 + number as u32);
    let receive: Vec<_> = tracks.iter().enumerate().map(section).collect();
    speaker.negotiate(&mut here, receive.clone(), vec![]);
    let (transport, room) = (speaker.transport, here.room);
    let mirror = Mirror { transport, room, worker: 0, relayed: false, extensions: IDS, receive };
    there.word(Word::Mirror(Box::new(mirror)));
    let mut listener = Client::connect(&mut there, "127.0.0.1:2001");
    let legs: Vec<_> = tracks.iter().map(|&track| leg(track, Kind::Audio, "1")).collect();
    listener.negotiate(&mut there, vec![], legs.clone());
    while let Some(Note { word, .. }) = there.engine.note() {
        here.word(word);
    }
    let (loud, silent) = (30, 100);
    // One speaks, says nothing for three seconds, and speaks again.
    for sequence in 0..250 {
        let speaks = !(50..200).contains(&sequence);
        for number in 0..tracks.len() {
            let level = if number == 3 && speaks { loud } else { silent };
            here.send(speaker.address, speaker.spoken(100 + number as u32, sequence, level));
        }
        let packets = std::mem::take(&mut here.crossings);
        assert!(packets.len() == 1 || (!speaks && packets.is_empty()), "one voice of {}", tracks.len());
        there.cross(&packets);
        while let Some(Note { word, .. }) = here.engine.note() {
            there.word(word);
        }
        here.pass(20 * MS);
        there.pass(20 * MS);
    }
    let (packets, _) = listener.receive(&mut there);
    assert!(packets.iter().all(|got| got.header.ssrc == legs[3].ssrc));
    assert!((100..=220).contains(&packets.len()), "it was held back meanwhile: {}", packets.len());
    let sequences: Vec<u16> = packets.iter().map(|got| got.header.sequence).collect();
    assert!(sequences.windows(2).all(|two| two[1] == two[0].wrapping_add(1)), "from the first syllable, without a gap");
}
