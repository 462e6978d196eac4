//! RTCP both ways, and what happens with time: reports, repairs, key-frame requests, speakers, quality, consent.

use std::time::{Duration, Instant};

use super::super::bandwidth::Purpose;
use super::super::control::{CloseReason, Event, Kind};
use super::super::leg::clock_rate;
use super::super::rtcp::{self, Blocks, Feedback, MAX_BLOCKS, MAX_COMPOUND};
use super::super::source::SenderClock;
use super::allocate::find;
use super::mirror::Word;
use super::replay::stored;
use super::{Engine, TICK};
use crate::transport::five_tuple::FiveTuple;

/// Sequence numbers answered of one compound packet; more is not repair but a flood.
const MAX_REPAIRS: usize = 200;
/// Another worker is told a stream's clock at most this often; reports come once a second or so.
const CLOCK_PAUSE: Duration = Duration::from_millis(100);

/// Ticks between two turns of something that is done every `interval`.
pub(super) const fn every(interval: Duration) -> u64 {
    (interval.as_millis() / TICK.as_millis()) as u64
}

const TWCC_TURN: u64 = every(super::super::twcc::INTERVAL);
const RETARGET_TURN: u64 = every(Duration::from_millis(100));
/// For a peer without media: time means timers of seconds to it, and there may be very many.
const QUIET_TURN: u64 = every(Duration::from_millis(100));
/// For a peer that only gets media, as much as it wants.
const CALM_TURN: u64 = every(Duration::from_millis(50));
const SPEAKERS_TURN: u64 = every(Duration::from_millis(300));
const REPORT_TURN: u64 = every(Duration::from_secs(1));

impl Engine {
    /// An SRTCP packet on a peer's checked pair.
    pub(super) fn rtcp(&mut self, (now, came): (Instant, Instant), from: FiveTuple, key: usize, datagram: &mut [u8]) {
        let peer = &mut self.peers[key];
        let Some(len) = peer.inbound.as_mut().and_then(|inbound| inbound.open_rtcp(datagram)) else {
            self.counters.unauthentic += 1;
            return;
        };
        if peer.link.heard(now, from) {
            self.reached(now, key, from);
        }
        let mut repairs = MAX_REPAIRS;
        for feedback in rtcp::read(&datagram[..len]) {
            match feedback {
                Feedback::Sender(report) => {
                    self.sender_report(came, key, report.ssrc, report.ntp_time, report.rtp_time);
                    self.reception(came, key, &report.reports);
                }
                Feedback::Receiver(blocks) => self.reception(came, key, &blocks),
                Feedback::Nack(nack) => {
                    repairs -= self.repair(now, key, nack.media_ssrc, nack.sequences().take(repairs));
                }
                Feedback::KeyFrame(ssrc) => self.key_frame_wanted(now, key, ssrc),
                Feedback::TransportWide(message) => {
                    let taken = self.peers[key].bandwidth.feedback(now, message);
                    self.counters.feedback_refused += u64::from(!taken);
                }
                Feedback::Remb(bits) => self.peers[key].bandwidth.remb(bits),
            }
        }
    }

    fn sender_report(&mut self, came: Instant, key: usize, ssrc: u32, ntp: u64, rtp: u32) {
        let Some(stream) = self.peers[key].stream(ssrc).filter(|stream| !stream.rtx) else { return };
        let Some(track) = self.tracks.get_mut(stream.track) else { return };
        let layer = &mut track.layers[stream.layer];
        let before = layer.clock.replace(SenderClock { ntp, rtp, at: came });
        if let Some(receiver) = &mut layer.receiver {
            receiver.sender_report(came, ntp);
        }
        if before.is_some_and(|before| came.duration_since(before.at) < CLOCK_PAUSE) {
            return;
        }
        let (track, stream) = (track.id, stream.layer as u8);
        self.tell_elsewhere(track, &Word::Clock { track, stream, ntp, rtp });
    }

    fn reception(&mut self, came: Instant, key: usize, reports: &Blocks<'_>) {
        let peer = &mut self.peers[key];
        for report in reports.iter() {
            peer.bandwidth.reported();
            peer.answered(came, report.last_sender_report, report.delay);
            let Some(leg) = peer.legs.iter().find(|leg| leg.ssrc == report.ssrc) else { continue };
            let Some(kind) = self.tracks.get(leg.track).map(|track| track.kind) else { continue };
            let jitter = report.jitter as f32 * 1000.0 / clock_rate(kind) as f32;
            peer.measured.received(kind, f32::from(report.fraction_lost) / 256.0, jitter);
        }
    }

