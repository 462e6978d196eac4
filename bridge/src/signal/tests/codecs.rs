//! A track in two codecs: the second is asked for when somebody can decode nothing else, and each gets what it can decode.

use livekit_protocol::signal_request::Message as Ask;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{
    AddTrackRequest, MuteTrackRequest, RequestResponse, SessionDescription, SimulcastCodec, SubscriptionError,
    SubscriptionResponse, TrackInfo, TrackSource, TrackType, request_response,
};

use super::harness::*;
use crate::config::Config;
use crate::media::control::{Command, Event, ReceiveSection, SendSection, TrackId, TransportId};
use crate::testing::{guest, soon};

const VP9_IN: Section<'_> = ("vp9", "recvonly", None);
const CAMERA: Section<'_> = ("vp9", "sendonly", Some("cam"));
const BACKUP: Section<'_> = ("video", "sendonly", Some("backup"));

/// What the worker was told so far.
struct Orders<'a> {
    bridge: &'a Watched,
    worker: Worker,
    commands: Vec<Command>,
}

impl<'a> Orders<'a> {
    fn new(bridge: &'a Watched) -> Self {
        Self { bridge, worker: Worker::default(), commands: Vec::new() }
    }

    /// The transport that was opened last.
    fn newest(&mut self) -> TransportId {
        self.look();
        *opened(&self.commands).last().unwrap()
    }

    fn look(&mut self) {
        self.commands.extend(self.worker.look(self.bridge));
    }

    /// What is negotiated on a transport.
    fn negotiated(&mut self, on: TransportId) -> (Vec<ReceiveSection>, Vec<SendSection>) {
        self.look();
        let latest = self.commands.iter().rev().find_map(|command| match command {
            Command::Negotiated { transport, receive, send, .. } if *transport == on => {
                Some((receive.clone(), send.clone()))
            }
            _ => None,
        });
        latest.unwrap()
    }

    /// What is negotiated with the other bridge.
    fn relayed(&mut self) -> (Vec<ReceiveSection>, Vec<SendSection>) {
        self.look();
        let opened = self.commands.iter().find_map(|command| match command {
            Command::OpenRelay { transport, .. } => Some(*transport),
            _ => None,
        });
        self.negotiated(opened.unwrap())
    }

    /// The one track that is sent on a transport.
    fn sent(&mut self, on: TransportId) -> TrackId {
        let (_, send) = self.negotiated(on);
        assert_eq!(send.len(), 1);
        send[0].track
    }

    /// Waits until that is another track than these.
    async fn leaves(&mut self, on: TransportId, left: &[TrackId]) -> TrackId {
        let other = async {
            loop {
                let now = self.sent(on);
                if !left.contains(&now) {
                    return now;
                }
                tokio::task::yield_now().await;
            }
        };
        soon(other).await
    }
}

/// A camera in VP9 that can be had in VP8.
fn camera() -> AddTrackRequest {
    let codec = |codec: &str, cid: &str| SimulcastCodec { codec: codec.into(), cid: cid.into(), ..Default::default() };
    let simulcast_codecs = vec![codec("vp9", "cam"), codec("vp8", "")];
    AddTrackRequest { simulcast_codecs, ..track("cam", TrackType::Video, TrackSource::Camera) }
}

/// The same in VP8, once that is asked for.
fn backup(sid: &str) -> AddTrackRequest {
    let vp8 = SimulcastCodec { codec: "vp8".into(), cid: "backup".into(), ..Default::default() };
    let request = track("backup", TrackType::Video, TrackSource::Camera);
    AddTrackRequest { sid: sid.into(), simulcast_codecs: vec![vp8], ..request }
}

/// Which codecs of a track its publisher is asked for.
async fn asked(client: &mut Client) -> Vec<String> {
    let update =
        client.until(|told| if let Told::SubscribedQualityUpdate(update) = told { Some(update) } else { None });
    let codecs = update.await.subscribed_codecs.into_iter();
    let enabled = codecs.filter(|codec| codec.qualities.iter().any(|quality| quality.enabled));
    enabled.map(|codec| codec.codec).collect()
}

