//! A worker with real sockets: CPU time per forwarded packet end to end, and its multiple of the floor (one seal and one
//! packet's share of a GSO send), all in one run. The floor is measured in a tight loop, and at the worker's pace by a thread
//! that sleeps in between, too.

#![allow(missing_docs)]

use std::time::{Duration, Instant};

use ratssaal_bridge::media::bench::{floor_paced, floor_seal, floor_send, loopback};

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let mut seal = floor_seal();
    let start = Instant::now();
    (0..200_000).for_each(|_| seal());
    let seal = start.elapsed() / 200_000;
    println!("floor: seal {} ns", seal.as_nanos());
    println!(
        "| case | gather | run | forwarded | lost | datagrams per send | worker CPU | per packet | floor | multiple | floor at its pace | multiple |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (case, subscribers, packets) in
        [("1.5 Mbit/s to 40", 40u16, 6usize), ("4 Mbit/s to 40", 40, 15), ("1.5 Mbit/s to 5", 5, 6)]
    {
        let floor = seal + floor_send(usize::from(subscribers), packets, 300);
        let paced = floor_paced(usize::from(subscribers), packets, Duration::from_secs(8));
        for gather in [Duration::ZERO, Duration::from_millis(1)] {
            let result = loopback(subscribers, packets, gather, Duration::from_secs(8));
            let each = result.cpu.as_nanos() as f64 / result.forwarded.max(1) as f64;
            println!(
                "| {case} | {gather:?} | {:.1} s | {} | {} | {:.1} | {:.1} % | {each:.0} ns | {} ns | {:.2} | {} ns | {:.2} |",
                result.wall.as_secs_f64(),
                result.forwarded,
                result.forwarded.saturating_sub(result.arrived),
                result.run_length,
                100.0 * result.cpu.as_secs_f64() / result.wall.as_secs_f64(),
                floor.as_nanos(),
                each / floor.as_nanos() as f64,
                paced.as_nanos(),
                each / paced.as_nanos() as f64,
            );
        }
    }
}
