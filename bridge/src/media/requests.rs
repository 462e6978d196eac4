//! How often one subscriber may make a publisher send a key frame of a track: a few times in a row, as a decoder that has
//! lost its way asks again and again, but not for ever, as key frames cost everybody else's picture.

use std::time::{Duration, Instant};

/// So many in a row, …
const IN_A_ROW: u8 = 4;
/// … of which one that comes this soon after another is the same, …
const SAME: Duration = Duration::from_millis(300);
/// … and another one each time that so much has passed.
const EVERY: Duration = Duration::from_secs(3);

/// One leg's.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Requests {
    taken: u8,
    last: Option<Instant>,
    /// Since when the next one is given back.
    since: Option<Instant>,
}

impl Requests {
    /// Whether a request counts.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        if self.last.is_some_and(|last| now.duration_since(last) < SAME) {
            return false;
        }
        let since = *self.since.get_or_insert(now);
        let given_back = now.duration_since(since).as_nanos() / EVERY.as_nanos();
        if given_back > 0 {
            let given_back = u32::try_from(given_back).unwrap_or(u32::MAX);
            self.taken = self.taken.saturating_sub(u8::try_from(given_back).unwrap_or(u8::MAX));
            self.since = Some(if self.taken == 0 { now } else { since + EVERY * given_back });
        }
        let enough = self.taken < IN_A_ROW;
        if enough {
            (self.taken, self.last) = (self.taken + 1, Some(now));
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_in_a_row_and_then_few() {
        let start = Instant::now();
        let mut requests = Requests::default();
        let granted = |requests: &mut Requests, from: u64, to: u64| {
            (from..to).filter(|ms| requests.take(start + Duration::from_millis(*ms))).count()
        };
        assert_eq!(granted(&mut requests, 0, 2_900), 4);
        assert_eq!(granted(&mut requests, 2_900, 30_000), 9, "a storm of a thousand a second");
        assert_eq!(granted(&mut requests, 100_000, 100_901), 4, "forgiven");
        assert_eq!((0..20).filter(|turn| requests.take(start + Duration::from_secs(200 + 4 * turn))).count(), 20);
    }
}
