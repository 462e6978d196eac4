//! Spans on their way to a collector: real gRPC over a real socket.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;

use axum::body::{Body, to_bytes};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ratssaal_process::telemetry::{OtlpConfig, Telemetry};
use tokio::{net::TcpListener, sync::mpsc};
use tracing_subscriber::layer::SubscriberExt;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_spans_reach_the_collector_before_the_process_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (seen, mut arrived) = mpsc::channel(4);
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = seen.clone();
        async move {
            let path = request.uri().path().to_owned();
            let body = to_bytes(Body::new(request.into_body()), 1 << 20).await.unwrap();
            seen.send((path, body)).await.unwrap();
            let response = Response::builder().header("content-type", "application/grpc").header("grpc-status", "0");
            Ok::<_, Infallible>(response.body(Body::empty()).unwrap())
        }
    });
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
    });

    let config = OtlpConfig { endpoint: Some(format!("http://{address}")) };
    let telemetry = Telemetry::start(&config, "ratssaal-test", "one-of-them").unwrap().unwrap();
    let subscriber = tracing_subscriber::registry().with(telemetry.layer());
    tracing::subscriber::with_default(subscriber, || {
        tracing::info_span!("join-of-a-test", room = "rat").in_scope(|| {});
    });
    tokio::task::spawn_blocking(|| telemetry.finish()).await.unwrap();

    let (path, body) = arrived.recv().await.unwrap();
    assert_eq!(path, "/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    let body = String::from_utf8_lossy(&body);
    assert!(["join-of-a-test", "ratssaal-test", "one-of-them"].iter().all(|part| body.contains(part)), "{body}");
}

#[tokio::test]
async fn nothing_is_sent_without_an_endpoint_and_an_unusable_one_is_refused() {
    assert!(Telemetry::start(&OtlpConfig::default(), "ratssaal", "one").unwrap().is_none());
    for endpoint in ["collector:4317", "https://collector:4317", "http://"] {
        let config = OtlpConfig { endpoint: Some(endpoint.into()) };
        let error = Telemetry::start(&config, "ratssaal", "one").unwrap_err().to_string();
        assert!(error.contains("otlp.endpoint") && error.contains("http://localhost:4317"), "{error}");
    }
}
