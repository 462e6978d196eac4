//! Why clients were refused a moment ago: a browser's page cannot see the HTTP status of a WebSocket that was refused, so
//! it asks `/validate` for the reason.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::http::Denial;

/// How long a page may take to ask.
const REMEMBER: Duration = Duration::from_secs(10);
/// How many are remembered.
const MAX: usize = 1024;

/// The latest refusals, oldest first.
#[derive(Default, Debug)]
pub(crate) struct Denials {
    recent: Mutex<VecDeque<(Instant, String, String, Denial)>>,
}

impl Denials {
    /// Remembers that this identity was refused in this room.
    pub(crate) fn remember(&self, room: String, identity: String, denial: Denial) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.push_back((Instant::now(), room, identity, denial));
        while recent.len() > MAX {
            recent.pop_front();
        }
    }

    /// Why this identity was refused in this room, if it was a moment ago.
    pub(crate) fn recent(&self, room: &str, identity: &str) -> Option<Denial> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        while recent.front().is_some_and(|(at, ..)| at.elapsed() > REMEMBER) {
            recent.pop_front();
        }
        let found = recent.iter().rev().find(|(_, of, who, _)| of == room && who == identity)?;
        Some(found.3.clone())
    }
}
