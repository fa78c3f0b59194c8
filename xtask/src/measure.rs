//! What every measurement of Farrier on this machine shares, and `cargo xtask measure client`.

mod client;

use crate::facts;
use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measure what a request costs the client, beside the crate zookeeper-client
    Client(client::Arguments),
}

/// What every measurement has to be told.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Farrier's binary; by default it is built first, in release
    #[arg(long, env = "FARRIER_BIN", value_name = "FILE")]
    farrier: Option<PathBuf>,
    /// Where the data directories go; by default beside the binaries
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Write the report to this file too
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Common {
    pub(crate) fn dir(&self) -> Result<PathBuf> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => std::env::current_exe()?.with_file_name("measure"),
        };
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }

    /// Prints the report, and keeps it if asked to.
    pub(crate) fn publish(&self, report: &mut String) -> Result<()> {
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
pub(crate) fn heading(title: &str, dir: &Path) -> Result<String> {
    let mut report = format!("# {title}\n\n");
    for (what, value) in facts::machine(dir)? {
        report.push_str(&format!("- {what}: {value}\n"));
    }
    report.push_str(&format!("- command: `cargo xtask {}`\n", repeatable(std::env::args().skip(1))));
    Ok(report)
}

/// A command line without where things lie on this machine, which repeats nothing.
fn repeatable(mut words: impl Iterator<Item = String>) -> String {
    const PLACES: [&str; 3] = ["--dir", "--out", "--farrier"];
    let mut command = Vec::new();
    while let Some(word) = words.next() {
        if PLACES.contains(&word.as_str()) {
            words.next();
        } else if !PLACES.iter().any(|place| word.strip_prefix(place).is_some_and(|rest| rest.starts_with('='))) {
            command.push(word);
        }
    }
    command.join(" ")
}

/// Measures and prints the report.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    match &arguments.what {
        What::Client(arguments) => client::run(arguments),
    }
}

/// The binary that was named, or a fresh one from the workspace.
pub(crate) fn farrier(common: &Common) -> Result<PathBuf> {
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
pub(crate) fn note(line: &str) -> Result<()> {
    writeln!(std::io::stderr().lock(), "{line}").context("writing to standard error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_told_without_places() {
        let words = "compare --quick --dir /a --rounds 2 --out=/b/c.md --row get-64x1";
        let told = repeatable(words.split(' ').map(str::to_owned));
        assert_eq!(told, "compare --quick --rounds 2 --row get-64x1");
    }
}
