//! Rooms: opening, listing, ending, timing out.

use super::*;
use crate::store::{EndIf, Position};

pub(super) async fn opened_once<F: Fixture>() {
    let stage = cluster::<F>(&[]).await;
    let request = |must_be_new| OpenRoomRequest { name: "rat".into(), settings: None, must_be_new };
    let first = stage.store.open(request(true)).await.unwrap();
    let room = first.room.unwrap();
    assert!(first.opened);
    assert_eq!((room.created_ms, room.head, room.seats), (START, 0, 0));
    let settings = room.settings.clone().unwrap();
    assert_eq!((settings.empty_timeout_ms, settings.departure_timeout_ms), (300_000, 20_000), "the defaults are told");
    assert_eq!(stage.store.open(request(true)).await.unwrap_err(), Refusal::RoomExists("rat".into()));
    let found = stage.store.open(request(false)).await.unwrap();
    assert_eq!((found.opened, found.room), (false, Some(room)));
}

pub(super) async fn names_are_free_after_the_end<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    let old = stage.open("rat", RoomSettings::default()).await;
    stage.store.end(end("rat"), EndIf::Always).await.unwrap();
    assert_eq!(stage.room("rat").await, None);
    assert!(is_unknown(&stage.store.end(end("rat"), EndIf::Always).await));
    let new = stage.open("rat", RoomSettings::default()).await;
    assert_ne!(new.sid, old.sid);
    assert!(new.epoch > old.epoch, "though no time has passed");
    let stale = EndRoomRequest { sid: old.sid, ..end("rat") };
    assert!(is_unknown(&stage.store.end(stale, EndIf::Always).await), "the old end does not end the new one");
}

pub(super) async fn pages<F: Fixture>() {
    let stage = cluster::<F>(&[]).await;
    for name in ["c", "a", "e", "b", "d"] {
        stage.open(name, RoomSettings::default()).await;
    }
    let (mut names, mut after) = (vec![], String::new());
    loop {
        let page = ListRoomsRequest { after, limit: 2, ..ListRoomsRequest::default() };
        let page = stage.store.rooms(page).await.unwrap();
        names.extend(page.rooms.into_iter().map(|room| room.name));
        if !page.more {
            break;
        }
        after = names.last().unwrap().clone();
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
    let all = stage.store.rooms(ListRoomsRequest::default()).await.unwrap();
    assert_eq!((all.rooms.len(), all.more), (5, false));
    let named = ListRoomsRequest { names: vec!["d".into(), "x".into(), "a".into()], ..ListRoomsRequest::default() };
    let named = stage.store.rooms(named).await.unwrap().rooms;
    assert_eq!(named.iter().map(|room| room.name.as_str()).collect::<Vec<_>>(), ["d", "a"]);
}

pub(super) async fn ended_with_everything<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.join("rat", "anna").await.unwrap();
    let room = stage.place("rat", "ben").await.unwrap().room.unwrap();
    let mut followed = stage.store.follow("rat", &room.sid).await.unwrap();
    assert_eq!(*followed.position.borrow_and_update(), Position { head: 1, ended: false });

    let early = EndRoomRequest { expected: Some(0), ..end("rat") };
    assert_eq!(stage.store.end(early, EndIf::Always).await, Err(Refusal::Conflict { head: 1 }));
    let ended = stage.store.end(EndRoomRequest { expected: Some(1), ..end("rat") }, EndIf::Always).await.unwrap();
    assert_eq!((ended.head, ended.seats), (2, 2), "as it was, with its last entry");

    assert!(followed.position.has_changed().unwrap());
    assert_eq!(*followed.position.borrow(), Position { head: 2, ended: true });
    assert_eq!(stage.entries(&room, 1).await, ["ended"]);
    assert!(is_unknown(&stage.append(append(&ended, &["more"])).await));
    assert_eq!(stage.store.sweep().await.unwrap().seats, 0);
    stage.pass(10_000);
    stage.report(BridgeReport { sequence: 2, ..report("a") }).await.unwrap();
    assert_eq!(stage.seats("a").await, 0);
}

