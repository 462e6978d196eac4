//! A bot's session: one task that serves the WebSocket, negotiates both PeerConnections and starts a reader per track.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use bytes::BytesMut;
use livekit_protocol::{
    ConnectionSettings, DataPacket, JoinRequest, JoinResponse, LeaveRequest, ParticipantInfo, Ping, SessionDescription,
    SignalTarget, SyncState, TrickleRequest, leave_request::Action, participant_info::State,
    signal_request::Message as Request, signal_response::Message as Response,
};
use prost::Message as _;
use rtc::{
    data_channel::RTCDataChannelInit,
    rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit, rtp_sender::RtpCodecKind},
};
use tokio::{
    sync::mpsc,
    time::{Interval, interval},
};
use tokio_util::sync::CancellationToken;
use webrtc::{
    data_channel::{DataChannel, DataChannelEvent},
    media_stream::track_remote::{TrackRemote, TrackRemoteEvent},
    peer_connection::{PeerConnection, RTCIceCandidateInit, RTCPeerConnectionState, RTCSessionDescription},
};

use super::{
    Options, publish,
    publish::Publication,
    state::{Heard, Shared},
};
use crate::{
    peer::{self, Event, Side},
    received::Received,
    server::Server,
    signal::{self, Receiver, Sender},
};

/// What the test asks of the session.
pub(super) enum Command {
    Request(Request),
    Data(DataPacket, bool),
    StopMedia,
    Resume(Sender, Receiver),
    Leave,
}

/// A joined session, not yet served.
pub(super) struct Session {
    options: Options,
    shared: Arc<Shared>,
    inbox: mpsc::UnboundedReceiver<Command>,
    events: mpsc::UnboundedReceiver<Event>,
    sender: Sender,
    receiver: Receiver,
    pings: Interval,
    publisher: Arc<dyn PeerConnection>,
    subscriber: Option<Arc<dyn PeerConnection>>,
    /// Our offer that has no answer yet, and whether another is due after it.
    offer: u32,
    awaiting_answer: bool,
    offer_due: bool,
    reliable: Arc<dyn DataChannel>,
    lossy: Arc<dyn DataChannel>,
    reliable_sequence: u32,
    publications: Arc<[Publication]>,
    awaiting_published: usize,
    connected: (bool, bool),
    stop_media: CancellationToken,
    sending: bool,
    /// There is no WebSocket.
    away: bool,
}

/// Joins: opens the WebSocket and takes the join response.
pub(super) async fn start(
    server: &Server,
    options: &Options,
    token: &str,
    shared: Arc<Shared>,
    inbox: mpsc::UnboundedReceiver<Command>,
) -> Result<Session> {
    let (events_in, events) = mpsc::unbounded_channel();
    let publisher = peer::connect(Side::Publisher, events_in.clone(), options.tamper.clone()).await?;
    let unordered = RTCDataChannelInit { ordered: false, max_retransmits: Some(0), ..RTCDataChannelInit::default() };
    let reliable = publisher.create_data_channel("_reliable", None).await?;
    let lossy = publisher.create_data_channel("_lossy", Some(unordered)).await?;
    let mut publications = Vec::new();
    if options.publish {
        for video in [false, true] {
            publications.push(Publication::add(&*publisher, video).await?);
        }
    }
    let announcements: Vec<_> = publications.iter().map(Publication::announcement).collect();
    let (path, subscriber) = if options.v1 {
        add_receivers(&*publisher, 3, 3).await?;
        let offer = publisher.create_offer(None).await?;
        publisher.set_local_description(offer.clone()).await?;
        let join = JoinRequest {
            client_info: Some(signal::client_info()),
            connection_settings: Some(ConnectionSettings {
                auto_subscribe: options.auto_subscribe,
                ..ConnectionSettings::default()
            }),
            add_track_requests: announcements.clone(),
            publisher_offer: Some(description("offer", offer.sdp, 1)),
            ..JoinRequest::default()
        };
        (signal::path_v1(token, &join), None)
    } else {
        (
            signal::path_v0(token, options.auto_subscribe),
            Some(peer::connect(Side::Subscriber, events_in, options.tamper.clone()).await?),
        )
    };
    let (sender, mut receiver) = signal::open(server, &path).await?;
    let Some(Response::Join(join)) = receiver.next().await? else { bail!("the first response is not a join") };
    let period = u64::try_from(join.ping_interval.clamp(1, 60)).unwrap_or(5);
    joined(&shared, join);
    let mut session = Session {
        options: options.clone(),
        shared,
        inbox,
        events,
        sender,
        receiver,
        pings: interval(Duration::from_secs(period)),
        publisher,
        subscriber,
        offer: u32::from(options.v1),
        awaiting_answer: options.v1,
        offer_due: false,
        reliable,
        lossy,
        reliable_sequence: 0,
        awaiting_published: announcements.len(),
        publications: publications.into(),
        connected: (false, false),
        stop_media: CancellationToken::new(),
        sending: false,
        away: false,
    };
    if !options.v1 {
        for announcement in announcements {
            session.sender.send(Request::AddTrack(announcement)).await?;
        }
        if session.awaiting_published == 0 {
            session.negotiate().await?;
        }
    }
    Ok(session)
}

