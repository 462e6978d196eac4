//! Rooms whose allocator or store is away: who is here goes on, people come in by the lease, and in the end all agree.

use std::time::Duration;

use livekit_protocol::{DisconnectReason, TrackSource};
use ratssaal_proto::allocator::v1::TailRequest;
use ratssaal_proto::allocator::v1::tail_frame::Frame;

use super::live::{enter, join, next_participant, publish};
use crate::Config;
use crate::config::RoomConfig;
use crate::room::*;
use crate::testing::{TestBridge, bridge_on_a_line, guest, soon};

/// Tries until somebody can be asked.
pub(super) async fn agree(room: &RoomHandle, command: Command) {
    let trying = async {
        loop {
            match room.submit(Actor::Admin, command.clone()).await {
                Ok(()) => return,
                Err(Refusal::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(other) => panic!("{other}"),
            }
        }
    };
    soon(trying).await;
}

/// Waits until this bridge is lent as many seats.
async fn lent(bridge: &TestBridge, enough: impl Fn(i64) -> bool) {
    soon(async {
        while !enough(bridge.rooms.metrics().lent.get()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

fn with_seats(seats: u32) -> Config {
    Config { room: RoomConfig { seats, ..RoomConfig::default() }, ..Config::default() }
}

/// The identities in a room by its log alone, sorted, once it says nothing more; and the seats the allocator counts.
async fn logged(bridge: &TestBridge, room: &str) -> (Vec<String>, u32) {
    let request = TailRequest { room: room.to_owned(), ..TailRequest::default() };
    let mut tail = bridge.rooms.allocator().tail(request).await.unwrap().into_inner();
    let (mut state, mut seats) = (State::new(super::facts()), 0);
    while let Some(frame) = soon(tail.message()).await.unwrap() {
        match frame.frame.unwrap() {
            Frame::Opened(info) => seats = info.seats,
            Frame::Entries(entries) => {
                for entry in entries.entries {
                    apply::apply(&mut state, &entry::Logged::decode(entry.sequence, entry.entry));
                }
            }
            other => panic!("{other:?}"),
        }
    }
    let mut people: Vec<_> = state.participants().map(|who| who.identity.to_string()).collect();
    people.sort_unstable();
    (people, seats)
}

#[tokio::test]
async fn a_room_outlives_the_line_to_the_allocator() {
    let (bridge, line) = bridge_on_a_line(with_seats(20)).await;
    let mut a = enter(&bridge, "rat", "a").await;
    let b = enter(&bridge, "rat", "b").await;
    lent(&bridge, |seats| seats == 1).await;
    line.cut();
    // What needs agreement is refused, to be tried again; what is known goes on being known.
    let metadata = Command::DescribeRoom { metadata: "x".into() };
    let refused = soon(a.room.submit(Actor::Admin, metadata.clone())).await.unwrap_err();
    assert!(matches!(refused, Refusal::Unavailable { .. }), "{refused}");
    assert_eq!(a.room.state().participants().count(), 2);
    let head = a.room.state().sequence();
    // Somebody comes by the lease, publishes and is seen; then it is used up, and no other room is opened by it.
    let c = enter(&bridge, "rat", "c").await;
    assert!(c.leased && c.others.len() == 2 && c.info.sid == a.info.sid);
    publish(&c, "TR_c", TrackSource::Camera).await;
    let seen = loop {
        let info = next_participant(&mut a.inbox).await;
        if info.identity == "c" && !info.tracks.is_empty() {
            break info;
        }
    };
    assert_eq!(seen.tracks[0].sid, "TR_c");
    let (d, e) = tokio::join!(join(&bridge, guest("rat", "d")), join(&bridge, guest("haus", "e")));
    for refused in [d.unwrap_err(), e.unwrap_err()] {
        assert!(matches!(refused, JoinRefusal::Unavailable { retry_after_ms: 1.., .. }), "{refused}");
    }
    // Somebody leaves meanwhile: that is true whether or not it can be written down now.
    soon(b.room.leave(b.sid, DisconnectReason::ClientInitiated)).await;
    let gone = loop {
        let info = next_participant(&mut a.inbox).await;
        if info.state().as_str_name() == "DISCONNECTED" {
            break info;
        }
    };
    assert_eq!((gone.identity.as_str(), gone.disconnect_reason()), ("b", DisconnectReason::ClientInitiated));
    assert_eq!(a.room.state().sequence(), head, "none of it is in the log");
    assert_eq!(bridge.rooms.metrics().waiting.get(), 3);

    line.mend();
    agree(&a.room, metadata).await;
    assert_eq!(logged(&bridge, "rat").await, (vec!["a".to_owned(), "c".to_owned()], 2));
    assert_eq!(bridge.rooms.metrics().waiting.get(), 0);
    let d = soon(async {
        loop {
            // The allocator seats here again once the bridge has reported.
            match join(&bridge, guest("rat", "d")).await {
                Ok(joined) if !joined.leased => return joined,
                Ok(joined) => joined.room.leave(joined.sid, DisconnectReason::ClientInitiated).await,
                Err(_) => {}
            }
        }
    })
    .await;
    assert_eq!((d.info.metadata.as_str(), d.others.len()), ("x", 2));
}

#[tokio::test]
async fn a_lease_fills_no_bridge_and_no_room_beyond_its_limit() {
    let (bridge, line) = bridge_on_a_line(with_seats(2)).await;
    let _a = enter(&bridge, "rat", "a").await;
    lent(&bridge, |seats| seats == 1).await;
    line.cut();
    let b = enter(&bridge, "rat", "b").await;
    assert!(b.leased);
    assert!(matches!(join(&bridge, guest("rat", "c")).await, Err(JoinRefusal::Unavailable { .. })), "two of two");

    let room = RoomConfig { max_participants: 2, ..RoomConfig::default() };
    let (bridge, line) = bridge_on_a_line(Config { room, ..Config::default() }).await;
    let _a = enter(&bridge, "rat", "a").await;
    lent(&bridge, |seats| seats >= 3).await;
    line.cut();
    let b = enter(&bridge, "rat", "b").await;
    assert!(b.leased);
    assert!(matches!(join(&bridge, guest("rat", "c")).await, Err(JoinRefusal::Unavailable { .. })), "two of two");
    assert!(enter(&bridge, "rat", "b").await.leased, "who is in comes anew");
}

#[tokio::test]
async fn the_same_identity_comes_anew_by_the_lease() {
    let (bridge, line) = bridge_on_a_line(Config::default()).await;
    let mut old = enter(&bridge, "rat", "a").await;
    lent(&bridge, |seats| seats > 0).await;
    line.cut();
    let new = enter(&bridge, "rat", "a").await;
    assert!(new.leased && new.sid != old.sid && new.others.is_empty());
    let left = loop {
        match soon(old.inbox.recv()).await {
            Some(ToSession::Leave { reason, .. }) => break reason,
            Some(_) => {}
            None => panic!("it was not told why"),
        }
    };
    assert_eq!(left, DisconnectReason::DuplicateIdentity);
    line.mend();
    agree(&new.room, Command::DescribeRoom { metadata: "x".into() }).await;
    assert_eq!(logged(&bridge, "rat").await, (vec!["a".to_owned()], 1));
}
