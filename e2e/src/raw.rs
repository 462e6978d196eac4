//! A client without a WebRTC stack: it signals with a written SDP and then sends whatever datagrams a test wants.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use livekit_protocol::{SessionDescription, SignalTarget, signal_request, signal_response};
use rtc::{
    crypto::{RTCCryptoProvider, providers::RingProvider},
    stun::{
        attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME},
        fingerprint::FINGERPRINT,
        integrity::MessageIntegrity,
        message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId},
        textattrs::TextAttribute,
    },
};
use tokio::time::timeout;

use crate::{
    server::Server,
    signal::{self, Receiver, Sender},
    token::token,
};

const UFRAG: &str = "rawu";
const PASSWORD: &str = "rawpasswordrawpasswordra";

/// A client that has signalled and knows where to send.
pub struct Raw {
    /// Its socket, connected to the server's.
    pub socket: UdpSocket,
    /// The server's ICE username fragment.
    pub ufrag: String,
    password: String,
    /// The signalling WebSocket; the session lives as long as it.
    pub signal: (Sender, Receiver),
}

/// An offer with a data channel section only.
#[must_use]
pub fn offer() -> String {
    let fingerprint = ["AB"; 32].join(":");
    format!(
        "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
         m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:{UFRAG}\r\na=ice-pwd:{PASSWORD}\r\n\
         a=fingerprint:sha-256 {fingerprint}\r\na=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\n"
    )
}

impl Raw {
    /// Joins over v0, offers [`offer`] and learns the server's address and credentials. No datagram is sent yet.
    ///
    /// # Errors
    /// It is refused, or the answer names no UDP candidate.
    pub async fn join(server: &Server, room: &str, identity: &str) -> Result<Self> {
        let (mut sender, mut receiver) =
            signal::open(server, &signal::path_v0(&token(server, room, identity), true)).await?;
        let offer =
            SessionDescription { r#type: "offer".to_owned(), sdp: offer(), id: 1, ..SessionDescription::default() };
        sender.send(signal_request::Message::Offer(offer)).await?;
        let (mut answer, mut candidate) = (None, None);
        while answer.is_none() || candidate.is_none() {
            let next = timeout(Duration::from_secs(10), receiver.next()).await.context("no answer in 10 s")??;
            match next.context("the server closed the WebSocket")? {
                signal_response::Message::Answer(description) => {
                    candidate = candidate.or_else(|| description.sdp.lines().find_map(udp_candidate));
                    answer = Some(description.sdp);
                }
                signal_response::Message::Trickle(trickle) if trickle.target == SignalTarget::Publisher as i32 => {
                    let init: serde_json::Value = serde_json::from_str(&trickle.candidate_init)?;
                    candidate = candidate.or_else(|| udp_candidate(init["candidate"].as_str().unwrap_or_default()));
                }
                signal_response::Message::Leave(leave) => bail!("the server said leave: {leave:?}"),
                _ => {}
            }
        }
        let (answer, candidate) = (answer.context("no answer")?, candidate.context("no candidate")?);
        let attribute = |name: &str| {
            let line = answer.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::to_owned).with_context(|| format!("the answer has no {name}"))
        };
        let any: IpAddr = if candidate.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(candidate)?;
        Ok(Self {
            socket,
            ufrag: attribute("a=ice-ufrag:")?,
            password: attribute("a=ice-pwd:")?,
            signal: (sender, receiver),
        })
    }

    /// A connectivity check as the protocol wants it, but for what a test changes: the username and the password.
    ///
    /// # Errors
    /// Never with text of ordinary length.
    pub fn check_with(&self, username: &str, password: Option<&str>) -> Result<Message> {
        let provider = RingProvider::new();
        let mut message = Message::new();
        let mut setters: Vec<Box<dyn Setter + '_>> = vec![
            Box::new(TransactionId::new()),
            Box::new(BINDING_REQUEST),
            Box::new(TextAttribute::new(ATTR_USERNAME, username.to_owned())),
        ];
        setters.push(Box::new(Bytes(ATTR_PRIORITY.0, 1_862_270_975u32.to_be_bytes().to_vec())));
        setters.push(Box::new(Bytes(ATTR_ICE_CONTROLLING.0, 1u64.to_be_bytes().to_vec())));
        setters.push(Box::new(Bytes(ATTR_USE_CANDIDATE.0, vec![])));
        let crypto = provider.crypto();
        if let Some(password) = password {
            setters
                .push(Box::new(MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), crypto)));
        }
        setters.push(Box::new(FINGERPRINT));
        message.build(&setters)?;
        Ok(message)
    }

    /// The right check.
    ///
    /// # Errors
    /// Never.
    pub fn check(&self) -> Result<Message> {
        self.check_with(&format!("{}:{UFRAG}", self.ufrag), Some(&self.password))
    }

    /// Whether the server answers a check with success within `wait`.
    ///
    /// # Errors
    /// The socket fails.
    pub fn is_answered(&self, check: &Message, wait: Duration) -> Result<bool> {
        self.socket.set_read_timeout(Some(wait))?;
        self.socket.send(&check.raw)?;
        let mut buffer = [0; 2048];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            let mut response = Message { raw: buffer[..length].to_vec(), ..Message::default() };
            if response.decode().is_ok() && response.transaction_id == check.transaction_id {
                return Ok(response.typ == BINDING_SUCCESS);
            }
        }
        Ok(false)
    }

    /// Does the check that opens the way for DTLS.
    ///
    /// # Errors
    /// The server does not answer in 5 s.
    pub fn open(&self) -> Result<()> {
        ensure!(self.is_answered(&self.check()?, Duration::from_secs(5))?, "the connectivity check is not answered");
        Ok(())
    }
}

/// An attribute as it is.
struct Bytes(u16, Vec<u8>);

impl Setter for Bytes {
    fn add_to(&self, message: &mut Message) -> rtc::shared::error::Result<()> {
        message.add(rtc::stun::attributes::AttrType(self.0), &self.1);
        Ok(())
    }
}

/// The address in a `candidate:` line, if it is a UDP host candidate of this machine's family.
fn udp_candidate(line: &str) -> Option<SocketAddr> {
    let line = line.strip_prefix("a=").unwrap_or(line);
    let mut words = line.strip_prefix("candidate:")?.split_ascii_whitespace().skip(2);
    let udp = words.next()?.eq_ignore_ascii_case("udp");
    let address: IpAddr = words.nth(1)?.parse().ok()?;
    let port = words.next()?.parse().ok()?;
    (udp && address.is_ipv4()).then(|| SocketAddr::new(address, port))
}

/// A DTLS 1.2 handshake record with one fragment of a ClientHello (RFC 6347 §4.2.2): `length` is what the whole message
/// claims to have.
#[must_use]
pub fn client_hello_fragment(record: u64, length: u32, offset: u32, fragment: &[u8]) -> Vec<u8> {
    let u24 = |value: u32| value.to_be_bytes()[1..].to_vec();
    let size = u32::try_from(fragment.len()).unwrap_or_default();
    let body = [&[1][..], &u24(length), &[0, 0], &u24(offset), &u24(size), fragment].concat();
    let body_size = u16::try_from(body.len()).unwrap_or_default();
    [&[22, 0xFE, 0xFD, 0, 0][..], &record.to_be_bytes()[2..], &body_size.to_be_bytes(), &body].concat()
}
