//! A bridge's Pod, and what goes with it: its revision, its load balancer, the budget that protects it.

use ratssaal_crds::v1alpha1::{AddressSource, MediaExposure, SiteSpec, TolerationSpec, VideoConferenceSpec};
use serde_json::{Map, Value, json};

use super::common::{
    USER, container_security, mount, object, pod_security, probe, pull_policy, pull_secrets, secret_volume,
};
use super::environment::Environment;
use super::{ALLOCATOR_PORT, Facts, HTTP_PORT, Object, PEER_PORT, keys_secret, url, web_certificate};
use crate::hash;
use crate::kind::Kind;
use crate::names::{NODE, PROTECTED, REVISION, SITE, SLOT};
use crate::plan::Slot;

/// How much longer than the drain's deadline a bridge may take to end.
const GRACE_SLACK: u32 = 30;
const CLUSTER_FOLDER: &str = "/etc/ratssaal/cluster";
const WEB_FOLDER: &str = "/etc/ratssaal/tls";

/// Where one bridge goes.
#[derive(Clone, Debug, Default)]
pub struct BridgePlace {
    /// Its name.
    pub name: String,
    /// On this node; else the scheduler chooses.
    pub node: Option<String>,
    /// Which ports.
    pub slot: Slot,
    /// Addresses that are known already; empty: found when it starts.
    pub addresses: Vec<String>,
    /// Its revision, complete.
    pub revision: String,
}

/// Evictions of protected bridges are refused. (A whole number, because that works for Pods whose owner cannot be asked how
/// many it wants; no installation is that large.)
pub(super) fn objects(_: &VideoConferenceSpec, facts: &Facts) -> Vec<Object> {
    let mut budget = object(facts, Kind::PodDisruptionBudget, &facts.names.bridges(), "bridge");
    let mut labels = super::common::selector(facts, "bridge");
    labels[PROTECTED] = json!("true");
    budget.body["spec"] = json!({ "minAvailable": 1_000_000, "selector": { "matchLabels": labels } });
    vec![budget]
}

/// The load balancer of one bridge.
pub fn load_balancer(spec: &VideoConferenceSpec, facts: &Facts, name: &str, site: &str, slot: Slot) -> Object {
    let mut service = object(facts, Kind::Service, name, "media");
    service.body["metadata"]["labels"][SITE] = json!(site);
    let ports: Vec<Value> = udp_ports(spec, slot)
        .map(|port| json!({ "name": format!("media-{port}"), "protocol": "UDP", "port": port, "targetPort": port }))
        .collect();
    service.body["spec"] = json!({
        "type": "LoadBalancer",
        "externalTrafficPolicy": "Local",
        "allocateLoadBalancerNodePorts": true,
        "selector": { "ratssaal.io/bridge": name },
        "ports": ports,
    });
    service
}

/// What bridges of a site are made from, without what differs from node to node: a change means that they are replaced.
pub fn pod_revision(spec: &VideoConferenceSpec, facts: &Facts, site: &SiteSpec) -> String {
    let place = BridgePlace { name: "x".into(), ..BridgePlace::default() };
    let mut body = pod(spec, facts, site, &place).body;
    // Names, and what does not concern a running bridge.
    body["metadata"] = Value::Null;
    hash::short(&body["spec"].to_string())
}

/// The Pod.
pub fn pod(spec: &VideoConferenceSpec, facts: &Facts, site: &SiteSpec, place: &BridgePlace) -> Object {
    let mut pod = object(facts, Kind::Pod, &place.name, "bridge");
    let metadata = &mut pod.body["metadata"];
    metadata["labels"][SITE] = json!(site.name);
    metadata["labels"][REVISION] = json!(place.revision);
    metadata["labels"][PROTECTED] = json!("true");
    metadata["labels"]["ratssaal.io/bridge"] = json!(place.name);
    metadata["annotations"] = json!({
        SLOT: slot_name(place.slot),
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    });
    if let Some(node) = &place.node {
        metadata["annotations"][NODE] = json!(node);
    }
    let host_network = spec.media.exposure == MediaExposure::HostNetwork;
    let tls = spec.exposure.service.is_some();
    let mut volumes = vec![secret_volume("cluster", &facts.names.certificate("bridge"))];
    let mut mounts = vec![mount("cluster", CLUSTER_FOLDER)];
    if let Some(secret) = web_certificate(spec, &facts.names).filter(|_| tls) {
        volumes.push(secret_volume("tls", &secret));
        mounts.push(mount("tls", WEB_FOLDER));
    }
    pod.body["spec"] = json!({
        "serviceAccountName": facts.names.bridge_account(),
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "hostname": place.name,
        "subdomain": facts.names.bridges(),
        "hostNetwork": host_network,
        "dnsPolicy": if host_network { "ClusterFirstWithHostNet" } else { "ClusterFirst" },
        "terminationGracePeriodSeconds": spec.drain.deadline_seconds.saturating_add(GRACE_SLACK),
        "imagePullSecrets": pull_secrets(spec.image.as_ref()),
        "securityContext": pod_security(USER),
        "nodeSelector": site.node_selector,
        "affinity": affinity(facts, place.node.as_deref()),
        "tolerations": site.tolerations.iter().map(toleration).collect::<Vec<_>>(),
        "volumes": volumes,
        "containers": [container(spec, facts, site, place, mounts)],
    });
    pod
}

