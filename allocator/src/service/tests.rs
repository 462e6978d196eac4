//! The service over its real gRPC, through the in-memory pipe.

use std::time::Duration;

use bytes::Bytes;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use prost::Message;
use ratssaal_process::grpc::{Caller, Role};
use ratssaal_proto::allocator::v1::allocator_client::AllocatorClient;
use ratssaal_proto::allocator::v1::allocator_server::Allocator as _;
use ratssaal_proto::allocator::v1::bridge_order::Order;
use ratssaal_proto::allocator::v1::refusal::Code;
use ratssaal_proto::allocator::v1::tail_frame::Frame;
use ratssaal_proto::allocator::v1::{
    AppendRequest, BridgeReport, BridgeState, ClusterRequest, DrainRequest, EndRoomRequest, ListRoomsRequest, Load,
    LogEntry, OpenRoomRequest, PlaceRequest, Refusal, ReleaseRequest, RoomInfo, RoomSettings, SnapshotRequest,
    TailRequest,
};
use ratssaal_proto::room::v1::entry::Event;
use ratssaal_proto::room::v1::{EndReason, Ended, Entry, LeaveReason};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

use super::*;
use crate::embedded;
use crate::redis_server::Server;
use crate::store::{RedisSettings, RedisStore, Writer};

/// Longest a test waits for something that is to happen by itself.
const PATIENCE: Duration = Duration::from_secs(20);

struct Harness {
    service: Service,
    client: AllocatorClient<Channel>,
    registry: Registry,
}

fn harness(config: Config) -> Harness {
    let mut registry = Registry::default();
    let service = Service::in_memory(config, &mut registry).unwrap();
    let client = AllocatorClient::new(embedded(&service)).max_decoding_message_size(4 << 20);
    Harness { service, client, registry }
}

impl Harness {
    fn metric(&self, line: &str) -> bool {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text.lines().any(|found| found == line)
    }

    async fn attach(&mut self, report: BridgeReport) -> Result<Bridge, Status> {
        let (reports, outgoing) = mpsc::channel(4);
        reports.send(report.clone()).await.unwrap();
        let orders = self.client.attach(ReceiverStream::new(outgoing)).await?.into_inner();
        let mut bridge = Bridge { reports, orders, report };
        let welcome = bridge.order().await?;
        assert!(matches!(welcome, Order::Welcome(_)), "{welcome:?}");
        Ok(bridge)
    }

    async fn place(&mut self, room: &str, identity: &str) -> RoomInfo {
        self.client.place(placement(room, identity)).await.unwrap().into_inner().room.unwrap()
    }

    async fn append(&mut self, room: &RoomInfo, expected: u64, entries: &[&[u8]]) -> Result<u64, Status> {
        let entries = entries.iter().map(|&entry| Bytes::copy_from_slice(entry)).collect();
        let request = AppendRequest {
            room: room.name.clone(),
            room_sid: room.sid.clone(),
            expected,
            entries,
            ..AppendRequest::default()
        };
        Ok(self.client.append(request).await?.into_inner().head)
    }

    async fn tail(&mut self, room: &RoomInfo, after: u64, follow: bool) -> Tail {
        let (room, room_sid) = (room.name.clone(), room.sid.clone());
        let request = TailRequest { room, room_sid, after, follow, ..TailRequest::default() };
        Tail(self.client.tail(request).await.unwrap().into_inner())
    }
}

struct Bridge {
    reports: mpsc::Sender<BridgeReport>,
    orders: Streaming<ratssaal_proto::allocator::v1::BridgeOrder>,
    report: BridgeReport,
}

impl Bridge {
    /// The next word to the bridge.
    async fn word(&mut self) -> Result<Order, Status> {
        let order = timeout(PATIENCE, self.orders.message()).await.expect("an order in time")?;
        Ok(order.and_then(|order| order.order).expect("the stream goes on"))
    }

