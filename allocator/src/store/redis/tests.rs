//! What only this store has: a server that is slow, away, empty, elsewhere, or asks who is there. All with a real one.

use std::time::Duration;

use bytes::Bytes;
use ratssaal_proto::allocator::v1::{Load, Seat};
use redis::Value;
use secrecy::SecretString;
use tempfile::tempdir;

use super::*;
use crate::clock::ManualClock;
use crate::redis_server::{PATIENCE, Server, free_port};
use crate::refusal::Refusal;

fn store(url: impl Into<SecretString>) -> RedisStore {
    let settings = RedisSettings { timeout: Duration::from_millis(500), ..RedisSettings::new(url.into()) };
    RedisStore::connect(settings, &unsettled()).unwrap()
}

/// Rooms can be opened at once.
pub(super) fn unsettled() -> Config {
    Config { settle: Duration::ZERO, ..Config::default() }
}

fn room(name: &str) -> OpenRoomRequest {
    OpenRoomRequest { name: name.into(), ..OpenRoomRequest::default() }
}

/// Asks until it is answered.
pub(super) async fn eventually<T>(ask: impl AsyncFn() -> Result<T>) -> T {
    let patience = tokio::time::timeout(PATIENCE, async {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(Refusal::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(other) => panic!("{other}"),
            }
        }
    });
    patience.await.expect("the store comes back")
}

