//! What the operator says of an installation.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator saw last.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VideoConferenceStatus {
    /// Which generation of the spec this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: people can meet. `Progressing`: something is being started, moved or replaced. `Degraded`: something needs a
    /// person; its message says what to change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,

    /// Where people open it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,

    /// What all bridges run, or `old → new` while they are being replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,

    /// Every bridge.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub bridges: Vec<BridgeStatus>,

    /// Bridges that take participants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Labels of the bridges' Pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// Participants seated now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub participants: Option<u32>,
    /// Rooms with participants; one that spans several bridges counts on each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rooms: Option<u32>,
    /// Seats free on bridges that take participants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub free_seats: Option<u32>,
    /// Load of the busiest site, in percent of what its bridges carry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load_percent: Option<u32>,
}

/// How a bridge is.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
pub enum BridgeState {
    /// Its Pod is being started, or it has not yet reported to an allocator.
    #[default]
    Starting,
    /// Takes participants.
    Ready,
    /// Takes nobody new; its participants are being moved.
    Draining,
    /// Empty, about to be deleted.
    Drained,
    /// Does not report: its machine, its network or its process is gone.
    Lost,
    /// Cannot start; the conditions say why.
    Failed,
}

/// One bridge.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BridgeStatus {
    /// Its Pod.
    pub name: String,
    /// The node it runs on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The site it belongs to.
    pub site: String,
    /// Where browsers send audio and video.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Starting, Ready, Draining, Drained, Lost or Failed.
    pub state: BridgeState,
    /// The software's version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Participants seated there.
    pub participants: u32,
    /// Rooms with participants there.
    pub rooms: u32,
    /// Share of its dearest resource that is in use, in percent.
    pub load_percent: u32,
}
