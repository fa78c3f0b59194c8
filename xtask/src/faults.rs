//! `cargo xtask faults`: five servers in network namespaces, under load, through faults of links,
//! processes and disks.
//!
//! This module owns the bed and the measure of the longest gap; what is done to whom lies in `scenarios`.
//! The load's checker judges every run: no acknowledged write lost, none applied twice, no read that goes
//! back within a session, no session expired (each can always reach a server that serves), all servers
//! equal after the heal. Gaps are always printed, and asserted only where that is asked for.

mod gauge;
mod scenarios;

use crate::{ensemble, interop};
use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use farrier_testkit::apache::Apache;
use farrier_testkit::ensemble::{Members, Settings};
use farrier_testkit::load::Load;
use farrier_testkit::net::{self, Net};
use farrier_testkit::server::Target;
use gauge::Gauge;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Servers of the ensemble.
const SERVERS: usize = 5;
/// Clients that write.
const WRITERS: usize = 4;
/// Writes that must be acknowledged before, during and after each fault.
const BETWEEN: u64 = 100;
/// `tickTime`.
const TICK: Duration = Duration::from_secs(1);
/// How long a peer may be silent: `syncLimit` ticks, as the members are configured.
const SYNC_LIMIT: u32 = 5;
/// What is added to a bound on a gap where gaps are asserted: this machine may have other work.
const SLACK: Duration = Duration::from_secs(10);

/// Arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Scenarios; all by default
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Run Apache's servers instead: tells a fault of Farrier from one of the test
    #[arg(long)]
    apache: bool,
    /// Fail also where service came back much later than it should
    #[arg(long)]
    assert_gaps: bool,
    /// Farrier's binary; by default it is built first
    #[arg(long, env = "FARRIER_BIN", value_name = "FILE")]
    farrier: Option<PathBuf>,
    /// Copy directories and logs of a failed scenario here
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Scenario {
    /// The leader is cut off from the other servers, then from everybody
    LeaderCut,
    /// Two followers are cut off, then the leader with one follower
    MinorityCut,
    /// The leader can send and not receive, then receive and not send
    OneWay,
    /// The leader's link comes and goes
    Flapping,
    /// Everything between servers takes 200 ms each way, also an election
    Delay,
    /// One frame of ten is lost everywhere, also during an election
    Loss,
    /// The leader's process stands still, then a follower's
    Paused,
    /// The leader's disk is full, then a follower's
    FullDisk,
}

/// Runs scenarios; fails when one fails.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !net::is_isolated() {
        // Whatever must be built or fetched needs the machine's own network.
        if arguments.apache {
            Apache::newest()?;
            net::isolate(&[])?;
        } else {
            let binary = fs::canonicalize(interop::farrier(arguments.farrier.as_deref())?)?;
            net::isolate(&[("FARRIER_BIN", OsString::from(binary))])?;
        }
    }
    net::isolate(&[])?;
    let target = if arguments.apache {
        Target::Apache(Apache::newest()?)
    } else {
        Target::Farrier(arguments.farrier.clone().context("Farrier's binary is not told")?)
    };
    let net = Net::new(SERVERS)?;
    net.enter()?;
    let chosen = if arguments.scenarios.is_empty() { Scenario::value_variants() } else { &arguments.scenarios };
    let (mut passed, mut failed) = (0, 0);
    for scenario in chosen {
        let start = Instant::now();
        let name = scenario.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
        let result = in_bed(&net, &target, *scenario, &name, arguments);
        net.heal();
        let seconds = start.elapsed().as_secs();
        match result {
            Ok(seen) => {
                passed += 1;
                crate::say(&format!("ok   {name}: {seen} ({seconds} s)"));
            }
            Err(why) => {
                failed += 1;
                crate::say(&format!("FAIL {name}: {why:#} ({seconds} s)"));
            }
        }
    }
    crate::say(&format!("faults: {passed} passed, {failed} failed"));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts five servers, runs a scenario, and adds what the servers logged to a failure.
