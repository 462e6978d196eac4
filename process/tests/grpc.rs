//! Channel and listener with each other: mutual TLS, strangers, servers that die or hang.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::Authority;
use ratssaal_process::grpc::{Caller, Credentials, GrpcError, Identity, Listener, Role, channel, peer, require};
use ratssaal_process::metrics::Metrics;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::{Channel, Server};
use tower::ServiceExt as _;

/// How soon the next address is used when a server has died or hangs.
const FAILOVER: Duration = Duration::from_secs(1);
const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

/// An identity from an authority; certificates are for `localhost`.
fn identity(authority: &Authority, folder: &tempfile::TempDir) -> Identity {
    identity_with(authority, folder, &[])
}

/// The same with these URI names in its certificate.
fn identity_with(authority: &Authority, folder: &tempfile::TempDir, uris: &[&str]) -> Identity {
    let files = authority.issue_into_with(folder.path(), uris);
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    Identity { ca: Some(ca), certificate: Some(files.certificate), key: Some(files.key) }
}

fn load(identity: &Identity) -> Credentials {
    identity.load(&Metrics::new()).unwrap()
}

/// A server that answers every call with its name as a header.
async fn serve(name: &'static str, identity: &Identity) -> (SocketAddr, JoinHandle<()>) {
    let listener = Listener::bind(LOCAL.into(), &load(identity)).await.unwrap();
    let address = listener.address();
    let answer =
        move || async move { ([("name", name), ("grpc-status", "0"), ("content-type", "application/grpc")], "") };
    let routes = tonic::service::Routes::from(axum::Router::new().fallback(answer));
    let incoming = listener.incoming(CancellationToken::new());
    (
        address,
        tokio::spawn(async move { Server::builder().add_routes(routes).serve_with_incoming(incoming).await.unwrap() }),
    )
}

/// Who answers a call.
async fn who(channel: &Channel) -> Result<String, tonic::transport::Error> {
    let request = http::Request::post("http://x/service/Method").body(Body::empty()).unwrap();
    let answer = channel.clone().oneshot(request).await?;
    Ok(answer.headers()["name"].to_str().unwrap().to_owned())
}

async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), what).await.unwrap()
}

#[tokio::test]
async fn both_sides_show_their_certificates() {
    let (authority, folders) = (Authority::new(), [(); 3].map(|()| tempfile::tempdir().unwrap()));
    let (address, _server) = serve("a", &identity(&authority, &folders[0])).await;
    let url = format!("https://localhost:{}", address.port());
    let friend = channel(&url, &load(&identity(&authority, &folders[1]))).unwrap();
    assert_eq!(patiently(who(&friend)).await.unwrap(), "a");
    // It trusts the server but has no certificate of that authority.
    let other = identity(&Authority::new(), &folders[2]);
    let ca = identity(&authority, &folders[1]).ca;
    let stranger = channel(&url, &load(&Identity { ca, ..other.clone() })).unwrap();
    assert!(patiently(who(&stranger)).await.is_err(), "the server lets no stranger in");
    let misled = channel(&url, &load(&other)).unwrap();
    assert!(patiently(who(&misled)).await.is_err(), "and the client talks to none");
}

#[tokio::test]
async fn plain_only_on_loopback() {
    let none = Identity::default();
    let anywhere = Listener::bind(([0, 0, 0, 0], 0).into(), &load(&none)).await;
    assert!(matches!(anywhere, Err(GrpcError::Plain(_))));
    assert!(matches!(channel("https://localhost:1", &load(&none)), Err(GrpcError::Plain(_))));
    let half = Identity { ca: Some("ca.pem".into()), ..none };
    assert!(matches!(half.load(&Metrics::new()), Err(GrpcError::Incomplete)));
}

/// A server that answers with the roles it sees in its caller.
async fn roles(identity: &Identity) -> String {
    let listener = Listener::bind(LOCAL.into(), &load(identity)).await.unwrap();
    let address = listener.address();
    let answer = |request: http::Request<axum::body::Body>| async move {
        let caller = request.extensions().get::<Caller>().unwrap().clone();
        let all = [Role::Bridge, Role::Allocator, Role::Operator];
        let names: Vec<&str> = all.into_iter().filter(|role| caller.is(*role)).map(Role::uri).collect();
        ([("name", names.join(" ")), ("grpc-status", "0".into()), ("content-type", "application/grpc".into())], "")
    };
    let routes = tonic::service::Routes::from(axum::Router::new().fallback(answer));
    let incoming = listener.incoming(CancellationToken::new());
    tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(incoming));
    let scheme = if identity.ca.is_some() { "https" } else { "http" };
    format!("{scheme}://localhost:{}", address.port())
}

