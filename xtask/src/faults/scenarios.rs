//! What is done to whom.

use super::{Bed, Scenario, reported, silent};
use anyhow::{Context as _, Result, bail, ensure};
use farrier_testkit::ensemble::{Members, Mode};
use farrier_testkit::net::Way;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Size of the disks that become full, in bytes.
pub(super) const SMALL_DISK: u64 = 24 << 20;
/// How long a silent fault lasts: longer than peers wait for each other.
const LASTING: Duration = Duration::from_secs(8);
/// For how long a flapping link is gone and there, in turn. Some are shorter and some longer than peers wait.
const FLAPS_MS: [u64; 12] = [300, 700, 1500, 1000, 6000, 500, 100, 100, 3000, 2000, 5200, 3000];
/// How much later everything arrives.
const LATE: Way = Way { cut: false, loss_percent: 0, delay: Duration::from_millis(200) };
/// How much is lost.
const LOSSY: Way = Way { cut: false, loss_percent: 10, delay: Duration::ZERO };
/// How long a server may take to notice that its disk is full, with writes coming.
const NOTICED_MAX: Duration = Duration::from_secs(240);
/// How long one that no longer serves may take to end.
const ENDING_MAX: Duration = Duration::from_secs(5);
/// Time between two looks at it.
const LOOK: Duration = Duration::from_millis(50);
/// What fills a disk.
const BALLAST: &str = "ballast";

pub(super) fn run(bed: &mut Bed<'_>, scenario: Scenario) -> Result<()> {
    match scenario {
        Scenario::LeaderCut => leader_cut(bed),
        Scenario::MinorityCut => minority_cut(bed),
        Scenario::OneWay => one_way(bed),
        Scenario::Flapping => flapping(bed),
        Scenario::Delay => everywhere(bed, "everything takes 200 ms", LATE, false),
        Scenario::Loss => everywhere(bed, "one frame of ten is lost", LOSSY, true),
        Scenario::Paused => paused(bed),
        Scenario::FullDisk => full_disk(bed),
    }
}

fn leader_cut(bed: &mut Bed<'_>) -> Result<()> {
    for with_clients in [false, true] {
        let leader = bed.leader()?;
        let mut others = bed.others(&[leader]);
        let what =
            if with_clients { "the leader is cut off from everybody" } else { "the leader is cut off from servers" };
        if with_clients {
            others.push(bed.net.clients());
        }
        bed.fault(what, Some(silent()), LASTING, |bed| {
            bed.net.set_between(&[leader], &others, Way::CUT);
            Ok(())
        })?;
        bed.heal(what)?;
    }
    Ok(())
}

fn minority_cut(bed: &mut Bed<'_>) -> Result<()> {
    for with_leader in [false, true] {
        let leader = bed.leader()?;
        let followers = bed.others(&[leader]);
        let (what, gone) = if with_leader {
            ("the leader and a follower are cut off from servers", vec![leader, followers[0]])
        } else {
            ("two followers are cut off from everybody", followers[..2].to_vec())
        };
        let mut others = bed.others(&gone);
        if !with_leader {
            others.push(bed.net.clients());
        }
        bed.fault(what, Some(silent()), LASTING, |bed| {
            bed.net.set_between(&gone, &others, Way::CUT);
            Ok(())
        })?;
        bed.heal(what)?;
    }
    Ok(())
}

fn one_way(bed: &mut Bed<'_>) -> Result<()> {
    for deaf in [true, false] {
        let leader = bed.leader()?;
        let what = if deaf { "the leader can't receive" } else { "the leader can't send" };
        bed.fault(what, Some(silent()), LASTING, |bed| {
            for other in bed.others(&[leader]) {
                let (from, to) = if deaf { (other, leader) } else { (leader, other) };
                bed.net.set(from, to, Way::CUT);
            }
            Ok(())
        })?;
        bed.heal(what)?;
    }
    Ok(())
}

