//! A stretch of network between two processes that a test can slow down and cut: a TCP proxy on loopback.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until},
};

/// What the link is like at the moment.
#[derive(Clone, Copy, Default)]
struct State {
    /// How late answers come.
    delay: Duration,
    /// Nothing gets through, and nobody is told: as when a cable is pulled.
    cut: bool,
}

/// Where the link leads.
#[derive(Clone)]
enum Target {
    Unix(PathBuf),
    Tcp(String),
}

/// The link. What runs over it ends with this value.
pub struct Link {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl Link {
    /// To a server on a Unix socket.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn to_socket(path: &Path) -> Result<Self> {
        Self::to(Target::Unix(path.to_owned())).await
    }

    /// To a server on `host:port`, which need not run yet.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn to_port(address: &str) -> Result<Self> {
        Self::to(Target::Tcp(address.to_owned())).await
    }

    async fn to(target: Target) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = watch::Sender::new(State::default());
        let accepting = tokio::spawn(accept(listener, target, state.subscribe()));
        Ok(Self { address, state, accepting })
    }

    /// Where it begins: `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Makes every answer come so much later.
    pub fn delay(&self, delay: Duration) {
        self.state.send_modify(|state| state.delay = delay);
    }

    /// Lets nothing through any more: what is sent is held back, new connections get no answer.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut = true);
    }

    /// Lets everything through again, what was held back first.
    pub fn mend(&self) {
        self.state.send_modify(|state| state.cut = false);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: Target, state: watch::Receiver<State>) {
    while let Ok((near, _)) = listener.accept().await {
        let (target, state) = (target.clone(), state.clone());
        tokio::spawn(async move {
            // Whoever waits for an answer notices when there is none.
            let _ = carry(near, target, state).await;
        });
    }
}

async fn carry(near: TcpStream, target: Target, mut state: watch::Receiver<State>) -> io::Result<()> {
    near.set_nodelay(true)?;
    passable(&mut state).await?;
    let (from, to) = near.into_split();
    match target {
        Target::Unix(path) => {
            let (back, forth) = UnixStream::connect(path).await?.into_split();
            both((from, forth), (back, to), state).await
        }
        Target::Tcp(address) => {
            let far = TcpStream::connect(address).await?;
            far.set_nodelay(true)?;
            let (back, forth) = far.into_split();
            both((from, forth), (back, to), state).await
        }
    }
}

/// Until the link is not cut.
async fn passable(state: &mut watch::Receiver<State>) -> io::Result<()> {
    state.wait_for(|state| !state.cut).await.map(drop).map_err(io::Error::other)
}

/// Both ways, until one has ended: the other then says nothing either.
async fn both(
    there: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    back: (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    state: watch::Receiver<State>,
) -> io::Result<()> {
    tokio::select! {
        ended = way(there.0, there.1, state.clone(), false) => ended,
        ended = way(back.0, back.1, state, true) => ended,
    }
}

/// One way. What is read waits for its time, and behind what was read before it.
async fn way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
    late: bool,
) -> io::Result<()> {
    let (queue, mut queued) = mpsc::unbounded_channel();
    let delays = state.clone();
    let read = async move {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = from.read(&mut buffer).await?;
            let delay = if late { delays.borrow().delay } else { Duration::ZERO };
            // An empty piece is the end.
            if queue.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() || length == 0 {
                return Ok(());
            }
        }
    };
    let write = async {
        while let Some((due, piece)) = queued.recv().await {
            sleep_until(due).await;
            passable(&mut state).await?;
            to.write_all(&piece).await?;
            if piece.is_empty() {
                break;
            }
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(drop)
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// A link to a server that sends everything back.
    async fn echo() -> Result<(Link, TcpStream)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let link = Link::to_port(&listener.local_addr()?.to_string()).await?;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            let (mut from, mut to) = stream.split();
            tokio::io::copy(&mut from, &mut to).await
        });
        let near = TcpStream::connect(link.address()).await?;
        Ok((link, near))
    }

    async fn ask(near: &mut TcpStream) -> Result<Duration> {
        let began = Instant::now();
        near.write_all(b"x").await?;
        near.read_exact(&mut [0]).await?;
        Ok(began.elapsed())
    }

    #[tokio::test]
    async fn answers_are_late_by_what_was_said() -> Result<()> {
        let (link, mut near) = echo().await?;
        ask(&mut near).await?;
        link.delay(Duration::from_millis(200));
        assert!(ask(&mut near).await? >= Duration::from_millis(200));
        Ok(())
    }

    #[tokio::test]
    async fn nothing_passes_a_cut_link_and_everything_after_it() -> Result<()> {
        let (link, mut near) = echo().await?;
        ask(&mut near).await?;
        link.cut();
        near.write_all(b"y").await?;
        let none = timeout(Duration::from_millis(100), near.read_exact(&mut [0])).await;
        assert!(none.is_err(), "something came through");
        link.mend();
        let mut late = [0];
        timeout(Duration::from_secs(5), near.read_exact(&mut late)).await??;
        assert_eq!(&late, b"y");
        Ok(())
    }
}
