//! The order, the hysteresis, and what holds for any tracks and any budget.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn ladder(bits: &[u64]) -> Ladder {
    let step = |(index, &bits): (usize, &u64)| Step { layer: Layer::full(index as u8), bits };
    bits.iter().enumerate().map(step).collect()
}

/// A camera of 150, 500 and 1700 kbit/s, not had yet.
fn camera(rank: Rank) -> Demand {
    Demand::new(rank, ladder(&[150_000, 500_000, 1_700_000]), None, true)
}

/// A subscriber over time.
struct Subscriber {
    now: Instant,
    memory: Memory,
    scratch: Scratch,
    audio: u64,
    demands: Vec<Demand>,
}

impl Subscriber {
    fn new(demands: Vec<Demand>) -> Self {
        let (memory, scratch) = Default::default();
        Self { now: Instant::now(), memory, scratch, audio: 0, demands }
    }

    fn allocate(&mut self, budget: impl Into<Option<u64>>) -> Outcome {
        let (memory, scratch) = (&mut self.memory, &mut self.scratch);
        allocate(self.now, budget.into(), self.audio, &mut self.demands, memory, scratch)
    }

    fn levels(&self) -> Vec<usize> {
        self.demands.iter().map(|demand| demand.level).collect()
    }

    /// What was given is had, and not new any more.
    fn keep(&mut self) {
        self.now += 200 * MS;
        for demand in &mut self.demands {
            (demand.held, demand.fresh) = (demand.level, demand.fresh && demand.level == 0);
        }
    }

    /// The levels once they have settled for this budget.
    fn settle(&mut self, budget: u64, time: Duration) -> Vec<usize> {
        let until = self.now + time;
        while self.now < until {
            self.allocate(budget);
            self.keep();
        }
        self.levels()
    }
}

#[test]
fn without_a_known_limit_everybody_gets_what_is_wanted() {
    let mut all = Subscriber::new(vec![camera(Rank::Other), camera(Rank::Screen)]);
    let outcome = all.allocate(None);
    assert_eq!(all.levels(), [3, 3]);
    assert_eq!(outcome, Outcome { used: 3_400_000, wish: None, short: 0.0, starved: false });
}

#[test]
fn audio_then_the_screen_then_the_speaker_then_the_rest_evenly() {
    let ranks = [Rank::Other, Rank::Other, Rank::Speaker, Rank::Screen, Rank::Pinned(1)];
    let given = |budget: u64, audio: u64| {
        let mut all = Subscriber::new(ranks.map(camera).into());
        all.audio = audio;
        let outcome = all.allocate(budget * 115 / 100 + 10);
        (all.levels(), outcome.wish.is_some())
    };
    assert_eq!(given(100_000, 100_000), (vec![0, 0, 0, 0, 0], true), "audio always");
    assert_eq!(given(160_000, 0), (vec![0, 0, 0, 1, 0], true));
    assert_eq!(given(450_000, 0), (vec![0, 0, 1, 1, 1], true));
    assert_eq!(given(750_000, 0), (vec![1, 1, 1, 1, 1], true), "everybody is seen before anybody is seen better");
    assert_eq!(given(2_300_000, 0), (vec![1, 1, 1, 3, 1], true));
    assert_eq!(given(4_000_000, 0), (vec![1, 1, 1, 3, 3], true));
    assert_eq!(given(5_400_000, 0), (vec![1, 1, 3, 3, 3], true));
    assert_eq!(given(6_100_000, 0), (vec![2, 2, 3, 3, 3], true));
    assert_eq!(given(8_500_000, 0), (vec![3, 3, 3, 3, 3], false));
}

#[test]
fn down_at_once_and_up_after_a_while() {
    let mut all = Subscriber::new(vec![camera(Rank::Other), camera(Rank::Other)]);
    assert_eq!(all.settle(4_000_000, 200 * MS), [3, 3]);
    all.allocate(1_200_000);
    assert_eq!(all.levels(), [2, 2], "down at once");
    all.keep();
    assert_eq!(all.settle(4_000_000, 800 * MS), [2, 2], "not yet");
    assert_eq!(all.settle(4_000_000, 400 * MS), [3, 3]);
    assert_eq!(all.settle(3_400_000, 10_000 * MS), [3, 3], "what is had stays as long as it fits");
    all.allocate(3_399_999);
    assert_eq!(all.levels(), [3, 2]);
}

#[test]
fn what_was_never_given_begins_as_soon_as_it_fits() {
    let single = Demand::new(Rank::Other, ladder(&[1_500_000]), None, true);
    let mut all = Subscriber::new(vec![single]);
    assert_eq!(all.settle(400_000, 2000 * MS), [0]);
    assert_eq!(all.settle(1_500_000, 200 * MS), [1], "without margin and without waiting");
    assert_eq!(all.settle(400_000, 200 * MS), [0]);
    assert_eq!(all.settle(1_800_000, 800 * MS), [0], "once it had something it waits like others");
}

#[test]
fn an_upgrade_needs_a_margin() {
    let mut all = Subscriber::new(vec![camera(Rank::Other)]);
    assert_eq!(all.settle(300_000, 1000 * MS), [1]);
    assert_eq!(all.settle(570_000, 10_000 * MS), [1], "500 kbit/s want 575");
    let wish = all.allocate(570_000).wish.unwrap();
    assert_eq!(all.settle(576_000, 1400 * MS), [2]);
    assert_eq!(all.settle(wish, 1400 * MS), [3], "with what was wished for all is well");
    assert_eq!(all.allocate(wish).wish, None);
}

