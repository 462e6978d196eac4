//! Where Redis is and how to get in: one server, or the sentinels that know which one is the primary now.

use std::path::PathBuf;
use std::time::Duration;

use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, TlsCertificates};
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

/// A CA file is a few kilobytes; more is a mistake.
const MAX_FILE: u64 = 1 << 20;
/// The port of a sentinel that is given without one.
const SENTINEL_PORT: u16 = 26379;

/// How the store reaches Redis (7.0 or later).
#[derive(Clone, Debug)]
pub struct RedisSettings {
    /// `redis://[user:password@]host[:port][/database]`, `rediss://…` for TLS, `redis+unix:///path`; with sentinels
    /// `redis-sentinel://[user:password@]host[:port],host[:port]/primary-name` or `rediss-sentinel://…`. User and password
    /// are the primary's and the sentinels'.
    pub url: SecretString,
    /// PEM file with the certificates to trust, read anew for each connection; without it the system's.
    pub ca: Option<PathBuf>,
    /// Name of this store in Redis: allocators with the same name share everything.
    pub prefix: String,
    /// How long one call may take, connecting included.
    pub timeout: Duration,
    /// How often Redis reads the files of its certificate anew, which it does when it is told to only; `None`: that is somebody
    /// else's matter.
    pub reread: Option<Duration>,
}

impl RedisSettings {
    /// Settings for an address, with the other settings' defaults.
    #[must_use]
    pub fn new(url: SecretString) -> Self {
        Self { url, ca: None, prefix: "ratssaal".to_owned(), timeout: Duration::from_secs(1), reread: None }
    }
}

/// A setting that cannot work.
#[derive(Debug, Error)]
pub enum RedisError {
    /// The address is not one.
    #[error(
        "redis.url is no address of Redis: write redis://host:6379, rediss://host:6379 (TLS), redis+unix:///path or \
         redis-sentinel://host:26379,host:26379/primary-name, with user:password@ before the host if it asks for them"
    )]
    Url,
    /// The CA file cannot be read.
    #[error("cannot read redis.ca {path}: {source}; check the path and the file's permissions", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The CA file is none.
    #[error("redis.ca {path} holds no usable certificate: it must be a PEM file of at most 1 MiB", path = .0.display())]
    Ca(PathBuf),
    /// The name is not one.
    #[error("redis.prefix {0:?} cannot be used: give 1 to 64 letters, digits, `-`, `_` or `.`")]
    Prefix(String),
    /// No time to answer.
    #[error("redis.timeout must not be 0")]
    Timeout,
}

/// Where to look for the primary.
#[derive(Clone, Debug)]
pub(super) enum Address {
    One(Client),
    Sentinels { sentinels: Vec<Client>, primary: String, template: ConnectionInfo, tls: Option<TlsCertificates> },
}

