//! Scripts: blocks of commands, each with its transcript.
//!
//! Set-up
//! - `ensemble 3`, `ensemble 3 observers 4`, `ensemble 5 groups 1,2,3 4,5 weights 4:0 5:2`: voters 1 to 3, or 5. First
//!   of all.
//! - `set window-txns 2`: a setting of every server that is started later. See [`set`].
//! - `disk 1 accepted 2 current 1 log 1:1..1:5 2:1`: what is on a disk before the start; also `snapshot 1:3` and
//!   `recovering history` (or `promise`, or `fresh`).
//! - `start`, `start 1 2`: all servers that are down, or some.
//! - `elect 3`: lets time pass until all that run serve under 3.
//!
//! Events
//! - `settle`: whatever can happen without time passing. `advance 200`: lets milliseconds pass.
//! - `propose 3 a b`: proposes transactions. `sync 1`: a client of 1 asks for a sync. `hand-over 3`. `diverge 1`: the
//!   state of 1 is not its leader's.
//! - `hold 3->1`, `release 3->1`, `deliver 3->1 2`: a direction of the learner channel. With `election` in front: of
//!   the election ports.
//! - `hold disk 1`, `release disk 1`, `complete 1 2`: writes.
//! - `cut 1 3`: breaks their link. `partition (3) (1,2)`, `heal`. `crash 1`: loses what is not complete.
//! - `snapshot 3`: takes one, and forgets the log that it covers.
//! - `forge 3->1 COMMIT 1:5`: what 3 did not send.
//!
//! Words
//! - `quiet`, `loud`; `show elections`, `show pings`.
//! - `status`, `disks`.

use crate::cluster::{Cluster, Tree};
use crate::print;
use bytes::Bytes;
use farrier_proto::quorum::LeaderPacket;
use farrier_proto::{ServerId, Zxid};
use farrier_zab::{QuorumVerifier, Recovering, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// How long `elect` waits, in milliseconds.
const ELECTION_MAX: u64 = 5000;

/// Runs a script and gives it back with the transcripts that it had.
pub(crate) fn run(text: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut cluster = None;
    let mut commands = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if line == "----" {
            for (number, command) in commands.drain(..) {
                execute(&mut cluster, command).map_err(|error| format!("line {number}: {command}: {error}"))?;
            }
            out.push_str("----\n");
            let lines_now = cluster.as_mut().map(|c: &mut Cluster| std::mem::take(&mut c.lines)).unwrap_or_default();
            if lines_now.is_empty() {
                out.push_str("ok\n");
            }
            for line in lines_now {
                writeln!(out, "{line}").expect("strings take everything");
            }
            // The transcript as it was.
            for (_, line) in lines.by_ref() {
                if line.is_empty() {
                    break;
                }
            }
            out.push('\n');
            continue;
        }
        if !line.is_empty() && !line.starts_with('#') {
            commands.push((number + 1, line));
        }
        writeln!(out, "{line}").expect("strings take everything");
    }
    if !commands.is_empty() {
        return Err("the last commands have no transcript".into());
    }
    while out.ends_with("\n\n") {
        out.pop();
    }
    Ok(out)
}

