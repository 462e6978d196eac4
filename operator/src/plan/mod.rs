//! What to do with the bridges: one pure function for growth, shrinking, upgrades, maintenance and repair together, because
//! controllers of their own for each would fight.
//!
//! [`plan`] looks at one installation at one moment ([`World`]) and names the next steps ([`Action`]). It remembers
//! nothing: what must outlive a restart of the operator stands in the Pods' annotations. Steps may be lost or done twice;
//! the next look corrects it.
//!
//! The rules:
//! - A bridge with people on it is deleted when it says it is drained, or when its drain's deadline has passed. Nothing
//!   else deletes it.
//! - At a site one bridge at a time leaves, and only if the others have seats for its people.
//! - A bridge of a new revision starts beside the one it replaces (on the other half of the ports) and takes people before
//!   the old one leaves. If it does not become ready, the rollout stops there.
//! - Without word from an allocator nothing leaves; what is missing is still started.
//! - The managed Redis is moved off a node that does not report, unless it is reached or has a volume.

mod leave;
mod model;
mod note;
mod redis;
mod scale;
#[cfg(test)]
mod simulation;
mod site;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

pub use model::{
    Action, Attachment, Bridge, Count, Draining, Health, Life, Millis, Node, Redis, Seats, Site, Slot, Taint,
    Tolerated, Trouble, Why, World,
};
pub use note::{Note, Stays};
pub use site::{revision, used_nodes};

/// How long a bridge may take to become ready before it counts as failed.
pub const PROGRESS_DEADLINE: Millis = 300_000;
/// How long a bridge may be missing at the allocator until it counts as gone: after a loss of Redis' data all are missing
/// for a moment.
pub const ABSENCE: Millis = 30_000;
/// How long after a drain's deadline a bridge is deleted that does not say it is drained.
pub const DEADLINE_SLACK: Millis = 30_000;
/// How long a scaled site must have had more seats than needed before a bridge leaves.
pub const CALM: Millis = 300_000;
/// How long the managed Redis' node must not have reported before Redis is moved. (Kubernetes takes some 40 s to say so.)
pub const REDIS_PATIENCE: Millis = 30_000;

/// The next steps, and what people should know.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// What to tell.
    pub notes: Vec<Note>,
    /// Scaled sites that have more seats than needed; tell the next look since when ([`Site::calm_since`]).
    pub calm: BTreeSet<String>,
    /// Something is being started, moved or replaced.
    pub progressing: bool,
}

/// Names the next steps.
pub fn plan(world: &World) -> Plan {
    let mut plan = Plan::default();
    if world.paused {
        plan.notes.push(Note::Paused);
        return plan;
    }
    leave::clear(world, &mut plan);
    for site in &world.sites {
        site::tend(world, site, &mut plan);
    }
    site::tend_removed(world, &mut plan);
    let starting = |bridge: &Bridge| !bridge.takes_people() && bridge.draining.is_none();
    plan.progressing = !plan.actions.is_empty()
        || world.bridges.iter().any(|bridge| bridge.deleting || bridge.draining.is_some() || starting(bridge));
    redis::tend(world, &mut plan);
    plan
}