#[test]
fn the_wait_grows_when_upgrades_fail_and_is_forgiven() {
    let mut all = Subscriber::new(vec![camera(Rank::Other)]);
    let mut rises = 0;
    for _ in 0..150 {
        let before = all.levels()[0];
        all.allocate(if before < 2 { 600_000 } else { 400_000 });
        rises += usize::from(all.levels()[0] > before && before > 0);
        all.keep();
    }
    assert!((3..=5).contains(&rises), "1 + 2 + 4 + 8 + 16 s in 30 s: {rises}");
    all.settle(400_000, 5 * FORGIVEN_AFTER);
    assert_eq!(all.settle(600_000, 1400 * MS), [2], "as at first");
}

#[test]
fn somebody_new_is_seen_at_once_at_the_expense_of_others() {
    let mut all = Subscriber::new(vec![camera(Rank::Other), camera(Rank::Other)]);
    assert_eq!(all.settle(1_200_000, 2000 * MS), [2, 2]);
    all.demands.push(camera(Rank::Other));
    all.allocate(1_200_000);
    assert_eq!(all.levels(), [2, 2, 1]);
    all.demands.push(camera(Rank::Screen));
    all.allocate(1_200_000);
    assert_eq!(all.levels(), [1, 1, 1, 2], "and who comes first is served first");
}

#[test]
fn the_ladder_may_change_under_what_is_had() {
    let steps = ladder(&[100, 200, 300]);
    let held = |layer| Demand::new(Rank::Other, steps.clone(), layer, false).held;
    assert_eq!(held(None), 0);
    assert_eq!(held(Some(Layer::full(1))), 2);
    assert_eq!(held(Some(Layer::full(9))), 3, "the highest there is now");
    let higher = Demand::new(Rank::Other, steps[2..].into(), Some(Layer::full(0)), false);
    assert_eq!(higher.held, 1, "the lowest there is now");
    assert_eq!(Demand::new(Rank::Other, Ladder::new(), Some(Layer::full(0)), false).held, 0);
}

fn any_rank() -> impl Strategy<Value = Rank> {
    prop_oneof![
        1 => Just(Rank::Screen),
        1 => (1u8..4).prop_map(Rank::Pinned),
        1 => Just(Rank::Speaker),
        8 => Just(Rank::Other),
    ]
}

fn any_demand() -> impl Strategy<Value = Demand> {
    let steps = proptest::collection::vec(1_000u64..600_000, 0..9);
    (any_rank(), steps, 0usize..10, any::<bool>()).prop_map(|(rank, costs, held, fresh)| {
        let mut sum = 0;
        let costs: Vec<u64> = costs
            .into_iter()
            .map(|cost| {
                sum += cost;
                sum
            })
            .collect();
        let held = held.checked_sub(1).map(|held| Layer::full(held as u8));
        Demand::new(rank, ladder(&costs), held, fresh)
    })
}

proptest! {
    #[test]
    fn never_above_the_budget_and_always_the_same(
        demands in proptest::collection::vec(any_demand(), 0..40),
        budget in 0u64..20_000_000,
        audio in 0u64..500_000,
    ) {
        let mut all = Subscriber::new(demands.clone());
        all.audio = audio;
        let outcome = all.allocate(budget);
        prop_assert!(outcome.used <= budget.max(audio), "{} of {budget}", outcome.used);
        prop_assert_eq!(outcome.used, audio + all.demands.iter().map(|d| d.cost(d.level)).sum::<u64>());
        let all_given = all.demands.iter().all(|demand| demand.level == demand.ladder.len());
        prop_assert_eq!(outcome.wish.is_none(), all_given);
        let mut again = Subscriber::new(demands);
        again.audio = audio;
        again.allocate(budget);
        prop_assert_eq!(all.levels(), again.levels());
    }

    /// When things have settled, a track is dark only if its first step would not fit beside the others' first steps, of
    /// those that come before it.
    #[test]
    fn nobody_is_dark_while_another_could_step_down(
        demands in proptest::collection::vec(any_demand(), 1..30),
        budget in 0u64..8_000_000,
    ) {
        let mut all = Subscriber::new(demands);
        all.settle(budget, 60_000 * MS);
        let safe = budget * 100 / 115;
        for dark in all.demands.iter().filter(|d| d.level == 0 && !d.ladder.is_empty()) {
            let seen = all.demands.iter().filter(|d| d.level > 0);
            let first_steps: u64 = seen.map(|d| d.cost(1)).sum();
            prop_assert!(first_steps + dark.cost(1) > safe, "{dark:?} beside {first_steps} of {safe}");
        }
    }

    /// Rates and budget vary by a tenth each, five times a second, for two minutes after a settling time: no
    /// track changes more often than every twelve seconds, and most do not change at all.
    #[test]
    fn noise_changes_nothing(
        demands in proptest::collection::vec(any_demand(), 1..12),
        budget in 200_000u64..6_000_000,
        mut seed: u64,
    ) {
        let mut all = Subscriber::new(demands);
        let truth: Vec<Ladder> = all.demands.iter().map(|demand| demand.ladder.clone()).collect();
        let mut noisy = |value: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            value * (900 + (seed >> 33) % 201) / 1000
        };
        let mut changes = 0;
        for round in 0..900 {
            for (demand, truth) in all.demands.iter_mut().zip(&truth) {
                let factor = noisy(1_000_000);
                for (step, real) in demand.ladder.iter_mut().zip(truth) {
                    step.bits = real.bits * factor / 1_000_000;
                }
            }
            all.allocate(noisy(budget));
            let changed = all.demands.iter().filter(|demand| demand.level != demand.held).count();
            changes += if round >= 300 { changed } else { 0 };
            all.keep();
        }
        prop_assert!(changes <= 10 * all.demands.len(), "{changes} changes of {} tracks in two minutes", all.demands.len());
    }
}
