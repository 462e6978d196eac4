//! Seats: placing, confirming, lapsing, giving back, limits.

use super::*;

pub(super) async fn opened_by_the_first<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    let closed = PlaceRequest { open: None, ..placement("rat", "anna") };
    assert!(is_unknown(&stage.store.place(closed.clone()).await));
    let settings = RoomSettings { max_participants: 7, ..RoomSettings::default() };
    let opening = PlaceRequest { open: Some(settings), ..placement("rat", "ben") };
    let placed = stage.store.place(opening).await.unwrap();
    let room = placed.room.unwrap();
    assert!(placed.opened && room.settings.as_ref().unwrap().max_participants == 7, "{room:?}");
    let seat = placed.seat.unwrap();
    assert_eq!((seat.bridge.as_str(), seat.bridge_address.as_str()), ("a", "https://a:7881"));
    assert_eq!(placed.reserved_ms, 10_000);
    let placed = stage.store.place(closed).await.unwrap();
    assert_eq!((placed.opened, placed.room.unwrap().sid), (false, room.sid));
}

pub(super) async fn the_same_join_the_same_seat<F: Fixture>() {
    let stage = cluster::<F>(&["a", "b", "c"]).await;
    let first = stage.place("rat", "anna").await.unwrap();
    stage.pass(1_000);
    let second = stage.place("rat", "anna").await.unwrap();
    assert_eq!(second.seat, first.seat);
    assert_eq!((second.opened, second.replaced, second.reserved_ms), (false, None, 9_000));
    assert_eq!(stage.room("rat").await.unwrap().seats, 1);
    let bridge = first.seat.unwrap().bridge;
    assert_eq!(stage.seats(&bridge).await, 1);
    let elsewhere = PlaceRequest { avoid: vec![bridge.clone()], ..placement("rat", "anna") };
    let third = stage.store.place(elsewhere).await.unwrap();
    assert_ne!(third.seat.unwrap().bridge, bridge, "the caller could not reach it");
    assert_eq!((stage.room("rat").await.unwrap().seats, stage.seats(&bridge).await), (1, 0));
    let other_room = stage.place("zwei", "anna").await.unwrap();
    assert!(other_room.opened, "a join id is one of its room");
}

pub(super) async fn a_join_id_is_one_participants<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.place("rat", "anna").await.unwrap();
    let thief = PlaceRequest { join_id: "join-anna".into(), ..placement("rat", "ben") };
    let refused = stage.store.place(thief).await;
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    assert_eq!((stage.room("rat").await.unwrap().seats, stage.seats("a").await), (1, 1));
}

pub(super) async fn a_seat_is_not_kept_on_a_dead_bridge<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.place("rat", "anna").await.unwrap();
    stage.pass(3_000);
    stage.report(report("b")).await.unwrap();
    assert_eq!(bridge_of(stage.place("rat", "anna").await), ok("b"));
    assert_eq!(stage.room("rat").await.unwrap().seats, 1);
}

pub(super) async fn the_same_identity_comes_anew<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    let old = stage.join("rat", "anna").await.unwrap();
    let anew = PlaceRequest { join_id: "again".into(), participant_sid: "PA_new".into(), ..placement("rat", "anna") };
    let placed = stage.store.place(anew).await.unwrap();
    assert_eq!(placed.replaced, Some(Seat { confirmed: true, ..old }));
    let room = placed.room.unwrap();
    assert_eq!(room.seats, 1);
    let confirm = |id: &str| AppendRequest { confirm: vec![id.into()], ..append(&room, &["joined"]) };
    assert_eq!(stage.append(confirm("join-anna")).await, Err(Refusal::Lapsed("join-anna".into())));
    assert!(!stage.release("rat", "join-anna").await, "the old session's goodbye does not take the new seat");
    stage.append(confirm("again")).await.unwrap();
    assert_eq!(stage.room("rat").await.unwrap().seats, 1);
}

pub(super) async fn unconfirmed_seats_lapse<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.place("rat", "anna").await.unwrap();
    for sequence in 2..=4 {
        stage.pass(2_500);
        stage.report(BridgeReport { sequence, ..report("a") }).await.unwrap();
    }
    stage.pass(2_499);
    assert_eq!((stage.room("rat").await.unwrap().seats, stage.seats("a").await), (1, 1));
    stage.pass(1);
    assert_eq!((stage.room("rat").await.unwrap().seats, stage.seats("a").await), (0, 0));
    let placed = stage.place("rat", "anna").await.unwrap();
    assert_eq!(placed.reserved_ms, 10_000, "the same join may try again");
    stage.pass(2_500);
    assert_eq!(stage.room("rat").await.unwrap().seats, 1, "and its earlier lapse is no matter");
}

pub(super) async fn confirmed_seats_stay<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.join("rat", "anna").await.unwrap();
    for sequence in 2..=30 {
        stage.pass(1_000);
        let joined = if sequence == 2 { vec!["join-anna".to_owned()] } else { vec![] };
        stage.report(BridgeReport { sequence, joined, load: with_seats(1, 100), ..report("a") }).await.unwrap();
    }
    let placed = stage.place("rat", "anna").await.unwrap();
    assert!(placed.seat.unwrap().confirmed);
    assert_eq!((placed.room.unwrap().seats, stage.seats("a").await), (1, 1));
    assert_eq!(stage.store.sweep().await.unwrap().due, []);
}

