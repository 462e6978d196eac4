//! What is said while people are moved from bridge to bridge: nobody misses a reliable packet because it was under way to the
//! bridge that its receiver had just left, or over the connection that it gave up.
//!
//! While people are about to come to a bridge, every bridge of the room tells that one everything that is said, and it keeps
//! the latest of it. A client that comes says of each sender what it has; the rest is repeated.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;

use super::ids::ParticipantSid;

/// Packets that are kept, and their bytes.
const PACKETS: usize = 512;
const BYTES: usize = 1 << 20;

/// A reliable packet and who was meant.
#[derive(Debug)]
struct Said {
    receivers: Vec<ParticipantSid>,
    packet: Bytes,
}

/// Those who are on their way in one room.
#[derive(Debug)]
pub(super) struct Crossing {
    /// This bridge.
    here: String,
    /// The bridges that people are about to come to.
    towards: ArcSwap<BTreeSet<String>>,
    said: Mutex<VecDeque<Said>>,
}

impl Crossing {
    /// Nobody is yet. `here` is this bridge.
    pub(super) fn new(here: String) -> Self {
        Self { here, towards: ArcSwap::default(), said: Mutex::default() }
    }

    /// People are about to come to that bridge, too.
    pub(super) fn begin(&self, bridge: &str) {
        self.towards.rcu(|towards| {
            let mut towards = BTreeSet::clone(towards);
            towards.insert(bridge.to_owned());
            towards
        });
    }

    /// People are about to come to these bridges and no others.
    pub(super) fn set(&self, bridges: BTreeSet<String>) {
        if !bridges.contains(&self.here) {
            self.said().clear();
        }
        self.towards.store(Arc::new(bridges));
    }

    /// The bridges that people are about to come to.
    pub(super) fn towards(&self) -> Guard<Arc<BTreeSet<String>>> {
        self.towards.load()
    }

    /// A reliable packet is said in the room.
    pub(super) fn keep(&self, receivers: &[ParticipantSid], packet: &Bytes) {
        if !self.towards.load().contains(&self.here) {
            return;
        }
        let mut said = self.said();
        said.push_back(Said { receivers: receivers.to_vec(), packet: packet.clone() });
        let mut bytes: usize = said.iter().map(|said| said.packet.len()).sum();
        while said.len() > PACKETS || bytes > BYTES {
            bytes -= said.pop_front().map_or(bytes, |said| said.packet.len());
        }
    }

    /// The latest of what was said to somebody.
    pub(super) fn said_to(&self, who: &ParticipantSid) -> Vec<Bytes> {
        let said = self.said();
        said.iter().filter(|said| said.receivers.contains(who)).map(|said| said.packet.clone()).collect()
    }

    fn said(&self) -> MutexGuard<'_, VecDeque<Said>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u8, len: usize) -> Bytes {
        vec![number; len].into()
    }

    #[test]
    fn what_is_said_is_kept_while_people_are_about_to_come_here() {
        let (crossing, anna, bela) = (Crossing::new("eins".into()), "PA_a".into(), "PA_b".into());
        crossing.keep(&[ParticipantSid::clone(&anna)], &packet(0, 1));
        crossing.begin("zwei");
        crossing.keep(std::slice::from_ref(&anna), &packet(1, 1));
        assert!(crossing.said_to(&anna).is_empty(), "they go elsewhere");
        crossing.begin("eins");
        crossing.keep(&[anna.clone(), bela], &packet(2, 1));
        crossing.keep(&[], &packet(3, 1));
        assert_eq!(crossing.said_to(&anna), [packet(2, 1)], "what was meant for her");
        crossing.set(BTreeSet::from(["zwei".to_owned()]));
        assert!(crossing.said_to(&anna).is_empty() && crossing.towards().contains("zwei"));
    }

    #[test]
    fn it_is_bounded() {
        let (crossing, anna) = (Crossing::new("eins".into()), ParticipantSid::from("PA_a"));
        crossing.begin("eins");
        for number in 0..40 {
            crossing.keep(std::slice::from_ref(&anna), &packet(number, 60_000));
        }
        let kept = crossing.said_to(&anna);
        assert_eq!((kept.len(), &kept[16]), (BYTES / 60_000, &packet(39, 60_000)));
        for _ in 0..2 * PACKETS {
            crossing.keep(std::slice::from_ref(&anna), &packet(0, 1));
        }
        assert_eq!(crossing.said_to(&anna).len(), PACKETS);
    }
}