    /// The next that is no lease: those answer each report.
    async fn order(&mut self) -> Result<Order, Status> {
        loop {
            match self.word().await? {
                Order::Lease(_) => {}
                order => return Ok(order),
            }
        }
    }

    async fn report(&mut self, change: impl FnOnce(&mut BridgeReport)) {
        self.report.sequence += 1;
        change(&mut self.report);
        self.reports.send(self.report.clone()).await.unwrap();
    }
}

struct Tail(Streaming<ratssaal_proto::allocator::v1::TailFrame>);

impl Tail {
    async fn frame(&mut self) -> Option<Frame> {
        let frame = timeout(PATIENCE, self.0.message()).await.expect("a frame in time").unwrap();
        frame.map(|frame| frame.frame.expect("a known frame"))
    }

    async fn entries(&mut self) -> Vec<LogEntry> {
        match self.frame().await {
            Some(Frame::Entries(entries)) => entries.entries,
            other => panic!("entries expected, not {other:?}"),
        }
    }
}

fn report(bridge: &str, incarnation: &str) -> BridgeReport {
    BridgeReport {
        bridge: bridge.into(),
        incarnation: incarnation.into(),
        sequence: 1,
        state: BridgeState::Ready.into(),
        load: Some(Load { seat_limit: 100, ..Load::default() }),
        ..BridgeReport::default()
    }
}

fn placement(room: &str, identity: &str) -> PlaceRequest {
    PlaceRequest {
        room: room.into(),
        identity: identity.into(),
        join_id: format!("join of {identity}"),
        participant_sid: format!("PA_{identity}"),
        open: Some(RoomSettings::default()),
        ..PlaceRequest::default()
    }
}

fn refusal(status: &Status) -> Refusal {
    Refusal::from_status(status).unwrap_or_else(|| panic!("a typed refusal expected, not {status:?}"))
}

#[tokio::test]
async fn a_join_from_place_to_tail() {
    let mut h = harness(Config::default());
    let _bridge = h.attach(report("b1", "x")).await.unwrap();
    let answer = h.client.place(placement("rat", "anna")).await.unwrap().into_inner();
    let room = answer.room.unwrap();
    assert!(answer.opened && room.sid.starts_with("RM_") && room.sid.len() == 15, "{room:?}");
    assert_eq!(answer.seat.unwrap().bridge, "b1");

    let mut tail = h.tail(&room, 0, true).await;
    assert!(matches!(tail.frame().await, Some(Frame::Opened(opened)) if opened.head == 0));
    assert_eq!(h.append(&room, 0, &[b"one", b"two"]).await.unwrap(), 2);
    let entries = tail.entries().await;
    assert_eq!(entries.iter().map(|e| (e.sequence, &e.entry[..])).collect::<Vec<_>>(), [(1, &b"one"[..]), (2, b"two")]);

    let conflict = h.append(&room, 1, &[b"late"]).await.unwrap_err();
    assert_eq!(conflict.code(), tonic::Code::Aborted);
    assert_eq!((refusal(&conflict).code(), refusal(&conflict).head), (Code::Conflict, 2));

    let end = EndRoomRequest { name: "rat".into(), entry: Bytes::from_static(b"end"), ..EndRoomRequest::default() };
    h.client.end_room(end).await.unwrap();
    assert_eq!(tail.entries().await[0].sequence, 3);
    assert!(matches!(tail.frame().await, Some(Frame::Closed(_))));
    assert_eq!(tail.frame().await, None);
    let gone = h.append(&room, 3, &[b"more"]).await.unwrap_err();
    assert_eq!(refusal(&gone).code(), Code::UnknownRoom);
    assert!(h.metric("allocator_log_entries_total 2"));
    assert!(h.metric("allocator_calls_total{call=\"append\",result=\"conflict\"} 1"));
}

