//! The long forms of the checks, for whoever closes an issue: each appends a line to `docs/long-runs.md`.

use anyhow::{Context, Result, bail};
use clap::Args;
use rustix::process::{Pid, Signal, kill_process};
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

/// The variable by which everything is known that a suite has started: groups would not do, since some of it makes its own,
/// and Ctrl-C is to reach all of it.
const MARK: &str = "FARRIER_LONG_RUN";

/// How long that may take to end once it was asked to, before it is killed.
const END_MAX: Duration = Duration::from_secs(10);

/// Pause between two looks at what goes on.
const LOOK: Duration = Duration::from_millis(100);

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
    suite("planted", &["xtask", "sim", "--planted", "all", "--minutes", "15"]),
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

/// Their names.
pub(crate) fn suites() -> impl Iterator<Item = &'static str> {
    SUITES.iter().map(|suite| suite.name)
}

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
        let mark = format!("{}-{}", std::process::id(), suite.name);
        command.env(MARK, &mark);
        let child = command.spawn().with_context(|| format!("cannot run {}", suite.name))?;
        let result = wait(child, limit, &mark)?;
        failed |= result != "passed";
        record(root, suite, result, start.elapsed().as_secs())?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Waits for the end of a suite. One that takes too long ends with everything that it has started: cargo is but the first of
/// many processes, and servers go on without it.
fn wait(mut child: Child, limit: Duration, mark: &str) -> Result<&'static str> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(if status.success() { "passed" } else { "FAILED" });
        }
        if Instant::now() >= end {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let asked = Instant::now();
    signal(mark, Signal::TERM)?;
    loop {
        std::thread::sleep(LOOK);
        // What has ended and is not waited for has no environment any more.
        if started(mark)?.is_empty() {
            break;
        }
        if asked.elapsed() >= END_MAX {
            signal(mark, Signal::KILL)?;
        }
    }
    child.wait()?;
    Ok("cut short")
}

/// The processes that carry a mark. A process that belongs to somebody else does not show whether it does.
fn started(mark: &str) -> Result<Vec<Pid>> {
    let carried = format!("{MARK}={mark}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("cannot list processes")? {
        let Ok(entry) = entry else { continue };
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == carried.as_bytes()) {
            found.extend(pid);
        }
    }
    Ok(found)
}

fn signal(mark: &str, signal: Signal) -> Result<()> {
    for pid in started(mark)? {
        // It may have ended in this moment.
        let _ = kill_process(pid, signal);
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_suite_has_started_ends_with_it() {
        let mark = format!("{}-test", std::process::id());
        // One of them belongs to nobody, one does not listen.
        let script = "(sleep 600 &); (trap '' TERM; sleep 600 & wait) & wait";
        let child = Command::new("sh").args(["-c", script]).env(MARK, &mark).spawn().expect("there is a shell");
        let begun = Instant::now();
        while started(&mark).expect("processes").len() < 4 {
            assert!(begun.elapsed() < Duration::from_secs(60), "the shell runs something else");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(wait(child, Duration::ZERO, &mark).expect("it can be waited for"), "cut short");
        assert_eq!(started(&mark).expect("processes"), []);
    }
}
