//! When and how a peer's budget is given to its legs (`../allocation.rs` decides what each gets), and what follows for the
//! publishers.
//!
//! A peer is gone through when something changed (what it wants, what of a track can be had, who speaks, a budget that
//! moved by a twentieth) and five times a second while a budget is known, because rates move too. Legs that the client does
//! not want cost one comparison each.

use std::time::Instant;

use super::super::allocation::{self, Demand, Rank, Scratch};
use super::super::control::{Event, Kind, Wanted};
use super::super::layer::Layer;
use super::super::track::{MAX_LAYERS, Track};
use super::mirror::Needs;
use super::peer::LegRef;
use super::{Engine, Peer};

/// Ticks between two turns of a limited peer.
const TURN: u64 = super::feedback::every(std::time::Duration::from_millis(200));

/// Working memory, kept so that nothing is allocated.
#[derive(Default)]
pub(super) struct Workspace {
    demands: Vec<Demand>,
    /// The demands' places: (track, leg in the track).
    places: Vec<(usize, usize)>,
    scratch: Scratch,
}

impl Engine {
    /// Gives a peer's legs what they get now.
    pub(super) fn allocate(&mut self, now: Instant, key: usize) {
        let mut work = std::mem::take(&mut self.workspace);
        if let Some(peer) = self.peers.get_mut(key) {
            let speaker = self.rooms.get(&peer.room).and_then(|room| room.spotlight.speaker());
            let audio = collect(peer, &mut self.tracks, speaker, &mut work);
            peer.bandwidth.beside(audio);
            let budget = peer.budget();
            let Workspace { demands, scratch, .. } = &mut work;
            let outcome = allocation::allocate(now, budget, audio, demands, &mut peer.allocation.memory, scratch);
            peer.wish(outcome.wish, outcome.starved);
            (peer.allocation.due, peer.allocation.budget, peer.allocation.short) = (false, budget, outcome.short);
            for (demand, &(track, at)) in work.demands.iter().zip(&work.places) {
                self.apply(now, demand, track, at, (budget, outcome.used));
            }
            for &(track, at) in &work.places {
                if self.tracks[track].legs[at].awaits().is_some() {
                    self.request_key_frames(now, track);
                }
            }
        }
        self.workspace = work;
    }

    fn apply(&mut self, now: Instant, demand: &Demand, key: usize, at: usize, (budget, used): (Option<u64>, u64)) {
        let track = &mut self.tracks[key];
        let target = demand.layer();
        let leg = &mut track.legs[at];
        if leg.target != target {
            tracing::debug!(
                transport = leg.transport.0,
                leg = leg.id.0,
                from = ?leg.target,
                to = ?target,
                wanted = ?leg.wanted,
                rank = ?demand.rank,
                because = reason(demand),
                budget,
                used,
                "allocation"
            );
        }
        // Until something was given to it, it does not wait.
        (leg.fresh, leg.rank) = (leg.fresh && target.is_none(), demand.rank);
        if demand.ladder.is_empty() {
            return; // it goes on as soon as there is something to be had
        }
        if target.is_none() && !leg.starved {
            leg.active = false;
            self.events.push(Event::LegActive { transport: leg.transport, leg: leg.id, active: false });
        }
        leg.starved = target.is_none();
        track.aim(at, target);
        self.dynacast(now, key);
    }

    /// Looks whether a track's publisher has to send more or less than it does.
    pub(super) fn dynacast(&mut self, now: Instant, at: usize) {
        let asks = |track: &&mut Track| (track.kind == Kind::Video || track.relayed) && !track.muted;
        let Some(track) = self.tracks.get_mut(at).filter(asks) else {
            return;
        };
        let (transport, of) = (track.transport, track.id);
        if track.relayed && track.layer_count > 1 {
            let needed = track.needed_exactly();
            match track.supply.need_exactly(now, needed) {
                Some(streams) if track.mirrored => {
                    let layers = (u8::BITS - streams.leading_zeros()) as u8;
                    self.pull(at, Needs { streams, layers });
                }
                Some(streams) => self.events.push(Event::StreamsNeeded { transport, track: of, streams }),
                None => {}
            }
            return;
        }
        let mut needed = track.needed();
        if track.relayed && track.kind == Kind::Video {
            // Which layers are in a single stream is only seen when they come.
            needed.here = needed.wanted.min(MAX_LAYERS as u8);
        }
        if let Some(layers) = track.supply.need(now, needed) {
            tracing::debug!(transport = transport.0, track = of.0, layers, "layers needed");
            if track.mirrored {
                self.pull(at, Needs { streams: u8::from(layers > 0), layers });
            } else {
                self.events.push(Event::LayersNeeded { transport, track: of, layers });
            }
        }
    }

