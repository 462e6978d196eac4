//! Traces to an OpenTelemetry collector (OTLP over gRPC), only when an endpoint is configured.

use std::time::Duration;

use opentelemetry::{KeyValue, trace::TracerProvider as _};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use serde::Deserialize;
use tracing::Subscriber;
use tracing_subscriber::{Layer, registry::LookupSpan};

use crate::exit::Usage;

/// How long one batch of spans may take to send.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The `[otlp]` section.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// The collector, e.g. `http://collector:4317`; nothing is sent without it.
    pub endpoint: Option<String>,
}

impl OtlpConfig {
    /// Whether the endpoint is one.
    ///
    /// # Errors
    /// One sentence that says what to write instead.
    pub fn check(&self) -> Result<(), Usage> {
        let fits = |text: &str| {
            text.parse::<http::Uri>().is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some())
        };
        match self.endpoint.as_deref() {
            Some(endpoint) if !fits(endpoint) => Err(Usage(format!(
                "otlp.endpoint {endpoint:?} is not an http:// address; write the collector's gRPC address like \
                 http://localhost:4317 (a collector beside this process does TLS towards the outside)"
            ))),
            _ => Ok(()),
        }
    }
}

/// The running export of spans.
#[derive(Debug)]
pub struct Telemetry {
    provider: SdkTracerProvider,
}

impl Telemetry {
    /// Connects lazily to the configured collector, or does nothing without one. `service` is the kind of process
    /// (`service.name`), `instance` which one of them (`service.instance.id`). Call it inside a tokio runtime.
    ///
    /// # Errors
    /// When the endpoint is no address.
    pub fn start(config: &OtlpConfig, service: &'static str, instance: &str) -> anyhow::Result<Option<Self>> {
        config.check()?;
        let Some(endpoint) = &config.endpoint else { return Ok(None) };
        let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(TIMEOUT).build()?;
        let instance = KeyValue::new("service.instance.id", instance.to_owned());
        let resource = Resource::builder().with_service_name(service).with_attribute(instance).build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Some(Self { provider }))
    }

    /// The layer that turns `tracing` spans into OpenTelemetry ones.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync>(&self) -> impl Layer<S> + use<S> {
        tracing_opentelemetry::layer().with_tracer(self.provider.tracer("ratssaal"))
    }

    /// Sends what is left and ends; waits a few seconds at most. Blocks: call it outside asynchronous code or from a
    /// blocking task.
    pub fn finish(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(TIMEOUT) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}
