//! `cargo xtask applications`: big programs that keep their state in ZooKeeper go on, unchanged, while three Apache
//! servers under them become Farrier servers one by one, and Apache servers again.
//!
//! This module owns the takeover and the verdict on the programs' sessions: every ephemeral znode that they had when it
//! began is there at the end and belongs to the same session. What was lost of their own data is the workload's verdict.

mod hbase;
mod kafka;
mod workload;

use super::tools::{self, Tools};
use super::{Report, Verdict};
use crate::ensemble::check_log;
use anyhow::{Context as _, Result, anyhow, ensure};
use clap::{Args, ValueEnum};
use farrier_testkit::apache::Apache;
use farrier_testkit::ensemble::{Members, Settings};
use farrier_testkit::raw::{Client, Connect, Sessions};
use farrier_testkit::server::Target;
use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;
use workload::{Program, Workload};

/// Members of the ensemble.
const SERVERS: usize = 3;
/// What a ZooKeeper client logs when its session is lost, in any of the programs.
const LOST: [&str; 2] = ["has expired", "Session expired"];

/// Arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Programs to run; by default all
    #[arg(value_enum)]
    applications: Vec<Application>,
    /// The release of Apache to use, or the newest of a series like 3.8; by default the newest 3.9
    #[arg(long, value_name = "VERSION")]
    apache: Option<String>,
    /// Run Apache where Farrier should take over: tells a fault of Farrier from one of the test
    #[arg(long)]
    apache_alone: bool,
    /// Farrier's binary; by default it is built first
    #[arg(long, env = "FARRIER_BIN", value_name = "FILE")]
    farrier: Option<PathBuf>,
    /// Copy directories and logs of a failed run here
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Application {
    /// A Kafka broker in ZooKeeper mode
    Kafka,
    /// HBase's master and region server
    Hbase,
}

/// What runs on an ensemble: its processes, and who puts them to work.
struct Running {
    programs: Vec<Program>,
    workload: Workload,
}

impl Application {
    const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Hbase => "hbase",
        }
    }

    fn start(self, class_path: &str, dir: &Path, servers: &[SocketAddr]) -> Result<Running> {
        match self {
            Self::Kafka => kafka::start(class_path, dir, servers),
            Self::Hbase => hbase::start(class_path, dir, servers),
        }
    }

    /// What the workload does over and over; each has to go on between two steps.
    const fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Kafka => &["record", "topic"],
            Self::Hbase => &["row", "scan", "table"],
        }
    }

    /// Ephemeral znodes stand right below these, at least one below each.
    const fn parents(self) -> &'static [&'static str] {
        match self {
            Self::Kafka => &[kafka::ROOT, "/kafka/brokers/ids"],
            Self::Hbase => &[hbase::ROOT, "/hbase/rs"],
        }
    }
}

/// Runs the programs; fails when a check fails.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let tools = Tools::open()?;
    let apache = Target::Apache(match &arguments.apache {
        Some(name) => Apache::named(name)?,
        None => Apache::newest()?,
    });
    let other = if arguments.apache_alone {
        apache.clone()
    } else {
        Target::Farrier(tools::farrier(arguments.farrier.as_deref())?)
    };
    let chosen = if arguments.applications.is_empty() {
        Application::value_variants().to_vec()
    } else {
        arguments.applications.clone()
    };
    let mut report = Report::default();
    for application in chosen {
        let start = Instant::now();
        let class_path = tools.class_path(application.name(), &["workload"])?;
        let steps = [&apache, &other, &apache];
        if let Err(e) = takeover(application, &class_path, steps, &mut report, arguments.keep.as_deref()) {
            report.check(application.name(), Err::<&str, _>(e))?;
        }
        report.say(format_args!("{} on {}: {} s\n", application.name(), apache.name(), start.elapsed().as_secs()))?;
    }
    report.say(format_args!("applications: {} checks passed, {} failed", report.passed, report.failed))?;
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One ensemble, one program, every target of `steps` in turn on every member.
fn takeover(
    application: Application,
    class_path: &str,
    steps: [&Target; 3],
    report: &mut Report,
    keep: Option<&Path>,
) -> Result<()> {
    let [first, others @ ..] = steps;
    let dir = tempfile::Builder::new().prefix("farrier-application-").tempdir()?;
    let mut members = Members::start(&vec![(first.clone(), false); SERVERS], Settings::default())?;
    let mut running = application.start(class_path, dir.path(), &members.addrs())?;
    let failed = report.failed;
    let result = (|| -> Result<()> {
        running.progress(application).context("before the takeover")?;
        let before = ephemerals(members.addr(0), application)?;
        for target in others {
            for index in 0..members.len() {
                let what = format!("{} becomes {}", members.name(index), target.name());
                let begun = Instant::now();
                members.stop(index)?;
                members.swap(index, target)?;
                members.spawn(index)?;
                members.wait_serving().with_context(|| what.clone())?;
                running.progress(application).with_context(|| what.clone())?;
                report.say(format_args!("     {what} ({} s)", begun.elapsed().as_secs()))?;
            }
        }
        for verdict in running.workload.end()? {
            report.check(&verdict.name, verdict.outcome.map_err(|why| anyhow!("{why}")))?;
        }
        for index in 0..members.len() {
            let kept = same(&before, &ephemerals(members.addr(index), application)?);
            report.check(format_args!("sessions as {} shows them", members.name(index)), kept)?;
        }
        report.check("no session was lost by any log", running.lost())?;
        members.check_alive()?;
        for index in 0..members.len() {
            check_log(&members, index)?;
        }
        Ok(())
    })();
    if (result.is_err() || report.failed > failed)
        && let Some(keep) = keep
    {
        let to = keep.join(application.name());
        fs::create_dir_all(&to)?;
        let copied = Command::new("cp").arg("-a").args([members.dir(), dir.path()]).arg(&to).status()?;
        ensure!(copied.success(), "directories can't be kept in {}", to.display());
    }
    result.map_err(|why| anyhow!("{why:#}\n{}{}", running.logs(), members.logs()))
}

