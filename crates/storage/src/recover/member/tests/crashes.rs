//! Crashes between any two disk operations of a member's life: epochs, truncation, installation.

use crate::mem::{Crash, MemDisk};
use crate::recover::Recovered;
use crate::recovering::Recovering;
use crate::snapshot::{SnapshotOptions, write_snapshot};
use crate::testing::{Kind, Nodes, chooser, restart, start_member, txn, writer, zxid};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, Zxid};
use std::sync::Arc;

const E1: u64 = 1 << 32;
const E2: u64 = 2 << 32;
const E3: u64 = 3 << 32;
const E4: u64 = 4 << 32;

/// What a member has told others that it has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Told {
    history: Vec<u64>,
    accepted: u32,
    current: u32,
}

#[derive(Clone, Debug)]
enum Step {
    Start,
    Accept(u32),
    Current(u32),
    Append(Vec<u64>),
    /// Of the whole history.
    Snapshot,
    Truncate(u64, bool),
    Install(Vec<u64>, u32),
}

impl Step {
    /// What is told once it is done.
    fn done(&self, told: &Told) -> Told {
        let mut new = told.clone();
        match self {
            Self::Start | Self::Snapshot | Self::Truncate(_, false) => {}
            Self::Accept(epoch) => new.accepted = *epoch,
            Self::Current(epoch) => new.current = *epoch,
            Self::Append(zxids) => new.history.extend(zxids),
            Self::Truncate(after, true) => new.history.retain(|z| z <= after),
            Self::Install(history, epoch) => (new.history, new.current) = (history.clone(), *epoch),
        }
        new
    }

    /// Whether a start may find this after a crash in the midst of it.
    fn allows(&self, old: &Told, found: &Told) -> bool {
        let new = self.done(old);
        let raised = |told: &Told| {
            let last = found.history.last().map_or(0, |z| zxid(*z).epoch());
            let current = told.current.max(last);
            Told { history: found.history.clone(), accepted: told.accepted.max(current), current }
        };
        let within = |short: &[u64], long: &[u64]| {
            found.history.len() >= short.len() && long.starts_with(&found.history) && long.starts_with(short)
        };
        match self {
            Self::Start | Self::Snapshot => *found == raised(old) && found.history == old.history,
            Self::Truncate(..) => *found == raised(old) && within(&new.history, &old.history),
            Self::Append(_) => *found == raised(old) && within(&old.history, &new.history),
            Self::Accept(_) | Self::Current(_) => {
                found.history == old.history && (*found == raised(old) || *found == raised(&new))
            }
            // All of it or nothing.
            Self::Install(..) => {
                *found == raised(old) && found.history == old.history
                    || *found == raised(&new) && found.history == new.history
            }
        }
    }
}

fn life() -> Vec<Step> {
    let range = |epoch: u64, from: u64, to: u64| (epoch + from..=epoch + to).collect::<Vec<_>>();
    let append = |epoch, from, to| Step::Append(range(epoch, from, to));
    vec![
        Step::Start,
        Step::Accept(1),
        Step::Current(1),
        append(E1, 1, 3),
        append(E1, 4, 6),
        Step::Snapshot,
        append(E1, 7, 13),
        Step::Snapshot,
        append(E1, 14, 20),
        Step::Accept(2),
        // Below a snapshot, in the midst of the log.
        Step::Truncate(E1 + 10, true),
        Step::Truncate(E1 + 10, true),
        Step::Truncate(E1 + 11, false),
        append(E2, 1, 2),
        Step::Current(2),
        append(E2, 3, 12),
        Step::Start,
        // A tail of an old leader's, cut off after a restart.
        append(E2, 13, 14),
        Step::Accept(3),
        Step::Truncate(E2 + 9, true),
        Step::Start,
        Step::Install([range(E1, 1, 10), range(E2, 1, 10), range(E3, 1, 2)].concat(), 3),
        append(E3, 3, 9),
        // Nothing below is left.
        Step::Truncate(E2 + 9, false),
        Step::Snapshot,
        append(E3, 10, 11),
        Step::Accept(4),
        // Exactly the installed snapshot.
        Step::Truncate(E3 + 2, true),
        append(E3, 3, 5),
        // An older state than the one that is there.
        Step::Install([range(E1, 1, 10), range(E2, 1, 3)].concat(), 4),
        append(E4, 1, 2),
        Step::Start,
        append(E4, 3, 4),
        // Another one before anything was logged behind the first.
        Step::Install([range(E1, 1, 10), range(E2, 1, 10), range(E4, 1, 2)].concat(), 4),
        Step::Install([range(E1, 1, 10), range(E2, 1, 10), range(E4, 1, 7)].concat(), 4),
        append(E4, 8, 9),
    ]
}

fn found((state, recovered): &(Nodes, Recovered)) -> Told {
    assert_eq!(recovered.last_zxid.get(), state.zxids.last().copied().unwrap_or(0));
    Told { history: state.zxids.clone(), accepted: recovered.accepted.0, current: recovered.current.0 }
}