#[tokio::test]
async fn a_reader_that_only_wants_what_is_there() {
    let mut h = harness(Config::default());
    let _bridge = h.attach(report("b1", "x")).await.unwrap();
    let room = h.place("rat", "anna").await;
    for head in 0..100 {
        h.append(&room, head, &[b"x"]).await.unwrap();
    }
    let state = Bytes::from_static(b"state of 90");
    let snapshot = SnapshotRequest { room: "rat".into(), room_sid: room.sid.clone(), sequence: 90, state };
    assert!(h.client.snapshot(snapshot).await.unwrap().into_inner().stored);

    let mut tail = h.tail(&room, 0, false).await;
    assert!(matches!(tail.frame().await, Some(Frame::Opened(opened)) if opened.head == 100));
    assert!(matches!(tail.frame().await, Some(Frame::Snapshot(s)) if s.sequence == 90 && s.state == "state of 90"));
    assert_eq!(tail.entries().await.len(), 10);
    assert_eq!(tail.frame().await, None, "ends at the head");

    let beyond = TailRequest { room: "rat".into(), after: 101, ..TailRequest::default() };
    let refused = refusal(&h.client.tail(beyond).await.unwrap_err());
    assert_eq!((refused.code(), refused.head), (Code::Conflict, 100));
}

