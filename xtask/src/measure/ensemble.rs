//! `cargo xtask measure ensemble`: three servers of one kind beside three of the other.
//!
//! It owns the rows' names, how long each takes, and the report. Both ensembles of a row stand on the same
//! disk and take turns; the one whose turn it isn't is idle.

mod failover;
mod join;
mod members;
mod requests;
mod writer;

use super::process::CONFIGURATION;
use super::rates::Spec;
use super::work::{self, Kind};
use super::{Common, heading};
use anyhow::{Result, bail, ensure};
use clap::Args;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Rows of requests. Connections are spread over the servers, so their number divides by three.
const ROWS: &[Spec] = &[
    Spec { name: "set-1", kind: Kind::Set, depth: 1, conns: 63 },
    Spec { name: "set-64", kind: Kind::Set, depth: 64, conns: 15 },
    Spec { name: "get-1", kind: Kind::Get, depth: 1, conns: 63 },
    Spec { name: "get-64", kind: Kind::Get, depth: 64, conns: 15 },
    Spec { name: "mix-1", kind: Kind::Mix, depth: 1, conns: 63 },
    Spec { name: "mix-64", kind: Kind::Mix, depth: 64, conns: 15 },
];

/// Arguments of the command.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What to measure: set-1, set-64, get-1, get-64, mix-1, mix-64 (the number is the depth), failover,
    /// join-behind, join-empty; without a name everything
    #[arg(value_name = "ROW")]
    rows: Vec<String>,
    /// A smoke: every row stays below a minute, and no figure means much
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    amounts: Amounts,
    #[command(flatten)]
    common: Common,
}

/// What is said about how much; the rest is the default, or a smoke's.
#[derive(Debug, Default, Args)]
struct Amounts {
    /// Times that each row of requests and each join is measured; 3 by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Seconds of each row of requests that count; 8 by default
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// Seconds of all rows' load on every ensemble before anything counts; 30 by default
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=600))]
    warm: Option<u64>,
    /// Seconds of that load on an Apache ensemble after a kill, before the next; 30 by default
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=600))]
    warm_again: Option<u64>,
    /// Leaders to kill; 20 by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    kills: Option<u32>,
    /// Transactions that a follower misses, in tens of thousands; 100,000 by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    behind: Option<u32>,
    /// Znodes that an empty follower has to get; 1,000,000 by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    znodes: Option<u32>,
}

/// What is measured of the rest.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Parts {
    failover: bool,
    behind: bool,
    empty: bool,
}

/// How much of everything.
#[derive(Debug)]
struct Options {
    /// Times that a row of requests, or a join, is measured.
    rounds: u32,
    /// What counts of a row of requests.
    window: Duration,
    /// Load on an ensemble before anything counts.
    warm: Duration,
    /// Load on an Apache ensemble with a server that was just started, before the next kill.
    warm_again: Duration,
    kills: u32,
    /// Transactions that a follower misses.
    behind: u32,
    /// Znodes that an empty follower has to get.
    znodes: u32,
    /// What counts of the writes before a join.
    before: Duration,
    dir: PathBuf,
}

impl Options {
    fn new(quick: bool, amounts: &Amounts, dir: PathBuf) -> Self {
        let usual = |usual: u64, smoke: u64| if quick { smoke } else { usual };
        let seconds = |told: Option<u64>, usual| Duration::from_secs(told.unwrap_or(usual));
        Self {
            rounds: amounts.rounds.unwrap_or(if quick { 1 } else { 3 }),
            window: seconds(amounts.seconds, usual(8, 1)),
            warm: seconds(amounts.warm, usual(30, 10)),
            warm_again: seconds(amounts.warm_again, usual(30, 2)),
            kills: amounts.kills.unwrap_or(if quick { 2 } else { 20 }),
            behind: amounts.behind.unwrap_or(if quick { 20_000 } else { 100_000 }),
            znodes: amounts.znodes.unwrap_or(if quick { 100_000 } else { 1_000_000 }),
            before: Duration::from_secs(usual(10, 2)),
            dir,
        }
    }
}

