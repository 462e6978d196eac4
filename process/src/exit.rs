//! Exit statuses: 64 for a wrong command line or configuration (`EX_USAGE` of sysexits.h), 1 for what fails at runtime.

use crate::config::ConfigError;

/// The command line or the configuration is wrong; nothing was started.
pub const USAGE: u8 = 64;
/// Something failed at runtime: a port in use, a lost dependency, a bug.
pub const RUNTIME: u8 = 1;

/// A mistake of whoever wrote the command line or the configuration. The message is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// The exit status for an error that reached `main`: [`USAGE`] if a [`Usage`] or [`ConfigError`] caused it, else
/// [`RUNTIME`].
pub fn status(error: &anyhow::Error) -> u8 {
    let usage = error.chain().any(|cause| cause.is::<Usage>() || cause.is::<ConfigError>());
    if usage { USAGE } else { RUNTIME }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn usage_is_64_even_with_context_around_it() {
        let usage: anyhow::Error = Usage("give --dev or a key".into()).into();
        assert_eq!(status(&usage), 64);
        let wrapped = Err::<(), _>(Usage("x".into())).context("while starting").unwrap_err();
        assert_eq!(status(&wrapped), 64);
    }

    #[test]
    fn everything_else_is_1() {
        assert_eq!(status(&anyhow::anyhow!("port in use")), 1);
    }
}