/// Opens a new WebSocket for a session that goes on.
pub(super) async fn come_back(
    server: &Server,
    options: &Options,
    token: &str,
    sid: &str,
) -> Result<(Sender, Receiver)> {
    let path = if options.v1 {
        let join = JoinRequest {
            client_info: Some(signal::client_info()),
            reconnect: true,
            participant_sid: sid.to_owned(),
            ..JoinRequest::default()
        };
        signal::path_v1(token, &join)
    } else {
        format!("{}&reconnect=1&sid={sid}", signal::path_v0(token, options.auto_subscribe))
    };
    let (sender, mut receiver) = signal::open(server, &path).await?;
    match receiver.next().await? {
        Some(Response::Reconnect(_)) => Ok((sender, receiver)),
        Some(Response::Leave(leave)) => bail!("told to leave: {:?}, {:?}", leave.reason(), leave.action()),
        other => bail!("the first response is not a reconnect but {other:?}"),
    }
}

fn joined(shared: &Shared, join: JoinResponse) {
    shared.change(|view| {
        view.me = join.participant.unwrap_or_default();
        view.room = join.room.unwrap_or_default();
        view.others = join.other_participants.into_iter().map(|other| (other.identity.clone(), other)).collect();
    });
}

fn description(kind: &str, sdp: String, id: u32) -> SessionDescription {
    SessionDescription { r#type: kind.to_owned(), sdp, id, ..SessionDescription::default() }
}

async fn add_receivers(connection: &dyn PeerConnection, audio: u32, video: u32) -> Result<()> {
    for (kind, count) in [(RtpCodecKind::Audio, audio), (RtpCodecKind::Video, video)] {
        for _ in 0..count {
            let direction = RTCRtpTransceiverDirection::Recvonly;
            let init = RTCRtpTransceiverInit { direction, ..RTCRtpTransceiverInit::default() };
            connection.add_transceiver_from_kind(kind, Some(init)).await?;
        }
    }
    Ok(())
}

impl Session {
    /// Serves the session until it ends.
    pub(super) async fn run(mut self) -> Result<()> {
        let result = self.serve().await;
        let reason = match &result {
            Ok(reason) => reason.clone(),
            Err(error) => format!("{error:#}"),
        };
        self.shared.change(|view| view.ended = Some(reason));
        self.stop_media.cancel();
        self.sender.close().await;
        for connection in std::iter::once(&self.publisher).chain(&self.subscriber) {
            let _ = connection.close().await;
        }
        result.map(|_| ())
    }

    async fn serve(&mut self) -> Result<String> {
        loop {
            tokio::select! {
                response = self.receiver.next(), if !self.away => {
                    let end = match response {
                        Ok(Some(Response::Leave(leave))) if leave.action() == Action::Resume => {
                            Some("the server said resume".to_owned())
                        }
                        Ok(Some(response)) => match self.response(response).await? {
                            Some(end) => return Ok(end),
                            None => None,
                        },
                        Ok(None) => Some("the server closed the WebSocket".to_owned()),
                        Err(error) if self.options.resumes => Some(format!("{error:#}")),
                        Err(error) => return Err(error),
                    };
                    match end {
                        Some(end) if self.options.resumes => {
                            self.away = true;
                            self.shared.change(|view| view.away = Some(end));
                        }
                        Some(end) => return Ok(end),
                        None => {}
                    }
                },
                Some(event) = self.events.recv() => self.event(event).await?,
                command = self.inbox.recv() => match command {
                    Some(Command::Request(message)) => self.sender.send(message).await?,
                    Some(Command::Data(packet, reliable)) => self.data(packet, reliable).await?,
                    Some(Command::StopMedia) => self.stop_media.cancel(),
                    Some(Command::Resume(sender, receiver)) => {
                        (self.sender, self.receiver, self.away) = (sender, receiver, false);
                        self.sender.send(Request::SyncState(SyncState::default())).await?;
                        self.shared.change(|view| view.away = None);
                    }
                    Some(Command::Leave) | None => {
                        self.sender.send(Request::Leave(LeaveRequest::default())).await?;
                        return Ok("left".to_owned());
                    }
                },
                _ = self.pings.tick(), if !self.away => self.sender.send(Request::PingReq(Ping { timestamp: 1, rtt: 0 })).await?,
            }
        }
    }

    async fn response(&mut self, response: Response) -> Result<Option<String>> {
        match response {
            Response::Offer(offer) => self.answer(offer).await.context("answering the server's offer")?,
            Response::Answer(answer) => self.answered(answer).await.context("taking the server's answer")?,
            Response::Trickle(trickle) => {
                let init: RTCIceCandidateInit = serde_json::from_str(&trickle.candidate_init)?;
                let to = if trickle.target == SignalTarget::Subscriber as i32 {
                    self.subscriber.as_ref()
                } else {
                    Some(&self.publisher)
                };
                // A candidate that comes before its description is dropped: the server is found by the ones in the SDP.
                if let Some(connection) = to {
                    let _ = connection.add_ice_candidate(init).await;
                }
            }
            Response::Update(update) => self.update(update.participants),
            Response::TrackPublished(published) => {
                let sid = published.track.map(|track| track.sid).unwrap_or_default();
                self.shared.change(|view| view.published.insert(published.cid, sid));
                self.awaiting_published = self.awaiting_published.saturating_sub(1);
                if self.awaiting_published == 0 && !self.options.v1 {
                    self.negotiate().await?;
                }
                self.report();
            }
            Response::MediaSectionsRequirement(need) => {
                add_receivers(&*self.publisher, need.num_audios, need.num_videos).await?;
                self.negotiate().await?;
            }
            Response::RoomUpdate(update) => self.shared.change(|view| view.room = update.room.unwrap_or_default()),
            Response::Mute(mute) => self.shared.change(|view| view.muted.extend([(mute.sid, mute.muted)])),
            Response::RequestResponse(response) => self.shared.change(|view| view.responses.push(response)),
            Response::PongResp(pong) => self.shared.change(|view| view.answered_ping = pong.last_ping_timestamp),
            Response::SpeakersChanged(changed) => self.shared.change(|view| view.speakers = changed.speakers),
            Response::Leave(leave) => return Ok(Some(format!("the server said leave: {:?}", leave.reason()))),
            _ => {}
        }
        Ok(None)
    }

    fn update(&self, participants: Vec<ParticipantInfo>) {
        self.shared.change(|view| {
            for participant in participants {
                if participant.sid == view.me.sid {
                    view.me = participant;
                } else if participant.state() != State::Disconnected {
                    view.others.insert(participant.identity.clone(), participant);
                } else if view.other(&participant.identity).is_some_and(|known| known.sid == participant.sid) {
                    // Not one who was replaced by a namesake: that one is known by the new sid.
                    view.others.remove(&participant.identity);
                }
            }
        });
    }

    /// Offers what the publisher's connection has now, or after the answer that is awaited.
    async fn negotiate(&mut self) -> Result<()> {
        if self.awaiting_answer {
            self.offer_due = true;
            return Ok(());
        }
        let offer = self.publisher.create_offer(None).await?;
        self.publisher.set_local_description(offer.clone()).await?;
        self.offer += 1;
        self.awaiting_answer = true;
        self.sender.send(Request::Offer(description("offer", offer.sdp, self.offer))).await
    }

    async fn answered(&mut self, answer: SessionDescription) -> Result<()> {
        self.shared.change(|view| view.mids.extend(answer.mid_to_track_id));
        self.publisher.set_remote_description(RTCSessionDescription::answer(answer.sdp)?).await?;
        self.shared.change(|view| view.negotiations += 1);
        self.awaiting_answer = false;
        if std::mem::take(&mut self.offer_due) {
            self.negotiate().await?;
        }
        Ok(())
    }

    async fn answer(&mut self, offer: SessionDescription) -> Result<()> {
        let connection = self.subscriber.as_ref().context("the server offered on v1")?;
        connection.set_remote_description(RTCSessionDescription::offer(offer.sdp)?).await?;
        let answer = connection.create_answer(None).await?;
        connection.set_local_description(answer.clone()).await?;
        self.shared.change(|view| view.negotiations += 1);
        self.sender.send(Request::Answer(description("answer", answer.sdp, offer.id))).await
    }

    async fn event(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Candidate(side, candidate_init) => {
                let target = if side == Side::Publisher { SignalTarget::Publisher } else { SignalTarget::Subscriber };
                self.sender
                    .send(Request::Trickle(TrickleRequest { candidate_init, target: target as i32, r#final: false }))
                    .await?;
            }
            Event::State(side, RTCPeerConnectionState::Connected) => {
                if side == Side::Publisher {
                    self.connected.0 = true;
                    self.start_media();
                } else {
                    self.connected.1 = true;
                }
                self.report();
            }
            Event::State(side, RTCPeerConnectionState::Failed) => bail!("the {side:?} connection failed"),
            Event::State(..) => {}
            Event::Track(track) => {
                tokio::spawn(read_track(track, Arc::clone(&self.publisher), Arc::clone(&self.shared)));
            }
            Event::Channel(channel) => {
                tokio::spawn(read_channel(channel, Arc::clone(&self.shared)));
            }
        }
        Ok(())
    }

    fn start_media(&mut self) {
        if self.publications.is_empty() || std::mem::replace(&mut self.sending, true) {
            return;
        }
        if self.options.v1 {
            // On v1 the server's packets come on the channels the client opened.
            for channel in [&self.reliable, &self.lossy] {
                tokio::spawn(read_channel(Arc::clone(channel), Arc::clone(&self.shared)));
            }
        }
        let (publications, number) = (Arc::clone(&self.publications), self.options.number);
        let (shared, stop) = (Arc::clone(&self.shared), self.stop_media.clone());
        tokio::spawn(async move {
            if let Err(error) = publish::run(publications, number, Arc::clone(&shared), stop).await {
                // Writing fails once the connection is closed: only before that it is an error of the session.
                shared.change(|view| {
                    view.ended.get_or_insert_with(|| format!("publishing failed: {error:#}"));
                });
            }
        });
    }

    /// v0: the server's offer connects the subscriber at once; the publisher's connection is needed for data and media.
    fn report(&self) {
        let connected = self.connected.0 && (self.options.v1 || self.connected.1) && self.awaiting_published == 0;
        self.shared.change(|view| view.connected = connected);
    }

    async fn data(&mut self, mut packet: DataPacket, reliable: bool) -> Result<()> {
        let channel = if reliable { &self.reliable } else { &self.lossy };
        if reliable {
            self.reliable_sequence += 1;
            packet.sequence = self.reliable_sequence;
        }
        channel.writable().await?;
        Ok(channel.send(BytesMut::from(&packet.encode_to_vec()[..])).await?)
    }
}

/// Counts a received track's packets. Its sid is the track id of `a=msid`, or (v1) what the answer says of its section.
async fn read_track(track: Arc<dyn TrackRemote>, connection: Arc<dyn PeerConnection>, shared: Arc<Shared>) {
    let video = track.kind().await == RtpCodecKind::Video;
    let mut sid = None;
    while let Some(event) = track.poll().await {
        match event {
            TrackRemoteEvent::OnOpen(init) => {
                let mut found = init.track_id.clone();
                for transceiver in connection.get_transceivers().await {
                    if let Ok(Some(receiver)) = transceiver.receiver().await
                        && receiver.id() == init.receiver_id
                        && Arc::ptr_eq(receiver.track(), &track)
                        && let Ok(Some(mid)) = transceiver.mid().await
                    {
                        found = shared.view(|view| view.mids.get(&mid).cloned()).unwrap_or(found);
                    }
                }
                sid = Some(found);
            }
            TrackRemoteEvent::OnRtpPacket(packet) => {
                if let Some(sid) = &sid {
                    shared.change(|view| {
                        let received = view.received.entry(sid.clone()).or_insert_with(|| Received::new(video));
                        let header = &packet.header;
                        received.packet(header.ssrc, header.sequence_number, &packet.payload);
                    });
                }
            }
            _ => {}
        }
    }
}

async fn read_channel(channel: Arc<dyn DataChannel>, shared: Arc<Shared>) {
    let reliable = channel.label().await.is_ok_and(|label| label == "_reliable");
    while let Some(event) = channel.poll().await {
        if let DataChannelEvent::OnMessage(message) = event
            && let Ok(packet) = DataPacket::decode(&message.data[..])
        {
            shared.change(|view| view.data.push(Heard { reliable, packet }));
        }
    }
}
