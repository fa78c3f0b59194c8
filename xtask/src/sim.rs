//! `cargo xtask sim`: starts the simulation's own program (`crates/sim-run`), with planted bugs in it if they are hunted.

use anyhow::{Context, Result};
use clap::Args;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Where the build with planted bugs goes, below the workspace: it must never be taken for the ordinary one.
pub(crate) const PLANTED_TARGET: &str = "target/planted";

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// What crates/sim-run takes; --help tells
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let mut command = Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--package", "farrier-sim-run"]);
    let hunts = |a: &OsString| a.to_str().is_some_and(|a| a == "--planted" || a.starts_with("--planted="));
    if arguments.arguments.iter().any(hunts) {
        command.arg("--target-dir").arg(root.join(PLANTED_TARGET));
        command.env("RUSTFLAGS", "--cfg farrier_planted");
    }
    let status = command.arg("--").args(&arguments.arguments).status().context("cannot run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