    /// Answers a NACK from the layers' histories; how many packets it was about.
    fn repair(&mut self, now: Instant, key: usize, ssrc: u32, sequences: impl Iterator<Item = u16>) -> usize {
        let mut asked = 0;
        let Some(leg) = self.peers[key].legs.iter().find(|leg| leg.ssrc == ssrc).copied() else { return asked };
        let Some(track) = self.tracks.get_mut(leg.track) else { return asked };
        let Some(leg) = track.legs.iter_mut().find(|known| known.id == leg.leg) else { return asked };
        for sequence in sequences {
            asked += 1;
            self.counters.nacks_received += 1;
            let Some(repair) = leg.find(now, sequence) else { continue };
            let layer = &track.layers[usize::from(repair.stream)];
            let index = u64::from(repair.sequence);
            let Some(publisher) = self.peers.get(track.peer) else { break };
            let types = (&track.payload_types[..], &publisher.map);
            let Some(packet) = stored(layer, repair.stream, index, types, now) else { continue };
            let Some(peer) = self.peers.get_mut(key) else { break };
            let len = packet.header.len + packet.payload.len();
            if !peer.is_relay() && !peer.bandwidth.may_repair(now, len) {
                self.counters.repairs_refused += 1;
                continue;
            }
            let Some(mut to) = peer.destination() else { break };
            self.counters.retransmitted +=
                u64::from(leg.repair(now, (&repair, Purpose::Repair), &packet, &mut to, &mut self.outbox));
        }
        asked
    }

    /// A subscriber cannot go on without a key frame.
    fn key_frame_wanted(&mut self, now: Instant, key: usize, ssrc: u32) {
        self.counters.key_frames_wanted += 1;
        let many = self.peers[key].is_relay(); // another bridge asks for all its clients, and has limited them
        let Some(leg) = self.peers[key].legs.iter_mut().find(|leg| leg.ssrc == ssrc) else { return };
        if !many && !leg.requests.take(now) {
            return;
        }
        let leg = *leg;
        let Some(track) = self.tracks.get_mut(leg.track).filter(|track| track.kind == Kind::Video) else { return };
        let known = track.legs.iter().find(|known| known.id == leg.leg);
        if let Some(stream) = known.and_then(|leg| leg.stream().or(leg.awaits()))
            && let Some(layer) = track.layers.get_mut(usize::from(stream))
        {
            layer.key_frame_wanted = true;
            self.request_key_frames(now, leg.track);
        }
    }

    /// Gives legs the key frames they wait for out of the history, and asks the track's publisher for those that are
    /// still wanted, as often as allowed.
    pub(super) fn request_key_frames(&mut self, now: Instant, at: usize) {
        self.start_from_history(now, at);
        let Some(track) = self.tracks.get_mut(at).filter(|track| track.kind == Kind::Video && !track.muted) else {
            return;
        };
        track.mark_awaited();
        if track.mirrored {
            return self.ask_home(now, at);
        }
        let Some(peer) = self.peers.get_mut(track.peer).filter(|peer| peer.connected()) else { return };
        self.writer.clear();
        for layer in &mut track.layers {
            if let Some(ssrc) = layer.take_key_frame_request(now) {
                self.writer.picture_loss(ssrc);
                self.counters.key_frames_asked += 1;
            }
        }
        peer.send_rtcp(&mut self.writer, &mut self.outbox);
    }

    /// Everything that is done with time, each in its turn so that peers do not all have theirs at once.
    pub(super) fn tick(&mut self, now: Instant) {
        let (ticks, part) = (self.ticks, self.part);
        let turn = |key: usize, period: u64| (ticks + key as u64).is_multiple_of(period);
        let peers = part.keys(self.peers.capacity());
        for key in peers.clone() {
            let period = match self.peers.get(key) {
                Some(peer) if peer.is_quiet() => QUIET_TURN,
                Some(peer) if peer.is_calm() => CALM_TURN,
                Some(_) => 1,
                None => continue,
            };
            if !turn(key, period) {
                continue;
            }
            self.peer_tick(now, key);
            self.probe(now, key);
            self.pace(now, key);
            self.watch_budget(key);
        }
        for key in peers.clone().filter(|&key| turn(key, TWCC_TURN)) {
            self.transport_feedback(key);
        }
        for key in peers.filter(|&key| turn(key, REPORT_TURN)) {
            self.reports(now, key);
        }
        for at in part.keys(self.tracks.capacity()).filter(|&at| turn(at, RETARGET_TURN)) {
            self.watch_track(now, at);
        }
        if part.is_first() && ticks.is_multiple_of(SPEAKERS_TURN) {
            self.speakers(now);
        }
        self.settle(now);
    }

    /// Timers, consent and NACKs of one peer.
    fn peer_tick(&mut self, now: Instant, key: usize) {
        let end = self.peers[key].timers(now, &mut self.events);
        self.after_dtls(now, key, end);
        let Some(peer) = self.peers.get_mut(key) else { return };
        if peer.link.expired(now) {
            self.close(key, CloseReason::Timeout);
            return;
        }
        self.writer.clear();
        peer.try_path(now, &mut self.writer, &mut self.outbox);
        let rtt = peer.rtt();
        for &at in &peer.tracks {
            let track = &mut self.tracks[at];
            let repairable = track.is_taken() && track.payload_types.iter().any(|p| p.rtx.is_some());
            for layer in &mut track.layers {
                let (Some(ssrc), Some(receiver)) = (layer.ssrc, &mut layer.receiver) else { continue };
                layer.key_frame_wanted |= receiver.take_overrun();
                self.nacks.clear();
                receiver.due_nacks(now, rtt, &mut self.nacks);
                if !self.nacks.is_empty() && repairable {
                    self.counters.nacks_sent += self.nacks.len() as u64;
                    self.writer.nack(ssrc, &self.nacks);
                }
            }
        }
        peer.send_rtcp(&mut self.writer, &mut self.outbox);
    }

