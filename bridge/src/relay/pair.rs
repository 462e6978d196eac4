//! The stream between this bridge and another one that shares rooms with it. The bridge whose name sorts first opens it,
//! and opens it again when it breaks; a new one replaces the old.

use std::collections::HashMap;
use std::time::Duration;

use ratssaal_proto::bridge::v1::relay_frame::Frame;
use ratssaal_proto::bridge::v1::{RelayFrame, RelayHello};
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tonic::Streaming;
use tracing::{debug, info, warn};

use super::Context;
use super::metrics::PeerLabel;
use super::task::{self, ToTask};
use crate::peers::RelayLink;
use crate::room::report::GENERATION;
use crate::room::{RoomHandle, RoomSid};

/// Before trying again to reach the other bridge: at first, and at most.
const RETRY: Duration = Duration::from_millis(250);
const MAX_RETRY: Duration = Duration::from_secs(3);

/// What a pair is told.
#[derive(Debug)]
pub(super) enum Order {
    /// A room needs a relay.
    Add(RoomHandle),
    /// It does not any more.
    Remove(RoomSid),
    /// There is a new stream.
    Link(Box<RelayLink>),
    /// Reaching the other bridge failed.
    Failed,
    /// The stream of this number does not take what it is given.
    Overrun(u64),
}

/// Starts the task for the other bridge of this name.
pub(super) fn start(context: Context, peer: &str) -> mpsc::UnboundedSender<Order> {
    let (sender, orders) = mpsc::unbounded_channel();
    let pair = Pair {
        leads: context.peers.me() < peer,
        context,
        peer: peer.to_owned(),
        orders: sender.clone(),
        rooms: HashMap::new(),
        live: None,
        links: 0,
        dialling: false,
        retry: RETRY,
    };
    tokio::spawn(pair.run(orders));
    sender
}

/// A stream in use.
struct Live {
    number: u64,
    out: mpsc::Sender<RelayFrame>,
    frames: Streaming<RelayFrame>,
    /// The other bridge has said hello.
    greeted: bool,
    /// What may be sent to it, bits per second a room.
    limit: Option<u64>,
}

struct Pair {
    context: Context,
    peer: String,
    /// Whether this bridge opens the stream.
    leads: bool,
    /// To itself.
    orders: mpsc::UnboundedSender<Order>,
    rooms: HashMap<RoomSid, mpsc::Sender<ToTask>>,
    live: Option<Live>,
    links: u64,
    dialling: bool,
    retry: Duration,
}

impl Pair {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.obey(order),
                    None => return,
                },
                frame = next(&mut self.live) => match frame {
                    Ok(Some(frame)) => self.take(frame),
                    Ok(None) => self.cut("it ended the stream"),
                    Err(status) => self.cut(status.message()),
                },
            }
            self.dial();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Add(room) => {
                let sid = room.sid();
                let task = task::start(self.context.clone(), room, &self.peer, self.orders.clone());
                if let Some(live) = self.live.as_ref().filter(|live| live.greeted) {
                    let _ = task.try_send(linked(live)); // the queue is new
                }
                self.rooms.insert(sid, task);
            }
            Order::Remove(sid) => {
                // Its task says goodbye by itself when this sender is gone.
                self.rooms.remove(&sid);
            }
            Order::Link(link) => self.link(*link),
            Order::Failed => {
                self.dialling = false;
                self.retry = (self.retry * 2).min(MAX_RETRY);
            }
            Order::Overrun(number) => {
                if self.live.as_ref().is_some_and(|live| live.number == number) {
                    self.cut("it does not read what it is sent");
                }
            }
        }
    }

    fn link(&mut self, link: RelayLink) {
        self.dialling = false;
        let hello = RelayHello {
            bridge: self.context.peers.me().to_owned(),
            incarnation: self.context.incarnation.clone(),
            generation: GENERATION,
            site: self.context.site.clone(),
        };
        let RelayLink { frames, out, .. } = link;
        if out.try_send(RelayFrame { frame: Some(Frame::Hello(hello)) }).is_err() {
            return;
        }
        self.links += 1;
        self.live = Some(Live { number: self.links, out, frames, greeted: false, limit: None });
    }

    fn take(&mut self, frame: RelayFrame) {
        let Some(live) = &mut self.live else { return };
        match frame.frame {
            Some(Frame::Hello(hello)) if !live.greeted => {
                if hello.generation.abs_diff(GENERATION) > 1 {
                    warn!(
                        peer = self.peer,
                        theirs = hello.generation,
                        ours = GENERATION,
                        "this bridge's version is too far from ours to share rooms: update one after the other"
                    );
                    self.cut("its version does not fit");
                    return;
                }
                let elsewhere = hello.site != self.context.site;
                live.greeted = true;
                live.limit = self.context.site_limit.filter(|_| elsewhere);
                self.retry = RETRY;
                info!(peer = self.peer, site = hello.site, "relay: connected");
                let label = PeerLabel { peer: self.peer.clone() };
                self.context.metrics.links.get_or_create(&label).set(1);
                self.context.metrics.linked.get_or_create(&label).inc();
                for task in self.rooms.values() {
                    // One that does not take it does not take frames either, which cuts the stream.
                    let _ = task.try_send(linked(live));
                }
            }
            Some(Frame::Room(room)) if live.greeted => {
                let Some(message) = room.message else { return }; // of a newer version
                let Some(task) = self.rooms.get(room.room_sid.as_str()) else { return }; // not open here (any more)
                if task.try_send(ToTask::Frame(message)).is_err() {
                    self.cut("a room does not keep up with what it sends");
                }
            }
            _ if !live.greeted => self.cut("it did not say hello"),
            _ => {}
        }
    }

    /// The stream has broken. Media flows on for a while.
    fn cut(&mut self, why: &str) {
        let Some(live) = self.live.take() else { return };
        debug!(peer = self.peer, number = live.number, "relay stream ended");
        warn!(peer = self.peer, why, "relay: disconnected; connecting again");
        self.context.metrics.links.get_or_create(&PeerLabel { peer: self.peer.clone() }).set(0);
        for task in self.rooms.values() {
            let _ = task.try_send(ToTask::Unlinked);
        }
    }

    /// Opens a stream if it is ours to do and one is needed.
    fn dial(&mut self) {
        if !self.leads || self.dialling || self.live.is_some() || self.rooms.is_empty() {
            return;
        }
        self.dialling = true;
        let (peers, peer, orders) = (self.context.peers.clone(), self.peer.clone(), self.orders.clone());
        let retry = self.retry;
        tokio::spawn(async move {
            let order = match peers.relay(&peer).await {
                Ok(link) => Order::Link(Box::new(link)),
                Err(error) => {
                    debug!(peer, %error, "relay: the bridge cannot be reached");
                    tokio::time::sleep(retry).await;
                    Order::Failed
                }
            };
            let _ = orders.send(order); // a pair that is gone needs no stream
        });
    }
}

fn linked(live: &Live) -> ToTask {
    ToTask::Linked { number: live.number, out: live.out.clone(), limit: live.limit }
}

/// The stream's next frame. Never resolves without a stream.
async fn next(live: &mut Option<Live>) -> Result<Option<RelayFrame>, tonic::Status> {
    match live {
        Some(live) => live.frames.next().await.transpose(),
        None => std::future::pending().await,
    }
}
