//! What is wrong with an installation as it is told, and what to do: checks that need more than the object itself.

use std::collections::BTreeMap;

use ratssaal_crds::v1alpha1::{MediaExposure, MediaSpec, VideoConferenceSpec};
use time::OffsetDateTime;

use crate::build::Features;
use crate::credentials::Found;
use crate::pki::Seen;

/// How many days before its end a certificate is worth a word.
const SOON: i64 = 14;
/// The least length of an API key's secret.
const SECRET: usize = 32;

/// Something that needs a person.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Problem {
    /// One word for conditions and Events.
    pub reason: &'static str,
    /// What is the matter and what to do.
    pub text: String,
    /// People cannot meet while it lasts.
    pub fatal: bool,
}

impl Problem {
    pub(crate) fn new(reason: &'static str, fatal: bool, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), fatal }
    }

    /// Somebody else's object has the name of one that is needed.
    pub(crate) fn name_taken(kind: &str, name: &str) -> Self {
        let text = format!(
            "{kind} {name} is there but belongs to something else: delete or rename it, or give this VideoConference another \
             name"
        );
        Self::new("NameTaken", true, text)
    }
}

impl Problem {
    /// The gravest first: that nobody can join before what is wrong with one bridge. Whether DNS here knows a name matters least,
    /// since it may be known where people are.
    pub(crate) fn rank(&self) -> u8 {
        match (self.fatal, self.reason) {
            (true, _) => 0,
            (false, "RedisNodeLost") => 1,
            (false, "HostnameNotResolvable") => 3,
            (false, _) => 2,
        }
    }
}

/// Another installation, as far as it may be in the way.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// `namespace/name`.
    pub name: String,
    /// Its host name.
    pub hostname: String,
    /// Its ports.
    pub media: MediaSpec,
    /// It came first.
    pub older: bool,
    /// Nodes that both may use, if any.
    pub shared_node: Option<String>,
}

/// A Secret that the spec names: `None` if it is not there.
pub type Given = Option<Found>;

/// Checks the certificate for the host name.
pub fn certificate(spec: &VideoConferenceSpec, name: &str, secret: &Given, now: OffsetDateTime) -> Option<Problem> {
    let managed = spec.tls.as_ref().is_some_and(|tls| tls.issuer_ref.is_some());
    let Some(secret) = secret else {
        let text = if managed {
            format!("cert-manager has not yet filled Secret {name}: see kubectl describe certificate")
        } else {
            format!(
                "Secret {name} of spec.tls.secretName is missing: kubectl create secret tls {name} --cert=fullchain.pem \
                 --key=privkey.pem"
            )
        };
        return Some(Problem::new("CertificateMissing", true, text));
    };
    let (Some(certificate), Some(_)) = (secret.data.get("tls.crt"), secret.data.get("tls.key")) else {
        let text = format!(
            "Secret {name} of spec.tls.secretName lacks tls.crt or tls.key: it must be of type kubernetes.io/tls"
        );
        return Some(Problem::new("CertificateUnusable", true, text));
    };
    let seen = match Seen::read(certificate) {
        Ok(seen) => seen,
        Err(error) => {
            let text = format!("tls.crt in Secret {name} is no certificate ({error}): put the PEM file there");
            return Some(Problem::new("CertificateUnusable", true, text));
        }
    };
    let host = &spec.hostname;
    if !seen.names(host) {
        let hosts = if seen.hosts.is_empty() { "no host".to_owned() } else { seen.hosts.join(", ") };
        let text = format!("the certificate in Secret {name} is for {hosts}, not for {host}: get one for that name");
        return Some(Problem::new("CertificateForOtherName", true, text));
    }
    let left = seen.valid.1.saturating_sub(now.unix_timestamp());
    if left <= 0 {
        let text =
            format!("the certificate for {host} in Secret {name} has expired: put a new one there, it is used at once");
        return Some(Problem::new("CertificateExpired", true, text));
    }
    if left < SOON * 86_400 {
        let text = format!(
            "the certificate for {host} in Secret {name} expires in {} days: put a new one there",
            left / 86_400
        );
        return Some(Problem::new("CertificateExpiresSoon", false, text));
    }
    None
}

/// Checks the API keys.
pub fn api_keys(name: &str, secret: &Given) -> Option<Problem> {
    let fatal = |text| Some(Problem::new("ApiKeysUnusable", true, text));
    let Some(secret) = secret else {
        return fatal(format!(
            "Secret {name} of spec.access.apiKeysSecretRef is missing: create it with API keys as keys and their secrets as \
             values, or leave the field out"
        ));
    };
    if secret.data.is_empty() {
        return fatal(format!(
            "Secret {name} of spec.access.apiKeysSecretRef holds no API key: add one, or leave the field out"
        ));
    }
    for (key, value) in &secret.data {
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return fatal(format!("API key {key:?} in Secret {name}: use letters, digits and _ only"));
        }
        if value.len() < SECRET {
            return fatal(format!(
                "the secret of API key {key} in Secret {name} is shorter than {SECRET} characters: make a longer one"
            ));
        }
    }
    None
}

