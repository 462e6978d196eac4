//! What this bridge measures of its own load: the figures of its report to the allocator, once a second.
//!
//! Everything is counted where it happens (the kernel's clock of each worker thread, datagrams at its socket); this module
//! turns counts into rates. How many participants the bridge takes is given (`room.seats`) or learnt ([`capacity`]).

mod capacity;
mod kernel;

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use ratssaal_proto::allocator::v1::Load;

use crate::media::{Media, Usage};
use capacity::Capacity;
pub(crate) use kernel::link_bps;

/// Over which time the CPU's share is averaged: long enough to outlast a key frame, short enough to be seen while people come.
const CPU_MEMORY: Duration = Duration::from_secs(5);
/// Samples closer than this say nothing.
const SHORTEST: Duration = Duration::from_millis(50);

/// Measures the load of the bridge with these media workers.
#[derive(Debug)]
pub(crate) struct Meter {
    media: Media,
    /// Participants as configured; 0: to be learnt.
    seats: u32,
    capacity: Capacity,
    last: Option<Sample>,
    /// Each worker's share of a core, moving average.
    cpu: Vec<f64>,
    rates: Rates,
    cpu_ratio: Gauge<f64, AtomicU64>,
    seat_limit: Gauge,
}

/// The counts at an instant.
#[derive(Debug)]
struct Sample {
    at: Instant,
    usage: Usage,
    /// Each worker's CPU time; `None` if the system does not tell.
    cpu: Vec<Option<Duration>>,
    /// Datagrams the kernel dropped before a worker read them.
    overflown: u64,
}

/// What the counts of the last interval come to.
#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    receive_bps: u64,
    send_bps: u64,
    receive_pps: u64,
    send_pps: u64,
    drop_permille: u32,
}

impl Meter {
    /// `seats` as configured; 0 to learn them.
    pub(crate) fn new(media: Media, seats: u32, registry: &mut Registry) -> Self {
        let (cpu_ratio, seat_limit) = (Gauge::default(), Gauge::default());
        let help = "Share of a core that the busiest media worker uses, moving average";
        registry.register("bridge_cpu_ratio", help, cpu_ratio.clone());
        registry.register("bridge_seat_limit", "Participants this bridge takes, given or learnt", seat_limit.clone());
        let capacity = Capacity::new(media.worker_count());
        let (cpu, rates) = (Vec::new(), Rates::default());
        Self { media, seats, capacity, last: None, cpu, rates, cpu_ratio, seat_limit }
    }

    /// The load now, with so many participants and rooms that have any.
    pub(crate) fn load(&mut self, participants: u32, rooms: u32) -> Load {
        self.measure(participants);
        let busiest = self.cpu.iter().copied().fold(0.0, f64::max);
        let seat_limit = if self.seats == 0 { self.capacity.participants() } else { self.seats };
        self.cpu_ratio.set(busiest);
        self.seat_limit.set(seat_limit.into());
        Load {
            seats: participants,
            seat_limit,
            cpu_permille: (busiest * 1000.0).clamp(0.0, 1000.0) as u32,
            receive_bps: self.rates.receive_bps,
            send_bps: self.rates.send_bps,
            link_bps: self.media.link_bps,
            receive_pps: self.rates.receive_pps,
            send_pps: self.rates.send_pps,
            sockets: kernel::open_files().unwrap_or(0),
            socket_limit: kernel::open_files_limit().unwrap_or(0),
            drop_permille: self.rates.drop_permille,
            rooms,
        }
    }

    fn measure(&mut self, participants: u32) {
        let usage = self.media.usage();
        let now = Sample {
            at: Instant::now(),
            cpu: usage.tasks.iter().map(|task| kernel::cpu_time(task.as_deref()?)).collect(),
            overflown: kernel::overflown(&self.media.ports()),
            usage,
        };
        let Some(last) = &self.last else {
            self.cpu = vec![0.0; now.cpu.len()];
            self.last = Some(now);
            return;
        };
        let elapsed = now.at - last.at;
        if elapsed < SHORTEST {
            return;
        }
        let mut spent = Duration::ZERO;
        for ((average, before), after) in self.cpu.iter_mut().zip(&last.cpu).zip(&now.cpu) {
            let (Some(before), Some(after)) = (before, after) else { continue };
            let worked = after.saturating_sub(*before);
            spent += worked;
            let share = worked.as_secs_f64() / elapsed.as_secs_f64();
            *average += (share - *average) * weight(elapsed, CPU_MEMORY);
        }
        self.rates = rates(last, &now, elapsed);
        let packets = self.rates.receive_pps + self.rates.send_pps;
        self.capacity.learn(elapsed, spent, packets, participants);
        self.last = Some(now);
    }
}

