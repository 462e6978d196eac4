//! The keys in Redis. All begin with one prefix in braces (`{ratssaal}:`), a hash tag: every key of a store lies in one
//! slot, so that the scripts would run on a Redis Cluster too. An ACL user needs `~{ratssaal}:*` and
//! `&{ratssaal}:*`.
//!
//! | key | type | content |
//! |---|---|---|
//! | `clock` | hash | the last time seen and what it was set back by; `store`, `born`: this store's random name and when it got it |
//! | `slots`, `promises`, `epoch`, `taken` | numbers | the last slot, promise, epoch; seats in the cluster |
//! | `current` | hash | bridge id → slot of its living incarnation |
//! | `bridge:{slot}` | hash | an incarnation of a bridge: its last report, in fields and as bytes |
//! | `promised:{slot}` | zset | seats promised there that no report has counted: join id, NUL, promise |
//! | `hosts:{slot}` | hash | room sid → seats of that room there |
//! | `expiry`, `lost` | zsets | slot → when it expires, when its participants are lost |
//! | `sites` | set | sites that have bridges |
//! | `site:{name}` | zset | slot → class, load and seats as one number: the order of placement |
//! | `drains` | hash | bridge id → deadline of its order to drain, or 0 |
//! | `open` | hash | name → sid of the open room |
//! | `names` | zset | the names of the open rooms in their order |
//! | `due` | zset | sid of a room nobody is in → when it is to end |
//! | `ended` | zset | sid of an ended room → when it is forgotten |
//! | `lapses` | zset | promise, sid, join id, slot of a reservation → when it lapses |
//! | `room:{sid}` | hash | name, epoch, settings, head, seats, bytes of the log, snapshot's sequence |
//! | `seats:{sid}` | hash | identity → join id, participant sid, slot, promise, confirmed, when it lapses |
//! | `joins:{sid}` | hash | join id → identity |
//! | `on:{sid}` | hash | slot → seats of the room there |
//! | `log:{sid}` | stream | `{sequence}-0`: when appended, bytes of the log up to here, the entry |
//! | `snapshot:{sid}` | string | the room's state as of the snapshot's sequence |
//! | `moved` | channel | `sid head ended` whenever a log grows |
//!
//! A seat counts on its bridge if the bridge reports it or while it is `promised`: no counter is decremented by hope. A
//! promise goes when a report names its join id, when the seat is given back, or when it lapses.

/// The prefix of a store's keys.
pub(super) fn prefix(name: &str) -> String {
    format!("{{{name}}}:")
}

/// The channel on which positions are told.
pub(super) fn moved(prefix: &str) -> String {
    format!("{prefix}moved")
}
