//! Who speaks, as the changes that clients are told: [`Speakers`]. Pure.

use std::collections::BTreeMap;

use livekit_protocol::SpeakerInfo;

use super::ids::ParticipantSid;

/// The speakers that were told last.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Speakers {
    active: BTreeMap<ParticipantSid, f32>,
}

impl Speakers {
    /// Takes who speaks now, at which level (0.0–1.0), and answers with what changed: speakers with their level, and those
    /// who fell silent with `active` false. Several tracks of one participant count as its loudest.
    pub fn update(&mut self, now: impl IntoIterator<Item = (ParticipantSid, f32)>) -> Vec<SpeakerInfo> {
        let mut active = BTreeMap::new();
        for (sid, level) in now {
            let loudest: &mut f32 = active.entry(sid).or_default();
            *loudest = loudest.max(level);
        }
        let speaking = active.iter().filter(|(sid, level)| self.active.get(*sid) != Some(level));
        let mut changes: Vec<SpeakerInfo> = speaking.map(|(sid, level)| speaker(sid, *level)).collect();
        // Loudest first, as the protocol has it.
        changes.sort_by(|a, b| b.level.total_cmp(&a.level));
        let silent = self.active.keys().filter(|sid| !active.contains_key(*sid));
        changes.extend(silent.map(|sid| SpeakerInfo { active: false, ..speaker(sid, 0.0) }));
        self.active = active;
        changes
    }

    /// Everybody who speaks, for a newcomer.
    #[must_use]
    pub fn current(&self) -> Vec<SpeakerInfo> {
        self.active.iter().map(|(sid, level)| speaker(sid, *level)).collect()
    }

    /// Somebody has left; the others know that from the participants' updates.
    pub fn forget(&mut self, sid: &ParticipantSid) {
        self.active.remove(sid);
    }
}

fn speaker(sid: &ParticipantSid, level: f32) -> SpeakerInfo {
    SpeakerInfo { sid: sid.to_string(), level, active: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(speakers: &mut Speakers, now: &[(&str, f32)]) -> Vec<(String, f32, bool)> {
        let now: Vec<_> = now.iter().map(|(sid, level)| (ParticipantSid::from(*sid), *level)).collect();
        speakers.update(now).into_iter().map(|info| (info.sid, info.level, info.active)).collect()
    }

    #[test]
    fn only_changes_are_told_loudest_first() {
        let mut speakers = Speakers::default();
        let first = told(&mut speakers, &[("PA_a", 0.2), ("PA_b", 0.5), ("PA_a", 0.1)]);
        assert_eq!(first, [("PA_b".into(), 0.5, true), ("PA_a".into(), 0.2, true)]);
        assert!(told(&mut speakers, &[("PA_a", 0.2), ("PA_b", 0.5)]).is_empty());
        let second = told(&mut speakers, &[("PA_a", 0.9)]);
        assert_eq!(second, [("PA_a".into(), 0.9, true), ("PA_b".into(), 0.0, false)]);
        assert_eq!(told(&mut speakers, &[]), [("PA_a".into(), 0.0, false)]);
        assert!(speakers.current().is_empty());
    }
}
