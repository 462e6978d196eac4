//! What must hold however calls interleave: many tasks on several threads at one store.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use ratssaal_proto::allocator::v1::SnapshotRequest;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::*;

/// Runs tasks that start together; their results in order of their numbers.
async fn together<T: Send + 'static, W: Future<Output = T> + Send + 'static>(
    count: usize,
    work: impl Fn(usize) -> W,
) -> Vec<T> {
    let barrier = Arc::new(Barrier::new(count));
    let mut tasks = JoinSet::new();
    for number in 0..count {
        let (barrier, work) = (Arc::clone(&barrier), work(number));
        tasks.spawn(async move {
            barrier.wait().await;
            (number, work.await)
        });
    }
    let mut results = tasks.join_all().await;
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

pub(super) async fn one_room_and_one_seat_each<F: Fixture>() {
    for repetition in 0..20 {
        let stage = cluster::<F>(&["a", "b", "c"]).await;
        let placed = together(200, |number| {
            let store = Arc::clone(&stage.store);
            async move { store.place(placement("rat", &number.to_string())).await.unwrap() }
        })
        .await;
        assert_eq!(placed.iter().filter(|placed| placed.opened).count(), 1, "repetition {repetition}");
        let sids: BTreeSet<_> = placed.iter().map(|placed| &placed.room.as_ref().unwrap().sid).collect();
        assert_eq!(sids.len(), 1, "repetition {repetition}");
        let mut per_bridge: BTreeMap<&str, u32> = BTreeMap::new();
        for placed in &placed {
            *per_bridge.entry(&placed.seat.as_ref().unwrap().bridge).or_default() += 1;
        }
        let room = stage.room("rat").await.unwrap();
        assert_eq!(room.seats, 200);
        for bridge in &room.bridges {
            assert_eq!(per_bridge[bridge.bridge.as_str()], bridge.seats, "each participant exactly once");
            assert_eq!(stage.seats(&bridge.bridge).await, bridge.seats);
        }
    }
}

pub(super) async fn no_limit_is_overshot<F: Fixture>() {
    let stage = cluster::<F>(&[]).await;
    for bridge in ["a", "b", "c"] {
        stage.report(BridgeReport { load: with_seats(0, 20), ..report(bridge) }).await.unwrap();
    }
    stage.open("klein", RoomSettings { max_participants: 13, ..RoomSettings::default() }).await;
    let placed = together(300, |number| {
        let store = Arc::clone(&stage.store);
        let room = if number % 3 == 0 { "klein".to_owned() } else { format!("rat-{}", number % 7) };
        async move { store.place(placement(&room, &number.to_string())).await }
    })
    .await;
    let in_small = placed.iter().step_by(3).filter(|placed| placed.is_ok()).count();
    assert!(in_small <= 13, "{in_small}");
    let (mut all, mut refused) = (0, 0);
    for result in &placed {
        match result {
            Ok(_) => all += 1,
            Err(Refusal::Full { .. } | Refusal::Quota(Quota::Participants)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!((all, refused), (60, 240), "every seat is used, none twice");
    for bridge in ["a", "b", "c"] {
        assert_eq!(stage.seats(bridge).await, 20);
    }
}

pub(super) async fn one_join_many_retries<F: Fixture>() {
    let stage = cluster::<F>(&["a", "b", "c"]).await;
    let placed = together(100, |_| {
        let store = Arc::clone(&stage.store);
        async move { store.place(placement("rat", "anna")).await.unwrap().seat.unwrap() }
    })
    .await;
    assert!(placed.iter().all(|seat| seat == &placed[0]));
    assert_eq!(stage.room("rat").await.unwrap().seats, 1);
    assert_eq!(stage.store.sweep().await.unwrap().seats, 1);
}

pub(super) async fn one_writer_per_position<F: Fixture>() {
    const WRITERS: usize = 16;
    const ROUNDS: u64 = 50;
    let stage = cluster::<F>(&[]).await;
    let room = stage.open("rat", RoomSettings::default()).await;
    for head in 0..ROUNDS {
        let results = together(WRITERS, |number| {
            let (store, room) = (Arc::clone(&stage.store), room.clone());
            async move {
                let request = AppendRequest { expected: head, ..append(&room, &[&number.to_string()]) };
                store.append(request, Writer::Bridge).await
            }
        })
        .await;
        let winners: Vec<usize> = (0..WRITERS).filter(|&number| results[number].is_ok()).collect();
        let [winner] = winners.as_slice() else { panic!("one winner expected: {winners:?}") };
        let losers = results.iter().filter(|result| **result == Err(Refusal::Conflict { head: head + 1 })).count();
        assert_eq!(losers, WRITERS - 1);
        assert_eq!(stage.entries(&room, head).await, [winner.to_string()]);
    }
}

/// Readers that come, fall behind and go on, while writers append and a third party snapshots: each ends with exactly
/// the entries that were appended, in one order.
pub(super) async fn tails_see_all_entries_once<F: Fixture>() {
    const WRITERS: usize = 4;
    const EACH: usize = 200;
    const READERS: usize = 4;
    let stage = stage::<F>(Config { snapshot_after: 20, ..Config::default() }).await;
    let room = stage.open("rat", RoomSettings::default()).await;
    let histories = together(WRITERS + READERS, |number| {
        let (store, room) = (Arc::clone(&stage.store), room.clone());
        async move {
            if number < WRITERS {
                write(&*store, &room, number, EACH).await;
                return None;
            }
            Some(read(&*store, &room, WRITERS * EACH).await)
        }
    })
    .await;
    let histories: Vec<Vec<String>> = histories.into_iter().flatten().collect();
    assert_eq!(histories.len(), READERS);
    for history in &histories {
        assert_eq!(history, &histories[0], "one order for all");
        assert_eq!(history.iter().collect::<BTreeSet<_>>().len(), WRITERS * EACH, "nothing twice");
    }
    for writer in 0..WRITERS {
        let prefix = format!("{writer}:");
        let own = histories[0].iter().filter(|entry| entry.starts_with(&prefix));
        let expected = (0..EACH).map(|number| format!("{writer}:{number}"));
        assert!(own.cloned().eq(expected), "each writer's entries in his order");
    }
}

async fn write(store: &impl Store, room: &RoomInfo, writer: usize, count: usize) {
    let mut expected = 0;
    for number in 0..count {
        loop {
            let request = AppendRequest { expected, ..append(room, &[&format!("{writer}:{number}")]) };
            match store.append(request, Writer::Bridge).await {
                Ok(appended) => break expected = appended.head,
                Err(Refusal::Conflict { head }) => expected = head,
                Err(other) => panic!("{other}"),
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Follows until it has so many entries; its state is the list of them, and each now and then it stores that as a
/// snapshot.
async fn read(store: &impl Store, room: &RoomInfo, count: usize) -> Vec<String> {
    let mut position = store.follow(&room.name, &room.sid).await.unwrap().position;
    let mut state: Vec<String> = vec![];
    while state.len() < count {
        let head = position.borrow_and_update().head;
        if head == state.len() as u64 {
            position.changed().await.unwrap();
            continue;
        }
        let chunk = store.read(&room.name, &room.sid, state.len() as u64).await.unwrap();
        if let Some(snapshot) = chunk.snapshot {
            state = text(&snapshot.state).split(',').map(str::to_owned).collect();
            assert_eq!(state.len() as u64, snapshot.sequence);
        }
        for entry in chunk.entries {
            assert_eq!(entry.sequence, state.len() as u64 + 1, "no gap, nothing twice");
            state.push(text(&entry.entry));
        }
        if state.len().is_multiple_of(3) {
            let (sequence, state) = (state.len() as u64, state.join(",").into());
            let request = SnapshotRequest { room: room.name.clone(), room_sid: room.sid.clone(), sequence, state };
            store.snapshot(request).await.unwrap();
        }
    }
    state
}

pub(super) async fn a_burst_is_spread_evenly<F: Fixture>() {
    let stage = cluster::<F>(&[]).await;
    for number in 0..10 {
        let load = with_seats(0, 1000);
        stage.report(BridgeReport { load, ..report(&format!("bridge-{number}")) }).await.unwrap();
    }
    together(1000, |number| {
        let store = Arc::clone(&stage.store);
        async move { store.place(placement(&format!("rat-{number}"), "anna")).await.unwrap() }
    })
    .await;
    for number in 0..10 {
        assert_eq!(stage.seats(&format!("bridge-{number}")).await, 100);
    }
}

/// Two allocators reap the same participants while a bridge logs something else: each leaves exactly once.
pub(super) async fn release_and_reap_race<F: Fixture>() {
    for _ in 0..20 {
        let stage = cluster::<F>(&["a"]).await;
        for person in 0..10 {
            stage.join("rat", &person.to_string()).await.unwrap();
        }
        stage.pass(13_000);
        let room = stage.room("rat").await.unwrap();
        together(3, |number| {
            let (store, room) = (Arc::clone(&stage.store), room.clone());
            async move {
                if number == 0 {
                    write(&*store, &room, 0, 5).await;
                    return;
                }
                while let Some(lost) = store.sweep().await.unwrap().lost.pop() {
                    let release: Vec<String> = lost.seats.iter().map(|seat| seat.join_id.clone()).collect();
                    let left: Vec<&str> = lost.seats.iter().map(|seat| seat.participant_sid.as_str()).collect();
                    let request = AppendRequest { release, ..append(&lost.room, &left) };
                    match store.append(request, Writer::Reaper).await {
                        Ok(_) | Err(Refusal::Conflict { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        })
        .await;
        let mut left: Vec<String> = stage.entries(&room, 10).await;
        left.retain(|entry| entry.starts_with("PA_"));
        left.sort();
        assert_eq!(left, (0..10).map(|person| format!("PA_{person}")).collect::<Vec<_>>());
        assert_eq!(stage.store.sweep().await.unwrap().seats, 0);
    }
}
