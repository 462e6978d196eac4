//! A collector that takes what processes export by OTLP. Included where it is used.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Result, bail};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// One exported span.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) service: String,
    pub(crate) instance: String,
    pub(crate) name: String,
    /// Those that are texts.
    attributes: BTreeMap<String, String>,
    pub(crate) trace: Vec<u8>,
    pub(crate) id: Vec<u8>,
    pub(crate) parent: Vec<u8>,
}

impl Span {
    /// An attribute that is a text, or nothing.
    pub(crate) fn attribute(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

/// What has been exported so far.
#[derive(Clone, Default)]
pub(crate) struct Collector(Arc<Mutex<Vec<Span>>>);

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |attribute: KeyValue| match attribute.value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => Some((attribute.key, text)),
        _ => None,
    };
    attributes.into_iter().filter_map(text).collect()
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for exported in request.into_inner().resource_spans {
            let process = texts(exported.resource.unwrap_or_default().attributes);
            let of_process = |key: &str| process.get(key).cloned().unwrap_or_default();
            for span in exported.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                all.push(Span {
                    service: of_process("service.name"),
                    instance: of_process("service.instance.id"),
                    name: span.name,
                    attributes: texts(span.attributes),
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
    pub(crate) async fn start(&self) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("http://{}", listener.local_addr()?);
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(address)
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A trace with such a span, once it is `complete`.
    pub(crate) async fn trace_of(
        &self,
        first: impl Fn(&Span) -> bool,
        complete: impl Fn(&[Span]) -> bool,
    ) -> Result<Vec<Span>> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let all = self.spans();
            for begin in all.iter().filter(|span| first(span)) {
                let trace: Vec<Span> = all.iter().filter(|span| span.trace == begin.trace).cloned().collect();
                if complete(&trace) {
                    return Ok(trace);
                }
            }
            if Instant::now() > end {
                bail!("the trace is not complete; there are: {all:#?}");
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}
