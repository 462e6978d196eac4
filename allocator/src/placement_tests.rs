//! Placement as tables (each rule on its own) and as properties over random clusters.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
struct Bridge {
    id: String,
    site: String,
    ready: bool,
    generation: u32,
    features: Vec<String>,
    seats: u32,
    limit: u32,
    load: u32,
    room_seats: u32,
}

impl Bridge {
    fn new(id: &str, site: &str, load: u32) -> Self {
        let (id, site) = (id.to_owned(), site.to_owned());
        Self { id, site, ready: true, generation: 1, features: vec![], seats: load, limit: 1000, load, room_seats: 0 }
    }

    fn with_room(self, room_seats: u32) -> Self {
        Self { room_seats, ..self }
    }

    fn draining(self) -> Self {
        Self { ready: false, ..self }
    }

    fn generation(self, generation: u32) -> Self {
        Self { generation, ..self }
    }

    fn feature(mut self, feature: &str) -> Self {
        self.features.push(feature.to_owned());
        self
    }
}

/// A cluster; a bridge's key is its place in the list.
#[derive(Debug)]
struct Cluster(Vec<Bridge>);

impl Cluster {
    fn candidates(&self) -> impl Iterator<Item = Candidate<'_>> {
        self.0.iter().zip(0..).map(|(bridge, key)| Candidate {
            key,
            id: &bridge.id,
            site: &bridge.site,
            ready: bridge.ready,
            generation: bridge.generation,
            features: &bridge.features,
            seats: bridge.seats,
            seat_limit: bridge.limit,
            load: bridge.load,
            room_seats: bridge.room_seats,
        })
    }

    fn room(&self) -> Vec<Candidate<'_>> {
        self.candidates().filter(Candidate::has_room).collect()
    }

    fn choose(&self, wish: &Wish<'_>) -> Result<&str, Shortage> {
        let key = choose(wish, &self.room(), self)?;
        Ok(&self.0[usize::try_from(key).unwrap()].id)
    }
}

impl Bridges for Cluster {
    fn sites(&self) -> impl Iterator<Item = (&str, u32)> {
        let mut sites = BTreeMap::new();
        for bridge in &self.0 {
            let load = sites.entry(bridge.site.as_str()).or_insert(bridge.load);
            *load = bridge.load.min(*load);
        }
        sites.into_iter()
    }

    fn by_load(&self, site: &str) -> impl Iterator<Item = Candidate<'_>> {
        let mut here: Vec<_> = self.candidates().filter(|candidate| candidate.site == site).collect();
        here.sort_by_key(|candidate| (candidate.load, candidate.seats, candidate.key));
        here.into_iter()
    }
}

const ANYWHERE: Wish<'static> = Wish { sites: &[], pin: None, features: &[], avoid: &[], spill: 900, max_bridges: 8 };

fn strings(items: &[&str]) -> Vec<String> {
    items.iter().map(|&item| item.to_owned()).collect()
}

/// What is tested, what is looked for, in which cluster, and what is to come out.
type Row<'a> = (&'a str, Wish<'a>, Vec<Bridge>, Result<&'a str, Shortage>);

