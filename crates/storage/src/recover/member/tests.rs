use super::*;
use crate::aside::DAMAGED_PREFIX;
use crate::disk::{Dir, DiskErrorKind};
use crate::epochs::replace;
use crate::log::LogWriter;
use crate::mark::{MarkFile, MarkRead, read_mark};
use crate::mem::{Crash, MemDisk};
use crate::recover::{RefusalKind, recover};
use crate::segment::log_path;
use crate::snapshot::{SnapshotOptions, write_snapshot};
use crate::testing::{MEMBER, Nodes, chooser, on, start, start_member, txn, used, writer, zxid};
use std::sync::Arc;

mod crashes;
mod cuts;
mod installs;
mod lost_disks;
mod torn;

const E1: u64 = 1 << 32;

fn append(log: &mut LogWriter<MemDisk>, zxids: impl IntoIterator<Item = u64>) {
    for z in zxids {
        log.append(zxid(z), &txn(z));
    }
    log.commit().unwrap();
}

/// A member that has worked in epoch 1: snapshots of 0 and of the first half, transactions 1 to 8, and the mark of
/// the last of them.
fn worked() -> Arc<MemDisk> {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    log.save_accepted_epoch(AcceptedEpoch(1)).unwrap();
    log.save_current_epoch(CurrentEpoch(1)).unwrap();
    append(&mut log, E1 + 1..=E1 + 4);
    let half = Nodes { zxids: (E1 + 1..=E1 + 4).collect(), loaded: None };
    write_snapshot(&*disk, &half, &SnapshotOptions::default()).unwrap();
    append(&mut log, E1 + 5..=E1 + 8);
    log.close().unwrap();
    disk
}

fn flip(disk: &MemDisk, path: &DiskPath, from_end: usize) {
    let mut content = disk.content(path).unwrap();
    let at = content.len() - from_end;
    content[at] ^= 1;
    disk.put(path, content);
}

/// The segment that was written last.
fn newest_log(disk: &MemDisk) -> DiskPath {
    log_path(list_segments(disk).unwrap().last().unwrap().first)
}

fn put_epoch(disk: &MemDisk, path: &DiskPath, text: &str) {
    disk.put(path, text.as_bytes().to_vec());
}

fn aside(disk: &MemDisk) -> Vec<String> {
    disk.names(Dir::DataVersion).into_iter().filter(|n| n.starts_with(DAMAGED_PREFIX)).collect()
}

/// Starts twice: whatever a member knows about itself it knows again.
fn start_twice(disk: &Arc<MemDisk>) -> Recovered {
    let (_, first) = start_member(disk).unwrap();
    disk.restart(Crash::Power, &mut |_| 0);
    let (_, second) = start_member(disk).unwrap();
    assert_eq!(
        (first.accepted, first.current, first.recovering, first.last_zxid),
        (second.accepted, second.current, second.recovering, second.last_zxid)
    );
    first
}

// ---- beginnings -------------------------------------------------------------------------------------

#[test]
fn a_new_member() {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start_member(&disk).unwrap();
    assert!(recovered.fresh && recovered.fresh_without_initialize);
    assert_eq!((recovered.accepted.0, recovered.current.0, recovered.recovering), (0, 0, Recovering::No));
    assert_eq!(disk.content(&accepted_epoch_path()), Some(b"0".to_vec()));
    assert_eq!(disk.content(&current_epoch_path()), Some(b"0".to_vec()));
    // A restart does not make it one that has been here before.
    let (_, recovered) = start_member(&disk).unwrap();
    assert!(!recovered.fresh && recovered.fresh_without_initialize);
    // A promise does.
    writer(&disk, &recovered).save_accepted_epoch(AcceptedEpoch(1)).unwrap();
    let (_, recovered) = start_member(&disk).unwrap();
    assert!(!recovered.fresh_without_initialize && recovered.recovering == Recovering::No);
    assert_eq!((recovered.accepted.0, recovered.current.0), (1, 0));
}

#[test]
fn somebody_vouches_for_a_new_member() {
    for dir in [Dir::Data, Dir::Log] {
        let disk = Arc::new(MemDisk::new(true));
        disk.put(&DiskPath::new(dir, "initialize"), Vec::new());
        let (_, recovered) = start_member(&disk).unwrap();
        assert!(recovered.fresh && !recovered.fresh_without_initialize);
        assert!(disk.content(&DiskPath::new(dir, "initialize")).is_none());
    }
}

