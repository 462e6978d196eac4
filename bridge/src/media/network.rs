//! A network on a simulated clock: what becomes of a packet on one direction of a line. Everything is drawn from one seed.

pub(crate) const MS: u64 = 1000;
pub(crate) const SECOND: u64 = 1000 * MS;

/// What happens to packets.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// Bits per second.
    pub(crate) rate: f64,
    /// The queue's length, microseconds; what does not fit is dropped.
    pub(crate) queue: u64,
    /// One way, microseconds.
    pub(crate) delay: u64,
    /// Up to so much is added to each packet's delay, microseconds.
    pub(crate) jitter: u64,
    /// Whether jitter reorders.
    pub(crate) reorder: bool,
    /// Shares of packets lost and duplicated at random.
    pub(crate) loss: f64,
    pub(crate) duplicates: f64,
    /// Chances a packet to enter and to leave a time in which everything is lost.
    pub(crate) burst: (f64, f64),
    /// Share of feedback lost, and how long it takes, microseconds.
    pub(crate) feedback_loss: f64,
    pub(crate) feedback_delay: u64,
    /// Bits per second of others, through the same queue.
    pub(crate) others: f64,
}

impl Link {
    pub(crate) fn of(rate: f64) -> Self {
        Self {
            rate,
            queue: SECOND,
            delay: 25 * MS,
            jitter: 0,
            reorder: false,
            loss: 0.0,
            duplicates: 0.0,
            burst: (0.0, 1.0),
            feedback_loss: 0.0,
            feedback_delay: 25 * MS,
            others: 0.0,
        }
    }

    /// 600 kbit/s, 100 ms there and back, 2 % loss: bad DSL.
    pub(crate) fn bad_dsl() -> Self {
        Self { delay: 50 * MS, feedback_delay: 50 * MS, loss: 0.02, ..Self::of(600e3) }
    }
}

/// xorshift64*
#[derive(Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// One direction of a line, with what is on it.
#[derive(Default, Debug)]
pub(crate) struct Line {
    /// When it has sent what it has, microseconds.
    busy: u64,
    last_arrival: u64,
    in_burst: bool,
    /// Packets that entered, that the queue had no room for, and that were lost otherwise.
    pub(crate) entered: u64,
    pub(crate) overflown: u64,
    pub(crate) lost: u64,
}

impl Line {
    /// A packet of `bytes` on the wire enters; when it and its duplicate arrive.
    pub(crate) fn take(&mut self, link: &Link, random: &mut Random, now: u64, bytes: usize) -> [Option<u64>; 2] {
        self.entered += 1;
        let (enter, leave) = link.burst;
        self.in_burst = if self.in_burst { random.unit() >= leave } else { random.unit() < enter };
        let free = self.busy.max(now);
        if free - now > link.queue {
            self.overflown += 1;
            return [None; 2];
        }
        if self.in_burst || random.unit() < link.loss {
            self.lost += 1;
            return [None; 2];
        }
        let rate = (link.rate - link.others).max(1000.0);
        self.busy = free + (bytes as f64 * 8e6 / rate) as u64;
        let jitter = (random.unit() * link.jitter as f64) as u64;
        let mut at = self.busy + link.delay + jitter;
        if !link.reorder {
            at = at.max(self.last_arrival);
            self.last_arrival = at;
        }
        [Some(at), (random.unit() < link.duplicates).then_some(at + MS)]
    }

    /// The queue at present, microseconds.
    pub(crate) fn queue(&self, now: u64) -> u64 {
        self.busy.saturating_sub(now)
    }
}
