//! What the estimate must do, on links that behave and links that do not.

use proptest::prelude::*;

use super::link::{Link, MS, Random, SECOND, Sample, Simulation};
use super::*;

/// Chromium's layers of a 720p camera, bits per second.
const LAYERS: [f64; 3] = [150e3, 500e3, 1_700e3];

/// The longest time without a break in which something holds, seconds.
fn longest<'a>(samples: impl Iterator<Item = &'a Sample>, holds: impl Fn(&Sample) -> bool) -> f64 {
    let (mut longest, mut run) = (0, 0);
    for sample in samples {
        run = if holds(sample) { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    f64::from(longest) / 100.0
}

fn lowest<'a>(samples: impl Iterator<Item = &'a Sample>) -> f64 {
    samples.map(|sample| sample.estimate).fold(f64::MAX, f64::min)
}

fn highest<'a>(samples: impl Iterator<Item = &'a Sample>) -> f64 {
    samples.map(|sample| sample.estimate).fold(0.0, f64::max)
}

#[test]
fn a_fresh_leg_is_useful_within_two_seconds() {
    for (what, link) in [
        ("good", Link::of(20e6)),
        ("4 Mbit/s DSL", Link { delay: 20 * MS, ..Link::of(4e6) }),
        ("200 ms away", Link { delay: 100 * MS, feedback_delay: 100 * MS, ..Link::of(20e6) }),
        ("with 2 % loss", Link { loss: 0.02, ..Link::of(5e6) }),
    ] {
        let mut simulation = Simulation::new(link, &LAYERS);
        simulation.run(2.0);
        assert!(simulation.estimate() > 1.8e6, "{what}: {}", simulation.estimate());
        simulation.run(2.0);
        let best = simulation.last(1.5).all(|sample| sample.media == 1_700e3);
        assert!(best, "{what}");
    }
}

#[test]
fn what_is_dearer_than_the_first_guess_begins_all_the_same() {
    for (what, link, layer, seconds) in [
        ("good", Link::of(20e6), 1_500e3, 2.0),
        ("good, dearer", Link::of(20e6), 3_000e3, 3.0),
        ("jitter", Link { jitter: 40 * MS, ..Link::of(20e6) }, 3_000e3, 5.0),
        ("jitter and loss", Link { jitter: 40 * MS, loss: 0.05, ..Link::of(20e6) }, 3_000e3, 10.0),
    ] {
        let mut simulation = Simulation::new(link, &[layer]);
        simulation.chosen = (0.0, 0);
        simulation.run(seconds);
        let all = simulation.last(0.5).all(|sample| sample.media == layer);
        assert!(all, "{what}: {}", simulation.estimate());
    }
}

#[test]
fn a_thin_link_is_not_overrun() {
    for (what, link) in [
        ("600 kbit/s", Link::of(600e3)),
        ("with 100 ms and 2 % loss", Link::bad_dsl()),
        ("with a short queue", Link { queue: 80 * MS, ..Link::of(600e3) }),
    ] {
        let mut simulation = Simulation::new(link, &LAYERS);
        simulation.run(40.0);
        let samples = &simulation.samples;
        assert!(longest(samples.iter(), |sample| sample.media > 600e3) < 2.0, "{what}");
        assert!(longest(samples.iter(), |sample| sample.queue > 100 * MS) < 1.0, "{what}");
        assert!(lowest(simulation.last(38.0)) > 300e3, "{what}: {}", lowest(simulation.last(38.0)));
        assert!(highest(simulation.last(30.0)) < 800e3, "{what}: {}", highest(simulation.last(30.0)));
        let overflown = simulation.line.overflown as f64 / simulation.line.entered as f64;
        assert!(overflown < 0.002, "{what}: {overflown}");
    }
}

#[test]
fn a_cliff_is_settled_in_three_seconds_and_the_way_back_in_ten() {
    for (what, queue, delay) in [("usual", 400, 25), ("bloated", 2000, 25), ("short", 60, 25), ("far", 300, 100)] {
        let link = Link { queue: queue * MS, delay: delay * MS, feedback_delay: delay * MS, ..Link::of(3e6) };
        let mut simulation = Simulation::new(link, &LAYERS);
        simulation.run(15.0);
        assert!(simulation.estimate() > 1.9e6, "{what}: {}", simulation.estimate());
        simulation.link.rate = 500e3;
        simulation.run(3.0);
        assert!(simulation.estimate() < 560e3, "{what}: {}", simulation.estimate());
        simulation.run(30.0);
        let settled = || simulation.last(29.0);
        assert!(highest(settled()) < 620e3 && lowest(settled()) > 200e3, "{what}");
        assert!(longest(settled(), |sample| sample.queue > 100 * MS) < 1.0, "{what}: the queue is gone and stays away");
        simulation.link.rate = 3e6;
        simulation.run(10.0);
        assert!(simulation.estimate() > 1.9e6, "{what}: {}", simulation.estimate());
        assert_eq!(simulation.samples.last().map(|sample| sample.media), Some(1_700e3), "{what}");
    }
}

