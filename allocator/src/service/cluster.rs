//! The list of bridges, and what changes in it.

use std::time::Duration;

use futures_util::{Stream, stream};
use ratssaal_proto::allocator::v1::{BridgeInfo, BridgeReport, ClusterView};
use tokio::time::{Interval, MissedTickBehavior};
use tonic::Status;

use super::Service;
use crate::store::Store;

/// How often a watched cluster is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// All bridges, and then, if the cluster is to be watched, what changed.
pub(super) fn views<S: Store>(
    service: Service<S>,
    watch: bool,
) -> impl Stream<Item = Result<ClusterView, Status>> + Send {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begin: Option<(Interval, Option<Vec<BridgeInfo>>)> = Some((ticks, None));
    stream::unfold(begin, move |watching| {
        let service = service.clone();
        async move {
            let (mut ticks, mut known) = watching?;
            loop {
                ticks.tick().await;
                let bridges = match service.inner.store.bridges().await {
                    Ok(bridges) => bridges,
                    Err(refusal) => return Some((Err(refusal.into()), None)),
                };
                let view = match &known {
                    None => Some(ClusterView { complete: true, bridges: bridges.clone(), gone: vec![] }),
                    Some(known) => changes(known, &bridges),
                };
                if let Some(view) = view {
                    return Some((Ok(view), watch.then_some((ticks, Some(bridges)))));
                }
                known = Some(bridges);
            }
        }
    })
}

/// What is new, different or gone, beyond the passing of time. Both lists are ordered by name.
fn changes(before: &[BridgeInfo], after: &[BridgeInfo]) -> Option<ClusterView> {
    let known = |bridge: &BridgeInfo| before.binary_search_by(|old| name(old).cmp(name(bridge))).ok();
    let changed = |bridge: &&BridgeInfo| known(bridge).is_none_or(|at| timeless(&before[at]) != timeless(bridge));
    let bridges: Vec<BridgeInfo> = after.iter().filter(changed).cloned().collect();
    let left = |old: &&BridgeInfo| after.binary_search_by(|bridge| name(bridge).cmp(name(old))).is_err();
    let gone: Vec<String> = before.iter().filter(left).map(|old| name(old).to_owned()).collect();
    (!bridges.is_empty() || !gone.is_empty()).then_some(ClusterView { complete: false, bridges, gone })
}

fn name(bridge: &BridgeInfo) -> &str {
    bridge.report.as_ref().map_or("", |report| &report.bridge)
}

fn timeless(bridge: &BridgeInfo) -> BridgeInfo {
    let report = bridge.report.clone().map(|report| BridgeReport { sequence: 0, ..report });
    BridgeInfo { silent_ms: 0, report, ..bridge.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(id: &str, seats: u32, sequence: u64) -> BridgeInfo {
        let report = BridgeReport { bridge: id.into(), sequence, ..BridgeReport::default() };
        BridgeInfo { report: Some(report), seats, silent_ms: sequence, ..BridgeInfo::default() }
    }

    #[test]
    fn only_what_changed_is_told() {
        let before = [bridge("a", 1, 1), bridge("b", 2, 1), bridge("c", 3, 1)];
        assert_eq!(changes(&before, &[bridge("a", 1, 2), bridge("b", 2, 2), bridge("c", 3, 2)]), None);
        let after = [bridge("a", 1, 2), bridge("c", 4, 2), bridge("d", 0, 1)];
        let view = changes(&before, &after).unwrap();
        assert_eq!(view.bridges, [bridge("c", 4, 2), bridge("d", 0, 1)]);
        assert_eq!(view.gone, ["b"]);
        assert!(!view.complete);
    }
}
