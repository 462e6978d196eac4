//! What `status` shows, freed from the wire's shape: this is also the JSON.

use std::collections::BTreeMap;

use ratssaal_proto::allocator::v1::{BridgeInfo, BridgeState, RoomInfo};
use serde::Serialize;

/// The cluster at an instant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct View {
    pub(crate) bridges: Vec<Bridge>,
    pub(crate) rooms: Vec<Room>,
}

/// A bridge. Rates are per second, shares in ‰.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Bridge {
    pub(crate) name: String,
    pub(crate) site: String,
    pub(crate) state: &'static str,
    pub(crate) address: String,
    pub(crate) version: String,
    /// Taken or reserved.
    pub(crate) seats: u32,
    pub(crate) seat_limit: u32,
    pub(crate) load_permille: u32,
    pub(crate) cpu_permille: u32,
    pub(crate) receive_bps: u64,
    pub(crate) send_bps: u64,
    /// What the link carries each way; 0: unknown.
    pub(crate) link_bps: u64,
    pub(crate) receive_pps: u64,
    pub(crate) send_pps: u64,
    pub(crate) drop_permille: u32,
    pub(crate) sockets: u32,
    pub(crate) socket_limit: u32,
    pub(crate) rooms: u32,
    /// Milliseconds since its last report.
    pub(crate) silent_ms: u64,
}

/// An open room.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Room {
    pub(crate) name: String,
    pub(crate) sid: String,
    pub(crate) created_ms: u64,
    pub(crate) participants: u32,
    /// Bridge → participants there.
    pub(crate) bridges: BTreeMap<String, u32>,
    /// Pairs of bridges that exchange the room's media.
    pub(crate) relays: usize,
}

impl View {
    /// Bridges by site and name, rooms by name.
    pub(crate) fn new(bridges: Vec<BridgeInfo>, rooms: Vec<RoomInfo>) -> Self {
        let mut bridges: Vec<Bridge> = bridges.into_iter().map(bridge).collect();
        bridges.sort_by(|a, b| (&a.site, &a.name).cmp(&(&b.site, &b.name)));
        Self { bridges, rooms: rooms.into_iter().map(room).collect() }
    }
}

fn bridge(info: BridgeInfo) -> Bridge {
    let report = info.report.unwrap_or_default();
    let load = report.load.unwrap_or_default();
    let state = match report.state() {
        _ if info.expired => "silent",
        BridgeState::Gone => "gone",
        BridgeState::Drained => "drained",
        BridgeState::Draining => "draining",
        // Ordered, but it has not said so yet.
        BridgeState::Ready | BridgeState::Unspecified if info.drain_ordered => "draining",
        BridgeState::Ready => "ready",
        BridgeState::Unspecified => "unknown",
    };
    Bridge {
        name: report.bridge,
        site: report.site,
        state,
        address: report.address,
        version: report.version,
        seats: info.seats,
        seat_limit: load.seat_limit,
        load_permille: info.load_permille,
        cpu_permille: load.cpu_permille,
        receive_bps: load.receive_bps,
        send_bps: load.send_bps,
        link_bps: load.link_bps,
        receive_pps: load.receive_pps,
        send_pps: load.send_pps,
        drop_permille: load.drop_permille,
        sockets: load.sockets,
        socket_limit: load.socket_limit,
        rooms: load.rooms,
        silent_ms: info.silent_ms,
    }
}

fn room(info: RoomInfo) -> Room {
    let bridges: BTreeMap<String, u32> =
        info.bridges.into_iter().filter(|at| at.seats > 0).map(|at| (at.bridge, at.seats)).collect();
    let relays = bridges.len() * bridges.len().saturating_sub(1) / 2;
    Room { name: info.name, sid: info.sid, created_ms: info.created_ms, participants: info.seats, bridges, relays }
}

#[cfg(test)]
mod tests {
    use ratssaal_proto::allocator::v1::{BridgeReport, RoomBridge};

    use super::*;

    fn info(name: &str, site: &str, state: BridgeState) -> BridgeInfo {
        let report =
            BridgeReport { bridge: name.into(), site: site.into(), state: state.into(), ..BridgeReport::default() };
        BridgeInfo { report: Some(report), ..BridgeInfo::default() }
    }

    #[test]
    fn states_are_what_placement_sees() {
        for (state, drain_ordered, expired, shown) in [
            (BridgeState::Ready, false, false, "ready"),
            (BridgeState::Ready, true, false, "draining"),
            (BridgeState::Draining, true, false, "draining"),
            (BridgeState::Drained, true, false, "drained"),
            (BridgeState::Ready, true, true, "silent"),
        ] {
            let info = BridgeInfo { drain_ordered, expired, ..info("b", "", state) };
            assert_eq!(bridge(info).state, shown);
        }
    }

    #[test]
    fn bridges_stand_by_site_and_rooms_count_their_relays() {
        let ready = BridgeState::Ready;
        let bridges = vec![info("a", "süd", ready), info("c", "nord", ready), info("b", "nord", ready)];
        let at = |bridge: &str, seats| RoomBridge { bridge: bridge.into(), seats };
        let room = RoomInfo {
            name: "rat".into(),
            seats: 9,
            bridges: vec![at("a", 4), at("b", 3), at("c", 2), at("d", 0)],
            ..RoomInfo::default()
        };
        let view = View::new(bridges, vec![room]);
        assert_eq!(view.bridges.iter().map(|bridge| bridge.name.as_str()).collect::<Vec<_>>(), ["b", "c", "a"]);
        assert_eq!((view.rooms[0].bridges.len(), view.rooms[0].relays), (3, 3));
    }

    #[test]
    fn an_empty_report_is_shown_as_unknown() {
        assert_eq!(bridge(BridgeInfo::default()).state, "unknown");
    }
}