#[test]
fn what_is_not_congestion_does_not_collapse_it() {
    let far = Link { delay: 50 * MS, feedback_delay: 50 * MS, ..Link::of(3e6) };
    for (what, link) in [
        ("2 % random loss", Link { loss: 0.02, ..far.clone() }),
        ("5 % random loss", Link { loss: 0.05, ..far.clone() }),
        ("bursts of loss", Link { burst: (0.002, 0.25), ..far.clone() }),
        ("jitter of 20 ms either way", Link { jitter: 40 * MS, ..far.clone() }),
        ("reordering", Link { jitter: 10 * MS, reorder: true, ..far.clone() }),
        ("duplicates", Link { duplicates: 0.1, ..far.clone() }),
        ("lost feedback", Link { feedback_loss: 0.3, ..far.clone() }),
        ("late feedback", Link { feedback_delay: 400 * MS, ..far.clone() }),
    ] {
        let mut simulation = Simulation::new(link, &LAYERS);
        simulation.run(60.0);
        let late = || simulation.last(45.0);
        assert!(lowest(late()) > 1.0e6, "{what}: {}", lowest(late()));
        let best = late().filter(|sample| sample.media == 1_700e3).count() as f64 / late().count() as f64;
        assert!(best > 0.9, "{what}: the best layer {best} of the time");
        assert!(highest(late()) < 3.6e6, "{what}: {}", highest(late()));
    }
}

#[test]
fn whoever_sends_little_learns_nothing() {
    let mut simulation = Simulation::new(Link::of(3e6), &LAYERS);
    simulation.run(5.0);
    let known = simulation.estimate();
    simulation.layers = vec![100e3];
    simulation.wishes = false;
    simulation.run(120.0);
    assert_eq!(simulation.estimate(), known, "neither up nor down");
    let mut simulation = Simulation::new(Link::of(100e6), &[100e3]);
    simulation.run(60.0);
    assert_eq!(simulation.estimate(), START, "and what is not needed is not tried");
}

#[test]
fn key_frames_do_not_confuse_it() {
    // Ten times a usual frame every three seconds: a queue of a third of a second on its own.
    let mut simulation = Simulation::new(Link::of(750e3), &LAYERS);
    simulation.key_frames = (3 * SECOND, 10.0);
    simulation.run(60.0);
    let late = || simulation.last(50.0);
    assert!(lowest(late()) > 0.7 * 750e3, "{}", lowest(late()));
    assert!(highest(late()) < 1.1 * 750e3, "{}", highest(late()));
}

#[test]
fn others_on_the_link_are_made_room_for() {
    let mut simulation = Simulation::new(Link { queue: 300 * MS, ..Link::of(4e6) }, &LAYERS);
    simulation.run(10.0);
    simulation.link.others = 3.3e6;
    simulation.run(3.0);
    assert!(simulation.estimate() < 800e3, "{}", simulation.estimate());
    simulation.link.others = 0.0;
    simulation.run(10.0);
    assert!(simulation.estimate() > 1.9e6, "{}", simulation.estimate());
}

#[test]
fn a_longer_way_is_not_taken_for_a_queue() {
    let mut simulation = Simulation::new(Link::of(3e6), &LAYERS);
    simulation.run(10.0);
    simulation.link.delay += 150 * MS; // from the office's network to the radio's
    simulation.run(8.0);
    assert!(simulation.estimate() > 1.9e6, "{}", simulation.estimate());
}

#[test]
fn anothers_saw_does_not_starve_it() {
    // A download beside us fills the queue and halves it, every four seconds, whatever we do.
    let mut simulation = Simulation::new(Link::of(3e6), &LAYERS);
    simulation.run(10.0);
    for _ in 0..10 {
        for _ in 0..40 {
            simulation.link.delay += 4 * MS;
            simulation.run(0.1);
        }
        simulation.link.delay -= 160 * MS;
    }
    let late = || simulation.last(20.0);
    assert!(lowest(late()) > 1e6, "{}", lowest(late()));
}

