//! Which Secrets an installation needs now: those that are missing are made, certificates that are due are renewed.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use kube::api::DynamicObject;
use ratssaal_crds::v1alpha1::VideoConferenceSpec;
use serde_json::Value;
use time::OffsetDateTime;

use crate::authority::{Authority, Stage};
use crate::build::{self, Credentials, Facts, Object};
use crate::hash;
use crate::names::{CERTIFICATE_FOR, Names, REPLACE_BEFORE};
use crate::pki::{self, Pair, PkiError, Seen, Subject};

/// The installation's own Secrets.
#[derive(Debug)]
pub struct Own {
    /// The authority, and who is trusted beside it.
    pub authority: Authority,
    /// Made now, to be written.
    pub objects: Vec<Object>,
    /// Those that are there, as they should be.
    pub kept: Vec<Object>,
    /// Changes with the authority of the managed Redis' certificate.
    pub redis_authority: String,
    /// Changes with the managed Redis' password.
    pub redis_password: String,
    /// Changes with the API keys that the operator made.
    pub keys: Option<String>,
}

/// A Secret that is there.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Its content.
    pub data: BTreeMap<String, Vec<u8>>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
}

impl Found {
    /// Of a watched object.
    pub fn read(object: &DynamicObject) -> Self {
        let annotations = object.metadata.annotations.clone().unwrap_or_default();
        Self { annotations, ..Self::of(&object.data) }
    }

    /// Of a Secret's body, without annotations.
    fn of(body: &Value) -> Self {
        let data = body.get("data").cloned().unwrap_or_default();
        let data: BTreeMap<String, ByteString> = serde_json::from_value(data).unwrap_or_default();
        let data = data.into_iter().map(|(key, ByteString(bytes))| (key, bytes)).collect();
        Self { data, annotations: BTreeMap::new() }
    }

    fn text(&self, key: &str) -> Option<String> {
        String::from_utf8(self.data.get(key)?.clone()).ok()
    }

    /// Changes with its content, and does not give it away: its values have at least 128 bits of randomness.
    pub fn tag(&self) -> String {
        let mut all = Vec::new();
        for (key, value) in &self.data {
            all.extend_from_slice(key.as_bytes());
            all.push(0);
            all.extend_from_slice(value);
            all.push(0);
        }
        let digest = ring::digest::digest(&ring::digest::SHA256, &all);
        hash::short(&format!("{digest:?}"))
    }
}

/// The names of an installation's own Secrets.
pub fn names(spec: &VideoConferenceSpec, names: &Names) -> Vec<String> {
    let mut all = vec![names.authority()];
    all.extend(build::leaves(spec, names).iter().map(|subject| names.certificate(subject.role)));
    if spec.redis.managed.is_some() {
        all.push(names.redis());
    }
    if spec.access.api_keys_secret_ref.is_none() {
        all.push(names.api_keys());
    }
    all
}

