//! `cargo xtask ensemble`: ensembles of Apache and Farrier in every mixture, under load.
//!
//! This module owns the scenarios: which programs run as which members, who is killed, stopped, swapped
//! and when. What clients do meanwhile and what is checked lies in `farrier_testkit::load`. No duration is
//! asserted; every wait is bounded.

mod reconfig;
mod sync;

use crate::interop;
use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use farrier_proto::OpCode;
use farrier_testkit::apache::Apache;
use farrier_testkit::enc::body;
use farrier_testkit::ensemble::{Members, Mode, Settings};
use farrier_testkit::load::Load;
use farrier_testkit::raw::{Client, Connect, Sessions};
use farrier_testkit::server::Target;
use farrier_testkit::walk::{differences, mntr, walk};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// Clients that write.
const WRITERS: usize = 4;
/// Writes that must be acknowledged between two disturbances.
const BETWEEN: u64 = 100;
/// How long a paused process stands still: longer than its peers wait for it.
const PAUSE: Duration = Duration::from_secs(7);
/// What Apache logs when a digest is not the one that a transaction names.
const MISMATCH: &str = "Digests are not matching";
/// What Farrier logs then, with the zxid behind it.
const MISMATCH_HERE: &str = "digest mismatch at ";
/// What an Apache learner logs with a SNAP.
const TOOK_SNAPSHOT: &str = "Getting a snapshot from leader";
/// What Rust prints when an invariant is broken.
const PANIC: &str = "panicked at";

/// Arguments of the command.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Scenarios; all by default
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// How often every disturbance is repeated; with more than one, members are paused too
    #[arg(long, default_value_t = 1)]
    rounds: u32,
    /// Run Apache where the scenario says Farrier: tells a fault of Farrier from one of the test
    #[arg(long)]
    apache_alone: bool,
    /// The release of Apache to use, or the newest of a series like 3.8; by default the newest 3.9
    #[arg(long, value_name = "VERSION")]
    apache: Option<String>,
    /// Farrier's binary; by default it is built first
    #[arg(long, env = "FARRIER_BIN", value_name = "FILE")]
    farrier: Option<PathBuf>,
    /// Copy directories and logs of a failed scenario here
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Scenario {
    /// Three Apache servers
    Apache,
    /// Two Apache servers and a Farrier that follows them
    Follow,
    /// Two Farrier servers and an Apache that follows them
    Lead,
    /// A Farrier observes Apache servers, an Apache observes Farrier servers
    Observe,
    /// DIFF, TRUNC and SNAP from Apache to Farrier and from Farrier to Apache
    Sync,
    /// An Apache leader changes the members under a Farrier
    Reconfig,
    /// Three Apache servers become Farrier servers one by one, and Apache servers again
    Takeover,
    /// Three Farrier servers
    Three,
    /// Five Farrier servers
    Five,
}

/// What a scenario needs.
struct Bench<'a> {
    apache: Target,
    farrier: Target,
    rounds: u32,
    keep: Option<&'a Path>,
}

