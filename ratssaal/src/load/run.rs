//! The order of events: everybody joins, things settle, then is measured, the publishers stop, everybody leaves.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, bail};
use clap::ArgMatches;
use livekit_token::{AccessToken, VideoGrants};
use ratssaal_bridge::client::Local;
use ratssaal_bridge::transport::dtls::{DEFAULT_RTO, Identity};
use ratssaal_process::shutdown;
use secrecy::ExposeSecret;
use tokio::sync::mpsc;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::cast::{Cast, identity};
use super::impairment::Impairment;
use super::machine::Process;
use super::options::Options;
use super::report::{Cost, Joins, Report};
use super::session::{Joined, Setup};
use super::stamp::Clock;
use super::stay;
use super::worker::{Command, Meter, Worker};

/// After the publishers have stopped, what is under way may still arrive.
const DRAIN: Duration = Duration::from_secs(1);
/// What is said while it is measured.
const MEASURING: &str = "measuring";
/// Leaving may take so long.
const FAREWELL: Duration = Duration::from_secs(3);
/// How long a token is valid: longer than any run.
const TOKEN: Duration = Duration::from_secs(2 * 86_400);

/// Runs the load and prints what came of it.
pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    let options = Options::read(matches)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let report = runtime.block_on(drive(&options))?;
    report.print(&mut io::stdout())?;
    if let Some(path) = &options.json {
        let json = serde_json::to_string_pretty(&report.json())? + "\n";
        std::fs::write(path, json).with_context(|| format!("cannot write {}; give another --json", path.display()))?;
    }
    match report.joins.failures.first() {
        Some((failure, 1)) => bail!("one participant failed: {failure}"),
        Some((failure, count)) => bail!("{count} participants failed: {failure}"),
        None => Ok(()),
    }
}

/// What the process costs at a moment.
#[derive(Clone, Copy)]
struct Reading {
    at: Instant,
    time: SystemTime,
    own: Duration,
    server: Option<(Duration, u64)>,
    received: u64,
    sent: u64,
    bytes: u64,
}

struct Run<'a> {
    options: &'a Options,
    server: Option<Process>,
    meter: Arc<Meter>,
    workers: Vec<Worker>,
    stop: CancellationToken,
    joins: Joins,
    waiting: u32,
    present: u32,
    /// The server's resident memory while it is measured, each second, bytes.
    memory: Vec<u64>,
}

async fn drive(options: &Options) -> anyhow::Result<Report> {
    let clock = Clock(Instant::now());
    let meter = Arc::new(Meter::default());
    let start = |number| Worker::start(number, clock, options.fps, Arc::clone(&meter));
    let workers =
        (0..options.threads).map(start).collect::<Result<Vec<_>, _>>().context("cannot start a media thread")?;
    let mut run = Run {
        options,
        server: options.server_pid.map(Process::new).transpose()?,
        meter,
        workers,
        stop: shutdown::on_signals().context("cannot listen for signals")?,
        joins: Joins::default(),
        waiting: options.participants(),
        present: 0,
        memory: Vec::new(),
    };
    let report = run.all().await;
    run.workers.iter().for_each(|worker| worker.send(Command::End));
    report
}

