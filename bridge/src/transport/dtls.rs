//! DTLS 1.2 of one transport: [`dimpl`] with what it leaves to its user (trust, deadlines, always draining, bounded queues).
//!
//! DTLS 1.2 on purpose: dimpl cannot order the SRTP profiles; its 1.2 server takes AES-256-GCM, AES-128-GCM, CM-80 in this
//! order, its 1.3 server the client's first, which is CM-80 (five times as expensive) for Chromium.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dimpl::{Config, DtlsCertificate, KeyingMaterial, Output, SrtpProfile};
use ring::digest;
use thiserror::Error;

use super::dtls_crypto;

/// How long a handshake may take, from [`Dtls::start`] to the keys. dimpl counts from the first ClientHello only.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// First retransmission; doubles, ±25 %. It is also the pause between answers to a flight that the peer repeats.
pub const DEFAULT_RTO: Duration = Duration::from_millis(200);

/// Datagrams waiting to be sent. SCTP bursts have some hundreds; more is only reached by writing without polling, and
/// then the oldest go on and the newest is lost, as on a full link.
const MAX_OUT: usize = 1024;
/// The largest record of application data: TLS's limit is 2^14 bytes, SCTP packets have about 1200.
const MAX_WRITE: usize = 2048;

/// Why there is no DTLS.
#[derive(Debug, Error)]
pub enum DtlsError {
    /// rcgen could not make a certificate.
    #[error("cannot make the DTLS certificate: {0}; check that the system has random numbers")]
    Certificate(#[from] rcgen::Error),
    /// dimpl refused its configuration.
    #[error("cannot configure DTLS: {0}; this is a bug, please report it")]
    Config(dimpl::Error),
}

/// Our certificate and configuration: made once per process (it takes about 5 ms), shared by all transports.
#[derive(Clone)]
pub struct Identity {
    config: Arc<Config>,
    certificate: Arc<DtlsCertificate>,
    fingerprint: Arc<str>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl Identity {
    /// Makes a self-signed ECDSA P-256 certificate. `rto` is the first retransmission timeout: [`DEFAULT_RTO`], but 2 s in
    /// tests where clients of the `webrtc` crate lose packets (they are stuck when a flight is repeated before their own
    /// first timeout of 1 s).
    ///
    /// # Errors
    /// When the certificate cannot be made or the cryptography fails its self-test.
    pub fn generate(rto: Duration) -> Result<Self, DtlsError> {
        let made = rcgen::generate_simple_self_signed(vec!["ratssaal".to_owned()])?;
        let certificate =
            DtlsCertificate { certificate: made.cert.der().to_vec(), private_key: made.signing_key.serialize_der() };
        let config = Config::builder()
            .with_crypto_provider(dtls_crypto::provider())
            .use_server_cookie(false) // ICE has checked the address; saves a round trip
            .flight_start_rto(rto)
            .flight_retries(8)
            .handshake_timeout(HANDSHAKE_TIMEOUT)
            .build()
            .map_err(DtlsError::Config)?;
        let fingerprint = format_fingerprint(&sha256(&certificate.certificate)).into();
        Ok(Self { config: Arc::new(config), certificate: Arc::new(certificate), fingerprint })
    }

    /// SHA-256 of the certificate as `a=fingerprint:sha-256` has it: `AB:CD:…`.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn sha256(der: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
    hash
}

fn format_fingerprint(hash: &[u8; 32]) -> String {
    hash.map(|byte| format!("{byte:02X}")).join(":")
}

/// The SRTP keys that a handshake yields (RFC 5764 §4.2), sorted by direction.
pub struct Keys {
    profile: SrtpProfile,
    material: KeyingMaterial,
    client: bool,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({}, secret)", self.profile)
    }
}

impl Keys {
    /// The negotiated protection profile.
    #[must_use]
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Master key and master salt for what we send.
    #[must_use]
    pub fn local(&self) -> (&[u8], &[u8]) {
        self.side(self.client)
    }

