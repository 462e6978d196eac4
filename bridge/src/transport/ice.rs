//! ICE-lite (RFC 8445 §2.5): answers the peer's connectivity checks, follows its nominations, and watches its consent.
//!
//! A lite agent sends no checks. It is always the controlled side, has host candidates only, and its valid pairs are the
//! [`FiveTuple`]s on which authenticated checks come (peer-reflexive), so the peer's own candidates are never needed.

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use ring::hmac;
use ring::rand::SecureRandom;
use smallvec::SmallVec;
use thiserror::Error;

use super::five_tuple::FiveTuple;
use super::stun::{self, Malformed, Request};
use crate::media::control::IceParameters;

/// Pairs of one peer that may be valid at once: Wi-Fi, cable and mobile in IPv4 and IPv6, each towards two of our addresses,
/// and some to spare.
pub const MAX_PAIRS: usize = 16;

/// A peer that has sent nothing authentic for this long is gone (RFC 7675 §5.1).
pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Makes a fresh pair of `ice-ufrag` (12 characters, 72 random bits) and `ice-pwd` (24 characters, 144 random bits).
///
/// # Panics
/// When the operating system has no random numbers, as everything in TLS does then.
#[must_use]
pub fn generate_credentials() -> (String, String) {
    let mut random = [0; 27];
    #[expect(clippy::expect_used, reason = "without random numbers no secret can be made and nothing may go on")]
    ring::rand::SystemRandom::new().fill(&mut random).expect("the operating system gives random numbers");
    // base64's alphabet is that of ice-char (RFC 8839 §5.4).
    (STANDARD_NO_PAD.encode(&random[..9]), STANDARD_NO_PAD.encode(&random[9..]))
}

/// USERNAME of a STUN binding request (`our ufrag:their ufrag`), not authenticated: enough to find the transport.
/// `None` for everything else; never allocates, reads at most 32 attributes.
#[must_use]
pub fn stun_username(datagram: &[u8]) -> Option<&str> {
    stun::username(datagram)
}

/// What an answered connectivity check meant.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Outcome {
    /// The check carried USE-CANDIDATE.
    pub nominated: bool,
    /// [`IceLite::selected`] is another pair than before.
    pub selected_changed: bool,
    /// The pair is new; from now on its datagrams belong to this transport.
    pub new_pair: bool,
    /// A pair that no longer belongs to this transport, because there were too many.
    pub forgotten: Option<FiveTuple>,
    /// After a restart: our earlier ufrag, which the demultiplexer can forget.
    pub retired_ufrag: Option<String>,
}

/// Why a datagram was not a connectivity check of this peer. Dropped and counted; only where noted is there a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum IceRefusal {
    /// Not STUN, or contradictory lengths.
    #[error("not a well-formed STUN message")]
    Malformed,
    /// A response or an indication. Indications are harmless keep-alives, but carry no proof of who sent them.
    #[error("not a binding request")]
    NotRequest,
    /// USERNAME, MESSAGE-INTEGRITY or FINGERPRINT is missing.
    #[error("a binding request without credentials")]
    Unauthenticated,
    /// The CRC is wrong.
    #[error("wrong FINGERPRINT")]
    Fingerprint,
    /// USERNAME is not `our ufrag:their ufrag`.
    #[error("unknown USERNAME")]
    Username,
    /// Not made with our password.
    #[error("wrong MESSAGE-INTEGRITY")]
    Integrity,
    /// The peer thinks it is controlled; answered with 487.
    #[error("role conflict: an ICE-lite agent is always controlled")]
    RoleConflict,
    /// An authentic request with an attribute that must be understood and is not; answered with 420.
    #[error("unknown attribute {0:#06x}")]
    UnknownAttribute(u16),
}

impl From<Malformed> for IceRefusal {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Syntax => Self::Malformed,
            Malformed::NotRequest => Self::NotRequest,
            Malformed::Missing => Self::Unauthenticated,
            Malformed::Fingerprint => Self::Fingerprint,
        }
    }
}

/// One generation of credentials, ready for checking.
struct Credentials {
    local_ufrag: String,
    /// What the peer writes into USERNAME; `None` before its description has come.
    username: Option<String>,
    key: hmac::Key,
}

