//! The store that several allocators share: Redis, each call one Lua script.
//!
//! [`schema`] tells the keys, `lua/` what each call does with them, `link` keeps the connection, `places` has placements go
//! together, `feed` hears how far logs are. Time inside scripts is Redis' own; a clock that was set back does not go back for
//! them.

mod address;
mod feed;
mod link;
mod places;
mod positions;
mod reply;
mod schema;
mod scripts;

use std::sync::Arc;
use std::time::Duration;

use link::{Link, Repeat};
use places::Places;
use positions::Positions;
use prost::Message;
use rand::Rng;
use rand::distr::Alphanumeric;
use ratssaal_proto::allocator::v1::{
    AppendRequest, AppendResponse, BridgeInfo, BridgeReport, BridgeState, DrainOrder, EndRoomRequest, ListRoomsRequest,
    ListRoomsResponse, LogEntry, LogSnapshot, OpenRoomRequest, OpenRoomResponse, PlaceRequest, PlaceResponse,
    ReleaseRequest, RestoreRequest, RoomInfo, RoomSettings, SnapshotRequest,
};
use redis::{Script, ScriptInvocation};
use reply::Reply;
use scripts::Scripts;

pub use address::{RedisError, RedisSettings};

use super::{Chunk, EndIf, Followed, Lost, Mark, Orders, Position, Result, Store, Sweep, Writer};
use crate::clock::Clock;
use crate::config::Config;
use crate::load;

/// Rooms in one page of a list, and in one step of making it.
const PAGE: usize = 1000;
const STEP: usize = 100;
/// What one read gives at most.
const CHUNK_ENTRIES: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;
/// Longest time to drain in, ms: 30 years.
const MAX_DRAIN_MS: u64 = 1 << 40;

/// A [`Store`] in Redis 7 or later. All stores of one prefix are one.
#[derive(Debug)]
pub struct RedisStore {
    inner: Arc<Inner>,
    feed: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Inner {
    settings: RedisSettings,
    prefix: String,
    scripts: Scripts,
    link: Link,
    places: Places,
    positions: Positions,
    /// A test's clock; Redis has its own.
    clock: Option<Arc<dyn Clock>>,
    /// The name an empty store gets from this process, together with the time.
    name: String,
}

impl Drop for RedisStore {
    fn drop(&mut self) {
        self.feed.abort();
    }
}

impl RedisStore {
    /// A store that connects by itself, and again whenever it has to: until then it refuses as unavailable. Must be called
    /// within a Tokio runtime.
    ///
    /// # Errors
    /// A setting that cannot work.
    pub fn connect(settings: RedisSettings, config: &Config) -> std::result::Result<Self, RedisError> {
        Self::with_clock(settings, config, None)
    }

    /// As [`connect`](Self::connect), but by a clock of the caller instead of Redis' own.
    ///
    /// # Errors
    /// A setting that cannot work.
    pub fn with_clock(
        settings: RedisSettings,
        config: &Config,
        clock: Option<Arc<dyn Clock>>,
    ) -> std::result::Result<Self, RedisError> {
        let address = address::Address::of(&settings)?;
        let inner = Arc::new(Inner {
            prefix: schema::prefix(&settings.prefix),
            scripts: Scripts::new(config),
            link: Link::new(address.clone(), settings.clone()),
            places: Places::default(),
            positions: Positions::default(),
            clock,
            name: random(16),
            settings,
        });
        let feed = tokio::spawn(feed::listen(Arc::downgrade(&inner), address));
        Ok(Self { inner, feed })
    }
}

impl Inner {
    /// A call of a script, with what every script gets first.
    fn call<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.key(&self.prefix);
        call.arg(self.clock.as_ref().map_or(0, |clock| clock.now_ms())).arg(&self.name);
        call
    }

    /// Runs it; `subject` is the room or bridge it is about.
    async fn run(&self, call: &ScriptInvocation<'_>, repeat: Repeat, subject: &str) -> Result<Reply> {
        Reply::read(self.link.run(call, repeat).await?, subject)
    }

