//! What the cluster's control plane carries: real gRPC over loopback TCP, real Redis, simulated bridges. Prints the tables of
//! docs/benchmarks.md. Every loop is bounded in count or time.

#![expect(clippy::expect_used, reason = "a benchmark that cannot go on should stop")]

#[path = "../src/redis_server.rs"]
#[expect(dead_code, reason = "made for the tests; a part is used here")]
mod redis_server;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use prometheus_client::registry::Registry;
use ratssaal_allocator::store::{RedisSettings, RedisStore, Store};
use ratssaal_allocator::{Config, Service, serve};
use ratssaal_proto::allocator::v1::allocator_client::AllocatorClient;
use ratssaal_proto::allocator::v1::{
    AppendRequest, BridgeReport, BridgeState, Load, PlaceRequest, PlaceResponse, RoomSettings,
};
use redis_server::Server;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

type Client = AllocatorClient<Channel>;

/// Bridges report once and stay, and so do their participants, whom nobody confirms; no quota is met.
fn config() -> Config {
    let hour = Duration::from_secs(3600);
    let long = Config { expiry: hour, reservation: hour, empty_timeout: hour, ..Config::default() };
    Config { settle: Duration::ZERO, max_rooms: 1_000_000, ..long }
}

fn settings(redis: &Server, name: &str) -> RedisSettings {
    RedisSettings { prefix: name.into(), timeout: Duration::from_secs(10), ..RedisSettings::new(redis.url().into()) }
}

async fn store(redis: &Server, name: &str) -> RedisStore {
    let store = RedisStore::connect(settings(redis, name), &config()).expect("the settings work");
    while store.sweep().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store
}

/// An allocator on a port, and a client of it.
async fn allocator(redis: &Server, name: &str) -> Client {
    let service = Service::build(config(), store(redis, name).await, &mut Registry::default()).expect("it works");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let incoming = TcpListenerStream::new(listener);
        serve(&service, incoming, CancellationToken::new()).await.expect("served");
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address").tcp_nodelay(true);
    AllocatorClient::new(endpoint.connect().await.expect("connected"))
}

async fn attach(store: &impl Store, bridges: u32, seat_limit: u32) {
    for bridge in 0..bridges {
        let report = BridgeReport {
            bridge: format!("bridge-{bridge}"),
            incarnation: "bench".into(),
            sequence: 1,
            state: BridgeState::Ready.into(),
            load: Some(Load { seat_limit, ..Load::default() }),
            ..BridgeReport::default()
        };
        store.report(report).await.expect("reported");
    }
}

fn placement(room: String, identity: String) -> PlaceRequest {
    PlaceRequest {
        join_id: format!("{room}/{identity}"),
        room,
        identity,
        participant_sid: "PA_0123456789ab".into(),
        open: Some(RoomSettings::default()),
        ..PlaceRequest::default()
    }
}

/// Participant `number` in rooms of 30.
fn numbered(number: u64) -> PlaceRequest {
    placement(format!("rat-{}", number / 30), format!("person-{}", number % 30))
}

async fn place(client: &mut Client, request: PlaceRequest) -> PlaceResponse {
    client.place(request).await.expect("placed").into_inner()
}

/// Placements per second with so many callers at once, of participants from `first` on.
async fn throughput(client: &Client, callers: u64, first: u64, time: Duration) -> f64 {
    let (number, began) = (Arc::new(AtomicU64::new(first)), Instant::now());
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (mut client, number) = (client.clone(), Arc::clone(&number));
        tasks.spawn(async move {
            while began.elapsed() < time {
                place(&mut client, numbered(number.fetch_add(1, Ordering::Relaxed))).await;
            }
        });
    }
    tasks.join_all().await;
    (number.load(Ordering::Relaxed) - first) as f64 / began.elapsed().as_secs_f64()
}

/// Latencies of placements that begin at a fixed rate, whether or not the earlier ones are answered.
async fn latencies(client: &Client, per_second: f64, time: Duration) -> Vec<Duration> {
    let (began, mut tasks, mut number) = (Instant::now(), JoinSet::new(), 0_u64);
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    while began.elapsed() < time {
        ticks.tick().await;
        let due = (began.elapsed().as_secs_f64() * per_second) as u64;
        for number in number..due {
            let mut client = client.clone();
            tasks.spawn(async move {
                let began = Instant::now();
                place(&mut client, numbered(1 << 32 | number)).await;
                began.elapsed()
            });
        }
        number = due;
    }
    let mut latencies = tasks.join_all().await;
    latencies.sort_unstable();
    latencies
}

