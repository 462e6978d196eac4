//! How much is sent to a subscriber, and what its feedback does.

use super::super::super::control::*;
use super::super::super::rtcp;
use super::super::super::simulation::*;

#[test]
fn everything_sent_on_a_transport_is_numbered_in_one_row() {
    let mut world = World::new();
    let mut publisher = Client::connect(&mut world, "127.0.0.1:1001");
    let mut cameras = [Camera::new(&["q"]), Camera::new(&["q"])];
    let [front, back] = &cameras;
    publisher.negotiate(&mut world, vec![front.section("0")], vec![]);
    let mut other = Client::connect(&mut world, "127.0.0.1:1002");
    other.negotiate(&mut world, vec![back.section("0")], vec![]);
    let mut subscriber = Client::connect(&mut world, "127.0.0.1:1003");
    let legs = [leg(front.track, Kind::Video, "1"), leg(back.track, Kind::Video, "2")];
    subscriber.negotiate(&mut world, vec![], legs.to_vec());
    let mut got = Vec::new();
    for i in 0..10u32 {
        let [front, back] = &mut cameras;
        for packet in front.frame(&mut publisher, "0", 0, i * 33, i == 0, 3) {
            world.send(publisher.address, packet);
        }
        for packet in back.frame(&mut other, "0", 0, i * 33, i == 0, 2) {
            world.send(other.address, packet);
        }
        let (packets, _) = subscriber.receive(&mut world);
        let mut nack = rtcp::Writer::default();
        nack.nack(packets[0].header.ssrc, &[packets[0].header.sequence]);
        subscriber.rtcp(&mut world, nack.bytes());
        got.extend(packets);
        got.extend(subscriber.receive(&mut world).0);
    }
    let ssrcs: std::collections::BTreeSet<u32> = got.iter().map(|packet| packet.header.ssrc).collect();
    assert_eq!(ssrcs, [legs[0].ssrc, legs[0].rtx_ssrc, legs[1].ssrc].into(), "media and repairs");
    let numbers: Vec<u16> = got.iter().filter_map(|packet| packet.number).collect();
    assert_eq!(numbers, (0..60).collect::<Vec<u16>>());
}

#[test]
fn a_section_without_the_extension_bears_no_numbers() {
    let mut world = World::new();
    let mut publisher = Client::connect(&mut world, "127.0.0.1:1001");
    let mut camera = Camera::new(&["q"]);
    publisher.negotiate(&mut world, vec![camera.section("0")], vec![]);
    let mut subscriber = Client::connect(&mut world, "127.0.0.1:1002");
    let leg = SendSection { transport_wide: false, ..leg(camera.track, Kind::Video, "1") };
    subscriber.negotiate(&mut world, vec![], vec![leg]);
    for packet in camera.frame(&mut publisher, "0", 0, 0, true, 2) {
        world.send(publisher.address, packet);
    }
    let (packets, _) = subscriber.receive(&mut world);
    assert_eq!(packets.iter().map(|packet| packet.number).collect::<Vec<_>>(), [None, None]);
}
