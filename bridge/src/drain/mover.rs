//! Moves participants away batch by batch while a drain is ordered: a seat elsewhere is reserved for each, the room is opened
//! there with everybody's media, then its client is told to go there.
//!
//! A client that can goes on with its session there; others join anew and are seated elsewhere, since this bridge takes nobody.
//! What somebody is here stays in the room until it is there, and what flows flows ([`crate::signal`] sees to that), so that
//! the others see it all the time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use futures_util::future::join_all;
use livekit_protocol::DisconnectReason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use ratssaal_proto::allocator::v1::{PlaceRequest, PlaceResponse, Refusal, RoomInfo};
use ratssaal_proto::bridge::v1::{Coming, PrepareRequest, PrepareResponse};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tracing::{info, warn};

use super::Drain;
use super::plan::{self, Part, Person};
use crate::peers::Peers;
use crate::room::ids::random_base62;
use crate::room::{ParticipantSid, RoomHandle, RoomSid, Rooms, ToSession};

/// How long one batch may take before the next one goes: clients that do not come back would hold everybody up.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long another bridge may take to have a room's media.
const PREPARE: Duration = Duration::from_secs(3);
/// How often it is looked whether a batch has gone.
const LOOK: Duration = Duration::from_millis(50);
/// Between two batches.
const STAGGER: Duration = Duration::from_millis(200);
/// Before trying again to find seats elsewhere.
const RETRY: Duration = Duration::from_secs(2);
/// Who was told to go and is still here after this is told again.
const FORGET: Duration = Duration::from_secs(10);

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

/// Moves people away from this bridge.
#[derive(Debug)]
pub(crate) struct Mover {
    drain: Drain,
    rooms: Rooms,
    peers: Peers,
    /// People in a batch.
    batch: usize,
    /// Who was told to go, and when.
    told: HashMap<ParticipantSid, Instant>,
    moved: Family<ResultLabel, Counter>,
}

/// What became of a batch.
enum Moved {
    /// All of it is on its way.
    Going,
    /// There is no seat elsewhere.
    Nowhere(Nowhere),
}

/// Why there is no seat elsewhere.
struct Nowhere {
    reason: String,
    /// Whether an allocator said so: else none was reached.
    answered: bool,
}

impl Mover {
    /// `batch` people are moved at once.
    pub(crate) fn new(drain: Drain, rooms: Rooms, peers: Peers, batch: usize, registry: &mut Registry) -> Self {
        let moved = Family::default();
        registry.register("drained_participants", "Participants sent to other bridges by drains", moved.clone());
        Self { drain, rooms, peers, batch: batch.max(1), told: HashMap::new(), moved }
    }

    /// Does as ordered until stopped.
    pub(crate) async fn run(mut self, stopped: CancellationToken) {
        let mut changes = self.drain.changes();
        loop {
            let ordered = changes.wait_for(|orders| orders.iter().any(Option::is_some));
            // The sender lives in `self.drain`.
            if stopped.run_until_cancelled(ordered).await.is_none() {
                return;
            }
            if stopped.run_until_cancelled(self.empty()).await.is_none() {
                return;
            }
            self.told.clear();
        }
    }

