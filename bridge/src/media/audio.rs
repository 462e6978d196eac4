//! Whose voices are forwarded in a large room: the loudest. Audio packets are small and gain little from being sent in
//! runs, so a hundred open microphones of silent people would cost more than the pictures.
//!
//! Pure: it sees each voice's packets with their levels (RFC 6464) and says which to forward. A voice that begins to speak
//! is taken with the very packet that is loud enough, so that no syllable is lost while there is a place; where all places
//! are taken by people who speak, the louder one takes the place of the quietest.

use std::time::{Duration, Instant};

use smallvec::SmallVec;

/// Voices forwarded at the same time in a large room, unless configured.
pub(crate) const LOUDEST: u16 = 4;
/// In rooms of up to this many open microphones everybody is forwarded, unless configured.
pub(crate) const SMALL_ROOM: u16 = 10;
/// Places that there is room for from the beginning.
const PLACES: usize = 2 * LOUDEST as usize;
/// A packet of at least this level is speech, dB above silence (127 − the extension's −dBov): −50 dBov.
const SPEECH: u8 = 77;
/// Who was silent for this long gives up the place.
const HOLD: Duration = Duration::from_secs(2);
/// How much louder one must be to take the place of somebody who speaks, dB.
const MARGIN: f32 = 3.0;
/// How fast loudness is forgotten, dB per packet (20 ms): a word's end is not the speaker's end.
const DECAY: f32 = 0.5;

/// Who is heard in which rooms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Hearing {
    /// So many of the loudest in a large room, and as many who spoke a moment ago; 0: everybody.
    pub(crate) loudest: u16,
    /// In rooms of up to this many open microphones everybody.
    pub(crate) small_room: u16,
}

impl Default for Hearing {
    fn default() -> Self {
        Self { loudest: LOUDEST, small_room: SMALL_ROOM }
    }
}

impl Hearing {
    /// How many are heard in a room of so many open microphones; `None`: everybody.
    pub(crate) fn places(self, microphones: usize) -> Option<usize> {
        let large = microphones > usize::from(self.small_room) && self.loudest > 0;
        large.then_some(2 * usize::from(self.loudest))
    }
}

/// One that is forwarded.
#[derive(Clone, Copy, Debug)]
struct Place {
    track: usize,
    /// dB above silence, at once up and slowly down.
    loudness: f32,
    until: Instant,
}

/// What to do with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It goes to the subscribers.
    Forward,
    /// It does not.
    Hold,
}

/// A room's voices.
#[derive(Clone, Default, Debug)]
pub(crate) struct Voices {
    places: SmallVec<[Place; PLACES]>,
}

impl Voices {
    /// A packet of a track with its audio level as the extension has it (the highest bit is not used), in a room where so many
    /// are heard.
    pub(crate) fn packet(&mut self, now: Instant, track: usize, level: u8, places: usize) -> Verdict {
        let loud = 127 - (level & 0x7f);
        let speaks = loud >= SPEECH;
        if let Some(at) = self.places.iter().position(|place| place.track == track) {
            let place = &mut self.places[at];
            place.loudness = f32::from(loud).max(place.loudness - DECAY);
            if speaks {
                place.until = now + HOLD;
            } else if place.until < now {
                self.places.swap_remove(at);
                return Verdict::Hold;
            }
            return Verdict::Forward;
        }
        if !speaks {
            return Verdict::Hold;
        }
        let new = Place { track, loudness: f32::from(loud), until: now + HOLD };
        if self.places.len() < places {
            self.places.push(new);
            return Verdict::Forward;
        }
        // Somebody who stopped sending, else the quietest.
        let weakest = self.places.iter_mut().min_by(|a, b| {
            let rank = |place: &Place| if place.until < now { f32::MIN } else { place.loudness };
            rank(a).total_cmp(&rank(b))
        });
        match weakest {
            Some(place) if place.until < now || place.loudness + MARGIN <= new.loudness => {
                *place = new;
                Verdict::Forward
            }
            _ => Verdict::Hold,
        }
    }

    /// A track is gone or muted.
    pub(crate) fn remove(&mut self, track: usize) {
        self.places.retain(|place| place.track != track);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Forward, Hold};
    use proptest::prelude::*;

    impl Voices {
        fn hear(&mut self, now: Instant, track: usize, level: u8) -> Verdict {
            self.packet(now, track, level, PLACES)
        }
    }

    const PACKET: Duration = Duration::from_millis(20);
    const SILENCE: u8 = 127;

    #[test]
    fn the_first_loud_packet_goes_through_and_pauses_between_words_too() {
        let (mut voices, mut now) = (Voices::default(), Instant::now());
        assert_eq!(voices.hear(now, 1, 90), Hold, "background noise");
        assert_eq!(voices.hear(now, 1, 45), Forward, "a first quiet syllable");
        for _ in 0..100 {
            now += PACKET;
            assert_eq!(voices.hear(now, 1, SILENCE), Forward);
        }
        now += PACKET;
        assert_eq!(voices.hear(now, 1, SILENCE), Hold, "silent for longer than two seconds");
    }

    #[test]
    fn the_louder_one_takes_the_place_of_the_quietest() {
        let (mut voices, now) = (Voices::default(), Instant::now());
        for track in 0..PLACES {
            assert_eq!(voices.hear(now, track, 30 + track as u8), Forward);
        }
        assert_eq!(voices.hear(now, 50, 36), Hold, "hardly louder than the quietest (37)");
        assert_eq!(voices.hear(now, 50, 34), Forward);
        assert_eq!(voices.hear(now, PLACES - 1, 37), Hold, "the quietest gave way");
        assert_eq!(voices.hear(now, 0, 30), Forward);
    }

    #[test]
    fn who_stopped_sending_leaves_a_place() {
        let (mut voices, now) = (Voices::default(), Instant::now());
        for track in 0..PLACES {
            voices.hear(now, track, 5);
        }
        assert_eq!(voices.hear(now + HOLD, 50, 40), Hold);
        assert_eq!(voices.hear(now + HOLD + PACKET, 50, 40), Forward);
        voices.remove(50);
        assert_eq!(voices.hear(now + HOLD + PACKET, 51, 49), Forward);
    }

    #[test]
    fn as_many_are_heard_as_configured() {
        let places = |loudest, small_room, microphones| Hearing { loudest, small_room }.places(microphones);
        assert_eq!((places(4, 10, 10), places(4, 10, 11)), (None, Some(8)));
        assert_eq!((places(1, 0, 0), places(1, 0, 1)), (None, Some(2)));
        assert_eq!(places(0, 10, 1000), None);
    }

    proptest! {
        #[test]
        fn never_more_than_there_are_places_and_the_loudest_is_heard(
            packets in proptest::collection::vec((0usize..40, 0u8..=255), 1..2000),
            places in 1usize..30,
        ) {
            let (mut voices, mut now) = (Voices::default(), Instant::now());
            for (track, level) in packets {
                now += Duration::from_micros(500);
                let loudest = voices.places.iter().map(|place| place.loudness).fold(0.0, f32::max);
                let verdict = voices.packet(now, track, level, places);
                prop_assert!(voices.places.len() <= places);
                let loud = f32::from(127 - (level & 0x7f));
                if loud >= loudest + MARGIN && loud >= f32::from(SPEECH) {
                    prop_assert_eq!(verdict, Forward);
                }
            }
        }
    }
}
