//! HTTP requests as a browser makes them: one connection each, bounded in time and size.

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::finding::{Problem, plain};
use super::line::{Line, STEP};

/// Answers of interest are a few kilobytes; the web client's first page too.
const MAX_BODY: usize = 1 << 20;

/// What was answered.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
    kind: String,
}

impl Answer {
    pub(super) fn is_html(&self) -> bool {
        self.kind.starts_with("text/html")
    }

    /// Whether it is a page with a program in it: the web client is one.
    pub(super) fn has_script(&self) -> bool {
        self.body.windows(7).any(|part| part == b"<script")
    }

    /// The beginning of the body, to be shown.
    pub(super) fn text(&self) -> String {
        plain(&String::from_utf8_lossy(&self.body), 200)
    }
}

/// `GET`.
pub(super) async fn get(line: &Line, path: &str) -> Result<Answer, Problem> {
    request(line, Method::GET, path, Bytes::new()).await
}

/// `POST` of JSON.
pub(super) async fn post(line: &Line, path: &str, body: &serde_json::Value) -> Result<Answer, Problem> {
    request(line, Method::POST, path, Bytes::from(body.to_string())).await
}

async fn request(line: &Line, method: Method, path: &str, body: Bytes) -> Result<Answer, Problem> {
    let broken = |why: &dyn std::fmt::Display| {
        Problem::new(format!("{path} is not answered ({why})"), "check what listens there and the proxy before it")
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, line.authority())
        .header(header::USER_AGENT, concat!("ratssaal-doctor/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| broken(&error))?;
    let stream = line.open().await?;
    let answered = timeout(STEP, async {
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|error| broken(&error))?.to_bytes();
        connection.abort();
        let kind = head.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        Ok(Answer { status: head.status.as_u16(), body, kind: kind.to_owned() })
    });
    answered.await.map_err(|_| broken(&"no answer within 10 s"))?
}
