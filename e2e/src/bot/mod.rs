//! A participant without a browser: joins over v0 or v1, publishes generated media, subscribes and counts.

mod publish;
mod session;
mod state;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, anyhow, ensure};
use livekit_protocol::{DataPacket, Ping, signal_request};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout},
};

pub use self::state::{Heard, View};
use self::{session::Command, state::Shared};
use crate::{received::Received, server::Server, token, wait::until, wire::Tamper};

/// How a bot joins.
#[derive(Clone, Debug)]
pub struct Options {
    /// The room's name.
    pub room: String,
    /// Its identity.
    pub identity: String,
    /// Its number in the stamps of what it publishes.
    pub number: u32,
    /// One PeerConnection (`/rtc/v1`) instead of two (`/rtc`).
    pub v1: bool,
    /// Whether it publishes a simulcast camera and a microphone.
    pub publish: bool,
    /// Whether it gets every track unasked.
    pub auto_subscribe: bool,
    /// Whether it keeps its PeerConnections when it has lost its WebSocket or is told to resume, for [`Bot::resume`].
    pub resumes: bool,
    /// What happens to its datagrams.
    pub tamper: Option<Arc<dyn Tamper>>,
}

impl Options {
    /// Bot `number` of `room` on v0: publishing or only listening.
    #[must_use]
    pub fn new(room: &str, number: u32, publish: bool) -> Self {
        Self {
            room: room.to_owned(),
            identity: format!("bot-{number}"),
            number,
            v1: false,
            publish,
            auto_subscribe: true,
            resumes: false,
            tamper: None,
        }
    }

    /// The same over a tampered network.
    #[must_use]
    pub fn tampered(mut self, tamper: Arc<dyn Tamper>) -> Self {
        self.tamper = Some(tamper);
        self
    }

    /// The same on v1 if `v1`.
    #[must_use]
    pub fn v1(mut self, v1: bool) -> Self {
        self.v1 = v1;
        self
    }
}

/// A participant in a room. Dropping it cuts its connections without a word; [`Bot::leave`] says goodbye.
pub struct Bot {
    /// How it joined.
    pub options: Options,
    shared: Arc<Shared>,
    commands: mpsc::UnboundedSender<Command>,
    task: Option<JoinHandle<Result<()>>>,
    pings: AtomicI64,
}

impl Drop for Bot {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Bot {
    /// Joins, and waits until its connections are up and, if it publishes, its tracks are accepted.
    ///
    /// # Errors
    /// It is refused, or not connected within 20 s.
    pub async fn join(server: &Server, options: Options) -> Result<Self> {
        let token = token::token(server, &options.room, &options.identity);
        Self::join_with(server, options, &token).await
    }

    /// Joins with a given token.
    ///
    /// # Errors
    /// As [`Bot::join`].
    pub async fn join_with(server: &Server, options: Options, token: &str) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (commands, inbox) = mpsc::unbounded_channel();
        let limit = Duration::from_secs(20);
        let started = timeout(limit, session::start(server, &options, token, Arc::clone(&shared), inbox));
        let session =
            started.await.map_err(|_| anyhow!("{}: no join response within {limit:?}", options.identity))??;
        let task = tokio::spawn(session.run());
        let bot = Self { options, shared, commands, task: Some(task), pings: AtomicI64::new(1000) };
        let what = format!("{} is connected", bot.options.identity);
        bot.wait(&what, limit, |view| (view.ended.is_some() || view.connected).then_some(())).await?;
        bot.check_alive()?;
        Ok(bot)
    }

    /// Fails if the session has ended, with its reason.
    ///
    /// # Errors
    /// It has ended.
    pub fn check_alive(&self) -> Result<()> {
        self.shared.view(|view| match &view.ended {
            Some(reason) => Err(anyhow!("{}'s session ended: {reason}", self.options.identity)),
            None => Ok(()),
        })
    }

    /// Looks at what the bot knows and has received.
    pub fn view<T>(&self, look: impl FnOnce(&View) -> T) -> T {
        self.shared.view(look)
    }

    /// Waits until `look` answers `Some`.
    ///
    /// # Errors
    /// Not within `limit`.
    pub async fn wait<T>(&self, what: &str, limit: Duration, mut look: impl FnMut(&View) -> Option<T>) -> Result<T> {
        until(what, limit, || self.shared.view(&mut look)).await
    }

