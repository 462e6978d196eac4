//! `GET /api/v1/config`: whose server this is and what it offers, for the web client.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use http::header;
use serde::Serialize;

use super::Api;

#[derive(Serialize)]
struct SiteAnswer<'a> {
    name: &'a str,
    languages: [&'static str; 2],
    imprint: Option<&'a str>,
    privacy: Option<&'a str>,
    accessibility: Option<&'a str>,
    accent: Option<&'a str>,
    open_rooms: bool,
}

pub(super) async fn config(State(api): State<Api>) -> impl IntoResponse {
    let brand = &api.brand;
    let answer = SiteAnswer {
        name: &brand.name,
        languages: ["de", "en"],
        imprint: brand.imprint.as_deref(),
        privacy: brand.privacy.as_deref(),
        accessibility: brand.accessibility.as_deref(),
        accent: brand.accent.as_deref(),
        open_rooms: api.open_rooms,
    };
    api.metrics.count("config", "ok");
    ([(header::CACHE_CONTROL, "no-cache")], Json(answer)).into_response()
}
