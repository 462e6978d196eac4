//! How peers come, move and go, and what strangers can do.

use proptest::prelude::*;

use super::super::super::control::*;
use super::super::super::simulation::*;

fn closed(world: &World, transport: TransportId) -> Option<CloseReason> {
    world.events.iter().find_map(|event| match event {
        Event::Closed { transport: t, reason } if *t == transport => Some(*reason),
        _ => None,
    })
}

/// A camera and someone who watches it.
fn pair(world: &mut World) -> (Client, Camera, Client) {
    let publisher = Client::connect(world, "127.0.0.1:1001");
    let camera = Camera::new(&[]);
    publisher.negotiate(world, vec![camera.section("0")], vec![]);
    let mut subscriber = Client::connect(world, "127.0.0.1:1002");
    subscriber.negotiate(world, vec![], vec![leg(camera.track, Kind::Video, "0")]);
    subscriber.receive(world);
    (publisher, camera, subscriber)
}

fn show(world: &mut World, publisher: &mut Client, camera: &mut Camera, key: bool) {
    for packet in camera.frame(publisher, "0", 0, 0, key, 1) {
        world.send(publisher.address, packet);
    }
}

#[test]
fn a_leg_may_come_before_its_track() {
    let mut world = World::new();
    let mut subscriber = Client::connect(&mut world, "127.0.0.1:1002");
    let mut camera = Camera::new(&[]);
    subscriber.negotiate(&mut world, vec![], vec![leg(camera.track, Kind::Video, "0")]);
    let mut publisher = Client::connect(&mut world, "127.0.0.1:1001");
    publisher.negotiate(&mut world, vec![camera.section("0")], vec![]);
    show(&mut world, &mut publisher, &mut camera, true);
    assert_eq!(subscriber.receive(&mut world).0.len(), 1);
}

#[test]
fn checks_are_answered_before_the_clients_answer_comes() {
    let mut world = World::new();
    let (mut client, open) = Client::prepare(&mut world, "127.0.0.1:1001");
    assert!(!client.check(&mut world, true), "nobody was offered anything");
    world.command(client.expected());
    assert!(!client.check_with(&mut world, true, "not the password that was offered"));
    assert!(client.check(&mut world, true));
    world.command(open);
    client.handshake(&mut world); // no check again
    assert!(client.connected());
    assert!(world.engine.expected.is_empty());

    let (mut other, _) = Client::prepare(&mut world, "127.0.0.1:1002");
    world.command(other.expected());
    world.command(Command::CloseTransport { transport: other.transport });
    assert!(!other.check(&mut world, true), "it was given up");
}

#[test]
fn a_restart_holds_from_its_first_check_on() {
    let mut world = World::new();
    let (mut publisher, mut camera, mut subscriber) = pair(&mut world);
    show(&mut world, &mut publisher, &mut camera, true);
    assert_eq!(subscriber.receive(&mut world).0.len(), 1);
    let restart = subscriber.restart();
    world.command(subscriber.expected());
    subscriber.address = "127.0.0.9:4000".parse().unwrap();
    assert!(subscriber.check(&mut world, true));
    show(&mut world, &mut publisher, &mut camera, false);
    assert!(subscriber.receive(&mut world).0.is_empty(), "the old pair holds until the answer comes");
    world.command(restart);
    show(&mut world, &mut publisher, &mut camera, false);
    assert_eq!(subscriber.receive(&mut world).0.len(), 1);
}

#[test]
fn the_pair_follows_the_latest_nomination() {
    let mut world = World::new();
    let (mut publisher, mut camera, mut subscriber) = pair(&mut world);
    show(&mut world, &mut publisher, &mut camera, true);
    assert_eq!(subscriber.receive(&mut world).0.len(), 1);
    // From Wi-Fi to mobile: both ends move.
    subscriber.address = "127.0.0.9:4000".parse().unwrap();
    assert!(subscriber.check(&mut world, true));
    publisher.address = "127.0.0.8:4000".parse().unwrap();
    show(&mut world, &mut publisher, &mut camera, false);
    assert!(subscriber.receive(&mut world).0.is_empty(), "not from an unchecked address");
    assert!(publisher.check(&mut world, true));
    show(&mut world, &mut publisher, &mut camera, false);
    assert_eq!(subscriber.receive(&mut world).0.len(), 1);
}

#[test]
fn a_check_with_the_wrong_password_is_not_answered() {
    let mut world = World::new();
    let mut client = Client::open(&mut world, "127.0.0.1:1001");
    assert!(!client.check_with(&mut world, true, "a guessed password"));
    assert_eq!(world.engine.counters().stun_refused, 1);
    assert!(client.check(&mut world, true));
}

