//! The listener over real sockets: requests, WebSockets, limits, silence, shutdown, a port in use.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::{Extension, WebSocketUpgrade, ws::Message},
    routing::{any, get, post},
};
use futures_util::{SinkExt, StreamExt};
use ratssaal_process::{
    health::Health,
    http::{HttpConfig, Peer, Server, ops_router},
    metrics::Metrics,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

struct Running {
    address: SocketAddr,
    metrics: Metrics,
    health: Health,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

fn config() -> HttpConfig {
    HttpConfig { bind: SocketAddr::from(([127, 0, 0, 1], 0)), ..HttpConfig::default() }
}

async fn start(config: HttpConfig, router: Router) -> Running {
    let (metrics, health, shutdown) = (Metrics::new(), Health::new(), CancellationToken::new());
    let server = Server::bind(&config, &metrics).await.unwrap().with_grace(Duration::from_secs(60));
    let address = server.address();
    let router = router.merge(ops_router(health.clone(), metrics.clone()));
    let task = tokio::spawn(server.serve(router, shutdown.clone()));
    Running { address, metrics, health, shutdown, task }
}

fn echo() -> Router {
    Router::new().route(
        "/echo",
        any(|upgrade: WebSocketUpgrade| async {
            upgrade.on_upgrade(|mut socket| async move {
                while let Some(Ok(message)) = socket.recv().await {
                    if matches!(message, Message::Text(_)) && socket.send(message).await.is_err() {
                        return;
                    }
                }
            })
        }),
    )
}

impl Running {
    async fn get(&self, path: &str) -> (u16, String) {
        let response = reqwest::get(format!("http://{}{path}", self.address)).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    fn metric(&self, line: &str) -> bool {
        self.metrics.encode().unwrap().lines().any(|found| found == line)
    }
}

#[tokio::test]
async fn probes_and_metrics() {
    let server = start(config(), Router::new()).await;
    let check = server.health.readiness("allocator");
    assert_eq!(server.get("/livez").await, (200, String::new()));
    assert_eq!(server.get("/readyz").await, (503, "allocator: starting\n".into()));
    check.ok();
    assert_eq!(server.get("/readyz").await, (200, "allocator: ok\n".into()));
    let response = reqwest::get(format!("http://{}/metrics", server.address)).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = response.text().await.unwrap();
    assert!(text.contains("# TYPE ratssaal_http_connections counter"), "{text}");
}

#[tokio::test]
async fn handlers_see_who_asks() {
    let said = |Extension(peer): Extension<Peer>| async move {
        format!("{} {} {}", peer.address.ip(), peer.client, peer.secure)
    };
    let ask = |address: SocketAddr| async move {
        let request = reqwest::Client::new().get(format!("http://{address}/"));
        request.header("x-forwarded-for", "198.51.100.7").send().await.unwrap().text().await.unwrap()
    };
    let server = start(config(), Router::new().route("/", get(said))).await;
    assert_eq!(server.get("/").await, (200, "127.0.0.1 127.0.0.1 false".into()));
    assert_eq!(ask(server.address).await, "127.0.0.1 127.0.0.1 false", "anybody can write a header");

    let behind = HttpConfig { trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()], ..config() };
    let server = start(behind, Router::new().route("/", get(said))).await;
    assert_eq!(ask(server.address).await, "127.0.0.1 198.51.100.7 false");
}

#[tokio::test]
async fn websockets_count_as_connections_and_hold_the_shutdown_until_they_close() {
    let server = start(config(), echo()).await;
    let url = format!("ws://{}/echo", server.address);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    socket.send("Guten Tag".into()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap().as_str(), "Guten Tag");
    assert!(server.metric("ratssaal_http_connections_open 1"));

    server.shutdown.cancel();
    socket.send("noch da?".into()).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().into_text().unwrap().as_str(), "noch da?");
    assert!(!server.task.is_finished());
    socket.close(None).await.unwrap();
    while socket.next().await.is_some() {}
    server.task.await.unwrap();
}

#[tokio::test]
async fn a_request_in_progress_is_answered_after_shutdown_began() {
    let (release, held) = oneshot::channel::<()>();
    let (entered, mut entering) = tokio::sync::mpsc::channel::<()>(1);
    let held = std::sync::Arc::new(tokio::sync::Mutex::new(Some(held)));
    let slow = move || async move {
        entered.send(()).await.unwrap();
        let held = held.lock().await.take().unwrap();
        held.await.unwrap();
        "done"
    };
    let server = start(config(), Router::new().route("/slow", get(slow))).await;
    let request = tokio::spawn(reqwest::get(format!("http://{}/slow", server.address)));
    entering.recv().await.unwrap();
    server.shutdown.cancel();
    // The listener is closed before anything else is waited for: a new connection is refused or reset at once.
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    assert_eq!(request.await.unwrap().unwrap().text().await.unwrap(), "done");
    server.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_stays_open_is_cut_when_the_grace_time_is_over() {
    let server = Server::bind(&config(), &Metrics::new()).await.unwrap();
    let address = server.address();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(server.serve(echo(), shutdown.clone()));
    let (_socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/echo")).await.unwrap();
    shutdown.cancel();
    let began = tokio::time::Instant::now();
    task.await.unwrap();
    assert!(began.elapsed() >= ratssaal_process::http::GRACE);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_or_half_a_header_or_half_a_body_is_cut_off() {
    let router = Router::new().route("/body", post(|body: String| async { body }));
    let server = start(config(), router).await;
    for beginning in
        ["", "GET / HTTP/1.1\r\nHost: x\r\n", "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"]
    {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // Time is simulated: it jumps to the server's time limit as soon as both sides wait.
        let _ = stream.read_to_string(&mut answer).await;
        assert!(!answer.contains(" 200 "), "{beginning:?} got {answer}");
    }
    assert!(server.metric("ratssaal_http_connections_total 3"));
}

#[tokio::test]
async fn over_the_limit_the_next_connection_waits_for_a_place() {
    let server = start(HttpConfig { max_connections: 1, ..config() }, echo()).await;
    let url = format!("ws://{}/echo", server.address);
    let (mut first, _) = tokio_tungstenite::connect_async(&url).await.unwrap();
    let second = tokio::spawn(async move { tokio_tungstenite::connect_async(url).await.unwrap() });
    first.send("allein".into()).await.unwrap();
    first.next().await.unwrap().unwrap();
    assert!(server.metric("ratssaal_http_connections_total 1"));
    drop(first);
    let (mut second, _) = second.await.unwrap();
    second.send("jetzt".into()).await.unwrap();
    assert_eq!(second.next().await.unwrap().unwrap().into_text().unwrap().as_str(), "jetzt");
}

#[tokio::test]
async fn a_header_beyond_the_limit_is_refused() {
    let server = start(config(), Router::new().route("/", get(|| async { "in" }))).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(200 << 10));
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 431 ") || answer.is_empty(), "{answer}");
    assert_eq!(server.get("/").await, (200, "in".into()), "others are served");
}

#[tokio::test]
async fn a_port_in_use_is_told_in_one_sentence() {
    let server = start(config(), Router::new()).await;
    let again = HttpConfig { bind: server.address, ..config() };
    let error = Server::bind(&again, &Metrics::new()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} is in use by another process; stop that one or give another address with http.bind (--bind)",
            server.address
        )
    );
    let foreign = HttpConfig { bind: "192.0.2.1:7880".parse().unwrap(), plain: true, ..config() };
    let error = Server::bind(&foreign, &Metrics::new()).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot listen on 192.0.2.1:7880: "), "{error}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 7880));
    let pem = || Some("x.pem".into());
    let url = |text: &str| HttpConfig { public_url: Some(text.into()), ..config() };
    for (config, expected) in [
        (HttpConfig { bind: everywhere, ..config() }, Some("http.plain = true")),
        (HttpConfig { bind: everywhere, plain: true, ..config() }, None),
        (HttpConfig { bind: everywhere, certificate: pem(), key: pem(), ..config() }, None),
        (HttpConfig { certificate: pem(), ..config() }, Some("without http.key")),
        (HttpConfig { key: pem(), ..config() }, Some("without http.certificate")),
        (HttpConfig { bind: "[::ffff:127.0.0.1]:1".parse().unwrap(), ..config() }, None),
        (HttpConfig { max_connections: 0, ..config() }, Some("max_connections")),
        (url("https://meet.example.de"), None),
        (url("https://meet.example.de/room"), Some("http.public_url")),
        (url("meet.example.de"), Some("http.public_url")),
        (url("ftp://meet.example.de"), Some("http.public_url")),
    ] {
        let message = config.check().err().map(|usage| usage.to_string());
        match (expected, message) {
            (None, None) => {}
            (Some(part), Some(message)) if message.contains(part) => {}
            (expected, message) => panic!("{config:?}: expected {expected:?}, got {message:?}"),
        }
    }
}