    /// Master key and master salt for what we receive.
    #[must_use]
    pub fn remote(&self) -> (&[u8], &[u8]) {
        self.side(!self.client)
    }

    /// `client key, server key, client salt, server salt`
    fn side(&self, client: bool) -> (&[u8], &[u8]) {
        let key = match self.profile {
            SrtpProfile::AEAD_AES_256_GCM => 32,
            _ => 16,
        };
        let salt = self.profile.keying_material_len() / 2 - key;
        let (keys, salts) = self.material.split_at(2 * key);
        let nth = usize::from(!client);
        (&keys[nth * key..][..key], &salts[nth * salt..][..salt])
    }
}

/// Why DTLS ended.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum DtlsEnd {
    /// The peer said close_notify.
    #[error("closed by the peer")]
    Peer,
    /// The peer's certificate is not the one whose fingerprint its SDP names.
    #[error("the peer's certificate is not the one its SDP announced")]
    Certificate,
    /// The peer did not ask for SRTP.
    #[error("the peer negotiated no SRTP profile")]
    NoSrtp,
    /// Not finished within [`HANDSHAKE_TIMEOUT`].
    #[error("the handshake took longer than 15 s")]
    Timeout,
    /// The protocol was violated.
    #[error("DTLS failed: {0}")]
    Protocol(String),
    /// What came over DTLS went too far: the data channels' limits.
    #[error("data channels: {0}")]
    Data(&'static str),
}

/// What happened.
#[derive(Debug)]
pub enum DtlsEvent {
    /// The handshake is complete and the certificate is the right one.
    Connected(Keys),
    /// One record of application data: an SCTP packet.
    Data(Bytes),
    /// Nothing more comes; datagrams to send (an alert) may still be polled.
    Ended(DtlsEnd),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// [`Dtls::start`] has not been called.
    Waiting,
    Handshaking {
        until: Instant,
    },
    Connected,
    Ended,
}

/// DTLS with one peer. After each call, poll events and datagrams until there are none.
pub struct Dtls {
    dtls: dimpl::Dtls,
    state: State,
    active: bool,
    remote_fingerprint: [u8; 32],
    verified: bool,
    timeout: Option<Instant>,
    out: VecDeque<Vec<u8>>,
    events: VecDeque<DtlsEvent>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Dtls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.dtls.fmt(f)
    }
}

impl Dtls {
    /// Waits for [`Self::start`]. `active`: we are the DTLS client.
    #[must_use]
    pub fn new(now: Instant, identity: &Identity, active: bool, remote_fingerprint: [u8; 32]) -> Self {
        Self {
            dtls: dimpl::Dtls::new_12(Arc::clone(&identity.config), (*identity.certificate).clone(), now),
            state: State::Waiting,
            active,
            remote_fingerprint,
            verified: false,
            timeout: None,
            out: VecDeque::new(),
            events: VecDeque::new(),
            buffer: vec![0; 2048],
        }
    }

    /// ICE has an address: the handshake's deadline starts, and as the active side we send the ClientHello. Again is fine.
    pub fn start(&mut self, now: Instant) {
        if self.state == State::Waiting {
            self.state = State::Handshaking { until: now + HANDSHAKE_TIMEOUT };
            if self.active {
                self.dtls.set_active(true);
            }
            self.handle_timeout(now);
        }
    }

    /// Whether the keys have been delivered and DTLS has not ended.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// Whether DTLS has ended, by whichever side.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    /// A datagram with first byte 20–63 from an address that ICE has checked (a forged alert could end the handshake).
    /// Garbage, replays and late datagrams are ignored.
    pub fn handle(&mut self, now: Instant, datagram: &[u8]) {
        if self.state == State::Waiting {
            self.start(now);
        }
        if self.expire(now) || self.is_ended() {
            return;
        }
        // handle_timeout sets the clock that handle_packet works with; what it makes has to be drained in between.
        let result = self.dtls.handle_timeout(now);
        self.drain(result);
        if !self.is_ended() {
            let result = self.dtls.handle_packet(datagram);
            self.drain(result);
        }
    }

