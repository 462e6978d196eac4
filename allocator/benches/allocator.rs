//! What a join costs at the allocator: through the embedded channel as `ratssaal serve` does it, and in the store alone
//! as the number of bridges grows.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on should stop")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use prometheus_client::registry::Registry;
use ratssaal_allocator::store::{MemoryStore, Store};
use ratssaal_allocator::{Config, ManualClock, Service, embedded};
use ratssaal_proto::allocator::v1::allocator_client::AllocatorClient;
use ratssaal_proto::allocator::v1::tail_frame::Frame;
use ratssaal_proto::allocator::v1::{
    AppendRequest, BridgeReport, BridgeState, Load, PlaceRequest, RoomInfo, RoomSettings, TailRequest,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// A log without snapshots, and seats enough, for as many joins as a benchmark makes.
fn config() -> Config {
    Config { max_log_entries: usize::MAX >> 1, max_log_bytes: usize::MAX >> 1, ..Config::default() }
}

fn report(bridge: String) -> BridgeReport {
    BridgeReport {
        bridge,
        incarnation: "bench".into(),
        sequence: 1,
        state: BridgeState::Ready.into(),
        load: Some(Load { seat_limit: 100_000, ..Load::default() }),
        ..BridgeReport::default()
    }
}

fn placement(room: &str, number: u64) -> PlaceRequest {
    PlaceRequest {
        room: room.into(),
        identity: format!("participant {}", number % 30),
        join_id: format!("join {number}"),
        participant_sid: "PA_0123456789ab".into(),
        open: Some(RoomSettings::default()),
        ..PlaceRequest::default()
    }
}

fn append(room: &RoomInfo, confirm: Vec<String>) -> AppendRequest {
    AppendRequest {
        room: room.name.clone(),
        room_sid: room.sid.clone(),
        expected: room.head,
        entries: vec![Bytes::from_static(&[7; 300])],
        confirm,
        ..AppendRequest::default()
    }
}

/// A client of an embedded allocator with one bridge, which reports so often that it never expires.
async fn client() -> AllocatorClient<Channel> {
    let service = Service::in_memory(config(), &mut Registry::default()).expect("the settings work");
    let mut client = AllocatorClient::new(embedded(&service));
    let (reports, outgoing) = mpsc::channel(1);
    reports.send(report("bridge".into())).await.expect("the receiver is here");
    let mut orders = client.attach(ReceiverStream::new(outgoing)).await.expect("attached").into_inner();
    orders.message().await.expect("welcome");
    tokio::spawn(async move {
        // Orders are not read, but the stream must live as long as the reports.
        let _orders = orders;
        for sequence in 2.. {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if reports.send(BridgeReport { sequence, ..report("bridge".into()) }).await.is_err() {
                return;
            }
        }
    });
    client
}

fn through_the_channel(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let mut client = runtime.block_on(client());
    let mut number = 0;

    c.bench_function("embedded/place and append", |b| {
        b.iter(|| {
            number += 1;
            runtime.block_on(async {
                let placed = client.place(placement("rat", number)).await.expect("placed").into_inner();
                let room = placed.room.expect("a room");
                let confirm = vec![placed.seat.expect("a seat").join_id];
                black_box(client.append(append(&room, confirm)).await.expect("appended"))
            })
        });
    });

    let (mut tail, mut room) = runtime.block_on(async {
        number += 1;
        let placed = client.place(placement("tail", number)).await.expect("placed").into_inner();
        let request = TailRequest { room: "tail".into(), follow: true, ..TailRequest::default() };
        let mut tail = client.tail(request).await.expect("a tail").into_inner();
        tail.message().await.expect("opened");
        (tail, placed.room.expect("a room"))
    });
    c.bench_function("embedded/append until the tail has it", |b| {
        b.iter(|| {
            runtime.block_on(async {
                room.head = client.append(append(&room, vec![])).await.expect("appended").into_inner().head;
                match tail.message().await.expect("a frame").and_then(|frame| frame.frame) {
                    Some(Frame::Entries(entries)) => assert_eq!(entries.entries[0].sequence, room.head),
                    other => panic!("entries expected, not {other:?}"),
                }
            });
        });
    });
}

fn in_the_store(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut group = c.benchmark_group("store/place by bridges");
    for bridges in [1_u32, 10, 100, 1_000, 10_000] {
        let clock = Arc::new(ManualClock::at(1));
        let store = MemoryStore::new(config(), clock);
        for bridge in 0..bridges {
            runtime.block_on(store.report(report(format!("bridge {bridge}")))).expect("reported");
        }
        let mut number = 0;
        group.bench_function(BenchmarkId::from_parameter(bridges), |b| {
            b.iter(|| {
                number += 1;
                let room = format!("rat {}", number / 30 % 3_000);
                runtime.block_on(store.place(placement(&room, number))).expect("placed")
            });
        });
    }
}

criterion_group!(benches, through_the_channel, in_the_store);
criterion_main!(benches);
