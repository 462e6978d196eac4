//! One site: which bridges should be there, and which should leave.

use std::cmp::Reverse;

use super::{
    Action, Bridge, Count, Node, Note, PROGRESS_DEADLINE, Plan, Site, Slot, Taint, Tolerated, Trouble, Why, World,
};
use super::{leave, scale};
use crate::hash;

/// Plans for a site.
pub(super) fn tend(world: &World, site: &Site, plan: &mut Plan) {
    let bridges: Vec<&Bridge> = world.bridges.iter().filter(|bridge| bridge.site == site.name).collect();
    let nodes = nodes_of(world, site);
    let mut reasons = Vec::new();
    match site.count {
        Count::PerNode => per_node(world, site, &nodes, &bridges, &mut reasons, plan),
        Count::Scaled { min, max, buffer } => {
            let wish = scale::Wish { min, max, buffer };
            scale::tend(world, site, wish, &nodes, &bridges, &mut reasons, plan);
        }
    }
    if !nodes.iter().any(|node| !node.cordoned) {
        let cordoned = nodes.len();
        plan.notes.push(Note::NoNode { site: site.name.clone(), selector: site.selector.clone(), cordoned });
    }
    report_troubles(world, site, &bridges, plan);
    leave::proceed(world, &site.name, &bridges, &reasons, plan);
}

/// Bridges of sites that the spec no longer has.
pub(super) fn tend_removed(world: &World, plan: &mut Plan) {
    let unknown = |bridge: &&Bridge| world.sites.iter().all(|site| site.name != bridge.site);
    let mut gone: Vec<&Bridge> = world.bridges.iter().filter(unknown).collect();
    gone.sort_by(|a, b| a.site.cmp(&b.site));
    for bridges in gone.chunk_by(|a, b| a.site == b.site) {
        let reasons: Vec<_> = bridges.iter().map(|bridge| (bridge.name.clone(), Why::Surplus)).collect();
        leave::proceed(world, &bridges[0].site, bridges, &reasons, plan);
    }
}

/// A site's nodes: those that fit it and no earlier one.
fn nodes_of<'a>(world: &'a World, site: &Site) -> Vec<&'a Node> {
    let first = |node: &Node| world.sites.iter().find(|site| fits(site, node)).map(|found| found.name.as_str());
    world.nodes.iter().filter(|node| first(node) == Some(&site.name)).collect()
}

/// The nodes that sites may use.
pub fn used_nodes(sites: &[Site], nodes: &[Node]) -> Vec<String> {
    let used = nodes.iter().filter(|node| sites.iter().any(|site| fits(site, node)));
    used.map(|node| node.name.clone()).collect()
}

fn fits(site: &Site, node: &Node) -> bool {
    let labelled = site.selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
    labelled && node.taints.iter().all(|taint| taint.effect == "PreferNoSchedule" || tolerates(site, taint))
}

fn tolerates(site: &Site, taint: &Taint) -> bool {
    let fits = |wanted: &Option<String>, given: &str| wanted.as_ref().is_none_or(|wanted| wanted == given);
    let all = |(key, value, effect): &Tolerated| {
        fits(key, &taint.key) && fits(value, &taint.value) && fits(effect, &taint.effect)
    };
    site.tolerations.iter().any(all)
}

/// What a bridge of this site on this node should be made from.
pub fn revision(site: &Site, node: Option<&Node>) -> String {
    match node {
        Some(node) if !node.addresses.is_empty() => {
            format!("{}-{}", site.revision, hash::short(&node.addresses.join(",")))
        }
        _ => site.revision.clone(),
    }
}

/// One of these bridges that is on its way but not there yet.
pub(super) fn pending<'a>(world: &World, bridges: &[&'a Bridge]) -> Option<&'a Bridge> {
    let pending = |bridge: &&&Bridge| {
        !bridge.deleting && bridge.draining.is_none() && !bridge.takes_people() && !bridge.is_lost(world.now)
    };
    bridges.iter().find(pending).copied()
}

