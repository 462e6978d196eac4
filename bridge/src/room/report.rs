//! This bridge's life at the allocator: a report each second up, orders and the lease down.

use std::time::Duration;

use ratssaal_proto::allocator::v1::bridge_order::Order;
use ratssaal_proto::allocator::v1::{BridgeOrder, BridgeReport, BridgeState};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::warn;

use super::ids::random_base62;
use super::log::within;
use super::registry::Rooms;
use crate::drain::{Drain, Source};
use crate::load::Meter;

/// Version of what bridges say to each other.
pub(crate) const GENERATION: u32 = 1;
/// Before the allocator has said how often it wants reports.
const INTERVAL: Duration = Duration::from_secs(1);
/// Before trying again to attach.
const RETRY: Duration = Duration::from_millis(500);

/// What a bridge is in the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Where it stands; empty without sites.
    pub(crate) site: String,
    /// Where other bridges reach its gRPC; empty if it has none.
    pub(crate) address: String,
}

/// Keeps this bridge attached until `shutdown`; `attached` follows whether the allocator seats people here. `drain`
/// gets the allocator's orders and says what to report.
pub(crate) async fn run(
    rooms: Rooms,
    me: Identity,
    meter: Meter,
    drain: Drain,
    attached: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let incarnation = random_base62(16);
    rooms.lease().follow(drain.clone());
    let mut reporter = Reporter { rooms, me, meter, drain, incarnation, sequence: 0, gone: false };
    while !shutdown.is_cancelled() {
        if let Err(status) = reporter.attach(&attached, &shutdown).await {
            warn!(
                message = status.message(),
                "not attached to the allocator: nobody new is seated here until it answers"
            );
        }
        attached.send_replace(false);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

/// Resolves at that time.
async fn reached(at: Option<Instant>) -> Option<()> {
    tokio::time::sleep_until(at?).await;
    Some(())
}

struct Reporter {
    rooms: Rooms,
    me: Identity,
    meter: Meter,
    drain: Drain,
    incarnation: String,
    sequence: u64,
    /// This is the last report.
    gone: bool,
}

impl Reporter {
    /// One attachment, until it breaks or this process stops.
    async fn attach(
        &mut self,
        attached: &watch::Sender<bool>,
        shutdown: &CancellationToken,
    ) -> Result<(), tonic::Status> {
        let (reports, stream) = mpsc::channel(1);
        let first = self.report();
        // The channel is empty and its receiver is held.
        let _ = reports.try_send(first);
        let mut orders = within(self.rooms.allocator().attach(ReceiverStream::new(stream))).await?;
        let mut interval = INTERVAL;
        let mut settled = None;
        let mut orders_changed = self.drain.changes();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    self.gone = true;
                    let _ = reports.send(self.report()).await;
                    drop(reports);
                    drain(orders).await;
                    return Ok(());
                }
                order = orders.next() => match order {
                    None => return Err(tonic::Status::unavailable("the allocator ended the stream")),
                    Some(order) => self.obey(order?, &mut interval, &mut settled),
                },
                // A store that has just begun lets nobody in before.
                Some(()) = reached(settled) => {
                    settled = None;
                    attached.send_replace(true);
                }
                // At once: nobody shall be seated here from now on.
                Ok(()) = orders_changed.changed() => {
                    let report = self.report();
                    if reports.send(report).await.is_err() {
                        return Err(tonic::Status::unavailable("the allocator takes no more reports"));
                    }
                }
                () = tokio::time::sleep(interval) => {
                    let report = self.report();
                    if reports.send(report).await.is_err() {
                        return Err(tonic::Status::unavailable("the allocator takes no more reports"));
                    }
                }
            }
        }
    }

    fn obey(&mut self, order: BridgeOrder, interval: &mut Duration, settled: &mut Option<Instant>) {
        match order.order {
            Some(Order::Welcome(welcome)) => {
                *interval = Duration::from_millis(u64::from(welcome.report_interval_ms.clamp(100, 10_000)));
                *settled = Some(Instant::now() + Duration::from_millis(welcome.settles_in_ms.into()));
                // What is still ordered follows: an order may have been taken back while this bridge was away.
                self.drain.take_back(Source::Allocator);
            }
            Some(Order::Drain(order)) => {
                let within = (order.within_ms != 0).then(|| Duration::from_millis(order.within_ms));
                self.drain.order(Source::Allocator, within);
            }
            Some(Order::Lease(lease)) => self.rooms.lease().lend(&lease),
            Some(Order::Undrain(_)) => self.drain.take_back(Source::Allocator),
            Some(Order::Notice(notice)) => warn!(text = notice.text, "notice from the allocator"),
            None => {}
        }
    }

    fn report(&mut self) -> BridgeReport {
        self.sequence += 1;
        self.rooms.lease().reporting(self.sequence);
        // Taken before counting: whoever is named is counted.
        let joined = self.rooms.take_confirmed();
        let (seats, rooms) = self.rooms.count();
        let state = match (self.gone, self.drain.is_ordered()) {
            (true, _) => BridgeState::Gone,
            (false, true) if seats == 0 && !self.rooms.is_lingering() => BridgeState::Drained,
            (false, true) => BridgeState::Draining,
            (false, false) => BridgeState::Ready,
        };
        let load = self.meter.load(seats, rooms);
        self.rooms.lease().limit(load.seat_limit);
        BridgeReport {
            bridge: self.rooms.bridge().to_owned(),
            incarnation: self.incarnation.clone(),
            sequence: self.sequence,
            state: state.into(),
            site: self.me.site.clone(),
            address: self.me.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: GENERATION,
            // Its name: who is forwarded has its seat where its media is.
            features: vec![self.rooms.bridge().to_owned()],
            load: Some(load),
            joined,
        }
    }
}

/// Waits until the allocator has taken the last report.
async fn drain(mut orders: Streaming<BridgeOrder>) {
    let end = async { while let Some(Ok(_)) = orders.next().await {} };
    let _ = tokio::time::timeout(INTERVAL, end).await;
}
