//! A model of a scalable encoder for tests: what its frames refer to, and the dependency descriptors that say so.

use super::super::layer::Layer;
use super::bits::BitWriter;

/// A scalability mode (W3C "Scalable Video Coding Extension for WebRTC").
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    L1T1,
    L1T3,
    L2T2,
    L3T3,
    L3T3Key,
}

impl Mode {
    pub(crate) const ALL: [Self; 5] = [Self::L1T1, Self::L1T3, Self::L2T2, Self::L3T3, Self::L3T3Key];

    fn layers(self) -> (u8, u8) {
        match self {
            Self::L1T1 => (1, 1),
            Self::L1T3 => (1, 3),
            Self::L2T2 => (2, 2),
            Self::L3T3 | Self::L3T3Key => (3, 3),
        }
    }

    /// The highest layer.
    pub(crate) fn highest(self) -> Layer {
        let (spatial, temporal) = self.layers();
        Layer { spatial: spatial - 1, temporal: temporal - 1 }
    }

    /// Whether spatial layers refer to the ones below in this picture.
    fn inter_layer(self, key: bool) -> bool {
        key || self != Self::L3T3Key
    }

    /// (temporal layer, how many pictures ago is what it refers to) of the `n`th picture behind a key picture.
    fn temporal(self, n: u64) -> (u8, u64) {
        match (self.layers().1, n % 4) {
            (1, _) => (0, 1),
            (2, 0 | 2) => (0, 2),
            (2, _) => (1, 1),
            (_, 0) => (0, 4),
            (_, 2) => (1, 2),
            (_, _) => (2, 1),
        }
    }
}

/// A template, or the fields of a frame in its place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Template {
    spatial: u8,
    temporal: u8,
    indications: Vec<u32>,
    references: Vec<u64>,
    chains: Vec<u64>,
}

/// One frame: a spatial layer of a picture.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) number: u64,
    pub(crate) spatial: u8,
    pub(crate) temporal: u8,
    /// Belongs to a key picture.
    pub(crate) key: bool,
    /// The highest spatial layer of its picture.
    pub(crate) last: bool,
    /// The numbers of the frames without which it cannot be decoded.
    pub(crate) references: Vec<u64>,
    template: u32,
    /// With the structure, in front of what it describes.
    structure: Option<Vec<Template>>,
    targets: u32,
    chains: u32,
}

impl Frame {
    /// The dependency descriptor of one of its packets.
    pub(crate) fn descriptor(&self, start: bool, end: bool) -> Vec<u8> {
        let mut bytes = [0; 255];
        let mut bits = BitWriter::new(&mut bytes);
        let mut put = |count: usize, value: u32| bits.write(count, value).unwrap();
        put(1, start.into());
        put(1, end.into());
        put(6, self.template);
        put(16, u32::from(self.number as u16));
        if let Some(templates) = self.structure.as_ref().filter(|_| start) {
            put(5, 0b10000);
            put(6, 0);
            put(5, self.targets - 1);
            for (i, template) in templates.iter().enumerate() {
                put(
                    2,
                    match templates.get(i + 1) {
                        None => 3,
                        Some(next) if next.spatial > template.spatial => 2,
                        Some(next) if next.temporal > template.temporal => 1,
                        Some(_) => 0,
                    },
                );
            }
            templates.iter().flat_map(|template| &template.indications).for_each(|indication| put(2, *indication));
            for template in templates {
                for reference in &template.references {
                    put(1, 1);
                    put(4, *reference as u32 - 1);
                }
                put(1, 0);
            }
            let mut non_symmetric = |n: u32, value: u32| {
                let width = u32::BITS - n.leading_zeros();
                let short = (1 << width) - n;
                if value < short {
                    put(width as usize - 1, value);
                } else {
                    put(width as usize - 1, (value + short) >> 1);
                    put(1, (value + short) & 1);
                }
            };
            non_symmetric(self.targets + 1, self.chains);
            for target in 0..self.targets {
                non_symmetric(self.chains, target / (self.targets / self.chains));
            }
            templates.iter().flat_map(|template| &template.chains).for_each(|ago| put(4, *ago as u32));
            put(1, 0);
        }
        let len = bits.len();
        bytes[..len].to_vec()
    }
}

