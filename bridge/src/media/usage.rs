//! What the workers have carried so far, as load reports need it: [`Media::usage`].

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::handle::Media;

/// Bytes around a UDP payload on the wire: Ethernet, IPv4 and UDP headers (IPv6 has 20 more).
const HEADERS: u64 = 14 + 20 + 8;

/// Counts since the start, all workers together, everything at their sockets included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Datagrams received, whatever they were.
    pub received: u64,
    /// Their payload, bytes.
    pub received_bytes: u64,
    /// Datagrams given to the kernel.
    pub sent: u64,
    /// Their payload, bytes.
    pub sent_bytes: u64,
    /// Datagrams the kernel did not take.
    pub refused: u64,
    /// Each worker thread's folder in `/proc` (`<pid>/task/<tid>`); `None` if the system does not tell.
    pub tasks: Vec<Option<PathBuf>>,
}

impl Usage {
    /// Bits received on the wire.
    #[must_use]
    pub fn receive_bits(&self) -> u64 {
        (self.received_bytes + self.received * HEADERS) * 8
    }

    /// Bits sent on the wire.
    #[must_use]
    pub fn send_bits(&self) -> u64 {
        (self.sent_bytes + self.sent * HEADERS) * 8
    }
}

impl Media {
    /// What the workers have carried so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for worker in self.workers.iter() {
            let stats = &worker.socket_stats;
            usage.received += stats.received.load(Ordering::Relaxed);
            usage.received_bytes += stats.received_bytes.load(Ordering::Relaxed);
            usage.sent += stats.datagrams.load(Ordering::Relaxed);
            usage.sent_bytes += stats.sent_bytes.load(Ordering::Relaxed);
            usage.refused += stats.refused.load(Ordering::Relaxed);
            usage.tasks.push(worker.task.get().cloned());
        }
        usage
    }

    /// How many workers there are.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }
}
