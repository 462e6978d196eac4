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

/// What is kept as it should be: watched, compared, written if it differs.
const KEEP: &[&str] = &["get", "list", "watch", "create", "patch"];
/// The same, and deleted if it is not needed any more. (The rest goes with its `VideoConference`, by Kubernetes' hand.)
const KEEP_OR_DELETE: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];

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
    right(
        "",
        "pods",
        &["list", "watch", "create", "patch", "delete"],
        "bridges, each by itself; Redis leaves a node that is lost",
    ),
    right("", "secrets", KEEP_OR_DELETE, "certificates, API keys, Redis' password; reads those that the spec names"),
    right("", "services", KEEP_OR_DELETE, "ways to bridges, allocators and Redis"),
    right("", "serviceaccounts", KEEP, "accounts without rights for all Pods"),
    right("apps", "deployments", KEEP, "allocators"),
    right("apps", "statefulsets", KEEP, "the managed Redis"),
    right("policy", "poddisruptionbudgets", KEEP, "a bridge with people on it is not evicted"),
    right("networking.k8s.io", "networkpolicies", KEEP, "only allocators reach Redis"),
    right("networking.k8s.io", "ingresses", KEEP_OR_DELETE, "the way in for browsers"),
    right("gateway.networking.k8s.io", "httproutes", KEEP_OR_DELETE, "the way in at a Gateway, where there is one"),
    right("monitoring.coreos.com", "podmonitors", KEEP_OR_DELETE, "what Prometheus scrapes, where its operator is"),
    right(
        "cert-manager.io",
        "certificates",
        KEEP_OR_DELETE,
        "the certificate for the host name, where cert-manager is",
    ),
    right("events.k8s.io", "events", &["create", "patch"], "says what happened and what to do"),
];

/// In its own namespace.
pub const OWN: &[Right] =
    &[right("coordination.k8s.io", "leases", &["get", "create", "patch"], "of several operators one acts")];

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules as the chart writes them.
    fn yaml(rights: &[Right]) -> String {
        let rule = |right: &Right| {
            let group = if right.group.is_empty() { "\"\"" } else { right.group };
            let why =
                right.why.chars().next().map(|first| first.to_uppercase().to_string() + &right.why[first.len_utf8()..]);
            let (why, resource, verbs) = (why.unwrap_or_default(), right.resource, right.verbs.join(", "));
            format!("# {why}.\n- apiGroups: [{group}]\n  resources: [{resource}]\n  verbs: [{verbs}]\n")
        };
        rights.iter().map(rule).collect()
    }

    #[test]
    fn the_chart_grants_exactly_this() {
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/ratssaal/templates/");
        let read = |name: &str| std::fs::read_to_string(format!("{chart}{name}")).unwrap();
        let rules = read("_rules.tpl");
        assert!(
            rules.contains(&format!("-}}}}\n{}{{{{- end", yaml(NAMESPACE))),
            "_rules.tpl must hold:\n{}",
            yaml(NAMESPACE)
        );
        // Further in, with comments of their own.
        let bare = |text: &str| {
            text.lines().map(str::trim).filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n")
        };
        assert!(bare(&read("clusterrole.yaml")).contains(&bare(&yaml(CLUSTER))));
        assert!(bare(&read("role.yaml")).contains(&bare(&yaml(OWN))));
    }
}