/// How much a new value counts in an average that remembers for `memory`.
fn weight(elapsed: Duration, memory: Duration) -> f64 {
    1.0 - (-elapsed.as_secs_f64() / memory.as_secs_f64()).exp()
}

fn rates(last: &Sample, now: &Sample, elapsed: Duration) -> Rates {
    let per_second = |before: u64, after: u64| (after.saturating_sub(before) as f64 / elapsed.as_secs_f64()) as u64;
    let (before, after) = (&last.usage, &now.usage);
    let overflown = now.overflown.saturating_sub(last.overflown);
    let dropped = overflown + after.refused.saturating_sub(before.refused);
    let carried = after.received.saturating_sub(before.received) + after.sent.saturating_sub(before.sent);
    let permille = (dropped * 1000).checked_div(carried + dropped).unwrap_or(0);
    Rates {
        receive_bps: per_second(before.receive_bits(), after.receive_bits()),
        send_bps: per_second(before.send_bits(), after.send_bits()),
        receive_pps: per_second(before.received, after.received),
        send_pps: per_second(before.sent, after.sent),
        drop_permille: u32::try_from(permille).unwrap_or(1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, received: u64, sent: u64, refused: u64, overflown: u64) -> Sample {
        let usage = Usage {
            received,
            received_bytes: received * 958,
            sent,
            sent_bytes: sent * 958,
            refused,
            tasks: Vec::new(),
        };
        Sample { at, usage, cpu: Vec::new(), overflown }
    }

    #[test]
    fn counts_become_rates_on_the_wire() {
        let began = Instant::now();
        let elapsed = Duration::from_secs(2);
        let rates = rates(&sample(began, 100, 50, 0, 7), &sample(began + elapsed, 300, 1050, 10, 17), elapsed);
        assert_eq!((rates.receive_pps, rates.send_pps), (100, 500));
        // 958 bytes of payload are 1000 on the wire.
        assert_eq!((rates.receive_bps, rates.send_bps), (800_000, 4_000_000));
        // 20 of 1220 were lost.
        assert_eq!(rates.drop_permille, 16);
    }

    #[test]
    fn counters_that_went_back_are_no_rates() {
        let began = Instant::now();
        let rates = rates(&sample(began, 100, 50, 5, 7), &sample(began, 0, 0, 0, 0), Duration::from_secs(1));
        assert_eq!((rates.receive_bps, rates.send_pps, rates.drop_permille), (0, 0, 0));
    }

    #[test]
    fn an_average_forgets_with_time() {
        assert!(weight(Duration::from_secs(1), CPU_MEMORY) < 0.2);
        assert!(weight(Duration::from_secs(60), CPU_MEMORY) > 0.999);
    }

    /// Real workers, real sockets, the kernel's figures.
    #[tokio::test]
    async fn a_working_bridge_measures_itself() {
        let config = crate::media::MediaConfig {
            bind: std::net::Ipv4Addr::LOCALHOST.into(),
            ports: "20000-29999".parse().unwrap(),
            workers: 2,
            ..crate::media::MediaConfig::default()
        };
        let mut registry = Registry::default();
        let media = Media::start(&config, &mut registry).unwrap();
        let mut meter = Meter::new(media.clone(), 0, &mut registry);
        let running = async {
            while media.usage().tasks.iter().any(Option::is_none) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        crate::testing::soon(running).await;
        let idle = meter.load(0, 0);
        assert!(idle.seat_limit > 0 && idle.sockets > 2 && idle.socket_limit > idle.sockets, "{idle:?}");
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = media.ports()[0];
        let before = media.usage().received;
        let began = Instant::now();
        // Junk is work too.
        let mut sent = 0;
        while began.elapsed() < Duration::from_millis(300) {
            sent += u64::from(socket.send_to(&[0x17; 500], ("127.0.0.1", target)).is_ok());
        }
        let arrived = async {
            while media.usage().received < before + sent / 10 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        crate::testing::soon(arrived).await;
        let busy = meter.load(3, 1);
        assert!(busy.receive_pps > 1000 && busy.receive_bps > busy.receive_pps * 500 * 8, "{busy:?}");
        assert!(busy.cpu_permille > 0, "{busy:?}");
        assert_eq!((busy.seats, busy.rooms), (3, 1));
        media.stop();
    }
}
