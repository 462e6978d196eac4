//! The workers' counters as metrics: each worker publishes its own, readers add them up. No lock, no contention.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::engine::Counters;
use super::handle::WorkerHandle;
use super::udp::Sent;

macro_rules! stats {
    ($($name:ident: $metric:literal $help:literal),* $(,)?) => {
        /// One worker's figures, written by the worker alone.
        #[derive(Default, Debug)]
        pub(crate) struct Stats {
            $(pub(crate) $name: AtomicU64,)*
            pub(crate) rooms: AtomicU64,
            pub(crate) transports: AtomicU64,
            pub(crate) tracks: AtomicU64,
            pub(crate) legs: AtomicU64,
            pub(crate) limited: AtomicU64,
        }

        impl Stats {
            /// Publishes the engine's counts.
            pub(crate) fn publish(&self, counters: &Counters) {
                let Counters { $($name),* } = counters;
                $(self.$name.store(*$name, Ordering::Relaxed);)*
            }
        }

        const ENGINE: &[(&str, &str, fn(&Stats) -> &AtomicU64)] = &[$(($metric, $help, |stats| &stats.$name)),*];
    };
}

stats! {
    received: "media_received_packets" "RTP packets received from publishers",
    received_bytes: "media_received_bytes" "Bytes of RTP received from publishers",
    held: "media_held_audio_packets" "Audio packets of the quieter voices in large rooms, not forwarded",
    forwarded: "media_forwarded_packets" "Copies of RTP packets sent to subscribers",
    forwarded_bytes: "media_forwarded_bytes" "Payload bytes sent to subscribers",
    repaired: "media_repaired_packets" "Lost packets that publishers sent again",
    retransmitted: "media_retransmitted_packets" "Packets sent again to subscribers",
    replayed: "media_replayed" "Subscriptions started with a key frame out of the history",
    nacks_sent: "media_nacks_sent" "Lost packets asked for at publishers",
    nacks_received: "media_nacks_received" "Lost packets that subscribers asked for",
    key_frames_asked: "media_key_frames_asked" "Key frames asked for at publishers",
    key_frames_wanted: "media_key_frames_wanted" "Key-frame requests from subscribers",
    malformed: "media_dropped_malformed" "Datagrams dropped: no STUN, DTLS or RTP, or contradictory",
    unauthentic: "media_dropped_unauthentic" "Datagrams dropped: wrong key, damaged or replayed",
    stray: "media_dropped_stray" "Datagrams dropped: from an unchecked address",
    stun_refused: "media_dropped_stun" "Connectivity checks refused",
    unknown: "media_dropped_unknown" "RTP packets dropped: SSRC or payload type not negotiated",
    probe_bytes: "media_probe_bytes" "Bytes sent only to find out what the way to a subscriber carries",
    repairs_refused: "media_refused_repairs" "Packets not sent again because repairs would take too much of the way",
    feedback_refused: "media_refused_feedback" "Bandwidth feedback that was malformed or spoke of what cannot be",
    relayed: "relay_sent_packets" "RTP packets sent to other bridges",
    relayed_bytes: "relay_sent_bytes" "Bytes of SRTP sent to other bridges",
    relay_received: "relay_received_packets" "RTP packets received from other bridges",
    relay_received_bytes: "relay_received_bytes" "Bytes of RTP received from other bridges",
    handshakes: "media_handshakes" "DTLS handshakes completed",
    handshakes_failed: "media_handshakes_failed" "DTLS handshakes failed",
}

/// What the socket says.
#[derive(Default, Debug)]
pub(crate) struct SocketStats {
    pub(crate) received: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) datagrams: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) runs: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) lost_events: AtomicU64,
    pub(crate) crossed: AtomicU64,
    pub(crate) uncrossed: AtomicU64,
    pub(crate) forwarding: Times,
}

/// Upper bounds of what [`Times`] counts, microseconds.
const BOUNDS: [u64; 12] = [100, 200, 500, 1000, 1500, 2000, 3000, 5000, 10_000, 20_000, 50_000, 100_000];

/// How long something took: a histogram that the worker alone writes.
#[derive(Default, Debug)]
pub(crate) struct Times {
    /// How many were within each bound and no lower one; those above all of them at the end.
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanos: AtomicU64,
}

impl Times {
    /// So many things took so long.
    fn add(&self, time: Duration, count: u64) {
        let at = BOUNDS.partition_point(|bound| u128::from(*bound) < time.as_micros());
        add(&self.counts[at], count);
        add(&self.nanos, u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / count.max(1)).saturating_mul(count));
    }
}

impl SocketStats {
    pub(crate) fn add(&self, sent: &Sent) {
        add(&self.datagrams, sent.datagrams);
        add(&self.sent_bytes, sent.bytes);
        add(&self.runs, sent.runs);
        add(&self.calls, sent.calls);
        add(&self.refused, sent.refused);
    }