impl Credentials {
    fn new(parameters: &IceParameters) -> Self {
        Self {
            local_ufrag: parameters.local_ufrag.clone(),
            username: Some(format!("{}:{}", parameters.local_ufrag, parameters.remote_ufrag)),
            ..Self::ours(&parameters.local_ufrag, &parameters.local_pwd)
        }
    }

    fn ours(ufrag: &str, pwd: &str) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pwd.as_bytes());
        Self { local_ufrag: ufrag.to_owned(), username: None, key }
    }

    /// Whether a check bears them, so far as they are known.
    fn fit(&self, username: &str) -> bool {
        match &self.username {
            Some(whole) => whole == username,
            None => username.split_once(':').is_some_and(|(ours, _)| ours == self.local_ufrag),
        }
    }
}

/// A pair on which checks come.
#[derive(Clone, Copy)]
struct Valid {
    pair: FiveTuple,
    last_check: Instant,
}

/// The ICE-lite side of one transport.
pub struct IceLite {
    current: Credentials,
    /// Of before a restart, valid until the new ones are used.
    previous: Option<Credentials>,
    valid: SmallVec<[Valid; 2]>,
    selected: Option<FiveTuple>,
    /// A check with USE-CANDIDATE has come.
    nominated: bool,
    last_heard: Instant,
}

impl std::fmt::Debug for IceLite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceLite")
            .field("local_ufrag", &self.current.local_ufrag)
            .field("selected", &self.selected)
            .finish_non_exhaustive()
    }
}

impl IceLite {
    /// Waits for checks. The peer has [`CONSENT_TIMEOUT`] to send the first one.
    #[must_use]
    pub fn new(now: Instant, parameters: &IceParameters) -> Self {
        Self::waiting(now, Credentials::new(parameters))
    }

    /// Waits for checks of a peer that was sent an offer. They may come before its answer, and are answered on the strength of
    /// our credentials alone (RFC 8445 §7.3): left unanswered, browsers repeat them after 50 to 500 ms only.
    #[must_use]
    pub fn expecting(now: Instant, local_ufrag: &str, local_pwd: &str) -> Self {
        Self::waiting(now, Credentials::ours(local_ufrag, local_pwd))
    }

    fn waiting(now: Instant, current: Credentials) -> Self {
        Self { current, previous: None, valid: SmallVec::new(), selected: None, nominated: false, last_heard: now }
    }

    /// The answer of a peer that was expected has come.
    #[must_use]
    pub fn answered(mut self, now: Instant, parameters: &IceParameters) -> Self {
        self.current = Credentials::new(parameters);
        self.last_heard = now;
        self
    }

    /// A STUN datagram (first byte 0–3). When it is a check of this peer, or one that needs an error response, `reply`
    /// holds the response to send back on the same pair; else `reply` is empty.
    ///
    /// # Errors
    /// When it is not a check of this peer; see [`IceRefusal`].
    pub fn handle(
        &mut self,
        now: Instant,
        datagram: &[u8],
        on: FiveTuple,
        reply: &mut Vec<u8>,
    ) -> Result<Outcome, IceRefusal> {
        reply.clear();
        let request = Request::parse(datagram)?;
        let old_session = !self.current.fit(request.username);
        let credentials = match &self.previous {
            _ if !old_session => &self.current,
            Some(previous) if previous.fit(request.username) => previous,
            _ => return Err(IceRefusal::Username),
        };
        if !request.authentic(&credentials.key) {
            return Err(IceRefusal::Integrity);
        }
        if let Some(kind) = request.unknown {
            request.unknown_attribute(kind, &credentials.key, reply);
            return Err(IceRefusal::UnknownAttribute(kind));
        }
        if request.controlled {
            request.role_conflict(&credentials.key, reply);
            return Err(IceRefusal::RoleConflict);
        }
        request.accept(&credentials.key, on.remote, reply);
        self.last_heard = now;

        let mut outcome = Outcome { nominated: request.nominated, ..Outcome::default() };
        let mut restarted = false;
        if !old_session && let Some(previous) = self.previous.take() {
            outcome.retired_ufrag = Some(previous.local_ufrag).filter(|ufrag| *ufrag != self.current.local_ufrag);
            restarted = true;
            // The new session nominates anew; until then its first pair serves as at the beginning.
            self.nominated = false;
        }
        self.remember(now, on, &mut outcome);
        // The latest nomination counts: Chromium nominates aggressively and moves its pair soon after connecting, Firefox
        // nominates once. Before the first, the first pair that works is the best there is.
        let select = request.nominated || (!self.nominated && self.selected.is_none()) || restarted;
        if select && self.selected != Some(on) {
            self.selected = Some(on);
            outcome.selected_changed = true;
        }
        self.nominated |= request.nominated;
        Ok(outcome)
    }