/// Runs until the disk stops: answers what was told then, and the step in which it stopped.
fn live(disk: &Arc<MemDisk>) -> (Told, Step) {
    let mut told = Told::default();
    let mut log = None;
    for step in life() {
        let done = match &step {
            Step::Start => start_member(disk).map_err(|e| e.to_string()).map(|started| {
                assert_eq!(found(&started), told, "a start without a crash");
                log = Some(writer(disk, &started.1));
            }),
            Step::Snapshot => {
                let state = Nodes { zxids: told.history.clone(), loaded: None };
                write_snapshot(&**disk, &state, &SnapshotOptions::default()).map(drop).map_err(|e| e.to_string())
            }
            step => {
                let log = log.as_mut().expect("it was started");
                let done = match step {
                    Step::Accept(epoch) => log.save_accepted_epoch(AcceptedEpoch(*epoch)),
                    Step::Current(epoch) => log.save_current_epoch(CurrentEpoch(*epoch)),
                    Step::Truncate(after, expected) => {
                        log.truncate(zxid(*after)).map(|done| assert_eq!(done, *expected, "{step:?}"))
                    }
                    Step::Install(history, epoch) => {
                        let image = Nodes { zxids: history.clone(), loaded: None };
                        log.install(&image, CurrentEpoch(*epoch), &SnapshotOptions::default())
                    }
                    Step::Append(zxids) => {
                        for z in zxids {
                            log.append(zxid(*z), &txn(*z));
                        }
                        log.commit().and_then(|_| log.maintain(zxids[0]))
                    }
                    Step::Start | Step::Snapshot => unreachable!("handled above"),
                };
                done.map_err(|e| e.to_string())
            }
        };
        if done.is_err() {
            return (told, step);
        }
        told = step.done(&told);
    }
    (told, Step::Start)
}

fn check(disk: &Arc<MemDisk>, told: &Told, step: &Step, what: &str) -> (Nodes, Recovered) {
    let started = start_member(disk).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(started.1.recovering, Recovering::No, "{what}: a crash loses nothing; {:?}", started.1.warnings);
    let found = found(&started);
    assert!(step.allows(told, &found), "{what}, in {step:?}\nold   {told:x?}\nfound {found:x?}");
    started
}

#[test]
fn a_crash_between_any_two_operations() {
    let whole = Arc::new(MemDisk::default());
    let (told, step) = live(&whole);
    assert!(matches!(step, Step::Start) && told.history.last() == Some(&(E4 + 9)), "it runs through: {step:?}");
    let total = whole.count();
    assert!(total > 300, "{total}");
    for n in 0..=total {
        for (i, kind) in [Kind::Process, Kind::Power(n * 3 + 1), Kind::Power(n * 3 + 2), Kind::ProcessThenPower(n)]
            .into_iter()
            .enumerate()
        {
            let disk = Arc::new(MemDisk::default());
            disk.crash_after(n, i * 150);
            let (told, step) = live(&disk);
            restart(&disk, kind);
            let what = format!("{kind:?} after {n} of {total}");
            let started = check(&disk, &told, &step, &what);
            // What was found is durable, and the server goes on behind it.
            let told = found(&started);
            disk.restart(Crash::Power, &mut |_| 0);
            let (_, recovered) = check(&disk, &told, &Step::Start, &format!("{what}, then all unsynced lost"));
            let next = recovered.last_zxid.get() + 1;
            let mut log = writer(&disk, &recovered);
            log.append(zxid(next), &txn(next));
            log.commit().unwrap();
            let told = Step::Append(vec![next]).done(&told);
            disk.restart(Crash::Power, &mut |_| 0);
            // An empty member has logged something of epoch 0.
            check(&disk, &told, &Step::Start, &format!("{what}, gone on"));
        }
    }
}

#[test]
fn a_crash_during_recovery() {
    let whole = Arc::new(MemDisk::default());
    live(&whole);
    for n in (0..=whole.count()).step_by(2) {
        let crashed = Arc::new(MemDisk::default());
        crashed.crash_after(n, (n % 2) as usize * 100);
        let (told, step) = live(&crashed);
        restart(&crashed, if n % 4 == 0 { Kind::Process } else { Kind::Power(n) });
        for m in 0.. {
            let disk = Arc::new(crashed.fork());
            disk.crash_after(m, 100);
            let done = start_member(&disk).is_ok();
            restart(&disk, Kind::Power(n ^ m));
            check(&disk, &told, &step, &format!("crash after {n}, again after {m} of recovery"));
            if done {
                break;
            }
        }
    }
}

