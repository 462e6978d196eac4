//! The connection to Redis: one that all calls share, watched and made anew by a task of its own. A call ends within the
//! timeout, whatever Redis does; while Redis is known to be away, calls are refused at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ScriptInvocation, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{error, info, warn};

use super::address::{Address, RedisSettings};
use super::reply::{away, late};
use crate::refusal::Refusal;

/// How often the connection is asked whether it lives.
const PULSE: Duration = Duration::from_secs(1);
/// Before the first and between later attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How long a call waits for a connection that has just gone: a restart of Redis on the same machine is shorter.
const BRIDGING: Duration = Duration::from_millis(250);

/// What a call may do when its connection breaks before the answer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// The same again has the same effect: try once more.
    Once,
    /// It may have been done: the caller finds out.
    Never,
}

#[derive(Clone)]
struct Open {
    connection: MultiplexedConnection,
    /// Counts the connections.
    number: u64,
}

/// The way to Redis. Its tasks end when it is dropped.
#[derive(Debug)]
pub(super) struct Link {
    open: watch::Receiver<Option<Open>>,
    broken: Arc<Notify>,
    timeout: Duration,
    keeper: tokio::task::JoinHandle<()>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Open").field(&self.number).finish()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Link {
    /// Begins to connect. Must be called within a Tokio runtime.
    pub(super) fn new(address: Address, settings: RedisSettings) -> Self {
        let patience = settings.timeout;
        let (opened, open) = watch::channel(None);
        let broken = Arc::new(Notify::new());
        let keeper = tokio::spawn(keep(address, settings, opened, Arc::clone(&broken)));
        Self { open, broken, timeout: patience, keeper }
    }

    /// Moves whenever a new connection has been made: what was subscribed to the old one must be asked for again.
    pub(super) fn number(&self) -> watch::Receiver<Option<impl std::fmt::Debug + use<>>> {
        self.open.clone()
    }

    /// Whether there is a connection.
    pub(super) fn is_open(&self) -> bool {
        self.open.borrow().is_some()
    }

    /// Runs a script.
    pub(super) async fn run(&self, script: &ScriptInvocation<'_>, repeat: Repeat) -> Result<Value, Refusal> {
        let deadline = Instant::now() + self.timeout;
        let mut attempts = if repeat == Repeat::Once { 2 } else { 1 };
        loop {
            let Open { mut connection, number } = self.connection(deadline).await?;
            attempts -= 1;
            let error = match timeout_at(deadline, script.invoke_async(&mut connection)).await {
                Ok(Ok(value)) => return Ok(value),
                Err(_) => return Err(late()),
                Ok(Err(error)) => error,
            };
            let refusal = explain(&error);
            if error.is_connection_dropped() || error.is_io_error() || is_demoted(&error) {
                self.give_up(number);
                if attempts > 0 {
                    continue;
                }
            }
            return Err(refusal);
        }
    }

    /// Asks for another connection, unless that has happened already.
    fn give_up(&self, number: u64) {
        if self.open.borrow().as_ref().is_some_and(|open| open.number == number) {
            self.broken.notify_one();
        }
    }

    async fn connection(&self, deadline: Instant) -> Result<Open, Refusal> {
        if let Some(open) = &*self.open.borrow() {
            return Ok(open.clone());
        }
        let deadline = deadline.min(Instant::now() + BRIDGING);
        let mut open = self.open.clone();
        let opened = timeout_at(deadline, open.wait_for(Option::is_some)).await;
        let opened = opened.ok().and_then(Result::ok).and_then(|open| open.clone());
        opened.ok_or_else(|| away("the shared store (Redis) cannot be reached"))
    }
}