fn container(
    spec: &VideoConferenceSpec,
    facts: &Facts,
    site: &SiteSpec,
    place: &BridgePlace,
    mounts: Vec<Value>,
) -> Value {
    let scheme = if spec.exposure.service.is_some() { "HTTPS" } else { "HTTP" };
    let (http, peers) = tcp_ports(spec, place.slot);
    let host_network = spec.media.exposure == MediaExposure::HostNetwork;
    let host_port = spec.media.exposure == MediaExposure::HostPort;
    let port = |name: String, protocol: &str, number: u16, host: bool| {
        let mut port = json!({ "name": name, "protocol": protocol, "containerPort": number });
        if host {
            port["hostPort"] = json!(number);
        }
        port
    };
    let mut ports =
        vec![port("http".into(), "TCP", http, host_network), port("peers".into(), "TCP", peers, host_network)];
    ports.extend(
        udp_ports(spec, place.slot)
            .enumerate()
            .map(|(at, number)| port(format!("media-{at}"), "UDP", number, host_network || host_port)),
    );
    json!({
        "name": "bridge",
        "image": facts.image,
        "imagePullPolicy": pull_policy(spec.image.as_ref()),
        "args": ["serve"],
        "env": environment(spec, facts, site, place).into_value(),
        "envFrom": [{ "prefix": "RATSSAAL_KEYS__", "secretRef": { "name": keys_secret(spec, &facts.names) } }],
        "ports": ports,
        "resources": resources(site),
        "volumeMounts": mounts,
        "securityContext": container_security(),
        "startupProbe": probe("/livez", scheme, 1, 60),
        "readinessProbe": probe("/readyz", scheme, 2, 2),
        "livenessProbe": probe("/livez", scheme, 10, 6),
        "terminationMessagePolicy": "FallbackToLogsOnError",
    })
}

fn environment(spec: &VideoConferenceSpec, facts: &Facts, site: &SiteSpec, place: &BridgePlace) -> Environment {
    let mut env = Environment::new();
    let (http, peers) = tcp_ports(spec, place.slot);
    let mut udp = udp_ports(spec, place.slot);
    let (first, last) = (udp.start, udp.next_back().unwrap_or(udp.start));
    env.name_field("POD_NAME", "metadata.name");
    env.set("http.bind", format!("[::]:{http}")).set("http.public_url", url(spec));
    if spec.exposure.service.is_some() {
        env.set("http.certificate", format!("{WEB_FOLDER}/tls.crt")).set("http.key", format!("{WEB_FOLDER}/tls.key"));
    } else {
        env.set("http.plain", true);
    }
    env.set("media.ports", format!("{first}-{last}")).set("media.workers", spec.media.workers);
    match advertised(spec, place) {
        Advertised::Known(addresses) => env.set("media.advertise", addresses.join(",")),
        Advertised::Node => env.field("media.advertise", "status.hostIP"),
        Advertised::Pod => env.field("media.advertise", "status.podIP"),
    };
    let rooms = &spec.rooms;
    env.set("room.max_participants", rooms.max_participants)
        .set("room.empty_timeout", format!("{}s", rooms.empty_timeout_seconds))
        .set("room.departure_timeout", format!("{}s", rooms.departure_timeout_seconds))
        .set("room.auto_create", rooms.auto_create)
        .set_if("room.seats", site.bridges.seats)
        .set("site.name", &site.name);
    let allocator = facts.names.host(&facts.names.allocator());
    let bridges = facts.names.host(&facts.names.bridges());
    env.set("cluster.bridge", "$(POD_NAME)")
        .set("cluster.allocator", format!("https://{allocator}:{ALLOCATOR_PORT}"))
        .set("cluster.peer_listen", format!("[::]:{peers}"))
        .set("cluster.peer_address", format!("https://$(POD_NAME).{bridges}:{peers}"))
        .set("cluster.drain_batch", spec.drain.batch_size)
        .set("cluster.drain_within", format!("{}s", spec.drain.deadline_seconds))
        .identity(CLUSTER_FOLDER);
    if let Some(brand) = &spec.brand {
        env.set_if("brand.name", brand.name.as_deref().map(escape))
            .set_if("brand.imprint", brand.imprint.as_deref().map(escape))
            .set_if("brand.privacy", brand.privacy.as_deref().map(escape))
            .set_if("brand.accessibility", brand.accessibility.as_deref().map(escape))
            .set_if("brand.accent", brand.accent.as_deref());
    }
    env.set("log.level", escape(&spec.observability.log_level)).set("log.format", "json");
    env.set_if("otlp.endpoint", spec.observability.otlp_endpoint.as_deref().map(escape));
    // Not read by anybody: it makes the bridges' revision change with their API keys.
    env.name_value("API_KEYS_TAG", &facts.keys);
    env
}