#[test]
fn each_rule_on_its_own() {
    let near_b = strings(&["b"]);
    let near_c_b = strings(&["c", "b"]);
    let (avoid_1, record) = (strings(&["1"]), strings(&["record"]));
    let wish = |sites| Wish { sites, ..ANYWHERE };
    let b = Bridge::new;
    let table: Vec<Row<'_>> = vec![
        ("the least loaded", ANYWHERE, vec![b("1", "", 30), b("2", "", 10), b("3", "", 20)], Ok("2")),
        ("the room's bridge before an idle one", ANYWHERE, vec![b("1", "", 800).with_room(2), b("2", "", 0)], Ok("1")),
        ("spill at the mark", ANYWHERE, vec![b("1", "", 900).with_room(2), b("2", "", 0)], Ok("2")),
        ("no spill to a filled one", ANYWHERE, vec![b("1", "", 920).with_room(2), b("2", "", 910)], Ok("1")),
        (
            "above the mark only the new one has a seat",
            ANYWHERE,
            vec![b("1", "", 1000).with_room(2), b("2", "", 950)],
            Ok("2"),
        ),
        (
            "where most of the room is",
            ANYWHERE,
            vec![b("1", "", 10).with_room(1), b("2", "", 500).with_room(9)],
            Ok("2"),
        ),
        ("near before idle", wish(&near_b), vec![b("1", "a", 0), b("2", "b", 500)], Ok("2")),
        ("near before the room's site", wish(&near_b), vec![b("1", "a", 0).with_room(5), b("2", "b", 500)], Ok("2")),
        ("the nearest that exists", wish(&near_c_b), vec![b("1", "a", 0), b("2", "b", 500)], Ok("2")),
        (
            "the room's site when near is full",
            wish(&near_b),
            vec![b("1", "a", 700).with_room(5), b("2", "b", 1000), b("3", "c", 0)],
            Ok("1"),
        ),
        (
            "no site told: where the room is",
            ANYWHERE,
            vec![b("1", "a", 0), b("2", "b", 950).with_room(3), b("3", "b", 1)],
            Ok("3"),
        ),
        ("pinned", Wish { pin: Some("b"), ..ANYWHERE }, vec![b("1", "a", 0), b("2", "b", 950)], Ok("2")),
        ("draining takes nobody", ANYWHERE, vec![b("1", "", 0).with_room(3).draining(), b("2", "", 950)], Ok("2")),
        ("avoided", Wish { avoid: &avoid_1, ..ANYWHERE }, vec![b("1", "", 0), b("2", "", 950)], Ok("2")),
        (
            "features",
            Wish { features: &record, ..ANYWHERE },
            vec![b("1", "", 0), b("2", "", 950).feature("record")],
            Ok("2"),
        ),
        (
            "neighbouring generations",
            ANYWHERE,
            vec![b("1", "", 900).with_room(3).generation(4), b("2", "", 0).generation(2), b("3", "", 50).generation(5)],
            Ok("3"),
        ),
        ("nobody there", ANYWHERE, vec![], Err(Shortage::NoBridge)),
        ("none has the feature", Wish { features: &record, ..ANYWHERE }, vec![b("1", "", 0)], Err(Shortage::NoneSuits)),
        ("all draining", ANYWHERE, vec![b("1", "", 0).draining(), b("2", "", 0).draining()], Err(Shortage::Draining)),
        (
            "full, others draining",
            ANYWHERE,
            vec![b("1", "", 1000), b("2", "", 0).draining()],
            Err(Shortage::Full { elsewhere: 0 }),
        ),
        (
            "full at the pinned site",
            Wish { pin: Some("b"), ..ANYWHERE },
            vec![b("1", "a", 400), b("2", "b", 1000)],
            Err(Shortage::Full { elsewhere: 600 }),
        ),
        (
            "pinned to a site without bridges",
            Wish { pin: Some("b"), ..ANYWHERE },
            vec![b("1", "a", 400)],
            Err(Shortage::Full { elsewhere: 600 }),
        ),
        (
            "spans enough",
            Wish { max_bridges: 1, ..ANYWHERE },
            vec![b("1", "", 1000).with_room(1), b("2", "", 0)],
            Err(Shortage::Spanned),
        ),
    ];
    for (name, wish, bridges, expected) in table {
        assert_eq!(Cluster(bridges).choose(&wish), expected, "{name}");
    }
}

fn bridge() -> impl Strategy<Value = Bridge> {
    let seats = (1_u32..50).prop_flat_map(|limit| (Just(limit), 0..=limit, 0_u32..=1000));
    let room = prop_oneof![3 => Just(0_u32), 1 => 1_u32..6];
    (seats, 0_u8..3, prop::bool::weighted(0.8), 1_u32..4, any::<bool>(), room).prop_map(
        |((limit, seats, measured), site, ready, generation, able, room_seats)| Bridge {
            id: String::new(),
            site: ["", "a", "b"][usize::from(site)].to_owned(),
            ready,
            generation,
            features: if able { strings(&["x"]) } else { vec![] },
            seats,
            limit,
            load: measured.max(seats * 1000 / limit),
            room_seats,
        },
    )
}

