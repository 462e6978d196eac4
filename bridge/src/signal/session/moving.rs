//! A client that is sent to another bridge: by this session, or to this session by the one that it had there.
//!
//! Where the client can, its PeerConnections go on: it is told to *resume*, comes to the other bridge with its participant's
//! sid, says what it has (`sync_state`) and restarts ICE; the answer's other fingerprint makes it begin DTLS anew. Others are
//! told to *reconnect*: they make new PeerConnections and join anew. Either way media flows here until they are there.
//!
//! A sender that was told once that its packets come in leaves out mid and RID from then on (`libwebrtc` does), also towards
//! another server. So that one is told for each simulcast layer which SSRC they stood for here.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use livekit_protocol::leave_request::Action;
use livekit_protocol::{ClientInfo, DisconnectReason, UpdateTrackSettings, client_info};
use ratssaal_proto::bridge::v1::KnownEncoding;
use tokio::sync::{mpsc, oneshot};

use super::super::admission::Place;
use super::super::metrics::Ended;
use super::super::request::Opening;
use super::super::resume::Registration;
use super::super::wire::Close;
use super::super::{Inner, messages};
use super::reliable::Reliable;
use super::waiting::Waiting;
use super::{Flow, Return, Session};
use crate::media::control::{Channel, Command as MediaCommand, Downlink, ReceiveSection, TrackId};
use crate::room::{ParticipantSid, RoomHandle, ToSession, TrackSid};

/// When a client that was told to resume elsewhere and is still here is told again: `livekit-client` waits two seconds at the
/// end of a resume, and does not begin another one meanwhile.
const AGAIN: Duration = Duration::from_secs(3);
/// How long a client that starts anew may take to be where it was sent.
const GO_WITHIN: Duration = Duration::from_secs(5);
/// How many packets may still go to a client here before it is connected to the next bridge: a few, and so many per
/// millisecond since it was looked; not so many that they look older to the client than what it has.
const MIN_AHEAD: u16 = 1000;
const MAX_RATE: u16 = 2;
const MAX_AHEAD: u16 = 1 << 14;
/// Simulcast layers of one client whose streams are remembered.
const MAX_ENCODINGS: usize = 256;

/// What a session knows that its client does not tell the next bridge.
#[derive(Clone, PartialEq, Default, Debug)]
pub(crate) struct HandedOver {
    /// Up to where the client's reliable data packets were taken; what came after a gap it repeats.
    pub(crate) last_reliable: u32,
    /// How the client shows tracks.
    pub(crate) settings: Vec<UpdateTrackSettings>,
    /// What the client's simulcast streams are.
    pub(crate) encodings: Vec<KnownEncoding>,
    /// The way to the client.
    pub(crate) downlink: Option<Downlink>,
}

/// How far the move of a client is.
#[derive(Debug)]
pub(super) struct Moving {
    /// Whether the client's PeerConnections can go on with another server.
    goes_on: bool,
    /// What the worker said of the way to the client, and when.
    pub(super) downlink: Option<(Instant, Downlink)>,
    /// It was told once to resume elsewhere.
    told_once: bool,
    /// The session goes on at another bridge.
    over: bool,
    /// What the client has from another bridge is yet to be read from its `sync_state`.
    pub(super) restoring: bool,
    /// The streams of simulcast layers by mid and RID: the SSRC and that of its RTX, 0 while it is not known.
    streams: BTreeMap<(String, String), (u32, u32)>,
    /// The client came with its PeerConnections from another bridge.
    pub(super) came: bool,
    /// Until its reliable data channel goes on.
    pub(super) waiting: Option<Waiting>,
}

impl Moving {
    pub(super) fn new(opening: &Opening) -> Self {
        Self::blank(takes_another_server(&opening.client))
    }

    fn blank(goes_on: bool) -> Self {
        let streams = BTreeMap::new();
        Self {
            goes_on,
            downlink: None,
            told_once: false,
            over: false,
            restoring: false,
            streams,
            came: false,
            waiting: None,
        }
    }

