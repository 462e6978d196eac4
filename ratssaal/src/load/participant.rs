//! The media side of one participant: its socket and transport, what it publishes, what it watches, its line.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ratssaal_bridge::client::{
    Ended, Event, Incoming, Local, Outgoing, Port, Source, SourceId, Transport, TransportTotals,
};
use tokio::sync::mpsc;

use super::camera::Camera;
use super::impairment::{Impairment, Line};
use super::microphone::Microphone;
use super::stamp::Clock;
use super::watch::{Received, Watch};

/// Batches received at a stretch, so that others get their turn.
const ROUNDS: usize = 4;

/// What a participant's signalling is told of its transport.
#[derive(Debug)]
pub(super) enum Notice {
    /// Media flows; the SRTP protection profile.
    Connected(String),
    /// No more media.
    Ended(Ended),
    /// Media is back after it was away for so long: the first packet since the last one of the connection before.
    Back(Duration),
}

/// What a participant publishes: sources are made when the transport is up.
#[derive(Default)]
pub(super) struct Published {
    pub(super) microphone: Option<(Microphone, Source)>,
    pub(super) camera: Option<(Camera, Vec<Source>)>,
}

/// How a participant begins.
pub(super) struct Opening {
    pub(super) local: Local,
    /// When it began to join.
    pub(super) started: Instant,
    pub(super) published: Published,
    pub(super) impairment: Impairment,
    pub(super) seed: u64,
    pub(super) notices: mpsc::UnboundedSender<Notice>,
}

/// What is known of one participant in the end.
#[derive(Clone, Debug)]
pub(super) struct Summary {
    pub(super) impaired: bool,
    pub(super) received: Received,
    pub(super) totals: TransportTotals,
    /// Joining to first packet, and to the first packet of a video.
    pub(super) first: Option<Duration>,
    pub(super) first_video: Option<Duration>,
    /// Datagrams the impaired line has dropped.
    pub(super) dropped: u64,
}

/// Where received datagrams go.
struct Ear {
    transport: Transport,
    watch: Watch,
    /// Layers whose key frame the server asks for.
    key_frames: Vec<SourceId>,
    /// Streams that need a key frame.
    blind: Vec<u32>,
    notices: Vec<Notice>,
}

/// A participant.
pub(super) struct Participant {
    port: Port,
    ear: Ear,
    published: Published,
    microphone: Option<SourceId>,
    camera: Vec<SourceId>,
    started: Instant,
    clock: Clock,
    lines: Option<Box<(Line<SocketAddr>, Line<SocketAddr>)>>,
    notify: mpsc::UnboundedSender<Notice>,
    sending: bool,
    stopped: bool,
    since: TransportTotals,
    /// When the last packet of the connection before came, until the first one of this comes.
    away_since: Option<Instant>,
}

impl Ear {
    fn hear(&mut self, now: Instant, from: SocketAddr, datagram: &mut [u8], out: &mut Outgoing) {
        let Self { transport, watch, key_frames, blind, notices } = self;
        transport.handle(now, from, datagram, out, &mut |event| match event {
            Event::Packet(packet) => {
                if watch.packet(now, &packet) {
                    blind.push(packet.ssrc);
                }
            }
            Event::KeyFrameWanted(source) => key_frames.push(source),
            Event::Connected(profile) => notices.push(Notice::Connected(profile)),
            Event::Ended(why) => notices.push(Notice::Ended(why)),
        });
    }
}

impl Participant {
    /// Opens its socket.
    pub(super) fn new(now: Instant, clock: Clock, opening: Opening) -> io::Result<Self> {
        let Opening { local, started, published, impairment, seed, notices } = opening;
        let port = Port::any()?;
        let lines = impairment
            .is_some()
            .then(|| Box::new((Line::new(impairment, seed << 1), Line::new(impairment, seed << 1 | 1))));
        let transport = Transport::new(now, &local);
        let (key_frames, blind) = Default::default();
        let ear = Ear { transport, watch: Watch::new(clock), key_frames, blind, notices: Vec::new() };
        let (microphone, camera, sending, stopped) = Default::default();
        Ok(Self {
            port,
            ear,
            published,
            microphone,
            camera,
            started,
            clock,
            lines,
            notify: notices,
            sending,
            stopped,
            since: TransportTotals::default(),
            away_since: None,
        })
    }

    /// The same person's next connection: it tells when media is back.
    pub(super) fn follow(&mut self, before: &Self) {
        self.away_since = before.away_since.or(before.ear.watch.last);
    }

    pub(super) fn port(&self) -> &Port {
        &self.port
    }

    pub(super) fn transport(&mut self) -> &mut Transport {
        &mut self.ear.transport
    }

    pub(super) fn watch(&mut self) -> &mut Watch {
        &mut self.ear.watch
    }

    /// Whether its datagrams are held up by a bad line.
    pub(super) fn is_impaired(&self) -> bool {
        self.lines.is_some()
    }

    /// Whether its media has just begun to flow: microphone and camera are started once.
    pub(super) fn start(&mut self) -> bool {
        if self.sending || !self.ear.transport.is_connected() {
            return false;
        }
        self.sending = true;
        let transport = &mut self.ear.transport;
        if let Some((_, source)) = &self.published.microphone {
            self.microphone = transport.add_source(source.clone());
        }
        if let Some((_, sources)) = &self.published.camera {
            self.camera = sources.iter().filter_map(|source| transport.add_source(source.clone())).collect();
        }
        true
    }

