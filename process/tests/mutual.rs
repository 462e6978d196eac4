//! Mutual TLS whose authority is replaced while everything runs: first the new one beside the old one, then other
//! certificates, then the new one alone.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::path::PathBuf;

use common::Authority;
use ratssaal_process::metrics::Metrics;
use ratssaal_process::tls::{Checked, Mutual, TlsError};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A process with its three files.
struct Party {
    folder: tempfile::TempDir,
    metrics: Metrics,
    mutual: Mutual,
}

impl Party {
    fn of(authority: &Authority) -> Self {
        let (folder, metrics) = (tempfile::tempdir().unwrap(), Metrics::new());
        let files = authority.issue_into(folder.path());
        let ca = folder.path().join("ca.pem");
        fs::write(&ca, authority.pem()).unwrap();
        let mutual = Mutual::load("cluster_", files, ca, &metrics).unwrap();
        Self { folder, metrics, mutual }
    }

    fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn trusts(&self, pem: &str) -> Checked {
        fs::write(self.ca(), pem).unwrap();
        self.mutual.check()
    }

    /// Gets a certificate of this authority and looks at its files as the watch does.
    fn certified_by(&self, authority: &Authority) {
        authority.issue_into(self.folder.path());
        self.mutual.check();
    }
}

/// Whether the client gets in at the server and talks to it; with what it needs to resume the session later.
async fn meet(client: &Party, server: &Party) -> bool {
    let (near, far) = duplex(1 << 16);
    let acceptor = TlsAcceptor::from(server.mutual.server());
    let serving = async move {
        let mut stream = acceptor.accept(far).await.ok()?;
        stream.write_all(b"x").await.ok()?;
        stream.read_u8().await.ok()
    };
    let connector = TlsConnector::from(client.mutual.client());
    let asking = async move {
        let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), near).await.ok()?;
        // What comes before this byte are the tickets.
        stream.read_u8().await.ok()?;
        stream.write_all(b"y").await.ok()
    };
    let (served, asked) = tokio::join!(serving, asking);
    served.is_some() && asked.is_some()
}

#[tokio::test]
async fn the_authority_is_replaced_in_three_steps() {
    let (old, new) = (Authority::new(), Authority::new());
    let (a, b, late) = (Party::of(&old), Party::of(&old), Party::of(&old));
    let both = format!("{}{}", old.pem(), new.pem());
    assert!(meet(&a, &b).await && meet(&b, &a).await && meet(&late, &b).await);

    // While only one of them has heard of the new authority, nothing may be of it yet, and all goes on.
    assert_eq!(a.trusts(&both), Checked::Replaced);
    assert!(meet(&a, &b).await && meet(&b, &a).await);
    for party in [&b, &late] {
        assert_eq!(party.trusts(&both), Checked::Replaced);
    }
    assert!(meet(&a, &b).await && meet(&late, &b).await);

    // Certificates of both are there at once.
    a.certified_by(&new);
    assert!(meet(&a, &b).await && meet(&b, &a).await, "one has a new certificate");
    b.certified_by(&new);
    assert!(meet(&a, &b).await && meet(&b, &a).await, "both have");
    assert!(meet(&late, &b).await, "one of the old authority still gets in");

    // Without the old authority its certificates are worth nothing, also where a session could be resumed.
    for party in [&a, &b] {
        assert_eq!(party.trusts(&new.pem()), Checked::Replaced);
    }
    assert!(meet(&a, &b).await && meet(&b, &a).await);
    assert!(!meet(&late, &b).await, "who has an old certificate is let in");
    assert!(!meet(&a, &late).await, "who has an old certificate is believed");
    let text = b.metrics.encode().unwrap();
    assert!(text.contains("ratssaal_cluster_ca_reloads_total 2"), "{text}");
    assert!(text.contains("ratssaal_cluster_tls_reloads_total 1"), "{text}");
}

#[tokio::test]
async fn broken_authorities_are_reported_once_and_the_old_ones_stay() {
    let (old, new) = (Authority::new(), Authority::new());
    let (a, b) = (Party::of(&old), Party::of(&old));
    let half = &new.pem()[..new.pem().len() / 2];
    for broken in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", half] {
        assert_eq!(
            b.trusts(&format!("{}{broken}", if broken == half { old.pem() } else { String::new() })),
            Checked::Kept
        );
        assert_eq!(b.mutual.check(), Checked::Unchanged, "reported once: {broken:?}");
        assert!(meet(&a, &b).await && meet(&b, &a).await, "{broken:?}");
    }
    fs::remove_file(b.ca()).unwrap();
    assert_eq!(b.mutual.check(), Checked::Kept);
    assert_eq!(b.mutual.check(), Checked::Unchanged);
    let text = b.metrics.encode().unwrap();
    assert!(text.contains("ratssaal_cluster_ca_reload_failures_total 5"), "{text}");
    assert_eq!(b.trusts(&old.pem()), Checked::Replaced, "it is whole again");
    assert!(meet(&a, &b).await);
}

#[test]
fn at_start_an_unusable_file_is_an_error_that_names_it() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let (files, ca) = (authority.issue_into(folder.path()), folder.path().join("ca.pem"));
    let load = || Mutual::load("", files.clone(), ca.clone(), &Metrics::new()).unwrap_err();
    assert!(matches!(load(), TlsError::Read { .. }), "{}", load());
    fs::write(&ca, "").unwrap();
    assert!(load().to_string().contains("ca.pem holds no usable authority's certificate"), "{}", load());
}
