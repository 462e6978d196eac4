//! What is made of files and in use until they change: looked at again and again, replaced by what is new and good.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use prometheus_client::metrics::counter::Counter;
use tracing::{error, info};

use super::{Checked, TlsError};
use crate::metrics::Metrics;

/// A `T` that is made of files whose content is an `S`.
#[derive(Debug)]
pub(super) struct Followed<S, T> {
    /// What it is, in the log.
    what: &'static str,
    current: ArcSwap<T>,
    /// The content last looked at, good or bad, so that a broken one is reported once; `None` could not be read.
    seen: Mutex<Option<S>>,
    reloads: Counter,
    failures: Counter,
}

impl<S: PartialEq, T> Followed<S, T> {
    /// What was made of `seen`; `what` it is, in the log and in the metrics' help. The metrics' names begin with `name`.
    pub(super) fn new(name: &str, what: &'static str, (seen, current): (S, T), metrics: &Metrics) -> Self {
        let (reloads, failures) = (Counter::default(), Counter::default());
        metrics.register(|registry| {
            let help = format!("Of changed files, {what} taken over");
            registry.register(format!("{name}_reloads"), help, reloads.clone());
            let help = format!("Of changed files, {what} that could not be used");
            registry.register(format!("{name}_reload_failures"), help, failures.clone());
        });
        Self { what, current: ArcSwap::from_pointee(current), seen: Mutex::new(Some(seen)), reloads, failures }
    }

    /// What is in use.
    pub(super) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Takes over what stands in the file, of which `path` is named in the log, if it is new and good.
    pub(super) fn check(
        &self,
        path: &Path,
        read: Result<S, TlsError>,
        make: impl FnOnce(&S) -> Result<T, TlsError>,
    ) -> Checked {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A file may be missing for a moment: it is being replaced.
        if read.as_ref().ok() == seen.as_ref() {
            return Checked::Unchanged;
        }
        let (content, made) = match read {
            Ok(content) => {
                let made = make(&content);
                (Some(content), made)
            }
            Err(error) => (None, Err(error)),
        };
        *seen = content;
        let what = self.what;
        match made {
            Ok(new) => {
                self.current.store(Arc::new(new));
                self.reloads.inc();
                info!(file = %path.display(), "new {what} in use");
                Checked::Replaced
            }
            Err(error) => {
                self.failures.inc();
                error!(%error, "new {what} not used, what there was stays");
                Checked::Kept
            }
        }
    }
}