async fn joiners(redis: &Server, repetitions: u32) {
    let name = "joiners";
    let clients = [allocator(redis, name).await, allocator(redis, name).await, allocator(redis, name).await];
    let own = store(redis, name).await;
    attach(&own, 3, 100_000).await;
    let (began, mut wrong) = (Instant::now(), 0);
    for repetition in 0..repetitions {
        let mut tasks = JoinSet::new();
        for person in 0..200 {
            let mut client = clients[person % 3].clone();
            let request = placement(format!("rat-{repetition}"), person.to_string());
            tasks.spawn(async move { place(&mut client, request).await });
        }
        let placed = tasks.join_all().await;
        let opened = placed.iter().filter(|placed| placed.opened).count();
        let rooms: BTreeSet<_> =
            placed.iter().filter_map(|placed| placed.room.as_ref()).map(|room| &room.sid).collect();
        let seats = placed.iter().filter_map(|placed| placed.room.as_ref()).map(|room| room.seats).max();
        wrong += u32::from((opened, rooms.len(), seats) != (1, 1, Some(200)));
    }
    let took = began.elapsed().as_secs_f64();
    println!("| 200 joiners to one new room through 3 allocators, {repetitions} times | {wrong} wrong ({took:.0} s) |");
}

async fn burst(redis: &Server) {
    let mut worst = 0.0_f64;
    for repetition in 0..10 {
        let name = format!("burst-{repetition}");
        let client = allocator(redis, &name).await;
        attach(&store(redis, &name).await, 10, 1000).await;
        let mut tasks = JoinSet::new();
        for number in 0..1000 {
            let mut client = client.clone();
            tasks.spawn(async move { place(&mut client, placement(format!("rat-{number}"), "anna".into())).await });
        }
        let mut seats: BTreeMap<String, u32> = BTreeMap::new();
        for placed in tasks.join_all().await {
            *seats.entry(placed.seat.expect("a seat").bridge).or_default() += 1;
        }
        worst = worst.max(f64::from(seats.values().copied().max().unwrap_or(0)) / 100.0);
    }
    println!("| 1000 joins in a burst over 10 bridges, 10 times: largest max/mean of seats | {worst:.2} |");
    let client = allocator(redis, "limit").await;
    attach(&store(redis, "limit").await, 10, 50).await;
    let mut tasks = JoinSet::new();
    for number in 0..1000 {
        let mut client = client.clone();
        tasks.spawn(async move { client.place(placement(format!("rat-{number}"), "anna".into())).await.is_ok() });
    }
    let placed = tasks.join_all().await.into_iter().filter(|placed| *placed).count();
    println!("| the same on 500 seats in all: seated beyond the limit | {} |", placed.saturating_sub(500));
}

/// A number from Redis' `INFO`.
async fn info(redis: &Server, section: &str, key: &str) -> f64 {
    let client = redis::Client::open(redis.url()).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connected");
    let text: String = redis::cmd("INFO").arg(section).query_async(&mut connection).await.expect("info");
    let rest = text.split(key).nth(1).unwrap_or_default();
    rest.split(|c: char| !(c.is_ascii_digit() || c == '.')).next().and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

async fn reset(redis: &Server) {
    let client = redis::Client::open(redis.url()).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("connected");
    redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut connection).await.expect("reset");
}

/// How many scripts Redis has run since, and for how long in all, µs.
async fn scripts(redis: &Server) -> (f64, f64) {
    let calls = info(redis, "commandstats", "cmdstat_evalsha:calls=").await;
    (calls, info(redis, "commandstats", &format!("cmdstat_evalsha:calls={calls},usec=")).await)
}

/// So many participants per bridge are there before anything is measured: 100 000 on 1000 bridges.
const SEATED: u32 = 100;
/// Placements that are measured.
const MEASURED: u64 = 5_000;

/// Seats participants in rooms of 30, many at once.
async fn fill(own: &Arc<RedisStore>, participants: u64) {
    const CALLERS: u64 = 64;
    let mut tasks = JoinSet::new();
    for caller in 0..CALLERS {
        let own = Arc::clone(own);
        tasks.spawn(async move {
            for number in (caller..participants).step_by(CALLERS as usize) {
                own.place(numbered(number)).await.expect("placed");
            }
        });
    }
    tasks.join_all().await;
}

