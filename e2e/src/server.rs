//! The server under test: started here on free ports, waited for, and ended by its process id.
//!
//! `E2E_URL`, `E2E_KEY`, `E2E_SECRET` name a running one; `LIVEKIT_BIN` a LiveKit server, against which the protocol
//! tests can be proved right independently of ours; else `RATSSAAL_BIN` or `target/{debug,release}/ratssaal`.

use std::{
    env,
    io::{BufRead, BufReader, Read},
    net::{TcpListener, UdpSocket},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    sync::MutexGuard,
    time::{Instant, sleep},
};

/// How many UDP ports our server gets: one per worker, on any machine enough for the tests.
const MEDIA_PORTS: u16 = 4;
/// The key pair of `--dev`; a started LiveKit server gets the same.
const DEV: (&str, &str) = ("devkey", "secret-secret-secret-secret-secret");
/// How much of the server's output is kept for a failing test, in lines.
const LOG_LINES: usize = 400;

/// One test at a time in each test binary: several servers under attack on one machine would disturb each other.
///
/// Hold the guard to the test's end.
pub async fn turn() -> MutexGuard<'static, ()> {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    TURN.lock().await
}

/// A server that is ready for joins. Ends with this value.
pub struct Server {
    /// `http://host:port`, without a trailing slash.
    pub http: String,
    /// API key.
    pub key: String,
    /// API secret.
    pub secret: String,
    /// The first of its UDP ports, if it was started here.
    pub media_port: u16,
    child: Option<Child>,
    /// Whether it was started through another command, which may be its parent: they are a process group of their own then.
    through: bool,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Starts the server the environment names (see the module).
    ///
    /// # Errors
    /// There is no binary, or it does not become ready within 30 s; its output is part of the message.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[]).await
    }

    /// The same with further settings in the environment of ours.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        if let Ok(url) = env::var("E2E_URL") {
            let key = env::var("E2E_KEY").unwrap_or_else(|_| DEV.0.to_owned());
            let secret = env::var("E2E_SECRET").unwrap_or_else(|_| DEV.1.to_owned());
            return Ok(Self::at(&url, key, secret));
        }
        let (port, media_port) = (free_port()?, free_udp_ports(MEDIA_PORTS)?);
        let http = format!("http://127.0.0.1:{port}");
        let (mut command, ready) = match env::var_os("LIVEKIT_BIN") {
            Some(binary) => (livekit(&PathBuf::from(binary), port, media_port), format!("{http}/")),
            None => (ratssaal(&binary()?, port, media_port), format!("{http}/readyz")),
        };
        command.envs(settings.iter().copied());
        let mut server = Self::spawn(command, http, media_port)?;
        server.wait_ready(&ready).await?;
        Ok(server)
    }

    /// One that somebody else has started, with the key pair of `--dev`.
    #[must_use]
    pub fn running(url: &str) -> Self {
        Self::at(url, DEV.0.to_owned(), DEV.1.to_owned())
    }

    fn at(url: &str, key: String, secret: String) -> Self {
        let http = url.trim_end_matches('/').replacen("ws", "http", 1);
        Self { http, key, secret, media_port: 0, child: None, through: false, log: Arc::default() }
    }

    /// Starts ours with further arguments, through the command `prefix` if it is not empty, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_as(prefix: &[&str], arguments: &[&str]) -> Result<Self> {
        let binary = binary()?;
        match prefix {
            [] => Self::start_from(&binary, arguments).await,
            [program, more @ ..] => {
                let mut command = Command::new(program);
                command.args(more).arg(&binary).process_group(0);
                Self::start_command(command, true, arguments).await
            }
        }
    }

    /// Starts another build of ours with further arguments, and waits until it is ready.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub async fn start_from(binary: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_command(Command::new(binary), false, arguments).await
    }

    async fn start_command(mut command: Command, through: bool, arguments: &[&str]) -> Result<Self> {
        let (port, media_port) = (free_port()?, free_udp_ports(MEDIA_PORTS)?);
        let http = format!("http://127.0.0.1:{port}");
        configure(&mut command, port, media_port).args(arguments);
        let mut server = Self::spawn(command, http.clone(), media_port)?;
        server.through = through;
        server.wait_ready(&format!("{http}/readyz")).await?;
        Ok(server)
    }

    /// Starts ours and comes back as soon as it has printed which address to open; [`Server::http`] is that address. Nothing
    /// has been asked of it before.
    ///
    /// # Errors
    /// There is no binary, or it prints no address within 30 s.
    pub async fn start_announced(arguments: &[&str]) -> Result<Self> {
        let media_port = free_udp_ports(MEDIA_PORTS)?;
        let mut command = Command::new(binary()?);
        configure(&mut command, 0, media_port).args(arguments);
        let mut server = Self::spawn(command, String::new(), media_port)?;
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let log = server.log();
            let said = log.split_once("Ratssaal is ready. Open ").and_then(|(_, rest)| rest.split_once(' '));
            if let Some((address, _)) = said {
                address.clone_into(&mut server.http);
                return Ok(server);
            }
            ensure!(Instant::now() < end && server.ended().is_none(), "no address to open: {log}");
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until it has ended by itself; its exit status.
    ///
    /// # Errors
    /// Not within `limit`.
    pub async fn ends(&mut self, limit: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            ensure!(Instant::now() < end, "it still runs after {limit:?}: {}", self.log());
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn spawn(mut command: Command, http: String, media_port: u16) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let log = Arc::default();
        if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
            keep(stdout, &log);
            keep(stderr, &log);
        }
        let (key, secret) = (DEV.0.to_owned(), DEV.1.to_owned());
        Ok(Self { http, key, secret, media_port, child: Some(child), through: false, log })
    }

    async fn wait_ready(&mut self, url: &str) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let answer = reqwest::Client::new().get(url).timeout(Duration::from_secs(1)).send().await;
            if answer.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                bail!("the server ended with {status}:\n{}", self.log());
            }
            if Instant::now() > end {
                bail!("the server is not ready after 30 s:\n{}", self.log());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// `ws://host:port`
    #[must_use]
    pub fn ws(&self) -> String {
        self.http.replacen("http", "ws", 1)
    }

    /// Whether it is ours: it then has `/metrics` and our API.
    #[must_use]
    pub fn is_ours() -> bool {
        env::var_os("LIVEKIT_BIN").is_none()
    }

    /// Its process id, if it was started here and still runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Sends it a signal, by name without `SIG`.
    ///
    /// # Errors
    /// It was not started here or has ended.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().context("the server was not started here")?.to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status()?;
        ensure!(status.success(), "the server has ended: {}", self.log());
        Ok(())
    }

    /// Its exit status once it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            if self.through {
                let _ = Command::new("kill").args(["-s", "KILL", "--", &format!("-{}", child.id())]).status();
            }
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The value of one of its metrics, labels included in the name; 0 if there is none.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let text = reqwest::get(format!("{}/metrics", self.http)).await?.text().await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        Ok(value.unwrap_or(0.0))
    }

    /// The last lines of what it printed.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads a stream to its end on a thread of its own, so that the server never blocks on a full pipe.
