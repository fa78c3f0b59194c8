//! Crashes and failures at any disk operation.

use super::*;
use crate::testing::{Kind, restart};

/// A server's life in three runs: batches of every size, segments prepared and not, records larger than a
/// segment, snapshots, an end in order and one without. Answers the last transaction that was acknowledged
/// and the last one that was appended; stops where the disk stops.
fn live(disk: &Arc<MemDisk>) -> (u64, u64) {
    let (mut acked, mut z) = (0, 0);
    let mut run = || -> Result<(), String> {
        for life in 0..3 {
            let (mut state, recovered) = start(disk).map_err(|e| e.to_string())?;
            assert_eq!(recovered.last_zxid, zxid(acked));
            z = acked;
            let mut log = LogWriter::open(Arc::clone(disk), &recovered, TEST_LOG);
            for (i, n) in [1, 5, 2, 0, 9, 1].into_iter().enumerate() {
                for _ in 0..n {
                    z += 1;
                    log.append(zxid(z), &txn(z));
                }
                let committed = log.commit().map_err(|e| e.to_string())?;
                assert_eq!((committed.zxid, committed.records), (zxid(z), n));
                acked = z;
                disk.note(acked);
                log.maintain(i as u64 * 700).map_err(|e| e.to_string())?;
                if committed.started.is_some() && life != 1 {
                    prepare_segment(&**disk, 9000, &mut |_| {}).map_err(|e| e.to_string())?;
                }
                if i == 2 {
                    state.zxids = (1..=acked).collect();
                    log.settle().map_err(|e| e.to_string())?;
                    write_snapshot(&**disk, &state, &SnapshotOptions::default()).map_err(|e| e.to_string())?;
                    log.roll();
                }
            }
            if life == 0 {
                log.close().map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    };
    let _ = run();
    (acked, z)
}

/// Apache syncs no directory, and a killed process no file: whatever recovery shows is durable afterwards,
/// names included.
#[test]
fn what_another_process_left_unsynced_becomes_durable() {
    for separate in [false, true] {
        let disk = Arc::new(MemDisk::new(separate));
        let write = |path: &DiskPath, content: &[u8]| {
            disk.open(path, OpenMode::CreateNew).unwrap().write_at(0, content).unwrap();
        };
        let elsewhere = MemDisk::default();
        snapshot_of(&elsewhere, 2);
        let snapshot = DiskPath::new(Dir::DataVersion, "snapshot.2");
        write(&snapshot, &elsewhere.content(&snapshot).unwrap());
        write(&log_file(1), &apache_log(1..=5, 600));
        write(&log_file(6), &apache_log(6..=9, 600));
        disk.restart(Crash::Process, &mut |_| 0);
        check(&disk, 9, 9, "killed");
        disk.restart(Crash::Power, &mut |_| 0);
        check(&disk, 9, 9, "power lost after recovery");
    }
}

/// The mark that names a segment is on disk before a second write goes there: otherwise a batch of which
/// only later sectors arrive would look like damage.
#[test]
fn a_batch_in_any_order_behind_the_first_record_of_a_segment() {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    log.append(zxid(1), &txn(1));
    log.commit().unwrap();
    for z in 2..=6 {
        log.append(zxid(z), &txn(z));
    }
    disk.crash_after(1, 0);
    log.commit().unwrap_err();
    // Of every unsynced write the first sector is lost and the others arrive.
    let mut first = true;
    disk.restart(Crash::Power, &mut |n| {
        let lost = std::mem::replace(&mut first, n == 3);
        if n == 3 { 2 } else { usize::from(!lost) }
    });
    let mut reader = crate::segment::SegmentReader::open(&*disk, &log_file(1), TXN_MAX).unwrap();
    assert!(reader.valid_record_after(ends(1)[0], zxid(1)).unwrap().is_some(), "a good record behind a bad one");
    let (_, recovered) = check(&disk, 1, 6, "only later sectors");
    assert_eq!((recovered.last_zxid, recovered.warnings.len()), (zxid(1), 1));
}

#[test]
fn a_crash_between_any_two_operations() {
    let whole = Arc::new(MemDisk::default());
    let (acked, _) = live(&whole);
    assert_eq!(acked, 54, "the workload runs through on a healthy disk");
    let total = whole.count();
    assert!(total > 150, "{total}");
    for n in 0..=total {
        for (i, kind) in [Kind::Process, Kind::Power(n * 3 + 1), Kind::Power(n * 3 + 2), Kind::ProcessThenPower(n)]
            .into_iter()
            .enumerate()
        {
            let disk = Arc::new(MemDisk::default());
            disk.crash_after(n, i * 150);
            let (acked, appended) = live(&disk);
            restart(&disk, kind);
            let what = format!("{kind:?} after {n} of {total}");
            let (_, recovered) = check(&disk, acked, appended, &what);
            // What recovery has shown is durable, and the server goes on behind it.
            let next = recovered.last_zxid.get() + 1;
            disk.restart(Crash::Power, &mut |_| 0);
            let (_, recovered) = check(&disk, next - 1, next - 1, &format!("{what}, then all unsynced lost"));
            let mut log = writer(&disk, &recovered);
            log.append(zxid(next), &txn(next));
            log.commit().unwrap();
            disk.restart(Crash::Power, &mut |_| 0);
            check(&disk, next, next, &format!("{what}, gone on"));
        }
    }
}

#[test]
fn a_crash_during_recovery() {
    let whole = Arc::new(MemDisk::default());
    live(&whole);
    for n in (0..=whole.count()).step_by(3) {
        for (seed, torn) in [(n + 7, 0), (n + 8, 100)] {
            let crashed = Arc::new(MemDisk::default());
            crashed.crash_after(n, torn);
            let (acked, appended) = live(&crashed);
            restart(&crashed, if seed % 2 == 0 { Kind::Process } else { Kind::Power(seed) });
            for m in 0.. {
                let disk = Arc::new(crashed.fork());
                disk.crash_after(m, torn);
                let done = start(&disk).is_ok();
                restart(&disk, Kind::Power(seed ^ m));
                check(&disk, acked, appended, &format!("crash after {n}, again after {m} of recovery"));
                if done {
                    break;
                }
            }
        }
    }
}

/// A failed operation is final for the writer, nothing is acknowledged after it, and a healthy disk
/// brings everything back that was.
#[test]
fn a_failure_at_any_operation() {
    let whole = Arc::new(MemDisk::default());
    live(&whole);
    let segments = list_segments(&*whole).unwrap();
    let goes_on = |snapshot: &SnapshotFile| segments.iter().all(|s| s.first.get() != snapshot.zxid.get() + 1);
    assert!(list_snapshots(&*whole).unwrap().iter().any(|s| s.zxid > Zxid::ZERO && goes_on(s)), "a segment spans one");
    let total = whole.count();
    for n in 1..=total {
        for kind in [DiskErrorKind::Other, DiskErrorKind::Full, DiskErrorKind::ReadOnly] {
            let disk = Arc::new(MemDisk::default());
            if kind == DiskErrorKind::Other {
                disk.fail_nth(n, kind)
            } else {
                disk.fail_from(n, kind)
            }
            let (acked, appended) = live(&disk);
            let lose = n % 2 == 0;
            restart(&disk, if lose { Kind::Power(n) } else { Kind::Process });
            check(&disk, acked, appended, &format!("{kind:?} at {n}"));
            disk.restart(Crash::Power, &mut |_| 0);
            check(&disk, acked, appended, &format!("{kind:?} at {n}, then all unsynced lost"));
        }
    }
}

#[test]
fn the_writer_stays_failed() {
    for n in 1..=4 {
        let disk = used(&[2]);
        let (_, recovered) = start(&disk).unwrap();
        let mut log = writer(&disk, &recovered);
        log.append(zxid(3), &txn(3));
        log.commit().unwrap();
        disk.fail_nth(n.min(2), DiskErrorKind::Full);
        log.append(zxid(4), &txn(4));
        let error = log.commit().unwrap_err();
        assert_eq!(error.kind, DiskErrorKind::Full);
        let before = disk.count();
        log.append(zxid(5), &txn(5));
        assert_eq!(log.commit().unwrap_err(), error);
        assert_eq!(log.maintain(9999).unwrap_err(), error);
        assert_eq!(log.durable(), zxid(3));
        assert_eq!(log.close().unwrap_err(), error);
        assert_eq!(disk.count(), before, "nothing is tried again");
    }
}

#[test]
fn without_force_sync_only_segments_are_synced() {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    let options = LogOptions { force_sync: false, ..LogOptions::default() };
    let mut log = LogWriter::open(Arc::clone(&disk), &recovered, options);
    log.append(zxid(1), &txn(1));
    log.commit().unwrap();
    let (before, mark) = (disk.count(), mark_of(&disk));
    for z in 2..=5 {
        log.append(zxid(z), &txn(z));
        assert_eq!(log.commit().unwrap().zxid, zxid(z));
    }
    assert_eq!(disk.count(), before + 4, "four writes and nothing else");
    assert_eq!(mark_of(&disk), mark, "the mark never tells of what was not synced");
    drop(log);
    disk.restart(Crash::Power, &mut chooser(5));
    check(&disk, 1, 5, "after a power failure");
}
