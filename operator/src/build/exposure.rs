//! The way in for browsers, and the bridges' host names for each other.

use ratssaal_crds::v1alpha1::{ServiceExposureType, VideoConferenceSpec};
use serde_json::{Value, json};

use super::common::{object, selector};
use super::{Facts, Object, PEER_PORT, web_certificate};
use crate::kind::Kind;

const PART: &str = "bridge";

pub(super) fn objects(spec: &VideoConferenceSpec, facts: &Facts) -> Vec<Object> {
    let name = &facts.names.name;
    let mut objects = vec![browsers(spec, facts), among_bridges(facts)];
    if let Some(given) = &spec.exposure.ingress {
        let mut ingress = object(facts, Kind::Ingress, name, PART);
        if !given.annotations.is_empty() {
            ingress.body["metadata"]["annotations"] = json!(given.annotations);
        }
        let backend = json!({ "service": { "name": name, "port": { "name": "http" } } });
        ingress.body["spec"] = json!({
            "rules": [{ "host": spec.hostname, "http": { "paths": [{ "path": "/", "pathType": "Prefix", "backend": backend }] } }],
        });
        if let Some(class) = &given.class_name {
            ingress.body["spec"]["ingressClassName"] = json!(class);
        }
        if let Some(secret) = web_certificate(spec, &facts.names) {
            ingress.body["spec"]["tls"] = json!([{ "hosts": [spec.hostname], "secretName": secret }]);
        }
        objects.push(ingress);
    }
    if let Some(gateway) = spec.exposure.gateway.as_ref().filter(|_| facts.features.http_route) {
        let mut route = object(facts, Kind::HttpRoute, name, PART);
        route.body["spec"] = json!({
            "parentRefs": gateway.parent_refs,
            "hostnames": [spec.hostname],
            "rules": [{
                "matches": [{ "path": { "type": "PathPrefix", "value": "/" } }],
                "backendRefs": [{ "name": name, "port": 80 }],
                // WebSockets stay open as long as a meeting.
                "timeouts": { "request": "0s" },
            }],
        });
        objects.push(route);
    }
    let issuer = spec.tls.as_ref().and_then(|tls| tls.issuer_ref.as_ref());
    if let Some(issuer) = issuer.filter(|_| facts.features.certificate) {
        let mut certificate = object(facts, Kind::Certificate, name, PART);
        certificate.body["spec"] = json!({
            "secretName": facts.names.web_certificate(),
            "dnsNames": [spec.hostname],
            "issuerRef": { "group": "cert-manager.io", "kind": issuer.kind.as_deref().unwrap_or("Issuer"), "name": issuer.name },
            "privateKey": { "algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always" },
        });
        objects.push(certificate);
    }
    if spec.observability.pod_monitor && facts.features.pod_monitor {
        objects.extend(monitors(spec, facts));
    }
    objects
}

/// Any bridge takes any browser.
fn browsers(spec: &VideoConferenceSpec, facts: &Facts) -> Object {
    let mut service = object(facts, Kind::Service, &facts.names.name, PART);
    let mut port = json!({ "name": "http", "protocol": "TCP", "port": 80, "targetPort": "http" });
    let mut kind = "ClusterIP";
    if let Some(given) = &spec.exposure.service {
        port["name"] = json!("https");
        port["port"] = json!(443);
        kind = match given.kind {
            ServiceExposureType::LoadBalancer => "LoadBalancer",
            ServiceExposureType::NodePort => "NodePort",
            ServiceExposureType::ClusterIP => "ClusterIP",
        };
        if let Some(number) = given.node_port {
            port["nodePort"] = json!(number);
        }
        if !given.annotations.is_empty() {
            service.body["metadata"]["annotations"] = json!(given.annotations);
        }
    }
    service.body["spec"] = json!({ "type": kind, "selector": selector(facts, PART), "ports": [port] });
    service
}

/// Each bridge's name in DNS: `<pod>.<name>-bridges.<namespace>.svc`, also while it drains.
fn among_bridges(facts: &Facts) -> Object {
    let mut service = object(facts, Kind::Service, &facts.names.bridges(), PART);
    service.body["spec"] = json!({
        "clusterIP": "None",
        "publishNotReadyAddresses": true,
        "selector": selector(facts, PART),
        "ports": [{ "name": "peers", "protocol": "TCP", "port": PEER_PORT, "targetPort": "peers" }],
    });
    service
}

fn monitors(spec: &VideoConferenceSpec, facts: &Facts) -> Vec<Object> {
    let https = spec.exposure.service.is_some();
    let monitor = |part: &str, name: String, endpoint: Value| {
        let mut monitor = object(facts, Kind::PodMonitor, &name, part);
        monitor.body["spec"] = json!({
            "selector": { "matchLabels": selector(facts, part) },
            "podTargetLabels": ["app.kubernetes.io/instance", "ratssaal.io/site"],
            "podMetricsEndpoints": [endpoint],
        });
        monitor
    };
    let mut bridges = json!({ "port": "http", "path": "/metrics" });
    if https {
        // The certificate is for the host name, Pods are scraped by address.
        bridges["scheme"] = json!("https");
        bridges["tlsConfig"] = json!({ "serverName": spec.hostname, "insecureSkipVerify": true });
    }
    let allocators = json!({ "port": "http", "path": "/metrics" });
    vec![monitor(PART, facts.names.bridges(), bridges), monitor("allocator", facts.names.allocator(), allocators)]
}