/// Keeps a connection until aborted.
async fn keep(mut address: Address, settings: RedisSettings, opened: watch::Sender<Option<Open>>, broken: Arc<Notify>) {
    let patience = settings.timeout;
    let (mut number, mut backoff, mut told) = (0, BACKOFF.0, false);
    loop {
        address.reread(&settings);
        match connect(&address, patience).await {
            Ok(connection) => {
                number += 1;
                info!(connection = number, "connected to Redis");
                opened.send_replace(Some(Open { connection: connection.clone(), number }));
                (backoff, told) = (BACKOFF.0, false);
                watch_over(connection, &broken, &settings).await;
                opened.send_replace(None);
                warn!(connection = number, "the connection to Redis is lost: new participants wait until it is back");
            }
            Err(why) if !told => {
                told = true;
                warn!(error = %why, "cannot connect to Redis, trying again and again");
            }
            Err(_) => {}
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

async fn connect(address: &Address, patience: Duration) -> Result<MultiplexedConnection, redis::RedisError> {
    let late = |elapsed| redis::RedisError::from(std::io::Error::from(elapsed));
    let client = address.primary(patience).await?;
    // Each call has its own deadline.
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(patience)).set_response_timeout(None);
    let attempt = async {
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
        match role.first() {
            Some(Value::BulkString(role)) if role == b"master" => Ok(connection),
            _ => Err(redis::RedisError::from((redis::ErrorKind::Client, "this Redis is a replica"))),
        }
    };
    timeout(patience * 2, attempt).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
}

/// Returns when the connection is of no more use.
async fn watch_over(mut connection: MultiplexedConnection, broken: &Notify, settings: &RedisSettings) {
    let patience = settings.timeout;
    let mut reread = settings.reread.map(|every| (every, Instant::now()));
    loop {
        tokio::select! {
            () = broken.notified() => return,
            () = tokio::time::sleep(reread.map_or(PULSE, |(every, _)| every.min(PULSE))) => {}
        }
        let ping = redis::cmd("PING");
        match timeout(patience, ping.query_async::<Value>(&mut connection)).await {
            Ok(Ok(_)) => {}
            _ => return,
        }
        let Some((every, _)) = reread.filter(|(_, due)| Instant::now() >= *due) else { continue };
        reread = match timeout(patience, reread_certificate(&mut connection)).await {
            Ok(Ok(())) => Some((every, Instant::now() + every)),
            Ok(Err(error)) if error.code() == Some("NOPERM") => {
                info!("whoever runs Redis has to tell it of a new certificate: this user may not");
                None
            }
            Ok(Err(error)) => {
                warn!(%error, "Redis cannot use the files of its certificate, the one it has stays");
                Some((every, Instant::now() + every))
            }
            Err(_) => return,
        }
    }
}

/// The same file names given once more have Redis read the files.
async fn reread_certificate(connection: &mut MultiplexedConnection) -> Result<(), redis::RedisError> {
    const FILES: [&str; 2] = ["tls-cert-file", "tls-key-file"];
    let mut ask = redis::cmd("CONFIG");
    ask.arg("GET").arg(&FILES[..]);
    let known: HashMap<String, String> = ask.query_async(connection).await?;
    let mut set = redis::cmd("CONFIG");
    set.arg("SET");
    for file in FILES {
        // Without TLS there is none.
        let Some(path) = known.get(file).filter(|path| !path.is_empty()) else { return Ok(()) };
        set.arg(file).arg(path);
    }
    set.query_async(connection).await
}

/// Whether Redis has become a replica meanwhile.
fn is_demoted(error: &redis::RedisError) -> bool {
    error.code() == Some("READONLY")
}

/// What it means for the caller; what it means for the operator goes to the log.
fn explain(error: &redis::RedisError) -> Refusal {
    if error.is_connection_dropped() || error.is_io_error() || is_demoted(error) {
        return away("the connection to the shared store (Redis) broke");
    }
    match error.code() {
        Some("LOADING") => away("the shared store (Redis) is loading its data"),
        Some("OOM") => {
            error!("Redis has no memory left for us: raise its maxmemory, and set maxmemory-policy to noeviction");
            away("the shared store (Redis) is full")
        }
        Some("NOPERM" | "NOAUTH" | "WRONGPASS") => {
            error!(%error, "Redis does not let us: check the user, its password and its rights (docs/operations.md)");
            away("the shared store (Redis) refuses the allocator")
        }
        Some("BUSY" | "MASTERDOWN" | "MISCONF" | "NOREPLICAS") => {
            warn!(%error, "Redis takes no writes now");
            away("the shared store (Redis) takes no writes now")
        }
        _ => {
            error!(%error, "a script failed in Redis");
            away("the shared store (Redis) failed")
        }
    }
}