pub(super) async fn rooms_at_most<F: Fixture>() {
    let stage = stage::<F>(Config { max_rooms: 2, ..Config::default() }).await;
    stage.report(report("a")).await.unwrap();
    stage.open("eins", RoomSettings::default()).await;
    stage.place("zwei", "anna").await.unwrap();
    assert!(is_quota(&stage.place("drei", "ben").await, Quota::Rooms));
    let third = OpenRoomRequest { name: "drei".into(), ..OpenRoomRequest::default() };
    assert!(is_quota(&stage.store.open(third.clone()).await, Quota::Rooms));
    stage.place("eins", "ben").await.expect("an open one can be entered");
    stage.store.end(end("zwei"), EndIf::Always).await.unwrap();
    stage.store.open(third).await.unwrap();
}

/// The names of the rooms whose time is over.
async fn due<S: Store>(stage: &Stage<S>) -> Vec<String> {
    stage.store.sweep().await.unwrap().due.into_iter().map(|room| room.name).collect()
}

pub(super) async fn nobody_came<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.open("rat", RoomSettings::default()).await;
    let settings = RoomSettings { empty_timeout_ms: 60_000, departure_timeout_ms: 1, ..RoomSettings::default() };
    stage.open("kurz", settings).await;
    stage.place("kurz", "anna").await.unwrap();
    stage.pass(59_999);
    assert_eq!(due(&stage).await, [""; 0], "a reservation that lapsed after 10 s is no visit, but delays the end");
    assert_eq!(stage.store.end(end("kurz"), EndIf::Due).await, Err(Refusal::Conflict { head: 0 }));
    stage.pass(10_001);
    assert_eq!(due(&stage).await, ["kurz"]);
    stage.pass(300_000 - 70_001);
    assert_eq!(due(&stage).await, ["kurz"]);
    stage.pass(1);
    assert_eq!(due(&stage).await, ["kurz", "rat"]);
    stage.store.end(end("rat"), EndIf::Due).await.unwrap();
    assert_eq!(due(&stage).await, ["kurz"]);
}

pub(super) async fn nobody_is_left_and_somebody_comes_back<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.join("rat", "anna").await.unwrap();
    let room = stage.room("rat").await.unwrap();
    let leave = AppendRequest { release: vec!["join-anna".into()], ..append(&room, &["left"]) };
    stage.append(leave).await.unwrap();
    stage.pass(19_999);
    assert_eq!(due(&stage).await, [""; 0]);
    stage.pass(1);
    assert_eq!(due(&stage).await, ["rat"]);
    stage.report(BridgeReport { sequence: 2, ..report("a") }).await.unwrap();
    stage.join("rat", "ben").await.unwrap();
    assert_eq!(due(&stage).await, [""; 0]);
    let late = stage.store.end(end("rat"), EndIf::Due).await;
    assert_eq!(late, Err(Refusal::Conflict { head: 3 }), "whoever saw it due is too late");
    stage.release("rat", "join-ben").await;
    stage.pass(20_000);
    assert_eq!(due(&stage).await, ["rat"]);
}

pub(super) async fn ended_rooms_linger<F: Fixture>() {
    let stage = cluster::<F>(&[]).await;
    let room = stage.open("rat", RoomSettings::default()).await;
    stage.append(append(&room, &["one"])).await.unwrap();
    stage.store.end(end("rat"), EndIf::Always).await.unwrap();
    let new = stage.open("rat", RoomSettings::default()).await;
    stage.append(append(&new, &["new"])).await.unwrap();
    stage.pass(59_999);
    stage.store.sweep().await.unwrap();
    let followed = stage.store.follow("rat", &room.sid).await.unwrap();
    assert_eq!(*followed.position.borrow(), Position { head: 2, ended: true });
    assert_eq!(stage.entries(&room, 0).await, ["one", "ended"]);
    assert!(is_unknown(&stage.store.follow("other", &room.sid).await), "not under another name");
    assert_eq!(stage.store.follow("rat", "").await.unwrap().room.sid, new.sid, "without a sid it is the open one");
    stage.pass(1);
    stage.store.sweep().await.unwrap();
    assert!(is_unknown(&stage.store.follow("rat", &room.sid).await));
    assert!(is_unknown(&stage.store.read("rat", &room.sid, 0).await));
}
