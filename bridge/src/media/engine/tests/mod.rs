//! The engine on a simulated clock, with clients that do real STUN, DTLS and SRTP.

mod lifecycle;
mod media;
