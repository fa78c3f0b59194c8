//! Marks that are bad, or tell of something else.

use super::*;

/// Flips in the mark leave the other slot; cuts leave what is left; nothing of it loses a record.
#[test]
fn a_mark_bad_anywhere() {
    let disk = used(&[3, 1]);
    let mark = disk.content(&mark_path()).unwrap();
    assert_eq!(mark.len() as u64, SLOT_SPACING + 64);
    let good = mark_of(&disk);
    for offset in (0..64).chain(SLOT_SPACING as usize..mark.len()) {
        for bit in [0, 5] {
            let disk = Arc::new(disk.fork());
            let mut bad = mark.clone();
            bad[offset] ^= 1 << bit;
            disk.put(&mark_path(), bad);
            let read = mark_of(&disk);
            // The newest, or the one that was synced when the segment was begun.
            assert!(read == good || read.offset == ends(3)[0], "{read:?}");
            assert!(read.offset >= ends(3)[0]);
            check(&disk, 4, 4, "flip in the mark");
        }
    }
    for len in 0..=mark.len() {
        if len > 70 && (len as u64) < SLOT_SPACING && len % 97 != 0 {
            continue;
        }
        let disk = Arc::new(disk.fork());
        disk.put(&mark_path(), mark[..len].to_vec());
        check(&disk, 4, 4, "short mark");
        assert_eq!(mark_of(&disk).zxid, zxid(4), "recovery restores it");
    }
}

/// A disk that isn't mounted, or a file that was moved: the refusal says that something is missing, and which way on
/// loses nothing.
#[test]
fn what_is_missing_is_told_as_missing() {
    let refusal = |disk: &Arc<MemDisk>| {
        let refusal = start(disk).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Damage);
        let said = refusal.to_string();
        let (mounted, repair) = (said.find("the right disk mounted").unwrap(), said.find("--accept-loss").unwrap());
        assert!(mounted < repair, "{said}");
        said
    };
    // The newest of two segments.
    let disk = used(&[3, 1]);
    let older = log_path(mark_of(&disk).segment);
    let mut log = writer(&disk, &start(&disk).unwrap().1);
    log.append(zxid(5), &txn(5));
    log.close().unwrap();
    let last = log_path(mark_of(&disk).segment);
    assert_ne!(older, last);
    disk.remove(&last).unwrap();
    let said = refusal(&disk);
    let file = disk.describe(&last);
    assert!(
        said.starts_with(&format!("{file}: the file is missing; the data ends with zxid 0x4; expected all up to")),
        "{said}"
    );
    // All that there was below version-2.
    for name in disk.names(Dir::LogVersion) {
        disk.remove(&DiskPath::new(Dir::LogVersion, name)).unwrap();
    }
    let said = refusal(&disk);
    assert!(
        said.contains("the file is missing, and there is neither another log nor a whole snapshot; expected"),
        "{said}"
    );
    // A file that is there and too short is no missing one.
    let disk = used(&[3, 1]);
    let mark = mark_of(&disk);
    let path = log_path(mark.segment);
    disk.put(&path, Vec::new());
    let said = start(&disk).unwrap_err().to_string();
    assert!(!said.contains("missing") && !said.contains("mounted"), "{said}");
}

/// After an installation the mark names no segment: what it tells of stood in the snapshot.
#[test]
fn a_missing_snapshot_is_looked_for_where_snapshots_are() {
    let disk = Arc::new(MemDisk::new(true));
    snapshot_of(&disk, 6);
    disk.put(&log_file(1), apache_log(1..=4, 100));
    start(&disk).unwrap();
    assert_eq!(mark_of(&disk).segment, Zxid::ZERO);
    for dir in [Dir::DataVersion, Dir::LogVersion] {
        for name in disk.names(dir) {
            disk.remove(&DiskPath::new(dir, name)).unwrap();
        }
    }
    let said = start(&disk).unwrap_err().to_string();
    assert!(
        said.starts_with("/data/version-2: there is neither a log nor a whole snapshot; expected all up to"),
        "{said}"
    );
    let report = crate::repair::examine(&*disk, &RecoverOptions::default(), &mut Nodes::default()).unwrap();
    assert_eq!(report.findings[0].file.as_deref(), Some("/data/version-2"));
}

