//! Tables: each row is a situation and the steps that it leads to.

use super::*;

const NOW: Millis = 10_000_000;

fn node(name: &str) -> Node {
    Node { name: name.into(), ready: true, ..Node::default() }
}

fn seats(taken: u32) -> Attachment {
    Attachment::Present { health: Health::Ready, seats: Seats { taken, limit: 100 }, expired: false }
}

/// A bridge that takes people.
fn bridge(name: &str, node: &str, taken: u32) -> Bridge {
    Bridge {
        name: name.into(),
        site: "a".into(),
        node: Some(node.into()),
        revision: "1".into(),
        created: 1_000,
        life: Life::Ready,
        started: true,
        protected: true,
        attachment: seats(taken),
        ..Bridge::default()
    }
}

fn with(bridge: Bridge, change: impl FnOnce(&mut Bridge)) -> Bridge {
    let mut bridge = bridge;
    change(&mut bridge);
    bridge
}

fn draining(bridge: Bridge, since: Millis, why: Why, health: Health) -> Bridge {
    with(bridge, |bridge| {
        bridge.draining = Some(Draining { since, why });
        if let Attachment::Present { health: said, .. } = &mut bridge.attachment {
            *said = health;
        }
    })
}

/// Made, but not ready yet.
fn starting(name: &str, node: &str) -> Bridge {
    with(bridge(name, node, 0), |bridge| {
        (bridge.life, bridge.started, bridge.created) = (Life::Pending, false, NOW - 1_000);
        bridge.attachment = Attachment::Absent(NOW - 1_000);
    })
}

fn site() -> Site {
    Site { name: "a".into(), revision: "1".into(), ..Site::default() }
}

fn scaled(min: u32, max: u32, buffer: u32) -> Site {
    Site { count: Count::Scaled { min, max, buffer: Some(buffer) }, ..site() }
}

fn world(site: Site, nodes: &[&str], bridges: Vec<Bridge>) -> World {
    World {
        now: NOW,
        sites: vec![site],
        drain_deadline: 3_600_000,
        nodes: nodes.iter().map(|name| node(name)).collect(),
        bridges,
        ..World::default()
    }
}

fn cordon(mut world: World, name: &str) -> World {
    world.nodes.iter_mut().filter(|node| node.name == name).for_each(|node| node.cordoned = true);
    world
}

/// Steps as text, for tables.
fn steps(world: &World) -> Vec<String> {
    let slot = |slot: &Slot| if *slot == Slot::A { "a" } else { "b" };
    plan(world)
        .actions
        .iter()
        .map(|action| match action {
            Action::Create { node, slot: half, .. } => {
                format!("create {} {}", node.as_deref().unwrap_or("anywhere"), slot(half))
            }
            Action::Drain { bridge, why, .. } => format!("drain {bridge} {}", why.name()),
            Action::Undrain { bridge } => format!("undrain {bridge}"),
            Action::Delete { bridge } => format!("delete {bridge}"),
            Action::MoveRedis { pod, node } => format!("move {pod} off {node}"),
        })
        .collect()
}

fn reasons(world: &World) -> Vec<&'static str> {
    plan(world).notes.iter().map(Note::reason).collect()
}

fn check(rows: Vec<(&str, World, &[&str])>) {
    for (name, world, expected) in rows {
        assert_eq!(steps(&world), expected, "{name}");
    }
}

