//! Tests that need more than one process: bots on the independent webrtc crate, browsers, bad input.
