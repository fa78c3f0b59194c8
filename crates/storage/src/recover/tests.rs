use super::*;
use crate::compress::Compression;
use crate::log::{LogOptions, LogWriter, prepare_segment};
use crate::mark::{MARK_NAME, SLOT_SPACING};
use crate::mem::{Crash, MemDisk};
use crate::record::{self, record_len};
use crate::segment::{header, log_name};
use crate::snapshot::{SnapshotOptions, snapshot_name, write_snapshot};
use crate::testing::{Nodes, TEST_LOG, chooser, start, txn, used, writer, zxid};

fn mark_of(disk: &MemDisk) -> Mark {
    match read_mark(disk).unwrap() {
        MarkRead::Mark(mark) => mark,
        other => panic!("{other:?}"),
    }
}

fn without_mark(disk: &MemDisk) {
    disk.remove(&mark_path()).unwrap();
}

fn log_file(first: u64) -> DiskPath {
    log_path(zxid(first))
}

/// The log as Apache writes it: header, records, zeros.
fn apache_log(zxids: impl IntoIterator<Item = u64>, padding: usize) -> Vec<u8> {
    let mut out = header().to_vec();
    for z in zxids {
        record::encode(&mut out, &txn(z));
    }
    out.resize(out.len() + padding, 0);
    out
}

/// Where each record of 1..=n ends in a log that starts with 1.
fn ends(n: u64) -> Vec<u64> {
    let mut at = FIRST_RECORD;
    (1..=n)
        .map(|z| {
            at += record_len(txn(z).len()) as u64;
            at
        })
        .collect()
}

fn snapshot_of(disk: &MemDisk, last: u64) {
    write_snapshot(disk, &Nodes::up_to(last), &SnapshotOptions::default()).unwrap();
}

/// Checks what a restart makes of the disk: everything up to `acked`, nothing but a prefix of the rest.
fn check(disk: &Arc<MemDisk>, acked: u64, appended: u64, what: &str) -> (Nodes, Recovered) {
    let (state, recovered) = start(disk).unwrap_or_else(|e| panic!("{what}: {e}"));
    let last = recovered.last_zxid.get();
    assert!(last >= acked, "{what}: {acked} was acknowledged, and {last} is the last");
    assert!(last <= appended, "{what}: {last} was never appended");
    assert_eq!(state.zxids, (1..=last).collect::<Vec<_>>(), "{what}");
    (state, recovered)
}

// ---- ordinary starts --------------------------------------------------------------------------------

#[test]
fn an_empty_directory_is_fresh_and_continues() {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    assert!(recovered.fresh);
    assert_eq!(recovered.last_zxid, Zxid::ZERO);
    let mut log = writer(&disk, &recovered);
    for z in 1..=3 {
        log.append(zxid(z), &txn(z));
    }
    let committed = log.commit().unwrap();
    assert_eq!((committed.zxid, committed.records, committed.started), (zxid(3), 3, Some(zxid(1))));
    log.close().unwrap();
    let (state, recovered) = start(&disk).unwrap();
    assert_eq!((state.zxids, recovered.fresh, recovered.replayed), (vec![1, 2, 3], false, 3));
    assert_eq!(recovered.warnings, Vec::<String>::new());
    // The next append never goes into the old file.
    let mut log = writer(&disk, &recovered);
    log.append(zxid(4), &txn(4));
    log.close().unwrap();
    assert!(disk.names(Dir::LogVersion).contains(&"log.4".to_owned()));
    assert_eq!(check(&disk, 4, 4, "restart").1.last_zxid, zxid(4));
}

#[test]
fn the_initialize_marker_and_autocreate() {
    let strict = RecoverOptions { db_autocreate: false, ..RecoverOptions::default() };
    for dir in [Dir::Data, Dir::Log] {
        let disk = Arc::new(MemDisk::new(true));
        disk.put(&DiskPath::new(dir, "initialize"), Vec::new());
        let recovered = recover(&disk, &strict, &mut Nodes::default()).unwrap();
        assert!(recovered.fresh);
        assert!(disk.names(dir).contains(&"initialize".to_owned()), "it vouches until the snapshot is there");
        remove_initialize(&*disk).unwrap();
        assert!(!disk.names(dir).contains(&"initialize".to_owned()));
    }
    let disk = Arc::new(MemDisk::default());
    let refusal = recover(&disk, &strict, &mut Nodes::default()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Setup);
    let member = RecoverOptions { standalone: false, ..strict };
    let recovered = recover(&disk, &member, &mut Nodes::default()).unwrap();
    assert!(recovered.voteless && !recovered.fresh);
    // A marker beside data goes.
    let disk = used(&[2]);
    disk.put(&DiskPath::new(Dir::Data, "initialize"), Vec::new());
    check(&disk, 2, 2, "marker beside data");
    assert!(!disk.names(Dir::Data).contains(&"initialize".to_owned()));
}

