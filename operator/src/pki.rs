//! The installation's own authority and the certificates of its parts.
//!
//! A part's certificate names its hosts and, as a URI, what it may: `urn:ratssaal:bridge`, `…:allocator`, `…:operator`
//! (proto/bridge/v1/bridge.proto). It is renewed after two thirds of its life; processes re-read it from its file.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// How long the authority is valid.
const AUTHORITY: Duration = Duration::days(3650);
/// How long a part's certificate is valid.
const LEAF: Duration = Duration::days(180);
/// Clocks of machines differ, some by their time zone: certificates begin so long ago.
const SKEW: Duration = Duration::days(1);

/// Why a certificate cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// Not a private key or not a certificate.
    #[error("{what} is not usable PEM: {why}")]
    Pem {
        /// Where it stands.
        what: &'static str,
        /// What the parser says.
        why: String,
    },
    /// It cannot be made.
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// A certificate and its key, as PEM.
#[derive(Clone, Eq, PartialEq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair")
    }
}

/// Whom a certificate is for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subject {
    /// `bridge`, `allocator`, `operator`, `redis`.
    pub role: &'static str,
    /// Host names, also with `*.` in front.
    pub hosts: Vec<String>,
}

impl Subject {
    /// As written beside the certificate.
    pub fn tag(&self) -> String {
        format!("{}: {}", self.role, self.hosts.join(" "))
    }
}

