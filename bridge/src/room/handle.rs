//! A room as sessions and the server API reach it: [`RoomHandle`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use livekit_protocol::{ConnectionQualityInfo, DataPacket, DisconnectReason};
use tokio::sync::{mpsc, oneshot, watch};

use super::command::{Actor, Command, Newcomer, Refusal};
use super::crossing::Crossing;
use super::ids::{ParticipantSid, RoomName, TrackSid};
use super::inbox::Inbox;
use super::metrics::RoomMetrics;
use super::relays::{Relays, ToRelay};
use super::rpc::Calls;
use super::session::ToSession;
use super::state::State;
use crate::media::MediaRoom;
use crate::media::control::{Channel, Codec, PayloadType, TrackId};

/// A published track that has media on this bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalTrack {
    /// At the media worker.
    pub media: TrackId,
    /// What its packets are, as they come in.
    pub payload_types: Vec<PayloadType>,
    /// Simulcast RIDs from the lowest to the highest layer; empty without simulcast.
    pub rids: Vec<String>,
    /// Whose.
    pub publisher: ParticipantSid,
    /// The bridge it is relayed from; `None` where its publisher sits here.
    pub relay: Option<Arc<str>>,
    /// Its publisher is forwarded from another room: what is ordered of the media is ordered there.
    pub borrowed: bool,
    /// The same in other codecs, for those who cannot decode this one.
    pub backups: Vec<LocalMedia>,
}

/// A track's media in one of its codecs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LocalMedia {
    /// At the media worker.
    pub track: TrackId,
    /// What its packets are, as they come in.
    pub payload_types: Vec<PayloadType>,
    /// Simulcast RIDs from the lowest to the highest layer; empty without simulcast.
    pub rids: Vec<String>,
}

impl LocalMedia {
    /// What is sent; other payload types that were agreed on are not used.
    #[must_use]
    pub fn codec(&self) -> Option<Codec> {
        self.payload_types.first().map(|known| known.codec)
    }
}

impl LocalTrack {
    /// The media in the codec that everybody gets who can decode it.
    #[must_use]
    pub fn first(&self) -> LocalMedia {
        let Self { media, payload_types, rids, .. } = self;
        LocalMedia { track: *media, payload_types: payload_types.clone(), rids: rids.clone() }
    }

    /// Of all its media, the first that somebody can decode who accepts these payload types.
    #[must_use]
    pub fn decodable(&self, accepted: &[PayloadType]) -> Option<LocalMedia> {
        let can =
            |known: &[PayloadType]| known.first().is_some_and(|own| accepted.iter().any(|a| a.codec == own.codec));
        if can(&self.payload_types) {
            return Some(self.first());
        }
        self.backups.iter().find(|media| can(&media.payload_types)).cloned()
    }

    /// The ids of all its media at the worker.
    pub fn all_media(&self) -> impl Iterator<Item = TrackId> {
        std::iter::once(self.media).chain(self.backups.iter().map(|media| media.track))
    }
}

/// What the room's task is asked. Each submitter waits for its answer, so that the queue is bounded by the sessions.
#[derive(Debug)]
pub(super) enum Request {
    /// Validate, append, apply.
    Submit { actor: Actor, command: Command, reply: oneshot::Sender<Result<(), Refusal>> },
    /// The same for [`Command::Join`], registering the inbox with it.
    Join { newcomer: Box<Newcomer>, inbox: Inbox, reply: oneshot::Sender<Result<(), Refusal>> },
    /// The same by this bridge's lease, since nobody can be asked; every other bridge may give so many seats `elsewhere`.
    Admit { newcomer: Box<Newcomer>, inbox: Inbox, elsewhere: u32, reply: oneshot::Sender<Result<(), Refusal>> },
    /// Somebody who is in the room goes on here, with the inbox.
    TakeOver { participant: ParticipantSid, join_id: String, inbox: Inbox, reply: oneshot::Sender<Result<(), Refusal>> },
    /// People will come to that bridge.
    Expect(String),
    /// This bridge has opened the room.
    Opened,
    /// A track has media here now.
    Bound(TrackSid),
    /// What a relay brought of a track is gone.
    Unbound(TrackSid, TrackId),
    /// Who speaks on another bridge.
    Speaking(String, Vec<(ParticipantSid, f32)>),
    /// How loud somebody is who is forwarded from another room; `None`: silent.
    Voice(ParticipantSid, Option<f32>),
    /// How good somebody's connection is.
    Quality(ConnectionQualityInfo),
    /// This bridge stops: everybody here is told and leaves.
    Shutdown { reply: oneshot::Sender<()> },
}

