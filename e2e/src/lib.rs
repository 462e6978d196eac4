//! Tests that need more than one process: participants built on the independent `webrtc` crate, and bad input.
//!
//! - [`server`] starts the server under test: our binary, or a LiveKit server to prove a test right without ours; [`allocator`]
//!   starts allocators.
//! - [`bot`] is a participant: it speaks the LiveKit client protocol ([`signal`]), publishes generated media
//!   ([`media`]) and counts what arrives ([`received`]).
//! - [`link`] is the network between two processes, to be slowed down and cut.
//! - [`token`] makes access tokens, good and forged ones; [`metrics`] reads the server's counters and memory.
//!
//! The tests in `tests/` use these; the browser tests are in `browser/`, with
//! `bin/rust-participant` as a bot among browsers.

pub mod allocator;
pub mod bot;
pub mod link;
pub mod media;
pub mod meeting;
pub mod metrics;
pub mod peer;
pub mod raw;
pub mod received;
pub mod server;
pub mod signal;
pub mod token;
pub mod wait;
pub mod wire;
