//! Bridges: reports, expiry, drain orders, loss.

use super::*;

pub(super) async fn silent_bridges_get_nobody<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.pass(2_999);
    assert_eq!(bridge_of(stage.place("rat", "anna").await), ok("a"));
    stage.pass(1);
    assert!(is_unavailable(&stage.place("rat", "ben").await));
    let info = &stage.store.bridges().await.unwrap()[0];
    assert!(info.expired && info.silent_ms == 3_000, "shown while somebody sits there: {info:?}");
    stage.report(BridgeReport { sequence: 2, ..report("a") }).await.unwrap();
    assert_eq!(bridge_of(stage.place("rat", "ben").await), ok("a"));
}

pub(super) async fn stale_reports_are_ignored<F: Fixture>() {
    let stage = cluster::<F>(&[]).await;
    let full = BridgeReport { sequence: 7, load: with_seats(100, 100), ..report("a") };
    stage.report(full.clone()).await.unwrap();
    stage.pass(2_000);
    stage.report(BridgeReport { sequence: 6, ..report("a") }).await.unwrap();
    stage.report(BridgeReport { load: with_seats(0, 100), ..full }).await.unwrap();
    assert_eq!(
        bridge_of(stage.place("rat", "anna").await),
        super::full(),
        "neither an older nor the same number counts"
    );
    stage.pass(1_000);
    assert!(is_unavailable(&stage.place("rat", "anna").await), "and they do not keep the bridge alive");
}

pub(super) async fn one_id_is_one_process<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.pass(1_000);
    let other = BridgeReport { incarnation: "second".into(), ..report("a") };
    let taken = stage.report(other.clone()).await.unwrap_err();
    let retry_after = Duration::from_millis(2_000);
    assert_eq!(taken, Refusal::BridgeTaken { id: "a".into(), retry_after });
    stage.pass(2_000);
    stage.report(other).await.unwrap();
    let first = stage.report(BridgeReport { sequence: 2, ..report("a") }).await;
    assert!(matches!(first, Err(Refusal::BridgeTaken { .. })), "now the first is the intruder: {first:?}");
}

pub(super) async fn goodbye_is_at_once<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    let gone = BridgeReport { sequence: 2, state: BridgeState::Gone.into(), ..report("a") };
    stage.report(gone).await.unwrap();
    assert!(is_unavailable(&stage.place("rat", "anna").await));
    assert_eq!(stage.store.bridges().await.unwrap(), []);
    let again = stage.report(BridgeReport { sequence: 3, ..report("a") }).await;
    assert!(matches!(again, Err(Refusal::Invalid(_))), "gone is gone: {again:?}");
    stage.report(BridgeReport { incarnation: "second".into(), ..report("a") }).await.unwrap();
    assert_eq!(bridge_of(stage.place("rat", "anna").await), ok("a"));
}

pub(super) async fn drain_orders<F: Fixture>() {
    let stage = cluster::<F>(&["a", "b"]).await;
    assert!(stage.store.drain("a", Some(5_000)).await.unwrap());
    for person in ["anna", "ben", "cem"] {
        assert_eq!(bridge_of(stage.place(person, person).await), ok("b"));
    }
    stage.pass(2_000);
    let orders = stage.report(BridgeReport { sequence: 2, ..report("a") }).await.unwrap();
    assert_eq!(orders.drain.unwrap().within_ms, 3_000);
    stage.pass(4_000);
    let restarted = BridgeReport { incarnation: "second".into(), ..report("a") };
    assert_eq!(stage.report(restarted).await.unwrap().drain.unwrap().within_ms, 1, "overdue, and kept over a restart");
    assert_eq!(stage.place("rat", "dora").await.unwrap_err(), Refusal::Draining, "b has expired");
    assert!(stage.store.drain("a", None).await.unwrap());
    assert_eq!(stage.store.orders("a").await.unwrap(), Orders::default());
    assert_eq!(bridge_of(stage.place("rat", "dora").await), ok("a"));
    let draining =
        BridgeReport { sequence: 3, incarnation: "second".into(), state: BridgeState::Draining.into(), ..report("a") };
    stage.report(draining).await.unwrap();
    assert_eq!(stage.place("rat", "emil").await.unwrap_err(), Refusal::Draining, "by its own word");
    assert!(!stage.store.drain("nowhere", Some(0)).await.unwrap());
}

