//! Datagrams on their way out: written one after another into one arena, queued per destination, and handed to the socket
//! destination by destination, so that equal sizes in a row can leave in one system call (GSO).
//!
//! Nothing is allocated per packet: all vectors keep their capacity from batch to batch.

use crate::transport::five_tuple::FiveTuple;

const NONE: u32 = u32::MAX;

/// A destination's queue in the current batch. Stale after [`Outbox::clear`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    batch: u64,
    queue: u32,
}

impl Slot {
    /// Belongs to no batch yet.
    pub(crate) const STALE: Self = Self { batch: 0, queue: 0 };
}

#[derive(Clone, Copy, Debug)]
struct Datagram {
    start: u32,
    len: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    to: FiveTuple,
    head: u32,
    tail: u32,
}

/// The outgoing batch.
#[derive(Debug)]
pub(crate) struct Outbox {
    arena: Vec<u8>,
    datagrams: Vec<Datagram>,
    queues: Vec<Queue>,
    batch: u64,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            arena: Vec::with_capacity(2 << 20),
            datagrams: Vec::with_capacity(2048),
            queues: Vec::with_capacity(256),
            batch: 1,
        }
    }

    /// Where the next datagram is written; it begins at the arena's present end. Finish it with [`Self::commit`] or
    /// [`Self::abort`].
    pub(crate) fn arena(&mut self) -> &mut Vec<u8> {
        &mut self.arena
    }

    /// Queues what was written from `start` on. `slot` remembers the destination's queue within a batch.
    pub(crate) fn commit(&mut self, to: &FiveTuple, slot: &mut Slot, start: usize) {
        let (Ok(begin), Ok(len), Ok(at)) =
            (u32::try_from(start), u32::try_from(self.arena.len() - start), u32::try_from(self.datagrams.len()))
        else {
            self.abort(start);
            return;
        };
        self.datagrams.push(Datagram { start: begin, len, next: NONE });
        match self.queues.get_mut(slot.queue as usize).filter(|q| slot.batch == self.batch && q.to == *to) {
            Some(queue) => {
                self.datagrams[queue.tail as usize].next = at;
                queue.tail = at;
            }
            None => {
                let queue = self.queues.len() as u32;
                self.queues.push(Queue { to: *to, head: at, tail: at });
                *slot = Slot { batch: self.batch, queue };
            }
        }
    }

    /// Forgets what was written from `start` on.
    pub(crate) fn abort(&mut self, start: usize) {
        self.arena.truncate(start);
    }

    /// Copies a ready datagram.
    pub(crate) fn push(&mut self, to: &FiveTuple, slot: &mut Slot, datagram: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(datagram);
        self.commit(to, slot, start);
    }

    /// Bytes waiting.
    pub(crate) fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// The destinations with their datagrams, each in the order of sending.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (FiveTuple, Datagrams<'_>)> {
        self.queues.iter().map(|queue| (queue.to, Datagrams { outbox: self, next: queue.head }))
    }

    /// Starts the next batch.
    pub(crate) fn clear(&mut self) {
        self.arena.clear();
        self.datagrams.clear();
        self.queues.clear();
        self.batch += 1;
    }
}

/// One destination's datagrams.
#[derive(Clone)]
pub(crate) struct Datagrams<'a> {
    outbox: &'a Outbox,
    next: u32,
}

impl<'a> Iterator for Datagrams<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let datagram = self.outbox.datagrams.get(self.next as usize)?;
        self.next = datagram.next;
        Some(&self.outbox.arena[datagram.start as usize..][..datagram.len as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_keep_each_destinations_order() {
        let [a, b] = ["127.0.0.1:1", "127.0.0.1:2"].map(|to| FiveTuple::towards(to.parse().unwrap()));
        let (mut slot_a, mut slot_b) = (Slot::STALE, Slot::STALE);
        let mut outbox = Outbox::new();
        outbox.push(&a, &mut slot_a, b"1");
        outbox.push(&b, &mut slot_b, b"2");
        outbox.push(&a, &mut slot_a, b"3");
        let start = outbox.arena().len();
        outbox.arena().extend_from_slice(b"dropped");
        outbox.abort(start);
        let all: Vec<_> = outbox.queues().map(|(to, d)| (to, d.collect::<Vec<_>>())).collect();
        assert_eq!(all, [(a, vec![&b"1"[..], b"3"]), (b, vec![&b"2"[..]])]);
        outbox.clear();
        assert!(outbox.is_empty());
        outbox.push(&a, &mut slot_a, b"4");
        assert_eq!(outbox.queues().count(), 1, "a stale slot opens a new queue");
    }

    #[test]
    fn a_destination_that_moves_gets_a_queue_of_its_own() {
        let [a, b] = ["127.0.0.1:1", "127.0.0.1:2"].map(|to| FiveTuple::towards(to.parse().unwrap()));
        let mut slot = Slot::STALE;
        let mut outbox = Outbox::new();
        outbox.push(&a, &mut slot, b"1");
        outbox.push(&b, &mut slot, b"2");
        assert_eq!(outbox.queues().map(|(to, _)| to).collect::<Vec<_>>(), [a, b]);
    }
}