#[test]
fn a_bridge_on_every_node() {
    let cases: Vec<(&str, World, &[&str])> = vec![
        ("nothing is there", world(site(), &["n1", "n2"], vec![]), &["create n1 a", "create n2 a"]),
        ("all is there", world(site(), &["n1"], vec![bridge("x", "n1", 3)]), &[]),
        ("a node joins", world(site(), &["n1", "n2"], vec![bridge("x", "n1", 3)]), &["create n2 a"]),
        ("one is starting", world(site(), &["n1"], vec![starting("x", "n1")]), &[]),
        (
            "a node is not ready",
            {
                let mut world = world(site(), &["n1"], vec![]);
                world.nodes[0].ready = false;
                world
            },
            &[],
        ),
        ("a cordoned node gets none", cordon(world(site(), &["n1"], vec![]), "n1"), &[]),
        (
            "deleted by hand, its ports are in use until it has ended",
            world(site(), &["n1"], vec![with(bridge("x", "n1", 3), |x| x.deleting = true)]),
            &["create n1 b"],
        ),
        (
            "evicted",
            world(site(), &["n1"], vec![with(bridge("x", "n1", 0), |x| x.life = Life::Over)]),
            &["delete x", "create n1 a"],
        ),
        (
            "two on one node: the empty one goes",
            world(
                site(),
                &["n1"],
                vec![bridge("x", "n1", 3), with(bridge("y", "n1", 0), |y| (y.slot, y.created) = (Slot::B, 2_000))],
            ),
            &["drain y Surplus"],
        ),
        (
            "the node lost its label",
            world(Site { selector: [("s".into(), "a".into())].into(), ..site() }, &["n1"], vec![bridge("x", "n1", 0)]),
            &["drain x Surplus"],
        ),
        (
            "the site is gone from the spec",
            world(Site { name: "b".into(), ..site() }, &[], vec![bridge("x", "n1", 0)]),
            &["drain x Surplus"],
        ),
        ("paused", World { paused: true, ..world(site(), &["n1"], vec![]) }, &[]),
    ];
    check(cases);
}

#[test]
fn taints_and_tolerations() {
    let tainted = |tolerations: Vec<Tolerated>| {
        let mut world = world(Site { tolerations, ..site() }, &["n1"], vec![]);
        world.nodes[0].taints = vec![Taint { key: "media".into(), value: "yes".into(), effect: "NoSchedule".into() }];
        world
    };
    let some = |text: &str| Some(text.to_owned());
    let cases: Vec<(&str, World, &[&str])> = vec![
        ("not tolerated", tainted(vec![]), &[]),
        ("by key", tainted(vec![(some("media"), None, None)]), &["create n1 a"]),
        ("by value", tainted(vec![(some("media"), some("yes"), some("NoSchedule"))]), &["create n1 a"]),
        ("another value", tainted(vec![(some("media"), some("no"), None)]), &[]),
        ("all", tainted(vec![(None, None, None)]), &["create n1 a"]),
    ];
    check(cases);
    assert_eq!(reasons(&tainted(vec![])), ["NoNode"]);
}

