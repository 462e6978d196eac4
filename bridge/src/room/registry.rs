//! The rooms of this bridge: [`Rooms`] opens them once, finds them, lists them, and forgets them when they end.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use livekit_protocol::{DisconnectReason, RoomConfiguration};
use prometheus_client::registry::Registry;
use ratssaal_process::grpc::TraceContext;
use ratssaal_proto::allocator::v1::allocator_client::AllocatorClient;
use ratssaal_proto::allocator::v1::tail_frame::Frame;
use ratssaal_proto::allocator::v1::{
    ListRoomsRequest, OpenRoomRequest, PlaceRequest, PlaceResponse, RoomInfo, RoomSettings,
};
use tokio::sync::{OnceCell, mpsc, watch};
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;

use super::actor::RoomActor;
use super::arrivals::Arrivals;
use super::command::{Actor, Command, Refusal};
use super::crossing::Crossing;
use super::handle::{RoomHandle, Shared};
use super::herald::Herald;
use super::ids::{RoomName, RoomSid};
use super::lease::Lease;
use super::log::{Allocator, LogError, Mark, RoomLog, repeat, within};
use super::metrics::RoomMetrics;
use super::queue::Queue;
use super::relays::Spread;
use super::rpc::Calls;
use super::speakers::Speakers;
use super::state::{RoomFacts, State};
use crate::config::RoomConfig;
use crate::media::Media;
use crate::token::Claims;
use crate::webhooks::Webhooks;

/// How long opening a room may take: its log has to be read.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// Rooms asked for at once when listing.
const PAGE: u32 = 1000;

/// A place for a room that is open here or being opened. The name's next opening gets another one.
type Slot = Arc<OnceCell<RoomHandle>>;

/// The rooms that are open on this bridge. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rooms {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bridge: String,
    /// Where it stands; empty without sites.
    site: String,
    config: RoomConfig,
    allocator: Allocator,
    media: Media,
    hooks: Option<Webhooks>,
    slots: Mutex<HashMap<RoomSid, Slot>>,
    /// Join ids that became participants since the last report.
    confirmed: Arc<Mutex<Vec<String>>>,
    lease: Lease,
    metrics: RoomMetrics,
    /// This bridge stops: nobody new comes in.
    closing: AtomicBool,
    lingering: Lingering,
    /// Who is told on which bridges the rooms' participants sit.
    spreads: OnceLock<mpsc::UnboundedSender<Spread>>,
}

/// While it exists, media of somebody who goes on at another bridge still flows here, and the WebSocket may lead over this one.
#[derive(Clone, Default, Debug)]
pub(crate) struct Lingering(Arc<()>);

impl Rooms {
    /// No rooms yet, for this bridge's name in the cluster and the site it stands at.
    #[must_use]
    pub(crate) fn new(
        (bridge, site): (String, String),
        config: RoomConfig,
        allocator: Channel,
        media: Media,
        hooks: Option<Webhooks>,
        registry: &mut Registry,
    ) -> Self {
        let metrics = RoomMetrics::register(registry);
        let inner = Inner {
            lease: Lease::new(metrics.lent.clone()),
            bridge,
            site,
            config,
            allocator: AllocatorClient::with_interceptor(allocator, TraceContext),
            media,
            hooks,
            slots: Mutex::default(),
            confirmed: Arc::default(),
            metrics,
            closing: AtomicBool::new(false),
            lingering: Lingering::default(),
            spreads: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// This bridge's name.
    #[must_use]
    pub fn bridge(&self) -> &str {
        &self.inner.bridge
    }

    /// The sites near those who come to this bridge.
    pub(crate) fn sites(&self) -> Vec<String> {
        Some(self.inner.site.clone()).filter(|site| !site.is_empty()).into_iter().collect()
    }

    /// From now on the receiver is told on which bridges the participants of each room sit. Can be asked for once, before
    /// rooms are open.
    pub(crate) fn spreads(&self) -> mpsc::UnboundedReceiver<Spread> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let _ = self.inner.spreads.set(sender);
        receiver
    }

    /// The room of that name, if it is open on this bridge.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<RoomHandle> {
        let handle = |slot: &Slot| slot.get().filter(|room| room.name().as_str() == name).cloned();
        self.slots().values().filter_map(handle).find(|room| room.state().ended().is_none())
    }

