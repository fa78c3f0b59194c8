//! What CI runs: every check in turn, each with its seconds, and the counts at the end.

use crate::{long, sim, tidy};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Seconds of a day.
const SECONDS_A_DAY: u64 = 86_400;

/// Seconds that every fuzz body runs.
const FUZZ_SECONDS: &str = "10";

/// The simulation ends after so many minutes at the latest, and fails then: two idle processors need three, busy ones longer.
const SIMULATION_MINUTES: &str = "20";

/// Text in every binary that holds planted bugs, as `farrier_proto::planted::MARKER`, which this build does not have.
const PLANTED_MARKER: &str = "farrier-planted-bugs-inside";

/// Arguments of `cargo xtask ci`.
#[derive(Debug, Args)]
pub(crate) struct CiArguments {
    /// The tests ran before: leave them out.
    #[arg(long)]
    after_tests: bool,
    /// Output of those tests, to be counted.
    #[arg(long)]
    tests_log: Option<PathBuf>,
}

/// What was counted so far.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// One check and the command that makes it.
struct Step {
    name: &'static str,
    arguments: &'static [&'static str],
    environment: Option<(&'static str, &'static str)>,
}

const fn step(name: &'static str, arguments: &'static [&'static str]) -> Step {
    Step { name, arguments, environment: None }
}

/// Its output is not read, so that a test that leaves something out must fail instead of saying so.
const TESTS: Step = Step {
    environment: Some(("FARRIER_REQUIRE_TOOLS", "1")),
    ..step("tests", &["test", "--workspace", "--no-fail-fast", "--quiet"])
};

const STEPS: &[Step] = &[
    step("format", &["fmt", "--all", "--check"]),
    step("clippy", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]),
    Step {
        environment: Some(("RUSTDOCFLAGS", "-D warnings")),
        ..step("docs", &["doc", "--workspace", "--no-deps", "--quiet"])
    },
    step("fuzz bodies", &["run", "--quiet", "-p", "farrier-fuzz", "--", "--seconds", FUZZ_SECONDS]),
    step("simulation", &["xtask", "sim", "--seeds", "500", "--minutes", SIMULATION_MINUTES]),
    step("recipes in simulation", &["xtask", "sim", "--recipes", "--seeds", "200", "--minutes", SIMULATION_MINUTES]),
    step("planted bugs", &["xtask", "sim", "--planted", "recorded"]),
    step("stock clients", &["xtask", "clients"]),
    step("TLS against Apache", &["xtask", "tls"]),
    step("data exchange", &["xtask", "exchange"]),
    step("namespace faults", &["xtask", "faults", "leader-cut", "one-way", "paused", "full-disk"]),
    step("ensembles", &["xtask", "ensemble"]),
];

