//! The sessions of this bridge by participant, so that a client that comes back finds its own.

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::session::{HandedOver, Return};
use crate::room::ParticipantSid;

/// A session and who may come back to it.
#[derive(Clone, Debug)]
struct Entry {
    identity: String,
    room: String,
    returns: mpsc::Sender<Box<Return>>,
    handovers: mpsc::Sender<oneshot::Sender<HandedOver>>,
    /// The bridge that the client was sent to, to go on there.
    moved_to: Option<String>,
}

/// The way back to a session.
#[derive(Debug)]
pub(crate) struct Way {
    /// Takes the client that comes back.
    pub(crate) returns: mpsc::Sender<Box<Return>>,
    /// The bridge that the client was sent to instead.
    pub(crate) moved_to: Option<String>,
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
    returns: mpsc::Receiver<Box<Return>>,
    handovers: mpsc::Receiver<oneshot::Sender<HandedOver>>,
}

/// What comes to a session other than by its WebSocket, its room and its media.
#[derive(Debug)]
pub(crate) enum Visit {
    /// The client, over a new WebSocket.
    Return(Box<Return>),
    /// The bridge that the client was sent to and has come to: it wants to know what the session knows.
    HandOver(oneshot::Sender<HandedOver>),
}

impl Sessions {
    /// Puts a session in.
    pub(crate) fn register(&self, sid: ParticipantSid, identity: &str, room: &str) -> Registration {
        let (back, returns) = mpsc::channel(1);
        let (over, handovers) = mpsc::channel(1);
        let (identity, room) = (identity.to_owned(), room.to_owned());
        let entry = Entry { identity, room, returns: back, handovers: over, moved_to: None };
        self.entries().insert(sid.clone(), entry);
        Registration { sessions: self.clone(), sid, returns, handovers }
    }

    /// The way back to a session, if it is there and belongs to this identity in this room.
    pub(crate) fn find(&self, sid: &ParticipantSid, identity: &str, room: &str) -> Option<Way> {
        let entries = self.entries();
        let entry = entries.get(sid).filter(|entry| entry.identity == identity && entry.room == room)?;
        Some(Way { returns: entry.returns.clone(), moved_to: entry.moved_to.clone() })
    }

    /// What a session knows, for the bridge `to` which its client was sent. `None` when it was not sent there.
    pub(crate) async fn hand_over(&self, sid: &ParticipantSid, to: &str) -> Option<HandedOver> {
        let sent = |entry: &&Entry| entry.moved_to.as_deref() == Some(to);
        let session = self.entries().get(sid).filter(sent).map(|entry| entry.handovers.clone())?;
        let (reply, answer) = oneshot::channel();
        session.send(reply).await.ok()?;
        answer.await.ok()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<ParticipantSid, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// Who comes next. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Visit {
        tokio::select! {
            Some(back) = self.returns.recv() => Visit::Return(back),
            Some(reply) = self.handovers.recv() => Visit::HandOver(reply),
            // Never: the registry holds the senders while this exists.
            else => pending().await,
        }
    }

    /// The client was sent to this bridge to go on there; `None`: no more.
    pub(crate) fn moved_to(&self, bridge: Option<String>) {
        if let Some(entry) = self.sessions.entries().get_mut(&self.sid) {
            entry.moved_to = bridge;
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.sessions.entries().remove(&self.sid);
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
