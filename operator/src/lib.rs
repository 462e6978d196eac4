//! The operator's pure half: what to do with an installation's bridges ([`plan`]), and the objects that an installation consists
//! of ([`build`], [`credentials`]), what is wrong with it ([`problem`]), and what an operator may do ([`rights`]). What watches and writes them is not there yet.
#![forbid(unsafe_code)]

pub mod build;
pub mod credentials;
mod hash;
mod kind;
pub mod names;
pub mod pki;
pub mod plan;
pub mod problem;
pub mod rights;

pub use kind::Kind;
