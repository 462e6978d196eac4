//! A room of nine tiles whose viewer has a bad line: what is seen and heard there, and what others notice of it.
//!
//! `encoder.rs` is who sends, `viewer.rs` who watches; the line between is `../../../network.rs`.

mod encoder;
mod viewer;

use super::super::super::control::*;
use super::super::super::network::{Link, MS, SECOND};
use super::super::super::simulation::*;
use encoder::Encoder;
use viewer::{OPUS, Picture, RED, Sound, Viewer};

/// One step, microseconds.
const STEP: u64 = 5 * MS;

/// Nine people, of whom the first speaks; one who watches on a bad line, and one on a good one.
struct Room {
    world: World,
    now: u64,
    people: Vec<Encoder>,
    bad: Watching,
    good: Watching,
    /// How long, without a break, the queue on the bad line was longer than a tenth of a second: now, and at most, seconds.
    queued: f64,
    longest_queue: f64,
}

/// A viewer and its legs.
struct Watching {
    viewer: Viewer,
    pictures: Vec<SendSection>,
    sounds: Vec<SendSection>,
}

impl Watching {
    /// The first tile is large, the others are small.
    fn new(world: &mut World, address: &str, link: Link, people: &[Encoder]) -> Self {
        let client = Client::connect(world, address);
        let large = |number: usize| if number == 0 { Wanted::BEST } else { Wanted::up_to(0) };
        let pictures: Vec<SendSection> = people
            .iter()
            .enumerate()
            .map(|(number, person)| SendSection {
                transport_wide: true,
                wanted: large(number),
                ..leg(person.camera.track, Kind::Video, &number.to_string())
            })
            .collect();
        let red = PayloadType { number: RED, codec: Codec::Red, rtx: None, profile: 0 };
        let sounds: Vec<SendSection> = people
            .iter()
            .enumerate()
            .map(|(number, person)| SendSection {
                transport_wide: true,
                payload_types: vec![opus(OPUS), red],
                ..leg(person.microphone, Kind::Audio, &(100 + number).to_string())
            })
            .collect();
        let all = [&pictures[..], &sounds[..]].concat();
        let viewer = Viewer::new(world, client, link, &all);
        viewer.client.negotiate(world, vec![], all);
        Self { viewer, pictures, sounds }
    }

    fn picture(&self, number: usize) -> &Picture {
        &self.viewer.pictures[&self.pictures[number].ssrc]
    }

    fn sound(&self, number: usize) -> &Sound {
        &self.viewer.sounds[&self.sounds[number].ssrc]
    }
}

impl Room {
    fn new(people: u16, fps: (f64, f64), link: Link) -> Self {
        let mut world = World::new();
        let mut people: Vec<Encoder> = (0..people).map(|number| Encoder::new(&mut world, number, fps)).collect();
        people[0].speaks = true;
        let bad = Watching::new(&mut world, "127.0.0.1:1001", link, &people);
        let good = Watching::new(&mut world, "127.0.0.1:1002", Link::of(100e6), &people);
        Self { world, now: 0, people, bad, good, queued: 0.0, longest_queue: 0.0 }
    }

    fn run(&mut self, seconds: f64) {
        let end = self.now + (seconds * SECOND as f64) as u64;
        while self.now < end {
            self.now += STEP;
            for person in &mut self.people {
                person.step(&mut self.world, self.now);
            }
            self.world.pass(5 * MS_TIME);
            for event in std::mem::take(&mut self.world.events) {
                match event {
                    Event::LayersNeeded { track, layers, .. } => {
                        let asked = self.people.iter_mut().find(|person| person.camera.track == track);
                        asked.into_iter().for_each(|person| person.ask(layers));
                    }
                    Event::Quality { quality, .. } => assert!(!quality.silent, "never lost while packets flow"),
                    _ => {}
                }
            }
            for watching in [&mut self.bad, &mut self.good] {
                watching.viewer.step(&mut self.world, self.now);
            }
            let long = self.bad.viewer.line.queue(self.now) > 100 * MS;
            self.queued = if long { self.queued + STEP as f64 / SECOND as f64 } else { 0.0 };
            self.longest_queue = self.longest_queue.max(self.queued);
            if self.now.is_multiple_of(10 * SECOND) {
                let viewers = [&mut self.bad.viewer.client, &mut self.good.viewer.client];
                for client in self.people.iter_mut().map(|person| &mut person.client).chain(viewers) {
                    client.check(&mut self.world, false);
                }
            }
        }
    }