    /// Whether the session goes on at another bridge.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Of a client that comes from another bridge.
    fn came_with(&mut self, encodings: &[KnownEncoding]) {
        (self.restoring, self.came, self.waiting) = (true, true, Some(Waiting::default()));
        for known in encodings.iter().take(MAX_ENCODINGS) {
            self.streams.insert((known.mid.clone(), known.rid.clone()), (known.ssrc, known.rtx_ssrc));
        }
    }

    /// What an SSRC is for.
    fn learn(&mut self, section: &ReceiveSection, layer: u8, rtx: bool, ssrc: u32) {
        let Some(rid) = section.rids.get(usize::from(layer)) else { return };
        let place = (section.mid.clone(), rid.clone());
        if self.streams.len() >= MAX_ENCODINGS && !self.streams.contains_key(&place) {
            return;
        }
        let (media, repair) = self.streams.entry(place).or_default();
        *(if rtx { repair } else { media }) = ssrc;
    }

    /// The way to the client as the next bridge has to know it.
    fn downlink(&self, now: Instant) -> Option<Downlink> {
        let (at, Downlink { next_number, bits }) = self.downlink?;
        let since = u16::try_from(now.duration_since(at).as_millis()).unwrap_or(u16::MAX);
        let ahead = MIN_AHEAD.saturating_add(since.saturating_mul(MAX_RATE)).min(MAX_AHEAD);
        Some(Downlink { next_number: next_number.wrapping_add(ahead), bits })
    }

    /// Of these sections, what is known of their streams.
    fn known(&self, sections: &[ReceiveSection]) -> Vec<KnownEncoding> {
        let layers = sections.iter().flat_map(|section| section.rids.iter().map(|rid| (&section.mid, rid)));
        let known = layers.filter_map(|(mid, rid)| {
            let &(ssrc, rtx_ssrc) = self.streams.get(&(mid.clone(), rid.clone()))?;
            Some(KnownEncoding { mid: mid.clone(), rid: rid.clone(), ssrc, rtx_ssrc })
        });
        known.take(MAX_ENCODINGS).collect()
    }

    /// Completes the sections of a client that came from another bridge and does not say any more which stream is which.
    pub(super) fn recognise(&self, sections: &mut [ReceiveSection]) {
        let unsaid = |section: &&mut ReceiveSection| section.ssrcs.is_empty() && !section.rids.is_empty();
        for section in sections.iter_mut().filter(|_| self.came).filter(unsaid) {
            let place = |rid: &String| (section.mid.clone(), rid.clone());
            let known = section.rids.iter().map(|rid| self.streams.get(&place(rid)).copied().unwrap_or_default());
            section.ssrcs = known.map(|(media, rtx)| (media, Some(rtx).filter(|rtx| *rtx != 0))).collect();
        }
    }
}

/// Whether a client's PeerConnection takes an answer with another certificate and begins DTLS anew: `libwebrtc` does (shown
/// with Chromium), Firefox keeps the association it has.
fn takes_another_server(client: &ClientInfo) -> bool {
    let chromium = ["chrome", "chromium", "edge", "opera"];
    client.sdk() == client_info::Sdk::Js && chromium.iter().any(|own| client.browser.eq_ignore_ascii_case(own))
}

impl Session {
    /// This bridge is drained: the client shall go, to a bridge that expects it or to wherever it is seated. What flows goes on
    /// meanwhile. One that was told before and is still here is told to start anew; one that is on its way is waited for as
    /// long as for any client without a WebSocket: it may not be taken at the moment, as the log is away.
    pub(super) fn send_away(&mut self, to: Option<String>) {
        let again = self.clocks.moving.is_some() && self.link.is_up();
        let to = to.filter(|_| self.moving.goes_on && self.active && !again);
        let action = if to.is_some() { Action::Resume } else { Action::Reconnect };
        tracing::info!(participant = %self.seat.sid, ?to, ?action, "sent to another bridge");
        if let Some(transport) = self.data_transport().filter(|_| to.is_some()) {
            transport.send(MediaCommand::Describe { transport: transport.id });
        }
        let within = if to.is_some() { AGAIN } else { GO_WITHIN };
        self.moving.told_once = to.is_some();
        self.returns.moved_to(to);
        self.clocks.moving = Some(Instant::now() + within);
        self.tell_to_go(action);
    }

