//! What waits for the log: tables, and histories of two bridges that are cut off now and then.

use std::collections::{BTreeMap, BTreeSet};

use livekit_protocol::{DisconnectReason, TrackSource};
use proptest::prelude::*;

use super::properties::{Client, TRACKS, actor_of, commands};
use super::*;
use crate::room::announce::{Audience, catch_up, welcome};
use crate::room::ids::TrackSid;
use crate::room::limits;
use crate::room::queue::{Queue, Reasons, assume, may_wait, must_wait};
use crate::room::state::Presence;

const NOW: u64 = 1_700_000_001_000;

/// A bridge's part of the room: what it knows of the log, what it shows, what waits, and the clients that sit there.
struct Bridge {
    name: &'static str,
    logged: State,
    shown: State,
    queue: Queue,
    clients: BTreeMap<ParticipantSid, Client>,
    told: Vec<Announcement>,
    /// Those here who were told why they are out.
    out: BTreeMap<ParticipantSid, DisconnectReason>,
}

impl Bridge {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            logged: State::new(facts()),
            shown: State::new(facts()),
            queue: Queue::default(),
            clients: BTreeMap::new(),
            told: Vec::new(),
            out: BTreeMap::new(),
        }
    }

    /// Something happens here while the log is away.
    fn put(&mut self, actor: &Actor, command: &Command, now_ms: u64) -> Result<(), Refusal> {
        let events = self.queue.put(&self.shown, actor.clone(), command.clone(), now_ms)?;
        self.told.clear();
        for event in &events {
            let before = self.shown.clone();
            assume(&mut self.shown, event);
            self.told.extend(announce(&before, event, &self.shown));
        }
        Ok(())
    }

    fn join(&mut self, identity: &str, sid: &str, now_ms: u64) -> Result<(), Refusal> {
        let join = joining(self.name, identity, sid);
        self.put(&Actor::Bridge, &join, now_ms)
    }

    /// Reads what is new in the log.
    fn read(&mut self, log: &[Bytes]) {
        let known = usize::try_from(self.logged.sequence()).unwrap();
        for (sequence, bytes) in (self.logged.sequence() + 1..).zip(&log[known..]) {
            apply(&mut self.logged, &Logged::decode(sequence, bytes.clone()));
        }
        let before = self.shown.clone();
        let (shown, reasons) = self.queue.rebase(&self.logged, &before);
        self.shown = shown;
        self.told = catch_up(&before, &self.shown, &reasons);
    }

    /// Appends what waits, if nobody else has appended meanwhile.
    fn send(&mut self, log: &mut Vec<Bytes>) -> bool {
        let parcel = self.queue.parcel(&self.logged);
        if log.len() as u64 != self.logged.sequence() {
            return false;
        }
        log.extend(parcel.batch.entries.iter().cloned());
        parcel.entries.iter().for_each(|entry| apply(&mut self.logged, entry));
        self.queue.landed(&parcel);
        self.read(log);
        true
    }

    /// The clients hear what was told, and know what the state shown here says.
    fn hear(&mut self, newcomer: Option<&ParticipantSid>) -> Result<(), TestCaseError> {
        for Announcement { to, message } in &self.told {
            for (sid, client) in &mut self.clients {
                let told = match to {
                    Audience::All => true,
                    Audience::Except(not) => sid != not,
                    Audience::Only(only) => sid == only,
                };
                if told && newcomer != Some(sid) {
                    client.hear(message)?;
                }
                if let (Audience::Only(only), crate::room::ToSession::Leave { reason, .. }) = (to, message)
                    && only == sid
                {
                    self.out.insert(sid.clone(), *reason);
                }
            }
        }
        if let Some(me) = newcomer.and_then(|sid| self.shown.participant(sid)) {
            let mut client = Client::default();
            for other in self.shown.others(&me.sid) {
                client.versions.insert(other.sid.clone(), other.version);
                client.present.insert(other.sid);
            }
            for announcement in welcome(&self.shown, me) {
                client.hear(&announcement.message)?;
            }
            self.clients.insert(me.sid.clone(), client);
        }
        self.clients.retain(|sid, _| self.shown.participant(sid).is_some());
        for (viewer, client) in &self.clients {
            let visible = self.shown.participants().filter(|who| who.sid != *viewer && !who.permission.hidden);
            let visible: BTreeSet<String> = visible.map(|who| who.sid.to_string()).collect();
            let mut known = client.present.clone();
            known.remove(viewer.as_str());
            prop_assert_eq!(known, visible, "whom {} knows", viewer);
            let allowed = TRACKS.iter().map(|track| TrackSid::from(*track));
            let allowed: BTreeSet<_> = allowed.filter(|track| self.shown.may_subscribe(viewer, track)).collect();
            prop_assert_eq!(&client.available, &allowed, "what {} may have", viewer);
        }
        Ok(())
    }
}

