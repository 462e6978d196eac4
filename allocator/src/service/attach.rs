//! A bridge's stream: reports in, orders and leases out.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::{Stream, stream};
use ratssaal_proto::allocator::v1::bridge_order::Order;
use ratssaal_proto::allocator::v1::{BridgeOrder, BridgeReport, BridgeState, Lease, Undrain, Welcome};
use tokio::sync::watch;
use tonic::{Status, Streaming};
use tracing::{info, warn};

use super::Service;
use crate::bounds;
use crate::lease::MOST;
use crate::refusal::{Refusal, saturated_millis};
use crate::store::{Orders, Store};

/// How long a new stream may take to bring its first report.
const FIRST_REPORT: Duration = Duration::from_secs(5);

/// The orders for the bridge whose reports come in. Ends with the reports, or with a refusal.
pub(super) fn attach<S: Store>(
    service: Service<S>,
    reports: Streaming<BridgeReport>,
) -> impl Stream<Item = Result<BridgeOrder, Status>> + Send {
    let ordered = service.inner.ordered.subscribe();
    let attached = Attached {
        service,
        reports,
        ordered,
        bridge: None,
        told: Orders::default(),
        queue: VecDeque::new(),
        done: false,
    };
    stream::unfold(attached, |mut attached| async {
        let item = attached.next().await?;
        Some((item, attached))
    })
}

struct Attached<S: Store> {
    service: Service<S>,
    reports: Streaming<BridgeReport>,
    ordered: watch::Receiver<()>,
    bridge: Option<String>,
    /// The orders the bridge knows of.
    told: Orders,
    queue: VecDeque<Order>,
    done: bool,
}

impl<S: Store> Attached<S> {
    async fn next(&mut self) -> Option<Result<BridgeOrder, Status>> {
        loop {
            if let Some(order) = self.queue.pop_front() {
                return Some(Ok(BridgeOrder { order: Some(order) }));
            }
            if self.done {
                return None;
            }
            if let Err(status) = self.step().await {
                self.done = true;
                return Some(Err(status));
            }
        }
    }

    async fn step(&mut self) -> Result<(), Status> {
        let Some(bridge) = self.bridge.clone() else {
            return self.first().await;
        };
        tokio::select! {
            report = self.reports.message() => match report {
                Ok(Some(report)) if report.bridge == bridge => self.take(report).await,
                Ok(Some(_)) => Err(Refusal::Invalid("one stream reports for one bridge: open another".into()).into()),
                Ok(None) => {
                    self.done = true;
                    Ok(())
                }
                // The bridge or the way to it broke: it comes back, or expires.
                Err(status) => {
                    info!(bridge, code = ?status.code(), "the bridge's stream broke");
                    self.done = true;
                    Ok(())
                }
            },
            changed = self.ordered.changed() => {
                if changed.is_ok() {
                    let orders = self.service.inner.store.orders(&bridge).await?;
                    self.tell(orders);
                }
                Ok(())
            }
        }
    }

    async fn first(&mut self) -> Result<(), Status> {
        let first = tokio::time::timeout(FIRST_REPORT, self.reports.message()).await;
        let first =
            first.map_err(|_| Status::deadline_exceeded("no report came: send one at once after attaching"))??;
        let Some(report) = first else {
            self.done = true;
            return Ok(());
        };
        let (bridge, site, version) = (report.bridge.clone(), report.site.clone(), report.version.clone());
        if let Err(refused) = self.take(report).await {
            warn!(bridge, %refused, "a bridge could not attach");
            return Err(refused);
        }
        if self.done {
            return Ok(());
        }
        let config = &self.service.inner.config;
        self.queue.push_front(Order::Welcome(Welcome {
            report_interval_ms: saturated_millis(config.report_interval),
            expiry_ms: saturated_millis(config.expiry),
            grace_ms: saturated_millis(config.grace),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            settles_in_ms: saturated_millis(self.told.settles_in),
        }));
        info!(bridge, site, version, "bridge attached");
        self.bridge = Some(bridge);
        Ok(())
    }

    async fn take(&mut self, report: BridgeReport) -> Result<(), Status> {
        let gone = report.state() == BridgeState::Gone;
        let (bridge, sequence) = (report.bridge.clone(), report.sequence);
        let result = match bounds::report(&report) {
            Ok(()) => self.service.inner.store.report(report).await,
            Err(refusal) => Err(refusal),
        };
        self.service.inner.metrics.call("report", &result);
        let orders = result?;
        self.tell(orders);
        self.queue.push_back(Order::Lease(Lease { seats: orders.lent, report: sequence, most: MOST }));
        if gone {
            info!(bridge, "bridge said goodbye");
            self.queue.clear();
            self.done = true;
        }
        Ok(())
    }

    /// Sends the orders that are new to the bridge. The time that is left shrinks by itself and is not told again.
    fn tell(&mut self, orders: Orders) {
        match (self.told.drain, orders.drain) {
            (None, Some(drain)) => self.queue.push_back(Order::Drain(drain)),
            (Some(_), None) => self.queue.push_back(Order::Undrain(Undrain {})),
            (Some(told), Some(drain)) if (told.within_ms == 0) != (drain.within_ms == 0) => {
                self.queue.push_back(Order::Drain(drain));
            }
            _ => {}
        }
        self.told = orders;
    }
}
