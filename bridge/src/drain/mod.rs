//! Moving everybody away from this bridge, so that it can be stopped while their meetings go on.
//!
//! Who may order it: the allocator (`ratssaal bridge drain`, the operator), an operator at this bridge itself, and its own
//! process at SIGTERM ([`Drain`] keeps these apart: each takes back only its own order). What happens: the report says
//! Draining at once, so that nobody new is seated here; participants are moved in small batches ([`plan`], [`mover`]); who
//! is not moved at the deadline is told to reconnect.

mod mover;
mod plan;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use mover::Mover;

/// Who ordered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The cluster, by the report's stream.
    Allocator,
    /// An operator at this bridge.
    Operator,
    /// This process ends.
    Process,
}

const SOURCES: usize = 3;

/// An order to drain; `Some(None)` has no deadline.
type Order = Option<Option<Instant>>;

/// The orders in force. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Drain {
    orders: Arc<watch::Sender<[Order; SOURCES]>>,
    /// Since when no allocator says where people could go.
    unanswered: Arc<Mutex<Option<Instant>>>,
}

impl Default for Drain {
    fn default() -> Self {
        Self { orders: Arc::new(watch::Sender::new([None; SOURCES])), unanswered: Arc::default() }
    }
}

impl Drain {
    /// Orders to drain, until `within` from now if it is given; a later order of the same source replaces its earlier one.
    pub(crate) fn order(&self, source: Source, within: Option<Duration>) {
        // A deadline beyond what the clock holds is none.
        let deadline = within.and_then(|within| Instant::now().checked_add(within));
        self.orders.send_modify(|orders| orders[source as usize] = Some(deadline));
    }

    /// Takes the source's order back.
    pub(crate) fn take_back(&self, source: Source) {
        self.orders.send_if_modified(|orders| orders[source as usize].take().is_some());
    }

    /// Whether anybody has ordered it.
    pub(crate) fn is_ordered(&self) -> bool {
        self.orders.borrow().iter().any(Option::is_some)
    }

    /// The earliest deadline of all orders in force.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.orders.borrow().iter().flatten().flatten().min().copied()
    }

    /// An allocator was asked where people could go, and answered or did not.
    fn asked(&self, answered: bool) {
        let mut unanswered = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        *unanswered = if answered { None } else { unanswered.or_else(|| Some(Instant::now())) };
    }

    /// For how long allocators were asked where people could go, and none answered.
    pub(crate) fn unanswered(&self) -> Duration {
        let unanswered = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        unanswered.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Tells of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<[Order; SOURCES]> {
        self.orders.subscribe()
    }
}

#[cfg(test)]
mod moving_tests;
#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_takes_back_only_its_own_order() {
        let drain = Drain::default();
        assert!(!drain.is_ordered());
        drain.order(Source::Allocator, Some(Duration::from_secs(60)));
        drain.order(Source::Process, Some(Duration::from_secs(10)));
        drain.order(Source::Operator, None);
        assert_eq!(drain.deadline(), Some(Instant::now() + Duration::from_secs(10)));
        drain.take_back(Source::Process);
        assert_eq!(drain.deadline(), Some(Instant::now() + Duration::from_secs(60)));
        drain.take_back(Source::Allocator);
        assert!(drain.is_ordered() && drain.deadline().is_none(), "an order without a deadline stands");
        drain.take_back(Source::Operator);
        assert!(!drain.is_ordered());
    }

    #[tokio::test(start_paused = true)]
    async fn time_without_an_answer_counts_from_the_first_question_without_one() {
        let (drain, second) = (Drain::default(), Duration::from_secs(1));
        drain.asked(false);
        tokio::time::advance(second).await;
        drain.asked(false);
        tokio::time::advance(second).await;
        assert_eq!(drain.unanswered(), 2 * second);
        drain.asked(true);
        assert_eq!(drain.unanswered(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_told_once() {
        let drain = Drain::default();
        let mut changes = drain.changes();
        drain.take_back(Source::Operator);
        assert!(!changes.has_changed().unwrap(), "nothing was ordered");
        drain.order(Source::Operator, None);
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        drain.order(Source::Operator, Some(Duration::MAX));
        assert!(changes.has_changed().unwrap() && drain.deadline().is_none());
    }
}
