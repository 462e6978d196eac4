//! One SSRC that is received: what is missing and asked for again, and its receiver report.

use std::time::{Duration, Instant};

use crate::media::receiver::{Receiver, Report};

/// Pause between two requests for a key frame of the same stream.
const KEY_FRAME_REPEAT: Duration = Duration::from_millis(500);

/// A media packet as it was received, whichever way.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Its stream.
    pub ssrc: u32,
    /// Rollover counter and sequence number.
    pub index: u64,
    /// The payload type.
    pub payload_type: u8,
    /// RTP timestamp.
    pub timestamp: u32,
    /// The marker bit.
    pub marker: bool,
    /// The payload, without padding; empty for a packet that is padding only.
    pub payload: &'a [u8],
    /// It was lost first and came as a retransmission.
    pub repaired: bool,
}

/// A stream at work.
pub(super) struct Receiving {
    pub(super) ssrc: u32,
    /// Whether losses are asked for again.
    pub(super) repairable: bool,
    receiver: Receiver,
    key_frame_asked: Option<Instant>,
}

impl Receiving {
    pub(super) fn new(now: Instant, ssrc: u32, clock_rate: u32, repairable: bool, index: u64) -> Self {
        let receiver = Receiver::new(now, clock_rate, index, repairable);
        Self { ssrc, repairable, receiver, key_frame_asked: None }
    }

    /// A packet came, by itself or as a `repair`.
    pub(super) fn receive(&mut self, now: Instant, index: u64, timestamp: u32, repair: bool) {
        self.receiver.receive(now, index, timestamp, repair);
    }

    /// The index of a packet that is missed.
    pub(super) fn missing(&self, sequence: u16) -> Option<u64> {
        self.receiver.missing_index(sequence)
    }

    pub(super) fn sender_report(&mut self, now: Instant, ntp: u64) {
        self.receiver.sender_report(now, ntp);
    }

    pub(super) fn report(&mut self, now: Instant) -> Report {
        self.receiver.report(now)
    }

    /// Sequence numbers to ask for now.
    pub(super) fn nacks(&mut self, now: Instant, rtt: Duration, out: &mut Vec<u16>) {
        self.receiver.due_nacks(now, rtt, out);
    }

    /// Whether too much is missing to be asked for packet by packet.
    pub(super) fn take_overrun(&mut self) -> bool {
        self.receiver.take_overrun()
    }

    /// Whether a key frame may be asked for now; notes that it is.
    pub(super) fn ask_key_frame(&mut self, now: Instant) -> bool {
        let may = self.key_frame_asked.is_none_or(|at| now >= at + KEY_FRAME_REPEAT);
        if may {
            self.key_frame_asked = Some(now);
        }
        may
    }
}
