//! Voices of a large room: the loudest are forwarded, from their first syllable on and without a gap in the numbers.

use super::super::super::audio::{Hearing, SMALL_ROOM};
use super::super::super::control::*;
use super::super::super::simulation::*;

const PACKETS_PER_SECOND: u16 = 50;
const SILENCE: u8 = 100;
const SPEECH: u8 = 30;
const SMALL: usize = SMALL_ROOM as usize;

/// A room of open microphones, and one who listens to all of them.
struct Hall {
    world: World,
    publisher: Client,
    tracks: Vec<TrackId>,
    next: Vec<u16>,
    listener: Client,
    legs: Vec<SendSection>,
}

impl Hall {
    fn new(microphones: usize) -> Self {
        let mut world = World::new();
        let publisher = Client::connect(&mut world, "127.0.0.1:1001");
        let tracks: Vec<TrackId> = (0..microphones).map(|_| TrackId::next()).collect();
        let section = |(number, &track): (usize, &TrackId)| sound_section(number, track, 100 + number as u32);
        publisher.negotiate(&mut world, tracks.iter().enumerate().map(section).collect(), vec![]);
        let mut listener = Client::connect(&mut world, "127.0.0.1:1002");
        let legs: Vec<SendSection> =
            tracks.iter().enumerate().map(|(number, &track)| leg(track, Kind::Audio, &number.to_string())).collect();
        listener.negotiate(&mut world, vec![], legs.clone());
        listener.receive(&mut world);
        Self { world, publisher, next: vec![0; microphones], tracks, listener, legs }
    }

    /// 20 ms: everybody's packet, with the levels of those who speak.
    fn moment(&mut self, levels: &[(usize, u8)]) {
        for number in 0..self.tracks.len() {
            let level = levels.iter().find(|(who, _)| *who == number).map_or(SILENCE, |(_, level)| *level);
            let sequence = self.next[number];
            self.next[number] += 1;
            let packet = self.publisher.spoken(100 + number as u32, sequence, level);
            self.world.send(self.publisher.address, packet);
        }
        self.world.pass(20 * MS);
    }

    /// What the listener got: (microphone, sequence number, timestamp).
    fn heard(&mut self) -> Vec<(usize, u16, u32)> {
        let (packets, _) = self.listener.receive(&mut self.world);
        let number = |ssrc| self.legs.iter().position(|leg| leg.ssrc == ssrc).expect("a leg");
        packets.iter().map(|got| (number(got.header.ssrc), got.header.sequence, got.header.timestamp)).collect()
    }
}

#[test]
fn everybody_is_heard_in_a_small_room() {
    let mut hall = Hall::new(SMALL);
    hall.moment(&[]);
    assert_eq!(hall.heard().len(), SMALL, "silence too");
}

#[test]
fn in_a_large_room_the_speaker_is_heard_from_the_first_packet_on_and_without_gaps() {
    let mut hall = Hall::new(40);
    (0..10).for_each(|_| hall.moment(&[]));
    assert_eq!(hall.heard(), []);
    (0..10).for_each(|_| hall.moment(&[(7, SPEECH)]));
    let first = hall.heard();
    assert_eq!(first.len(), 10);
    assert!(first.iter().all(|(who, ..)| *who == 7));
    // A pause longer than the place is held, then again: the numbers go on, the timestamp knows of the pause.
    (0..3 * PACKETS_PER_SECOND).for_each(|_| hall.moment(&[]));
    let after = hall.heard().len() as u32;
    assert!((100..=101).contains(&after), "two seconds of background: {after}");
    (0..5).for_each(|_| hall.moment(&[(7, SPEECH)]));
    let again = hall.heard();
    assert_eq!(again.len(), 5);
    let (_, sequence, timestamp) = first[9];
    assert_eq!(again[0].1, sequence.wrapping_add(after as u16 + 1));
    assert_eq!(again[0].2.wrapping_sub(timestamp), 960 * (1 + 3 * u32::from(PACKETS_PER_SECOND)));
}

#[test]
fn as_many_are_heard_as_configured_from_the_configured_size_on() {
    let speaking: Vec<(usize, u8)> = (0..12).map(|who| (who, SPEECH)).collect();
    for (loudest, small_room, expected) in [(2, 0, 4), (5, 11, 10), (5, 12, 12), (0, 0, 12)] {
        let mut hall = Hall::new(12);
        hall.world.engine.hearing = Hearing { loudest, small_room };
        hall.moment(&speaking);
        assert_eq!(hall.heard().len(), expected, "{loudest} of more than {small_room}");
    }
}

#[test]
fn who_is_exempt_is_always_heard() {
    let mut hall = Hall::new(40);
    hall.world.command(Command::ExemptTrack { track: hall.tracks[3], exempt: true });
    (0..20).for_each(|_| hall.moment(&[]));
    let heard = hall.heard();
    assert_eq!(heard.len(), 20);
    assert!(heard.iter().all(|(who, ..)| *who == 3));
}

#[test]
fn muting_makes_a_large_room_small() {
    let mut hall = Hall::new(SMALL + 1);
    hall.moment(&[]);
    assert_eq!(hall.heard(), []);
    hall.world.command(Command::MuteTrack { track: hall.tracks[0], muted: true });
    hall.moment(&[]);
    assert_eq!(hall.heard().len(), SMALL);
    hall.world.command(Command::MuteTrack { track: hall.tracks[0], muted: false });
    hall.moment(&[]);
    assert_eq!(hall.heard(), []);
}
