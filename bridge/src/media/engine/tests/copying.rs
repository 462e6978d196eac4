//! The packets of one receive call on their way to many subscribers.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::super::control::*;
use super::super::super::rtp::Outgoing;
use super::super::super::simulation::*;
use super::super::super::udp::Datagram;

/// Packets of a single stream's frames with so many bytes of payload each, sealed by their publisher, in one buffer.
fn sealed(publisher: &mut Client, (first, picture): (u64, usize), frames: &[&[usize]]) -> (Vec<u8>, Vec<Datagram>) {
    let (mut buffer, mut all, mut index) = (Vec::new(), Vec::new(), first);
    for (picture, sizes) in (picture..).zip(frames) {
        for (at, &size) in sizes.iter().enumerate() {
            let header = Outgoing {
                marker: at + 1 == sizes.len(),
                payload_type: 96,
                sequence: index as u16,
                timestamp: 3000 * picture as u32,
                ssrc: Camera::ssrc(0),
            };
            let mut body = vp8_payload(picture as u16, picture as u8, picture == 0, at == 0, 0);
            body.resize(size, index as u8);
            let packet = publisher.seal(&header, index, &[(IDS.mid, b"7")], &body);
            all.push(Datagram {
                from: pair(publisher.address),
                start: buffer.len(),
                len: packet.len(),
                waited: Duration::ZERO,
            });
            buffer.extend_from_slice(&packet);
            index += 1;
        }
    }
    (buffer, all)
}

/// A publisher and three subscribers who have had a key frame.
fn room() -> (World, Client, Vec<Client>) {
    let mut world = World::new();
    let mut publisher = Client::connect(&mut world, "127.0.0.1:1001");
    let camera = Camera::new(&[]);
    publisher.negotiate(&mut world, vec![camera.section("7")], vec![]);
    let subscribers = (0..3).map(|i| {
        let subscriber = Client::connect(&mut world, &format!("127.0.0.1:{}", 2001 + i));
        subscriber.negotiate(&mut world, vec![], vec![leg(camera.track, Kind::Video, "3")]);
        subscriber
    });
    let mut subscribers: Vec<Client> = subscribers.collect();
    let (key, _) = sealed(&mut publisher, (99, 0), &[&[120]]);
    world.send(publisher.address, key);
    subscribers.iter_mut().for_each(|subscriber| assert_eq!(subscriber.receive(&mut world).0.len(), 1));
    (world, publisher, subscribers)
}

#[test]
fn a_frame_leaves_as_one_run_to_each() {
    let (mut world, mut publisher, mut subscribers) = room();
    let sizes: &[&[usize]] = &[&[900, 901, 900, 901, 899], &[700], &[500, 800, 801]];
    let (mut buffer, datagrams) = sealed(&mut publisher, (100, 1), sizes);
    world.engine.datagrams(world.now, &mut buffer, &datagrams, &mut |_| panic!("that is not much"));
    let queues: Vec<(SocketAddr, Vec<&[u8]>)> =
        world.engine.outbox().queues().map(|(to, datagrams)| (to.remote, datagrams.collect())).collect();
    let lengths = |at: usize| queues[at].1.iter().map(|datagram| datagram.len()).collect::<Vec<_>>();
    assert_eq!(queues.len(), 3);
    let whole = lengths(0)[0];
    // A packet of the third frame is too short to be made as long as the others.
    assert_eq!(lengths(0), [0, 0, 0, 0, 2, 201, 401, 100, 100].map(|less| whole - less));
    assert_eq!((lengths(1), lengths(2)), (lengths(0), lengths(0)));
    for (_, datagrams) in &queues {
        for pair in datagrams.windows(2) {
            assert_eq!(pair[0].as_ptr_range().end, pair[1].as_ptr(), "one after another");
        }
    }
    world.pass(MS); // nothing is due, what waits is collected with the next
    world.command(Command::CloseRoom { room: RoomId::next() });
    for subscriber in &mut subscribers {
        let (got, _) = subscriber.receive(&mut world);
        let read: Vec<_> = got.iter().map(|got| (got.header.sequence, got.payload.len(), got.padding)).collect();
        let first = got[0].header.sequence;
        let expected = [(900, 1), (901, 0), (900, 1), (901, 0), (899, 0), (700, 0), (500, 0), (800, 1), (801, 0)];
        let numbered = expected.iter().zip(0..).map(|(&(len, padding), at)| (first.wrapping_add(at), len, padding));
        assert_eq!(read, numbered.collect::<Vec<_>>());
        assert!(got.iter().zip(100..).all(|(got, index)| got.payload.ends_with(&[index; 10])), "each its own");
    }
}

#[test]
fn a_large_batch_is_sent_in_parts_and_whole() {
    let (mut world, mut publisher, subscribers) = room();
    let frame = [1100; 250];
    let (mut buffer, mut datagrams) = sealed(&mut publisher, (100, 1), &[&frame]);
    datagrams.swap(3, 4); // out of order, but no later than the frame
    let (mut parts, mut sent) = (0, 0);
    world.engine.datagrams(world.now, &mut buffer, &datagrams, &mut |outbox| {
        parts += 1;
        assert!(outbox.bytes() < 512 << 10, "{} bytes at once", outbox.bytes());
        sent += outbox.queues().map(|(_, datagrams)| datagrams.count()).sum::<usize>();
        outbox.clear();
    });
    sent += world.engine.outbox().queues().map(|(_, datagrams)| datagrams.count()).sum::<usize>();
    assert!(parts >= 2, "{parts}");
    assert_eq!(sent, 250 * subscribers.len());
}
