//! What nobody else can do: log that participants left with their bridge, and end rooms nobody is in.
//!
//! Any number of allocators may reap at once: an append expects the head the sweep saw, so one of them wins, and the
//! others find nothing left to do.

use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use ratssaal_proto::allocator::v1::{AppendRequest, EndRoomRequest, RoomInfo};
use ratssaal_proto::room::v1::entry::Event;
use ratssaal_proto::room::v1::{EndReason, Ended, Entry, LeaveReason, Left};
use tracing::{debug, info, warn};

use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::store::{EndIf, Lost, Store, Writer};

/// Version of the entries written here (room.v1 `Entry.version`).
const ENTRY_VERSION: u32 = 1;
/// Participants logged as left in one step.
const BATCH: usize = 64;

/// Whether this allocator may judge who is lost. One that just began, that was itself held up for long (a paused process, a
/// starved machine, a store that was away), or whose store's clock was set, has missed reports or the time to take them: it
/// first gives every bridge the time to report again.
#[derive(Debug)]
pub(crate) struct Judge {
    expiry: Duration,
    /// When it last looked, and the store's time then, ms.
    last: (Instant, Option<u64>),
    silent_until: Instant,
}

impl Judge {
    pub(crate) fn new(now: Instant, expiry: Duration) -> Self {
        Self { expiry, last: (now, None), silent_until: now + expiry }
    }

    /// To be asked in each round in which the store answered, with its time.
    pub(crate) fn may_judge(&mut self, now: Instant, store_ms: u64) -> bool {
        let (last, last_ms) = std::mem::replace(&mut self.last, (now, Some(store_ms)));
        let passed = Duration::from_millis(last_ms.map_or(0, |last_ms| store_ms.saturating_sub(last_ms)));
        if now.duration_since(last).max(passed) >= self.expiry {
            self.silent_until = now + self.expiry;
        }
        now >= self.silent_until
    }
}

/// Looks around, and deals with everything that is found if it may judge. What could not be done (a conflict) is left for the
/// next round. Answers whether the store answered.
pub(crate) async fn reap(store: &impl Store, metrics: &Metrics, judge: &mut Judge) -> bool {
    let sweep = match store.sweep().await {
        Ok(sweep) => sweep,
        Err(refusal) => {
            debug!(%refusal, "cannot look for lost bridges and empty rooms");
            return false;
        }
    };
    match store.bridges().await {
        Ok(bridges) => metrics.census(&sweep, &bridges),
        Err(refusal) => debug!(%refusal, "cannot count the bridges"),
    }
    if !judge.may_judge(Instant::now(), sweep.now_ms) {
        return true;
    }
    for lost in sweep.lost {
        reap_seats(store, metrics, lost).await;
    }
    for room in sweep.due {
        end_room(store, metrics, room).await;
    }
    true
}

async fn reap_seats(store: &impl Store, metrics: &Metrics, lost: Lost) {
    let Lost { room, seats } = lost;
    let mut expected = room.head;
    for batch in seats.chunks(BATCH) {
        let left = |sid: &str| Event::Left(Left { sid: sid.to_owned(), reason: LeaveReason::BridgeLost.into() });
        let request = AppendRequest {
            room: room.name.clone(),
            room_sid: room.sid.clone(),
            expected,
            entries: batch.iter().map(|seat| entry(left(&seat.participant_sid))).collect(),
            release: batch.iter().map(|seat| seat.join_id.clone()).collect(),
            ..AppendRequest::default()
        };
        match store.append(request, Writer::Reaper).await {
            Ok(appended) => expected = appended.head,
            Err(refusal) => return debug!(room = room.name, %refusal, "reaping waits for the next round"),
        }
        metrics.reaped(batch.len());
    }
    let bridge = seats.first().map_or("", |seat| seat.bridge.as_str());
    info!(room = room.name, bridge, participants = seats.len(), "participants left with their lost bridge");
}

async fn end_room(store: &impl Store, metrics: &Metrics, room: RoomInfo) {
    let RoomInfo { name, sid, .. } = room;
    let ended = Event::Ended(Ended { reason: EndReason::Empty.into() });
    let request = EndRoomRequest { name: name.clone(), sid, entry: entry(ended), expected: None };
    match store.end(request, EndIf::Due).await {
        Ok(_) => {
            metrics.room_expired();
            info!(room = name, "room ended, nobody was in it");
        }
        Err(Refusal::Conflict { .. } | Refusal::UnknownRoom(_)) => debug!(room = name, "room is in use again"),
        Err(refusal) => warn!(room = name, %refusal, "cannot end an empty room"),
    }
}

fn entry(event: Event) -> Bytes {
    Entry { version: ENTRY_VERSION, event: Some(event) }.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_away_does_not_judge() {
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        let mut judge = Judge::new(began, Duration::from_secs(3));
        // Our milliseconds, the store's, whether it may judge.
        let rounds = [
            (0, 0, false),
            (2_500, 2_500, false),
            (3_000, 3_000, true),
            (5_500, 5_500, true),
            (20_000, 20_000, false),
            (22_900, 22_900, false),
            (23_000, 23_000, true),
            (25_999, 25_999, true),
            (28_999, 28_999, false),
            (31_998, 31_998, false),
            (34_000, 34_000, true),
            (36_000, 36_000, true),
            (36_500, 636_500, false),
            (39_400, 639_400, false),
            (39_500, 639_500, true),
        ];
        for (millis, store, expected) in rounds {
            assert_eq!(judge.may_judge(at(millis), 1_000_000 + store), expected, "at {millis} ms");
        }
    }
}
