//! What bridges tell each other of media, between its encoding and [`crate::media::control`]'s terms. What another bridge
//! sends is bounded here, before anything is done with it.

use std::net::SocketAddr;

use ratssaal_proto::bridge::v1::{
    RelayBackup, RelayCodec, RelayExtensions, RelayLayer, RelayOpen, RelayPayload, RelayPull, RelaySpeaker,
    RelaySpeakers, RelayTrack, RelayTracks,
};

use crate::media::control::{Codec, ExtensionIds, Kind, PayloadType, RelayKey};
use crate::room::{ParticipantSid, TrackSid};

/// Layers of a track.
pub(super) const MAX_LAYERS: usize = 3;
/// Tracks of one bridge in one room.
const MAX_TRACKS: usize = 4096;
const MAX_PAYLOADS: usize = 32;
/// Codecs of a track besides the first.
pub(super) const MAX_BACKUPS: usize = 3;
const MAX_ADDRESSES: usize = 16;
const MAX_SPEAKERS: usize = 256;
/// Bytes of a sid or a RID.
const MAX_NAME: usize = 256;

/// The header extensions that are passed on, as this version numbers them.
pub(super) const EXTENSIONS: ExtensionIds = ExtensionIds {
    mid: 0,
    rid: 0,
    repaired_rid: 0,
    audio_level: 1,
    twcc: 0,
    abs_send_time: 0,
    dependency_descriptor: 2,
    abs_capture_time: 3,
    playout_delay: 4,
    video_orientation: 5,
};

/// One side's opening of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Open {
    pub(super) session: u64,
    pub(super) answers: u64,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) key: RelayKey,
    pub(super) report_ssrc: u32,
    pub(super) extensions: ExtensionIds,
}

/// A track in one of its codecs, counted from the first: what is offered and pulled.
pub(super) type Part = (TrackSid, usize);

/// A track that can be pulled, in one codec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Offer {
    pub(super) publisher: ParticipantSid,
    pub(super) instance: u64,
    pub(super) kind: Kind,
    pub(super) payload_types: Vec<PayloadType>,
    pub(super) rids: Vec<String>,
}

/// A stream that is pulled, with its SSRCs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Layer {
    pub(super) layer: u8,
    pub(super) ssrc: u32,
    pub(super) rtx_ssrc: u32,
}

impl Open {
    pub(super) fn encode(&self) -> RelayOpen {
        let ids = &self.extensions;
        RelayOpen {
            session: self.session,
            answers: self.answers,
            addresses: self.addresses.iter().map(SocketAddr::to_string).collect(),
            key: self.key.key.clone().into(),
            salt: self.key.salt.clone().into(),
            report_ssrc: self.report_ssrc,
            extensions: Some(RelayExtensions {
                audio_level: ids.audio_level.into(),
                dependency_descriptor: ids.dependency_descriptor.into(),
                abs_capture_time: ids.abs_capture_time.into(),
                playout_delay: ids.playout_delay.into(),
                video_orientation: ids.video_orientation.into(),
            }),
        }
    }

    /// `None` when it cannot be used.
    pub(super) fn decode(open: RelayOpen) -> Option<Self> {
        let ids = open.extensions.unwrap_or_default();
        let id = |id: u32| u8::try_from(id).unwrap_or(0);
        let addresses = open.addresses.iter().take(MAX_ADDRESSES).filter_map(|address| address.parse().ok());
        let this = Self {
            session: open.session,
            answers: open.answers,
            addresses: addresses.filter(is_usable).collect(),
            key: RelayKey { key: open.key.to_vec(), salt: open.salt.to_vec() },
            report_ssrc: open.report_ssrc,
            extensions: ExtensionIds {
                audio_level: id(ids.audio_level),
                dependency_descriptor: id(ids.dependency_descriptor),
                abs_capture_time: id(ids.abs_capture_time),
                playout_delay: id(ids.playout_delay),
                video_orientation: id(ids.video_orientation),
                ..ExtensionIds::default()
            },
        };
        let key = matches!(this.key.key.len(), 16 | 32) && this.key.salt.len() == 12;
        (key && !this.addresses.is_empty() && this.session != 0 && this.report_ssrc > 1).then_some(this)
    }
}

