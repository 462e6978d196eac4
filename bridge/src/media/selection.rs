//! Which frames of a stream one leg takes: temporal and spatial layers up to a limit, changed where a decoder can follow.
//!
//! - Streams with the dependency descriptor (VP9, AV1): the highest decode target within the limit whose chain is whole. A
//!   frame is taken if it belongs to that target and refers to nothing left out, so the lower layers of the `_KEY` modes
//!   stay out where they serve nobody. A frame that has not come is not held against those that refer to it: it may still.
//! - VP8 and VP9 by their payload descriptors: layers up at layer syncs and switching-up points, spatial ones at key
//!   pictures; down at the next frame.
//! - Others are taken whole.

use super::codec::{Dependencies, Frame, Indication, Structure};
use super::decisions::{Decisions, Fate};
use super::layer::Layer;

/// What is done with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Choice {
    /// It is forwarded.
    pub(crate) taken: bool,
    /// It is the last of its picture for this leg.
    pub(crate) ends_picture: bool,
    /// The decode targets that the leg gets, where they are not all the sender makes and this packet is to say so.
    pub(crate) mask: Option<u32>,
    /// The frame that was just decided on.
    pub(crate) decided: Option<u64>,
}

/// One leg's choice among a stream's frames.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    decisions: Decisions,
    /// What is wanted at most, as it was when the picture began: nothing is given up in the middle of a picture, or it
    /// would have no end.
    limit: Layer,
    /// The last frame's spatial layer.
    last_spatial: u8,
    /// What flows.
    flowing: Layer,
    /// Temporal layers that flow, a bit each (without descriptor).
    open: u8,
    /// The frame from which on that is so: of earlier ones that come late, only the base layer is sure to be decodable.
    since: u64,
    /// The last key picture's first frame, and whether the base layer was whole before it (without descriptor): of what
    /// comes late from before, only that base layer is sure to be decodable.
    key: (u64, bool),
    /// Spatial layers whose higher temporal layers were left out, a bit each (without descriptor).
    ragged: u8,
    /// Chains of which a frame was left out, a bit each.
    broken: u32,
    /// Spatial layers that could be taken at once, a bit each.
    whole: u8,
    /// The highest spatial layer that the sender makes.
    top: u8,
    target: Option<u8>,
    mask: u32,
}

/// Bits of the layers up to this one.
fn up_to(layer: u8) -> u8 {
    1u8.checked_shl(u32::from(layer) + 1).map_or(u8::MAX, |bit| bit - 1)
}

fn bit(layer: u8) -> u8 {
    1u8.checked_shl(layer.into()).unwrap_or(0)
}

impl Selection {
    /// Begins with a key frame.
    pub(crate) fn new(first: &Frame, limit: Layer) -> Self {
        Self {
            decisions: Decisions::new(first.number.unwrap_or(0)),
            limit,
            last_spatial: u8::MAX,
            flowing: Layer { spatial: 0, ..limit },
            open: up_to(limit.temporal),
            since: first.number.unwrap_or(0),
            key: (first.number.unwrap_or(0), true),
            ragged: 0,
            broken: u32::MAX,
            whole: 1,
            top: 0,
            target: None,
            mask: 0,
        }
    }

    /// What flows.
    pub(crate) fn flowing(&self) -> Layer {
        self.flowing
    }

    /// Whether only a key frame leads to the limit's spatial layer, or to the highest there is below.
    pub(crate) fn lacks(&self, limit: Layer) -> bool {
        self.whole & bit(limit.spatial.min(self.top)) == 0
    }

    /// Decides on a packet.
    pub(crate) fn choose(&mut self, frame: &Frame, structure: Option<&Structure>, limit: Layer) -> Choice {
        let Some(number) = frame.number else {
            self.flowing.temporal = limit.temporal;
            return Choice { taken: true, ends_picture: false, mask: None, decided: None };
        };
        let described = frame.dependencies.as_ref().zip(structure);
        let fate = self.decisions.fate(number);
        let (taken, decided) = match fate {
            Fate::Taken => (true, None),
            Fate::LeftOut => (false, None),
            Fate::Open => {
                let newest = self.decisions.is_newest(number);
                let begins = newest && frame.spatial <= self.last_spatial;
                if begins {
                    self.limit = limit;
                }
                if newest {
                    self.last_spatial = frame.spatial;
                }
                let taken = match described {
                    Some((dependencies, structure)) => {
                        if newest {
                            self.aim(frame, dependencies, structure, begins);
                        }
                        self.is_decodable(dependencies)
                    }
                    None => self.by_layers(frame, number, newest),
                };
                self.decisions.decide(number, taken);
                (taken, Some(number))
            }
        };
        let top = frame.spatial == self.flowing.spatial;
        let ends_picture =
            frame.end && top && (described.is_some() || !frame.independent || frame.spatial >= self.limit.spatial);
        let mask = described.filter(|(dependencies, _)| frame.start && self.mask != dependencies.active);
        Choice { taken, ends_picture, mask: mask.map(|_| self.mask), decided }
    }

