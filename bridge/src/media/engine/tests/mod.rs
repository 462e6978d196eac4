//! The engine on a simulated clock, with clients that do real STUN, DTLS and SRTP.

mod allocation;
mod audio;
mod bandwidth;
mod copying;
mod extensions;
mod impaired;
mod layers;
mod lifecycle;
mod media;
mod mirror;
mod quality;
mod relay;
