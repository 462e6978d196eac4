//! Which bridge takes a participant: one pure function over what the store knows.
//!
//! Sites come in this order: those near the participant, then those where the room already is (most seats first), then
//! the others by their least loaded bridge. Within a site, among bridges that [may](Wish::admits) take him:
//!
//! 1. the room's bridge with most of the room on it, while its load is below the spill mark: a room stays whole, and a
//!    small one never pays for a relay;
//! 2. the least loaded bridge that does not have the room yet, if it is below the spill mark;
//! 3. the room's least loaded bridge, though above the mark;
//! 4. any other, least loaded first.
//!
//! So a room is relayed to another site before its people there use a distant bridge, and to another bridge of the same
//! site only when its first is filled.

use std::cmp::Reverse;

use crate::load::FULL;

/// A bridge as placement sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The store's handle of the bridge.
    pub key: u64,
    /// The bridge's name.
    pub id: &'a str,
    /// Where it stands.
    pub site: &'a str,
    /// Says it is Ready and was not ordered to drain.
    pub ready: bool,
    /// Version of what it speaks with other bridges.
    pub generation: u32,
    /// Its optional abilities.
    pub features: &'a [String],
    /// Seats that count: reported, and taken or reserved since.
    pub seats: u32,
    /// Seats it has.
    pub seat_limit: u32,
    /// Its [load](crate::load::permille).
    pub load: u32,
    /// Seats of this room on it.
    pub room_seats: u32,
}

impl Candidate<'_> {
    fn has_room(&self) -> bool {
        self.room_seats > 0
    }

    fn has_seat(&self) -> bool {
        self.seats < self.seat_limit && self.load < FULL
    }
}

/// What is looked for.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    /// Sites near the participant, nearest first.
    pub sites: &'a [String],
    /// The only site allowed.
    pub pin: Option<&'a str>,
    /// Abilities the bridge must have.
    pub features: &'a [String],
    /// Bridges not to take.
    pub avoid: &'a [String],
    /// Load in ‰ from which a bridge counts as filled.
    pub spill: u32,
    /// Bridges the room may span.
    pub max_bridges: usize,
}

impl Wish<'_> {
    /// Whether a bridge is ready and suits: not to be avoided, has the features, and can talk with the bridges that
    /// have the room (their generations differ by at most 1).
    #[must_use]
    pub fn admits(&self, candidate: &Candidate<'_>, room: &[Candidate<'_>]) -> bool {
        candidate.ready && self.suits(candidate, room)
    }

    fn suits(&self, candidate: &Candidate<'_>, room: &[Candidate<'_>]) -> bool {
        let avoided = self.avoid.iter().any(|id| id == candidate.id);
        let able = self.features.iter().all(|feature| candidate.features.contains(feature));
        !avoided && able && room.iter().all(|other| other.generation.abs_diff(candidate.generation) <= 1)
    }
}

/// The living bridges, in order of load.
pub trait Bridges {
    /// The sites and the load of each one's least loaded bridge.
    fn sites(&self) -> impl Iterator<Item = (&str, u32)>;
    /// A site's bridges, least loaded first.
    fn by_load(&self, site: &str) -> impl Iterator<Item = Candidate<'_>>;
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// No bridge is alive.
    NoBridge,
    /// None of the living bridges suits (site, features, generation, avoided).
    NoneSuits,
    /// All that suit are draining.
    Draining,
    /// All that suit are full; so many seats are free at sites the room is not allowed at.
    Full {
        /// Seats of ready bridges at other sites than the pinned one.
        elsewhere: u32,
    },
    /// The room's bridges are full and it may not span more.
    Spanned,
}

/// Chooses the bridge for one more participant of a room. `room` are the living bridges that have the room already.
///
/// Reads only as many bridges of a site as it must: with `b` bridges this costs as much as the store's ordered index
/// takes to give its first few, except when everything is full.
///
/// # Errors
/// The [`Shortage`] when no bridge can take the participant.
pub fn choose(wish: &Wish<'_>, room: &[Candidate<'_>], bridges: &impl Bridges) -> Result<u64, Shortage> {
    let may_span = room.len() < wish.max_bridges;
    let fits = |candidate: &Candidate<'_>| wish.admits(candidate, room) && candidate.has_seat();
    for site in site_order(wish, room, bridges) {
        let here = || room.iter().filter(|candidate| candidate.site == site && fits(candidate));
        let whole = here()
            .filter(|candidate| candidate.load < wish.spill)
            .min_by_key(|candidate| (Reverse(candidate.room_seats), candidate.load, candidate.id));
        if let Some(candidate) = whole {
            return Ok(candidate.key);
        }
        let least = || here().min_by_key(|candidate| (candidate.load, candidate.id));
        let fresh = || bridges.by_load(site).find(|candidate| !candidate.has_room() && fits(candidate));
        let chosen = match if may_span { fresh() } else { None } {
            Some(fresh) if fresh.load < wish.spill => Some(fresh.key),
            fresh => least().map(|candidate| candidate.key).or(fresh.map(|candidate| candidate.key)),
        };
        if let Some(key) = chosen {
            return Ok(key);
        }
    }
    Err(shortage(wish, room, bridges))
}

fn site_order<'a>(wish: &Wish<'a>, room: &[Candidate<'a>], bridges: &'a impl Bridges) -> Vec<&'a str> {
    if let Some(pin) = wish.pin {
        return vec![pin];
    }
    let rank = |site: &str, load: u32| {
        let near = wish.sites.iter().position(|near| near == site).unwrap_or(usize::MAX);
        let seats: u64 = room.iter().filter(|c| c.site == site).map(|c| u64::from(c.room_seats)).sum();
        (near, Reverse(seats), load)
    };
    let mut sites: Vec<_> = bridges.sites().map(|(site, load)| (rank(site, load), site)).collect();
    sites.sort_unstable();
    sites.into_iter().map(|(_, site)| site).collect()
}

fn shortage(wish: &Wish<'_>, room: &[Candidate<'_>], bridges: &impl Bridges) -> Shortage {
    let (mut alive, mut suiting, mut ready, mut elsewhere, mut unspanned) = (false, false, false, 0_u32, false);
    for site in bridges.sites().map(|(site, _)| site) {
        let allowed = wish.pin.is_none_or(|pin| pin == site);
        for candidate in bridges.by_load(site) {
            alive = true;
            if !wish.suits(&candidate, room) {
                continue;
            }
            let free = if candidate.ready && candidate.has_seat() { candidate.seat_limit - candidate.seats } else { 0 };
            if allowed {
                suiting = true;
                ready |= candidate.ready;
                unspanned |= free > 0;
            } else {
                elsewhere = elsewhere.saturating_add(free);
            }
        }
    }
    match (alive, suiting, ready) {
        (false, ..) => Shortage::NoBridge,
        (true, false, _) if elsewhere == 0 => Shortage::NoneSuits,
        (true, true, false) => Shortage::Draining,
        _ if unspanned => Shortage::Spanned,
        _ => Shortage::Full { elsewhere },
    }
}

#[cfg(test)]
#[path = "placement_tests.rs"]
mod tests;
