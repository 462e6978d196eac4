//! The operator's pure half: what to do with an installation's bridges ([`plan`]), and the objects that an installation consists
//! of ([`build`]). What watches and writes them is not there yet.
#![forbid(unsafe_code)]

pub mod build;
mod hash;
mod kind;
pub mod names;
pub mod pki;
pub mod plan;

pub use kind::Kind;
