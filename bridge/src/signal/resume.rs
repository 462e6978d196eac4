//! The sessions of this bridge by participant, so that a client that comes back finds its own.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;

use super::session::Return;
use crate::room::ParticipantSid;

/// A session and who may come back to it.
#[derive(Clone, Debug)]
struct Entry {
    identity: String,
    room: String,
    returns: mpsc::Sender<Return>,
}

/// All sessions. Cheap to clone.
#[derive(Clone, Default, Debug)]
pub(crate) struct Sessions {
    entries: Arc<Mutex<HashMap<ParticipantSid, Entry>>>,
}

/// A session's place among them; taken out when dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    sessions: Sessions,
    sid: ParticipantSid,
    returns: mpsc::Receiver<Return>,
}

impl Sessions {
    /// Puts a session in.
    pub(crate) fn register(&self, sid: ParticipantSid, identity: &str, room: &str) -> Registration {
        let (sender, returns) = mpsc::channel(1);
        let entry = Entry { identity: identity.to_owned(), room: room.to_owned(), returns: sender };
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).insert(sid.clone(), entry);
        Registration { sessions: self.clone(), sid, returns }
    }

    /// The way back to a session, if it is there and belongs to this identity in this room.
    pub(crate) fn find(&self, sid: &ParticipantSid, identity: &str, room: &str) -> Option<mpsc::Sender<Return>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.get(sid).filter(|entry| entry.identity == identity && entry.room == room)?;
        Some(entry.returns.clone())
    }
}

impl Registration {
    /// The client that comes back. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Return {
        match self.returns.recv().await {
            Some(back) => back,
            // Never: the registry holds a sender while this exists.
            None => pending().await,
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sessions.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.sid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_identity_in_the_same_room_comes_back() {
        let sessions = Sessions::default();
        let sid = ParticipantSid::from("PA_a");
        let registration = sessions.register(sid.clone(), "anna", "rat");
        assert!(sessions.find(&sid, "anna", "rat").is_some());
        assert!(sessions.find(&sid, "berta", "rat").is_none());
        assert!(sessions.find(&sid, "anna", "bau").is_none());
        drop(registration);
        assert!(sessions.find(&sid, "anna", "rat").is_none());
    }
}
