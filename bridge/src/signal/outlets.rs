//! Which m-section carries which subscribed track to the client.
//!
//! A section that loses its track must be answered (or offered) inactive once before it may carry another: a browser tells
//! its page of a new track only when a section's direction starts to receive, not when its `msid` changes. Pure.

use std::collections::BTreeSet;

use crate::media::control::{Kind, LegId};
use crate::room::TrackSid;

/// The sections that can carry something to the client, in the order of the SDP.
#[derive(Default, Debug)]
pub(crate) struct Outlets {
    sections: Vec<Outlet>,
}

/// One of them.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Outlet {
    pub(crate) mid: String,
    pub(crate) kind: Kind,
    pub(crate) state: Carries,
}

/// What a section carries.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Carries {
    /// Nothing, and the client knows.
    Nothing,
    /// Nothing any more, but the client has not been told.
    Past,
    /// A subscribed track.
    Track(Leg),
}

/// A subscribed track on its section.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Leg {
    pub(crate) track: TrackSid,
    pub(crate) leg: LegId,
    /// Ours, unique on the transport.
    pub(crate) ssrc: u32,
    /// Ours, for retransmissions.
    pub(crate) rtx_ssrc: u32,
    /// Whether the client has been told.
    pub(crate) told: bool,
}

/// How many sections more are needed, by kind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Missing {
    pub(crate) audio: u32,
    pub(crate) video: u32,
}

impl Missing {
    fn of(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }

    pub(crate) fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl Outlets {
    /// A section carries a track already, by the word of another bridge.
    pub(crate) fn restore(&mut self, mid: &str, kind: Kind, track: TrackSid, mut mint: impl FnMut() -> u32) {
        if self.leg(&track).is_none() {
            let leg = Leg { track, leg: LegId::next(), ssrc: mint(), rtx_ssrc: mint(), told: true };
            self.sections.push(Outlet { mid: mid.to_owned(), kind, state: Carries::Track(leg) });
        }
    }

    /// The sections of the latest description that the client can receive on. Sections that are gone lose their tracks.
    pub(crate) fn sections<'a>(&mut self, now: impl IntoIterator<Item = (&'a str, Kind)>) {
        let mut old = std::mem::take(&mut self.sections);
        for (mid, kind) in now {
            let known = old.iter().position(|outlet| outlet.mid == mid && outlet.kind == kind);
            self.sections.push(match known {
                Some(index) => old.swap_remove(index),
                None => Outlet { mid: mid.to_owned(), kind, state: Carries::Nothing },
            });
        }
    }

    /// Takes tracks off that are not wanted any more. True when there was one.
    pub(crate) fn release(&mut self, wanted: &BTreeSet<TrackSid>) -> bool {
        let mut released = false;
        for outlet in &mut self.sections {
            if let Carries::Track(leg) = &outlet.state
                && !wanted.contains(&leg.track)
            {
                outlet.state = if leg.told { Carries::Past } else { Carries::Nothing };
                released = true;
            }
        }
        released
    }

    /// Gives wanted tracks that have no section one that carries nothing, as far as there are any. `mint` gives SSRCs.
    pub(crate) fn fill<'a>(
        &mut self,
        wanted: impl IntoIterator<Item = (&'a TrackSid, Kind)>,
        mut mint: impl FnMut() -> u32,
    ) {
        for (track, kind) in wanted {
            if self.leg(track).is_some() {
                continue;
            }
            let free = |outlet: &&mut Outlet| outlet.kind == kind && outlet.state == Carries::Nothing;
            if let Some(outlet) = self.sections.iter_mut().find(free) {
                let (ssrc, rtx_ssrc) = (mint(), mint());
                let leg = Leg { track: track.clone(), leg: LegId::next(), ssrc, rtx_ssrc, told: false };
                outlet.state = Carries::Track(leg);
            }
        }
    }

    /// The client has been told all of this.
    pub(crate) fn told(&mut self) {
        for outlet in &mut self.sections {
            match &mut outlet.state {
                Carries::Track(leg) => leg.told = true,
                Carries::Past => outlet.state = Carries::Nothing,
                Carries::Nothing => {}
            }
        }
    }

    /// Whether a new description is needed, and how many sections it needs more than there are. Sections that are about
    /// to carry nothing count as free: it takes one description more to use them, but the SDP does not grow.
    pub(crate) fn needs<'a>(&self, wanted: impl IntoIterator<Item = (&'a TrackSid, Kind)>) -> Option<Missing> {
        let mut waiting = Missing::default();
        for (_, kind) in wanted.into_iter().filter(|(track, _)| self.leg(track).is_none()) {
            *waiting.of(kind) += 1;
        }
        let untold = |outlet: &Outlet| match &outlet.state {
            Carries::Past => true,
            Carries::Track(leg) => !leg.told,
            Carries::Nothing => false,
        };
        if waiting.is_none() && !self.sections.iter().any(untold) {
            return None;
        }
        for outlet in self.sections.iter().filter(|outlet| outlet.leg().is_none()) {
            let waiting = waiting.of(outlet.kind);
            *waiting = waiting.saturating_sub(1);
        }
        Some(waiting)
    }

    /// What the section of this mid carries.
    pub(crate) fn on(&self, mid: &str) -> Option<&Leg> {
        self.sections.iter().find(|outlet| outlet.mid == mid).and_then(Outlet::leg)
    }

    /// The leg of a track.
    pub(crate) fn leg(&self, track: &TrackSid) -> Option<&Leg> {
        self.legs().map(|(_, leg)| leg).find(|leg| leg.track == *track)
    }

    /// Every carried track with its section.
    pub(crate) fn legs(&self) -> impl Iterator<Item = (&Outlet, &Leg)> {
        self.sections.iter().filter_map(|outlet| Some((outlet, outlet.leg()?)))
    }
}

