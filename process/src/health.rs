//! Liveness and readiness: named checks that the parts of a process set, answered at `/livez` and `/readyz`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The health of this process. Clones share the same checks.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<Checks>>);

#[derive(Debug, Default)]
struct Checks {
    draining: bool,
    ready: BTreeMap<&'static str, Option<String>>,
    live: BTreeMap<&'static str, Option<String>>,
}

/// One named condition of a [`Health`]. It starts as failing ("starting"); its owner sets it. When it is dropped, the
/// last word stands.
#[derive(Debug)]
pub struct Check {
    health: Health,
    name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Ready,
    Live,
}

/// The answer of `/livez` or `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether every check passes.
    pub ok: bool,
    /// One line per check: `name: ok` or `name: why not`.
    pub text: String,
}

impl Health {
    /// A process without checks: alive and ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition for taking traffic, e.g. `allocator`: failing until its owner calls [`Check::ok`].
    pub fn readiness(&self, name: &'static str) -> Check {
        self.add(name, Kind::Ready, Some("starting".into()))
    }

    /// Adds a condition for being worth keeping, e.g. `workers`: passing until its owner calls [`Check::failing`].
    /// An orchestrator restarts a process that is not alive.
    pub fn liveness(&self, name: &'static str) -> Check {
        self.add(name, Kind::Live, None)
    }

    /// From now on not ready, whatever the checks say: the process is ending and wants no new traffic.
    pub fn drain(&self) {
        self.lock().draining = true;
    }

    /// What `/readyz` answers.
    pub fn ready(&self) -> Answer {
        let checks = self.lock();
        let mut answer = answer(&checks.ready);
        if checks.draining {
            answer.ok = false;
            answer.text.push_str("process: shutting down\n");
        }
        answer
    }

    /// What `/livez` answers.
    pub fn live(&self) -> Answer {
        answer(&self.lock().live)
    }

    fn add(&self, name: &'static str, kind: Kind, state: Option<String>) -> Check {
        let check = Check { health: self.clone(), name, kind };
        check.set(state);
        check
    }

    fn lock(&self) -> MutexGuard<'_, Checks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Check {
    /// The condition holds.
    pub fn ok(&self) {
        self.set(None);
    }

    /// The condition does not hold; `why` is shown to whoever asks, so it names no secret and no person.
    pub fn failing(&self, why: impl Into<String>) {
        self.set(Some(why.into()));
    }

    fn set(&self, state: Option<String>) {
        let mut checks = self.health.lock();
        let map = match self.kind {
            Kind::Ready => &mut checks.ready,
            Kind::Live => &mut checks.live,
        };
        map.insert(self.name, state);
    }
}

fn answer(checks: &BTreeMap<&'static str, Option<String>>) -> Answer {
    let mut text = String::new();
    for (name, state) in checks {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}: {}", state.as_deref().unwrap_or("ok"));
    }
    Answer { ok: checks.values().all(Option::is_none), text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_once_every_check_passes_and_until_draining() {
        let health = Health::new();
        let (allocator, media) = (health.readiness("allocator"), health.readiness("media"));
        assert_eq!(health.ready(), Answer { ok: false, text: "allocator: starting\nmedia: starting\n".into() });
        allocator.ok();
        media.failing("no address found");
        assert_eq!(health.ready().text, "allocator: ok\nmedia: no address found\n");
        media.ok();
        assert!(health.ready().ok);
        health.drain();
        assert_eq!(
            health.ready(),
            Answer { ok: false, text: "allocator: ok\nmedia: ok\nprocess: shutting down\n".into() }
        );
        assert!(health.live().ok, "a draining process is alive");
    }

    #[test]
    fn liveness_passes_until_told_otherwise() {
        let health = Health::new();
        let workers = health.liveness("workers");
        assert!(health.live().ok);
        workers.failing("worker 1 stopped");
        assert_eq!(health.live(), Answer { ok: false, text: "workers: worker 1 stopped\n".into() });
        assert!(health.ready().ok);
    }
}
