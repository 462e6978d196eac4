//! Rooms: who is in them, what they may do, and what each is told.
//!
//! The middle is pure. [`command::Command`]s are checked against the [`state::State`] by `validate`, which answers with
//! log entries; `apply` turns entries into the next state; `announce` says what each participant is to be told. Around it
//! one task per room (`actor`) appends the entries to the room's log at the allocator, applies what the log holds in the
//! log's order, and feeds the sessions' inboxes. While the log cannot be written, what concerns presence happens here and waits
//! for it (`queue`, `away`, `lease`). [`registry::Rooms`] finds or opens the room of somebody who joins.

mod actor;
pub mod announce;
pub mod apply;
mod arrivals;
mod away;
mod census;
pub mod command;
mod commit;
mod crossing;
mod data;
pub mod entry;
pub mod handle;
mod herald;
pub mod ids;
mod inbox;
pub mod join;
mod lease;
pub mod limits;
mod local;
mod log;
pub(crate) mod metrics;
mod queue;
pub mod registry;
pub(crate) mod relays;
pub(crate) mod report;
pub mod rpc;
pub mod session;
pub mod speakers;
pub mod state;
pub mod validate;

#[cfg(test)]
mod tests;

pub use command::{Actor, Command, Newcomer, Refusal};
pub use handle::{LocalMedia, LocalTrack, RoomHandle};
pub use ids::{Identity, ParticipantSid, RoomName, RoomSid, TrackSid};
pub use join::{JoinRefusal, JoinRequest, Joined, Way};
pub(crate) use registry::Lingering;
pub use registry::Rooms;
pub use session::ToSession;
pub use state::{Participant, Presence, State};
