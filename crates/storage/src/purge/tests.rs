use super::*;
use crate::compress::Compression;
use crate::disk::DiskErrorKind;
use crate::mem::{Crash, MemDisk, Op};
use crate::snapshot::tests::{TestState, bytes_of};
use crate::snapshot::{SnapshotOptions, write_snapshot};

const ASKED: PurgePolicy = PurgePolicy { retain: 3, require_own: None, field_max: TXN_MAX };

fn state(zxid: u32) -> TestState {
    TestState::small(Zxid::new(0, zxid))
}

/// A snapshot that Apache left.
fn foreign(disk: &MemDisk, zxid: u32) {
    disk.put(
        &DiskPath::new(Dir::DataVersion, format!("snapshot.{zxid:x}")),
        bytes_of(&state(zxid), Compression::Plain),
    );
}

fn own(disk: &MemDisk, zxid: u32) {
    write_snapshot(disk, &state(zxid), &SnapshotOptions::default()).unwrap();
}

fn log(disk: &MemDisk, name: &str) {
    disk.put(&DiskPath::new(Dir::LogVersion, name), b"ZKLG".to_vec());
}

/// Takes away a file's last byte, in place.
fn damage(disk: &MemDisk, name: &str) {
    let path = DiskPath::new(Dir::DataVersion, name);
    let mut bytes = disk.content(&path).unwrap();
    bytes.pop();
    disk.put(&path, bytes);
}

fn left(disk: &MemDisk) -> Vec<String> {
    let mut names = disk.names(Dir::DataVersion);
    names.extend(disk.names(Dir::LogVersion));
    names
}

/// Six snapshots of Apache at 10, 20, … 60 and a log behind each.
fn taken_over() -> MemDisk {
    let disk = MemDisk::new(true);
    log(&disk, "log.1");
    for zxid in [0x10, 0x20, 0x30, 0x40, 0x50, 0x60] {
        foreign(&disk, zxid);
        log(&disk, &format!("log.{:x}", zxid + 1));
    }
    disk
}

#[test]
fn the_newest_valid_ones_stay_with_the_logs_they_need() {
    let disk = taken_over();
    let purged = purge(&disk, &ASKED).unwrap();
    assert_eq!((purged.held_back, purged.failed.clone()), (None, None));
    assert_eq!(purged.kept.len(), 3);
    assert_eq!(
        left(&disk),
        // log.31 is the newest that starts at or below 40 and may reach beyond it.
        ["snapshot.40", "snapshot.50", "snapshot.60", "log.31", "log.41", "log.51", "log.61"]
    );
    let names: Vec<_> = purged.removed.iter().map(|p| p.rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["snapshot.10", "snapshot.20", "snapshot.30", "log.1", "log.11", "log.21"]);
    assert!(disk.ops().ends_with(&[Op::SyncDir { dir: Dir::LogVersion }]));
    assert!(disk.ops().contains(&Op::SyncDir { dir: Dir::DataVersion }));

    let again = purge(&disk, &ASKED).unwrap();
    assert!(again.removed.is_empty() && again.kept == purged.kept);
}

/// Apache does not sync its snapshots. What is kept is durable before anything goes that could stand in for it.
#[test]
fn what_is_kept_is_durable_before_anything_goes() {
    let disk = taken_over();
    let names = ["snapshot.40", "snapshot.50", "snapshot.60"];
    let paths = names.map(|name| DiskPath::new(Dir::DataVersion, name));
    for path in &paths {
        let content = disk.content(path).unwrap();
        disk.remove(path).unwrap();
        let file = disk.open(path, OpenMode::CreateNew).unwrap();
        DiskFile::write_at(&file, 0, &content).unwrap();
    }
    disk.sync_dir(Dir::DataVersion).unwrap();
    let unsynced = disk.fork();
    let purged = purge(&disk, &ASKED).unwrap();
    assert_eq!((purged.removed.len(), purged.failed), (6, None));
    disk.restart(Crash::Power, &mut |_| 0);
    for path in &paths {
        verify_snapshot(&disk, path, TXN_MAX).unwrap();
    }
    unsynced.fail_nth(1, DiskErrorKind::Other);
    let purged = purge(&unsynced, &ASKED).unwrap();
    assert!(purged.removed.is_empty() && purged.failed.is_some_and(|e| e.operation == "sync"));
}

