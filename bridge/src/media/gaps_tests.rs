use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::network::Random;
use super::super::receiver::Receiver;
use super::*;

const MS: Duration = Duration::from_millis(1);
const TICK: u64 = 10;

/// A stream of 30 frames a second over a way on which each packet takes a time of its own.
struct Way {
    /// Each packet takes up to so long more than the fastest, milliseconds.
    jitter: f64,
    /// Packets of a frame, and in what time they are sent, milliseconds.
    frame: (u64, f64),
    /// Share of packets lost.
    loss: f64,
    /// What the engine is told, and how long an answer really takes.
    rtt: Duration,
    answer: Option<Duration>,
}

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    /// When each lost packet was asked for, milliseconds after it was missed.
    asked: Vec<Vec<u64>>,
    /// Requests for packets that merely came late.
    needless: usize,
    /// The longest that a packet took that merely came late, milliseconds.
    latest: f64,
}

impl Way {
    fn of(jitter: f64, frame: (u64, f64)) -> Self {
        Self { jitter, frame, loss: 0.0, rtt: 50 * MS, answer: None }
    }

    fn run(&self, seed: u64, seconds: u64) -> Outcome {
        let mut random = Random(seed | 1);
        let mut arrivals: Vec<(f64, u64, u32)> = Vec::new();
        let mut lost = BTreeSet::new();
        for number in 0..seconds * 30 * self.frame.0 {
            let (frame, packet) = (number / self.frame.0, number % self.frame.0);
            let (at, spread) = (frame as f64 * 1000.0 / 30.0, self.frame.1 * packet as f64 / self.frame.0 as f64);
            if number > 100 && random.unit() < self.loss {
                lost.insert(number);
            } else {
                arrivals.push((at + spread + self.jitter * random.unit(), number, frame as u32 * 3000));
            }
        }
        arrivals.sort_by(|a, b| a.0.total_cmp(&b.0));
        let start = Instant::now();
        let mut receiver = Receiver::new(start, 90_000, 0, true);
        let (mut out, mut tick) = (Vec::new(), 0);
        let mut missed: BTreeMap<u64, f64> = BTreeMap::new();
        let mut answers: Vec<(u64, u64)> = Vec::new();
        let mut asked: Vec<(u64, u64)> = Vec::new();
        let (mut next, mut outcome) = (0, Outcome::default());
        for (at, number, timestamp) in arrivals {
            while (tick + TICK) as f64 <= at {
                tick += TICK;
                let now = start + Duration::from_millis(tick);
                for (_, number) in answers.extract_if(.., |(due, _)| *due <= tick) {
                    receiver.receive(now, number, 0, true);
                }
                receiver.due_nacks(now, self.rtt, &mut out);
                for number in out.drain(..).map(u64::from) {
                    asked.push((number, tick));
                    let known = answers.iter().any(|(_, other)| *other == number);
                    if let Some(answer) = self.answer.filter(|_| !known) {
                        answers.push((tick + answer.as_millis() as u64, number));
                    }
                }
            }
            if number >= next {
                missed.extend((next..number).map(|number| (number, at)));
                next = number + 1;
            } else if let Some(since) = missed.get(&number) {
                outcome.latest = outcome.latest.max(at - since);
            }
            receiver.receive(start + Duration::from_secs_f64(at / 1000.0), number, timestamp, false);
        }
        outcome.needless = asked.iter().filter(|(number, _)| !lost.contains(number)).count();
        for number in lost {
            let Some(since) = missed.get(&number) else { continue };
            let times = asked.iter().filter(|(of, _)| *of == number).map(|(_, at)| at - *since as u64);
            outcome.asked.push(times.collect());
        }
        outcome
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn what_merely_comes_late_is_not_asked_for(seed in any::<u64>(), packets in 1u64..30, spread in 0.0f64..15.0) {
        let outcome = Way::of(20.0, (packets, spread)).run(seed, 10);
        prop_assert_eq!(outcome.needless, 0, "the latest by {} ms", outcome.latest);
        prop_assert!(packets == 1 || outcome.latest > 8.0, "it was a test: {}", outcome.latest);
    }

    #[test]
    fn what_is_lost_is_asked_for_as_soon_as_the_order_allows(
        seed in any::<u64>(),
        packets in 2u64..20,
        jitter in prop_oneof![Just(0.0), Just(5.0), Just(20.0), Just(40.0)],
    ) {
        let outcome = Way { loss: 0.02, answer: Some(60 * MS), ..Way::of(jitter, (packets, 0.0)) }.run(seed, 20);
        // Four times the jitter (a third of the delays' span, give or take), or a quarter more than the latest.
        let most = (4.0 * jitter / 3.0 * 1.6).max(1.25 * outcome.latest).clamp(8.0, 80.0) as u64 + TICK + 1;
        // The last ones may not have been asked for when it ended.
        let answered = outcome.asked.iter().rev().skip(6);
        let first: Vec<u64> = answered.filter_map(|asked| asked.first().copied()).collect();
        prop_assert!(!first.is_empty());
        prop_assert!(first.iter().all(|at| *at <= most), "{jitter} ms: {first:?} of {most}");
        prop_assert!(jitter > 0.0 || first.iter().all(|at| (8..=8 + TICK + 1).contains(at)), "{first:?}");
    }
}

#[test]
fn a_gap_is_asked_for_once_a_round_trip_for_as_long_as_it_is_of_use() {
    // Round trip, jitter (four times of which is waited), when it is asked for.
    let table: [(u64, u64, &[u64]); 5] = [
        (10, 0, &[8, 38, 68, 98, 128, 158, 188, 218, 248, 278]),
        (50, 0, &[8, 66, 124, 182, 240, 298, 356, 414]),
        (50, 5, &[20, 90, 160, 230, 300, 370, 440]),
        (200, 10, &[40, 280, 520]),
        (600, 0, &[8, 608]),
    ];
    for (rtt, jitter, expected) in table {
        let (start, mut gaps) = (Instant::now(), Gaps::default());
        gaps.miss(start, 7..8);
        let (mut out, mut asked) = (Vec::new(), Vec::new());
        for at in 0..3000 {
            gaps.due(start + at * MS, Some(jitter as u32 * MS), rtt as u32 * MS, &mut out);
            asked.extend(out.drain(..).map(|_| u64::from(at)));
        }
        assert_eq!(asked, expected, "{rtt} ms, jitter {jitter} ms");
        assert_eq!(gaps.index_of(7), None, "given up");
    }
}

#[test]
fn the_way_is_measured_by_its_answers() {
    let (start, mut gaps) = (Instant::now(), Gaps::default());
    let mut out = Vec::new();
    for number in 0..40 {
        let now = start + number * 1000 * MS;
        gaps.miss(now, u64::from(number)..u64::from(number) + 1);
        for at in 0..=400 {
            // What it was told is far too short.
            gaps.due(now + at * MS, Some(Duration::ZERO), 40 * MS, &mut out);
        }
        assert!(number == 0 || out.len() <= 2, "{number}: {out:?}");
        gaps.arrived(now + 408 * MS, number.into(), true);
        assert!(number > 0 || out.len() > 5, "{out:?}");
        out.clear();
    }
}

#[test]
fn nothing_before_a_key_frame_is_asked_for() {
    let (start, mut gaps) = (Instant::now(), Gaps::default());
    gaps.miss(start, 5..9);
    gaps.begin_anew(7);
    let mut out = Vec::new();
    gaps.due(start + 100 * MS, Some(Duration::ZERO), 50 * MS, &mut out);
    assert_eq!(out, [7, 8]);
    assert_eq!((gaps.index_of(6), gaps.index_of(7)), (None, Some(7)));
}

#[test]
fn a_great_gap_asks_for_a_key_frame_instead() {
    let (start, mut gaps) = (Instant::now(), Gaps::default());
    gaps.miss(start, 101..1000);
    let mut out = Vec::new();
    gaps.due(start + 100 * MS, None, 10 * MS, &mut out);
    assert!(out.is_empty());
    assert!(gaps.take_overrun());
    assert!(!gaps.take_overrun());
}
