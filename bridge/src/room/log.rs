//! A room's log at the allocator: compare-and-append, the tail, snapshots, the end.

use std::time::Duration;

use bytes::Bytes;
use ratssaal_process::grpc::TraceContext;
use ratssaal_proto::allocator::v1::allocator_client::AllocatorClient;
use ratssaal_proto::allocator::v1::refusal::Code as Reason;
use ratssaal_proto::allocator::v1::{
    AppendRequest, AppendResponse, EndRoomRequest, ListRoomsRequest, Refusal, RestoreRequest, RoomInfo, Seat,
    SnapshotRequest, TailFrame, TailRequest,
};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Response, Status, Streaming};

use super::ids::{RoomName, RoomSid};

/// The allocator, which is told in which span it is called.
pub(crate) type Allocator = AllocatorClient<InterceptedService<Channel, TraceContext>>;

/// Entries in one append, at most.
pub(super) const BATCH: usize = 64;

/// How long a call to the allocator may take; it normally answers within a few milliseconds.
const DEADLINE: Duration = Duration::from_secs(3);

/// The answer of a call to the allocator, or that it did not come in time.
pub(super) async fn within<T>(call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => answer.map(Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("the allocator did not answer in time")),
    }
}

/// Pause before a call is tried again that did not reach an allocator: the channel finds another one meanwhile.
const REPEAT: Duration = Duration::from_millis(150);

/// The answer of a call that may be repeated: again as long as none of the allocators is reached, until the deadline.
pub(super) async fn repeat<T, F>(call: impl Fn() -> F) -> Result<T, Status>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    within(async {
        loop {
            match call().await {
                Err(status) if status.code() == Code::Unavailable && Refusal::from_status(&status).is_none() => {
                    tokio::time::sleep(REPEAT).await;
                }
                answer => return answer,
            }
        }
    })
    .await
}

/// An entry of the log, as we know it who have read it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Mark {
    /// Its number; 0: before the first one.
    pub(super) sequence: u64,
    /// When it was appended; 0 where that is not known. An allocator whose store goes on from older data has another entry there.
    pub(super) at_ms: u64,
}

/// Why the log did not take something.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum LogError {
    /// Somebody appended first; or the store has lost entries, if the head is behind.
    #[error("the log's last entry is {head}")]
    Conflict { head: u64 },
    /// The room has ended.
    #[error("the room has ended")]
    Ended,
    /// A seat to confirm has lapsed.
    #[error("the reserved seat of {join_id} has lapsed")]
    Lapsed { join_id: String },
    /// The allocator takes no more.
    #[error("the allocator does not take it: {message}")]
    Unavailable { message: String },
    /// No allocator answers, or none that reaches its store.
    #[error("nobody can be asked: {message}")]
    Away { message: String },
}

impl From<Status> for LogError {
    fn from(status: Status) -> Self {
        let refusal = Refusal::from_status(&status);
        match refusal.as_ref().map(Refusal::code) {
            Some(Reason::Conflict) => Self::Conflict { head: refusal.map(|refusal| refusal.head).unwrap_or_default() },
            Some(Reason::UnknownRoom) => Self::Ended,
            Some(Reason::Lapsed) => {
                Self::Lapsed { join_id: refusal.map(|refusal| refusal.join_id).unwrap_or_default() }
            }
            _ if Refusal::is_away(&status) => Self::Away { message: status.message().to_owned() },
            _ => Self::Unavailable { message: status.message().to_owned() },
        }
    }
}

/// Entries to append, with the seats they confirm, release and claim.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Batch {
    pub(super) entries: Vec<Bytes>,
    pub(super) confirm: Vec<String>,
    pub(super) release: Vec<String>,
    pub(super) claim: Vec<Seat>,
}

/// One opening of a room, at the allocator.
#[derive(Clone, Debug)]
pub(super) struct RoomLog {
    allocator: Allocator,
    name: RoomName,
    sid: RoomSid,
    /// The room as the allocator told it: what an allocator that has lost it needs to know.
    info: RoomInfo,
}

impl RoomLog {
    pub(super) fn new(allocator: Allocator, info: RoomInfo) -> Self {
        Self { allocator, name: info.name.as_str().into(), sid: info.sid.as_str().into(), info }
    }

    /// Offers the room to an allocator that does not know it, or not as far as we have read. If its data was lost, it takes the
    /// room back; answers the new room with the new head of its log, which has to be read from where we are.
    /// [`LogError::Ended`] if nothing was lost.
    pub(super) async fn restore(&self, last: Mark, state: Bytes, seats: Vec<Seat>) -> Result<RoomInfo, LogError> {
        if self.info.store.is_empty() {
            return Err(LogError::Ended);
        }
        let Mark { sequence, at_ms } = last;
        let request = RestoreRequest { room: Some(self.info.clone()), sequence, state, seats, at_ms };
        Ok(within(self.allocator.clone().restore(request)).await?.room.unwrap_or_default())
    }

    /// The room was taken back by an allocator that had lost it.
    pub(super) fn renew(&mut self, info: RoomInfo) {
        self.info = info;
    }

    /// The site at which everybody has to sit; empty: anywhere.
    pub(super) fn site_pin(&self) -> &str {
        self.info.settings.as_ref().map_or("", |settings| &settings.site_pin)
    }

    /// Asks whether anybody can be asked.
    pub(super) async fn probe(&self) -> Result<(), LogError> {
        let request = ListRoomsRequest { names: vec![self.name.to_string()], ..ListRoomsRequest::default() };
        within(self.allocator.clone().list_rooms(request)).await?;
        Ok(())
    }

    /// Appends if `expected` is still the last entry.
    pub(super) async fn append(&self, expected: Mark, batch: &Batch) -> Result<AppendResponse, LogError> {
        let request = AppendRequest {
            room: self.name.to_string(),
            room_sid: self.sid.to_string(),
            expected: expected.sequence,
            expected_at_ms: expected.at_ms,
            entries: batch.entries.clone(),
            confirm: batch.confirm.clone(),
            release: batch.release.clone(),
            claim: batch.claim.clone(),
        };
        Ok(within(self.allocator.clone().append(request)).await?)
    }

    /// Everything after an entry, from now on.
    pub(super) async fn tail(&self, after: Mark) -> Result<Streaming<TailFrame>, LogError> {
        let (room, room_sid) = (self.name.to_string(), self.sid.to_string());
        let Mark { sequence: after, at_ms: after_at_ms } = after;
        let request = TailRequest { room, room_sid, after, after_at_ms, follow: true };
        Ok(within(self.allocator.clone().tail(request)).await?)
    }

    /// Stores the state after an entry.
    pub(super) async fn snapshot(&self, sequence: u64, state: Bytes) -> Result<(), LogError> {
        let (room, room_sid) = (self.name.to_string(), self.sid.to_string());
        within(self.allocator.clone().snapshot(SnapshotRequest { room, room_sid, sequence, state })).await?;
        Ok(())
    }

    /// Appends the last entry if `expected` is still the last one, and frees the name.
    pub(super) async fn end(&self, expected: u64, entry: Bytes) -> Result<(), LogError> {
        let (name, sid) = (self.name.to_string(), self.sid.to_string());
        within(self.allocator.clone().end_room(EndRoomRequest { name, entry, sid, expected: Some(expected) })).await?;
        Ok(())
    }
}