fn execute(cluster: &mut Option<Cluster>, command: &str) -> Result<(), String> {
    let words: Vec<_> = command.split_whitespace().collect();
    let (verb, args) = words.split_first().ok_or("no verb")?;
    if *verb == "ensemble" {
        *cluster = Some(ensemble(args)?);
        return Ok(());
    }
    let cluster = cluster.as_mut().ok_or("the first command is `ensemble`")?;
    match (*verb, args) {
        ("set", [key, value]) => set(cluster, key, value),
        ("disk", [id, rest @ ..]) => disk(cluster, server(id)?, rest),
        ("start", []) => {
            start_down(cluster);
            Ok(())
        }
        ("start", ids) => {
            let ids: Result<Vec<_>, _> = ids.iter().map(|id| server(id)).collect();
            cluster.start(&ids?);
            Ok(())
        }
        ("elect", [id]) => elect(cluster, server(id)?),
        ("settle", []) => {
            cluster.settle();
            Ok(())
        }
        ("advance", [ms]) => {
            cluster.advance(number(ms)?);
            Ok(())
        }
        ("propose", [id, texts @ ..]) => {
            let id = server(id)?;
            texts.iter().try_for_each(|text| cluster.propose(id, text))
        }
        ("sync", [id]) => cluster.sync(server(id)?, 1),
        ("hand-over", [id]) => cluster.hand_over(server(id)?),
        ("diverge", [id]) => cluster.diverge(server(id)?),
        ("hold", ["disk", ids @ ..]) => each(ids, |id| {
            cluster.hold_disk(id, true);
            Ok(())
        }),
        ("release", ["disk", ids @ ..]) => each(ids, |id| {
            cluster.hold_disk(id, false);
            Ok(())
        }),
        ("hold" | "release", ["election", directions @ ..]) => directions.iter().try_for_each(|direction| {
            let (from, to) = parse_direction(direction)?;
            cluster.hold_elections(from, to, *verb == "hold");
            Ok(())
        }),
        ("hold" | "release", directions) => directions.iter().try_for_each(|direction| {
            let (from, to) = parse_direction(direction)?;
            cluster.hold(from, to, *verb == "hold");
            Ok(())
        }),
        ("deliver", [direction, rest @ ..]) => {
            let (from, to) = parse_direction(direction)?;
            (0..count(rest)?).try_for_each(|_| cluster.deliver(from, to))
        }
        ("complete", [id, rest @ ..]) => {
            let id = server(id)?;
            (0..count(rest)?).try_for_each(|_| cluster.complete(id))
        }
        ("cut", [a, b]) => {
            cluster.cut(server(a)?, server(b)?);
            Ok(())
        }
        ("partition", groups) => {
            let groups: Result<Vec<_>, _> = groups.iter().map(|group| parse_group(group)).collect();
            cluster.partition(&groups?);
            Ok(())
        }
        ("heal", []) => {
            cluster.heal();
            Ok(())
        }
        ("crash", ids) => each(ids, |id| {
            cluster.crash(id);
            Ok(())
        }),
        ("snapshot", ids) => each(ids, |id| {
            cluster.snapshot(id);
            Ok(())
        }),
        ("forge", [direction, packet @ ..]) => {
            let (from, to) = parse_direction(direction)?;
            cluster.forge(from, to, parse_packet(packet)?)
        }
        ("quiet", []) => {
            cluster.quiet = true;
            Ok(())
        }
        ("loud", []) => {
            cluster.quiet = false;
            Ok(())
        }
        ("show", ["elections"]) => {
            cluster.elections_shown = true;
            Ok(())
        }
        ("show", ["pings"]) => {
            cluster.pings_shown = true;
            Ok(())
        }
        ("status", []) => {
            status(cluster);
            Ok(())
        }
        ("disks", []) => {
            disks(cluster);
            Ok(())
        }
        _ => Err("no such command".into()),
    }
}

fn ensemble(args: &[&str]) -> Result<Cluster, String> {
    let (voters, rest) = args.split_first().ok_or("how many voters?")?;
    let voters = (1..=number(voters)?.cast_signed()).map(ServerId).collect();
    let mut observers = BTreeSet::new();
    let (mut groups, mut weights) = (BTreeMap::new(), BTreeMap::new());
    let mut kind = "";
    for word in rest {
        match (kind, *word) {
            (_, "observers" | "groups" | "weights") => kind = word,
            ("observers", id) => {
                observers.insert(server(id)?);
            }
            ("groups", members) => {
                groups.insert(groups.len() as i64 + 1, parse_group(members)?);
            }
            ("weights", pair) => {
                let (id, weight) = pair.split_once(':').ok_or("weights ID:WEIGHT…")?;
                weights.insert(server(id)?, number(weight)?);
            }
            _ => return Err("ensemble N [observers ID…] [groups ID,… …] [weights ID:WEIGHT…]".into()),
        }
    }
    let verifier =
        if groups.is_empty() { QuorumVerifier::Majority } else { QuorumVerifier::Hierarchical { groups, weights } };
    Cluster::new(&voters, &observers, verifier)
}

