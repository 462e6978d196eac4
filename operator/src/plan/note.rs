//! What people should know about the bridges, each with what to do about it.

use std::collections::BTreeMap;

use super::{REDIS_PATIENCE, Trouble, Why};

/// Something to tell. Its text becomes a condition's message and an Event's note.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Note {
    /// The spec says that nothing is to be changed.
    Paused,
    /// No node fits a site.
    NoNode {
        /// The site.
        site: String,
        /// What its nodes should be labelled with.
        selector: BTreeMap<String, String>,
        /// How many fit but are cordoned.
        cordoned: usize,
    },
    /// A node has no address of the kind that browsers are to be told.
    NoAddress {
        /// The node.
        node: String,
    },
    /// A bridge does not come up.
    NotStarting {
        /// Which.
        bridge: String,
        /// Why.
        trouble: Trouble,
    },
    /// A bridge of the new revision does not come up; those of the old one stay.
    RolloutStopped {
        /// Which.
        bridge: String,
        /// Why.
        trouble: Trouble,
    },
    /// A bridge has gone without a word.
    Lost {
        /// Which.
        bridge: String,
        /// Where it was.
        node: Option<String>,
    },
    /// A bridge should leave, but the others have no seats for its people.
    NoRoom {
        /// Which.
        bridge: String,
        /// Its people.
        people: u32,
        /// The others' free seats.
        free: u32,
        /// Why it should leave.
        why: Why,
    },
    /// A bridge should leave, but no allocator says who is on it.
    Blind {
        /// The site.
        site: String,
    },
    /// The node that the managed Redis is on does not report.
    RedisNodeLost {
        /// The node.
        node: String,
        /// Why Redis is not moved.
        stays: Option<Stays>,
    },
}

/// Why the managed Redis stays on a node that does not report.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stays {
    /// It answers an allocator.
    Reached,
    /// Its volume may still be in use there.
    Volume,
}

impl Note {
    /// One word for conditions and Events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Paused => "Paused",
            Self::NoNode { .. } => "NoNode",
            Self::NoAddress { .. } => "NoAddress",
            Self::NotStarting { trouble, .. } => trouble.reason(),
            Self::RolloutStopped { .. } => "RolloutStopped",
            Self::Lost { .. } => "BridgeLost",
            Self::NoRoom { .. } => "NoRoom",
            Self::Blind { .. } => "AllocatorUnreachable",
            Self::RedisNodeLost { .. } => "RedisNodeLost",
        }
    }

    /// Whether somebody has to do something.
    pub fn is_problem(&self) -> bool {
        !matches!(self, Self::Paused)
    }

    /// What is the matter and what to do.
    pub fn text(&self) -> String {
        match self {
            Self::Paused => "spec.paused is true: nothing is changed until it is false".into(),
            Self::NoNode { site, selector, cordoned: 0 } if selector.is_empty() => format!(
                "no node takes bridges of site {site}: all have taints that spec.sites[].tolerations does not name; add a \
                 toleration or a node"
            ),
            Self::NoNode { site, selector, cordoned: 0 } => {
                let labels: Vec<String> = selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
                format!("no node belongs to site {site}: label one, e.g. kubectl label node NAME {}", labels.join(" "))
            }
            Self::NoNode { site, cordoned, .. } => {
                format!("all {cordoned} nodes of site {site} are cordoned: kubectl uncordon NAME, or add a node")
            }
            Self::NoAddress { node } => format!(
                "node {node} has no ExternalIP: set spec.media.addressFrom to NodeInternalIP, or annotate the node with \
                 ratssaal.io/media-address"
            ),
            Self::NotStarting { bridge, trouble } => format!("bridge {bridge} does not start: {}", trouble.text()),
            Self::RolloutStopped { bridge, trouble } => format!(
                "the rollout has stopped, bridges of the old revision stay: {bridge} does not start: {}; or set spec back to \
                 what ran before",
                trouble.text()
            ),
            Self::Lost { bridge, node } => {
                let node = node.as_deref().unwrap_or("its node");
                format!("bridge {bridge} does not report any more: check {node} and its network")
            }
            Self::NoRoom { bridge, people, free, why } => {
                let cause = match why {
                    Why::Cordon => "its node is cordoned",
                    Why::Surplus => "it is not wanted there any more",
                    Why::Outdated => "it is to be replaced",
                    Why::Shrink => "fewer bridges are needed",
                };
                format!(
                    "bridge {bridge} should leave ({cause}), but {people} people are on it and the other bridges have only \
                     {free} free seats: add a node, or wait until meetings are over"
                )
            }
            Self::Blind { site } => format!(
                "a bridge of site {site} should leave, but no allocator answers, so nobody knows who is on it: see the \
                 allocators' and Redis' Pods"
            ),
            Self::RedisNodeLost { node, stays: None } => format!(
                "node {node}, where Redis is, does not report, and no allocator reaches Redis: nobody new can join until Redis \
                 is started on another node, which happens after {} s; check {node}",
                REDIS_PATIENCE / 1000
            ),
            Self::RedisNodeLost { node, stays: Some(Stays::Reached) } => format!(
                "node {node}, where Redis is, does not report, but Redis answers and stays there: check the node's kubelet"
            ),
            Self::RedisNodeLost { node, stays: Some(Stays::Volume) } => format!(
                "node {node}, where Redis is, does not report, and Redis is not moved by itself, because its volume \
                 (spec.redis.managed.storage) may still be in use there: if the machine is off, kubectl taint node {node} \
                 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
            ),
        }
    }
}

impl Trouble {
    /// One word for conditions and Events.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Image(_) => "ImageUnavailable",
            Self::Crash(_) => "BridgeCrashes",
            Self::Config(_) => "BridgeMisconfigured",
            Self::Unschedulable(_) => "Unschedulable",
            Self::Port(_) => "PortTaken",
            Self::Slow => "NotReadyInTime",
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Image(why) => {
                format!("its image cannot be fetched ({why}): check spec.image and spec.image.pullSecrets")
            }
            Self::Crash(why) => format!("it ends again and again ({why}): see kubectl logs"),
            Self::Config(why) => format!("something it needs is missing ({why})"),
            Self::Unschedulable(why) => {
                format!("no node takes it ({why}): free resources, or change spec.sites[].bridges.resources")
            }
            Self::Port(why) => format!("its ports are taken on the node ({why}): set spec.media.port to another range"),
            Self::Slow => "it runs but does not become ready: see kubectl logs".into(),
        }
    }
}