#[test]
fn an_address_in_use_is_not_given_away() {
    let mut world = World::new();
    let (mut publisher, mut camera, mut subscriber) = pair(&mut world);
    let mut thief = Client::open(&mut world, "127.0.0.1:1001");
    assert!(!thief.check(&mut world, true), "the publisher's address");
    show(&mut world, &mut publisher, &mut camera, true);
    assert_eq!(subscriber.receive(&mut world).0.len(), 1);
    // A port that is used anew after its holder fell silent is given.
    world.pass(6000 * MS);
    assert!(thief.check(&mut world, true));
}

#[test]
fn silence_ends_a_transport() {
    let mut world = World::new();
    let (publisher, _, mut subscriber) = pair(&mut world);
    let half_open = Client::open(&mut world, "127.0.0.1:1003");
    for _ in 0..29 {
        world.pass(1000 * MS);
        subscriber.check(&mut world, false);
    }
    assert_eq!(closed(&world, publisher.transport), None);
    world.pass(2000 * MS);
    assert_eq!(closed(&world, publisher.transport), Some(CloseReason::Timeout));
    assert_eq!(closed(&world, half_open.transport), Some(CloseReason::Timeout));
    assert_eq!(closed(&world, subscriber.transport), None);
}

#[test]
fn a_handshake_that_never_ends_is_ended() {
    let mut world = World::new();
    let mut client = Client::open(&mut world, "127.0.0.1:1001");
    for _ in 0..20 {
        client.check(&mut world, true);
        world.pass(1000 * MS);
    }
    assert_eq!(closed(&world, client.transport), Some(CloseReason::Dtls));
    assert_eq!(world.engine.counters().handshakes_failed, 1);
}

#[test]
fn nothing_is_left_behind() {
    let mut world = World::new();
    let (mut publisher, mut camera, mut subscriber) = pair(&mut world);
    show(&mut world, &mut publisher, &mut camera, true);
    assert_eq!(world.engine.sizes(), (1, 2, 1, 1));
    publisher.negotiate(&mut world, vec![], vec![]);
    assert_eq!(world.engine.sizes(), (1, 2, 0, 0), "unpublished");
    camera = Camera::new(&[]);
    publisher.negotiate(&mut world, vec![camera.section("0")], vec![]);
    subscriber.negotiate(&mut world, vec![], vec![leg(camera.track, Kind::Video, "0")]);
    assert_eq!(world.engine.sizes(), (1, 2, 1, 1));
    world.command(Command::CloseTransport { transport: subscriber.transport });
    assert_eq!(world.engine.sizes(), (1, 1, 1, 0));
    assert_eq!(closed(&world, subscriber.transport), Some(CloseReason::Requested));
    subscriber.receive(&mut world);
    let room = world.room;
    world.command(Command::CloseRoom { room });
    assert_eq!(world.engine.sizes(), (0, 0, 0, 0));
    assert_eq!(closed(&world, publisher.transport), Some(CloseReason::Room));
    assert!(world.engine.poll_timeout().is_none());
    let engine = &world.engine;
    assert!(engine.by_transport.is_empty() && engine.by_track.is_empty());
    assert!(engine.by_ufrag.is_empty() && engine.by_pair.is_empty());
}

#[test]
fn replays_and_forgeries_reach_nobody() {
    let mut world = World::new();
    let (mut publisher, mut camera, mut subscriber) = pair(&mut world);
    let packet = camera.frame(&mut publisher, "0", 0, 0, true, 1).remove(0);
    world.send(publisher.address, packet.clone());
    world.send(publisher.address, packet.clone());
    for len in 0..packet.len() {
        world.send(publisher.address, packet[..len].to_vec());
    }
    let mut forged = packet.clone();
    *forged.last_mut().unwrap() ^= 1;
    world.send(publisher.address, forged);
    world.send("127.0.0.1:6666".parse().unwrap(), packet);
    assert_eq!(subscriber.receive(&mut world).0.len(), 1);
    let counters = world.engine.counters();
    assert_eq!((counters.received, counters.forwarded, counters.stray), (1, 1, 1));
    assert!(counters.unauthentic > 80);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Anything at all, from a stranger and from a connected client's address.
    #[test]
    fn junk_harms_nobody(junk in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..50)) {
        let mut world = World::new();
        let (mut publisher, mut camera, mut subscriber) = pair(&mut world);
        for datagram in junk {
            world.send("127.0.0.1:6666".parse().unwrap(), datagram.clone());
            // DTLS records from a checked address are the peer's own affair.
            if !datagram.first().is_some_and(|byte| (20..=63).contains(byte)) {
                world.send(publisher.address, datagram);
            }
        }
        show(&mut world, &mut publisher, &mut camera, true);
        prop_assert_eq!(subscriber.receive(&mut world).0.len(), 1);
    }
}