impl Run<'_> {
    async fn all(&mut self) -> anyhow::Result<Report> {
        let identity = Identity::generate(DEFAULT_RTO)?;
        let (reports, mut joined) = mpsc::unbounded_channel();
        let leave = CancellationToken::new();
        let before = self.read()?;
        let began = tokio::time::Instant::now();
        let mut sessions = Vec::new();
        for number in 0..self.options.participants() {
            let at = began + Duration::from_secs_f64(f64::from(number) / self.options.ramp);
            while let Some(report) = tokio::select! {
                () = sleep_until(at) => None,
                report = joined.recv() => report,
                () = self.stop.cancelled() => None,
            } {
                self.note(report);
            }
            if self.stop.is_cancelled() {
                bail!("interrupted while joining");
            }
            let setup = self.setup(number, &identity, reports.clone(), leave.clone())?;
            sessions.push(tokio::spawn(stay::attend(setup, identity.clone(), self.options.stay)));
        }
        drop(reports);
        while self.waiting > 0
            && let Some(report) = joined.recv().await
        {
            self.note(report);
            self.progress("joining");
        }
        let after = self.read()?;
        self.joins.took = began.elapsed();
        if self.present == 0 {
            let why = self.joins.failures.first().map(|(failure, _)| failure.to_string());
            bail!("nobody could join: {}", why.unwrap_or_default());
        }
        self.pause(self.options.settle, "settling", &mut joined).await;
        self.tell(|| Command::Reset);
        let from = self.read()?;
        self.pause(self.options.duration, MEASURING, &mut joined).await;
        let to = self.read()?;
        self.tell(|| Command::Stop);
        sleep(DRAIN).await;
        while let Ok(report) = joined.try_recv() {
            self.note(report);
        }
        let summaries = self.summaries()?;
        leave.cancel();
        let farewell = async {
            for session in sessions {
                // A session cannot panic without the runtime telling.
                let _ = session.await;
            }
        };
        let _ = timeout(FAREWELL, farewell).await;
        self.line("");
        let mut joins = std::mem::take(&mut self.joins);
        joins.failures.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let memory = std::mem::take(&mut self.memory);
        let cost = Cost { memory_course: course(&memory), ..cost(&before, &after, &from, &to, self.present) };
        Ok(Report::new(self.options, joins, cost, summaries))
    }

    /// What one participant needs.
    fn setup(
        &self,
        number: u32,
        identity_of: &Identity,
        reports: mpsc::UnboundedSender<Joined>,
        leave: CancellationToken,
    ) -> anyhow::Result<Setup> {
        let options = self.options;
        let (room, place) = (number % options.rooms, number / options.rooms);
        let publishes = place < options.publishers;
        // Those who only subscribe first.
        let impaired = f64::from(options.per_room() - place) <= f64::from(options.per_room()) * options.impaired;
        let cast = Cast {
            number,
            seed: options.seed,
            talk: options.talk.filter(|_| publishes),
            layers: if publishes { options.layers.clone() } else { Vec::new() },
            fps: options.fps,
            tiles: options.tiles,
            tile: options.tile,
            dynacast: options.dynacast,
            impairment: if impaired { options.impairment } else { Impairment::default() },
        };
        let grants =
            VideoGrants { room_join: true, room: format!("{}-{room}", options.room), ..VideoGrants::default() };
        let token = AccessToken::with_api_key(&options.key, options.secret.expose_secret())
            .with_ttl(TOKEN)
            .with_identity(&identity(number))
            .with_grants(grants)
            .to_jwt()
            .context("the token cannot be signed")?;
        let workers = self.workers.len();
        Ok(Setup {
            cast,
            url: if publishes { options.url.clone() } else { options.subscriber_url.clone() },
            tls: options.tls.clone(),
            token,
            local: Local::new(identity_of),
            seat: number as usize / workers,
            worker: self.workers[number as usize % workers].clone(),
            reports,
            leave,
            rejoin: options.rejoin,
        })
    }

    fn note(&mut self, report: Joined) {
        match report {
            Joined::Away => {
                self.present = self.present.saturating_sub(1);
                self.joins.rejoined += 1;
            }
            Joined::Again => self.present += 1,
            Joined::Back(away) => self.joins.away.record(micros(away)),
            Joined::Connected { after, profile } => {
                self.joins.connected.record(micros(after));
                *self.joins.profiles.entry(profile).or_default() += 1;
                self.waiting = self.waiting.saturating_sub(1);
                self.present += 1;
            }
            Joined::Left => {
                self.present = self.present.saturating_sub(1);
                self.waiting += 1;
                self.joins.left += 1;
            }
            Joined::Failed { failure, connected } => {
                if connected {
                    self.present = self.present.saturating_sub(1);
                } else {
                    self.waiting = self.waiting.saturating_sub(1);
                }
                match self.joins.failures.iter_mut().find(|(known, _)| *known == failure) {
                    Some((_, count)) => *count += 1,
                    None => self.joins.failures.push((failure, 1)),
                }
            }
        }
    }

    /// Waits, and shows how it goes.
    async fn pause(&mut self, time: Duration, what: &str, joined: &mut mpsc::UnboundedReceiver<Joined>) {
        let end = tokio::time::Instant::now() + time;
        loop {
            while let Ok(report) = joined.try_recv() {
                self.note(report);
            }
            self.progress(what);
            if let Some(memory) =
                self.server.as_ref().filter(|_| what == MEASURING).and_then(|server| server.memory().ok())
            {
                self.memory.push(memory);
            }
            let next = (tokio::time::Instant::now() + Duration::from_secs(1)).min(end);
            if self.stop.run_until_cancelled(sleep_until(next)).await.is_none() || next == end {
                return;
            }
        }
    }

    fn progress(&self, what: &str) {
        let (sent, received) = (self.meter.sent.load(Relaxed), self.meter.received.load(Relaxed));
        let (all, failed) = (self.options.participants(), self.joins.failures.iter().map(|(_, n)| n).sum::<u32>());
        self.line(&format!(
            "{what}: {} of {all} in, {failed} failed, {sent} packets sent, {received} received",
            self.present
        ));
    }

    /// A line that the next one replaces, for people only.
    fn line(&self, text: &str) {
        let mut err = io::stderr();
        if err.is_terminal() {
            // Without a terminal there is nobody to be told.
            let _ = write!(err, "\r\x1b[2K{text}").and_then(|()| err.flush());
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        self.workers.iter().for_each(|worker| worker.send(command()));
    }

    fn summaries(&self) -> anyhow::Result<Vec<super::participant::Summary>> {
        let (reply, answers) = std_mpsc::channel();
        self.tell(|| Command::Summaries(reply.clone()));
        drop(reply);
        let mut all = Vec::new();
        for _ in &self.workers {
            all.extend(
                answers.recv_timeout(Duration::from_secs(10)).context("a media thread has ended; see above why")?,
            );
        }
        Ok(all)
    }

    fn read(&self) -> anyhow::Result<Reading> {
        let server = match &self.server {
            Some(process) => {
                let gone = "the server's process has ended; look into its log";
                Some((process.cpu().context(gone)?, process.memory().context(gone)?))
            }
            None => None,
        };
        Ok(Reading {
            at: Instant::now(),
            time: SystemTime::now(),
            own: Process::own().cpu()?,
            server,
            received: self.meter.received.load(Relaxed),
            sent: self.meter.sent.load(Relaxed),
            bytes: self.meter.bytes.load(Relaxed),
        })
    }
}

/// The mean of the first and of the last quarter of what was seen, if there is enough to tell.
fn course(seen: &[u64]) -> Option<(u64, u64)> {
    let quarter = seen.len() / 4;
    let mean = |part: &[u64]| part.iter().sum::<u64>() / part.len() as u64;
    (quarter > 0).then(|| (mean(&seen[..quarter]), mean(&seen[seen.len() - quarter..])))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn cost(before: &Reading, after: &Reading, from: &Reading, to: &Reading, present: u32) -> Cost {
    let server = |a: &Reading, b: &Reading| Some(b.server?.0.saturating_sub(a.server?.0));
    let present = present.max(1);
    Cost {
        wall: to.at - from.at,
        began: from.time,
        own: to.own.saturating_sub(from.own),
        server: server(from, to),
        server_joins: server(before, after).map(|cpu| cpu / present),
        memory: before.server.zip(to.server).map(|(a, b)| b.1.saturating_sub(a.1) / u64::from(present)),
        memory_course: None,
        sent: to.sent - from.sent,
        received: to.received - from.received,
        bytes: to.bytes - from.bytes,
    }
}