pub(super) async fn reported_and_promised_seats_count<F: Fixture>() {
    let stage = cluster::<F>(&[]).await;
    let report = |sequence, seats, joined: &[&str]| BridgeReport {
        sequence,
        load: with_seats(seats, 4),
        joined: joined.iter().map(|&id| id.to_owned()).collect(),
        ..report("a")
    };
    stage.report(report(1, 1, &[])).await.unwrap();
    stage.join("rat", "anna").await.unwrap();
    stage.place("rat", "ben").await.unwrap();
    assert_eq!(stage.seats("a").await, 3, "one reported, two promised");
    stage.report(report(2, 1, &[])).await.unwrap();
    assert_eq!(stage.seats("a").await, 3, "this report was made before they came");
    stage.report(report(3, 2, &["join-anna"])).await.unwrap();
    assert_eq!(stage.seats("a").await, 3, "one promise is kept");
    stage.place("rat", "cem").await.unwrap();
    assert_eq!(bridge_of(stage.place("rat", "dora").await), full());
    stage.report(report(4, 0, &["join-ben"])).await.unwrap();
    assert_eq!(stage.seats("a").await, 1, "the bridge's own word corrects it");
}

pub(super) async fn moved_to_another_site<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    let pinned = |identity: &str| PlaceRequest {
        open: Some(RoomSettings { site_pin: "nord".into(), ..RoomSettings::default() }),
        ..placement("rat", identity)
    };
    assert_eq!(
        stage.store.place(pinned("anna")).await.unwrap_err(),
        Refusal::Full { free_elsewhere: 100 },
        "at no site yet"
    );
    stage.report(BridgeReport { sequence: 2, site: "nord".into(), ..report("a") }).await.unwrap();
    assert_eq!(bridge_of(stage.store.place(pinned("anna")).await), ok("a"));
    stage.report(BridgeReport { sequence: 3, site: "süd".into(), ..report("a") }).await.unwrap();
    assert_eq!(stage.store.place(pinned("ben")).await.unwrap_err(), Refusal::Full { free_elsewhere: 99 });
}

pub(super) async fn lost_after_expiry_and_grace<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.join("rat", "anna").await.unwrap();
    stage.join("rat", "ben").await.unwrap();
    stage.pass(10_000);
    stage.report(BridgeReport { sequence: 2, ..report("a") }).await.unwrap();
    stage.place("rat", "cem").await.unwrap();
    stage.pass(12_999);
    assert_eq!(stage.store.sweep().await.unwrap().lost, []);
    stage.pass(1);
    let sweep = stage.store.sweep().await.unwrap();
    let [lost] = sweep.lost.as_slice() else { panic!("one room expected: {sweep:?}") };
    let sids: Vec<_> = lost.seats.iter().map(|seat| seat.participant_sid.as_str()).collect();
    assert_eq!((lost.room.head, sids), (2, vec!["PA_anna", "PA_ben"]), "cem never came, his seat has lapsed");
    assert_eq!(stage.store.sweep().await.unwrap(), sweep, "until it is dealt with");
    let release = lost.seats.iter().map(|seat| seat.join_id.clone()).collect();
    let request = AppendRequest { release, ..append(&lost.room, &["left", "left"]) };
    stage.store.append(request, Writer::Reaper).await.unwrap();
    let sweep = stage.store.sweep().await.unwrap();
    assert_eq!((sweep.lost, sweep.seats), (vec![], 0));
    assert_eq!(stage.store.bridges().await.unwrap(), []);
}

pub(super) async fn back_within_grace<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.join("rat", "anna").await.unwrap();
    stage.pass(12_999);
    stage.report(BridgeReport { sequence: 2, ..report("a") }).await.unwrap();
    stage.pass(1);
    assert_eq!(stage.store.sweep().await.unwrap().lost, []);
    assert_eq!(stage.room("rat").await.unwrap().seats, 1);
}