impl Address {
    pub(super) fn of(settings: &RedisSettings) -> Result<Self, RedisError> {
        let name = &settings.prefix;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
            return Err(RedisError::Prefix(name.clone()));
        }
        if settings.timeout.is_zero() {
            return Err(RedisError::Timeout);
        }
        let root_cert = settings.ca.clone().map(read).transpose()?;
        let url = settings.url.expose_secret();
        let (scheme, rest) = url.split_once("://").ok_or(RedisError::Url)?;
        let tls = scheme.starts_with("rediss").then_some(TlsCertificates { client_tls: None, root_cert });
        let ca = || RedisError::Ca(settings.ca.clone().unwrap_or_default());
        if !scheme.ends_with("-sentinel") {
            let info = url.into_connection_info().map_err(|_| RedisError::Url)?;
            return Ok(Self::One(client(info, tls.as_ref()).map_err(|()| ca())?));
        }
        let scheme = scheme.trim_end_matches("-sentinel");
        let (place, primary) = rest.split_once('/').ok_or(RedisError::Url)?;
        let (user, hosts) = place.rsplit_once('@').map_or(("", place), |(user, hosts)| (user, hosts));
        if primary.is_empty() || hosts.is_empty() {
            return Err(RedisError::Url);
        }
        let at = if user.is_empty() { String::new() } else { format!("{user}@") };
        let mut infos = Vec::new();
        for host in hosts.split(',') {
            let ported = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            let port = if ported { String::new() } else { format!(":{SENTINEL_PORT}") };
            infos.push(format!("{scheme}://{at}{host}{port}").into_connection_info().map_err(|_| RedisError::Url)?);
        }
        let template = infos[0].clone();
        let sentinels = infos.into_iter().map(|info| client(info, tls.as_ref()).map_err(|()| ca()));
        Ok(Self::Sentinels {
            sentinels: sentinels.collect::<Result<_, _>>()?,
            primary: primary.to_owned(),
            template,
            tls,
        })
    }

    /// Trusts whom the CA file names now: the authority may have been replaced since the last connection.
    pub(super) fn reread(&mut self, settings: &RedisSettings) {
        if settings.ca.is_none() {
            return;
        }
        match Self::of(settings) {
            Ok(address) => *self = address,
            Err(error) => tracing::warn!(%error, "the authorities trusted so far stay"),
        }
    }

    /// The server to connect to now.
    pub(super) async fn primary(&self, patience: Duration) -> Result<Client, redis::RedisError> {
        let (sentinels, primary, template, tls) = match self {
            Self::One(client) => return Ok(client.clone()),
            Self::Sentinels { sentinels, primary, template, tls } => (sentinels, primary, template, tls),
        };
        let mut last = redis::RedisError::from((redis::ErrorKind::Client, "no sentinel knows the primary"));
        for sentinel in sentinels {
            let asked = tokio::time::timeout(patience, ask(sentinel, primary)).await;
            match asked.unwrap_or_else(|elapsed| Err(redis::RedisError::from(std::io::Error::from(elapsed)))) {
                Ok((host, port)) => {
                    let addr = match template.addr() {
                        ConnectionAddr::TcpTls { .. } => {
                            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
                        }
                        _ => ConnectionAddr::Tcp(host, port),
                    };
                    let unusable = |()| redis::RedisError::from((redis::ErrorKind::InvalidClientConfig, "unusable CA"));
                    return client(template.clone().set_addr(addr), tls.as_ref()).map_err(unusable);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Asks a sentinel for the primary. (A sentinel knows no databases.)
async fn ask(sentinel: &Client, primary: &str) -> Result<(String, u16), redis::RedisError> {
    let mut connection = sentinel.get_multiplexed_async_connection().await?;
    let mut command = redis::cmd("SENTINEL");
    command.arg("get-master-addr-by-name").arg(primary);
    let answer: Option<(String, u16)> = command.query_async(&mut connection).await?;
    answer.ok_or_else(|| redis::RedisError::from((redis::ErrorKind::Client, "the sentinel does not know the primary")))
}

fn client(info: ConnectionInfo, tls: Option<&TlsCertificates>) -> Result<Client, ()> {
    // The client library asks for the process's default; whoever set one before has chosen.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings: RedisConnectionInfo =
        info.redis_settings().clone().set_lib_name("ratssaal", env!("CARGO_PKG_VERSION"));
    let info = info.set_redis_settings(settings);
    match tls {
        Some(tls) => Client::build_with_tls(info, tls.clone()).map_err(drop),
        None => Client::open(info).map_err(drop),
    }
}

fn read(path: PathBuf) -> Result<Vec<u8>, RedisError> {
    let size = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(source) => return Err(RedisError::Read { path, source }),
    };
    if size > MAX_FILE {
        return Err(RedisError::Ca(path));
    }
    let pem = std::fs::read(&path).map_err(|source| RedisError::Read { path: path.clone(), source })?;
    if pem.windows(11).any(|window| window == b"-----BEGIN ") { Ok(pem) } else { Err(RedisError::Ca(path)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Result<Address, RedisError> {
        Address::of(&RedisSettings::new(url.to_owned().into()))
    }

    #[test]
    fn one_server() {
        for url in
            ["redis://localhost", "redis://user:secret@[::1]:6380/2", "rediss://host", "redis+unix:///run/redis.sock"]
        {
            assert!(matches!(address(url), Ok(Address::One(_))), "{url}");
        }
    }

    #[test]
    fn sentinels() {
        let url = "redis-sentinel://user:a%2Cb@one,two:5000/main";
        let Ok(Address::Sentinels { sentinels, primary, template, .. }) = address(url) else { panic!("{url}") };
        let place = |client: &Client| client.get_connection_info().addr().to_string();
        assert_eq!(sentinels.iter().map(place).collect::<Vec<_>>(), ["one:26379", "two:5000"]);
        assert_eq!((primary.as_str(), template.redis_settings().password()), ("main", Some("a,b")));
        let Ok(Address::Sentinels { template, .. }) = address("rediss-sentinel://one/main") else { panic!("with TLS") };
        assert!(matches!(template.addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
    }

    #[test]
    fn what_is_none_is_refused_without_telling_the_secret() {
        for url in [
            "",
            "localhost:6379",
            "http://user:secret@host",
            "redis-sentinel://user:secret@host",
            "redis-sentinel:///main",
        ] {
            let error = address(url).unwrap_err();
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let named = |prefix: &str| RedisSettings { prefix: prefix.into(), ..RedisSettings::new("redis://h".into()) };
        for prefix in ["", "a}b", "x y", &"x".repeat(65)] {
            assert!(matches!(Address::of(&named(prefix)), Err(RedisError::Prefix(_))), "{prefix}");
        }
        let ca = RedisSettings { ca: Some("/nowhere/ca.pem".into()), ..RedisSettings::new("rediss://h".into()) };
        assert!(matches!(Address::of(&ca), Err(RedisError::Read { .. })));
    }
}