/// Looks through the Secrets: `found` gives those of [`names`] that are there, for certain.
///
/// # Errors
/// When the authority's Secret is there but unusable: making a new one in silence would cut all parts off from each other.
pub fn own(
    spec: &VideoConferenceSpec,
    facts: &Facts,
    found: &dyn Fn(&str) -> Option<Found>,
    now: OffsetDateTime,
    random: &mut dyn FnMut() -> Credentials,
) -> Result<Own, PkiError> {
    let names = &facts.names;
    let (mut objects, mut kept) = (Vec::new(), Vec::new());
    let leaves = build::leaves(spec, names);
    let authority = match found(&names.authority()) {
        Some(secret) => {
            let before = read_authority(&secret)?;
            let secrets = leaves.iter().map(|subject| found(&names.certificate(subject.role)));
            let authority = step(before.clone(), asked(&secret), secrets, &names.name, now)?;
            let list = if authority == before { &mut kept } else { &mut objects };
            list.push(build::authority(facts, &authority));
            authority
        }
        None => {
            let authority = Authority::settled(pki::new_authority(&names.name, now)?);
            objects.push(build::authority(facts, &authority));
            authority
        }
    };
    let (trusted, signer) = (authority.trusted(), pki::key_identifier(&authority.signer)?);
    for subject in leaves {
        let secret = found(&names.certificate(subject.role)).unwrap_or_default();
        match usable(&secret, &subject, &signer, now) {
            Some(pair) => {
                let list = if trusts(&secret, &trusted) { &mut kept } else { &mut objects };
                list.push(build::leaf(facts, &subject, &pair, &trusted));
            }
            None => {
                let pair = pki::issue(&authority.signer, &names.name, &subject, now)?;
                objects.push(build::leaf(facts, &subject, &pair, &trusted));
            }
        }
    }
    // What is there stays as it is, else it is made; its tag.
    let mut keep_or_make = |name: &str, component, there: Option<Found>, make: fn(&Facts, &Credentials) -> Object| {
        if let Some(secret) = there {
            kept.push(build::secret(facts, name, component, &secret.data));
            return secret.tag();
        }
        let made = make(facts, &random());
        let tag = Found::of(&made.body).tag();
        objects.push(made);
        tag
    };
    let mut redis_password = String::new();
    if spec.redis.managed.is_some() {
        let (name, has_url) = (names.redis(), |secret: &Found| secret.data.contains_key("url"));
        redis_password = keep_or_make(&name, "redis", found(&name).filter(has_url), build::redis_credentials);
    }
    let mut keys = None;
    if spec.access.api_keys_secret_ref.is_none() {
        let (name, has_some) = (names.api_keys(), |secret: &Found| !secret.data.is_empty());
        keys = Some(keep_or_make(&name, "installation", found(&name).filter(has_some), build::api_keys));
    }
    let redis_authority = hash::short(&format!("{signer:?}"));
    Ok(Own { authority, objects, kept, redis_authority, redis_password, keys })
}

/// The authority in its Secret. What is there of a replacement must be usable, too: it is trusted already.
fn read_authority(secret: &Found) -> Result<Authority, PkiError> {
    let signer = read_pair(secret, "ca.crt", "ca.key")?;
    let since = secret.text("since").and_then(|text| text.parse().ok()).unwrap_or(i64::MAX);
    let stage = match (secret.data.contains_key("next.crt"), secret.text("old.crt")) {
        (true, _) => Stage::Announced { next: read_pair(secret, "next.crt", "next.key")?, since },
        (false, Some(old)) => {
            Seen::read(old.as_bytes())?;
            Stage::Leaving { old, since }
        }
        (false, None) => Stage::Settled,
    };
    Ok(Authority { signer, stage })
}

fn read_pair(secret: &Found, certificate: &'static str, key: &'static str) -> Result<Pair, PkiError> {
    let missing = |what| PkiError::Pem { what, why: "it is not in the Secret".into() };
    let pair = Pair {
        certificate: secret.text(certificate).ok_or_else(|| missing(certificate))?,
        key: secret.text(key).ok_or_else(|| missing(key))?,
    };
    Seen::read(pair.certificate.as_bytes())?;
    rcgen::KeyPair::from_pem(&pair.key).map_err(|error| PkiError::Pem { what: key, why: error.to_string() })?;
    Ok(pair)
}

/// Authorities from before this moment shall be replaced.
fn asked(secret: &Found) -> Option<i64> {
    secret.annotations.get(REPLACE_BEFORE)?.trim().parse().ok()
}

/// The authority after what is due now; `secrets` are those of the parts.
fn step(
    authority: Authority,
    asked: Option<i64>,
    mut secrets: impl Iterator<Item = Option<Found>>,
    name: &str,
    now: OffsetDateTime,
) -> Result<Authority, PkiError> {
    let due = authority.is_due(asked, now)?;
    let (trusted, signer) = (authority.trusted(), pki::key_identifier(&authority.signer)?);
    let spread = secrets.all(|secret| {
        secret.is_some_and(|secret| trusts(&secret, &trusted) && certificate(&secret, &signer).is_some())
    });
    authority.step(due, spread, now.unix_timestamp(), || pki::new_authority(name, now))
}

/// Whether a part is told to trust exactly these.
fn trusts(secret: &Found, trusted: &str) -> bool {
    secret.text("ca.crt").is_some_and(|text| text == trusted)
}