fn is_usable(address: &SocketAddr) -> bool {
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}

impl Offer {
    fn encode(&self, sid: &TrackSid) -> RelayTrack {
        RelayTrack {
            track_sid: sid.to_string(),
            publisher_sid: self.publisher.to_string(),
            instance: self.instance,
            video: self.kind == Kind::Video,
            payloads: self.payloads(),
            rids: self.rids.clone(),
            backups: Vec::new(),
        }
    }

    fn payloads(&self) -> Vec<RelayPayload> {
        let payload = |known: &PayloadType| RelayPayload {
            payload_type: known.number.into(),
            codec: name(known.codec).to_owned(),
            rtx: known.rtx.unwrap_or(0).into(),
            profile: known.profile,
        };
        self.payload_types.iter().map(payload).collect()
    }

    /// `None` when it cannot be used; payload types of codecs that this version does not know are left out.
    fn decode(publisher: &str, video: bool, media: RelayBackup) -> Option<Self> {
        let kind = if video { Kind::Video } else { Kind::Audio };
        let payload = |payload: &RelayPayload| {
            let codec = codec(&payload.codec).filter(|codec| codec.kind() == kind)?;
            let number = u8::try_from(payload.payload_type).ok().filter(|number| *number < 128)?;
            let rtx = u8::try_from(payload.rtx).ok().filter(|rtx| (1..128).contains(rtx));
            Some(PayloadType { number, codec, rtx, profile: payload.profile })
        };
        let payload_types: Vec<_> = media.payloads.iter().take(MAX_PAYLOADS).filter_map(payload).collect();
        let usable = is_sound(publisher)
            && !payload_types.is_empty()
            && media.rids.len() <= MAX_LAYERS
            && media.rids.iter().all(|rid| is_sound(rid));
        let RelayBackup { instance, rids, .. } = media;
        usable.then(|| Self { publisher: publisher.into(), instance, kind, payload_types, rids })
    }

    /// How many streams it has.
    pub(super) fn streams(&self) -> usize {
        self.rids.len().clamp(1, MAX_LAYERS)
    }

    /// What is sent; other payload types are not used.
    pub(super) fn codec(&self) -> Option<Codec> {
        self.payload_types.first().map(|known| known.codec)
    }
}

/// Whether a sid or a RID can be one.
fn is_sound(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
}

/// Payload types as they are called between bridges: every video codec has retransmissions there, whatever its publisher
/// has negotiated.
pub(super) fn renumber(own: &[PayloadType]) -> Vec<PayloadType> {
    let numbers = (96..128u8).step_by(2);
    let renamed = own.iter().take(16).zip(numbers).map(|(known, number)| {
        let rtx = (known.codec.kind() == Kind::Video).then_some(number + 1);
        PayloadType { number, rtx, ..*known }
    });
    renamed.collect()
}

/// Of each track the first codec comes before the others.
pub(super) fn tracks<'a>(offers: impl Iterator<Item = (&'a Part, &'a Offer)>) -> RelayTracks {
    let mut tracks: Vec<RelayTrack> = Vec::new();
    for ((sid, place), offer) in offers {
        if *place == 0 {
            if tracks.len() == MAX_TRACKS {
                break;
            }
            tracks.push(offer.encode(sid));
        } else if let Some(track) = tracks.last_mut().filter(|track| track.track_sid == sid.as_str()) {
            let (instance, payloads, rids) = (offer.instance, offer.payloads(), offer.rids.clone());
            track.backups.push(RelayBackup { instance, payloads, rids });
        }
    }
    RelayTracks { tracks, after: 0 }
}

pub(super) fn read_tracks(tracks: RelayTracks) -> impl Iterator<Item = (Part, Offer)> {
    tracks.tracks.into_iter().take(MAX_TRACKS).flat_map(read_track)
}