/// Runs everything; the last line counts.
pub(crate) fn run(arguments: &CiArguments) -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask lies in the workspace")?;
    let mut counts = Counts::default();
    if let Some(log) = &arguments.tests_log {
        let text = std::fs::read(log).with_context(|| format!("cannot read {}", log.display()))?;
        count_tests(&String::from_utf8_lossy(&text), &mut counts);
        if counts.passed + counts.failed == 0 {
            bail!("{} holds no result of any test", log.display());
        }
    } else if !arguments.after_tests {
        run_step(root, &TESTS, &mut counts);
    }
    let found = tidy::check(root)?;
    for line in &found {
        crate::say(line);
    }
    tally(found.is_empty(), "tidy", 0, &mut counts);
    for s in STEPS {
        run_step(root, s, &mut counts);
    }
    let start = Instant::now();
    let pure = only_the_runner_has_planted_bugs(root).map_err(|e| crate::say(&format!("{e:#}")));
    tally(pure.is_ok(), "no planted bugs in farrier", start.elapsed().as_secs(), &mut counts);
    crate::say(&long_runs(root));
    crate::say(&format!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped));
    Ok(if counts.failed == 0 && counts.skipped == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_step(root: &Path, step: &Step, counts: &mut Counts) {
    crate::say(&format!("== {}", step.name));
    let start = Instant::now();
    let mut command = Command::new(env!("CARGO"));
    command.args(step.arguments).current_dir(root);
    command.envs(step.environment);
    let passed = command.status().is_ok_and(|s| s.success());
    tally(passed, step.name, start.elapsed().as_secs(), counts);
}

fn tally(passed: bool, name: &str, seconds: u64, counts: &mut Counts) {
    if passed {
        counts.passed += 1;
    } else {
        counts.failed += 1;
    }
    crate::say(&format!("== {name}: {} ({seconds} s)", if passed { "passed" } else { "FAILED" }));
}

/// The marker is in the program that hunts planted bugs (built by its step), and not in the server as it is built for
/// everybody.
fn only_the_runner_has_planted_bugs(root: &Path) -> Result<()> {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--package", "farrier-cli"])
        .current_dir(root)
        .status()?;
    if !built.success() {
        bail!("farrier does not build");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let has_marker = |path: PathBuf| -> Result<bool> {
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(bytes.windows(PLANTED_MARKER.len()).any(|w| w == PLANTED_MARKER.as_bytes()))
    };
    if !has_marker(root.join(sim::PLANTED_TARGET).join("debug/farrier-sim-run"))? {
        bail!("`{PLANTED_MARKER}` is not even in the program with planted bugs: looking for it proves nothing");
    }
    if has_marker(target.join("debug/farrier"))? {
        bail!("the binary farrier holds planted bugs (`{PLANTED_MARKER}`); build it without --cfg farrier_planted");
    }
    Ok(())
}

/// Adds up the closing lines of cargo's test runs. A run that was cut short has none, and fails by its
/// exit code. Tests that found a tool missing print a line of their own.
fn count_tests(log: &str, counts: &mut Counts) {
    for line in log.lines() {
        if line.trim_start().starts_with("skipped: ") {
            counts.skipped += 1;
        }
        let Some(rest) = line.strip_prefix("test result: ") else { continue };
        let number = |word: &str| {
            let part = rest.split(['.', ';']).find(|p| p.trim_end().ends_with(word));
            part.and_then(|p| p.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        counts.passed += number("passed");
        counts.failed += number("failed");
        counts.skipped += number("ignored");
    }
}

/// How old the newest line of every long suite is.
fn long_runs(root: &Path) -> String {
    let text = std::fs::read_to_string(root.join("docs/long-runs.md")).unwrap_or_default();
    let today = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / SECONDS_A_DAY;
    let ages = long::suites().map(|suite| format!("\n  {}", age_of(suite, &text, i64::try_from(today).unwrap_or(0))));
    format!("long runs:{}", ages.collect::<String>())
}

/// One suite, and what the newest of its lines tells. `today` counts days since 1970.
fn age_of(suite: &str, table: &str, today: i64) -> String {
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        let [date, commit, name, .., result, ""] = cells[..] else { return None };
        (name == suite).then(|| Some((day_of(date)?, format!("{date}, {commit}, {result}"))))?
    };
    match table.lines().filter_map(row).max_by_key(|(day, _)| *day) {
        None => format!("{suite}: never"),
        Some((day, told)) => format!("{suite}: {} days ago ({told})", today - day),
    }
}

/// The days since 1970 of a date.
fn day_of(date: &str) -> Option<i64> {
    let mut parts = date.split('-').map(|part| part.parse::<i64>().ok());
    let (Some(Some(year)), Some(Some(month @ 1..=12)), Some(Some(day)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    // Years that begin in March have their leap day at the end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_1970 = 719_468;
    Some(365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - days_before_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_suite_is_that_of_its_newest_line() {
        for (date, day) in [
            ("1970-01-01", 0),
            ("2000-02-29", 11_016),
            ("2000-03-01", 11_017),
            ("2026-11-30", 20_787),
            ("2026-12-31", 20_818),
        ] {
            assert_eq!(day_of(date), Some(day), "{date}");
        }
        for date in ["date", "---", "2026-13-01", "2026-11", "2026-11-30-1", ""] {
            assert_eq!(day_of(date), None, "{date}");
        }
        let table = "| date | commit | suite | settings | time | result |\n|---|---|---|---|---|---|\n\
                     | 2026-11-22 | aaa | model |  | 48 s | FAILED |\n| 2026-11-28 | bbb | model | x | 30 s | passed |\n\
                     | 2026-11-29 | ccc | models |  | 1 s | passed |\n";
        assert_eq!(age_of("model", table, 20_787), "model: 2 days ago (2026-11-28, bbb, passed)");
        assert_eq!(age_of("kafka", table, 20_787), "kafka: never");
        assert_eq!(age_of("suite", table, 20_787), "suite: never");
    }

    #[test]
    fn tests_whose_output_is_not_counted_skip_nothing() {
        assert_eq!(TESTS.environment, Some(("FARRIER_REQUIRE_TOOLS", "1")));
    }

    #[test]
    fn closing_lines_are_added_up() {
        let log = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s\n\
                   noise\n  skipped: no strace\ntest result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured\n";
        let mut counts = Counts::default();
        count_tests(log, &mut counts);
        assert_eq!(counts, Counts { passed: 15, failed: 2, skipped: 2 });
    }
}