    /// Nothing is kept for a client that is on its way: it is expected where it shall go, and may come back here after all.
    fn tell_to_go(&mut self, action: Action) {
        if self.link.is_up() {
            self.link.send(messages::leave(DisconnectReason::Migration, action));
        }
    }

    /// The client came back here after all.
    pub(super) fn stay(&mut self) {
        (self.clocks.moving, self.moving.told_once) = (None, false);
        self.returns.moved_to(None);
    }

    /// The client did not go in time. One that is still busy with coming here does not hear that it shall go on: it is told
    /// once more.
    pub(super) fn stays_here(&mut self) -> Flow {
        if std::mem::take(&mut self.moving.told_once) {
            self.clocks.moving = Some(Instant::now() + self.signal.settings.resume_within);
            self.tell_to_go(Action::Resume);
            return ControlFlow::Continue(());
        }
        tracing::info!(participant = %self.seat.sid, "did not go to another bridge in time");
        self.end(DisconnectReason::Migration, Action::Reconnect, Close::Normal, Ended::Moved)
    }

    /// The client leaves to start anew elsewhere. The participant stays in the room until it is there.
    pub(super) fn gone_elsewhere(&mut self) -> Flow {
        self.link.close(Close::Normal);
        self.seat.reason = DisconnectReason::Migration;
        ControlFlow::Break(Ended::Moved)
    }

    /// The client has come to the bridge it was sent to.
    pub(super) fn hand_over(&self, reply: oneshot::Sender<HandedOver>) {
        let handed = HandedOver {
            last_reliable: self.reliable.acknowledged(),
            settings: self.subscriptions.settings(),
            encodings: self.moving.known(&self.negotiation.receive),
            downlink: self.moving.downlink(Instant::now()),
        };
        // A bridge that does not wait for it any more does not go on with it either.
        let _ = reply.send(handed);
    }

    /// The worker says what it knows of the way to the client.
    pub(super) fn described(&mut self, downlink: Downlink) {
        self.moving.downlink = Some((Instant::now(), downlink));
    }

    /// The worker has learnt what an SSRC of a simulcast track is for.
    pub(super) fn stream_known(&mut self, track: TrackId, layer: u8, rtx: bool, ssrc: u32) {
        if let Some(section) = self.negotiation.receive.iter().find(|section| section.track == track) {
            self.moving.learn(section, layer, rtx, ssrc);
        }
    }

    /// It goes on there.
    pub(super) fn moved_away(&mut self) -> Flow {
        (self.seat.left, self.seat.reason) = (true, DisconnectReason::Migration);
        self.moving.over = true;
        self.link.close(Close::Replaced);
        ControlFlow::Break(Ended::Moved)
    }

    /// Of a participant who had its session on another bridge and was sent here.
    pub(crate) fn taken_over(
        signal: Arc<Inner>,
        seat: (RoomHandle, ParticipantSid, mpsc::Receiver<ToSession>),
        handed: HandedOver,
        opening: &Opening,
        (returns, place): (Registration, Place),
    ) -> Box<Self> {
        let mut session = Box::new(Self::silent(signal, seat, opening, returns, place));
        session.reliable = Reliable::after(handed.last_reliable);
        session.moving.came_with(&handed.encodings);
        session.moving.downlink = handed.downlink.map(|downlink| (Instant::now(), downlink));
        for settings in &handed.settings {
            for sid in &settings.track_sids {
                session.subscriptions.set(TrackSid::from(sid.as_str()), settings);
            }
        }
        session
    }

    /// Speaks for such a participant until it leaves.
    pub(crate) async fn go_on(mut self: Box<Self>, back: Return) {
        let ended = match Box::pin(self.begin_again(back)).await {
            ControlFlow::Break(ended) => ended,
            ControlFlow::Continue(()) => self.speak().await,
        };
        self.finish(ended);
    }

    async fn begin_again(&mut self, back: Return) -> Flow {
        // The tracks that are there already.
        while let Some(message) = self.seat.try_next() {
            self.on_room(message)?;
        }
        self.come_back(back).await
    }

