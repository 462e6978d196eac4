//! The kinds of objects that the operator owns.

use kube::core::{ApiResource, GroupVersionKind};

/// A kind that the operator owns.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// For each part one, without any rights.
    ServiceAccount,
    /// Certificates, API keys, Redis' password.
    Secret,
    /// Ways to the parts.
    Service,
    /// Bridges.
    Pod,
    /// Allocators.
    Deployment,
    /// The managed Redis.
    StatefulSet,
    /// What may be evicted.
    PodDisruptionBudget,
    /// Who may talk to whom.
    NetworkPolicy,
    /// The way in for browsers.
    Ingress,
    /// The way in for browsers, at a Gateway.
    HttpRoute,
    /// What Prometheus' operator scrapes.
    PodMonitor,
    /// What cert-manager is asked for.
    Certificate,
}

impl Kind {
    /// Those that every cluster has, and that are kept as they should be by server-side apply. (Pods are not: a bridge is
    /// replaced, never changed.)
    pub const APPLIED: [Self; 8] = [
        Self::ServiceAccount,
        Self::Secret,
        Self::Service,
        Self::Deployment,
        Self::StatefulSet,
        Self::PodDisruptionBudget,
        Self::NetworkPolicy,
        Self::Ingress,
    ];
    /// Those that only some clusters have.
    pub const OPTIONAL: [Self; 3] = [Self::HttpRoute, Self::PodMonitor, Self::Certificate];

    /// Group, version, kind and plural.
    fn parts(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::Pod => ("", "v1", "Pod", "pods"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::StatefulSet => ("apps", "v1", "StatefulSet", "statefulsets"),
            Self::PodDisruptionBudget => ("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies"),
            Self::Ingress => ("networking.k8s.io", "v1", "Ingress", "ingresses"),
            Self::HttpRoute => ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
            Self::PodMonitor => ("monitoring.coreos.com", "v1", "PodMonitor", "podmonitors"),
            Self::Certificate => ("cert-manager.io", "v1", "Certificate", "certificates"),
        }
    }

    /// For the dynamic client.
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.parts();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }

    /// As in manifests.
    pub fn name(self) -> &'static str {
        self.parts().2
    }

    /// As in manifests.
    pub fn api_version(self) -> String {
        let (group, version, ..) = self.parts();
        if group.is_empty() { version.into() } else { format!("{group}/{version}") }
    }
}
