//! A participant's signalling: joins over `/rtc/v1` (one PeerConnection, offered by the client), negotiates what it
//! publishes and gets, chooses its tiles, follows dynacast.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use livekit_protocol::{
    ClientInfo, ConnectionSettings, JoinRequest, JoinResponse, LeaveRequest, MediaSectionsRequirement, ParticipantInfo,
    Ping, SessionDescription, SubscribedQualityUpdate, TrackType, UpdateTrackSettings, VideoQuality, client_info,
    participant_info::State, signal_request::Message as Request, signal_response::Message as Response,
};
use ratssaal_bridge::client::Local;
use ratssaal_bridge::client::sdp::{self, Remote, Section};
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::time::{Instant as TokioInstant, interval_at, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::cast::{self, Cast};
use super::participant::{Notice, Opening};
use super::wire::{self, Failure, Receiver, Sender};
use super::worker::{Command, Seat, Worker};

/// Joining may take so long, from opening the WebSocket to flowing media.
const JOIN: Duration = Duration::from_secs(30);
/// Before somebody who could not come back tries again.
const RETRY: Duration = Duration::from_millis(100);
/// Sections for others' audio and video in the first offer, as clients have them; the server asks for more.
const SECTIONS: usize = 3;
/// Sections for others in an offer, at most.
const MAX_SECTIONS: usize = 2000;
/// The protocol number we announce.
const PROTOCOL: i32 = 15;

/// What happened to a participant, for the run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Joined {
    /// Media flows, with this SRTP profile.
    Connected { after: Duration, profile: String },
    /// It has lost its connection and makes another.
    Away,
    /// That one is up.
    Again,
    /// Media is back after it was away for so long.
    Back(Duration),
    /// It has left as planned, and another one comes.
    Left,
    /// It is not in the room (`connected`: any longer).
    Failed { failure: Failure, connected: bool },
}

/// What a session needs.
#[derive(Clone)]
pub(super) struct Setup {
    pub(super) cast: Cast,
    pub(super) url: String,
    /// With TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) token: String,
    pub(super) local: Local,
    pub(super) seat: Seat,
    pub(super) worker: Worker,
    pub(super) reports: mpsc::UnboundedSender<Joined>,
    /// Cancelled when everybody leaves.
    pub(super) leave: CancellationToken,
    /// Whether it comes back when it loses its connection.
    pub(super) rejoin: bool,
}

