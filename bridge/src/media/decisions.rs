//! What was decided on each of a stream's recent frames for one leg: taken or left out. All packets of a frame share its
//! fate, late ones too, and a frame that refers to one left out cannot be decoded.

/// Frames remembered: 5 s of three spatial layers at 30 pictures a second. A power of two.
const FRAMES: u64 = 512;
const WORDS: usize = (FRAMES / 64) as usize;

/// A frame's fate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// None of its packets has come (yet).
    Open,
    /// Its packets are forwarded.
    Taken,
    /// They are not; nor are those from before the leg's beginning or memory.
    LeftOut,
}

/// The fates of the recent frames, by their numbers.
#[derive(Clone, Debug)]
pub(crate) struct Decisions {
    first: u64,
    highest: Option<u64>,
    decided: [u64; WORDS],
    taken: [u64; WORDS],
}

fn place(number: u64) -> (usize, u64) {
    ((number % FRAMES / 64) as usize, 1 << (number % 64))
}

impl Decisions {
    /// The leg begins with frame `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self { first, highest: None, decided: [0; WORDS], taken: [0; WORDS] }
    }

    /// Whether no later frame was decided on.
    pub(crate) fn is_newest(&self, number: u64) -> bool {
        self.highest.is_none_or(|highest| number > highest)
    }

    /// A frame's fate.
    pub(crate) fn fate(&self, number: u64) -> Fate {
        let Some(highest) = self.highest else {
            return if number < self.first { Fate::LeftOut } else { Fate::Open };
        };
        if number > highest {
            return Fate::Open;
        }
        if number < self.first || highest - number >= FRAMES {
            return Fate::LeftOut;
        }
        let (word, bit) = place(number);
        match (self.decided[word] & bit != 0, self.taken[word] & bit != 0) {
            (false, _) => Fate::Open,
            (true, true) => Fate::Taken,
            (true, false) => Fate::LeftOut,
        }
    }

    /// Decides on a frame.
    pub(crate) fn decide(&mut self, number: u64, taken: bool) {
        if self.is_newest(number) {
            let from = self.highest.map_or(number, |highest| highest + 1);
            if number - from >= FRAMES {
                (self.decided, self.taken) = ([0; WORDS], [0; WORDS]);
            } else {
                for passed in from..=number {
                    let (word, bit) = place(passed);
                    self.decided[word] &= !bit;
                    self.taken[word] &= !bit;
                }
            }
            self.highest = Some(number);
        } else if self.highest.is_some_and(|highest| highest - number >= FRAMES) {
            return;
        }
        let (word, bit) = place(number);
        self.decided[word] |= bit;
        if taken {
            self.taken[word] |= bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn decisions_are_remembered(steps in proptest::collection::vec((-200i64..300, any::<bool>()), 1..200)) {
            let first = 1u64 << 32;
            let mut decisions = Decisions::new(first);
            let (mut known, mut highest) = (HashMap::new(), first);
            for (step, taken) in steps {
                let number = (highest.cast_signed() + step).cast_unsigned();
                if number < first || decisions.fate(number) != Fate::Open {
                    continue;
                }
                decisions.decide(number, taken);
                known.insert(number, taken);
                highest = highest.max(number);
                for asked in highest.saturating_sub(700)..highest + 3 {
                    let expected = match known.get(&asked) {
                        _ if asked < first || asked + FRAMES <= highest => Fate::LeftOut,
                        Some(true) => Fate::Taken,
                        Some(false) => Fate::LeftOut,
                        None => Fate::Open,
                    };
                    prop_assert_eq!(decisions.fate(asked), expected);
                }
            }
        }
    }
}