#[test]
fn whoever_finds_others_ahead_says_so() {
    let disk = Arc::new(MemDisk::default());
    start_member(&disk).unwrap();
    assert_eq!(raise_recovering(&*disk, Recovering::Promise).unwrap(), Recovering::Promise);
    let recovered = start_twice(&disk);
    assert_eq!(recovered.recovering, Recovering::Promise);
    assert!(!recovered.fresh_without_initialize);
    assert!(recovered.warnings.join(" ").contains("farrier repair /data --accept-loss"), "{:?}", recovered.warnings);
    // It is never taken back by something milder.
    assert_eq!(raise_recovering(&*disk, Recovering::History).unwrap(), Recovering::Promise);
    disk.put(&DiskPath::new(Dir::Data, "farrier.recovering"), b"histo".to_vec());
    assert_eq!(read_recovering(&*disk).unwrap(), Recovering::Promise, "what nobody understands is the worst");
}

#[test]
fn somebody_vouches_for_what_was_never_in_use() {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    log.raise_recovering(Recovering::Promise).unwrap();
    let used = Arc::new(disk.fork());
    disk.put(&DiskPath::new(Dir::Data, "initialize"), Vec::new());
    let (_, recovered) = start_member(&disk).unwrap();
    assert!(recovered.recovering == Recovering::No && !recovered.fresh_without_initialize);
    // Not once there was a promise.
    let (_, recovered) = start_member(&used).unwrap();
    writer(&used, &recovered).save_accepted_epoch(AcceptedEpoch(1)).unwrap();
    used.put(&DiskPath::new(Dir::Data, "initialize"), Vec::new());
    assert_eq!(start_member(&used).unwrap().1.recovering, Recovering::Promise);
}

#[test]
fn a_standalone_server_becomes_a_member() {
    let disk = used(&[3]);
    let (state, recovered) = start_member(&disk).unwrap();
    assert_eq!((state.zxids.len(), recovered.recovering), (3, Recovering::No));
    assert_eq!((recovered.accepted.0, recovered.current.0), (0, 0));
    assert!(!recovered.fresh_without_initialize, "it has transactions");
    // Died between the two files.
    disk.remove(&current_epoch_path()).unwrap();
    let (_, recovered) = start_member(&disk).unwrap();
    assert_eq!(recovered.recovering, Recovering::No);
    // But the epochs of one that has been a member since do not go unnoticed.
    let mut log = writer(&disk, &recovered);
    log.save_accepted_epoch(AcceptedEpoch(1)).unwrap();
    log.save_current_epoch(CurrentEpoch(1)).unwrap();
    log.close().unwrap();
    for path in [accepted_epoch_path(), current_epoch_path()] {
        disk.remove(&path).unwrap();
    }
    let recovered = start_twice(&disk);
    assert_eq!(recovered.recovering, Recovering::Promise);
    assert_eq!((recovered.accepted.0, recovered.current.0), (1, 1), "the mark tells");
}

// ---- epochs -----------------------------------------------------------------------------------------

#[test]
fn epochs_are_raised_to_what_the_log_shows() {
    let disk = worked();
    for (accepted, current, expected) in
        [("1", "1", (1, 1)), ("0", "0", (1, 1)), ("7", "1", (7, 1)), ("2", "3", (3, 3))]
    {
        let disk = Arc::new(disk.fork());
        put_epoch(&disk, &accepted_epoch_path(), accepted);
        put_epoch(&disk, &current_epoch_path(), current);
        if current == "0" {
            // It died between the first transaction of an epoch and the epoch.
            let MarkRead::Mark(mark) = read_mark(&*disk).unwrap() else { panic!("it was closed in order") };
            MarkFile::create(&*disk, Mark { epoch: 0, ..mark }).unwrap();
        }
        let recovered = start_twice(&disk);
        assert_eq!((recovered.accepted.0, recovered.current.0), expected);
        assert_eq!((recovered.recovering, recovered.last_zxid), (Recovering::No, zxid(E1 + 8)));
        assert_eq!(recovered.mark.epoch, expected.1);
        assert_eq!(disk.content(&accepted_epoch_path()), Some(expected.0.to_string().into_bytes()));
        assert_eq!(disk.content(&current_epoch_path()), Some(expected.1.to_string().into_bytes()));
    }
}

