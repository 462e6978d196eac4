//! One room on the workers that carry it. It begins on one; when that has many of its participants, the next ones are seated
//! on others, which are told what is published in the room.
//!
//! Whoever sends a command sends it to the worker of its seat; what concerns the whole room is passed on to the others
//! from here. Order is kept by one short lock per room, which no media packet ever sees.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use smallvec::SmallVec;

use super::control::{Command, RoomId, TrackId, TransportId};
use super::engine::{Mirror, Word};
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
    published: BTreeMap<TransportId, Mirror>,
    /// What was said of tracks, the last of each kind.
    said: HashMap<TrackId, SmallVec<[Command; 2]>>,
    /// Rooms whose tracks are sent to participants of this one, too.
    sources: Vec<Weak<Spread>>,
}

/// What a worker is told of what is published at another one.
fn mirrored(mirror: &Mirror) -> Input {
    Input::Word(Word::Mirror(Box::new(mirror.clone())))
}

impl State {
    /// What is published on a transport from now on; false if that is nothing, as before.
    fn remember(&mut self, mirror: &Mirror) -> bool {
        let before = self.published.remove(&mirror.transport);
        let was = before.iter().flat_map(|before| &before.receive).map(|section| section.track);
        for gone in was.filter(|track| !mirror.receive.iter().any(|section| section.track == *track)) {
            self.said.remove(&gone);
        }
        let publishes = !mirror.receive.is_empty();
        if publishes {
            self.published.insert(mirror.transport, mirror.clone());
        }
        publishes || before.is_some()
    }

    /// A transport is closed; whether anything was published on it.
    fn forget(&mut self, transport: TransportId) -> bool {
        self.relays.remove(&transport);
        let before = self.published.remove(&transport);
        for section in before.iter().flat_map(|before| &before.receive) {
            self.said.remove(&section.track);
        }
        before.is_some()
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
        state.published.values().for_each(|mirror| worker.send(mirrored(mirror)));
        state.said.values().flatten().for_each(|said| worker.send(Input::Command(said.clone())));
    }

    /// A worker for one more participant.
    pub(super) fn seat(&self) -> usize {
        let (chosen, sources) = self.choose();
        // Not while this room is locked: rooms may be each other's sources.
        sources.iter().filter_map(Weak::upgrade).for_each(|source| source.carry(chosen));
        chosen
    }

    /// The worker for one more participant, and the sources it has to carry from now on.
    fn choose(&self) -> (usize, Vec<Weak<Self>>) {
        let mut state = self.state();
        let seated = |number: usize| state.seats.iter().find(|(other, _)| *other == number).map_or(0, |seats| seats.1);
        // On those that have the room already, the first with a place; else on the one with the fewest people.
        let has_place = |seats: usize| self.full == 0 || seats < self.full;
        let open = state.seats.iter().find(|(_, seats)| has_place(*seats)).map(|(number, _)| *number);
        let least = |number: &usize| (self.workers[*number].seats.load(Ordering::Relaxed), seated(*number));
        let chosen = open.or_else(|| (0..self.workers.len()).min_by_key(least)).unwrap_or(self.home);
        let mut sources = Vec::new();
        if !state.seats.iter().any(|(number, _)| *number == chosen) {
            self.open(&mut state, chosen);
            sources.clone_from(&state.sources);
        }
        self.worker(chosen).seats.fetch_add(1, Ordering::Relaxed);
        state.seats.iter_mut().filter(|(number, _)| *number == chosen).for_each(|(_, seats)| *seats += 1);
        (chosen, sources)
    }