/// Checks the address of an own Redis.
pub fn redis(name: &str, key: &str, secret: &Given) -> Option<Problem> {
    let text = match secret {
        None => {
            format!("Secret {name} of spec.redis.urlSecretRef is missing: create it with Redis' address under {key}")
        }
        Some(secret) if secret.data.get(key).is_none_or(Vec::is_empty) => {
            format!(
                "Secret {name} of spec.redis.urlSecretRef has no key {key}: put Redis' address there, e.g. rediss://user:password@host:6380"
            )
        }
        Some(_) => return None,
    };
    Some(Problem::new("RedisAddressMissing", true, text))
}

/// Checks that the cluster has what the spec asks for.
pub fn features(spec: &VideoConferenceSpec, features: Features) -> Vec<Problem> {
    let mut problems = Vec::new();
    if spec.exposure.gateway.is_some() && !features.http_route {
        let text = "spec.exposure.gateway needs the Gateway API (HTTPRoute), which this cluster does not have: install it and \
                    restart the operator, or use spec.exposure.ingress or service";
        problems.push(Problem::new("NoGatewayApi", true, text));
    }
    if spec.tls.as_ref().is_some_and(|tls| tls.issuer_ref.is_some()) && !features.certificate {
        let text = "spec.tls.issuerRef needs cert-manager, which this cluster does not have: install it and restart the \
                    operator, or give spec.tls.secretName";
        problems.push(Problem::new("NoCertManager", true, text));
    }
    problems
}

/// Checks that installations are not in each other's way. The older one keeps what it has.
pub fn neighbours(spec: &VideoConferenceSpec, all: &[Neighbour]) -> Vec<Problem> {
    let mut problems = Vec::new();
    // One is named, always the same: of many in each other's way each would be told of all others.
    let first = |in_the_way: &dyn Fn(&Neighbour) -> bool| {
        all.iter().filter(|other| other.older && in_the_way(other)).min_by_key(|other| &other.name)
    };
    if let Some(other) = first(&|other| other.hostname == spec.hostname) {
        let text = format!(
            "{} is the host name of VideoConference {} too: give one of them another",
            spec.hostname, other.name
        );
        problems.push(Problem::new("HostnameTaken", false, text));
    }
    if let Some(other) = first(&|other| other.shared_node.is_some() && collide(&spec.media, &other.media)) {
        let (first, last) = spec.media.window();
        let node = other.shared_node.as_deref().unwrap_or_default();
        let free = free_port(&spec.media, all);
        let advice = free.map_or_else(String::new, |port| format!(": set spec.media.port to {port}"));
        let text =
            format!("ports {first} to {last} are taken on node {node} by VideoConference {}{advice}", other.name);
        problems.push(Problem::new("PortTaken", true, text));
    }
    problems
}

/// All ports that an installation may use on a node. With HostNetwork also TCP ports of the same numbers, four of them.
fn ports(media: &MediaSpec) -> (u32, u32) {
    let (first, last) = media.window();
    let tcp = if media.exposure == MediaExposure::HostNetwork { u32::from(first) + 3 } else { 0 };
    (first.into(), u32::from(last).max(tcp))
}

fn collide(a: &MediaSpec, b: &MediaSpec) -> bool {
    let ((a_first, a_last), (b_first, b_last)) = (ports(a), ports(b));
    a.uses_host_ports() && b.uses_host_ports() && a_first <= b_last && b_first <= a_last
}

/// The next port from which on nobody is in the way.
fn free_port(media: &MediaSpec, all: &[Neighbour]) -> Option<u16> {
    let mut wish = media.clone();
    let near: Vec<&Neighbour> = all.iter().filter(|other| other.shared_node.is_some()).collect();
    for _ in 0..=near.len() {
        let in_the_way =
            near.iter().filter(|other| collide(&wish, &other.media)).map(|other| ports(&other.media).1).max();
        match in_the_way {
            None => return Some(wish.port),
            Some(last) => wish.port = u16::try_from(last + 1).ok().filter(|port| *port < 65_500)?,
        }
    }
    None
}

