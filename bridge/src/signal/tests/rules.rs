//! Grants and permissions are kept at the bridge, whatever a client sends.

use std::collections::HashMap;

use livekit_protocol::request_response::Reason;
use livekit_protocol::signal_request::Message as Ask;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{
    MuteTrackRequest, RequestResponse, SubscriptionPermission, TrackSource, TrackType, UpdateParticipantMetadata,
};

use super::harness::*;
use crate::config::Config;
use crate::room::{Actor, Command};
use crate::testing::guest;
use crate::token::{Claims, VideoGrants};

fn response(told: Told) -> Option<RequestResponse> {
    if let Told::RequestResponse(response) = told { Some(response) } else { None }
}

fn with(change: impl FnOnce(&mut VideoGrants)) -> Claims {
    let mut claims = guest("rat", "anna");
    change(&mut claims.grants);
    claims
}

#[tokio::test(flavor = "multi_thread")]
async fn only_permitted_sources_are_published() {
    let bridge = bridge(Config::default()).await;
    for claims in [
        with(|grants| grants.can_publish = Some(false)),
        with(|grants| grants.can_publish_sources = vec!["microphone".into()]),
    ] {
        let (mut anna, _) = Client::join(&bridge, &claims, v1(Default::default())).await;
        anna.ask(Ask::AddTrack(track("cam", TrackType::Video, TrackSource::Camera))).await;
        let refused = anna.until(response).await;
        assert_eq!(refused.reason(), Reason::NotAllowed);
        // The offer is answered all the same, and nobody hears of a track.
        anna.offer(1, offer(&[("video", "sendonly", Some("cam"))])).await;
        anna.answer().await;
        let state = bridge.rooms.get("rat").unwrap().state();
        assert!(state.by_identity("anna").unwrap().tracks.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_receives_without_permission() {
    let bridge = bridge(Config::default()).await;
    let (mut anna, _) = Client::offering(&bridge, "anna", &offer(&[])).await;
    anna.ask(Ask::AddTrack(track("mic", TrackType::Audio, TrackSource::Microphone))).await;
    anna.offer(2, offer(&[("audio", "sendonly", Some("mic"))])).await;
    anna.settled().await;
    let deaf = Claims { identity: "berta".into(), ..with(|grants| grants.can_subscribe = Some(false)) };
    let (mut berta, join) = Client::join(&bridge, &deaf, v1(Default::default())).await;
    assert_eq!(join.other_participants[0].tracks.len(), 1, "it sees the track");
    berta.offer(1, offer(&[AUDIO_IN])).await;
    assert!(berta.answer().await.mid_to_track_id.is_empty(), "but does not get it");
    // The publisher decides too.
    let (mut clara, _) = Client::offering(&bridge, "clara", &offer(&[AUDIO_IN])).await;
    assert_eq!(clara.answer().await.mid_to_track_id.len(), 1);
    anna.ask(Ask::SubscriptionPermission(SubscriptionPermission::default())).await;
    let told = |told| if let Told::SubscriptionPermissionUpdate(told) = told { Some(told) } else { None };
    assert!(!clara.until(told).await.allowed);
    clara.until(|told| matches!(told, Told::MediaSectionsRequirement(_)).then_some(())).await;
    clara.offer(2, offer(&[AUDIO_IN])).await;
    assert!(clara.answer().await.mid_to_track_id.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn own_metadata_needs_its_grant() {
    let bridge = bridge(Config::default()).await;
    let update = || UpdateParticipantMetadata {
        name: "Anna Neu".into(),
        attributes: HashMap::from([("hand".into(), "up".into())]),
        request_id: 9,
        ..Default::default()
    };
    let (mut anna, _) = Client::join(&bridge, &guest("rat", "anna"), v1(Default::default())).await;
    anna.ask(Ask::UpdateMetadata(update())).await;
    let refused = anna.until(response).await;
    assert_eq!((refused.request_id, refused.reason()), (9, Reason::NotAllowed));
    let allowed = Claims { identity: "berta".into(), ..with(|grants| grants.can_update_own_metadata = Some(true)) };
    let (mut berta, _) = Client::join(&bridge, &allowed, v1(Default::default())).await;
    berta.ask(Ask::UpdateMetadata(update())).await;
    assert_eq!(berta.until(response).await.reason(), Reason::Ok);
    let token = berta.until(|told| if let Told::RefreshToken(token) = told { Some(token) } else { None }).await;
    let claims = bridge.keys.verify(&token).unwrap();
    assert_eq!(
        (claims.name.as_str(), claims.attributes["hand"].as_str()),
        ("Anna Neu", "up"),
        "she comes back as such"
    );
    let seen = anna.update(|info| info.name == "Anna Neu").await;
    assert_eq!(seen.attributes["hand"], "up");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_refreshed_when_the_permission_changes() {
    let bridge = bridge(Config::default()).await;
    let (mut anna, join) = Client::join(&bridge, &guest("rat", "anna"), v1(Default::default())).await;
    let room = bridge.rooms.get("rat").unwrap();
    let me = join.participant.unwrap();
    let mut permission = me.permission.unwrap();
    permission.can_publish = false;
    let command = Command::Permit { participant: me.sid.as_str().into(), permission };
    room.submit(Actor::Admin, command).await.unwrap();
    let token = anna.until(|told| if let Told::RefreshToken(token) = told { Some(token) } else { None }).await;
    let claims = bridge.keys.verify(&token).unwrap();
    assert_eq!((claims.identity.as_str(), claims.grants.room.as_str()), ("anna", "rat"));
    assert!(claims.grants.room_join && !claims.grants.can_publish(), "reconnecting brings nothing back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moderator_mutes_and_the_client_is_told() {
    let bridge = bridge(Config::default()).await;
    let (mut anna, _) = Client::offering(&bridge, "anna", &offer(&[])).await;
    anna.ask(Ask::AddTrack(track("mic", TrackType::Audio, TrackSource::Microphone))).await;
    anna.offer(2, offer(&[("audio", "sendonly", Some("mic"))])).await;
    anna.settled().await;
    let room = bridge.rooms.get("rat").unwrap();
    let sid = room.state().by_identity("anna").unwrap().tracks[0].sid.clone();
    let command = Command::Mute { track: sid.as_str().into(), muted: true };
    room.submit(Actor::Admin, command).await.unwrap();
    let muted = anna.until(|told| if let Told::Mute(mute) = told { Some(mute) } else { None }).await;
    assert_eq!(muted, MuteTrackRequest { sid, muted: true });
    anna.ask(Ask::Mute(MuteTrackRequest { sid: "TR_none".into(), muted: true })).await;
    assert_eq!(anna.until(response).await.reason(), Reason::NotFound);
}
