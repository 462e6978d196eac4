//! Tells webhooks what happens in a room, where this bridge is the one to do it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::entry::Logged;
use super::state::State;
use crate::webhooks::{RoomHooks, events};

/// One room's.
#[derive(Debug)]
pub(super) struct Herald {
    /// `None` where nobody is to be told.
    hooks: Option<RoomHooks>,
    /// This bridge's name.
    me: String,
    /// Whether entries are news; they are not while the log is read for the first time.
    live: bool,
    /// This bridge opened the room.
    opened_here: bool,
}

impl Herald {
    pub(super) fn new(hooks: Option<RoomHooks>, me: String) -> Self {
        Self { hooks, me, live: false, opened_here: false }
    }

    /// The log has been read: what comes now is news.
    pub(super) fn go_live(&mut self) {
        self.live = true;
    }

    /// This bridge has opened the room.
    pub(super) fn opened(&mut self, state: &State) {
        self.opened_here = true;
        if let Some(hooks) = &self.hooks {
            hooks.tell(events::started(state, now()));
        }
    }

    /// An entry was applied.
    pub(super) fn follow(&self, before: &State, entry: &Logged, after: &State) {
        let Some(hooks) = self.hooks.as_ref().filter(|_| self.live) else { return };
        let (keeper, told) = events::of(before, entry, after, now());
        if keeper == self.me || (keeper.is_empty() && self.opened_here) {
            told.into_iter().for_each(|event| hooks.tell(event));
        }
    }
}

/// Unix seconds.
fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}
