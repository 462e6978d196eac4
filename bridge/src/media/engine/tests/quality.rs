//! What the engine says of connections.

use super::super::super::control::*;
use super::super::super::simulation::*;

fn qualities(world: &mut World, of: TransportId) -> Vec<Quality> {
    let events = std::mem::take(&mut world.events).into_iter();
    let own = events.filter_map(|event| match event {
        Event::Quality { transport, quality } if transport == of => Some(quality),
        _ => None,
    });
    own.collect()
}

#[test]
fn silence_is_noticed_at_once_and_so_is_its_end() {
    let mut world = World::new();
    let mut client = Client::connect(&mut world, "127.0.0.1:1001");
    let transport = client.transport;
    for _ in 0..5 {
        // Checks of consent alone: a subscriber of nothing.
        world.pass(6000 * MS);
        client.check(&mut world, false);
    }
    let heard = qualities(&mut world, transport);
    assert!((4..=6).contains(&heard.len()), "{heard:?}");
    assert!(heard.iter().all(|quality| !quality.silent));
    world.pass(7000 * MS);
    qualities(&mut world, transport);
    world.pass(1100 * MS);
    let silent = qualities(&mut world, transport);
    assert_eq!(silent.iter().map(|quality| quality.silent).collect::<Vec<_>>(), [true]);
    client.check(&mut world, false);
    world.pass(1100 * MS);
    let back = qualities(&mut world, transport);
    assert_eq!(back.iter().map(|quality| quality.silent).collect::<Vec<_>>(), [false]);
}

#[test]
fn what_is_lost_on_the_way_in_and_layers_that_stop_are_counted() {
    let mut world = World::new();
    let mut publisher = Client::connect(&mut world, "127.0.0.1:1001");
    let mut camera = Camera::new(&["q", "h"]);
    publisher.negotiate(&mut world, vec![camera.section("0")], vec![]);
    let subscriber = Client::connect(&mut world, "127.0.0.1:1002");
    subscriber.negotiate(&mut world, vec![], vec![leg(camera.track, Kind::Video, "1")]);
    let mut send = |world: &mut World, layers: usize, seconds: u32| {
        for turn in 0..seconds * 10 {
            for layer in 0..layers {
                for packet in camera.frame(&mut publisher, "0", layer, turn * 100, turn == 0, 3) {
                    world.send(publisher.address, packet);
                }
                camera.skip(layer); // one of four is lost, and is never repaired
            }
            world.pass(100 * MS);
        }
        qualities(world, publisher.transport)
    };
    let both = send(&mut world, 2, 11);
    let last = both.last().unwrap();
    assert!((0.23..=0.27).contains(&last.up.video_loss), "{last:?}");
    assert_eq!((last.up.layers_short, last.up.audio_loss), (0.0, 0.0));
    let one = send(&mut world, 1, 11);
    assert_eq!(one.last().unwrap().up.layers_short, 1.0);
}
