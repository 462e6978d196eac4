//! A site that is scaled by free seats, and renewed one by one when its revision changes.

use super::{Action, Bridge, CALM, Count, Node, Plan, Site, Slot, Why, World};
use super::{leave, site};

/// Seats of a bridge as long as none has said how many it has.
const SEATS: u32 = 100;

/// What the spec says.
#[derive(Clone, Copy)]
pub(super) struct Wish {
    pub(super) min: u32,
    pub(super) max: u32,
    pub(super) buffer: Option<u32>,
}

/// Names what the site lacks, and adds who should leave to `reasons`.
pub(super) fn tend(
    world: &World,
    site: &Site,
    wish: Wish,
    nodes: &[&Node],
    bridges: &[&Bridge],
    reasons: &mut Vec<(String, Why)>,
    plan: &mut Plan,
) {
    let cordoned = |bridge: &Bridge| leave::is_cordoned(world, bridge.node.as_deref());
    let alive = bridges.iter().filter(|bridge| !bridge.deleting && !leave::is_decided(plan, &bridge.name));
    let alive: Vec<&Bridge> = alive.copied().collect();
    reasons.extend(alive.iter().filter(|bridge| cordoned(bridge)).map(|bridge| (bridge.name.clone(), Why::Cordon)));

    // Those that can be counted on: neither lost nor on a machine that is leaving.
    let counted = alive.iter().filter(|bridge| !cordoned(bridge) && !bridge.is_lost(world.now));
    let (leaving, staying): (Vec<&Bridge>, Vec<&Bridge>) = counted.partition(|bridge| bridge.draining.is_some());
    let (current, outdated): (Vec<&Bridge>, Vec<&Bridge>) =
        staying.iter().partition(|bridge| bridge.revision == site.revision);
    let per = per_bridge(site, &staying);
    let taken = alive.iter().map(|bridge| bridge.seats().taken).sum::<u32>();
    let buffer = wish.buffer.unwrap_or(per.div_ceil(2));
    let base = wish.min.saturating_add(share(world, site)).min(wish.max);
    let target = |spare: u32| taken.saturating_add(spare).div_ceil(per).clamp(base, wish.max);
    let wanted = target(buffer);

    // Who was to leave for want of people stays instead of a new one coming.
    let mut short = wanted.saturating_sub(count(&staying));
    for bridge in &leaving {
        let why = bridge.draining.map_or(Why::Surplus, |drain| drain.why);
        let outdated = bridge.revision != site.revision;
        match why {
            Why::Shrink if short > 0 && !outdated => short -= 1,
            Why::Shrink => reasons.push((bridge.name.clone(), Why::Shrink)),
            _ if outdated => reasons.push((bridge.name.clone(), Why::Outdated)),
            // Back to the old revision, back on its machine: it stays.
            _ => {}
        }
    }
    let mut create = |slot| plan.actions.push(Action::Create { site: site.name.clone(), node: None, slot });
    let can_start = nodes.iter().any(|node| node.ready && !node.cordoned);
    if short > 0 && can_start {
        let slot = current.first().or(outdated.first()).map_or(Slot::A, |bridge| bridge.slot);
        (0..short).for_each(|_| create(slot));
        return;
    }

    // Renew: one more of the wanted revision, then one of the old ones leaves.
    let (never_up, old): (Vec<&Bridge>, Vec<&Bridge>) = outdated.iter().partition(|bridge| !bridge.started);
    reasons.extend(never_up.iter().map(|bridge| (bridge.name.clone(), Why::Outdated)));
    let next = old.iter().min_by_key(|bridge| (bridge.seats().taken, bridge.created, bridge.name.clone()));
    if let Some(next) = next {
        let waiting = site::pending(world, &current).is_some() || never_up.len() + leaving.len() > 0;
        if waiting || bridges.iter().any(|bridge| bridge.deleting) {
            return;
        }
        if count(&staying) > wanted && current.iter().any(|bridge| bridge.takes_people()) {
            reasons.push((next.name.clone(), Why::Outdated));
        } else if can_start {
            create(next.slot.other());
        }
        return;
    }

    // Shrink: with room to spare, or it would come back at once.
    if site::pending(world, &current).is_none() && count(&staying) > target(buffer.saturating_add(per / 4)) {
        plan.calm.insert(site.name.clone());
        let emptiest = current.iter().min_by_key(|bridge| (bridge.seats().taken, bridge.created, bridge.name.clone()));
        if let Some(emptiest) = emptiest
            && site.calm_since.is_some_and(|since| world.now.saturating_sub(since) >= CALM)
        {
            reasons.push((emptiest.name.clone(), Why::Shrink));
        }
    }
}

/// This site's part of what is wanted in all scaled sites together, beyond its own minimum: one each in turn.
fn share(world: &World, site: &Site) -> u32 {
    let scaled = world.sites.iter().filter_map(|site| match site.count {
        Count::Scaled { min, max, .. } => Some((site.name.as_str(), min, max)),
        Count::PerNode => None,
    });
    let mut given: Vec<(&str, u32, u32)> =
        scaled.clone().map(|(name, min, max)| (name, 0, max.saturating_sub(min))).collect();
    let mut rest = world.floor.saturating_sub(scaled.map(|(_, min, _)| min).sum());
    while rest > 0 && given.iter().any(|(_, given, room)| given < room) {
        for (_, given, room) in &mut given {
            if rest > 0 && *given < *room {
                *given += 1;
                rest -= 1;
            }
        }
    }
    given.iter().find(|(name, ..)| *name == site.name).map_or(0, |(_, given, _)| *given)
}

/// Seats of a bridge here: as given, else what those there say on average.
fn per_bridge(site: &Site, staying: &[&Bridge]) -> u32 {
    let limits = staying.iter().map(|bridge| bridge.seats().limit).filter(|limit| *limit > 0);
    let (sum, number) = limits.fold((0_u32, 0), |(sum, number), limit| (sum.saturating_add(limit), number + 1));
    site.seats.or_else(|| sum.checked_div(number)).unwrap_or(SEATS).max(1)
}

fn count(bridges: &[&Bridge]) -> u32 {
    u32::try_from(bridges.len()).unwrap_or(u32::MAX)
}
