//! Who is moved next: pure.
//!
//! A batch takes people from as many rooms as it can, so that no meeting is shaken as a whole, and of each room first those
//! whom fewest would miss: listeners, then speakers, then who shows a screen.

use std::collections::HashMap;

use livekit_protocol::TrackSource;

use crate::room::{Identity, Participant, ParticipantSid, RoomName, RoomSid};

/// How much others would miss somebody while it is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Part {
    /// Publishes nothing that is on.
    Listens,
    /// Has a microphone or camera on.
    Speaks,
    /// Shows a screen.
    Presents,
}

impl Part {
    pub(super) fn of(participant: &Participant) -> Self {
        let on = participant.tracks.iter().filter(|track| !track.muted);
        on.map(|track| match track.source() {
            TrackSource::ScreenShare | TrackSource::ScreenShareAudio => Self::Presents,
            _ => Self::Speaks,
        })
        .max()
        .unwrap_or(Self::Listens)
    }
}

/// Somebody who sits on this bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) room: RoomSid,
    pub(super) room_name: RoomName,
    pub(super) sid: ParticipantSid,
    pub(super) identity: Identity,
    pub(super) part: Part,
}

/// The next `size` people: one of each room, then a second one of each, and of every part all before the next.
pub(super) fn batch(mut people: Vec<Person>, size: usize) -> Vec<Person> {
    people.sort_by(|a, b| (a.part, &a.sid).cmp(&(b.part, &b.sid)));
    let mut before: HashMap<(RoomSid, Part), usize> = HashMap::new();
    let mut turns: Vec<(Part, usize, Person)> = Vec::with_capacity(people.len());
    for person in people {
        let turn = before.entry((person.room.clone(), person.part)).or_default();
        turns.push((person.part, *turn, person));
        *turn += 1;
    }
    // Stable: people of the same turn stay in their order.
    turns.sort_by_key(|(part, turn, _)| (*part, *turn));
    turns.into_iter().take(size).map(|(_, _, person)| person).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(room: &str, sid: &str, part: Part) -> Person {
        Person { room: room.into(), room_name: room.into(), sid: sid.into(), identity: sid.into(), part }
    }

    fn sids(people: &[Person]) -> Vec<&str> {
        people.iter().map(|person| person.sid.as_str()).collect()
    }

    #[test]
    fn spread_over_rooms() {
        let mut people: Vec<Person> = (0..30).map(|n| person("groß", &format!("g{n:02}"), Part::Listens)).collect();
        people.extend((0..2).map(|n| person("klein", &format!("k{n}"), Part::Listens)));
        people.push(person("einer", "e0", Part::Listens));
        assert_eq!(sids(&batch(people, 6)), ["e0", "g00", "k0", "g01", "k1", "g02"]);
    }

    #[test]
    fn presenters_last() {
        let people = vec![
            person("a", "bildschirm", Part::Presents),
            person("a", "redner", Part::Speaks),
            person("b", "zuhörer", Part::Listens),
            person("b", "rednerin", Part::Speaks),
        ];
        assert_eq!(sids(&batch(people.clone(), 3)), ["zuhörer", "redner", "rednerin"]);
        assert_eq!(sids(&batch(people, 9)).last(), Some(&"bildschirm"));
        assert!(batch(vec![], 10).is_empty());
    }

    #[test]
    fn everybody_is_moved_once_whatever_the_batches() {
        let mut left: Vec<Person> = (0..100)
            .map(|n| {
                let part = [Part::Listens, Part::Speaks, Part::Presents][n % 3];
                person(&format!("raum {}", n % 7), &format!("p{n:03}"), part)
            })
            .collect();
        let mut moved = Vec::new();
        while !left.is_empty() {
            let next = batch(left.clone(), 10);
            assert!(!next.is_empty() && next.len() <= 10);
            left.retain(|person| !next.contains(person));
            moved.extend(next);
        }
        assert!(moved.windows(2).all(|pair| pair[0].part <= pair[1].part));
        assert_eq!(moved.len(), 100);
    }
}