/// An epoch tells that its whole initial history is durable: it must not be, before that is. Nor is it ever ahead of the
/// promise.
#[test]
fn an_epoch_is_raised_only_behind_its_history() {
    let template = worked();
    put_epoch(&template, &current_epoch_path(), "0");
    put_epoch(&template, &accepted_epoch_path(), "0");
    template.remove(&mark_path()).unwrap();
    let first = log_path(zxid(E1 + 1));
    let logs: Vec<_> = template.names(Dir::LogVersion).into_iter().filter(|n| n.starts_with("log.")).collect();
    for n in 0.. {
        let disk = Arc::new(template.fork());
        // A process that died has synced none of it.
        for name in &logs {
            let path = DiskPath::new(Dir::LogVersion, &**name);
            let content = disk.content(&path).unwrap();
            disk.remove(&path).unwrap();
            disk.sync_dir(Dir::LogVersion).unwrap();
            let file = disk.open(&path, crate::disk::OpenMode::CreateNew).unwrap();
            crate::disk::DiskFile::write_at(&file, 0, &content).unwrap();
        }
        disk.remove(&DiskPath::new(Dir::DataVersion, "snapshot.100000004")).unwrap();
        disk.sync_dir(Dir::DataVersion).unwrap();
        disk.crash_after(n, 0);
        let done = start_member(&disk).is_ok();
        disk.restart(Crash::Power, &mut |_| 0);
        let raised = |path: &DiskPath| disk.content(path) == Some(b"1".to_vec());
        assert!(raised(&accepted_epoch_path()) || !raised(&current_epoch_path()), "{n}: acceptedEpoch goes first");
        if disk.content(&current_epoch_path()) == Some(b"1".to_vec()) {
            assert!(disk.content(&first).is_some_and(|c| c.len() > 100), "{n}");
            let (_, recovered) = start_member(&disk).unwrap();
            assert_eq!(recovered.last_zxid, zxid(E1 + 8), "{n}");
        }
        if done {
            assert_eq!(disk.content(&current_epoch_path()), Some(b"1".to_vec()));
            break;
        }
    }
}

#[test]
fn missing_or_senseless_epoch_files_beside_data() {
    let disk = worked();
    let both = [accepted_epoch_path(), current_epoch_path()];
    for (gone, expected) in
        [(&both[..1], Recovering::Promise), (&both[1..], Recovering::History), (&both[..], Recovering::Promise)]
    {
        for text in [None, Some("x"), Some("-1"), Some("")] {
            let disk = Arc::new(disk.fork());
            for path in gone {
                match text {
                    Some(text) => put_epoch(&disk, path, text),
                    None => disk.remove(path).unwrap(),
                }
            }
            let recovered = start_twice(&disk);
            assert_eq!(recovered.recovering, expected, "{gone:?} {text:?}");
            assert_eq!((recovered.accepted.0, recovered.current.0), (1, 1));
            assert_eq!(recovered.last_zxid, zxid(E1 + 8), "what is there is kept for whoever accepts the loss");
            assert_eq!(aside(&disk).len(), if text.is_some() { gone.len() } else { 0 });
        }
    }
}

#[test]
fn epochs_without_data_are_a_loss() {
    let disk = worked();
    for name in disk.names(Dir::DataVersion) {
        if name.starts_with("snapshot.") || name.starts_with("log.") {
            disk.remove(&DiskPath::new(Dir::DataVersion, name)).unwrap();
        }
    }
    for mark in [true, false] {
        let disk = Arc::new(disk.fork());
        if !mark {
            disk.remove(&mark_path()).unwrap();
        }
        let recovered = start_twice(&disk);
        assert_eq!((recovered.recovering, recovered.last_zxid), (Recovering::History, Zxid::ZERO));
        assert_eq!((recovered.accepted.0, recovered.current.0), (1, 1), "the promise stands");
        assert!(!recovered.fresh_without_initialize);
    }
}

// ---- damage -----------------------------------------------------------------------------------------

