//! The contract of the state all allocators share: bridges, seats, rooms and their logs.
//!
//! Every call is one atomic step: two calls never see each other half done. Time is the store's own (its
//! [`Clock`](crate::Clock)), and is looked at in every call: what has lapsed by then does not count, whether or not
//! anybody has swept. Input was checked for size by the service before. The suite in `contract` is run against every
//! store.

#[cfg(test)]
mod contract;
mod memory;
mod redis;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
pub use memory::MemoryStore;
use ratssaal_proto::allocator::v1::{
    AppendRequest, AppendResponse, BridgeInfo, BridgeReport, DrainOrder, EndRoomRequest, ListRoomsRequest,
    ListRoomsResponse, LogEntry, LogSnapshot, OpenRoomRequest, OpenRoomResponse, PlaceRequest, PlaceResponse,
    ReleaseRequest, RestoreRequest, RoomInfo, Seat, SnapshotRequest,
};
pub use redis::{RedisError, RedisSettings, RedisStore};
use tokio::sync::watch;

use crate::refusal::Refusal;

/// The answer of a store.
pub type Result<T> = std::result::Result<T, Refusal>;

/// The shared state. See the contract's comments (`allocator.proto`) for what each call does and refuses.
pub trait Store: Send + Sync + 'static {
    /// Takes a bridge's report; answers what it is ordered to do, and how many seats it is [lent](crate::lease::lent).
    fn report(&self, report: BridgeReport) -> impl Future<Output = Result<Orders>> + Send;

    /// What a bridge is ordered to do now.
    fn orders(&self, bridge: &str) -> impl Future<Output = Result<Orders>> + Send;

    /// Orders a bridge to drain within some milliseconds (0: as long as needed), or takes that back (`None`).
    /// Answers whether it is attached.
    fn drain(&self, bridge: &str, within_ms: Option<u64>) -> impl Future<Output = Result<bool>> + Send;

    /// The bridges that are alive, or expired with participants still counted there; by name.
    fn bridges(&self) -> impl Future<Output = Result<Vec<BridgeInfo>>> + Send;

    /// Opens a room or finds it.
    fn open(&self, request: OpenRoomRequest) -> impl Future<Output = Result<OpenRoomResponse>> + Send;

    /// Ends a room with a last entry. With [`EndIf::Due`] only if nobody has been in it for its timeout.
    fn end(&self, request: EndRoomRequest, condition: EndIf) -> impl Future<Output = Result<RoomInfo>> + Send;

    /// The open rooms.
    fn rooms(&self, request: ListRoomsRequest) -> impl Future<Output = Result<ListRoomsResponse>> + Send;

    /// Chooses a bridge by [`placement::choose`](crate::placement::choose) and reserves a seat there.
    fn place(&self, request: PlaceRequest) -> impl Future<Output = Result<PlaceResponse>> + Send;

    /// Gives a seat back; answers whether there was one.
    fn release(&self, request: ReleaseRequest) -> impl Future<Output = Result<bool>> + Send;

    /// Appends entries if the head is as expected. Seats that are claimed are taken with them.
    fn append(&self, request: AppendRequest, writer: Writer) -> impl Future<Output = Result<AppendResponse>> + Send;

    /// A room (of the given sid, or whichever is open if that is empty) and its position as it moves on. A room that
    /// ended less than [`Config::linger`](crate::Config::linger) ago is still found by its sid.
    fn follow(&self, name: &str, sid: &str) -> impl Future<Output = Result<Followed>> + Send;

    /// The next part of a room's log after an entry; [`Refusal::Conflict`] if that is beyond its head, or another one.
    fn read(&self, name: &str, sid: &str, after: impl Into<Mark> + Send) -> impl Future<Output = Result<Chunk>> + Send;

    /// Keeps a snapshot, if it is newer than the kept one, and drops entries it contains. Answers whether it was kept.
    fn snapshot(&self, request: SnapshotRequest) -> impl Future<Output = Result<bool>> + Send;

    /// Takes back a room that was open before this store lost its data, or the last of it; answers how it is now. A store
    /// that lost nothing and does not have it, or has another room of that name, refuses it as unknown: it has ended.
    fn restore(&self, request: RestoreRequest) -> impl Future<Output = Result<RoomInfo>> + Send;

    /// What time has done: participants of lost bridges, rooms whose time is over. Calling it again before that is
    /// dealt with gives it again.
    fn sweep(&self) -> impl Future<Output = Result<Sweep>> + Send;
}

/// What a bridge is ordered to do and has to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    /// To drain, in the time that is left.
    pub drain: Option<DrainOrder>,
    /// How long no new rooms are opened, as the store has just begun.
    pub settles_in: Duration,
    /// Seats it may give by itself while no store answers; told with the answer to a report only.
    pub lent: u32,
}

/// When a room may be ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndIf {
    /// In any case.
    Always,
    /// If its timeout is over and nobody has come in since; otherwise [`Refusal::Conflict`].
    Due,
}

/// Who appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// A bridge, bound to the log's quota.
    Bridge,
    /// The allocator's reaper, which must get through.
    Reaper,
}

/// An entry of a log, as somebody knows it who has read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Its number; 0: before the first one.
    pub sequence: u64,
    /// When it was appended, by the store's clock; 0 where that is not known, as after a snapshot. A store that goes on from older
    /// data after a crash may have another entry of that number, but not of that time.
    pub at_ms: u64,
}

impl From<u64> for Mark {
    fn from(sequence: u64) -> Self {
        Self { sequence, at_ms: 0 }
    }
}

/// How far a room's log is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Sequence of the last entry.
    pub head: u64,
    /// Nothing more will come.
    pub ended: bool,
}

/// A room and its position.
#[derive(Debug)]
pub struct Followed {
    /// The room when the call was made.
    pub room: RoomInfo,
    /// Its position; always as new as `room` or newer.
    pub position: watch::Receiver<Position>,
}

/// A part of a log: the snapshot, if the reader needs it, and entries after it or after the reader's sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chunk {
    /// Replaces what the reader has.
    pub snapshot: Option<LogSnapshot>,
    /// The next entries, without gap; at most some hundred and a megabyte at a time.
    pub entries: Vec<LogEntry>,
}

impl Chunk {
    /// Sequence the reader has reached with this chunk, if it is not empty.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.mark().map(|mark| mark.sequence)
    }

    /// The last entry the reader has with this chunk, if it is not empty.
    #[must_use]
    pub fn mark(&self) -> Option<Mark> {
        let entry = self.entries.last().map(|entry| Mark { sequence: entry.sequence, at_ms: entry.at_ms });
        entry.or(self.snapshot.as_ref().map(|snapshot| snapshot.sequence.into()))
    }
}

/// What a sweep found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sweep {
    /// Rooms with participants whose bridge is lost.
    pub lost: Vec<Lost>,
    /// Rooms whose timeout is over.
    pub due: Vec<RoomInfo>,
    /// Open rooms.
    pub rooms: usize,
    /// Seats taken or reserved.
    pub seats: usize,
    /// The store's time.
    pub now_ms: u64,
}

/// A room's participants whose bridge is lost.
#[derive(Clone, Debug, PartialEq)]
pub struct Lost {
    /// The room; its `head` is what an append must expect.
    pub room: RoomInfo,
    /// Their seats, all confirmed.
    pub seats: Vec<Seat>,
}

/// An entry as it is kept.
#[derive(Clone, Debug)]
struct Stored {
    at_ms: u64,
    entry: Bytes,
}