    /// What is published in another room can be sent to participants of this one from now on, whichever worker they are on.
    pub(super) fn borrow_from(&self, source: &Arc<Self>) {
        let workers: SmallVec<[usize; 4]> = {
            let mut state = self.state();
            state.sources.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&Arc::downgrade(source)));
            state.sources.push(Arc::downgrade(source));
            state.seats.iter().map(|(number, _)| *number).collect()
        };
        workers.into_iter().for_each(|number| source.carry(number));
    }

    /// The worker has to know what is published in this room, as if somebody were seated there. It does until the room ends.
    fn carry(&self, number: usize) {
        let mut state = self.state();
        if !state.seats.iter().any(|(known, _)| *known == number) {
            self.open(&mut state, number);
        }
    }

    /// A participant has left.
    pub(super) fn unseat(&self, worker: usize) {
        self.worker(worker).seats.fetch_sub(1, Ordering::Relaxed);
        self.state().seats.iter_mut().filter(|(number, _)| *number == worker).for_each(|(_, seats)| *seats -= 1);
    }

    /// A command from somebody who sits on a worker.
    pub(super) fn send(&self, from: usize, command: Command) {
        let own = self.worker(from);
        let concerns_others = match &command {
            Command::Negotiated { .. } | Command::CloseTransport { .. } | Command::OpenRelay { .. } => true,
            other => concerns(other).is_some(),
        };
        if self.workers.len() == 1 || !concerns_others {
            return own.send(Input::Command(command));
        }
        let mut state = self.state();
        let others: SmallVec<[usize; 4]> =
            state.seats.iter().map(|(number, _)| *number).filter(|number| *number != from).collect();
        let others = others.iter().map(|number| self.worker(*number));
        match command {
            Command::Negotiated { transport, ref receive, extensions, .. } => {
                let (room, relayed) = (self.room, state.relays.contains(&transport));
                let mirror = Mirror { transport, room, worker: from, relayed, extensions, receive: receive.clone() };
                // Before others can ask for anything of it.
                own.send(Input::Command(command));
                if state.remember(&mirror) {
                    others.for_each(|worker| worker.send(mirrored(&mirror)));
                }
            }
            Command::CloseTransport { transport } => {
                if state.forget(transport) {
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

    use super::super::control::{ExtensionIds, Kind, ReceiveSection};
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

        /// What a worker was told since: commands, and what others publish.
        fn told(&self, worker: usize) -> (Vec<Command>, Vec<Mirror>) {
            let (mut commands, mut mirrors) = (Vec::new(), Vec::new());
            for input in self.queues[worker].try_iter() {
                match input {
                    Input::Command(command) => commands.push(command),
                    Input::Word(Word::Mirror(mirror)) => mirrors.push(*mirror),
                    _ => {}
                }
            }
            (commands, mirrors)
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

    fn what(mirrors: &[Mirror]) -> Vec<(TransportId, usize, Vec<TrackId>)> {
        let tracks = |mirror: &Mirror| mirror.receive.iter().map(|section| section.track).collect();
        mirrors.iter().map(|mirror| (mirror.transport, mirror.worker, tracks(mirror))).collect()
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
        assert_eq!(house.told(1 - home), (vec![], vec![]), "there is one worker as long as one suffices");
        let second = room.seat();
        let (commands, mirrors) = house.told(1 - home);
        assert_eq!(what(&mirrors), [(transport, home, vec![track])]);
        let (open, exempt) = (Command::OpenRoom { room: room.id() }, Command::ExemptTrack { track, exempt: true });
        let said = [open, Command::MuteTrack { track, muted: false }, exempt];
        assert_eq!(commands, said, "the last word of each kind");
        house.told(home);

        first.send(publishes(transport, &[track, more]));
        assert_eq!(what(&house.told(1 - home).1), [(transport, home, vec![track, more])]);
        assert!(matches!(house.told(home).0[..], [Command::Negotiated { .. }]));
        let (other, theirs) = (TransportId::next(), TrackId::next());
        second.send(publishes(other, &[theirs]));
        assert_eq!(what(&house.told(home).1), [(other, 1 - home, vec![theirs])]);
        assert!(matches!(house.told(1 - home).0[..], [Command::Negotiated { .. }]));
        // Whoever says it, the room's workers know it.
        room.send(Command::MuteTrack { track: theirs, muted: true });
        assert_eq!((house.told(home).0.len(), house.told(1 - home).0.len()), (1, 1));
        // Who publishes nothing concerns nobody else.
        let listener = TransportId::next();
        first.send(publishes(listener, &[]));
        first.send(Command::CloseTransport { transport: listener });
        assert_eq!(house.told(home).0.len(), 2);
        assert_eq!(house.told(1 - home), (vec![], vec![]));
        first.send(Command::CloseTransport { transport });
        assert_eq!(house.told(1 - home).0, [Command::CloseTransport { transport }]);
        house.told(home);

        let id = room.id();
        drop((room, first, second));
        for worker in 0..2 {
            assert_eq!(house.told(worker), (vec![Command::CloseRoom { room: id }], vec![]));
        }
    }

    #[test]
    fn what_is_borrowed_is_told_wherever_the_borrowers_are() {
        let house = House::new(3, 1);
        let (hall, _events) = house.media.open_room();
        let speaker = hall.seat();
        let (transport, track) = (TransportId::next(), TrackId::next());
        speaker.send(publishes(transport, &[track]));
        let (gallery, _events) = house.media.open_room();
        let (from, to) = (at(&hall), at(&gallery));
        let third = 3 - from - to;
        assert_ne!(from, to);
        house.told(to);
        gallery.borrow_from(&hall);
        let (commands, mirrors) = house.told(to);
        assert_eq!(commands, [Command::OpenRoom { room: hall.id() }]);
        assert_eq!(what(&mirrors), [(transport, from, vec![track])]);
        gallery.borrow_from(&hall);
        assert_eq!(house.told(to), (vec![], vec![]), "once is enough");

        // Where the gallery gets to later, too.
        let _listeners = [gallery.seat(), gallery.seat()];
        let (commands, mirrors) = house.told(third);
        assert_eq!(commands, [Command::OpenRoom { room: gallery.id() }, Command::OpenRoom { room: hall.id() }]);
        assert_eq!(what(&mirrors), [(transport, from, vec![track])]);
        // Each may borrow from the other.
        house.told(from);
        hall.borrow_from(&gallery);
        assert_eq!(house.told(from).0, [Command::OpenRoom { room: gallery.id() }]);
        house.told(third);
        drop(speaker);
        drop(hall);
        let ended = house.told(third).0;
        assert!(matches!(ended[..], [Command::CloseRoom { .. }]), "the gallery does not keep it open: {ended:?}");
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
        let (_, mirrors) = house.told(1 - at(&room));
        assert!(mirrors[0].relayed && mirrors[0].transport == transport, "{mirrors:?}");
    }
}
