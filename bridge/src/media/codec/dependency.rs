//! The dependency descriptor, an RTP header extension (RTP payload format for AV1, appendix A): which layers a packet's
//! frame belongs to, which frames it needs, and for whom. VP9 and AV1 are forwarded by it.
//!
//! A key frame brings a [`Structure`] of templates; every packet refers to one of them. Terms of the appendix: a *decode
//! target* is a set of frames somebody may decode (one per spatial and temporal layer as a rule), a *decode target
//! indication* (DTI) says what a frame is to a target, a *chain* is the line of frames without which a target is lost.

use std::sync::Arc;

use super::super::layer::Layer;
use super::bits::{BitWriter, Bits};

/// Templates of a structure, by the width of their id.
const MAX_TEMPLATES: usize = 64;
/// Decode targets, by the width of their count.
const MAX_TARGETS: usize = 32;
/// Frames that one frame may refer to: AV1 has seven reference slots.
const MAX_REFERENCES: usize = 8;
/// The widest descriptor that is rewritten with a bitmask, bytes. Structures are wider and never are.
const MAX_REWRITTEN: usize = 64;

/// What a frame is to a decode target.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Indication {
    /// Not part of it.
    NotPresent,
    /// Part of it, but nobody refers to it.
    Discardable,
    /// One can begin with the target here, if one has had the lower ones.
    Switch,
    /// Part of it.
    Required,
}

/// What is said of a frame by a template, and by custom fields instead.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Template {
    spatial: u8,
    temporal: u8,
    /// Two bits for each decode target.
    indications: u64,
    /// How many frames ago the frames it refers to were; the first `reference_count`.
    references: [u16; MAX_REFERENCES],
    reference_count: u8,
    /// How many frames ago each chain's last frame was, 0 where the chain begins.
    chains: [u8; MAX_TARGETS],
}

/// What a key frame says about the frames to come. About 5 KiB, one per stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Structure {
    id: u8,
    templates: [Template; MAX_TEMPLATES],
    template_count: usize,
    target_count: usize,
    chain_count: usize,
    /// The chain that protects each target.
    protected_by: [u8; MAX_TARGETS],
    /// Each target's highest layers.
    layers: [Layer; MAX_TARGETS],
    /// The targets from the highest layers to the lowest.
    order: [u8; MAX_TARGETS],
}

impl Structure {
    /// The decode targets from the highest (spatial, temporal) layer to the lowest.
    pub(crate) fn targets(&self) -> impl Iterator<Item = (u8, Layer)> + '_ {
        self.order[..self.target_count].iter().map(|&target| (target, self.layers[usize::from(target)]))
    }

    /// How many decode targets there are.
    pub(crate) fn target_count(&self) -> usize {
        self.target_count
    }

    /// How many chains there are.
    pub(crate) fn chains(&self) -> usize {
        self.chain_count
    }

    /// The chain that protects a target; `None` in a structure without chains.
    pub(crate) fn chain_of(&self, target: u8) -> Option<usize> {
        (self.chain_count > 0).then(|| usize::from(self.protected_by[usize::from(target)]))
    }

    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let mut this = Self {
            id: bits.read(6)? as u8,
            templates: [Template::default(); MAX_TEMPLATES],
            template_count: 0,
            target_count: bits.read(5)? as usize + 1,
            chain_count: 0,
            protected_by: [0; MAX_TARGETS],
            layers: [Layer { spatial: 0, temporal: 0 }; MAX_TARGETS],
            order: [0; MAX_TARGETS],
        };
        this.read_layers(bits)?;
        for template in &mut this.templates[..this.template_count] {
            template.indications = read_indications(bits, this.target_count)?;
        }
        for template in &mut this.templates[..this.template_count] {
            while bits.flag()? {
                template.refer(bits.read(4)? as u16 + 1)?;
            }
        }
        this.chain_count = bits.non_symmetric(this.target_count as u32 + 1)? as usize;
        if this.chain_count > 0 {
            for chain in &mut this.protected_by[..this.target_count] {
                *chain = bits.non_symmetric(this.chain_count as u32)? as u8;
            }
            for template in &mut this.templates[..this.template_count] {
                for chain in &mut template.chains[..this.chain_count] {
                    *chain = bits.read(4)? as u8;
                }
            }
        }
        if bits.flag()? {
            for _ in 0..=this.templates[this.template_count - 1].spatial {
                bits.read(32)?; // the layer's resolution, which nobody here needs
            }
        }
        this.derive_layers();
        Some(this)
    }

    fn read_layers(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        let (mut spatial, mut temporal) = (0, 0);
        loop {
            let template = self.templates.get_mut(self.template_count)?;
            (template.spatial, template.temporal) = (spatial, temporal);
            self.template_count += 1;
            match bits.read(2)? {
                0 => {}
                1 => temporal += 1,
                2 => (spatial, temporal) = (spatial + 1, 0),
                _ => return Some(()),
            }
            if spatial > 3 || temporal > 7 {
                return None; // two and three bits in AV1
            }
        }
    }

    /// A target's layers are the highest of the frames that belong to it.
    fn derive_layers(&mut self) {
        for (target, layer) in self.layers[..self.target_count].iter_mut().enumerate() {
            for template in &self.templates[..self.template_count] {
                if indication(template.indications, target) != Indication::NotPresent {
                    layer.spatial = layer.spatial.max(template.spatial);
                    layer.temporal = layer.temporal.max(template.temporal);
                }
            }
        }
        let mut number = 0;
        self.order[..self.target_count].fill_with(|| {
            number += 1;
            number - 1
        });
        let layers = &self.layers;
        self.order[..self.target_count].sort_unstable_by_key(|&target| std::cmp::Reverse(layers[usize::from(target)]));
    }
}

