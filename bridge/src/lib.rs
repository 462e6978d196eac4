//! The SFU: LiveKit-protocol signalling, WebRTC media forwarding, server API and the web client.

pub mod config;
pub mod media;
pub mod room;
pub mod token;
pub mod transport;