fn joining(bridge: &str, identity: &str, sid: &str) -> Command {
    let newcomer =
        Newcomer { sid: sid.into(), bridge: bridge.to_owned(), join_id: format!("join-{sid}"), ..newcomer(identity) };
    Command::Join(Box::new(newcomer))
}

fn leaving(sid: &str) -> Command {
    Command::Leave { participant: sid.into(), reason: DisconnectReason::ClientInitiated }
}

/// Somebody with agreement: straight into the log.
fn agree(log: &mut Vec<Bytes>, command: &Command, now_ms: u64) {
    let mut state = replayed(log);
    let Ok(events) = validate(&state, command, &actor_of(command), now_ms) else { return };
    for event in events {
        let bytes = encode(&event);
        let logged = Logged::decode(state.sequence() + 1, bytes.clone());
        apply(&mut state, &logged);
        log.push(bytes);
    }
}

fn replayed(log: &[Bytes]) -> State {
    let mut state = State::new(facts());
    (1..).zip(log).for_each(|(sequence, bytes)| apply(&mut state, &Logged::decode(sequence, bytes.clone())));
    state
}

fn people(state: &State) -> Vec<&str> {
    state.participants().map(|who| who.sid.as_str()).collect()
}

#[test]
fn what_concerns_presence_may_wait() {
    let me = Actor::Participant(sid("a"));
    let publish = Command::Publish { participant: sid("a"), track: Box::new(track("TR_1", TrackSource::Camera)) };
    let mute = Command::Mute { track: "TR_1".into(), muted: true };
    let unpublish = Command::Unpublish { track: "TR_1".into() };
    let progress = Command::Progress { participant: sid("a"), presence: Presence::Active };
    let metadata = Command::DescribeRoom { metadata: String::new() };
    let remove = Command::Remove { identity: "a".into(), revoke_before_ms: None };
    let permit = Command::Permit { participant: sid("a"), permission: all_allowed() };
    let move_it = Command::Move { participant: sid("a"), bridge: "b".into(), join_id: "m".into() };
    let table = [
        (joining("eins", "a", "PA_a"), Actor::Bridge, true),
        (leaving("PA_a"), Actor::Bridge, true),
        (progress, Actor::Bridge, true),
        (publish, me.clone(), true),
        (mute.clone(), me.clone(), true),
        (mute, Actor::Admin, false),
        (unpublish.clone(), me, true),
        (unpublish, Actor::Admin, false),
        (metadata, Actor::Admin, false),
        (remove, Actor::Admin, false),
        (permit, Actor::Admin, false),
        (move_it, Actor::Bridge, false),
    ];
    for (command, actor, expected) in table {
        assert_eq!(may_wait(&command, &actor), expected, "{command:?} by {actor:?}");
        assert!(!must_wait(&command) || expected, "{command:?}");
    }
}

#[test]
fn it_is_shown_at_once_and_logged_with_its_seat() {
    let (mut eins, mut log) = (Bridge::new("eins"), Vec::new());
    eins.join("a", "PA_a", NOW).unwrap();
    let publish = Command::Publish { participant: sid("a"), track: Box::new(track("TR_1", TrackSource::Camera)) };
    eins.put(&Actor::Bridge, &publish, NOW + 1).unwrap();
    assert_eq!((people(&eins.shown), eins.shown.sequence()), (vec!["PA_a"], 0), "others wait for no such entry");
    assert!(eins.shown.track(&"TR_1".into()).is_some());
    let parcel = eins.queue.parcel(&eins.logged);
    let [seat] = parcel.batch.claim.as_slice() else { panic!("{:?}", parcel.batch) };
    assert_eq!((seat.join_id.as_str(), seat.identity.as_str(), seat.bridge.as_str()), ("join-PA_a", "a", "eins"));
    assert_eq!(parcel.batch.confirm, ["join-PA_a"]);
    let before = eins.shown.clone();
    assert!(eins.send(&mut log) && eins.queue.is_empty());
    assert_eq!(State { sequence: 2, ..before }, eins.shown, "those here notice nothing");
    assert_eq!(replayed(&log), eins.shown);
}