fn set(cluster: &mut Cluster, key: &str, value: &str) -> Result<(), String> {
    let n = number(value)?;
    let small = || usize::try_from(n).map_err(|_| "too large".to_owned());
    let config = &mut cluster.config;
    match key {
        "tick-time" => config.tick_time = n,
        "init-limit" => config.init_limit = n,
        "sync-limit" => config.sync_limit = n,
        "window-txns" => config.window_txns = small()?,
        "window-bytes" => config.window_bytes = small()?,
        "counter-last" => config.counter_last = u32::try_from(n).map_err(|_| "too large")?,
        "log-diff-permille" => config.log_diff_permille = Some(n),
        "no-log-diff" => config.log_diff_permille = None,
        "force-snapshot-sync" => config.force_snapshot_sync = n != 0,
        _ => return Err("no such setting".into()),
    }
    Ok(())
}

fn disk(cluster: &mut Cluster, id: ServerId, mut args: &[&str]) -> Result<(), String> {
    let disk = &mut cluster.server(id).disk;
    while let Some((key, rest)) = args.split_first() {
        let (value, rest) = rest.split_first().ok_or("a value is missing")?;
        args = rest;
        match *key {
            "accepted" => disk.accepted = epoch(value)?,
            "current" => disk.current = epoch(value)?,
            "recovering" => {
                disk.recovering = match *value {
                    "fresh" => Recovering::Fresh,
                    "history" => Recovering::History,
                    "promise" => Recovering::Promise,
                    _ => return Err("recovering history, or promise".into()),
                }
            }
            "snapshot" => {
                let zxid = parse_zxid(value)?;
                let mut tree = Tree::default();
                for counter in 1..=zxid.counter() {
                    let zxid = Zxid::new(zxid.epoch(), counter);
                    tree.apply(zxid, old_txn(zxid));
                }
                disk.snapshot = tree;
            }
            "log" => {
                let mut value = Some(value);
                while let Some(range) = value {
                    let (from, to) = range.split_once("..").unwrap_or((range, range));
                    let (from, to) = (parse_zxid(from)?, parse_zxid(to)?);
                    for counter in from.counter()..=to.counter() {
                        let zxid = Zxid::new(from.epoch(), counter);
                        disk.log.push((zxid, old_txn(zxid)));
                    }
                    value = args.first().filter(|word| word.contains(':'));
                    if value.is_some() {
                        args = &args[1..];
                    }
                }
            }
            _ => return Err(format!("a disk has no {key}")),
        }
    }
    Ok(())
}

/// What a transaction from before a script says.
fn old_txn(zxid: Zxid) -> Bytes {
    Bytes::from(format!("old {}", print::zxid(zxid)))
}

fn start_down(cluster: &mut Cluster) {
    let down: Vec<_> = cluster.servers.iter().filter(|(_, s)| s.peer.is_none()).map(|(id, _)| *id).collect();
    cluster.start(&down);
}

fn elect(cluster: &mut Cluster, leader: ServerId) -> Result<(), String> {
    cluster.settle();
    let mut waited = 0;
    while cluster.servers.values().any(|server| server.peer.is_some() && server.role == Role::Looking) {
        if waited >= ELECTION_MAX {
            cluster.quiet = false;
            status(cluster);
            return Err(format!("not everybody serves:\n{}", cluster.lines.join("\n")));
        }
        cluster.advance(10);
        waited += 10;
    }
    match cluster.server(leader).role {
        Role::Leading { .. } => Ok(()),
        role => Err(format!("{leader} does not lead: {}", print::role(role))),
    }
}