    /// Something changed for a peer: it is gone through in [`Self::settle`].
    pub(super) fn reconsider(&mut self, key: usize) {
        if let Some(peer) = self.peers.get_mut(key)
            && !std::mem::replace(&mut peer.allocation.due, true)
        {
            self.due.push(key);
        }
    }

    /// What can be had of a track changed for its subscribers.
    pub(super) fn reconsider_track(&mut self, at: usize) {
        for index in 0..self.tracks.get(at).map_or(0, |track| track.legs.len()) {
            self.reconsider(self.tracks[at].legs[index].peer);
        }
    }

    /// Goes through the peers for which something changed.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(key) = self.due.pop() {
            self.allocate(now, key);
        }
    }

    /// With time: a peer whose budget moved, or whose turn it is.
    pub(super) fn watch_budget(&mut self, key: usize) {
        let Some(peer) = self.peers.get(key) else { return };
        let turn = (self.ticks + key as u64).is_multiple_of(TURN);
        let due = match (peer.allocation.budget, peer.budget()) {
            (None, None) => false,
            (Some(before), Some(now)) => turn || before.abs_diff(now) > before / 20,
            _ => true,
        };
        if due {
            self.reconsider(key);
        }
    }

    /// With time: what of a track can be had, what its legs wait for, and what nobody needs.
    pub(super) fn watch_track(&mut self, now: Instant, at: usize) {
        let Some(track) = self.tracks.get_mut(at) else { return };
        let changed = track.look(now);
        if track.recent.is_some() && track.legs.iter().all(|leg| leg.redundancy == 0) {
            track.recent = None;
        }
        self.request_key_frames(now, at);
        self.dynacast(now, at);
        if changed {
            self.reconsider_track(at);
        }
    }
}

/// A peer's video legs that the client wants, and the bits per second of the audio that it gets.
fn collect(peer: &mut Peer, tracks: &mut slab::Slab<Track>, speaker: Option<usize>, work: &mut Workspace) -> u64 {
    work.demands.clear();
    work.places.clear();
    let mut audio = 0;
    for known in peer.legs.iter_mut().filter(|known| known.wanted) {
        let Some(track) = tracks.get_mut(known.track) else { continue };
        let Some(at) = find(known, track) else { continue };
        if track.kind == Kind::Audio {
            let sound = track.audio_bits();
            // The payload again, without what is around it.
            audio += sound + u64::from(track.legs[at].redundancy) * sound * 3 / 5;
            track.aim(at, Some(Layer::full(0)));
            continue;
        }
        let leg = &track.legs[at];
        let (rank, ladder) = match leg.wanted.layer {
            // Of several streams to another bridge, the lowest ones first.
            Some(layer) if leg.exact && track.layer_count > 1 => {
                let rank = if track.screen { Rank::Screen } else { Rank::Pinned(layer + 1) };
                (rank, track.exact_step(leg.wanted))
            }
            _ => (rank(leg.wanted, track.screen, speaker == Some(track.voice)), track.ladder(leg.wanted)),
        };
        let fresh = leg.fresh || rank < leg.rank;
        work.demands.push(Demand::new(rank, ladder, leg.target, fresh));
        work.places.push((known.track, at));
    }
    audio
}

/// Where a leg is in its track.
pub(super) fn find(known: &mut LegRef, track: &Track) -> Option<usize> {
    if track.legs.get(known.at).is_none_or(|leg| leg.id != known.leg) {
        known.at = track.legs.iter().position(|leg| leg.id == known.leg)?;
    }
    Some(known.at)
}

fn rank(wanted: Wanted, screen: bool, speaks: bool) -> Rank {
    match wanted.priority {
        _ if screen => Rank::Screen,
        1.. => Rank::Pinned(wanted.priority),
        0 if speaks => Rank::Speaker,
        0 => Rank::Other,
    }
}

/// Why a track's level is another one now.
fn reason(demand: &Demand) -> &'static str {
    match (demand.held, demand.level) {
        _ if demand.ladder.is_empty() => "there is nothing to be had",
        (_, level) if level == demand.ladder.len() && demand.fresh => "wanted",
        (_, level) if level == demand.ladder.len() => "everything wanted fits",
        (0, 0) => "not even the first step fits",
        (_, 0) => "does not fit any more",
        (held, level) if level < held => "fits no better",
        (held, level) if level == held => "the layers changed",
        _ => "fits with a margin",
    }
}