/// Time within Redis per placement, as Redis counts it, in clusters of up to `largest` bridges.
async fn curve(redis: &Server, largest: u32) {
    println!("\n| bridges | participants | time of the script in Redis per placement | of a full cluster's refusal |");
    println!("|---|---|---|---|");
    for bridges in [1_u32, 10, 100, 1_000].into_iter().filter(|bridges| *bridges <= largest) {
        let participants = u64::from(bridges * SEATED);
        let mut micros = vec![];
        for (kind, limit) in [("free", 100_000), ("full", SEATED)] {
            let own = Arc::new(store(redis, &format!("curve-{bridges}-{kind}")).await);
            attach(&*own, bridges, limit).await;
            fill(&own, participants).await;
            reset(redis).await;
            for number in participants..participants + MEASURED {
                assert_eq!(own.place(numbered(number)).await.is_ok(), kind == "free");
            }
            let (calls, time) = scripts(redis).await;
            micros.push(time / calls);
        }
        println!("| {bridges} | {participants} | {:.0} µs | {:.0} µs |", micros[0], micros[1]);
    }
}

/// Resident memory of this process, MiB.
fn resident() -> f64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: f64 = text.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("pages");
    pages * 4096.0 / 1048576.0
}

async fn memory(redis: &Server) {
    const ROOMS: u64 = 10_000;
    let own = Arc::new(store(redis, "memory").await);
    attach(&*own, 100, 100_000).await;
    let (redis_before, before, mut followed) = (info(redis, "memory", "used_memory:").await, resident(), vec![]);
    for number in 0..ROOMS {
        let mut room = None;
        for person in 0..5 {
            let request = placement(format!("rat-{number}"), format!("person-{person}"));
            room = own.place(request).await.expect("placed").room;
        }
        let room = room.expect("a room");
        let append = AppendRequest {
            room: room.name.clone(),
            room_sid: room.sid.clone(),
            entries: vec![Bytes::from_static(&[7; 200]); 20],
            confirm: (0..5).map(|person| format!("rat-{number}/person-{person}")).collect(),
            ..AppendRequest::default()
        };
        own.append(append, ratssaal_allocator::store::Writer::Bridge).await.expect("appended");
        followed.push(own.follow(&room.name, &room.sid).await.expect("followed"));
    }
    let redis_after = info(redis, "memory", "used_memory:").await;
    println!("| 10 000 followed rooms, 100 bridges: more memory in the allocator | {:.0} MiB |", resident() - before);
    println!("| the whole benchmark process then | {:.0} MiB |", resident());
    let each = (redis_after - redis_before) / ROOMS as f64 / 1024.0;
    println!("| Redis, per room with 5 participants and a log of 20 entries of 200 bytes | {each:.1} KiB |");
}

fn main() {
    // `cargo test` runs benchmarks once to see that they work; this one takes too long for that.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    // `-- --curve 10`: only that table, for clusters of up to 10 bridges.
    let only = std::env::args().skip_while(|argument| argument != "--curve").nth(1);
    let redis = Server::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        if let Some(largest) = only {
            return curve(&redis, largest.parse().expect("a number of bridges")).await;
        }
        println!("| | |\n|---|---|");
        let client = allocator(&redis, "throughput").await;
        attach(&store(&redis, "throughput").await, 10, 100_000).await;
        throughput(&client, 64, 1 << 33, Duration::from_secs(2)).await;
        reset(&redis).await;
        let rate = throughput(&client, 64, 0, Duration::from_secs(5)).await;
        println!("| placements per second, one allocator, 64 callers | {rate:.0} |");
        let ((calls, time), placed) = (scripts(&redis).await, rate * 5.0);
        println!(
            "| placements in one call of the script then; its time in Redis, per placement | {:.1}; {:.0} µs |",
            placed / calls,
            time / placed
        );
        let half = 5_000.0_f64;
        let latencies = latencies(&client, half, Duration::from_secs(5)).await;
        let share = |part: f64| latencies[(latencies.len() as f64 * part) as usize].as_secs_f64() * 1000.0;
        println!("| at {half:.0} per second: median, p99 | {:.2} ms, {:.2} ms |", share(0.5), share(0.99));
        joiners(&redis, 1000).await;
        burst(&redis).await;
        memory(&redis).await;
        curve(&redis, 1_000).await;
    });
}