impl Running {
    /// Waits until the workload did everything again, with all programs alive.
    fn progress(&mut self, application: Application) -> Result<()> {
        self.workload.wait_progress(application.kinds(), &mut self.programs)
    }

    /// That no log tells of a session that was lost.
    fn lost(&self) -> Result<String> {
        let logs = self.programs.iter().map(Program::log).chain([self.workload.log()]);
        let mut lines = 0;
        for log in logs {
            for line in log?.lines() {
                lines += 1;
                ensure!(!LOST.iter().any(|word| line.contains(word)), "{line}");
            }
        }
        Ok(format!("{lines} lines"))
    }

    fn logs(&self) -> String {
        let programs: String = self.programs.iter().map(Program::tail).collect();
        programs + &self.workload.tail()
    }
}

/// Ephemeral znodes of the program, and the session that owns each.
fn ephemerals(addr: SocketAddr, application: Application) -> Result<BTreeMap<String, i64>> {
    let mut client = Client::open(addr, &Connect::default(), &Sessions::default())?;
    client.sync("/")?.ok().context("sync")?;
    let mut found = BTreeMap::new();
    for parent in application.parents() {
        let before = found.len();
        for name in client.children(parent, false)?.ok().with_context(|| (*parent).to_owned())?.names()? {
            let path = format!("{parent}/{name}");
            let reply = client.exists(&path, false)?;
            // What is not ephemeral may go at any time.
            if reply.err == 0 && reply.stat()?.ephemeral_owner != 0 {
                found.insert(path, reply.stat()?.ephemeral_owner);
            }
        }
        ensure!(found.len() > before, "{parent} has no ephemeral child");
    }
    client.close()?;
    Ok(found)
}

/// That every ephemeral is still there and belongs to the same session.
fn same(before: &BTreeMap<String, i64>, now: &BTreeMap<String, i64>) -> Result<String> {
    for (path, owner) in before {
        let seen = now.get(path).map_or_else(|| "gone".to_owned(), |owner| format!("owned by session 0x{owner:x}"));
        ensure!(now.get(path) == Some(owner), "{path}, once owned by session 0x{owner:x}, is {seen}");
    }
    Ok(before.iter().map(|(path, owner)| format!("{path} 0x{owner:x}")).collect::<Vec<_>>().join(", "))
}

/// What the programs connect to.
fn quorum(servers: &[SocketAddr]) -> String {
    servers.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_znode_that_went_or_changed_hands_is_told() {
        let one = |owner| BTreeMap::from([("/a".to_owned(), owner)]);
        assert_eq!(same(&one(7), &one(7)).unwrap(), "/a 0x7");
        assert!(same(&one(7), &one(8)).unwrap_err().to_string().contains("owned by session 0x8"));
        assert!(same(&one(7), &BTreeMap::new()).unwrap_err().to_string().contains("is gone"));
        assert!(same(&BTreeMap::new(), &one(1)).is_ok(), "a new one harms nothing");
    }
}
