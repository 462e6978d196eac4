//! ICE as the controlling agent (RFC 8445): checks the server's host candidates, takes the first that answers, renews
//! consent (RFC 7675), and answers the checks of servers that are full agents.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::RngCore;
use ring::hmac;

use super::port::Outgoing;
use super::stun::{self, Transaction};
use crate::transport::stun::Request;

/// Pause between checks while connecting (RFC 8445 §14.2).
const PACE: Duration = Duration::from_millis(50);
/// Pause between checks that renew consent (RFC 7675 §5.1 asks for one each 4–6 s; browsers do it more often).
const CONSENT: Duration = Duration::from_millis(2500);
/// No answer for so long: the server is gone (RFC 7675 §5.1).
const LOST: Duration = Duration::from_secs(30);
/// A server offers a handful.
const MAX_CANDIDATES: usize = 16;
/// Unanswered checks remembered.
const MAX_PENDING: usize = 16;

/// What ICE has found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// The first pair works.
    Connected,
    /// Nothing new.
    Nothing,
}

/// The server's credentials.
struct Remote {
    username: String,
    key: hmac::Key,
}

/// The agent of one transport.
pub(super) struct Agent {
    ufrag: String,
    key: hmac::Key,
    tie: u64,
    remote: Option<Remote>,
    candidates: Vec<SocketAddr>,
    next: usize,
    pending: Vec<(Transaction, SocketAddr, Instant)>,
    due: Instant,
    selected: Option<SocketAddr>,
    answered: Instant,
    rtt: Option<Duration>,
    scratch: Vec<u8>,
}

fn key(password: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
}

impl Agent {
    pub(super) fn new(now: Instant, ufrag: &str, password: &str) -> Self {
        Self {
            ufrag: ufrag.to_owned(),
            key: key(password),
            tie: rand::rng().next_u64(),
            remote: None,
            candidates: Vec::new(),
            next: 0,
            pending: Vec::new(),
            due: now,
            selected: None,
            answered: now,
            rtt: None,
            scratch: Vec::with_capacity(256),
        }
    }

    /// The server's credentials are known: checks begin. Again is fine.
    pub(super) fn start(&mut self, now: Instant, ufrag: &str, password: &str) {
        if self.remote.is_none() {
            self.remote = Some(Remote { username: format!("{ufrag}:{}", self.ufrag), key: key(password) });
            (self.due, self.answered) = (now, now);
        }
    }

    /// An address of the server.
    pub(super) fn add_candidate(&mut self, address: SocketAddr) {
        if self.candidates.len() < MAX_CANDIDATES && !self.candidates.contains(&address) {
            self.candidates.push(address);
        }
    }

    /// Where media goes.
    pub(super) fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// The last check's round trip.
    pub(super) fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Whether the server has not answered for 30 s.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        self.remote.is_some() && now.saturating_duration_since(self.answered) > LOST
    }

    /// Sends the check that is due.
    pub(super) fn tick(&mut self, now: Instant, out: &mut Outgoing) {
        let Some(remote) = &self.remote else { return };
        if now < self.due || self.candidates.is_empty() {
            return;
        }
        let to = self.selected.unwrap_or_else(|| self.candidates[self.next % self.candidates.len()]);
        self.next += 1;
        self.due = now + if self.selected.is_some() { CONSENT } else { PACE };
        let mut transaction = Transaction::default();
        rand::rng().fill_bytes(&mut transaction);
        if self.pending.len() == MAX_PENDING {
            self.pending.remove(0);
        }
        self.pending.push((transaction, to, now));
        stun::write_check(&transaction, &remote.username, &remote.key, self.tie, &mut self.scratch);
        out.push(to, &self.scratch);
    }

    /// A STUN datagram from the server.
    pub(super) fn handle(&mut self, now: Instant, from: SocketAddr, datagram: &[u8], out: &mut Outgoing) -> Outcome {
        if let Ok(request) = Request::parse(datagram) {
            let ours = request.username.split(':').next() == Some(&self.ufrag);
            if ours && request.authentic(&self.key) {
                request.accept(&self.key, from, &mut self.scratch);
                out.push(from, &self.scratch);
                self.add_candidate(from);
            }
            return Outcome::Nothing;
        }
        let Some(transaction) = self.remote.as_ref().and_then(|remote| stun::read_success(datagram, &remote.key))
        else {
            return Outcome::Nothing;
        };
        let Some(at) = self.pending.iter().position(|(id, to, _)| *id == transaction && *to == from) else {
            return Outcome::Nothing;
        };
        let (.., sent) = self.pending.swap_remove(at);
        self.answered = now;
        self.rtt = Some(now.saturating_duration_since(sent));
        if self.selected.replace(self.selected.unwrap_or(from)).is_some() {
            return Outcome::Nothing;
        }
        self.pending.clear();
        self.due = now + CONSENT;
        Outcome::Connected
    }
}
