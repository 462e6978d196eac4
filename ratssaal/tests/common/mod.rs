//! The real binary as a child process.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "a module of the tests, each uses a part")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

/// The binary without any of our variables in its environment.
pub fn ratssaal(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ratssaal"));
    command.args(args).env_clear().stdin(Stdio::null());
    command
}

/// Runs to the end; gives status and both outputs.
pub fn run(args: &[&str]) -> (Option<i32>, String, String) {
    finish(ratssaal(args).output().unwrap())
}

pub fn finish(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// A running server, killed when dropped.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// The lines of its log, read as they come: a full pipe would hold the server up.
    log: Receiver<String>,
    pub url: String,
}

impl Server {
    /// Starts `serve --dev` on a free port, with one media worker unless `args` say how many, and waits for the line that tells
    /// the address.
    pub fn dev(args: &[&str]) -> Self {
        let fixed: &[&str] = &["serve", "--dev", "--bind", "127.0.0.1:0"];
        let workers: &[&str] = if args.contains(&"--media-workers") { &[] } else { &["--media-workers", "1"] };
        Self::start(ratssaal(&[fixed, workers, args].concat()))
    }

    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = mpsc::channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| lines.send(line + "\n")));
        let mut said = String::new();
        let url = loop {
            let mut line = String::new();
            if stdout.read_line(&mut line).unwrap() == 0 {
                let log: String = log.iter().collect();
                panic!("the server ended before it was ready: {said}{log}");
            }
            said += &line;
            if let Some(rest) = line.split("Ratssaal is ready. Open ").nth(1) {
                break rest.split(' ').next().unwrap().to_owned();
            }
        };
        assert!(said.contains("Ratssaal ist bereit. Öffnen Sie http"), "{said}");
        Self { child, stdout, log, url }
    }

    /// Host and port to connect to.
    pub fn address(&self) -> String {
        self.url.trim_start_matches("http://").to_owned()
    }

    /// Status line, headers and body of a GET over a connection that the server closes.
    pub fn get(&self, path: &str) -> String {
        get(&self.address(), path).unwrap()
    }

    pub fn signal(&self, name: &str) {
        signal(&self.child, name);
    }

    /// A metric's value; 0 if there is none.
    pub fn metric(&self, name: &str) -> u64 {
        metric(&self.address(), name)
    }

    /// Waits for the end; gives the status and the log.
    pub fn end(mut self) -> (ExitStatus, String) {
        let log = self.log.iter().collect();
        (self.child.wait().unwrap(), log)
    }

    /// Reads the log up to a line that contains `text`.
    pub fn wait_for_log(&self, text: &str) -> String {
        let mut read = String::new();
        while !read.contains(text) {
            read += &self.log.recv().unwrap_or_else(|_| panic!("no {text:?} in the log: {read}"));
        }
        read
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a process a signal.
pub fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap().success());
}

/// The value of a metric, with its labels if it has some, of whoever listens there; 0 if there is none.
pub fn metric(address: &str, name: &str) -> u64 {
    let all = get(address, "/metrics").unwrap();
    let value = all.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    value.unwrap_or(0)
}

/// Status line, headers and body of a GET over a connection that the server closes.
pub fn get(address: &str, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A certificate for a name from an authority of our own, as PEM files in the folder.
pub fn certificate(folder: &Path, name: &str, year: i32) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(year, 1, 1));
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &authority).unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    fs::write(folder.join("cert.pem"), leaf.pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
}

/// Asks until it is so.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(30), "never happened: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
