//! Secrets: some are made once and then kept, since they are state; certificates are made anew when they are due.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ratssaal_crds::v1alpha1::VideoConferenceSpec;
use serde_json::json;

use super::common::object;
use super::redis::TLS_FOLDER;
use super::{Facts, Object, REDIS_PORT};
use crate::authority::{Authority, Stage};
use crate::kind::Kind;
use crate::names::{CERTIFICATE_FOR, Names};
use crate::pki::{Pair, Subject};

/// Random text for passwords and API keys: `bytes` of randomness, in letters, digits, - and _.
#[derive(Clone)]
pub struct Credentials(pub [u8; 32]);

impl Credentials {
    fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// The installation's authority: `ca.…` signs, `next.…` will, `old.crt` did.
pub fn authority(facts: &Facts, authority: &Authority) -> Object {
    let mut secret = object(facts, Kind::Secret, &facts.names.authority(), "installation");
    let mut data = vec![("ca.crt", authority.signer.certificate.clone()), ("ca.key", authority.signer.key.clone())];
    match &authority.stage {
        Stage::Settled => {}
        Stage::Announced { next, since } => {
            data.extend([("next.crt", next.certificate.clone()), ("next.key", next.key.clone())]);
            data.push(("since", since.to_string()));
        }
        Stage::Leaving { old, since } => data.extend([("old.crt", old.clone()), ("since", since.to_string())]),
    }
    let data: BTreeMap<&str, String> = data.iter().map(|(key, value)| (*key, STANDARD.encode(value))).collect();
    secret.body["type"] = json!("Opaque");
    secret.body["data"] = json!(data);
    secret
}

/// The parts that have certificates, and for which hosts.
pub fn leaves(spec: &VideoConferenceSpec, names: &Names) -> Vec<Subject> {
    let service = |name: String| vec![names.host(&name), format!("{}.cluster.local", names.host(&name))];
    let mut bridges = service(names.name.clone());
    bridges.insert(0, format!("*.{}", names.host(&names.bridges())));
    let mut leaves = vec![
        Subject { role: "bridge", hosts: bridges },
        Subject { role: "allocator", hosts: service(names.allocator()) },
    ];
    if spec.redis.managed.is_some() {
        leaves.push(Subject { role: "redis", hosts: service(names.redis()) });
    }
    leaves
}

/// A part's certificate, and whom it trusts.
pub fn leaf(facts: &Facts, subject: &Subject, pair: &Pair, trusted: &str) -> Object {
    let mut secret = object(facts, Kind::Secret, &facts.names.certificate(subject.role), subject.role);
    secret.body["metadata"]["annotations"] = json!({ CERTIFICATE_FOR: subject.tag() });
    secret.body["type"] = json!("kubernetes.io/tls");
    secret.body["data"] = json!({
        "tls.crt": STANDARD.encode(&pair.certificate),
        "tls.key": STANDARD.encode(&pair.key),
        "ca.crt": STANDARD.encode(trusted),
    });
    secret
}

/// A Secret as it is there already.
pub fn secret(facts: &Facts, name: &str, component: &str, data: &BTreeMap<String, Vec<u8>>) -> Object {
    let mut secret = object(facts, Kind::Secret, name, component);
    let data: BTreeMap<&String, String> = data.iter().map(|(key, value)| (key, STANDARD.encode(value))).collect();
    secret.body["type"] = json!("Opaque");
    secret.body["data"] = json!(data);
    secret
}

/// A pair for the server API.
pub fn api_keys(facts: &Facts, random: &Credentials) -> Object {
    let mut secret = object(facts, Kind::Secret, &facts.names.api_keys(), "installation");
    let name = format!("API{}", crate::hash::short(&facts.uid));
    secret.body["type"] = json!("Opaque");
    secret.body["data"] = json!({ name: STANDARD.encode(random.text()) });
    secret
}

/// The managed Redis' configuration with its password, and its address for the allocators.
pub fn redis_credentials(facts: &Facts, random: &Credentials) -> Object {
    let name = facts.names.redis();
    let password = random.text();
    let config = format!(
        "port 0\n\
         tls-port {REDIS_PORT}\n\
         tls-cert-file {TLS_FOLDER}/tls.crt\n\
         tls-key-file {TLS_FOLDER}/tls.key\n\
         tls-ca-cert-file {TLS_FOLDER}/ca.crt\n\
         tls-auth-clients no\n\
         requirepass {password}\n\
         dir /data\n\
         appendonly yes\n\
         maxmemory-policy noeviction\n"
    );
    let url = format!("rediss://:{password}@{}:{REDIS_PORT}", facts.names.host(&name));
    let mut secret = object(facts, Kind::Secret, &name, "redis");
    secret.body["type"] = json!("Opaque");
    secret.body["data"] = json!({ "redis.conf": STANDARD.encode(config), "url": STANDARD.encode(url) });
    secret
}