/// Ways to lose what was acknowledged.
fn damaged() -> Vec<(&'static str, Arc<MemDisk>)> {
    let whole = worked();
    let log = |z| log_path(zxid(E1 + z));
    let of = |name, damage: &dyn Fn(&MemDisk)| {
        let disk = Arc::new(whole.fork());
        damage(&disk);
        for dir in [Dir::Data, Dir::DataVersion] {
            disk.sync_dir(dir).unwrap();
        }
        (name, disk)
    };
    let snapshot = |z: u64| DiskPath::new(Dir::DataVersion, format!("snapshot.{z:x}"));
    vec![
        of("the last record", &|d| flip(d, &newest_log(d), 20)),
        of("an early record", &|d| {
            d.remove(&snapshot(E1 + 4)).unwrap();
            let len = d.content(&log(1)).unwrap().len();
            flip(d, &log(1), len - 60);
        }),
        of("a log that ends too soon", &|d| {
            let content = d.content(&newest_log(d)).unwrap();
            d.put(&newest_log(d), content[..content.len() - 30].to_vec());
        }),
        of("a segment that is gone", &|d| d.remove(&newest_log(d)).unwrap()),
        of("a log that is gone", &|d| {
            while let Some(segment) = list_segments(d).unwrap().first() {
                d.remove(&log_path(segment.first)).unwrap();
            }
        }),
        of("every snapshot", &|d| {
            flip(d, &snapshot(0), 50);
            flip(d, &snapshot(E1 + 4), 200);
        }),
        of("no snapshot", &|d| {
            d.remove(&snapshot(0)).unwrap();
            d.remove(&snapshot(E1 + 4)).unwrap();
        }),
        of("an intent", &|d| {
            d.put(&crate::log::install::intent_path(), b"farrier.install 1\nsnapshot.5 1 0\n".to_vec())
        }),
        of("an intent without its snapshot", &|d| {
            let line = "snapshot.100000009 1";
            let sum = simd_adler32::adler32(&line.as_bytes());
            let text = format!("farrier.install 1\n{line} {sum:08x}\n");
            d.put(&crate::log::install::intent_path(), text.into_bytes());
        }),
    ]
}

#[test]
fn damage_costs_the_vote_and_nothing_is_deleted() {
    for (name, disk) in damaged() {
        let before: Vec<Vec<u8>> = disk
            .names(Dir::DataVersion)
            .into_iter()
            .filter_map(|n| disk.content(&DiskPath::new(Dir::DataVersion, n)))
            .collect();
        let recovered = start_twice(&disk);
        assert_eq!(recovered.recovering, Recovering::History, "{name}");
        assert_eq!((recovered.accepted.0, recovered.current.0), (1, 1), "{name}");
        assert!(recovered.last_zxid <= zxid(E1 + 8));
        let after: Vec<Vec<u8>> = disk
            .names(Dir::DataVersion)
            .into_iter()
            .filter_map(|n| disk.content(&DiskPath::new(Dir::DataVersion, n)))
            .collect();
        for content in before.iter().filter(|c| c.len() > 1) {
            assert!(after.contains(content), "{name}: everything is still there under some name");
        }
        assert!(!recovered.warnings.is_empty());
        // A standalone server has nobody to ask.
        let refusal = recover(&disk, &RecoverOptions::default(), &mut Nodes::default()).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Setup, "{name}");
        assert!(refusal.to_string().contains("--accept-loss"), "{refusal}");
    }
}

/// Whatever happens on the way, the loss is never forgotten.
#[test]
fn a_crash_while_damage_is_moved_aside() {
    for (name, damaged) in damaged() {
        for seed in 0..3 {
            for n in 0.. {
                let disk = Arc::new(damaged.fork());
                disk.crash_after(n, 0);
                let done = start_member(&disk).is_ok();
                disk.restart(Crash::Power, &mut chooser(seed * 1000 + n));
                let (_, recovered) = start_member(&disk).unwrap_or_else(|e| panic!("{name}, {n}: {e}"));
                assert_eq!(recovered.recovering, Recovering::History, "{name}, after {n}");
                assert_eq!(recovered.accepted, AcceptedEpoch(1), "{name}, after {n}");
                if done {
                    break;
                }
            }
        }
    }
}

