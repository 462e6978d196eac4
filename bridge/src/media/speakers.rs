//! Who speaks: audio levels of the last moments (RFC 6464) made into a calm, ordered list.

/// A level of at least this (−dBov, smaller is louder) counts as speech.
const SPEECH: u8 = 35;
/// The share of a window's packets that must be speech.
const SPEECH_SHARE: f32 = 0.4;
/// Levels are reported in so many steps, so that a list does not change without need.
const STEPS: f32 = 8.0;
/// Weight of the newest window.
const SMOOTHING: f32 = 0.5;

/// One audio track's loudness.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Loudness {
    packets: u32,
    speech: u32,
    speech_sum: u32,
    smoothed: f32,
}

impl Loudness {
    /// A packet with this audio level (the extension's first byte).
    pub(crate) fn observe(&mut self, level: u8) {
        let level = level & 0x7f;
        self.packets += 1;
        if level <= SPEECH {
            self.speech += 1;
            self.speech_sum += u32::from(level);
        }
    }

    /// Ends a window; the level from 0.0 to 1.0 in steps, 0.0 for silence.
    pub(crate) fn take(&mut self) -> f32 {
        let Self { packets, speech, speech_sum, smoothed } = *self;
        let now = if packets > 0 && speech as f32 >= SPEECH_SHARE * packets as f32 {
            10f32.powf(-(speech_sum as f32 / speech as f32) / 20.0)
        } else {
            0.0
        };
        let smoothed = smoothed + (now - smoothed) * SMOOTHING;
        let floor = 10f32.powf(-f32::from(SPEECH) / 20.0);
        let smoothed = if smoothed < floor { 0.0 } else { smoothed };
        *self = Self { smoothed, ..Self::default() };
        (smoothed * STEPS).ceil() / STEPS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(loudness: &mut Loudness, levels: &[u8]) -> f32 {
        levels.iter().for_each(|&level| loudness.observe(level));
        loudness.take()
    }

    #[test]
    fn speech_rises_and_falls_within_windows() {
        let mut loudness = Loudness::default();
        assert_eq!(window(&mut loudness, &[127; 10]), 0.0);
        assert_eq!(window(&mut loudness, &[0x80 | 20; 10]), 0.125, "-20 dBov is a tenth, seen at once");
        assert_eq!(window(&mut loudness, &[0; 10]), 0.625);
        assert_eq!(window(&mut loudness, &[127; 10]), 0.375);
        let mut last = 1.0;
        let silent = (0..20).position(|_| {
            let level = window(&mut loudness, &[]);
            assert!(level <= last);
            last = level;
            level == 0.0
        });
        assert!(silent.is_some_and(|windows| windows <= 6), "{silent:?}");
    }

    #[test]
    fn a_cough_is_no_speech() {
        let mut loudness = Loudness::default();
        assert_eq!(window(&mut loudness, &[5, 127, 127, 127, 127]), 0.0);
    }
}