#[test]
fn an_outage_ends_well() {
    let mut simulation = Simulation::new(Link::of(3e6), &LAYERS);
    simulation.run(10.0);
    let link = simulation.link.clone();
    simulation.link.loss = 1.0;
    simulation.run(4.0);
    assert!(simulation.estimate() < 1e6, "{}", simulation.estimate());
    simulation.link = link;
    simulation.run(10.0);
    assert!(simulation.estimate() > 1.9e6, "{}", simulation.estimate());
}

#[test]
fn padding_keeps_to_its_budget() {
    for link in [Link::of(600e3), Link { jitter: 40 * MS, ..Link::of(1.5e6) }, Link { loss: 0.3, ..Link::of(1e6) }] {
        let mut simulation = Simulation::new(link, &LAYERS);
        simulation.run(60.0);
        let (mut all, mut padding) = (0, 0);
        for &(_, bytes, probe) in &simulation.sent {
            all += bytes;
            padding += if probe { bytes } else { 0 };
            assert!(padding as f64 <= 0.05 * all as f64 + 32_500.0, "{padding} of {all}");
        }
        assert!(padding > 0);
    }
    let mut content = Simulation::new(Link::of(600e3), &LAYERS);
    content.wishes = false;
    content.run(30.0);
    assert!(content.sent.iter().all(|(_, _, probe)| !probe), "nobody wants more");
}

/// One message about the last packets: a status vector of two-bit symbols and the deltas given.
fn message(base: u16, reference: u32, deltas: &[i16]) -> Vec<u8> {
    let mut packet = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    packet.extend_from_slice(&base.to_be_bytes());
    packet.extend_from_slice(&(deltas.len() as u16).to_be_bytes());
    packet.extend_from_slice(&(reference << 8).to_be_bytes());
    packet.extend_from_slice(&(0x4000 | deltas.len() as u16).to_be_bytes()); // a run of large deltas
    deltas.iter().for_each(|delta| packet.extend_from_slice(&delta.to_be_bytes()));
    packet
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut simulation = Simulation::new(Link::of(3e6), &LAYERS);
    simulation.run(5.0);
    let known = simulation.estimate();
    let now = simulation.instant();
    let bandwidth = &mut simulation.bandwidth;
    let next = u16::from_be_bytes(bandwidth.next_number());
    assert!(!bandwidth.feedback(now, &[]), "no message");
    assert!(!bandwidth.feedback(now, &message(next, 0, &[0])), "not sent yet");
    assert!(!bandwidth.feedback(now, &message(next.wrapping_sub(2), 0, &[0; 3])), "partly not sent yet");
    assert!(!bandwidth.feedback(now, &message(next.wrapping_sub(9), 0, &[i16::MAX; 9])), "hours in one message");
    assert!(!bandwidth.feedback(now, &message(next.wrapping_sub(9), 0, &[i16::MIN; 9])), "backwards");
    assert!(!bandwidth.feedback(now, &message(next.wrapping_sub(9), 0x7f_ffff, &[0; 9])), "days later");
    assert_eq!(simulation.estimate(), known);
    simulation.run(20.0);
    assert!(simulation.estimate() > 0.9 * known, "and honest feedback counts as before");
}

#[test]
fn remb_counts_where_there_is_nothing_better_and_within_bounds() {
    let now = Instant::now();
    let mut bandwidth = Bandwidth::new(now);
    assert_eq!(bandwidth.budget(), None, "nothing is known");
    bandwidth.remb(0);
    assert_eq!(bandwidth.budget(), Some(FLOOR as u64));
    bandwidth.remb(1 << 63);
    assert_eq!(bandwidth.budget(), Some(CEILING as u64));
    bandwidth.remb(700_000);
    assert_eq!(bandwidth.budget(), Some(700_000));
    let mut simulation = Simulation::new(Link::of(3e6), &LAYERS);
    simulation.run(5.0);
    let known = simulation.estimate();
    simulation.bandwidth.remb(0);
    assert_eq!(simulation.estimate(), known, "transport-wide feedback knows better");
}

