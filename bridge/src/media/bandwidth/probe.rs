//! Finding out whether the way carries more than is sent: clusters of packets, each in a few bursts one engine tick apart,
//! at the rate to be proved. Media sent meanwhile counts as part of the cluster; only what is missing is padding.
//!
//! The probe budget: padding is at most [`SHARE`] of all bytes sent, with [`ALLOWANCE`] bytes in advance. While a track is not
//! even begun, little is sent of which that would be a share: then it is also [`STARVED_SHARE`] of the estimate. A cluster
//! tries at most twice the estimate (the first of a transport thrice). Where the estimate is right, the queue that a cluster
//! makes is at most [`MAX_QUEUE`]: many lines have short ones.

const MS: u64 = 1000;
const SECOND: u64 = 1000 * MS;
/// Between two bursts: one tick of the engine, microseconds.
const BURST: u64 = 10 * MS;
/// A cluster has at least so many bursts before its last packet, and at least so many bytes, to be measurable.
const MIN_BURSTS: u32 = 2;
const MIN_BYTES: u32 = 1500;
const MAX_BURSTS: u32 = 10;
/// Microseconds.
const MAX_QUEUE: u64 = 60 * MS;
/// Padding may be this part of what is sent …
const SHARE: f64 = 0.05;
/// … or of the estimate while something is not sent at all for want of it …
const STARVED_SHARE: f64 = 0.25;
/// … and so many bytes more, saved up while nothing was probed.
const ALLOWANCE: f64 = 32_000.0;
/// After a probe that told nothing.
const AGAIN: u64 = 600 * MS;
/// After a probe that found no room: this long until the next, twice as long each time.
const PAUSE: u64 = 2_500 * MS;
const LONGEST_PAUSE: u64 = 5_000 * MS;
/// After a probe that promised what the way did not keep (a shaper that lets bursts pass).
const LONGEST_DISTRUST: u64 = 30_000 * MS;
/// A probe whose feedback takes longer is over.
const PATIENCE: u64 = 1_000 * MS;

/// What a cluster has shown, bits per second.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Outcome {
    /// The way carries this, perhaps more.
    Carried(f64),
    /// The way carries this and not more.
    Full(f64),
    /// Too little of it arrived, or no feedback came.
    Unclear,
}

#[derive(Clone, Copy, Default, Debug)]
struct Cluster {
    /// Bytes a burst.
    burst: u32,
    bursts: u32,
    done: u32,
    started: u64,
    jitter: u64,
    closed: bool,
    /// Bytes sent, and those of them sent at the last instant.
    sent: u32,
    sent_last: u32,
    packets: u32,
    first_sent: u64,
    first_size: u32,
    /// Bytes of the last burst not sent yet.
    missing: u32,
    last_sent: u64,
    arrived: u32,
    arrived_packets: u32,
    lost: u32,
    /// The first arrival and its bytes, the last one.
    first: Option<(u64, u32)>,
    last: u64,
}

/// One transport's probes.
#[derive(Debug)]
pub(super) struct Prober {
    cluster: Option<Cluster>,
    id: u8,
    next: u64,
    pause: u64,
    distrust: u64,
    allowance: f64,
    /// Until when was saved, microseconds.
    saved: u64,
    first: bool,
}

impl Prober {
    pub(super) fn new() -> Self {
        Self {
            cluster: None,
            id: 0,
            next: 0,
            pause: PAUSE,
            distrust: PAUSE,
            allowance: ALLOWANCE,
            saved: 0,
            first: true,
        }
    }

    /// Time passes in which a part of `estimate`, bits per second, may be used; 0.0 when only what is sent counts.
    pub(super) fn save(&mut self, now: u64, estimate: f64) {
        let passed = now.saturating_sub(std::mem::replace(&mut self.saved, now)).min(SECOND);
        self.allowance = (self.allowance + STARVED_SHARE * estimate * passed as f64 / 8e6).min(ALLOWANCE);
    }

    /// Starts a cluster if it is time: the estimate is `estimate`, `wish` would be useful, both bits per second; the way's
    /// jitter in microseconds.
    pub(super) fn start(&mut self, now: u64, estimate: f64, wish: f64, jitter: u64) -> bool {
        if self.cluster.is_some() || now < self.next || wish <= estimate {
            return false;
        }
        let target = (1.2 * wish).min(estimate * if self.first { 3.0 } else { 2.0 });
        let per_burst = |bits: f64| ((bits / 8e6 * BURST as f64) as u32).max(1);
        // Jitter would hide what a short cluster shows.
        let longer = MIN_BURSTS + u32::try_from(4 * jitter / BURST).unwrap_or(MAX_BURSTS);
        let bursts = MIN_BYTES.div_ceil(per_burst(target)).max(longer).min(MAX_BURSTS);
        let gentle = estimate * (1.0 + MAX_QUEUE as f64 / (u64::from(bursts) * BURST) as f64);
        let burst = per_burst(target.min(gentle));
        if f64::from(burst * bursts) > self.allowance {
            return false;
        }
        self.first = false;
        self.id = self.id.checked_add(1).unwrap_or(1);
        self.cluster = Some(Cluster { burst, bursts, started: now, jitter, ..Cluster::default() });
        true
    }

