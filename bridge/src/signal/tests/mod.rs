//! Signalling over real WebSockets, with the real room and allocator. The media worker is the test: it sees what it is
//! told and says what happens on the network.

mod across;
mod codecs;
mod harness;
mod hearing;
mod joining;
mod media;
mod misuse;
mod moving;
mod resuming;
mod rules;
