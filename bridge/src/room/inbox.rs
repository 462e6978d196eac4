//! The bounded way from the room to one session. Nobody waits for a session that does not read: it is cut off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc;

use super::limits;
use super::session::ToSession;

/// The room's end of a session's inbox. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    messages: mpsc::Sender<ToSession>,
    broken: Arc<AtomicBool>,
}

impl Inbox {
    /// Both ends.
    pub(super) fn new() -> (Self, mpsc::Receiver<ToSession>) {
        let (messages, receiver) = mpsc::channel(limits::INBOX);
        (Self { messages, broken: Arc::default() }, receiver)
    }

    /// Puts a message in. One that finds no place, and all after it, are lost, and the inbox counts as broken: a session
    /// must not go on with a hole in what it knows.
    pub(super) fn send(&self, message: ToSession) {
        if !self.broken.load(Ordering::Relaxed) && self.messages.try_send(message).is_err() {
            self.broken.store(true, Ordering::Relaxed);
        }
    }

    /// Puts a message in that may be lost: one that finds no place is dropped and nothing else happens.
    pub(super) fn offer(&self, message: ToSession) {
        let _ = self.messages.try_send(message);
    }

    /// Whether a message that must not be lost was, because the session does not read or is gone.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed) || self.messages.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::ids::TrackSid;

    #[test]
    fn a_session_that_does_not_read_is_cut_off_after_the_limit() {
        let (inbox, mut receiver) = Inbox::new();
        let message = || ToSession::TrackUnpublished(TrackSid::from("TR_x"));
        for _ in 0..limits::INBOX {
            inbox.send(message());
        }
        assert!(!inbox.is_broken());
        inbox.send(message());
        assert!(inbox.is_broken());
        // Room again, but the hole stays.
        assert!(receiver.try_recv().is_ok());
        inbox.send(message());
        assert_eq!(receiver.len(), limits::INBOX - 1);
    }

    #[test]
    fn a_session_that_is_gone_counts_as_broken() {
        let (inbox, receiver) = Inbox::new();
        drop(receiver);
        assert!(inbox.is_broken());
    }
}