#[test]
fn an_apache_directory_is_taken_over() {
    let disk = Arc::new(MemDisk::default());
    snapshot_of(&disk, 4);
    disk.put(&log_file(1), apache_log(1..=4, 100));
    disk.put(&log_file(3), apache_log(3..=6, 100));
    disk.put(&log_file(7), apache_log(7..=8, 4096));
    let (state, recovered) = start(&disk).unwrap();
    assert_eq!(state.zxids, (1..=8).collect::<Vec<_>>());
    assert_eq!((recovered.snapshot_zxid, recovered.replayed), (Some(zxid(4)), 4));
    assert_eq!(recovered.warnings, Vec::<String>::new());
    assert_eq!(mark_of(&disk), recovered.mark);
    assert_eq!((recovered.mark.segment, recovered.mark.zxid), (zxid(7), zxid(8)));
}

#[test]
fn lenient_where_apache_is() {
    let disk = Arc::new(MemDisk::default());
    snapshot_of(&disk, 0);
    // A repeated zxid counts once; a torn end with the same zxid again in the next file; an empty newest file.
    let mut log = apache_log([1, 2, 2, 3], 0);
    log.extend_from_slice(&apache_log([4], 0)[16..60]);
    disk.put(&log_file(1), log);
    disk.put(&log_file(4), apache_log(4..=5, 64));
    disk.put(&log_file(6), Vec::new());
    disk.put(&DiskPath::new(Dir::DataVersion, "snapshot.9.tmp"), b"half".to_vec());
    disk.put(&DiskPath::new(Dir::LogVersion, "log.5.bad"), b"whatever".to_vec());
    let (state, recovered) = start(&disk).unwrap();
    assert_eq!(state.zxids, vec![1, 2, 3, 4, 5]);
    let warnings = recovered.warnings.join("\n");
    for part in ["zxid 0x2 stands twice", "goes on in the next file", "snapshot.9.tmp", "log.5.bad"] {
        assert!(warnings.contains(part), "{part} in {warnings}");
    }
    let names = disk.names(Dir::LogVersion);
    assert!(!names.contains(&"log.6".to_owned()), "the empty newest file goes");
    assert!(!names.contains(&"snapshot.9.tmp".to_owned()));
    assert!(names.contains(&"log.5.bad".to_owned()), "not ours, not touched");
    // Accepted once, it is accepted again although it is below the mark now.
    check(&disk, 5, 5, "again");
}

#[test]
fn a_gap_or_a_step_back_is_damage() {
    for (name, zxids) in [("gap", vec![1, 2, 4]), ("back", vec![1, 2, 3, 1]), ("late", vec![2, 3])] {
        let disk = Arc::new(MemDisk::default());
        snapshot_of(&disk, 0);
        disk.put(&log_file(zxids[0]), apache_log(zxids, 64));
        let refusal = start(&disk).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Damage, "{name}: {refusal}");
        assert!(refusal.to_string().contains("farrier repair /data"), "{refusal}");
        assert!(refusal.to_string().contains("/data/version-2/log."), "{refusal}");
    }
}

#[test]
fn epochs_may_jump_and_negative_zxids_do_not_panic() {
    let disk = Arc::new(MemDisk::default());
    snapshot_of(&disk, 0);
    let second = 0x2_0000_0001;
    disk.put(&log_file(1), apache_log([1, 2], 10));
    disk.put(&log_file(second), apache_log([second, second + 1], 10));
    let (state, _) = start(&disk).unwrap();
    assert_eq!(state.zxids, vec![1, 2, second, second + 1]);
    let disk = Arc::new(MemDisk::default());
    snapshot_of(&disk, 0);
    disk.put(&log_file(1), apache_log([u64::MAX, u64::MAX, 0], 10));
    assert_eq!(start(&disk).unwrap_err().kind, RefusalKind::Damage);
}