    /// Whether no cluster is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.cluster.is_none()
    }

    /// Bytes of padding to send now.
    pub(super) fn due(&mut self, now: u64) -> usize {
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| !cluster.closed) else { return 0 };
        // A tick that comes a little early is that of the burst: at the next one it would be twice as late.
        if now + BURST / 4 < cluster.started + u64::from(cluster.done) * BURST {
            return 0;
        }
        if cluster.done > cluster.bursts {
            cluster.closed = true;
            return 0;
        }
        cluster.done += 1;
        if cluster.done > cluster.bursts {
            // Once more as much as the first packet, which stands before what is measured; its arrival ends that.
            cluster.missing = cluster.first_size.max(1);
            return cluster.missing as usize;
        }
        (cluster.burst * cluster.done).saturating_sub(cluster.sent) as usize
    }

    /// A packet of `size` bytes leaves; the id of the cluster it belongs to, 0 for none.
    pub(super) fn sent(&mut self, now: u64, size: u16, padding: bool) -> u8 {
        let size = u32::from(size);
        self.allowance =
            (self.allowance + if padding { -f64::from(size) } else { SHARE * f64::from(size) }).min(ALLOWANCE);
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| !cluster.closed && cluster.done > 0) else {
            return 0;
        };
        if cluster.packets == 0 {
            (cluster.first_sent, cluster.first_size) = (now, size);
        }
        if now != cluster.last_sent {
            (cluster.last_sent, cluster.sent_last) = (now, 0);
        }
        cluster.sent += size;
        cluster.sent_last += size;
        cluster.packets += 1;
        if padding && cluster.done > cluster.bursts {
            cluster.missing = cluster.missing.saturating_sub(size);
            cluster.closed = cluster.missing == 0;
        }
        self.id
    }

    /// A packet of a cluster has arrived.
    pub(super) fn arrived(&mut self, id: u8, at: u64, size: u16) {
        let Some(cluster) = self.cluster.as_mut().filter(|_| id == self.id && id != 0) else { return };
        let size = u32::from(size);
        cluster.arrived += size;
        cluster.arrived_packets += 1;
        cluster.last = cluster.last.max(at);
        if cluster.first.is_none_or(|(first, _)| at < first) {
            cluster.first = Some((at, size));
        }
    }

    /// A packet of a cluster has not arrived (yet).
    pub(super) fn lost(&mut self, id: u8) {
        if let Some(cluster) = self.cluster.as_mut().filter(|_| id == self.id && id != 0) {
            cluster.lost += 1;
        }
    }

    /// What the cluster has shown, once feedback speaks of all its packets or has taken too long.
    pub(super) fn outcome(&mut self, now: u64) -> Option<Outcome> {
        let cluster = self.cluster.as_ref()?;
        let late = now > cluster.started + u64::from(cluster.bursts) * BURST + PATIENCE;
        let complete = cluster.closed && cluster.arrived_packets + cluster.lost >= cluster.packets;
        if !complete && !late {
            return None;
        }
        let outcome = cluster.outcome();
        self.cluster = None;
        Some(outcome)
    }

    /// The last cluster has shown something new: the next may follow at once.
    pub(super) fn useful(&mut self, now: u64) {
        (self.next, self.pause) = (now, PAUSE);
    }

    /// It has not: not before a while, longer each time.
    pub(super) fn useless(&mut self, now: u64) {
        self.next = self.next.max(now + self.pause);
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Nothing can be sent to probe with.
    pub(super) fn cancel(&mut self, now: u64) {
        self.cluster = None;
        self.unclear(now);
    }

    /// It has told nothing.
    pub(super) fn unclear(&mut self, now: u64) {
        self.next = self.next.max(now + AGAIN);
    }

    /// The way has become full: what is being measured is of no use, and the next waits.
    pub(super) fn congested(&mut self, now: u64) {
        self.next = self.next.max(now + PAUSE);
    }

    /// The last raise was wrong.
    pub(super) fn deceived(&mut self, now: u64) {
        self.distrust = (self.distrust * 2).min(LONGEST_DISTRUST);
        self.next = self.next.max(now + self.distrust);
    }
}

