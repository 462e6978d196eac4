//! A sliding window over 48-bit SRTP packet indices (RFC 3711 §3.3.1, §3.3.2): inbound it refuses replays, outbound it
//! refuses to use an index (and with it a GCM nonce) twice.

/// How far back an index may lie behind the highest one.
pub(crate) const SPAN: u64 = 512;
const WORDS: usize = (SPAN / 64) as usize;

/// The highest index and which of the last [`SPAN`] were used.
#[derive(Clone, Default, Debug)]
pub(crate) struct Window {
    /// The highest index + 1; 0 before the first.
    next: u64,
    used: [u64; WORDS],
}

impl Window {
    /// The index after the highest one.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The index for a sequence number: the one closest to the highest so far.
    pub(crate) fn index(&self, sequence: u16) -> u64 {
        let Some(highest) = self.next.checked_sub(1) else { return u64::from(sequence) };
        let delta = i64::from(sequence.wrapping_sub(highest as u16) as i16);
        // Before the first wrap nothing can come from "before 0".
        highest.checked_add_signed(delta).unwrap_or(u64::from(sequence))
    }

    /// Whether the index is new and not too old.
    pub(crate) fn is_new(&self, index: u64) -> bool {
        index >= self.next || (self.next - index <= SPAN && self.used[word(index)] >> (index % 64) & 1 == 0)
    }

    /// Marks an index as used; false if it was not new.
    pub(crate) fn take(&mut self, index: u64) -> bool {
        if !self.is_new(index) {
            return false;
        }
        if index >= self.next {
            if index - self.next >= SPAN {
                self.used = [0; WORDS];
            } else {
                for skipped in self.next..index {
                    self.used[word(skipped)] &= !(1 << (skipped % 64));
                }
            }
            self.next = index + 1;
        }
        self.used[word(index)] |= 1 << (index % 64);
        true
    }
}

fn word(index: u64) -> usize {
    (index / 64 % WORDS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn the_index_follows_the_sequence_number_over_its_wraps() {
        let mut window = Window::default();
        for index in [65_530u64, 65_534, 65_535, 65_536, 65_533, 65_540, 98_000, 130_000, 131_072] {
            assert_eq!(window.index(index as u16), index);
            assert!(window.take(index));
        }
        assert_eq!(Window::default().index(7), 7);
    }

    proptest! {
        #[test]
        fn takes_each_index_at_most_once(steps in proptest::collection::vec(-700i64..700, 1..500)) {
            let (mut window, mut seen, mut at, mut highest) = (Window::default(), HashSet::new(), 5_000i64, 0);
            for step in steps {
                at = (at + step).max(0);
                let index = at as u64;
                let taken = window.take(index);
                let expected = !seen.contains(&index) && (seen.is_empty() || index + SPAN > highest);
                prop_assert_eq!(taken, expected);
                if taken {
                    seen.insert(index);
                    highest = highest.max(index);
                }
                prop_assert!(!window.take(index));
            }
        }
    }
}
