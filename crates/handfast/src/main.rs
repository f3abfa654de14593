//! The `handfast` binary: reads the command line, runs one command, turns what happened into text and an exit code.
//!
//! Nothing is decided here. Commands are in [`commands`], the wiring of a node in [`node`].

mod agent_enrolment;
mod cli;
mod clock;
mod commands;
mod demo;
mod exit;
mod failure;
mod home;
mod node;
mod output;
#[cfg(feature = "pkcs11")]
mod tokens;

use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    let format = cli.globals.output;
    let exit = match commands::run(cli) {
        Ok(exit) => exit.into(),
        Err(error) => failure::show(&error, format).into(),
    };
    #[cfg(feature = "pkcs11")]
    tokens::end();
    exit
}
