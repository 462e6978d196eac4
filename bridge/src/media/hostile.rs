//! RTCP of somebody who means no good: compound packets as large as a datagram, full of one thing. Authentic, so that all of it
//! is read.

/// Bytes of a compound packet at the most.
const LARGEST: usize = 1400;

/// What it is full of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attack {
    /// Requests for packets, each message for seventeen.
    Repairs,
    /// Transport-wide feedback, each message on two thousand packets, or all there are, none of which has arrived.
    Arrivals,
    /// Bandwidths (REMB).
    Bandwidths,
    /// Requests for key frames.
    KeyFrames,
    /// Report blocks.
    Reports,
    /// What nobody knows.
    Unknown,
}

impl Attack {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Repairs, Self::Arrivals, Self::Bandwidths, Self::KeyFrames, Self::Reports, Self::Unknown];

    /// The compound packet about an SSRC, the newest sequence number sent with it, and the newest transport-wide one.
    pub(crate) fn compound(self, ssrc: u32, newest: u16, number: u16) -> Vec<u8> {
        let mut all = Vec::new();
        for turn in 0.. {
            let message = self.message(ssrc, newest, number, turn);
            if all.len() + message.len() > LARGEST {
                return all;
            }
            all.extend_from_slice(&message);
        }
        all
    }

    fn message(self, ssrc: u32, newest: u16, number: u16, turn: u16) -> Vec<u8> {
        let ssrc = ssrc.to_be_bytes();
        let head = |kind: [u8; 2], words: u8| [&kind[..], &[0, words, 0, 0, 0, 9]].concat();
        match self {
            Self::Repairs => {
                let first = newest.wrapping_sub(17 * (turn + 1)).to_be_bytes();
                [&head([0x81, 205], 3)[..], &ssrc, &first, &[0xff, 0xff]].concat()
            }
            Self::Arrivals => {
                let count = number.clamp(1, 2000);
                let base = number.wrapping_sub(count - 1).to_be_bytes();
                // One chunk: a run of packets that have not arrived.
                [
                    &head([0x8f, 205], 5)[..],
                    &ssrc,
                    &base,
                    &count.to_be_bytes(),
                    &[0, 0, 1, turn as u8],
                    &count.to_be_bytes(),
                    &[0, 0],
                ]
                .concat()
            }
            Self::Bandwidths => {
                [&head([0x8f, 206], 5)[..], &[0; 4], b"REMB", &[1, (turn as u8) << 2, 0xff, 0xff], &ssrc].concat()
            }
            Self::KeyFrames => [&head([0x81, 206], 2)[..], &ssrc].concat(),
            Self::Reports => [&head([0x81, 201], 7)[..], &ssrc, &[255; 20]].concat(),
            Self::Unknown => head([0x80, 207 + (turn % 16) as u8], 1),
        }
    }
}