/// All problems in one text, the worst first, within what a condition takes.
pub fn summary(problems: &[Problem]) -> String {
    let mut texts: BTreeMap<(u8, usize), &str> = BTreeMap::new();
    for (at, problem) in problems.iter().enumerate() {
        texts.insert((problem.rank(), at), &problem.text);
    }
    let mut text = texts.into_values().collect::<Vec<_>>().join("; ");
    if let Some((at, _)) = text.char_indices().nth(2000) {
        text.truncate(at);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pki::{Subject, issue, new_authority};

    fn spec(change: serde_json::Value) -> VideoConferenceSpec {
        let mut spec = json!({"hostname": "konferenz.kreis.example", "tls": {"secretName": "t"}});
        for (key, value) in change.as_object().unwrap() {
            spec[key] = value.clone();
        }
        serde_json::from_value(spec).unwrap()
    }

    fn secret(data: &[(&str, &str)]) -> Given {
        let data = data.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        Some(Found { data, annotations: BTreeMap::new() })
    }

    fn at(day: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap() + time::Duration::days(day)
    }

    #[test]
    fn certificates() {
        let authority = new_authority("k", at(0)).unwrap();
        let made = |host: &str| {
            let subject = Subject { role: "bridge", hosts: vec![host.into()] };
            issue(&authority, "k", &subject, at(0)).unwrap().certificate
        };
        let reason = |secret: &Given, day: i64| {
            certificate(&spec(json!({})), "t", secret, at(day)).map(|problem| (problem.reason, problem.fatal))
        };
        let good = secret(&[("tls.crt", &made("konferenz.kreis.example")), ("tls.key", "k")]);
        for (given, day, expected) in [
            (&None, 0, Some(("CertificateMissing", true))),
            (&secret(&[("tls.crt", "x")]), 0, Some(("CertificateUnusable", true))),
            (&secret(&[("tls.crt", "x"), ("tls.key", "k")]), 0, Some(("CertificateUnusable", true))),
            (&secret(&[("tls.crt", &made("a.example")), ("tls.key", "k")]), 0, Some(("CertificateForOtherName", true))),
            (&secret(&[("tls.crt", &made("*.kreis.example")), ("tls.key", "k")]), 0, None),
            (&good, 0, None),
            (&good, 170, Some(("CertificateExpiresSoon", false))),
            (&good, 181, Some(("CertificateExpired", true))),
        ] {
            assert_eq!(reason(given, day), expected, "{given:?} on day {day}");
        }
    }

    #[test]
    fn api_keys_and_redis() {
        let long = "x".repeat(32);
        for (given, good) in [
            (None, false),
            (secret(&[]), false),
            (secret(&[("a-b", &long)]), false),
            (secret(&[("KEY", "short")]), false),
            (secret(&[("KEY_1", &long)]), true),
        ] {
            assert_eq!(api_keys("keys", &given).is_none(), good, "{given:?}");
        }
        let told = api_keys("keys", &secret(&[("KEY", "geheim")])).unwrap();
        assert!(told.text.contains("KEY") && !told.text.contains("geheim"));
        assert!(redis("r", "url", &None).is_some() && redis("r", "url", &secret(&[("url", "")])).is_some());
        assert!(redis("r", "url", &secret(&[("url", "redis://h")])).is_none());
    }

    #[test]
    fn neighbours_on_the_same_nodes_need_other_ports() {
        let other = |port: u16, older: bool, shared: bool| Neighbour {
            name: "nachbar/konferenz".into(),
            hostname: "konferenz.nachbar.example".into(),
            media: spec(json!({"media": {"port": port}})).media,
            older,
            shared_node: shared.then(|| "n1".to_owned()),
        };
        let reasons =
            |all: &[Neighbour]| neighbours(&spec(json!({})), all).iter().map(|p| p.reason).collect::<Vec<_>>();
        assert_eq!(reasons(&[other(10_003, true, true)]), ["PortTaken"]);
        assert!(reasons(&[other(10_003, false, true)]).is_empty(), "the older one keeps its ports");
        assert!(reasons(&[other(10_003, true, false)]).is_empty(), "on nodes of their own");
        assert!(reasons(&[other(10_004, true, true)]).is_empty());
        let told = neighbours(&spec(json!({})), &[other(10_000, true, true), other(10_004, true, true)]);
        assert!(
            told[0].text.contains("10000 to 10003") && told[0].text.contains("spec.media.port to 10008"),
            "{}",
            told[0].text
        );
        let same = Neighbour { hostname: spec(json!({})).hostname, ..other(20_000, true, true) };
        let another = Neighbour { name: "a/konferenz".into(), ..same.clone() };
        let told = neighbours(&spec(json!({})), &[same, another]);
        assert!(
            told.len() == 1 && told[0].reason == "HostnameTaken" && told[0].text.contains("a/konferenz"),
            "{told:?}"
        );
    }

    #[test]
    fn what_the_cluster_lacks() {
        let gateway = spec(json!({"tls": null, "exposure": {"gateway": {"parentRefs": [{"name": "g"}]}}}));
        let manager = spec(json!({"tls": {"issuerRef": {"name": "i"}}}));
        let none = Features::default();
        assert_eq!(features(&gateway, none)[0].reason, "NoGatewayApi");
        assert_eq!(features(&manager, none)[0].reason, "NoCertManager");
        let all = Features { pod_monitor: true, http_route: true, certificate: true };
        assert!(features(&gateway, all).is_empty() && features(&manager, all).is_empty());
    }
}
