//! `cargo xtask compare`: Farrier beside Apache ZooKeeper and etcd on this machine, in one run, in turns.
//!
//! It owns the order of things and the report. All write to the same disk and sync every write; what each is told is
//! printed. What counts as good stands in the table of lines.

mod etcd;
mod failover;
mod figures;
mod footprint;
mod idle;
mod join;
mod lines;
mod probe;
mod requests;
mod snapshot;

pub(crate) use probe::{Arguments as ProbeArguments, run as probe};

use crate::measure::{Common, farrier, heading, note};
use crate::report::{Table, number};
use crate::servers::{self, Program, Stage};
use anyhow::{Context as _, Result, ensure};
use clap::Args;
use etcd::{Etcd, Members};
use farrier_bench::failover::SESSIONS;
use farrier_bench::plan::{GENERATOR_BUSY, allow_connections};
use farrier_testkit::apache::Apache;
use figures::{Figures, Metric, Who};
use requests::{Contest, ROWS, Row};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Connections that this process and the servers may need.
const CONNS_MAX: u32 = 12_000;
/// Bytes that have to be free where the servers' directories are; the largest are those of a million znodes that are set
/// all the time.
const ROOM: u64 = 20 << 30;
/// The rows that are no requests, with the lines' rows that each fills.
const PARTS: [(&str, &[&str]); 5] = [
    ("idle3-6000", &["idle3-6000"]),
    ("failover", &["failover-survivor", "failover-leader", "failover-return"]),
    ("empty", &["rss-empty", "start-empty"]),
    ("full", &["rss-full", "rss-snapshot", "snapshot", "start-full"]),
    ("join", &["join-behind", "join-empty", "rss-snap"]),
];

/// Arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only these rows, separated by commas; without one, all
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    row: Vec<String>,
    /// A smoke: every row once, for a second, and no figure means much
    #[arg(long)]
    quick: bool,
    /// Times that each row is measured; 3 by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// Seconds of each row that count; 4 by default
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// Seconds of requests on Apache and Farrier before anything counts; locks, sessions and events have three eighths of that
    /// on top; 30 by default
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=600))]
    warm: Option<u64>,
    /// Seconds of that load after a kill on an ensemble of Apache's, one of whose processes is new then, and of sets on an
    /// Apache server that was restarted for a turn beside snapshots; 30 by default
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=600))]
    warm_again: Option<u64>,
    /// Leaders to kill; 20 by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
    kills: Option<u32>,
    /// Znodes of a full server; 1,000,000 by default
    #[arg(long, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    znodes: Option<u32>,
    /// Leave etcd out
    #[arg(long)]
    without_etcd: bool,
    /// Flags of Apache's JVM; by default the heap of its own scripts, about twice the live set of a million
    /// znodes
    #[arg(long, default_value = "-Xmx1000m", allow_hyphen_values = true, value_name = "FLAGS")]
    jvm: String,
    #[command(flatten)]
    common: Common,
}

/// How much of everything.
#[derive(Debug)]
struct Options {
    rounds: u32,
    window: Duration,
    warm: Duration,
    warm_again: Duration,
    kills: u32,
    znodes: u32,
    /// Transactions that a follower misses.
    behind: u32,
    /// How long sets go on in a turn with snapshots, and in one without.
    beside_snapshot: Duration,
    dir: PathBuf,
}

impl Options {
    fn new(arguments: &Arguments, dir: PathBuf) -> Self {
        let quick = arguments.quick;
        let or = |told: Option<u32>, usual, smoke| told.unwrap_or(if quick { smoke } else { usual });
        let seconds =
            |told: Option<u64>, usual, smoke| Duration::from_secs(told.unwrap_or(if quick { smoke } else { usual }));
        Self {
            rounds: or(arguments.rounds, 3, 1),
            window: seconds(arguments.seconds, 4, 1),
            warm: seconds(arguments.warm, 30, 4),
            warm_again: seconds(arguments.warm_again, 30, 1),
            kills: or(arguments.kills, 20, 1),
            znodes: or(arguments.znodes, 1_000_000, 20_000),
            behind: or(None, 100_000, 10_000),
            beside_snapshot: seconds(None, 10, 3),
            dir,
        }
    }
}