// ---- snapshots --------------------------------------------------------------------------------------

#[test]
fn an_older_snapshot_serves_only_if_the_log_proves_it() {
    let bad = |disk: &MemDisk, z| {
        let path = DiskPath::new(Dir::DataVersion, snapshot_name(zxid(z), Compression::Plain));
        let mut content = disk.content(&path).unwrap();
        content[40] ^= 1;
        disk.put(&path, content);
    };
    // The log holds everything: fine.
    let disk = used(&[6]);
    snapshot_of(&disk, 3);
    snapshot_of(&disk, 5);
    bad(&disk, 5);
    let (_, recovered) = check(&disk, 6, 6, "log covers");
    assert_eq!(recovered.snapshot_zxid, Some(zxid(3)));
    // The log ends before the bad snapshot.
    let disk = used(&[6]);
    without_mark(&disk);
    snapshot_of(&disk, 9);
    bad(&disk, 9);
    let refusal = start(&disk).unwrap_err();
    assert!(refusal.to_string().contains("snapshot.9"), "{refusal}");
    // The bad snapshot alone bridges a gap between epochs.
    let disk = Arc::new(MemDisk::default());
    snapshot_of(&disk, 0);
    let second = 0x2_0000_0000;
    disk.put(&log_file(1), apache_log([1, 2], 10));
    disk.put(&log_file(second + 1), apache_log([second + 1], 10));
    disk.put(&DiskPath::new(Dir::DataVersion, format!("snapshot.{second:x}")), b"torn".to_vec());
    let refusal = start(&disk).unwrap_err();
    assert!(refusal.to_string().contains("snapshot.200000000"), "{refusal}");
    // None loads.
    let disk = used(&[1]);
    bad(&disk, 0);
    assert!(start(&disk).unwrap_err().to_string().contains("none of 1 snapshots"));
}

#[test]
fn a_log_without_a_snapshot() {
    let disk = used(&[3]);
    disk.remove(&DiskPath::new(Dir::DataVersion, "snapshot.0")).unwrap();
    assert!(start(&disk).unwrap_err().to_string().contains("no snapshot"));
    let trusting = RecoverOptions { trust_empty_snapshot: true, ..RecoverOptions::default() };
    let mut state = Nodes::default();
    let recovered = recover(&disk, &trusting, &mut state).unwrap();
    assert_eq!((state.zxids, recovered.fresh), (vec![1, 2, 3], false));
}

#[test]
fn confused_directories_are_refused() {
    for (dir, name) in [(Dir::DataVersion, "log.1"), (Dir::LogVersion, "snapshot.0")] {
        let disk = Arc::new(MemDisk::new(true));
        disk.put(&DiskPath::new(dir, name), b"x".to_vec());
        let refusal = start(&disk).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Misplaced);
        assert!(refusal.to_string().contains(name), "{refusal}");
    }
}

#[test]
fn a_record_over_the_limit_is_no_torn_tail() {
    let disk = used(&[9]);
    let small = RecoverOptions { txn_max: 2000, ..RecoverOptions::default() };
    let before = disk.content(&log_file(1));
    let refusal = recover(&disk, &small, &mut Nodes::default()).unwrap_err();
    assert!(refusal.to_string().contains("jute.maxbuffer"), "{refusal}");
    assert_eq!(disk.content(&log_file(1)), before);
    without_mark(&disk);
    assert_eq!(recover(&disk, &small, &mut Nodes::default()).unwrap_err().kind, RefusalKind::Setup);
    check(&disk, 9, 9, "with the old limit");
}

// ---- every flip, every length -----------------------------------------------------------------------