/// Kubernetes replaces `$(NAME)` in values; `$$` is a dollar.
fn escape(text: &str) -> String {
    text.replace("$(", "$$(")
}

enum Advertised {
    Known(Vec<String>),
    Node,
    Pod,
}

fn advertised(spec: &VideoConferenceSpec, place: &BridgePlace) -> Advertised {
    if !place.addresses.is_empty() {
        return Advertised::Known(place.addresses.clone());
    }
    match (&spec.media.addresses, spec.media.exposure) {
        (Some(addresses), _) => Advertised::Known(addresses.clone()),
        (None, MediaExposure::PodIP | MediaExposure::LoadBalancer) => Advertised::Pod,
        (None, MediaExposure::HostPort | MediaExposure::HostNetwork) => Advertised::Node,
    }
}

/// Whether a bridge must be told its node's address when it is made.
pub fn needs_node_address(spec: &VideoConferenceSpec) -> bool {
    spec.media.uses_host_ports()
        && spec.media.addresses.is_none()
        && spec.media.address_from == AddressSource::NodeExternalIP
}

fn udp_ports(spec: &VideoConferenceSpec, slot: Slot) -> std::ops::Range<u16> {
    let first = match slot {
        Slot::A => spec.media.port,
        Slot::B => spec.media.port.saturating_add(spec.media.workers),
    };
    first..first.saturating_add(spec.media.workers)
}

/// HTTP's port and that of gRPC between bridges.
fn tcp_ports(spec: &VideoConferenceSpec, slot: Slot) -> (u16, u16) {
    if spec.media.exposure != MediaExposure::HostNetwork {
        return (HTTP_PORT, PEER_PORT);
    }
    let first = spec.media.port.saturating_add(if slot == Slot::A { 0 } else { 2 });
    (first, first.saturating_add(1))
}

fn affinity(facts: &Facts, node: Option<&str>) -> Value {
    match node {
        Some(node) => json!({ "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": [node] }] }],
        } } }),
        // Not two on one node while there are others.
        None => json!({ "podAntiAffinity": { "preferredDuringSchedulingIgnoredDuringExecution": [{
            "weight": 100,
            "podAffinityTerm": {
                "topologyKey": "kubernetes.io/hostname",
                "labelSelector": { "matchLabels": super::common::selector(facts, "bridge") },
            },
        }] } }),
    }
}

fn toleration(toleration: &TolerationSpec) -> Value {
    let mut value = Map::new();
    let mut set = |key: &str, text: &Option<String>| {
        if let Some(text) = text {
            value.insert(key.into(), json!(text));
        }
    };
    set("key", &toleration.key);
    set("operator", &toleration.operator);
    set("value", &toleration.value);
    set("effect", &toleration.effect);
    Value::Object(value)
}

fn resources(site: &SiteSpec) -> Value {
    match &site.bridges.resources {
        Some(given) => json!({ "requests": given.requests, "limits": given.limits }),
        None => json!({ "requests": { "cpu": "250m", "memory": "256Mi" } }),
    }
}

/// As in the annotation.
fn slot_name(slot: Slot) -> &'static str {
    match slot {
        Slot::A => "a",
        Slot::B => "b",
    }
}
