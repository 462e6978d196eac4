//! What every process answers over HTTP: `/livez`, `/readyz` and `/metrics`.

use axum::{
    Router,
    response::{IntoResponse, Response},
    routing::get,
};
use http::{StatusCode, header};
use tracing::error;

use crate::{
    health::{Answer, Health},
    metrics::{self, Metrics},
};

/// `/livez` and `/readyz` (200 or 503, one line per check) and `/metrics` (OpenMetrics text). Merge it into the
/// process's own router.
pub fn router(health: Health, metrics: Metrics) -> Router {
    let live = health.clone();
    Router::new()
        .route("/livez", get(move || async move { probe(live.live()) }))
        .route("/readyz", get(move || async move { probe(health.ready()) }))
        .route("/metrics", get(move || async move { show(&metrics) }))
}

fn probe(answer: Answer) -> Response {
    let status = if answer.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, [(header::CACHE_CONTROL, "no-store")], answer.text).into_response()
}

fn show(metrics: &Metrics) -> Response {
    match metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            error!(%error, "a metrics collector failed");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
