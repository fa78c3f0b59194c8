//! `cargo xtask clients`: a scenario per stock client, each against a fresh server.

use super::program;
use super::tools::{self, Tools};
use super::{Report, config};
use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use farrier_testkit::apache::Apache;
use farrier_testkit::server::{Server, Target};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Milliseconds between two looks for containers and TTL nodes to remove.
const SWEEP_MS: u64 = 200;

/// Arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Clients to run; by default all
    #[arg(value_enum)]
    clients: Vec<Client>,
    /// The server that they talk to
    #[arg(long, value_enum, default_value_t = Against::Farrier)]
    against: Against,
    /// Farrier's binary; by default it is built first
    #[arg(long, env = "FARRIER_BIN", value_name = "FILE")]
    farrier: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Client {
    /// Python
    Kazoo,
    /// Apache's Java client and Curator's recipes
    Java,
    /// go-zookeeper
    Go,
    /// node-zookeeper-client
    Node,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Against {
    /// Farrier
    Farrier,
    /// Apache ZooKeeper, fetched with Maven
    Apache,
}

/// Runs the scenarios; fails when a step of one fails.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let tools = Tools::open()?;
    let target = match arguments.against {
        Against::Farrier => Target::Farrier(tools::farrier(arguments.farrier.as_deref())?),
        Against::Apache => Target::Apache(Apache::newest()?),
    };
    let chosen =
        if arguments.clients.is_empty() { Client::value_variants().to_vec() } else { arguments.clients.clone() };
    let mut report = Report::default();
    for client in chosen {
        let start = Instant::now();
        if let Err(e) = scenario(client, &tools, &target, &mut report) {
            report.check(format_args!("{client:?}"), Err::<&str, _>(e))?;
        }
        report.say(format_args!("{client:?} against {}: {} s\n", target.name(), start.elapsed().as_secs()))?;
    }
    report.say(format_args!("clients: {} steps passed, {} failed", report.passed, report.failed))?;
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn scenario(client: Client, tools: &Tools, target: &Target, report: &mut Report) -> Result<()> {
    let mut command = match client {
        Client::Kazoo => tools.kazoo()?,
        Client::Go => tools.go()?,
        Client::Node => tools.node()?,
        Client::Java => {
            let mut java = tools.java()?;
            java.arg("farrier.interop.Scenario");
            java
        }
    };
    let mut server = Server::start(target, &config(SWEEP_MS, &[]))?;
    command.arg(server.addr().to_string());
    let before = (report.passed, report.failed);
    let end = program::run(command, &mut server, report, false)?;
    if (end.passed, end.failed) != (report.passed - before.0, report.failed - before.1) {
        return Err(anyhow!("its last line does not match its verdicts: {end:?}"));
    }
    Ok(())
}