pub(super) async fn lost_with_an_older_process<F: Fixture>() {
    let stage = cluster::<F>(&["a"]).await;
    stage.join("rat", "anna").await.unwrap();
    stage.pass(3_000);
    for sequence in 1..=10 {
        let restarted = BridgeReport { sequence, incarnation: "second".into(), ..report("a") };
        stage.report(restarted).await.unwrap();
        assert_eq!(stage.store.sweep().await.unwrap().lost, [], "she may come back");
        stage.pass(1_000);
    }
    let sweep = stage.store.sweep().await.unwrap();
    assert_eq!(sweep.lost.len(), 1, "the new process does not have her: {sweep:?}");
    assert_eq!(bridge_of(stage.place("rat", "ben").await), ok("a"));
    let gone =
        BridgeReport { sequence: 11, incarnation: "second".into(), state: BridgeState::Gone.into(), ..report("a") };
    stage.join("zwei", "cem").await.unwrap();
    stage.report(gone).await.unwrap();
    assert_eq!(stage.store.sweep().await.unwrap().lost.len(), 2, "whoever is left at goodbye is lost at once");
}

pub(super) async fn at_most_so_many_bridges<F: Fixture>() {
    let stage = stage::<F>(Config { max_bridges: 2, ..Config::default() }).await;
    stage.report(report("a")).await.unwrap();
    stage.report(report("b")).await.unwrap();
    assert!(is_quota(&stage.report(report("c")).await, Quota::Bridges));
    stage.report(BridgeReport { sequence: 2, ..report("a") }).await.unwrap();
    stage.pass(3_000);
    stage.store.sweep().await.unwrap();
    stage.report(report("c")).await.unwrap();
}

pub(super) async fn figures_beyond_reason<F: Fixture>() {
    let stage = cluster::<F>(&["b"]).await;
    let load = Load {
        seats: u32::MAX,
        seat_limit: 100,
        cpu_permille: u32::MAX,
        receive_bps: u64::MAX,
        send_bps: u64::MAX,
        link_bps: 1,
        sockets: u32::MAX,
        socket_limit: 1,
        drop_permille: u32::MAX,
        rooms: u32::MAX,
        receive_pps: u64::MAX,
        send_pps: u64::MAX,
    };
    let liar = BridgeReport { load: Some(load), sequence: u64::MAX, ..report("a") };
    stage.report(liar).await.unwrap();
    for person in ["anna", "ben"] {
        assert_eq!(bridge_of(stage.place(person, person).await), ok("b"), "it only harms itself");
    }
    assert_eq!(stage.seats("a").await, u32::MAX);
}

pub(super) async fn seats_are_lent<F: Fixture>() {
    let stage = cluster::<F>(&[]).await;
    let report = |sequence, seats, limit| BridgeReport { sequence, load: with_seats(seats, limit), ..report("a") };
    for (sequence, (seats, limit, lent)) in (1..).zip([(0, 100, 8), (0, 45, 4), (40, 45, 1), (45, 45, 0), (50, 45, 0)])
    {
        let orders = stage.report(report(sequence, seats, limit)).await.unwrap();
        assert_eq!(orders.lent, lent, "{seats} of {limit}");
    }
    // What is lent is not taken from others, and what is promised is not lent.
    assert_eq!(stage.report(report(6, 0, 3)).await.unwrap().lent, 1);
    for person in ["anna", "ben", "cem"] {
        assert_eq!(bridge_of(stage.place("rat", person).await), ok("a"));
    }
    assert_eq!(stage.report(report(7, 0, 3)).await.unwrap().lent, 0);
    assert_eq!(stage.report(report(6, 0, 100)).await.unwrap().lent, 0, "an older report changes nothing");
    let hot =
        BridgeReport { load: Some(Load { cpu_permille: 1000, ..with_seats(0, 100).unwrap() }), ..report(8, 0, 100) };
    assert_eq!(stage.report(hot).await.unwrap().lent, 0);
    let draining = BridgeReport { state: BridgeState::Draining.into(), ..report(9, 0, 100) };
    assert_eq!(stage.report(draining).await.unwrap().lent, 0);
    stage.store.drain("a", Some(0)).await.unwrap();
    assert_eq!(stage.report(report(10, 0, 100)).await.unwrap().lent, 0, "ordered to drain");
    stage.store.drain("a", None).await.unwrap();
    assert_eq!(stage.report(report(11, 0, 100)).await.unwrap().lent, 8);
    let gone = BridgeReport { state: BridgeState::Gone.into(), ..report(12, 0, 100) };
    assert_eq!(stage.report(gone).await.unwrap().lent, 0);
}
