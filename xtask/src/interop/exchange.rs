//! `cargo xtask exchange`: one data directory goes back and forth between Apache ZooKeeper and Farrier.
//!
//! In each round a server starts on the directory as the one before left it. What it shows over the wire
//! has to equal, in every field of every znode, what the one before showed; the sessions that were left
//! open are re-attached; then every kind of change is written, and the server is stopped, in turn hard
//! and orderly. Apache has its digest check on, and its own tools read the files that Farrier wrote.

use super::tools::{self, Tools};
use super::{Report, config, damage, dump, program};
use anyhow::{Context as _, Result, anyhow, ensure};
use clap::{Args, ValueEnum};
use farrier_testkit::apache::Apache;
use farrier_testkit::raw::four_letter_word;
use farrier_testkit::server::{Config, Server, Target};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Nothing is swept while rounds are compared.
const SWEEP_NEVER_MS: u64 = 3_600_000;
/// Then everything that is due is.
const SWEEP_SOON_MS: u64 = 200;
/// Small, so that a round writes several logs and snapshots.
const SNAP_COUNT: &str = "snapCount=300";
/// Rounds where only Apache's way to write snapshots differs: there, back, and on.
const ROUNDS_COMPRESSED: usize = 3;
/// How long the sweeper may take to remove what is due.
const SWEPT_MAX: Duration = Duration::from_secs(60);
/// What Apache writes into its log when a tree's digest is not the one that a transaction or snapshot names.
const MISMATCH: &str = "Digests are not matching";

/// Arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How Apache writes its snapshots; by default every way in turn
    #[arg(value_enum)]
    snapshots: Vec<Snapshots>,
    /// Only Apache, on its own files: tells a fault of Farrier from one of the test
    #[arg(long)]
    apache_alone: bool,
    /// Farrier's binary; by default it is built first
    #[arg(long, env = "FARRIER_BIN", value_name = "FILE")]
    farrier: Option<PathBuf>,
    /// Copy the directory of a failed exchange here
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Snapshots {
    /// Not compressed
    Plain,
    /// gzip
    Gz,
    /// Snappy
    Snappy,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stop {
    Kill,
    Term,
}

/// Runs the exchanges; fails when a check fails.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let tools = Tools::open()?;
    let apache = Target::Apache(Apache::newest()?);
    let other = if arguments.apache_alone {
        apache.clone()
    } else {
        Target::Farrier(tools::farrier(arguments.farrier.as_deref())?)
    };
    let chosen =
        if arguments.snapshots.is_empty() { Snapshots::value_variants().to_vec() } else { arguments.snapshots.clone() };
    let mut report = Report::default();
    for snapshots in chosen {
        let start = Instant::now();
        report.say(format_args!("exchange with {snapshots:?} snapshots"))?;
        let mut exchange = Exchange::new(&tools, snapshots, arguments.keep.as_deref())?;
        if let Err(e) = exchange.run(&apache, &other, &mut report) {
            report.check(format_args!("exchange {snapshots:?}"), Err::<&str, _>(e))?;
        }
        report.say(format_args!("exchange with {snapshots:?} snapshots: {} s\n", start.elapsed().as_secs()))?;
    }
    report.say(format_args!("exchange: {} checks passed, {} failed", report.passed, report.failed))?;
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One directory on its way.
struct Exchange<'t> {
    tools: &'t Tools,
    snapshots: Snapshots,
    keep: Option<&'t Path>,
    /// Dumps and the list of open sessions; the data directory belongs to the server.
    notes: tempfile::TempDir,
}

impl<'t> Exchange<'t> {
    fn new(tools: &'t Tools, snapshots: Snapshots, keep: Option<&'t Path>) -> Result<Self> {
        Ok(Self { tools, snapshots, keep, notes: tempfile::tempdir()? })
    }

