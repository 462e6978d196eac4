//! A join across processes is one trace: real servers, a real allocator on a real Redis, and a collector that takes what they
//! export by OTLP.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use ratssaal_e2e::{
    allocator::Allocator,
    bot::{Bot, Options},
    server::{Server, free_port},
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

#[path = "../../allocator/src/redis_server.rs"]
#[expect(dead_code, clippy::expect_used, reason = "made for the allocator's tests; a part is used here")]
mod redis_server;

/// One exported span.
#[derive(Clone, Debug)]
struct Span {
    service: String,
    instance: String,
    name: String,
    identity: String,
    by: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
}

/// What has been exported so far.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

fn text(attributes: &[KeyValue], key: &str) -> String {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    match found.and_then(|attribute| attribute.value.as_ref()?.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        _ => String::new(),
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for exported in request.into_inner().resource_spans {
            let process = exported.resource.unwrap_or_default().attributes;
            for span in exported.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                all.push(Span {
                    service: text(&process, "service.name"),
                    instance: text(&process, "service.instance.id"),
                    identity: text(&span.attributes, "identity"),
                    by: text(&span.attributes, "by"),
                    name: span.name,
                    trace: span.trace_id,
                    id: span.span_id,
                    parent: span.parent_span_id,
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens; its address.
    async fn start(&self) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(address)
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The trace of somebody's join, once it is `complete`.
    async fn join_of(&self, identity: &str, complete: impl Fn(&[Span]) -> bool) -> Result<Vec<Span>> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let all = self.spans();
            let joins: Vec<&Span> =
                all.iter().filter(|span| span.name == "join" && span.identity == identity).collect();
            for join in &joins {
                let trace: Vec<Span> = all.iter().filter(|span| span.trace == join.trace).cloned().collect();
                if complete(&trace) {
                    return Ok(trace);
                }
            }
            if Instant::now() > end {
                bail!("{identity}'s trace is not complete; joins: {joins:#?}, all: {all:#?}");
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn join(through: &Server, number: u32) -> Result<Bot> {
    Bot::join(through, Options::new("spuren", number, false)).await.with_context(|| through.log())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_join_is_one_trace_across_three_processes() -> Result<()> {
    let collector = Collector::default();
    let endpoint = collector.start().await?;
    let redis = redis_server::Server::new();
    let listen = format!("127.0.0.1:{}", free_port()?);
    let _allocator = Allocator::start(&redis.url(), &listen, &[("RATSSAAL_OTLP__ENDPOINT", endpoint.as_str())])?;
    let mut bridges = Vec::new();
    for name in ["eins", "zwei"] {
        let address = format!("http://{listen}");
        let settings = [
            ("RATSSAAL_CLUSTER__ALLOCATOR", address.as_str()),
            ("RATSSAAL_CLUSTER__BRIDGE", name),
            ("RATSSAAL_SITE__NAME", name),
            ("RATSSAAL_ROOM__SEATS", "1"),
            ("RATSSAAL_MEDIA__WORKERS", "1"),
            ("RATSSAAL_OTLP__ENDPOINT", &endpoint),
        ];
        bridges.push(Server::start_with(&settings).await?);
    }
    let first = join(&bridges[0], 0).await?;
    let second = join(&bridges[0], 1).await?;

    // The first one sits where the WebSocket is.
    let is_place = |span: &Span| span.service == "ratssaal-allocator" && span.name.ends_with("/Place");
    let negotiated = |by: &'static str| move |span: &Span| span.name == "negotiation" && span.by == by;
    let complete = |trace: &[Span]| {
        trace.iter().any(is_place) && ["client", "server"].iter().all(|by| trace.iter().any(negotiated(by)))
    };
    let trace = collector.join_of(&first.options.identity, complete).await?;
    assert!(trace.iter().all(|span| span.instance != "zwei"), "{trace:#?}");
    let join = trace.iter().find(|span| span.parent.is_empty()).context("no first span")?;
    assert_eq!((join.name.as_str(), join.identity.as_str()), ("join", first.options.identity.as_str()));
    for span in trace.iter().filter(|span| span.name == "negotiation") {
        assert_eq!(span.parent, join.id, "a part of the joining: {trace:#?}");
    }

    // For the second one there is a seat on the other bridge only.
    let entered = |span: &Span| span.instance == "zwei" && span.name == "enter";
    let complete = |trace: &[Span]| trace.iter().any(entered) && complete(trace);
    let trace = collector.join_of(&second.options.identity, complete).await?;
    let by_id: HashMap<&[u8], &Span> = trace.iter().map(|span| (span.id.as_slice(), span)).collect();
    let place = trace.iter().find(|span| is_place(span)).context("no placement")?;
    let signal = trace.iter().find(|span| span.instance == "zwei" && span.name.ends_with("/Signal"));
    for called in [place, signal.context("no signalling")?] {
        let caller = by_id.get(called.parent.as_slice()).map(|span| span.instance.as_str());
        assert_eq!(caller, Some("eins"), "called by the bridge that has the WebSocket: {called:?} of {trace:#?}");
    }
    let enter = trace.iter().find(|span| entered(span)).context("nobody let in")?;
    assert_eq!(enter.identity, second.options.identity);
    for span in trace.iter().filter(|span| span.name == "negotiation") {
        assert_eq!(span.instance, "zwei", "where the seat is: {trace:#?}");
        assert_eq!(Some(&span.parent), signal.map(|signal| &signal.id), "a part of its signalling: {trace:#?}");
    }
    Ok(())
}