/// Runs scenarios; fails when one fails.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let apache = match &arguments.apache {
        Some(name) => Apache::named(name)?,
        None => Apache::newest()?,
    };
    let apache = Target::Apache(apache);
    let farrier = if arguments.apache_alone || arguments.scenarios == [Scenario::Apache] {
        apache.clone()
    } else {
        Target::Farrier(interop::farrier(arguments.farrier.as_deref())?)
    };
    let bench = Bench { apache, farrier, rounds: arguments.rounds.max(1), keep: arguments.keep.as_deref() };
    let chosen = if arguments.scenarios.is_empty() { Scenario::value_variants() } else { &arguments.scenarios };
    let (mut passed, mut failed) = (0, 0);
    for scenario in chosen {
        let start = Instant::now();
        let result = bench.scenario(*scenario);
        let name = scenario.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
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
    crate::say(&format!("ensemble: {passed} passed, {failed} failed"));
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Bench<'_> {
    /// The last voter of each list leads first.
    fn scenario(&self, scenario: Scenario) -> Result<String> {
        let (a, f) = (&self.apache, &self.farrier);
        match scenario {
            Scenario::Apache => self.rolling("apache", &[a, a, a], None),
            Scenario::Follow => self.rolling("follow", &[f, a, a], None),
            Scenario::Lead => self.lead(),
            Scenario::Observe => {
                let one = self.rolling("observe-farrier", &[a, a, a], Some(f))?;
                let other = self.rolling("observe-apache", &[f, f, f], Some(a))?;
                Ok(format!("Farrier observes: {one}; Apache observes: {other}"))
            }
            Scenario::Sync => sync::run(self),
            Scenario::Reconfig => reconfig::run(self),
            Scenario::Takeover => self.takeover(),
            Scenario::Three => self.rolling("three", &[f, f, f], None),
            Scenario::Five => self.rolling("five", &[f, f, f, f, f], None),
        }
    }

    /// Starts an ensemble, runs `body`, and on a failure adds what the servers logged.
    fn with<T>(
        &self,
        name: &str,
        voters: &[&Target],
        observer: Option<&Target>,
        settings: Settings,
        body: impl FnOnce(&mut Members) -> Result<T>,
    ) -> Result<T> {
        let voting = voters.iter().map(|&target| (target.clone(), false));
        let list: Vec<_> = voting.chain(observer.map(|target| (target.clone(), true))).collect();
        let mut members = Members::new(&list, settings)?;
        let result = (|| -> Result<T> {
            start_led_by(&mut members, voters.len() - 1, voters.len()).context("at the start")?;
            let found = body(&mut members)?;
            members.check_alive()?;
            for index in 0..members.len() {
                check_log(&members, index)?;
            }
            Ok(found)
        })();
        if result.is_err()
            && let Some(keep) = self.keep
        {
            let to = keep.join(name);
            fs::create_dir_all(&to)?;
            let copied = Command::new("cp").arg("-a").arg(members.dir()).arg(&to).status()?;
            ensure!(copied.success(), "the directories of {name} can't be kept in {}", to.display());
        }
        result.map_err(|why: anyhow::Error| anyhow::anyhow!("{name}: {why:#}\n{}", members.logs()))
    }

    /// Every member in turn is killed hard or stopped in order, and started again, under load.
    fn rolling(&self, name: &str, voters: &[&Target], observer: Option<&Target>) -> Result<String> {
        let settings = Settings { tick_ms: 1000, ..Settings::default() };
        self.with(name, voters, observer, settings, |members| {
            if observer.is_some() {
                let mode = members.wait_mode(members.len() - 1)?;
                ensure!(mode == Mode::Observer, "{} is {mode:?}", members.name(members.len() - 1));
            }
            let load = Load::start(&members.addrs(), WRITERS)?;
            load.wait_progress(BETWEEN)?;
            for round in 0..self.rounds {
                for index in 0..members.len() {
                    step(members, &load, index, (index + round as usize).is_multiple_of(2))?;
                }
                if self.rounds > 1 {
                    pause(members, &load, round % 2 == 0)?;
                }
            }
            finish(load, members)
        })
    }

    /// An Apache server follows Farrier servers; the first leader is one of ours.
    fn lead(&self) -> Result<String> {
        let (a, f) = (&self.apache, &self.farrier);
        let settings = Settings { tick_ms: 1000, ..Settings::default() };
        self.with("lead-multi", &[a, f, f], None, settings, multi_of_create2)?;
        self.rolling("lead", &[a, f, f], None)
    }

    /// Apache becomes Farrier and Apache again, one member after the other on its own directory.
    fn takeover(&self) -> Result<String> {
        let (a, f) = (&self.apache, &self.farrier);
        let settings = Settings { tick_ms: 1000, ..Settings::default() };
        self.with("takeover", &[a, a, a], None, settings, |members| {
            let load = Load::start(&members.addrs(), WRITERS)?;
            load.wait_progress(BETWEEN)?;
            for round in 0..self.rounds {
                for (to, hard) in [(f, false), (a, round % 2 == 1)] {
                    for index in 0..members.len() {
                        end(members, index, hard)?;
                        members.swap(index, to)?;
                        members.spawn(index)?;
                        members.wait_serving().with_context(|| format!("{} takes over", members.name(index)))?;
                        load.wait_progress(BETWEEN)?;
                    }
                }
            }
            finish(load, members)
        })
    }
}