impl Outlet {
    fn leg(&self) -> Option<&Leg> {
        match &self.state {
            Carries::Track(leg) => Some(leg),
            Carries::Nothing | Carries::Past => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sid(name: &str) -> TrackSid {
        TrackSid::from(name)
    }

    fn minter() -> impl FnMut() -> u32 {
        let mut last = 0;
        move || {
            last += 1;
            last
        }
    }

    fn carried(outlets: &Outlets) -> Vec<(&str, &str)> {
        outlets.legs().map(|(outlet, leg)| (outlet.mid.as_str(), leg.track.as_str())).collect()
    }

    const SECTIONS: [(&str, Kind); 4] =
        [("0", Kind::Audio), ("1", Kind::Audio), ("2", Kind::Video), ("3", Kind::Video)];

    #[test]
    fn tracks_get_sections_of_their_kind_and_keep_them() {
        let mut outlets = Outlets::default();
        outlets.sections(SECTIONS);
        let (a, b, v) = (sid("TR_a"), sid("TR_b"), sid("TR_v"));
        let wanted = [(&v, Kind::Video), (&a, Kind::Audio), (&b, Kind::Audio)];
        assert_eq!(outlets.needs(wanted), Some(Missing::default()), "enough sections, but the client must be told");
        outlets.fill(wanted, minter());
        assert_eq!(carried(&outlets), [("0", "TR_a"), ("1", "TR_b"), ("2", "TR_v")]);
        let before: Vec<Leg> = outlets.legs().map(|(_, leg)| leg.clone()).collect();
        outlets.sections(SECTIONS);
        outlets.fill(wanted, minter());
        assert_eq!(outlets.legs().map(|(_, leg)| leg.clone()).collect::<Vec<_>>(), before);
        let mut ssrcs: Vec<u32> = before.iter().flat_map(|leg| [leg.ssrc, leg.rtx_ssrc]).collect();
        ssrcs.sort_unstable();
        ssrcs.dedup();
        assert_eq!(ssrcs.len(), 6);
    }

    #[test]
    fn what_finds_no_section_is_counted() {
        let mut outlets = Outlets::default();
        outlets.sections([("0", Kind::Audio)]);
        let (a, b, v) = (sid("TR_a"), sid("TR_b"), sid("TR_v"));
        let wanted = [(&a, Kind::Audio), (&b, Kind::Audio), (&v, Kind::Video)];
        outlets.fill(wanted, minter());
        assert_eq!(outlets.needs(wanted), Some(Missing { audio: 1, video: 1 }));
        outlets.told();
        assert_eq!(outlets.needs([(&a, Kind::Audio)]), None, "all is told");
    }

    #[test]
    fn a_section_is_inactive_once_before_it_is_reused() {
        let mut outlets = Outlets::default();
        outlets.sections([("0", Kind::Audio)]);
        let (a, b) = (sid("TR_a"), sid("TR_b"));
        outlets.fill([(&a, Kind::Audio)], minter());
        outlets.told();
        assert!(outlets.release(&BTreeSet::from([b.clone()])));
        assert_eq!(outlets.needs([(&b, Kind::Audio)]), Some(Missing::default()), "no second section for one track");
        outlets.fill([(&b, Kind::Audio)], minter());
        assert_eq!(outlets.on("0"), None, "not yet");
        outlets.told();
        assert_eq!(outlets.needs([(&b, Kind::Audio)]), Some(Missing::default()), "one more description");
        outlets.fill([(&b, Kind::Audio)], minter());
        assert_eq!(carried(&outlets), [("0", "TR_b")]);
    }

    #[test]
    fn a_track_the_client_never_saw_frees_its_section_at_once() {
        let mut outlets = Outlets::default();
        outlets.sections([("0", Kind::Audio)]);
        let (a, b) = (sid("TR_a"), sid("TR_b"));
        outlets.fill([(&a, Kind::Audio)], minter());
        assert!(outlets.release(&BTreeSet::new()));
        outlets.fill([(&b, Kind::Audio)], minter());
        assert_eq!(carried(&outlets), [("0", "TR_b")]);
    }

    #[test]
    fn a_section_that_is_gone_takes_its_track_along() {
        let mut outlets = Outlets::default();
        outlets.sections(SECTIONS);
        let a = sid("TR_a");
        outlets.fill([(&a, Kind::Audio)], minter());
        outlets.sections([("1", Kind::Audio)]);
        assert_eq!(outlets.leg(&a), None);
        outlets.fill([(&a, Kind::Audio)], minter());
        assert_eq!(carried(&outlets), [("1", "TR_a")]);
    }
}
