//! The hot path: what happens to a packet between the socket it comes from and the sockets' batches it leaves in.

pub mod control;
mod handle;

pub use handle::{Media, MediaRoom};