/// Creates of the kind that answers with a stat, inside of a multi: older releases apply nothing of such a transaction, so a
/// leader of ours has to send them the other kind. Through each server in turn.
fn multi_of_create2(members: &mut Members) -> Result<()> {
    let kind = OpCode::Create2.code();
    for index in 0..members.len() {
        let mut client = Client::open(members.addr(index), &Connect::default(), &Sessions::default())?;
        let path = |half| format!("/multi-{index}-{half}");
        let request = body().op(kind).create(path('a'), b"", 0).op(kind).create(path('b'), b"", 0).end();
        client.call(OpCode::Multi, request)?.ok().with_context(|| format!("a multi on {}", members.name(index)))?;
        client.close()?;
    }
    let trees = (0..members.len()).map(|index| walk(members.addr(index))).collect::<Result<Vec<_>>>()?;
    for (index, tree) in trees.iter().enumerate() {
        let name = members.name(index);
        let found = differences(&trees[0], tree);
        ensure!(found.is_empty(), "{name} differs: {}", found.join("\n     "));
        let made = tree.keys().filter(|path| path.starts_with("/multi-")).count();
        ensure!(made == 2 * members.len(), "{name} has {made} of {} znodes", 2 * members.len());
    }
    Ok(())
}

/// Starts all members so that the voter with the highest number leads, if no other knows more: a majority
/// without reserve first, which can't form without it.
fn start_led_by(members: &mut Members, last: usize, voters: usize) -> Result<()> {
    let majority: Vec<usize> = (0..voters / 2).chain([last]).collect();
    for index in &majority {
        members.spawn(*index)?;
    }
    let leading = members.wait_serving_of(&majority)?;
    ensure!(leading == last, "{} leads instead of {}", members.name(leading), members.name(last));
    for index in (0..members.len()).filter(|index| !majority.contains(index)) {
        members.spawn(index)?;
    }
    members.wait_serving()?;
    Ok(())
}

/// Whether digests say anything. A network snapshot of Apache's is not of one moment, and what another Apache server
/// counts twice while it replays what came behind one stays in its digest. Trees are compared in any case.
fn digests_count(members: &Members) -> bool {
    let apache: Vec<usize> = (0..members.len()).filter(|&index| !members.target(index).is_farrier()).collect();
    apache.len() < 2 || !apache.iter().any(|&index| took_snapshot_later(&members.log(index)))
}

/// Whether an Apache server took a snapshot after it had first joined, when there was nothing to be written yet.
fn took_snapshot_later(log: &str) -> bool {
    log.lines().skip_while(|line| !line.contains("Learner received UPTODATE")).any(|line| line.contains(TOOK_SNAPSHOT))
}

/// That a server complained of nothing that must not be.
///
/// Even behind a snapshot of one moment Apache logs digests that don't match until it has replayed the rest.
pub(crate) fn check_log(members: &Members, index: usize) -> Result<()> {
    let name = members.name(index);
    let digests_count = digests_count(members);
    let log = members.log(index);
    let complaint = complaint_in(&log, digests_count);
    ensure!(complaint.is_none(), "{name} logged: {}", complaint.unwrap_or_default());
    // Since its last start.
    if digests_count && members.target(index).is_farrier() && members.is_started(index) {
        let count = mntr(members.addr(index), "zk_digest_mismatches_count")?;
        ensure!(count.as_deref() == Some("0"), "{name} counts {count:?} digest mismatches");
    }
    Ok(())
}

