//! How a bridge leaves: who may, who goes next, and who is deleted.

use super::{Action, Attachment, Bridge, DEADLINE_SLACK, Health, Life, Note, Plan, Seats, Why, World};

/// Deletes what is over: Pods that ended, and those whose node is no more.
pub(super) fn clear(world: &World, plan: &mut Plan) {
    for bridge in world.bridges.iter().filter(|bridge| !bridge.deleting) {
        let homeless = || {
            let node = bridge.node.as_ref().filter(|_| bridge.life != Life::Pending);
            node.is_some_and(|node| world.nodes.iter().all(|other| other.name != *node))
        };
        if bridge.life == Life::Over || (!world.nodes.is_empty() && bridge.is_lost(world.now) && homeless()) {
            plan.actions.push(Action::Delete { bridge: bridge.name.clone() });
        }
    }
}

/// Whether this plan has already decided on a bridge.
pub(super) fn is_decided(plan: &Plan, name: &str) -> bool {
    plan.actions.iter().any(|action| match action {
        Action::Drain { bridge, .. } | Action::Undrain { bridge } | Action::Delete { bridge } => bridge == name,
        Action::Create { .. } | Action::MoveRedis { .. } => false,
    })
}

/// Free seats on the bridges that stay and take people.
fn free_elsewhere(world: &World, plan: &Plan, leaving: &Bridge) -> u32 {
    let stays = |bridge: &&Bridge| {
        bridge.name != leaving.name
            && bridge.takes_people()
            && !is_decided(plan, &bridge.name)
            && !is_cordoned(world, bridge.node.as_deref())
    };
    let free = |Seats { taken, limit }: Seats| limit.saturating_sub(taken);
    world.bridges.iter().filter(stays).map(|bridge| free(bridge.seats())).sum()
}

pub(super) fn is_cordoned(world: &World, node: Option<&str>) -> bool {
    node.is_some_and(|node| world.nodes.iter().any(|other| other.name == node && other.cordoned))
}

/// Goes on with the drains of a site, given who should leave and why; begins the next one when none is going on.
///
/// `reasons` names all bridges of the site that should leave.
pub(super) fn proceed(world: &World, site: &str, bridges: &[&Bridge], reasons: &[(String, Why)], plan: &mut Plan) {
    let reason = |bridge: &Bridge| reasons.iter().filter(|(name, _)| *name == bridge.name).map(|(_, why)| *why).min();
    let mut busy = false;
    for bridge in bridges {
        if bridge.deleting {
            busy |= !bridge.is_surely_empty(world.now);
            continue;
        }
        if is_decided(plan, &bridge.name) {
            continue;
        }
        let delete = Action::Delete { bridge: bridge.name.clone() };
        match (reason(bridge), bridge.draining) {
            // Nobody was ever on it, or it is empty for good.
            (Some(_), None) if bridge.is_surely_empty(world.now) => plan.actions.push(delete),
            (Some(_), Some(drain)) => {
                let late = world.now.saturating_sub(drain.since) >= world.drain_deadline.saturating_add(DEADLINE_SLACK);
                if bridge.is_surely_empty(world.now) || late {
                    plan.actions.push(delete);
                    continue;
                }
                busy = true;
                // The order may have been lost: repeat it until the bridge follows.
                if let Attachment::Present { health: Health::Ready, expired: false, .. } = bridge.attachment {
                    let passed = world.now.saturating_sub(drain.since);
                    let within = world.drain_deadline.saturating_sub(passed).max(1);
                    plan.actions.push(Action::Drain { bridge: bridge.name.clone(), why: drain.why, within });
                }
            }
            (None, Some(_)) => plan.actions.push(Action::Undrain { bridge: bridge.name.clone() }),
            (_, None) => {}
        }
    }
    if !busy {
        begin(world, site, bridges, &reason, plan);
    }
}

/// The next one to leave: the most urgent, then the emptiest.
fn begin(world: &World, site: &str, bridges: &[&Bridge], reason: &dyn Fn(&Bridge) -> Option<Why>, plan: &mut Plan) {
    let mut waiting: Vec<(Why, u32, &Bridge)> = Vec::new();
    for bridge in bridges.iter().filter(|bridge| !bridge.deleting && bridge.draining.is_none()) {
        if let Some(why) = reason(bridge).filter(|_| !is_decided(plan, &bridge.name)) {
            waiting.push((why, bridge.seats().taken, bridge));
        }
    }
    waiting.sort_by(|a, b| (a.0, a.1, &a.2.name).cmp(&(b.0, b.1, &b.2.name)));
    let mut refused = None;
    for (why, people, bridge) in waiting {
        match bridge.attachment {
            // Who is on it cannot be known.
            Attachment::Unknown => {
                refused.get_or_insert(Note::Blind { site: site.into() });
            }
            // It will come back or count as gone soon.
            Attachment::Absent(_) | Attachment::Present { expired: true, .. } => {}
            Attachment::Present { expired: false, .. } => {
                let free = free_elsewhere(world, plan, bridge);
                if people > free {
                    refused.get_or_insert(Note::NoRoom { bridge: bridge.name.clone(), people, free, why });
                    continue;
                }
                plan.actions.push(Action::Drain { bridge: bridge.name.clone(), why, within: world.drain_deadline });
                return;
            }
        }
    }
    plan.notes.extend(refused);
}