/// The certificate in a Secret, if this key signed it.
fn certificate(secret: &Found, signer: &[u8]) -> Option<Seen> {
    let seen = Seen::read(secret.data.get("tls.crt")?).ok()?;
    (seen.signer.as_deref() == Some(signer)).then_some(seen)
}

/// The certificate in a Secret, if it is the right one and will be for a while.
fn usable(secret: &Found, subject: &Subject, signer: &[u8], now: OffsetDateTime) -> Option<Pair> {
    let right = secret.annotations.get(CERTIFICATE_FOR) == Some(&subject.tag());
    let seen = certificate(secret, signer)?;
    let pair = Pair { certificate: secret.text("tls.crt")?, key: secret.text("tls.key")? };
    let fits = rcgen::KeyPair::from_pem(&pair.key).is_ok();
    (right && fits && !seen.is_due(now)).then_some(pair)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use base64::Engine as _;
    use serde_json::json;
    use time::Duration;

    use super::*;
    use crate::authority::SPREAD;
    use crate::build::Features;

    fn facts() -> Facts {
        Facts {
            names: Names { name: "k".into(), namespace: "ns".into() },
            uid: "1".into(),
            image: "i".into(),
            keys: String::new(),
            redis_authority: String::new(),
            redis_password: String::new(),
            features: Features::default(),
        }
    }

    fn look(secrets: &BTreeMap<String, Found>, now: OffsetDateTime) -> Result<Own, PkiError> {
        let spec: VideoConferenceSpec = serde_json::from_value(json!({"hostname": "a.example"})).unwrap();
        let mut count = 0;
        let mut random = || {
            count += 1;
            Credentials([count; 32])
        };
        own(&spec, &facts(), &|name| secrets.get(name).cloned(), now, &mut random)
    }

    /// As if the objects had been written.
    fn write(secrets: &mut BTreeMap<String, Found>, own: &Own) {
        let text = |value: &Value| base64::engine::general_purpose::STANDARD.decode(value.as_str().unwrap()).unwrap();
        for object in &own.objects {
            let data = object.body["data"].as_object().unwrap().iter().map(|(key, value)| (key.clone(), text(value)));
            let annotations =
                serde_json::from_value(object.body["metadata"]["annotations"].clone()).unwrap_or_default();
            secrets.insert(object.name.clone(), Found { data: data.collect(), annotations });
        }
    }

    #[test]
    fn made_once_renewed_when_due_and_mended() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let mut secrets = BTreeMap::new();
        let first = look(&secrets, now).unwrap();
        assert_eq!(first.objects.len(), 6, "authority, three certificates, Redis, API keys");
        write(&mut secrets, &first);
        let names = |own: &Own| own.objects.iter().map(|object| object.name.clone()).collect::<Vec<_>>();
        let second = look(&secrets, now).unwrap();
        assert!(second.objects.is_empty() && second.redis_authority == first.redis_authority);
        assert!(second.keys == first.keys && second.keys.is_some() && second.redis_password == first.redis_password);
        let sorted = |objects: &[Object]| objects.iter().map(|object| object.name.clone()).collect::<BTreeSet<_>>();
        let spec: VideoConferenceSpec = serde_json::from_value(json!({"hostname": "a.example"})).unwrap();
        let all: BTreeSet<String> = super::names(&spec, &facts().names).into_iter().collect();
        assert_eq!((sorted(&first.objects), sorted(&second.kept)), (all.clone(), all));
        // What is kept is written as it is there.
        for (made, kept) in first.objects.iter().flat_map(|made| second.kept.iter().map(move |kept| (made, kept))) {
            assert!(made.name != kept.name || made.body == kept.body, "{}", made.name);
        }
        let due = look(&secrets, now + Duration::days(121)).unwrap();
        assert_eq!(names(&due), ["k-bridge-tls", "k-allocator-tls", "k-redis-tls"]);
        assert_eq!(due.redis_authority, first.redis_authority, "Redis is not restarted for a new certificate");
        secrets.get_mut("k-bridge-tls").unwrap().data.insert("tls.crt".into(), b"broken".to_vec());
        secrets.remove("k-api-keys");
        assert_eq!(names(&look(&secrets, now).unwrap()), ["k-bridge-tls", "k-api-keys"]);
        secrets.get_mut("k-ca").unwrap().data.insert("ca.key".into(), b"broken".to_vec());
        let error = look(&secrets, now).unwrap_err().to_string();
        assert!(error.contains("ca.key"), "{error}");
    }

    #[test]
    fn the_authority_is_replaced_and_no_part_is_left_behind() {
        let start = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let (hour, second) = (Duration::seconds(SPREAD), Duration::seconds(1));
        let mut secrets = BTreeMap::new();
        let first = look(&secrets, start).unwrap();
        write(&mut secrets, &first);
        let asked = (start + hour).unix_timestamp().to_string();
        let mut written = |own: &Own| {
            write(&mut secrets, own);
            // As server-side apply leaves what people have set.
            let authority = secrets.get_mut("k-ca").unwrap();
            authority.annotations.insert(REPLACE_BEFORE.into(), asked.clone());
            secrets.clone()
        };
        let names = |own: &Own| own.objects.iter().map(|object| object.name.clone()).collect::<Vec<_>>();
        let text = |secrets: &BTreeMap<String, Found>, name: &str, key: &str| secrets[name].text(key).unwrap();
        let all = ["k-ca", "k-bridge-tls", "k-allocator-tls", "k-redis-tls"];

        let now = written(&first);
        assert!(look(&now, start + hour - second).unwrap().objects.is_empty(), "not before it is asked for");
        let announced = look(&now, start + hour).unwrap();
        assert_eq!(names(&announced), all);
        assert_eq!(announced.redis_authority, first.redis_authority, "Redis is not restarted for it");
        let told = written(&announced);
        let (old, next) = (text(&now, "k-ca", "ca.crt"), text(&told, "k-ca", "next.crt"));
        for name in &all[1..] {
            assert_eq!(text(&told, name, "tls.crt"), text(&now, name, "tls.crt"), "{name} has the same certificate");
            let trusted = text(&told, name, "ca.crt");
            assert!(trusted.contains(old.trim()) && trusted.contains(next.trim()), "{name} trusts both");
        }
        assert!(look(&told, start + hour * 2 - second).unwrap().objects.is_empty());
        // One part that has not been told holds all of them up.
        let mut deaf = told.clone();
        deaf.insert("k-bridge-tls".into(), now["k-bridge-tls"].clone());
        assert_eq!(names(&look(&deaf, start + hour * 2).unwrap()), ["k-ca", "k-bridge-tls"]);

        let switched = look(&told, start + hour * 2).unwrap();
        assert_eq!(names(&switched), all);
        assert_ne!(switched.redis_authority, first.redis_authority);
        let of_next = written(&switched);
        assert_eq!((text(&of_next, "k-ca", "ca.crt"), text(&of_next, "k-ca", "old.crt")), (next.clone(), old.clone()));
        for name in &all[1..] {
            assert!(
                Seen::read(&of_next[*name].data["tls.crt"]).unwrap().signer
                    != Seen::read(&told[*name].data["tls.crt"]).unwrap().signer
            );
            let trusted = text(&of_next, name, "ca.crt");
            assert!(trusted.contains(old.trim()) && trusted.contains(next.trim()), "{name} still trusts both");
        }
        assert!(look(&of_next, start + hour * 3 - second).unwrap().objects.is_empty());

        let settled = look(&of_next, start + hour * 3).unwrap();
        assert_eq!(names(&settled), all);
        assert_eq!(settled.redis_authority, switched.redis_authority);
        let end = written(&settled);
        assert_eq!(end["k-ca"].data.keys().collect::<Vec<_>>(), ["ca.crt", "ca.key"], "the old one is gone");
        for name in &all[1..] {
            assert_eq!(text(&end, name, "ca.crt"), next, "{name} trusts the new one alone");
            assert_eq!(text(&end, name, "tls.crt"), text(&of_next, name, "tls.crt"));
        }
        assert!(look(&end, start + hour * 9).unwrap().objects.is_empty(), "what was asked for is done");

        // What cannot be used of a replacement is not passed over.
        let mut broken = told;
        broken.get_mut("k-ca").unwrap().data.insert("next.key".into(), b"broken".to_vec());
        assert!(look(&broken, start + hour).unwrap_err().to_string().contains("next.key"));
    }
}