#[test]
fn what_is_no_damage_is_still_refused() {
    let disk = worked();
    let small = RecoverOptions { txn_max: 100, ..MEMBER };
    assert_eq!(recover(&disk, &small, &mut Nodes::default()).unwrap_err().kind, RefusalKind::Setup);
    assert_eq!(read_recovering(&*disk).unwrap(), Recovering::No);
    // A log directory that is not mounted.
    let disk = Arc::new(MemDisk::new(true));
    let (_, recovered) = start_member(&disk).unwrap();
    append(&mut writer(&disk, &recovered), 1..=3);
    for dir in [Dir::Log, Dir::LogVersion] {
        for name in disk.names(dir) {
            disk.remove(&DiskPath::new(dir, name)).unwrap();
        }
    }
    assert_eq!(recover(&disk, &MEMBER, &mut Nodes::default()).unwrap_err().kind, RefusalKind::Setup);
    assert_eq!(read_recovering(&*disk).unwrap(), Recovering::No);
}

// ---- the way back -----------------------------------------------------------------------------------

#[test]
fn a_leaders_history_gives_the_vote_back() {
    for (name, disk) in damaged() {
        let (_, recovered) = start_member(&disk).unwrap();
        let mut log = writer(&disk, &recovered);
        log.save_accepted_epoch(AcceptedEpoch(2)).unwrap();
        assert_eq!(start_member(&Arc::new(disk.fork())).unwrap().1.recovering, Recovering::History, "{name}");
        let image = Nodes { zxids: (E1 + 1..=E1 + 9).collect(), loaded: None };
        log.install(&image, CurrentEpoch(2), &SnapshotOptions::default()).unwrap();
        append(&mut log, [2 * E1 + 1]);
        disk.restart(Crash::Power, &mut |_| 0);
        let (state, recovered) = start_member(&disk).unwrap();
        assert_eq!(recovered.recovering, Recovering::No, "{name}");
        assert_eq!(state.zxids, (E1 + 1..=E1 + 9).chain([2 * E1 + 1]).collect::<Vec<_>>());
        assert_eq!((recovered.current.0, recovered.mark.floor), (2, zxid(E1 + 9)));
    }
}

#[test]
fn an_epoch_gives_the_vote_back() {
    let disk = Arc::new(MemDisk::default());
    start_member(&disk).unwrap();
    raise_recovering(&*disk, Recovering::Promise).unwrap();
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    log.save_accepted_epoch(AcceptedEpoch(3)).unwrap();
    assert_eq!(read_recovering(&*disk).unwrap(), Recovering::Promise);
    log.save_current_epoch(CurrentEpoch(3)).unwrap();
    disk.restart(Crash::Power, &mut |_| 0);
    assert_eq!(start_member(&disk).unwrap().1.recovering, Recovering::No);
}

#[test]
fn an_operator_gives_the_vote_back() {
    for (name, disk) in damaged() {
        for started in [true, false] {
            let disk = Arc::new(disk.fork());
            if started {
                start_member(&disk).unwrap();
            }
            let names = disk.names(Dir::Data);
            let report = repair::examine(&*disk, &MEMBER, &mut Nodes::default()).unwrap();
            assert!(!report.is_sound() && report.loss.is_some(), "{name}: {report}");
            assert_eq!(report.to_string().contains("no vote"), started, "{name}: {report}");
            assert_eq!(disk.names(Dir::Data), names, "looking changes nothing");
            let repaired = repair::accept_loss(&*disk, &MEMBER, &mut Nodes::default()).unwrap();
            assert!(repaired.after.is_sound() && !repaired.before.is_sound(), "{name}");
            disk.restart(Crash::Power, &mut |_| 0);
            let (_, recovered) = start_member(&disk).unwrap();
            assert_eq!(recovered.recovering, Recovering::No, "{name}");
            assert_eq!(recovered.accepted, AcceptedEpoch(1), "{name}");
        }
    }
    let sound = worked();
    let repaired = repair::accept_loss(&*sound, &MEMBER, &mut Nodes::default()).unwrap();
    assert!(repaired.before.is_sound() && repaired.aside.is_empty());
}

// ---- installation and truncation --------------------------------------------------------------------