fn status(cluster: &mut Cluster) {
    let mut lines = Vec::new();
    for (id, server) in &cluster.servers {
        let Some(peer) = &server.peer else {
            lines.push(format!("{id} is down"));
            continue;
        };
        let s = peer.status();
        let mut line = format!(
            "{id} {} {:?} · {} · logged {} delivered {}",
            print::state(s.state),
            s.phase,
            print::role(server.role),
            print::zxid(s.last_logged),
            print::zxid(s.delivered)
        );
        for learner in &s.learners {
            let kind = if learner.synced { "synced" } else { "behind" };
            let _ = write!(line, " · {} {kind} at {}", learner.server, print::zxid(learner.acked));
        }
        lines.push(line);
    }
    lines.into_iter().for_each(|line| cluster.line(line));
}

fn disks(cluster: &mut Cluster) {
    let mut lines = Vec::new();
    for (id, server) in &cluster.servers {
        let disk = &server.disk;
        let mut line = format!("{id} accepted e{} current e{}", disk.accepted, disk.current);
        if disk.snapshot.zxid != Zxid::ZERO {
            let _ = write!(line, " snapshot {}", print::zxid(disk.snapshot.zxid));
        }
        match disk.recovering {
            Recovering::No => {}
            Recovering::Fresh => line.push_str(" fresh"),
            Recovering::History => line.push_str(" recovering history"),
            Recovering::Promise => line.push_str(" recovering promise"),
        }
        line.push_str(" log");
        let mut log = disk.log.iter().map(|(zxid, _)| *zxid).peekable();
        while let Some(first) = log.next() {
            let mut last = first;
            while let Some(next) = log.next_if(|next| last.next() == Some(*next)) {
                last = next;
            }
            let _ = write!(line, " {}", print::zxid(first));
            if last != first {
                let _ = write!(line, "..{}", print::zxid(last));
            }
        }
        if disk.log.is_empty() {
            line.push_str(" empty");
        }
        lines.push(line);
    }
    lines.into_iter().for_each(|line| cluster.line(line));
}

// ---- words ----

fn each(ids: &[&str], mut act: impl FnMut(ServerId) -> Result<(), String>) -> Result<(), String> {
    if ids.is_empty() {
        return Err("which server?".into());
    }
    ids.iter().try_for_each(|id| act(server(id)?))
}

fn number(word: &str) -> Result<u64, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}

fn epoch(word: &str) -> Result<u32, String> {
    word.parse().map_err(|_| format!("{word} is no epoch"))
}

fn count(words: &[&str]) -> Result<u64, String> {
    match words {
        [] => Ok(1),
        [n] => number(n),
        _ => Err("one number at most".into()),
    }
}

fn server(word: &str) -> Result<ServerId, String> {
    word.parse().map(ServerId).map_err(|_| format!("{word} is no server"))
}

fn parse_zxid(word: &str) -> Result<Zxid, String> {
    let (e, c) = word.split_once(':').ok_or_else(|| format!("{word} is no zxid"))?;
    Ok(Zxid::new(epoch(e)?, epoch(c)?))
}

fn parse_direction(word: &str) -> Result<(ServerId, ServerId), String> {
    let (from, to) = word.split_once("->").ok_or_else(|| format!("{word} is no direction"))?;
    Ok((server(from)?, server(to)?))
}

fn parse_group(word: &str) -> Result<BTreeSet<ServerId>, String> {
    word.trim_matches(['(', ')']).split(',').map(server).collect()
}

fn parse_packet(words: &[&str]) -> Result<LeaderPacket, String> {
    Ok(match words {
        ["PROPOSAL", z] => LeaderPacket::Proposal { zxid: parse_zxid(z)?, txn: Bytes::from_static(b"forged") },
        ["COMMIT", z] => LeaderPacket::Commit { zxid: parse_zxid(z)? },
        ["TRUNC", z] => LeaderPacket::Trunc { zxid: parse_zxid(z)? },
        ["NEWLEADER", z] => LeaderPacket::NewLeader { zxid: parse_zxid(z)?, config: Bytes::new() },
        ["UPTODATE"] => LeaderPacket::UpToDate,
        ["LEADERINFO", e] => {
            LeaderPacket::LeaderInfo { epoch: epoch(e)?, protocol_version: 0x10000, cumulative: false }
        }
        _ => return Err("no such packet".into()),
    })
}
