//! Property: from any state the plan converges, and never deletes a bridge with people on it before its deadline.
//!
//! A small world obeys the plan: bridges start, take people, drain, empty, die; orders may be lost; the operator may forget.

use proptest::prelude::*;

use super::*;

const DEADLINE: Millis = 100_000;
const TICK: Millis = 5_000;

#[derive(Clone, Debug)]
enum Event {
    Cordon(usize),
    Uncordon(usize),
    Revision(u8),
    People(usize, u32),
    Die(usize),
    Blind,
    Forget,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..4_usize).prop_map(Event::Cordon),
        (0..4_usize).prop_map(Event::Uncordon),
        (0..3_u8).prop_map(Event::Revision),
        (0..8_usize, 0..60_u32).prop_map(|(bridge, people)| Event::People(bridge, people)),
        (0..8_usize).prop_map(Event::Die),
        Just(Event::Blind),
        Just(Event::Forget),
    ]
}

struct Reality {
    world: World,
    made: u32,
    /// For this many ticks no allocator answers.
    blind: u32,
    /// When each drain really began, whatever the operator remembers.
    orders: Vec<(String, Millis)>,
}

impl Reality {
    fn new(count: Count) -> Self {
        let node = |number: usize| Node { name: format!("n{number}"), ready: true, ..Node::default() };
        let site = Site { name: "a".into(), revision: "0".into(), count, ..Site::default() };
        let world = World {
            now: 1_000_000,
            sites: vec![site],
            drain_deadline: DEADLINE,
            nodes: (0..4).map(node).collect(),
            ..World::default()
        };
        Self { world, made: 0, blind: 0, orders: Vec::new() }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Cordon(node) => self.world.nodes[*node].cordoned = true,
            Event::Uncordon(node) => self.world.nodes[*node].cordoned = false,
            Event::Revision(revision) => self.world.sites[0].revision = revision.to_string(),
            Event::People(at, people) => {
                if let Some(bridge) = self.world.bridges.get_mut(*at)
                    && bridge.takes_people()
                    && let Attachment::Present { seats, .. } = &mut bridge.attachment
                {
                    seats.taken = (*people).min(seats.limit);
                }
            }
            Event::Die(at) => {
                if let Some(bridge) = self.world.bridges.get_mut(*at).filter(|bridge| bridge.started) {
                    (bridge.life, bridge.attachment) = (Life::Running, Attachment::Absent(self.world.now));
                }
            }
            Event::Blind => self.blind = 3,
            Event::Forget => self.world.sites[0].calm_since = None,
        }
    }

    /// The operator looks; its steps are carried out.
    fn look(&mut self) -> Result<usize, TestCaseError> {
        let mut seen = self.world.clone();
        if self.blind > 0 {
            seen.bridges.iter_mut().for_each(|bridge| bridge.attachment = Attachment::Unknown);
        }
        let plan = plan(&seen);
        let now = self.world.now;
        let calm = &mut self.world.sites[0].calm_since;
        *calm = if plan.calm.is_empty() { None } else { calm.or(Some(now)) };
        for action in &plan.actions {
            match action {
                Action::Create { node, slot, .. } => self.create(node.clone(), *slot),
                Action::Drain { bridge, why, .. } => {
                    let draining = self.world.bridges.iter().filter(|bridge| bridge.draining.is_some()).count();
                    let Some(bridge) = self.world.bridges.iter_mut().find(|other| other.name == *bridge) else {
                        continue;
                    };
                    if bridge.draining.is_none() {
                        prop_assert!(draining == 0, "one at a time");
                        bridge.draining = Some(Draining { since: now, why: *why });
                        self.orders.push((bridge.name.clone(), now));
                    }
                    if let Attachment::Present { health, .. } = &mut bridge.attachment {
                        *health = Health::Draining;
                    }
                }
                Action::Undrain { bridge } => {
                    self.orders.retain(|(name, _)| name != bridge);
                    let Some(bridge) = self.world.bridges.iter_mut().find(|other| other.name == *bridge) else {
                        continue;
                    };
                    bridge.draining = None;
                    if let Attachment::Present { health, .. } = &mut bridge.attachment {
                        *health = Health::Ready;
                    }
                }
                Action::Delete { bridge } => {
                    let found = self.world.bridges.iter().find(|other| other.name == *bridge);
                    let people = found.map_or(0, |bridge| bridge.seats().taken);
                    let order = self.orders.iter().find(|(name, _)| name == bridge).map(|(_, since)| now - since);
                    prop_assert!(
                        people == 0 || order.is_some_and(|passed| passed >= DEADLINE),
                        "{people} people on {bridge}"
                    );
                    self.world.bridges.retain(|other| other.name != *bridge);
                }
                Action::MoveRedis { pod, .. } => prop_assert!(false, "there is no {pod} here"),
            }
        }
        Ok(plan.actions.len())
    }

    fn create(&mut self, node: Option<String>, slot: Slot) {
        self.made += 1;
        let site = &self.world.sites[0];
        // The scheduler's choice: the free node with the fewest bridges.
        let load =
            |node: &Node| self.world.bridges.iter().filter(|bridge| bridge.node.as_ref() == Some(&node.name)).count();
        let free = self.world.nodes.iter().filter(|node| !node.cordoned).min_by_key(|node| load(node));
        let node = node.or_else(|| free.map(|node| node.name.clone()));
        self.world.bridges.push(Bridge {
            name: format!("b{}", self.made),
            site: site.name.clone(),
            node,
            slot,
            revision: site.revision.clone(),
            created: self.world.now,
            protected: true,
            attachment: Attachment::Absent(self.world.now),
            ..Bridge::default()
        });
    }

    /// Time passes: bridges come up, people move, the kubelet restarts what died.
    fn pass(&mut self) {
        self.world.now += TICK;
        self.blind = self.blind.saturating_sub(1);
        let now = self.world.now;
        let room = |bridge: &Bridge| bridge.takes_people();
        let targets: Vec<usize> =
            self.world.bridges.iter().enumerate().filter(|(_, bridge)| room(bridge)).map(|(at, _)| at).collect();
        let mut moved = Vec::new();
        for bridge in &mut self.world.bridges {
            match &mut bridge.attachment {
                Attachment::Absent(_) => {
                    (bridge.life, bridge.started) = (Life::Ready, true);
                    let health = if bridge.draining.is_some() { Health::Draining } else { Health::Ready };
                    bridge.attachment =
                        Attachment::Present { health, seats: Seats { taken: 0, limit: 100 }, expired: false };
                }
                Attachment::Present { health, seats, .. } if *health == Health::Draining => {
                    moved.push(seats.taken.min(20));
                    seats.taken -= seats.taken.min(20);
                    if seats.taken == 0 {
                        *health = Health::Drained;
                    }
                }
                _ => {}
            }
        }
        for (people, target) in moved.into_iter().zip(targets.into_iter().cycle()) {
            if let Attachment::Present { seats, .. } = &mut self.world.bridges[target].attachment {
                seats.taken = (seats.taken + people).min(seats.limit);
            }
        }
        let _ = now;
    }

    fn settle(&mut self) -> Result<(), TestCaseError> {
        let mut quiet = 0;
        for _ in 0..2_000 {
            let steps = self.look()?;
            self.pass();
            quiet = if steps == 0 { quiet + 1 } else { 0 };
            // Longer than shrinking waits.
            if quiet > 100 {
                return Ok(());
            }
        }
        prop_assert!(false, "does not settle: {:#?}", self.world);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn it_converges_and_harms_nobody(
        scaled in any::<bool>(),
        buffer in 0..80_u32,
        events in prop::collection::vec((event(), 0..6_usize), 0..30),
    ) {
        let count = if scaled { Count::Scaled { min: 1, max: 6, buffer: Some(buffer) } } else { Count::PerNode };
        let mut reality = Reality::new(count);
        for (event, looks) in &events {
            reality.happen(event);
            for _ in 0..*looks {
                reality.look()?;
                reality.pass();
            }
        }
        reality.settle()?;
        let world = &reality.world;
        let open: Vec<&Node> = world.nodes.iter().filter(|node| !node.cordoned).collect();
        for bridge in &world.bridges {
            // Who could not leave for want of room is allowed to be there still.
            let stuck = plan(world).notes.iter().any(|note| matches!(note, Note::NoRoom { .. }));
            prop_assert!(stuck || bridge.revision == world.sites[0].revision, "{bridge:?} of {world:?}");
            prop_assert!(stuck || open.iter().any(|node| bridge.node.as_ref() == Some(&node.name)), "{bridge:?}");
        }
        if !scaled {
            for node in open {
                let here = world.bridges.iter().filter(|bridge| bridge.node.as_ref() == Some(&node.name)).count();
                prop_assert!(here >= 1, "{} of {world:?}", node.name);
            }
        }
    }
}