    /// Moves people until nobody wants that any more.
    async fn empty(&mut self) {
        let began = Instant::now();
        let (mut stuck, mut said_empty) = (None, false);
        info!(participants = self.people().len(), "draining: nobody new is seated here, those who are here are moved");
        while self.drain.is_ordered() {
            let people = self.waiting();
            if people.is_empty() {
                if !said_empty && self.people().is_empty() {
                    said_empty = true;
                    info!(seconds = began.elapsed().as_secs(), "drained: nobody is left here");
                }
                sleep(LOOK).await;
                continue;
            }
            said_empty = false;
            let deadline = self.drain.deadline();
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                warn!(participants = people.len(), "the drain's time is over: who is left is told to reconnect");
                self.send(people.into_iter().map(|person| (person, None)).collect(), "dismissed");
                continue;
            }
            match self.move_batch(plan::batch(people, self.batch)).await {
                Moved::Going => {
                    self.drain.asked(true);
                    stuck = None;
                    self.settle().await;
                }
                Moved::Nowhere(Nowhere { reason, answered }) => {
                    self.drain.asked(answered);
                    if stuck.as_ref() != Some(&reason) {
                        warn!(reason, "nobody can be moved: there is no seat elsewhere; meetings go on here meanwhile");
                        stuck = Some(reason);
                    }
                    let until = Instant::now() + RETRY;
                    sleep_until(deadline.map_or(until, |deadline| deadline.min(until))).await;
                }
            }
        }
        info!("no longer draining");
    }

    /// Reserves seats elsewhere, prepares the bridges they are on, and tells those who have one.
    async fn move_batch(&mut self, batch: Vec<Person>) -> Moved {
        let began = Instant::now();
        let seats = join_all(batch.iter().map(|person| self.reserve(person))).await;
        let (mut going, mut nowhere) = (Vec::new(), None);
        for (person, seat) in batch.into_iter().zip(seats) {
            match seat {
                Ok(seat) => going.push((person, seat)),
                Err(reason) => nowhere = Some(reason),
            }
        }
        if going.is_empty() {
            return nowhere.map_or(Moved::Going, Moved::Nowhere);
        }
        let reserved = began.elapsed();
        let prepared = self.prepare(&going).await;
        let presenters = going.iter().filter(|(person, _)| person.part == Part::Presents).count();
        info!(
            participants = going.len(),
            presenters,
            reserved_ms = reserved.as_millis(),
            prepared_ms = (began.elapsed() - reserved).as_millis(),
            "moving a batch to other bridges"
        );
        let going = going.into_iter().map(|(person, placed)| {
            let to = placed.seat.map(|seat| seat.bridge);
            let to = to.filter(|bridge| prepared.contains(&(person.room.clone(), bridge.clone())));
            (person, to)
        });
        let going = going.collect();
        self.send(going, "moved");
        Moved::Going
    }

    /// A seat on another bridge; the one here is invalid from then on, but keeps its participant until that has gone.
    async fn reserve(&self, person: &Person) -> Result<PlaceResponse, Nowhere> {
        let request = PlaceRequest {
            room: person.room_name.to_string(),
            identity: person.identity.to_string(),
            join_id: format!("move-{}", random_base62(20)),
            participant_sid: person.sid.to_string(),
            sites: self.rooms.sites(),
            avoid: vec![self.rooms.bridge().to_owned()],
            ..PlaceRequest::default()
        };
        // A room that it does not know has ended, or is not known again yet to a store that began empty: either comes out
        // here soon, and until then the meeting goes on.
        let nowhere = |status: Status| Nowhere {
            reason: status.message().to_owned(),
            answered: Refusal::from_status(&status).is_some(),
        };
        self.rooms.place(request).await.map_err(nowhere)
    }

    /// Has the rooms opened on the bridges where people will go, with their media, and known to be there on the rooms' other
    /// bridges. Answers with the rooms whose people are expected now, and by which bridge.
    async fn prepare(&self, going: &[(Person, PlaceResponse)]) -> BTreeSet<(RoomSid, String)> {
        let mut groups: BTreeMap<(RoomSid, String), (RoomInfo, Vec<Coming>)> = BTreeMap::new();
        for (person, placed) in going {
            let PlaceResponse { seat: Some(seat), room: Some(room), .. } = placed else { continue };
            self.peers.learn(&seat.bridge, &seat.bridge_address);
            let coming = Coming { participant_sid: person.sid.to_string(), seat: Some(seat.clone()) };
            let group = groups.entry((person.room.clone(), seat.bridge.clone()));
            group.or_insert_with(|| (room.clone(), Vec::new())).1.push(coming);
        }
        let calls = groups.into_iter().filter_map(|((room, bridge), (info, coming))| {
            let open = self.rooms.of(&room)?;
            Some(async move { self.prepare_one(&open, info, &bridge, coming).await.then_some((room, bridge)) })
        });
        join_all(calls).await.into_iter().flatten().collect()
    }

    async fn prepare_one(&self, room: &RoomHandle, info: RoomInfo, bridge: &str, coming: Vec<Coming>) -> bool {
        let me = self.rooms.bridge();
        room.expect(bridge);
        let state = room.state();
        let after = state.sequence();
        let request = PrepareRequest { room: Some(info), bridge: bridge.to_owned(), coming, after };
        let others: BTreeSet<&str> = state.participants().map(|who| who.bridge.as_str()).collect();
        let others = others.into_iter().filter(|other| *other != bridge && *other != me);
        // They only learn of it a little later without.
        let tell = join_all(others.map(|other| {
            let request = PrepareRequest { coming: Vec::new(), ..request.clone() };
            self.peers.call(other, PREPARE, |mut peer| async move { peer.prepare(request).await })
        }));
        let opened = self.peers.call(bridge, PREPARE, |mut peer| async move { peer.prepare(request).await });
        let (_, opened) = tokio::join!(tell, opened);
        match opened {
            Ok(PrepareResponse { missing: 0 }) => true,
            Ok(PrepareResponse { missing }) => {
                warn!(room = %room.name(), bridge, missing, "not all media of a room has come to the bridge its people are moved to");
                true
            }
            Err(error) => {
                warn!(room = %room.name(), bridge, %error, "people cannot be expected at a bridge: they join there anew");
                false
            }
        }
    }

    /// Tells people to go: to a bridge that expects them, or to wherever they are seated.
    fn send(&mut self, people: Vec<(Person, Option<String>)>, result: &'static str) {
        let now = Instant::now();
        for (person, to) in people {
            self.told.insert(person.sid.clone(), now);
            let Some(room) = self.rooms.of(&person.room) else { continue };
            if room.tell(&person.sid, ToSession::Move { to }) {
                self.moved.get_or_create(&ResultLabel { result }).inc();
            } else {
                // Nobody speaks for it here: it is a leftover.
                tokio::spawn(room.leave(person.sid, DisconnectReason::Migration));
            }
        }
    }

    /// Waits until those who were told have gone, but not for ever.
    async fn settle(&self) {
        let until = Instant::now() + PATIENCE;
        let told = |person: &Person| self.told.contains_key(&person.sid);
        while Instant::now() < until && self.people().iter().any(told) {
            sleep(LOOK).await;
        }
        sleep(STAGGER).await;
    }

    /// Those who sit here and were not told to go lately.
    fn waiting(&mut self) -> Vec<Person> {
        self.told.retain(|_, at| at.elapsed() < FORGET);
        let people = self.people();
        people.into_iter().filter(|person| !self.told.contains_key(&person.sid)).collect()
    }

    /// Everybody who sits here.
    fn people(&self) -> Vec<Person> {
        let mut people = Vec::new();
        for room in self.rooms.all() {
            let state = room.state();
            let here = state.participants().filter(|participant| participant.bridge == self.rooms.bridge());
            people.extend(here.map(|participant| Person {
                room: state.room().sid.clone(),
                room_name: room.name().clone(),
                sid: participant.sid.clone(),
                identity: participant.identity.clone(),
                part: Part::of(participant),
            }));
        }
        people
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::testing::{bridge_of, redis_server::Server, soon};

    /// It may have lost the room, and have it back in a moment: nobody is sent away to join a room that is not there.
    #[tokio::test(flavor = "multi_thread")]
    async fn people_of_a_room_that_the_allocator_does_not_know_stay() {
        let redis = Server::new();
        let eins = bridge_of(redis.url(), Config { bridge: "eins".into(), ..Config::default() }).await;
        let mut mover =
            Mover::new(Drain::default(), eins.rooms.clone(), eins.peers.clone(), 1, &mut Registry::default());
        let anna = Person {
            room: "RM_lost".into(),
            room_name: "rat".into(),
            sid: "PA_a".into(),
            identity: "anna".into(),
            part: Part::Listens,
        };
        let Moved::Nowhere(nowhere) = soon(mover.move_batch(vec![anna])).await else { panic!("she was told to go") };
        assert!(nowhere.answered, "{}", nowhere.reason);
    }
}
