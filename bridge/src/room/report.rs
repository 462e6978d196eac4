//! This bridge's life at the allocator: a report each second up, orders down.

use std::time::Duration;

use ratssaal_proto::allocator::v1::bridge_order::Order;
use ratssaal_proto::allocator::v1::{BridgeOrder, BridgeReport, BridgeState, Load};
use ratssaal_proto::bridge::v1::DrainRequest;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tracing::{info, warn};

use super::ids::random_base62;
use super::log::within;
use super::registry::Rooms;

/// Version of what bridges say to each other.
const GENERATION: u32 = 1;
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
    /// Participants it takes.
    pub(crate) seats: u32,
}

/// Keeps this bridge attached until `shutdown`; `attached` follows whether the allocator has welcomed it. `drains` are an
/// operator's orders to this bridge itself.
pub(crate) async fn run(
    rooms: Rooms,
    me: Identity,
    drains: watch::Receiver<Option<DrainRequest>>,
    attached: watch::Sender<bool>,
    shutdown: CancellationToken,
) {
    let mut reporter =
        Reporter { rooms, me, drains, incarnation: random_base62(16), sequence: 0, state: BridgeState::Ready };
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

struct Reporter {
    rooms: Rooms,
    me: Identity,
    drains: watch::Receiver<Option<DrainRequest>>,
    incarnation: String,
    sequence: u64,
    state: BridgeState,
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
        loop {
            tokio::select! {
                () = shutdown.cancelled() => {
                    self.state = BridgeState::Gone;
                    let _ = reports.send(self.report()).await;
                    drop(reports);
                    drain(orders).await;
                    return Ok(());
                }
                order = orders.next() => match order {
                    None => return Err(tonic::Status::unavailable("the allocator ended the stream")),
                    Some(order) => self.obey(order?, &mut interval, attached),
                },
                Ok(()) = self.drains.changed() => {
                    let order = self.drains.borrow_and_update().clone();
                    let drain = order.is_some_and(|order| order.drain);
                    self.state = if drain { BridgeState::Draining } else { BridgeState::Ready };
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

    fn obey(&mut self, order: BridgeOrder, interval: &mut Duration, attached: &watch::Sender<bool>) {
        match order.order {
            Some(Order::Welcome(welcome)) => {
                *interval = Duration::from_millis(u64::from(welcome.report_interval_ms.clamp(100, 10_000)));
                attached.send_replace(true);
            }
            Some(Order::Drain(_)) => {
                info!("draining: nobody new is seated here");
                self.state = BridgeState::Draining;
            }
            Some(Order::Undrain(_)) => {
                info!("no longer draining");
                self.state = BridgeState::Ready;
            }
            Some(Order::Notice(notice)) => warn!(text = notice.text, "notice from the allocator"),
            None => {}
        }
    }

    fn report(&mut self) -> BridgeReport {
        self.sequence += 1;
        // Taken before counting: whoever is named is counted.
        let joined = self.rooms.take_confirmed();
        let (seats, rooms) = self.rooms.count();
        if self.state == BridgeState::Draining && seats == 0 {
            self.state = BridgeState::Drained;
        }
        BridgeReport {
            bridge: self.rooms.bridge().to_owned(),
            incarnation: self.incarnation.clone(),
            sequence: self.sequence,
            state: self.state.into(),
            site: self.me.site.clone(),
            address: self.me.address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: GENERATION,
            load: Some(Load { seats, seat_limit: self.me.seats, rooms, ..Load::default() }),
            joined,
            ..BridgeReport::default()
        }
    }
}

/// Waits until the allocator has taken the last report.
async fn drain(mut orders: Streaming<BridgeOrder>) {
    let end = async { while let Some(Ok(_)) = orders.next().await {} };
    let _ = tokio::time::timeout(INTERVAL, end).await;
}