/// Measures and prints the report.
pub(super) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let (rows, parts) = choose(&arguments.rows)?;
    let options = Options::new(arguments.quick, &arguments.amounts, arguments.common.dir()?);
    ensure!(
        options.behind.is_multiple_of(work::KEYS),
        "--behind {}: a follower misses whole rounds over {} znodes; write a multiple of that",
        options.behind,
        work::KEYS
    );
    let programs = arguments.common.programs()?;
    let mut report = heading("Measurements of three servers", &options.dir, &programs)?;
    report.push_str(&format!(
        "- configuration of all, besides directories, ports and the list of servers: `{} {}`; everything else is \
         default\n\
         - {} s of load on every ensemble before anything counts; median (least–most)\n",
        CONFIGURATION.join(" "),
        members::CONFIGURATION.join(" "),
        options.warm.as_secs(),
    ));
    if arguments.quick {
        report.push_str("- **a smoke: no figure here means much**\n");
    }
    report.push('\n');
    if !rows.is_empty() {
        report.push_str(&format!(
            "Requests: {} rounds of {} s; values of {} bytes, {} znodes read and set; 63 connections at depth 1, 15 at \
             depth 64, a third of them on each server. One thread generates the load; every reply is checked, and after \
             each row that writes every acknowledged write is read back from every server.\n\n",
            options.rounds,
            options.window.as_secs(),
            work::VALUE_LEN,
            work::KEYS,
        ));
        report.push_str(&requests::run(&options, &programs, &rows)?);
    }
    if parts.failover {
        report.push_str(&failover::run(&options, &programs)?);
    }
    if parts.behind || parts.empty {
        report.push_str(&join::run(&options, &programs, parts)?);
    }
    arguments.common.publish(&mut report)?;
    Ok(ExitCode::SUCCESS)
}

fn choose(names: &[String]) -> Result<(Vec<Spec>, Parts)> {
    if names.is_empty() {
        return Ok((ROWS.to_vec(), Parts { failover: true, behind: true, empty: true }));
    }
    let mut rows = Vec::new();
    let mut parts = Parts::default();
    for name in names.iter().flat_map(|n| n.split(',')) {
        match name {
            "failover" => parts.failover = true,
            "join-behind" => parts.behind = true,
            "join-empty" => parts.empty = true,
            other => match ROWS.iter().find(|row| row.name == other) {
                Some(row) => rows.push(*row),
                None => bail!("there is no row {other:?}"),
            },
        }
    }
    Ok((rows, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_name_and_all_by_default() {
        let (rows, parts) = choose(&[]).unwrap();
        assert_eq!(rows.len(), ROWS.len());
        assert!(parts.failover && parts.behind && parts.empty);
        let (rows, parts) = choose(&["set-64,failover".to_owned(), "get-1".to_owned()]).unwrap();
        assert_eq!(rows.iter().map(|r| r.name).collect::<Vec<_>>(), ["set-64", "get-1"]);
        assert_eq!(parts, Parts { failover: true, ..Parts::default() });
        choose(&["set-65".to_owned()]).unwrap_err();
    }

    #[test]
    fn amounts_that_are_told_count_in_a_smoke_too() {
        let told = Amounts { kills: Some(7), seconds: Some(5), ..Amounts::default() };
        for (quick, rounds) in [(true, 1), (false, 3)] {
            let options = Options::new(quick, &told, PathBuf::new());
            assert_eq!((options.kills, options.window, options.rounds), (7, Duration::from_secs(5), rounds));
        }
    }

    #[test]
    fn connections_spread_evenly_and_have_keys_of_their_own() {
        for row in ROWS {
            assert!(row.conns.is_multiple_of(members::SERVERS), "{}", row.name);
            assert!(row.conns <= work::CREATE_PARENTS as usize, "{}", row.name);
        }
    }
}
