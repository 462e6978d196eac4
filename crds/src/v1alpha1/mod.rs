//! Version v1alpha1: the object itself; its parts are in the files beside it.

#![allow(unreachable_pub, reason = "KubeSchema makes private copies of public types")]

mod media;
mod site;
mod spec;
mod status;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

pub use media::{AddressSource, MediaExposure, MediaSpec};
pub use site::{BridgesSpec, ResourcesSpec, SiteSpec, TolerationSpec};
pub use spec::{
    AccessSpec, BrandSpec, DrainSpec, ExposureSpec, GatewaySpec, ImageSpec, IngressSpec, IssuerRef, ManagedRedis,
    ObservabilitySpec, ParentRef, PullPolicy, RedisSpec, RoomsSpec, SecretKeyRef, SecretRef, ServiceExposureType,
    ServiceSpec, TlsSpec,
};
pub use status::{BridgeState, BridgeStatus, VideoConferenceStatus};

/// The site of an installation that names none.
pub const DEFAULT_SITE: &str = "default";

/// A video-conferencing installation for a city or a county: bridges that forward audio and video, allocators that seat
/// participants, a Redis, and the way in for browsers.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "ratssaal.io",
    version = "v1alpha1",
    kind = "VideoConference",
    plural = "videoconferences",
    shortname = "vconf",
    category = "all",
    namespaced,
    status = "VideoConferenceStatus",
    derive = "PartialEq",
    doc = "A video-conferencing installation for a city or a county: bridges that forward audio and video, allocators that seat participants, a Redis, and the way in for browsers.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "URL", type_ = "string", json_path = ".status.url", description = "Where people open it"),
    printcolumn(name = "Bridges", type_ = "integer", json_path = ".status.replicas", description = "Bridges that take participants"),
    printcolumn(name = "Participants", type_ = "integer", json_path = ".status.participants", description = "Participants seated now"),
    printcolumn(name = "Load", type_ = "integer", json_path = ".status.loadPercent", description = "Load of the busiest site, in percent"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].status", description = "Whether people can meet"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Rooms", type_ = "integer", json_path = ".status.rooms", priority = 1),
    printcolumn(name = "Free", type_ = "integer", json_path = ".status.freeSeats", priority = 1, description = "Seats free now"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version", priority = 1, description = "What all bridges run, or the way between two versions"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type=='Ready')].message", priority = 1, description = "What is wrong and what to do"),
    validation = Rule::new("self.metadata.name.size() <= 30 && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must be at most 30 characters, begin with a letter and hold only a-z, 0-9 and -, because Services are named after it"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.exposure.gateway) || !has(self.tls)")
        .message("with exposure.gateway the certificate belongs to the Gateway's listener: remove spec.tls"),
    validation = Rule::new("!has(self.exposure.service) || has(self.tls)")
        .message("with exposure.service the bridges do HTTPS themselves and need a certificate: give spec.tls"),
    validation = Rule::new("!has(self.replicas) || (has(self.sites) && self.sites.exists(s, has(s.bridges.max)))")
        .message("replicas needs a site that is scaled by bridges.min and bridges.max; sites with a bridge per node grow by nodes"),
    validation = Rule::new("self.media.addressFrom != 'NodeExternalIP' || has(self.media.addresses) || !(self.media.exposure in ['HostPort', 'HostNetwork']) || !has(self.sites) || self.sites.all(s, !has(s.bridges.max))")
        .message("media.addressFrom NodeExternalIP needs bridges.perNode in every site, because the address must be known before the bridge starts; use NodeInternalIP, or a bridge per node"),
)]
pub struct VideoConferenceSpec {
    /// The name people open in their browsers, e.g. konferenz.landkreis.example.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$")
    )]
    pub hostname: String,

    /// What bridges and allocators run. Default: the image the operator itself runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageSpec>,

    /// The certificate for `hostname`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,

    /// How browsers' HTTPS reaches the bridges: by an Ingress (default), a Gateway, or a Service of its own.
    #[serde(default)]
    pub exposure: ExposureSpec,

    /// Where bridges stand. Default: one site named `default` with a bridge on every schedulable node. A node that
    /// fits several sites belongs to the first of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub sites: Option<Vec<SiteSpec>>,

    /// Bridges to run at least in all scaled sites together (`kubectl scale`), e.g. before a large event; each site stays
    /// within its min and max.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub replicas: Option<u32>,

    /// How audio and video reach the bridges.
    #[serde(default)]
    pub media: MediaSpec,

    /// What holds for every room.
    #[serde(default)]
    pub rooms: RoomsSpec,

    /// How people are moved when a bridge is upgraded or its machine is to be switched off.
    #[serde(default)]
    pub drain: DrainSpec,

    /// Where allocators keep who sits where. What is in it belongs to meetings that are open: nothing to back up.
    #[serde(default)]
    pub redis: RedisSpec,

    /// Who may use the server API.
    #[serde(default)]
    pub access: AccessSpec,

    /// What the web client calls itself and links to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brand: Option<BrandSpec>,

    /// Metrics and traces.
    #[serde(default)]
    pub observability: ObservabilitySpec,

    /// The operator changes nothing while this is true; the status goes on.
    #[serde(default)]
    pub paused: bool,
}

impl VideoConferenceSpec {
    /// The sites, the default one if none is named.
    pub fn sites(&self) -> Vec<SiteSpec> {
        self.sites.clone().unwrap_or_else(|| vec![SiteSpec::named(DEFAULT_SITE)])
    }
}
