//! The counters in the payload descriptors of VP8 and VP9, picture id and TL0PICIDX: rewritten so that a decoder sees one
//! continuous stream over layer switches, pauses and (VP8) pictures that are left out.

/// The counters of one packet and where they stand in its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Counters {
    /// Offset, whether it has 15 bits or 7, and the picture id.
    pub(super) picture_id: Option<(u8, bool, u16)>,
    /// Offset and TL0PICIDX.
    pub(super) tl0: Option<(u8, u8)>,
}

impl Counters {
    /// What makes the picture id `to`.
    pub(crate) fn offset_to(&self, to: u64) -> u16 {
        self.picture_id.map_or(0, |(_, _, id)| (to as u16).wrapping_sub(id))
    }
}

/// What is added to one source's counters for one subscriber.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Offsets {
    /// To the picture id.
    pub(crate) picture_id: u16,
    /// To TL0PICIDX.
    pub(crate) tl0: u8,
}

impl Offsets {
    /// The offsets that make `first` (the first packet forwarded of a source) follow on the `last` packet sent.
    pub(crate) fn after(last: Option<(u16, u8)>, first: &Counters) -> Self {
        let Some((picture_id, tl0)) = last else { return Self::default() };
        Self {
            picture_id: first.picture_id.map_or(0, |(_, _, id)| picture_id.wrapping_add(1).wrapping_sub(id)),
            tl0: first.tl0.map_or(0, |(_, id)| tl0.wrapping_add(1).wrapping_sub(id)),
        }
    }

    /// The counters as the subscriber sees them.
    pub(crate) fn map(self, counters: &Counters) -> (u16, u8) {
        (
            counters.picture_id.map_or(0, |(_, _, id)| id.wrapping_add(self.picture_id) & 0x7fff),
            counters.tl0.map_or(0, |(_, id)| id.wrapping_add(self.tl0)),
        )
    }

    /// Writes them into a copy of the payload.
    pub(crate) fn rewrite(self, counters: &Counters, payload: &mut [u8]) {
        let (picture_id, tl0) = self.map(counters);
        if let Some((at, wide, _)) = counters.picture_id {
            let at = usize::from(at);
            let [high, low] = picture_id.to_be_bytes();
            if wide {
                payload[at] = 0x80 | high;
                payload[at + 1] = low;
            } else {
                payload[at] = low & 0x7f;
            }
        }
        if let Some((at, _)) = counters.tl0 {
            payload[usize::from(at)] = tl0;
        }
    }
}

/// Counts on over the picture ids of a stream, 7 or 15 bits wide.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct PictureCount(Option<u64>);

impl PictureCount {
    /// The count of a picture, nearest to the highest so far.
    pub(super) fn of(self, counters: &Counters) -> Option<u64> {
        let (_, wide, id) = counters.picture_id?;
        let Some(highest) = self.0 else { return Some(1 << 32 | u64::from(id)) };
        let width = if wide { 15 } else { 7 };
        let half = 1 << (width - 1);
        let ahead = u64::from(id).wrapping_sub(highest) & ((1 << width) - 1);
        Some(if ahead < half { highest + ahead } else { (highest + ahead).saturating_sub(1 << width) })
    }

    /// The same, and counts on from there.
    pub(super) fn take(&mut self, counters: &Counters) -> Option<u64> {
        let count = self.of(counters);
        self.0 = self.0.max(count);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn counting_on_follows_small_steps_both_ways(wide: bool, steps in proptest::collection::vec(-20i64..40, 1..200)) {
            let mask = if wide { 0x7fff } else { 0x7f };
            let mut count = PictureCount::default();
            let (mut true_count, mut first) = (40_000i64, None);
            for step in steps {
                let picture = true_count + step;
                true_count = true_count.max(picture);
                let counters = Counters { picture_id: Some((2, wide, picture as u16 & mask)), tl0: None };
                prop_assert_eq!(count.of(&counters), count.take(&counters));
                let mapped = count.of(&counters).unwrap().cast_signed() - picture;
                if *first.get_or_insert(mapped) != mapped {
                    prop_assert!(false, "lost count");
                }
            }
        }
    }
}
