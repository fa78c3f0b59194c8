//! The workspace's door for people and CI: `cargo xtask <command>`.
//!
//! This file only dispatches; each command lives in a module of its own.

mod conformance;
mod interop;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Checks and measurements of the workspace.
#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the conformance cases against Farrier, or against Farrier and Apache side by side
    Conformance(conformance::Arguments),
    /// Run stock clients' scenarios against one server
    Clients(interop::ClientsArguments),
    /// Pass a data directory back and forth between Apache and Farrier
    Exchange(interop::ExchangeArguments),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Conformance(arguments) => conformance::run(&arguments),
        Command::Clients(arguments) => interop::clients(&arguments),
        Command::Exchange(arguments) => interop::exchange(&arguments),
    }
}
