//! How much waits on one data channel for a client that is slower than the meeting: bytes, and the memory each message costs.

use std::collections::VecDeque;

use bytes::Bytes;

/// What a waiting message costs beside its bytes: its chunk's bookkeeping in `rtc::sctp` and here.
const OVERHEAD: usize = 256;

/// The messages on their way through one channel, from `send` to the client's acknowledgement.
#[derive(Debug)]
pub(super) struct Backlog {
    limit: usize,
    /// Sizes of the messages not yet acknowledged, oldest first; SCTP tells released bytes only.
    sizes: VecDeque<usize>,
    bytes: usize,
    /// Released bytes that do not yet make up the oldest message.
    released: usize,
    /// Messages from before the channel was open.
    held: VecDeque<Bytes>,
}

impl Backlog {
    /// With a limit in bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, sizes: VecDeque::new(), bytes: 0, released: 0, held: VecDeque::new() }
    }

    /// Counts a message of this many bytes, if there is room for it.
    pub(super) fn admit(&mut self, len: usize) -> bool {
        let len = len.max(1); // an empty message has one byte in SCTP
        let room = self.bytes + self.sizes.len() * OVERHEAD + len + OVERHEAD <= self.limit;
        if room {
            self.sizes.push_back(len);
            self.bytes += len;
        }
        room
    }

    /// Keeps an admitted message until the channel is open.
    pub(super) fn hold(&mut self, payload: Bytes) {
        self.held.push_back(payload);
    }

    /// The channel is open: what was kept, oldest first.
    pub(super) fn take_held(&mut self) -> VecDeque<Bytes> {
        std::mem::take(&mut self.held)
    }

    /// The client has acknowledged, or SCTP has given up, this many bytes.
    pub(super) fn released(&mut self, bytes: usize) {
        self.released += bytes;
        while let Some(size) = self.sizes.pop_front_if(|size| *size <= self.released) {
            self.released -= size;
            self.bytes -= size;
        }
        if self.sizes.is_empty() {
            self.released = 0; // the bytes of DCEP, which are not counted
        }
    }

    /// The channel is closed and with it all that waited.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_returns_with_what_is_acknowledged() {
        let mut backlog = Backlog::new(2 * (OVERHEAD + 100));
        assert!(backlog.admit(100) && backlog.admit(100) && !backlog.admit(0));
        backlog.released(99);
        assert!(!backlog.admit(1));
        backlog.released(1);
        assert!(backlog.admit(100) && !backlog.admit(1));
        backlog.released(100 + 100 + 30);
        assert_eq!((backlog.bytes, backlog.sizes.len(), backlog.released), (0, 0, 0));
    }

    #[test]
    fn small_messages_count_for_more_than_their_bytes() {
        let mut backlog = Backlog::new(1 << 20);
        assert_eq!((0..1_000_000).take_while(|_| backlog.admit(0)).count(), (1 << 20) / (OVERHEAD + 1));
        backlog.clear();
        assert!(backlog.admit(1000));
    }
}