#[test]
fn the_newer_stay_of_an_identity_wins() {
    let join = |bridge, sid, at| (joining(bridge, "a", sid), at);
    // What is logged before, what waits here, what is logged meanwhile; who is in at the end, and who was put out here.
    let known = Some(join("zwei", "PA_old", NOW + 60_000));
    let cases = [
        (known, NOW, None, "PA_new", None),
        (None, NOW, Some(join("zwei", "PA_other", NOW + 5)), "PA_other", Some(DisconnectReason::DuplicateIdentity)),
        (None, NOW + 5, Some(join("zwei", "PA_other", NOW)), "PA_new", None),
    ];
    for (before, at, meanwhile, expected, out) in cases {
        let (mut eins, mut log) = (Bridge::new("eins"), Vec::new());
        before.iter().for_each(|(join, at)| agree(&mut log, join, *at));
        eins.read(&log);
        eins.join("a", "PA_new", at).unwrap();
        assert_eq!(people(&eins.shown), ["PA_new"]);
        eins.hear(Some(&"PA_new".into())).unwrap();
        meanwhile.iter().for_each(|(join, at)| agree(&mut log, join, *at));
        eins.read(&log);
        eins.hear(None).unwrap();
        eins.send(&mut log);
        assert_eq!((people(&eins.shown), people(&replayed(&log))), (vec![expected], vec![expected]));
        assert_eq!(eins.out.get("PA_new"), out.as_ref());
    }
}

#[test]
fn what_others_decided_meanwhile_holds() {
    let (mut eins, mut log) = (Bridge::new("eins"), Vec::new());
    agree(&mut log, &joining("eins", "a", "PA_a"), NOW);
    eins.read(&log);
    eins.hear(Some(&"PA_a".into())).unwrap();
    let publish =
        |track_sid| Command::Publish { participant: sid("a"), track: Box::new(track(track_sid, TrackSource::Camera)) };
    eins.put(&Actor::Bridge, &publish("TR_1"), NOW).unwrap();
    eins.join("b", "PA_b", NOW).unwrap();
    eins.hear(Some(&"PA_b".into())).unwrap();
    let silent = ParticipantPermission { can_subscribe: true, ..ParticipantPermission::default() };
    agree(&mut log, &Command::Permit { participant: sid("a"), permission: silent }, NOW);
    let ban = Command::Remove { identity: "b".into(), revoke_before_ms: Some(2000) };
    agree(&mut log, &ban, NOW);
    eins.read(&log);
    eins.hear(None).unwrap();
    assert_eq!(people(&eins.shown), ["PA_a"], "banned meanwhile");
    assert_eq!(eins.out.get("PA_b"), Some(&DisconnectReason::ParticipantRemoved));
    assert!(eins.shown.track(&"TR_1".into()).is_none(), "not allowed any more");
    while !eins.queue.is_empty() {
        assert!(eins.send(&mut log));
    }
    assert_eq!(replayed(&log), eins.shown);
}

#[test]
fn the_queue_is_bounded_but_for_what_has_happened_anyway() {
    let mut eins = Bridge::new("eins");
    eins.join("a", "PA_a", NOW).unwrap();
    let publish = Command::Publish { participant: sid("a"), track: Box::new(track("TR_1", TrackSource::Camera)) };
    eins.put(&Actor::Bridge, &publish, NOW).unwrap();
    let mut muted = false;
    while eins.queue.len() < limits::WAITING {
        muted = !muted;
        eins.put(&Actor::Bridge, &Command::Mute { track: "TR_1".into(), muted }, NOW).unwrap();
    }
    let refused = eins.put(&Actor::Bridge, &Command::Mute { track: "TR_1".into(), muted: !muted }, NOW).unwrap_err();
    assert!(matches!(refused, Refusal::Unavailable { .. }), "{refused}");
    assert!(matches!(eins.join("b", "PA_b", NOW).unwrap_err(), Refusal::Unavailable { .. }));
    eins.put(&Actor::Bridge, &leaving("PA_a"), NOW).unwrap();
    assert_eq!(people(&eins.shown), Vec::<&str>::new());
    let mut log = Vec::new();
    while !eins.queue.is_empty() {
        assert!(eins.send(&mut log));
    }
    assert_eq!(replayed(&log), eins.shown);
}

