//! The objects that an installation consists of, as they are applied: pure functions of the spec and of [`Facts`].
//!
//! Each is written as the JSON that server-side apply sends: only what the operator has an opinion on. The golden files in
//! `tests/golden` show them all.

mod allocator;
mod bridge;
mod common;
mod environment;
mod exposure;
mod network;
mod redis;
mod secrets;
#[cfg(test)]
mod tests;

use ratssaal_crds::v1alpha1::VideoConferenceSpec;
use serde_json::Value;

use crate::kind::Kind;
use crate::names::Names;

pub use bridge::{BridgePlace, load_balancer, needs_node_address, pod, pod_revision};
pub use secrets::{Credentials, api_keys, authority, leaf, leaves, redis_credentials, secret};

/// Port of HTTP in Pods that are not in the node's network.
pub const HTTP_PORT: u16 = 7880;
/// Port of the allocators' gRPC.
pub const ALLOCATOR_PORT: u16 = 7890;
/// Port of gRPC between bridges, in Pods that are not in the node's network.
pub const PEER_PORT: u16 = 7891;
/// Port of the managed Redis.
pub const REDIS_PORT: u16 = 6379;

/// What is known besides the spec.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Name and namespace.
    pub names: Names,
    /// The object's uid: its children name it as their owner.
    pub uid: String,
    /// The image that bridges and allocators run.
    pub image: String,
    /// Tag of the API keys: changes when they change, so that bridges are replaced.
    pub keys: String,
    /// Tag of the authority of the managed Redis' certificate: it is restarted for another one. (A new certificate it takes from
    /// its files, when an allocator tells it to.)
    pub redis_authority: String,
    /// Tag of the managed Redis' password: it and the allocators are restarted for a new one.
    pub redis_password: String,
    /// What the cluster has.
    pub features: Features,
}

/// Optional kinds that the cluster knows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Features {
    /// Prometheus' operator: `PodMonitor`.
    pub pod_monitor: bool,
    /// The Gateway API: `HTTPRoute`.
    pub http_route: bool,
    /// cert-manager: `Certificate`.
    pub certificate: bool,
}

/// An object to apply.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// What is applied, complete with `apiVersion`, `kind` and `metadata`.
    pub body: Value,
}

/// Everything but Pods of bridges and Secrets.
pub fn objects(spec: &VideoConferenceSpec, facts: &Facts) -> Vec<Object> {
    let mut objects = common::accounts(spec, facts);
    objects.extend(allocator::objects(spec, facts));
    objects.extend(redis::objects(spec, facts));
    objects.extend(exposure::objects(spec, facts));
    objects.extend(network::objects(spec, facts));
    objects.extend(bridge::objects(spec, facts));
    objects
}

/// Where people open it.
pub fn url(spec: &VideoConferenceSpec) -> String {
    let port = spec.exposure.service.as_ref().and_then(|service| service.node_port).filter(|port| *port != 443);
    match port {
        Some(port) => format!("https://{}:{port}", spec.hostname),
        None => format!("https://{}", spec.hostname),
    }
}

/// The Secret with the certificate for the host name, if there is one in this namespace.
pub fn web_certificate(spec: &VideoConferenceSpec, names: &Names) -> Option<String> {
    let tls = spec.tls.as_ref()?;
    Some(tls.secret_name.clone().unwrap_or_else(|| names.web_certificate()))
}

/// The Secret with the API keys.
pub fn keys_secret(spec: &VideoConferenceSpec, names: &Names) -> String {
    spec.access.api_keys_secret_ref.as_ref().map_or_else(|| names.api_keys(), |given| given.name.clone())
}

/// The image to run, given the operator's own.
pub fn image(spec: &VideoConferenceSpec, own: &str) -> String {
    let Some(given) = &spec.image else { return own.to_owned() };
    let (own_name, own_version) = split(own);
    let repository = given.repository.as_deref().unwrap_or(own_name);
    match (&given.digest, &given.tag) {
        (Some(digest), _) => format!("{repository}@{digest}"),
        (None, Some(tag)) => format!("{repository}:{tag}"),
        (None, None) => format!("{repository}{own_version}"),
    }
}

/// An image's name, and its tag or digest with the sign before it.
fn split(image: &str) -> (&str, &str) {
    if let Some(at) = image.find('@') {
        return image.split_at(at);
    }
    match image.rfind(':') {
        // A colon before a slash belongs to the registry's port.
        Some(at) if !image[at..].contains('/') => image.split_at(at),
        _ => (image, ""),
    }
}