/// Below the mark every change of the log that could matter is refused and changes nothing; above it
/// everything from the first bad record on is cut, good records behind it too.
#[test]
fn a_flip_at_every_offset() {
    let disk = used(&[3, 1]);
    let ends = ends(6);
    // Two records more reached the disk, but no mark tells of them.
    let mut log = disk.content(&log_file(1)).unwrap();
    assert_eq!(log.len() as u64, ends[3]);
    log.extend_from_slice(&apache_log([5, 6], 64)[16..]);
    for offset in 0..log.len() {
        for bit in [0, 3, 7] {
            let mut bad = log.clone();
            bad[offset] ^= 1 << bit;
            let disk = Arc::new(disk.fork());
            disk.put(&log_file(1), bad.clone());
            let at = offset as u64;
            if (4..16).contains(&at) {
                // Version and dbid: no reader looks at them.
                check(&disk, 6, 6, "version and dbid");
            } else if at < ends[3] {
                let refusal = start(&disk).expect_err("below the mark");
                assert_eq!(refusal.kind, RefusalKind::Damage);
                let record = ends.iter().take_while(|e| **e <= at).last().copied().unwrap_or(FIRST_RECORD);
                assert_eq!(refusal.offset, Some(if at < 4 { 0 } else { record }), "{refusal}");
                assert_eq!(disk.content(&log_file(1)), Some(bad), "a refusal changes nothing");
            } else {
                let kept = 4 + u64::from(at >= ends[4]) + u64::from(at >= ends[5]);
                let (_, recovered) = check(&disk, 4, 6, "above the mark");
                assert_eq!(recovered.last_zxid, zxid(kept), "offset {offset}");
                assert_eq!(recovered.warnings.len(), 1, "{:?}", recovered.warnings);
                assert_eq!(disk.content(&log_file(1)).unwrap().len() as u64, ends[kept as usize - 1]);
            }
        }
    }
}

#[test]
fn every_length() {
    let disk = used(&[3, 1]);
    let ends = ends(6);
    let mut log = disk.content(&log_file(1)).unwrap();
    log.extend_from_slice(&apache_log([5, 6], 64)[16..]);
    for len in 0..=log.len() {
        let disk = Arc::new(disk.fork());
        disk.put(&log_file(1), log[..len].to_vec());
        if (len as u64) < ends[3] {
            assert_eq!(start(&disk).expect_err("below the mark").kind, RefusalKind::Damage, "{len}");
        } else {
            let kept = ends.iter().filter(|e| **e <= len as u64).count() as u64;
            assert_eq!(check(&disk, 4, 6, "above").1.last_zxid, zxid(kept), "{len}");
        }
        // Without a mark, as Apache left it: what is missing cannot be seen, as Apache cannot see it.
        let disk = Arc::new(disk.fork());
        disk.put(&log_file(1), log[..len].to_vec());
        without_mark(&disk);
        let kept = ends.iter().filter(|e| **e <= len as u64).count() as u64;
        match start(&disk) {
            Ok((state, _)) => assert_eq!(state.zxids, (1..=kept).collect::<Vec<_>>(), "{len}"),
            Err(e) => panic!("length {len}: {e}"),
        }
    }
    let gone = Arc::new(disk.fork());
    gone.remove(&log_file(1)).unwrap();
    let refusal = start(&gone).unwrap_err();
    assert!(refusal.to_string().contains("up to zxid 0x4"), "{refusal}");
}

/// What a flip does where Apache wrote last, so that there is no mark. This table is the documented limit of
/// what the format can tell: a bad *last* record may be a torn write or damage to an acknowledged one, and
/// counts as torn.
#[test]
fn what_stays_ambiguous_without_a_mark() {
    #[derive(PartialEq, Eq, Debug, Clone, Copy)]
    enum Is {
        Refused,
        Unread,
        Cut,
        Harmless,
    }
    let disk = Arc::new(MemDisk::default());
    snapshot_of(&disk, 0);
    let log = apache_log(1..=4, 80);
    let ends = ends(4);
    let table = [
        (0..4, Is::Refused),                       // magic
        (4..16, Is::Unread),                       // version, dbid
        (16..ends[2], Is::Refused),                // every record but the last
        (ends[2]..ends[3], Is::Cut),               // the last record: ambiguous
        (ends[3]..log.len() as u64, Is::Harmless), // padding
    ];
    for (range, expected) in table {
        for offset in range {
            for bit in 0..8 {
                let disk = Arc::new(disk.fork());
                let mut bad = log.clone();
                bad[offset as usize] ^= 1 << bit;
                disk.put(&log_file(1), bad);
                let found = match start(&disk) {
                    Err(refusal) => {
                        assert_eq!(refusal.kind, RefusalKind::Damage);
                        Is::Refused
                    }
                    Ok((state, recovered)) => match (state.zxids.len(), recovered.warnings.len()) {
                        (4, 0) => Is::Unread,
                        (4, 1) => Is::Harmless,
                        (3, 1) => Is::Cut,
                        other => panic!("{other:?}"),
                    },
                };
                assert_eq!(found, expected, "offset {offset}, bit {bit}");
            }
        }
    }
}

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

