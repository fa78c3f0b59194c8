//! A learner that comes back behind the others or with a history of its own: DIFF, SNAP and TRUNC, from Apache to Farrier and
//! from Farrier to Apache.
//!
//! What was sent is told by the Apache server of the pair, in its log.

use super::Bench;
use anyhow::{Context as _, Result, ensure};
use farrier_proto::OpCode;
use farrier_testkit::enc::body;
use farrier_testkit::ensemble::{Members, Settings};
use farrier_testkit::load::Load;
use farrier_testkit::raw::{Client, Connect, Sessions};
use farrier_testkit::server::Target;
use farrier_testkit::walk::{Tree, differences, walk};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// More transactions than a leader keeps in memory, and more bytes of log than it reads for a DIFF.
const MANY: usize = 700;
/// A few.
const FEW: usize = 20;
/// What an Apache leader logs with a SNAP.
const SENT_SNAPSHOT: &str = "Sending snapshot last zxid";
/// How long something that was sent may take to be in a file.
const LOGGED_MAX: Duration = Duration::from_secs(60);

pub(super) fn run(bench: &Bench<'_>) -> Result<String> {
    let (a, f) = (&bench.apache, &bench.farrier);
    for (name, learner, others) in [("sync-to-farrier", f, a), ("sync-to-apache", a, f)] {
        // A leader has to log its tail before it gives up its silent followers, however busy the machine is.
        let settings = Settings { tick_ms: 1000, sync_limit: 60, ..Settings::default() };
        // The learner stands last, so that it leads first: only a leader gets a tail of its own.
        bench.with(name, &[others, others, learner], None, settings, |members| cycle(members, learner))?;
    }
    Ok("DIFF, TRUNC and SNAP both ways".to_owned())
}

/// The member that comes back.
const LEARNER: usize = 2;

fn cycle(members: &mut Members, learner: &Target) -> Result<()> {
    write(members, LEARNER, "before", FEW)?;
    tail_of_its_own(members, "/alone", false)?;
    if learner.is_farrier() {
        // Apache doesn't log that it sends a TRUNC; it logs the only other way to be rid of a tail.
        let snapshot = (0..LEARNER).any(|index| members.log(index).contains(SENT_SNAPSHOT));
        ensure!(!snapshot, "Apache sent a SNAP where a TRUNC was due");
    } else {
        let begun = vec![0; members.len()];
        logged_by_apache(members, learner, &begun, &["Truncating log to get in sync"]).context("TRUNC")?;
    }

    // Apache sends a TRUNC only as long as nothing was committed in the new epoch, and a SNAP after that.
    for index in 0..members.len() {
        members.kill(index)?;
    }
    super::start_led_by(members, LEARNER, members.len())?;
    tail_of_its_own(members, "/epoch-before", true)?;

    members.stop(LEARNER)?;
    let leading = members.wait_serving()?;
    write(members, leading, "diff", FEW)?;
    let before = log_lengths(members);
    come_back(members, "DIFF")?;
    // To the third server: the others were sent one to each other as well.
    let parts: &[&str] =
        if learner.is_farrier() { &["Sending DIFF", "peer sid: 3"] } else { &["Getting a diff from the leader"] };
    logged_by_apache(members, learner, &before, parts).context("DIFF")?;

    // A server on an empty directory can only be given everything.
    members.stop(LEARNER)?;
    let leading = members.wait_serving()?;
    write(members, leading, "snap", MANY)?;
    members.wipe(LEARNER)?;
    let before = log_lengths(members);
    come_back(members, "SNAP")?;
    let line = if learner.is_farrier() { SENT_SNAPSHOT } else { super::TOOK_SNAPSHOT };
    logged_by_apache(members, learner, &before, &[line]).context("SNAP")?;

    // And what it was given is good for a life as leader.
    let load = Load::start(&members.addrs(), 2)?;
    load.wait_progress(FEW as u64)?;
    super::step(members, &load, 0, true)?;
    super::step(members, &load, 1, true)?;
    super::finish(load, members)?;
    Ok(())
}