    /// How it was for the viewer on the bad line in the last seconds.
    fn told(&self, seconds: f64) -> Told {
        let from = self.now - (seconds * SECOND as f64) as u64;
        let speaker = self.bad.picture(0);
        let spoken = &self.people[0].spoken;
        let line = &self.bad.viewer.line;
        Told {
            freeze: speaker.longest_freeze(from, self.now),
            frames: speaker.shown.iter().filter(|(at, _)| *at >= from).count(),
            changes: speaker.changes(from).into_iter().map(|(at, layer)| (at as f64 / SECOND as f64, layer)).collect(),
            concealed: self.bad.sound(0).concealed(spoken, from, self.now - 200 * MS),
            overflown: line.overflown as f64 / line.entered as f64,
            good_freeze: self.good.picture(0).longest_freeze(from, self.now),
            good_concealed: self.good.sound(0).concealed(spoken, from, self.now - 200 * MS),
            good_lost: self.good.viewer.line.lost + self.good.viewer.line.overflown,
            requests: self.people.iter().map(|person| person.requests).collect(),
        }
    }
}

/// What the viewer on the bad line saw and heard, and what the other one did.
#[derive(Debug)]
#[allow(dead_code, reason = "printed when something is wrong")]
struct Told {
    /// The speaker's longest freeze, seconds.
    freeze: f64,
    frames: usize,
    /// The speaker's changes of layer, (seconds, layer).
    changes: Vec<(f64, u8)>,
    /// Share of sound concealed.
    concealed: f64,
    /// Share of packets for which the line's queue had no room, since the beginning.
    overflown: f64,
    good_freeze: f64,
    good_concealed: f64,
    good_lost: u64,
    requests: Vec<usize>,
}

const MS_TIME: std::time::Duration = super::super::super::simulation::MS;

/// Bad DSL with a queue of a third of a second.
fn bad_dsl() -> Link {
    Link { queue: 300 * MS, ..Link::bad_dsl() }
}

#[test]
fn nine_tiles_over_bad_dsl() {
    let mut room = Room::new(9, (4.0, 12.0), bad_dsl());
    room.run(10.0);
    let first = room.bad.picture(0).shown.first().map(|(at, _)| *at);
    assert!(first.is_some_and(|at| at < 2 * SECOND), "useful within two seconds: {first:?}");
    assert!(room.longest_queue < 2.0, "not overrun for long: {}", room.longest_queue);
    room.run(50.0);
    let told = room.told(50.0);
    assert!(told.concealed < 0.02, "{told:?}");
    assert!(told.freeze < 1.0, "{told:?}");
    assert!(told.overflown < 0.005, "{told:?}");
    assert!(told.changes.len() <= 6, "{told:?}");
    assert!(
        (told.good_concealed, told.good_lost) == (0.0, 0) && told.good_freeze < 1.0,
        "others notice nothing: {told:?}"
    );
}

#[test]
fn whatever_the_line_does_the_speaker_goes_on() {
    let far = Link { delay: 50 * MS, feedback_delay: 50 * MS, queue: 300 * MS, ..Link::of(1e6) };
    for (what, link) in [
        ("bursts of loss", Link { burst: (0.002, 0.25), ..far.clone() }),
        ("reordering", Link { jitter: 15 * MS, reorder: true, ..far.clone() }),
        ("duplicates", Link { duplicates: 0.1, ..far.clone() }),
        ("jitter", Link { jitter: 30 * MS, ..far.clone() }),
        ("5 % loss", Link { loss: 0.05, ..far.clone() }),
        ("lost feedback", Link { feedback_loss: 0.2, loss: 0.01, ..far.clone() }),
        ("a short queue", Link { queue: 80 * MS, loss: 0.01, ..far.clone() }),
    ] {
        let mut room = Room::new(4, (6.0, 15.0), link);
        room.run(40.0);
        let told = room.told(30.0);
        assert!(told.concealed < 0.02, "{what}: {told:?}");
        assert!(told.freeze < 1.3, "{what}: {told:?}");
        assert!(told.good_lost == 0, "{what}: {told:?}");
    }
}

