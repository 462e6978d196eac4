//! Rooms on several bridges: their media and what belongs to the moment only (data packets, speakers, connection
//! qualities). What lasts reaches every bridge by the room's log.
//!
//! Each bridge relays what its own participants publish to each other bridge of the room (a full mesh, no relay of a
//! relay), and of that only what somebody there wants. Media goes as SRTP from worker to worker
//! (`../media/engine/relay.rs`); what the bridges agree on goes over one gRPC stream per pair of bridges.
//!
//! - `mod.rs`: which rooms need a relay to which bridges;
//! - `pair.rs`: the stream between this bridge and another one;
//! - `task.rs`: one room's relay to one bridge, what it hears and does;
//! - `exchange.rs`: what the two agree on for that, pure;
//! - `wire.rs`: the messages.

mod exchange;
mod metrics;
mod pair;
mod task;
mod wire;

use std::collections::{BTreeSet, HashMap};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

pub(crate) use metrics::RelayMetrics;
use pair::Order;

use crate::peers::{Peers, RelayLink};
use crate::room::RoomSid;
use crate::room::relays::Spread;

/// Bridges that relay one room to each other.
const MESH: usize = 8;

/// What relays need.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// The way to the other bridges.
    pub(crate) peers: Peers,
    /// Random id of this process.
    pub(crate) incarnation: String,
    /// Where this bridge stands; empty without sites.
    pub(crate) site: String,
    /// At most so many bits per second of one room to a bridge of another site.
    pub(crate) site_limit: Option<u64>,
    pub(crate) metrics: RelayMetrics,
}

/// Keeps the relays that the rooms need, until cancelled.
pub(crate) async fn run(
    context: Context,
    mut spreads: mpsc::UnboundedReceiver<Spread>,
    mut incoming: mpsc::Receiver<RelayLink>,
    cancelled: CancellationToken,
) {
    let mut pairs: HashMap<String, mpsc::UnboundedSender<Order>> = HashMap::new();
    let mut rooms: HashMap<RoomSid, BTreeSet<String>> = HashMap::new();
    let order = |pairs: &mut HashMap<String, mpsc::UnboundedSender<Order>>, bridge: &str, order: Order| {
        let pair = pairs.entry(bridge.to_owned()).or_insert_with(|| pair::start(context.clone(), bridge));
        // A pair's task does not end by itself.
        let _ = pair.send(order);
    };
    loop {
        tokio::select! {
            () = cancelled.cancelled() => return,
            link = incoming.recv() => match link {
                Some(link) => order(&mut pairs, &link.peer.clone(), Order::Link(Box::new(link))),
                None => return,
            },
            spread = spreads.recv() => {
                let Some(Spread { room, bridges }) = spread else { return };
                let sid = room.sid();
                let wanted = peers_of(context.peers.me(), &bridges);
                if bridges.len() > MESH {
                    warn!(room = %room.name(), bridges = bridges.len(), "more bridges than relay a room to each other: some do not see all");
                }
                let before = rooms.remove(&sid).unwrap_or_default();
                for gone in before.difference(&wanted) {
                    order(&mut pairs, gone, Order::Remove(sid.clone()));
                }
                for new in wanted.difference(&before) {
                    order(&mut pairs, new, Order::Add(room.clone()));
                }
                if !wanted.is_empty() {
                    rooms.insert(sid, wanted);
                }
            }
        }
    }
}

/// The bridges that `me` relays a room to whose participants sit on `bridges`. All come to the same result for the pair.
fn peers_of(me: &str, bridges: &BTreeSet<String>) -> BTreeSet<String> {
    let mesh: BTreeSet<String> = bridges.iter().take(MESH).cloned().collect();
    if mesh.contains(me) { mesh.into_iter().filter(|bridge| bridge != me).collect() } else { BTreeSet::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_is_the_same_from_everywhere() {
        let bridges: BTreeSet<String> = (0..10).map(|number| format!("b{number}")).collect();
        for a in &bridges {
            for b in &bridges {
                assert_eq!(peers_of(a, &bridges).contains(b), peers_of(b, &bridges).contains(a), "{a} {b}");
            }
        }
        assert_eq!(peers_of("b0", &bridges).len(), 7);
        assert_eq!(peers_of("b9", &bridges).len(), 0);
        assert_eq!(peers_of("c", &bridges).len(), 0, "nobody sits here");
    }
}
