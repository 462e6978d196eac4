//! The managed Redis when its node is lost.
//!
//! A StatefulSet never has two Pods of one name, so Kubernetes leaves the one on a silent node alone until that node reports
//! again, be it for days. Redis without a volume holds nothing that bridges cannot tell another one; what must not happen is
//! that allocators use two at the same time. So its Pod is given up only while no allocator is ready: those have no
//! connection to the old one, and look its name up anew, which leads to Pods that are there and ready. The old one ends as soon
//! as its node hears again that its Pod is gone.

use super::{Action, Note, Plan, REDIS_PATIENCE, Stays, World};

/// Moves it, or tells why it stays.
pub(super) fn tend(world: &World, plan: &mut Plan) {
    let Some(redis) = &world.redis else { return };
    let Some(since) = redis.silent_since else { return };
    let stays = match (redis.reached, redis.has_volume) {
        (true, _) => Some(Stays::Reached),
        (false, true) => Some(Stays::Volume),
        (false, false) => None,
    };
    plan.notes.push(Note::RedisNodeLost { node: redis.node.clone(), stays });
    if stays.is_some() {
        return;
    }
    plan.progressing = true;
    if world.now.saturating_sub(since) >= REDIS_PATIENCE {
        plan.actions.push(Action::MoveRedis { pod: redis.pod.clone(), node: redis.node.clone() });
    }
}
