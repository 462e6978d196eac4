//! From what Kubernetes and the allocators say to what the plan sees.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod, PodCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::DynamicObject;
use ratssaal_crds::v1alpha1::{AddressSource, MediaExposure, VideoConferenceSpec};

use crate::build;
use crate::cluster::View;
use crate::names::{DRAINING_SINCE, DRAINING_WHY, MEDIA_ADDRESS, NODE, PROTECTED, REVISION, SITE, SLOT};
use crate::plan::{self, Attachment, Bridge, Count, Draining, Life, Millis, Site, Slot, Taint, Trouble, Why};

/// Taints with this prefix are Kubernetes' own: they come and go with a node's state.
const OWN_TAINTS: &str = "node.kubernetes.io/";
/// How long the scheduler may look for a node before that is a trouble.
const SCHEDULING: Millis = 10_000;

/// A node as the plan sees it.
pub(crate) fn node(node: &Node, spec: &VideoConferenceSpec) -> plan::Node {
    let wanted = node.spec.as_ref();
    let taints = wanted.and_then(|spec| spec.taints.clone()).unwrap_or_default();
    let (own, taints): (Vec<_>, Vec<_>) = taints.into_iter().partition(|taint| taint.key.starts_with(OWN_TAINTS));
    let pressed = own.iter().any(|taint| taint.effect == "NoSchedule" && !taint.key.ends_with("/unschedulable"));
    let addresses = addresses(node, spec);
    plan::Node {
        name: node.metadata.name.clone().unwrap_or_default(),
        labels: node.metadata.labels.clone().unwrap_or_default(),
        taints: taints
            .into_iter()
            .map(|taint| Taint { key: taint.key, value: taint.value.unwrap_or_default(), effect: taint.effect })
            .collect(),
        cordoned: wanted.and_then(|spec| spec.unschedulable).unwrap_or_default()
            || node.metadata.deletion_timestamp.is_some(),
        ready: reports(node) && !pressed,
        lacks_address: addresses.is_empty() && build::needs_node_address(spec),
        addresses,
    }
}

/// Whether a node's kubelet reports, and says that all is well.
pub(crate) fn reports(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Whether at least one Pod of a Deployment is ready.
pub(crate) fn has_ready_pods(deployment: &DynamicObject) -> bool {
    deployment.data["status"]["readyReplicas"].as_u64().is_some_and(|number| number > 0)
}

/// Addresses that a bridge on this node must be told when it is made.
fn addresses(node: &Node, spec: &VideoConferenceSpec) -> Vec<String> {
    if !spec.media.uses_host_ports() || spec.media.addresses.is_some() {
        return Vec::new();
    }
    let given = node.metadata.annotations.as_ref().and_then(|annotations| annotations.get(MEDIA_ADDRESS));
    if let Some(given) = given {
        let valid = |text: &str| text.trim().parse::<std::net::IpAddr>().ok().map(|ip| ip.to_string());
        return given.split(',').take(8).filter_map(valid).collect();
    }
    if spec.media.address_from == AddressSource::NodeInternalIP {
        return Vec::new();
    }
    let all = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    all.iter().filter(|address| address.type_ == "ExternalIP").map(|address| address.address.clone()).collect()
}

/// A site as the plan sees it.
pub(crate) fn site(site: &ratssaal_crds::v1alpha1::SiteSpec, revision: String, calm_since: Option<Millis>) -> Site {
    let bridges = &site.bridges;
    let toleration = |toleration: &ratssaal_crds::v1alpha1::TolerationSpec| {
        let value = toleration.value.clone().filter(|_| toleration.operator.as_deref() != Some("Exists"));
        (toleration.key.clone(), value, toleration.effect.clone())
    };
    Site {
        name: site.name.clone(),
        selector: site.node_selector.clone(),
        tolerations: site.tolerations.iter().map(toleration).collect(),
        count: match bridges.range() {
            Some((min, max)) => Count::Scaled { min, max, buffer: bridges.buffer_participants },
            None => Count::PerNode,
        },
        seats: bridges.seats,
        revision,
        calm_since,
    }
}

/// A bridge as the plan sees it; `None` for a Pod that is none.
pub(crate) fn bridge(pod: &Pod, view: Option<&View>, now: Millis) -> Option<Bridge> {
    let meta = &pod.metadata;
    let name = meta.name.clone()?;
    let (labels, annotations) = (meta.labels.as_ref()?, meta.annotations.clone().unwrap_or_default());
    let site = labels.get(SITE)?.clone();
    let spec = pod.spec.as_ref();
    let created = meta.creation_timestamp.as_ref().map_or(now, millis);
    let life = life(pod);
    let trouble = if life == Life::Ready { None } else { trouble(pod, created, now) };
    let attachment = view.map_or(Attachment::Unknown, |view| view.attachment(&name, now));
    let attached = matches!(attachment, Attachment::Present { .. });
    Some(Bridge {
        site,
        node: annotations.get(NODE).cloned().or_else(|| spec.and_then(|spec| spec.node_name.clone())),
        slot: if annotations.get(SLOT).is_some_and(|slot| slot == "b") { Slot::B } else { Slot::A },
        revision: labels.get(REVISION).cloned().unwrap_or_default(),
        created,
        deleting: meta.deletion_timestamp.is_some(),
        started: attached || life == Life::Ready || has_run(pod),
        life,
        trouble,
        protected: labels.get(PROTECTED).is_some_and(|value| value == "true"),
        draining: draining(&annotations, now),
        attachment,
        name,
    })
}

fn draining(annotations: &BTreeMap<String, String>, now: Millis) -> Option<Draining> {
    let since = annotations.get(DRAINING_SINCE)?;
    let why = annotations.get(DRAINING_WHY).and_then(|why| Why::parse(why)).unwrap_or(Why::Surplus);
    // A hand-edited or future time counts from now on.
    Some(Draining { since: since.parse().ok().filter(|since| *since <= now).unwrap_or(now), why })
}

fn life(pod: &Pod) -> Life {
    let Some(status) = pod.status.as_ref() else { return Life::Pending };
    match status.phase.as_deref() {
        Some("Failed" | "Succeeded") => Life::Over,
        Some("Running") if condition(pod, "Ready").is_some_and(|ready| ready.status == "True") => Life::Ready,
        Some("Running") => Life::Running,
        _ => Life::Pending,
    }
}

/// Whether it may have been ready before: its container has started at least once and passed its start-up probe.
fn has_run(pod: &Pod) -> bool {
    containers(pod)
        .any(|container| container.started == Some(true) || (container.restart_count > 0 && was_up(container)))
}

/// A container that ended after it had run for a while may have had people.
fn was_up(container: &ContainerStatus) -> bool {
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let Some((from, until)) = last.and_then(|last| last.started_at.as_ref().zip(last.finished_at.as_ref())) else {
        return false;
    };
    millis(until).saturating_sub(millis(from)) >= 60_000
}

fn containers(pod: &Pod) -> impl Iterator<Item = &ContainerStatus> {
    pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default().iter()
}

fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == kind)
}