    fn transport_feedback(&mut self, key: usize) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| !peer.twcc.is_empty()) else { return };
        let media = peer.tracks.first().and_then(|&at| self.tracks[at].layers[0].ssrc).unwrap_or(0);
        self.writer.clear();
        while peer.twcc.write(rtcp::OUR_SSRC, media, self.writer.buffer()) {
            peer.send_rtcp(&mut self.writer, &mut self.outbox);
        }
    }

    /// Receiver reports for what a peer sends, sender reports for what it gets, and the quality of both.
    fn reports(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| peer.connected()) else { return };
        self.writer.clear();
        self.blocks.clear();
        for &at in &peer.tracks {
            for layer in &mut self.tracks[at].layers {
                if let (Some(ssrc), Some(receiver)) = (layer.ssrc, &mut layer.receiver) {
                    self.blocks.push((ssrc, receiver.report(now)));
                }
            }
        }
        for blocks in self.blocks.chunks(MAX_BLOCKS) {
            self.writer.receiver_report(blocks);
        }
        if self.blocks.is_empty() && peer.is_relay() {
            self.writer.receiver_report(&[]); // so that it knows that we are there
        }
        for at in 0..peer.legs.len() {
            let known = &mut peer.legs[at];
            let Some(track) = self.tracks.get_mut(known.track) else { continue };
            let Some(leg) = find(known, track).and_then(|at| track.legs.get_mut(at)) else { continue };
            leg.rest(now);
            let Some(stream) = leg.stream() else { continue };
            let clock = track.layers.get(usize::from(stream)).and_then(|layer| layer.clock);
            if let Some(report) = leg.sender_report(now, clock) {
                self.writer.sender_report(leg.ssrc, report);
                peer.reported(now, report.0);
            }
            if self.writer.bytes().len() > MAX_COMPOUND {
                peer.send_rtcp(&mut self.writer, &mut self.outbox);
            }
        }
        peer.send_rtcp(&mut self.writer, &mut self.outbox);
        self.repeat_sound(now, key);
        self.quality(now, key);
        self.relay_report(key);
    }

    /// How much of the sound a peer gets again, by what it has lost in the last second.
    fn repeat_sound(&mut self, now: Instant, key: usize) {
        let Some(peer) = self.peers.get_mut(key).filter(|peer| !peer.is_relay()) else { return };
        let lost = peer.bandwidth.lost(now).or(peer.measured.lost()).unwrap_or(0.0);
        let before = peer.redundancy.depth();
        let depth = peer.redundancy.observe(lost);
        if (before, depth) == (0, 0) {
            return;
        }
        for known in &mut peer.legs {
            let Some(track) = self.tracks.get_mut(known.track).filter(|track| track.kind == Kind::Audio) else {
                continue;
            };
            let depth = if track.encrypted { 0 } else { depth };
            let Some(leg) = find(known, track).and_then(|at| track.legs.get_mut(at)) else { continue };
            leg.redundancy = if leg.red().is_some() { depth } else { 0 };
            if leg.redundancy > 0 {
                track.recent.get_or_insert_default();
            }
        }
    }

    fn speakers(&mut self, now: Instant) {
        let mut moved = std::mem::take(&mut self.keys);
        let mut speakers = std::mem::take(&mut self.speaking);
        for (&id, room) in &mut self.rooms {
            speakers.clear();
            for &at in &room.tracks {
                let track = &mut self.tracks[at];
                let level = if track.kind == Kind::Audio { track.loudness.take() } else { 0.0 };
                if level > 0.0 {
                    speakers.push((track.id, level));
                }
            }
            // Equal levels keep the order of entry, so that the list is calm.
            speakers.sort_by(|a, b| b.1.total_cmp(&a.1));
            let speaking = speakers.iter().filter_map(|(track, _)| self.tracks.get(*self.by_track.get(track)?));
            if room.spotlight.update(now, speaking.map(|track| track.voice)) {
                moved.extend_from_slice(&room.peers);
            }
            if speakers != room.speakers {
                room.speakers.clone_from(&speakers);
                self.events.push(Event::Speakers { room: id, speakers: speakers.clone() });
            }
        }
        self.speaking = speakers;
        // Unlimited peers have everything already.
        moved.retain(|key| self.peers.get(*key).is_some_and(|peer| peer.allocation.budget.is_some()));
        moved.drain(..).for_each(|key| self.reconsider(key));
        self.keys = moved;
    }
}