fn keep(stream: impl Read + Send + 'static, log: &Arc<Mutex<Vec<String>>>) {
    let log = Arc::clone(log);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut kept = log.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == LOG_LINES {
                kept.remove(0);
            }
            kept.push(line);
        }
    });
}

fn ratssaal(binary: &Path, port: u16, media_port: u16) -> Command {
    let mut command = Command::new(binary);
    configure(&mut command, port, media_port);
    command
}

fn configure(command: &mut Command, port: u16, media_port: u16) -> &mut Command {
    command
        .args(["serve", "--dev"])
        .env("RATSSAAL_HTTP__BIND", format!("127.0.0.1:{port}"))
        .env("RATSSAAL_MEDIA__PORTS", format!("{media_port}-{}", media_port + MEDIA_PORTS - 1))
}

fn livekit(binary: &Path, port: u16, media_port: u16) -> Command {
    let config = serde_json::json!({
        "port": port, "bind_addresses": ["127.0.0.1"], "keys": { DEV.0: DEV.1 }, "logging": { "level": "warn" },
        "rtc": { "udp_port": media_port, "tcp_port": 0, "use_external_ip": false },
    });
    let mut command = Command::new(binary);
    command.args(["--config-body", &config.to_string()]);
    command
}

/// Our binary.
///
/// # Errors
/// It is not built.
pub fn binary() -> Result<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    let candidates = [
        env::var_os("RATSSAAL_BIN").map(PathBuf::from),
        Some(target.join("debug/ratssaal")),
        Some(target.join("release/ratssaal")),
    ];
    candidates
        .into_iter()
        .flatten()
        .find(|path| path.exists())
        .context("no ratssaal binary: run `cargo build -p ratssaal`, or set RATSSAAL_BIN to one")
}

/// A TCP port that is free now.
///
/// # Errors
/// There is none.
pub fn free_port() -> Result<u16> {
    // Below those that the kernel gives out by itself (32768 and up): nobody gets it before it is used.
    let mut some = std::iter::repeat_with(|| rand::random_range(10_000..20_000)).take(1000);
    some.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).context("no free port between 10000 and 20000")
}

/// The first of `count` neighbouring UDP ports that are free now.
fn free_udp_ports(count: u16) -> Result<u16> {
    for _ in 0..100 {
        let first = rand::random_range(20_000..30_000);
        if (first..first + count).all(|port| UdpSocket::bind(("0.0.0.0", port)).is_ok()) {
            return Ok(first);
        }
    }
    bail!("no {count} neighbouring free UDP ports between 20000 and 30000")
}
