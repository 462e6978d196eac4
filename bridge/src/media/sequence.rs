//! From a source's packet indices (or picture counts) to a leg's: one offset, changed where something is left out, so that
//! the subscriber sees no gaps that are not losses.

/// Changes of the offset that late packets can still be mapped over. Half the pictures left out at 30 a second: 2 s.
const RANGES: usize = 32;

/// From a source index on, how many were left out before it.
#[derive(Clone, Copy, Default, Debug)]
struct Range {
    /// The index' lower half.
    first: u32,
    left_out: u32,
}

/// Maps the indices (48 bits: rollover counter and sequence number) of one source.
#[derive(Clone, Debug)]
pub(crate) struct SequenceMap {
    /// A ring; `newest` is the last, `len` are valid.
    ranges: [Range; RANGES],
    newest: usize,
    len: usize,
    offset: i64,
    highest: u64,
    /// The frame whose packets were left out last, with nothing in between.
    leaving_out: Option<u64>,
}

impl SequenceMap {
    /// The source's packet `first` becomes `out`; earlier ones have no place.
    pub(crate) fn new(first: u64, out: u64) -> Self {
        let mut ranges = [Range::default(); RANGES];
        ranges[0].first = first as u32;
        let offset = out.cast_signed() - first.cast_signed();
        Self { ranges, newest: 0, len: 1, offset, highest: first, leaving_out: None }
    }

    /// The highest source index mapped or left out.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// The leg's index for a source's packet; `None` if it is from before the map's memory.
    pub(crate) fn map(&mut self, index: u64) -> Option<u64> {
        if index >= self.highest {
            self.highest = index;
            self.leaving_out = None;
        }
        let back = |i: usize| self.ranges[(self.newest + RANGES - i) % RANGES];
        let reached = |range: &Range| (index as u32).wrapping_sub(range.first).cast_signed() >= 0;
        let range = (0..self.len).map(back).find(reached)?;
        index.checked_add_signed(self.offset - i64::from(range.left_out))
    }

    /// A packet is left out. Only the newest can be without leaving a gap. Packets missing between two of the same
    /// `frame` are left out with them.
    pub(crate) fn skip(&mut self, index: u64, frame: Option<u64>) {
        if index <= self.highest {
            return;
        }
        let same = frame.is_some() && self.leaving_out == frame;
        let count = if same { index - self.highest } else { 1 };
        let Range { first, left_out } = self.ranges[self.newest];
        let next = Range { first: (index + 1) as u32, left_out: left_out.wrapping_add(count as u32) };
        if first != (index + 1 - count) as u32 {
            self.newest = (self.newest + 1) % RANGES;
            self.len = (self.len + 1).min(RANGES);
        }
        self.ranges[self.newest] = next;
        self.highest = index;
        self.leaving_out = frame;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_left_out_leaves_no_gap() {
        let mut map = SequenceMap::new(100, 7);
        assert_eq!(map.map(99), None);
        assert_eq!(map.map(100), Some(7));
        map.skip(101, None);
        map.skip(102, None);
        assert_eq!(map.map(103), Some(8));
        map.skip(105, None);
        assert_eq!(map.map(106), Some(10));
        assert_eq!(map.map(104), Some(9), "late");
    }

    #[test]
    fn a_frame_left_out_takes_its_missing_packets_along() {
        let mut map = SequenceMap::new(100, 7);
        assert_eq!(map.map(100), Some(7));
        map.skip(101, Some(1));
        map.skip(104, Some(1));
        assert_eq!(map.map(105), Some(8));
        map.skip(106, Some(2));
        map.skip(108, Some(3));
        assert_eq!(map.map(109), Some(10), "107 may be of a frame that is taken");
        assert_eq!(map.map(107), Some(9));
    }

    proptest! {
        #[test]
        fn indices_are_dense_and_distinct(
            start in 0u64..1 << 34,
            skipped in proptest::collection::vec(any::<bool>(), 1..200),
        ) {
            let mut map = SequenceMap::new(start, 5);
            let mut all = vec![(start, 5)];
            for (i, skip) in skipped.iter().enumerate() {
                let index = start + 1 + i as u64;
                if *skip {
                    map.skip(index, None);
                } else {
                    let expected = all.last().unwrap().1 + 1;
                    prop_assert_eq!(map.map(index), Some(expected));
                    all.push((index, expected));
                }
            }
            // Late ones keep their place, or have none any more.
            for (index, expected) in all.iter().rev() {
                let mapped = map.map(*index);
                prop_assert!(mapped == Some(*expected) || mapped.is_none());
            }
            let (index, expected) = all[all.len().saturating_sub(10)];
            prop_assert_eq!(map.map(index), Some(expected), "lately");
        }
    }
}
