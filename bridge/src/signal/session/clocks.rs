//! What a session waits for besides messages. Pure: the time is passed in.

use std::time::{Duration, Instant};

use super::super::messages;
use crate::token::REFRESH_TTL;

/// How long a client may take from joining until media can flow.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// What a session waits for besides messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    /// When the client was last heard on its WebSocket.
    pub(super) heard: Instant,
    /// Since when there is no WebSocket.
    pub(super) away: Option<Instant>,
    /// Until when media must flow, while it does not.
    pub(super) connect_by: Option<Instant>,
    /// When the next token is due.
    pub(super) refresh: Instant,
    /// Until when a client that was sent to another bridge should be there.
    pub(super) moving: Option<Instant>,
}

/// What time asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// Nothing was heard for too long.
    Silent,
    /// The client did not come back.
    Away,
    /// Media does not flow.
    Connect,
    /// A fresh token.
    Refresh,
    /// The client did not go where it was sent.
    Moving,
}

impl Clocks {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: now,
            away: None,
            connect_by: Some(now + CONNECT_WITHIN),
            refresh: now + REFRESH_TTL / 2,
            moving: None,
        }
    }

    /// What comes next, and when.
    pub(super) fn next(&self, resume_within: Duration) -> (Instant, Due) {
        let silent = Duration::from_secs(messages::PING_TIMEOUT.unsigned_abs().into());
        let presence = match self.away {
            None => (self.heard + silent, Due::Silent),
            Some(since) => (since + resume_within, Due::Away),
        };
        let connect = self.connect_by.map(|by| (by, Due::Connect));
        let moving = self.moving.map(|by| (by, Due::Moving));
        let candidates = [Some(presence), connect, Some((self.refresh, Due::Refresh)), moving];
        candidates.into_iter().flatten().min_by_key(|(at, _)| *at).unwrap_or(presence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_first() {
        let start = Instant::now();
        let resume = Duration::from_secs(20);
        let second = Duration::from_secs(1);
        let mut clocks = Clocks::new(start);
        assert_eq!(clocks.next(resume), (start + 15 * second, Due::Silent));
        clocks.heard = start + 20 * second;
        assert_eq!(clocks.next(resume), (start + 30 * second, Due::Connect));
        clocks.connect_by = None;
        clocks.away = Some(start + 21 * second);
        assert_eq!(clocks.next(resume), (start + 41 * second, Due::Away));
        clocks.moving = Some(start + 40 * second);
        assert_eq!(clocks.next(resume), (start + 40 * second, Due::Moving));
        (clocks.away, clocks.moving) = (None, None);
        clocks.heard = start + 299 * second;
        assert_eq!(clocks.next(resume), (start + 300 * second, Due::Refresh));
    }
}
