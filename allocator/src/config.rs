//! The allocator's settings: how long things last, how much there may be, and when a room spills to a second bridge.

use std::time::Duration;

use thiserror::Error;

/// Settings of the allocator. [`Default`] is right for one machine and for a county.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How often bridges report.
    pub report_interval: Duration,
    /// A bridge silent for so long gets no participants.
    pub expiry: Duration,
    /// A bridge that stays away for so long after its expiry has lost its participants.
    pub grace: Duration,
    /// An unconfirmed seat returns after this time.
    pub reservation: Duration,
    /// How often lost bridges and empty rooms are looked for.
    pub sweep_interval: Duration,
    /// A room nobody enters ends after this time, unless it was opened with its own.
    pub empty_timeout: Duration,
    /// A room everybody has left ends after this time, unless it was opened with its own.
    pub departure_timeout: Duration,
    /// How long the log of an ended room can still be read, so that slow readers learn of its end.
    pub linger: Duration,
    /// How long a shared store that began empty opens no new rooms, so that bridges can first tell it of those that were open
    /// before it lost its data.
    pub settle: Duration,
    /// Load in ‰ from which a room's bridge counts as filled and the room spills to another one.
    pub spill_permille: u32,
    /// Bridges one room may span.
    pub max_room_bridges: usize,
    /// Bridges in the cluster.
    pub max_bridges: usize,
    /// Rooms open at once.
    pub max_rooms: usize,
    /// Entries a room's log may hold beyond its snapshot.
    pub max_log_entries: usize,
    /// Bytes a room's log may hold beyond its snapshot.
    pub max_log_bytes: usize,
    /// Entries beyond the snapshot from which bridges are asked for a new one (bytes: a quarter of the maximum).
    pub snapshot_after: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            report_interval: Duration::from_secs(1),
            expiry: Duration::from_secs(3),
            grace: Duration::from_secs(10),
            reservation: Duration::from_secs(10),
            sweep_interval: Duration::from_millis(500),
            empty_timeout: Duration::from_secs(300),
            departure_timeout: Duration::from_secs(20),
            linger: Duration::from_secs(60),
            settle: Duration::from_secs(3),
            spill_permille: 900,
            max_room_bridges: 8,
            max_bridges: 10_000,
            max_rooms: 10_000,
            max_log_entries: 4096,
            max_log_bytes: 2 << 20,
            snapshot_after: 256,
        }
    }
}

/// A setting that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// A duration or a limit is zero.
    #[error("allocator setting {0} must not be 0: leave it out to use its default")]
    Zero(&'static str),
    /// Reports would come too seldom to keep a bridge alive.
    #[error("allocator setting expiry ({expiry:?}) must be at least twice report_interval ({interval:?})")]
    ExpiryTooShort {
        /// The expiry that was set.
        expiry: Duration,
        /// The interval that was set.
        interval: Duration,
    },
    /// Not a share.
    #[error("allocator setting spill_permille ({0}) must be between 1 and 1000")]
    SpillOutOfRange(u32),
}

impl Config {
    /// Says what is wrong with the settings, if anything.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let durations = [
            ("report_interval", self.report_interval),
            ("grace", self.grace),
            ("reservation", self.reservation),
            ("sweep_interval", self.sweep_interval),
            ("empty_timeout", self.empty_timeout),
            ("departure_timeout", self.departure_timeout),
        ];
        let limits = [
            ("max_room_bridges", self.max_room_bridges),
            ("max_bridges", self.max_bridges),
            ("max_rooms", self.max_rooms),
            ("max_log_entries", self.max_log_entries),
            ("max_log_bytes", self.max_log_bytes),
            ("snapshot_after", self.snapshot_after),
        ];
        let zero_duration = durations.iter().find(|(_, duration)| duration.is_zero()).map(|(name, _)| *name);
        let zero_limit = limits.iter().find(|(_, limit)| *limit == 0).map(|(name, _)| *name);
        if let Some(name) = zero_duration.or(zero_limit) {
            return Err(ConfigError::Zero(name));
        }
        if self.expiry < self.report_interval * 2 {
            return Err(ConfigError::ExpiryTooShort { expiry: self.expiry, interval: self.report_interval });
        }
        if !(1..=1000).contains(&self.spill_permille) {
            return Err(ConfigError::SpillOutOfRange(self.spill_permille));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_works_and_nonsense_is_named() {
        assert_eq!(Config::default().check(), Ok(()));
        let config = Config { grace: Duration::ZERO, ..Config::default() };
        assert_eq!(config.check(), Err(ConfigError::Zero("grace")));
        let config = Config { max_rooms: 0, ..Config::default() };
        assert_eq!(config.check(), Err(ConfigError::Zero("max_rooms")));
        let config = Config { expiry: Duration::from_secs(1), ..Config::default() };
        assert!(matches!(config.check(), Err(ConfigError::ExpiryTooShort { .. })));
        let config = Config { spill_permille: 1001, ..Config::default() };
        assert_eq!(config.check(), Err(ConfigError::SpillOutOfRange(1001)));
    }
}