    /// Waits until nothing of what was sent is missing, once its publishers have stopped; their numbers.
    ///
    /// # Errors
    /// Something does not come within 5 s: each track that lacks something is named.
    pub async fn has_everything(&self) -> Result<BTreeSet<u32>> {
        let what = format!("{} has everything", self.options.identity);
        // What was sent last may still be on its way, or be asked for again.
        let complete = |view: &View| view.received.values().all(Received::is_complete).then_some(());
        if let Err(error) = self.wait(&what, Duration::from_secs(5), complete).await {
            let lacking = self.view(|view| {
                let lacking = view.received.iter().filter(|(_, received)| !received.is_complete());
                lacking.map(|(sid, received)| format!("{sid}: {received:?}")).collect::<Vec<_>>().join("\n")
            });
            return Err(error.context(lacking));
        }
        Ok(self.view(|view| view.received.values().filter_map(|received| received.publisher).collect()))
    }

    /// Sends a signal request as it is.
    ///
    /// # Errors
    /// The session has ended.
    pub fn request(&self, message: signal_request::Message) -> Result<()> {
        self.commands.send(Command::Request(message)).map_err(|_| anyhow!("the session has ended"))
    }

    /// Waits until the server has served every request made so far: it answers a ping made after them.
    ///
    /// # Errors
    /// The session has ended, or the server takes more than 10 s.
    pub async fn settled(&self) -> Result<()> {
        let timestamp = self.pings.fetch_add(1, Ordering::Relaxed);
        self.request(signal_request::Message::PingReq(Ping { timestamp, rtt: 0 }))?;
        let answered = |view: &View| (view.answered_ping == timestamp).then_some(());
        self.wait("a ping is answered", Duration::from_secs(10), answered).await
    }

    /// Waits until nothing of the track `silent` comes any more while the track `flowing` goes on.
    ///
    /// # Errors
    /// It goes on for 10 s, or nothing flows.
    pub async fn falls_silent(&self, silent: &str, flowing: &str) -> Result<()> {
        let limit = Duration::from_secs(10);
        let end = Instant::now() + limit;
        loop {
            let (before, other) = self.view(|view| (view.packets_of(silent), view.packets_of(flowing)));
            self.wait("the other track flows", limit, |view| (view.packets_of(flowing) > other + 20).then_some(()))
                .await?;
            if self.view(|view| view.packets_of(silent)) == before {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{silent} still comes after {limit:?}");
        }
    }

    /// Waits until more of a track comes.
    ///
    /// # Errors
    /// Not within 10 s.
    pub async fn flows(&self, sid: &str) -> Result<()> {
        let before = self.view(|view| view.packets_of(sid));
        let what = format!("{sid} comes to {}", self.options.identity);
        self.wait(&what, Duration::from_secs(10), |view| (view.packets_of(sid) > before + 10).then_some(())).await
    }

    /// Sends a data packet on the reliable or the lossy channel.
    ///
    /// # Errors
    /// The session has ended.
    pub fn send(&self, packet: DataPacket, reliable: bool) -> Result<()> {
        self.commands.send(Command::Data(packet, reliable)).map_err(|_| anyhow!("the session has ended"))
    }

    /// Stops sending media and waits until what is on its way has left.
    ///
    /// # Errors
    /// The session has ended, or this takes more than 5 s.
    pub async fn stop_publishing(&self) -> Result<()> {
        self.commands.send(Command::StopMedia).map_err(|_| anyhow!("the session has ended"))?;
        self.wait("media stops", Duration::from_secs(5), |view| (!view.publishing).then_some(())).await
    }

    /// Comes back to its session over a new WebSocket, to any server, as a client does that has lost its WebSocket.
    ///
    /// # Errors
    /// It is refused, or told something else than that its session goes on.
    pub async fn resume(&self, server: &Server) -> Result<()> {
        let token = token::token(server, &self.options.room, &self.options.identity);
        let sid = self.view(|view| view.me.sid.clone());
        let (sender, receiver) = session::come_back(server, &self.options, &token, &sid).await?;
        self.commands.send(Command::Resume(sender, receiver)).map_err(|_| anyhow!("the session has ended"))?;
        self.wait("it is back", Duration::from_secs(5), |view| view.away.is_none().then_some(())).await
    }

    /// Leaves and waits until the session is over.
    ///
    /// # Errors
    /// The session ended with an error before.
    pub async fn leave(mut self) -> Result<()> {
        let _ = self.commands.send(Command::Leave);
        match self.task.take() {
            Some(task) => timeout(Duration::from_secs(10), task).await??,
            None => Ok(()),
        }
    }
}
