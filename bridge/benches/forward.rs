//! The forwarding path without system calls, against the AES-128-GCM seal of the same bytes; and its allocations.

#![allow(missing_docs, unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use ratssaal_bridge::media::bench::{Attack, Everything, FRAME, Forwarding, PAYLOAD, floor_seal};

/// Counts what is asked of the system's allocator.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps GlobalAlloc's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Time for `iterations` packets, in batches.
fn run(forwarding: &mut Forwarding, iterations: u64) -> Duration {
    let (mut spent, mut left) = (Duration::ZERO, iterations);
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(FRAME).min(FRAME);
        let mut packets = forwarding.packets(count);
        let start = Instant::now();
        forwarding.forward(&mut packets);
        spent += start.elapsed();
        left -= count as u64;
    }
    spent
}

fn allocations(subscribers: u16) {
    let mut forwarding = Forwarding::new(subscribers);
    run(&mut forwarding, 2000); // vectors have grown
    let (mut counted, before) = (0, forwarding.forwarded());
    for _ in 0..100 {
        let mut packets = forwarding.packets(FRAME);
        let start = ALLOCATIONS.load(Ordering::Relaxed);
        forwarding.forward(&mut packets);
        counted += ALLOCATIONS.load(Ordering::Relaxed) - start;
    }
    let forwarded = forwarding.forwarded() - before;
    println!("allocations: {counted} for {forwarded} forwarded packets");
    assert_eq!(forwarded, 100 * FRAME as u64 * u64::from(subscribers), "everything was forwarded");
    assert_eq!(counted, 0, "the hot path must not allocate");
}

/// Half a minute in which everything happens, behind one in which vectors have grown.
fn allocations_of_everything() {
    let mut everything = Everything::new(|| ALLOCATIONS.load(Ordering::Relaxed));
    everything.run(Duration::from_secs(30));
    let counted = everything.run(Duration::from_secs(30));
    println!("everything at once: {counted:?}");
    for (what, times) in [
        ("crossed", counted.crossed),
        ("switched", counted.switched),
        ("scalable", counted.scalable),
        ("twice", counted.twice),
        ("paced", counted.paced),
        ("retransmitted", counted.retransmitted),
        ("asked", counted.asked),
        ("repaired", counted.repaired),
    ] {
        assert!(times > 0, "{what}: it was to be part of it");
    }
    assert_eq!(counted.allocations, 0, "the hot path and ticks must not allocate, whatever is on");
}

fn main() {
    allocations(40);
    allocations_of_everything();
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("per_packet_of_1100_bytes");
    group.throughput(Throughput::Bytes(PAYLOAD as u64));
    let mut seal = floor_seal();
    group.bench_function("floor_aes_128_gcm_seal", |b| b.iter(&mut seal));
    for subscribers in [1u16, 10, 40] {
        let mut forwarding = Forwarding::new(subscribers);
        // One iteration is one copy: the opening of the packet is shared by the copies.
        group.bench_function(format!("copy_of_{subscribers}"), |b| {
            b.iter_custom(|iterations| {
                run(&mut forwarding, iterations.div_ceil(u64::from(subscribers))) // rounded up: the cost is never flattered
            });
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("per_hostile_datagram_of_rtcp");
    let mut forwarding = Forwarding::new(2);
    for attack in Attack::ALL {
        group.bench_function(format!("{attack:?}").to_lowercase(), |b| {
            b.iter_custom(|iterations| {
                let (mut spent, mut left) = (Duration::ZERO, iterations);
                while left > 0 {
                    let count = left.min(10);
                    let mut packets = forwarding.attack(attack, count as usize);
                    let start = Instant::now();
                    forwarding.forward(&mut packets);
                    spent += start.elapsed();
                    left -= count;
                }
                spent
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