#[test]
fn a_log_that_starts_at_the_snapshot_is_the_one_that_stays() {
    let disk = taken_over();
    log(&disk, "log.40");
    purge(&disk, &ASKED).unwrap();
    assert_eq!(left(&disk)[3..], ["log.40", "log.41", "log.51", "log.61"]);
}

#[test]
fn one_log_is_never_removed() {
    let disk = MemDisk::new(true);
    for zxid in [0x10, 0x20, 0x30, 0x40] {
        foreign(&disk, zxid);
    }
    log(&disk, "log.1");
    purge(&disk, &ASKED).unwrap();
    assert_eq!(left(&disk), ["snapshot.20", "snapshot.30", "snapshot.40", "log.1"]);
}

#[test]
fn damaged_snapshots_do_not_count() {
    let disk = taken_over();
    damage(&disk, "snapshot.60");
    damage(&disk, "snapshot.40");
    let purged = purge(&disk, &ASKED).unwrap();
    assert_eq!(purged.invalid.len(), 2);
    assert!(purged.invalid[0].contains("snapshot.60"), "{:?}", purged.invalid);
    assert_eq!(
        left(&disk),
        [
            "snapshot.20",
            "snapshot.30",
            "snapshot.40",
            "snapshot.50",
            "snapshot.60",
            "log.11",
            "log.21",
            "log.31",
            "log.41",
            "log.51",
            "log.61"
        ],
        "a damaged one that is newer than the oldest kept is not this module's to remove"
    );

    for name in ["snapshot.20", "snapshot.30"] {
        damage(&disk, name);
    }
    let before = left(&disk);
    let purged = purge(&disk, &ASKED).unwrap();
    assert_eq!(purged.held_back, Some(HeldBack::FewValid { valid: 1, needed: 3 }));
    assert!(purged.removed.is_empty());
    assert_eq!(left(&disk), before);
}

#[test]
fn fewer_than_three_are_never_kept() {
    let disk = taken_over();
    purge(&disk, &PurgePolicy { retain: 0, ..ASKED }).unwrap();
    assert_eq!(left(&disk).iter().filter(|n| n.starts_with("snapshot")).count(), 3);

    let disk = taken_over();
    purge(&disk, &PurgePolicy { retain: 5, ..ASKED }).unwrap();
    assert_eq!(left(&disk).iter().filter(|n| n.starts_with("snapshot")).count(), 5);
}

#[test]
fn a_takeover_leaves_apaches_files_until_three_own_ones_are_verified() {
    let disk = taken_over();
    let policy = PurgePolicy::default();
    for (number, zxid) in [0x70, 0x80].into_iter().enumerate() {
        let before = left(&disk);
        assert_eq!(purge(&disk, &policy).unwrap().held_back, Some(HeldBack::FewOwn { own: number, needed: 3 }));
        assert_eq!(left(&disk), before);
        own(&disk, zxid);
    }
    own(&disk, 0x90);
    damage(&disk, "snapshot.90");
    let held = purge(&disk, &policy).unwrap();
    assert_eq!(held.held_back, Some(HeldBack::FewOwn { own: 2, needed: 3 }), "one is damaged");
    own(&disk, 0x90);

    // Others come and go: the criterion is on disk, not in the process.
    disk.restart(Crash::Power, &mut |_| 0);
    let purged = purge(&disk, &policy).unwrap();
    assert_eq!(purged.held_back, None);
    assert_eq!(left(&disk), ["snapshot.70", "snapshot.80", "snapshot.90", "log.61"]);
    assert_eq!(purged.removed.len(), 12);
}

#[test]
fn a_file_that_somebody_else_put_under_our_name_is_not_own() {
    let disk = taken_over();
    for zxid in [0x70, 0x80, 0x90] {
        own(&disk, zxid);
    }
    // Of the same length, by another writer.
    let path = DiskPath::new(Dir::DataVersion, "snapshot.80");
    let other = bytes_of(&state(0x81), Compression::Plain);
    assert_eq!(other.len(), disk.content(&path).unwrap().len());
    disk.put(&path, other);
    assert_eq!(purge(&disk, &PurgePolicy::default()).unwrap().held_back, Some(HeldBack::FewOwn { own: 2, needed: 3 }));
}

