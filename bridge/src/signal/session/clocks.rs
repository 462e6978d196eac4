//! What a session waits for besides messages. Pure: the time is passed in.

use std::time::{Duration, Instant};

use super::super::messages;
use crate::token::REFRESH_TTL;

/// How long a client may take from joining until media can flow.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// Sections up to which a client is told of each new track at once: below, a negotiation costs next to nothing.
const FEW_SECTIONS: usize = 32;
/// By how much negotiations of many sections are apart, for each section: what one costs grows with them, on both sides.
const APART_PER_SECTION: Duration = Duration::from_millis(4);
/// By how much they are apart at most.
const APART: Duration = Duration::from_millis(500);

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
    /// When what the client receives was last negotiated.
    settled: Option<Instant>,
    /// When it is to be negotiated next, while that waits.
    settle: Option<Instant>,
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
    /// What is missing of the reliable data did not come.
    Repeat,
    /// What came since the last negotiation has been gathered for long enough.
    Settle,
}

impl Clocks {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            heard: now,
            away: None,
            connect_by: Some(now + CONNECT_WITHIN),
            refresh: now + REFRESH_TTL / 2,
            moving: None,
            settled: None,
            settle: None,
        }
    }

    /// Whether what a client with this many sections receives is to be negotiated now; else it is due later. Whoever comes to a
    /// large room makes everybody negotiate, so those who come one upon the other are gathered there. A first one is not
    /// kept waiting.
    pub(super) fn settles(&mut self, now: Instant, sections: usize) -> bool {
        let apart = if sections <= FEW_SECTIONS {
            Duration::ZERO
        } else {
            (APART_PER_SECTION * u32::try_from(sections).unwrap_or(u32::MAX)).min(APART)
        };
        self.settle = self.settled.map(|last| last + apart).filter(|due| *due > now);
        if self.settle.is_none() {
            self.settled = Some(now);
        }
        self.settle.is_none()
    }

    /// What was gathered is to be negotiated now.
    pub(super) fn gathered(&mut self) {
        self.settle = None;
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
        let settle = self.settle.map(|at| (at, Due::Settle));
        let candidates = [Some(presence), connect, Some((self.refresh, Due::Refresh)), moving, settle];
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

    #[test]
    fn who_comes_to_many_is_gathered() {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let mut clocks = Clocks::new(start);
        assert!(clocks.settles(start, 160), "the first is not kept waiting");
        assert!(clocks.settles(start + ms(1), FEW_SECTIONS), "few cost nothing");
        assert!(!clocks.settles(start + ms(2), 50));
        assert_eq!(clocks.next(Duration::ZERO), (start + ms(201), Due::Settle));
        assert!(!clocks.settles(start + ms(3), 160));
        assert_eq!(clocks.next(Duration::ZERO), (start + ms(501), Due::Settle), "never for longer");
        clocks.gathered();
        assert!(clocks.settles(start + ms(501), 160));
        assert_eq!(clocks.next(Duration::ZERO).1, Due::Silent);
        assert!(!clocks.settles(start + ms(1000), 160), "and so on while they come");
        assert!(clocks.settles(start + ms(3000), 160), "who comes alone is there at once");
    }
}
