//! What holds for every sequence of commands.

use std::collections::{BTreeMap, BTreeSet};

use livekit_protocol::participant_info::State as Wire;
use livekit_protocol::{DisconnectReason, ParticipantPermission, SubscriptionPermission, TrackPermission, TrackSource};
use proptest::prelude::*;

use super::*;
use crate::room::announce::{Audience, welcome};
use crate::room::apply::{restore, snapshot};
use crate::room::ids::TrackSid;
use crate::room::session::ToSession;
use crate::room::state::Presence;

const IDENTITIES: [&str; 4] = ["a", "b", "c", "d"];
pub(super) const TRACKS: [&str; 6] = ["TR_0", "TR_1", "TR_2", "TR_3", "TR_4", "TR_5"];

fn permissions() -> impl Strategy<Value = ParticipantPermission> {
    let sources = prop::collection::vec(1..=3i32, 0..3);
    (any::<[bool; 5]>(), sources).prop_map(|(bits, can_publish_sources)| ParticipantPermission {
        can_subscribe: bits[0],
        can_publish: bits[1] || bits[4],
        can_publish_data: bits[2],
        can_publish_sources,
        hidden: bits[3] && bits[4],
        can_update_metadata: bits[2],
        ..ParticipantPermission::default()
    })
}

/// A few sids per identity, so that sessions replace each other.
fn sids() -> impl Strategy<Value = (String, ParticipantSid)> {
    (prop::sample::select(&IDENTITIES[..]), 0..3u8)
        .prop_map(|(identity, n)| (identity.to_owned(), format!("PA_{identity}{n}").into()))
}

pub(super) fn commands() -> impl Strategy<Value = Command> {
    let participants = || sids().prop_map(|(_, sid)| sid);
    let tracks = || prop::sample::select(&TRACKS[..]);
    let joins = (sids(), permissions()).prop_map(|((identity, sid), permission)| {
        Command::Join(Box::new(Newcomer { sid, permission, ..newcomer(&identity) }))
    });
    let source = |n: u8| match n {
        0 => TrackSource::Camera,
        1 => TrackSource::Microphone,
        _ => TrackSource::ScreenShare,
    };
    let publishes = (participants(), tracks(), 0..3u8).prop_map(move |(participant, sid, n)| Command::Publish {
        participant,
        track: Box::new(track(sid, source(n))),
    });
    let allows = (participants(), any::<bool>(), participants(), tracks(), any::<bool>()).prop_map(
        |(participant, all_participants, subscriber, track, all_tracks)| {
            let allowed = TrackPermission {
                participant_sid: subscriber.to_string(),
                all_tracks,
                track_sids: vec![track.to_owned()],
                ..TrackPermission::default()
            };
            let permission = SubscriptionPermission { all_participants, track_permissions: vec![allowed] };
            Command::AllowSubscribers { participant, permission }
        },
    );
    prop_oneof![
        6 => joins,
        4 => publishes,
        2 => (participants(), any::<bool>()).prop_map(|(participant, active)| Command::Progress {
            participant,
            presence: if active { Presence::Active } else { Presence::Joined },
        }),
        2 => participants().prop_map(|participant| Command::Leave {
            participant,
            reason: DisconnectReason::ClientInitiated,
        }),
        2 => tracks().prop_map(|track| Command::Unpublish { track: track.into() }),
        2 => (tracks(), any::<bool>()).prop_map(|(track, muted)| Command::Mute { track: track.into(), muted }),
        1 => tracks().prop_map(|sid| Command::UpdateTrack { track: Box::new(track(sid, TrackSource::Camera)) }),
        2 => (participants(), "[a-z]{0,4}").prop_map(|(participant, name)| Command::Describe {
            participant,
            name: Some(name.clone()),
            metadata: None,
            attributes: BTreeMap::from([("k".to_owned(), name)]),
        }),
        2 => (participants(), any::<bool>()).prop_map(|(participant, back)| Command::Move {
            participant,
            bridge: if back { "eins" } else { "zwei" }.to_owned(),
            join_id: format!("move-{back}"),
        }),
        3 => (participants(), permissions()).prop_map(|(participant, permission)| Command::Permit {
            participant,
            permission,
        }),
        2 => allows,
        1 => prop::sample::select(&IDENTITIES[..]).prop_map(|identity| Command::Remove {
            identity: identity.into(),
            revoke_before_ms: None,
        }),
        1 => "[a-z]{0,4}".prop_map(|metadata| Command::DescribeRoom { metadata }),
    ]
}

