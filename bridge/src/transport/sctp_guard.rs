//! What an authenticated but hostile client could make `rtc::sctp` keep, and the limits that end it.
//!
//! Its receive window counts bytes of user data only, so half a megabyte of one-byte fragments that never complete a message
//! would cost a hundred times as much memory, and each further fragment a search through all of them; requests to reset
//! streams that refer to a TSN that never comes are kept for ever. Both are visible in the chunk headers, which are read here
//! before the packet is handed on (RFC 9260 §3.3, RFC 6525 §3.1).

/// DATA chunks ahead of what we have acknowledged. A full window of usual fragments has about 500.
const MAX_AHEAD: u32 = 2048;
/// DATA chunks taken in and not yet read as part of a complete message.
const MAX_UNREAD: u32 = 3072;
/// No fragment is larger than a packet, bytes.
const MAX_FRAGMENT: usize = 1200;
/// Requests to reset streams in the life of an association; each closed data channel costs one.
const MAX_RESETS: u32 = 1024;

const DATA: u8 = 0;
const INIT: u8 = 1;
const SACK: u8 = 3;
const RE_CONFIG: u8 = 130;

/// What to do with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Hand it on.
    Pass,
    /// Drop it; the peer repeats it.
    Drop,
    /// No honest peer comes here: end the association.
    End,
}

/// The counters of one association.
#[derive(Default, Debug)]
pub(super) struct Guard {
    /// The cumulative TSN of our last SACK.
    acknowledged: Option<u32>,
    unread: u32,
    resets: u32,
}

/// The chunks of an SCTP packet: type and body. Ends at the first that does not fit.
fn chunks(packet: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = packet.get(12..).unwrap_or_default();
    std::iter::from_fn(move || {
        let header: [u8; 4] = rest.get(..4)?.try_into().ok()?;
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let body = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((header[0], body))
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl Guard {
    /// Looks at a packet from the peer.
    pub(super) fn inbound(&mut self, packet: &[u8]) -> Verdict {
        for (kind, body) in chunks(packet) {
            match kind {
                DATA => {
                    let ahead = |acknowledged| u32_at(body, 0).map(|tsn| tsn.wrapping_sub(acknowledged));
                    // Behind what is acknowledged is a repetition: counts as far ahead in serial arithmetic, but is let by.
                    let far = self.acknowledged.and_then(ahead).is_some_and(|n| n > MAX_AHEAD && n < 1 << 31);
                    if far {
                        return Verdict::Drop;
                    }
                    self.unread += 1;
                    if self.unread > MAX_UNREAD {
                        return Verdict::End;
                    }
                }
                // 0.21.1 computes `u32::MAX + 1` for it, which panics where overflow checks are on.
                INIT if u32_at(body, 12) == Some(0) => return Verdict::Drop,
                RE_CONFIG => {
                    self.resets += 1;
                    if self.resets > MAX_RESETS {
                        return Verdict::End;
                    }
                }
                _ => {}
            }
        }
        Verdict::Pass
    }

    /// A complete message of this many bytes has been read: at least this many fragments are gone. (The library does not say
    /// how many they were.)
    pub(super) fn read(&mut self, bytes: usize) {
        let fragments = u32::try_from(bytes / MAX_FRAGMENT + 1).unwrap_or(u32::MAX);
        self.unread = self.unread.saturating_sub(fragments);
    }

    /// Looks at a packet of ours: a SACK with the whole window free says that nothing is kept, also of what was abandoned
    /// or repeated.
    pub(super) fn outbound(&mut self, packet: &[u8], window: u32) {
        for (_, body) in chunks(packet).filter(|(kind, _)| *kind == SACK) {
            self.acknowledged = u32_at(body, 0).or(self.acknowledged);
            if u32_at(body, 4) == Some(window) {
                self.unread = 0;
            }
        }
    }
}