#[tokio::test]
async fn a_certificate_says_what_its_bearer_may() {
    let (authority, folders) = (Authority::new(), [(); 4].map(|()| tempfile::tempdir().unwrap()));
    let url = roles(&identity(&authority, &folders[0])).await;
    let cases: [&[&str]; 3] =
        [&[], &["urn:ratssaal:bridge"], &["https://x/", "urn:ratssaal:operator", "urn:ratssaal:bridges"]];
    for (uris, folder) in cases.into_iter().zip(&folders[1..]) {
        let channel = peer(&url, &load(&identity_with(&authority, folder, uris))).unwrap();
        let seen = patiently(who(&channel)).await.unwrap();
        let known = uris.iter().filter(|uri| matches!(**uri, "urn:ratssaal:bridge" | "urn:ratssaal:operator"));
        assert_eq!(seen, known.copied().collect::<Vec<_>>().join(" "), "{uris:?}");
    }
    let plain = roles(&Identity::default()).await;
    let channel = peer(&plain, &Credentials::default()).unwrap();
    let seen = patiently(who(&channel)).await.unwrap();
    assert_eq!(seen, "urn:ratssaal:bridge urn:ratssaal:allocator urn:ratssaal:operator", "on loopback, everything");
}

#[test]
fn a_request_without_a_caller_has_no_role() {
    let mut request = tonic::Extensions::new();
    assert!(require(&request, &[Role::Bridge]).is_err());
    request.insert(Caller::Certified(vec![Role::Bridge]));
    assert!(require(&request, &[Role::Operator, Role::Bridge]).is_ok());
    let refusal = require(&request, &[Role::Operator]).unwrap_err();
    assert_eq!(refusal.code(), tonic::Code::PermissionDenied);
    assert!(refusal.message().contains("urn:ratssaal:operator"), "{refusal}");
}

/// The same with a runtime of its own, with which all its connections end.
async fn serve_apart(name: &'static str) -> (SocketAddr, Runtime) {
    let runtime = Runtime::new().unwrap();
    let (told, address) = tokio::sync::oneshot::channel();
    runtime.spawn(async move {
        let (address, server) = serve(name, &Identity::default()).await;
        told.send(address).unwrap();
        server.await.unwrap();
    });
    (address.await.unwrap(), runtime)
}

#[tokio::test]
async fn the_next_address_takes_over() {
    let ((a, first), (b, second)) = (serve_apart("a").await, serve_apart("b").await);
    let channel = channel(&format!("http://{a},http://{b}"), &load(&Identity::default())).unwrap();
    let (other, gone, left) = match patiently(who(&channel)).await.unwrap().as_str() {
        "a" => ("b", first, second),
        _ => ("a", second, first),
    };
    let began = Instant::now();
    gone.shutdown_background();
    let took_over = patiently(async {
        loop {
            // The first call may be the one that finds the connection broken.
            if let Ok(name) = who(&channel).await
                && name == other
            {
                return name;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert_eq!(took_over.await, other);
    let took = began.elapsed();
    println!("{took:?}");
    assert!(took < FAILOVER, "{took:?}");
    left.shutdown_background();
}

/// A server that accepts and then says nothing is left for the next, whichever of them is asked first.
#[tokio::test]
async fn a_hanging_address_is_left() {
    let none = Identity::default();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_address = silent.local_addr().unwrap();
    tokio::spawn(async move {
        let mut held = vec![];
        while let Ok((stream, _)) = silent.accept().await {
            held.push(stream);
        }
    });
    let (alive, _server) = serve("alive", &none).await;
    for addresses in [[silent_address, alive], [alive, silent_address]] {
        let channel = channel(&addresses.map(|address| format!("http://{address}")).join(","), &load(&none)).unwrap();
        let began = Instant::now();
        let answered = patiently(async {
            loop {
                if let Ok(name) = who(&channel).await {
                    return name;
                }
            }
        });
        assert_eq!(answered.await, "alive");
        let took = began.elapsed();
        println!("{addresses:?}: {took:?}");
        assert!(took < FAILOVER, "{took:?}");
    }
}
