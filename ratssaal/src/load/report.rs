//! What came of a run: as a table for people, as JSON for programs.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use ratssaal_bridge::client::TransportTotals;
use serde_json::{Value, json};

use super::histogram::Histogram;
use super::machine;
use super::options::Options;
use super::participant::Summary;
use super::watch::{Media, Received};
use super::wire::Failure;

/// How joining went.
#[derive(Default, Debug)]
pub(super) struct Joins {
    /// From opening the WebSocket to flowing media, µs.
    pub(super) connected: Histogram,
    /// SRTP profiles, and how many negotiated each.
    pub(super) profiles: BTreeMap<String, u32>,
    /// How long media was away from those who came back, µs.
    pub(super) away: Histogram,
    /// Those who had to come back.
    pub(super) rejoined: u32,
    /// Why people are not, or no longer, in their rooms.
    pub(super) failures: Vec<(Failure, u32)>,
    /// Who left as planned.
    pub(super) left: u32,
    /// From the first join's begin to the last one's end.
    pub(super) took: Duration,
}

/// What it cost, while it was measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cost {
    pub(super) wall: Duration,
    /// When that began.
    pub(super) began: SystemTime,
    /// Our CPU time.
    pub(super) own: Duration,
    /// The server's.
    pub(super) server: Option<Duration>,
    /// The server's for each join, and whatever it did meanwhile.
    pub(super) server_joins: Option<Duration>,
    /// The server's resident memory more than before, for each participant, bytes.
    pub(super) memory: Option<u64>,
    /// The server's resident memory in the first and the last quarter of the time, bytes.
    pub(super) memory_course: Option<(u64, u64)>,
    /// Packets of publishers.
    pub(super) sent: u64,
    /// Packets to subscribers: forwarded, retransmitted, padding.
    pub(super) received: u64,
    /// Their bytes.
    pub(super) bytes: u64,
}

/// Participants with the same kind of line.
#[derive(Default, Debug)]
struct Group {
    people: u64,
    received: Received,
    totals: TransportTotals,
    first: Histogram,
    first_video: Histogram,
    dropped: u64,
}

/// Everything.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) joins: Joins,
    title: String,
    setting: Value,
    cost: Cost,
    clean: Group,
    impaired: Group,
}

fn micros(value: u64) -> f64 {
    value as f64 / 1000.0
}

impl Group {
    fn add(&mut self, summary: &Summary) {
        self.people += 1;
        self.received.add(&summary.received);
        self.dropped += summary.dropped;
        let micros = |at: Duration| u64::try_from(at.as_micros()).unwrap_or(u64::MAX);
        summary.first.into_iter().for_each(|at| self.first.record(micros(at)));
        summary.first_video.into_iter().for_each(|at| self.first_video.record(micros(at)));
        let (all, one) = (&mut self.totals, &summary.totals);
        all.sent += one.sent;
        all.repairs_sent += one.repairs_sent;
        all.received += one.received;
        all.received_bytes += one.received_bytes;
        all.nacks_sent += one.nacks_sent;
        all.key_frames_asked += one.key_frames_asked;
        all.duplicates += one.duplicates;
        all.unauthentic += one.unauthentic;
    }

    fn json(&self) -> Value {
        let Received { audio, video, foreign, latency } = &self.received;
        json!({
            "participants": self.people,
            "audio": media(audio),
            "video": media(video),
            "foreign_packets": foreign,
            "forwarding_latency_ms": percentiles(latency),
            "join_to_first_packet_ms": percentiles(&self.first),
            "join_to_first_video_ms": percentiles(&self.first_video),
            "packets_sent": self.totals.sent,
            "retransmissions_sent": self.totals.repairs_sent,
            "nacks_sent": self.totals.nacks_sent,
            "key_frames_asked": self.totals.key_frames_asked,
            "duplicates": self.totals.duplicates,
            "unauthentic": self.totals.unauthentic,
            "dropped_on_bad_lines": self.dropped,
        })
    }
}