    /// Sends one record in one datagram. Ignored before the handshake is complete, after the end, and above 2048 bytes.
    pub fn write(&mut self, data: &[u8]) {
        if self.is_connected() && data.len() <= MAX_WRITE {
            let result = self.dtls.send_application_data(data);
            self.drain(result.map(|_| ()));
        }
    }

    /// Says close_notify (nothing, if the handshake is not complete). Makes no event.
    pub fn close(&mut self) {
        if !self.is_ended() {
            let result = self.dtls.close();
            let events = self.events.len();
            self.drain(result);
            self.events.truncate(events);
            self.end(None);
        }
    }

    /// The next datagram to send to the peer's selected address.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.out.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<DtlsEvent> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Waiting | State::Ended => None,
            State::Handshaking { until } => Some(self.timeout.map_or(until, |at| at.min(until))),
            State::Connected => self.timeout,
        }
    }

    /// The time has come, or any time later.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.state != State::Waiting && !self.is_ended() && !self.expire(now) {
            let result = self.dtls.handle_timeout(now);
            self.drain(result);
        }
    }

    /// Our own deadline: dimpl's starts with the first ClientHello, a silent peer has none.
    fn expire(&mut self, now: Instant) -> bool {
        let late = matches!(self.state, State::Handshaking { until } if now >= until);
        if late {
            self.end(Some(DtlsEnd::Timeout));
        }
        late
    }

    fn end(&mut self, why: Option<DtlsEnd>) {
        self.state = State::Ended;
        self.timeout = None;
        self.events.extend(why.map(DtlsEvent::Ended));
    }

    /// Always until `Timeout`: when its queues (10 datagrams out, 30 in) fill up, dimpl fails. Every error is final.
    fn drain(&mut self, result: Result<(), dimpl::Error>) {
        let mut end = result.err().map(|error| match error {
            dimpl::Error::Timeout(_) => DtlsEnd::Timeout,
            dimpl::Error::ConnectionClosed => DtlsEnd::Peer,
            other => DtlsEnd::Protocol(other.to_string()),
        });
        let mut finished = false;
        loop {
            let room = self.buffer.len();
            match self.dtls.poll_output(&mut self.buffer) {
                Output::Packet(packet) if self.out.len() < MAX_OUT => self.out.push_back(packet.to_vec()),
                Output::Packet(_) => {}
                Output::BufferTooSmall { needed } if needed > room => self.buffer.resize(needed, 0),
                // That the peer owns the certificate is proved by dimpl (CertificateVerify); that it is the right one, here.
                Output::PeerCert(der) => {
                    self.verified = sha256(der) == self.remote_fingerprint;
                    if !self.verified {
                        end = end.or(Some(DtlsEnd::Certificate));
                    }
                }
                Output::Connected => finished = true,
                Output::KeyingMaterial(material, profile) if self.verified && end.is_none() => {
                    self.state = State::Connected;
                    self.events.push_back(DtlsEvent::Connected(Keys { profile, material, client: self.active }));
                }
                // Before the keys are out, nothing is trusted.
                Output::ApplicationData(data) if self.state == State::Connected => {
                    self.events.push_back(DtlsEvent::Data(Bytes::copy_from_slice(data)));
                }
                Output::CloseNotify => end = end.or(Some(DtlsEnd::Peer)),
                Output::Timeout(at) => {
                    // Ten years ahead when idle.
                    self.timeout = Some(at);
                    break;
                }
                Output::BufferTooSmall { .. } => {
                    end = end.or(Some(DtlsEnd::Protocol("output does not fit".to_owned())));
                    break;
                }
                _ => {}
            }
        }
        if finished && self.state != State::Connected && end.is_none() {
            end = Some(DtlsEnd::NoSrtp);
        }
        if let Some(why) = end {
            if matches!(why, DtlsEnd::Certificate | DtlsEnd::NoSrtp) {
                self.out.clear(); // the flight that would complete the handshake
            }
            self.end(Some(why));
        }
    }
}

#[cfg(test)]
#[path = "dtls_tests.rs"]
mod tests;