// ---- crashes ----------------------------------------------------------------------------------------

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
                    prepare_segment(&**disk, 1500, &mut |_| {}).map_err(|e| e.to_string())?;
                }
                if i == 2 {
                    state.zxids = (1..=acked).collect();
                    log.roll();
                    write_snapshot(&**disk, &state, &SnapshotOptions::default()).map_err(|e| e.to_string())?;
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Process,
    Power(u64),
    ProcessThenPower(u64),
}

fn restart(disk: &MemDisk, kind: Kind) {
    match kind {
        Kind::Process => disk.restart(Crash::Process, &mut |_| 0),
        Kind::Power(seed) => disk.restart(Crash::Power, &mut chooser(seed)),
        Kind::ProcessThenPower(seed) => {
            disk.restart(Crash::Process, &mut |_| 0);
            disk.restart(Crash::Power, &mut chooser(seed));
        }
    }
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

#[test]
fn names_of_ours_mean_nothing_to_apache() {
    for name in [MARK_NAME, NEXT_NAME, NEXT_TMP_NAME, NEW_NAME] {
        assert!(!name.starts_with("log.") && !name.starts_with("snapshot."), "{name}");
    }
    assert_eq!(log_name(zxid(0x1_0000_0002)), "log.100000002");
    assert_eq!(parse_log_name("log.100000002"), Some(zxid(0x1_0000_0002)));
    for odd in ["log.", "log.05", "log.A", "log.5.bad", "log.ffffffffffffffff", "snapshot.5", "log", "log.-1", "log.+1"]
    {
        assert_eq!(parse_log_name(odd), None, "{odd}");
    }
    assert_eq!(apache_zxid("log.5.bad", "log"), Some(zxid(5)));
}

// ---- what the configuration does not admit ----------------------------------------------------------

#[test]
fn a_whole_snapshot_over_the_limit_is_no_damage() {
    for compression in [Compression::Plain, Compression::Gz, Compression::Snappy] {
        let disk = used(&[9]);
        let options = SnapshotOptions { compression, ..SnapshotOptions::default() };
        write_snapshot(&*disk, &Nodes::up_to(9), &options).unwrap();
        let small = RecoverOptions { txn_max: 2000, config_file: Some("/etc/zoo.cfg".into()), ..Default::default() };
        let refusal = recover(&disk, &small, &mut Nodes::default()).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Setup, "{refusal}");
        assert!(refusal.to_string().contains("jute.maxbuffer to at least 3000"), "{refusal}");
        assert!(!refusal.to_string().contains("repair"), "{refusal}");
        let refusal = crate::repair::accept_loss(&*disk, &small, &mut Nodes::default()).unwrap_err();
        assert_eq!(refusal.kind, RefusalKind::Setup, "{refusal}");
        check(&disk, 9, 9, "nothing was moved");
        // One that is damaged besides is damage, and the log has the rest.
        let name = snapshot_name(zxid(9), compression);
        let path = DiskPath::new(Dir::DataVersion, name);
        let mut content = disk.content(&path).unwrap();
        let end = content.len() - 30;
        content[end] ^= 1;
        disk.put(&path, content);
        let refusal = recover(&disk, &small, &mut Nodes::default()).unwrap_err();
        assert!(refusal.file.is_some_and(|f| f.contains("log.")), "the snapshot was passed over");
    }
}