    async fn heads(&self, rooms: &[(String, u64)]) -> Result<Vec<Option<Position>>> {
        let mut call = self.call(&self.scripts.heads);
        for (sid, _) in rooms {
            call.arg(sid);
        }
        let mut reply = self.run(&call, Repeat::Once, "").await?;
        rooms.iter().map(|_| Ok(feed::position(reply.signed()?, reply.flag()?))).collect()
    }

    async fn followed(&self, name: &str, sid: &str) -> Result<(RoomInfo, bool)> {
        let mut call = self.call(&self.scripts.follow);
        call.arg(name).arg(sid);
        let mut reply = self.run(&call, Repeat::Once, name).await?;
        let ended = reply.flag()?;
        Ok((reply.list()?.room()?, ended))
    }
}

impl Store for RedisStore {
    async fn report(&self, report: BridgeReport) -> Result<Orders> {
        let BridgeReport { bridge, joined, .. } = &report;
        let load = report.load.unwrap_or_default();
        let state = match report.state() {
            BridgeState::Ready => "ready",
            BridgeState::Gone => "gone",
            _ => "busy",
        };
        let mut call = self.inner.call(&self.inner.scripts.report);
        call.arg(bridge).arg(&report.incarnation).arg(format!("{:020}", report.sequence)).arg(state).arg(&report.site);
        call.arg(&report.address).arg(report.generation).arg(lines(&report.features)).arg(load.seat_limit);
        call.arg(load::besides_seats(&load)).arg(load.seats);
        call.arg(BridgeReport { joined: vec![], ..report.clone() }.encode_to_vec()).arg(joined);
        orders(self.inner.run(&call, Repeat::Once, bridge).await?)
    }

    async fn orders(&self, bridge: &str) -> Result<Orders> {
        let mut call = self.inner.call(&self.inner.scripts.orders);
        call.arg(bridge);
        orders(self.inner.run(&call, Repeat::Once, bridge).await?)
    }

    async fn drain(&self, bridge: &str, within_ms: Option<u64>) -> Result<bool> {
        let within = within_ms.map_or(-1, |within| i64::try_from(within.min(MAX_DRAIN_MS)).unwrap_or(i64::MAX));
        let mut call = self.inner.call(&self.inner.scripts.drain);
        call.arg(bridge).arg(within);
        self.inner.run(&call, Repeat::Once, bridge).await?.flag()
    }

    async fn bridges(&self) -> Result<Vec<BridgeInfo>> {
        let call = self.inner.call(&self.inner.scripts.bridges);
        let bridges = self.inner.run(&call, Repeat::Once, "").await?.each(|mut bridge| {
            let id = bridge.text()?;
            let report = BridgeReport::decode(bridge.bytes()?).unwrap_or_default();
            let info = BridgeInfo {
                report: Some(report),
                seats: bridge.count()?,
                load_permille: bridge.count()?,
                drain_ordered: bridge.flag()?,
                silent_ms: bridge.number()?,
                expired: bridge.flag()?,
            };
            Ok((id, info))
        });
        let mut bridges = bridges?;
        bridges.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(bridges.into_iter().map(|(_, info)| info).collect())
    }

    async fn open(&self, request: OpenRoomRequest) -> Result<OpenRoomResponse> {
        let mut call = self.inner.call(&self.inner.scripts.open);
        call.arg(&request.name).arg(room_sid()).arg(u8::from(request.must_be_new));
        with_settings(&mut call, &request.settings.unwrap_or_default());
        let repeat = if request.must_be_new { Repeat::Never } else { Repeat::Once };
        let mut reply = self.inner.run(&call, repeat, &request.name).await?;
        let opened = reply.flag()?;
        Ok(OpenRoomResponse { opened, room: Some(reply.list()?.room()?) })
    }

