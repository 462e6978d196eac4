//! What the way to one client carries: an estimate from the client's feedback, without I/O and without a clock of its own.
//!
//! - `sent.rs`: what was sent, to match feedback with;
//! - `feedback.rs`: reading the messages;
//! - `arrival.rs`: what arrives, and the queue on the way; `loss.rs`: what does not;
//! - `estimate.rs`: how the estimate moves;
//! - `pace.rs`: how fast to send where it is little;
//! - `probe.rs`: finding out whether more would arrive; `fill.rs`: the same where the client only names its bandwidth;
//! - `repairs.rs`: how much of it retransmissions may take.

mod arrival;
mod estimate;
mod feedback;
mod fill;
#[cfg(test)]
mod link;
mod loss;
mod pace;
mod probe;
mod repairs;
mod sent;
#[cfg(test)]
mod tests;

use std::time::Instant;

use super::control::Downlink;
use arrival::Arrivals;
use estimate::{Change, Estimate, Observation};
use feedback::TransportFeedback;
pub(crate) use feedback::read_remb;
use fill::Fill;
use loss::Loss;
use pace::Bucket;
use probe::{Outcome, Prober};
use repairs::Repairs;
pub(crate) use sent::Purpose;
use sent::{Fate, Meter, REMEMBERED, Sent};

/// IPv4 and UDP headers, bytes a packet; what is counted is what the narrowest link carries.
const HEADERS: usize = 28;
/// Bits per second before anything is known of the way.
const START: f64 = 400_000.0;
/// An estimate is never below: audio is sent anyway.
const FLOOR: f64 = 50_000.0;
/// Nor above: no client shows more.
const CEILING: f64 = 100_000_000.0;
/// What repairs are a part of while nothing is known to limit the way.
const UNKNOWN: f64 = 4_000_000.0;
/// An arrival further from the last one than that, by the difference of the clocks, is none: microseconds.
const CLOCK_JUMP: u64 = 10_000_000;
/// Arrivals in one message are at most so far apart, microseconds.
const LONGEST_MESSAGE: i64 = 10_000_000;
/// Sending without feedback for so long means that little arrives; then again and again after the shorter time.
const SILENCE: u64 = 1_500_000;
const SILENCE_AGAIN: u64 = 500_000;
/// A client that sends receiver reports but has sent no feedback this long after the first packet will send none.
const UNHEARD: u64 = 3_000_000;
/// What feedback says of packets is listened to this often for each packet sent, with as much in advance as are remembered:
/// reading costs time, and an honest client speaks of each packet once, or twice.
const HEARINGS: u32 = 4;
/// One unit of the reference time, and of a delta, microseconds.
const REFERENCE: u64 = 64_000;
const TICK: i64 = 250;

/// The client's clock as its feedback tells it.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// The last message's reference, 24 bits, and what that is in microseconds from an arbitrary start.
    reference: u32,
    micros: u64,
    /// The newest arrival on that clock, and when the message that named it came on ours.
    newest: u64,
    at: u64,
}

/// One transport's.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    epoch: Instant,
    negotiated: bool,
    sent: Sent,
    meter: Meter,
    /// Bytes of unnumbered packets since the last numbered one.
    unnumbered: usize,
    /// Feedback has spoken of everything below this number.
    reported: u64,
    /// Of so many packets feedback may speak yet.
    hearings: u32,
    clock: Option<Clock>,
    heard: Option<u64>,
    /// The client reports on what it gets (RFC 3550), but not transport-wide although it has agreed to.
    reporting: bool,
    mute: bool,
    arrivals: Arrivals,
    loss: Loss,
    estimate: Estimate,
    prober: Prober,
    repairs: Repairs,
    /// While the way is known to be narrow.
    bucket: Option<Bucket>,
    remb: Option<u64>,
    fill: Fill,
    wish: Option<u64>,
    /// Something is wanted and not even begun.
    starved: bool,
    /// When a probe has raised the estimate, and to what.
    #[cfg(test)]
    pub(crate) proofs: Vec<(Instant, u64)>,
}