/// An actor that has the right, where there is one; otherwise the participant itself.
pub(super) fn actor_of(command: &Command) -> Actor {
    match command {
        Command::Join(_) | Command::Move { .. } | Command::UpdateTrack { .. } => Actor::Bridge,
        Command::Progress { participant, .. }
        | Command::Leave { participant, .. }
        | Command::Publish { participant, .. }
        | Command::AllowSubscribers { participant, .. } => Actor::Participant(participant.clone()),
        _ => Actor::Admin,
    }
}

/// What a client knows from what it was told.
#[derive(Default, Debug)]
pub(super) struct Client {
    /// Versions of those it has seen, gone ones too.
    pub(super) versions: BTreeMap<String, u32>,
    pub(super) present: BTreeSet<String>,
    pub(super) available: BTreeSet<TrackSid>,
}

impl Client {
    pub(super) fn hear(&mut self, message: &ToSession) -> Result<(), TestCaseError> {
        match message {
            ToSession::Participants(infos) => {
                for info in infos.iter() {
                    if let Some(version) = self.versions.insert(info.sid.clone(), info.version) {
                        prop_assert!(info.version > version, "{} went from {version} to {}", info.sid, info.version);
                    }
                    if info.state() == Wire::Disconnected {
                        self.present.remove(&info.sid);
                    } else {
                        self.present.insert(info.sid.clone());
                    }
                }
            }
            ToSession::TrackAvailable(track) => {
                prop_assert!(self.available.insert(track.clone()), "{track} was available already");
            }
            ToSession::TrackUnavailable(track) => {
                prop_assert!(self.available.remove(track), "{track} was not available");
            }
            _ => {}
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Clients that only listen know at each moment what the state says they may know, and nothing else.
    #[test]
    fn clients_know_what_the_state_says(commands in prop::collection::vec(commands(), 1..60)) {
        let mut room = Room::new();
        let mut clients: BTreeMap<ParticipantSid, Client> = BTreeMap::new();
        let mut used = BTreeSet::new();
        for command in commands {
            if let Command::Join(newcomer) = &command
                && (!used.insert(newcomer.sid.clone()))
            {
                // Sids are random: no stay has the sid of an earlier one.
                continue;
            }
            let actor = actor_of(&command);
            if room.submit(&actor, &command).is_err() {
                continue;
            }
            if let Command::Join(newcomer) = &command {
                let me = room.state.participant(&newcomer.sid).unwrap();
                let mut client = Client::default();
                for other in room.state.others(&newcomer.sid) {
                    client.versions.insert(other.sid.clone(), other.version);
                    client.present.insert(other.sid);
                }
                for announcement in welcome(&room.state, me) {
                    client.hear(&announcement.message)?;
                }
                clients.insert(newcomer.sid.clone(), client);
            }
            for Announcement { to, message } in &room.told {
                for (sid, client) in &mut clients {
                    let told = match to {
                        Audience::All => true,
                        Audience::Except(not) => sid != not,
                        Audience::Only(only) => sid == only,
                    };
                    // The newcomer learnt of those who left before it from its welcome.
                    let newcomer = matches!(&command, Command::Join(newcomer) if newcomer.sid == *sid);
                    if told && !newcomer {
                        client.hear(message)?;
                    }
                }
            }
            clients.retain(|sid, _| room.state.participant(sid).is_some());
            for (viewer, client) in &clients {
                let visible = room.state.participants().filter(|who| who.sid != *viewer && !who.permission.hidden);
                let visible: BTreeSet<String> = visible.map(|who| who.sid.to_string()).collect();
                let mut known = client.present.clone();
                known.remove(viewer.as_str());
                prop_assert_eq!(known, visible, "what {} knows", viewer);
                let allowed = TRACKS.iter().map(|track| TrackSid::from(*track));
                let allowed: BTreeSet<_> = allowed.filter(|track| room.state.may_subscribe(viewer, track)).collect();
                prop_assert_eq!(&client.available, &allowed, "what {} may have", viewer);
            }
        }
    }

    /// Permissions are honoured at every moment, whatever was tried.
    #[test]
    fn nobody_has_what_it_may_not(commands in prop::collection::vec(commands(), 1..60)) {
        let mut room = Room::new();
        for command in commands {
            let _ = room.submit(&actor_of(&command), &command);
            let mut identities = BTreeSet::new();
            for who in room.state.participants() {
                prop_assert!(identities.insert(who.identity.clone()), "{} is there twice", who.identity);
                for track in &who.tracks {
                    let source = TrackSource::try_from(track.source).unwrap();
                    prop_assert!(who.may_publish(source), "{} publishes {source:?} with {:?}", who.sid, who.permission);
                    prop_assert_eq!(&room.state.track(&track.sid.as_str().into()).unwrap().0.sid, &who.sid);
                }
                for track in TRACKS {
                    if room.state.may_subscribe(&who.sid, &track.into()) {
                        prop_assert!(who.permission.can_subscribe);
                        prop_assert!(who.track(&track.into()).is_none());
                    }
                }
            }
            prop_assert_eq!(room.state.info().num_participants as usize, identities.iter().filter(|identity| {
                !room.state.by_identity(identity.as_str()).unwrap().permission.hidden
            }).count());
        }
    }

    /// Two replicas that read the same log, one of them from a snapshot, are the same.
    #[test]
    fn replicas_agree(commands in prop::collection::vec(commands(), 1..60), cut in any::<prop::sample::Index>()) {
        let mut room = Room::new();
        for command in commands {
            let _ = room.submit(&actor_of(&command), &command);
        }
        let entries: Vec<Logged> =
            (1..).zip(&room.log).map(|(sequence, bytes)| Logged::decode(sequence, bytes.clone())).collect();
        let mut replica = State::new(facts());
        entries.iter().for_each(|entry| apply(&mut replica, entry));
        prop_assert_eq!(&replica, &room.state);

        let cut = cut.index(entries.len() + 1);
        let mut early = State::new(facts());
        entries[..cut].iter().for_each(|entry| apply(&mut early, entry));
        let mut late = State::new(facts());
        restore(&mut late, early.sequence(), &snapshot(&early));
        prop_assert_eq!(&late, &early);
        // What it has already does no harm.
        entries.iter().for_each(|entry| apply(&mut late, entry));
        prop_assert_eq!(&late, &room.state);
    }

    /// Whatever stands in a log, applying it does not fail and replicas agree.
    #[test]
    fn any_log_can_be_applied(
        junk in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
        commands in prop::collection::vec(commands(), 1..20),
    ) {
        let mut room = Room::of(&["a", "b"]);
        for command in commands {
            // Without validation: as from a bridge with another opinion.
            let events = validate(&Room::of(&["a", "b", "c"]).state, &command, &actor_of(&command), 0);
            for event in events.unwrap_or_default() {
                room.append(&event);
            }
        }
        for bytes in junk {
            let logged = Logged::decode(room.state.sequence() + 1, bytes.into());
            apply(&mut room.state, &logged);
        }
        let mut copy = State::new(facts());
        restore(&mut copy, room.state.sequence(), &snapshot(&room.state));
        prop_assert_eq!(copy.info(), room.state.info());
        prop_assert_eq!(copy.carried(), room.state.carried());
    }
}
