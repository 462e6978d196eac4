//! A participant of the check: joins over `/rtc/v1`, brings up UDP, and either speaks or listens. The other end of
//! `bridge::transport`, without a browser.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use livekit_protocol::{
    AddTrackRequest, ClientInfo, ConnectionSettings, JoinRequest, LeaveRequest, MediaSectionsRequirement, Ping,
    SessionDescription, TrackSource, TrackType, client_info, signal_request::Message as Request,
    signal_response::Message as Response,
};
use ratssaal_bridge::client::sdp::{self, OPUS, Remote, Section};
use ratssaal_bridge::client::{Ended, Event, Local, Outgoing, Source, SourceId, Transport};
use ratssaal_bridge::transport::dtls::{DEFAULT_RTO, Identity};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::load::wire::{self, Failure, Receiver, Sender};
use crate::stream::Stream;

/// Grain of connectivity checks and reports.
const TICK: Duration = Duration::from_millis(10);
/// A packet of sound.
const PACKET: Duration = Duration::from_millis(20);
/// Opus' RTP clock, steps a packet.
const STEP: u32 = 960;
/// Payloads begin so: packets that are not ours are not counted.
const MARK: &[u8; 8] = b"\xfcdoctor ";
/// Voice at −20 dBov (RFC 6464).
const LEVEL: u8 = 0x80 | 20;
const SSRC: u32 = 0x0d0c_7012;
/// Sections for others that a server may ask for.
const MAX_SECTIONS: usize = 32;
/// The protocol number we announce.
const PROTOCOL: i32 = 15;

/// What happens to a visitor.
#[derive(Debug)]
pub(super) enum Happening {
    /// The server has let it in.
    Joined,
    /// Where the server says media goes.
    Candidates(Vec<SocketAddr>),
    /// Media can flow, with this address of the server.
    Connected(SocketAddr),
    /// A packet of the other visitor came, so long after it was sent.
    Heard(Duration),
}

/// What a visitor needs.
pub(super) struct Visit {
    /// Where the connection leads, for the WebSocket handshake.
    pub(super) base: String,
    pub(super) stream: Stream,
    pub(super) token: String,
    /// It speaks; else it listens.
    pub(super) speaks: bool,
    /// Both visitors count time from here.
    pub(super) clock: Instant,
    pub(super) happenings: mpsc::UnboundedSender<Happening>,
    pub(super) leave: CancellationToken,
}

struct Visitor {
    visit: Ticket,
    sender: Sender,
    socket: UdpSocket,
    transport: Transport,
    local: Local,
    sections: Vec<Section>,
    offer: u32,
    source: Option<SourceId>,
    spoken: u32,
    outgoing: Outgoing,
}

/// What of a [`Visit`] is needed to its end.
struct Ticket {
    speaks: bool,
    clock: Instant,
    happenings: mpsc::UnboundedSender<Happening>,
}

/// Joins, stays until told to leave.
///
/// # Errors
/// It did not get in, or is out again.
pub(super) async fn run(visit: Visit) -> Result<(), Failure> {
    let Visit { base, stream, token, speaks, clock, happenings, leave } = visit;
    let system = |error: &dyn std::fmt::Display| Failure::Media(format!("this machine gives no UDP socket ({error})"));
    let identity = Identity::generate(DEFAULT_RTO).map_err(|error| system(&error))?;
    let local = Local::new(&identity);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.map_err(|error| system(&error))?;
    let sections = match speaks {
        true => vec![Section::SendAudio { cid: "doctor".to_owned(), ssrc: SSRC }],
        false => vec![Section::ReceiveAudio],
    };
    let join = join_request(&local, &sections, speaks);
    let (sender, receiver) = wire::open_over(stream, &base, &wire::join_path(&token, &join)).await?;
    let mut visitor = Visitor {
        visit: Ticket { speaks, clock, happenings },
        sender,
        socket,
        transport: Transport::new(Instant::now(), &local),
        local,
        sections,
        offer: 1,
        source: None,
        spoken: 0,
        outgoing: Outgoing::default(),
    };
    let result = visitor.stay(receiver, leave).await;
    visitor.transport.close(&mut visitor.outgoing);
    visitor.flush();
    visitor.sender.close().await;
    result
}

fn join_request(local: &Local, sections: &[Section], speaks: bool) -> JoinRequest {
    let announcement = AddTrackRequest {
        cid: "doctor".to_owned(),
        name: "doctor".to_owned(),
        r#type: TrackType::Audio as i32,
        source: TrackSource::Microphone as i32,
        ..AddTrackRequest::default()
    };
    JoinRequest {
        client_info: Some(ClientInfo {
            sdk: client_info::Sdk::Rust as i32,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: PROTOCOL,
            os: "linux".to_owned(),
            ..ClientInfo::default()
        }),
        connection_settings: Some(ConnectionSettings { auto_subscribe: true, ..ConnectionSettings::default() }),
        add_track_requests: speaks.then_some(announcement).into_iter().collect(),
        publisher_offer: Some(description(local, 1, sections)),
        ..JoinRequest::default()
    }
}

