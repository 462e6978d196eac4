// Objects for tests of the definition, with and without an API server. Included where they are used.

/// An object around a spec.
fn object(spec: Value) -> Value {
    json!({
        "apiVersion": "ratssaal.io/v1alpha1",
        "kind": "VideoConference",
        "metadata": { "name": "konferenz", "namespace": "default" },
        "spec": spec,
    })
}

/// Specs that are right.
fn good() -> Vec<(&'static str, Value)> {
    let host = "konferenz.landkreis.example";
    vec![
        ("the least", json!({"hostname": host})),
        (
            "own certificate",
            json!({"hostname": host, "tls": {"secretName": "t"}, "exposure": {"service": {"type": "NodePort", "nodePort": 30443}}}),
        ),
        ("gateway", json!({"hostname": host, "exposure": {"gateway": {"parentRefs": [{"name": "g"}]}}})),
        (
            "cert-manager",
            json!({"hostname": host, "tls": {"issuerRef": {"name": "letsencrypt", "kind": "ClusterIssuer"}}}),
        ),
        (
            "county",
            json!({"hostname": host, "replicas": 3, "sites": [
                {"name": "a", "nodeSelector": {"ratssaal.io/site": "a"}},
                {"name": "b", "bridges": {"min": 1, "max": 6, "bufferParticipants": 60, "seats": 300}},
            ]}),
        ),
        ("own Redis", json!({"hostname": host, "redis": {"urlSecretRef": {"name": "r", "key": "url"}}})),
        ("fixed address", json!({"hostname": host, "media": {"addresses": ["203.0.113.7", "2001:db8::7"]}})),
        ("digest", json!({"hostname": host, "image": {"digest": format!("sha256:{}", "a".repeat(64))}})),
    ]
}

/// Specs that a rule refuses, and a part of its message.
fn bad_by_rule() -> Vec<(Value, &'static str)> {
    let host = "konferenz.landkreis.example";
    vec![
        (json!({"hostname": host, "tls": {}}), "exactly one of them"),
        (json!({"hostname": host, "tls": {"secretName": "a", "issuerRef": {"name": "b"}}}), "exactly one of them"),
        (json!({"hostname": host, "exposure": {}}), "exactly one of exposure.ingress"),
        (
            json!({"hostname": host, "tls": {"secretName": "a"}, "exposure": {"ingress": {}, "service": {}}}),
            "exactly one of exposure.ingress",
        ),
        (json!({"hostname": host, "exposure": {"service": {}}}), "give spec.tls"),
        (
            json!({"hostname": host, "tls": {"secretName": "a"}, "exposure": {"gateway": {"parentRefs": [{"name": "g"}]}}}),
            "remove spec.tls",
        ),
        (
            json!({"hostname": host, "tls": {"secretName": "a"}, "exposure": {"service": {"nodePort": 30443}}}),
            "type NodePort",
        ),
        (
            json!({"hostname": host, "sites": [{"name": "a", "bridges": {"perNode": true, "max": 2}}]}),
            "either bridges.perNode",
        ),
        (json!({"hostname": host, "sites": [{"name": "a", "bridges": {}}]}), "either bridges.perNode"),
        (
            json!({"hostname": host, "sites": [{"name": "a", "bridges": {"perNode": true, "min": 2}}]}),
            "bridges.min needs bridges.max",
        ),
        (
            json!({"hostname": host, "sites": [{"name": "a", "bridges": {"perNode": true, "bufferParticipants": 2}}]}),
            "bufferParticipants needs",
        ),
        (json!({"hostname": host, "sites": [{"name": "a", "bridges": {"min": 3, "max": 2}}]}), "must not be greater"),
        (json!({"hostname": host, "replicas": 2}), "replicas needs a site that is scaled"),
        (json!({"hostname": host, "media": {"port": 65530, "workers": 4}}), "beyond port 65535"),
        (
            json!({"hostname": host, "media": {"exposure": "LoadBalancer", "addresses": ["203.0.113.7"]}}),
            "remove media.addresses",
        ),
        (json!({"hostname": host, "media": {"addresses": ["konferenz.example"]}}), "must be IP addresses"),
        (
            json!({"hostname": host, "media": {"addressFrom": "NodeExternalIP"}, "sites": [{"name": "a", "bridges": {"max": 2}}]}),
            "NodeExternalIP needs bridges.perNode",
        ),
        (json!({"hostname": host, "redis": {}}), "exactly one of them"),
        (
            json!({"hostname": host, "redis": {"managed": {}, "urlSecretRef": {"name": "a", "key": "b"}}}),
            "exactly one of them",
        ),
        (json!({"hostname": host, "image": {"tag": "1", "digest": format!("sha256:{}", "a".repeat(64))}}), "not both"),
    ]
}

/// Changes that are refused: before, after, and a part of the message.
fn bad_changes() -> Vec<(Value, Value, &'static str)> {
    let host = "konferenz.landkreis.example";
    let own = json!({"hostname": host, "redis": {"urlSecretRef": {"name": "r", "key": "url"}}});
    let managed = |storage: &str| json!({"hostname": host, "redis": {"managed": {"storage": storage}}});
    vec![
        (json!({"hostname": host, "redis": {"managed": {}}}), own, "cannot be switched"),
        (managed("1Gi"), managed("2Gi"), "storage cannot be changed"),
        (managed("1Gi"), json!({"hostname": host, "redis": {"managed": {}}}), "storage cannot be changed"),
    ]
}
