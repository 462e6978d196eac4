//! The Ratssaal binary: reads the command line, runs one subcommand, turns an error into one sentence and an exit status.
#![forbid(unsafe_code)]

mod allocator;
mod assets;
mod certificate;
mod cli;
mod cluster;
mod config;
mod crd;
mod doctor;
mod drain;
mod keys;
mod load;
mod operator;
mod serve;
mod settings;
mod status;
mod stream;
mod token;

use std::process::ExitCode;

use clap::{ArgMatches, error::ErrorKind};
use ratssaal_process::exit;

fn main() -> ExitCode {
    let matches = match cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            // Nothing is left to be done when even this cannot be written.
            let _ = error.print();
            return if help { ExitCode::SUCCESS } else { exit::USAGE.into() };
        }
    };
    match run(&matches) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ratssaal: {}", said(&error));
            exit::status(&error).into()
        }
    }
}

/// One sentence: what went wrong and why, each cause once (many errors name theirs themselves).
fn said(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        _ if said.contains(&cause) => said,
        _ => said + ": " + &cause,
    })
}

fn run(matches: &ArgMatches) -> anyhow::Result<()> {
    match matches.subcommand() {
        Some(("serve", matches)) => serve::run(config::load(matches)?),
        Some(("allocator", matches)) => allocator::run(config::load_allocator(matches)?),
        Some(("operator", matches)) => operator::run(config::load_operator(matches)?),
        Some(("token", matches)) => token::run(matches),
        Some(("keys", _)) => keys::run(),
        Some(("crd", _)) => crd::run(),
        Some(("certificate", matches)) => certificate::run(matches),
        Some(("load", matches)) => load::run(matches),
        Some(("status", matches)) => status::run(matches),
        Some(("bridge", matches)) => drain::run(matches),
        Some(("doctor", matches)) => doctor::run(matches),
        _ => unreachable!("clap demands one of the subcommands"),
    }
}