#[test]
fn an_unfinished_installation_is_finished_by_whoever_starts() {
    let disk = worked();
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    // Up to where the intent is durable.
    let image = Nodes { zxids: (E1 + 1..=E1 + 3).collect(), loaded: None };
    for n in 0.. {
        let forked = Arc::new(disk.fork());
        let (_, recovered) = start_member(&forked).unwrap();
        let mut log = writer(&forked, &recovered);
        forked.crash_after(n, 0);
        let _ = log.install(&image, CurrentEpoch(2), &SnapshotOptions::default());
        forked.restart(Crash::Process, &mut |_| 0);
        if forked.content(&crate::log::install::intent_path()).is_some() {
            let report = repair::examine(&*forked, &MEMBER, &mut Nodes::default()).unwrap();
            assert!(report.is_sound() && report.warnings.join(" ").contains("finishes"), "{report}");
            let mut state = Nodes::default();
            let recovered = recover(&forked, &RecoverOptions::default(), &mut state).unwrap();
            assert_eq!((recovered.last_zxid, state.zxids.len()), (zxid(E1 + 3), 3));
            break;
        }
    }
    log.install(&image, CurrentEpoch(2), &SnapshotOptions::default()).unwrap();
    let mut names = disk.names(Dir::DataVersion);
    names.retain(|n| !n.starts_with("farrier."));
    assert_eq!(names, ["acceptedEpoch", "currentEpoch", "snapshot.100000003"]);
}

/// A disk that is full while a snapshot is installed is not left fuller than it was; and what a process left that was
/// killed in the midst of it goes before a start writes anything.
#[test]
fn an_installation_that_fails_leaves_nothing_of_its_snapshot() {
    let disk = worked();
    let image = Nodes { zxids: (E1 + 1..=E1 + 30).collect(), loaded: None };
    let left = |disk: &MemDisk| disk.names(Dir::DataVersion).iter().any(|n| n == "farrier.snapshot.install");
    let (mut without_intent, mut killed) = (0, 0);
    for n in 1.. {
        let forked = Arc::new(disk.fork());
        let (_, recovered) = start_member(&forked).unwrap();
        let mut log = writer(&forked, &recovered);
        forked.fail_nth(n, DiskErrorKind::Full);
        if log.install(&image, CurrentEpoch(2), &SnapshotOptions::default()).is_ok() {
            break;
        }
        if forked.content(&crate::log::install::intent_path()).is_none() {
            without_intent += 1;
            assert!(!left(&forked), "the {n}th operation failed");
        }

        let forked = Arc::new(disk.fork());
        let (_, recovered) = start_member(&forked).unwrap();
        let mut log = writer(&forked, &recovered);
        forked.crash_after(n, 0);
        let _ = log.install(&image, CurrentEpoch(2), &SnapshotOptions::default());
        forked.restart(Crash::Process, &mut |_| 0);
        if left(&forked) && forked.content(&crate::log::install::intent_path()).is_none() {
            killed += 1;
            // The first two operations are the removal and its sync; then nothing can be written.
            forked.fail_from(3, DiskErrorKind::Full);
            let _ = start_member(&forked);
            assert!(!left(&forked), "killed after {n} operations");
        }
    }
    assert!(without_intent > 2 && killed > 0, "{without_intent} {killed}");
}

#[test]
fn the_state_is_loaded_again_beside_the_writer() {
    let disk = worked();
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    append(&mut log, E1 + 9..=E1 + 11);
    for after in [E1 + 11, E1 + 9, E1 + 5, E1 + 2] {
        assert!(log.truncate(zxid(after)).unwrap());
        let before = disk.count();
        let mut state = Nodes::default();
        assert_eq!(crate::reload(&*disk, &MEMBER, &mut state).unwrap(), zxid(after));
        assert_eq!((state.zxids, disk.count()), ((E1 + 1..=after).collect(), before));
    }
    append(&mut log, [E1 + 3]);
    let image = Nodes { zxids: vec![E1 + 1, E1 + 2], loaded: None };
    log.install(&image, CurrentEpoch(2), &SnapshotOptions::default()).unwrap();
    assert_eq!(log.floor(), zxid(E1 + 2));
    append(&mut log, [2 * E1 + 1]);
    let mut state = Nodes::default();
    assert_eq!(crate::reload(&*disk, &MEMBER, &mut state).unwrap(), zxid(2 * E1 + 1));
    assert_eq!(state.zxids, [E1 + 1, E1 + 2, 2 * E1 + 1]);
    // Damage is for a start.
    flip(&disk, &newest_log(&disk), 20);
    assert_eq!(crate::reload(&*disk, &MEMBER, &mut Nodes::default()).unwrap_err().kind, RefusalKind::Damage);
    assert_eq!(read_recovering(&*disk).unwrap(), Recovering::No);
}

