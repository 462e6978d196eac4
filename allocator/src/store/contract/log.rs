//! The room log: compare-and-append, reading, snapshots.

use ratssaal_proto::allocator::v1::SnapshotRequest;

use super::*;
use crate::store::{Chunk, Mark, Position};

fn snapshot(room: &RoomInfo, sequence: u64, state: &str) -> SnapshotRequest {
    let state = Bytes::copy_from_slice(state.as_bytes());
    SnapshotRequest { room: room.name.clone(), room_sid: room.sid.clone(), sequence, state }
}

pub(super) async fn compare_and_append<F: Fixture>() {
    let stage = cluster::<F>(&[]).await;
    let room = stage.open("rat", RoomSettings::default()).await;
    let mut followed = stage.store.follow("rat", "").await.unwrap();
    assert_eq!(*followed.position.borrow_and_update(), Position::default());
    stage.pass(5);
    let appended = stage.append(append(&room, &["one", "two"])).await.unwrap();
    assert_eq!((appended.head, appended.at_ms, appended.snapshot_wanted), (2, START + 5, false));
    assert!(followed.position.has_changed().unwrap());
    assert_eq!(*followed.position.borrow_and_update(), Position { head: 2, ended: false });

    assert_eq!(stage.append(append(&room, &["late"])).await, Err(Refusal::Conflict { head: 2 }));
    let early = AppendRequest { expected: 3, ..append(&room, &["early"]) };
    assert_eq!(stage.append(early).await, Err(Refusal::Conflict { head: 2 }));
    assert!(!followed.position.has_changed().unwrap());

    stage.pass(5);
    stage.append(AppendRequest { expected: 2, ..append(&room, &["three"]) }).await.unwrap();
    let chunk = stage.store.read("rat", &room.sid, 0).await.unwrap();
    let seen: Vec<_> = chunk.entries.iter().map(|e| (e.sequence, e.at_ms - START, text(&e.entry))).collect();
    assert_eq!(seen, [(1, 5, "one".into()), (2, 5, "two".into()), (3, 10, "three".into())]);
    assert_eq!(stage.entries(&room, 2).await, ["three"]);
    assert_eq!(stage.store.read("rat", &room.sid, 3).await, Ok(Chunk::default()));
    assert_eq!(stage.store.read("rat", &room.sid, 4).await, Err(Refusal::Conflict { head: 3 }));
}

pub(super) async fn another_entry_of_that_number<F: Fixture>() {
    let stage = cluster::<F>(&[]).await;
    let room = stage.open("rat", RoomSettings::default()).await;
    stage.pass(5);
    let at_ms = stage.append(append(&room, &["one", "two"])).await.unwrap().at_ms;
    let read = |sequence, at_ms| stage.store.read("rat", &room.sid, Mark { sequence, at_ms });
    assert_eq!(read(1, at_ms).await.unwrap().mark(), Some(Mark { sequence: 2, at_ms }));
    assert_eq!(read(2, at_ms).await, Ok(Chunk::default()));
    for sequence in [1, 2] {
        assert_eq!(read(sequence, at_ms + 1).await, Err(Refusal::Conflict { head: 2 }));
    }
    let third = |expected_at_ms| AppendRequest { expected: 2, expected_at_ms, ..append(&room, &["three"]) };
    assert_eq!(stage.append(third(at_ms - 1)).await, Err(Refusal::Conflict { head: 2 }));
    assert_eq!(stage.append(third(at_ms)).await.unwrap().head, 3);
    assert!(stage.store.snapshot(snapshot(&room, 3, "state")).await.unwrap());
    for head in 3..100 {
        stage.append(AppendRequest { expected: head, ..append(&room, &["more"]) }).await.unwrap();
    }
    assert!(stage.store.snapshot(snapshot(&room, 100, "state")).await.unwrap());
    let chunk = read(2, at_ms + 1).await.unwrap();
    assert_eq!(chunk.mark(), Some(Mark::from(100)), "what is not there any more is replaced by the snapshot");
}

pub(super) async fn only_this_opening<F: Fixture>() {
    let stage = cluster::<F>(&[]).await;
    let room = stage.open("rat", RoomSettings::default()).await;
    let other = RoomInfo { sid: "RM_other".into(), ..room.clone() };
    assert!(is_unknown(&stage.append(append(&other, &["x"])).await));
    assert!(is_unknown(&stage.store.snapshot(snapshot(&other, 0, "x")).await));
    assert!(is_unknown(&stage.store.follow("rat", "RM_other").await));
    assert!(is_unknown(&stage.store.read("rat", "RM_other", 0).await));
    assert_eq!(stage.room("rat").await, Some(room));
}