/// Measures, and prints the report.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let (rows, parts) = choose(&arguments.row)?;
    let options = Options::new(arguments, arguments.common.dir()?);
    servers::end_on_signals()?;
    allow_connections(CONNS_MAX)?;
    if !arguments.quick {
        enough_room(&options.dir)?;
    }
    let jvm: Vec<String> = arguments.jvm.split_ascii_whitespace().map(str::to_owned).collect();
    let apache = Apache::newest()?;
    let apache_name = format!("Apache {}", apache.version);
    let etcd_name = format!("etcd {}", etcd::SERVER.trim_start_matches('v'));
    let etcd = if arguments.without_etcd { None } else { Some(Etcd::fetch()?) };
    let programs = [
        (Who::Farrier, Program::Farrier(farrier(&arguments.common)?)),
        (Who::Apache, Program::Apache { release: apache, jvm: jvm.clone() }),
    ];
    let mut report = heading("Farrier beside Apache ZooKeeper and etcd", &options.dir)?;
    report.push_str(&told(&options, &apache_name, &etcd_name, &jvm));
    if arguments.quick {
        report.push_str("- **a smoke: no figure here means much**\n");
    }
    let mut figures = Figures::new(options.rounds);
    let mut notes = String::new();
    let mut failed = false;
    // What went wrong in one part takes nothing from the others: a run is long.
    let mut part = |name: &str, done: Result<String>| -> Result<()> {
        match done {
            Ok(told) => notes.push_str(&told),
            Err(error) => {
                failed = true;
                note(&format!("{error:?}"))?;
                notes.push_str(&format!("- **{name} ended early**: {error}: {}\n", error.root_cause()));
            }
        }
        Ok(())
    };
    for size in [1, 3] {
        let of_size: Vec<&Row> = rows.iter().filter(|row| row.size == size).copied().collect();
        if !of_size.is_empty() {
            let done = requests(&options, &programs, etcd.as_ref(), size, &of_size, &mut figures);
            part(&format!("requests to {size}"), done)?;
        }
    }
    if parts.contains(&"idle3-6000") {
        part("idle sessions", idle_sessions(&options, &programs, &mut figures))?;
    }
    if parts.contains(&"failover") {
        part("failover", failovers(&options, &programs, &mut figures))?;
    }
    if parts.contains(&"empty") {
        part("empty", starts(&options, &programs, etcd.as_ref(), &mut figures))?;
    }
    if parts.contains(&"full") {
        part("full", footprint::full(&options, &programs, &mut figures))?;
    }
    if parts.contains(&"join") {
        part("join", footprint::joins(&options, &programs, &mut figures))?;
    }
    report.push_str(&notes);
    report.push_str(&servers::unrest());
    report.push_str(&format!("\n## Targets\n\n{}", lines::table(&figures, &apache_name, &etcd_name)));
    report.push_str(&everything(&figures));
    arguments.common.publish(&mut report)?;
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Servers stop on a full disk, and half an hour of measuring is lost.
fn enough_room(dir: &Path) -> Result<()> {
    let stat = rustix::fs::statvfs(dir).with_context(|| format!("how much is free in {}", dir.display()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    ensure!(
        free >= ROOM,
        "{} GiB are free in {}, and the servers' logs and snapshots take up to {} GiB: make room, or name another \
         directory with --dir",
        free >> 30,
        dir.display(),
        ROOM >> 30
    );
    Ok(())
}

fn idle_sessions(options: &Options, programs: &[(Who, Program)], figures: &mut Figures) -> Result<String> {
    for round in 0..options.rounds {
        for turn in 0..programs.len() {
            let (who, program) = &programs[(turn + round as usize) % programs.len()];
            idle::sample(options, *who, program, figures)?;
        }
    }
    Ok(String::new())
}

fn starts(
    options: &Options,
    programs: &[(Who, Program)],
    etcd: Option<&Etcd>,
    figures: &mut Figures,
) -> Result<String> {
    for round in 0..options.rounds {
        for turn in 0..programs.len() {
            let (who, program) = &programs[(turn + round as usize) % programs.len()];
            footprint::empty(options, *who, program, figures)?;
        }
        if let Some(etcd) = etcd {
            footprint::empty_etcd(options, etcd, figures)?;
        }
    }
    Ok(String::new())
}

/// What stands above the table.
fn told(options: &Options, apache: &str, etcd: &str, jvm: &[String]) -> String {
    format!(
        "- {apache}, JVM flags `{}`; {etcd}, loaded by its own tool `benchmark` {}\n\
         - configuration of Farrier and Apache, besides directories and ports: `{}`, three servers `{}`; of etcd: none; \
         everything else is default, so all three sync every write before they acknowledge it\n\
         - {} rounds of {} s for each row after {} s of requests of eight kinds and {:.0} s of locks, sessions and events; median \
         (least–most), with n where there are fewer samples than rounds; all servers are at rest before each, unless it is told \
         below; who goes first changes from round to round; N × M: N connections with M requests outstanding each; values of {} \
         bytes, {} znodes read and set; full: {} znodes; {} leaders killed, with {} s of load on Apache's after each, and ahead of \
         each turn of its sets beside snapshots, which are spread over all of the full server's znodes\n\
         - Farrier and Apache: one thread generates the load and checks every reply; after each row of requests that write, \
         every acknowledged write is read from every server, and behind the turns beside snapshots once; of what a follower that \
         joins has to have, only its number is looked at; every watcher has to hear of every write once, and no two contenders may hold \
         the lock at once; of sessions, only the replies are looked at. etcd: its \
         revision on every member has grown by what was acknowledged\n\
         - memory of an idle session: what resident memory of three fresh servers, started for each sample, grows by from 1,000 to \
         6,000 sessions, for each; a JVM's growth is also what it has not collected; – where it did not grow\n\
         - etcd has no equal for children, watches by connection, locks, sessions and the rest that says –; its reads are of \
         one key, a multi is a transaction of ten puts, and three members have one key, since its tool's mix reads the whole \
         space; its tool runs one goroutine for each request outstanding, and its latency in the mix is the reads'\n",
        jvm.join(" "),
        etcd::BENCHMARK.trim_start_matches('v'),
        servers::CONFIGURATION.join(" "),
        servers::ENSEMBLE.join(" "),
        options.rounds,
        options.window.as_secs(),
        options.warm.as_secs(),
        options.warm.as_secs_f64() * 0.375,
        servers::VALUE_LEN,
        number(f64::from(servers::KEYS)),
        number(f64::from(options.znodes)),
        options.kills,
        options.warm_again.as_secs(),
    )
}

/// The rows and the parts of these names; all without a name.
fn choose(names: &[String]) -> Result<(Vec<&'static Row>, Vec<&'static str>)> {
    let of_parts = || PARTS.iter().map(|(name, _)| *name);
    for name in names {
        ensure!(
            ROWS.iter().any(|row| row.name == name) || of_parts().any(|part| part == name),
            "there is no row {name}; there are {}",
            ROWS.iter().map(|row| row.name).chain(of_parts()).collect::<Vec<_>>().join(", ")
        );
    }
    let chosen = |name: &str| names.is_empty() || names.iter().any(|n| n == name);
    Ok((ROWS.iter().filter(|row| chosen(row.name)).collect(), of_parts().filter(|name| chosen(name)).collect()))
}

fn requests(
    options: &Options,
    programs: &[(Who, Program)],
    etcd: Option<&Etcd>,
    size: usize,
    rows: &[&Row],
    figures: &mut Figures,
) -> Result<String> {
    let mut stages = Vec::new();
    for (who, program) in programs {
        stages.push((*who, Stage::warmed(program, &options.dir, size, options.warm)?));
    }
    let etcd = match etcd {
        Some(etcd) => Some(Members::start(etcd, &options.dir, size)?.0),
        None => None,
    };
    let mut contest = Contest { stages, etcd };
    for round in 0..options.rounds {
        // The floors belong to the rounds that are compared with them.
        probe::measure(figures, &options.dir, options.window.min(Duration::from_secs(2)), size)?;
        for row in rows {
            contest.run(row, round, options.window, figures)?;
        }
    }
    // Apache warns about every connection that breaks.
    let farrier = contest.stages.iter().filter(|(who, _)| *who == Who::Farrier);
    Ok(farrier.map(|(_, stage)| stage.ensemble.complaints()).collect())
}

fn failovers(options: &Options, programs: &[(Who, Program)], figures: &mut Figures) -> Result<String> {
    let mut stages = Vec::new();
    for (who, program) in programs {
        stages.push((*who, Stage::warmed(program, &options.dir, 3, options.warm)?));
    }
    for kill in 1..=options.kills {
        for turn in 0..stages.len() {
            let index = (turn + kill as usize) % stages.len();
            let (who, stage) = &mut stages[index];
            if kill > 1 && *who == Who::Apache {
                // One of the processes is new.
                stage.warm(options.warm_again)?;
            }
            servers::rest()?;
            let gaps = failover::kill_leader(stage, kill)
                .with_context(|| stage.ensemble.obituary())
                .with_context(|| format!("{}, kill {kill}", stage.name()))?;
            let ms = |gap: Duration| gap.as_secs_f64() * 1e3;
            figures.add("failover-survivor", *who, Metric::P50Ms, ms(gaps[0].died));
            figures.add("failover-leader", *who, Metric::P50Ms, ms(gaps[1].died));
            figures.add("failover-return", *who, Metric::P50Ms, ms(gaps[0].returned.max(gaps[1].returned)));
            note(&format!(
                "failover {kill:5} {:14} {} ms {}, {} ms {}",
                stage.name(),
                number(ms(gaps[0].died)),
                SESSIONS[0],
                number(ms(gaps[1].died)),
                SESSIONS[1],
            ))?;
        }
    }
    Ok(String::new())
}

/// Every figure there is, and whose load generator was the limit.
fn everything(figures: &Figures) -> String {
    let mut table = Table::new(&["row", "whose", "what", "median (least–most)"]);
    let mut bound = Vec::new();
    for (row, who, metric, samples) in figures.all() {
        table.row(&[row.to_owned(), format!("{who:?}"), metric.name().to_owned(), figures.shown(samples)]);
        if metric == Metric::Generator && who != Who::Etcd && samples.median() > GENERATOR_BUSY {
            bound.push(format!("{row} of {who:?}"));
        }
    }
    let mut text = format!("\n## Every figure\n\n{}", table.text());
    if !bound.is_empty() {
        text.push_str(&format!(
            "\nThe load generator used more than {:.0} % of a CPU, so that the server may be faster than that: {}.\n",
            GENERATOR_BUSY * 100.0,
            bound.join(", ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_name_and_all_by_default() {
        let (rows, parts) = choose(&[]).unwrap();
        assert_eq!((rows.len(), parts.len()), (ROWS.len(), PARTS.len()));
        let (rows, parts) = choose(&["set-16x64".to_owned(), "full".to_owned()]).unwrap();
        assert_eq!(rows.iter().map(|row| row.name).collect::<Vec<_>>(), ["set-16x64"]);
        assert_eq!(parts, ["full"]);
        choose(&["set-65".to_owned()]).unwrap_err();
    }

    #[test]
    fn every_line_of_the_table_is_filled_by_some_row() {
        let filled: Vec<&str> =
            ROWS.iter().map(|row| row.name).chain(PARTS.iter().flat_map(|(_, rows)| rows.iter().copied())).collect();
        for row in lines::rows() {
            assert!(filled.contains(&row), "{row} is never measured");
        }
        for row in filled {
            assert!(lines::rows().any(|line| line == row), "no line shows {row}");
        }
    }
}