impl Bandwidth {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            negotiated: false,
            sent: Sent::default(),
            meter: Meter::default(),
            unnumbered: 0,
            reported: 0,
            hearings: HEARINGS * REMEMBERED as u32,
            clock: None,
            heard: None,
            reporting: false,
            mute: false,
            arrivals: Arrivals::new(),
            loss: Loss::new(),
            estimate: Estimate::new(),
            prober: Prober::new(),
            repairs: Repairs::new(),
            bucket: None,
            remb: None,
            fill: Fill::new(),
            wish: None,
            starved: false,
            #[cfg(test)]
            proofs: Vec::new(),
        }
    }

    /// Whether the client has agreed to send transport-wide feedback.
    pub(crate) fn negotiated(&mut self, transport_wide: bool) {
        self.negotiated = transport_wide;
    }

    /// What another server that the client had would have to know to go on.
    pub(crate) fn describe(&self) -> Downlink {
        let known = self.heard.is_some() || self.remb.is_some();
        let bits = self.budget().filter(|_| known).unwrap_or_default();
        Downlink { next_number: self.sent.next() as u16, bits }
    }

    /// The client had another server, which knew this of the way; before the first packet.
    pub(crate) fn go_on(&mut self, downlink: Downlink) {
        self.sent.begin(downlink.next_number);
        self.reported = self.sent.next();
        if downlink.bits > 0 {
            self.estimate.believe(downlink.bits as f64);
        }
    }

    /// Bits per second for everything that is sent; `None` while nothing is known to limit it.
    pub(crate) fn budget(&self) -> Option<u64> {
        match self.remb {
            Some(remb) if self.heard.is_none() => Some(remb),
            _ => (self.negotiated && !self.mute).then_some(self.estimate.bits() as u64),
        }
    }

    /// What audio takes. As long as nothing has been heard of what was sent, the budget is a guess, and one for video: audio
    /// alone may take more, and where it is not numbered (Firefox) nothing would ever be heard that corrects the guess.
    pub(crate) fn beside(&mut self, audio: u64) {
        if self.heard.is_none() {
            self.estimate.guess(audio as f64);
        }
    }

    /// What an upgrade would need, bits per second; `None` when nothing could be upgraded. `starved`: a
    /// track is not even begun.
    pub(crate) fn wish(&mut self, bits: Option<u64>, starved: bool) {
        (self.wish, self.starved) = (bits, starved);
    }

    /// The transport-wide sequence number of the next packet.
    pub(crate) fn next_number(&self) -> [u8; 2] {
        (self.sent.next() as u16).to_be_bytes()
    }

    /// A packet of `len` bytes of UDP payload leaves, with `number` if that is in it. Its bytes on the wire.
    pub(crate) fn sent(&mut self, now: Instant, len: usize, number: Option<[u8; 2]>, purpose: Purpose) -> usize {
        let now = self.micros(now);
        self.unnumbered += len + HEADERS;
        if let Some(bucket) = &mut self.bucket {
            bucket.sent(len + HEADERS);
            self.fill.sent(len + HEADERS);
        }
        if number.is_some() {
            let size = u16::try_from(std::mem::take(&mut self.unnumbered)).unwrap_or(u16::MAX);
            let cluster = self.prober.sent(now, size, purpose == Purpose::Probe);
            self.meter.add(now, size);
            self.sent.push(now, size, cluster);
            self.hearings = (self.hearings + HEARINGS).min(HEARINGS * REMEMBERED as u32);
        }
        len + HEADERS
    }

    /// Whether a packet of `len` bytes may be sent again: repairs are a part of what the way carries.
    pub(crate) fn may_repair(&mut self, now: Instant, len: usize) -> bool {
        let now = self.micros(now);
        let budget = self.budget().map_or(UNKNOWN, |bits| bits as f64);
        self.repairs.take(now, len + HEADERS, budget)
    }

    /// Bytes a second at which pictures are to leave; `None` where the way is not known to be narrow.
    pub(crate) fn pace(&self) -> Option<f64> {
        self.bucket.as_ref().map(Bucket::rate)
    }

    /// Whether a picture's packet may leave now.
    pub(crate) fn may_send(&mut self, now: Instant) -> bool {
        let now = self.micros(now);
        self.bucket.as_mut().is_none_or(|bucket| bucket.may_send(now))
    }

    /// The share of packets lost in the last second, 0.0 to 1.0; `None` where no feedback tells.
    pub(crate) fn lost(&self, now: Instant) -> Option<f32> {
        self.heard?;
        self.loss.share(self.micros(now)).map(|share| share as f32)
    }

    /// There is nothing to send padding on.
    pub(crate) fn cannot_probe(&mut self, now: Instant) {
        let now = self.micros(now);
        self.prober.cancel(now);
    }

    /// Whether the client could use more than the way is known to carry.
    pub(crate) fn limited(&self) -> bool {
        self.wish.zip(self.budget()).is_some_and(|(wish, budget)| wish > budget)
    }

    /// Time passes, and a packet could be sent to probe: how many bytes of padding to send now.
    pub(crate) fn probe(&mut self, now: Instant) -> usize {
        let now = self.micros(now);
        if let (None, Some(named)) = (self.heard, self.remb) {
            return self.wish.map_or(0, |wish| self.fill.due(now, named as f64, wish as f64));
        }
        self.settle(now);
        self.prober.save(now, if self.starved { self.estimate.bits() } else { 0.0 });
        if let Some(wish) = self.wish
            && (self.heard.is_some() || self.is_idle(now))
            && self.estimate.calm(now)
        {
            self.prober.start(now, self.estimate.bits(), wish as f64, self.arrivals.jitter());
        }
        self.prober.due(now)
    }

    /// Where nothing flows as the first guess allows nothing, nothing would ever be heard either.
    fn is_idle(&self, now: u64) -> bool {
        self.negotiated && !self.mute && self.meter.rate(now, 1_000_000) == 0.0
    }

    /// Whether nothing is pressing: the client gets what it wants, its way was not seen full lately, and nothing is being tried.
    pub(crate) fn is_calm(&self) -> bool {
        let known = self.heard.is_some() && self.remb.is_none();
        known && self.wish.is_none() && self.bucket.is_none() && self.prober.is_idle()
    }

    /// Time passes: whoever does not answer gets less.
    pub(crate) fn tick(&mut self, now: Instant) {
        let now = self.micros(now);
        self.narrow(now);
        let Some(heard) = self.heard else {
            self.mute |= self.reporting && self.meter.began().is_some_and(|began| now > began + UNHEARD);
            return;
        };
        if self.reported == self.sent.next() || self.meter.rate(now, 1_000_000) == 0.0 {
            self.heard = Some(now); // there is nothing to answer
            return;
        }
        if now > heard + SILENCE {
            self.heard = Some(now - SILENCE + SILENCE_AGAIN);
            self.estimate.silence(now);
            self.prober.useful(now);
            tracing::debug!(bits = self.estimate.bits(), "estimate down: no feedback");
        }
    }

    /// Looks whether the way is narrow: it was seen full lately, or the client says so.
    fn narrow(&mut self, now: u64) {
        let known = self.heard.is_none() || self.estimate.was_full(now);
        match (self.budget().filter(|_| known && (self.remb.is_some() || self.heard.is_some())), &mut self.bucket) {
            (Some(bits), Some(bucket)) => bucket.set(bits as f64),
            (Some(bits), bucket) => *bucket = Some(Bucket::new(now, bits as f64)),
            (None, bucket) => *bucket = None,
        }
    }

    /// A receiver report came.
    pub(crate) fn reported(&mut self) {
        self.reporting = true;
    }

    /// The client names a limit for what it gets. Counts while it sends no transport-wide feedback.
    pub(crate) fn remb(&mut self, bits: u64) {
        self.remb = Some(bits.clamp(FLOOR as u64, CEILING as u64));
    }

    /// Transport-wide feedback, an RTCP packet; false if it is malformed or speaks of what cannot be.
    pub(crate) fn feedback(&mut self, now: Instant, packet: &[u8]) -> bool {
        let now = self.micros(now);
        let Some(message) = TransportFeedback::read(packet) else { return false };
        let Some(first) = self.sent.extend(message.base) else { return false };
        let end = first + u64::from(message.count);
        if end > self.sent.next() {
            return false;
        }
        let Some(hearings) = self.hearings.checked_sub(u32::from(message.count).max(1)) else { return false };
        self.hearings = hearings;
        let Some(start) = self.synchronise(now, &message) else { return false };
        let unreported = self.reported.max(end.saturating_sub(REMEMBERED as u64))..first;
        self.presume(unreported, start);
        self.reported = self.reported.max(end);
        let (mut at, mut newest) = (start.cast_signed(), None);
        for (number, arrival) in (first..end).zip(message.arrivals()) {
            at += i64::from(arrival.unwrap_or(0)) * TICK;
            let Some(packet) = self.sent.get_mut(number) else { continue };
            let before = packet.fate;
            match (before, arrival) {
                (Fate::Unknown | Fate::Lost, Some(_)) => {
                    packet.fate = Fate::Arrived;
                    let arrived = at.cast_unsigned();
                    let sent = packet.at(now);
                    self.arrivals.push(sent, arrived, u32::from(packet.size));
                    match before {
                        Fate::Lost => self.loss.found(now),
                        _ => self.loss.arrived(now),
                    }
                    self.prober.arrived(packet.cluster, arrived, packet.size);
                    newest = newest.max(Some(sent));
                }
                (Fate::Unknown, None) => {
                    packet.fate = Fate::Lost;
                    self.loss.lost(now);
                    self.prober.lost(packet.cluster);
                }
                _ => {}
            }
        }
        (self.heard, self.mute) = (Some(now), false);
        self.observe(now, newest);
        self.settle(now);
        true
    }

    /// The reference time of a message on the client's clock, microseconds; `None` if its arrivals cannot be meant.
    fn synchronise(&mut self, now: u64, message: &TransportFeedback<'_>) -> Option<u64> {
        let (mut at, mut earliest, mut latest) = (0i64, i64::MAX, i64::MIN);
        for delta in message.arrivals().flatten() {
            at += i64::from(delta) * TICK;
            (earliest, latest) = (earliest.min(at), latest.max(at));
        }
        let none = earliest > latest;
        if !none && (latest.saturating_sub(earliest) > LONGEST_MESSAGE || earliest.abs() > LONGEST_MESSAGE) {
            return None;
        }
        let latest = if none { 0 } else { latest };
        let Some(clock) = &mut self.clock else {
            let micros = 1u64 << 40; // far from either end
            let newest = micros.saturating_add_signed(latest);
            self.clock = Some(Clock { reference: message.reference, micros, newest, at: now });
            return Some(micros);
        };
        // 24 bits that wrap around.
        let forward = (message.reference.wrapping_sub(clock.reference) << 8).cast_signed() >> 8;
        let micros = clock.micros.saturating_add_signed(i64::from(forward) * REFERENCE.cast_signed());
        let newest = micros.saturating_add_signed(latest);
        let (theirs, ours) = (newest.cast_signed() - clock.newest.cast_signed(), (now - clock.at).cast_signed());
        if theirs.abs_diff(ours) > CLOCK_JUMP {
            // Another clock from here on, or nonsense; either way nothing old compares with it.
            self.clock = None;
            self.arrivals = Arrivals::new();
            return None;
        }
        (clock.reference, clock.micros) = (message.reference, micros);
        if newest > clock.newest {
            (clock.newest, clock.at) = (newest, now);
        }
        Some(micros)
    }

    /// A feedback message was lost: what it would have spoken of is taken as arrived, so that the way does not look narrower
    /// than it is.
    fn presume(&mut self, numbers: std::ops::Range<u64>, at: u64) {
        for number in numbers {
            if let Some(packet) = self.sent.get_mut(number).filter(|packet| packet.fate == Fate::Unknown) {
                self.arrivals.presume(at, u32::from(packet.size));
                self.prober.lost(packet.cluster);
            }
        }
    }

    fn observe(&mut self, now: u64, newest: Option<u64>) {
        let Some(newest) = newest else { return };
        let seen = Observation {
            now,
            round_trip: now.saturating_sub(newest),
            recent: self.arrivals.recent(),
            loss: self.loss.share(now),
            sent: self.meter.rate(now, 300_000),
            sent_long: self.meter.rate(now, 1_000_000),
        };
        let before = self.estimate.bits();
        let Some(change) = self.estimate.observe(&seen) else { return };
        match change {
            Change::Queue | Change::Loss => self.prober.congested(now),
            Change::Foreign => self.arrivals.rebase(),
            Change::Drained => {}
        }
        if self.estimate.take_deceived() {
            self.prober.deceived(now);
        }
        let (queue, arriving) = seen.recent.map_or((0, 0.0), |recent| (recent.queue / 1000, recent.rate));
        let (bits, sent, loss) = (self.estimate.bits(), seen.sent, seen.loss.unwrap_or(0.0));
        tracing::debug!(?change, before, bits, sent, arriving, queue_ms = queue, loss, "estimate");
    }

    /// A probe may be over.
    fn settle(&mut self, now: u64) {
        let Some(outcome) = self.prober.outcome(now) else { return };
        let before = self.estimate.bits();
        let raised = match outcome {
            Outcome::Carried(bits) => self.estimate.proved(now, bits),
            Outcome::Full(bits) => {
                self.estimate.full(now, bits);
                self.estimate.proved(now, 0.9 * bits)
            }
            Outcome::Unclear => false,
        };
        match outcome {
            _ if raised => self.prober.useful(now),
            Outcome::Full(_) => self.prober.useless(now),
            // All of it arrived: it was too little to show more, and that may be otherwise the next time.
            Outcome::Carried(_) | Outcome::Unclear => self.prober.unclear(now),
        }
        #[cfg(test)]
        if raised {
            self.proofs.push((self.epoch + std::time::Duration::from_micros(now), self.estimate.bits() as u64));
        }
        tracing::debug!(?outcome, raised, before, bits = self.estimate.bits(), "probe");
    }

    fn micros(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.epoch);
        since.as_secs() * 1_000_000 + u64::from(since.subsec_micros())
    }
}
