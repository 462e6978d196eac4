//! Data channels against `rtc::sctp` and `rtc::datachannel` driven as a client, on a simulated network.

use std::collections::BTreeMap;

use bytes::BytesMut;
use rtc::datachannel::data_channel::{DataChannel, DataChannelConfig, DataChannelMessage};
use rtc::datachannel::message::message_channel_open::ChannelType;
use rtc::sansio::Protocol;

use super::super::simnet::{End, Network};
use super::*;

const LIMIT: Duration = Duration::from_secs(60);

/// Ours, with what it told.
struct Ours {
    data: Data,
    open: Vec<Channel>,
    messages: Vec<(Channel, Bytes)>,
    ended: Option<DataEnd>,
    sent: usize,
}

impl Ours {
    fn new(network: &Network, active: bool, opens: bool) -> Self {
        let data = Data::new(network.now, active, opens);
        Self { data, open: Vec::new(), messages: Vec::new(), ended: None, sent: 0 }
    }

    fn events(&mut self) {
        while let Some(event) = self.data.poll_event() {
            match event {
                DataEvent::Open(channel) => self.open.push(channel),
                DataEvent::Message(channel, payload) => self.messages.push((channel, payload)),
                DataEvent::Ended(end) => self.ended = Some(end),
            }
        }
    }
}

impl End for Ours {
    fn receive(&mut self, now: Instant, datagram: Vec<u8>) {
        self.data.handle(now, datagram.into());
        self.events();
    }

    fn transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        let packet = self.data.poll_transmit(now)?;
        self.sent += 1;
        Some(packet.to_vec())
    }

    fn timeout(&self) -> Option<Instant> {
        self.data.poll_timeout()
    }

    fn tick(&mut self, now: Instant) {
        self.data.handle_timeout(now);
        self.events();
    }
}

/// A client: one association; opens channels itself or accepts ours.
struct Client {
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    channels: BTreeMap<u16, DataChannel>,
    messages: Vec<(String, Bytes)>,
    /// Reads nothing while set, so that its window closes.
    deaf: bool,
    closed: Vec<u16>,
    out: VecDeque<Vec<u8>>,
}

impl Client {
    fn new() -> Self {
        let endpoint = Endpoint::new(PEER, TransportProtocol::UDP, Arc::clone(&ENDPOINT), Some(Arc::clone(&SERVER)));
        Self {
            endpoint,
            association: None,
            channels: BTreeMap::new(),
            messages: Vec::new(),
            deaf: false,
            closed: Vec::new(),
            out: VecDeque::new(),
        }
    }

    /// Sends INIT as browsers do.
    fn connect(mut self, network: &Network) -> Self {
        let config = ClientConfig::new(transport_config());
        self.association = Some(self.endpoint.connect(network.now, config, PEER).unwrap());
        self
    }

    fn open(&mut self, now: Instant, id: u16, label: &str, channel_type: ChannelType) {
        let config = DataChannelConfig { channel_type, label: label.to_owned(), ..DataChannelConfig::default() };
        let (handle, association) = self.association.as_mut().unwrap();
        association.open_stream(id, Ppi::Binary).unwrap();
        self.channels.insert(id, DataChannel::dial(config, handle.0, id).unwrap());
        self.flush(now);
    }

    fn open_both(&mut self, now: Instant) {
        self.open(now, 0, "_reliable", ChannelType::Reliable);
        self.open(now, 2, "_lossy", ChannelType::PartialReliableRexmitUnordered);
    }

    fn send(&mut self, now: Instant, id: u16, text: bool, payload: &[u8]) {
        let message = DataChannel::get_data_channel_message(text, BytesMut::from(payload));
        self.channels.get_mut(&id).unwrap().handle_write(message).unwrap();
        self.flush(now);
    }

    fn flush(&mut self, now: Instant) {
        let (_, association) = self.association.as_mut().unwrap();
        for (id, channel) in &mut self.channels {
            while let Some(message) = channel.poll_write() {
                let mut stream = association.stream(*id).unwrap();
                stream.write_chunk_with_ppi(now, &message.payload.freeze(), message.ppi).unwrap();
            }
        }
    }

