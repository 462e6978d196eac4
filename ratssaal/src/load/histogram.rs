//! A histogram of microseconds with a relative error of less than 2 %: what percentiles are read from.

/// Buckets for each doubling.
const STEPS: u64 = 64;
const BITS: u32 = STEPS.ilog2();

/// Counts of durations, µs. Merging and recording never fail; nothing is allocated while recording up to half an hour.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u32>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; bucket(1 << 31)], total: 0, max: 0 }
    }
}

/// Values below 128 have a bucket each, then 64 of each doubling.
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(BITS + 1);
    (u64::from(shift) * STEPS + (value >> shift)) as usize
}

/// The middle of a bucket.
fn value(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    let base = (bucket - shift * STEPS) << shift;
    base + (1 << shift) / 2
}

impl Histogram {
    pub(super) fn record(&mut self, micros: u64) {
        let at = bucket(micros);
        if at >= self.counts.len() {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
        self.total += 1;
        self.max = self.max.max(micros);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// How many values there are.
    pub(super) fn count(&self) -> u64 {
        self.total
    }

    /// The value that a share of all do not exceed, µs; `None` when there is none.
    pub(super) fn percentile(&self, share: f64) -> Option<u64> {
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        let at = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        })?;
        Some(value(at).min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_those_of_the_values() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(0.5), None);
        (1..=100).for_each(|value| histogram.record(value));
        assert_eq!([0.01, 0.5, 0.99, 1.0].map(|share| histogram.percentile(share).unwrap()), [1, 50, 99, 100]);
    }

    proptest! {
        #[test]
        fn every_value_is_near_its_bucket(micros in 0u64..1 << 40) {
            let near = value(bucket(micros));
            prop_assert!(near.abs_diff(micros) as f64 <= micros as f64 * 0.01 + 0.5, "{} for {}", near, micros);
        }

        #[test]
        fn merging_is_recording_all(values in proptest::collection::vec(0u64..1 << 36, 0..200), at in 0usize..200) {
            let (mut all, mut left, mut right) = (Histogram::default(), Histogram::default(), Histogram::default());
            for (i, value) in values.iter().enumerate() {
                all.record(*value);
                if i < at { left.record(*value) } else { right.record(*value) }
            }
            left.merge(&right);
            prop_assert_eq!((left.count(), left.max), (all.count(), all.max));
            prop_assert_eq!(left.percentile(0.9), all.percentile(0.9));
        }
    }
}
