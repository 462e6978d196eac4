//! Health and reflection as a load balancer and an operator's tools ask for them, over TCP.
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../src/redis_server.rs"]
#[expect(dead_code, clippy::expect_used, reason = "made for the allocator's own tests; a part is used here")]
mod redis_server;

use std::time::Duration;

use prometheus_client::registry::Registry;
use prost::Message as _;
use ratssaal_allocator::store::{RedisSettings, RedisStore};
use ratssaal_allocator::{Config, Service, serve};
use redis_server::{PATIENCE, Server as Redis};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

const ALLOCATOR: &str = "ratssaal.allocator.v1.Allocator";

/// An allocator on this Redis, and a channel to it.
async fn allocator(redis: &Redis) -> Channel {
    let config = Config { sweep_interval: Duration::from_millis(50), ..Config::default() };
    let settings = RedisSettings { timeout: Duration::from_millis(500), ..RedisSettings::new(redis.url().into()) };
    let store = RedisStore::connect(settings, &config).unwrap();
    let service = Service::build(config, store, &mut Registry::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(service.clone().run(CancellationToken::new()));
    tokio::spawn(async move {
        let incoming = TcpListenerStream::new(listener);
        serve(&service, incoming, CancellationToken::new()).await.unwrap();
    });
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn patiently<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_the_store() {
    let redis = Redis::new();
    let mut health = HealthClient::new(allocator(&redis).await);
    let named = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let mut told = health.watch(named(ALLOCATOR)).await.unwrap().into_inner();
    let mut becomes = async |wanted: ServingStatus| {
        let until = async { while told.message().await.unwrap().unwrap().status() != wanted {} };
        patiently(until).await;
    };
    let is = |answer: tonic::Response<HealthCheckResponse>| answer.into_inner().status();
    for _ in 0..2 {
        becomes(ServingStatus::Serving).await;
        for service in ["", ALLOCATOR] {
            assert_eq!(is(health.check(named(service)).await.unwrap()), ServingStatus::Serving, "{service:?}");
        }
        redis.signal("-STOP");
        becomes(ServingStatus::NotServing).await;
        for service in ["", ALLOCATOR] {
            assert_eq!(is(health.check(named(service)).await.unwrap()), ServingStatus::NotServing, "{service:?}");
        }
        redis.signal("-CONT");
    }
    let unknown = health.check(named("ratssaal.nothing")).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
}

/// The answer to one question.
async fn ask(client: &mut ServerReflectionClient<Channel>, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(question) };
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer: ServerReflectionResponse = patiently(answers.message()).await.unwrap().unwrap();
    answer.message_response.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_tells_every_service_and_its_messages() {
    let redis = Redis::new();
    let mut client = ServerReflectionClient::new(allocator(&redis).await);
    let listed = ask(&mut client, MessageRequest::ListServices(String::new())).await;
    let MessageResponse::ListServicesResponse(listed) = listed else { panic!("{listed:?}") };
    let services: Vec<&str> = listed.service.iter().map(|service| service.name.as_str()).collect();
    for service in [ALLOCATOR, "grpc.health.v1.Health"] {
        assert!(services.contains(&service), "{service} is missing in {services:?}");
    }
    let found = ask(&mut client, MessageRequest::FileContainingSymbol(ALLOCATOR.to_owned())).await;
    let MessageResponse::FileDescriptorResponse(found) = found else { panic!("{found:?}") };
    let files: Vec<_> = found.file_descriptor_proto.iter().map(|file| File::decode(file.as_slice()).unwrap()).collect();
    let methods = files.iter().flat_map(|file| &file.service).find(|service| service.name == "Allocator");
    let methods: Vec<&str> = methods.unwrap().method.iter().map(|method| method.name.as_str()).collect();
    for method in ["Attach", "Place", "Release", "OpenRoom", "Append", "Tail", "Cluster", "Drain"] {
        assert!(methods.contains(&method), "{method} is missing in {methods:?}");
    }
}

/// What is read here of `google.protobuf.FileDescriptorProto`.
#[derive(Clone, PartialEq, prost::Message)]
struct File {
    #[prost(message, repeated, tag = "6")]
    service: Vec<ServiceDescriptor>,
}

/// Of `ServiceDescriptorProto`.
#[derive(Clone, PartialEq, prost::Message)]
struct ServiceDescriptor {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    method: Vec<Method>,
}

/// Of `MethodDescriptorProto`.
#[derive(Clone, PartialEq, prost::Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
}