/// What the room's task and the handles share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: RoomName,
    pub(super) media: MediaRoom,
    pub(super) state: ArcSwap<State>,
    pub(super) sessions: ArcSwap<HashMap<ParticipantSid, Inbox>>,
    pub(super) tracks: RwLock<HashMap<TrackSid, LocalTrack>>,
    pub(super) calls: Calls,
    pub(super) relays: ArcSwap<Relays>,
    /// The other ends of relays that are about to be connected: what is said meanwhile waits.
    pub(super) early: Mutex<BTreeMap<String, mpsc::Receiver<ToRelay>>>,
    pub(super) crossing: Crossing,
    /// Tracks that are yet to be logged: no other bridge knows them.
    pub(super) unlogged: ArcSwap<BTreeSet<TrackSid>>,
    /// The sequence of the last applied entry.
    pub(super) applied: watch::Sender<u64>,
    pub(super) requests: mpsc::UnboundedSender<Request>,
    pub(super) metrics: RoomMetrics,
}

impl Shared {
    /// Hands a request to the room's task.
    pub(super) fn request(&self, request: Request) -> Result<(), Refusal> {
        self.metrics.queued.inc();
        self.requests.send(request).map_err(|_| {
            self.metrics.queued.dec();
            Refusal::Ended
        })
    }
}

/// A room that is open on this bridge. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RoomHandle {
    pub(super) shared: Arc<Shared>,
}

impl RoomHandle {
    /// What the room is called.
    #[must_use]
    pub fn name(&self) -> &RoomName {
        &self.shared.name
    }

    /// The room at the media worker.
    #[must_use]
    pub fn media(&self) -> &MediaRoom {
        &self.shared.media
    }

    /// The state after the last applied log entry.
    #[must_use]
    pub fn state(&self) -> Arc<State> {
        self.shared.state.load_full()
    }

