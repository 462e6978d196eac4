//! What a request may look like at most: checked before any store sees it.

use ratssaal_proto::allocator::v1::{
    AppendRequest, BridgeReport, BridgeState, DrainRequest, EndRoomRequest, ListRoomsRequest, OpenRoomRequest,
    PlaceRequest, ReleaseRequest, RestoreRequest, RoomSettings, Seat, SnapshotRequest, TailRequest,
};

use crate::refusal::Refusal;

/// Bytes of a gRPC message.
pub(crate) const MESSAGE: usize = 2 << 20;
const NAME: usize = 256;
const ENTRY: usize = 64 << 10;
const ENTRIES: usize = 64;
const SNAPSHOT: usize = 1 << 20;
const SEATS: u32 = 100_000;
const LIST: usize = 64;
const JOINED: usize = 10_000;
const ROOMS: usize = 1000;
/// Largest sequence and time a store keeps exactly: 2^48.
const FURTHEST: u64 = 1 << 48;
/// Longest timeout a room may be opened with: 30 days.
const TIMEOUT_MS: u64 = 30 * 24 * 3600 * 1000;

type Checked = Result<(), Refusal>;

fn invalid(text: String) -> Checked {
    Err(Refusal::Invalid(text))
}

fn optional(what: &str, value: &str) -> Checked {
    if value.len() > NAME {
        return invalid(format!("{what} has {} bytes: use at most {NAME}", value.len()));
    }
    if value.chars().any(char::is_control) {
        return invalid(format!("{what} contains control characters: leave them out"));
    }
    Ok(())
}

fn name(what: &str, value: &str) -> Checked {
    if value.is_empty() {
        return invalid(format!("{what} is empty: it is required"));
    }
    optional(what, value)
}

fn count(what: &str, is: usize, most: usize) -> Checked {
    if is > most { invalid(format!("{is} {what}: send at most {most}")) } else { Ok(()) }
}

fn names(what: &str, values: &[String], most: usize) -> Checked {
    count(what, values.len(), most)?;
    values.iter().try_for_each(|value| name(what, value))
}

fn entry(entry: &[u8]) -> Checked {
    match entry.len() {
        0 => invalid("an entry is empty: every entry needs an event".into()),
        size => count("bytes in an entry", size, ENTRY),
    }
}

fn seat(seat: &Seat) -> Checked {
    optional("bridge_address", &seat.bridge_address)?;
    let parts = [&seat.join_id, &seat.identity, &seat.participant_sid, &seat.bridge];
    parts.into_iter().try_for_each(|part| name("part of a seat", part))
}

fn settings(settings: &RoomSettings) -> Checked {
    optional("site_pin", &settings.site_pin)?;
    if settings.empty_timeout_ms.max(settings.departure_timeout_ms) > TIMEOUT_MS {
        return invalid("a room's timeouts may be 30 days at most".into());
    }
    Ok(())
}

pub(crate) fn report(report: &BridgeReport) -> Checked {
    name("bridge", &report.bridge)?;
    name("incarnation", &report.incarnation)?;
    for (what, value) in [("site", &report.site), ("address", &report.address), ("version", &report.version)] {
        optional(what, value)?;
    }
    names("features", &report.features, LIST)?;
    names("joined", &report.joined, JOINED)?;
    if report.state() == BridgeState::Unspecified {
        return invalid("the report's state is missing or unknown".into());
    }
    let limit = report.load.map_or(0, |load| load.seat_limit);
    if limit == 0 || limit > SEATS {
        return invalid(format!("seat_limit is {limit}: give a number from 1 to {SEATS}"));
    }
    Ok(())
}

pub(crate) fn place(request: &PlaceRequest) -> Checked {
    name("room", &request.room)?;
    name("identity", &request.identity)?;
    name("join_id", &request.join_id)?;
    name("participant_sid", &request.participant_sid)?;
    names("sites", &request.sites, LIST)?;
    names("avoid", &request.avoid, LIST)?;
    request.needs.as_ref().map_or(Ok(()), |needs| names("features", &needs.features, LIST))?;
    request.open.as_ref().map_or(Ok(()), settings)
}

pub(crate) fn release(request: &ReleaseRequest) -> Checked {
    name("room", &request.room)?;
    optional("room_sid", &request.room_sid)?;
    name("join_id", &request.join_id)
}

pub(crate) fn open(request: &OpenRoomRequest) -> Checked {
    name("name", &request.name)?;
    request.settings.as_ref().map_or(Ok(()), settings)
}

pub(crate) fn end(request: &EndRoomRequest) -> Checked {
    name("name", &request.name)?;
    optional("sid", &request.sid)?;
    entry(&request.entry)
}

pub(crate) fn list(request: &ListRoomsRequest) -> Checked {
    names("names", &request.names, ROOMS)?;
    optional("after", &request.after)
}

pub(crate) fn append(request: &AppendRequest) -> Checked {
    name("room", &request.room)?;
    name("room_sid", &request.room_sid)?;
    if request.entries.is_empty() {
        return invalid("an append without entries does nothing: send at least one".into());
    }
    count("entries", request.entries.len(), ENTRIES)?;
    request.entries.iter().try_for_each(|bytes| entry(bytes))?;
    names("confirm", &request.confirm, ENTRIES)?;
    names("release", &request.release, ENTRIES)?;
    count("claimed seats", request.claim.len(), ENTRIES)?;
    request.claim.iter().try_for_each(seat)
}

pub(crate) fn tail(request: &TailRequest) -> Checked {
    name("room", &request.room)?;
    optional("room_sid", &request.room_sid)
}

pub(crate) fn snapshot(request: &SnapshotRequest) -> Checked {
    name("room", &request.room)?;
    name("room_sid", &request.room_sid)?;
    count("bytes in a snapshot", request.state.len(), SNAPSHOT)
}

pub(crate) fn restore(request: &RestoreRequest) -> Checked {
    let Some(room) = &request.room else { return invalid("the room is missing: it is required".into()) };
    name("name", &room.name)?;
    name("sid", &room.sid)?;
    name("store", &room.store)?;
    room.settings.as_ref().map_or(Ok(()), settings)?;
    if request.sequence.max(room.epoch).max(room.created_ms) > FURTHEST {
        return invalid(format!("sequence, epoch and created_ms may be {FURTHEST} at most"));
    }
    count("bytes in a snapshot", request.state.len(), SNAPSHOT)?;
    count("seats", request.seats.len(), JOINED)?;
    request.seats.iter().try_for_each(seat)
}

pub(crate) fn drain(request: &DrainRequest) -> Checked {
    name("bridge", &request.bridge)
}
