//! Random histories against a reference model that is as simple as the rules allow.
//!
//! The model does not predict which bridge is chosen (placement has its own tests); it checks that the choice was
//! allowed and keeps count by the plainest means: lists that are searched.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::*;

const BRIDGES: [&str; 3] = ["a", "b", "c"];
const ROOMS: [&str; 3] = ["eins", "zwei", "drei"];
const PEOPLE: [&str; 12] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"];
const SEATS: u32 = 5;
const PARTICIPANTS: u32 = 7;

/// Random histories of a few hundred steps, each from a printed seed.
pub(super) async fn random_histories<F: Fixture>() {
    let first: u64 = rand::random();
    for seed in (0..40).map(|number| first.wrapping_add(number)) {
        let mut model = Model::<F>::new(seed).await;
        for step in 0..300 {
            model.context = format!("seed {seed}, step {step}");
            model.step().await;
            model.check().await;
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
struct ModelSeat {
    room: &'static str,
    identity: &'static str,
    join_id: String,
    bridge: String,
    confirmed: bool,
    lapses: u64,
    /// The bridge has counted it in a report.
    counted: bool,
}

struct ModelBridge {
    id: &'static str,
    incarnation: u32,
    sequence: u64,
    last: u64,
    draining: bool,
    /// Seats in its last report.
    reported: u32,
    /// Promises that count beyond the report: join id, lapse.
    promised: Vec<(String, u64)>,
}

struct Model<F: Fixture> {
    stage: Stage<F::Store>,
    rng: StdRng,
    now: u64,
    joins: u64,
    seats: Vec<ModelSeat>,
    bridges: Vec<ModelBridge>,
    context: String,
}

impl<F: Fixture> Model<F> {
    async fn new(seed: u64) -> Self {
        // Rooms must not end by themselves, nor participants be reaped here: both have their own tests.
        let hour = Duration::from_secs(3600 * 1000);
        let config = Config { empty_timeout: hour, departure_timeout: hour, grace: hour, ..Config::default() };
        let stage = stage::<F>(config).await;
        for room in ROOMS {
            stage.open(room, RoomSettings { max_participants: PARTICIPANTS, ..RoomSettings::default() }).await;
        }
        let bridge = |id| ModelBridge {
            id,
            incarnation: 0,
            sequence: 0,
            last: 0,
            draining: false,
            reported: 0,
            promised: vec![],
        };
        let bridges = BRIDGES.map(bridge).into();
        let rng = StdRng::seed_from_u64(seed);
        Self { stage, rng, now: START, joins: 0, seats: vec![], bridges, context: String::new() }
    }

    async fn step(&mut self) {
        match self.rng.random_range(0..100) {
            0..35 => self.place().await,
            35..50 => self.confirm().await,
            50..60 => self.leave().await,
            60..85 => self.report().await,
            85..90 => self.drain().await,
            _ => self.pass(),
        }
    }

    fn pass(&mut self) {
        let millis = *[1, 500, 1_000, 1_000, 2_999, 5_000].choose(&mut self.rng).unwrap();
        self.stage.pass(millis);
        self.now += millis;
        let now = self.now;
        self.seats.retain(|seat| seat.confirmed || seat.lapses > now);
        for bridge in &mut self.bridges {
            bridge.promised.retain(|(_, lapses)| *lapses > now);
        }
    }

    fn alive(&self, bridge: &ModelBridge) -> bool {
        bridge.sequence > 0 && self.now < bridge.last + 3_000
    }

    fn takes(&self, bridge: &ModelBridge) -> bool {
        self.alive(bridge) && !bridge.draining && Self::count(bridge) < SEATS
    }

    fn count(bridge: &ModelBridge) -> u32 {
        bridge.reported + u32::try_from(bridge.promised.len()).unwrap()
    }

    async fn place(&mut self) {
        let room = *ROOMS.choose(&mut self.rng).unwrap();
        let identity = *PEOPLE.choose(&mut self.rng).unwrap();
        let old = self.seats.iter().position(|seat| seat.room == room && seat.identity == identity);
        let again = self.rng.random_bool(0.3);
        let join_id = match old {
            Some(old) if again => self.seats[old].join_id.clone(),
            _ => {
                self.joins += 1;
                format!("join-{}", self.joins)
            }
        };
        let request = PlaceRequest { join_id: join_id.clone(), ..placement(room, identity) };
        let result = self.stage.store.place(request).await;
        let context = &self.context;
        let kept = old.map(|old| &self.seats[old]).filter(|seat| {
            seat.join_id == join_id && self.bridges.iter().any(|b| self.seat_is_on(seat, b) && self.alive(b))
        });
        if let Some(kept) = kept {
            let seat = result.unwrap().seat.unwrap();
            assert_eq!((&seat.bridge, seat.confirmed), (&kept.bridge, kept.confirmed), "{context}");
            return;
        }
        let others = self.seats.iter().filter(|seat| seat.room == room && seat.identity != identity).count();
        if others >= PARTICIPANTS as usize {
            assert!(is_quota(&result, Quota::Participants), "{context}: {result:?}");
            return;
        }
        if !self.bridges.iter().any(|bridge| self.takes(bridge)) {
            assert!(result.is_err(), "{context}: {result:?}");
            return;
        }
        let placed = result.unwrap_or_else(|refusal| panic!("{context}: {refusal}"));
        let chosen = placed.seat.unwrap().bridge;
        let bridge = self.bridges.iter().position(|bridge| bridge.id == chosen).unwrap();
        assert!(self.takes(&self.bridges[bridge]), "{context}: {chosen} takes nobody");
        assert_eq!(placed.replaced.is_some(), old.is_some(), "{context}");
        if let Some(old) = old {
            self.drop_seat(old);
        }
        let lapses = self.now + 10_000;
        self.bridges[bridge].promised.push((join_id.clone(), lapses));
        let counted = false;
        self.seats.push(ModelSeat { room, identity, join_id, bridge: chosen, confirmed: false, lapses, counted });
    }

    /// A seat on a bridge that has restarted since is marked by a name no bridge has.
    fn seat_is_on(&self, seat: &ModelSeat, bridge: &ModelBridge) -> bool {
        seat.bridge == bridge.id
    }

    fn drop_seat(&mut self, at: usize) {
        let seat = self.seats.remove(at);
        for bridge in &mut self.bridges {
            bridge.promised.retain(|(join_id, _)| *join_id != seat.join_id);
        }
    }

    fn some_seat(&mut self) -> Option<usize> {
        (!self.seats.is_empty()).then(|| self.rng.random_range(0..self.seats.len()))
    }

    async fn confirm(&mut self) {
        let Some(at) = self.some_seat() else { return };
        let room = self.stage.room(self.seats[at].room).await.unwrap();
        let request = AppendRequest { confirm: vec![self.seats[at].join_id.clone()], ..append(&room, &["joined"]) };
        self.stage.append(request).await.unwrap_or_else(|refusal| panic!("{}: {refusal}", self.context));
        self.seats[at].confirmed = true;
    }

    async fn leave(&mut self) {
        let Some(at) = self.some_seat() else { return };
        let (room, join_id) = (self.seats[at].room, self.seats[at].join_id.clone());
        assert!(self.stage.release(room, &join_id).await, "{}", self.context);
        self.drop_seat(at);
        assert!(!self.stage.release(room, &join_id).await, "{}", self.context);
    }

    /// A bridge counts the confirmed seats it has, after a restart if it was silent for long.
    async fn report(&mut self) {
        let at = self.rng.random_range(0..self.bridges.len());
        let alive = self.alive(&self.bridges[at]);
        let restarts = !alive && self.rng.random_bool(0.5);
        let id = self.bridges[at].id;
        if restarts {
            let bridge = &mut self.bridges[at];
            (bridge.incarnation, bridge.sequence) = (bridge.incarnation + 1, 0);
            bridge.promised.clear();
            for seat in self.seats.iter_mut().filter(|seat| seat.bridge == id) {
                seat.bridge = format!("{id} before its restart");
            }
        }
        let mut joined = vec![];
        for seat in self.seats.iter_mut().filter(|seat| seat.bridge == id && seat.confirmed && !seat.counted) {
            seat.counted = true;
            joined.push(seat.join_id.clone());
        }
        let seats = self.seats.iter().filter(|seat| seat.bridge == id && seat.counted).count();
        let bridge = &mut self.bridges[at];
        bridge.sequence += 1;
        bridge.last = self.now;
        bridge.reported = u32::try_from(seats).unwrap();
        bridge.promised.retain(|(join_id, _)| !joined.contains(join_id));
        let report = BridgeReport {
            incarnation: bridge.incarnation.to_string(),
            sequence: bridge.sequence,
            load: with_seats(bridge.reported, SEATS),
            joined,
            ..report(id)
        };
        self.stage.report(report).await.unwrap_or_else(|refusal| panic!("{}: {refusal}", self.context));
    }

    async fn drain(&mut self) {
        let at = self.rng.random_range(0..self.bridges.len());
        let draining = self.rng.random_bool(0.4);
        self.stage.store.drain(self.bridges[at].id, draining.then_some(0)).await.unwrap();
        self.bridges[at].draining = draining;
    }

    async fn check(&self) {
        let context = &self.context;
        let sweep = self.stage.store.sweep().await.unwrap();
        assert_eq!((sweep.seats, sweep.rooms), (self.seats.len(), ROOMS.len()), "{context}");
        for name in ROOMS {
            let room = self.stage.room(name).await.unwrap();
            let seats = self.seats.iter().filter(|seat| seat.room == name).count();
            assert_eq!(room.seats as usize, seats, "{context}");
            assert!(room.seats <= PARTICIPANTS, "{context}");
            assert_eq!(room.bridges.iter().map(|bridge| bridge.seats).sum::<u32>(), room.seats, "{context}");
        }
        for bridge in self.bridges.iter().filter(|bridge| self.alive(bridge)) {
            let count = self.stage.seats(bridge.id).await;
            assert_eq!(count, Self::count(bridge), "{context}: bridge {}", bridge.id);
            let confirmed = self.seats.iter().filter(|seat| seat.bridge == bridge.id && seat.confirmed).count();
            assert!(confirmed <= SEATS as usize, "{context}: bridge {} is overfull", bridge.id);
        }
    }
}
