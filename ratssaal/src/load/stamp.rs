//! What every generated packet says of itself at the end of its payload, which servers forward untouched: who sent it,
//! as what, as which, and when.

use std::time::Instant;

/// Bytes of a stamp.
pub(super) const SIZE: usize = 22;
/// Tells our payloads from what a server makes up (padding, blank frames).
const MAGIC: [u8; 4] = *b"RLT1";
/// [`Stamp::kind`] of audio; video has its layer.
pub(super) const AUDIO: u8 = 9;

/// A packet's origin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stamp {
    /// The publisher's number.
    pub(super) publisher: u32,
    /// The layer (0 low, 1 medium, 2 high), or [`AUDIO`].
    pub(super) kind: u8,
    /// A key frame begins here.
    pub(super) key: bool,
    /// Counts the packets of this publisher and kind.
    pub(super) number: u32,
    /// When it was sent, µs since the start of the run.
    pub(super) sent: u64,
}

impl Stamp {
    /// Appends it.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&self.publisher.to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.sent.to_be_bytes());
        out.extend_from_slice(&[self.kind, u8::from(self.key)]);
    }

    /// Reads it from the end of a payload; `None` for what is not ours.
    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        let (_, stamp) = payload.split_last_chunk::<SIZE>()?;
        let (magic, rest) = stamp.split_first_chunk()?;
        let (publisher, rest) = rest.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (sent, rest) = rest.split_first_chunk()?;
        let &[kind, key] = rest else { return None };
        (*magic == MAGIC).then_some(Self {
            publisher: u32::from_be_bytes(*publisher),
            kind,
            key: key != 0,
            number: u32::from_be_bytes(*number),
            sent: u64::from_be_bytes(*sent),
        })
    }
}

/// The run's clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(pub(super) Instant);

impl Clock {
    /// Microseconds since the start of the run.
    pub(super) fn micros(self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.0).as_micros()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_stamp_survives_whatever_stands_before_it(
            head in proptest::collection::vec(any::<u8>(), 0..50), publisher: u32, kind: u8, key: bool, number: u32, sent: u64
        ) {
            let stamp = Stamp { publisher, kind, key, number, sent };
            let mut payload = head;
            stamp.write(&mut payload);
            prop_assert_eq!(Stamp::read(&payload), Some(stamp));
        }
    }

    #[test]
    fn what_is_not_ours_is_not_read() {
        for payload in [&[][..], &[0; SIZE], &[0xff; 100]] {
            assert_eq!(Stamp::read(payload), None);
        }
    }
}