    /// The room of this opening, if it is open on this bridge.
    pub(crate) fn of(&self, sid: &RoomSid) -> Option<RoomHandle> {
        self.slots().get(sid).and_then(|slot| slot.get().cloned())
    }

    /// Asks the allocator for a seat, again until one of the allocators is reached or the deadline is over.
    pub(crate) async fn place(&self, request: PlaceRequest) -> Result<PlaceResponse, tonic::Status> {
        let place = || {
            let (mut allocator, request) = (self.allocator(), request.clone());
            async move { allocator.place(request).await }
        };
        repeat(place).await
    }

    /// That opening of a room, if it is open on this bridge.
    #[must_use]
    pub fn by_sid(&self, sid: &str) -> Option<RoomHandle> {
        self.slots().get(sid).and_then(|slot| slot.get().cloned())
    }

    /// All rooms that are open on this bridge.
    #[must_use]
    pub fn all(&self) -> Vec<RoomHandle> {
        self.slots().values().filter_map(|slot| slot.get().cloned()).collect()
    }

    /// The room of that name, wherever in the cluster it is open; `None` when it is not.
    ///
    /// # Errors
    /// The allocator is away.
    pub async fn find(&self, name: &str) -> Result<Option<RoomHandle>, Refusal> {
        if let Some(room) = self.get(name) {
            return Ok(Some(room));
        }
        match self.list_open(vec![name.to_owned()]).await?.pop() {
            None => Ok(None),
            Some(info) => match self.open(&info, false, "").await {
                Ok(room) => Ok(Some(room)),
                Err(Refusal::Ended) => Ok(None),
                Err(refusal) => Err(refusal),
            },
        }
    }

    /// Whether a room of that name is open anywhere in the cluster.
    ///
    /// # Errors
    /// The allocator is away.
    pub async fn is_open(&self, name: &str) -> Result<bool, Refusal> {
        Ok(self.get(name).is_some() || !self.list_open(vec![name.to_owned()]).await?.is_empty())
    }

    /// The open rooms of the cluster as the protocol shows them, in the order of their names; those of `names`, or all.
    ///
    /// # Errors
    /// The allocator is away.
    pub async fn list(&self, names: Vec<String>) -> Result<Vec<livekit_protocol::Room>, Refusal> {
        let mut rooms = Vec::new();
        for info in self.list_open(names).await? {
            // What is not open here has its participants elsewhere; the allocator knows how many.
            let here = self.get(&info.name).filter(|room| room.state().room().sid.as_str() == info.sid);
            let info = here.map_or_else(
                || livekit_protocol::Room { num_participants: info.seats, ..State::new(facts(&info)).info() },
                |room| room.state().info(),
            );
            rooms.push(info);
        }
        Ok(rooms)
    }

    /// The rooms of these names that are open in the cluster, or all.
    ///
    /// # Errors
    /// The allocator is away.
    pub async fn list_open(&self, names: Vec<String>) -> Result<Vec<RoomInfo>, Refusal> {
        let mut rooms: Vec<RoomInfo> = Vec::new();
        loop {
            let after = rooms.last().map(|room| room.name.clone()).unwrap_or_default();
            let request = ListRoomsRequest { names: names.clone(), after, limit: PAGE };
            let page = within(self.allocator().list_rooms(request)).await.map_err(|_| Refusal::unavailable())?;
            let more = page.more && !page.rooms.is_empty();
            rooms.extend(page.rooms);
            if !more {
                return Ok(rooms);
            }
        }
    }

    /// Opens a room, or finds the open one; `must_be_new` refuses that with `None`. Everybody is to sit at the site `pin`,
    /// unless that is empty.
    ///
    /// # Errors
    /// The allocator is away or takes no more rooms; the metadata is too long.
    pub async fn create(
        &self,
        name: &str,
        config: Option<&RoomConfiguration>,
        pin: &str,
        must_be_new: bool,
    ) -> Result<Option<RoomHandle>, Refusal> {
        let metadata = config.map_or("", |config| config.metadata.as_str());
        if metadata.len() > super::limits::METADATA {
            return Err(Refusal::too_large("the room's metadata (bytes)", super::limits::METADATA));
        }
        if let Some(here) = self.get(name)
            && self.list_open(vec![name.to_owned()]).await?.is_empty()
            && let refusal @ Refusal::Unavailable { .. } = here.why_unknown().await
        {
            return Err(refusal);
        }
        let settings = RoomSettings { site_pin: pin.to_owned(), ..self.settings(config) };
        let request = OpenRoomRequest { name: name.to_owned(), settings: Some(settings), must_be_new };
        let opened = match within(self.allocator().open_room(request)).await {
            Ok(opened) => opened,
            Err(status) if status.code() == tonic::Code::AlreadyExists => return Ok(None),
            Err(status) if status.code() == tonic::Code::InvalidArgument => {
                return Err(Refusal::Invalid {
                    what: "the room's name is empty, or it or the site's is too long; use at most 256 bytes",
                });
            }
            Err(status) if status.code() == tonic::Code::ResourceExhausted => return Err(Refusal::TooManyRooms),
            Err(_) => return Err(Refusal::unavailable()),
        };
        let info = opened.room.ok_or_else(Refusal::unavailable)?;
        let room = self.open(&info, opened.opened, metadata).await?;
        Ok(Some(room))
    }

