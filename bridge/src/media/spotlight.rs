//! Whose picture comes first in a room: the active speaker, chosen calmly. Pure.

use std::time::{Duration, Instant};

/// Somebody louder must have been so for this long to take the place of somebody who still speaks.
const LOUDER_FOR: Duration = Duration::from_millis(1500);

/// A room's spotlight, on a publisher's key in the engine.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Spotlight {
    speaker: Option<usize>,
    /// Who is louder, and since when.
    louder: Option<(usize, Instant)>,
}

impl Spotlight {
    /// Who is in it. Stays on the last speaker while nobody speaks.
    pub(crate) fn speaker(&self) -> Option<usize> {
        self.speaker
    }

    /// Takes who speaks now, loudest first. True when the spotlight moved.
    pub(crate) fn update(&mut self, now: Instant, mut speaking: impl Iterator<Item = usize> + Clone) -> bool {
        let Some(loudest) = speaking.clone().next() else {
            self.louder = None;
            return false;
        };
        let still = speaking.any(|key| Some(key) == self.speaker);
        if Some(loudest) == self.speaker {
            self.louder = None;
            return false;
        }
        let since = match self.louder {
            Some((key, since)) if key == loudest => since,
            _ => now,
        };
        if still && now.duration_since(since) < LOUDER_FOR {
            self.louder = Some((loudest, since));
            return false;
        }
        *self = Self { speaker: Some(loudest), louder: None };
        true
    }

    /// Somebody has left.
    pub(crate) fn forget(&mut self, key: usize) {
        if self.speaker == Some(key) {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_moves_at_once_from_the_silent_and_slowly_from_the_less_loud() {
        let (mut spot, mut now) = (Spotlight::default(), Instant::now());
        let mut speak = |speaking: &[usize], ms: u64| {
            now += Duration::from_millis(ms);
            spot.update(now, speaking.iter().copied());
            spot.speaker()
        };
        assert_eq!(speak(&[], 300), None);
        assert_eq!(speak(&[7, 8], 300), Some(7));
        assert_eq!(speak(&[8], 300), Some(8), "7 is silent");
        assert_eq!(speak(&[], 300), Some(8), "nobody speaks: nobody else is more interesting");
        assert_eq!(speak(&[9, 8], 300), Some(8), "a cough");
        assert_eq!(speak(&[8, 9], 300), Some(8));
        assert_eq!(speak(&[9, 8], 300), Some(8));
        assert_eq!(speak(&[9, 8], 1400), Some(8));
        assert_eq!(speak(&[9, 8], 100), Some(9), "louder for long enough");
        spot.forget(9);
        assert_eq!(spot.speaker(), None);
    }
}