    /// Asks for something to happen. Resolves when it has been logged and applied here: [`RoomHandle::state`] shows it, and
    /// the sessions' inboxes hold what it means to them.
    ///
    /// # Errors
    /// Nothing of the command happened; the refusal says why.
    pub async fn submit(&self, actor: Actor, command: Command) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.shared.request(Request::Submit { actor, command, reply })?;
        answer.await.unwrap_or(Err(Refusal::Ended))
    }

    /// Logs the joining of somebody whose seat is reserved, and connects its inbox.
    pub(super) async fn join(&self, newcomer: Newcomer, inbox: Inbox) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.shared.request(Request::Join { newcomer: Box::new(newcomer), inbox, reply })?;
        answer.await.unwrap_or(Err(Refusal::Ended))
    }

    /// Lets somebody in by this bridge's lease, and connects its inbox; the joining is logged when that is possible again.
    /// Every other bridge of the room may give so many seats `elsewhere` meanwhile.
    pub(super) async fn admit(&self, newcomer: Newcomer, inbox: Inbox, elsewhere: u32) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.shared.request(Request::Admit { newcomer: Box::new(newcomer), inbox, elsewhere, reply })?;
        answer.await.unwrap_or(Err(Refusal::Ended))
    }

    /// Logs that somebody who is in the room sits on this bridge from now on, by the seat that was reserved, and connects its
    /// inbox.
    pub(crate) async fn take_over(
        &self,
        participant: ParticipantSid,
        join_id: String,
    ) -> Result<mpsc::Receiver<ToSession>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let (inbox, receiver) = Inbox::new();
        self.shared.request(Request::TakeOver { participant, join_id, inbox, reply })?;
        answer.await.unwrap_or(Err(Refusal::Ended)).map(|()| receiver)
    }

    /// People will come to that bridge in a moment: it counts as one of the room's already.
    pub(crate) fn expect(&self, bridge: &str) {
        self.shared.crossing.begin(bridge);
        // A room that has ended expects nobody.
        let _ = self.shared.request(Request::Expect(bridge.to_owned()));
    }

    /// What was said lately to somebody who comes here now, encoded: the client may have some of it.
    pub(crate) fn said_to(&self, participant: &ParticipantSid) -> Vec<Bytes> {
        self.shared.crossing.said_to(participant)
    }

    /// Tracks that have no media on this bridge. What somebody sent here before it sat elsewhere is none.
    pub(crate) fn lacking(&self, bridge: &str) -> usize {
        let state = self.shared.state.load();
        let tracks = self.shared.tracks.read().unwrap_or_else(PoisonError::into_inner);
        let flows = |sid: &str, here: bool| tracks.get(sid).is_some_and(|track| here == track.relay.is_none());
        let published = state.participants().flat_map(|who| who.tracks.iter().map(move |track| (who, track)));
        published.filter(|(who, track)| !flows(&track.sid, who.bridge == bridge)).count()
    }

    /// This bridge has opened the room: it tells webhooks of its beginning, and of its end if nobody comes.
    pub(super) fn opened(&self) {
        let _ = self.shared.request(Request::Opened);
    }

    /// This bridge stops: everybody here is told and leaves, then the room is closed here.
    pub(super) async fn shutdown(&self) {
        let (reply, answer) = oneshot::channel();
        if self.shared.request(Request::Shutdown { reply }).is_ok() {
            let _ = answer.await;
        }
    }

    /// Says something to one session; false when it does not sit here.
    pub(crate) fn tell(&self, participant: &ParticipantSid, message: ToSession) -> bool {
        let sessions = self.shared.sessions.load();
        sessions.get(participant).is_some_and(|inbox| {
            inbox.send(message);
            true
        })
    }

    /// Sends a data packet in the name of the server, to those it names or to all.
    pub(crate) fn send_data(&self, packet: DataPacket, channel: Channel) {
        super::data::route(&self.shared, None, packet, channel);
    }

    /// Says that a track (published, or about to be by [`Command::Publish`]) has media on this bridge. Others' sessions get
    /// [`ToSession::TrackAvailable`] as soon as both are true. Calling it again replaces what was said before. The binding
    /// ends with the track; mute states reach the media worker by themselves.
    pub fn publish_media(&self, sid: &TrackSid, track: LocalTrack) {
        self.shared.tracks.write().unwrap_or_else(PoisonError::into_inner).insert(sid.clone(), track);
        // A room that has ended needs no binding.
        let _ = self.shared.request(Request::Bound(sid.clone()));
    }

    /// The media of a track on this bridge.
    #[must_use]
    pub fn track(&self, sid: &TrackSid) -> Option<LocalTrack> {
        self.shared.tracks.read().unwrap_or_else(PoisonError::into_inner).get(sid).cloned()
    }

    /// Routes a data packet of `from` to those it names, or to all others. Refused silently when `from` is gone or may not
    /// publish data; the sender's sid and identity are overwritten by what we know.
    pub fn route_data(&self, from: &ParticipantSid, packet: DataPacket, channel: Channel) {
        if let Some(packet) = self.shared.calls.take(from, packet) {
            super::data::route(&self.shared, Some(from), packet, channel);
        }
    }

    /// How loud somebody is who is forwarded from another room, 0.0–1.0; `None`: silent.
    pub(crate) fn report_voice(&self, forwarded: &ParticipantSid, level: Option<f32>) {
        let _ = self.shared.request(Request::Voice(forwarded.clone(), level));
    }

    /// How good a participant's connection is, for the others to see; told in batches.
    pub fn report_quality(&self, info: ConnectionQualityInfo) {
        let _ = self.shared.request(Request::Quality(info));
    }

    /// A participant's stay is over. It is retried in the background while the log is away, so that it always happens.
    pub async fn leave(self, participant: ParticipantSid, reason: DisconnectReason) {
        // Refusals mean that it is out already or will be as soon as the log is back.
        let _ = self.submit(Actor::Bridge, Command::Leave { participant, reason }).await;
    }
}
