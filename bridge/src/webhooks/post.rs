//! The request: one POST over a connection of its own, signed.

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, StatusCode, Uri, header};
use hyper_util::rt::TokioIo;
use ratssaal_process::tls;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::WebhookError;
use crate::token::Keys;

/// From the connection to the answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// An address to tell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    uri: Uri,
    host: String,
    port: u16,
    secure: bool,
}

impl Target {
    /// Whether it is HTTPS.
    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }
}

impl FromStr for Target {
    type Err = WebhookError;

    fn from_str(text: &str) -> Result<Self, WebhookError> {
        let none = || WebhookError::Address(text.to_owned());
        let uri: Uri = text.trim().parse().map_err(|_| none())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(none()),
        };
        let authority = uri.authority().ok_or_else(none)?;
        // Credentials in an address end up in logs.
        if authority.as_str().contains('@') {
            return Err(none());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        if host.is_empty() {
            return Err(none());
        }
        Ok(Self { host, port, secure, uri })
    }
}

/// Without the query, which may hold a secret.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.uri.path())
    }
}

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("no answer within 10 s")]
    Late,
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("the connection broke: {0}")]
    Broken(hyper::Error),
    #[error("the request cannot be made: {0}")]
    Request(http::Error),
    #[error("the answer was {0}")]
    Status(StatusCode),
}

impl PostError {
    /// Whether the same may be taken later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Late | Self::Connect(_) | Self::Broken(_) => true,
            Self::Request(_) => false,
            Self::Status(status) => {
                status.is_server_error()
                    || matches!(*status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT)
            }
        }
    }
}

/// Makes the requests.
#[derive(Debug)]
pub(super) struct Poster {
    keys: Arc<Keys>,
    key: Option<String>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Poster {
    /// Signs with this key, or the first one; trusts these authorities, or the system's.
    pub(super) fn new(
        keys: Arc<Keys>,
        key: Option<String>,
        authorities: Option<&Path>,
        secure: bool,
    ) -> Result<Self, WebhookError> {
        let tls = match secure {
            true => Some(Arc::new(tls::client_config(authorities)?)),
            false => None,
        };
        Ok(Self { keys, key, tls })
    }

    /// Tells one event.
    pub(super) async fn post(&self, target: &Target, body: &[u8]) -> Result<(), PostError> {
        let posting = async {
            let stream = TcpStream::connect((target.host.as_str(), target.port)).await.map_err(PostError::Connect)?;
            match (&self.tls, target.secure) {
                (Some(tls), true) => {
                    let name = ServerName::try_from(target.host.clone());
                    let name = name.map_err(|error| PostError::Connect(io::Error::other(error)))?;
                    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await;
                    self.send(target, body, stream.map_err(PostError::Connect)?).await
                }
                _ => self.send(target, body, stream).await,
            }
        };
        tokio::time::timeout(DEADLINE, posting).await.unwrap_or(Err(PostError::Late))
    }

    async fn send<S>(&self, target: &Target, body: &[u8], stream: S) -> Result<(), PostError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let path = target.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = target.uri.authority().map_or("", |authority| authority.as_str());
        let request = Request::post(path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/webhook+json")
            .header(header::AUTHORIZATION, self.keys.sign_body(self.key.as_deref(), body))
            .header(header::USER_AGENT, concat!("ratssaal/", env!("CARGO_PKG_VERSION")))
            .body(Body::from(body.to_vec()))
            .map_err(PostError::Request)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(PostError::Broken)?;
        let serving = tokio::spawn(connection);
        let answer = sender.send_request(request).await;
        serving.abort();
        let status = answer.map_err(PostError::Broken)?.status();
        if status.is_success() { Ok(()) } else { Err(PostError::Status(status)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, shown) in [
            ("http://127.0.0.1:8080/hook?key=geheim", "http://127.0.0.1:8080/hook"),
            ("https://verwaltung.example", "https://verwaltung.example:443/"),
            ("https://[2001:db8::1]/x", "https://2001:db8::1:443/x"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), shown);
        }
        for bad in ["", "verwaltung.example/x", "ftp://x/y", "https://user:geheim@x/y", "https:///x"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