impl Template {
    fn refer(&mut self, ago: u16) -> Option<()> {
        *self.references.get_mut(usize::from(self.reference_count))? = ago;
        self.reference_count += 1;
        Some(())
    }
}

fn read_indications(bits: &mut Bits<'_>, targets: usize) -> Option<u64> {
    (0..targets).try_fold(0, |all, target| Some(all | u64::from(bits.read(2)?) << (2 * target)))
}

fn indication(indications: u64, target: usize) -> Indication {
    match indications >> (2 * target) & 3 {
        0 => Indication::NotPresent,
        1 => Indication::Discardable,
        2 => Indication::Switch,
        _ => Indication::Required,
    }
}

/// One packet's descriptor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Dependencies {
    /// The frame's number, counted on over the 16 bits of the descriptor.
    pub(crate) number: u64,
    /// First packet of the frame.
    pub(crate) start: bool,
    /// Last packet of the frame.
    pub(crate) end: bool,
    /// The packet brings the structure: its frame is a key frame.
    pub(crate) structure: bool,
    /// The decode targets that the sender makes at present, one bit each.
    pub(crate) active: u32,
    frame: Template,
    /// Where in the descriptor the bitmask of active targets stands or would, and where the fields end, bits.
    mask_at: u16,
    mask_bits: u8,
    end_at: u16,
}

impl Dependencies {
    /// The frame's layer.
    pub(crate) fn layer(&self) -> Layer {
        Layer { spatial: self.frame.spatial, temporal: self.frame.temporal }
    }

    /// What the frame is to a decode target.
    pub(crate) fn indication(&self, target: u8) -> Indication {
        indication(self.frame.indications, usize::from(target))
    }

    /// The numbers of the frames it refers to.
    pub(crate) fn references(&self) -> impl Iterator<Item = u64> + '_ {
        let references = &self.frame.references[..usize::from(self.frame.reference_count)];
        references.iter().map(|&ago| self.number.wrapping_sub(u64::from(ago)))
    }

    /// The number of a chain's frame before this one; `None` where the chain begins.
    pub(crate) fn before_in_chain(&self, chain: usize) -> Option<u64> {
        match self.frame.chains[chain] {
            0 => None,
            ago => Some(self.number.wrapping_sub(u64::from(ago))),
        }
    }

    /// Whether a decode target of a higher spatial layer has this frame, too. (The lower layers of the `_KEY` modes are of
    /// no use to the higher ones but in key frames.)
    fn serves_above(&self, structure: &Structure) -> bool {
        structure
            .targets()
            .take_while(|(_, layer)| layer.spatial > self.frame.spatial)
            .any(|(target, _)| self.indication(target) != Indication::NotPresent)
    }
}

/// One stream's descriptors: the structure from its last key frame, and where its counting is.
#[derive(Default, Debug)]
pub(crate) struct Descriptors {
    /// Shared with the packets that wait for their turn.
    structure: Option<Arc<Structure>>,
    /// The frame that brought it.
    since: u64,
    active: u32,
    highest: Option<u64>,
}

impl Descriptors {
    /// The structure that the last descriptor read refers to.
    pub(crate) fn structure(&self) -> Option<&Arc<Structure>> {
        self.structure.as_ref()
    }

