//! A site: machines that stand together, and how many bridges run on them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Machines that stand together. Participants are seated near their site.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SiteSpec {
    /// The site's name, e.g. the town it stands in.
    #[schemars(length(min = 1, max = 20), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Labels of the nodes that belong to it. Empty: all nodes.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that bridges may run on nevertheless.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub tolerations: Vec<TolerationSpec>,

    /// How many bridges run there.
    #[serde(default)]
    pub bridges: BridgesSpec,
}

impl SiteSpec {
    /// A site on all nodes, with a bridge on each.
    pub fn named(name: &str) -> Self {
        Self {
            name: name.into(),
            node_selector: BTreeMap::new(),
            tolerations: Vec::new(),
            bridges: BridgesSpec::default(),
        }
    }
}

/// How many bridges run at a site: one per node, or between min and max by free seats.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.max) != (has(self.perNode) && self.perNode)")
        .message("give either bridges.perNode: true, or bridges.max (with min and bufferParticipants)"),
    validation = Rule::new("has(self.max) || !has(self.min)").message("bridges.min needs bridges.max"),
    validation = Rule::new("has(self.max) || !has(self.bufferParticipants)")
        .message("bridges.bufferParticipants needs bridges.max"),
    validation = Rule::new("!has(self.max) || !has(self.min) || self.min <= self.max")
        .message("bridges.min must not be greater than bridges.max"),
)]
pub struct BridgesSpec {
    /// One bridge on every matching node: adding a machine is all there is to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_node: Option<bool>,

    /// Bridges to run at least. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub min: Option<u32>,

    /// Bridges to run at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub max: Option<u32>,

    /// Seats to keep free for those who come next: a further bridge starts when fewer are free. Default: half of what a
    /// bridge seats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100_000))]
    pub buffer_participants: Option<u32>,

    /// Participants that one bridge seats at most. Default: each bridge learns it from what packets cost on its machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub seats: Option<u32>,

    /// What a bridge asks of its node and gets at most. Default: a quarter of a core and 256 MiB asked for, no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
}

impl Default for BridgesSpec {
    fn default() -> Self {
        Self { per_node: Some(true), min: None, max: None, buffer_participants: None, seats: None, resources: None }
    }
}

impl BridgesSpec {
    /// Least and greatest number of bridges, if the site is scaled.
    pub fn range(&self) -> Option<(u32, u32)> {
        self.max.map(|max| (self.min.unwrap_or(1).min(max), max))
    }
}

/// CPU and memory, as in a Pod.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourcesSpec {
    /// Asked for: a node without it is not chosen.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub requests: BTreeMap<String, Quantity>,
    /// Given at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub limits: BTreeMap<String, Quantity>,
}

/// A taint that bridges put up with.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TolerationSpec {
    /// The taint's key; empty: all taints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 316))]
    pub key: Option<String>,
    /// Exists, or Equal (default).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(Exists|Equal)$"))]
    pub operator: Option<String>,
    /// The taint's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// NoSchedule, PreferNoSchedule or NoExecute; empty: all effects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(NoSchedule|PreferNoSchedule|NoExecute)$"))]
    pub effect: Option<String>,
}
