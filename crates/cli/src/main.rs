//! The binary `farrier`.
//!
//! It owns the command line, the environment, signals, and what is printed. It decides nothing about
//! data: every verb hands over to a library and turns the outcome into text and an exit code.

mod admin;
mod client;
mod dev;
mod init;
mod logging;
mod output;
mod repair;
mod server;
mod signals;
mod status;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

// Measured against the system's allocators; only binaries choose one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// ZooKeeper, reforged in Rust: the same protocol, the same files.
#[derive(Debug, Parser)]
#[command(name = "farrier", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  farrier dev                       a server to try things with, on 127.0.0.1
  farrier dev -- pytest             one for the run of a command, which finds it in FARRIER_SERVER
  farrier server zoo.cfg            the server that an Apache configuration describes
  farrier server zoo.cfg --check    what that configuration means, and where each value comes from
  farrier init --id 1 --server 1=zk1 --server 2=zk2 --server 3=zk3 --dir zk
  farrier status --server zk1:2181  who leads, who follows, how far
  farrier admin transfer-leader --dir /var/lib/zookeeper    let another server lead
  farrier repair zoo.cfg            what is wrong with its data, if a start was refused

Exit codes: 0 done, 1 refused or failed, 2 usage or configuration, 3 no server or data directory.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a server as zoo.cfg says
    Server(server::Arguments),
    /// Run a throw-away server on this machine
    Dev(dev::Arguments),
    /// Write the files of one member of an ensemble
    Init(init::Arguments),
    /// Show the members of an ensemble and how each is
    Status(status::Arguments),
    /// Speak to the server whose data directory is on this machine
    Admin(admin::Arguments),
    /// Examine a damaged data directory, or go on without what is lost
    Repair(repair::Arguments),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Server(arguments) => server::run(&arguments),
        Command::Dev(arguments) => dev::run(&arguments),
        Command::Init(arguments) => init::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Admin(arguments) => admin::run(&arguments),
        Command::Repair(arguments) => repair::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
