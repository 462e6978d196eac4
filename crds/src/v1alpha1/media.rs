//! How audio and video reach the bridges.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How audio and video (UDP) reach a bridge.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum MediaExposure {
    /// On ports of the node; the bridge itself stays in the pod network.
    #[default]
    HostPort,
    /// In the node's network: the fewest copies per packet, and all of the node's ports.
    HostNetwork,
    /// Each bridge behind a load balancer address of its own.
    LoadBalancer,
    /// On the pod's own address, where that is routed to the participants.
    PodIP,
}

/// Which of a node's addresses browsers are told.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum AddressSource {
    /// The address inside the data centre or the town hall's network.
    #[default]
    NodeInternalIP,
    /// The public address, where the node object has one.
    NodeExternalIP,
}

/// How audio and video reach the bridges.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.port + 2 * self.workers <= 65536")
        .message("media.port and twice media.workers go beyond port 65535: a bridge that is being replaced needs the second half of the range; lower media.port"),
    validation = Rule::new("!has(self.addresses) || self.exposure != 'LoadBalancer'")
        .message("with media.exposure LoadBalancer each bridge has its load balancer's address: remove media.addresses"),
    validation = Rule::new("!has(self.addresses) || self.addresses.all(a, isIP(a))")
        .message("media.addresses must be IP addresses, e.g. 203.0.113.7 or 2001:db8::7"),
)]
pub struct MediaSpec {
    /// How packets reach a bridge: HostPort (ports of the node, the bridge stays in the pod network), HostNetwork (the node's
    /// network: the fewest copies per packet), LoadBalancer (an address for each bridge), PodIP (where pods' addresses are
    /// routed to the participants).
    #[serde(default)]
    pub exposure: MediaExposure,

    /// First UDP port. A bridge uses one port per worker; while it is being replaced, its successor uses as many behind
    /// those. So open UDP `port` to `port + 2 × workers − 1` in the firewall. With HostNetwork the four TCP ports from
    /// `port` on are used as well. Installations on the same nodes need different ranges.
    #[serde(default = "first_port")]
    #[schemars(range(min = 1024, max = 65534))]
    pub port: u16,

    /// Threads that forward media on each bridge, one UDP port each; as many as it has cores.
    #[serde(default = "workers")]
    #[schemars(range(min = 1, max = 64))]
    pub workers: u16,

    /// Which of the node's addresses browsers are told with HostPort and HostNetwork. A node's annotation
    /// `ratssaal.io/media-address` (addresses separated by commas) takes precedence in sites with a bridge per node.
    #[serde(default)]
    pub address_from: AddressSource,

    /// Addresses to tell browsers instead, e.g. the public one of a single node behind NAT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), inner(length(max = 45)))]
    pub addresses: Option<Vec<String>>,
}

fn first_port() -> u16 {
    10000
}

fn workers() -> u16 {
    2
}

impl Default for MediaSpec {
    fn default() -> Self {
        Self {
            exposure: MediaExposure::default(),
            port: first_port(),
            workers: workers(),
            address_from: AddressSource::default(),
            addresses: None,
        }
    }
}

impl MediaSpec {
    /// All UDP ports an installation may use on a node, both halves: first and last.
    pub fn window(&self) -> (u16, u16) {
        (self.port, self.port.saturating_add(self.workers.saturating_mul(2).saturating_sub(1)))
    }

    /// Whether the ports are the node's.
    pub fn uses_host_ports(&self) -> bool {
        matches!(self.exposure, MediaExposure::HostPort | MediaExposure::HostNetwork)
    }
}
