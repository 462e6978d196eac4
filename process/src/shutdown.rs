//! Ordered shutdown: the first SIGTERM or SIGINT cancels a token, a second one ends the process at once.

use std::{io, process};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Listens for SIGTERM and SIGINT on the current runtime. The first one cancels the returned token, so that every
/// service ends in its own order; the second one ends the process with status 128 + its number, whatever still runs.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn on_signals() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        let first = next(&mut terminate, &mut interrupt).await;
        info!(signal = first.name(), "shutting down; send the signal again to stop at once");
        cancel.cancel();
        let second = next(&mut terminate, &mut interrupt).await;
        warn!(signal = second.name(), "stopped at once");
        process::exit(second.status());
    });
    Ok(token)
}

#[derive(Clone, Copy)]
enum Received {
    Terminate,
    Interrupt,
}

impl Received {
    fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
        }
    }

    fn status(self) -> i32 {
        match self {
            Self::Terminate => 128 + 15,
            Self::Interrupt => 128 + 2,
        }
    }
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> Received {
    tokio::select! {
        _ = terminate.recv() => Received::Terminate,
        _ = interrupt.recv() => Received::Interrupt,
    }
}
