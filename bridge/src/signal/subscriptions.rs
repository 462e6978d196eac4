//! What a client receives: which of the available tracks it wants, and how large.
//!
//! Pure: the room says which tracks are available to this participant (permissions are the room's part), the client says
//! what it wants of them, and [`Subscriptions::wanted`] and [`Subscriptions::layer`] say what follows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use livekit_protocol::{TrackInfo, UpdateTrackSettings, VideoLayer, VideoQuality};

use super::description::layers_in;
use crate::media::control::{Codec, Kind, TrackId, Wanted};
use crate::room::{LocalMedia, ParticipantSid, TrackSid};

/// Wishes remembered for tracks that are not available (yet).
const MAX_WISHES: usize = 4096;
/// A layer counts as large enough when it has this share of the asked height; a little upscaling is not seen.
const TOLERANCE: f32 = 0.8;

/// A track this participant may receive, with media on this bridge.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Available {
    pub(crate) publisher: ParticipantSid,
    pub(crate) kind: Kind,
    /// At the media worker, in the codec that the client gets.
    pub(crate) media: TrackId,
    /// That codec, where it is known.
    pub(crate) codec: Option<Codec>,
    /// How many simulcast layers it has, at least 1.
    pub(crate) layers: usize,
    /// The publisher's description, as the room holds it for everybody.
    pub(crate) info: Arc<TrackInfo>,
}

/// What the client said about a track.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Wish {
    /// Asked for or declined; `None` follows auto-subscribe.
    subscribe: Option<bool>,
    size: Size,
    /// Frames per second that are enough; 0: nothing was said.
    fps: u8,
    /// 1 the first to be served when the bandwidth is short; 0: nothing was said.
    priority: u8,
}

/// How much of a track is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Size {
    /// Nothing was said.
    #[default]
    Default,
    /// Not visible.
    Disabled,
    /// `livekit.VideoQuality`: 0 low, 1 medium, 2 high.
    Quality(i32),
    /// Pixels on the screen.
    Pixels { width: u32, height: u32 },
}

/// One client's subscriptions.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    auto: bool,
    adaptive: bool,
    /// In the order in which they became available.
    available: BTreeMap<u64, (TrackSid, Available)>,
    next: u64,
    wishes: HashMap<TrackSid, Wish>,
}

impl Subscriptions {
    /// `auto`: everything is wanted until declined. `adaptive`: the client will say how large each track is shown.
    pub(crate) fn new(auto: bool, adaptive: bool) -> Self {
        Self { auto, adaptive, available: BTreeMap::new(), next: 0, wishes: HashMap::new() }
    }

    /// A track can be received from now on, or its description changed.
    pub(crate) fn available(&mut self, sid: TrackSid, track: Available) {
        if let Some((_, (_, old))) = self.available.iter_mut().find(|(_, (own, _))| *own == sid) {
            *old = track;
            return;
        }
        self.available.insert(self.next, (sid, track));
        self.next += 1;
    }

    /// The client gets a track in this of its codecs.
    pub(crate) fn takes(&mut self, sid: &TrackSid, media: &LocalMedia) {
        if let Some((_, track)) = self.available.values_mut().find(|(own, _)| own == sid) {
            (track.media, track.codec, track.layers) = (media.track, media.codec(), media.rids.len().max(1));
        }
    }

    /// A publisher's new description of a track, if it is available here.
    pub(crate) fn describe(&mut self, info: &Arc<TrackInfo>) {
        if let Some((_, track)) = self.available.values_mut().find(|(own, _)| own.as_str() == info.sid) {
            track.info = Arc::clone(info);
        }
    }

    /// A track cannot be received any more.
    pub(crate) fn unavailable(&mut self, sid: &TrackSid) {
        self.available.retain(|_, (own, _)| own != sid);
        // A track's sid never comes back once it is unpublished, but permission may: the decision is kept, the size not.
        if let Some(wish) = self.wishes.get_mut(sid) {
            *wish = Wish { subscribe: wish.subscribe, ..Wish::default() };
            if wish.subscribe.is_none() {
                self.wishes.remove(sid);
            }
        }
    }

    /// The client wants tracks, or does not.
    pub(crate) fn ask(&mut self, sids: impl IntoIterator<Item = TrackSid>, subscribe: bool) {
        for sid in sids {
            self.wish(sid, |wish| wish.subscribe = Some(subscribe));
        }
    }