    /// A packet was passed on to another worker, or its ring was full.
    pub(crate) fn add_crossed(&self, crossed: bool) {
        add(if crossed { &self.crossed } else { &self.uncrossed }, 1);
    }

    /// Copies of what came then, in messages of so many datagrams, have been given to the kernel now.
    pub(crate) fn add_forwarded(&self, now: SystemTime, arrivals: impl Iterator<Item = (Duration, u64)>) {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        for (came, datagrams) in arrivals {
            self.forwarding.add(now.saturating_sub(came), datagrams);
        }
    }

    pub(crate) fn add_received(&self, datagrams: u64, bytes: u64) {
        add(&self.received, datagrams);
        add(&self.received_bytes, bytes);
    }
}

/// Only the worker writes, so that this needs no atomic addition.
fn add(counter: &AtomicU64, by: u64) {
    counter.store(counter.load(Ordering::Relaxed) + by, Ordering::Relaxed);
}

type Read<S> = fn(&S) -> &AtomicU64;

const SOCKET: &[(&str, &str, Read<SocketStats>)] = &[
    ("media_received_datagrams", "Datagrams received, of all kinds", |s| &s.received),
    ("media_received_payload_bytes", "Their bytes", |s| &s.received_bytes),
    ("media_sent_datagrams", "Datagrams given to the kernel", |s| &s.datagrams),
    ("media_sent_payload_bytes", "Their bytes", |s| &s.sent_bytes),
    ("media_sent_runs", "Messages given to the kernel; with GSO one holds many datagrams", |s| &s.runs),
    ("media_send_calls", "System calls that sent them", |s| &s.calls),
    ("media_refused_datagrams", "Datagrams the kernel did not take", |s| &s.refused),
    ("media_crossed_packets", "RTP packets passed on to another worker of the bridge", |s| &s.crossed),
    ("media_lost_crossings", "RTP packets another worker did not take in time", |s| &s.uncrossed),
    ("media_lost_events", "Events dropped because a session did not read them", |s| &s.lost_events),
];

const GAUGES: &[(&str, &str, Read<Stats>)] = &[
    ("media_limited_transports", "PeerConnections whose clients could use more than their way carries", |s| &s.limited),
    ("media_rooms", "Rooms on the media workers", |s| &s.rooms),
    ("media_transports", "PeerConnections on the media workers", |s| &s.transports),
    ("media_tracks", "Published tracks", |s| &s.tracks),
    ("media_legs", "Subscriptions: copies of tracks on their way to subscribers", |s| &s.legs),
];

const FORWARDING: &str = "media_forwarding_seconds";
const FORWARDING_HELP: &str = "Time from a packet's arrival at the machine until its copies were given to the kernel";

/// All workers' figures, added up when they are asked for.
#[derive(Debug)]
pub(crate) struct MediaCollector(pub(crate) Arc<[Arc<WorkerHandle>]>);

impl Collector for MediaCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let sum = |read: &dyn Fn(&WorkerHandle) -> u64| self.0.iter().map(|worker| read(worker)).sum::<u64>();
        for (name, help, read) in ENGINE {
            let value = ConstCounter::new(sum(&|worker| read(&worker.stats).load(Ordering::Relaxed)));
            value.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        for (name, help, read) in SOCKET {
            let value = ConstCounter::new(sum(&|worker| read(&worker.socket_stats).load(Ordering::Relaxed)));
            value.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        for (name, help, read) in GAUGES {
            let value = sum(&|worker| read(&worker.stats).load(Ordering::Relaxed));
            let value = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            value.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let times = |read: &dyn Fn(&Times) -> &AtomicU64| {
            sum(&|worker| read(&worker.socket_stats.forwarding).load(Ordering::Relaxed))
        };
        let bounds = BOUNDS.iter().map(|micros| *micros as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.enumerate().map(|(at, le)| (le, times(&|t| &t.counts[at]))).collect();
        let (seconds, count) = (times(&|t| &t.nanos) as f64 / 1e9, buckets.iter().map(|(_, count)| count).sum());
        let mut histogram = encoder.encode_descriptor(FORWARDING, FORWARDING_HELP, None, MetricType::Histogram)?;
        histogram.encode_histogram::<NoLabelSet>(seconds, count, &buckets, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_by_their_bounds() {
        let stats = SocketStats::default();
        let came = Duration::from_secs(1_800_000_000);
        let after = |micros| SystemTime::UNIX_EPOCH + came + Duration::from_micros(micros);
        stats.add_forwarded(after(100), [(came, 3), (came - Duration::from_micros(1), 1)].into_iter());
        stats.add_forwarded(after(100_001), [(came, 2)].into_iter());
        // A clock that was set back.
        stats.add_forwarded(SystemTime::UNIX_EPOCH, [(came, 1)].into_iter());
        let counts = stats.forwarding.counts.each_ref().map(|count| count.load(Ordering::Relaxed));
        assert_eq!(counts, [4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(stats.forwarding.nanos.load(Ordering::Relaxed), 1000 * (3 * 100 + 101 + 2 * 100_001));
    }
}