/// A fresh authority.
///
/// # Errors
/// When the system has no randomness.
pub fn new_authority(name: &str, now: OffsetDateTime) -> Result<Pair, PkiError> {
    let key = KeyPair::generate()?;
    let mut params = authority_params(name);
    (params.not_before, params.not_after) = (now - SKEW, now + AUTHORITY);
    Ok(Pair { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

/// A certificate of this authority.
///
/// # Errors
/// When the authority's key is unusable or a host is none.
pub fn issue(authority: &Pair, name: &str, subject: &Subject, now: OffsetDateTime) -> Result<Pair, PkiError> {
    let unusable = |why: rcgen::Error| PkiError::Pem { what: "the authority's key", why: why.to_string() };
    let issuer = Issuer::new(authority_params(name), KeyPair::from_pem(&authority.key).map_err(unusable)?);
    let mut params = CertificateParams::new(subject.hosts.clone())?;
    params.subject_alt_names.push(SanType::URI(format!("urn:ratssaal:{}", subject.role).try_into()?));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject.role);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (now - SKEW, now + LEAF);
    let key = KeyPair::generate()?;
    Ok(Pair { certificate: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
}

/// The identifier of an authority's key, as [`Seen::signer`] of what it signed.
///
/// # Errors
/// When the key is unusable.
pub fn key_identifier(authority: &Pair) -> Result<Vec<u8>, PkiError> {
    let unusable = |why: rcgen::Error| PkiError::Pem { what: "the authority's key", why: why.to_string() };
    Ok(CertificateParams::default().key_identifier(&KeyPair::from_pem(&authority.key).map_err(unusable)?))
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("Ratssaal {name}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// What can be seen of a certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// Valid from and until, in seconds since the Unix epoch.
    pub valid: (i64, i64),
    /// Host names.
    pub hosts: Vec<String>,
    /// Which key signed it (authority key identifier, RFC 5280 §4.2.1.1), if it says so.
    pub signer: Option<Vec<u8>>,
}

impl Seen {
    /// Reads the first certificate of a PEM file.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(pem: &[u8]) -> Result<Self, PkiError> {
        let wrong = |why: String| PkiError::Pem { what: "the certificate", why };
        let (_, pem) = parse_x509_pem(pem).map_err(|error| wrong(error.to_string()))?;
        let (_, certificate) = X509Certificate::from_der(&pem.contents).map_err(|error| wrong(error.to_string()))?;
        let (mut hosts, mut signer) = (Vec::new(), None);
        for extension in certificate.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(names) => {
                    hosts.extend(names.general_names.iter().filter_map(|name| match name {
                        GeneralName::DNSName(host) => Some((*host).to_lowercase()),
                        _ => None,
                    }));
                }
                ParsedExtension::AuthorityKeyIdentifier(key) => {
                    signer = key.key_identifier.as_ref().map(|key| key.0.to_vec());
                }
                _ => {}
            }
        }
        let validity = certificate.validity();
        let valid = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Ok(Self { valid, hosts, signer })
    }

    /// When it was made, if it is one of our authorities; seconds since the Unix epoch.
    pub fn made(&self) -> i64 {
        self.valid.1.saturating_sub(AUTHORITY.whole_seconds())
    }

    /// Whether two thirds of its life are over.
    pub fn is_due(&self, now: OffsetDateTime) -> bool {
        let (from, until) = self.valid;
        now.unix_timestamp() >= from.saturating_add(until.saturating_sub(from) / 3 * 2)
    }

    /// Whether it names this host, itself or by a wildcard for one label (RFC 6125 §6.4.3).
    pub fn names(&self, host: &str) -> bool {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.hosts.iter().any(|name| name == host || name.strip_prefix("*.").is_some_and(|rest| Some(rest) == parent))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier as _;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};

    use super::*;

    fn subject() -> Subject {
        Subject { role: "bridge", hosts: vec!["*.k-bridges.ns.svc".into(), "k.ns.svc".into()] }
    }

    #[test]
    fn certificates_name_hosts_and_are_due_after_two_thirds() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let authority = new_authority("k", now).unwrap();
        let leaf = issue(&authority, "k", &subject(), now).unwrap();
        let seen = Seen::read(leaf.certificate.as_bytes()).unwrap();
        assert!(seen.names("a-b.k-bridges.ns.svc") && seen.names("k.ns.svc"));
        assert!(!seen.names("a.b.k-bridges.ns.svc") && !seen.names("other.ns.svc") && !seen.names("k-bridges.ns.svc"));
        assert!(!seen.is_due(now + Duration::days(119)) && seen.is_due(now + Duration::days(121)));
        assert!(!Seen::read(authority.certificate.as_bytes()).unwrap().is_due(now + Duration::days(2400)));
        assert!(!format!("{leaf:?}").contains("PRIVATE"));
        let other = new_authority("k", now).unwrap();
        assert_eq!(seen.signer, Some(key_identifier(&authority).unwrap()));
        assert_ne!(seen.signer, Some(key_identifier(&other).unwrap()));
    }

    /// Whether a machine whose clock shows this believes the certificate.
    fn is_believed(authority: &Pair, leaf: &Pair, clock: OffsetDateTime) -> bool {
        let der = |pair: &Pair| CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(der(authority)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let seconds = u64::try_from(clock.unix_timestamp()).unwrap();
        let clock = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let host = ServerName::try_from("k.ns.svc").unwrap();
        verifier.verify_server_cert(&der(leaf), &[], &host, &[], clock).is_ok()
    }

    #[test]
    fn clocks_of_machines_may_differ() {
        let issued = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let authority = new_authority("k", issued).unwrap();
        let leaf = issue(&authority, "k", &subject(), issued).unwrap();
        // The operator renews it at the latest so long after.
        let renewal = Duration::days(120);
        let (now, hours, days) = (Duration::ZERO, Duration::hours, Duration::days);
        for (what, after, wrong, expected) in [
            ("the same clock", now, now, true),
            ("some seconds behind", now, Duration::seconds(-5), true),
            ("the time zone's, in summer", now, hours(-2), true),
            ("almost a day behind", now, hours(-23), true),
            ("more than a day behind", now, hours(-25), false),
            ("the same one day behind, a day later", days(1), hours(-25), true),
            ("ahead", now, days(100), true),
            ("ahead at the time of the renewal", renewal, days(59), true),
            ("far ahead at the time of the renewal", renewal, days(61), false),
        ] {
            assert_eq!(is_believed(&authority, &leaf, issued + after + wrong), expected, "{what}");
        }
        let seen = |pair: &Pair| Seen::read(pair.certificate.as_bytes()).unwrap();
        assert!(seen(&leaf).is_due(issued + renewal));
        assert_eq!(seen(&authority).made(), issued.unix_timestamp());
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert!(
            Seen::read(b"").is_err()
                && Seen::read(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").is_err()
        );
        let now = OffsetDateTime::UNIX_EPOCH;
        let broken = Pair { certificate: String::new(), key: "no key".into() };
        let error = issue(&broken, "k", &subject(), now).unwrap_err().to_string();
        assert!(error.contains("authority's key"), "{error}");
    }
}
