//! Tracks from one client to another: announcing, negotiating, layers, muting, ending.

use livekit_protocol::signal_request::Message as Ask;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{
    AddTrackRequest, ConnectionQuality, DataPacket, MediaSectionsRequirement, MuteTrackRequest, SessionDescription,
    StreamState, TrackSource, TrackType, UpdateSubscription, UpdateTrackSettings, UserPacket, VideoLayer, VideoQuality,
    data_packet,
};
use prost::Message as _;

use super::harness::*;
use crate::config::Config;
use crate::media::control::{
    Channel, Command, Event, Kind, Quality, ReceiveSection, SendSection, TrackId, TransportId, Wanted,
};
use crate::room::LocalTrack;
use crate::testing::{guest, soon};

/// The latest negotiated state among these commands.
fn negotiated(commands: &[Command]) -> (TransportId, Vec<ReceiveSection>, Vec<SendSection>) {
    let latest = commands.iter().rev().find_map(|command| match command {
        Command::Negotiated { transport, receive, send, .. } => Some((*transport, receive.clone(), send.clone())),
        _ => None,
    });
    latest.expect("the worker was told what is negotiated")
}

/// Anna in the room with a microphone; its sid.
async fn anna_speaks(bridge: &Watched, worker: &mut Worker) -> (Client, String, ReceiveSection) {
    let (mut anna, _) = Client::offering(bridge, "anna", &offer(&[])).await;
    anna.answer().await;
    anna.ask(Ask::AddTrack(track("mic", TrackType::Audio, TrackSource::Microphone))).await;
    let published = anna.until(|told| if let Told::TrackPublished(told) = told { Some(told) } else { None }).await;
    assert_eq!(published.cid, "mic");
    anna.offer(2, offer(&[("audio", "sendonly", Some("mic"))])).await;
    let answer = anna.answer().await;
    assert_eq!(answer.id, 2);
    assert!(answer.mid_to_track_id.is_empty(), "its own track is not sent to it");
    let (transport, receive, _) = negotiated(&worker.look(bridge));
    assert_eq!((receive.len(), receive[0].kind), (1, Kind::Audio));
    worker.connect(transport);
    anna.update(is_active).await;
    (anna, published.track.unwrap().sid, receive[0].clone())
}