#[tokio::test]
async fn concurrent_appends_reach_every_tail_once_and_in_order() {
    const WRITERS: usize = 8;
    const EACH: usize = 50;
    let mut h = harness(Config::default());
    let _bridge = h.attach(report("b1", "x")).await.unwrap();
    let room = h.place("rat", "anna").await;
    let mut tails = vec![];
    for _ in 0..4 {
        tails.push(h.tail(&room, 0, true).await);
    }
    let writers = (0..WRITERS).map(|writer| {
        let (mut client, room) = (h.client.clone(), room.clone());
        tokio::spawn(async move {
            let mut expected = 0;
            for number in 0..EACH {
                loop {
                    let request = AppendRequest {
                        room: room.name.clone(),
                        room_sid: room.sid.clone(),
                        expected,
                        entries: vec![format!("{writer} {number}").into()],
                        ..AppendRequest::default()
                    };
                    match client.append(request).await {
                        Ok(appended) => break expected = appended.into_inner().head,
                        Err(status) => expected = refusal(&status).head,
                    }
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut first: Option<Vec<LogEntry>> = None;
    for mut tail in tails {
        assert!(matches!(tail.frame().await, Some(Frame::Opened(_))));
        let mut seen = vec![];
        while seen.len() < WRITERS * EACH {
            seen.extend(tail.entries().await);
        }
        let sequences: Vec<u64> = seen.iter().map(|entry| entry.sequence).collect();
        assert_eq!(sequences, (1..=(WRITERS * EACH) as u64).collect::<Vec<_>>());
        for writer in 0..WRITERS {
            let own = seen.iter().filter(|entry| entry.entry.starts_with(format!("{writer} ").as_bytes()));
            let expected = (0..EACH).map(|number| format!("{writer} {number}"));
            assert!(own.map(|entry| &entry.entry[..]).eq(expected.map(String::into_bytes)), "writer {writer}");
        }
        assert_eq!(first.get_or_insert_with(|| seen.clone()), &seen, "all tails see the same");
    }
}

#[tokio::test]
async fn a_bridge_is_drained_at_once_and_taken_back() {
    let mut h = harness(Config::default());
    let mut bridge = h.attach(report("b1", "x")).await.unwrap();
    let room = h.place("rat", "anna").await;
    let order = DrainRequest { bridge: "b1".into(), drain: true, within_ms: 60_000 };
    assert!(h.client.drain(order).await.unwrap().into_inner().attached);
    let refused = h.client.place(placement("rat", "ben")).await.unwrap_err();
    assert_eq!(refusal(&refused).code(), Code::Draining);
    assert!(refusal(&refused).retry_after_ms > 0);
    match bridge.order().await.unwrap() {
        Order::Drain(drain) => assert!((1..=60_000).contains(&drain.within_ms), "{drain:?}"),
        other => panic!("drain expected, not {other:?}"),
    }
    let back = DrainRequest { bridge: "b1".into(), drain: false, within_ms: 0 };
    h.client.drain(back).await.unwrap();
    assert!(matches!(bridge.order().await.unwrap(), Order::Undrain(_)));
    assert_eq!(h.place("rat", "ben").await.sid, room.sid);

    let elsewhere = DrainRequest { bridge: "b2".into(), drain: true, within_ms: 0 };
    assert!(!h.client.drain(elsewhere).await.unwrap().into_inner().attached);
    let mut second = h.attach(report("b2", "y")).await.unwrap();
    assert!(matches!(second.order().await.unwrap(), Order::Drain(drain) if drain.within_ms == 0), "the order waited");
}

#[tokio::test]
async fn each_report_is_answered_with_a_lease() {
    let mut h = harness(Config::default());
    let mut bridge = h.attach(report("b1", "x")).await.unwrap();
    for (number, (seats, lent)) in (1..).zip([(0, 8), (60, 4), (100, 0)]) {
        if number > 1 {
            bridge.report(|report| report.load = Some(Load { seats, seat_limit: 100, ..Load::default() })).await;
        }
        match bridge.word().await.unwrap() {
            Order::Lease(lease) => assert_eq!((lease.report, lease.seats), (number, lent)),
            other => panic!("a lease expected, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn bad_reports_are_refused() {
    let mut h = harness(Config::default());
    let _bridge = h.attach(report("b1", "x")).await.unwrap();
    let taken = h.attach(report("b1", "y")).await.err().unwrap();
    assert_eq!(refusal(&taken).code(), Code::BridgeTaken);
    assert!((1..=3000).contains(&refusal(&taken).retry_after_ms));
    let load = |seat_limit| Some(Load { seat_limit, ..Load::default() });
    for bad in [
        BridgeReport { load: load(1_000_000_000), ..report("b2", "x") },
        BridgeReport { load: None, ..report("b2", "x") },
        BridgeReport { state: 77, ..report("b2", "x") },
        BridgeReport { bridge: "b".repeat(257), ..report("b2", "x") },
        BridgeReport { site: "line\nbreak".into(), ..report("b2", "x") },
        report("b2", ""),
    ] {
        let status = h.attach(bad).await.err().unwrap();
        assert_eq!(refusal(&status).code(), Code::Invalid, "{status:?}");
    }
    let mut lost = h.attach(report("b3", "x")).await.unwrap();
    lost.report(|report| report.bridge = "b1".into()).await;
    assert_eq!(refusal(&lost.order().await.unwrap_err()).code(), Code::Invalid, "one stream, one bridge");
}

#[tokio::test]
async fn oversized_input_is_refused() {
    let mut h = harness(Config::default());
    let _bridge = h.attach(report("b1", "x")).await.unwrap();
    let room = h.place("rat", "anna").await;
    let invalid = |status: Status| assert_eq!(refusal(&status).code(), Code::Invalid, "{status:?}");
    invalid(h.append(&room, 0, &[&[0; (64 << 10) + 1]]).await.unwrap_err());
    invalid(h.append(&room, 0, &[b"x".as_slice(); 65]).await.unwrap_err());
    invalid(h.append(&room, 0, &[]).await.unwrap_err());
    invalid(h.append(&room, 0, &[b""]).await.unwrap_err());
    assert_eq!(h.append(&room, 0, &[&[0; 64 << 10]]).await.unwrap(), 1, "the largest entry fits");
    invalid(h.client.place(placement(&"r".repeat(257), "anna")).await.unwrap_err());
    invalid(h.client.place(placement("", "anna")).await.unwrap_err());
    let state = Bytes::from(vec![0; (1 << 20) + 1]);
    let snapshot = SnapshotRequest { room: "rat".into(), room_sid: room.sid.clone(), sequence: 1, state };
    invalid(h.client.snapshot(snapshot).await.unwrap_err());
    let message = h.append(&room, 1, &[[0; 64 << 10].as_slice(); 40]).await.unwrap_err();
    assert_eq!(message.code(), tonic::Code::OutOfRange, "a message beyond 2 MiB: {message:?}");
    let empty_timeout_ms = u64::MAX;
    let settings = Some(RoomSettings { empty_timeout_ms, ..RoomSettings::default() });
    invalid(h.client.open_room(OpenRoomRequest { name: "x".into(), settings, must_be_new: true }).await.unwrap_err());
}

#[tokio::test]
async fn the_cluster_is_watched() {
    let mut h = harness(Config::default());
    let mut first = h.attach(report("b1", "x")).await.unwrap();
    let mut views = h.client.cluster(ClusterRequest { watch: true }).await.unwrap().into_inner();
    let view = views.message().await.unwrap().unwrap();
    assert!(view.complete && view.bridges.len() == 1, "{view:?}");
    first.report(|report| report.set_state(BridgeState::Gone)).await;
    let view = timeout(PATIENCE, views.message()).await.unwrap().unwrap().unwrap();
    assert_eq!((view.complete, view.gone), (false, vec!["b1".to_owned()]));
    let mut once = h.client.cluster(ClusterRequest { watch: false }).await.unwrap().into_inner();
    assert_eq!(once.message().await.unwrap().unwrap().bridges, []);
    assert_eq!(once.message().await.unwrap(), None);
}

/// The whole of `run` on the real clock, with short times: a bridge goes silent, its participant is logged as left, and
/// the room ends.
#[tokio::test]
async fn a_lost_bridge_is_reaped_and_its_room_ends() {
    let mut h = harness(Config {
        report_interval: Duration::from_millis(10),
        expiry: Duration::from_millis(200),
        grace: Duration::from_millis(50),
        departure_timeout: Duration::from_millis(50),
        sweep_interval: Duration::from_millis(5),
        ..Config::default()
    });
    let cancelled = CancellationToken::new();
    let running = tokio::spawn(h.service.clone().run(cancelled.clone()));
    let _silent = h.attach(report("b1", "x")).await.unwrap();
    let room = h.place("rat", "anna").await;
    let request = AppendRequest {
        room: room.name.clone(),
        room_sid: room.sid.clone(),
        entries: vec![Bytes::from_static(b"joined")],
        confirm: vec!["join of anna".into()],
        ..AppendRequest::default()
    };
    h.client.append(request).await.unwrap();
    let mut tail = h.tail(&room, 1, true).await;
    assert!(matches!(tail.frame().await, Some(Frame::Opened(_))));
    let event = |entries: Vec<LogEntry>| Entry::decode(entries[0].entry.clone()).unwrap().event.unwrap();
    match event(tail.entries().await) {
        Event::Left(left) => assert_eq!((left.sid.as_str(), left.reason()), ("PA_anna", LeaveReason::BridgeLost)),
        other => panic!("left expected, not {other:?}"),
    }
    assert_eq!(event(tail.entries().await), Event::Ended(Ended { reason: EndReason::Empty.into() }));
    assert!(matches!(tail.frame().await, Some(Frame::Closed(_))));
    cancelled.cancel();
    timeout(PATIENCE, running).await.expect("run ends when cancelled").unwrap();
    assert!(h.metric("allocator_reaped_participants_total 1"));
    assert!(h.metric("allocator_expired_rooms_total 1"));
}

#[tokio::test]
async fn a_reader_who_is_behind_when_the_store_loses_everything_is_not_told_that_the_room_is_closed() {
    let server = Server::new();
    let config = Config { settle: Duration::ZERO, ..Config::default() };
    let store = RedisStore::connect(RedisSettings::new(server.url().into()), &config).unwrap();
    let service = Service::build(config, store, &mut Registry::default()).unwrap();
    let store = &service.inner.store;
    let request = OpenRoomRequest { name: "rat".into(), ..OpenRoomRequest::default() };
    let room = store.open(request).await.unwrap().room.unwrap();
    let request =
        TailRequest { room: room.name.clone(), room_sid: room.sid.clone(), follow: true, ..TailRequest::default() };
    let mut tail = std::pin::pin!(tail::open(service.clone(), request).await.unwrap());
    let request = AppendRequest {
        room: room.name,
        room_sid: room.sid,
        entries: vec![Bytes::from_static(b"unread")],
        ..AppendRequest::default()
    };
    store.append(request, Writer::Bridge).await.unwrap();

    let _server = Server::start(server.crash(), &[]);
    let back = async {
        while store.rooms(ListRoomsRequest::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, back).await.expect("Redis is back");
    let opened = tail.next().await.expect("the reader's first frame").unwrap();
    assert!(matches!(opened.frame, Some(Frame::Opened(_))), "{opened:?}");
    let lost = tail.next().await.expect("a word").unwrap_err();
    assert_eq!(refusal(&lost).code(), Code::UnknownRoom);
    assert!(tail.next().await.is_none());
}

#[tokio::test]
async fn dropped_tails_are_forgotten() {
    let mut h = harness(Config::default());
    let _bridge = h.attach(report("b1", "x")).await.unwrap();
    let room = h.place("rat", "anna").await;
    let mut tail = h.tail(&room, 0, true).await;
    assert!(matches!(tail.frame().await, Some(Frame::Opened(_))));
    assert!(h.metric("allocator_tails 1"));
    drop(tail);
    let forgotten = async {
        while !h.metric("allocator_tails 0") {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, forgotten).await.expect("the tail is forgotten");
}

/// A request as from a connection whose certificate has this role.
fn by<T>(role: Role, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller::Certified(vec![role]));
    request
}

#[tokio::test]
async fn a_certificate_opens_only_what_its_role_needs() {
    let service = harness(Config::default()).service;
    let code = |result: Result<(), Status>| result.err().map(|status| status.code());
    for role in [Role::Bridge, Role::Allocator] {
        let order = by(role, DrainRequest { bridge: "eins".into(), drain: true, within_ms: 0 });
        assert_eq!(code(service.drain(order).await.map(drop)), Some(tonic::Code::PermissionDenied), "{role:?}");
    }
    for role in [Role::Operator, Role::Allocator] {
        let place = by(role, placement("rat", "anna"));
        assert_eq!(code(service.place(place).await.map(drop)), Some(tonic::Code::PermissionDenied), "{role:?}");
        let end = by(role, EndRoomRequest { name: "rat".into(), ..EndRoomRequest::default() });
        assert_eq!(code(service.end_room(end).await.map(drop)), Some(tonic::Code::PermissionDenied), "{role:?}");
        let release = by(role, ReleaseRequest { room: "rat".into(), ..ReleaseRequest::default() });
        assert_eq!(code(service.release(release).await.map(drop)), Some(tonic::Code::PermissionDenied), "{role:?}");
    }
    for role in [Role::Bridge, Role::Operator] {
        assert!(service.cluster(by(role, ClusterRequest { watch: false })).await.is_ok(), "{role:?}");
        assert!(service.list_rooms(by(role, ListRoomsRequest::default())).await.is_ok(), "{role:?}");
    }
    assert!(service.cluster(by(Role::Allocator, ClusterRequest { watch: false })).await.is_err());
    let order = DrainRequest { bridge: "eins".into(), drain: true, within_ms: 0 };
    assert!(service.drain(by(Role::Operator, order)).await.is_ok());
    // A certificate of the authority without a role opens nothing.
    let mut nobody = Request::new(ListRoomsRequest::default());
    nobody.extensions_mut().insert(Caller::Certified(Vec::new()));
    assert!(service.list_rooms(nobody).await.is_err());
}