#[test]
fn a_mark_of_a_newer_version_is_refused() {
    let disk = used(&[1]);
    let mut slot = mark_of(&disk).encode();
    slot[11] = 9;
    let sum = {
        let mut crc = flate2::Crc::new();
        crc.update(&slot[..60]);
        crc.sum()
    };
    slot[60..].copy_from_slice(&sum.to_be_bytes());
    disk.put(&mark_path(), slot.to_vec());
    assert!(start(&disk).unwrap_err().to_string().contains("version 9"));
}

#[test]
fn the_mark_yields_to_apache() {
    // Apache has written a newer segment: its end is judged without the mark, and gaps are refused.
    let disk = used(&[4]);
    let mut log = apache_log(5..=7, 0);
    let n = log.len();
    log[n - 5] ^= 1;
    disk.put(&log_file(5), log.clone());
    assert_eq!(check(&disk, 6, 6, "torn").1.last_zxid, zxid(6));
    let disk = used(&[4]);
    log[40] ^= 1;
    disk.put(&log_file(5), log);
    assert_eq!(start(&disk).unwrap_err().kind, RefusalKind::Damage);
    // Another currentEpoch: the log may have been cut since.
    let disk = used(&[4]);
    disk.put(&log_file(1), apache_log(1..=2, 50));
    assert_eq!(start(&disk).unwrap_err().kind, RefusalKind::Damage);
    let later = RecoverOptions { current_epoch: 1, ..RecoverOptions::default() };
    let recovered = recover(&disk, &later, &mut Nodes::default()).unwrap();
    assert_eq!((recovered.last_zxid, recovered.mark.epoch), (zxid(2), 1));
}

/// The mark tells of a `log.1` of this server's; in its place now stands one that Apache wrote over a copy
/// of older data. Its torn end is Apache's.
#[test]
fn a_mark_of_another_life_is_not_in_force() {
    let disk = used(&[9]);
    let mark = mark_of(&disk);
    assert_eq!((mark.segment, mark.zxid), (zxid(1), zxid(9)));
    for (repeat, torn) in [(1, 20), (1, 3000), (2, 20), (7, 60)] {
        // Records that stand twice move all later ones away from where the mark has them.
        let mut records: Vec<u64> = vec![1; repeat];
        records.extend(2..=14);
        let mut log = apache_log(records.iter().copied(), 0);
        let end = log.len();
        log.extend_from_slice(&apache_log([15], 0)[16..][..30]);
        log.resize(log.len() + torn, 0);
        let fits = repeat == 1;
        let forked = Arc::new(disk.fork());
        forked.put(&log_file(1), log.clone());
        check(&forked, 14, 14, "a torn end");
        assert_eq!(forked.content(&log_file(1)).unwrap().len(), end);
        // A bad record with good ones behind it: torn only for who wrote the mark.
        let forked = Arc::new(disk.fork());
        let at = end - record_len(txn(14).len()) - record_len(txn(13).len()) + 20;
        log[at] ^= 1;
        forked.put(&log_file(1), log);
        assert_eq!(start(&forked).is_ok(), fits, "{repeat}");
    }
    // A shorter file with other, shorter records that go further than the mark.
    let forked = Arc::new(disk.fork());
    forked.put(&mark_path(), Vec::new());
    let later = Mark { offset: mark.offset + 5000, ..mark };
    MarkFile::create(&*forked, later).unwrap();
    check(&forked, 9, 9, "the file never was that long");
}

#[test]
fn a_mark_is_borne_out_after_every_start() {
    // The snapshot is ahead of the log: the mark names no place in it.
    let disk = Arc::new(MemDisk::default());
    snapshot_of(&disk, 6);
    disk.put(&log_file(1), apache_log(1..=4, 100));
    for _ in 0..2 {
        check(&disk, 6, 6, "ahead of the log");
        assert_eq!((mark_of(&disk).segment, mark_of(&disk).zxid), (Zxid::ZERO, zxid(6)));
    }
    // Nor does one that is in force, and no difference may reach across what the log lacks.
    let disk = used(&[4]);
    apaches_snapshot(&disk, &Nodes::up_to(6));
    for _ in 0..2 {
        check(&disk, 6, 6, "ahead of a marked log");
        let mark = mark_of(&disk);
        assert_eq!((mark.segment, mark.zxid, mark.floor), (Zxid::ZERO, zxid(6), zxid(6)));
    }
}
