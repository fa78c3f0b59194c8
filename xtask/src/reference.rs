//! The pages of the book that the program writes itself.

use anyhow::{Context, Result};
use std::path::Path;
use std::process::{Command, ExitCode};

/// Writes them as the program is now; its tests check that they are.
pub(crate) fn run() -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let status = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "-p", "farrier-cli", "--bin", "farrier", "reference::"])
        .env("FARRIER_REFERENCE_REWRITE", "1")
        .current_dir(root)
        .status()
        .context("cargo cannot be run")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