    fn read(&mut self, now: Instant) {
        let Some((handle, association)) = &mut self.association else { return };
        while let Some(event) = association.poll() {
            match event {
                Event::Stream(StreamEvent::Readable { id }) if !self.deaf => {
                    while let Ok(Some(chunks)) = association.stream(id).and_then(|mut s| s.read_sctp()) {
                        let payload = chunks.to_payload(MAX_MESSAGE).unwrap();
                        let channel = self.channels.entry(id).or_insert_with(|| {
                            DataChannel::accept(DataChannelConfig::default(), handle.0, id, chunks.ppi, &payload)
                                .unwrap()
                        });
                        if chunks.ppi == Ppi::Dcep && channel.is_handshake_complete() {
                            continue;
                        }
                        let message =
                            DataChannelMessage { stream_id: id, ppi: chunks.ppi, payload, ..Default::default() };
                        channel.handle_read(message).unwrap();
                        while let Some(message) = channel.poll_read() {
                            let empty = message.ppi == Ppi::BinaryEmpty;
                            let payload = if empty { Bytes::new() } else { message.payload.freeze() };
                            self.messages.push((channel.config().label.clone(), payload));
                        }
                    }
                }
                Event::AssociationLost { id, .. } => self.closed.push(id),
                _ => {}
            }
        }
        self.flush(now);
    }

    fn is_up(&self) -> bool {
        self.association.as_ref().is_some_and(|(_, association)| !association.is_handshaking())
    }
}

impl End for Client {
    fn receive(&mut self, now: Instant, datagram: Vec<u8>) {
        match self.endpoint.handle(now, PEER, None, datagram.into()) {
            Some((handle, DatagramEvent::NewAssociation(new))) => self.association = Some((handle, new)),
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((_, association)) = self.association.as_mut().filter(|(known, _)| *known == handle) {
                    association.handle_event(event);
                }
            }
            _ => {}
        }
        self.read(now);
    }

    fn transmit(&mut self, now: Instant) -> Option<Vec<u8>> {
        // The library gives packets in batches.
        if let Some((_, association)) = self.association.as_mut().filter(|_| self.out.is_empty()) {
            while let Some(transmit) = association.poll_transmit(now) {
                let Payload::RawEncode(packets) = transmit.message else { continue };
                self.out.extend(packets.into_iter().map(Vec::from));
            }
        }
        self.out.pop_front()
    }

    fn timeout(&self) -> Option<Instant> {
        self.association.as_ref().and_then(|(_, association)| association.poll_timeout())
    }

    fn tick(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
        self.read(now);
    }
}

fn both_open(ours: &mut Ours, _: &mut Client) -> bool {
    ours.open.len() == 2
}

/// v1: the client opens both channels.
fn connected(network: &mut Network) -> (Ours, Client) {
    let mut ours = Ours::new(network, false, false);
    let mut client = Client::new().connect(network);
    network.run(&mut ours, &mut client, LIMIT, |_, client| client.is_up()).expect("associates");
    client.open_both(network.now);
    network.run(&mut ours, &mut client, LIMIT, both_open).expect("opens");
    (ours, client)
}

/// v0's subscriber: we open both.
fn connected_v0(network: &mut Network) -> (Ours, Client) {
    let mut ours = Ours::new(network, false, true);
    let mut client = Client::new().connect(network);
    network.run(&mut ours, &mut client, LIMIT, both_open).expect("opens");
    (ours, client)
}

#[test]
fn messages_of_all_sizes_arrive_both_ways() {
    let mut network = Network::new(1, 0);
    let (mut ours, mut client) = connected(&mut network);
    let sizes = [0, 1, 1200, 100_000, MAX_MESSAGE];
    for size in sizes {
        let now = network.now;
        client.send(now, 0, size == 1, &vec![7; size]);
        ours.data.send(now, Channel::Reliable, vec![8; size].into()).unwrap();
        let got = |ours: &mut Ours, client: &mut Client| !ours.messages.is_empty() && !client.messages.is_empty();
        network.run(&mut ours, &mut client, LIMIT, got).expect("arrives");
        assert_eq!(ours.messages.pop(), Some((Channel::Reliable, vec![7; size].into())));
        assert_eq!(client.messages.pop(), Some(("_reliable".to_owned(), vec![8; size].into())));
    }
    let too_large = ours.data.send(network.now, Channel::Reliable, vec![0; MAX_MESSAGE + 1].into());
    assert_eq!(too_large, Err(SendRefusal::TooLarge(MAX_MESSAGE + 1)));
}