/// The leader logs what nobody else ever hears of, dies, and comes back to a new epoch, in which others
/// may have written already.
fn tail_of_its_own(members: &mut Members, name: &str, others_wrote: bool) -> Result<()> {
    // Its session outlives this: an expiry would be a transaction of the new epoch.
    let ask = Connect { timeout: 60_000, ..Connect::default() };
    let mut client = Client::open(members.addr(LEARNER), &ask, &Sessions::default())?;
    for index in 0..LEARNER {
        members.pause(index)?;
    }
    for n in 0..FEW {
        client.send(OpCode::Create.code(), body().create(format!("{name}-{n}"), b"", 0))?;
    }
    wait_logged(&members.data_dir(LEARNER), format!("{name}-{}", FEW - 1).as_bytes())?;
    // Paused processes die without having read what their sockets hold.
    for index in [LEARNER, 0, 1] {
        members.kill(index)?;
    }
    for index in 0..LEARNER {
        members.spawn(index)?;
    }
    let leading = members.wait_serving()?;
    if others_wrote {
        write(members, leading, "instead", FEW)?;
    }
    let tree = come_back(members, "tail")?;
    ensure!(!tree.keys().any(|path| path.starts_with(name)), "{name}-N, which nobody acknowledged, came back");
    Ok(())
}

/// Starts the learner again and compares all trees.
fn come_back(members: &mut Members, how: &str) -> Result<Tree> {
    members.spawn(LEARNER)?;
    members.wait_serving().with_context(|| format!("{how}: {} comes back", members.name(LEARNER)))?;
    let first = walk(members.addr(0))?;
    for index in 1..members.len() {
        let found = differences(&first, &walk(members.addr(index))?);
        ensure!(found.is_empty(), "{how}: {} differs: {}", members.name(index), found.join("\n     "));
    }
    Ok(first)
}

/// Creates znodes through one server and waits for all answers.
fn write(members: &Members, index: usize, name: &str, count: usize) -> Result<()> {
    let mut client = Client::open(members.addr(index), &Connect::default(), &Sessions::default())?;
    for n in 0..count {
        client.send(OpCode::Create.code(), body().create(format!("/{name}-{n}"), &[b'x'; 100], 0))?;
    }
    for _ in 0..count {
        client.reply()?.ok()?;
    }
    client.close()?;
    Ok(())
}

/// Waits until some log below `data` holds `bytes`.
fn wait_logged(data: &Path, bytes: &[u8]) -> Result<()> {
    let deadline = Instant::now() + LOGGED_MAX;
    while Instant::now() < deadline {
        for entry in fs::read_dir(data.join("version-2"))? {
            let path = entry?.path();
            let is_log = path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("log."));
            if is_log && fs::read(&path)?.windows(bytes.len()).any(|w| w == bytes) {
                return Ok(());
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("{:?} never came to the log", String::from_utf8_lossy(bytes))
}

/// How much every member has logged so far.
fn log_lengths(members: &Members) -> Vec<usize> {
    (0..members.len()).map(|index| members.log(index).len()).collect()
}

/// A line with all of `parts` is in the log of an Apache server, the learner's own or, if that is Farrier, another's, behind
/// what it had logged before.
fn logged_by_apache(members: &Members, learner: &Target, before: &[usize], parts: &[&str]) -> Result<()> {
    let mut which = if learner.is_farrier() { 0..LEARNER } else { LEARNER..LEARNER + 1 };
    let found = which.any(|index| is_logged_behind(&members.log(index), before[index], parts));
    ensure!(found, "no Apache server logged {parts:?} then");
    Ok(())
}

fn is_logged_behind(log: &str, before: usize, parts: &[&str]) -> bool {
    let new = log.get(before..).unwrap_or_default();
    new.lines().any(|line| parts.iter().all(|part| line.contains(part)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_logged_then_and_to_that_server_counts() {
        let earlier = "Sending DIFF zxid=0x100000002 for peer sid: 3\n";
        let parts = ["Sending DIFF", "peer sid: 3"];
        let behind = |rest: &str| is_logged_behind(&format!("{earlier}{rest}"), earlier.len(), &parts);
        assert!(behind("x\nSending DIFF zxid=0x200000001  for peer sid: 3\n"));
        assert!(!behind("Sending DIFF zxid=0x200000001 for peer sid: 1\nStart forwarding 0x1 for peer sid: 3\n"));
        assert!(!behind(""));
    }
}
