//! One room on the workers that carry it. It begins on one; when that has many of its participants, the next ones are seated
//! on others, which are told what is published in the room.
//!
//! Whoever sends a command sends it to the worker of its seat; what concerns the whole room is passed on to the others
//! from here. Order is kept by one short lock per room, which no media packet ever sees.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;

use super::control::{Command, ExtensionIds, Mirror, ReceiveSection, RoomId, TrackId, TransportId};
use super::handle::{Input, WorkerHandle};

/// A room and its workers.
#[derive(Debug)]
pub(super) struct Spread {
    pub(super) room: RoomId,
    workers: Arc<[Arc<WorkerHandle>]>,
    /// The worker on which it began, where it is looked for who speaks, and where other bridges are connected.
    home: usize,
    /// Participants on one worker before the next takes more; 0 is no limit.
    full: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Workers on which the room is open, with the participants seated there.
    seats: SmallVec<[(usize, usize); 2]>,
    relays: HashSet<TransportId>,
    published: BTreeMap<TransportId, Published>,
    /// What was said of tracks, the last of each kind.
    said: HashMap<TrackId, SmallVec<[Command; 2]>>,
}

/// What comes on a transport.
#[derive(Clone, Debug)]
struct Published {
    worker: usize,
    relayed: bool,
    extensions: ExtensionIds,
    receive: Vec<ReceiveSection>,
}

impl Published {
    fn mirror(&self, room: RoomId, transport: TransportId) -> Input {
        let Self { worker, relayed, extensions, receive } = self.clone();
        Input::Command(Command::Mirror(Box::new(Mirror { transport, room, worker, relayed, extensions, receive })))
    }
}

/// The track that a command says something of which all workers have to know.
fn concerns(command: &Command) -> Option<TrackId> {
    match command {
        Command::DescribeTrack { track, .. }
        | Command::MuteTrack { track, .. }
        | Command::ExemptTrack { track, .. }
        | Command::EncryptedTrack { track } => Some(*track),
        _ => None,
    }
}

impl Spread {
    /// Opens the room on the worker with the fewest participants.
    pub(super) fn new(room: RoomId, workers: Arc<[Arc<WorkerHandle>]>, full: usize) -> Self {
        let busy = |worker: &WorkerHandle| (worker.seats.load(Ordering::Relaxed), worker.rooms.load(Ordering::Relaxed));
        let home = (0..workers.len()).min_by_key(|&number| busy(&workers[number])).unwrap_or_default();
        let this = Self { room, workers, home, full, state: Mutex::default() };
        this.open(&mut this.state(), home);
        this
    }

    pub(super) fn home(&self) -> usize {
        self.home
    }

