//! The seats that the allocator lends this bridge: given by itself while no allocator or no store answers, and never more
//! than the bridge takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use ratssaal_proto::allocator::v1::Lease as Lent;
use tokio::time::Instant;

use crate::drain::Drain;

/// For so long after a seat was given by the lease, somebody may come to whom the store had promised the same one: longer
/// than reservations last.
const PROMISED: Duration = Duration::from_secs(30);

/// The lease. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    terms: Arc<Mutex<Terms>>,
    drain: Arc<OnceLock<Drain>>,
    /// Seats left of it.
    left: Gauge,
}

#[derive(Debug, Default)]
struct Terms {
    /// Seats lent by the last answer.
    lent: u32,
    /// Seats that any bridge is lent at most.
    most: u32,
    /// Participants this bridge takes, as last reported; 0 before the first report.
    limit: u32,
    /// The last report that was begun.
    report: u64,
    /// Seats given that no answered report counts, by the last report that was begun before.
    given: BTreeMap<u64, u32>,
    /// People on their way in, and those of them who come by the lease.
    entering: u32,
    borrowing: u32,
    last_given: Option<Instant>,
}

impl Terms {
    fn left(&self) -> u32 {
        let used: u32 = self.given.values().sum();
        self.lent.saturating_sub(used + self.borrowing)
    }
}

/// Somebody on the way in, until dropped.
#[derive(Debug)]
pub(crate) struct Entering {
    lease: Lease,
    borrowed: bool,
    most: u32,
}

impl Lease {
    pub(crate) fn new(left: Gauge) -> Self {
        Self { terms: Arc::default(), drain: Arc::default(), left }
    }

    /// Nothing is given while this bridge is to drain.
    pub(crate) fn follow(&self, drain: Drain) {
        let _ = self.drain.set(drain);
    }

    /// A report is begun: whoever has come in before is counted in it.
    pub(crate) fn reporting(&self, report: u64) {
        self.terms().report = report;
    }

    /// So many participants this bridge takes.
    pub(crate) fn limit(&self, limit: u32) {
        self.terms().limit = limit;
    }

    /// A report was answered: so many seats are lent from now on.
    pub(crate) fn lend(&self, lent: &Lent) {
        let mut terms = self.terms();
        terms.lent = lent.seats;
        terms.most = if lent.most == 0 { u32::MAX } else { lent.most };
        terms.given.retain(|begun, _| *begun >= lent.report);
        self.show(&terms);
    }

    /// Seats left of it; none while this bridge is to drain.
    pub(crate) fn left(&self) -> u32 {
        if self.drain.get().is_some_and(Drain::is_ordered) { 0 } else { self.terms().left() }
    }

    /// Lets somebody come in by the lease where so many sit. `None`: nothing is lent, or nothing is free.
    pub(crate) fn take(&self, seated: impl FnOnce() -> u32) -> Option<Entering> {
        if self.drain.get().is_some_and(Drain::is_ordered) {
            return None;
        }
        let mut terms = self.terms();
        if terms.left() == 0 || seated().saturating_add(terms.entering) >= terms.limit {
            return None;
        }
        terms.entering += 1;
        terms.borrowing += 1;
        self.show(&terms);
        Some(Entering { lease: self.clone(), borrowed: true, most: terms.most })
    }

    /// Lets somebody come in to whom the store gave a seat where so many sit. `None`: it was given away by the lease.
    pub(crate) fn enter(&self, seated: impl FnOnce() -> u32) -> Option<Entering> {
        let mut terms = self.terms();
        let contested = terms.last_given.is_some_and(|last| last.elapsed() < PROMISED);
        if contested && seated().saturating_add(terms.entering) >= terms.limit {
            return None;
        }
        terms.entering += 1;
        Some(Entering { lease: self.clone(), borrowed: false, most: terms.most })
    }

    fn show(&self, terms: &Terms) {
        self.left.set(terms.left().into());
    }

    fn terms(&self) -> MutexGuard<'_, Terms> {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entering {
    /// How many seats any other bridge may give by its lease meanwhile.
    pub(crate) fn elsewhere(&self) -> u32 {
        self.most
    }

    /// It is in, and counted where participants are counted.
    pub(crate) fn seated(self) {
        if self.borrowed {
            let mut terms = self.lease.terms();
            let report = terms.report;
            *terms.given.entry(report).or_insert(0) += 1;
            terms.last_given = Some(Instant::now());
        }
    }
}

impl Drop for Entering {
    fn drop(&mut self) {
        let mut terms = self.lease.terms();
        terms.entering -= 1;
        terms.borrowing -= u32::from(self.borrowed);
        self.lease.show(&terms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain::Source;

    fn answer(seats: u32, report: u64) -> Lent {
        Lent { seats, report, most: 8 }
    }

    /// Lent so many seats in answer to report 1, on a bridge that takes ten.
    fn lent(seats: u32) -> Lease {
        let lease = Lease::new(Gauge::default());
        lease.reporting(1);
        lease.limit(10);
        lease.lend(&answer(seats, 1));
        lease
    }

    fn give(lease: &Lease, seated: u32) -> bool {
        lease.take(|| seated).map(Entering::seated).is_some()
    }

    #[test]
    fn it_ends_when_it_is_used_up_and_begins_anew_with_an_answer() {
        let lease = lent(2);
        assert_eq!([0, 1, 2].map(|seated| give(&lease, seated)), [true, true, false]);
        lease.reporting(2);
        lease.lend(&answer(2, 1));
        assert!(!give(&lease, 2), "an answer to an older report knows nothing of them");
        lease.lend(&answer(1, 2));
        assert_eq!([2, 3].map(|seated| give(&lease, seated)), [true, false]);
        assert_eq!(lease.left.get(), 0);
    }

    #[test]
    fn nothing_is_given_without_a_lease_beyond_the_limit_or_while_draining() {
        assert!(!give(&Lease::new(Gauge::default()), 0), "nothing was ever lent");
        let lease = lent(8);
        assert!(!give(&lease, 10), "full");
        let entering = [lease.take(|| 8), lease.take(|| 8), lease.take(|| 8)];
        assert_eq!(entering.each_ref().map(Option::is_some), [true, true, false], "those on their way count");
        drop(entering);
        assert!(give(&lease, 9), "they did not come");
        let drain = Drain::default();
        lease.follow(drain.clone());
        drain.order(Source::Process, None);
        assert!(!give(&lease, 0) && lease.left() == 0);
        drain.take_back(Source::Process);
        assert!(give(&lease, 0) && lease.left() == 7 - 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_promised_seat_that_was_given_away_is_not_given_twice() {
        let lease = lent(1);
        assert!(lease.enter(|| 10).is_some(), "the store counts right as long as nothing was given");
        assert!(give(&lease, 9));
        assert!(lease.enter(|| 9).is_some() && lease.enter(|| 10).is_none());
        tokio::time::advance(PROMISED).await;
        assert!(lease.enter(|| 10).is_some());
    }
}