fn description(local: &Local, number: u32, sections: &[Section]) -> SessionDescription {
    let sdp = sdp::offer(local, 1, number, sections);
    SessionDescription { r#type: "offer".to_owned(), sdp, id: number, ..SessionDescription::default() }
}

/// A clock that is not made up for when it was late.
fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

impl Visitor {
    async fn stay(&mut self, mut receiver: Receiver, leave: CancellationToken) -> Result<(), Failure> {
        let (mut tick, mut speech, mut pings) = (every(TICK), every(PACKET), every(Duration::from_secs(5)));
        let mut buffer = [0; 2048];
        loop {
            tokio::select! {
                response = receiver.next() => self.response(response?).await?,
                received = self.socket.recv_from(&mut buffer) => {
                    // An error is ICMP's word that a port is closed; the connectivity checks find out by themselves.
                    if let Ok((length, from)) = received {
                        self.receive(from, &mut buffer[..length])?;
                    }
                }
                _ = tick.tick() => {
                    let mut events = Vec::new();
                    self.transport.tick(Instant::now(), &mut self.outgoing, &mut |event| note(&mut events, &event));
                    self.happened(events, None)?;
                }
                _ = speech.tick(), if self.source.is_some() => self.speak(),
                _ = pings.tick() => self.sender.send(Request::PingReq(Ping { timestamp: 1, rtt: 0 })).await?,
                () = leave.cancelled() => return self.sender.send(Request::Leave(LeaveRequest::default())).await,
            }
            self.flush();
        }
    }

    fn flush(&mut self) {
        for (to, datagram) in self.outgoing.datagrams() {
            // What the kernel does not take is lost as others on the way are.
            let _ = self.socket.try_send_to(datagram, to);
        }
        self.outgoing.clear();
    }

    fn tell(&self, happening: Happening) {
        // The check may be over.
        let _ = self.visit.happenings.send(happening);
    }

    fn receive(&mut self, from: SocketAddr, datagram: &mut [u8]) -> Result<(), Failure> {
        let mut events = Vec::new();
        let on = &mut |event: Event<'_>| note(&mut events, &event);
        self.transport.handle(Instant::now(), from, datagram, &mut self.outgoing, on);
        self.happened(events, Some(from))
    }

    fn happened(&mut self, events: Vec<Noted>, from: Option<SocketAddr>) -> Result<(), Failure> {
        for event in events {
            match event {
                Noted::Connected => {
                    if self.visit.speaks {
                        let (mid, rid, rtx) = ("0".to_owned(), None, None);
                        let source = Source { mid, rid, ssrc: SSRC, rtx, payload_type: OPUS, clock_rate: 48_000 };
                        self.source = self.transport.add_source(source);
                    }
                    if let Some(from) = from {
                        self.tell(Happening::Connected(from));
                    }
                }
                Noted::Sound(sent) => {
                    let now = Instant::now().saturating_duration_since(self.visit.clock);
                    self.tell(Happening::Heard(now.saturating_sub(sent)));
                }
                Noted::Ended(why) => return Err(Failure::Media(why.to_string())),
            }
        }
        Ok(())
    }

    /// Sends a packet that says when it was sent.
    fn speak(&mut self) {
        let Some(source) = self.source else { return };
        let now = Instant::now();
        let sent = now.saturating_duration_since(self.visit.clock).as_micros() as u64;
        let payload = [&MARK[..], &sent.to_be_bytes(), &[0; 44]].concat();
        let meta = (self.spoken == 0, self.spoken.wrapping_mul(STEP), Some(LEVEL));
        self.spoken = self.spoken.wrapping_add(1);
        self.transport.send(now, source, meta, &payload, &mut self.outgoing);
    }

    async fn response(&mut self, response: Response) -> Result<(), Failure> {
        match response {
            Response::Join(_) => self.tell(Happening::Joined),
            Response::Answer(answer) if answer.id == 0 || answer.id == self.offer => {
                let remote = Remote::parse(&answer.sdp).map_err(|error| Failure::Protocol(error.to_string()))?;
                self.tell(Happening::Candidates(remote.candidates.clone()));
                self.transport.remote(Instant::now(), &remote);
            }
            Response::Trickle(trickle) => {
                let init: serde_json::Value = serde_json::from_str(&trickle.candidate_init).unwrap_or_default();
                if let Some(address) = init["candidate"].as_str().and_then(sdp::candidate) {
                    self.tell(Happening::Candidates(vec![address]));
                    self.transport.add_candidate(address);
                }
            }
            Response::MediaSectionsRequirement(need) => self.extend(need).await?,
            Response::Leave(leave) => return Err(Failure::Left(leave.reason().as_str_name().to_owned())),
            _ => {}
        }
        Ok(())
    }

    /// The server needs more sections to send what there is.
    async fn extend(&mut self, need: MediaSectionsRequirement) -> Result<(), Failure> {
        for (section, count) in [(Section::ReceiveAudio, need.num_audios), (Section::ReceiveVideo, need.num_videos)] {
            let room = MAX_SECTIONS.saturating_sub(self.sections.len());
            self.sections.extend(std::iter::repeat_n(section, room.min(count as usize)));
        }
        self.offer += 1;
        let offer = description(&self.local, self.offer, &self.sections);
        self.sender.send(Request::Offer(offer)).await
    }
}

/// An event without its packet.
enum Noted {
    Connected,
    Sound(Duration),
    Ended(Ended),
}

fn note(events: &mut Vec<Noted>, event: &Event<'_>) {
    events.extend(match event {
        Event::Connected(_) => Some(Noted::Connected),
        Event::Packet(packet) => sent_at(packet.payload).map(Noted::Sound),
        Event::Ended(why) => Some(Noted::Ended(why.clone())),
        Event::KeyFrameWanted(_) => None,
    });
}

/// When a packet of a visitor was sent; `None` for other packets.
fn sent_at(payload: &[u8]) -> Option<Duration> {
    let micros = payload.strip_prefix(MARK)?.first_chunk::<8>()?;
    Some(Duration::from_micros(u64::from_be_bytes(*micros)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_packets_count() {
        let mut payload = MARK.to_vec();
        assert_eq!(sent_at(&payload), None);
        payload.extend(1_500_000_u64.to_be_bytes());
        payload.extend([0; 44]);
        assert_eq!(sent_at(&payload), Some(Duration::from_millis(1500)));
        assert_eq!(sent_at(b"\xfcsomething else of this length"), None);
    }
}