fn media(media: &Media) -> Value {
    json!({
        "expected": media.expected,
        "received": media.received,
        "lost": media.lost(),
        "loss": share(media.lost(), media.expected),
        "repaired": media.repaired,
        "skipped": media.skipped,
        "payload_bytes": media.bytes,
        "freezes": media.freezes,
        "frozen_ms": media.frozen_ms,
        "streams_wanted": media.wanted,
        "streams_missing": media.missing,
        "packets_by_layer": media.layers,
    })
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn percentiles(histogram: &Histogram) -> Value {
    let at = |share| histogram.percentile(share).map(micros);
    json!({
        "count": histogram.count(), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": at(1.0),
    })
}

impl Report {
    pub(super) fn new(options: &Options, joins: Joins, cost: Cost, summaries: Vec<Summary>) -> Self {
        let (mut clean, mut impaired) = (Group::default(), Group::default());
        for summary in &summaries {
            if summary.impaired { impaired.add(summary) } else { clean.add(summary) }
        }
        let title = format!(
            "{} rooms of {} publishers and {} subscribers, {:.0?} measured",
            options.rooms, options.publishers, options.subscribers, cost.wall
        );
        let setting = json!({
            "url": options.url,
            "rooms": options.rooms,
            "publishers": options.publishers,
            "subscribers": options.subscribers,
            "layers_bit_s": options.layers.iter().map(|layer| layer.bitrate).collect::<Vec<_>>(),
            "fps": options.fps,
            "talk": options.talk,
            "tiles": options.tiles,
            "tile": [options.tile.0, options.tile.1],
            "dynacast": options.dynacast,
            "ramp": options.ramp,
            "stay_s": options.stay.map(|stay| stay.as_secs_f64()),
            "seed": options.seed,
            "threads": options.threads,
            "impaired_share": if options.impairment.is_some() { options.impaired } else { 0.0 },
            "loss": options.impairment.loss,
            "delay_ms": options.impairment.delay.as_millis() as u64,
            "jitter_ms": options.impairment.jitter.as_millis() as u64,
            "bandwidth_bit_s": options.impairment.bandwidth,
            "machine": machine::describe(),
        });
        Self { joins, title, setting, cost, clean, impaired }
    }

    /// The server's CPU time for each packet it sent, µs.
    fn per_packet(&self) -> Option<f64> {
        let server = self.cost.server?;
        (self.cost.received > 0).then(|| server.as_secs_f64() * 1e6 / self.cost.received as f64)
    }

    /// For programs; times are ms where the name does not say otherwise.
    pub(super) fn json(&self) -> Value {
        let cost = &self.cost;
        let seconds = cost.wall.as_secs_f64();
        let began = cost.began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        json!({
            "setting": self.setting,
            "measured": { "began_unix_s": began.as_secs_f64(), "seconds": seconds },
            "joins": {
                "connected": self.joins.connected.count(),
                "left": self.joins.left,
                "failed": self.joins.failures.iter().map(|(_, count)| count).sum::<u32>(),
                "failures": self.joins.failures.iter()
                    .map(|(why, count)| json!({ "why": why.to_string(), "count": count })).collect::<Vec<_>>(),
                "per_second": self.joins.connected.count() as f64 / self.joins.took.as_secs_f64().max(1e-9),
                "join_to_media_ms": percentiles(&self.joins.connected),
                "srtp": self.joins.profiles,
                "rejoined": self.joins.rejoined,
                "away_ms": percentiles(&self.joins.away),
            },
            "clean": self.clean.json(),
            "impaired": self.impaired.json(),
            "rates": {
                "packets_sent_per_s": cost.sent as f64 / seconds,
                "packets_received_per_s": cost.received as f64 / seconds,
                "bit_per_s_received": cost.bytes as f64 * 8.0 / seconds,
            },
            "server": {
                "cpu_share_of_a_core": cost.server.map(|cpu| cpu.as_secs_f64() / seconds),
                "cpu_us_per_packet": self.per_packet(),
                "cpu_ms_per_join": cost.server_joins.map(|cpu| cpu.as_secs_f64() * 1e3),
                "memory_per_participant_bytes": cost.memory,
                "memory_first_quarter_bytes": cost.memory_course.map(|(first, _)| first),
                "memory_last_quarter_bytes": cost.memory_course.map(|(_, last)| last),
            },
            "load_client": {
                "cpu_share_of_a_core": cost.own.as_secs_f64() / seconds,
                "cpu_us_per_packet": cost.own.as_secs_f64() * 1e6 / (cost.sent + cost.received).max(1) as f64,
            },
        })
    }

    /// For people.
    pub(super) fn print(&self, out: &mut impl Write) -> io::Result<()> {
        let row = |out: &mut dyn Write, name: &str, value: String| writeln!(out, "  {name:<38}{value}");
        let (joins, cost) = (&self.joins, &self.cost);
        let seconds = cost.wall.as_secs_f64();
        writeln!(out, "{}\n\nJoins", self.title)?;
        let rate = joins.connected.count() as f64 / joins.took.as_secs_f64().max(1e-9);
        row(out, "joined", format!("{}, {rate:.1} a second", joins.connected.count()))?;
        for (failure, count) in &joins.failures {
            row(out, "failed", format!("{count}: {failure}"))?;
        }
        row(out, "join → media, p50 / p95 / p99", spread(&joins.connected))?;
        if joins.rejoined > 0 {
            row(out, "came back", joins.rejoined.to_string())?;
            row(out, "media away, p50 / p95 / p99", spread(&joins.away))?;
            let longest =
                joins.away.percentile(1.0).map_or("–".to_owned(), |value| format!("{:.1} ms", micros(value)));
            row(out, "media away, at most", longest)?;
        }
        let profiles: Vec<_> = joins.profiles.iter().map(|(name, count)| format!("{name} ({count})")).collect();
        row(out, "SRTP", profiles.join(", "))?;
        for (name, group) in [("Good lines", &self.clean), ("Bad lines", &self.impaired)] {
            if group.people > 0 {
                writeln!(out, "\n{name}: {} participants", group.people)?;
                print_group(out, group)?;
            }
        }
        writeln!(out, "\nTotal")?;
        row(
            out,
            "packets sent / received a second",
            format!(
                "{:.0} / {:.0}, {:.1} Mbit/s received",
                cost.sent as f64 / seconds,
                cost.received as f64 / seconds,
                cost.bytes as f64 * 8e-6 / seconds
            ),
        )?;
        if let Some(server) = cost.server {
            row(
                out,
                "server CPU",
                format!(
                    "{:.1} % of a core, {} per packet sent",
                    100.0 * server.as_secs_f64() / seconds,
                    self.per_packet().map_or("–".to_owned(), |micros| format!("{micros:.2} µs"))
                ),
            )?;
        }
        if let Some(cpu) = cost.server_joins {
            row(out, "server CPU while joining", format!("{:.1} ms per join", cpu.as_secs_f64() * 1e3))?;
        }
        if let Some(memory) = cost.memory {
            row(out, "server memory", format!("{:.2} MiB per participant", memory as f64 / f64::from(1 << 20)))?;
        }
        if let Some((first, last)) = cost.memory_course {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let value = format!("{:.1} MiB in the first quarter, {:.1} MiB in the last", mib(first), mib(last));
            row(out, "server memory in all", value)?;
        }
        let packets = (cost.sent + cost.received).max(1) as f64;
        row(
            out,
            "load client CPU",
            format!(
                "{:.1} % of a core, {:.2} µs per packet",
                100.0 * cost.own.as_secs_f64() / seconds,
                cost.own.as_secs_f64() * 1e6 / packets
            ),
        )
    }
}

fn spread(histogram: &Histogram) -> String {
    let at = |share| histogram.percentile(share).map_or("–".to_owned(), |value| format!("{:.1}", micros(value)));
    format!("{} / {} / {} ms", at(0.5), at(0.95), at(0.99))
}

fn print_group(out: &mut impl Write, group: &Group) -> io::Result<()> {
    let row = |out: &mut dyn Write, name: &str, value: String| writeln!(out, "  {name:<38}{value}");
    for (name, media) in [("audio", &group.received.audio), ("video", &group.received.video)] {
        row(
            out,
            &format!("{name} packets"),
            format!(
                "{} of {} received, {} lost ({:.3} %), {} repaired, {} skipped",
                media.received,
                media.expected,
                media.lost(),
                100.0 * share(media.lost(), media.expected),
                media.repaired,
                media.skipped
            ),
        )?;
        row(
            out,
            &format!("{name} streams"),
            format!(
                "{} wanted, {} missing, {} freezes ({:.1} s)",
                media.wanted,
                media.missing,
                media.freezes,
                media.frozen_ms as f64 / 1000.0
            ),
        )?;
    }
    let [low, medium, high] = group.received.video.layers;
    row(out, "video packets by layer", format!("{low} low, {medium} medium, {high} high"))?;
    row(out, "forwarding latency, p50 / p95 / p99", spread(&group.received.latency))?;
    row(out, "join → first packet, p50 / p95 / p99", spread(&group.first))?;
    row(out, "join → first video", spread(&group.first_video))?;
    let totals = &group.totals;
    row(
        out,
        "repairs",
        format!(
            "{} asked for, {} duplicates, {} sent, {} key frames asked for",
            totals.nacks_sent, totals.duplicates, totals.repairs_sent, totals.key_frames_asked
        ),
    )?;
    if group.dropped > 0 {
        row(out, "dropped on the lines", group.dropped.to_string())?;
    }
    Ok(())
}