#[test]
fn a_node_belongs_to_the_first_site_it_fits() {
    let second = Site { name: "b".into(), ..site() };
    let mut world = world(Site { selector: [("s".into(), "a".into())].into(), ..site() }, &["n1", "n2"], vec![]);
    world.nodes[0].labels.insert("s".into(), "a".into());
    world.sites.push(second);
    let made: Vec<_> = plan(&world)
        .actions
        .into_iter()
        .map(|action| match action {
            Action::Create { site, node, .. } => (site, node.unwrap_or_default()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(made, [("a".into(), "n1".into()), ("b".into(), "n2".into())]);
}

#[test]
fn an_upgrade_goes_one_by_one_and_moves_people_to_the_successor() {
    let new = || Site { revision: "2".into(), ..site() };
    let next = |name: &str, node: &str| with(bridge(name, node, 0), |x| (x.revision, x.slot) = ("2".into(), Slot::B));
    let cases: Vec<(&str, World, &[&str])> = vec![
        (
            "the first successor, beside the old one",
            world(new(), &["n1", "n2"], vec![bridge("x", "n1", 9), bridge("y", "n2", 0)]),
            &["create n1 b"],
        ),
        (
            "it is not ready: wait",
            world(
                new(),
                &["n1", "n2"],
                vec![
                    bridge("x", "n1", 9),
                    bridge("y", "n2", 0),
                    with(starting("z", "n1"), |z| (z.revision, z.slot) = ("2".into(), Slot::B)),
                ],
            ),
            &[],
        ),
        (
            "it takes people: the old one leaves",
            world(new(), &["n1", "n2"], vec![bridge("x", "n1", 9), bridge("y", "n2", 0), next("z", "n1")]),
            &["drain x Outdated"],
        ),
        (
            "while it leaves nothing else begins",
            world(
                new(),
                &["n1", "n2"],
                vec![
                    draining(bridge("x", "n1", 9), NOW - 5_000, Why::Outdated, Health::Draining),
                    bridge("y", "n2", 0),
                    next("z", "n1"),
                ],
            ),
            &[],
        ),
        (
            "the order was lost",
            world(
                new(),
                &["n1", "n2"],
                vec![
                    draining(bridge("x", "n1", 9), NOW - 5_000, Why::Outdated, Health::Ready),
                    bridge("y", "n2", 0),
                    next("z", "n1"),
                ],
            ),
            &["drain x Outdated"],
        ),
        (
            "empty",
            world(
                new(),
                &["n1"],
                vec![draining(bridge("x", "n1", 0), NOW - 5_000, Why::Outdated, Health::Drained), next("z", "n1")],
            ),
            &["delete x"],
        ),
        ("then the next", world(new(), &["n1", "n2"], vec![bridge("y", "n2", 4), next("z", "n1")]), &["create n2 b"]),
        (
            "the deadline has passed",
            world(
                new(),
                &["n1"],
                vec![draining(bridge("x", "n1", 2), NOW - 3_630_000, Why::Outdated, Health::Draining), next("z", "n1")],
            ),
            &["delete x"],
        ),
        (
            "not yet",
            world(
                new(),
                &["n1"],
                vec![draining(bridge("x", "n1", 2), NOW - 3_629_999, Why::Outdated, Health::Draining), next("z", "n1")],
            ),
            &[],
        ),
        (
            "back to the old image: those that were to leave stay, the successor goes",
            world(
                site(),
                &["n1"],
                vec![draining(bridge("x", "n1", 9), NOW - 5_000, Why::Outdated, Health::Draining), next("z", "n1")],
            ),
            &["undrain x"],
        ),
        (
            "back to the old image before the new one came up",
            world(
                site(),
                &["n1"],
                vec![bridge("x", "n1", 9), with(starting("z", "n1"), |z| (z.revision, z.slot) = ("2".into(), Slot::B))],
            ),
            &["delete z"],
        ),
    ];
    check(cases);
}

#[test]
fn a_rollout_stops_when_the_new_version_does_not_come_up() {
    let new = || Site { revision: "2".into(), ..site() };
    let stuck = |trouble: Option<Trouble>, age: Millis| {
        let z = with(starting("z", "n1"), |z| {
            (z.revision, z.slot, z.trouble, z.created) = ("2".into(), Slot::B, trouble, NOW - age);
        });
        world(new(), &["n1", "n2"], vec![bridge("x", "n1", 9), bridge("y", "n2", 0), z])
    };
    for trouble in [Some(Trouble::Image("no such image".into())), Some(Trouble::Crash("exit 64".into())), None] {
        let world = stuck(trouble, PROGRESS_DEADLINE);
        assert_eq!(steps(&world), [""; 0], "the old ones stay");
        assert_eq!(reasons(&world), ["RolloutStopped"]);
    }
    assert_eq!(reasons(&stuck(None, 10_000)), [""; 0], "it may take its time");
    let alone = with(starting("z", "n1"), |z| z.trouble = Some(Trouble::Port("busy".into())));
    assert_eq!(reasons(&world(site(), &["n1"], vec![alone])), ["PortTaken"]);
}

#[test]
fn maintenance() {
    let two = |people: u32, free: u32| {
        cordon(world(site(), &["n1", "n2"], vec![bridge("x", "n1", people), bridge("y", "n2", 100 - free)]), "n1")
    };
    let cases: Vec<(&str, World, &[&str])> = vec![
        ("cordoned", two(9, 50), &["drain x Cordon"]),
        ("no room: it stays", two(9, 5), &[]),
        ("empty: it may always go", two(0, 0), &["drain x Cordon"]),
        (
            "uncordoned again",
            world(
                site(),
                &["n1", "n2"],
                vec![draining(bridge("x", "n1", 9), NOW - 5, Why::Cordon, Health::Draining), bridge("y", "n2", 0)],
            ),
            &["undrain x"],
        ),
        (
            "never came up",
            cordon(world(site(), &["n1", "n2"], vec![starting("x", "n1"), bridge("y", "n2", 0)]), "n1"),
            &["delete x"],
        ),
        (
            "one machine at a time",
            cordon(
                cordon(
                    world(
                        site(),
                        &["n1", "n2", "n3"],
                        vec![bridge("x", "n1", 2), bridge("y", "n2", 1), bridge("z", "n3", 0)],
                    ),
                    "n1",
                ),
                "n2",
            ),
            &["drain y Cordon"],
        ),
        (
            "maintenance goes before an upgrade",
            cordon(
                world(
                    Site { revision: "2".into(), ..site() },
                    &["n1", "n2"],
                    vec![
                        bridge("x", "n1", 2),
                        bridge("y", "n2", 1),
                        with(bridge("z", "n2", 0), |z| (z.revision, z.slot) = ("2".into(), Slot::B)),
                    ],
                ),
                "n1",
            ),
            &["drain x Cordon"],
        ),
    ];
    check(cases);
    assert_eq!(reasons(&two(9, 5)), ["NoRoom"]);
}

#[test]
fn without_word_from_an_allocator_nothing_leaves_but_what_is_missing_starts() {
    let unknown = |bridge: Bridge| with(bridge, |bridge| bridge.attachment = Attachment::Unknown);
    let blind = cordon(world(site(), &["n1", "n2"], vec![unknown(bridge("x", "n1", 0))]), "n1");
    assert_eq!(steps(&blind), ["create n2 a"]);
    assert_eq!(reasons(&blind), ["AllocatorUnreachable"]);
    let drained = draining(unknown(bridge("x", "n1", 0)), NOW - 5_000, Why::Cordon, Health::Draining);
    assert_eq!(steps(&cordon(world(site(), &["n1"], vec![drained]), "n1")), [""; 0]);
}

#[test]
fn the_lost() {
    let absent = |since: Millis| with(bridge("x", "n1", 0), |x| x.attachment = Attachment::Absent(NOW - since));
    let gone =
        |world: World| World { nodes: world.nodes.into_iter().filter(|node| node.name != "n1").collect(), ..world };
    let cases: Vec<(&str, World, &[&str])> = vec![
        ("for a moment", world(site(), &["n1"], vec![absent(1_000)]), &[]),
        ("for long, its node is there: the kubelet restarts it", world(site(), &["n1"], vec![absent(60_000)]), &[]),
        (
            "its node is no more",
            gone(world(site(), &["n1", "n2"], vec![absent(60_000), bridge("y", "n2", 1)])),
            &["delete x"],
        ),
        (
            "its node is no more, but it still serves",
            gone(world(site(), &["n1", "n2"], vec![bridge("x", "n1", 3), bridge("y", "n2", 1)])),
            &["drain x Surplus"],
        ),
        (
            "it was draining and its process died",
            cordon(
                world(site(), &["n1"], vec![draining(absent(60_000), NOW - 70_000, Why::Cordon, Health::Draining)]),
                "n1",
            ),
            &["delete x"],
        ),
        (
            "scaled: another one comes",
            world(scaled(1, 4, 10), &["n1", "n2"], vec![absent(60_000)]),
            &["create anywhere a"],
        ),
        (
            "scaled: Redis lost its data, all are missing for a moment",
            world(scaled(1, 4, 10), &["n1"], vec![absent(5_000)]),
            &[],
        ),
    ];
    check(cases);
    assert_eq!(reasons(&world(site(), &["n1"], vec![absent(60_000)])), ["BridgeLost"]);
}

#[test]
fn growth_by_free_seats() {
    let cases: Vec<(&str, World, &[&str])> = vec![
        ("nothing is there", world(scaled(2, 4, 10), &["n1"], vec![]), &["create anywhere a", "create anywhere a"]),
        ("enough is free", world(scaled(1, 4, 10), &["n1"], vec![bridge("x", "n1", 90)]), &[]),
        ("too little is free", world(scaled(1, 4, 11), &["n1"], vec![bridge("x", "n1", 90)]), &["create anywhere a"]),
        (
            "one is coming already",
            world(scaled(1, 4, 11), &["n1", "n2"], vec![bridge("x", "n1", 90), starting("y", "n2")]),
            &[],
        ),
        (
            "far too little: several at once",
            world(scaled(1, 9, 210), &["n1"], vec![bridge("x", "n1", 95)]),
            &["create anywhere a"; 3],
        ),
        ("the most there may be", world(scaled(1, 1, 50), &["n1"], vec![bridge("x", "n1", 90)]), &[]),
        (
            "on a cordoned node it does not count, and leaves when there is room",
            cordon(world(scaled(1, 4, 10), &["n1", "n2"], vec![bridge("x", "n1", 5)]), "n1"),
            &["create anywhere a"],
        ),
        (
            "there is room",
            cordon(world(scaled(1, 4, 10), &["n1", "n2"], vec![bridge("x", "n1", 5), bridge("y", "n2", 0)]), "n1"),
            &["drain x Cordon"],
        ),
        ("no node", cordon(world(scaled(1, 4, 10), &["n1"], vec![]), "n1"), &[]),
        (
            "kubectl scale",
            World { floor: 3, ..world(scaled(1, 4, 10), &["n1"], vec![bridge("x", "n1", 0)]) },
            &["create anywhere a"; 2],
        ),
        (
            "not beyond the greatest",
            World { floor: 9, ..world(scaled(1, 2, 10), &["n1"], vec![bridge("x", "n1", 0)]) },
            &["create anywhere a"],
        ),
    ];
    check(cases);
}

#[test]
fn shrinking_when_it_has_been_calm() {
    let three = |calm: Option<Millis>, taken: u32| {
        let site = Site { calm_since: calm.map(|calm| NOW - calm), ..scaled(1, 4, 10) };
        world(site, &["n1", "n2", "n3"], vec![bridge("x", "n1", taken), bridge("y", "n2", 1), bridge("z", "n3", 4)])
    };
    let calm = |world: &World| plan(world).calm.len();
    assert_eq!((steps(&three(None, 5)).len(), calm(&three(None, 5))), (0, 1));
    assert_eq!(steps(&three(Some(CALM - 1), 5)), [""; 0]);
    assert_eq!(steps(&three(Some(CALM), 5)), ["drain y Shrink"], "the emptiest");
    assert_eq!(calm(&three(Some(CALM), 96)), 1, "two would do");
    let full = world(scaled(1, 4, 10), &["n1", "n2"], vec![bridge("x", "n1", 70), bridge("y", "n2", 1)]);
    assert_eq!(calm(&full), 0, "with a bridge less it would be tight");
    // Meanwhile people have come: it stays instead of a new one coming.
    let leaving = draining(bridge("y", "n2", 1), NOW - 5_000, Why::Shrink, Health::Draining);
    let busy = world(scaled(1, 4, 10), &["n1", "n2"], vec![bridge("x", "n1", 95), leaving]);
    assert_eq!(steps(&busy), ["undrain y"]);
}

#[test]
fn a_scaled_site_is_renewed_one_by_one() {
    let new = || Site { revision: "2".into(), ..scaled(2, 4, 10) };
    let next = |name: &str, node: &str| with(bridge(name, node, 0), |x| (x.revision, x.slot) = ("2".into(), Slot::B));
    let two = || vec![bridge("x", "n1", 9), bridge("y", "n2", 3)];
    let plus = |more: Vec<Bridge>| two().into_iter().chain(more).collect::<Vec<_>>();
    let cases: Vec<(&str, World, &[&str])> = vec![
        ("one more", world(new(), &["n1", "n2"], two()), &["create anywhere b"]),
        (
            "it comes",
            world(new(), &["n1", "n2"], plus(vec![with(starting("z", "n1"), |z| z.revision = "2".into())])),
            &[],
        ),
        ("one less", world(new(), &["n1", "n2"], plus(vec![next("z", "n1")])), &["drain y Outdated"]),
        (
            "wait for it",
            world(
                new(),
                &["n1", "n2"],
                vec![
                    bridge("x", "n1", 9),
                    draining(bridge("y", "n2", 3), NOW - 5, Why::Outdated, Health::Draining),
                    next("z", "n1"),
                ],
            ),
            &[],
        ),
        ("and again", world(new(), &["n1", "n2"], vec![bridge("x", "n1", 9), next("z", "n1")]), &["create anywhere b"]),
        (
            "the last",
            world(new(), &["n1", "n2"], vec![bridge("x", "n1", 9), next("z", "n1"), next("w", "n2")]),
            &["drain x Outdated"],
        ),
        ("done", world(new(), &["n1", "n2"], vec![next("z", "n1"), next("w", "n2")]), &[]),
        (
            "back again before it came up",
            world(scaled(2, 4, 10), &["n1", "n2"], plus(vec![with(starting("z", "n1"), |z| z.revision = "2".into())])),
            &["delete z"],
        ),
    ];
    check(cases);
}

#[test]
fn addresses_of_nodes_are_part_of_the_revision() {
    let mut world = world(site(), &["n1"], vec![bridge("x", "n1", 3)]);
    world.nodes[0].addresses = vec!["203.0.113.7".into()];
    assert_eq!(steps(&world), ["create n1 b"]);
    world.nodes[0].lacks_address = true;
    assert_eq!((steps(&world).len(), reasons(&world)), (0, vec!["NoAddress"]));
}

#[test]
fn redis_on_a_node_that_is_lost() {
    let redis = |silent: Option<Millis>, reached: bool, has_volume: bool| {
        let (pod, node, silent_since) = ("redis-0".into(), "n1".into(), silent.map(|silent| NOW - silent));
        let redis = Some(Redis { pod, node, silent_since, reached, has_volume });
        World { redis, ..world(site(), &["n1"], vec![bridge("x", "n1", 3)]) }
    };
    let late = Some(REDIS_PATIENCE);
    /// What it is about, steps, notes, and whether there is more to come.
    type Row = (&'static str, World, &'static [&'static str], &'static [&'static str], bool);
    let rows: Vec<Row> = vec![
        ("its node reports", redis(None, true, false), &[], &[], false),
        ("its node reports, and nobody reaches it: Kubernetes' matter", redis(None, false, false), &[], &[], false),
        ("for a moment", redis(Some(REDIS_PATIENCE - 1), false, false), &[], &["RedisNodeLost"], true),
        ("for long", redis(late, false, false), &["move redis-0 off n1"], &["RedisNodeLost"], true),
        ("only its kubelet is gone", redis(late, true, false), &[], &["RedisNodeLost"], false),
        ("a volume may be in use there", redis(late, false, true), &[], &["RedisNodeLost"], false),
        ("paused", World { paused: true, ..redis(late, false, false) }, &[], &["Paused"], false),
        (
            "a clock that was put back",
            World { now: NOW - 60_000, ..redis(late, false, false) },
            &[],
            &["RedisNodeLost"],
            true,
        ),
    ];
    for (name, world, expected, notes, progressing) in rows {
        assert_eq!(steps(&world), expected, "{name}");
        assert_eq!(reasons(&world), notes, "{name}");
        assert_eq!(plan(&world).progressing, progressing, "{name}");
    }
    let told = |world: &World| plan(world).notes[0].text();
    assert!(told(&redis(late, false, true)).contains("kubectl taint node n1 node.kubernetes.io/out-of-service"));
    assert!(told(&redis(late, true, false)).contains("kubelet") && told(&redis(late, false, false)).contains("30 s"));
}
