//! The socket calls, between real sockets on loopback.

use std::time::Instant;

use super::super::outbox::Slot;
use super::*;

fn socket(address: &str) -> (Socket, SocketAddr) {
    let socket = UdpSocket::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    (Socket::new(socket).unwrap(), address)
}

/// Receives until `count` datagrams came; loopback delivers within the send call.
fn receive(socket: &Socket, count: usize) -> Vec<(FiveTuple, Vec<u8>)> {
    let (mut batch, mut all) = (ReceiveBatch::new(), Vec::new());
    while all.len() < count {
        socket.receive(&mut batch).unwrap();
        let (buffer, datagrams) = batch.datagrams();
        let whole = |datagram: &Datagram| buffer[datagram.start..][..datagram.len].to_vec();
        all.extend(datagrams.iter().map(|datagram| (datagram.from, whole(datagram))));
    }
    all
}

/// Sends one datagram.
fn send(socket: &mut Socket, to: FiveTuple, datagram: &[u8]) -> Sent {
    let mut outbox = Outbox::new();
    outbox.push(&to, &mut Slot::STALE.clone(), datagram);
    socket.send(&outbox, &mut SendBatch::new())
}

#[test]
fn runs_leave_together_and_arrive_whole() {
    let (mut sender, from) = socket("127.0.0.1:0");
    let (receiver, to) = socket("127.0.0.1:0");
    let (other, to_other) = socket("127.0.0.1:0");
    let mut outbox = Outbox::new();
    let (mut slot, mut slot_other) = (Slot::STALE, Slot::STALE);
    let sizes = [1100, 1100, 1100, 900, 1100, 30, 1200, 1200, 1];
    let datagrams: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(i, &size)| vec![i as u8; size]).collect();
    for datagram in &datagrams {
        outbox.push(&FiveTuple::towards(to), &mut slot, datagram);
        outbox.push(&FiveTuple::towards(to_other), &mut slot_other, &datagram[..1]);
    }
    let sent = sender.send(&outbox, &mut SendBatch::new());
    assert_eq!((sent.datagrams, sent.refused, sent.calls), (18, 0, 1));
    if sender.gso() {
        // 1100 1100 1100 900 | 1100 30 | 1200 1200 1, and nine of one byte
        assert_eq!(sent.runs, 4);
    }
    let expected: Vec<_> = datagrams.iter().map(|d| (FiveTuple::udp(to, from), d.clone())).collect();
    assert_eq!(receive(&receiver, datagrams.len()), expected);
    let expected: Vec<_> = datagrams.iter().map(|d| (FiveTuple::udp(to_other, from), d[..1].to_vec())).collect();
    assert_eq!(receive(&other, datagrams.len()), expected);
}

#[test]
fn more_than_one_call_holds() {
    let (mut sender, _) = socket("127.0.0.1:0");
    let receivers: Vec<_> = (0..SEND_BATCH + 10).map(|_| socket("127.0.0.1:0")).collect();
    let mut outbox = Outbox::new();
    for i in 0..3u8 {
        for (_, to) in &receivers {
            outbox.push(&FiveTuple::towards(*to), &mut Slot::STALE.clone(), &[i; 20]);
        }
    }
    let sent = sender.send(&outbox, &mut SendBatch::new());
    assert_eq!((sent.datagrams, sent.refused), (3 * receivers.len() as u64, 0));
    for (receiver, _) in &receivers {
        let payloads: Vec<u8> = receive(receiver, 3).iter().map(|(_, d)| d[0]).collect();
        assert_eq!(payloads, [0, 1, 2]);
    }
}

/// A socket bound to all addresses; `None` where the machine has no IPv6.
fn any(address: &str) -> Option<(Socket, u16)> {
    let bound = UdpSocket::bind(address).ok()?;
    let port = bound.local_addr().unwrap().port();
    Some((Socket::new(bound).unwrap(), port))
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    for (bind, peer, ours) in [
        ("0.0.0.0:0", "127.0.0.1:0", ["127.0.0.2", "127.0.0.3"].as_slice()),
        ("[::]:0", "127.0.0.1:0", &["127.0.0.2", "127.0.0.3"]),
        ("[::]:0", "[::1]:0", &["::1"]),
    ] {
        let Some((mut server, port)) = any(bind) else { continue };
        let (mut client, remote) = socket(peer);
        for ours in ours {
            let local = SocketAddr::new(ours.parse().unwrap(), port);
            send(&mut client, FiveTuple::towards(local), b"question");
            let pair = FiveTuple::udp(local, remote);
            assert_eq!(receive(&server, 1), [(pair, b"question".to_vec())], "{bind} at {local}");
            let mut outbox = Outbox::new();
            let mut slot = Slot::STALE;
            (0..3).for_each(|_| outbox.push(&pair, &mut slot, &[7; 600])); // a run, if there are runs
            assert_eq!(server.send(&outbox, &mut SendBatch::new()).datagrams, 3);
            let expected = (FiveTuple::udp(remote, local), vec![7; 600]);
            assert_eq!(receive(&client, 3), [expected.clone(), expected.clone(), expected], "{bind} from {local}");
        }
    }
}

