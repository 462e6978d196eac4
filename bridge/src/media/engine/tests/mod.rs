//! The engine on a simulated clock, with clients that do real STUN, DTLS and SRTP.

mod bandwidth;
mod lifecycle;
mod media;
