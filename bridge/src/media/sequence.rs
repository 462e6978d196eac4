//! From a source's packet indices to a leg's: one offset, changed where packets are left out, so that the subscriber sees
//! no gaps that are not losses.

/// Changes of the offset that late packets can still be mapped over.
const RANGES: usize = 8;

/// Maps the indices (48 bits: rollover counter and sequence number) of one source.
#[derive(Clone, Debug)]
pub(crate) struct SequenceMap {
    /// (first source index, what is added to it), newest first.
    ranges: [(u64, i64); RANGES],
    len: usize,
    highest: u64,
}

impl SequenceMap {
    /// The source's packet `first` becomes `out`; earlier ones have no place.
    pub(crate) fn new(first: u64, out: u64) -> Self {
        let mut ranges = [(0, 0); RANGES];
        ranges[0] = (first, out.cast_signed() - first.cast_signed());
        Self { ranges, len: 1, highest: first }
    }

    /// The leg's index for a source's packet; `None` if it is from before the map's memory.
    pub(crate) fn map(&mut self, index: u64) -> Option<u64> {
        self.highest = self.highest.max(index);
        let (_, offset) = self.ranges[..self.len].iter().find(|(first, _)| index >= *first)?;
        index.checked_add_signed(*offset)
    }

    /// A packet is left out. Only the newest can be without leaving a gap.
    pub(crate) fn skip(&mut self, index: u64) {
        if index <= self.highest {
            return;
        }
        self.highest = index;
        let (first, offset) = self.ranges[0];
        let new = (index + 1, offset - 1);
        if first == index {
            self.ranges[0] = new;
            return;
        }
        self.ranges.rotate_right(1);
        self.ranges[0] = new;
        self.len = (self.len + 1).min(RANGES);
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
        map.skip(101);
        map.skip(102);
        assert_eq!(map.map(103), Some(8));
        map.skip(105);
        assert_eq!(map.map(106), Some(10));
        assert_eq!(map.map(104), Some(9), "late");
    }

    proptest! {
        #[test]
        fn indices_are_dense_and_distinct(skipped in proptest::collection::vec(any::<bool>(), 1..200)) {
            let mut map = SequenceMap::new(1000, 5);
            let mut expected = 5;
            for (i, skip) in skipped.iter().enumerate() {
                let index = 1001 + i as u64;
                if *skip {
                    map.skip(index);
                } else {
                    expected += 1;
                    prop_assert_eq!(map.map(index), Some(expected));
                }
            }
        }
    }
}