    fn run(&mut self, apache: &Target, other: &Target, report: &mut Report) -> Result<()> {
        let plan = [
            (apache, Stop::Kill),
            (other, Stop::Kill),
            (apache, Stop::Kill),
            (other, Stop::Term),
            (apache, Stop::Term),
            (other, Stop::Kill),
        ];
        let rounds = if self.snapshots == Snapshots::Plain { plan.len() } else { ROUNDS_COMPRESSED };
        let failed = report.failed;
        let mut server = Server::start(apache, &self.config(SWEEP_NEVER_MS))?;
        let result = (1..).zip(plan.into_iter().take(rounds)).try_for_each(|(round, (target, stop))| {
            // The one that did not write them replays all of a round's logs.
            let reader = if round % 2 == 0 { apache } else { other };
            self.round(round, target, stop, reader, &mut server, report)
        });
        let result = result.and_then(|()| {
            self.sweep(other, &mut server, report)?;
            self.sweep(apache, &mut server, report)
        });
        if let Some(keep) = self.keep
            && (result.is_err() || report.failed > failed)
        {
            server.kill()?;
            let to = keep.join(format!("{:?}", self.snapshots));
            copy_dir(&server.data_dir(), &to.join("data"))?;
            copy_dir(self.notes.path(), &to.join("notes"))?;
            report.say(format_args!("     kept {}", to.display()))?;
        }
        result
    }

    fn round(
        &self,
        round: u32,
        target: &Target,
        stop: Stop,
        reader: &Target,
        server: &mut Server,
        report: &mut Report,
    ) -> Result<()> {
        let name = format!("round {round}, {}", target.name());
        let logged = server.log().len();
        if round > 1 {
            server.restart_as(target).with_context(|| name.clone())?;
        }
        let started_at = zxids(&server.data_dir().join("version-2"), "snapshot.")?.into_iter().max();
        self.read_and_write(round, &name, server, report).with_context(|| name.clone())?;
        if !target.is_farrier() {
            report.check(format_args!("{name}: digest check"), digests(server, logged))?;
        }
        match stop {
            Stop::Kill => server.kill()?,
            Stop::Term => program::stop(server)?,
        }
        report.say(format_args!("     {name}: stopped by {stop:?}"))?;
        if round.is_multiple_of(2) {
            self.read_files(&name, server, report)?;
        }
        if let Some(started_at) = started_at {
            self.replay(round, started_at, reader, server, report)?;
        }
        if round == 2 {
            self.plant(started_at, reader, server, report)?;
        }
        Ok(())
    }

    fn config(&self, sweep_ms: u64) -> Config {
        let mut config = config(sweep_ms, &[SNAP_COUNT]);
        config.flags.extend(match self.snapshots {
            Snapshots::Plain => None,
            Snapshots::Gz => Some("zookeeper.snapshot.compression.method=gz".to_owned()),
            Snapshots::Snappy => Some("zookeeper.snapshot.compression.method=snappy".to_owned()),
        });
        config
    }

    fn read_and_write(&self, round: u32, name: &str, server: &mut Server, report: &mut Report) -> Result<()> {
        let before = self.notes.path().join(format!("dump-{}", round - 1));
        let start = self.notes.path().join("dump-at-start");
        let after = self.notes.path().join(format!("dump-{round}"));
        let sessions = self.notes.path().join("sessions");
        if round > 1 {
            self.java("Inspect", &[&start], server, report)?;
            report.check(format_args!("{name}: shows what was there"), dump::compare(&before, &start))?;
            let attached = self.java_with("Attach", &[sessions.as_os_str(), "1".as_ref()], server, report);
            report.check(
                format_args!("{name}: open sessions re-attached, one closed"),
                attached.and_then(|end| {
                    ensure!(end.failed == 0, "{} of {} sessions", end.failed, end.passed + end.failed);
                    Ok(format!("{} sessions", end.passed))
                }),
            )?;
        }
        let written = self.java_with("Fill", &[round.to_string().as_ref(), sessions.as_os_str()], server, report)?;
        report.check(format_args!("{name}: writes of every kind"), Ok(format!("{} writes", written.passed)))?;
        self.java("Inspect", &[&after], server, report)?;
        report.check(format_args!("{name}: files"), self.files(server))
    }