/// The first line that must not be in a server's log, over all its starts.
fn complaint_in(log: &str, digests_count: bool) -> Option<&str> {
    let mut replaying = false;
    log.lines().find(|line| {
        if line.contains(TOOK_SNAPSHOT) {
            replaying = true;
        } else if line.contains("Learner received NEWLEADER") {
            replaying = false;
        }
        let differs = line.contains(MISMATCH_HERE) || !replaying && line.contains(MISMATCH);
        digests_count && differs || line.contains(PANIC)
    })
}

fn end(members: &mut Members, index: usize, hard: bool) -> Result<()> {
    if hard { members.kill(index) } else { members.stop(index) }
}

/// One member goes and comes back; the others serve meanwhile.
fn step(members: &mut Members, load: &Load, index: usize, hard: bool) -> Result<()> {
    let how = if hard { "was killed" } else { "was stopped" };
    end(members, index, hard)?;
    members.wait_serving().with_context(|| format!("after {} {how}", members.name(index)))?;
    load.wait_progress(BETWEEN).with_context(|| format!("while {} is gone", members.name(index)))?;
    members.spawn(index)?;
    members.wait_serving().with_context(|| format!("{} {how} and started again", members.name(index)))?;
    load.wait_progress(BETWEEN).with_context(|| format!("after {} came back", members.name(index)))
}

/// One process stands still for longer than its peers wait for it.
fn pause(members: &mut Members, load: &Load, leader: bool) -> Result<()> {
    let leading = members.wait_serving()?;
    let index = if leader { leading } else { (leading + 1) % members.len() };
    members.pause(index)?;
    std::thread::sleep(PAUSE);
    let others: Vec<usize> = (0..members.len()).filter(|&i| i != index).collect();
    let found = members.wait_serving_of(&others);
    let progress = found.and_then(|_| load.wait_progress(BETWEEN));
    members.resume(index)?;
    progress.with_context(|| format!("while {} stood still", members.name(index)))?;
    members.wait_serving().with_context(|| format!("after {} went on", members.name(index)))?;
    load.wait_progress(BETWEEN)
}

/// The verdict on everything that the clients wrote.
pub(crate) fn finish(load: Load, members: &mut Members) -> Result<String> {
    members.wait_serving()?;
    let mut resting = load.rest()?;
    resting.compares_digests = digests_count(members);
    let addrs = members.addrs();
    let seen = resting.verify(&addrs)?;
    let (acknowledged, unknown) = resting.record.counts();
    let (refused, moves) = (resting.record.refused, resting.record.moves);
    resting.end(&addrs)?;
    Ok(format!(
        "{acknowledged} writes acknowledged, {refused} refused, {unknown} unknown, {moves} connections, {} znodes on \
         {} servers, {} digests compared",
        seen.znodes,
        addrs.len(),
        seen.digests
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_snapshots_behind_the_first_join_are_of_no_one_moment() {
        let (snap, joined) = (TOOK_SNAPSHOT, "Learner received UPTODATE message");
        assert!(!took_snapshot_later(&format!("{snap}\n{joined}\nbroadcast")));
        assert!(took_snapshot_later(&format!("{snap}\n{joined}\nbroadcast\n{snap}\n{joined}")));
        assert!(!took_snapshot_later(&format!("{joined}\nbroadcast")));
    }

    #[test]
    fn what_either_server_says_of_digests_is_a_complaint() {
        let apache = format!("ERROR {MISMATCH}. Last digest");
        let farrier =
            "WARN digest mismatch at 0x100000080: the leader's tree has 0x1, the one here 0x2. One of them is wrong";
        for line in [&apache, farrier] {
            let log = format!("{line}\nstarted again\n");
            assert_eq!(complaint_in(&log, true), Some(line));
            assert_eq!(complaint_in(&log, false), None);
        }
        let replayed = format!("{TOOK_SNAPSHOT}\n{apache}\nLearner received NEWLEADER message\n");
        assert_eq!(complaint_in(&replayed, true), None);
        assert_eq!(complaint_in("thread 'log' panicked at x.rs:1", false), Some("thread 'log' panicked at x.rs:1"));
    }
}
