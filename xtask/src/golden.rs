//! The golden scripts of `zab`: run, or written anew.

use anyhow::{Context, Result};
use clap::Args;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Arguments of `cargo xtask golden`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Write the transcripts as they are now; whoever commits them can explain each changed line
    #[arg(long)]
    rewrite: bool,
    /// Only scripts whose file's name contains this
    only: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--quiet", "-p", "farrier-zab", "--test", "golden"]).current_dir(root);
    // What an earlier shell left behind must not decide.
    command.env_remove("FARRIER_GOLDEN_REWRITE").env_remove("FARRIER_GOLDEN_ONLY");
    if let Some(only) = &arguments.only {
        command.env("FARRIER_GOLDEN_ONLY", only);
    }
    if arguments.rewrite {
        command.env("FARRIER_GOLDEN_REWRITE", "1");
    }
    let passed = command.status().context("cargo cannot be run")?.success();
    if passed && arguments.rewrite {
        let changed = Command::new("git")
            .args(["status", "--short", "crates/zab/testdata"])
            .current_dir(root)
            .output()
            .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
            .unwrap_or_default();
        crate::say(if changed.is_empty() { "no transcript has changed" } else { changed.trim_end() });
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
