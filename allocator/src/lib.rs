//! Places participants on bridges and keeps each room's ordered event log.
//!
//! | module | owns |
//! |---|---|
//! | [`placement`], [`load`], [`lease`] | which bridge takes a participant, and how many without being asked: pure functions |
//! | [`store`] | the contract of the shared state, the in-memory store that keeps it for one process, the Redis one that many share |
//! | [`Service`] | `allocator.v1` over gRPC: checks input, follows logs, reaps what died |
//! | [`serve`] | the service on a network, with health and reflection |
//! | [`embedded`] | the same service for a bridge in the same process, over an in-memory connection |
//!
//! A participant's way in: [`Store::place`](store::Store::place) chooses by [`placement::choose`] and reserves the seat
//! in the same step; the bridge logs his joining by [`append`](store::Store::append), which makes the seat lasting.
#![forbid(unsafe_code)]

mod bounds;
mod clock;
mod config;
mod embedded;
pub mod lease;
pub mod load;
mod metrics;
pub mod placement;
mod reaper;
#[cfg(test)]
mod redis_server;
mod refusal;
mod server;
mod service;
pub mod store;

pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{Config, ConfigError};
pub use embedded::embedded;
pub use refusal::{Quota, Refusal};
pub use server::serve;
pub use service::Service;