pub(super) async fn lapsed_seats_cannot_be_confirmed<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.join("rat", "ben").await.unwrap();
    let room = stage.place("rat", "anna").await.unwrap().room.unwrap();
    stage.pass(10_000);
    let request = AppendRequest { confirm: vec!["join-anna".into()], ..append(&room, &["joined"]) };
    assert_eq!(stage.append(request).await, Err(Refusal::Lapsed("join-anna".into())));
    let room = stage.room("rat").await.unwrap();
    assert_eq!((room.head, room.seats), (1, 1), "and nothing was logged");
}

pub(super) async fn full_is_full<F: Fixture>() {
    let stage = cluster::<F>(&[]).await;
    for bridge in ["a", "b"] {
        stage.report(BridgeReport { load: with_seats(0, 2), ..report(bridge) }).await.unwrap();
    }
    let mut bridges = vec![];
    for person in ["anna", "ben", "cem", "dora"] {
        bridges.push(bridge_of(stage.place("rat", person).await).unwrap());
    }
    bridges.sort();
    assert_eq!(bridges, ["a", "a", "b", "b"]);
    assert_eq!(bridge_of(stage.place("rat", "emil").await), full());
    assert_eq!(bridge_of(stage.place("zwei", "emil").await), full());
    assert_eq!(stage.room("zwei").await, None, "no room is left behind");
    assert!(stage.release("rat", "join-ben").await);
    assert!(stage.place("zwei", "emil").await.is_ok());
}

pub(super) async fn participants_at_most<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.open("rat", RoomSettings { max_participants: 2, ..RoomSettings::default() }).await;
    stage.join("rat", "anna").await.unwrap();
    stage.place("rat", "ben").await.unwrap();
    assert!(is_quota(&stage.place("rat", "cem").await, Quota::Participants));
    let again = PlaceRequest { join_id: "again".into(), ..placement("rat", "anna") };
    stage.store.place(again).await.expect("who is in may come in anew");
    stage.pass(10_000);
    stage.report(BridgeReport { sequence: 2, ..report("a") }).await.unwrap();
    stage.place("rat", "cem").await.expect("ben's reservation has lapsed");
}

pub(super) async fn pinned_to_a_site<F: Fixture>() {
    let stage = cluster::<F>(&[]).await;
    for (bridge, site, limit) in [("a", "nord", 1), ("b", "süd", 50)] {
        let load = with_seats(0, limit);
        stage.report(BridgeReport { site: site.into(), load, ..report(bridge) }).await.unwrap();
    }
    stage.open("rat", RoomSettings { site_pin: "nord".into(), ..RoomSettings::default() }).await;
    let near = |identity: &str| PlaceRequest { sites: vec!["süd".into()], ..placement("rat", identity) };
    assert_eq!(bridge_of(stage.store.place(near("anna")).await), ok("a"));
    assert_eq!(stage.store.place(near("ben")).await.unwrap_err(), Refusal::Full { free_elsewhere: 50 });
    let free = PlaceRequest { room: "zwei".into(), ..near("ben") };
    assert_eq!(bridge_of(stage.store.place(free).await), ok("b"));
}

pub(super) async fn released_seats_return<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    let room = stage.place("rat", "anna").await.unwrap().room.unwrap();
    let stale = ReleaseRequest { room: "rat".into(), room_sid: "RM_other".into(), join_id: "join-anna".into() };
    assert!(!stage.store.release(stale).await.unwrap(), "not of this opening");
    let request = ReleaseRequest { room: "rat".into(), room_sid: room.sid, join_id: "join-anna".into() };
    assert!(stage.store.release(request.clone()).await.unwrap());
    assert!(!stage.store.release(request).await.unwrap(), "once is enough, twice is no harm");
    assert_eq!((stage.room("rat").await.unwrap().seats, stage.seats("a").await), (0, 0));
    assert!(!stage.release("nowhere", "join-anna").await);
}

pub(super) async fn an_older_lapse_is_no_matter<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.place("rat", "anna").await.unwrap();
    assert!(stage.release("rat", "join-anna").await);
    stage.pass(2_500);
    stage.place("rat", "anna").await.unwrap();
    for sequence in 2..=4 {
        stage.pass(2_500);
        stage.report(BridgeReport { sequence, ..report("a") }).await.unwrap();
    }
    let figures = async || (stage.room("rat").await.unwrap().seats, stage.seats("a").await);
    assert_eq!(figures().await, (1, 1), "the first would have lapsed now");
    stage.pass(2_500);
    assert_eq!(figures().await, (0, 0), "the second has");
}