    fn remember(&mut self, now: Instant, pair: FiveTuple, outcome: &mut Outcome) {
        if let Some(known) = self.valid.iter_mut().find(|known| known.pair == pair) {
            known.last_check = now;
            return;
        }
        outcome.new_pair = true;
        if self.valid.len() == MAX_PAIRS {
            let selected = self.selected;
            let others = self.valid.iter().enumerate().filter(|(_, known)| Some(known.pair) != selected);
            if let Some((oldest, _)) = others.min_by_key(|(_, known)| known.last_check) {
                outcome.forgotten = Some(self.valid.swap_remove(oldest).pair);
            }
        }
        self.valid.push(Valid { pair, last_check: now });
    }

    /// New credentials (ICE restart, RFC 8445 §9). The ones in use stay valid until the peer uses the new ones; media goes
    /// on on the selected pair meanwhile. Returns an ufrag of ours that is no longer valid: that of an earlier restart
    /// the peer has never used.
    pub fn restart(&mut self, parameters: &IceParameters) -> Option<String> {
        let replaced = std::mem::replace(&mut self.current, Credentials::new(parameters));
        if self.previous.is_some() {
            Some(replaced.local_ufrag).filter(|ufrag| *ufrag != self.current.local_ufrag)
        } else {
            self.previous = Some(replaced);
            None
        }
    }

    /// Takes over what was heard of the peer's new session, with the credentials of [`Self::restart`], before its description
    /// came. Returns our ufrag that is no longer valid.
    pub fn adopt(&mut self, now: Instant, early: Self) -> Option<String> {
        early.valid.iter().for_each(|known| self.remember(now, known.pair, &mut Outcome::default()));
        early.selected?;
        (self.selected, self.nominated, self.last_heard) = (early.selected, early.nominated, now);
        let retired = self.previous.take()?.local_ufrag;
        (retired != self.current.local_ufrag).then_some(retired)
    }

    /// Where to send: the latest nominated pair, before a nomination the first that passed a check.
    #[must_use]
    pub fn selected(&self) -> Option<FiveTuple> {
        self.selected
    }

    /// Whether an authentic check has come on this pair. Only on such pairs DTLS and SRTP may come.
    #[must_use]
    pub fn is_valid(&self, pair: FiveTuple) -> bool {
        self.valid.iter().any(|known| known.pair == pair)
    }

    /// All pairs that have passed a check, at most [`MAX_PAIRS`].
    pub fn valid(&self) -> impl Iterator<Item = FiveTuple> + '_ {
        self.valid.iter().map(|known| known.pair)
    }

    /// Our ufrags that are valid now: the current one and, during a restart, the one before.
    pub fn local_ufrags(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.current).chain(&self.previous).map(|credentials| credentials.local_ufrag.as_str())
    }

    /// Something authentic came from the peer (SRTP, SRTCP, DTLS records): it is alive and still wants our packets.
    /// Firefox pauses its checks at times, so they alone do not count.
    pub fn heard(&mut self, now: Instant) {
        self.last_heard = self.last_heard.max(now);
    }

    /// When [`Self::expired`] becomes true unless something is heard before.
    #[must_use]
    pub fn expires_at(&self) -> Instant {
        self.last_heard + CONSENT_TIMEOUT
    }

    /// Whether the peer has been silent for [`CONSENT_TIMEOUT`].
    #[must_use]
    pub fn expired(&self, now: Instant) -> bool {
        now >= self.expires_at()
    }
}

#[cfg(test)]
#[path = "ice_tests.rs"]
mod tests;
