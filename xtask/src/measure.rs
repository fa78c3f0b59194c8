//! `cargo xtask measure`: Farrier beside Apache ZooKeeper on this machine, in one run; one server, or with
//! `ensemble` three.
//!
//! It owns the order of things and the report. Both servers run their defaults on the same disk, flushes
//! included; what both are told is printed. Nothing here decides whether a figure is good enough.

mod client;
mod ensemble;
mod facts;
mod footprint;
mod process;
mod rates;
mod report;
mod work;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use farrier_testkit::apache::Apache;
use footprint::Parts;
use process::Program;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

/// Arguments of the command.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// What to measure, separated by commas: get-1, get-64, set-1, set-64, create-1, create-64, mix-1,
    /// mix-64, memory, start; the number is the depth
    #[arg(long, value_delimiter = ',', value_name = "ROW")]
    rows: Vec<String>,
    /// Times that each row is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each row that count
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Seconds of all rows together before anything counts
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(0..=600))]
    warm: u64,
    /// Znodes for memory and start
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    znodes: u32,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure ensembles of three servers
    Ensemble(ensemble::Arguments),
    /// Measure what a request costs the client, beside the crate zookeeper-client
    Client(client::Arguments),
}

/// What every measurement has to be told.
#[derive(Debug, Args)]
struct Common {
    /// Farrier's binary; by default it is built first, in release
    #[arg(long, env = "FARRIER_BIN", value_name = "FILE")]
    farrier: Option<PathBuf>,
    /// Flags of Apache's JVM; by default the heap of its own scripts, about twice the live set of a million
    /// znodes
    #[arg(long, default_value = "-Xmx1000m", allow_hyphen_values = true, value_name = "FLAGS")]
    jvm: String,
    /// Only one of the servers
    #[arg(long, value_enum)]
    only: Option<Only>,
    /// Where the data directories go; by default beside the binaries
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write the report to this file too
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Common {
    fn dir(&self) -> Result<PathBuf> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => std::env::current_exe()?.with_file_name("measure"),
        };
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    fn programs(&self) -> Result<Vec<Program>> {
        let mut programs = Vec::new();
        if self.only != Some(Only::Apache) {
            programs.push(Program::Farrier(farrier(self)?));
        }
        if self.only != Some(Only::Farrier) {
            let jvm = self.jvm.split_ascii_whitespace().map(str::to_owned).collect();
            programs.push(Program::Apache { release: Apache::newest()?, jvm });
        }
        Ok(programs)
    }

    /// Prints the report, and keeps it if asked to.
    fn publish(&self, report: &mut String) -> Result<()> {
        report.push_str(&format!("\nLoad average after: {}\n", facts::load_average()));
        std::io::stdout().lock().write_all(report.as_bytes())?;
        if let Some(out) = &self.out {
            if let Some(parent) = out.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(out, report).with_context(|| out.display().to_string())?;
        }
        Ok(())
    }
}

/// What every report begins with.
fn heading(title: &str, dir: &Path, programs: &[Program]) -> Result<String> {
    let mut report = format!("# {title}\n\n");
    for (what, value) in facts::machine(dir)? {
        report.push_str(&format!("- {what}: {value}\n"));
    }
    for program in programs {
        if let Program::Apache { release, jvm } = program {
            report.push_str(&format!("- Apache ZooKeeper {}, JVM flags: `{}`\n", release.version, jvm.join(" ")));
        }
    }
    let command: Vec<String> = std::env::args().skip(1).collect();
    report.push_str(&format!("- command: `cargo xtask {}`\n", command.join(" ")));
    Ok(report)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Only {
    /// Farrier
    Farrier,
    /// Apache ZooKeeper
    Apache,
}

/// What all parts of a run share.
#[derive(Debug)]
struct Options {
    rounds: u32,
    seconds: Duration,
    warm: Duration,
    znodes: u32,
    dir: PathBuf,
}

/// Measures and prints the report.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.what {
        Some(What::Ensemble(arguments)) => return ensemble::run(arguments),
        Some(What::Client(arguments)) => return client::run(arguments),
        None => {}
    }
    let (rows, parts) = choose(&arguments.rows)?;
    let dir = arguments.common.dir()?;
    let options = Options {
        rounds: arguments.rounds,
        seconds: Duration::from_secs(arguments.seconds),
        warm: Duration::from_secs(arguments.warm),
        znodes: arguments.znodes,
        dir,
    };
    let programs = arguments.common.programs()?;
    let mut report = heading("Measurements of one server", &options.dir, &programs)?;
    report.push_str(&format!(
        "- configuration of both, besides directory and port: `{}`; everything else is default\n\
         - {} rounds of {} s per row after {} s of warming; median (least–most); values of {} bytes, {} znodes read \
         and set; 64 connections at depth 1, 16 at depth 64\n\
         - one thread generates the load; every reply is checked, and after each row that writes every acknowledged \
         write is read back\n\n",
        process::CONFIGURATION.join(" "),
        options.rounds,
        options.seconds.as_secs(),
        options.warm.as_secs(),
        work::VALUE_LEN,
        work::KEYS,
    ));
    if !rows.is_empty() {
        report.push_str(&rates::run(&options, &programs, &rows)?);
    }
    if parts.memory || parts.start {
        report.push_str(&footprint::run(&options, &programs, parts)?);
    }
    arguments.common.publish(&mut report)?;
    Ok(ExitCode::SUCCESS)
}

fn choose(names: &[String]) -> Result<(Vec<rates::Spec>, Parts)> {
    if names.is_empty() {
        return Ok((rates::ROWS.to_vec(), Parts { memory: true, start: true }));
    }
    let mut rows = Vec::new();
    let mut parts = Parts { memory: false, start: false };
    for name in names {
        match name.as_str() {
            "memory" => parts.memory = true,
            "start" => parts.start = true,
            other => match rates::ROWS.iter().find(|row| row.name == other) {
                Some(row) => rows.push(*row),
                None => bail!("there is no row {other:?}"),
            },
        }
    }
    Ok((rows, parts))
}

/// The binary that was named, or a fresh one from the workspace.
fn farrier(common: &Common) -> Result<PathBuf> {
    if let Some(path) = &common.farrier {
        return std::fs::canonicalize(path).with_context(|| path.display().to_string());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", "farrier-cli"])
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "farrier does not build");
    // target/debug/xtask beside target/release/farrier
    let path = std::env::current_exe()?.with_file_name("../release/farrier");
    std::fs::canonicalize(&path).with_context(|| path.display().to_string())
}

/// Progress, for whoever waits.
fn note(line: &str) -> Result<()> {
    writeln!(std::io::stderr().lock(), "{line}").context("writing to standard error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_name_and_all_by_default() {
        let (rows, parts) = choose(&[]).unwrap();
        assert_eq!(rows.len(), rates::ROWS.len());
        assert!(parts.memory && parts.start);
        let (rows, parts) = choose(&["set-64".to_owned(), "memory".to_owned()]).unwrap();
        assert_eq!(rows.iter().map(|r| r.name).collect::<Vec<_>>(), ["set-64"]);
        assert!(parts.memory && !parts.start);
        choose(&["set-65".to_owned()]).unwrap_err();
    }
}
