//! Finding out whether more would arrive where the client only names its bandwidth (REMB, draft-alvestrand-rmcat-remb-03).
//! It names little more than what it gets, so it has to get more before it names more: for a second the way is filled a
//! bit beyond what was named last. If it names more then, that is repeated; if not, not before a while.

const MS: u64 = 1000;
/// How long the way is filled.
const WINDOW: u64 = 1_000 * MS;
/// How much, of what was named last.
const FACTOR: f64 = 1.2;
/// So long after it a client has said what came of it.
const SETTLED: u64 = 500 * MS;
/// It names at least this much more, or nothing has come of it.
const MORE: f64 = 1.02;
/// Less than this, and the way is full.
const LESS: f64 = 0.95;
/// After one of which nothing came, twice as long each time.
const PAUSE: u64 = 5_000 * MS;
const LONGEST_PAUSE: u64 = 40_000 * MS;

#[derive(Clone, Copy, Debug)]
enum State {
    /// Not before this.
    Rest(u64),
    /// Since, and the bytes sent meanwhile.
    Filling(u64, usize),
    /// What came of it is seen then.
    Settling(u64),
}

/// One transport's.
#[derive(Debug)]
pub(super) struct Fill {
    state: State,
    /// What was named when it began.
    before: f64,
    pause: u64,
}

impl Fill {
    pub(super) fn new() -> Self {
        Self { state: State::Rest(0), before: 0.0, pause: PAUSE }
    }

    /// So many bytes leave, of whatever.
    pub(super) fn sent(&mut self, bytes: usize) {
        if let State::Filling(_, sent) = &mut self.state {
            *sent += bytes;
        }
    }

    /// The bytes of padding to send now (microseconds), when the client has `named` and could use `wish`, bits per second.
    pub(super) fn due(&mut self, now: u64, named: f64, wish: f64) -> usize {
        match self.state {
            State::Rest(until) if now >= until && wish > named => {
                self.before = named;
                self.state = State::Filling(now, 0);
                0
            }
            State::Rest(_) => 0,
            State::Filling(..) if named < LESS * self.before => {
                self.useless(now);
                0
            }
            State::Filling(since, _) if now >= since + WINDOW => {
                self.state = State::Settling(now + SETTLED);
                0
            }
            State::Filling(since, sent) => {
                let target = (FACTOR * self.before).min(1.2 * wish) / 8e6 * (now - since) as f64;
                (target as usize).saturating_sub(sent)
            }
            State::Settling(at) if now >= at => {
                if named > MORE * self.before {
                    (self.state, self.pause) = (State::Rest(now), PAUSE);
                } else {
                    self.useless(now);
                }
                0
            }
            State::Settling(_) => 0,
        }
    }

    fn useless(&mut self, now: u64) {
        self.state = State::Rest(now + self.pause);
        self.pause = (2 * self.pause).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Media of `media` bits per second for some seconds to a client that names at most `carries`, and what it gets and a
    /// half more otherwise. What it names in the end, and the share of padding.
    fn run(seconds: u64, media: f64, carries: f64, wish: f64) -> (f64, f64) {
        let (mut fill, mut named, mut second) = (Fill::new(), 300e3, Vec::new());
        let (mut all, mut padding) = (0.0, 0.0);
        for now in (0..seconds * 1000 * MS).step_by(10 * MS as usize) {
            let bytes = media / 8.0 / 100.0;
            fill.sent(bytes as usize);
            let due = fill.due(now, named, wish);
            fill.sent(due);
            (all, padding) = (all + bytes + due as f64, padding + due as f64);
            second.push(bytes + due as f64);
            if second.len() == 100 {
                let got = second.iter().sum::<f64>() * 8.0;
                second.clear();
                named = if got > carries { 0.85 * got } else { (named * 1.08).min(1.5 * got).max(named).min(carries) };
            }
        }
        (named, padding / all)
    }

    #[test]
    fn what_the_way_carries_is_found_out_and_little_is_wasted() {
        let (named, padding) = run(120, 250e3, 20e6, 1.5e6);
        assert!(named > 1e6, "{named}");
        assert!(padding < 0.7, "{padding}");
        let (named, padding) = run(120, 450e3, 500e3, 1.5e6);
        assert!(named <= 500e3 && padding < 0.05, "{named} {padding}");
        assert_eq!(run(60, 250e3, 20e6, 200e3).1, 0.0, "nobody wants more");
    }
}