/// Makes the frames of a stream, one chain for each spatial layer and a decode target for each layer.
#[derive(Clone, Debug)]
pub(crate) struct Encoder {
    mode: Mode,
    templates: Vec<Template>,
    picture: u64,
    /// Number of the first frame of the last key picture, and of the last picture.
    key: u64,
    chains: Vec<u64>,
    next: u64,
}

impl Encoder {
    pub(crate) fn new(mode: Mode) -> Self {
        let fresh = Self { mode, templates: Vec::new(), picture: 0, key: 0, chains: Vec::new(), next: 65_500 };
        let mut trial = fresh.clone();
        let mut templates: Vec<Template> =
            (0..12).flat_map(|_| trial.fields(false)).map(|(_, fields)| fields).collect();
        templates.sort();
        templates.dedup();
        Self { templates, ..fresh }
    }

    /// The fields of the next picture's frames.
    fn fields(&mut self, key: bool) -> Vec<(Frame, Template)> {
        let spatial_layers = self.mode.layers().0;
        let key = key || self.chains.is_empty();
        if key {
            (self.picture, self.key) = (0, self.next);
            self.chains = vec![0; usize::from(spatial_layers)];
        }
        let (temporal, ago) = if key { (0, 0) } else { self.mode.temporal(self.picture) };
        let mut all = Vec::new();
        for spatial in 0..spatial_layers {
            let made = self.frame(spatial, temporal, ago, key);
            if temporal == 0 {
                for (chain, last) in self.chains.iter_mut().enumerate() {
                    let chain = chain as u8;
                    if chain == spatial || (chain > spatial && self.mode.inter_layer(key)) {
                        *last = self.next;
                    }
                }
            }
            self.next += 1;
            all.push(made);
        }
        self.picture += 1;
        all
    }

    fn frame(&self, spatial: u8, temporal: u8, ago: u64, key: bool) -> (Frame, Template) {
        let (spatial_layers, temporal_layers) = self.mode.layers();
        let number = self.next;
        let mut references = Vec::new();
        if !key {
            // Nothing refers to before the key picture.
            let back = ago.min(self.picture);
            references.push(number - back * u64::from(spatial_layers));
        }
        if spatial > 0 && self.mode.inter_layer(key) {
            references.push(number - 1);
        }
        let mut indications = Vec::new();
        for (s, t) in (0..spatial_layers).flat_map(|s| (0..temporal_layers).map(move |t| (s, t))) {
            let present = t >= temporal && (s == spatial || (s > spatial && self.mode.inter_layer(key)));
            // As libwebrtc has it: one can begin with a target behind its spatial layer's base pictures.
            indications.push(match present {
                false => 0,
                true if key => 2,
                true if s > spatial => 3,
                true if temporal > 0 && t == temporal => 1,
                true => 2,
            });
        }
        let chains: Vec<u64> =
            self.chains.iter().map(|last| if key && spatial == 0 { 0 } else { number - last }).collect();
        let fields = Template {
            spatial,
            temporal,
            indications,
            references: references.iter().map(|reference| number - reference).collect(),
            chains,
        };
        let frame = Frame {
            number,
            spatial,
            temporal,
            key,
            last: spatial + 1 == spatial_layers,
            references,
            template: 0,
            structure: None,
            targets: u32::from(spatial_layers) * u32::from(temporal_layers),
            chains: u32::from(spatial_layers),
        };
        (frame, fields)
    }

    /// The frames of the next picture, lowest spatial layer first.
    pub(crate) fn picture(&mut self, key: bool) -> Vec<Frame> {
        let mut all = Vec::new();
        for (mut frame, fields) in self.fields(key) {
            frame.template = self.templates.iter().position(|template| *template == fields).unwrap() as u32;
            frame.structure = (frame.key && frame.spatial == 0).then(|| self.templates.clone());
            all.push(frame);
        }
        all
    }
}
