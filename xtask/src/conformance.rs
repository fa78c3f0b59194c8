//! `cargo xtask conformance`: the cases of `farrier-testkit`, as a table.

use crate::interop;
use anyhow::Result;
use clap::{Args, ValueEnum};
use farrier_testkit::apache::Apache;
use farrier_testkit::conformance::{Filter, run as run_cases, table};
use farrier_testkit::server::Target;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Whose answers to show: Farrier's alone, or Apache's newest 3.9 release beside them
    #[arg(long, value_enum, default_value_t = Against::Farrier)]
    against: Against,
    /// With `--against apache`: leave Farrier out
    #[arg(long)]
    alone: bool,
    /// Run only this case; may be repeated
    #[arg(long = "case", value_name = "N")]
    cases: Vec<u16>,
    /// Farrier's binary; by default it is built first
    #[arg(long, env = "FARRIER_BIN", value_name = "FILE")]
    farrier: Option<PathBuf>,
    /// Print only the cases that differ
    #[arg(long)]
    brief: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Against {
    /// Farrier
    Farrier,
    /// Apache ZooKeeper, fetched with Maven
    Apache,
}

/// Runs the cases and prints their table; fails when an answer differs.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut targets = Vec::new();
    if !(arguments.alone && arguments.against == Against::Apache) {
        targets.push(Target::Farrier(interop::farrier(arguments.farrier.as_deref())?));
    }
    if arguments.against == Against::Apache {
        targets.push(Target::Apache(Apache::newest()?));
    }
    let filter = Filter { numbers: arguments.cases.clone(), ..Filter::default() };
    let mut out = std::io::stdout().lock();
    let mut reports = Vec::new();
    for target in &targets {
        let start = Instant::now();
        reports.push(run_cases(target, &filter)?);
        writeln!(out, "{}: {} s", target.name(), start.elapsed().as_secs())?;
    }
    if !arguments.brief {
        write!(out, "{}", table(&reports))?;
    }
    let mut good = true;
    for report in &reports {
        let failed = report.failures().count();
        good &= failed == 0;
        writeln!(out, "\n{}: {} of {} cases differ", report.target, failed, report.rows.len())?;
        write!(out, "{}", report.failure_list())?;
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