    /// Everybody here is told that this server stops, and leaves; then all rooms are closed here.
    pub async fn shutdown(&self) {
        self.inner.closing.store(true, Ordering::Relaxed);
        futures_util::future::join_all(self.all().iter().map(RoomHandle::shutdown)).await;
    }

    /// Somebody goes on at another bridge. Media flows here until the client is connected there, which its WebSocket may lead to.
    pub(crate) fn linger(&self) -> Lingering {
        self.inner.lingering.clone()
    }

    /// Whether somebody who has gone may still need this bridge: it must not end before.
    pub(crate) fn is_lingering(&self) -> bool {
        Arc::strong_count(&self.inner.lingering.0) > 1
    }

    /// The settings with which a token's bearer may open its room; `None` where joining does not open rooms.
    pub(super) fn settings_for(&self, claims: &Claims) -> Option<RoomSettings> {
        let allowed = self.inner.config.auto_create || claims.grants.room_create;
        allowed.then(|| self.settings(claims.room_config.as_ref()))
    }

    fn settings(&self, config: Option<&RoomConfiguration>) -> RoomSettings {
        let own = &self.inner.config;
        let seconds = |wanted: u32, default: Duration| match wanted {
            0 => u64::try_from(default.as_millis()).unwrap_or(u64::MAX),
            wanted => u64::from(wanted) * 1000,
        };
        let wanted = config.cloned().unwrap_or_default();
        RoomSettings {
            max_participants: if wanted.max_participants == 0 { own.max_participants } else { wanted.max_participants },
            empty_timeout_ms: seconds(wanted.empty_timeout, own.empty_timeout),
            departure_timeout_ms: seconds(wanted.departure_timeout, own.departure_timeout),
            site_pin: String::new(),
        }
    }

    /// The room of this opening, opened here once however many ask at the same time. Whoever `opened` it in the cluster gives
    /// it its first metadata.
    pub(crate) async fn open(&self, info: &RoomInfo, opened: bool, metadata: &str) -> Result<RoomHandle, Refusal> {
        if self.is_closing() {
            return Err(Refusal::unavailable());
        }
        let slot = Arc::clone(self.slots().entry(info.sid.as_str().into()).or_default());
        let room = slot.get_or_try_init(|| self.start(info)).await.cloned();
        match room {
            Ok(room) => {
                if opened {
                    room.opened();
                }
                if opened && !metadata.is_empty() {
                    room.submit(Actor::Admin, Command::DescribeRoom { metadata: metadata.to_owned() }).await?;
                }
                Ok(room)
            }
            Err(refusal) => {
                let mut slots = self.slots();
                // Nobody else is trying to open it: this map's and ours are the only ones.
                if Arc::strong_count(&slot) == 2 {
                    slots.remove(info.sid.as_str());
                }
                Err(refusal)
            }
        }
    }

