//! The workspace's door for people and CI: `cargo xtask <command>`.
//!
//! This file only dispatches; each command lives in a module of its own.

mod ci;
mod compare;
mod conformance;
mod ensemble;
mod facts;
mod faults;
mod golden;
mod instructions;
mod interop;
mod long;
mod measure;
mod model;
mod reference;
mod report;
mod scale;
mod servers;
mod sim;
mod tidy;
mod tls;

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
    /// Run every check that CI runs
    Ci(ci::CiArguments),
    /// Run the long forms of the checks and record their results
    Long(long::LongArguments),
    /// Check the workspace's own rules
    Tidy,
    /// Run the golden scripts of the protocol between servers, or write their transcripts anew
    Golden(golden::Arguments),
    /// Write the reference pages of the book from the program itself
    Reference,
    /// Run the conformance cases against Farrier, or against Farrier and Apache side by side
    Conformance(conformance::Arguments),
    /// Run stock clients' scenarios against one server
    Clients(interop::ClientsArguments),
    /// Pass a data directory back and forth between Apache and Farrier
    Exchange(interop::ExchangeArguments),
    /// Run Kafka and HBase while their ensemble goes from Apache to Farrier and back
    Applications(interop::ApplicationsArguments),
    /// Run ensembles of Apache and Farrier under load
    Ensemble(ensemble::Arguments),
    /// Run five servers in network namespaces through faults of links, processes and disks
    Faults(faults::Arguments),
    /// Run whole ensembles under seeded faults in simulation
    Sim(sim::Arguments),
    /// Visit every state of three servers within bounds
    Model(model::Arguments),
    /// Run the client over TLS against Apache, with right, wrong and expired certificates
    Tls(tls::Arguments),
    /// Measure Farrier beside Apache ZooKeeper and etcd on this machine
    Compare(Box<compare::Arguments>),
    /// What compare starts beside the servers
    #[command(hide = true)]
    Probe(compare::ProbeArguments),
    /// Count the instructions of requests, and compare them with bench/instructions.txt
    Instructions(instructions::Arguments),
    /// Measure what a request costs as znodes, sessions, watches and servers grow
    Scale(scale::Arguments),
    /// Measure what Farrier's client costs
    Measure(Box<measure::Arguments>),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Ci(arguments) => ci::run(&arguments),
        Command::Long(arguments) => long::run(&arguments),
        Command::Tidy => tidy_only(),
        Command::Golden(arguments) => golden::run(&arguments),
        Command::Reference => reference::run(),
        Command::Conformance(arguments) => conformance::run(&arguments),
        Command::Clients(arguments) => interop::clients(&arguments),
        Command::Exchange(arguments) => interop::exchange(&arguments),
        Command::Applications(arguments) => interop::applications(&arguments),
        Command::Ensemble(arguments) => ensemble::run(&arguments),
        Command::Faults(arguments) => faults::run(&arguments),
        Command::Sim(arguments) => sim::run(&arguments),
        Command::Model(arguments) => model::run(&arguments),
        Command::Tls(arguments) => tls::run(&arguments),
        Command::Compare(arguments) => compare::run(&arguments),
        Command::Probe(arguments) => compare::probe(&arguments),
        Command::Instructions(arguments) => instructions::run(&arguments),
        Command::Scale(arguments) => scale::run(&arguments),
        Command::Measure(arguments) => measure::run(&arguments),
    }
}

fn tidy_only() -> anyhow::Result<ExitCode> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let found = tidy::check(root)?;
    for line in &found {
        say(line);
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints a line for whoever runs the command.
#[expect(clippy::print_stdout, reason = "this is a command-line program")]
pub(crate) fn say(line: &str) {
    println!("{line}");
}