#[test]
fn what_is_sent_before_the_channel_is_open_arrives_in_order() {
    let mut network = Network::new(1, 0);
    let mut ours = Ours::new(&network, false, true);
    for n in 0..100u8 {
        ours.data.send(network.now, Channel::Reliable, vec![n].into()).unwrap();
    }
    assert!(!ours.data.is_open(Channel::Reliable));
    let mut client = Client::new().connect(&network);
    network.run(&mut ours, &mut client, LIMIT, |_, client| client.messages.len() == 100).expect("all arrive");
    assert!(client.messages.iter().zip(0u8..).all(|((_, payload), n)| payload[..] == [n]));
}

#[test]
fn reliable_survives_loss_in_order_and_lossy_does_not_wait() {
    let mut network = Network::new(3, 0);
    let (mut ours, mut client) = connected(&mut network);
    network.loss_percent = 20;
    for n in 0..200u8 {
        ours.data.send(network.now, Channel::Reliable, vec![n; 500].into()).unwrap();
        ours.data.send(network.now, Channel::Lossy, vec![n; 500].into()).unwrap();
    }
    let of = |client: &Client, label| {
        client.messages.iter().filter(|(l, _)| l == label).map(|(_, p)| p[0]).collect::<Vec<_>>()
    };
    network.run(&mut ours, &mut client, LIMIT, |_, client| of(client, "_reliable").len() == 200).expect("all arrive");
    assert!(of(&client, "_reliable").into_iter().eq(0..200));
    let lossy = of(&client, "_lossy");
    assert!((50..200).contains(&lossy.len()), "{} of 200: sent once each, so some are lost", lossy.len());
}

#[test]
fn we_open_the_channels_of_a_v0_subscriber_with_their_reliability() {
    let mut network = Network::new(1, 0);
    let (mut ours, mut client) = connected_v0(&mut network);
    let configs: Vec<_> =
        client.channels.iter().map(|(id, c)| (*id, c.config().label.as_str(), c.config().channel_type)).collect();
    let expected =
        [(1, "_reliable", ChannelType::Reliable), (3, "_lossy", ChannelType::PartialReliableRexmitUnordered)];
    assert_eq!(configs, expected);
    ours.data.send(network.now, Channel::Lossy, Bytes::from_static(b"hello")).unwrap();
    network.run(&mut ours, &mut client, LIMIT, |_, client| !client.messages.is_empty()).expect("arrives");
    assert_eq!(client.messages, [("_lossy".to_owned(), Bytes::from_static(b"hello"))]);
}

#[test]
fn channels_that_a_client_has_of_another_server_go_on_as_they_are() {
    for opens in [false, true] {
        let mut network = Network::new(1, 0);
        let (mut ours, mut client) = (Ours::new(&network, false, opens), Client::new());
        ours.data.adopt(network.now, [Some(5), Some(3)]);
        let took = network.run(&mut ours, &mut client, LIMIT, both_open).expect("goes on");
        assert!(took < INIT_PATIENCE, "{took:?}: INIT is ours to send");
        assert_eq!(ours.open, [Channel::Reliable, Channel::Lossy]);
        assert!(ours.data.streams.len() == 2 && client.channels.is_empty(), "nothing is opened again");
        client.open(network.now, 5, "_reliable", ChannelType::Reliable);
        client.send(network.now, 5, false, b"hello");
        network.run(&mut ours, &mut client, LIMIT, |ours, _| !ours.messages.is_empty()).expect("arrives");
        assert_eq!(ours.messages, [(Channel::Reliable, Bytes::from_static(b"hello"))]);
    }
}

