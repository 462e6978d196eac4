//! One trace across processes: a call carries the span in which it is made (`traceparent`, W3C Trace Context §3.2), and what
//! the called process does for it is part of the same trace. Where spans are not exported nothing is added to a call, and a
//! call that carries none costs one look at its headers.

use std::task::{Context, Poll};

use http::{HeaderMap, Request};
use opentelemetry::Context as Trace;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::metadata::{MetadataKey, MetadataMap};
use tonic::service::Interceptor;
use tonic::{Request as Call, Status};
use tower::{Layer, Service};
use tracing::instrument::Instrumented;
use tracing::{Instrument as _, Span, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

const TRACE_PARENT: &str = "traceparent";

/// Puts the present span into each call of a client.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceContext;

impl Interceptor for TraceContext {
    fn call(&mut self, mut call: Call<()>) -> Result<Call<()>, Status> {
        TraceContextPropagator::new().inject_context(&Span::current().context(), &mut Headers(call.metadata_mut()));
        Ok(call)
    }
}

/// A span that later ones belong to although it has ended by then.
#[derive(Clone, Debug)]
pub struct Origin(SpanContext);

impl Default for Origin {
    fn default() -> Self {
        Self(SpanContext::NONE)
    }
}

impl Origin {
    /// The span in which this is called; none where spans are not exported.
    #[must_use]
    pub fn current() -> Self {
        Self(Span::current().context().span().span_context().clone())
    }

    /// Makes a span that nothing has happened in yet a child of it.
    pub fn adopt(&self, span: &Span) {
        if self.0.is_valid() {
            // A span that is not recorded has no parent.
            let _ = span.set_parent(Trace::new().with_remote_span_context(self.0.clone()));
        }
    }
}

struct Headers<'a>(&'a mut MetadataMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        // Of another vendor's state there is none.
        if let (Ok(key), Ok(value), false) = (MetadataKey::from_bytes(key.as_bytes()), value.parse(), value.is_empty())
        {
            self.0.insert(key, value);
        }
    }
}

struct Carried<'a>(&'a HeaderMap);

impl Extractor for Carried<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// A layer for servers: what is done for a call that carries a span is a child of it, named after the method.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traces;

impl<S> Layer<S> for Traces {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced(inner)
    }
}

/// What [`Traces`] makes of a service.
#[derive(Clone, Debug)]
pub struct Traced<S>(S);

impl<S: Service<Request<B>>, B> Service<Request<B>> for Traced<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let span = match request.headers().contains_key(TRACE_PARENT) {
            true => carried(&request),
            false => Span::none(),
        };
        let _entered = span.enter();
        self.0.call(request).instrument(span.clone())
    }
}

fn carried<B>(request: &Request<B>) -> Span {
    let span = info_span!("call", otel.name = request.uri().path(), otel.kind = "server");
    // Without an exporter here there is nothing that could have a parent.
    let _ = span.set_parent(TraceContextPropagator::new().extract(&Carried(request.headers())));
    span
}
