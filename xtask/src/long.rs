//! The long forms of the checks, for whoever closes an issue: each appends a line to `docs/long-runs.md`.

use anyhow::{Context, Result, bail};
use clap::Args;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

/// Longest run of one suite, in minutes, whatever is asked.
const MINUTES_MAX: u64 = 60;

/// Minutes before its limit that a suite begins nothing more, if it can.
const WIND_UP_MINUTES: u64 = 5;

/// Arguments of `cargo xtask long`.
#[derive(Debug, Args)]
pub(crate) struct LongArguments {
    /// Suites to run; all by default.
    suites: Vec<String>,
    /// Longest time of each suite.
    #[arg(long, default_value_t = MINUTES_MAX)]
    minutes: u64,
}

/// One suite: a command, and environment that makes it long.
struct Suite {
    name: &'static str,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
    /// It takes `--minutes`, and ends by itself when that is over.
    within: bool,
}

const fn suite(name: &'static str, arguments: &'static [&'static str]) -> Suite {
    Suite { name, arguments, environment: &[], within: false }
}

const SUITES: &[Suite] = &[
    suite("conformance-apache", &["xtask", "conformance", "--against", "apache"]),
    Suite {
        environment: &[("FARRIER_KILLS", "1000")],
        ..suite("crash", &["test", "-p", "farrier-cli", "--test", "crash", "--", "--nocapture"])
    },
    suite("fuzz", &["run", "-p", "farrier-fuzz", "--", "--seconds", "120"]),
    suite("clients-apache", &["xtask", "clients", "--against", "apache"]),
    Suite {
        environment: &[("FARRIER_INTERLEAVINGS", "200000")],
        ..suite("interleavings", &["test", "-p", "farrier-server", "--lib", "interleavings"])
    },
    suite("model", &["xtask", "model"]),
    // Adds up over sessions: crates/sim/blocks.txt.
    Suite { within: true, ..suite("sim", &["xtask", "sim", "--campaign", "20000"]) },
    suite("planted", &["xtask", "sim", "--planted", "all", "--minutes", "5"]),
    Suite {
        environment: &[("FARRIER_RECIPES_AGAINST", "apache")],
        ..suite("recipes", &["test", "-p", "farrier-recipes", "--tests", "--", "--test-threads", "1"])
    },
    suite("exchange", &["xtask", "exchange"]),
    suite("faults", &["xtask", "faults", "--assert-gaps"]),
    suite("faults-apache", &["xtask", "faults", "--apache"]),
    suite("ensemble-apache", &["xtask", "ensemble", "--apache-alone", "--rounds", "5"]),
    suite("ensemble", &["xtask", "ensemble", "--rounds", "10"]),
    suite("ensemble-3.5", &["xtask", "ensemble", "--apache", "3.5", "follow", "lead", "observe", "sync", "takeover"]),
    suite("ensemble-3.6", &["xtask", "ensemble", "--apache", "3.6", "follow", "lead", "observe", "sync", "takeover"]),
    suite("ensemble-3.7", &["xtask", "ensemble", "--apache", "3.7", "follow", "lead", "observe", "sync", "takeover"]),
    suite("ensemble-3.8", &["xtask", "ensemble", "--apache", "3.8", "follow", "lead", "observe", "sync", "takeover"]),
    suite("instructions", &["xtask", "instructions"]),
    suite("kafka", &["xtask", "applications", "kafka"]),
    suite("hbase", &["xtask", "applications", "hbase"]),
];

/// Runs the suites, one after the other.
pub(crate) fn run(arguments: &LongArguments) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    for name in &arguments.suites {
        if !SUITES.iter().any(|s| s.name == name) {
            let known: Vec<&str> = suites().collect();
            bail!("there is no suite {name}; there are {}", known.join(", "));
        }
    }
    let minutes = arguments.minutes.min(MINUTES_MAX);
    let limit = Duration::from_secs(60 * minutes);
/// Their names.
pub(crate) fn suites() -> impl Iterator<Item = &'static str> {
    SUITES.iter().map(|suite| suite.name)
}

    let mut failed = false;
    for suite in SUITES {
        if !arguments.suites.is_empty() && !arguments.suites.iter().any(|n| n == suite.name) {
            continue;
        }
        crate::say(&format!("== {}", suite.name));
        let start = Instant::now();
        let mut command = Command::new(env!("CARGO"));
        command.args(suite.arguments).current_dir(root);
        if suite.within {
            // The rest is for the build, and for what is under way.
            command.args(["--minutes", &minutes.saturating_sub(WIND_UP_MINUTES).max(1).to_string()]);
        }
        for (key, value) in suite.environment {
            command.env(key, value);
        }
        let child = command.spawn().with_context(|| format!("cannot run {}", suite.name))?;
        let result = wait(child, limit)?;
        failed |= result != "passed";
        record(root, suite, result, start.elapsed().as_secs())?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn wait(mut child: Child, limit: Duration) -> Result<&'static str> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { "passed" } else { "FAILED" });
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok("cut short");
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn record(root: &Path, suite: &Suite, result: &str, seconds: u64) -> Result<()> {
    let first_line = |program: &str, arguments: &[&str]| -> Result<String> {
        let out = Command::new(program).args(arguments).current_dir(root).output()?;
        Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let date = first_line("date", &["-u", "+%F"])?;
    let commit = first_line("git", &["rev-parse", "--short", "HEAD"])?;
    let environment = suite.environment.iter().map(|(k, v)| format!("{k}={v}"));
    let options = match suite.arguments {
        ["xtask", _, options @ ..] => options,
        _ => &[],
    };
    let settings: Vec<String> = environment.chain(options.iter().map(|&option| option.to_owned())).collect();
    let line = format!("| {date} | {commit} | {} | {} | {seconds} s | {result} |\n", suite.name, settings.join(" "));
    let path = root.join("docs/long-runs.md");
    let mut file = std::fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot append to {}", path.display()))?;
    file.write_all(line.as_bytes())?;
    crate::say(line.trim_end());
    Ok(())
}