    /// It publishes nothing more.
    pub(super) fn stop(&mut self, now: Instant) {
        self.stopped = true;
        self.ear.watch.last_call(now);
    }

    /// Dynacast.
    pub(super) fn enable(&mut self, layers: [bool; 3]) {
        if let Some((camera, _)) = &mut self.published.camera {
            (0..camera.layers()).for_each(|layer| camera.enable(layer, layers[layer]));
        }
    }

    /// Sends the microphone's next packet; whether there will be another.
    pub(super) fn speak(&mut self, now: Instant, out: &mut Outgoing) -> bool {
        let (Some((microphone, _)), Some(source)) = (&mut self.published.microphone, self.microphone) else {
            return false;
        };
        if let Some(sample) = microphone.packet(self.clock.micros(now)) {
            let meta = (sample.marker, sample.timestamp, Some(sample.level));
            self.ear.transport.send(now, source, meta, sample.payload, out);
        }
        self.flush(now, out);
        !self.stopped
    }

    /// Sends the camera's next frame; whether there will be another.
    pub(super) fn film(&mut self, now: Instant, out: &mut Outgoing) -> bool {
        let Some((camera, _)) = &mut self.published.camera else { return false };
        let (sources, transport) = (&self.camera, &mut self.ear.transport);
        camera.frame(self.clock.micros(now), |sample| {
            if let Some(source) = sources.get(sample.layer) {
                transport.send(now, *source, (sample.marker, sample.timestamp, None), sample.payload, out);
            }
        });
        self.flush(now, out);
        !self.stopped
    }

    /// Receives what is there; true when there may be more.
    pub(super) fn receive(&mut self, buffers: &mut Incoming, out: &mut Outgoing) -> bool {
        let mut more = true;
        let mut now = Instant::now();
        for _ in 0..ROUNDS {
            let (ear, lines) = (&mut self.ear, &mut self.lines);
            let received = self.port.receive(buffers, |from, datagram| match lines {
                Some(lines) => lines.0.push(now, from, datagram),
                None => ear.hear(now, from, datagram, out),
            });
            match received {
                Ok(true) => now = Instant::now(),
                Ok(false) => more = false,
                Err(_) => {} // an ICMP error of an earlier datagram
            }
            if !more {
                break;
            }
        }
        self.after(now, out);
        more
    }

    /// Lets pass what has reached the end of a bad line.
    pub(super) fn lines(&mut self, now: Instant, out: &mut Outgoing) {
        let Some(mut lines) = self.lines.take() else { return };
        while let Some((from, mut datagram)) = lines.0.pop(now) {
            self.ear.hear(now, from, &mut datagram, out);
        }
        self.lines = Some(lines);
        self.after(now, out);
        if let Some(lines) = &mut self.lines {
            while let Some((to, datagram)) = lines.1.pop(now) {
                out.push(to, &datagram);
            }
        }
        self.port.send(out);
    }

    /// What is due by time.
    pub(super) fn tick(&mut self, now: Instant, out: &mut Outgoing) {
        let Ear { transport, notices, .. } = &mut self.ear;
        transport.tick(now, out, &mut |event| {
            if let Event::Ended(why) = event {
                notices.push(Notice::Ended(why));
            }
        });
        self.after(now, out);
    }

    /// What follows from what was received.
    fn after(&mut self, now: Instant, out: &mut Outgoing) {
        let Ear { transport, watch, key_frames, blind, notices } = &mut self.ear;
        for source in key_frames.drain(..) {
            if let (Some((camera, _)), Some(layer)) =
                (&mut self.published.camera, self.camera.iter().position(|known| *known == source))
            {
                camera.key_frame(layer);
            }
        }
        for ssrc in blind.drain(..) {
            transport.ask_key_frame(now, ssrc, out);
        }
        if let (Some(first), Some(last)) = (watch.first, self.away_since) {
            self.away_since = None;
            notices.push(Notice::Back(first.saturating_duration_since(last)));
        }
        for notice in notices.drain(..) {
            // Whoever left does not listen any more.
            let _ = self.notify.send(notice);
        }
        self.flush(now, out);
    }

    fn flush(&mut self, now: Instant, out: &mut Outgoing) {
        if let Some(lines) = &mut self.lines {
            for (to, datagram) in out.datagrams() {
                lines.1.push(now, to, datagram);
            }
            out.clear();
        } else {
            self.port.send(out);
        }
    }

    /// Leaves.
    pub(super) fn close(&mut self, out: &mut Outgoing) {
        self.ear.transport.close(out);
        self.port.send(out);
    }

    /// From now on is measured.
    pub(super) fn reset(&mut self, now: Instant) {
        self.since = self.ear.transport.totals();
        self.ear.watch.reset(now);
        if let Some(lines) = &mut self.lines {
            (lines.0.dropped, lines.1.dropped) = (0, 0);
        }
    }

    /// What came of it since the last reset.
    pub(super) fn summary(&self) -> Summary {
        let first = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(self.started));
        Summary {
            impaired: self.is_impaired(),
            received: self.ear.watch.received(),
            totals: self.ear.transport.totals().since(&self.since),
            first: first(self.ear.watch.first),
            first_video: first(self.ear.watch.first_video),
            dropped: self.lines.as_ref().map_or(0, |lines| lines.0.dropped + lines.1.dropped),
        }
    }

    /// Packets sent and received, bytes received, since the beginning.
    pub(super) fn totals(&self) -> TransportTotals {
        self.ear.transport.totals()
    }
}
