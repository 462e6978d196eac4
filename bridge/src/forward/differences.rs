//! What has to be logged of a copy so that it is as the participant it is made of. Pure.

use std::collections::BTreeMap;

use livekit_protocol::TrackInfo;

use super::FORWARDED_FROM;
use crate::room::{Command, Participant};

/// The commands that make `copy` like `original`, in their order; none when it is.
pub(super) fn differences(original: &Participant, copy: &Participant) -> Vec<Command> {
    let mut commands = Vec::new();
    let who = || copy.sid.clone();
    let changed = |now: &String, then: &String| (now != then).then(|| now.clone());
    let name = changed(&original.name, &copy.name);
    let metadata = changed(&original.metadata, &copy.metadata);
    let attributes = attributes(&original.attributes, &copy.attributes);
    if name.is_some() || metadata.is_some() || !attributes.is_empty() {
        commands.push(Command::Describe { participant: who(), name, metadata, attributes });
    }
    // Before there is anything to subscribe to.
    if let Some(permission) = original.subscribers.as_ref().filter(|now| Some(*now) != copy.subscribers.as_ref()) {
        commands.push(Command::AllowSubscribers { participant: who(), permission: (**permission).clone() });
    }
    let find = |of: &Participant, sid: &str| of.tracks.iter().find(|track| track.sid == sid).cloned();
    for gone in copy.tracks.iter().filter(|track| find(original, &track.sid).is_none()) {
        commands.push(Command::Unpublish { track: gone.sid.as_str().into() });
    }
    for track in &original.tracks {
        let Some(known) = find(copy, &track.sid) else {
            commands.push(Command::Publish { participant: who(), track: Box::new(TrackInfo::clone(track)) });
            continue;
        };
        if (TrackInfo { muted: known.muted, ..TrackInfo::clone(track) }) != *known {
            commands.push(Command::UpdateTrack { track: Box::new(TrackInfo::clone(track)) });
        }
        if track.muted != known.muted {
            commands.push(Command::Mute { track: track.sid.as_str().into(), muted: track.muted });
        }
    }
    commands
}

/// What changes the attributes from `then` to `now`, but for the copy's own one; an empty value removes one.
fn attributes(now: &BTreeMap<String, String>, then: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let own = |key: &String| key != FORWARDED_FROM;
    let changed = now.iter().filter(|(key, value)| own(key) && then.get(*key) != Some(*value));
    let gone = then.keys().filter(|key| own(key) && !now.contains_key(*key)).map(|key| (key.clone(), String::new()));
    changed.map(|(key, value)| (key.clone(), value.clone())).chain(gone).collect()
}