    /// A data packet for the client.
    pub(super) fn say(&mut self, channel: Channel, payload: Bytes) {
        match &mut self.moving.waiting {
            Some(waiting) if channel == Channel::Reliable => waiting.push(payload),
            Some(_) => {} // may be lost, and there is no channel yet
            None => {
                if let Some(transport) = self.data_transport() {
                    transport.send(MediaCommand::SendData { transport: transport.id, channel, payload });
                }
            }
        }
    }

    /// The client's data channel goes on: it gets what it missed.
    pub(super) fn channel_open(&mut self, channel: Channel) {
        if channel != Channel::Reliable {
            return;
        }
        let Some(waiting) = self.moving.waiting.take() else { return };
        let missing = waiting.missing(self.seat.room.said_to(&self.seat.sid));
        tracing::debug!(participant = %self.seat.sid, packets = missing.len(), "said again");
        missing.into_iter().for_each(|packet| self.say(channel, packet));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::control::Kind;

    #[test]
    fn only_clients_that_are_known_to_can_take_another_server() {
        let client = |browser: &str, sdk: client_info::Sdk| ClientInfo {
            browser: browser.to_owned(),
            sdk: sdk.into(),
            ..ClientInfo::default()
        };
        assert!(takes_another_server(&client("Chrome", client_info::Sdk::Js)));
        for other in
            [client("Firefox", client_info::Sdk::Js), client("", client_info::Sdk::Rust), ClientInfo::default()]
        {
            assert!(!takes_another_server(&other), "{other:?}");
        }
    }

    fn camera(mid: &str, rids: &[&str], ssrcs: &[(u32, Option<u32>)]) -> ReceiveSection {
        ReceiveSection {
            mid: mid.to_owned(),
            track: TrackId::next(),
            kind: Kind::Video,
            payload_types: Vec::new(),
            rids: rids.iter().map(|rid| (*rid).to_owned()).collect(),
            ssrcs: ssrcs.to_vec(),
        }
    }

    #[test]
    fn the_next_bridge_knows_the_streams_of_each_layer() {
        let (mut here, sections) =
            (Moving::blank(true), [camera("1", &["q", "h"], &[]), camera("4", &[], &[(9, None)])]);
        for (layer, rtx, ssrc) in [(0, false, 11), (0, true, 12), (1, false, 21), (1, false, 22), (2, false, 31)] {
            here.learn(&sections[0], layer, rtx, ssrc);
        }
        let known = here.known(&sections);
        let layer = |rid: &str, ssrc, rtx_ssrc| KnownEncoding { mid: "1".into(), rid: rid.into(), ssrc, rtx_ssrc };
        assert_eq!(known, [layer("q", 11, 12), layer("h", 22, 0)], "the latest; no layer that there is not");
        let mut at_home = sections.clone();
        here.recognise(&mut at_home);
        assert_eq!(at_home, sections, "here the client has said it itself");

        let mut there = Moving::blank(true);
        there.came_with(&known);
        let mut sections = sections;
        there.recognise(&mut sections);
        assert_eq!(sections[0].ssrcs, [(11, Some(12)), (22, None)]);
        assert_eq!(sections[1].ssrcs, [(9, None)], "as the SDP says");
        assert_eq!(there.known(&sections), known, "and so for the one after that");
    }

    #[test]
    fn the_next_bridge_numbers_its_packets_behind_those_of_this_one() {
        let mut moving = Moving::blank(true);
        let now = Instant::now();
        assert_eq!(moving.downlink(now), None);
        moving.downlink = Some((now, Downlink { next_number: 65_000, bits: 7 }));
        let next = |after| moving.downlink(now + Duration::from_millis(after)).unwrap().next_number;
        assert_eq!([0, 300, 60_000].map(next), [464, 1064, 15_848]);
    }

    #[test]
    fn few_streams_are_remembered() {
        let mut moving = Moving::blank(true);
        for number in 0..1000 {
            moving.learn(&camera(&number.to_string(), &["q"], &[]), 0, false, number);
        }
        assert_eq!(moving.streams.len(), MAX_ENCODINGS);
    }
}