pub(super) async fn seats_move_with_entries<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.join("rat", "anna").await.unwrap();
    let room = stage.place("rat", "ben").await.unwrap().room.unwrap();
    let change = AppendRequest {
        confirm: vec!["join-ben".into()],
        release: vec!["join-anna".into(), "never seen".into()],
        ..append(&room, &["joined", "left"])
    };
    let too_early = AppendRequest { expected: 0, ..change.clone() };
    assert_eq!(stage.append(too_early).await, Err(Refusal::Conflict { head: 1 }));
    assert_eq!(stage.room("rat").await.unwrap().seats, 2, "refused as a whole");
    stage.append(change).await.unwrap();
    assert_eq!(stage.room("rat").await.unwrap().seats, 1);
    stage.pass(10_000);
    assert_eq!(stage.room("rat").await.unwrap().seats, 1, "ben's is confirmed");
}

pub(super) async fn snapshots_and_late_readers<F: Fixture>() {
    let stage = stage::<F>(Config { snapshot_after: 100, ..Config::default() }).await;
    let room = stage.open("rat", RoomSettings::default()).await;
    for head in 0..400 {
        let request = AppendRequest { expected: head, ..append(&room, &[&(head + 1).to_string()]) };
        assert_eq!(stage.append(request).await.unwrap().snapshot_wanted, head + 1 >= 100);
    }
    let everything: Vec<String> = (1..=400).map(|number| number.to_string()).collect();
    assert_eq!(stage.entries(&room, 0).await, everything);
    assert!(stage.store.snapshot(snapshot(&room, 300, "state")).await.unwrap());
    assert!(!stage.store.snapshot(snapshot(&room, 299, "older")).await.unwrap());
    assert!(!stage.store.snapshot(snapshot(&room, 300, "same")).await.unwrap());
    for after in [0, 10, 299] {
        let chunk = stage.store.read("rat", &room.sid, after).await.unwrap();
        let from = match chunk.snapshot {
            Some(snapshot) => {
                assert_eq!((snapshot.sequence, &snapshot.state[..]), (300, &b"state"[..]));
                300
            }
            None => after,
        };
        assert!(after != 0 || from == 300, "a fresh reader starts at the snapshot");
        assert_eq!(chunk.entries[0].sequence, from + 1);
    }
    let near = stage.store.read("rat", &room.sid, 350).await.unwrap();
    assert_eq!((near.snapshot, near.entries.len()), (None, 50));
    let appended = stage.append(AppendRequest { expected: 400, ..append(&room, &["401"]) }).await.unwrap();
    assert!(appended.snapshot_wanted, "101 entries after the snapshot");
    assert!(stage.store.snapshot(snapshot(&room, 401, "state")).await.unwrap());
    assert_eq!(stage.entries(&room, 0).await, [""; 0]);
    assert_eq!(stage.store.read("rat", &room.sid, 0).await.unwrap().last(), Some(401));
}

pub(super) async fn no_state_from_the_future<F: Fixture>() {
    let stage = cluster::<F>(&[]).await;
    let room = stage.open("rat", RoomSettings::default()).await;
    stage.append(append(&room, &["one"])).await.unwrap();
    assert!(matches!(stage.store.snapshot(snapshot(&room, 2, "x")).await, Err(Refusal::Invalid(_))));
    assert_eq!(stage.entries(&room, 0).await, ["one"]);
}

pub(super) async fn quota_until_a_snapshot<F: Fixture>() {
    let stage = stage::<F>(Config { max_log_entries: 3, snapshot_after: 3, ..Config::default() }).await;
    let room = stage.open("rat", RoomSettings::default()).await;
    let more = |expected, entries: &[&str]| AppendRequest { expected, ..append(&room, entries) };
    stage.append(more(0, &["1", "2"])).await.unwrap();
    assert!(is_quota(&stage.append(more(2, &["3", "4"])).await, Quota::Log), "all or nothing");
    assert_eq!(stage.append(more(2, &["3"])).await.unwrap().head, 3);
    assert!(is_quota(&stage.append(more(3, &["4"])).await, Quota::Log));
    assert_eq!(
        stage.store.append(more(3, &["left"]), Writer::Reaper).await.unwrap().head,
        4,
        "the reaper gets through"
    );
    stage.store.snapshot(snapshot(&room, 3, "state")).await.unwrap();
    stage.append(more(4, &["5", "6"])).await.unwrap();
    assert!(is_quota(&stage.append(more(6, &["7"])).await, Quota::Log));
}