/// A track in all its codecs that can be used; nothing without the first.
fn read_track(track: RelayTrack) -> Vec<(Part, Offer)> {
    let RelayTrack { track_sid, publisher_sid, instance, video, payloads, rids, backups } = track;
    let all = std::iter::once(RelayBackup { instance, payloads, rids }).chain(backups.into_iter().take(MAX_BACKUPS));
    let part =
        |(place, media)| Some(((track_sid.as_str().into(), place), Offer::decode(&publisher_sid, video, media)?));
    let offers: Vec<(Part, Offer)> = all.enumerate().filter_map(part).collect();
    let usable = is_sound(&track_sid) && offers.first().is_some_and(|((_, place), _)| *place == 0);
    if usable { offers } else { Vec::new() }
}

pub(super) fn pull((sid, place): &Part, layers: &[Layer]) -> RelayPull {
    let layer = |layer: &Layer| RelayLayer { layer: layer.layer.into(), ssrc: layer.ssrc, rtx_ssrc: layer.rtx_ssrc };
    let codec = u32::try_from(*place).unwrap_or(u32::MAX);
    RelayPull { track_sid: sid.to_string(), layers: layers.iter().map(layer).collect(), codec }
}

pub(super) fn read_pull(pull: &RelayPull) -> (Part, Vec<Layer>) {
    let layer = |layer: &RelayLayer| {
        let index = u8::try_from(layer.layer).ok().filter(|index| usize::from(*index) < MAX_LAYERS)?;
        let usable = layer.ssrc > 1 && layer.rtx_ssrc != layer.ssrc;
        usable.then_some(Layer { layer: index, ssrc: layer.ssrc, rtx_ssrc: layer.rtx_ssrc })
    };
    let part = (pull.track_sid.as_str().into(), pull.codec as usize);
    (part, pull.layers.iter().take(MAX_LAYERS).filter_map(layer).collect())
}

pub(super) fn want(sid: &TrackSid, codec: Codec) -> RelayCodec {
    RelayCodec { track_sid: sid.to_string(), codec: name(codec).to_owned() }
}

pub(super) fn read_want(want: &RelayCodec) -> Option<(TrackSid, Codec)> {
    Some((want.track_sid.as_str().into(), codec(&want.codec)?)).filter(|_| is_sound(&want.track_sid))
}

pub(super) fn speakers(speakers: &[(ParticipantSid, f32)]) -> RelaySpeakers {
    let speaker =
        |(sid, level): &(ParticipantSid, f32)| RelaySpeaker { participant_sid: sid.to_string(), level: *level };
    RelaySpeakers { speakers: speakers.iter().take(MAX_SPEAKERS).map(speaker).collect() }
}

pub(super) fn read_speakers(speakers: &RelaySpeakers) -> Vec<(ParticipantSid, f32)> {
    let speaker = |speaker: &RelaySpeaker| {
        let level = Some(speaker.level).filter(|level| (0.0..=1.0).contains(level))?;
        Some((speaker.participant_sid.as_str().into(), level))
    };
    speakers.speakers.iter().take(MAX_SPEAKERS).filter_map(speaker).collect()
}

fn name(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "opus",
        Codec::Red => "red",
        Codec::Vp8 => "VP8",
        Codec::Vp9 => "VP9",
        Codec::H264 => "H264",
        Codec::Av1 => "AV1",
    }
}