#[test]
fn we_send_init_where_the_client_does_not() {
    for (active, opens) in [(false, true), (true, true)] {
        let mut network = Network::new(1, 0);
        let mut ours = Ours::new(&network, active, opens);
        let mut client = Client::new();
        let took = network.run(&mut ours, &mut client, LIMIT, both_open).expect("opens");
        assert!(took >= INIT_PATIENCE && took < INIT_PATIENCE + Duration::from_millis(500), "{took:?}");
        let parity = u16::from(!active);
        assert!(client.channels.keys().all(|id| id % 2 == parity), "stream ids follow the DTLS role");
    }
}

#[test]
fn a_client_that_inits_after_all_wins_over_ours() {
    let mut network = Network::new(1, 0);
    let mut ours = Ours::new(&network, false, true);
    network.loss_percent = 100;
    let mut absent = Client::new();
    network.run(&mut ours, &mut absent, Duration::from_millis(1500), |_, _| false);
    assert!(ours.sent > 0, "our INIT is out");
    network.loss_percent = 0;
    let mut client = Client::new().connect(&network);
    network.run(&mut ours, &mut client, LIMIT, both_open).expect("opens");
    assert!(client.is_up());
}

#[test]
fn a_client_without_sctp_is_left_alone() {
    let mut network = Network::new(1, 0);
    let mut ours = Ours::new(&network, false, false);
    let mut client = Client::new();
    assert!(network.run(&mut ours, &mut client, LIMIT, |_, _| false).is_none());
    assert_eq!((ours.sent, ours.ended), (0, None));
}

#[test]
fn the_association_survives_lost_handshake_packets() {
    for seed in 0..30 {
        let mut network = Network::new(seed, 30);
        let mut ours = Ours::new(&network, false, false);
        let mut client = Client::new().connect(&network);
        network.run(&mut ours, &mut client, LIMIT, |_, client| client.is_up()).expect("associates");
        client.open_both(network.now);
        network.run(&mut ours, &mut client, LIMIT, both_open).expect("opens");
    }
}

#[test]
fn other_channels_are_acknowledged_and_ignored() {
    let mut network = Network::new(1, 0);
    let (mut ours, mut client) = connected(&mut network);
    let now = network.now;
    client.open(now, 4, "_data_track", ChannelType::PartialReliableRexmitUnordered);
    client.open(now, 6, "something else", ChannelType::Reliable);
    for id in [4, 6] {
        client.send(now, id, false, &[1; 5000]);
    }
    let acknowledged =
        |_: &mut Ours, client: &mut Client| client.channels.values().all(DataChannel::is_handshake_complete);
    network.run(&mut ours, &mut client, LIMIT, acknowledged).expect("acknowledged");
    let (_, association) = client.association.as_mut().unwrap();
    association.stream(6).unwrap().close(network.now).unwrap();
    client.send(network.now, 0, false, b"goes on");
    network.run(&mut ours, &mut client, LIMIT, |ours, _| !ours.messages.is_empty()).expect("arrives");
    assert_eq!(ours.messages, [(Channel::Reliable, Bytes::from_static(b"goes on"))]);
    assert_eq!((ours.open.len(), ours.ended), (2, None));
}

#[test]
fn a_client_that_reads_nothing_overflows_reliable_and_loses_lossy() {
    let mut network = Network::new(1, 0);
    let (mut ours, mut client) = connected(&mut network);
    client.deaf = true;
    let message = Bytes::from(vec![0; 60_000]);
    let mut refused = None;
    for _ in 0..200 {
        ours.data.send(network.now, Channel::Lossy, message.clone()).unwrap();
        refused = ours.data.send(network.now, Channel::Reliable, message.clone()).err();
        if refused.is_some() {
            break;
        }
        network.run(&mut ours, &mut client, Duration::from_millis(100), |_, _| false);
    }
    assert_eq!(refused, Some(SendRefusal::Overflow));
    assert!(ours.ended.is_none());
}