    /// Reads a room's log up to its head and starts its task.
    async fn start(&self, info: &RoomInfo) -> Result<RoomHandle, Refusal> {
        let name = RoomName::from(info.name.as_str());
        let log = RoomLog::new(self.allocator(), info.clone());
        let tail = match log.tail(Mark::default()).await {
            Ok(tail) => tail,
            Err(LogError::Ended) => return Err(Refusal::Ended),
            Err(_) => return Err(Refusal::unavailable()),
        };
        let (media, events) = self.inner.media.open_room();
        let (requests, queue) = mpsc::unbounded_channel();
        let state = Arc::new(State::new(facts(info)));
        let shared = Arc::new(Shared {
            name,
            media,
            state: ArcSwap::new(Arc::clone(&state)),
            sessions: ArcSwap::default(),
            tracks: RwLock::default(),
            calls: Calls::default(),
            relays: ArcSwap::default(),
            early: Mutex::default(),
            crossing: Crossing::new(self.inner.bridge.clone()),
            unlogged: ArcSwap::default(),
            applied: watch::Sender::default(),
            requests,
            metrics: self.inner.metrics.clone(),
        });
        let mut actor = RoomActor {
            shared: Arc::clone(&shared),
            log,
            bridge: self.inner.bridge.clone(),
            site: self.inner.site.clone(),
            logged: Arc::clone(&state),
            at_ms: 0,
            state,
            queue: Queue::default(),
            trouble: None,
            flight: None,
            airborne: None,
            due: false,
            behind: None,
            counted: 0,
            confirmed: Arc::clone(&self.inner.confirmed),
            tail: Some(tail),
            joining: HashMap::new(),
            retry: VecDeque::new(),
            speakers: Speakers::default(),
            measured: Vec::new(),
            forwarded: BTreeMap::new(),
            here: Vec::new(),
            elsewhere: BTreeMap::new(),
            spread: BTreeSet::new(),
            expected: BTreeMap::new(),
            spreads: self.inner.spreads.get().cloned(),
            qualities: BTreeMap::new(),
            rated: BTreeMap::new(),
            told: (0, 0),
            arrivals: Arrivals::default(),
            herald: Herald::new(self.inner.hooks.as_ref().map(Webhooks::room), self.inner.bridge.clone()),
            metrics: self.inner.metrics.clone(),
        };
        match tokio::time::timeout(OPEN_TIMEOUT, read_to_head(&mut actor)).await {
            Ok(true) if actor.state.ended().is_none() => {}
            outcome => {
                actor.close();
                return Err(if outcome == Ok(true) { Refusal::Ended } else { Refusal::unavailable() });
            }
        }
        actor.herald.go_live();
        let (rooms, sid) = (self.clone(), RoomSid::from(info.sid.as_str()));
        self.inner.metrics.rooms.inc();
        tokio::spawn(async move {
            actor.run(queue, events).await;
            rooms.slots().remove(&sid);
            rooms.inner.metrics.rooms.dec();
        });
        Ok(RoomHandle { shared })
    }

    pub(crate) fn allocator(&self) -> Allocator {
        self.inner.allocator.clone()
    }

    pub(super) fn metrics(&self) -> &RoomMetrics {
        &self.inner.metrics
    }

    /// Whether this bridge stops.
    pub(super) fn is_closing(&self) -> bool {
        self.inner.closing.load(Ordering::Relaxed)
    }

    /// A reserved seat has become a participant.
    pub(crate) fn confirmed(&self, join_id: &str) {
        self.inner.confirmed.lock().unwrap_or_else(PoisonError::into_inner).push(join_id.to_owned());
    }

    pub(super) fn take_confirmed(&self) -> Vec<String> {
        std::mem::take(&mut *self.inner.confirmed.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The seats that this bridge was lent.
    pub(crate) fn lease(&self) -> &Lease {
        &self.inner.lease
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<RoomSid, Slot>> {
        self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Applies what the log holds already; false when the log cannot be read.
async fn read_to_head(actor: &mut RoomActor) -> bool {
    let mut head = None;
    while head.is_none_or(|head| actor.state.sequence() < head) {
        let Some(tail) = &mut actor.tail else { return false };
        let Some(Ok(frame)) = tail.next().await else { return false };
        if let Some(Frame::Opened(info)) = &frame.frame {
            head = Some(info.head);
        }
        actor.take_frame(Some(frame));
        if actor.state.ended() == Some(DisconnectReason::RoomClosed) {
            return true;
        }
    }
    true
}

fn facts(info: &RoomInfo) -> RoomFacts {
    let settings = info.settings.clone().unwrap_or_default();
    RoomFacts {
        sid: info.sid.as_str().into(),
        name: info.name.as_str().into(),
        created_ms: i64::try_from(info.created_ms).unwrap_or(i64::MAX),
        empty_timeout_ms: settings.empty_timeout_ms,
        departure_timeout_ms: settings.departure_timeout_ms,
        max_participants: settings.max_participants,
    }
}