#[test]
fn a_seat_that_an_older_allocator_does_not_know_is_given_up() {
    let mut eins = Bridge::new("eins");
    eins.join("a", "PA_a", NOW).unwrap();
    assert_eq!(eins.queue.forget_join("join-PA_x"), None);
    assert_eq!(eins.queue.forget_join("join-PA_a"), Some("PA_a".into()));
    let before = eins.shown.clone();
    let (shown, reasons) = eins.queue.rebase(&eins.logged, &before);
    assert_eq!((people(&shown), reasons), (vec![], Reasons::new()));
}

/// A step of a history.
#[derive(Clone, Debug)]
enum Step {
    /// Something happens on one of two bridges while the log is away.
    Here(usize, Command),
    /// Something is logged elsewhere.
    There(Command),
    Read(usize),
    Send(usize),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2usize, commands()).prop_map(|(bridge, command)| Step::Here(bridge, command)),
        2 => commands().prop_map(Step::There),
        2 => (0..2usize).prop_map(Step::Read),
        2 => (0..2usize).prop_map(Step::Send),
    ]
}

/// Whose it is: a bridge speaks for those who sit there only.
fn owner(state: &State, command: &Command) -> Option<String> {
    let sid = match command {
        Command::Publish { participant, .. }
        | Command::Leave { participant, .. }
        | Command::Progress { participant, .. } => participant.clone(),
        Command::Unpublish { track } | Command::Mute { track, .. } => state.track(track)?.0.sid.clone(),
        Command::UpdateTrack { track } => state.track(&track.sid.as_str().into())?.0.sid.clone(),
        _ => return None,
    };
    state.participant(&sid).map(|who| who.bridge.clone())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Two bridges that are cut off now and then, and a third that is not: in the end all say the same, nobody is in twice, and
    /// clients have known at each moment what their bridge shows.
    #[test]
    fn all_say_the_same_in_the_end(steps in prop::collection::vec(steps(), 1..60)) {
        let mut log = Vec::new();
        let mut bridges = [Bridge::new("eins"), Bridge::new("zwei")];
        let mut used = BTreeSet::new();
        for (number, step) in (0..).zip(steps) {
            let now_ms = NOW + number;
            match step {
                Step::Here(at, Command::Join(newcomer)) => {
                    if used.insert(newcomer.sid.clone()) {
                        let (bridge, sid) = (bridges[at].name.to_owned(), newcomer.sid.clone());
                        let join = Command::Join(Box::new(Newcomer { bridge, ..*newcomer }));
                        if bridges[at].put(&Actor::Bridge, &join, now_ms).is_ok() {
                            bridges[at].hear(Some(&sid))?;
                        }
                    }
                }
                Step::Here(at, command) => {
                    let bridge = &mut bridges[at];
                    let mine = owner(&bridge.shown, &command).is_some_and(|owner| owner == bridge.name);
                    if mine && bridge.put(&Actor::Bridge, &command, now_ms).is_ok() {
                        bridge.hear(None)?;
                    }
                }
                // Who sits on one of the two is moved by nobody.
                Step::There(Command::Move { .. }) => {}
                Step::There(Command::Join(newcomer)) => {
                    if used.insert(newcomer.sid.clone()) {
                        let newcomer = Newcomer { bridge: "drei".to_owned(), ..*newcomer };
                        agree(&mut log, &Command::Join(Box::new(newcomer)), now_ms);
                    }
                }
                Step::There(command) => agree(&mut log, &command, now_ms),
                Step::Read(at) => {
                    bridges[at].read(&log);
                    bridges[at].hear(None)?;
                }
                Step::Send(at) => {
                    if bridges[at].send(&mut log) {
                        bridges[at].hear(None)?;
                    }
                }
            }
        }
        for _ in 0..4 {
            for bridge in &mut bridges {
                bridge.read(&log);
                bridge.hear(None)?;
                while !bridge.queue.is_empty() {
                    prop_assert!(bridge.send(&mut log));
                    bridge.hear(None)?;
                }
            }
        }
        let all = replayed(&log);
        for bridge in &bridges {
            prop_assert!(bridge.queue.is_empty());
            prop_assert_eq!(&bridge.shown, &all, "{}", bridge.name);
        }
        let mut identities = BTreeSet::new();
        for who in all.participants() {
            prop_assert!(identities.insert(who.identity.clone()), "{} is there twice", who.identity);
        }
    }
}