#[test]
fn a_whole_snapshot_that_the_state_refuses_is_no_damage() {
    #[derive(Default)]
    struct Picky(Nodes);
    impl Restore for Picky {
        fn reset(&mut self) {
            self.0.reset();
        }
        fn session(&mut self, id: farrier_proto::SessionId, timeout: i32) -> Result<(), crate::RestoreError> {
            self.0.session(id, timeout)
        }
        fn acl(&mut self, key: i64, acl: Vec<farrier_proto::Acl<'_>>) -> Result<(), crate::RestoreError> {
            self.0.acl(key, acl)
        }
        fn node(&mut self, node: crate::NodeRecord<'_>) -> Result<(), crate::RestoreError> {
            if node.path == "/n2" { Err(crate::RestoreError("an illegal owner".into())) } else { self.0.node(node) }
        }
        fn loaded(&mut self, zxid: Zxid, digest: Option<crate::SnapshotDigest>) -> Result<(), crate::RestoreError> {
            self.0.loaded(zxid, digest)
        }
        fn replay(
            &mut self,
            header: &farrier_proto::TxnHeader,
            txn: &farrier_proto::Txn<'_>,
            digest: Option<farrier_proto::TxnDigest>,
        ) -> Result<(), crate::RestoreError> {
            self.0.replay(header, txn, digest)
        }
    }
    let disk = used(&[5]);
    snapshot_of(&disk, 5);
    let names = disk.names(Dir::DataVersion);
    let options = RecoverOptions::default();
    let refusal = recover(&disk, &options, &mut Picky::default()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Setup, "{refusal}");
    assert!(crate::repair::accept_loss(&*disk, &options, &mut Picky::default()).is_err());
    assert_eq!(disk.names(Dir::DataVersion), names);
}

#[test]
fn the_remedy_names_the_configuration() {
    let disk = used(&[3]);
    let mut log = disk.content(&log_file(1)).unwrap();
    log[40] ^= 1;
    disk.put(&log_file(1), log);
    let options = RecoverOptions { config_file: Some("/etc/zoo.cfg".into()), ..RecoverOptions::default() };
    let refusal = recover(&disk, &options, &mut Nodes::default()).unwrap_err();
    assert!(refusal.remedy.contains("`farrier repair /etc/zoo.cfg`"), "{refusal}");
    assert!(start(&disk).unwrap_err().remedy.contains("`farrier repair /data`"));
}

// ---- what is not there ------------------------------------------------------------------------------

#[test]
fn a_log_directory_that_is_not_mounted_is_noticed() {
    for last in [0, 4] {
        let disk = Arc::new(MemDisk::new(true));
        let (_, recovered) = start(&disk).unwrap();
        let mut log = writer(&disk, &recovered);
        for z in 1..=9 {
            log.append(zxid(z), &txn(z));
        }
        log.close().unwrap();
        if last > 0 {
            snapshot_of(&disk, last);
        }
        let whole = Arc::new(disk.fork());
        for dir in [Dir::Log, Dir::LogVersion] {
            for name in disk.names(dir) {
                disk.remove(&DiskPath::new(dir, name)).unwrap();
            }
        }
        let refusal = start(&disk).expect_err("a stale tree");
        assert_eq!(refusal.kind, RefusalKind::Setup);
        assert!(refusal.to_string().contains("mounted"), "{refusal}");
        assert_eq!((disk.names(Dir::Log).len(), disk.names(Dir::LogVersion).len()), (0, 0), "nothing was written");
        check(&whole, 9, 9, "mounted again");
        // Somebody insists.
        let options = RecoverOptions::default();
        let report = crate::repair::examine(&*disk, &options, &mut Nodes::default()).unwrap();
        assert_eq!(report.findings.len(), 1, "{report}");
        let repaired = crate::repair::accept_loss(&*disk, &options, &mut Nodes::default()).unwrap();
        assert!(repaired.before.loss.is_some());
        check(&disk, last, last, "the snapshot alone");
        check(&disk, last, last, "and again");
        // Only the snapshots of Apache's: what a takeover of a backup looks like.
        disk.remove(&DiskPath::new(Dir::Data, "farrier.own")).unwrap();
        disk.remove(&mark_path()).unwrap();
        check(&disk, last, last, "somebody else's snapshot");
    }
}

#[test]
fn apaches_unsynced_snapshot_becomes_durable() {
    let disk = Arc::new(MemDisk::default());
    let template = MemDisk::default();
    snapshot_of(&template, 0);
    let path = DiskPath::new(Dir::DataVersion, "snapshot.0");
    disk.open(&path, OpenMode::CreateNew).unwrap().write_at(0, &template.content(&path).unwrap()).unwrap();
    start(&disk).unwrap();
    disk.restart(Crash::Power, &mut |_| 0);
    assert_eq!(disk.content(&path), template.content(&path));
    start(&disk).unwrap();
}