#[test]
fn an_address_that_is_gone_does_not_end_runs_for_all() {
    for bind in ["0.0.0.0:0", "[::]:0"] {
        let Some((mut server, port)) = any(bind) else { continue };
        let (client, remote) = socket("127.0.0.1:0");
        let (gone, there) = (SocketAddr::from(([203, 0, 113, 1], port)), SocketAddr::from(([127, 0, 0, 2], port)));
        let mut outbox = Outbox::new();
        for local in [gone, there] {
            let mut slot = Slot::STALE;
            (0..3).for_each(|_| outbox.push(&FiveTuple::udp(local, remote), &mut slot, b"hello"));
        }
        let gso = server.gso();
        let sent = server.send(&outbox, &mut SendBatch::new());
        assert_eq!((sent.datagrams, sent.refused, server.gso()), (3, 3, gso), "{bind}");
        assert!(receive(&client, 3).iter().all(|(from, _)| from.remote == there));
    }
}

#[test]
fn without_checksum_offload_datagrams_leave_one_by_one() {
    let (mut sender, from) = socket("127.0.0.1:0");
    let (receiver, to) = socket("127.0.0.1:0");
    // The kernel refuses runs on a socket without checksums with EINVAL (udp_send_skb), as it does with EIO where the
    // interface cannot make them.
    set_option(&sender.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, &c_int::from(true)).unwrap();
    let mut outbox = Outbox::new();
    let mut slot = Slot::STALE;
    let datagrams: Vec<Vec<u8>> = [900, 900, 900, 100].iter().enumerate().map(|(i, &len)| vec![i as u8; len]).collect();
    datagrams.iter().for_each(|datagram| outbox.push(&FiveTuple::towards(to), &mut slot, datagram));
    let sent = sender.send(&outbox, &mut SendBatch::new());
    assert_eq!((sent.datagrams, sent.runs, sent.refused, sender.gso()), (4, 4, 0, false));
    let expected: Vec<_> = datagrams.iter().map(|d| (FiveTuple::udp(to, from), d.clone())).collect();
    assert_eq!(receive(&receiver, 4), expected);
    assert_eq!(sender.send(&outbox, &mut SendBatch::new()).calls, 1, "and it is not tried again");
}

#[test]
fn a_refused_destination_does_not_stop_the_others() {
    let (mut sender, _) = socket("127.0.0.1:0");
    let (receiver, to) = socket("127.0.0.1:0");
    let mut outbox = Outbox::new();
    for (to, what) in [("127.0.0.1:0".parse().unwrap(), b"nowhere".as_slice()), (to, b"there")] {
        outbox.push(&FiveTuple::towards(to), &mut Slot::STALE.clone(), what);
    }
    let sent = sender.send(&outbox, &mut SendBatch::new());
    assert_eq!((sent.datagrams, sent.refused), (1, 1));
    assert_eq!(receive(&receiver, 1)[0].1, b"there");
}

#[test]
fn it_is_known_when_datagrams_came() {
    let (mut sender, _) = socket("127.0.0.1:0");
    let (receiver, to) = socket("127.0.0.1:0");
    let epoch = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let mut batch = ReceiveBatch::new();
    let before = epoch();
    let (mut outbox, mut slot) = (Outbox::new(), Slot::STALE);
    for datagram in [&[1; 1000][..], &[2; 1000], &[3; 10]] {
        outbox.push(&FiveTuple::towards(to), &mut slot, datagram);
    }
    sender.send(&outbox, &mut SendBatch::new());
    let after = epoch();
    receiver.receive(&mut batch).unwrap();
    let arrivals: Vec<_> = batch.arrivals().collect();
    assert!(arrivals.iter().all(|(came, _)| (before..=after).contains(came)), "{before:?} {arrivals:?} {after:?}");
    assert_eq!(arrivals.iter().map(|(_, datagrams)| datagrams).sum::<u64>(), 3);
}

#[test]
fn how_long_a_datagram_lay_there_is_told() {
    let (mut sender, from) = socket("127.0.0.1:0");
    let (receiver, to) = socket("127.0.0.1:0");
    let before = Instant::now();
    send(&mut sender, FiveTuple::towards(to), b"report");
    let sent = Instant::now();
    while sent.elapsed() < Duration::from_millis(3) {
        std::hint::spin_loop();
    }
    let mut batch = ReceiveBatch::new();
    assert_eq!(receiver.receive(&mut batch).unwrap(), 1);
    let [Datagram { from: tuple, waited, .. }] = *batch.datagrams().1 else { panic!("one datagram") };
    assert_eq!(tuple, FiveTuple::udp(to, from));
    // The clocks' grains differ by some microseconds.
    let least = Duration::from_micros(2900);
    assert!(least <= waited && waited <= before.elapsed().min(LONGEST_WAIT), "{waited:?}");
}