struct Session {
    cast: Cast,
    local: Local,
    seat: Seat,
    worker: Worker,
    sender: Sender,
    sections: Vec<Section>,
    /// Number of our last offer, whether it is unanswered, whether another is due.
    offer: u32,
    unanswered: bool,
    stale: bool,
    id: u64,
    sid: String,
    /// Others' cameras and microphones by participant: number, video sids, has audio.
    others: BTreeMap<String, Other>,
    /// What the server was told of each video: shown or not.
    shown: HashMap<String, bool>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Other {
    number: u32,
    cameras: Vec<String>,
    microphone: bool,
}

/// Whether somebody is in the room, and ever was.
#[derive(Default)]
struct Progress {
    present: bool,
    ever: bool,
    /// What the server said to come back with.
    token: Option<String>,
}

/// Runs a session to its end; true if it was one as planned.
pub(super) async fn run(setup: Setup) -> bool {
    let mut progress = Progress::default();
    while let Err(failure) = join(&setup, &mut progress).await {
        setup.worker.send(Command::Close(setup.seat));
        let was_present = std::mem::take(&mut progress.present);
        if !(setup.rejoin && progress.ever) || setup.leave.is_cancelled() {
            // The run may be over.
            let _ = setup.reports.send(Joined::Failed { failure, connected: was_present });
            return false;
        }
        if was_present {
            let _ = setup.reports.send(Joined::Away);
        } else if setup.leave.run_until_cancelled(sleep(RETRY)).await.is_none() {
            return false;
        }
    }
    setup.worker.send(Command::Close(setup.seat));
    true
}

async fn join(setup: &Setup, progress: &mut Progress) -> Result<(), Failure> {
    let Setup { cast, url, tls, local, seat, worker, .. } = setup;
    let token = progress.token.as_deref().unwrap_or(&setup.token);
    let started = Instant::now();
    let (notices, heard) = mpsc::unbounded_channel();
    let (published, mut sections) = cast.publish();
    for section in [Section::ReceiveAudio, Section::ReceiveVideo] {
        sections.extend(std::iter::repeat_n(section, SECTIONS));
    }
    let opening = Opening {
        local: local.clone(),
        started,
        published,
        impairment: cast.impairment,
        seed: cast.seed ^ u64::from(cast.number) << 16,
        notices,
    };
    worker.send(Command::Open(*seat, Box::new(opening)));
    let id = u64::from(cast.number) + 1;
    let join = JoinRequest {
        client_info: Some(ClientInfo {
            sdk: client_info::Sdk::Rust as i32,
            version: "0.1.0".to_owned(),
            protocol: PROTOCOL,
            os: "linux".to_owned(),
            ..ClientInfo::default()
        }),
        connection_settings: Some(ConnectionSettings {
            auto_subscribe: true,
            adaptive_stream: cast.tiles.is_some(),
            ..ConnectionSettings::default()
        }),
        add_track_requests: cast.announcements(),
        publisher_offer: Some(description(sdp::offer(local, id, 1, &sections), 1)),
        ..JoinRequest::default()
    };
    let (sender, receiver) = wire::open(url, tls.as_ref(), &wire::join_path(token, &join)).await?;
    let (others, shown, sid) = Default::default();
    let mut session = Session {
        cast: cast.clone(),
        local: local.clone(),
        seat: *seat,
        worker: worker.clone(),
        sender,
        sections,
        offer: 1,
        unanswered: true,
        stale: false,
        id,
        sid,
        others,
        shown,
    };
    let result = session.serve(started, receiver, heard, (&setup.reports, progress), &setup.leave).await;
    session.sender.close().await;
    result
}

fn description(sdp: String, id: u32) -> SessionDescription {
    SessionDescription { r#type: "offer".to_owned(), sdp, id, ..SessionDescription::default() }
}

impl Session {
    async fn serve(
        &mut self,
        started: Instant,
        mut receiver: Receiver,
        mut notices: mpsc::UnboundedReceiver<Notice>,
        (reports, progress): (&mpsc::UnboundedSender<Joined>, &mut Progress),
        leave: &CancellationToken,
    ) -> Result<(), Failure> {
        let deadline = TokioInstant::from_std(started + JOIN);
        let mut welcome = false;
        // Until the server says how often.
        let mut pings = interval_at(TokioInstant::now() + Duration::from_secs(5), Duration::from_secs(5));
        loop {
            tokio::select! {
                response = receiver.next() => match response? {
                    Response::Join(join) => {
                        let period = Duration::from_secs(u64::try_from(join.ping_interval).unwrap_or(5).clamp(1, 60));
                        pings = interval_at(TokioInstant::now() + period, period);
                        welcome = true;
                        self.joined(join).await?;
                    }
                    Response::RefreshToken(token) => progress.token = Some(token),
                    response => self.response(response).await?,
                },
                Some(notice) = notices.recv() => match notice {
                    Notice::Connected(profile) => {
                        let report = match progress.ever {
                            true => Joined::Again,
                            false => Joined::Connected { after: started.elapsed(), profile },
                        };
                        (progress.present, progress.ever) = (true, true);
                        // The run may be over.
                        let _ = reports.send(report);
                    }
                    Notice::Back(away) => drop(reports.send(Joined::Back(away))),
                    Notice::Ended(why) => return Err(Failure::Media(why.to_string())),
                },
                _ = pings.tick() => self.sender.send(Request::PingReq(Ping { timestamp: 1, rtt: 0 })).await?,
                () = leave.cancelled() => {
                    return self.sender.send(Request::Leave(LeaveRequest::default())).await;
                }
                () = sleep_until(deadline), if !progress.present => {
                    let what = if !welcome { "the server sent no join response" }
                        else if self.unanswered { "the server did not answer the offer" }
                        else { "no UDP connection came about; check that UDP can reach the addresses the server announces" };
                    return Err(Failure::Slow(JOIN.as_secs(), what));
                }
            }
        }
    }

    async fn joined(&mut self, join: JoinResponse) -> Result<(), Failure> {
        self.sid = join.participant.map(|participant| participant.sid).unwrap_or_default();
        self.update(join.other_participants).await
    }

    async fn response(&mut self, response: Response) -> Result<(), Failure> {
        match response {
            Response::Answer(answer) => self.answered(&answer).await?,
            Response::Trickle(trickle) => {
                let init: serde_json::Value = serde_json::from_str(&trickle.candidate_init).unwrap_or_default();
                if let Some(address) = init["candidate"].as_str().and_then(sdp::candidate) {
                    self.worker.send(Command::Candidate(self.seat, address));
                }
            }
            Response::Update(update) => self.update(update.participants).await?,
            Response::MediaSectionsRequirement(need) => self.extend(need).await?,
            Response::SubscribedQualityUpdate(update) => {
                if let Some(layers) = self.cast.layers_wanted(&qualities(&update)) {
                    self.worker.send(Command::Layers(self.seat, layers));
                }
            }
            Response::Leave(leave) => {
                return Err(Failure::Left(leave.reason().as_str_name().to_owned()));
            }
            _ => {}
        }
        Ok(())
    }

    async fn answered(&mut self, answer: &SessionDescription) -> Result<(), Failure> {
        if answer.id != 0 && answer.id != self.offer {
            return Ok(()); // of an earlier offer
        }
        let remote = Remote::parse(&answer.sdp).map_err(|error| Failure::Protocol(error.to_string()))?;
        self.worker.send(Command::Remote(self.seat, Box::new(remote)));
        self.unanswered = false;
        if std::mem::take(&mut self.stale) {
            self.renegotiate().await?;
        }
        Ok(())
    }

    /// The server needs more sections to send what we are subscribed to.
    async fn extend(&mut self, need: MediaSectionsRequirement) -> Result<(), Failure> {
        for (section, count) in [(Section::ReceiveAudio, need.num_audios), (Section::ReceiveVideo, need.num_videos)] {
            let room = MAX_SECTIONS.saturating_sub(self.sections.len());
            self.sections.extend(std::iter::repeat_n(section, room.min(count as usize)));
        }
        if self.unanswered {
            self.stale = true;
            return Ok(());
        }
        self.renegotiate().await
    }

    async fn renegotiate(&mut self) -> Result<(), Failure> {
        self.offer += 1;
        self.unanswered = true;
        let sdp = sdp::offer(&self.local, self.id, self.offer, &self.sections);
        self.sender.send(Request::Offer(description(sdp, self.offer))).await
    }

    async fn update(&mut self, participants: Vec<ParticipantInfo>) -> Result<(), Failure> {
        for participant in participants.into_iter().filter(|participant| participant.sid != self.sid) {
            let Some(number) = cast::number_of(&participant.identity) else { continue };
            if participant.state() == State::Disconnected {
                self.others.remove(&participant.identity);
                continue;
            }
            let video = |track: &&livekit_protocol::TrackInfo| track.r#type() == TrackType::Video;
            let cameras = participant.tracks.iter().filter(video).map(|track| track.sid.clone()).collect();
            let microphone = participant.tracks.iter().any(|track| track.r#type() == TrackType::Audio);
            self.others.insert(participant.identity, Other { number, cameras, microphone });
        }
        self.choose().await
    }

    /// Decides who is seen, and tells the server what has changed.
    async fn choose(&mut self) -> Result<(), Failure> {
        let cameras: Vec<u32> =
            self.others.values().filter(|other| !other.cameras.is_empty()).map(|other| other.number).collect();
        let visible = self.cast.visible(&cameras);
        let mut wanted: Vec<(u32, bool)> = visible.iter().map(|number| (*number, false)).collect();
        wanted.extend(self.others.values().filter(|other| other.microphone).map(|other| (other.number, true)));
        self.worker.send(Command::Want(self.seat, wanted));
        if self.cast.tiles.is_none() {
            return Ok(()); // all, as large as they come
        }
        let (mut show, mut hide) = (Vec::new(), Vec::new());
        for other in self.others.values() {
            let now = visible.contains(&other.number);
            for sid in &other.cameras {
                if self.shown.insert(sid.clone(), now) != Some(now) {
                    if now { show.push(sid.clone()) } else { hide.push(sid.clone()) }
                }
            }
        }
        let (width, height) = self.cast.tile;
        let settings = [
            UpdateTrackSettings {
                track_sids: show,
                quality: VideoQuality::High as i32,
                width,
                height,
                ..UpdateTrackSettings::default()
            },
            UpdateTrackSettings { track_sids: hide, disabled: true, ..UpdateTrackSettings::default() },
        ];
        for settings in settings.into_iter().filter(|settings| !settings.track_sids.is_empty()) {
            self.sender.send(Request::TrackSetting(settings)).await?;
        }
        Ok(())
    }
}

/// Which qualities (low, medium, high) of our video somebody wants.
fn qualities(update: &SubscribedQualityUpdate) -> [bool; 3] {
    let vp8 = update.subscribed_codecs.iter().find(|codec| codec.codec.eq_ignore_ascii_case("vp8"));
    #[expect(deprecated, reason = "servers still send it, some it only")]
    let list = vp8.map_or(&update.subscribed_qualities, |codec| &codec.qualities);
    let mut wanted = [false; 3];
    for quality in list {
        if let Some(slot) = usize::try_from(quality.quality).ok().and_then(|at| wanted.get_mut(at)) {
            *slot = quality.enabled;
        }
    }
    wanted
}
