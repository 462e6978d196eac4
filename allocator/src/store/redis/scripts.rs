//! The Lua scripts: each is one atomic step of the contract. What they share stands before each of them, and before that
//! the limits that were configured.

use redis::Script;

use crate::clock::millis;
use crate::config::Config;
use crate::lease;

/// Entries kept though the snapshot contains them, for readers that are a little behind.
const KEPT_BEHIND: u64 = 64;

/// How far a restored log goes on beyond what its bridge knew: nobody has read entries up to there.
const RESTORED: u64 = 1 << 20;

/// All scripts of a store.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) restore: Script,
    pub(super) report: Script,
    pub(super) orders: Script,
    pub(super) drain: Script,
    pub(super) bridges: Script,
    pub(super) open: Script,
    pub(super) end: Script,
    pub(super) rooms: Script,
    pub(super) place: Script,
    pub(super) release: Script,
    pub(super) append: Script,
    pub(super) follow: Script,
    pub(super) heads: Script,
    pub(super) read: Script,
    pub(super) snapshot: Script,
    pub(super) sweep: Script,
}

impl Scripts {
    pub(super) fn new(config: &Config) -> Self {
        let limits = limits(config);
        let script = |body| Script::new(&format!("{limits}{}{body}", include_str!("lua/base.lua")));
        Self {
            restore: script(include_str!("lua/restore.lua")),
            report: script(include_str!("lua/report.lua")),
            orders: script(include_str!("lua/orders.lua")),
            drain: script(include_str!("lua/drain.lua")),
            bridges: script(include_str!("lua/bridges.lua")),
            open: script(include_str!("lua/open.lua")),
            end: script(include_str!("lua/end.lua")),
            rooms: script(include_str!("lua/rooms.lua")),
            place: script(concat!(include_str!("lua/seats.lua"), include_str!("lua/place.lua"))),
            release: script(include_str!("lua/release.lua")),
            append: script(concat!(include_str!("lua/seats.lua"), include_str!("lua/append.lua"))),
            follow: script(include_str!("lua/follow.lua")),
            heads: script(include_str!("lua/heads.lua")),
            read: script(include_str!("lua/read.lua")),
            snapshot: script(include_str!("lua/snapshot.lua")),
            sweep: script(include_str!("lua/sweep.lua")),
        }
    }
}

/// The settings as Lua sees them. Lua's numbers are exact up to 2^53.
fn limits(config: &Config) -> String {
    let count = |limit: usize| u64::try_from(limit).unwrap_or(u64::MAX);
    let limits = [
        ("EXPIRY", millis(config.expiry)),
        ("GRACE", millis(config.grace)),
        ("RESERVATION", millis(config.reservation)),
        ("EMPTY", millis(config.empty_timeout)),
        ("DEPARTURE", millis(config.departure_timeout)),
        ("LINGER", millis(config.linger)),
        ("SPILL", config.spill_permille.into()),
        ("MAX_ROOM_BRIDGES", count(config.max_room_bridges)),
        ("MAX_BRIDGES", count(config.max_bridges)),
        ("MAX_ROOMS", count(config.max_rooms)),
        ("MAX_ENTRIES", count(config.max_log_entries)),
        ("MAX_BYTES", count(config.max_log_bytes)),
        ("SNAPSHOT_AFTER", count(config.snapshot_after)),
        ("KEPT_BEHIND", KEPT_BEHIND),
        ("SETTLE", millis(config.settle)),
        ("RESTORED", RESTORED),
        ("LENT", lease::MOST.into()),
    ];
    let line = |(name, value): (&str, u64)| format!("local {name} = {}\n", value.min(1 << 52));
    limits.into_iter().map(line).collect()
}
