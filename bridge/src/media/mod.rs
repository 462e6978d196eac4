//! The hot path: what happens to a packet between the socket it comes from and the sockets' batches it leaves in.
//!
//! A packet's way, in the order of the files: `worker.rs` (the thread) → `udp.rs` (received) → `engine/mod.rs` (whose is
//! it) → `srtp/` (opened) → `engine/incoming.rs` (which track and layer) → `receiver.rs`, `gaps.rs` (order, loss) → `history.rs`
//! (kept for repairs) → `engine/copying.rs` (subscriber by subscriber) → `leg.rs` (selected, rewritten, sealed) →
//! `outbox.rs` (batched) → `udp.rs` (sent).

mod allocation;
mod audio;
mod bandwidth;
#[cfg(feature = "bench")]
pub mod bench;
mod codec;
mod config;
pub mod control;
mod crossing;
mod decisions;
mod engine;
mod gaps;
mod handle;
mod history;
#[cfg(any(test, feature = "bench"))]
#[cfg_attr(not(feature = "bench"), allow(unreachable_pub, reason = "public for the benchmarks alone"))]
mod hostile;
mod layer;
mod leg;
#[cfg(test)]
mod network;
pub(crate) mod outbox;
mod pacer;
mod ports;
mod rate;
pub(crate) mod receiver;
mod redundancy;
mod repairs;
mod requests;
pub(crate) mod rtcp;
pub(crate) mod rtp;
mod selection;
mod sequence;
#[cfg(any(test, feature = "bench"))]
#[cfg_attr(not(test), allow(dead_code, reason = "the benchmarks use less of it than the tests"))]
#[allow(clippy::unwrap_used, clippy::expect_used, reason = "support of tests and benchmarks")]
pub(crate) mod simulation;
mod source;
mod speakers;
mod spotlight;
mod spread;
pub(crate) mod srtp;
mod stats;
mod steering;
mod supply;
mod track;
pub(crate) mod twcc;
pub(crate) mod udp;
mod usage;
mod worker;

pub use config::{MediaConfig, PortRange, PortRangeError};
#[cfg(test)]
pub(crate) use handle::Input;
pub use handle::{Media, MediaRoom};
pub use layer::Layer;
pub use usage::Usage;
pub use worker::MediaError;