// ---- marks that tell of something else --------------------------------------------------------------

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
}

#[test]
fn a_torn_end_in_an_older_segment_is_judged_by_continuity() {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    for z in 1..=3 {
        log.append(zxid(z), &txn(z));
    }
    log.commit().unwrap();
    log.roll();
    for z in 4..=5 {
        log.append(zxid(z), &txn(z));
    }
    log.close().unwrap();
    let good = disk.content(&log_file(1)).unwrap();
    let mut torn = good.clone();
    torn.extend_from_slice(&apache_log([4], 0)[16..60]);
    disk.put(&log_file(1), torn);
    let (_, recovered) = check(&disk, 5, 5, "nothing is missing");
    assert_eq!(recovered.warnings.len(), 1);
    assert_eq!(disk.content(&log_file(1)), Some(good.clone()), "and Apache would stumble over it");
    // But a record that is missing is damage.
    disk.put(&log_file(1), good[..good.len() - 3].to_vec());
    assert_eq!(start(&disk).unwrap_err().kind, RefusalKind::Damage);
}

fn fuzzy_snapshot(disk: &MemDisk, name: u64, last: u64, compression: Compression) -> DiskPath {
    // A state that had gone on to `last` when its trailers were written, under the name of where it began.
    let options = SnapshotOptions { compression, ..SnapshotOptions::default() };
    let written = write_snapshot(disk, &Nodes::up_to(last), &options).unwrap();
    let to = DiskPath::new(Dir::DataVersion, snapshot_name(zxid(name), compression));
    disk.rename(&written.path, &to).unwrap();
    disk.remove(&DiskPath::new(Dir::Data, "farrier.own")).unwrap();
    to
}

#[test]
fn what_the_snapshot_testifies_to_must_be_in_the_log() {
    for compression in [Compression::Plain, Compression::Gz, Compression::Snappy] {
        let disk = Arc::new(MemDisk::default());
        let path = fuzzy_snapshot(&disk, 4, 6, compression);
        let was = disk.content(&path).unwrap();
        disk.put(&log_file(1), apache_log(1..=4, 100));
        let refusal = start(&disk).expect_err("5 and 6 would be given again");
        assert_eq!(refusal.kind, RefusalKind::Damage);
        assert!(refusal.to_string().contains("up to zxid 0x6"), "{refusal}");
        let options = RecoverOptions::default();
        let repaired = crate::repair::accept_loss(&*disk, &options, &mut Nodes::default()).unwrap();
        assert_eq!(repaired.before.loss, Some(crate::repair::Loss { after: zxid(4), up_to: zxid(6) }));
        let aside = disk.names(Dir::DataVersion).into_iter().find(|n| n.starts_with("farrier.damaged")).unwrap();
        assert_eq!(disk.content(&DiskPath::new(Dir::DataVersion, aside)), Some(was));
        let (_, recovered) = start(&disk).unwrap();
        assert_eq!(recovered.last_zxid, zxid(4));
        assert_eq!(start(&disk).unwrap().1.last_zxid, zxid(4));
    }
}

#[test]
fn a_whole_newer_snapshot_without_its_name_is_not_deleted() {
    let disk = used(&[5]);
    let written = write_snapshot(&*disk, &Nodes::up_to(8), &SnapshotOptions::default()).unwrap();
    let tmp = DiskPath::new(Dir::DataVersion, "snapshot.8.tmp");
    disk.rename(&written.path, &tmp).unwrap();
    let forked = Arc::new(disk.fork());
    let refusal = start(&disk).expect_err("it may be all that is left of 6 to 8");
    assert_eq!(refusal.kind, RefusalKind::Damage);
    assert!(refusal.to_string().contains("snapshot.8.tmp") && disk.content(&tmp).is_some(), "{refusal}");
    disk.rename(&tmp, &written.path).unwrap();
    check(&disk, 8, 8, "renamed");
    let options = RecoverOptions::default();
    let repaired = crate::repair::accept_loss(&*forked, &options, &mut Nodes::default()).unwrap();
    assert_eq!(repaired.aside, ["/data/version-2/farrier.damaged.1.snapshot.8.tmp"]);
    check(&forked, 5, 5, "moved aside");
    // One that the log has overtaken, or that is not whole, goes.
    let written = write_snapshot(&*forked, &Nodes::up_to(4), &SnapshotOptions::default()).unwrap();
    forked.rename(&written.path, &DiskPath::new(Dir::DataVersion, "snapshot.4.tmp")).unwrap();
    forked.put(&tmp, vec![1; 500]);
    check(&forked, 5, 5, "left-overs");
    assert!(!forked.names(Dir::DataVersion).iter().any(|n| n.starts_with("snapshot.") && n.ends_with(".tmp")));
}