fn requirement(told: Told) -> Option<MediaSectionsRequirement> {
    if let Told::MediaSectionsRequirement(requirement) = told { Some(requirement) } else { None }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_on_v1_gets_what_is_there_with_its_first_answer() {
    let bridge = bridge(Config::default()).await;
    let mut worker = Worker::default();
    let (mut anna, sid, source) = anna_speaks(&bridge, &mut worker).await;
    let (mut berta, join) = Client::offering(&bridge, "berta", &offer(&[VIDEO_IN, AUDIO_IN])).await;
    assert_eq!(join.other_participants[0].tracks[0].sid, sid);
    let answer = berta.answer().await;
    assert_eq!(answer.mid_to_track_id.get("2"), Some(&sid), "the audio section is the second");
    assert!(answer.sdp.contains(&format!("|{sid} {sid}")), "{}", answer.sdp);
    let told = |told| if let Told::TrackSubscribed(told) = told { Some(told.track_sid) } else { None };
    assert_eq!(anna.until(told).await, sid, "its publisher hears that somebody gets it");
    let (transport, _, send) = negotiated(&worker.look(&bridge));
    assert_eq!((send.len(), send[0].track), (1, source.track));
    // The worker pauses and resumes it: the client is told.
    worker.say(transport, Event::LegActive { transport, leg: send[0].leg, active: false });
    let state = berta.until(|told| if let Told::StreamStateUpdate(told) = told { Some(told) } else { None }).await;
    assert_eq!(state.stream_states[0].track_sid, sid);
    assert_eq!(state.stream_states[0].state(), StreamState::Paused);
    // Its publisher leaves: the leg stops at once, and the client is asked to offer so that it can be told.
    anna.ask(Ask::Leave(Default::default())).await;
    let missing = berta.until(requirement).await;
    assert_eq!((missing.num_audios, missing.num_videos), (0, 0));
    assert!(negotiated(&worker.look(&bridge)).2.is_empty());
    berta.offer(2, offer(&[VIDEO_IN, AUDIO_IN])).await;
    assert!(berta.answer().await.mid_to_track_id.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_there_on_v1_is_asked_for_the_missing_sections() {
    let bridge = bridge(Config::default()).await;
    let mut worker = Worker::default();
    let (mut berta, _) = Client::offering(&bridge, "berta", &offer(&[])).await;
    berta.answer().await;
    let (_anna, sid, _) = anna_speaks(&bridge, &mut worker).await;
    let missing = berta.until(requirement).await;
    assert_eq!((missing.num_audios, missing.num_videos), (1, 0));
    berta.offer(2, offer(&[AUDIO_IN])).await;
    assert_eq!(berta.answer().await.mid_to_track_id.get("1"), Some(&sid));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_adds_no_section_is_not_asked_for_ever() {
    let bridge = bridge(Config::default()).await;
    let mut worker = Worker::default();
    let (mut berta, _) = Client::offering(&bridge, "berta", &offer(&[])).await;
    let (_anna, ..) = anna_speaks(&bridge, &mut worker).await;
    berta.until(requirement).await;
    for id in 2..5 {
        berta.offer(id, offer(&[])).await;
        assert_eq!(berta.answer().await.id, id);
    }
    berta.ask(Ask::Ping(1)).await;
    let next = berta.until(|told| matches!(told, Told::MediaSectionsRequirement(_) | Told::Pong(_)).then_some(told));
    assert!(matches!(next.await, Told::Pong(_)));
}

/// As when its publisher goes on at another bridge: what comes from there is not taken for what came from here.
#[tokio::test(flavor = "multi_thread")]
async fn a_track_that_goes_and_comes_again_at_once_is_sent_anew() {
    let bridge = bridge(Config::default()).await;
    let mut worker = Worker::default();
    let (_anna, sid, source) = anna_speaks(&bridge, &mut worker).await;
    let (mut berta, _) = Client::offering(&bridge, "berta", &offer(&[AUDIO_IN])).await;
    berta.answer().await;
    assert_eq!(negotiated(&worker.look(&bridge)).2[0].track, source.track);
    let (room, sid) = (bridge.rooms.get("rat").unwrap(), sid.as_str().into());
    let before = room.track(&sid).unwrap();
    let (media, relay) = (TrackId::next(), Some("zwei".into()));
    room.withdraw_media(&sid, &before);
    let gone = async {
        while room.track(&sid).is_some() {
            tokio::task::yield_now().await;
        }
    };
    soon(gone).await;
    room.publish_media(&sid, LocalTrack { media, relay, ..before });
    for id in 2.. {
        berta.until(requirement).await;
        berta.offer(id, offer(&[AUDIO_IN])).await;
        berta.answer().await;
        let send = negotiated(&worker.look(&bridge)).2;
        if !send.is_empty() {
            assert_eq!(send[0].track, media);
            return;
        }
        assert!(id < 5, "it is not sent");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn v0_is_offered_a_new_track_and_its_end() {
    let bridge = bridge(Config::default()).await;
    let mut worker = Worker::default();
    let (mut berta, _) = Client::join(&bridge, &guest("rat", "berta"), v0()).await;
    let offered = |told| if let Told::Offer(offer) = told { Some(offer) } else { None };
    let answer = |id, sections: &[Section<'_>]| {
        let sdp = offer(sections).replace("actpass", "active");
        Ask::Answer(SessionDescription { r#type: "answer".into(), sdp, id, ..Default::default() })
    };
    berta.until(offered).await;
    berta.ask(answer(1, &[])).await;
    let (mut anna, sid, source) = anna_speaks(&bridge, &mut worker).await;
    let second = berta.until(offered).await;
    assert_eq!((second.id, second.mid_to_track_id.get("1")), (2, Some(&sid)));
    berta.ask(answer(2, &[AUDIO_IN])).await;
    // Nothing tells the client that its answer arrived: a ping goes the same way.
    berta.settled().await;
    let (_, _, send) = negotiated(&worker.look(&bridge));
    assert_eq!((send.len(), send[0].track), (1, source.track));
    anna.offer(3, offer(&[("audio", "inactive", None)])).await;
    let third = berta.until(offered).await;
    assert!(third.mid_to_track_id.is_empty() && third.sdp.contains("a=inactive"));
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_subscriptions_and_muting() {
    let bridge = bridge(Config::default()).await;
    let mut worker = Worker::default();
    let (mut anna, sid, source) = anna_speaks(&bridge, &mut worker).await;
    let (mut berta, _) = Client::offering(&bridge, "berta", &offer(&[AUDIO_IN])).await;
    berta.answer().await;
    let leg = negotiated(&worker.look(&bridge)).2[0].leg;
    let hidden = UpdateTrackSettings { track_sids: vec![sid.clone()], disabled: true, ..Default::default() };
    berta.ask(Ask::TrackSetting(hidden)).await;
    berta.settled().await;
    let paused =
        |command: &Command| matches!(command, Command::Want { leg: of, wanted: Wanted::PAUSED, .. } if *of == leg);
    assert!(worker.look(&bridge).iter().any(paused));

    anna.ask(Ask::Mute(MuteTrackRequest { sid: sid.clone(), muted: true })).await;
    berta.update(|info| info.tracks.iter().any(|track| track.sid == sid && track.muted)).await;
    let muted =
        |command: &Command| matches!(command, Command::MuteTrack { track, muted: true } if *track == source.track);
    assert!(worker.look(&bridge).iter().any(muted));

    let unsubscribe = UpdateSubscription { track_sids: vec![sid], subscribe: false, ..Default::default() };
    berta.ask(Ask::Subscription(unsubscribe)).await;
    berta.until(requirement).await;
    assert!(negotiated(&worker.look(&bridge)).2.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_is_told_which_layers_are_needed() {
    let bridge = bridge(Config::default()).await;
    let mut worker = Worker::default();
    let (mut anna, _) = Client::offering(&bridge, "anna", &offer(&[])).await;
    anna.answer().await;
    let layer = |quality: VideoQuality, bitrate| VideoLayer { quality: quality.into(), bitrate, ..Default::default() };
    let layers = vec![layer(VideoQuality::Low, 150_000), layer(VideoQuality::High, 1_700_000)];
    let camera = AddTrackRequest { layers, ..track("cam", TrackType::Video, TrackSource::Camera) };
    anna.ask(Ask::AddTrack(camera)).await;
    anna.offer(2, offer(&[("video", "sendonly", Some("cam"))])).await;
    anna.answer().await;
    anna.settled().await;
    let commands = worker.look(&bridge);
    let (transport, receive, _) = negotiated(&commands);
    let track = receive[0].track;
    let described = |command: &Command| match command {
        Command::DescribeTrack { track: of, screen, bitrates } if *of == track => Some((*screen, *bitrates)),
        _ => None,
    };
    assert_eq!(commands.iter().find_map(described), Some((false, [150_000, 1_700_000, 0])));
    for (layers, expected) in [(1, [true, false, false]), (0, [false; 3]), (2, [true; 3])] {
        worker.say(transport, Event::LayersNeeded { transport, track, layers });
        let update = |told| if let Told::SubscribedQualityUpdate(update) = told { Some(update) } else { None };
        let update = anna.until(update).await;
        let codec = &update.subscribed_codecs[0];
        assert_eq!(codec.codec, "vp8");
        assert_eq!(codec.qualities.iter().map(|quality| quality.enabled).collect::<Vec<_>>(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_learns_of_a_lost_connection() {
    let bridge = bridge(Config::default()).await;
    let mut worker = Worker::default();
    let (mut anna, join) = Client::offering(&bridge, "anna", &offer(&[])).await;
    anna.answer().await;
    let transport = opened(&worker.look(&bridge))[0];
    let (mut berta, _) = Client::offering(&bridge, "berta", &offer(&[])).await;
    berta.answer().await;
    let me = join.participant.unwrap().sid;
    for (silent, expected) in [(false, ConnectionQuality::Excellent), (true, ConnectionQuality::Lost)] {
        let quality = Quality { silent, ..Quality::default() };
        worker.say(transport, Event::Quality { transport, quality });
        let told = |told| match told {
            Told::ConnectionQuality(update) => update.updates.into_iter().find(|info| info.participant_sid == me),
            _ => None,
        };
        assert_eq!(berta.until(told).await.quality(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_goes_to_the_others_once_with_the_senders_name() {
    let bridge = bridge(Config::default()).await;
    let mut worker = Worker::default();
    let (mut anna, _) = Client::offering(&bridge, "anna", &offer(&[])).await;
    anna.answer().await;
    let from = opened(&worker.look(&bridge))[0];
    let (mut berta, _) = Client::offering(&bridge, "berta", &offer(&[])).await;
    berta.answer().await;
    let to = opened(&worker.look(&bridge))[0];
    let packet = |sequence| {
        let user = UserPacket { payload: b"hello".to_vec(), ..Default::default() };
        let value = Some(data_packet::Value::User(user));
        let packet = DataPacket { sequence, participant_identity: "mayor".into(), value, ..Default::default() };
        Event::Data { transport: from, channel: Channel::Reliable, payload: packet.encode_to_vec().into() }
    };
    for sequence in [1, 1, 2] {
        worker.say(from, packet(sequence));
    }
    worker.say(from, Event::Data { transport: from, channel: Channel::Reliable, payload: vec![0xff; 4].into() });
    worker.connect(from);
    anna.update(is_active).await;
    berta.update(|info| info.identity == "anna" && is_active(info)).await;
    let sent: Vec<DataPacket> = worker
        .look(&bridge)
        .into_iter()
        .filter_map(|command| match command {
            Command::SendData { transport, payload, .. } => {
                assert_eq!(transport, to, "never back to the sender");
                Some(DataPacket::decode(payload).unwrap())
            }
            _ => None,
        })
        .collect();
    assert_eq!(sent.iter().map(|packet| packet.sequence).collect::<Vec<_>>(), [1, 2], "a repeated one is dropped");
    assert!(sent.iter().all(|packet| packet.participant_identity == "anna"), "the name is ours to say");
}
