//! gRPC as no client of ours speaks it, to a real allocator and a real server, and an order that only an operator gives.
#![allow(clippy::unwrap_used, reason = "a test")]

mod common;
#[path = "../../allocator/src/redis_server.rs"]
#[expect(dead_code, clippy::expect_used, reason = "made for the allocator's tests; a part is used here")]
mod redis_server;

use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream as Blocking};
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use common::{Server, eventually, ratssaal, run};
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use ratssaal_proto::allocator::v1::ListRoomsRequest;
use ratssaal_proto::allocator::v1::allocator_client::AllocatorClient;
use ratssaal_proto::bridge::v1::bridge_client::BridgeClient;
use ratssaal_proto::bridge::v1::{CallRequest, DrainRequest};
use redis_server::{Server as Redis, free_port};
use tokio::net::TcpStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

/// Messages as they are, however wrong.
#[derive(Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// Connects to one address and counts how often.
#[derive(Clone)]
struct Counting(SocketAddr, Arc<AtomicUsize>);

impl Service<http::Uri> for Counting {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        self.1.fetch_add(1, Ordering::Relaxed);
        let address = self.0;
        Box::pin(async move { Ok(TokioIo::new(TcpStream::connect(address).await?)) })
    }
}

/// A channel, and how often it has connected.
fn channel(address: &str) -> (Channel, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let connector = Counting(address.parse().unwrap(), Arc::clone(&connections));
    (Endpoint::from_static("http://x").connect_with_connector_lazy(connector), connections)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Sends a message to a method that answers once.
async fn send(channel: &Channel, path: &'static str, message: &[u8]) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let request = Request::new(Bytes::copy_from_slice(message));
    let call = client.unary(request, PathAndQuery::from_static(path), Raw);
    tokio::time::timeout(Duration::from_secs(20), call).await.unwrap().map(tonic::Response::into_inner)
}

/// No messages: a length without its bytes, a group that never ends, a number of eleven bytes, text that is no UTF-8, noise.
fn malformed() -> Vec<Vec<u8>> {
    let noise = (0..997u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    vec![vec![0x0A, 0xFF], vec![0x0B; 4000], vec![0xFF; 11], vec![0x0A, 2, 0xC3, 0x28], noise]
}

/// Each of these methods refuses each of them, and says so.
async fn refuses(channel: &Channel, paths: &[&'static str]) {
    for path in paths {
        for message in malformed() {
            let refused = send(channel, path, &message).await.unwrap_err();
            let begin = &message[..message.len().min(12)];
            assert!(matches!(refused.code(), Code::Internal | Code::InvalidArgument), "{path} {begin:x?}: {refused}");
            assert!(!refused.message().is_empty(), "{path} {begin:x?} is refused without a word");
        }
        let endless = send(channel, path, &vec![0; 64 << 20]).await.unwrap_err();
        assert!(matches!(endless.code(), Code::OutOfRange | Code::ResourceExhausted), "{path}, 64 MiB: {endless}");
    }
    let unknown = send(channel, "/ratssaal.nothing.v1.Nothing/Do", &[]).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
}

/// A process that is killed when dropped.
struct Process(std::process::Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_allocator_refuses_what_is_no_message_and_goes_on() {
    let redis = Redis::new();
    let listen = format!("127.0.0.1:{}", free_port());
    let arguments = ["allocator", "--redis", &redis.url(), "--listen", &listen, "--bind", "127.0.0.1:0"];
    let mut command = ratssaal(&arguments);
    let _allocator = Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    eventually("it listens", || Blocking::connect(&listen).is_ok());
    let runtime = runtime();
    let _context = runtime.enter();
    let (channel, connections) = channel(&listen);
    runtime.block_on(async {
        let mut client = AllocatorClient::new(channel.clone());
        client.list_rooms(ListRoomsRequest::default()).await.unwrap();
        let methods = ["Place", "Release", "OpenRoom", "EndRoom", "ListRooms", "Append", "Snapshot"];
        let paths = methods.map(|method| &*format!("/ratssaal.allocator.v1.Allocator/{method}").leak());
        refuses(&channel, &paths).await;
        client.list_rooms(ListRoomsRequest::default()).await.unwrap();
    });
    assert_eq!(connections.load(Ordering::Relaxed), 1, "the connection goes on");
}

/// A server of the cluster, and where others reach it.
fn serve(name: &str, redis: &Redis) -> (Server, String) {
    let listen = format!("127.0.0.1:{}", free_port());
    let server = Server::dev(&["--bridge", name, "--redis", &redis.url(), "--peer-listen", &listen]);
    (server, listen)
}

fn count(server: &Server, metric: &str) -> u64 {
    let metrics = server.get("/metrics");
    metrics.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn a_server_refuses_what_is_no_message_and_goes_on() {
    let redis = Redis::new();
    let (server, listen) = serve("eins", &redis);
    let runtime = runtime();
    let _context = runtime.enter();
    let (channel, connections) = channel(&listen);
    runtime.block_on(async {
        let paths = ["Call", "Prepare", "TakeOver", "Drain"]
            .map(|method| &*format!("/ratssaal.bridge.v1.Bridge/{method}").leak());
        refuses(&channel, &paths).await;
        // Understood, but it does not say who calls whom.
        let mut client = BridgeClient::new(channel.clone());
        let refused = client.call(CallRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    });
    assert_eq!(connections.load(Ordering::Relaxed), 1, "the connection goes on");
    assert!(server.get("/readyz").starts_with("HTTP/1.1 200 "));
    assert_eq!(count(&server, "ratssaal_allocator_bridges{state=\"ready\"}"), 1, "nobody has drained it");
}

/// Lets somebody into a room; in it as long as this connection.
fn join(server: &Server, room: &str) -> Blocking {
    let (_, token, err) = run(&["token", "--dev", "--room", room, "--identity", "anna"]);
    assert!(err.is_empty(), "{err}");
    let mut stream = Blocking::connect(server.address()).unwrap();
    write!(
        stream,
        "GET /rtc?access_token={} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        token.trim()
    )
    .unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
    stream
}

#[test]
fn an_operator_drains_a_server_and_takes_that_back() {
    let redis = Redis::new();
    let ((eins, listen), (zwei, _)) = (serve("eins", &redis), serve("zwei", &redis));
    let states = |ready, draining| {
        let is = |state: &str| count(&zwei, &format!("ratssaal_allocator_bridges{{state=\"{state}\"}}"));
        eventually(&format!("{ready} ready, {draining} draining or drained"), || {
            is("ready") == ready && is("draining") + is("drained") == draining
        });
    };
    states(2, 0);
    let runtime = runtime();
    let _context = runtime.enter();
    let (channel, _) = channel(&listen);
    let order = |drain| {
        let mut client = BridgeClient::new(channel.clone());
        runtime.block_on(client.drain(DrainRequest { drain, within_ms: 0 })).unwrap();
    };
    order(true);
    states(1, 1);
    // Whoever comes in through it gets a seat on the other one, however many come.
    let people: Vec<_> = ["rat", "haus", "amt"].iter().map(|room| join(&eins, room)).collect();
    eventually("they are on the other one", || count(&zwei, "ratssaal_rooms ") == 3);
    assert_eq!(count(&eins, "ratssaal_rooms "), 0);
    drop(people);
    order(false);
    states(2, 0);
    // The less loaded one takes people again: of two rooms each gets one.
    let _people: Vec<_> = ["kreis", "kirche"].iter().map(|room| join(&zwei, room)).collect();
    eventually("it has a room again", || count(&eins, "ratssaal_rooms ") == 1);
}
