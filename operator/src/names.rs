//! Names, labels and annotations of what an installation consists of.

/// The operator as server-side apply's field manager, and as the label's value on everything it owns.
pub const MANAGER: &str = "ratssaal-operator";
/// Label: who made it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label: always `ratssaal`.
pub const NAME: &str = "app.kubernetes.io/name";
/// Label: the `VideoConference`'s name.
pub const INSTANCE: &str = "app.kubernetes.io/instance";
/// Label: `bridge`, `allocator`, `redis` or `installation`.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Label of bridges: their site.
pub const SITE: &str = "ratssaal.io/site";
/// Label of bridges: what they were made from.
pub const REVISION: &str = "ratssaal.io/revision";
/// Label of bridges: evictions are refused while it is `true`.
pub const PROTECTED: &str = "ratssaal.io/protected";
/// Annotation of bridges: which half of the ports, `a` or `b`.
pub const SLOT: &str = "ratssaal.io/slot";
/// Annotation of bridges: the node they were made for.
pub const NODE: &str = "ratssaal.io/node";
/// Annotation of bridges: since when they are drained, in milliseconds since the Unix epoch.
pub const DRAINING_SINCE: &str = "ratssaal.io/draining-since";
/// Annotation of bridges: why they are drained.
pub const DRAINING_WHY: &str = "ratssaal.io/draining-because";
/// Annotation of certificates' Secrets: who it is for; another value means it must be made anew.
pub const CERTIFICATE_FOR: &str = "ratssaal.io/certificate-for";
/// Annotation of the authority's Secret, set by people: authorities made before this moment (seconds since the Unix epoch) are
/// replaced.
pub const REPLACE_BEFORE: &str = "ratssaal.io/replace-before";
/// Annotation of what is kept by server-side apply: tag of what was applied last.
pub const APPLIED: &str = "ratssaal.io/applied";
/// Annotation of nodes, set by people: addresses that browsers are told instead of the node's own.
pub const MEDIA_ADDRESS: &str = "ratssaal.io/media-address";

/// The names of one installation's objects.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Names {
    /// The `VideoConference`.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

impl Names {
    /// The headless Service that gives each bridge a host name.
    pub fn bridges(&self) -> String {
        format!("{}-bridges", self.name)
    }

    /// The allocators' Deployment, Service and ServiceAccount.
    pub fn allocator(&self) -> String {
        format!("{}-allocator", self.name)
    }

    /// The managed Redis' StatefulSet, Service, Secret and ServiceAccount.
    pub fn redis(&self) -> String {
        format!("{}-redis", self.name)
    }

    /// The managed Redis' Pod, as its StatefulSet names it.
    pub fn redis_pod(&self) -> String {
        format!("{}-0", self.redis())
    }

    /// The bridges' ServiceAccount.
    pub fn bridge_account(&self) -> String {
        format!("{}-bridge", self.name)
    }

    /// The Secret with the installation's own authority.
    pub fn authority(&self) -> String {
        format!("{}-ca", self.name)
    }

    /// The Secret with a part's certificate.
    pub fn certificate(&self, part: &str) -> String {
        format!("{}-{part}-tls", self.name)
    }

    /// The Secret with the API keys that the operator makes.
    pub fn api_keys(&self) -> String {
        format!("{}-api-keys", self.name)
    }

    /// The Secret that cert-manager is asked to fill.
    pub fn web_certificate(&self) -> String {
        format!("{}-web-tls", self.name)
    }

    /// A Service's host name within the cluster.
    pub fn host(&self, service: &str) -> String {
        format!("{service}.{}.svc", self.namespace)
    }

    /// The labels that select a part's Pods.
    pub fn selector(&self, component: &str) -> String {
        format!("{NAME}=ratssaal,{INSTANCE}={},{COMPONENT}={component}", self.name)
    }
}