fn flapping(bed: &mut Bed<'_>) -> Result<()> {
    let leader = bed.leader()?;
    let what = "the leader's link comes and goes";
    bed.fault(what, None, Duration::ZERO, |bed| {
        for times in FLAPS_MS.chunks_exact(2) {
            bed.net.set_between(&[leader], &bed.others(&[leader]), Way::CUT);
            std::thread::sleep(Duration::from_millis(times[0]));
            bed.net.heal();
            std::thread::sleep(Duration::from_millis(times[1]));
        }
        Ok(())
    })?;
    bed.heal(what)
}

/// All links are bad, and the leader is killed meanwhile.
fn everywhere(bed: &mut Bed<'_>, what: &str, way: Way, also_clients: bool) -> Result<()> {
    let mut all = bed.others(&[]);
    if also_clients {
        all.push(bed.net.clients());
    }
    bed.fault(what, None, LASTING, |bed| {
        bed.net.set_between(&all, &all, way);
        Ok(())
    })?;
    let leader = bed.leader().with_context(|| format!("while {what}"))?;
    bed.fault(&format!("{what}, and the leader is killed"), None, Duration::ZERO, |bed| bed.members.kill(leader))?;
    bed.fault(&format!("{what}, and it is started again"), None, Duration::ZERO, |bed| {
        bed.members.spawn(leader)?;
        bed.members.wait_serving().map(drop)
    })?;
    bed.heal(what)
}

fn paused(bed: &mut Bed<'_>) -> Result<()> {
    for lead in [true, false] {
        let leader = bed.leader()?;
        let index = if lead { leader } else { bed.others(&[leader])[0] };
        let what = if lead { "the leader stands still" } else { "a follower stands still" };
        let lasted = bed.fault(what, Some(silent()), LASTING, |bed| bed.members.pause(index));
        bed.members.resume(index)?;
        lasted?;
        bed.heal(what)?;
    }
    Ok(())
}

fn full_disk(bed: &mut Bed<'_>) -> Result<()> {
    for lead in [true, false] {
        let leader = bed.leader()?;
        let index = if lead { leader } else { bed.others(&[leader])[0] };
        let before = if lead { Mode::Leader } else { Mode::Follower };
        let what = if lead { "the leader's disk is full" } else { "a follower's disk is full" };
        let dir = bed.members.data_dir(index);
        let lasted = bed.fault(what, Some(reported()), Duration::ZERO, |bed| {
            fill(&dir)?;
            noticed(bed.members, index, before)
        });
        let emptied = fs::remove_file(dir.join(BALLAST));
        lasted?;
        emptied?;
        if !bed.members.is_started(index) {
            bed.members.spawn(index)?;
        }
        bed.heal(what)?;
    }
    Ok(())
}

/// Leaves no byte free.
fn fill(dir: &Path) -> Result<()> {
    let mut ballast = File::create(dir.join(BALLAST))?;
    let chunk = vec![b'x'; 4096];
    for _ in 0..SMALL_DISK / 4096 + 1 {
        if let Err(e) = ballast.write_all(&chunk) {
            ensure!(e.kind() == std::io::ErrorKind::StorageFull, "filling a disk: {e}");
            return Ok(());
        }
    }
    bail!("a disk of {SMALL_DISK} bytes took more than that")
}

/// Waits until a server with a full disk has ended, or is no longer what it was.
fn noticed(members: &mut Members, index: usize, before: Mode) -> Result<()> {
    let deadline = Instant::now() + NOTICED_MAX;
    let mut silent_since = None;
    while Instant::now() < deadline {
        if members.has_ended(index)? {
            crate::say(&format!("     {} ended", members.name(index)));
            return Ok(());
        }
        match members.mode(index) {
            Some(mode) if mode == before => silent_since = None,
            Some(mode) => {
                crate::say(&format!("     {} is {mode:?} instead of {before:?}", members.name(index)));
                return Ok(());
            }
            // It may be about to end; Apache's goes on looking for a leader.
            None if silent_since.get_or_insert_with(Instant::now).elapsed() > ENDING_MAX => {
                crate::say(&format!("     {} does not serve", members.name(index)));
                return Ok(());
            }
            None => {}
        }
        std::thread::sleep(LOOK);
    }
    bail!("{} took no notice of its full disk", members.name(index))
}