#[test]
fn waiting_for_a_channel_that_never_opens_is_bounded() {
    let network = Network::new(1, 0);
    let mut ours = Ours::new(&network, false, false);
    let empty = (0..1_000_000).take_while(|_| ours.data.send(network.now, Channel::Reliable, Bytes::new()).is_ok());
    assert_eq!(empty.count(), MAX_RELIABLE_BUFFER / 257);
    for _ in 0..100_000 {
        assert_eq!(ours.data.send(network.now, Channel::Lossy, Bytes::from_static(b"x")), Ok(()));
    }
    assert_eq!(ours.data.send(network.now, Channel::Reliable, Bytes::new()), Err(SendRefusal::Overflow));
}

#[test]
fn acknowledged_messages_make_room_for_others() {
    // 20 MB through a limit of 4.
    let mut network = Network::new(1, 0);
    let (mut ours, mut client) = connected(&mut network);
    for round in 1..=20 {
        for _ in 0..10 {
            ours.data.send(network.now, Channel::Reliable, vec![0; 100_000].into()).unwrap();
        }
        network.run(&mut ours, &mut client, LIMIT, |_, client| client.messages.len() == round * 10).expect("arrive");
    }
}

#[test]
fn open_again_and_again_is_not_answered_again() {
    let mut network = Network::new(1, 0);
    let (mut ours, header, tsn) = tapped(&mut network);
    let open = |n: u32| {
        let (kind, flags, mut body) = data_chunk(tsn + n, 0, 2 + n as u16, 3);
        body.truncate(8);
        body.extend([0, 0, 0, 50, 3, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0]);
        body.extend(b"_reliable");
        packet(&header, &[(kind, flags, body)])
    };
    let mut answered = 0;
    for n in 0..1000 {
        network.now += Duration::from_micros(100);
        ours.receive(network.now, open(n));
        while let Some(packet) = ours.transmit(network.now) {
            answered += usize::from(packet[12] == 0);
        }
    }
    assert_eq!((answered, ours.ended), (0, None));
}

#[test]
fn repeated_inits_cost_at_most_sixteen_associations() {
    let mut network = Network::new(1, 100);
    let mut ours = Ours::new(&network, false, false);
    for _ in 0..1000 {
        let mut client = Client::new().connect(&network);
        while let Some(packet) = client.transmit(network.now) {
            ours.receive(network.now, packet);
        }
        network.run(&mut ours, &mut client, Duration::from_millis(1), |_, _| false);
    }
    assert!(ours.data.pending.len() <= MAX_INITS);
}

#[test]
fn an_abort_by_the_peer_ends_it() {
    let mut network = Network::new(1, 0);
    let (mut ours, mut client) = connected(&mut network);
    client.association.as_mut().unwrap().1.abort().unwrap();
    network.run(&mut ours, &mut client, LIMIT, |ours, _| ours.ended.is_some()).expect("ends");
    assert_eq!(ours.ended, Some(DataEnd::Peer));
    assert_eq!(ours.data.send(network.now, Channel::Reliable, Bytes::new()), Err(SendRefusal::Ended));
    assert_eq!(ours.data.poll_timeout(), None);
}

/// One SCTP packet with these chunks (type, flags, body), its CRC32c right, for the client's association.
fn packet(client_init_ack: &[u8], chunks: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
    let mut packet = client_init_ack[..12].to_vec();
    packet[8..12].fill(0);
    for (kind, flags, body) in chunks {
        packet.extend([*kind, *flags]);
        packet.extend(u16::try_from(body.len() + 4).unwrap().to_be_bytes());
        packet.extend(body);
        packet.resize(packet.len().next_multiple_of(4), 0);
    }
    let crc = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&crc);
    packet
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg()))
    })
}

fn data_chunk(tsn: u32, stream: u16, ssn: u16, flags: u8) -> (u8, u8, Vec<u8>) {
    let mut body = tsn.to_be_bytes().to_vec();
    body.extend(stream.to_be_bytes());
    body.extend(ssn.to_be_bytes());
    body.extend([0, 0, 0, 53, 1]);
    (0, flags, body)
}