prop_compose! {
    fn cluster()(mut bridges in prop::collection::vec(bridge(), 0..12)) -> Cluster {
        for (bridge, number) in bridges.iter_mut().zip(0..) {
            bridge.id = format!("{number}");
        }
        Cluster(bridges)
    }
}

type WishParts = (Vec<String>, Option<String>, Vec<String>, Vec<String>, usize);

fn wishes() -> impl Strategy<Value = WishParts> {
    let site = || prop_oneof![Just("a".to_owned()), Just("b".to_owned()), Just("elsewhere".to_owned())];
    (
        prop::collection::vec(site(), 0..3),
        prop::option::weighted(0.2, site()),
        prop::collection::vec(Just("x".to_owned()), 0..2),
        prop::collection::vec((0_u8..12).prop_map(|id| id.to_string()), 0..3),
        1_usize..5,
    )
}

proptest! {
    /// A chosen bridge may take the participant; and nobody is refused while any bridge could take him.
    #[test]
    fn sound_and_complete(cluster in cluster(), parts in wishes()) {
        let (sites, pin, features, avoid, max_bridges) = &parts;
        let wish = Wish { sites, pin: pin.as_deref(), features, avoid, spill: 900, max_bridges: *max_bridges };
        let room = cluster.room();
        let possible: BTreeSet<u64> = cluster
            .candidates()
            .filter(|c| c.ready && c.seats < c.seat_limit && c.load < FULL)
            .filter(|c| pin.as_deref().is_none_or(|pin| pin == c.site))
            .filter(|c| !avoid.iter().any(|id| id == c.id))
            .filter(|c| features.iter().all(|f| c.features.contains(f)))
            .filter(|c| room.iter().all(|other| other.generation.abs_diff(c.generation) <= 1))
            .filter(|c| c.room_seats > 0 || room.len() < *max_bridges)
            .map(|c| c.key)
            .collect();
        match choose(&wish, &room, &cluster) {
            Ok(key) => prop_assert!(possible.contains(&key), "{key} of {possible:?}"),
            Err(shortage) => prop_assert!(possible.is_empty(), "{shortage:?} though {possible:?}"),
        }
    }

    /// A room leaves its bridges for a new one of the same site only when all of them there are filled or unfit.
    #[test]
    fn rooms_stay_whole(cluster in cluster()) {
        let room = cluster.room();
        if let Ok(key) = choose(&ANYWHERE, &room, &cluster) {
            let chosen = cluster.candidates().find(|c| c.key == key).unwrap();
            let roomy = room.iter().any(|c| {
                c.site == chosen.site && ANYWHERE.admits(c, &room) && c.has_seat() && c.load < ANYWHERE.spill
            });
            prop_assert!(chosen.has_room() || !roomy, "{chosen:?} though one of {room:?} is free");
        }
    }

    /// The same cluster in another order gives the same bridge, unless two are equally good.
    #[test]
    fn order_does_not_matter(cluster in cluster(), seed in any::<u64>()) {
        let first = cluster.choose(&ANYWHERE).map(str::to_owned);
        let mut turned = Cluster(cluster.0.clone());
        if !turned.0.is_empty() {
            let by = usize::try_from(seed % turned.0.len() as u64).unwrap();
            turned.0.rotate_left(by);
        }
        let second = turned.choose(&ANYWHERE).map(str::to_owned);
        let figures = |id: &Result<String, Shortage>| {
            id.as_ref().map(|id| {
                let bridge = cluster.0.iter().find(|bridge| &bridge.id == id).unwrap();
                (bridge.site.clone(), bridge.load, bridge.room_seats.min(1))
            }).map_err(|shortage| *shortage)
        };
        prop_assert_eq!(figures(&first), figures(&second));
    }
}