#[test]
fn a_damaged_list_of_own_ones_only_holds_back() {
    let disk = taken_over();
    for zxid in [0x70, 0x80, 0x90] {
        own(&disk, zxid);
    }
    let list = DiskPath::new(Dir::Data, "farrier.own");
    let text = disk.content(&list).unwrap();
    let before = left(&disk);
    for at in 0..text.len() {
        let mut changed = text.clone();
        changed[at] ^= 1;
        disk.put(&list, changed);
        let fork = disk.fork();
        match purge(&fork, &PurgePolicy::default()).unwrap().held_back {
            Some(HeldBack::FewOwn { .. }) => assert_eq!(left(&fork), before, "byte {at}"),
            // The header only tells people what the file is.
            None => assert!(at <= "farrier.own 1".len(), "byte {at}"),
            Some(held @ HeldBack::FewValid { .. }) => panic!("{held:?}"),
        }
    }
    disk.put(&list, Vec::new());
    assert!(purge(&disk, &PurgePolicy::default()).unwrap().held_back.is_some());
}

#[test]
fn names_that_no_server_writes_stay() {
    let disk = taken_over();
    for name in ["snapshot.5.bak", "snapshot.10.gz", "snapshot.10.tmp", "snapshot.old", "snapshot.010"] {
        disk.put(&DiskPath::new(Dir::DataVersion, name), b"x".to_vec());
    }
    for name in ["log.5.bad", "log.old", "log.01", "farrier.next"] {
        log(&disk, name);
    }
    purge(&disk, &ASKED).unwrap();
    assert_eq!(
        left(&disk),
        [
            "snapshot.010",
            "snapshot.40",
            "snapshot.5.bak",
            "snapshot.50",
            "snapshot.60",
            "snapshot.old",
            "farrier.next",
            "log.01",
            "log.31",
            "log.41",
            "log.5.bad",
            "log.51",
            "log.61",
            "log.old"
        ]
    );
}

#[test]
fn one_state_twice_is_one_way_back() {
    let disk = MemDisk::new(true);
    for zxid in [0x10, 0x20, 0x30] {
        foreign(&disk, zxid);
    }
    for copy in ["snapshot.30.gz", "snapshot.20.snappy"] {
        let compression = Compression::of_name(copy);
        let zxid = if copy.contains("30") { 0x30 } else { 0x20 };
        disk.put(&DiskPath::new(Dir::DataVersion, copy), bytes_of(&state(zxid), compression));
    }
    assert!(purge(&disk, &ASKED).unwrap().removed.is_empty());
    assert!(disk.names(Dir::DataVersion).contains(&"snapshot.10".to_owned()));
}

#[test]
fn a_failed_removal_stops_the_purge_before_the_logs() {
    let disk = taken_over();
    // Behind three syncs of what is kept and the first removal.
    disk.fail_nth(5, DiskErrorKind::Denied);
    let purged = purge(&disk, &ASKED).unwrap();
    assert_eq!(purged.failed.map(|e| e.kind), Some(DiskErrorKind::Denied));
    assert_eq!(purged.removed.len(), 1);
    assert_eq!(disk.names(Dir::LogVersion).len(), 7);
    assert!(purge(&disk, &ASKED).unwrap().failed.is_none());
    assert_eq!(left(&disk).len(), 7);
}

#[test]
fn a_crash_half_way_keeps_what_is_kept() {
    let disk = taken_over();
    for n in 0..8 {
        for bits in 0..64_usize {
            let disk = disk.fork();
            disk.crash_after(n, 0);
            purge(&disk, &ASKED).unwrap();
            assert!(disk.has_crashed());
            let mut turn = bits;
            disk.restart(Crash::Power, &mut |n| {
                turn /= n;
                (bits ^ turn) % n
            });
            let left = left(&disk);
            for name in ["snapshot.40", "snapshot.50", "snapshot.60", "log.31", "log.41", "log.51", "log.61"] {
                assert!(left.iter().any(|l| l == name), "{name}");
            }
            if left.len() < 13 - 3 {
                assert!(!left.contains(&"snapshot.10".to_owned()), "snapshots are durably gone before a log goes");
            }
        }
    }
}
