//! One SSRC that is sent: its numbers, its history for retransmissions (RFC 4588), its sender reports.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::port::Outgoing;
use crate::media::control::ExtensionIds;
use crate::media::rtp::{Outgoing as Header, OutgoingExtensions};
use crate::media::srtp::{OutStream, Outbound};

/// Packets kept for retransmission: more than a second of the highest layer.
const HISTORY: usize = 256;
/// Between the Unix epoch and NTP's, seconds (RFC 5905).
const NTP_OFFSET: u64 = 2_208_988_800;

/// What is sent with one SSRC.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The section's mid.
    pub mid: String,
    /// The simulcast layer's name (RFC 8852).
    pub rid: Option<String>,
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC and payload type of its retransmissions; without it nothing is repaired.
    pub rtx: Option<(u32, u8)>,
    /// Payload type.
    pub payload_type: u8,
    /// RTP clock, Hz.
    pub clock_rate: u32,
}

/// A source of one transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceId(pub(super) usize);

#[derive(Default)]
struct Kept {
    sequence: u16,
    marker: bool,
    timestamp: u32,
    payload: Vec<u8>,
}

/// A source at work.
pub(super) struct Sending {
    pub(super) source: Source,
    stream: OutStream,
    repairs: Option<OutStream>,
    next: u64,
    next_repair: u64,
    /// A ring; its place is the sequence number's remainder.
    history: Vec<Kept>,
    last: Option<(u32, Instant)>,
    packets: u32,
    octets: u32,
}

/// What goes with a packet besides its payload.
pub(super) struct Meta {
    pub(super) marker: bool,
    pub(super) timestamp: u32,
    pub(super) audio_level: Option<u8>,
}

/// How a packet leaves a transport.
pub(super) struct Way<'a> {
    pub(super) to: SocketAddr,
    pub(super) ids: &'a ExtensionIds,
    /// The next transport-wide number.
    pub(super) transport_wide: &'a mut u16,
    pub(super) outbound: &'a mut Outbound,
}

impl Sending {
    /// `None` when an SSRC is taken.
    pub(super) fn new(source: Source, outbound: &mut Outbound) -> Option<Self> {
        let stream = outbound.stream(source.ssrc)?;
        let repairs = match source.rtx {
            Some((ssrc, _)) => Some(outbound.stream(ssrc)?),
            None => None,
        };
        let first = || u64::from(rand::random::<u16>() >> 1); // RFC 3711 §3.3.1: a rollover is not near
        let mut history = Vec::new();
        if repairs.is_some() {
            history.resize_with(HISTORY, Kept::default);
        }
        let (next, next_repair) = (first(), first());
        Some(Self { source, stream, repairs, next, next_repair, history, last: None, packets: 0, octets: 0 })
    }

    /// Sends a packet; false if it cannot be sealed.
    pub(super) fn send(
        &mut self,
        now: Instant,
        way: Way<'_>,
        (meta, payload): (&Meta, &[u8]),
        out: &mut Outgoing,
    ) -> bool {
        let Way { to, ids, transport_wide, outbound } = way;
        let index = self.next;
        self.next += 1;
        let sequence = index as u16;
        let Meta { marker, timestamp, audio_level } = *meta;
        let header =
            Header { marker, payload_type: self.source.payload_type, sequence, timestamp, ssrc: self.source.ssrc };
        if !self.history.is_empty() {
            let kept = &mut self.history[usize::from(sequence) % HISTORY];
            (kept.sequence, kept.marker, kept.timestamp) = (sequence, marker, timestamp);
            kept.payload.clear();
            kept.payload.extend_from_slice(payload);
        }
        self.last = Some((timestamp, now));
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
        let rid = self.source.rid.as_deref().unwrap_or_default().as_bytes();
        let (level, number) = (audio_level.map(|level| [level]), transport_wide.to_be_bytes());
        let extensions = OutgoingExtensions::of(&[
            (ids.mid, self.source.mid.as_bytes()),
            (if rid.is_empty() { 0 } else { ids.rid }, rid),
            (if level.is_some() { ids.audio_level } else { 0 }, level.as_ref().map_or(&[], |level| &level[..])),
            (ids.twcc, &number),
        ]);
        *transport_wide = transport_wide.wrapping_add(1);
        let start = out.arena().len();
        extensions.write(&header, out.arena());
        let header_len = out.arena().len() - start;
        out.arena().extend_from_slice(payload);
        seal(outbound, &mut self.stream, index, (start, header_len), to, out)
    }

    /// Sends a packet again if it is still kept.
    pub(super) fn repair(&mut self, sequence: u16, way: Way<'_>, out: &mut Outgoing) -> bool {
        let Way { to, ids, transport_wide, outbound } = way;
        let (Some((ssrc, payload_type)), Some(stream)) = (self.source.rtx, &mut self.repairs) else { return false };
        let Some(kept) = self.history.get(usize::from(sequence) % HISTORY) else { return false };
        if kept.sequence != sequence || kept.payload.is_empty() {
            return false;
        }
        let index = self.next_repair;
        self.next_repair += 1;
        let Kept { marker, timestamp, .. } = *kept;
        let header = Header { marker, payload_type, sequence: index as u16, timestamp, ssrc };
        let rid = self.source.rid.as_deref().unwrap_or_default().as_bytes();
        let number = transport_wide.to_be_bytes();
        let extensions = OutgoingExtensions::of(&[
            (ids.mid, self.source.mid.as_bytes()),
            (if rid.is_empty() { 0 } else { ids.repaired_rid }, rid),
            (ids.twcc, &number),
        ]);
        *transport_wide = transport_wide.wrapping_add(1);
        let start = out.arena().len();
        extensions.write(&header, out.arena());
        let header_len = out.arena().len() - start;
        out.arena().extend_from_slice(&sequence.to_be_bytes());
        out.arena().extend_from_slice(&kept.payload);
        seal(outbound, stream, index, (start, header_len), to, out)
    }

    /// NTP time, RTP time, packets and octets for a sender report (RFC 3550 §6.4.1); `None` before the first packet.
    pub(super) fn report(&self, now: Instant) -> Option<(u64, u32, u32, u32)> {
        let (timestamp, at) = self.last?;
        let elapsed = now.saturating_duration_since(at).as_secs_f64() * f64::from(self.source.clock_rate);
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let fraction = (u64::from(wall.subsec_nanos()) << 32) / 1_000_000_000;
        let ntp = (wall.as_secs() + NTP_OFFSET) << 32 | fraction;
        Some((ntp, timestamp.wrapping_add(elapsed as u32), self.packets, self.octets))
    }
}

fn seal(
    outbound: &mut Outbound,
    stream: &mut OutStream,
    index: u64,
    (start, header): (usize, usize),
    to: SocketAddr,
    out: &mut Outgoing,
) -> bool {
    let sealed = outbound.seal_rtp(stream, index, out.arena(), start, header);
    if sealed {
        out.commit(to, start);
    } else {
        out.abort(start);
    }
    sealed
}
