//! What a process costs, by `/proc`: the server's by its id, and our own.

use std::fs;
use std::time::Duration;

use anyhow::{Context, bail};

/// Clock ticks a second in `/proc/<pid>/stat` (`USER_HZ`): 100 on every Linux we know.
const TICK: Duration = Duration::from_millis(10);

/// A process to be measured.
#[derive(Clone, Debug)]
pub(super) struct Process(String);

impl Process {
    /// Another process.
    ///
    /// # Errors
    /// There is none with this id, or its figures cannot be read.
    pub(super) fn new(pid: u32) -> anyhow::Result<Self> {
        let this = Self(pid.to_string());
        this.cpu().with_context(|| format!("--server-pid {pid}: no such process on this machine"))?;
        Ok(this)
    }

    /// This one.
    pub(super) fn own() -> Self {
        Self("self".to_owned())
    }

    /// CPU time of all its threads, those that have ended included; grain 10 ms.
    pub(super) fn cpu(&self) -> anyhow::Result<Duration> {
        cpu_of(&fs::read_to_string(format!("/proc/{}/stat", self.0))?)
    }

    /// Resident memory, bytes.
    pub(super) fn memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")?;
        Ok(kilobytes * 1024)
    }
}

/// User and system time: the 14th and 15th field, the command in parentheses being the second (proc(5)).
fn cpu_of(stat: &str) -> anyhow::Result<Duration> {
    let Some((_, fields)) = stat.rsplit_once(')') else { bail!("/proc/<pid>/stat is not as proc(5) says") };
    let ticks = |at: usize| fields.split_ascii_whitespace().nth(at).and_then(|field| field.parse::<u32>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).context("/proc/<pid>/stat is not as proc(5) says")?;
    Ok(TICK * user + TICK * system)
}

/// Name of the processor and number of its cores, for the record.
pub(super) fn describe() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{cores} × {}", model.map_or("unknown processor", |(_, name)| name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_does_not_confuse() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 9 0 100 1 1";
        assert_eq!(cpu_of(stat).unwrap(), Duration::from_secs(3));
        assert!(cpu_of("7 (x) S 1").is_err());
    }

    #[test]
    fn we_can_measure_ourselves() {
        assert!(Process::own().memory().unwrap() > 100_000);
        assert!(Process::own().cpu().is_ok());
        let error = format!("{:#}", Process::new(4_000_000_000).unwrap_err());
        assert!(error.contains("--server-pid"), "{error}");
    }
}