    /// Demands several logs and snapshots, and a log that goes on behind the newest snapshot.
    fn files(&self, server: &Server) -> Result<String> {
        let dir = server.data_dir().join("version-2");
        let logs = zxids(&dir, "log.")?;
        let snapshots = zxids(&dir, "snapshot.")?;
        let srvr = four_letter_word(server.addr(), "srvr")?;
        let zxid = srvr.lines().find_map(|l| l.strip_prefix("Zxid: 0x")).context("srvr names no zxid")?;
        let last = u64::from_str_radix(zxid.trim(), 16)?;
        let newest = snapshots.iter().max().context("no snapshot")?;
        let suffix = match self.snapshots {
            Snapshots::Plain => "",
            Snapshots::Gz => ".gz",
            Snapshots::Snappy => ".snappy",
        };
        let mut names = fs::read_dir(&dir)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        ensure!(
            names.any(|name| name.starts_with("snapshot.") && name.ends_with(suffix)),
            "no snapshot ends with {suffix}"
        );
        ensure!(logs.len() > 1, "only one log");
        ensure!(snapshots.len() > 1, "only one snapshot");
        ensure!(*newest < last, "no tail: the newest snapshot is at {newest:x}, the last transaction {last:x}");
        Ok(format!("{} logs, {} snapshots, tail {newest:x}..{last:x}", logs.len(), snapshots.len()))
    }

    /// Apache's own tools on every log and snapshot of the directory.
    fn read_files(&self, name: &str, server: &mut Server, report: &mut Report) -> Result<()> {
        let dir = server.data_dir().join("version-2");
        let mut java = self.tools.java()?;
        java.arg("farrier.interop.Tools").arg(&dir);
        let end = program::run(java, server, report, true);
        report.check(
            format_args!("{name}: Apache's log and snapshot tools"),
            end.and_then(|end| {
                ensure!(end.failed == 0, "{} complaints", end.failed);
                Ok(format!("{} runs without complaint", end.passed))
            }),
        )
    }

    /// On a copy without the snapshots of this round: another server gets to the same tree by replaying
    /// every transaction of the round, and if it is Apache, with every digest equal to its own.
    fn replay(&self, round: u32, started_at: u64, reader: &Target, server: &Server, report: &mut Report) -> Result<()> {
        let name = format!("round {round} replayed from {started_at:x} by {}", reader.name());
        let dir = copy_without_snapshots(&server.data_dir(), started_at)?;
        let mut copy = Server::start_in(reader, &self.config(SWEEP_NEVER_MS), dir).with_context(|| name.clone())?;
        let replayed = self.notes.path().join("dump-replayed");
        self.java("Inspect", &[&replayed], &mut copy, report).with_context(|| name.clone())?;
        let want = self.notes.path().join(format!("dump-{round}"));
        report.check(format_args!("{name}: same tree"), dump::compare(&want, &replayed))?;
        if !reader.is_farrier() {
            report.check(format_args!("{name}: digest check"), digests(&copy, 0))?;
        }
        Ok(())
    }

    /// The digest check can fail: one wrong digest, planted into a copy, is noticed.
    fn plant(&self, started_at: Option<u64>, apache: &Target, server: &Server, report: &mut Report) -> Result<()> {
        let started_at = started_at.context("no snapshot to replay from")?;
        let dir = copy_without_snapshots(&server.data_dir(), started_at)?;
        let logs = dir.path().join("data/version-2");
        let last = zxids(&logs, "log.")?.into_iter().max().context("no log")?;
        let planted = damage::wrong_digest(&logs.join(format!("log.{last:x}")))?;
        let copy = Server::start_in(apache, &self.config(SWEEP_NEVER_MS), dir)?;
        report.check(
            format_args!("a wrong digest planted at {planted:x}"),
            match digests(&copy, 0) {
                Ok(_) => Err(anyhow!("Apache does not notice")),
                Err(why) => Ok(format!("noticed: {why:#}")),
            },
        )
    }