fn per_node(
    world: &World,
    site: &Site,
    nodes: &[&Node],
    bridges: &[&Bridge],
    reasons: &mut Vec<(String, Why)>,
    plan: &mut Plan,
) {
    let node_of = |bridge: &Bridge| nodes.iter().find(|node| bridge.node.as_ref() == Some(&node.name)).copied();
    let is_current =
        |bridge: &Bridge| node_of(bridge).is_some_and(|node| bridge.revision == revision(site, Some(node)));
    let coming: Vec<&Bridge> = bridges.iter().filter(|bridge| is_current(bridge)).copied().collect();
    // One at a time: no further one is replaced while one comes or goes.
    let mut replacing = pending(world, &coming).is_some()
        || bridges.iter().any(|bridge| bridge.draining.is_some() || (bridge.deleting && bridge.started));
    let mut renew = Vec::new();
    for node in nodes {
        let here = bridges.iter().filter(|bridge| bridge.node.as_ref() == Some(&node.name)).copied();
        let here: Vec<&Bridge> = here.filter(|bridge| !leave::is_decided(plan, &bridge.name)).collect();
        let live: Vec<&Bridge> = here.iter().filter(|bridge| !bridge.deleting).copied().collect();
        if node.cordoned {
            reasons.extend(live.iter().map(|bridge| (bridge.name.clone(), Why::Cordon)));
            continue;
        }
        if node.lacks_address {
            plan.notes.push(Note::NoAddress { node: node.name.clone() });
            continue;
        }
        // Of several of the wanted revision the one that takes people stays, else the oldest.
        let mut current: Vec<&Bridge> = live.iter().filter(|bridge| is_current(bridge)).copied().collect();
        current.sort_by_key(|bridge| (!bridge.takes_people(), bridge.draining.is_some(), bridge.created, &bridge.name));
        reasons.extend(current.iter().skip(1).map(|bridge| (bridge.name.clone(), Why::Surplus)));
        let successor = current.first().is_some_and(|bridge| bridge.takes_people());
        // An old one leaves while its successor stands, or if nobody was ever on it. Of several old ones (the revision changed
        // twice) the one with the most people stays until then, so that there are ports for a successor.
        let mut old: Vec<&Bridge> = live.iter().filter(|bridge| !is_current(bridge)).copied().collect();
        old.sort_by_key(|bridge| (!bridge.takes_people(), Reverse(bridge.seats().taken), bridge.created, &bridge.name));
        let leaving = old.iter().enumerate().filter(|(at, bridge)| successor || *at > 0 || !bridge.started);
        reasons.extend(leaving.map(|(_, bridge)| (bridge.name.clone(), Why::Outdated)));
        replacing |= (successor && !old.is_empty()) || old.len() > 1;
        let Some(slot) = free_slot(&here) else { continue };
        if current.is_empty() && node.ready {
            let create = Action::Create { site: site.name.clone(), node: Some(node.name.clone()), slot };
            if live.is_empty() { plan.actions.push(create) } else { renew.push(create) }
        }
    }
    if !replacing {
        plan.actions.extend(renew.into_iter().take(1));
    }
    let stray = bridges.iter().filter(|bridge| !bridge.deleting && node_of(bridge).is_none());
    reasons.extend(stray.map(|bridge| (bridge.name.clone(), Why::Surplus)));
}

/// A half of the ports that no bridge on the node uses.
fn free_slot(here: &[&Bridge]) -> Option<Slot> {
    [Slot::A, Slot::B].into_iter().find(|slot| here.iter().all(|bridge| bridge.slot != *slot))
}

/// Tells of bridges that do not start; with old ones still there it is a rollout that has stopped.
fn report_troubles(world: &World, site: &Site, bridges: &[&Bridge], plan: &mut Plan) {
    let node = |bridge: &Bridge| world.nodes.iter().find(|node| Some(&node.name) == bridge.node.as_ref());
    let wanted = |bridge: &Bridge| match site.count {
        Count::PerNode => revision(site, node(bridge)),
        Count::Scaled { .. } => site.revision.clone(),
    };
    let live = bridges.iter().filter(|bridge| !bridge.deleting && !leave::is_decided(plan, &bridge.name));
    let live: Vec<&Bridge> = live.copied().collect();
    let old = live.iter().any(|bridge| bridge.started && bridge.revision != wanted(bridge));
    let mut notes = Vec::new();
    for bridge in live.iter().filter(|bridge| !bridge.takes_people() && bridge.draining.is_none()) {
        let name = bridge.name.clone();
        if bridge.is_lost(world.now) {
            notes.push(Note::Lost { bridge: name, node: bridge.node.clone() });
            continue;
        }
        let late = !bridge.started && world.now.saturating_sub(bridge.created) >= PROGRESS_DEADLINE;
        let Some(trouble) = bridge.trouble.clone().or_else(|| late.then_some(Trouble::Slow)) else { continue };
        notes.push(if old && bridge.revision == wanted(bridge) {
            Note::RolloutStopped { bridge: name, trouble }
        } else {
            Note::NotStarting { bridge: name, trouble }
        });
    }
    plan.notes.extend(notes);
}
