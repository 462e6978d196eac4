//! How the layers of a track are named, whether they are simulcast streams or the layers of one scalable stream.

/// A point in a track's layers: what is forwarded at most.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Layer {
    /// The simulcast stream (index of the RID) or, in a track of one scalable stream, its spatial layer; 0 the lowest.
    pub spatial: u8,
    /// The temporal layer: 0 the base, `u8::MAX` all there are.
    pub temporal: u8,
}

impl Layer {
    /// A spatial layer with all its temporal layers.
    #[must_use]
    pub const fn full(spatial: u8) -> Self {
        Self { spatial, temporal: u8::MAX }
    }
}