/// A connected pair, the header of the client's packets and its next TSN. On stream 0 the next SSN is 2.
fn tapped(network: &mut Network) -> (Ours, Vec<u8>, u32) {
    let (mut ours, mut client) = connected(network);
    client.send(network.now, 0, false, b"tap");
    let packet = client.transmit(network.now).unwrap();
    ours.receive(network.now, packet.clone());
    assert_eq!(packet[12], 0, "a DATA chunk");
    let tsn = u32::from_be_bytes(packet[16..20].try_into().unwrap());
    assert_eq!(ours.messages.len(), 1);
    (ours, packet, tsn + 1)
}

fn flood(network: &mut Network, ours: &mut Ours, mut next: impl FnMut(u32) -> Vec<u8>) -> u32 {
    for n in 0..30_000 {
        network.now += Duration::from_micros(100);
        ours.receive(network.now, next(n));
        while ours.transmit(network.now).is_some() {}
        if ours.ended.is_some() {
            return n;
        }
    }
    30_000
}

#[test]
fn fragments_that_never_complete_a_message_end_the_association() {
    let mut network = Network::new(1, 0);
    let (mut ours, header, tsn) = tapped(&mut network);
    let chunks = |n: u32| {
        (0..50).map(|k| data_chunk(tsn + n * 50 + k, 0, 2, if n + k == 0 { 2 } else { 0 })).collect::<Vec<_>>()
    };
    let n = flood(&mut network, &mut ours, |n| packet(&header, &chunks(n)));
    assert_eq!(ours.ended, Some(DataEnd::Limits));
    assert!(n <= 3072 / 50 + 1);
}

#[test]
fn chunks_far_ahead_are_dropped_and_the_rest_goes_on() {
    let mut network = Network::new(1, 0);
    let (mut ours, header, tsn) = tapped(&mut network);
    while ours.transmit(network.now).is_some() {}
    network.now += Duration::from_millis(300);
    ours.tick(network.now); // the delayed SACK
    while ours.transmit(network.now).is_some() {}
    flood(&mut network, &mut ours, |n| packet(&header, &[data_chunk(tsn + 5000 + n, 0, 9, 3)]));
    assert_eq!(ours.ended, None);
    ours.receive(network.now, packet(&header, &[data_chunk(tsn, 0, 2, 3)]));
    assert_eq!(ours.messages.len(), 2);
}

#[test]
fn endless_resets_and_streams_end_the_association() {
    let mut network = Network::new(1, 0);
    let (mut ours, header, _) = tapped(&mut network);
    let n = flood(&mut network, &mut ours, |n| {
        let mut body = vec![0, 13, 0, 18];
        for number in [n, 0, 0x7fff_0000] {
            body.extend(number.to_be_bytes());
        }
        body.extend([0, 0]);
        packet(&header, &[(130, 0, body)])
    });
    assert_eq!((ours.ended, n), (Some(DataEnd::Limits), 1024));

    let (mut ours, header, tsn) = tapped(&mut network);
    let n = flood(&mut network, &mut ours, |n| packet(&header, &[data_chunk(tsn + n, 10 + n as u16, 0, 3)]));
    assert_eq!(ours.ended, Some(DataEnd::Limits));
    assert!(n <= 1024);
}

#[test]
fn garbage_is_ignored() {
    let mut network = Network::new(1, 0);
    let (mut ours, header, tsn) = tapped(&mut network);
    let mut random = super::super::simnet::Random::new(3);
    for len in 0..300 {
        ours.receive(network.now, (0..len).map(|_| random.below(256) as u8).collect());
        let mut damaged = packet(&header, &[data_chunk(tsn, 0, 2, 3)]);
        let at = random.below(damaged.len() as u64) as usize;
        damaged[at] ^= 1 << random.below(8);
        ours.receive(network.now, damaged);
        ours.receive(network.now, header[..len.min(header.len())].to_vec());
    }
    assert_eq!((ours.messages.len(), ours.ended), (1, None));
    ours.receive(network.now, packet(&header, &[data_chunk(tsn, 0, 2, 3)]));
    assert_eq!(ours.messages.len(), 2);
}
