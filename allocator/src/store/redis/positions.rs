//! How far the followed logs are: what this process appends itself, and what Redis publishes of the others.
//!
//! One subscription serves all rooms of the process. Only positions are told; entries are read from where a reader stands,
//! so a message that is lost with its connection costs nothing but the look at all heads that follows it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::store::Position;

#[derive(Debug, Default)]
pub(super) struct Positions(Mutex<HashMap<String, watch::Sender<Position>>>);

impl Positions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Position>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The position of a room from now on.
    pub(super) fn watch(&self, sid: &str) -> watch::Receiver<Position> {
        let mut positions = self.lock();
        match positions.get(sid) {
            Some(position) => position.subscribe(),
            None => positions.entry(sid.to_owned()).or_default().subscribe(),
        }
    }

    /// A room has come that far, if it is followed here and was not further already.
    pub(super) fn moved(&self, sid: &str, position: Position) {
        let mut positions = self.lock();
        let Some(sender) = positions.get(sid) else { return };
        if sender.receiver_count() == 0 {
            positions.remove(sid);
            return;
        }
        sender.send_if_modified(|known| {
            let news = position.head > known.head || (position.ended && !known.ended);
            if news {
                known.head = known.head.max(position.head);
                known.ended |= position.ended;
            }
            news
        });
    }

    /// A room that was known to have come to `before` when the store was asked is that far. If that is less, the store has
    /// gone back: whoever follows it is told to ask again.
    pub(super) fn seen(&self, sid: &str, before: u64, position: Position) {
        if position.head < before { self.unknown(sid) } else { self.moved(sid, position) }
    }

    /// The store does not know the room: whoever follows it is told to ask again.
    pub(super) fn unknown(&self, sid: &str) {
        self.lock().remove(sid);
    }

    /// The rooms somebody follows, and how far each is known to be.
    pub(super) fn followed(&self) -> Vec<(String, u64)> {
        let mut positions = self.lock();
        positions.retain(|_, position| position.receiver_count() > 0);
        positions.iter().map(|(sid, position)| (sid.clone(), position.borrow().head)).collect()
    }

    /// Takes a message of the scripts' `publish`: sid, head, ended.
    pub(super) fn take(&self, message: &[u8]) {
        let Ok(text) = std::str::from_utf8(message) else { return };
        let mut words = text.split(' ');
        if let (Some(sid), Some(Ok(head)), Some(ended)) = (words.next(), words.next().map(str::parse), words.next()) {
            self.moved(sid, Position { head, ended: ended == "1" });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_only_go_forward() {
        let positions = Positions::default();
        let mut position = positions.watch("RM_a");
        positions.take(b"RM_a 7 0");
        assert_eq!(*position.borrow_and_update(), Position { head: 7, ended: false });
        for nothing_new in [&b"RM_a 7 0"[..], b"RM_a 6 0", b"RM_b 9 0", b"RM_a", b"RM_a x 0", b"\xff"] {
            positions.take(nothing_new);
            assert!(!position.has_changed().unwrap(), "{nothing_new:?}");
        }
        positions.take(b"RM_a 8 1");
        assert_eq!(*position.borrow_and_update(), Position { head: 8, ended: true });
        positions.take(b"RM_a 9 0");
        assert!(position.borrow().ended, "what has ended stays so");
    }

    #[test]
    fn who_follows_a_log_that_has_gone_back_asks_again() {
        let positions = Positions::default();
        let mut position = positions.watch("RM_a");
        positions.seen("RM_a", 0, Position { head: 7, ended: false });
        assert_eq!(position.borrow_and_update().head, 7);
        positions.seen("RM_a", 6, Position { head: 6, ended: false });
        assert!(!position.has_changed().unwrap(), "asked before it moved");
        positions.seen("RM_a", 7, Position { head: 6, ended: false });
        assert!(position.has_changed().is_err());
    }

    #[test]
    fn whom_nobody_follows_is_forgotten() {
        let positions = Positions::default();
        drop(positions.watch("RM_a"));
        let followed = positions.watch("RM_b");
        assert_eq!(positions.followed(), [("RM_b".to_owned(), 0)]);
        positions.unknown("RM_b");
        assert!(followed.has_changed().is_err(), "its follower has to ask again");
    }
}
