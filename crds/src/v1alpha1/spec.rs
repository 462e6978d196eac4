//! What an installation is told besides its sites and media: image, certificate, the way in, rooms, drain, Redis, access.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When a node fetches the image.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum PullPolicy {
    /// When the bridge starts, every time.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// The image was put on the nodes by other means.
    Never,
}

/// An image of Ratssaal.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.tag) && has(self.digest))").message("give image.tag or image.digest, not both"),
)]
pub struct ImageSpec {
    /// Registry and name, e.g. registry.landkreis.example/ratssaal. Default: the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub repository: Option<String>,
    /// The version. Default: the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$"))]
    pub tag: Option<String>,
    /// The image's digest, instead of a tag: what runs can then not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^sha256:[a-f0-9]{64}$"))]
    pub digest: Option<String>,
    /// Always, IfNotPresent (default) or Never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// Secrets of this namespace with access to the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub pull_secrets: Vec<SecretRef>,
}

/// A Secret of this namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// One key of a Secret of this namespace.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// Where the certificate for the host name is from.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.secretName) != has(self.issuerRef)")
        .message("give tls.secretName (a certificate of your own) or tls.issuerRef (cert-manager), exactly one of them"),
)]
pub struct TlsSpec {
    /// A Secret of type kubernetes.io/tls with `tls.crt` and `tls.key`. A new certificate in it is used without a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: Option<String>,
    /// An issuer of cert-manager, which must be installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_ref: Option<IssuerRef>,
}

/// An issuer of cert-manager.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct IssuerRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Issuer (default) or ClusterIssuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^(Issuer|ClusterIssuer)$"))]
    pub kind: Option<String>,
}

/// How browsers' HTTPS reaches the bridges.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("[has(self.ingress), has(self.gateway), has(self.service)].filter(x, x).size() == 1")
        .message("give exactly one of exposure.ingress, exposure.gateway and exposure.service"),
)]
pub struct ExposureSpec {
    /// By an Ingress, which does HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<IngressSpec>,
    /// By an HTTPRoute at a Gateway, which does HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewaySpec>,
    /// By a Service of its own; the bridges do HTTPS themselves with `spec.tls`. Needs no controller in the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceSpec>,
}

impl Default for ExposureSpec {
    fn default() -> Self {
        Self { ingress: Some(IngressSpec::default()), gateway: None, service: None }
    }
}

/// An Ingress.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IngressSpec {
    /// Which controller takes it. Default: the cluster's default class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub class_name: Option<String>,
    /// Annotations for that controller. WebSockets stay open for hours: raise its timeouts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}

/// An HTTPRoute.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// The Gateways it hangs on.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub parent_refs: Vec<ParentRef>,
}

/// A Gateway.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace. Default: this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Its listener. Default: all that fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub section_name: Option<String>,
}

/// The kind of a Service that browsers reach.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ServiceExposureType {
    /// An address of its own, from the cloud or e.g. MetalLB.
    #[default]
    LoadBalancer,
    /// A port of every node.
    NodePort,
    /// Inside the cluster only, for a proxy of your own in front.
    ClusterIP,
}

/// A Service that browsers reach.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.nodePort) || self.type == 'NodePort'")
        .message("exposure.service.nodePort needs exposure.service.type NodePort"),
)]
pub struct ServiceSpec {
    /// LoadBalancer (default), NodePort or ClusterIP.
    #[serde(default, rename = "type")]
    pub kind: ServiceExposureType,
    /// The port of every node. Default: the cluster chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub node_port: Option<u16>,
    /// Annotations for the load balancer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
}

/// What holds for every room.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoomsSpec {
    /// Participants per room at most; 0: no limit.
    #[schemars(range(min = 0, max = 10000))]
    pub max_participants: u32,
    /// A room nobody enters ends after this, in seconds.
    #[schemars(range(min = 1, max = 86400))]
    pub empty_timeout_seconds: u32,
    /// A room everybody has left ends after this, in seconds.
    #[schemars(range(min = 1, max = 86400))]
    pub departure_timeout_seconds: u32,
    /// Whether joining opens a room; if false, only the server API does.
    pub auto_create: bool,
}

impl Default for RoomsSpec {
    fn default() -> Self {
        Self { max_participants: 100, empty_timeout_seconds: 300, departure_timeout_seconds: 20, auto_create: true }
    }
}

