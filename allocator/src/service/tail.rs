//! A reader's way along a room's log: it reads what the store has, then waits until the position moves.
//!
//! Only the position is pushed, the entries are always read from where the reader stands: nothing can be missed or come
//! twice, and a slow reader costs no memory.

use std::collections::VecDeque;

use futures_util::{Stream, stream};
use ratssaal_proto::allocator::v1::tail_frame::Frame;
use ratssaal_proto::allocator::v1::{Closed, LogEntries, RoomInfo, TailFrame, TailRequest};
use tokio::sync::watch;
use tonic::Status;

use super::Service;
use crate::refusal::Refusal;
use crate::store::{Chunk, Mark, Position, Store};

/// The frames of a tail.
pub(super) async fn open<S: Store>(
    service: Service<S>,
    request: TailRequest,
) -> Result<impl Stream<Item = Result<TailFrame, Status>> + Send, Refusal> {
    let followed = service.inner.store.follow(&request.room, &request.room_sid).await?;
    if request.after > followed.room.head {
        return Err(Refusal::Conflict { head: followed.room.head });
    }
    let after = Mark { sequence: request.after, at_ms: request.after_at_ms };
    // Whether that entry is still the one which the reader has.
    let first = match after.at_ms {
        0 => Chunk::default(),
        _ => service.inner.store.read(&followed.room.name, &followed.room.sid, after).await?,
    };
    service.inner.metrics.tails.inc();
    let mut cursor = Cursor {
        after,
        follow: request.follow,
        position: followed.position,
        frames: VecDeque::from([Frame::Opened(followed.room.clone())]),
        room: followed.room,
        done: false,
        service,
    };
    if let Some(mark) = first.mark() {
        cursor.take(mark, first);
    }
    Ok(stream::unfold(cursor, |mut cursor| async {
        let item = cursor.next().await?;
        Some((item, cursor))
    }))
}

struct Cursor<S: Store> {
    service: Service<S>,
    room: RoomInfo,
    position: watch::Receiver<Position>,
    /// The last entry the reader has.
    after: Mark,
    follow: bool,
    frames: VecDeque<Frame>,
    done: bool,
}

impl<S: Store> Drop for Cursor<S> {
    fn drop(&mut self) {
        self.service.inner.metrics.tails.dec();
    }
}

impl<S: Store> Cursor<S> {
    async fn next(&mut self) -> Option<Result<TailFrame, Status>> {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                return Some(Ok(TailFrame { frame: Some(frame) }));
            }
            if self.done {
                return None;
            }
            let Position { head, ended } = *self.position.borrow_and_update();
            if self.after.sequence < head {
                if let Err(refusal) = self.read().await {
                    self.done = true;
                    return Some(Err(refusal.into()));
                }
            } else if ended {
                self.frames.push_back(Frame::Closed(Closed {}));
                self.done = true;
            } else if !self.follow || self.position.changed().await.is_err() {
                return None;
            }
        }
    }

    async fn read(&mut self) -> Result<(), Refusal> {
        let chunk = match self.service.inner.store.read(&self.room.name, &self.room.sid, self.after).await {
            Ok(chunk) => chunk,
            // Ended so long ago that its log is gone: all there is to say is that it is closed. One that has not ended is lost,
            // and whoever reads it may know it still.
            Err(Refusal::UnknownRoom(_)) if self.position.borrow().ended => {
                self.frames.push_back(Frame::Closed(Closed {}));
                self.done = true;
                return Ok(());
            }
            Err(refusal) => return Err(refusal),
        };
        // An empty chunk would be a store that breaks its contract; waiting is better than spinning.
        let mark = chunk.mark().ok_or(Refusal::Unavailable {
            reason: "the log could not be read",
            retry_after: self.service.inner.config.report_interval,
            away: false,
        })?;
        self.take(mark, chunk);
        Ok(())
    }

    /// What the reader gets next, up to `mark`.
    fn take(&mut self, mark: Mark, chunk: Chunk) {
        self.after = mark;
        self.frames.extend(chunk.snapshot.map(Frame::Snapshot));
        if !chunk.entries.is_empty() {
            self.frames.push_back(Frame::Entries(LogEntries { entries: chunk.entries }));
        }
    }
}