    async fn end(&self, request: EndRoomRequest, condition: EndIf) -> Result<RoomInfo> {
        let mut call = self.inner.call(&self.inner.scripts.end);
        call.arg(&request.name).arg(&request.sid);
        match request.expected {
            Some(expected) => call.arg(expected),
            None => call.arg(-1),
        };
        call.arg(u8::from(condition == EndIf::Due)).arg(&request.entry[..]);
        let room = self.inner.run(&call, Repeat::Never, &request.name).await?.list()?.room()?;
        self.inner.positions.moved(&room.sid, Position { head: room.head, ended: true });
        Ok(room)
    }

    async fn rooms(&self, request: ListRoomsRequest) -> Result<ListRoomsResponse> {
        let mut rooms: Vec<RoomInfo> = Vec::new();
        if !request.names.is_empty() {
            for names in request.names.chunks(STEP) {
                let mut call = self.inner.call(&self.inner.scripts.rooms);
                call.arg(0).arg("").arg(names);
                rooms.extend(self.inner.run(&call, Repeat::Once, "").await?.each(Reply::room)?);
            }
            return Ok(ListRoomsResponse { rooms, more: false });
        }
        let limit = if request.limit == 0 { PAGE } else { PAGE.min(request.limit as usize) };
        let mut after = request.after;
        // One more than asked for tells whether there are more.
        while rooms.len() <= limit {
            let step = STEP.min(limit + 1 - rooms.len());
            let mut call = self.inner.call(&self.inner.scripts.rooms);
            call.arg(step).arg(&after);
            let part = self.inner.run(&call, Repeat::Once, "").await?.each(Reply::room)?;
            let Some(last) = part.last() else { break };
            after = last.name.clone();
            rooms.extend(part);
        }
        let more = rooms.len() > limit;
        rooms.truncate(limit);
        Ok(ListRoomsResponse { rooms, more })
    }

    async fn place(&self, request: PlaceRequest) -> Result<PlaceResponse> {
        places::place(&self.inner, request).await
    }

    async fn release(&self, request: ReleaseRequest) -> Result<bool> {
        let mut call = self.inner.call(&self.inner.scripts.release);
        call.arg(&request.room).arg(&request.room_sid).arg(&request.join_id);
        self.inner.run(&call, Repeat::Once, &request.room).await?.flag()
    }

    async fn append(&self, request: AppendRequest, writer: Writer) -> Result<AppendResponse> {
        let mut call = self.inner.call(&self.inner.scripts.append);
        call.arg(&request.room).arg(&request.room_sid).arg(request.expected).arg(u8::from(writer == Writer::Bridge));
        call.arg(request.entries.len()).arg(request.confirm.len()).arg(request.release.len()).arg(request.claim.len());
        call.arg(request.expected_at_ms);
        for entry in &request.entries {
            call.arg(&entry[..]);
        }
        call.arg(&request.confirm).arg(&request.release);
        for seat in &request.claim {
            call.arg(&seat.join_id).arg(&seat.identity).arg(&seat.participant_sid).arg(&seat.bridge);
        }
        let mut reply = self.inner.run(&call, Repeat::Never, &request.room).await?;
        let appended = AppendResponse { head: reply.number()?, at_ms: reply.number()?, snapshot_wanted: reply.flag()? };
        self.inner.positions.moved(&request.room_sid, Position { head: appended.head, ended: false });
        Ok(appended)
    }

    async fn follow(&self, name: &str, sid: &str) -> Result<Followed> {
        let sid = if sid.is_empty() { self.inner.followed(name, sid).await?.0.sid } else { sid.to_owned() };
        // First the watch, then the look: what moves between the two is told by one of them.
        let position = self.inner.positions.watch(&sid);
        let (room, ended) = self.inner.followed(name, &sid).await?;
        self.inner.positions.moved(&sid, Position { head: room.head, ended });
        Ok(Followed { room, position })
    }