fn snapshots(disk: &MemDisk) -> Vec<String> {
    disk.names(Dir::DataVersion).into_iter().filter(|n| n.starts_with("snapshot.")).collect()
}

#[test]
fn a_cut_without_a_snapshot_below_changes_nothing() {
    let disk = worked();
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    let before = disk.count();
    // Not in the log; beyond its end; of an epoch that never was.
    for nowhere in [E1, E1 + 9, 5, E1 - 1, 2 * E1 + 1] {
        assert!(!log.truncate(zxid(nowhere)).unwrap(), "{nowhere:x}");
    }
    // The only snapshot below is not whole.
    flip(&disk, &DiskPath::new(Dir::DataVersion, "snapshot.0"), 60);
    assert!(!log.truncate(zxid(E1 + 3)).unwrap());
    assert_eq!(disk.count(), before);
    assert!(log.truncate(zxid(E1 + 4)).unwrap(), "this needs only the newer one");
    assert_eq!(log.durable(), zxid(E1 + 4));
    append(&mut log, [2 * E1 + 1]);
    disk.restart(Crash::Power, &mut |_| 0);
    let (state, _) = start_member(&disk).unwrap();
    assert_eq!(state.zxids, [E1 + 1, E1 + 2, E1 + 3, E1 + 4, 2 * E1 + 1]);
}

#[test]
fn a_cut_takes_newer_snapshots_and_fuzzy_ones_along() {
    // As Apache leaves it: the trailers tell that the state had gone on.
    let disk = worked();
    let written = write_snapshot(
        &*disk,
        &Nodes { zxids: (E1 + 1..=E1 + 7).collect(), loaded: None },
        &SnapshotOptions::default(),
    )
    .unwrap();
    disk.rename(&written.path, &DiskPath::new(Dir::DataVersion, "snapshot.100000002")).unwrap();
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    assert!(log.truncate(zxid(E1 + 3)).unwrap());
    assert_eq!(snapshots(&disk), ["snapshot.0"]);
    let (state, recovered) = start_member(&disk).unwrap();
    assert_eq!((state.zxids.len(), recovered.last_zxid), (3, zxid(E1 + 3)));
    assert_eq!(recovered.mark.floor, Zxid::ZERO, "the log was followed from there");
}

#[test]
fn a_cut_needs_every_record_from_the_snapshot_on() {
    let disk = worked();
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    // Below the snapshot that was loaded: nobody has looked at these since.
    let len = disk.content(&log_path(zxid(E1 + 1))).unwrap().len();
    flip(&disk, &log_path(zxid(E1 + 1)), len - 60);
    let before = disk.count();
    assert!(!log.truncate(zxid(E1 + 2)).unwrap());
    assert_eq!(disk.count(), before);
}

/// Apache does not sync its snapshots, and a start syncs only the one that it loads.
#[test]
fn a_cut_makes_its_snapshot_durable() {
    let template = worked();
    let disk = Arc::new(MemDisk::default());
    for dir in [Dir::Data, Dir::DataVersion] {
        for name in template.names(dir).into_iter().filter(|n| n != "snapshot.0") {
            let path = DiskPath::new(dir, name);
            disk.put(&path, template.content(&path).unwrap());
        }
    }
    let path = DiskPath::new(Dir::DataVersion, "snapshot.0");
    let file = disk.open(&path, crate::disk::OpenMode::CreateNew).unwrap();
    crate::disk::DiskFile::write_at(&file, 0, &template.content(&path).unwrap()).unwrap();
    disk.sync_dir(Dir::DataVersion).unwrap();
    let (_, recovered) = start_member(&disk).unwrap();
    assert!(writer(&disk, &recovered).truncate(zxid(E1 + 2)).unwrap());
    disk.restart(Crash::Power, &mut |_| 0);
    let (state, recovered) = start_member(&disk).unwrap();
    assert_eq!((state.zxids, recovered.recovering), (vec![E1 + 1, E1 + 2], Recovering::No));
}