#[test]
fn layers_do_not_go_up_and_down_where_frames_come_unevenly() {
    let mut room = Room::new(2, (2.0, 12.0), Link { queue: 300 * MS, ..Link::of(900e3) });
    room.run(90.0);
    let told = room.told(75.0);
    let soon = told.changes.windows(2).filter(|pair| pair[1].0 - pair[0].0 < 5.0).count();
    assert!(soon == 0 && told.changes.len() <= 4, "{told:?}");
}

#[test]
fn a_line_that_drops_and_comes_back_is_followed() {
    let mut room = Room::new(3, (8.0, 15.0), Link { queue: 300 * MS, ..Link::of(3e6) });
    room.run(15.0);
    let layer = |room: &Room| room.bad.picture(0).shown.last().map(|(_, layer)| *layer);
    assert_eq!(layer(&room), Some(2), "{:?}", room.told(15.0));
    room.bad.viewer.link.rate = 500e3;
    room.run(3.0);
    room.longest_queue = 0.0;
    room.run(20.0);
    let told = room.told(20.0);
    assert!(told.freeze < 1.0 && told.concealed < 0.02, "settled after three seconds: {told:?}");
    assert!(room.longest_queue < 1.0, "{}", room.longest_queue);
    room.bad.viewer.link.rate = 3e6;
    room.run(10.0);
    assert_eq!(layer(&room), Some(2), "back within ten seconds: {:?}", room.told(10.0));
}

#[test]
fn another_address_in_the_middle_is_followed() {
    let mut room = Room::new(2, (10.0, 15.0), bad_dsl());
    room.run(10.0);
    // A router forgets where the packets went: the next check comes from elsewhere.
    room.bad.viewer.client.address = "127.0.0.1:1999".parse().unwrap();
    room.run(0.4);
    assert!(room.bad.viewer.client.check(&mut room.world, true));
    room.run(10.0);
    let told = room.told(10.3);
    assert!(told.freeze < 1.5 && told.frames > 60, "{told:?}");
}

#[test]
fn who_only_names_a_bandwidth_gets_what_fits_and_finds_out_about_more() {
    let mut room = Room::new(3, (10.0, 15.0), Link { queue: 300 * MS, ..Link::of(600e3) });
    room.bad.viewer.transport_wide = false;
    room.run(30.0);
    let told = room.told(20.0);
    assert!(told.freeze < 1.0 && told.concealed < 0.02, "{told:?}");
    room.bad.viewer.link.rate = 5e6;
    room.run(90.0);
    assert_eq!(room.bad.picture(0).shown.last().map(|(_, layer)| *layer), Some(2), "{:?}", room.told(90.0));
}

#[test]
fn nothing_is_upgraded_that_no_probe_has_shown_to_fit() {
    for (rate, highest) in [(1.2e6, 1), (3e6, 2), (8e6, 2)] {
        let mut room = Room::new(2, (10.0, 15.0), Link { queue: 300 * MS, ..Link::of(rate) });
        let start = room.world.now;
        room.run(30.0);
        let key = room.world.engine.by_transport[&room.bad.viewer.client.transport];
        let proofs = room.world.engine.peers[key].bandwidth.proofs.clone();
        let (mut before, mut upgrades) = (0, 0);
        for &(at, layer) in &room.bad.picture(0).shown {
            if layer > before {
                let at = start + std::time::Duration::from_micros(at);
                let needed = encoder::LAYERS[usize::from(layer)] as u64;
                let proved = proofs.iter().any(|(proved, bits)| *proved < at && *bits >= needed);
                assert!(proved, "{rate}: layer {layer}, {:?} from the beginning; {proofs:?}", at - start);
                upgrades += 1;
            }
            before = layer;
        }
        assert!(upgrades > 0 && before >= highest, "{rate}: {before} {:?}", room.told(30.0));
    }
    // The same with room for everything, where probes do not arrive: nobody knows of the room.
    let mut room = Room::new(2, (10.0, 15.0), Link { queue: 300 * MS, ..Link::of(8e6) });
    room.bad.viewer.loses_repairs = true;
    room.run(30.0);
    let shown = &room.bad.picture(0).shown;
    assert!(shown.len() > 100 && shown.iter().all(|(_, layer)| *layer == 0), "{:?}", room.told(30.0));
    room.bad.viewer.loses_repairs = false;
    room.run(30.0);
    assert_eq!(room.bad.picture(0).shown.last().map(|(_, layer)| *layer), Some(2), "{:?}", room.told(30.0));
}
