//! Rooms on an allocator whose Redis loses everything: the bridge tells it again, and nobody in the meeting notices.

use std::time::Duration;

use prost::Message as _;
use ratssaal_allocator::store::{RedisSettings, RedisStore, Store as _, Writer};
use ratssaal_proto::allocator::v1::{AppendRequest, RoomInfo};
use ratssaal_proto::room::v1::{MetadataChanged, Snapshot};

use super::leasing::agree;
use super::live::join;
use crate::room::*;
use crate::testing::redis_server::Server;
use crate::testing::{PATIENCE, TestBridge, bridge_on_redis, guest};

/// Tries to come in until the allocator lets it.
async fn come_in(bridge: &TestBridge, identity: &str) -> Joined {
    let trying = async {
        loop {
            match join(bridge, guest("rat", identity)).await {
                Ok(joined) => return joined,
                Err(JoinRefusal::Unavailable { .. } | JoinRefusal::Refused(Refusal::Unavailable { .. })) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(other) => panic!("{other}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, trying).await.expect("the allocator comes back")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_meeting_outlives_the_loss_of_redis() {
    let server = Server::new();
    let bridge = bridge_on_redis(server.url()).await;
    let (mut anna, ben) = (come_in(&bridge, "anna").await, come_in(&bridge, "ben").await);
    let describe = |metadata: &str| Command::DescribeRoom { metadata: metadata.to_owned() };
    anna.room.submit(Actor::Admin, describe("before")).await.unwrap();

    let _server = Server::start(server.crash(), &[]);
    let cem = come_in(&bridge, "cem").await;
    assert_eq!((&cem.info.sid, cem.info.metadata.as_str()), (&anna.info.sid, "before"), "the same room as it was");
    let mut others: Vec<_> = cem.others.iter().map(|other| other.identity.as_str()).collect();
    others.sort_unstable();
    assert_eq!(others, ["anna", "ben"]);
    agree(&ben.room, describe("after")).await;
    assert_eq!(anna.room.state().info().metadata, "after");
    // Whoever was let in meanwhile is in the room that the store knows now, with a seat.
    let seats = async {
        let three = |open: Vec<RoomInfo>| open.iter().any(|rat| rat.seats == 3);
        while !bridge.rooms.list_open(vec!["rat".to_owned()]).await.is_ok_and(three) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seats).await.expect("three seats");
    while let Ok(message) = anna.inbox.try_recv() {
        assert!(!matches!(message, ToSession::Leave { .. }), "{message:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_redis_has_lost_is_not_created_anew() {
    let server = Server::new();
    let bridge = bridge_on_redis(server.url()).await;
    let anna = come_in(&bridge, "anna").await;
    let _server = Server::start(server.crash(), &[]);
    let created = async {
        loop {
            match bridge.rooms.create("rat", None, "", false).await {
                Ok(room) => return room.expect("it need not be new"),
                Err(Refusal::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    let room = tokio::time::timeout(PATIENCE, created).await.expect("Redis comes back");
    assert_eq!(
        room.state().room().sid,
        anna.room.state().room().sid,
        "{:?} {:?}",
        anna.room.state().ended(),
        anna.inbox
    );
    assert!(anna.room.state().ended().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_appended_to_older_data_gives_way_to_what_was_lost() {
    let describe = |metadata: &str| Command::DescribeRoom { metadata: metadata.to_owned() };
    let server = Server::new();
    let bridge = bridge_on_redis(server.url()).await;
    let mut anna = come_in(&bridge, "anna").await;
    anna.room.submit(Actor::Admin, describe("kept")).await.unwrap();
    server.save();
    anna.room.submit(Actor::Admin, describe("lost")).await.unwrap();
    let folder = server.crash();
    let data = folder.path().join("dump.rdb");

    // Somebody who knows the older data only is there first, and appends more than was lost.
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::copy(&data, elsewhere.path().join("dump.rdb")).unwrap();
    let meanwhile = Server::start(elsewhere, &[]);
    let store = RedisStore::connect(RedisSettings::new(meanwhile.url().into()), &Default::default()).unwrap();
    let room = store.follow("rat", &anna.info.sid).await.unwrap().room;
    let changed = |metadata: &str| {
        entry::encode(&entry::Event::MetadataChanged(MetadataChanged { metadata: metadata.to_owned() }))
    };
    let request = AppendRequest {
        room: room.name,
        room_sid: room.sid,
        expected: room.head,
        entries: ["one", "two", "three"].map(changed).to_vec(),
        ..AppendRequest::default()
    };
    store.append(request, Writer::Bridge).await.unwrap();
    meanwhile.save();
    std::fs::copy(meanwhile.folder().join("dump.rdb"), &data).unwrap();

    let server = Server::start(folder, &[]);
    let cem = come_in(&bridge, "cem").await;
    assert_eq!((&cem.info.sid, cem.info.metadata.as_str()), (&anna.info.sid, "lost"));
    agree(&cem.room, describe("after")).await;
    assert_eq!(anna.room.state().info().metadata, "after");
    let store = RedisStore::connect(RedisSettings::new(server.url().into()), &Default::default()).unwrap();
    let log = store.read("rat", &anna.info.sid, 0).await.unwrap();
    let snapshot = Snapshot::decode(log.snapshot.unwrap().state).unwrap();
    assert_eq!((snapshot.metadata.as_str(), snapshot.participants.len()), ("lost", 1), "anna, before cem came");
    assert!(log.entries.iter().any(|logged| logged.entry == changed("after")), "it goes on from there");
    while let Ok(message) = anna.inbox.try_recv() {
        assert!(!matches!(message, ToSession::Leave { .. }), "{message:?}");
    }
}
