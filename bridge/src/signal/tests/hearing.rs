//! Whose sound is forwarded however many voices are louder: the media worker is told.

use std::collections::HashMap;

use livekit_protocol::signal_request::Message as Ask;
use livekit_protocol::signal_response::Message as Told;
use livekit_protocol::{TrackSource, TrackType, UpdateParticipantMetadata};

use super::harness::*;
use crate::config::Config;
use crate::media::control::{Command, TrackId};
use crate::testing::{guest, soon};
use crate::token::Claims;

/// A bridge and all that its worker was told.
struct Hall {
    bridge: Watched,
    worker: Worker,
    commands: Vec<Command>,
}

impl Hall {
    async fn new() -> Self {
        Self { bridge: bridge(Config::default()).await, worker: Worker::default(), commands: Vec::new() }
    }

    /// Somebody who publishes one track from that source; the track as the worker knows it.
    async fn publish(&mut self, claims: &Claims, source: TrackSource) -> (Client, TrackId) {
        let (mut client, _) = Client::offering_as(&self.bridge, claims, &offer(&[])).await;
        client.answer().await;
        let joined = self.worker.look(&self.bridge);
        let own = opened(&joined)[0];
        self.commands.extend(joined);
        client.ask(Ask::AddTrack(track("sound", TrackType::Audio, source))).await;
        client.until(|told| matches!(told, Told::TrackPublished(_)).then_some(())).await;
        client.offer(2, offer(&[("audio", "sendonly", Some("sound"))])).await;
        client.answer().await;
        self.commands.extend(self.worker.look(&self.bridge));
        let track = self.commands.iter().rev().find_map(|command| match command {
            Command::Negotiated { transport, receive, .. } if *transport == own => {
                receive.first().map(|section| section.track)
            }
            _ => None,
        });
        (client, track.expect("a track"))
    }

    /// Waits until the worker was told so of a track last.
    async fn heard(&mut self, track: TrackId, exempt: bool) {
        let told = async {
            while !matches!(self.told(track).last(), Some(last) if *last == exempt) {
                tokio::task::yield_now().await;
            }
        };
        soon(told).await;
    }

    /// What the worker was told of a track.
    fn told(&mut self, track: TrackId) -> Vec<bool> {
        self.commands.extend(self.worker.look(&self.bridge));
        let told = self.commands.iter().filter_map(|command| match command {
            Command::ExemptTrack { track: of, exempt } if *of == track => Some(*exempt),
            _ => None,
        });
        told.collect()
    }
}

fn interpreter(language: &str) -> HashMap<String, String> {
    HashMap::from([("ratssaal.interpreter".to_owned(), language.to_owned())])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_screens_sound_and_an_interpreter_are_heard_always() {
    let mut hall = Hall::new().await;
    let (_anna, screen) = hall.publish(&guest("rat", "anna"), TrackSource::ScreenShareAudio).await;
    hall.heard(screen, true).await;
    let claims = Claims { attributes: interpreter("fr"), ..guest("rat", "dolmetscher") };
    let (_interpreter, voice) = hall.publish(&claims, TrackSource::Microphone).await;
    hall.heard(voice, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_becomes_an_interpreter_during_the_meeting_is_heard_from_then_on() {
    let mut hall = Hall::new().await;
    let mut claims = guest("rat", "berta");
    claims.grants.can_update_own_metadata = Some(true);
    let (mut berta, voice) = hall.publish(&claims, TrackSource::Microphone).await;
    let change = |attributes| Ask::UpdateMetadata(UpdateParticipantMetadata { attributes, ..Default::default() });
    // Anything else that is said of somebody changes nothing.
    berta.ask(change(HashMap::from([("hand".into(), "up".into())]))).await;
    berta.update(|info| info.attributes.contains_key("hand")).await;
    assert_eq!(hall.told(voice), [false; 0]);
    berta.ask(change(interpreter("de"))).await;
    hall.heard(voice, true).await;
    berta.ask(change(interpreter("en"))).await;
    berta.ask(change(interpreter(""))).await;
    hall.heard(voice, false).await;
    assert_eq!(hall.told(voice), [true, false], "once each");
}