/// Whoever takes differences from the log of a member must know the floor, also after a restart.
#[test]
fn the_floor_survives() {
    let disk = worked();
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    let image = Nodes { zxids: (E1 + 1..=E1 + 6).collect(), loaded: None };
    log.install(&image, CurrentEpoch(1), &SnapshotOptions::default()).unwrap();
    append(&mut log, E1 + 7..=E1 + 12);
    write_snapshot(&*disk, &Nodes { zxids: (E1 + 1..=E1 + 12).collect(), loaded: None }, &SnapshotOptions::default())
        .unwrap();
    for _ in 0..3 {
        let (_, recovered) = start_member(&disk).unwrap();
        assert_eq!(recovered.mark.floor, zxid(E1 + 6));
        let last = recovered.last_zxid.get();
        append(&mut writer(&disk, &recovered), [last + 1]);
    }
    let (_, recovered) = start_member(&disk).unwrap();
    assert!(writer(&disk, &recovered).truncate(zxid(E1 + 8)).unwrap());
    assert_eq!(start_member(&disk).unwrap().1.mark.floor, zxid(E1 + 6));
}

/// An Apache server has worked on the directory since, and currentEpoch shows it.
#[test]
fn a_mark_of_another_epoch_is_not_in_force() {
    let disk = worked();
    let content = disk.content(&newest_log(&disk)).unwrap();
    disk.put(&newest_log(&disk), content[..content.len() - 30].to_vec());
    put_epoch(&disk, &accepted_epoch_path(), "2");
    put_epoch(&disk, &current_epoch_path(), "2");
    let recovered = start_twice(&disk);
    assert_eq!((recovered.recovering, recovered.current.0), (Recovering::No, 2));
    assert!(matches!(read_mark(&*disk).unwrap(), MarkRead::Mark(Mark { epoch: 2, .. })));
}

#[test]
fn the_marks_of_two_epochs_stand_side_by_side() {
    let disk = worked();
    let MarkRead::Mark(old) = read_mark(&*disk).unwrap() else { panic!("it was closed in order") };
    let mut file = MarkFile::take_over(&*disk, old.sequence).unwrap();
    file.write(&*disk, Mark { epoch: 2, ..old }).unwrap();
    file.sync().unwrap();
    assert!(matches!(read_mark(&*disk).unwrap(), MarkRead::Mark(Mark { epoch: 2, .. })));
    for epoch in [1, 2] {
        let found = mark_of_epoch(&*disk, epoch).unwrap().unwrap();
        assert_eq!((found.epoch, found.offset, found.zxid), (epoch, old.offset, old.zxid));
    }
    // The first mark that recovery writes leaves the one in force alone.
    flip(&disk, &newest_log(&disk), 20);
    for n in 0..40 {
        let disk = Arc::new(disk.fork());
        disk.crash_after(n, 7);
        let _ = start_member(&disk);
        disk.restart(Crash::Power, &mut chooser(n));
        assert_eq!(start_member(&disk).unwrap().1.recovering, Recovering::History);
    }
}

#[test]
fn half_written_small_files_go() {
    let disk = worked();
    let left = [
        (Dir::DataVersion, "acceptedEpoch.tmp"),
        (Dir::DataVersion, "currentEpoch.tmp"),
        (Dir::Data, "farrier.own.tmp"),
        (Dir::Data, "farrier.install.tmp"),
        (Dir::Data, "farrier.recovering.tmp"),
        (Dir::Data, "farrier.pending.tmp"),
    ];
    for (dir, name) in left {
        disk.put(&DiskPath::new(dir, name), b"9".to_vec());
    }
    let recovered = start_twice(&disk);
    assert_eq!((recovered.accepted.0, recovered.current.0, recovered.recovering), (1, 1, Recovering::No));
    for (dir, name) in left {
        assert!(disk.content(&DiskPath::new(dir, name)).is_none(), "{name}");
    }
}

#[test]
fn a_standalone_start_asks_no_epoch_files() {
    let disk = used(&[4]);
    replace(&*disk, Dir::DataVersion, "currentEpoch", "currentEpoch.tmp", b"nonsense").unwrap();
    let (state, recovered) = start(&disk).unwrap();
    assert_eq!((state.zxids.len(), recovered.recovering), (4, Recovering::No));
    assert_eq!(disk.content(&current_epoch_path()), Some(b"nonsense".to_vec()));
    assert_eq!(disk.content(&accepted_epoch_path()), None);
}