fn trouble(pod: &Pod, created: Millis, now: Millis) -> Option<Trouble> {
    for container in containers(pod) {
        let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
        let Some(waiting) = waiting else { continue };
        let message = shorten(waiting.message.as_deref().unwrap_or_default());
        match waiting.reason.as_deref().unwrap_or_default() {
            reason @ ("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull") => {
                return Some(Trouble::Image(format!("{reason}: {message}")));
            }
            "CrashLoopBackOff" => return Some(Trouble::Crash(last_words(container))),
            "CreateContainerConfigError" | "CreateContainerError" => return Some(Trouble::Config(message)),
            _ => {}
        }
    }
    let unscheduled = condition(pod, "PodScheduled").filter(|scheduled| scheduled.status == "False")?;
    if now.saturating_sub(created) < SCHEDULING {
        return None;
    }
    let message = shorten(unscheduled.message.as_deref().unwrap_or("the scheduler gives no reason"));
    Some(if message.contains("free ports") { Trouble::Port(message) } else { Trouble::Unschedulable(message) })
}

/// What a container said before it ended.
fn last_words(container: &ContainerStatus) -> String {
    let last = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let Some(last) = last else { return "no reason known".into() };
    let words = last.message.as_deref().unwrap_or_default().trim().lines().last().unwrap_or_default();
    match (words, last.reason.as_deref()) {
        ("", Some("OOMKilled")) => "out of memory: raise spec.sites[].bridges.resources.limits".into(),
        ("", _) => format!("exit status {}", last.exit_code),
        (words, _) => format!("exit status {}: {}", last.exit_code, shorten(words)),
    }
}

/// Messages of the kubelet and of programs are bounded before they go into a condition.
fn shorten(text: &str) -> String {
    let mut short: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = short.char_indices().nth(200) {
        short.truncate(at);
        short.push('…');
    }
    short
}

/// Addresses that browsers are told.
pub(crate) fn advertised(pod: &Pod, spec: &VideoConferenceSpec) -> Vec<String> {
    let container = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    let variables = container.and_then(|container| container.env.as_deref()).unwrap_or_default();
    let given = variables.iter().find(|variable| variable.name == "RATSSAAL_MEDIA__ADVERTISE");
    if let Some(value) = given.and_then(|variable| variable.value.as_deref()).filter(|value| !value.is_empty()) {
        return value.split(',').map(str::to_owned).collect();
    }
    let status = pod.status.as_ref();
    let found = match spec.media.exposure {
        MediaExposure::HostPort | MediaExposure::HostNetwork => status.and_then(|status| status.host_ip.clone()),
        MediaExposure::PodIP | MediaExposure::LoadBalancer => status.and_then(|status| status.pod_ip.clone()),
    };
    found.into_iter().collect()
}

fn millis(time: &Time) -> Millis {
    Millis::try_from(time.0.as_millisecond()).unwrap_or(0)
}