    /// On a copy: containers and TTL nodes, of whichever server, go when they are due, and only then.
    fn sweep(&self, target: &Target, server: &mut Server, report: &mut Report) -> Result<()> {
        let dir = tempfile::tempdir()?;
        copy_dir(&server.data_dir(), &dir.path().join("data"))?;
        let mut copy = Server::start_in(target, &self.config(SWEEP_SOON_MS), dir)?;
        let swept = self.notes.path().join("dump-swept");
        let end = Instant::now() + SWEPT_MAX;
        let verdict = loop {
            self.java("Inspect", &[&swept], &mut copy, report)
                .with_context(|| format!("sweep by {}", target.name()))?;
            let tree = dump::read(&swept)?;
            let count =
                |name: &str| tree.keys().filter(|path| path.starts_with("/fill/") && path.ends_with(name)).count();
            let due = count("/container-used") + count("/ttl-short");
            if due == 0 {
                let rounds = count("/tail");
                let stay = ["/container", "/container-new", "/ttl", "/ttl-max"].map(|name| (name, count(name)));
                // The multi of each round made one more container and one more TTL node.
                let want = [2 * rounds, rounds, 2 * rounds, rounds];
                break if stay.map(|(_, n)| n) == want {
                    Ok(format!("{rounds} rounds' due nodes went, the others stay"))
                } else {
                    Err(anyhow!("of {rounds} rounds, what stays is {stay:?}"))
                };
            }
            if Instant::now() > end {
                break Err(anyhow!("{due} nodes are due and stay"));
            }
        };
        report.check(format_args!("sweep, {}: containers and TTL nodes", target.name()), verdict)
    }

    fn java(&self, class: &str, files: &[&Path], server: &mut Server, report: &mut Report) -> Result<()> {
        let arguments: Vec<_> = files.iter().map(|f| f.as_os_str()).collect();
        self.java_with(class, &arguments, server, report).map(|_| ())
    }

    fn java_with(
        &self,
        class: &str,
        arguments: &[&std::ffi::OsStr],
        server: &mut Server,
        report: &mut Report,
    ) -> Result<program::End> {
        let mut java: Command = self.tools.java()?;
        java.arg(format!("farrier.interop.{class}")).arg(server.addr().to_string()).args(arguments);
        program::run(java, server, report, true).with_context(|| class.to_owned())
    }
}

/// Apache's own view of its digests: nothing in its log since `logged`, and its counter.
fn digests(server: &Server, logged: usize) -> Result<String> {
    let log = server.log();
    if let Some(line) = log[logged..].lines().find(|line| line.contains(MISMATCH)) {
        return Err(anyhow!("{line}"));
    }
    let mntr = four_letter_word(server.addr(), "mntr")?;
    let count = mntr
        .lines()
        .find_map(|line| line.strip_prefix("zk_digest_mismatches_count\t"))
        .context("mntr has no zk_digest_mismatches_count")?;
    ensure!(count.trim() == "0", "{count} mismatches counted");
    Ok("no mismatch in the log, 0 counted".to_owned())
}

/// The zxids in the names of the files that begin so.
fn zxids(dir: &Path, prefix: &str) -> Result<Vec<u64>> {
    let mut zxids = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let name = entry?.file_name();
        let Some(rest) = name.to_str().and_then(|n| n.strip_prefix(prefix)) else { continue };
        let hex = rest.split('.').next().unwrap_or_default();
        zxids.push(u64::from_str_radix(hex, 16).with_context(|| format!("{prefix}{rest}"))?);
    }
    Ok(zxids)
}

/// A copy of a data directory without the snapshots that are newer than `zxid`.
fn copy_without_snapshots(data: &Path, zxid: u64) -> Result<tempfile::TempDir> {
    let dir = tempfile::tempdir()?;
    let to = dir.path().join("data");
    copy_dir(data, &to)?;
    for entry in fs::read_dir(to.join("version-2"))? {
        let path = entry?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let Some(hex) = name.strip_prefix("snapshot.").and_then(|rest| rest.split('.').next()) else { continue };
        if u64::from_str_radix(hex, 16).with_context(|| name.to_owned())? > zxid {
            fs::remove_file(&path)?;
        }
    }
    Ok(dir)
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        let target = to.join(path.file_name().context("a file without a name")?);
        if path.is_dir() {
            copy_dir(&path, &target)?;
        } else {
            fs::copy(&path, &target).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}