#[test]
fn what_another_server_knew_counts_until_more_is_heard() {
    let start = Instant::now();
    let mut bandwidth = Bandwidth::new(start);
    bandwidth.negotiated(true);
    bandwidth.go_on(Downlink { next_number: 65_535, bits: 2_000_000 });
    bandwidth.beside(40_000);
    assert_eq!(bandwidth.budget(), Some(2_040_000), "audio is beside it");
    assert_eq!(bandwidth.describe().bits, 0, "that is not known by itself");
    for _ in 0..3 {
        bandwidth.sent(start, 1000, Some(bandwidth.next_number()), Purpose::Media);
    }
    let now = start + std::time::Duration::from_millis(100);
    assert!(bandwidth.feedback(now, &message(64_536, 0, &[0; 1002])), "it speaks of the other's packets, too");
    assert_eq!(bandwidth.describe(), Downlink { next_number: 2, bits: bandwidth.budget().unwrap() });
    assert!(!bandwidth.feedback(now, &message(2, 0, &[0])), "not sent yet");
}

#[test]
fn a_client_that_does_not_keep_its_word_is_not_limited() {
    let start = Instant::now();
    let mut bandwidth = Bandwidth::new(start);
    bandwidth.negotiated(true);
    for second in 0..10 {
        let now = start + std::time::Duration::from_secs(second);
        bandwidth.sent(now, 1000, Some(bandwidth.next_number()), Purpose::Media);
        bandwidth.tick(now);
    }
    assert_eq!(bandwidth.budget(), Some(START as u64), "nothing at all is heard");
    bandwidth.reported();
    bandwidth.tick(start + std::time::Duration::from_secs(10));
    assert_eq!(bandwidth.budget(), None, "receiver reports come, feedback does not");
    assert!(bandwidth.feedback(start + std::time::Duration::from_secs(11), &message(0, 0, &[1])));
    assert_eq!(bandwidth.budget(), Some(START as u64));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever the link does, the estimate stays within its bounds, and the queue it makes does not stay.
    #[test]
    fn bounds_hold_on_any_link(
        rates in proptest::collection::vec(30e3f64..30e6, 1..4),
        (queue, delay, jitter) in (10 * MS..2 * SECOND, MS..300 * MS, 0..100 * MS),
        (loss, burst, feedback_loss) in (0.0f64..0.5, 0.0f64..0.02, 0.0f64..0.6),
        (reorder, seed) in (any::<bool>(), 1u64..u64::MAX),
    ) {
        let feedback_delay = delay;
        let link = Link {
            queue, delay, jitter, loss, reorder, feedback_loss, feedback_delay, burst: (burst, 0.2), ..Link::of(rates[0])
        };
        let mut simulation = Simulation::new(link, &LAYERS);
        simulation.seed(seed);
        for rate in rates {
            simulation.link.rate = rate;
            simulation.run(4.0);
        }
        for sample in &simulation.samples {
            prop_assert!((FLOOR..=CEILING).contains(&sample.estimate), "{sample:?}");
        }
    }

    /// No feedback, however hostile, panics or leads out of the bounds.
    #[test]
    fn bounds_hold_under_any_feedback(
        messages in proptest::collection::vec(
            (0u16..400, any::<u32>(), proptest::collection::vec(any::<i16>(), 1..40), 0u64..SECOND, any::<bool>()), 1..60,
        ),
        seed in 1u64..u64::MAX,
    ) {
        let mut simulation = Simulation::new(Link::of(1e6), &LAYERS);
        simulation.seed(seed);
        simulation.run(1.0);
        let mut random = Random(seed);
        for (behind, reference, deltas, pause, near) in messages {
            simulation.now += pause;
            let now = simulation.instant();
            for _ in 0..20 {
                let number = simulation.bandwidth.next_number();
                simulation.bandwidth.sent(now, 1000, Some(number), Purpose::Media);
            }
            let base = u16::from_be_bytes(simulation.bandwidth.next_number()).wrapping_sub(behind);
            let reference = if near { (simulation.now / REFERENCE) as u32 } else { reference };
            let mut packet = message(base, reference, &deltas);
            if random.unit() < 0.3 {
                let at = (random.unit() * packet.len() as f64) as usize;
                packet[at] ^= 1 << (seed % 8);
            }
            simulation.bandwidth.feedback(now, &packet);
            simulation.bandwidth.tick(now);
            simulation.bandwidth.wish(Some(u64::MAX), false);
            let _ = simulation.bandwidth.probe(now);
            let bits = simulation.estimate();
            prop_assert!((FLOOR..=CEILING).contains(&bits), "{bits}");
        }
    }
}