#[test]
fn a_log_without_a_snapshot_is_followed_by_one() {
    let trusting = RecoverOptions { trust_empty_snapshot: true, ..RecoverOptions::default() };
    let disk = used(&[3]);
    disk.remove(&DiskPath::new(Dir::DataVersion, "snapshot.0")).unwrap();
    let mut state = Nodes::default();
    let recovered = recover(&disk, &trusting, &mut state).unwrap();
    assert!(recovered.needs_snapshot());
    write_snapshot(&*disk, &state, &SnapshotOptions::default()).unwrap();
    check(&disk, 3, 3, "without the setting");
    // A log that begins later than the beginning needs the snapshot that it followed.
    let disk = Arc::new(MemDisk::default());
    let second = 0x2_0000_0001;
    disk.put(&log_file(second), apache_log([second], 0));
    assert_eq!(recover(&disk, &trusting, &mut Nodes::default()).unwrap_err().kind, RefusalKind::Damage);
    snapshot_of(&disk, 0);
    assert_eq!(start(&disk).unwrap().1.last_zxid, zxid(second));
}

#[test]
fn a_file_that_is_no_segment_is_kept() {
    let disk = used(&[3]);
    without_mark(&disk);
    disk.put(&log_file(4), b"somebody's notes, or a log with a rotten first sector".to_vec());
    let (_, recovered) = check(&disk, 3, 3, "its name is needed");
    assert!(recovered.warnings.join(" ").contains("farrier.damaged.1.log.4"), "{:?}", recovered.warnings);
    assert!(disk.names(Dir::LogVersion).contains(&"farrier.damaged.1.log.4".to_owned()));
    assert!(!disk.names(Dir::LogVersion).contains(&"log.4".to_owned()));
}

/// A client stores what looks like a record, and the power goes while that is written as the first record of
/// a segment.
#[test]
fn a_clients_data_does_not_make_a_torn_record_damage() {
    let disk = Arc::new(MemDisk::default());
    snapshot_of(&disk, 0);
    let mut inner = vec![7; 600];
    record::encode(&mut inner, &txn(2));
    inner.extend_from_slice(&[7; 600]);
    let header = farrier_proto::TxnHeader {
        session: farrier_proto::SessionId(7),
        cxid: 3,
        zxid: zxid(1),
        time: 99,
        kind: farrier_proto::TxnType::Create.code(),
    };
    let body = farrier_proto::txn::CreateTxn {
        path: "/n1".into(),
        data: Some(inner.into()),
        acl: Vec::new(),
        ephemeral: false,
        parent_cversion: 1,
    };
    let mut bytes = Vec::new();
    farrier_proto::txn::write_txn(&mut bytes, &header, &farrier_proto::Txn::Create(body), None);
    let mut log = self::header().to_vec();
    record::encode(&mut log, &bytes);
    let end = log.len();
    log.resize(end + 4096, 0);
    for torn in [100..200, 100..512, 1000..end, 1200..1201, end - 1..end] {
        let disk = Arc::new(disk.fork());
        let mut log = log.clone();
        log[torn.clone()].fill(0);
        disk.put(&log_file(1), log.clone());
        let (state, _) = start(&disk).unwrap_or_else(|e| panic!("{torn:?}: {e}"));
        assert_eq!(state.zxids, Vec::<u64>::new());
        // With a good record where the torn one ends, it is damage all the same.
        let mut good = Vec::new();
        record::encode(&mut good, &txn(2));
        log[end..end + good.len()].copy_from_slice(&good);
        disk.put(&log_file(1), log);
        without_mark(&disk);
        assert_eq!(start(&disk).unwrap_err().kind, RefusalKind::Damage, "{torn:?}");
    }
}