/// How people are moved away from a bridge.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DrainSpec {
    /// How long a bridge may take until everybody has been moved, in seconds; then the rest is told to reconnect.
    #[schemars(range(min = 10, max = 86400))]
    pub deadline_seconds: u32,
    /// Participants moved at once.
    #[schemars(range(min = 1, max = 1000))]
    pub batch_size: u32,
}

impl Default for DrainSpec {
    fn default() -> Self {
        Self { deadline_seconds: 3600, batch_size: 10 }
    }
}

/// Redis (7.0 or newer), managed or your own.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.managed) != has(self.urlSecretRef)")
        .message("give redis.managed (one is run for you) or redis.urlSecretRef (your own), exactly one of them"),
    validation = Rule::new("has(self.managed) == has(oldSelf.managed)")
        .message("redis cannot be switched between managed and urlSecretRef, because open meetings would be lost: create a second VideoConference and move over"),
)]
pub struct RedisSpec {
    /// The operator runs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedRedis>,
    /// A Secret with the address of your own, e.g. redis-sentinel://user:password@a,b,c/main. Use an address or prefix of its
    /// own for each installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url_secret_ref: Option<SecretKeyRef>,
}

impl Default for RedisSpec {
    fn default() -> Self {
        Self { managed: Some(ManagedRedis::default()), url_secret_ref: None }
    }
}

/// A Redis that the operator runs: one Pod, reachable by the allocators only.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.storage) == has(oldSelf.storage) && (!has(self.storage) || quantity(string(self.storage)).compareTo(quantity(string(oldSelf.storage))) == 0)")
        .message("redis.managed.storage cannot be changed afterwards"),
)]
pub struct ManagedRedis {
    /// Size of a volume for its data, e.g. 1Gi. Without one its data lives as long as its Pod: bridges then tell a new Redis
    /// what it must know, and meetings go on; and it is moved when its node is lost, which with a volume it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Quantity>,
    /// The volume's class. Default: the cluster's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// The image; must hold `redis-server`, version 7.0 or newer, built with TLS.
    #[serde(default = "redis_image")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
}

impl Default for ManagedRedis {
    fn default() -> Self {
        Self { storage: None, storage_class_name: None, image: redis_image() }
    }
}

/// The last Redis under the three-clause BSD licence.
#[allow(clippy::unnecessary_wraps, reason = "serde's default must have the field's type")]
fn redis_image() -> Option<String> {
    Some("docker.io/library/redis:7.2-alpine".into())
}

/// Who may use the server API.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AccessSpec {
    /// A Secret whose keys are API keys (letters, digits and _) and whose values are their secrets (at least 32
    /// characters). Default: the operator makes a pair, in the Secret `<name>-api-keys`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_keys_secret_ref: Option<SecretRef>,
}

/// What the web client calls itself and links to.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BrandSpec {
    /// The name shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 200))]
    pub name: Option<String>,
    /// Link to the imprint (Impressum).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000), regex(pattern = "^https?://.+"))]
    pub imprint: Option<String>,
    /// Link to the privacy notice (Datenschutz).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000), regex(pattern = "^https?://.+"))]
    pub privacy: Option<String>,
    /// Link to the accessibility statement (Barrierefreiheit).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000), regex(pattern = "^https?://.+"))]
    pub accessibility: Option<String>,
    /// Accent colour, e.g. #00589c.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^#[0-9a-fA-F]{6}$"))]
    pub accent: Option<String>,
}

/// Metrics and traces.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObservabilitySpec {
    /// OpenTelemetry collector for traces (OTLP over gRPC), e.g. `http://collector.monitoring:4317`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000), regex(pattern = "^http://.+"))]
    pub otlp_endpoint: Option<String>,
    /// Whether Prometheus' operator is told to scrape bridges and allocators, if its PodMonitor exists in the cluster.
    pub pod_monitor: bool,
    /// What is logged: error, warn, info, debug, trace, or a list like info,ratssaal_bridge=debug.
    #[schemars(length(min = 1, max = 500))]
    pub log_level: String,
}

impl Default for ObservabilitySpec {
    fn default() -> Self {
        Self { otlp_endpoint: None, pod_monitor: true, log_level: "info".into() }
    }
}
