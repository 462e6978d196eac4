//! An allocator of our binary as a process of its own.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Result, ensure};

use crate::server::binary;

/// A running `ratssaal allocator`, killed when dropped.
pub struct Allocator(Child);

impl Allocator {
    /// Starts one on this Redis that listens for gRPC on `listen` (`host:port`), with further settings in its environment. Who
    /// needs it waits for it.
    ///
    /// # Errors
    /// There is no binary, or it cannot be started.
    pub fn start(redis: &str, listen: &str, settings: &[(&str, &str)]) -> Result<Self> {
        Self::start_from(&binary()?, redis, listen, settings)
    }

    /// The same of another build.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_from(binary: &Path, redis: &str, listen: &str, settings: &[(&str, &str)]) -> Result<Self> {
        let mut command = Command::new(binary);
        command.args(["allocator", "--redis", redis, "--listen", listen, "--bind", "127.0.0.1:0"]);
        command.envs(settings.iter().copied());
        Ok(Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?))
    }

    /// Sends it a signal, by name without `SIG`.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args(["-s", name, &self.0.id().to_string()]).status()?;
        ensure!(status.success(), "the allocator has ended");
        Ok(())
    }
}

impl Drop for Allocator {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
