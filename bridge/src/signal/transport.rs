//! A PeerConnection as its session sees it: its id at the media worker, its events, its ICE credentials. Closed when dropped.

use std::future::pending;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::media::MediaRoom;
use crate::media::control::{Command, Downlink, Event, ExtensionIds, TransportId};
use crate::room::Lingering;
use crate::transport::ice;
use crate::transport::sdp::{LocalTransport, RemoteTransport};

/// How long a client that was told to leave may take to close its connection.
const PARTING: Duration = Duration::from_secs(2);

/// How long media may flow over this bridge of a participant who goes on at another one.
const LINGER: Duration = Duration::from_secs(3);

/// What a client has of another server.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GoingOn {
    /// The SCTP streams of its data channels, `_reliable` and `_lossy`.
    pub(crate) channels: [Option<u16>; 2],
    /// The way to it.
    pub(crate) downlink: Option<Downlink>,
}

/// One PeerConnection of a client.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) id: TransportId,
    room: MediaRoom,
    events: mpsc::Receiver<Event>,
    /// Our ICE user fragment and password.
    local: (String, String),
    /// What the client's last description said, once there is one.
    remote: Option<RemoteTransport>,
    /// True where we open the data channels.
    open_channels: bool,
    /// What the client has already, of another server.
    going_on: Option<GoingOn>,
}

impl Transport {
    /// A transport that the client does not know of yet.
    pub(crate) fn new(room: &MediaRoom, open_channels: bool) -> Self {
        let id = TransportId::next();
        let local = ice::generate_credentials();
        let this = Self {
            id,
            events: room.attach(id),
            room: room.clone(),
            local,
            remote: None,
            open_channels,
            going_on: None,
        };
        this.expect();
        this
    }

    /// Where we offer, the client's checks may be there before its answer.
    fn expect(&self) {
        if self.open_channels {
            let (local_ufrag, local_pwd) = self.local.clone();
            self.send(Command::ExpectChecks { transport: self.id, local_ufrag, local_pwd });
        }
    }

    /// The client made its PeerConnection with another server.
    pub(crate) fn goes_on(&mut self, with: GoingOn) {
        self.going_on = Some(with);
    }

    /// Our side, for the SDP.
    pub(crate) fn local(&self) -> LocalTransport {
        LocalTransport {
            ice_ufrag: self.local.0.clone(),
            ice_pwd: self.local.1.clone(),
            fingerprint: self.room.fingerprint().to_owned(),
            candidates: self.room.candidates().to_vec(),
        }
    }

    /// Whether the client's description has been taken.
    pub(crate) fn is_open(&self) -> bool {
        self.remote.is_some()
    }

    /// Prepares for a description of the client: one that restarts ICE is met with new credentials of ours.
    pub(crate) fn prepare(&mut self, remote: &RemoteTransport) {
        if self.remote.as_ref().is_some_and(|known| remote.restarts_ice(known)) {
            self.renew();
        }
    }

    /// New ICE credentials of ours; they hold once the client's next description is taken.
    pub(crate) fn renew(&mut self) {
        self.local = ice::generate_credentials();
        self.expect();
    }

    /// Takes the client's description: opens the transport at the worker, or restarts ICE where the client did.
    pub(crate) fn take(&mut self, remote: &RemoteTransport) {
        let ice = remote.ice(&self.local.0, &self.local.1);
        let (transport, room) = (self.id, self.room.id());
        match &self.remote {
            None => {
                let (dtls, open_channels) = (remote.dtls(), self.open_channels);
                self.send(Command::OpenTransport { transport, room, ice, dtls, open_channels });
                if let Some(GoingOn { channels, downlink }) = self.going_on {
                    self.send(Command::GoOn { transport, channels, downlink });
                }
            }
            Some(known) if remote.restarts_ice(known) => self.send(Command::RestartIce { transport, ice }),
            Some(_) => {}
        }
        self.remote = Some(remote.clone());
    }

    /// To the worker.
    pub(crate) fn send(&self, command: Command) {
        self.room.send(command);
    }

    /// The participant is out. Nothing flows any more from now on, but the client, which was told to leave, gets a moment to
    /// close the connection itself: it takes one that the server closes for a fault.
    pub(crate) fn part(mut self) {
        self.send(Command::Negotiated {
            transport: self.id,
            extensions: ExtensionIds::default(),
            receive: Vec::new(),
            send: Vec::new(),
        });
        tokio::spawn(async move {
            let closed = async { while !matches!(self.event().await, Event::Closed { .. }) {} };
            let _ = tokio::time::timeout(PARTING, closed).await;
        });
    }

    /// The participant goes on at another bridge. What flows goes on flowing until its client is connected there. This bridge stays
    /// for as long in any case: the client's WebSocket may lead over it, and `livekit-client`, which waits two seconds at the end of a
    /// resume, forgets what it has yet to say when it loses the WebSocket before.
    pub(crate) fn linger(mut self, lingering: Lingering) {
        tokio::spawn(async move {
            let over = Instant::now() + LINGER;
            let closed = async { while !matches!(self.event().await, Event::Closed { .. }) {} };
            let _ = tokio::time::timeout_at(over, closed).await;
            drop(self);
            tokio::time::sleep_until(over).await;
            drop(lingering);
        });
    }

    /// The next event; pending for ever once the worker is gone. Cancel-safe.
    async fn event(&mut self) -> Event {
        match self.events.recv().await {
            Some(event) => event,
            None => pending().await,
        }
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.send(Command::CloseTransport { transport: self.id });
    }
}

/// The next event of either transport. Cancel-safe.
pub(crate) async fn next_event(first: Option<&mut Transport>, second: Option<&mut Transport>) -> Event {
    async fn of(transport: Option<&mut Transport>) -> Event {
        match transport {
            Some(transport) => transport.event().await,
            None => pending().await,
        }
    }
    tokio::select! {
        event = of(first) => event,
        event = of(second) => event,
    }
}
