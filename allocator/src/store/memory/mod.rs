//! The store of one process: everything in memory behind one lock, which is held for microseconds.

mod bridges;
mod log;
mod room;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ratssaal_proto::allocator::v1::{
    AppendRequest, AppendResponse, BridgeInfo, BridgeReport, EndRoomRequest, ListRoomsRequest, ListRoomsResponse,
    OpenRoomRequest, OpenRoomResponse, PlaceRequest, PlaceResponse, ReleaseRequest, RestoreRequest, RoomInfo,
    SnapshotRequest,
};
use state::State;

use super::{Chunk, EndIf, Followed, Mark, Orders, Result, Store, Sweep, Writer};
use crate::clock::Clock;
use crate::config::Config;

/// A [`Store`] for one process. What it knows is gone with it.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl MemoryStore {
    /// An empty store that goes by a clock.
    #[must_use]
    pub fn new(config: Config, clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::new(State::new(config)) }
    }

    /// The state as of now. Each call on it leaves it whole, so a panic in one (none is known) spoils nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(self.clock.now_ms());
        state
    }
}

impl Store for MemoryStore {
    async fn report(&self, report: BridgeReport) -> Result<Orders> {
        self.state().report(report)
    }

    async fn orders(&self, bridge: &str) -> Result<Orders> {
        Ok(self.state().orders(bridge))
    }

    async fn drain(&self, bridge: &str, within_ms: Option<u64>) -> Result<bool> {
        self.state().drain(bridge, within_ms)
    }

    async fn bridges(&self) -> Result<Vec<BridgeInfo>> {
        Ok(self.state().bridges())
    }

    async fn open(&self, request: OpenRoomRequest) -> Result<OpenRoomResponse> {
        self.state().open(request)
    }

    async fn end(&self, request: EndRoomRequest, condition: EndIf) -> Result<RoomInfo> {
        self.state().end(request, condition)
    }

    async fn rooms(&self, request: ListRoomsRequest) -> Result<ListRoomsResponse> {
        Ok(self.state().rooms(&request))
    }

    async fn place(&self, request: PlaceRequest) -> Result<PlaceResponse> {
        self.state().place(request)
    }

    async fn release(&self, request: ReleaseRequest) -> Result<bool> {
        Ok(self.state().release(&request))
    }

    async fn append(&self, request: AppendRequest, writer: Writer) -> Result<AppendResponse> {
        self.state().append(request, writer)
    }

    async fn follow(&self, name: &str, sid: &str) -> Result<Followed> {
        self.state().follow(name, sid)
    }

    async fn read(&self, name: &str, sid: &str, after: impl Into<Mark> + Send) -> Result<Chunk> {
        self.state().read(name, sid, after.into())
    }

    async fn snapshot(&self, request: SnapshotRequest) -> Result<bool> {
        self.state().snapshot(request)
    }

    /// This store lives as long as its process and loses nothing before: a room it does not know has ended.
    async fn restore(&self, request: RestoreRequest) -> Result<RoomInfo> {
        let room = request.room.unwrap_or_default();
        self.state().room(&room.name, &room.sid)
    }

    async fn sweep(&self) -> Result<Sweep> {
        Ok(self.state().sweep())
    }
}
