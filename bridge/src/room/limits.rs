//! The bounds of a room, each in bytes unless said otherwise. A log entry must stay under the allocator's 64 KiB.

/// Display names.
pub const NAME: usize = 256;
/// Identities and room names.
pub const IDENTITY: usize = 256;
/// A participant's or a room's metadata.
pub const METADATA: usize = 32 * 1024;
/// The keys and values of a participant's attributes together, each pair counted with [`ATTRIBUTE_FRAMING`] more.
pub const ATTRIBUTES: usize = 24 * 1024;
/// What an encoded attribute has around key and value at most.
pub const ATTRIBUTE_FRAMING: usize = 10;
/// Tracks one participant may publish at a time.
pub const TRACKS: usize = 32;
/// A track's description, encoded.
pub const TRACK: usize = 4 * 1024;
/// A subscription permission, encoded.
pub const SUBSCRIPTION_PERMISSION: usize = 32 * 1024;
/// Revoked identities a room remembers; the oldest are forgotten first.
pub const REVOCATIONS: usize = 1024;
/// Log entries of unknown kind a room carries; the oldest are forgotten first.
pub const CARRIED: usize = 256;
/// Changes of a room that may wait for its log to be back. Leaving and getting connected come on top: of each participant once.
pub const WAITING: usize = 512;
/// Messages that may wait for a session before it counts as dead.
pub const INBOX: usize = 1024;
/// What a client is told to wait before it tries again, milliseconds.
pub const RETRY_AFTER_MS: u64 = 1000;
