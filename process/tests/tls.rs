//! HTTPS with real certificates: protocols, suites, and files that change while the server runs.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::{fs, net::SocketAddr, time::Duration};

use axum::{Router, extract::Extension, routing::get};
use common::{Authority, presented, tls};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ratssaal_process::{
    http::{HttpConfig, Peer, Server},
    metrics::Metrics,
    tls::{Certificate, Checked, TlsError},
};
use rustls::{CipherSuite, NamedGroup, ProtocolVersion};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

struct Https {
    authority: Authority,
    folder: tempfile::TempDir,
    address: SocketAddr,
    metrics: Metrics,
}

async fn start() -> Https {
    let (authority, folder, metrics) = (Authority::new(), tempfile::tempdir().unwrap(), Metrics::new());
    let files = authority.issue_into(folder.path());
    let config = HttpConfig {
        bind: SocketAddr::from(([127, 0, 0, 1], 0)),
        certificate: Some(files.certificate),
        key: Some(files.key),
        ..HttpConfig::default()
    };
    let server = Server::bind(&config, &metrics).await.unwrap();
    let address = server.address();
    let router = Router::new()
        .route("/", get(|Extension(peer): Extension<Peer>| async move { format!("secure {}", peer.secure) }));
    tokio::spawn(server.serve(router, CancellationToken::new()));
    Https { authority, folder, address, metrics }
}

#[tokio::test]
async fn http1_over_tls() {
    let server = start().await;
    let mut stream = tls(server.address, server.authority.client(&["http/1.1"])).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("secure true"), "{answer}");
}

#[tokio::test]
async fn http2_over_tls() {
    let server = start().await;
    let stream = tls(server.address, server.authority.client(&["h2", "http/1.1"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let io = TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://localhost/").body(axum::body::Body::empty()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let body = axum::body::to_bytes(axum::body::Body::new(response.into_body()), 100).await.unwrap();
    assert_eq!(body, "secure true");
}

#[tokio::test]
async fn only_suites_and_groups_of_the_guideline() {
    let server = start().await;
    let suites = [CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384];
    let versions = [ProtocolVersion::TLSv1_3, ProtocolVersion::TLSv1_2];
    for (version, suite) in versions.into_iter().zip(suites) {
        let mut config = server.authority.client(&[]);
        if version == ProtocolVersion::TLSv1_2 {
            config = offering(&server, |provider| {
                provider.cipher_suites.retain(|suite| suite.version().version == ProtocolVersion::TLSv1_2);
            });
        }
        let stream = tls(server.address, config).await.unwrap();
        let connection = stream.get_ref().1;
        assert_eq!(connection.protocol_version(), Some(version));
        assert_eq!(connection.negotiated_cipher_suite().unwrap().suite(), suite);
        assert_eq!(connection.negotiated_key_exchange_group().unwrap().name(), NamedGroup::secp256r1);
    }
    let chacha = offering(&server, |provider| {
        provider.cipher_suites.retain(|suite| format!("{suite:?}").contains("CHACHA20"));
    });
    assert!(tls(server.address, chacha).await.is_err());
    let x25519 = offering(&server, |provider| provider.kx_groups.retain(|group| group.name() == NamedGroup::X25519));
    assert!(tls(server.address, x25519).await.is_err());
}

fn offering(server: &Https, change: impl FnOnce(&mut rustls::crypto::CryptoProvider)) -> rustls::ClientConfig {
    let mut provider = rustls::crypto::ring::default_provider();
    change(&mut provider);
    server.authority.client_with(provider)
}

#[tokio::test(start_paused = true)]
async fn a_client_without_handshake_or_without_http2_preface_is_cut_off() {
    let server = start().await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut rest = Vec::new();
    let _ = silent.read_to_end(&mut rest).await;
    let mut half = tls(server.address, server.authority.client(&["h2"])).await.unwrap();
    half.write_all(b"PRI * HTTP/2").await.unwrap();
    let _ = half.read_to_end(&mut rest).await;
    let text = server.metrics.encode().unwrap();
    assert!(text.contains("ratssaal_http_connection_failures_total 2"), "{text}");
    assert!(text.contains("ratssaal_http_connections_open 0"), "{text}");
}

#[tokio::test]
async fn a_changed_certificate_is_presented_to_new_connections_while_old_ones_go_on() {
    let server = start().await;
    let mut old = tls(server.address, server.authority.client(&["http/1.1"])).await.unwrap();
    server.authority.issue_into(server.folder.path());
    let expected = fs::read(server.folder.path().join("cert.pem")).unwrap();
    let expected = pem_der(&expected);
    let arrives = async {
        while presented(&tls(server.address, server.authority.client(&[])).await.unwrap()) != expected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), arrives).await.expect("the watch takes the new files over");
    assert!(server.metrics.encode().unwrap().contains("ratssaal_tls_reloads_total 1"));
    old.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = old.read_to_end(&mut answer).await;
    assert!(answer.ends_with(b"secure true"));
}

#[test]
fn broken_files_keep_the_old_certificate_and_are_reported_once() {
    let (authority, folder, metrics) = (Authority::new(), tempfile::tempdir().unwrap(), Metrics::new());
    let files = authority.issue_into(folder.path());
    let certificate = Certificate::load(files.clone(), &metrics).unwrap();
    assert_eq!(certificate.check(), Checked::Unchanged);

    // Half of a new pair: the key does not fit yet.
    let (next_certificate, next_key) = authority.issue();
    fs::write(&files.certificate, &next_certificate).unwrap();
    assert_eq!(certificate.check(), Checked::Kept);
    assert_eq!(certificate.check(), Checked::Unchanged, "reported once");
    fs::write(&files.key, next_key).unwrap();
    assert_eq!(certificate.check(), Checked::Replaced);

    fs::write(&files.certificate, "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n").unwrap();
    assert_eq!(certificate.check(), Checked::Kept);
    fs::remove_file(&files.certificate).unwrap();
    assert_eq!(certificate.check(), Checked::Kept);
    assert_eq!(certificate.check(), Checked::Unchanged);
    fs::write(&files.certificate, next_certificate).unwrap();
    assert_eq!(certificate.check(), Checked::Replaced);

    let text = metrics.encode().unwrap();
    assert!(
        text.contains("ratssaal_tls_reloads_total 2") && text.contains("ratssaal_tls_reload_failures_total 3"),
        "{text}"
    );
}

#[test]
fn at_start_unusable_files_are_an_error_that_names_the_file() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let files = authority.issue_into(folder.path());
    let load = || Certificate::load(files.clone(), &Metrics::new()).unwrap_err();

    fs::write(&files.key, "not a key").unwrap();
    assert!(load().to_string().contains("key.pem holds no usable private key"), "{}", load());
    fs::write(&files.key, authority.issue().1).unwrap();
    assert!(matches!(load(), TlsError::Pair { .. }), "{}", load());
    fs::write(&files.certificate, "").unwrap();
    assert!(load().to_string().contains("cert.pem holds no usable certificate"), "{}", load());
    fs::remove_file(&files.certificate).unwrap();
    assert!(matches!(load(), TlsError::Read { .. }), "{}", load());
}

fn pem_der(pem: &[u8]) -> Vec<u8> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    CertificateDer::from_pem_slice(pem).unwrap().to_vec()
}