    /// Finds the decode target to go by, at the beginning of a frame. `begins`: of a picture, too.
    fn aim(&mut self, frame: &Frame, dependencies: &Dependencies, structure: &Structure, begins: bool) {
        for chain in 0..structure.chains() {
            match dependencies.before_in_chain(chain) {
                None => self.broken &= !(1 << chain),
                Some(before) if self.decisions.fate(before) == Fate::LeftOut => self.broken |= 1 << chain,
                Some(_) => {}
            }
        }
        let (mut best, mut lowest, mut whole) = (None, None, 0u32);
        (self.whole, self.top) = (0, 0);
        for (target, layer) in structure.targets().filter(|(target, _)| dependencies.active >> target & 1 == 1) {
            self.top = self.top.max(layer.spatial);
            let is_whole = match structure.chain_of(target) {
                Some(chain) => self.broken >> chain & 1 == 0,
                // Nothing protects it: it is taken up at key frames only.
                None => frame.key_start || layer.spatial == self.flowing.spatial,
            };
            if !is_whole {
                continue;
            }
            whole |= 1 << target;
            self.whole |= bit(layer.spatial);
            lowest = Some((target, layer));
            let wanted = layer.spatial <= self.limit.spatial && layer.temporal <= self.limit.temporal;
            if best.is_none() && wanted && self.may_follow(target, layer, dependencies) {
                best = lowest;
            }
        }
        // On the way down to a layer that only a key frame can begin: the least of what can be decoded.
        let found = if begins { best.or(lowest) } else { best.filter(|(_, layer)| self.is_higher_temporal(*layer)) };
        if let Some((target, layer)) = found {
            (self.target, self.flowing) = (Some(target), layer);
        } else if begins {
            self.target = None;
        }
        self.whole &= up_to(self.flowing.spatial); // further up by key frames only
        let within = |layer: Layer| layer.spatial <= self.flowing.spatial && layer.temporal <= self.flowing.temporal;
        self.mask = structure
            .targets()
            .filter(|&(target, layer)| whole >> target & 1 == 1 && within(layer))
            .fold(0, |mask, (target, _)| mask | 1 << target);
    }

    /// Whether a target can be gone by from this frame on: at key frames every one, less at any time, higher temporal
    /// layers at a frame that says so.
    fn may_follow(&self, target: u8, layer: Layer, dependencies: &Dependencies) -> bool {
        let less = layer.spatial <= self.flowing.spatial && layer.temporal <= self.flowing.temporal;
        let switch = layer.spatial == self.flowing.spatial && dependencies.indication(target) == Indication::Switch;
        dependencies.structure || (self.target.is_some() && less) || switch
    }

    fn is_higher_temporal(&self, layer: Layer) -> bool {
        layer.spatial == self.flowing.spatial && layer.temporal > self.flowing.temporal
    }

    fn is_decodable(&self, dependencies: &Dependencies) -> bool {
        self.target.is_some_and(|target| dependencies.indication(target) != Indication::NotPresent)
            && dependencies.references().all(|number| self.decisions.fate(number) != Fate::LeftOut)
    }

    /// The same by the payload descriptor of VP8 or VP9.
    fn by_layers(&mut self, frame: &Frame, number: u64, newest: bool) -> bool {
        let limit = self.limit;
        let (spatial, temporal) = (frame.spatial, frame.temporal);
        if newest {
            self.open &= up_to(limit.temporal);
            self.flowing.temporal = limit.temporal;
            if frame.key_start {
                self.key = (number, self.whole & 1 != 0);
                (self.flowing.spatial, self.whole, self.top, self.ragged) = (0, 1, 0, 0);
                self.open = up_to(limit.temporal);
            }
            self.top = self.top.max(spatial);
            let below_taken = spatial > 0 && self.decisions.fate(number - 1) != Fate::LeftOut;
            if spatial == 0 && limit.spatial < self.flowing.spatial && self.whole & bit(limit.spatial) != 0 {
                self.flowing.spatial = limit.spatial;
                if self.ragged & bit(limit.spatial) != 0 {
                    self.open &= 1;
                }
            } else if spatial > self.flowing.spatial && spatial <= limit.spatial && frame.independent && below_taken {
                self.flowing.spatial = spatial;
                self.whole |= bit(spatial);
                self.since = number;
            }
        }
        let highest = self.flowing.spatial;
        if spatial > highest || (spatial < highest && !frame.for_higher && !frame.independent) {
            if temporal == 0 {
                self.whole &= !bit(spatial);
            } else {
                self.ragged |= bit(spatial);
            }
            return false;
        }
        let all_lower = self.open & up_to(temporal) == up_to(temporal);
        if temporal > limit.temporal || !(all_lower || frame.layer_sync) {
            return false;
        }
        if !newest && number < self.since && (spatial, temporal) != (0, 0) {
            return false;
        }
        let (key, base_before) = self.key;
        if number < key && !(base_before && (spatial, temporal) == (0, 0)) {
            return false;
        }
        let mut open = self.open;
        if newest && frame.layer_sync {
            open |= bit(temporal);
        }
        if newest && frame.switch_up {
            open = up_to(limit.temporal);
        }
        if open != self.open {
            (self.open, self.since) = (open, number);
        }
        true
    }
}
