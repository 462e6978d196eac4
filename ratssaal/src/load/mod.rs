//! `ratssaal load`: many participants who drive any server of the LiveKit protocol, and what that costs and yields.
//!
//! | file | owns |
//! |---|---|
//! | [`options`] | the command line |
//! | [`mod@run`] | the order of events: joins, settling, measuring, leaving |
//! | [`session`], [`wire`], [`stay`] | a participant's signalling, on tokio, and how long it stays |
//! | [`worker`], [`participant`] | threads that carry media, a participant's part of it |
//! | [`cast`], [`camera`], [`microphone`], [`stamp`] | who sends and sees what, and what it looks like |
//! | [`watch`], [`histogram`] | what arrives |
//! | [`impairment`] | bad lines |
//! | [`machine`], [`report`] | cost, and the results as a table and JSON |

mod camera;
mod cast;
mod histogram;
mod impairment;
mod machine;
mod microphone;
mod options;
mod participant;
mod report;
mod run;
mod session;
mod stamp;
mod stay;
mod watch;
pub(crate) mod wire;
mod worker;

pub(crate) use options::command;
pub(crate) use run::run;