pub(super) async fn spilling<F: Fixture>() {
    let stage = stage::<F>(Config { max_room_bridges: 2, ..Config::default() }).await;
    for bridge in ["a", "b", "c"] {
        stage.report(BridgeReport { load: with_seats(0, 10), ..report(bridge) }).await.unwrap();
    }
    let mut bridges = vec![];
    for person in 0..20 {
        bridges.push(bridge_of(stage.place("rat", &person.to_string()).await).unwrap());
    }
    assert!(bridges[..9].iter().all(|bridge| bridge == &bridges[0]), "whole up to the mark: {bridges:?}");
    assert!(bridges[9..18].iter().all(|bridge| bridge == &bridges[9]), "then the next: {bridges:?}");
    assert_ne!(bridges[0], bridges[9]);
    assert!(is_quota(&stage.place("rat", "late").await, Quota::RoomBridges));
    let placed = stage.place("zwei", "late").await;
    assert!(!bridges.contains(&bridge_of(placed).unwrap()), "others have the third bridge");
    let mut room = stage.room("rat").await.unwrap().bridges;
    room.sort_by(|a, b| a.bridge.cmp(&b.bridge));
    assert_eq!(room.iter().map(|bridge| bridge.seats).collect::<Vec<_>>(), [10, 10]);
}

/// An append that brings somebody in on a seat that the bridge gave by its lease.
fn claiming(room: &RoomInfo, bridge: &str, identity: &str, join_id: &str) -> AppendRequest {
    let seat = Seat {
        join_id: join_id.into(),
        identity: identity.into(),
        participant_sid: format!("PA_{join_id}"),
        bridge: bridge.into(),
        ..Seat::default()
    };
    AppendRequest { confirm: vec![join_id.into()], claim: vec![seat], ..append(room, &["joined"]) }
}

pub(super) async fn lent_seats_are_claimed<F: Fixture>() {
    let stage = cluster::<F>(&["a", "b"]).await;
    let room = stage.open("rat", RoomSettings { max_participants: 1, ..RoomSettings::default() }).await;
    let old = stage.join("rat", "anna").await.unwrap();
    let stale = claiming(&room, "a", "ben", "lease-1");
    assert!(matches!(stage.append(stale).await, Err(Refusal::Conflict { .. })));
    assert_eq!(stage.room("rat").await.unwrap().seats, 1, "all or nothing");

    // The bridge's word counts, whatever limit a placement would keep; it counts like a seat that was placed.
    let room = stage.room("rat").await.unwrap();
    stage.append(claiming(&room, "a", "ben", "lease-1")).await.unwrap();
    let other = if old.bridge == "a" { 1 } else { 0 };
    assert_eq!((stage.room("rat").await.unwrap().seats, stage.seats("a").await), (2, 1 + other));
    let report = |sequence, joined: &[&str]| BridgeReport {
        sequence,
        load: with_seats(1, 100),
        joined: joined.iter().map(|&id| id.to_owned()).collect(),
        ..report("a")
    };
    stage.report(report(2, &["lease-1"])).await.unwrap();
    assert_eq!(stage.seats("a").await, 1 + other, "once");

    // The same identity is in once: the claimed seat takes the other's place.
    let room = stage.room("rat").await.unwrap();
    let again = AppendRequest { release: vec![old.join_id.clone()], ..claiming(&room, "b", "anna", "lease-2") };
    stage.append(again).await.unwrap();
    let room = stage.room("rat").await.unwrap();
    assert_eq!((room.seats, stage.release("rat", &old.join_id).await), (2, false));
    stage.pass(10_000);
    assert_eq!(stage.room("rat").await.unwrap().seats, 2, "they are lasting");
    assert!(stage.release("rat", "lease-2").await);
}

pub(super) async fn claims_that_cannot_be<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.join("rat", "anna").await.unwrap();
    let room = stage.room("rat").await.unwrap();
    let foreign = stage.append(claiming(&room, "a", "ben", "join-anna")).await;
    assert!(matches!(foreign, Err(Refusal::Invalid(_))), "{foreign:?}");
    assert!(is_unavailable(&stage.append(claiming(&room, "b", "ben", "lease")).await), "no such bridge");
    stage.pass(3_000);
    assert!(is_unavailable(&stage.append(claiming(&room, "a", "ben", "lease")).await), "not back yet");
    stage.report(BridgeReport { sequence: 2, ..report("a") }).await.unwrap();
    stage.append(claiming(&room, "a", "ben", "lease")).await.unwrap();
    let room = stage.room("rat").await.unwrap();
    assert_eq!(room.seats, 2);
    // A reserved seat that is claimed is confirmed; one that has lapsed is taken anew.
    stage.place("rat", "cem").await.unwrap();
    stage.append(claiming(&room, "a", "cem", "join-cem")).await.unwrap();
    let room = stage.room("rat").await.unwrap();
    let twice = AppendRequest {
        claim: [claiming(&room, "a", "dora", "first").claim, claiming(&room, "a", "dora", "second").claim].concat(),
        confirm: vec!["first".into(), "second".into()],
        release: vec!["first".into()],
        ..append(&room, &["joined", "left", "joined"])
    };
    stage.append(twice).await.unwrap();
    assert_eq!(stage.room("rat").await.unwrap().seats, 4, "of two claims of one identity the later holds");
    assert!(stage.release("rat", "second").await && !stage.release("rat", "first").await);
}