/// A start goes by what it finds of a process that died, and none of that need be durable: neither an intent nor what a
/// member says of itself.
#[test]
fn what_a_start_goes_by_is_durable_before_it_does() {
    let old: Vec<u64> = (E1 + 1..=E1 + 8).collect();
    let image = Nodes { zxids: (E1 + 1..=E1 + 3).collect(), loaded: None };
    let begun = Arc::new(MemDisk::new(true));
    let (_, recovered) = start_member(&begun).unwrap();
    let mut log = writer(&begun, &recovered);
    log.save_accepted_epoch(AcceptedEpoch(2)).unwrap();
    log.save_current_epoch(CurrentEpoch(1)).unwrap();
    for z in &old {
        log.append(zxid(*z), &txn(*z));
    }
    log.close().unwrap();
    let damaged = Arc::new(begun.fork());
    let path = crate::segment::log_path(zxid(E1 + 1));
    let content = damaged.content(&path).unwrap();
    damaged.put(&path, content[..content.len() - 100].to_vec());
    for (disk, is_damaged) in [(begun, false), (damaged, true)] {
        for n in 0.. {
            let killed = Arc::new(disk.fork());
            let recovered = if is_damaged { None } else { Some(start_member(&killed).unwrap().1) };
            killed.crash_after(n, 0);
            let done = match recovered {
                Some(recovered) => {
                    let options = SnapshotOptions::default();
                    writer(&killed, &recovered).install(&image, CurrentEpoch(2), &options).is_ok()
                }
                None => start_member(&killed).is_ok(),
            };
            killed.restart(Crash::Process, &mut |_| 0);
            for m in 0.. {
                let disk = Arc::new(killed.fork());
                disk.crash_after(m, 0);
                let started = start_member(&disk).is_ok();
                disk.restart(Crash::Power, &mut |_| 0);
                let (state, recovered) = start_member(&disk).unwrap();
                let what = format!("killed after {n}, power lost after {m}: {:?}", recovered.warnings);
                assert_eq!(recovered.recovering != Recovering::No, is_damaged, "{what}");
                assert!(is_damaged || state.zxids == old || state.zxids == image.zxids, "{what}");
                if started {
                    break;
                }
            }
            if done {
                break;
            }
        }
    }
}

/// A failed operation is final for the writer, and what was told before is there after a restart.
#[test]
fn a_failure_at_any_operation() {
    use crate::disk::DiskErrorKind;
    let whole = Arc::new(MemDisk::default());
    live(&whole);
    for n in 1..=whole.count() {
        for kind in [DiskErrorKind::Other, DiskErrorKind::Full] {
            let disk = Arc::new(MemDisk::default());
            if kind == DiskErrorKind::Other {
                disk.fail_nth(n, kind)
            } else {
                disk.fail_from(n, kind)
            }
            let (told, step) = live(&disk);
            restart(&disk, if n % 2 == 0 { Kind::Power(n) } else { Kind::Process });
            check(&disk, &told, &step, &format!("{kind:?} at {n}"));
        }
    }
}

/// While the epoch is being changed a mark is in force: damage to what was acknowledged never passes for a torn tail.
#[test]
fn a_mark_is_in_force_whatever_the_epoch_file_says() {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    log.save_accepted_epoch(AcceptedEpoch(1)).unwrap();
    log.append(zxid(E1 + 1), &txn(E1 + 1));
    log.append(zxid(E1 + 2), &txn(E1 + 2));
    log.commit().unwrap();
    let before = disk.count();
    let whole = Arc::new(disk.fork());
    let (_, recovered) = start_member(&whole).unwrap();
    assert_eq!(recovered.current, CurrentEpoch(1), "raised, since a transaction shows that it was begun");
    log.save_current_epoch(CurrentEpoch(1)).unwrap();
    let operations = disk.count() - before;
    assert!(operations >= 5);
    for n in 0..=operations + 20 {
        for raise in [false, true] {
            let disk = Arc::new(MemDisk::default());
            let (_, recovered) = start_member(&disk).unwrap();
            let mut log = writer(&disk, &recovered);
            log.save_accepted_epoch(AcceptedEpoch(1)).unwrap();
            log.append(zxid(E1 + 1), &txn(E1 + 1));
            log.append(zxid(E1 + 2), &txn(E1 + 2));
            log.commit().unwrap();
            log.maintain(1).unwrap();
            disk.crash_after(n, 0);
            let _ = if raise {
                start_member(&disk).map(drop).map_err(|_| ())
            } else {
                log.save_current_epoch(CurrentEpoch(1)).map_err(|_| ())
            };
            disk.restart(Crash::Power, &mut chooser(n));
            let path = crate::segment::log_path(zxid(E1 + 1));
            let mut content = disk.content(&path).unwrap();
            let end = content.len();
            content[end - 20] ^= 1;
            disk.put(&path, content);
            let (_, recovered) = start_member(&disk).unwrap();
            assert_eq!(recovered.recovering, Recovering::History, "{n}");
            assert_eq!(recovered.last_zxid, Zxid::new(1, 1));
        }
    }
}
