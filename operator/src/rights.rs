//! What the operator may do, and why: the one list that the chart's roles and the tests on a real API server are made from.

/// One rule of a Role or ClusterRole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Right {
    /// API group.
    pub group: &'static str,
    /// Plural, with a subresource after a slash.
    pub resource: &'static str,
    /// What may be done.
    pub verbs: &'static [&'static str],
    /// Why.
    pub why: &'static str,
}

const fn right(
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
    why: &'static str,
) -> Right {
    Right { group, resource, verbs, why }
}

/// What is kept as it should be: watched, compared, written if it differs, deleted if it is not needed any more.
const KEEP: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

/// In the whole cluster.
pub const CLUSTER: &[Right] = &[right(
    "",
    "nodes",
    &["list", "watch"],
    "a new node gets a bridge, a cordoned one is drained, browsers are told its address",
)];

/// In each namespace that it looks after (or in all, if it looks after all).
pub const NAMESPACE: &[Right] = &[
    right("ratssaal.io", "videoconferences", &["list", "watch"], "what is wanted"),
    right("ratssaal.io", "videoconferences/status", &["patch"], "what is there"),
    right("", "pods", &["list", "watch", "create", "patch", "delete"], "bridges, each by itself"),
    right("", "secrets", KEEP, "certificates, API keys, Redis' password; reads those that the spec names"),
    right("", "services", KEEP, "ways to bridges, allocators and Redis"),
    right("", "serviceaccounts", KEEP, "accounts without rights for all Pods"),
    right("apps", "deployments", KEEP, "allocators"),
    right("apps", "statefulsets", KEEP, "the managed Redis"),
    right("policy", "poddisruptionbudgets", KEEP, "a bridge with people on it is not evicted"),
    right("networking.k8s.io", "networkpolicies", KEEP, "only allocators reach Redis"),
    right("networking.k8s.io", "ingresses", KEEP, "the way in for browsers"),
    right("gateway.networking.k8s.io", "httproutes", KEEP, "the way in at a Gateway, where there is one"),
    right("monitoring.coreos.com", "podmonitors", KEEP, "what Prometheus scrapes, where its operator is"),
    right("cert-manager.io", "certificates", KEEP, "the certificate for the host name, where cert-manager is"),
    right("events.k8s.io", "events", &["create", "patch"], "says what happened and what to do"),
];

/// In its own namespace.
pub const OWN: &[Right] =
    &[right("coordination.k8s.io", "leases", &["get", "create", "patch"], "of several operators one acts")];
