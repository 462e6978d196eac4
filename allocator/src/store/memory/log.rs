//! One room's log: entries with consecutive sequences, and the snapshot that stands for those before it.

use std::collections::VecDeque;

use bytes::Bytes;
use ratssaal_proto::allocator::v1::{LogEntry, LogSnapshot};

use crate::config::Config;
use crate::refusal::{Quota, Refusal};
use crate::store::{Chunk, Mark, Stored, Writer};

/// Entries kept though the snapshot contains them, for readers that are a little behind.
const KEPT_BEHIND: u64 = 64;
/// What one read gives at most.
const CHUNK_ENTRIES: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Log {
    /// Sequence of the last entry.
    head: u64,
    /// The last entries; the back one has sequence `head`.
    entries: VecDeque<Stored>,
    /// Bytes of the entries after the snapshot.
    fresh_bytes: usize,
    snapshot: Option<LogSnapshot>,
}

impl Log {
    pub(super) fn head(&self) -> u64 {
        self.head
    }

    fn snapshot_sequence(&self) -> u64 {
        self.snapshot.as_ref().map_or(0, |snapshot| snapshot.sequence)
    }

    /// Sequence of the first entry that is still here (one after the head if none is).
    fn first(&self) -> u64 {
        self.head - self.entries.len() as u64 + 1
    }

    fn fresh(&self) -> u64 {
        self.head - self.snapshot_sequence()
    }

    /// Refuses what would not fit.
    pub(super) fn check(&self, entries: &[Bytes], writer: Writer, config: &Config) -> Result<(), Refusal> {
        let bytes: usize = entries.iter().map(Bytes::len).sum();
        let full = self.fresh() + entries.len() as u64 > config.max_log_entries as u64
            || self.fresh_bytes + bytes > config.max_log_bytes;
        if full && writer == Writer::Bridge { Err(Refusal::Quota(Quota::Log)) } else { Ok(()) }
    }

    pub(super) fn append(&mut self, entries: impl IntoIterator<Item = Bytes>, at_ms: u64) {
        for entry in entries {
            self.head += 1;
            self.fresh_bytes += entry.len();
            self.entries.push_back(Stored { at_ms, entry: own(&entry) });
        }
    }

    pub(super) fn wants_snapshot(&self, config: &Config) -> bool {
        self.fresh() >= config.snapshot_after as u64 || self.fresh_bytes >= config.max_log_bytes / 4
    }

    /// Keeps the snapshot if it is newer; `sequence` is not beyond the head.
    pub(super) fn keep(&mut self, snapshot: LogSnapshot) -> bool {
        if snapshot.sequence <= self.snapshot_sequence() {
            return false;
        }
        let kept_from = (snapshot.sequence + 1).saturating_sub(KEPT_BEHIND);
        while self.first() < kept_from {
            self.entries.pop_front();
        }
        let fresh = self.after(snapshot.sequence);
        self.fresh_bytes = fresh.map(|(_, stored)| stored.entry.len()).sum();
        self.snapshot = Some(LogSnapshot { state: own(&snapshot.state), ..snapshot });
        true
    }

    /// Whether another entry than the one that somebody knows stands in its place.
    pub(super) fn differs(&self, from: Mark) -> bool {
        let at = from.sequence.checked_sub(self.first()).and_then(|at| self.entries.get(usize::try_from(at).ok()?));
        from.at_ms != 0 && at.is_some_and(|stored| stored.at_ms != from.at_ms)
    }

    /// What a reader at `after` gets next. Fresh readers start at the snapshot; the others get it when the entries they
    /// need are gone.
    pub(super) fn read(&self, after: u64) -> Chunk {
        let behind = after == 0 || after + 1 < self.first();
        let snapshot = self.snapshot.as_ref().filter(|snapshot| behind && snapshot.sequence > after).cloned();
        let from = snapshot.as_ref().map_or(after, |snapshot| snapshot.sequence);
        let mut bytes = 0;
        let entries = self
            .after(from)
            .take(CHUNK_ENTRIES)
            .take_while(|(_, stored)| {
                let first = bytes == 0;
                bytes += stored.entry.len();
                first || bytes <= CHUNK_BYTES
            })
            .map(|(sequence, stored)| LogEntry { sequence, at_ms: stored.at_ms, entry: stored.entry.clone() })
            .collect();
        Chunk { snapshot, entries }
    }

