//! A drained bridge sends its clients to another one: those that can go on with their PeerConnections, others start anew.

use livekit_protocol::signal_request::Message as Ask;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{
    AddTrackRequest, ClientInfo, DataChannelInfo, DisconnectReason, JoinRequest, SessionDescription, SignalTarget,
    SimulcastCodec, SubscribedCodec, SyncState, TrackInfo, TrackPublishedResponse, TrackSource, TrackType,
    UpdateTrackSettings, client_info, leave_request, participant_info,
};

use super::harness::*;
use crate::media::control::{Codec, Command};
use crate::testing::{Town, guest, soon};

fn chrome() -> ClientInfo {
    ClientInfo { sdk: client_info::Sdk::Js.into(), browser: "Chrome".into(), protocol: 16, ..Default::default() }
}

/// Joins with these tracks, and is active.
async fn enter(bridge: &Watched, worker: &mut Worker, identity: &str, client: ClientInfo) -> (Client, String, String) {
    let sdp = offer(&[("audio", "sendonly", Some("mic")), AUDIO_IN]);
    let description = SessionDescription { r#type: "offer".into(), sdp, id: 1, ..Default::default() };
    let request = JoinRequest {
        client_info: Some(client),
        publisher_offer: Some(description),
        add_track_requests: vec![track("mic", TrackType::Audio, TrackSource::Microphone)],
        ..Default::default()
    };
    let (mut client, join) = Client::join(bridge, &guest("rat", identity), v1(request)).await;
    let answer = client.answer().await.sdp;
    let transport = opened(&worker.look(bridge))[0];
    worker.connect(transport);
    client.update(is_active).await;
    (client, join.participant.unwrap().sid, answer)
}

fn again(sid: &str) -> (&'static str, String) {
    let request =
        JoinRequest { client_info: Some(chrome()), reconnect: true, participant_sid: sid.into(), ..Default::default() };
    v1(request)
}

/// Two bridges, and the sid of anna, who was on the first one and was told to go on at the second one.
async fn anna_is_sent_away() -> (Watched, Watched, Town, String) {
    let (eins, zwei, town) = two_bridges().await;
    town.order("zwei", true).await;
    let (mut anna, sid, _) = enter(&eins, &mut Worker::default(), "anna", chrome()).await;
    town.order("zwei", false).await;
    town.order("eins", true).await;
    assert_eq!(anna.goodbye().await.action(), leave_request::Action::Resume);
    (eins, zwei, town, sid)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_goes_on_with_its_session_at_another_bridge() {
    let (eins, zwei, town) = two_bridges().await;
    town.order("zwei", true).await;
    let (mut worker, mut there) = (Worker::default(), Worker::default());
    let (mut anna, sid, answer) = enter(&eins, &mut worker, "anna", chrome()).await;
    let (mut berta, bertas, _) = enter(&eins, &mut worker, "berta", ClientInfo::default()).await;
    let room = eins.rooms.get("rat").unwrap();
    let mine = room.state().participant(&sid.as_str().into()).unwrap().tracks[0].sid.clone();
    let hers = room.state().participant(&bertas.as_str().into()).unwrap().tracks[0].sid.clone();
    let settings = UpdateTrackSettings { track_sids: vec![hers.clone()], disabled: true, ..Default::default() };
    anna.ask(Ask::TrackSetting(settings)).await;
    anna.settled().await;
    worker.look(&eins);

    town.order("zwei", false).await;
    town.order("eins", true).await;
    let leave = anna.goodbye().await;
    assert_eq!((leave.reason(), leave.action()), (DisconnectReason::Migration, leave_request::Action::Resume));
    let leave = berta.goodbye().await;
    assert_eq!((leave.reason(), leave.action()), (DisconnectReason::Migration, leave_request::Action::Reconnect));
    let gone = |c: &Command| matches!(c, Command::CloseTransport { .. });
    assert!(!worker.look(&eins).iter().any(gone), "what flows goes on");
    let open = zwei.rooms.get("rat").expect("the room is open where she goes before she goes");
    assert_eq!(open.lacking("zwei"), 0, "with everybody's media");

    // Through the bridge that she leaves, as through any other.
    let mut anna = Client::try_open(&eins, &guest("rat", "anna"), again(&sid)).await.unwrap();
    assert!(matches!(anna.next().await, Some(Told::Reconnect(_))), "this is first");
    let info = room.state().participant(&sid.as_str().into()).unwrap().track(&mine.as_str().into()).unwrap().clone();
    let channel = |label: &str, id| DataChannelInfo { label: label.into(), id, target: SignalTarget::Publisher.into() };
    let sync = SyncState {
        answer: Some(SessionDescription { r#type: "answer".into(), sdp: answer.clone(), ..Default::default() }),
        publish_tracks: vec![TrackPublishedResponse { cid: "mic".into(), track: Some((*info).clone()) }],
        data_channels: vec![channel("_reliable", 3), channel("_lossy", 5)],
        ..Default::default()
    };
    anna.ask(Ask::SyncState(sync)).await;
    anna.offer(2, offer_with("next", &[("audio", "sendonly", Some("mic")), AUDIO_IN])).await;
    let second = anna.answer().await;
    assert_eq!(second.id, 2);
    let fingerprint = |sdp: &str| sdp.lines().find(|line| line.starts_with("a=fingerprint")).map(str::to_owned);
    assert_ne!(fingerprint(&second.sdp), fingerprint(&answer), "another server answers");

    let commands = there.look(&zwei);
    let transport = opened(&commands)[0];
    let adopts = |c: &Command| matches!(c, Command::GoOn { transport: of, channels: [Some(3), Some(5)], .. } if *of == transport);
    assert!(commands.iter().any(adopts), "{commands:?}");
    let last = commands.iter().rev().find_map(|c| match c {
        Command::Negotiated { transport: of, receive, send, .. } if *of == transport => Some((receive, send)),
        _ => None,
    });
    let (receive, send) = last.unwrap();
    assert_eq!((receive.len(), send.len()), (1, 1), "her microphone comes in, berta's goes out");
    assert_eq!(send[0].wanted.layer, None, "she does not want to hear it, as she said at the other bridge");
    assert_eq!(second.mid_to_track_id.get("2"), Some(&hers), "on the section that it was on");
    let who = open.state().participant(&sid.as_str().into()).cloned().unwrap();
    assert_eq!((who.bridge.as_str(), who.tracks[0].sid.as_str()), ("zwei", mine.as_str()));
    assert!(open.track(&mine.as_str().into()).unwrap().relay.is_none(), "her media comes in there");

    // Berta hears it from there, and was told nothing.
    let relayed = async {
        while room.track(&mine.as_str().into()).is_none_or(|track| track.relay.as_deref() != Some("zwei")) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    soon(relayed).await;
    berta.ask(Ask::Ping(1)).await;
    berta
        .until(|told| match told {
            Told::Update(update) => {
                let state = update.participants[0].state();
                assert_ne!(state, participant_info::State::Disconnected, "{update:?}");
                None
            }
            told => matches!(told, Told::Pong(_)).then_some(()),
        })
        .await;
    anna.settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_track_in_two_codecs_goes_on_in_both() {
    let (eins, zwei, town) = two_bridges().await;
    town.order("zwei", true).await;
    let (mut anna, sid, _) = enter(&eins, &mut Worker::default(), "anna", chrome()).await;
    let codec = |codec: &str, cid: &str| SimulcastCodec { codec: codec.into(), cid: cid.into(), ..Default::default() };
    let camera = AddTrackRequest {
        simulcast_codecs: vec![codec("vp9", "cam"), codec("vp8", "")],
        ..track("cam", TrackType::Video, TrackSource::Camera)
    };
    anna.ask(Ask::AddTrack(camera)).await;
    let published = |told| if let Told::TrackPublished(told) = told { told.track } else { None };
    let mine = anna.until(|told| published(told).filter(|track| track.codecs.len() == 2)).await.sid;
    let backup = AddTrackRequest {
        sid: mine.clone(),
        simulcast_codecs: vec![codec("vp8", "backup")],
        ..track("backup", TrackType::Video, TrackSource::Camera)
    };
    anna.ask(Ask::AddTrack(backup)).await;
    let (mic, cam) = (("audio", "sendonly", Some("mic")), ("vp9", "sendonly", Some("cam")));
    let sections = [mic, AUDIO_IN, cam, ("video", "sendonly", Some("backup"))];
    anna.offer(2, offer(&sections)).await;
    let answer = anna.answer().await;
    anna.settled().await;
    let state = eins.rooms.get("rat").unwrap().state();
    let tracks = state.participant(&sid.as_str().into()).unwrap().tracks.clone();
    assert!(tracks.iter().any(|track| track.sid == mine && track.codecs[1].mid == "4"), "{tracks:?}");
    town.order("zwei", false).await;
    town.order("eins", true).await;
    assert_eq!(anna.goodbye().await.action(), leave_request::Action::Resume);

    let mut anna = Client::try_open(&eins, &guest("rat", "anna"), again(&sid)).await.unwrap();
    assert!(matches!(anna.next().await, Some(Told::Reconnect(_))));
    let cid = |track: &TrackInfo| if track.sid == mine { "cam" } else { "mic" };
    let published = tracks
        .iter()
        .map(|track| TrackPublishedResponse { cid: cid(track).into(), track: Some(TrackInfo::clone(track)) });
    let sync = SyncState { answer: Some(answer), publish_tracks: published.collect(), ..Default::default() };
    anna.ask(Ask::SyncState(sync)).await;
    anna.offer(3, offer_with("next", &sections)).await;
    anna.answer().await;
    // What she was told elsewhere of the codecs that are needed holds no more.
    let all = |told| match told {
        Told::SubscribedQualityUpdate(update) => {
            let needed = |codec: &SubscribedCodec| codec.qualities.iter().all(|quality| quality.enabled);
            (update.track_sid == mine).then(|| update.subscribed_codecs.iter().filter(|codec| needed(codec)).count())
        }
        _ => None,
    };
    assert_eq!(anna.until(all).await, 2);
    anna.settled().await;
    let track = zwei.rooms.get("rat").unwrap().track(&mine.as_str().into()).unwrap();
    assert_eq!((track.relay, track.backups.len()), (None, 1));
    assert_eq!(track.backups[0].codec(), Some(Codec::Vp8));
}

const CHROME_V0: &str = "protocol=16&sdk=js&auto_subscribe=1&browser=Chrome";

/// Somebody on v0 who hears anna: the description that it was offered, and its sid.
async fn listen(bridge: &Watched, worker: &mut Worker, identity: &str) -> (Client, String, SessionDescription) {
    let (mut client, join) = Client::join(bridge, &guest("rat", identity), ("/rtc", CHROME_V0.to_owned())).await;
    let first = client.until(offered).await;
    assert_eq!(first.mid_to_track_id.len(), 1, "anna's microphone is there already");
    client.ask(accept(&first)).await;
    client.settled().await;
    let transport = opened(&worker.look(bridge))[0];
    worker.connect(transport);
    client.update(is_active).await;
    (client, join.participant.unwrap().sid, first)
}

fn offered(told: Told) -> Option<SessionDescription> {
    if let Told::Offer(offer) = told { Some(offer) } else { None }
}

/// The answer to an offer of one sound.
fn accept(offered: &SessionDescription) -> Ask {
    let sdp = offer(&[AUDIO_IN]).replace("actpass", "active");
    Ask::Answer(SessionDescription { r#type: "answer".into(), sdp, id: offered.id, ..Default::default() })
}

/// Two PeerConnections go on as well: we offer the sections that the other bridge offered, with the same tracks.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_on_v0_goes_on_too() {
    let (eins, zwei, town) = two_bridges().await;
    town.order("zwei", true).await;
    let (mut worker, mut there) = (Worker::default(), Worker::default());
    let (_anna, _, _) = enter(&eins, &mut worker, "anna", ClientInfo::default()).await;
    let (mut berta, sid, before) = listen(&eins, &mut worker, "berta").await;
    let (mut carl, carls, _) = listen(&eins, &mut worker, "carl").await;
    town.order("zwei", false).await;
    town.order("eins", true).await;
    assert_eq!(berta.goodbye().await.action(), leave_request::Action::Resume);
    assert_eq!(carl.goodbye().await.action(), leave_request::Action::Resume);

    let back = |sid: &str| ("/rtc", format!("{CHROME_V0}&reconnect=1&sid={sid}"));
    let mut berta = Client::try_open(&zwei, &guest("rat", "berta"), back(&sid)).await.unwrap();
    assert!(matches!(berta.next().await, Some(Told::Reconnect(_))), "this is first");
    let channel =
        |label: &str, id| DataChannelInfo { label: label.into(), id, target: SignalTarget::Subscriber.into() };
    let sync = SyncState {
        offer: Some(before.clone()),
        data_channels: vec![channel("_reliable", 1), channel("_lossy", 3)],
        ..Default::default()
    };
    berta.ask(Ask::SyncState(sync)).await;
    let after = berta.until(offered).await;
    assert_eq!(after.mid_to_track_id, before.mid_to_track_id);
    let lines = |sdp: &str, start: &str| {
        sdp.lines().filter(|line| line.starts_with(start)).map(str::to_owned).collect::<Vec<_>>()
    };
    for same in ["a=msid", "a=mid", "m=", "a=sendonly"] {
        assert_eq!(lines(&after.sdp, same), lines(&before.sdp, same));
    }
    for other in ["a=fingerprint", "a=ice-ufrag"] {
        assert_ne!(lines(&after.sdp, other), lines(&before.sdp, other), "another server offers");
    }
    berta.ask(accept(&after)).await;
    berta.settled().await;
    let commands = there.look(&zwei);
    let transport = opened(&commands)[0];
    let adopts = |c: &Command| matches!(c, Command::GoOn { transport: of, channels: [Some(1), Some(3)], .. } if *of == transport);
    assert!(commands.iter().any(adopts), "{commands:?}");
    let hears = |c: &Command| matches!(c, Command::Negotiated { transport: of, send, .. } if *of == transport && send.len() == 1);
    assert!(commands.iter().any(hears), "{commands:?}");
    assert_eq!(zwei.rooms.get("rat").unwrap().state().participant(&sid.as_str().into()).unwrap().bridge, "zwei");

    // Somebody who does not say what it has cannot go on with it, and is told to begin anew.
    let mut carl = Client::try_open(&zwei, &guest("rat", "carl"), back(&carls)).await.unwrap();
    assert!(matches!(carl.next().await, Some(Told::Reconnect(_))));
    carl.ask(Ask::SyncState(SyncState::default())).await;
    assert_eq!(carl.goodbye().await.action(), leave_request::Action::Reconnect);
}

/// The bridge that it left ends before the client is connected to the other one: it finds its session through that one.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_just_come_may_lose_its_websocket() {
    let (eins, zwei, _town, sid) = anna_is_sent_away().await;
    let mut anna = Client::try_open(&eins, &guest("rat", "anna"), again(&sid)).await.unwrap();
    assert!(matches!(anna.next().await, Some(Told::Reconnect(_))));
    eins.stop.cancel();
    assert_eq!(anna.goodbye().await.action(), leave_request::Action::Resume);
    drop(anna);
    let mut anna = Client::try_open(&zwei, &guest("rat", "anna"), again(&sid)).await.unwrap();
    assert!(matches!(anna.next().await, Some(Told::Reconnect(_))));
    anna.settled().await;
    assert_eq!(zwei.rooms.get("rat").unwrap().state().participant(&sid.as_str().into()).unwrap().bridge, "zwei");
}

/// A bridge is drained when nothing flows over it any more, not before.
#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_is_needed_until_who_has_gone_is_connected_elsewhere() {
    let (eins, zwei, _town, sid) = anna_is_sent_away().await;
    assert!(!eins.rooms.is_lingering());
    let mut anna = Client::try_open(&zwei, &guest("rat", "anna"), again(&sid)).await.unwrap();
    assert!(matches!(anna.next().await, Some(Told::Reconnect(_))));
    eventually("she has gone", || eins.rooms.count().0 == 0 && eins.rooms.is_lingering()).await;
    eventually("nothing flows there", || !eins.rooms.is_lingering()).await;
}

/// Who was not announced, or is somebody else, is not let in.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_takes_anothers_session_along() {
    let (eins, zwei, _town, sid) = anna_is_sent_away().await;
    for bridge in [&eins, &zwei] {
        let berta = Client::try_open(bridge, &guest("rat", "berta"), again(&sid)).await;
        if let Ok(mut berta) = berta {
            assert!(matches!(berta.next().await, Some(Told::Leave(_))));
        }
    }
    let room = eins.rooms.get("rat").unwrap();
    assert_eq!(room.state().participant(&sid.as_str().into()).unwrap().bridge, "eins");
    // She herself still can, through the other one.
    let mut anna = Client::try_open(&zwei, &guest("rat", "anna"), again(&sid)).await.unwrap();
    assert!(matches!(anna.next().await, Some(Told::Reconnect(_))));
    anna.settled().await;
    assert_eq!(zwei.rooms.get("rat").unwrap().state().participant(&sid.as_str().into()).unwrap().bridge, "zwei");
}