fn codec(name: &str) -> Option<Codec> {
    Some(match name {
        "opus" => Codec::Opus,
        "red" => Codec::Red,
        "VP8" => Codec::Vp8,
        "VP9" => Codec::Vp9,
        "H264" => Codec::H264,
        "AV1" => Codec::Av1,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Open {
        Open {
            session: 7,
            answers: 9,
            addresses: vec!["192.0.2.1:7882".parse().unwrap(), "[2001:db8::1]:7882".parse().unwrap()],
            key: RelayKey::random(),
            report_ssrc: 77,
            extensions: EXTENSIONS,
        }
    }

    fn offer() -> Offer {
        let own = [
            PayloadType { number: 120, codec: Codec::Vp8, rtx: None, profile: 0 },
            PayloadType { number: 97, codec: Codec::H264, rtx: Some(98), profile: 0x0042_e01f },
        ];
        Offer {
            publisher: "PA_a".into(),
            instance: 3,
            kind: Kind::Video,
            payload_types: renumber(&own),
            rids: vec!["q".into(), "h".into()],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let open = open();
        assert_eq!(Open::decode(open.encode()), Some(open));
        let (sid, offer) = ((TrackSid::from("TR_c"), 0), offer());
        assert_eq!(
            offer.payload_types.iter().map(|p| (p.number, p.rtx)).collect::<Vec<_>>(),
            [(96, Some(97)), (98, Some(99))]
        );
        let (second, backup) = ((sid.0.clone(), 1), Offer { instance: 4, rids: vec![], ..offer.clone() });
        let written = tracks([(&sid, &offer), (&second, &backup)].into_iter());
        assert_eq!((written.tracks.len(), written.tracks[0].instance), (1, 3), "an older bridge sees the first codec");
        let read: Vec<_> = read_tracks(written).collect();
        assert_eq!(read, [(sid.clone(), offer), (second.clone(), backup)]);
        assert_eq!(read_want(&want(&sid.0, Codec::Vp8)), Some((sid.0.clone(), Codec::Vp8)));
        assert_eq!(read_want(&RelayCodec { track_sid: "TR_c".into(), codec: "VP7".into() }), None);
        assert_eq!(read_pull(&pull(&second, &[])), (second, vec![]));
        let layers = [Layer { layer: 2, ssrc: 5, rtx_ssrc: 6 }];
        assert_eq!(read_pull(&pull(&sid, &layers)), (sid, layers.to_vec()));
        let speaking = vec![("PA_a".into(), 0.5)];
        assert_eq!(read_speakers(&speakers(&speaking)), speaking);
    }

    #[test]
    fn what_cannot_be_used_is_left_out() {
        let bad: [fn(&mut RelayOpen); 6] = [
            |open| open.key = vec![0; 31].into(),
            |open| open.salt = vec![0; 14].into(),
            |open| open.addresses.clear(),
            |open| open.addresses = vec!["0.0.0.0:1".into(), "224.0.0.1:5".into(), "10.0.0.1:0".into(), "x".into()],
            |open| open.session = 0,
            |open| open.report_ssrc = 1,
        ];
        for (number, spoil) in bad.into_iter().enumerate() {
            let mut spoilt = open().encode();
            spoil(&mut spoilt);
            assert_eq!(Open::decode(spoilt), None, "{number}");
        }
        let bad: [fn(&mut RelayTrack); 5] = [
            |track| track.track_sid.clear(),
            |track| track.publisher_sid = "x".repeat(257),
            |track| track.payloads.iter_mut().for_each(|payload| payload.codec = "VP7".into()),
            |track| track.rids = vec!["a".into(); 4],
            |track| track.video = false,
        ];
        for (number, spoil) in bad.into_iter().enumerate() {
            let mut spoilt = offer().encode(&"TR_c".into());
            spoil(&mut spoilt);
            assert_eq!(read_track(spoilt), [], "{number}");
        }
        let mut spoilt = offer().encode(&"TR_c".into());
        spoilt.backups = vec![RelayBackup::default(); 2];
        spoilt.backups[1].payloads.clone_from(&spoilt.payloads);
        let places: Vec<_> = read_track(spoilt).into_iter().map(|((_, place), _)| place).collect();
        assert_eq!(places, [0, 2], "those that can be used keep their places");
        let layers = [(3, 5, 6), (0, 1, 6), (0, 6, 6), (0, 5, 6)];
        let layer = |(layer, ssrc, rtx_ssrc): (u32, u32, u32)| RelayLayer { layer, ssrc, rtx_ssrc };
        let pull = RelayPull { track_sid: "TR_c".into(), layers: layers.map(layer).to_vec(), codec: 0 };
        assert_eq!(read_pull(&pull).1, []);
        let speaker = |level| RelaySpeaker { participant_sid: "PA_a".into(), level };
        let speakers = RelaySpeakers { speakers: [f32::NAN, -0.1, 1.5].map(speaker).to_vec() };
        assert_eq!(read_speakers(&speakers), []);
    }
}