impl Cluster {
    fn outcome(&self) -> Outcome {
        let Some((first, size)) = self.first else { return Outcome::Unclear };
        let (sending, arriving) = (self.last_sent.saturating_sub(self.first_sent), self.last.saturating_sub(first));
        if self.arrived_packets * 5 < self.packets * 4 || sending < BURST || arriving < BURST / 2 {
            return Outcome::Unclear;
        }
        // So much of the difference may be jitter.
        let arriving =
            if arriving > sending { sending.max(arriving.saturating_sub(self.jitter / 2)) } else { arriving };
        let rate = |bytes: u32, micros: u64| f64::from(bytes) * 8e6 / micros as f64;
        // What left at the last instant has no part in the time before it, what came first none in the time after it.
        let sent = rate(self.sent - self.sent_last, sending);
        let arrived = rate(self.arrived.saturating_sub(size), arriving);
        if arriving > sending + sending / 10 { Outcome::Full(arrived) } else { Outcome::Carried(sent.min(arrived)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKET: u16 = 288;

    /// Runs one cluster at `estimate` and `wish` over a link of `rate` bits per second; what it shows.
    fn cluster(prober: &mut Prober, rate: f64, estimate: f64, wish: f64) -> Option<Outcome> {
        assert!(prober.start(prober.next, estimate, wish, 0));
        let start = prober.next;
        let (mut busy, mut arrivals) = (0u64, Vec::new());
        for now in (start..start + 200 * MS).step_by(10 * MS as usize) {
            let mut due = prober.due(now);
            while due > 0 {
                let id = prober.sent(now, PACKET, true);
                busy = busy.max(now) + (f64::from(PACKET) * 8e6 / rate) as u64;
                arrivals.push((id, busy + 50 * MS));
                due = due.saturating_sub(usize::from(PACKET));
            }
        }
        assert_eq!(prober.outcome(start + 200 * MS), None, "nothing is known yet");
        arrivals.iter().for_each(|(id, at)| prober.arrived(*id, *at, PACKET));
        prober.outcome(start + 200 * MS)
    }

    #[test]
    fn a_wide_way_is_proved_and_a_narrow_one_measured() {
        let mut prober = Prober::new();
        let Some(Outcome::Carried(bits)) = cluster(&mut prober, 10e6, 400e3, 1e6) else { panic!("wide") };
        assert!((1.1e6..1.5e6).contains(&bits), "1.2 times the wish: {bits}");
        let Some(Outcome::Carried(bits)) = cluster(&mut prober, 10e6, 1e6, 100e6) else { panic!("wide") };
        assert!((1.8e6..2.2e6).contains(&bits), "not more than twice the estimate: {bits}");
        let Some(Outcome::Full(bits)) = cluster(&mut prober, 600e3, 600e3, 100e6) else { panic!("narrow") };
        assert!((570e3..630e3).contains(&bits), "{bits}");
    }

    /// Ticks are not exactly a burst apart.
    #[test]
    fn a_burst_is_not_left_out_for_a_tick_that_comes_early() {
        let mut prober = Prober::new();
        assert!(prober.start(300, 1e6, 100e6, 0), "in a tick that came late");
        let bursts = [300, 10 * MS, 20 * MS + 100, 30 * MS].map(|now| {
            let due = prober.due(now);
            prober.sent(now, due as u16, true);
            due
        });
        assert!(bursts[..3].iter().all(|due| *due > 0) && bursts[3] == 0, "{bursts:?}");
    }

    #[test]
    fn what_does_not_arrive_proves_nothing() {
        let mut prober = Prober::new();
        assert!(prober.start(0, 400e3, 1e6, 0));
        for now in (0..100 * MS).step_by(10 * MS as usize) {
            for _ in 0..prober.due(now).div_ceil(usize::from(PACKET)) {
                let id = prober.sent(now, PACKET, true);
                prober.lost(id);
            }
        }
        assert_eq!(prober.outcome(100 * MS), Some(Outcome::Unclear));
        assert!(prober.start(100 * MS, 400e3, 1e6, 0));
        assert_eq!(prober.outcome(500 * MS), None);
        assert_eq!(prober.outcome(3_000 * MS), Some(Outcome::Unclear), "nothing was heard");
    }

    #[test]
    fn padding_is_never_more_than_its_share() {
        let mut prober = Prober::new();
        let (mut all, mut padding) = (0.0, 0.0);
        for now in (0..120_000 * MS).step_by(10 * MS as usize) {
            all += 125.0;
            prober.sent(now, 125, false); // 100 kbit/s
            prober.start(now, 1e6, 1e9, 0);
            let mut due = prober.due(now);
            while due > 0 {
                prober.sent(now, PACKET, true);
                (all, padding) = (all + f64::from(PACKET), padding + f64::from(PACKET));
                due = due.saturating_sub(usize::from(PACKET));
            }
            if prober.outcome(now).is_some() {
                prober.useful(now); // as eager as can be
            }
            assert!(padding <= SHARE * all + ALLOWANCE + 4.0 * f64::from(PACKET), "{padding} of {all}");
        }
        assert!(padding > ALLOWANCE, "it is used");
    }
}