    fn after(&self, sequence: u64) -> impl Iterator<Item = (u64, &Stored)> {
        let skip = usize::try_from((sequence + 1).saturating_sub(self.first())).unwrap_or(usize::MAX);
        (self.first()..).zip(&self.entries).skip(skip)
    }
}

/// A copy of nothing but this: what came over gRPC is a part of the buffer that the whole request was read into, of 8 KiB at least.
fn own(part: &Bytes) -> Bytes {
    Bytes::copy_from_slice(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: u64) -> Log {
        let mut log = Log::default();
        log.append((1..=entries).map(|number| Bytes::from(number.to_string())), 5);
        log
    }

    fn sequences(chunk: &Chunk) -> Vec<u64> {
        chunk.entries.iter().map(|entry| entry.sequence).collect()
    }

    fn snapshot(sequence: u64) -> LogSnapshot {
        LogSnapshot { sequence, state: Bytes::from_static(b"state") }
    }

    #[test]
    fn reading_goes_on_where_it_stopped() {
        let log = log(600);
        let (mut after, mut seen) = (0, vec![]);
        while let Some(last) = Some(log.read(after)).and_then(|chunk| {
            seen.extend(sequences(&chunk));
            chunk.last()
        }) {
            after = last;
        }
        assert_eq!(seen, (1..=600).collect::<Vec<_>>());
    }

    #[test]
    fn large_entries_come_in_parts_but_always_one() {
        let mut log = Log::default();
        log.append([1, 2, 3].map(|_| Bytes::from(vec![0; CHUNK_BYTES / 2 + 1])), 0);
        assert_eq!(sequences(&log.read(0)), [1]);
        assert_eq!(sequences(&log.read(1)), [2]);
    }

    #[test]
    fn a_snapshot_stands_for_what_is_dropped() {
        let mut log = log(300);
        assert!(log.keep(snapshot(200)));
        assert_eq!(log.first(), 200 + 1 - KEPT_BEHIND);
        let fresh = log.read(0);
        assert_eq!(fresh.snapshot, Some(snapshot(200)), "a fresh reader starts there");
        assert_eq!(sequences(&fresh), (201..=300).collect::<Vec<_>>());
        let near = log.read(150);
        assert_eq!((near.snapshot.as_ref(), near.entries[0].sequence), (None, 151), "a near one reads on");
        let far = log.read(100);
        assert_eq!((far.snapshot.is_some(), far.entries[0].sequence), (true, 201), "a far one starts anew");
        assert!(!log.keep(snapshot(199)), "an older one is not kept");
        assert!(!log.keep(snapshot(200)), "nor the same");
        assert!(log.keep(snapshot(300)));
        assert_eq!(log.read(300), Chunk::default());
        assert_eq!(log.read(0).last(), Some(300));
    }

    #[test]
    fn the_quota_counts_from_the_snapshot() {
        let config = Config { max_log_entries: 10, max_log_bytes: 100, snapshot_after: 5, ..Config::default() };
        let mut log = log(8);
        assert!(log.wants_snapshot(&config));
        let entry = [Bytes::from_static(b"entry")];
        assert_eq!(log.check(&entry, Writer::Bridge, &config), Ok(()));
        log.append([1, 2].map(|_| entry[0].clone()), 0);
        assert_eq!(log.check(&entry, Writer::Bridge, &config), Err(Refusal::Quota(Quota::Log)));
        assert_eq!(log.check(&entry, Writer::Reaper, &config), Ok(()), "the reaper gets through");
        assert!(log.keep(snapshot(9)));
        assert_eq!(log.check(&entry, Writer::Bridge, &config), Ok(()));
        assert!(!log.wants_snapshot(&config));
        let large = [Bytes::from(vec![0; 96])];
        assert_eq!(log.check(&large, Writer::Bridge, &config), Err(Refusal::Quota(Quota::Log)), "bytes count too");
    }
}
