//! A real Redis for tests and benchmarks: Debian's `redis-server` on a Unix socket in a folder of its own, without
//! persistence. It ends with the process that started it, however that ends.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest a test waits for something that is to happen by itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Starts the server, and ends it when its standard input does.
const LEASH: &str = "redis-server \"$@\" >>redis.log 2>&1 & echo $! >redis.pid; read -r _; kill -9 $!; wait";

/// A running server.
pub(crate) struct Server {
    folder: Option<TempDir>,
    path: PathBuf,
    shell: Child,
    leash: Option<ChildStdin>,
}

impl Server {
    /// Starts a server in a folder of its own.
    pub(crate) fn new() -> Self {
        Self::start(tempfile::tempdir().expect("a temporary folder"), &[])
    }

    /// Starts a server with further arguments in a folder, and waits until it answers.
    pub(crate) fn start(folder: TempDir, more: &[&str]) -> Self {
        let mut command = Command::new("sh");
        command.current_dir(folder.path()).stdin(Stdio::piped()).args(["-c", LEASH, "sh"]);
        command.args(more).args(["--unixsocket", "redis.sock", "--save", ""]);
        if !more.contains(&"--port") {
            command.args(["--port", "0"]);
        }
        let mut shell = command.spawn().expect("sh is needed");
        let leash = shell.stdin.take();
        let server = Self { path: folder.path().to_owned(), folder: Some(folder), shell, leash };
        let began = Instant::now();
        while !server.answers() {
            assert!(
                began.elapsed() < PATIENCE,
                "redis-server does not start: run scripts/need redis\n{}",
                server.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        server
    }

    /// Whether it speaks, be it to ask for a password.
    fn answers(&self) -> bool {
        let mut answer = [0];
        UnixStream::connect(self.path.join("redis.sock"))
            .and_then(|mut socket| {
                socket.write_all(b"PING\r\n")?;
                socket.read_exact(&mut answer)
            })
            .is_ok()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path.join("redis.log")).unwrap_or_default()
    }

    /// Where it keeps its files.
    pub(crate) fn folder(&self) -> &Path {
        &self.path
    }

    /// Its address.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.path.join("redis.sock").display())
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> String {
        std::fs::read_to_string(self.path.join("redis.pid")).expect("the server runs").trim().to_owned()
    }

    /// Sends a signal to the server.
    pub(crate) fn signal(&self, signal: &str) {
        let killed = Command::new("kill").args([signal, &self.pid()]).status().expect("kill is needed");
        assert!(killed.success());
    }

    /// Writes what it has to its folder: the next one there begins with that.
    pub(crate) fn save(&self) {
        let mut socket = UnixStream::connect(self.path.join("redis.sock")).expect("the server runs");
        socket.write_all(b"SAVE\r\n").expect("the server listens");
        let mut answer = [0; 5];
        socket.read_exact(&mut answer).expect("the server answers");
        assert_eq!(&answer, b"+OK\r\n");
    }

    /// Ends it as a crash would; its folder stays for the next.
    pub(crate) fn crash(mut self) -> TempDir {
        self.end();
        self.folder.take().expect("only this takes it")
    }

    fn end(&mut self) {
        drop(self.leash.take());
        let _ = self.shell.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// A free port of the loopback address, below those that the kernel gives out by itself (32768 and up): nobody gets it
/// before it is used.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    let next = || 10_000 + (first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 9000) as u16;
    let mut some = std::iter::repeat_with(next).take(9000);
    some.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).expect("a free port")
}
