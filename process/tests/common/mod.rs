//! A real certificate authority, and clients that trust it.
#![allow(dead_code, missing_docs, unreachable_pub, reason = "a module of the tests, each uses a part")]

use std::{path::Path, sync::Arc};

use ratssaal_process::tls::Files;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::{ClientConfig, RootCertStore, crypto::CryptoProvider, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its own certificate, as PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A new certificate for `localhost` with its key, as PEM.
    pub fn issue(&self) -> (String, String) {
        self.issue_with(&[])
    }

    /// The same with these URI names.
    pub fn issue_with(&self, uris: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names.extend(names);
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    /// Writes a new certificate into a folder.
    pub fn issue_into(&self, folder: &Path) -> Files {
        self.issue_into_with(folder, &[])
    }

    /// The same with these URI names.
    pub fn issue_into_with(&self, folder: &Path, uris: &[&str]) -> Files {
        let files = Files { certificate: folder.join("cert.pem"), key: folder.join("key.pem") };
        let (certificate, key) = self.issue_with(uris);
        std::fs::write(&files.certificate, certificate).unwrap();
        std::fs::write(&files.key, key).unwrap();
        files
    }

    /// A client that trusts only this authority and offers these protocols.
    pub fn client(&self, alpn: &[&str]) -> ClientConfig {
        let mut config = self.client_with(rustls::crypto::ring::default_provider());
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// A client that trusts only this authority, with its own suites and groups.
    pub fn client_with(&self, provider: CryptoProvider) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth()
    }
}

pub async fn tls(address: std::net::SocketAddr, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

/// The certificate the server presented.
pub fn presented(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}
