//! `ratssaal certificate`: the cluster's own authority and certificates of it, for processes that speak gRPC with each other.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::ArgMatches;
use ratssaal_process::exit::Usage;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

/// What a certificate's holder may be; each is a URI name in the certificate.
pub(crate) const ROLES: [&str; 3] = ["bridge", "allocator", "operator"];
/// The authority's files.
const AUTHORITY: &str = "ca.pem";
const AUTHORITY_KEY: &str = "ca.key";
/// How long the authority is valid.
const AUTHORITY_DAYS: i64 = 3650;
/// Clocks of machines differ, some by their time zone: certificates begin so long ago.
const SKEW: Duration = Duration::days(1);

/// Makes a certificate, and the authority if the folder has none yet.
pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let many = |name: &str| matches.get_many::<String>(name).unwrap_or_default().cloned().collect::<Vec<_>>();
    let folder = matches.get_one::<PathBuf>("folder").cloned().unwrap_or_default();
    let (name, mut hosts) = (text("name"), many("host"));
    if name.is_empty() || name == "ca" || name.contains(['/', '\0']) {
        return Err(Usage(format!("{name:?} cannot be a certificate's name; use a word like rathaus-1")).into());
    }
    if hosts.is_empty() {
        hosts.push(name.clone());
    }
    let days = text("days").parse::<u16>().ok().filter(|days| *days > 0);
    let days = days.ok_or_else(|| Usage("--days must be a number from 1 to 65535".into()))?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let authority = authority(&folder)?;
    let key = KeyPair::generate()?;
    let certificate = params(&hosts, &many("role"), days)?.signed_by(&key, &authority)?;
    let path = |ending: &str| folder.join(format!("{name}.{ending}"));
    write(&path("key"), &key.serialize_pem(), true, true)?;
    write(&path("pem"), &certificate.pem(), false, true)?;
    let (ca, pem, key) = (folder.join(AUTHORITY), path("pem"), path("key"));
    let text = format!(
        "[cluster]\nca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"\n",
        ca.display(),
        pem.display(),
        key.display()
    );
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}

/// What is written into a certificate.
fn params(hosts: &[String], roles: &[String], days: u16) -> anyhow::Result<CertificateParams> {
    let wrong = |host: &String| Usage(format!("--host {host:?} is neither a host name nor an IP address"));
    let mut params = CertificateParams::new(hosts.to_vec()).map_err(|_| wrong(&hosts[0]))?;
    for role in roles {
        params.subject_alt_names.push(SanType::URI(format!("urn:ratssaal:{role}").try_into()?));
    }
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, hosts[0].clone());
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    valid_for(&mut params, days.into());
    Ok(params)
}

fn valid_for(params: &mut CertificateParams, days: i64) {
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - SKEW, now + Duration::days(days));
}

/// The folder's authority, made if it is not there.
fn authority(folder: &Path) -> anyhow::Result<Issuer<'static, KeyPair>> {
    let (certificate, key) = (folder.join(AUTHORITY), folder.join(AUTHORITY_KEY));
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Ratssaal cluster");
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    match (certificate.exists(), fs::read_to_string(&key)) {
        (true, Ok(pem)) => {
            let pair = KeyPair::from_pem(&pem);
            let pair = pair.with_context(|| format!("{} holds no private key in PEM", key.display()))?;
            Ok(Issuer::new(params, pair))
        }
        (false, Err(error)) if error.kind() == io::ErrorKind::NotFound => {
            let pair = KeyPair::generate()?;
            valid_for(&mut params, AUTHORITY_DAYS);
            write(&key, &pair.serialize_pem(), true, false)?;
            write(&certificate, &params.self_signed(&pair)?.pem(), false, false)?;
            Ok(Issuer::new(params, pair))
        }
        (true, Err(error)) => Err(error).with_context(|| {
            format!(
                "{} is there, but its key {} cannot be read; certificates are made where it is",
                certificate.display(),
                key.display()
            )
        }),
        (false, _) => Err(Usage(format!(
            "{} is there without {}; take another folder, or remove the key to make a new authority",
            key.display(),
            certificate.display()
        ))
        .into()),
    }
}

/// Writes a file; a private one for its owner only. An authority is never written over.
fn write(path: &Path, text: &str, private: bool, replace: bool) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    if replace && path.exists() {
        fs::remove_file(path).with_context(failed)?;
    }
    let mode = if private { 0o600 } else { 0o644 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).with_context(failed)?;
    file.write_all(text.as_bytes()).with_context(failed)
}
