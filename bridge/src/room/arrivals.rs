//! Who has joined and is not yet announced: media of most flows a moment later, and one message then says both. In a large
//! room that is half of what joining costs.

use std::time::Duration;

use tokio::time::Instant;

use super::ids::ParticipantSid;

/// How long a participant without media may remain unannounced.
const WAIT: Duration = Duration::from_millis(250);

/// Participants who are yet to be announced, in the order of their joining.
#[derive(Default, Debug)]
pub(super) struct Arrivals {
    waiting: Vec<ParticipantSid>,
    due: Option<Instant>,
}

impl Arrivals {
    /// Somebody has joined.
    pub(super) fn add(&mut self, sid: ParticipantSid) {
        self.due.get_or_insert_with(|| Instant::now() + WAIT);
        self.waiting.push(sid);
    }

    /// Those who are to be announced now.
    pub(super) fn take(&mut self) -> Vec<ParticipantSid> {
        self.due = None;
        std::mem::take(&mut self.waiting)
    }

    /// Resolves when somebody has waited long enough; never while nobody waits.
    pub(super) fn due(&self) -> impl Future<Output = ()> + use<> {
        let due = self.due;
        async move {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        }
    }
}