fn in_bed(net: &Net, target: &Target, scenario: Scenario, name: &str, arguments: &Arguments) -> Result<String> {
    let mut settings = Settings { tick_ms: u32::try_from(TICK.as_millis())?, ..Settings::default() };
    if scenario == Scenario::FullDisk {
        settings.zoo.retain(|line| !line.starts_with("preAllocSize="));
        settings.zoo.push("preAllocSize=64".to_owned());
    }
    if !target.is_farrier() {
        // While Apache replays what came behind a SNAP, it notes digests of states that never were.
        settings.flags.push("zookeeper.digest.enabled=false".to_owned());
    }
    let mut members = Members::at(&vec![(target.clone(), false); SERVERS], settings, |index| net.place(index))?;
    if scenario == Scenario::FullDisk {
        for index in 0..members.len() {
            net::mount_small(&members.data_dir(index), scenarios::SMALL_DISK)?;
        }
    }
    let result = (|| -> Result<String> {
        for index in 0..members.len() {
            members.spawn(index)?;
        }
        members.wait_serving().context("at the start")?;
        let load = Load::start(&members.addrs(), WRITERS)?;
        load.wait_progress(BETWEEN).context("before any fault")?;
        let mut bed = Bed { net, members: &mut members, load, assert_gaps: arguments.assert_gaps };
        let outcome = scenarios::run(&mut bed, scenario);
        outcome?;
        let verdict = ensemble::finish(bed.load, &mut members)?;
        for index in 0..members.len() {
            ensemble::check_log(&members, index)?;
        }
        Ok(verdict)
    })();
    if result.is_err()
        && let Some(keep) = &arguments.keep
    {
        copy(&members, &keep.join(name))?;
    }
    let result = result.map_err(|why| anyhow::anyhow!("{why:#}\n{}", members.logs()));
    if scenario == Scenario::FullDisk {
        for index in 0..members.len() {
            members.kill(index)?;
            net::unmount(&members.data_dir(index))?;
        }
    }
    result
}

fn copy(members: &Members, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let copied = Command::new("cp").arg("-a").arg(members.dir()).arg(to).status()?;
    ensure!(copied.success(), "the directories can't be kept in {}", to.display());
    Ok(())
}

/// Five servers that serve, and the load on them.
struct Bed<'a> {
    net: &'a Net,
    members: &'a mut Members,
    load: Load,
    assert_gaps: bool,
}

impl Bed<'_> {
    /// The leader, with all serving.
    fn leader(&mut self) -> Result<usize> {
        self.members.wait_serving()
    }

    /// All servers but these.
    fn others(&self, these: &[usize]) -> Vec<usize> {
        (0..self.members.len()).filter(|index| !these.contains(index)).collect()
    }

    /// Does something, lets it last, and wants writes to go on meanwhile. The longest gap between two
    /// acknowledged writes is printed.
    fn fault(
        &mut self,
        what: &str,
        bound: Option<Duration>,
        lasting: Duration,
        begin: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        let gauge = Gauge::start(&self.members.addrs())?;
        begin(self).with_context(|| format!("{what}: the beginning"))?;
        std::thread::sleep(lasting);
        let progress = self.load.wait_progress(BETWEEN).with_context(|| format!("while {what}"));
        let gap = gauge.end();
        let should = bound.map_or_else(String::new, |bound| format!(" (should be at most {} ms)", bound.as_millis()));
        crate::say(&format!("     {what}: {} ms without a write{should}", gap.as_millis()));
        progress?;
        if let Some(bound) = bound.filter(|_| self.assert_gaps) {
            ensure!(gap <= bound + SLACK, "{what}: no write for {gap:?}");
        }
        Ok(())
    }

    /// Makes all links whole and waits until everybody serves.
    fn heal(&mut self, what: &str) -> Result<()> {
        self.net.heal();
        self.members.wait_serving().with_context(|| format!("after {what}"))?;
        self.load.wait_progress(BETWEEN).with_context(|| format!("after {what}"))
    }
}

/// Where TCP reports the loss of a server.
fn reported() -> Duration {
    Duration::from_secs(1)
}

/// Where it doesn't.
fn silent() -> Duration {
    TICK * SYNC_LIMIT + Duration::from_secs(1)
}