/// Asks until it is away.
async fn away(store: &RedisStore) {
    let patience = tokio::time::timeout(PATIENCE, async {
        while !matches!(store.sweep().await, Err(Refusal::Unavailable { .. })) {}
    });
    patience.await.expect("a call ends though Redis does not answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_redis_is_away_until_it_goes_on() {
    let server = Server::new();
    let store = store(server.url());
    let opened = eventually(|| store.open(room("rat"))).await.room.unwrap();
    server.signal("-STOP");
    away(&store).await;
    server.signal("-CONT");
    let found = eventually(|| store.open(room("rat"))).await;
    assert_eq!((found.opened, found.room.unwrap()), (false, opened));
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_hear_of_what_others_append_also_after_an_outage() {
    let arguments = ["--appendonly", "yes", "--appendfsync", "always"];
    let server = Server::start(tempdir().unwrap(), &arguments);
    let (writer, reader) = (store(server.url()), store(server.url()));
    let opened = eventually(|| writer.open(room("rat"))).await.room.unwrap();
    let append = |expected| AppendRequest {
        room: "rat".into(),
        room_sid: opened.sid.clone(),
        expected,
        entries: vec![Bytes::from_static(b"entry")],
        ..AppendRequest::default()
    };
    let mut position = eventually(|| reader.follow("rat", &opened.sid)).await.position;
    writer.append(append(0), Writer::Bridge).await.unwrap();
    let first = tokio::time::timeout(PATIENCE, position.wait_for(|position| position.head == 1)).await;
    first.expect("told").unwrap();

    let folder = server.crash();
    away(&reader).await;
    let _server = Server::start(folder, &arguments);
    eventually(|| writer.append(append(1), Writer::Bridge)).await;
    let second = tokio::time::timeout(PATIENCE, position.wait_for(|position| position.head == 2)).await;
    second.expect("told").unwrap();
    assert_eq!(eventually(|| reader.read("rat", &opened.sid, 0)).await.entries.len(), 2, "its data is there again");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_redis_begins_anew_and_readers_have_to_ask_again() {
    let server = Server::new();
    let store = store(server.url());
    let opened = eventually(|| store.open(room("rat"))).await.room.unwrap();
    let mut position = store.follow("rat", &opened.sid).await.unwrap().position;
    let _server = Server::start(server.crash(), &[]);
    let lost = tokio::time::timeout(PATIENCE, async { while position.changed().await.is_ok() {} }).await;
    lost.expect("whoever followed is told");
    let anew = eventually(|| store.open(room("rat"))).await;
    assert!(anew.opened && anew.room.unwrap().sid != opened.sid);
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_and_rights() {
    let acl = "user ratssaal on >geheim ~{ratssaal}:* &{ratssaal}:* -@all +@read +@write +@scripting +@pubsub \
               +@connection -@dangerous +time +role";
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("users.acl"), format!("user default off\n{acl}\n")).unwrap();
    let server = Server::start(folder, &["--aclfile", "users.acl"]);
    let with = |user: &str| server.url() + user;
    let right = store(with("?user=ratssaal&pass=geheim"));
    eventually(|| right.open(room("rat"))).await;
    let wrong = store(with("?user=ratssaal&pass=falsch"));
    assert!(matches!(wrong.open(room("rat")).await, Err(Refusal::Unavailable { .. })));
    let elsewhere =
        RedisSettings { prefix: "fremd".into(), ..RedisSettings::new(with("?user=ratssaal&pass=geheim").into()) };
    let elsewhere = RedisStore::connect(elsewhere, &unsettled()).unwrap();
    assert!(matches!(elsewhere.open(room("rat")).await, Err(Refusal::Unavailable { .. })), "not its keys");
}

/// A fresh authority's certificate, and one of it for `localhost` with its key, as PEM.
fn authority_and_certificate() -> [String; 3] {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(vec![]).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let issuer = rcgen::Issuer::new(ca, &ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    [ca_pem, names.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem()]
}

/// A Redis that speaks TLS too, with the certificate in this folder; its port.
fn with_tls(folder: tempfile::TempDir) -> (Server, String) {
    let port = free_port().to_string();
    let files = ["--tls-cert-file", "redis.pem", "--tls-key-file", "redis.key", "--tls-ca-cert-file", "ca.pem"];
    let tls = ["--tls-port", &port, "--bind", "127.0.0.1", "--tls-auth-clients", "no"];
    let server = Server::start(folder, &[&tls[..], &files].concat());
    (server, port)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_an_own_ca_and_with_no_other() {
    let folder = tempdir().unwrap();
    let [first, certificate, key] = authority_and_certificate();
    for (name, content) in [("ca.pem", &first), ("redis.pem", &certificate), ("redis.key", &key)] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let (server, port) = with_tls(folder);
    let url = SecretString::from(format!("rediss://localhost:{port}"));
    let ca = Some(server.folder().join("ca.pem"));
    let trusting = RedisSettings { ca, timeout: PATIENCE, ..RedisSettings::new(url.clone()) };
    let trusting = RedisStore::connect(trusting, &unsettled()).unwrap();
    eventually(|| trusting.open(room("rat"))).await;
    assert!(
        matches!(store(url).open(room("rat")).await, Err(Refusal::Unavailable { .. })),
        "the system does not know it"
    );

    // The authority is replaced: first trusted beside the old one, then Redis' certificate is of the new one.
    let [next, certificate, key] = authority_and_certificate();
    for (name, content) in [("ca.pem", &format!("{first}{next}")), ("next.pem", &certificate), ("next.key", &key)] {
        std::fs::write(server.folder().join(name), content).unwrap();
    }
    let admin = redis::Client::open(server.url()).unwrap();
    let mut admin = admin.get_multiplexed_async_connection().await.unwrap();
    let commands: [&[&str]; 3] = [
        &["CONFIG", "SET", "tls-cert-file", "next.pem", "tls-key-file", "next.key"],
        &["CLIENT", "KILL", "TYPE", "pubsub"],
        &["CLIENT", "KILL", "TYPE", "normal"],
    ];
    for command in commands {
        let _: Value = redis::cmd(command[0]).arg(&command[1..]).query_async(&mut admin).await.unwrap();
    }
    // Another connection, for the old one is gone.
    eventually(|| trusting.open(room("stadt"))).await;
    let listening = || async {
        let count: Vec<Value> = redis::cmd("PUBSUB").arg("CHANNELS").query_async(&mut admin.clone()).await.unwrap();
        count.len()
    };
    let end = std::time::Instant::now() + PATIENCE;
    while listening().await == 0 {
        assert!(std::time::Instant::now() < end, "it does not listen any more");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_told_to_read_a_new_certificate() {
    let folder = tempdir().unwrap();
    let write = |folder: &std::path::Path, [ca, certificate, key]: &[String; 3]| {
        for (name, content) in [("ca.pem", ca), ("redis.pem", certificate), ("redis.key", key)] {
            std::fs::write(folder.join(name), content).unwrap();
        }
    };
    let (first, next) = (authority_and_certificate(), authority_and_certificate());
    write(folder.path(), &first);
    let (server, port) = with_tls(folder);
    let file = |name: &str, content: &str| {
        std::fs::write(server.folder().join(name), content).unwrap();
        Some(server.folder().join(name))
    };
    let url = SecretString::from(format!("rediss://localhost:{port}"));
    let trusting = |ca, reread| {
        let settings = RedisSettings { ca, reread, timeout: PATIENCE, ..RedisSettings::new(url.clone()) };
        RedisStore::connect(settings, &unsettled()).unwrap()
    };
    let both = file("both.pem", &format!("{}{}", first[0], next[0]));
    let passive = trusting(both.clone(), None);
    eventually(|| passive.open(room("rat"))).await;

    // New files alone change nothing: who trusts the new authority only does not get in.
    write(server.folder(), &next);
    let new_only = trusting(file("next.pem", &next[0]), None);
    assert!(matches!(new_only.open(room("rat")).await, Err(Refusal::Unavailable { .. })));
    // Files that do not fit each other are refused, and the next attempt is another one.
    std::fs::write(server.folder().join("redis.key"), &first[2]).unwrap();
    let active = trusting(both, Some(Duration::from_millis(20)));
    eventually(|| active.open(room("rat"))).await;
    let until = std::time::Instant::now() + Duration::from_millis(300);
    while std::time::Instant::now() < until {
        assert!(matches!(new_only.open(room("rat")).await, Err(Refusal::Unavailable { .. })));
    }
    write(server.folder(), &next);
    eventually(|| new_only.open(room("rat"))).await;
    // Connections that stand go on.
    eventually(|| passive.open(room("rat"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replica_that_a_sentinel_promotes_takes_over() {
    let ports = [free_port().to_string(), free_port().to_string(), free_port().to_string()];
    let [primary, replica, sentinel] = &ports;
    let address = ["--bind", "127.0.0.1", "--port"];
    let first = Server::start(tempdir().unwrap(), &[&address[..], &[primary]].concat());
    let follow = ["--replicaof", &format!("127.0.0.1 {primary}"), "--repl-diskless-sync-delay", "0"];
    let second = Server::start(tempdir().unwrap(), &[&address[..], &[replica], &follow[..]].concat());
    let folder = tempdir().unwrap();
    let config = format!(
        "sentinel monitor main 127.0.0.1 {primary} 1\nsentinel down-after-milliseconds main 300\n\
         sentinel failover-timeout main 3000\n"
    );
    std::fs::write(folder.path().join("sentinel.conf"), config).unwrap();
    let _sentinel = Server::start(folder, &[&["sentinel.conf", "--sentinel"][..], &address[..], &[sentinel]].concat());

    let store = store(format!("redis-sentinel://127.0.0.1:{sentinel}/main"));
    let opened = eventually(|| store.open(room("rat"))).await.room.unwrap();
    replicated(&second, &format!("127.0.0.1:{sentinel}")).await;
    drop(first.crash());
    let found = eventually(|| store.open(room("rat"))).await;
    assert_eq!((found.opened, found.room.unwrap().sid), (false, opened.sid), "the replica had it");
}

/// Waits until the replica has everything and the sentinel knows it.
async fn replicated(replica: &Server, sentinel: &str) {
    let replica = redis::Client::open(replica.url()).unwrap();
    let sentinel = redis::Client::open(format!("redis://{sentinel}")).unwrap();
    let patience = tokio::time::timeout(PATIENCE, async {
        let mut replica = replica.get_multiplexed_async_connection().await.unwrap();
        let mut sentinel = sentinel.get_multiplexed_async_connection().await.unwrap();
        loop {
            let rooms: usize = redis::cmd("HLEN").arg("{ratssaal}:open").query_async(&mut replica).await.unwrap();
            let known: Vec<Value> =
                redis::cmd("SENTINEL").arg("replicas").arg("main").query_async(&mut sentinel).await.unwrap();
            if rooms == 1 && known.len() == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    patience.await.expect("the replica follows");
}

/// Redis' clock is set back in a script's eyes by raising what it has seen: it cannot be moved from here.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_was_set_back_does_not_go_back() {
    let server = Server::new();
    let store = store(server.url());
    let ahead = eventually(|| store.open(room("eins"))).await.room.unwrap().created_ms + 600_000;
    let mut redis = redis::Client::open(server.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    let set: usize =
        redis::cmd("HSET").arg("{ratssaal}:clock").arg("last").arg(ahead).query_async(&mut redis).await.unwrap();
    assert_eq!(set, 0, "the field was there");
    let later = store.open(room("zwei")).await.unwrap().room.unwrap().created_ms;
    assert!(later >= ahead, "{later} is before {ahead}");
    assert!(later < ahead + 600_000, "and goes on from there");
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_as_large_as_they_can_be() {
    let server = Server::new();
    let store = store(server.url());
    let load = Load { seats: u32::MAX, seat_limit: 100_000, ..Load::default() };
    let report = BridgeReport {
        bridge: "a".into(),
        incarnation: "first".into(),
        sequence: u64::MAX - 1,
        state: BridgeState::Ready.into(),
        load: Some(load),
        ..BridgeReport::default()
    };
    eventually(|| store.report(report.clone())).await;
    let newest = BridgeReport { sequence: u64::MAX, load: Some(Load { seats: 7, ..load }), ..report.clone() };
    store.report(newest).await.unwrap();
    store.report(report).await.unwrap();
    assert_eq!(store.bridges().await.unwrap()[0].seats, 7, "beyond 2^53 the later sequence still counts");
    assert!(store.drain("a", Some(u64::MAX)).await.unwrap());
    assert_eq!(store.orders("a").await.unwrap().drain.map(|drain| drain.within_ms > 1 << 39), Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_has_just_begun_tells_bridges_when_it_opens_rooms() {
    let server = Server::new();
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let settings = RedisSettings { timeout: PATIENCE, ..RedisSettings::new(server.url().into()) };
    let config = Config::default();
    let store = RedisStore::with_clock(settings, &config, Some(Arc::clone(&clock) as Arc<dyn Clock>)).unwrap();
    let report = |sequence| BridgeReport {
        bridge: "a".into(),
        incarnation: "first".into(),
        sequence,
        state: BridgeState::Ready.into(),
        ..BridgeReport::default()
    };
    let orders = eventually(|| store.report(report(1))).await;
    assert_eq!(orders, Orders { settles_in: config.settle, ..Orders::default() });
    assert!(matches!(store.open(room("rat")).await, Err(Refusal::Unavailable { .. })));
    clock.advance(config.settle);
    assert_eq!(store.report(report(2)).await.unwrap(), Orders::default());
    assert_eq!(store.orders("a").await.unwrap(), Orders::default());
    assert!(store.open(room("rat")).await.unwrap().opened);
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_survive_the_loss_of_the_store_through_their_bridges() {
    let server = Server::new();
    let store = store(server.url());
    let report = |sequence| BridgeReport {
        bridge: "a".into(),
        incarnation: "first".into(),
        sequence,
        state: BridgeState::Ready.into(),
        load: Some(Load { seats: 1, seat_limit: 10, ..Load::default() }),
        ..BridgeReport::default()
    };
    let opened = eventually(|| store.open(room("rat"))).await.room.unwrap();
    let seat = |identity: &str, bridge: &str| Seat {
        join_id: format!("join-{identity}"),
        identity: identity.into(),
        participant_sid: format!("PA_{identity}"),
        bridge: bridge.into(),
        ..Seat::default()
    };
    let state = |sequence, text: &'static str| RestoreRequest {
        room: Some(opened.clone()),
        sequence,
        state: Bytes::from_static(text.as_bytes()),
        seats: vec![seat("anna", "a"), seat("ben", "b")],
        at_ms: 0,
    };
    let untouched = store.restore(state(0, "state")).await.unwrap();
    assert_eq!((untouched.head, untouched.seats), (0, 0), "it has lost nothing");
    let ended = RoomInfo { name: "beirat".into(), sid: "RM_ended".into(), ..opened.clone() };
    let ended = store.restore(RestoreRequest { room: Some(ended), ..state(7, "ended") }).await;
    assert!(matches!(ended, Err(Refusal::UnknownRoom(_))), "it has lost nothing, so that one has ended: {ended:?}");

    let _server = Server::start(server.crash(), &[]);
    let restored = eventually(|| store.restore(state(7, "older"))).await;
    assert_eq!((&restored.sid, restored.epoch, restored.seats), (&opened.sid, opened.epoch, 2));
    assert!(restored.head > 8, "nobody has read up to there");
    let furthest = store.restore(state(8, "furthest")).await.unwrap();
    assert_eq!((furthest.seats, furthest.head), (2, restored.head + 1), "each once");
    assert_eq!(store.restore(state(7, "older")).await.unwrap().head, furthest.head);
    let chunk = store.read("rat", &opened.sid, 8).await.unwrap();
    let snapshot = chunk.snapshot.unwrap();
    assert_eq!((&snapshot.state[..], snapshot.sequence, chunk.entries.len()), (&b"furthest"[..], furthest.head, 0));

    store.report(report(9)).await.unwrap();
    let bridges = store.bridges().await.unwrap();
    assert_eq!(bridges.len(), 2, "b has not come back yet, but somebody sits there: {bridges:?}");
    let append = AppendRequest {
        room: "rat".into(),
        room_sid: opened.sid.clone(),
        expected: furthest.head,
        entries: vec![Bytes::from_static(b"left")],
        release: vec!["join-anna".into()],
        ..AppendRequest::default()
    };
    let head = store.append(append, Writer::Bridge).await.unwrap().head;
    let late = store.restore(state(9, "late")).await.unwrap();
    assert_eq!((late.head, late.seats), (head, 1), "who left meanwhile is not brought back");
    let other = RoomInfo { sid: "RM_other".into(), ..opened.clone() };
    let twin = store.restore(RestoreRequest { room: Some(other), ..state(99, "twin") }).await;
    assert!(matches!(twin, Err(Refusal::UnknownRoom(_))), "one room of a name: {twin:?}");
}

/// A replica that lagged was promoted, or a machine died before its disk had everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_has_lost_the_last_is_told_it_again() {
    let server = Server::new();
    let store = store(server.url());
    let opened = eventually(|| store.open(room("rat"))).await.room.unwrap();
    for bridge in ["a", "b"] {
        let load = Some(Load { seat_limit: 10, ..Load::default() });
        let (bridge, incarnation) = (bridge.to_owned(), "first".to_owned());
        let state = BridgeState::Ready.into();
        store
            .report(BridgeReport { bridge, incarnation, sequence: 1, state, load, ..BridgeReport::default() })
            .await
            .unwrap();
    }
    let seat = |identity: &str, join: &str, bridge: &str| Seat {
        join_id: join.into(),
        identity: identity.into(),
        participant_sid: format!("PA_{join}"),
        bridge: bridge.into(),
        ..Seat::default()
    };
    let append = |expected, entry: &'static str, claim: Vec<Seat>, release: &[&str]| AppendRequest {
        room: "rat".into(),
        room_sid: opened.sid.clone(),
        expected,
        entries: vec![Bytes::from_static(entry.as_bytes())],
        confirm: claim.iter().map(|seat| seat.join_id.clone()).collect(),
        release: release.iter().map(|join| (*join).to_owned()).collect(),
        claim,
        expected_at_ms: 0,
    };
    let stays = seat("anna", "a1", "a");
    let first = vec![stays.clone(), seat("ben", "b1", "a"), seat("carla", "c1", "b")];
    assert_eq!(store.append(append(0, "three come", first, &[]), Writer::Bridge).await.unwrap().head, 1);
    server.save();
    let again = vec![seat("ben", "b2", "b"), seat("dora", "d1", "b")];
    let change = append(1, "ben anew, dora, carla leaves", again.clone(), &["b1", "c1"]);
    let mut followed = store.follow("rat", &opened.sid).await.unwrap();
    assert_eq!(store.append(change, Writer::Bridge).await.unwrap().head, 2);
    followed.position.wait_for(|position| position.head == 2).await.unwrap();
    assert_eq!(followed.room.seats, 3);

    let _server = Server::start(server.crash(), &[]);
    let end = tokio::time::timeout(PATIENCE, async { while followed.position.changed().await.is_ok() {} });
    end.await.expect("who followed is told to ask again");
    let beyond = eventually(async || match store.read("rat", &opened.sid, 2).await {
        Err(Refusal::Conflict { head }) => Ok(head),
        Err(other) => Err(other),
        Ok(chunk) => panic!("{chunk:?}"),
    });
    assert_eq!(beyond.await, 1);
    let request = RestoreRequest {
        room: Some(opened.clone()),
        sequence: 2,
        state: Bytes::from_static(b"anna, ben, dora"),
        seats: [vec![stays], again].concat(),
        at_ms: 0,
    };
    let restored = store.restore(request.clone()).await.unwrap();
    assert_eq!((&restored.sid, &restored.store, restored.seats), (&opened.sid, &opened.store, 3));
    let mut on: Vec<(String, u32)> = restored.bridges.iter().map(|on| (on.bridge.clone(), on.seats)).collect();
    on.sort_unstable();
    assert_eq!(on, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
    let behind = store.restore(RestoreRequest { sequence: 1, seats: vec![], ..request }).await.unwrap();
    assert_eq!((behind.head, behind.seats), (restored.head, 3), "the furthest state wins");
    let chunk = store.read("rat", &opened.sid, 2).await.unwrap();
    assert_eq!(&chunk.snapshot.unwrap().state[..], b"anna, ben, dora");
    // A seat that was promised to somebody who is known to be in does not lapse.
    let leave = append(restored.head, "all leave", vec![], &["a1", "b2", "d1"]);
    store.append(leave, Writer::Bridge).await.unwrap();
    assert_eq!(store.follow("rat", &opened.sid).await.unwrap().room.seats, 0);
}

/// Somebody who knew no more than the older data was faster.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_appended_to_older_data_does_not_stand_for_what_was_lost() {
    let server = Server::new();
    let store = store(server.url());
    let opened = eventually(|| store.open(room("rat"))).await.room.unwrap();
    let append = |expected: Mark, entries: &'static [&'static str]| AppendRequest {
        room: "rat".into(),
        room_sid: opened.sid.clone(),
        expected: expected.sequence,
        expected_at_ms: expected.at_ms,
        entries: entries.iter().map(|entry| Bytes::from_static(entry.as_bytes())).collect(),
        ..AppendRequest::default()
    };
    let first = store.append(append(Mark::default(), &["kept"]), Writer::Bridge).await.unwrap();
    let kept = Mark { sequence: 1, at_ms: first.at_ms };
    server.save();
    let lost = Mark { sequence: 2, at_ms: store.append(append(kept, &["lost"]), Writer::Bridge).await.unwrap().at_ms };

    let _server = Server::start(server.crash(), &[]);
    let others = eventually(|| store.append(append(kept, &["another"]), Writer::Bridge)).await;
    assert_eq!(others.head, 2);
    assert_eq!(store.append(append(lost, &["next"]), Writer::Bridge).await, Err(Refusal::Conflict { head: 2 }));
    assert_eq!(store.read("rat", &opened.sid, lost).await, Err(Refusal::Conflict { head: 2 }));
    let others = Mark { sequence: 2, at_ms: others.at_ms };
    assert_eq!(store.append(append(others, &["and one more"]), Writer::Bridge).await.unwrap().head, 3);
    assert_eq!(store.read("rat", &opened.sid, lost).await, Err(Refusal::Conflict { head: 3 }));

    let state = Bytes::from_static(b"kept, lost");
    let blind = RestoreRequest { room: Some(opened.clone()), sequence: 2, state, ..RestoreRequest::default() };
    assert_eq!(store.restore(blind.clone()).await.unwrap().head, 3, "the log is as far as that");
    let request = RestoreRequest { at_ms: lost.at_ms, ..blind };
    let restored = store.restore(request.clone()).await.unwrap();
    assert!(restored.head > 3);
    for reader in [lost, others] {
        let snapshot = store.read("rat", &opened.sid, reader).await.unwrap().snapshot.unwrap();
        assert_eq!((&snapshot.state[..], snapshot.sequence), (&b"kept, lost"[..], restored.head));
    }
    assert_eq!(store.restore(request).await.unwrap().head, restored.head, "once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_store_first_hears_of_rooms_that_are_open() {
    let server = Server::new();
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let settings = RedisSettings { timeout: PATIENCE, ..RedisSettings::new(server.url().into()) };
    let store =
        RedisStore::with_clock(settings, &Config::default(), Some(Arc::clone(&clock) as Arc<dyn Clock>)).unwrap();
    eventually(|| store.sweep()).await;
    clock.advance(Duration::from_secs(1));
    let early = store.open(room("rat")).await;
    let Err(Refusal::Unavailable { retry_after, .. }) = early else { panic!("{early:?}") };
    assert_eq!(retry_after, Duration::from_secs(2));
    clock.advance(retry_after);
    assert!(store.open(room("rat")).await.unwrap().opened);
}