    /// Reads a packet's descriptor and remembers what later ones need. `newest`: no later packet of the stream has come
    /// yet. `None` when it is malformed, or its key frame is missing.
    pub(crate) fn read(&mut self, bytes: &[u8], newest: bool) -> Option<Dependencies> {
        let (mut found, structure) = parse(bytes, self.structure.as_deref(), self.active, self.highest)?;
        let jumped_back = self.highest.is_some_and(|highest| found.number < highest);
        if let Some(structure) = structure {
            if jumped_back && !newest && found.number <= self.since {
                return Some(found); // late, and a newer structure is known
            }
            if jumped_back && newest {
                found.number += 1 << 16; // the encoder began anew
            }
            // Each key frame brings it again; as a rule it is the same.
            if self.structure.as_deref() != Some(&structure) {
                match self.structure.as_mut().and_then(Arc::get_mut) {
                    Some(old) => *old = structure,
                    None => self.structure = Some(Arc::new(structure)),
                }
            }
            (self.since, self.active) = (found.number, found.active);
        } else if newest && found.mask_bits > 0 {
            self.active = found.active;
        }
        self.highest = self.highest.max(Some(found.number));
        Some(found)
    }

    /// Reads the descriptor of a packet out of the history.
    pub(crate) fn reread(&self, bytes: &[u8]) -> Option<Dependencies> {
        parse(bytes, self.structure.as_deref(), self.active, self.highest).map(|(found, _)| found)
    }

    /// Whether frames of these dependencies matter to higher spatial layers.
    pub(crate) fn serves_above(&self, dependencies: &Dependencies) -> bool {
        self.structure().is_some_and(|structure| dependencies.serves_above(structure))
    }
}

/// Counts on over 16 bits: the number nearest to the highest so far.
fn unwrap(highest: Option<u64>, number: u16) -> u64 {
    let Some(highest) = highest else { return 1 << 32 | u64::from(number) };
    let step = number.wrapping_sub(highest as u16).cast_signed();
    highest.wrapping_add_signed(step.into())
}

fn parse(
    bytes: &[u8],
    known: Option<&Structure>,
    active: u32,
    highest: Option<u64>,
) -> Option<(Dependencies, Option<Structure>)> {
    let mut bits = Bits::new(bytes);
    let (start, end, template) = (bits.flag()?, bits.flag()?, bits.read(6)? as u8);
    let number = unwrap(highest, bits.read(16)? as u16);
    let mut flags = [false; 5];
    if bytes.len() > 3 {
        for flag in &mut flags {
            *flag = bits.flag()?;
        }
    }
    let [attached, masked, custom_indications, custom_references, custom_chains] = flags;
    let fresh = if attached { Some(Structure::read(&mut bits)?) } else { None };
    let structure = fresh.as_ref().or(known)?;
    let all = (u64::from(u32::MAX) >> (MAX_TARGETS - structure.target_count)) as u32;
    let mask_at = bits.position();
    let active = match (masked, attached) {
        (true, _) => bits.read(structure.target_count)?,
        (false, true) => all,
        (false, false) => active,
    };
    let mask_bits = bits.position() - mask_at;
    let index = usize::from(template.wrapping_sub(structure.id) & 63);
    let mut frame = *structure.templates[..structure.template_count].get(index)?;
    if custom_indications {
        frame.indications = read_indications(&mut bits, structure.target_count)?;
    }
    if custom_references {
        frame.reference_count = 0;
        loop {
            let size = bits.read(2)? as usize;
            if size == 0 {
                break;
            }
            frame.refer(bits.read(4 * size)? as u16 + 1)?;
        }
    }
    if custom_chains {
        for chain in &mut frame.chains[..structure.chain_count] {
            *chain = bits.read(8)? as u8;
        }
    }
    let dependencies = Dependencies {
        number,
        start,
        end,
        structure: attached,
        active: active & all,
        frame,
        mask_at: mask_at.max(29) as u16,
        mask_bits: mask_bits as u8,
        end_at: bits.position() as u16,
    };
    Some((dependencies, fresh))
}

/// Writes a descriptor for someone who gets the decode targets of `mask` only, into a buffer of zeros; returns its length.
/// `None` leaves it as it is: it brings a structure (which makes all targets active), says so already, or is too long.
/// (Chromium's receiver pays no heed to the mask; others may take a missing chain for a loss without it, A.8.3.)
pub(crate) fn with_mask(bytes: &[u8], of: &Dependencies, targets: usize, mask: u32, out: &mut [u8]) -> Option<usize> {
    let limit = MAX_REWRITTEN.min(out.len());
    if of.structure || bytes.len() > limit {
        return None;
    }
    let mut from = Bits::new(bytes);
    let mut writer = BitWriter::new(&mut out[..limit]);
    writer.copy(&mut from, 24)?;
    if bytes.len() > 3 {
        let flags = from.read(5)?;
        writer.write(5, flags | 0b01000)?;
        writer.copy(&mut from, usize::from(of.mask_at) - 29)?;
    } else {
        writer.write(5, 0b01000)?;
    }
    writer.write(targets, mask)?;
    from.read(usize::from(of.mask_bits))?;
    let rest = usize::from(of.end_at).saturating_sub(from.position());
    writer.copy(&mut from, rest)?;
    Some(writer.len())
}

#[cfg(test)]
#[path = "dependency_tests.rs"]
mod tests;