async fn published(client: &mut Client) -> TrackInfo {
    client.until(|told| if let Told::TrackPublished(told) = told { told.track } else { None }).await
}

/// Anna in the room with her camera: also its sid, and what comes in from her.
async fn anna_shows(bridge: &Watched, told: &mut Orders<'_>) -> (Client, String, TransportId, TrackId) {
    let (mut anna, _) = Client::offering(bridge, "anna", &offer(&[])).await;
    anna.answer().await;
    let transport = told.newest();
    anna.ask(Ask::AddTrack(camera())).await;
    let sid = published(&mut anna).await.sid;
    anna.offer(2, offer(&[CAMERA])).await;
    anna.answer().await;
    anna.settled().await;
    let (receive, _) = told.negotiated(transport);
    assert_eq!(receive.len(), 1);
    (anna, sid, transport, receive[0].track)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_decode_a_track_gets_it_in_another_codec() {
    let bridge = bridge(Config::default()).await;
    let mut told = Orders::new(&bridge);
    let (mut anna, sid, transport, first) = anna_shows(&bridge, &mut told).await;
    // Berta can decode VP8 only.
    let (mut berta, _) = Client::offering(&bridge, "berta", &offer(&[VIDEO_IN])).await;
    assert_eq!(berta.answer().await.mid_to_track_id.get("1"), Some(&sid));
    let to_berta = told.newest();
    assert_eq!(asked(&mut anna).await, ["vp9", "vp8"]);
    let nothing = told.sent(to_berta);
    assert_ne!(nothing, first, "what she cannot decode does not count as watched");

    anna.ask(Ask::AddTrack(backup(&sid))).await;
    let info = published(&mut anna).await;
    assert_eq!((info.sid.as_str(), info.codecs[1].cid.as_str()), (sid.as_str(), "backup"));
    anna.offer(3, offer(&[CAMERA, BACKUP])).await;
    anna.answer().await;
    let described = |info: &livekit_protocol::ParticipantInfo| {
        info.tracks.iter().any(|track| track.sid == sid && track.codecs[1].mid == "2" && track.mid == "1")
    };
    berta.update(described).await;
    anna.settled().await;
    let (receive, _) = told.negotiated(transport);
    let second = receive[1].track;
    assert_eq!(receive[0].track, first);
    assert_eq!(told.leaves(to_berta, &[nothing]).await, second, "without a negotiation");

    // Who can decode the first gets that, on either path.
    let (mut cecil, _) = Client::offering(&bridge, "cecil", &offer(&[VP9_IN])).await;
    cecil.answer().await;
    let to_cecil = told.newest();
    assert_eq!(told.sent(to_cecil), first);
    let (mut dora, _) = Client::join(&bridge, &guest("rat", "dora"), v0()).await;
    let offered = |told| if let Told::Offer(offer) = told { Some(offer) } else { None };
    let id = dora.until(offered).await.id;
    let sdp = offer(&[VIDEO_IN]).replace("actpass", "active");
    dora.ask(Ask::Answer(SessionDescription { r#type: "answer".into(), sdp, id, ..Default::default() })).await;
    dora.settled().await;
    let to_dora = told.newest();
    assert_eq!(told.sent(to_dora), second, "dora can decode VP8 only");

    // All of it is muted.
    anna.ask(Ask::Mute(MuteTrackRequest { sid: sid.clone(), muted: true })).await;
    berta.update(|info| info.tracks.iter().any(|track| track.muted)).await;
    told.look();
    for media in [first, second] {
        let muted = |command: &Command| matches!(command, Command::MuteTrack { track, muted: true } if *track == media);
        assert!(told.commands.iter().any(muted));
    }
    anna.settled().await;

    // Nobody watches the second any more.
    told.worker.say(transport, Event::LayersNeeded { transport, track: second, layers: 0 });
    assert_eq!(asked(&mut anna).await, ["vp9"]);
    told.worker.say(transport, Event::LayersNeeded { transport, track: first, layers: 0 });
    assert_eq!(asked(&mut anna).await, [""; 0]);
    told.worker.say(transport, Event::LayersNeeded { transport, track: second, layers: 1 });
    assert_eq!(asked(&mut anna).await, ["vp8"]);

    // The client stops sending it, and is asked for it again as it is still needed.
    anna.offer(4, offer(&[CAMERA, ("video", "inactive", None)])).await;
    assert_eq!(asked(&mut anna).await, ["vp8"]);
    assert_eq!(told.leaves(to_berta, &[second]).await, nothing);
    assert_eq!(told.sent(to_cecil), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_asked_for_at_another_bridge_and_comes_from_there() {
    let (eins, zwei, _town) = two_bridges_at(["east", "west"]).await;
    let (mut here, mut there) = (Orders::new(&eins), Orders::new(&zwei));
    let (mut anna, sid, ..) = anna_shows(&eins, &mut here).await;
    let (mut berta, _) = Client::offering(&zwei, "berta", &offer(&[VIDEO_IN])).await;
    let mut carried = berta.answer().await.mid_to_track_id;
    let to_berta = there.newest();
    if carried.is_empty() {
        // The relay was not there yet.
        berta.until(|told| matches!(told, Told::MediaSectionsRequirement(_)).then_some(())).await;
        berta.offer(2, offer(&[VIDEO_IN])).await;
        carried = berta.answer().await.mid_to_track_id;
    }
    assert_eq!(carried.get("1"), Some(&sid));
    assert_eq!(asked(&mut anna).await, ["vp9", "vp8"]);
    berta.offer(3, offer(&[VIDEO_IN])).await;
    berta.answer().await;
    let nothing = there.sent(to_berta);
    anna.ask(Ask::AddTrack(backup(&sid))).await;
    anna.offer(3, offer(&[CAMERA, BACKUP])).await;
    let now = there.leaves(to_berta, &[nothing]).await;
    let track = zwei.rooms.get("rat").unwrap().track(&sid.as_str().into()).unwrap();
    assert_eq!(track.relay.as_deref(), Some("eins"));
    assert_eq!(track.backups.iter().map(|media| media.track).collect::<Vec<_>>(), [now]);
    let (receive, _) = there.relayed();
    assert_eq!(receive.iter().map(|section| section.track).collect::<Vec<_>>(), [track.media, now]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_backup_nobody_is_asked_and_waiting_is_known_to_be_in_vain() {
    let bridge = bridge(Config::default()).await;
    let (mut anna, _) = Client::offering(&bridge, "anna", &offer(&[])).await;
    anna.answer().await;
    let alone = AddTrackRequest { simulcast_codecs: camera().simulcast_codecs[..1].to_vec(), ..camera() };
    anna.ask(Ask::AddTrack(alone)).await;
    let sid = published(&mut anna).await.sid;
    anna.offer(2, offer(&[CAMERA])).await;
    anna.answer().await;
    anna.settled().await;
    let (mut berta, _) = Client::offering(&bridge, "berta", &offer(&[VIDEO_IN])).await;
    let in_vain = |told| if let Told::SubscriptionResponse(response) = told { Some(response) } else { None };
    let err = SubscriptionError::SeCodecUnsupported.into();
    assert_eq!(berta.until(in_vain).await, SubscriptionResponse { track_sid: sid, err });
    berta.settled().await;
    anna.ask(Ask::Ping(1)).await;
    let next = |told| matches!(told, Told::SubscribedQualityUpdate(_) | Told::Pong(_)).then_some(told);
    assert!(matches!(anna.until(next).await, Told::Pong(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codec_for_no_track_is_refused() {
    let bridge = bridge(Config::default()).await;
    let (mut anna, _) = Client::offering(&bridge, "anna", &offer(&[])).await;
    anna.answer().await;
    anna.ask(Ask::AddTrack(backup("TR_none"))).await;
    let refused = |told| if let Told::RequestResponse(response) = told { Some(response) } else { None };
    let RequestResponse { reason, message, .. } = anna.until(refused).await;
    assert_eq!(reason, i32::from(request_response::Reason::NotFound));
    assert!(message.contains("without a sid"), "{message}");
}