    /// The client says how it shows a track.
    pub(crate) fn set(&mut self, sid: TrackSid, settings: &UpdateTrackSettings) {
        let size = match settings {
            UpdateTrackSettings { disabled: true, .. } => Size::Disabled,
            UpdateTrackSettings { width, height, .. } if *width > 0 && *height > 0 => {
                Size::Pixels { width: *width, height: *height }
            }
            UpdateTrackSettings { quality, .. } => Size::Quality(*quality),
        };
        let bounded = |value: u32| u8::try_from(value).unwrap_or(u8::MAX);
        let (fps, priority) = (bounded(settings.fps), bounded(settings.priority));
        self.wish(sid, |wish| (wish.size, wish.fps, wish.priority) = (size, fps, priority));
    }

    /// What the client said of how it shows tracks, for another bridge: as it said it.
    pub(crate) fn settings(&self) -> Vec<UpdateTrackSettings> {
        let said = self.wishes.iter().filter(|(_, wish)| wish.size != Size::Default);
        said.map(|(sid, wish)| {
            let mut settings = UpdateTrackSettings {
                track_sids: vec![sid.to_string()],
                fps: wish.fps.into(),
                priority: wish.priority.into(),
                ..UpdateTrackSettings::default()
            };
            match wish.size {
                Size::Default => {}
                Size::Disabled => settings.disabled = true,
                Size::Quality(quality) => settings.quality = quality,
                Size::Pixels { width, height } => (settings.width, settings.height) = (width, height),
            }
            settings
        })
        .collect()
    }

    fn wish(&mut self, sid: TrackSid, change: impl FnOnce(&mut Wish)) {
        if self.wishes.len() < MAX_WISHES || self.wishes.contains_key(&sid) {
            change(self.wishes.entry(sid).or_default());
        }
    }

    /// What of the available is wanted, oldest first.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = (&TrackSid, &Available)> {
        let wanted = |sid: &TrackSid| self.wishes.get(sid).and_then(|wish| wish.subscribe).unwrap_or(self.auto);
        self.available.values().filter(move |(sid, _)| wanted(sid)).map(|(sid, track)| (sid, track))
    }

    /// An available track.
    pub(crate) fn track(&self, sid: &TrackSid) -> Option<&Available> {
        self.available.values().find(|(own, _)| own == sid).map(|(_, track)| track)
    }

    /// Which layer of an available track the client is best served with.
    pub(crate) fn layer(&self, sid: &TrackSid) -> Wanted {
        let Some(track) = self.track(sid) else { return Wanted::PAUSED };
        let Wish { size, fps, priority, .. } = self.wishes.get(sid).copied().unwrap_or_default();
        let wanted = match size {
            Size::Disabled => Wanted::PAUSED,
            _ if track.kind == Kind::Audio => Wanted::BEST,
            // Until an adaptive client has laid the track out, the cheapest layer shows it sooner.
            Size::Default if self.adaptive => Wanted::up_to(0),
            Size::Default => Wanted::BEST,
            Size::Quality(quality) => at_most(track, quality),
            Size::Pixels { width, height } => covering(track, width, height),
        };
        if wanted == Wanted::PAUSED { wanted } else { Wanted { fps, priority, ..wanted } }
    }
}

/// The highest layer of at most this quality, or the lowest there is.
fn at_most(track: &Available, quality: i32) -> Wanted {
    if quality >= VideoQuality::High as i32 {
        return Wanted::BEST;
    }
    let layers = described(track);
    let index = if layers.is_empty() {
        usize::try_from(quality).unwrap_or_default()
    } else {
        layers.iter().filter(|layer| layer.quality <= quality).count().saturating_sub(1)
    };
    Wanted::up_to(u8::try_from(index).unwrap_or(u8::MAX))
}

/// The lowest layer that fills this many pixels, or the highest there is.
fn covering(track: &Available, width: u32, height: u32) -> Wanted {
    // The shorter side decides: a tile may crop the longer one.
    let asked = if track.info.width < track.info.height { width } else { height };
    let short = |layer: &VideoLayer| layer.width.min(layer.height);
    #[expect(clippy::cast_precision_loss, reason = "pixels")]
    let enough = |layer: &VideoLayer| short(layer) as f32 >= asked as f32 * TOLERANCE;
    let layers = described(track);
    match layers.iter().position(enough) {
        Some(index) if index + 1 < layers.len() => Wanted::up_to(u8::try_from(index).unwrap_or(u8::MAX)),
        _ => Wanted::BEST,
    }
}

/// The layers the publisher described, lowest first, if they are the ones that are sent.
fn described(track: &Available) -> &[VideoLayer] {
    let layers = layers_in(&track.info, track.codec);
    if layers.len() == track.layers && layers.iter().all(|layer| layer.height > 0) { layers } else { &[] }
}

#[cfg(test)]
#[path = "subscriptions_tests.rs"]
mod tests;