    pub(super) fn worker(&self, number: usize) -> &WorkerHandle {
        &self.workers[number]
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the room on one more worker, and tells it what there is.
    fn open(&self, state: &mut State, number: usize) {
        let worker = self.worker(number);
        worker.rooms.fetch_add(1, Ordering::Relaxed);
        worker.send(Input::Command(Command::OpenRoom { room: self.room }));
        state.seats.push((number, 0));
        state.published.iter().for_each(|(transport, there)| worker.send(there.mirror(self.room, *transport)));
        state.said.values().flatten().for_each(|said| worker.send(Input::Command(said.clone())));
    }

    /// A worker for one more participant.
    pub(super) fn seat(&self) -> usize {
        let mut state = self.state();
        let seated = |number: usize| state.seats.iter().find(|(other, _)| *other == number).map_or(0, |seats| seats.1);
        // On those that have the room already, the first with a place; else on the one with the fewest people.
        let has_place = |seats: usize| self.full == 0 || seats < self.full;
        let open = state.seats.iter().find(|(_, seats)| has_place(*seats)).map(|(number, _)| *number);
        let least = |number: &usize| (self.workers[*number].seats.load(Ordering::Relaxed), seated(*number));
        let chosen = open.or_else(|| (0..self.workers.len()).min_by_key(least)).unwrap_or(self.home);
        if !state.seats.iter().any(|(number, _)| *number == chosen) {
            self.open(&mut state, chosen);
        }
        self.worker(chosen).seats.fetch_add(1, Ordering::Relaxed);
        state.seats.iter_mut().filter(|(number, _)| *number == chosen).for_each(|(_, seats)| *seats += 1);
        chosen
    }

    /// A participant has left.
    pub(super) fn unseat(&self, worker: usize) {
        self.worker(worker).seats.fetch_sub(1, Ordering::Relaxed);
        self.state().seats.iter_mut().filter(|(number, _)| *number == worker).for_each(|(_, seats)| *seats -= 1);
    }

    /// A command from somebody who sits on a worker.
    pub(super) fn send(&self, from: usize, command: Command) {
        let own = self.worker(from);
        if self.workers.len() == 1 {
            return own.send(Input::Command(command));
        }
        let mut state = self.state();
        let others: SmallVec<[usize; 4]> =
            state.seats.iter().map(|(number, _)| *number).filter(|number| *number != from).collect();
        let others = others.iter().map(|number| self.worker(*number));
        match command {
            Command::Negotiated { transport, ref receive, extensions, .. } => {
                let before = state.published.remove(&transport);
                let gone = before.iter().flat_map(|before| &before.receive).map(|section| section.track);
                let gone: Vec<_> = gone.filter(|track| !receive.iter().any(|now| now.track == *track)).collect();
                gone.iter().for_each(|track| drop(state.said.remove(track)));
                let known = before.is_some();
                let receive = receive.clone();
                own.send(Input::Command(command));
                if receive.is_empty() && !known {
                    return;
                }
                let relayed = state.relays.contains(&transport);
                let there = Published { worker: from, relayed, extensions, receive };
                others.for_each(|worker| worker.send(there.mirror(self.room, transport)));
                if !there.receive.is_empty() {
                    state.published.insert(transport, there);
                }
            }
            Command::CloseTransport { transport } => {
                state.relays.remove(&transport);
                if let Some(before) = state.published.remove(&transport) {
                    before.receive.iter().for_each(|section| drop(state.said.remove(&section.track)));
                    others.for_each(|worker| worker.send(Input::Command(command.clone())));
                }
                own.send(Input::Command(command));
            }
            _ => {
                if let Command::OpenRelay { transport, .. } = command {
                    state.relays.insert(transport);
                }
                if let Some(track) = concerns(&command) {
                    let said = state.said.entry(track).or_default();
                    said.retain(|said| std::mem::discriminant(said) != std::mem::discriminant(&command));
                    said.push(command.clone());
                    others.for_each(|worker| worker.send(Input::Command(command.clone())));
                }
                own.send(Input::Command(command));
            }
        }
    }
}

impl Drop for Spread {
    fn drop(&mut self) {
        let state = std::mem::take(self.state.get_mut().unwrap_or_else(PoisonError::into_inner));
        for (number, _) in state.seats {
            let worker = self.worker(number);
            worker.rooms.fetch_sub(1, Ordering::Relaxed);
            worker.send(Input::Command(Command::CloseRoom { room: self.room }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use super::super::control::{Kind, ReceiveSection};
    use super::super::handle::{Media, MediaRoom};
    use super::*;

    struct House {
        media: Media,
        queues: Vec<Receiver<Input>>,
    }

    impl House {
        fn new(workers: u16, spread: usize) -> Self {
            let addresses: Vec<_> = (0..workers).map(|n| vec![([192, 0, 2, 1], 7882 + n).into()]).collect();
            let (media, queues) = Media::watched_workers("00", &addresses, spread);
            Self { media, queues }
        }

        /// What a worker was told since.
        fn told(&self, worker: usize) -> Vec<Command> {
            let commands = self.queues[worker].try_iter().filter_map(|input| match input {
                Input::Command(command) => Some(command),
                _ => None,
            });
            commands.collect()
        }
    }

    /// On which worker a participant is.
    fn at(seat: &MediaRoom) -> usize {
        usize::from(seat.candidates()[0].port() - 7882)
    }

    fn publishes(transport: TransportId, tracks: &[TrackId]) -> Command {
        let section = |track: &TrackId| ReceiveSection {
            mid: "1".into(),
            track: *track,
            kind: Kind::Audio,
            payload_types: vec![],
            rids: vec![],
            ssrcs: vec![],
        };
        let receive = tracks.iter().map(section).collect();
        Command::Negotiated { transport, extensions: ExtensionIds::default(), receive, send: vec![] }
    }

    fn mirrored(command: &Command) -> Option<(TransportId, usize, Vec<TrackId>)> {
        let Command::Mirror(mirror) = command else { return None };
        Some((mirror.transport, mirror.worker, mirror.receive.iter().map(|section| section.track).collect()))
    }

    #[test]
    fn one_worker_is_filled_before_the_next() {
        let house = House::new(3, 2);
        let (room, _events) = house.media.open_room();
        let home = at(&room);
        let mut seats: Vec<_> = (0..5).map(|_| room.seat()).collect();
        let workers: Vec<_> = seats.iter().map(at).collect();
        let (second, third) = (workers[2], workers[4]);
        assert_eq!(workers, [home, home, second, second, third]);
        assert_eq!(BTreeMap::from([(home, ()), (second, ()), (third, ())]).len(), 3);
        drop(seats.remove(1));
        assert_eq!(at(&room.seat().clone()), home, "a place is free again");
        // Another room begins where the fewest people are.
        let (other, _events) = house.media.open_room();
        assert_eq!(at(&other), third.min(home));
        let (small, _events) = House::new(3, 0).media.open_room();
        let seats: Vec<_> = (0..9).map(|_| small.seat()).collect();
        assert!(seats.iter().all(|seat| at(seat) == at(&small)), "0 keeps rooms on one");
    }

    #[test]
    fn each_worker_is_told_what_the_others_publish() {
        let house = House::new(2, 1);
        let (room, _events) = house.media.open_room();
        let (first, home) = (room.seat(), at(&room));
        let (transport, track, more) = (TransportId::next(), TrackId::next(), TrackId::next());
        first.send(publishes(transport, &[track]));
        room.send(Command::MuteTrack { track, muted: true });
        room.send(Command::MuteTrack { track, muted: false });
        room.send(Command::ExemptTrack { track, exempt: true });
        assert!(house.told(1 - home).is_empty(), "there is one worker as long as one suffices");
        let second = room.seat();
        let told = house.told(1 - home);
        assert_eq!(told[0], Command::OpenRoom { room: room.id() });
        assert_eq!(mirrored(&told[1]), Some((transport, home, vec![track])));
        assert_eq!(
            told[2..],
            [Command::MuteTrack { track, muted: false }, Command::ExemptTrack { track, exempt: true }],
            "the last word of each kind"
        );
        house.told(home);

        first.send(publishes(transport, &[track, more]));
        assert_eq!(
            house.told(1 - home).iter().filter_map(mirrored).collect::<Vec<_>>(),
            [(transport, home, vec![track, more])]
        );
        assert!(matches!(house.told(home)[..], [Command::Negotiated { .. }]));
        let (other, theirs) = (TransportId::next(), TrackId::next());
        second.send(publishes(other, &[theirs]));
        assert_eq!(house.told(home).iter().filter_map(mirrored).collect::<Vec<_>>(), [(other, 1 - home, vec![theirs])]);
        assert!(matches!(house.told(1 - home)[..], [Command::Negotiated { .. }]));
        // Whoever says it, the room's workers know it.
        room.send(Command::MuteTrack { track: theirs, muted: true });
        assert_eq!((house.told(home).len(), house.told(1 - home).len()), (1, 1));
        // Who publishes nothing concerns nobody else.
        let listener = TransportId::next();
        first.send(publishes(listener, &[]));
        first.send(Command::CloseTransport { transport: listener });
        assert_eq!((house.told(home).len(), house.told(1 - home).len()), (2, 0));
        first.send(Command::CloseTransport { transport });
        assert_eq!(house.told(1 - home), [Command::CloseTransport { transport }]);
        house.told(home);

        let id = room.id();
        drop((room, first, second));
        assert_eq!(house.told(home), [Command::CloseRoom { room: id }]);
        assert_eq!(house.told(1 - home), [Command::CloseRoom { room: id }]);
    }

    #[test]
    fn what_another_bridge_brings_is_told_as_such() {
        use super::super::control::{RelayKey, RelayParameters};
        let house = House::new(2, 1);
        let (room, _events) = house.media.open_room();
        let (transport, track) = (TransportId::next(), TrackId::next());
        let (seal, open) = (RelayKey::random(), RelayKey::random());
        let parameters = RelayParameters { remote: vec![], seal, open, listen_ssrc: 1, report_ssrc: 2, limit: None };
        room.send(Command::OpenRelay { transport, room: room.id(), parameters: Box::new(parameters) });
        room.send(publishes(transport, &[track]));
        let _seats = [room.seat(), room.seat()];
        let told = house.told(1 - at(&room));
        assert!(
            matches!(&told[1], Command::Mirror(mirror) if mirror.relayed && mirror.transport == transport),
            "{told:?}"
        );
    }
}