    async fn read(&self, name: &str, sid: &str, after: impl Into<Mark> + Send) -> Result<Chunk> {
        let after = after.into();
        let mut call = self.inner.call(&self.inner.scripts.read);
        call.arg(sid).arg(name).arg(after.sequence).arg(CHUNK_ENTRIES).arg(after.at_ms);
        let mut reply = self.inner.run(&call, Repeat::Once, name).await?;
        let sequence = reply.number()?;
        let snapshot = reply.optional_bytes()?.map(|state| LogSnapshot { sequence, state });
        let mut sequence = if snapshot.is_some() { sequence } else { after.sequence };
        let entries = reply.list()?.each(|mut entry| {
            let _id = entry.text()?;
            // t, when; b, bytes; e, the entry.
            let mut fields = entry.list()?;
            let (_, at_ms, _, _, _) =
                (fields.text()?, fields.number()?, fields.text()?, fields.text()?, fields.text()?);
            Ok(LogEntry { sequence: 0, at_ms, entry: fields.bytes()? })
        });
        let mut entries = entries?;
        let mut bytes = 0;
        let fits = |entry: &LogEntry| {
            let first = bytes == 0;
            bytes += entry.entry.len();
            first || bytes <= CHUNK_BYTES
        };
        let count = entries.iter().map(fits).take_while(|fits| *fits).count();
        entries.truncate(count);
        for entry in &mut entries {
            sequence += 1;
            entry.sequence = sequence;
        }
        Ok(Chunk { snapshot, entries })
    }

    async fn snapshot(&self, request: SnapshotRequest) -> Result<bool> {
        let mut call = self.inner.call(&self.inner.scripts.snapshot);
        call.arg(&request.room).arg(&request.room_sid).arg(request.sequence).arg(&request.state[..]);
        self.inner.run(&call, Repeat::Once, &request.room).await?.flag()
    }

    async fn restore(&self, request: RestoreRequest) -> Result<RoomInfo> {
        let RestoreRequest { room, sequence, state, seats, at_ms } = request;
        let room = room.unwrap_or_default();
        let mut call = self.inner.call(&self.inner.scripts.restore);
        call.arg(&room.name).arg(&room.sid).arg(&room.store).arg(room.epoch).arg(room.created_ms);
        with_settings(&mut call, &room.settings.unwrap_or_default());
        call.arg(sequence).arg(&state[..]).arg(at_ms);
        for seat in &seats {
            call.arg(&seat.join_id).arg(&seat.identity).arg(&seat.participant_sid);
            call.arg(&seat.bridge).arg(&seat.bridge_address);
        }
        self.inner.run(&call, Repeat::Once, &room.name).await?.list()?.room()
    }

    async fn sweep(&self) -> Result<Sweep> {
        let call = self.inner.call(&self.inner.scripts.sweep);
        let mut reply = self.inner.run(&call, Repeat::Once, "").await?;
        let (rooms, seats) = (reply.number()?, reply.number()?);
        let lost = reply.list()?.each(|mut lost| {
            let room = lost.list()?.room()?;
            let mut seats = lost.list()?.each(Reply::seat)?;
            seats.sort_unstable_by(|a, b| a.participant_sid.cmp(&b.participant_sid));
            Ok(Lost { room, seats })
        })?;
        let due = reply.list()?.each(Reply::room)?;
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Sweep { lost, due, rooms: count(rooms), seats: count(seats), now_ms: reply.number()? })
    }
}

fn orders(mut reply: Reply) -> Result<Orders> {
    let within = u64::try_from(reply.signed()?).ok();
    let settles_in = Duration::from_millis(reply.number()?);
    Ok(Orders { drain: within.map(|within_ms| DrainOrder { within_ms }), settles_in, lent: reply.count()? })
}

fn with_settings(call: &mut ScriptInvocation<'_>, settings: &RoomSettings) {
    call.arg(settings.max_participants).arg(settings.empty_timeout_ms).arg(settings.departure_timeout_ms);
    call.arg(&settings.site_pin);
}

/// Names as the scripts search them: each between line breaks, which no name contains.
fn lines(names: &[String]) -> String {
    if names.is_empty() { String::new() } else { format!("\n{}\n", names.join("\n")) }
}

fn room_sid() -> String {
    format!("RM_{}", random(12))
}

fn random(characters: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(characters).map(char::from).collect()
}

#[cfg(test)]
mod crowds;
#[cfg(test)]
mod differential;
#[cfg(test)]
mod outages;
#[cfg(test)]
mod tests;
