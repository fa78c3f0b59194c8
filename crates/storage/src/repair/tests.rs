use super::*;
use crate::aside::next_number;
use crate::disk::DiskErrorKind;
use crate::mem::{Crash, MemDisk};
use crate::record;
use crate::segment::header;
use crate::snapshot::{SnapshotOptions, write_snapshot};
use crate::testing::{Nodes, TEST_LOG, chooser, start, txn, used, zxid};
use farrier_proto::CurrentEpoch;
use std::collections::BTreeMap;
use std::sync::Arc;

fn options() -> RecoverOptions {
    RecoverOptions::default()
}

fn flip(disk: &MemDisk, path: &DiskPath, offset: usize) -> Vec<u8> {
    let mut content = disk.content(path).unwrap();
    content[offset] ^= 4;
    disk.put(path, content.clone());
    content
}

/// Several segments with 30 records, the mark behind the last.
fn segmented() -> Arc<MemDisk> {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    let mut log = crate::log::LogWriter::open(Arc::clone(&disk), &recovered, TEST_LOG);
    for z in 1..=30 {
        log.append(zxid(z), &txn(z));
        log.commit().unwrap();
    }
    disk
}

fn contents(disk: &MemDisk) -> BTreeMap<String, Vec<u8>> {
    disk.names(Dir::LogVersion)
        .into_iter()
        .map(|n| (n.clone(), disk.content(&DiskPath::new(Dir::LogVersion, n)).unwrap()))
        .collect()
}

#[test]
fn a_sound_directory_is_left_alone() {
    let disk = segmented();
    let before = (contents(&disk), disk.count());
    let report = examine(&*disk, &options(), &mut Nodes::default()).unwrap();
    assert!(report.is_sound(), "{report}");
    assert_eq!((report.last, report.snapshot, report.loss), (zxid(30), Some(Zxid::ZERO), None));
    assert!(!report.to_string().contains("lost"));
    let repaired = accept_loss(&*disk, &options(), &mut Nodes::default()).unwrap();
    assert_eq!(repaired.aside, Vec::<String>::new());
    assert_eq!((contents(&disk), disk.count()), before);
}

#[test]
fn damage_in_the_middle() {
    let disk = segmented();
    let segments = list_segments(&*disk).unwrap();
    assert!(segments.len() >= 3, "{segments:?}");
    let hurt = segments[2].first;
    // Behind the first record of the third segment (the second holds one large record).
    let end = FIRST_RECORD as usize + record::record_len(txn(hurt.get()).len());
    let bad = flip(&disk, &log_path(hurt), end + 30);
    let was = contents(&disk);
    let refusal = start(&disk).unwrap_err();
    assert!(refusal.to_string().contains("farrier repair"), "{refusal}");

    let report = examine(&*disk, &options(), &mut Nodes::default()).unwrap();
    assert_eq!(contents(&disk), was, "examining changes nothing");
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].offset, Some(end as u64));
    assert_eq!(report.loss, Some(Loss { after: hurt, up_to: zxid(30) }));
    let text = report.to_string();
    assert!(text.contains(&format!("after zxid {hurt}; known of are those up to 0x1e")), "{text}");

    let repaired = accept_loss(&*disk, &options(), &mut Nodes::default()).unwrap();
    assert!(repaired.after.is_sound(), "{}", repaired.after);
    assert_eq!(repaired.aside.len(), segments.len() - 2);
    // All that was removed is still there, byte for byte, under names that nobody loads.
    let now = contents(&disk);
    for segment in &segments[2..] {
        let name = crate::segment::log_name(segment.first);
        assert_eq!(now[&format!("{DAMAGED_PREFIX}1.{name}")], was[&name]);
    }
    assert_eq!(now[&crate::segment::log_name(hurt)], bad[..end]);
    let (state, recovered) = start(&disk).unwrap();
    assert_eq!(state.zxids, (1..=hurt.get()).collect::<Vec<_>>());
    // And the server goes on; a second repair would use another number.
    let mut log = crate::log::LogWriter::open(Arc::clone(&disk), &recovered, TEST_LOG);
    let next = hurt.get() + 1;
    log.append(zxid(next), &txn(next));
    log.close().unwrap();
    assert_eq!(start(&disk).unwrap().1.last_zxid, zxid(next));
    assert_eq!(next_number(&*disk).unwrap(), 2);
}

#[test]
fn a_missing_end_and_a_missing_segment() {
    let disk = used(&[5]);
    disk.put(&log_path(zxid(1)), header().to_vec());
    let repaired = accept_loss(&*disk, &options(), &mut Nodes::default()).unwrap();
    assert_eq!(repaired.before.loss, Some(Loss { after: Zxid::ZERO, up_to: zxid(5) }));
    assert_eq!(start(&disk).unwrap().0.zxids, Vec::<u64>::new());

    let disk = segmented();
    let segments = list_segments(&*disk).unwrap();
    disk.remove(&log_path(segments[1].first)).unwrap();
    assert!(start(&disk).is_err());
    let repaired = accept_loss(&*disk, &options(), &mut Nodes::default()).unwrap();
    let last = segments[1].first.get() - 1;
    assert_eq!(repaired.before.loss, Some(Loss { after: zxid(last), up_to: zxid(30) }));
    assert_eq!(start(&disk).unwrap().0.zxids, (1..=last).collect::<Vec<_>>());
}

#[test]
fn snapshots_that_do_not_load() {
    // One that is ahead of the log.
    let disk = used(&[5]);
    write_snapshot(&*disk, &Nodes::up_to(8), &SnapshotOptions::default()).unwrap();
    let newest = DiskPath::new(Dir::DataVersion, "snapshot.8");
    flip(&disk, &newest, 30);
    assert!(start(&disk).is_err());
    let repaired = accept_loss(&*disk, &options(), &mut Nodes::default()).unwrap();
    assert_eq!(repaired.before.loss, Some(Loss { after: zxid(5), up_to: zxid(8) }));
    assert_eq!(repaired.aside, ["/data/version-2/farrier.damaged.1.snapshot.8"]);
    assert_eq!(start(&disk).unwrap().0.zxids, vec![1, 2, 3, 4, 5]);
    // All of them.
    let disk = used(&[5]);
    flip(&disk, &DiskPath::new(Dir::DataVersion, "snapshot.0"), 30);
    assert!(start(&disk).is_err());
    let repaired = accept_loss(&*disk, &options(), &mut Nodes::default()).unwrap();
    assert!(repaired.before.to_string().contains("snapshot.trust.empty"), "{}", repaired.before);
    assert_eq!(repaired.before.loss, Some(Loss { after: Zxid::ZERO, up_to: zxid(5) }));
    assert_eq!(repaired.aside.len(), 2);
    assert!(start(&disk).unwrap().1.fresh);
}

/// A crash anywhere in a repair: what it removes is on disk somewhere, and repairing again ends well.
#[test]
fn a_crash_during_a_repair() {
    let original = segmented();
    let segments = list_segments(&*original).unwrap();
    let hurt = segments[2].first;
    let end = FIRST_RECORD as usize + record::record_len(txn(hurt.get()).len());
    flip(&original, &log_path(hurt), end + 30);
    let was = contents(&original);
    for n in 0.. {
        let disk = Arc::new(original.fork());
        disk.crash_after(n, 10);
        let done = accept_loss(&*disk, &options(), &mut Nodes::default()).is_ok();
        disk.restart(Crash::Power, &mut chooser(n));
        let kept = contents(&disk);
        for segment in &segments[2..] {
            let old = &was[&crate::segment::log_name(segment.first)];
            assert!(kept.values().any(|c| c == old), "crash after {n}: {} is gone", segment.first);
        }
        accept_loss(&*disk, &options(), &mut Nodes::default()).unwrap();
        let (state, _) = start(&disk).unwrap();
        assert_eq!(state.zxids, (1..=hurt.get()).collect::<Vec<_>>(), "crash after {n}");
        if done {
            break;
        }
    }
}

#[test]
fn what_is_not_to_be_repaired() {
    let disk = used(&[9]);
    let small = RecoverOptions { txn_max: 2000, ..options() };
    assert!(accept_loss(&*disk, &small, &mut Nodes::default()).unwrap_err().to_string().contains("jute.maxbuffer"));
    let log = log_path(zxid(1));
    flip(&disk, &log, 40);
    disk.fail_from(1, DiskErrorKind::ReadOnly);
    let refusal = accept_loss(&*disk, &options(), &mut Nodes::default()).unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Disk);
}

#[test]
fn a_damaged_first_snapshot_without_a_log() {
    let disk = Arc::new(MemDisk::default());
    start(&disk).unwrap();
    let name = disk.names(Dir::DataVersion).into_iter().find(|n| n.starts_with("snapshot.")).unwrap();
    flip(&disk, &DiskPath::new(Dir::DataVersion, name), 30);
    assert!(start(&disk).unwrap_err().to_string().contains("farrier repair"));
    let report = examine(&*disk, &options(), &mut Nodes::default()).unwrap();
    assert!(!report.is_sound(), "the server refuses it, so there is something to find");
    let repaired = accept_loss(&*disk, &options(), &mut Nodes::default()).unwrap();
    assert_eq!(repaired.aside.len(), 1);
    assert_eq!(start(&disk).unwrap().1.last_zxid, Zxid::ZERO);
}

#[test]
fn without_the_last_trailer_a_snapshot_reads_back_all_the_same() {
    let disk = Arc::new(MemDisk::default());
    let options = SnapshotOptions { omit_last_zxid: true, ..SnapshotOptions::default() };
    let written = write_snapshot(&*disk, &Nodes::default(), &options).unwrap();
    crate::snapshot::verify_snapshot(&*disk, &written.path, 1 << 20).unwrap();
    let whole = write_snapshot(&*disk, &Nodes::default(), &SnapshotOptions::default()).unwrap();
    assert_eq!(whole.len, written.len + 8 + 8 + 5, "a zxid and its seal");
}

/// A sector that cannot be read any more refuses every start, since that may pass; whoever knows that it does not goes on
/// without it, and the rest is kept.
#[test]
fn what_cannot_be_read_is_moved_aside_on_demand() {
    let refused = |disk: &Arc<MemDisk>| assert_eq!(start(disk).unwrap_err().kind, RefusalKind::Disk);
    // The newest snapshot: the log has everything.
    let disk = used(&[6]);
    write_snapshot(&*disk, &Nodes::up_to(4), &SnapshotOptions::default()).unwrap();
    let newest = DiskPath::new(Dir::DataVersion, "snapshot.4");
    for at in [3, 60, disk.content(&newest).unwrap().len() - 2] {
        let disk = Arc::new(disk.fork());
        assert!(disk.make_unreadable(&newest, at..at + 1));
        refused(&disk);
        let report = examine(&*disk, &options(), &mut Nodes::default()).unwrap();
        assert_eq!(report.findings[0].file.as_deref(), Some("/data/version-2/snapshot.4"), "{report}");
        let repaired = accept_loss(&*disk, &options(), &mut Nodes::default()).unwrap();
        assert_eq!(repaired.aside, ["/data/version-2/farrier.damaged.1.snapshot.4"], "{at}");
        assert_eq!(start(&disk).unwrap().0.zxids, vec![1, 2, 3, 4, 5, 6]);
    }
    // The log, at every place.
    let disk = segmented();
    let segments = list_segments(&*disk).unwrap();
    let hurt = segments[2].first;
    let path = log_path(hurt);
    let was = disk.content(&path).unwrap();
    for at in (0..was.len()).step_by(5) {
        let disk = Arc::new(disk.fork());
        assert!(disk.make_unreadable(&path, at..at + 1));
        refused(&disk);
        let mut last = hurt.get() - 1;
        let mut end = FIRST_RECORD as usize;
        while end + record::record_len(txn(last + 1).len()) <= at {
            end += record::record_len(txn(last + 1).len());
            last += 1;
        }
        let repaired = accept_loss(&*disk, &options(), &mut Nodes::default()).unwrap();
        assert_eq!(repaired.before.loss.map(|loss| loss.after), Some(zxid(last)), "{at}");
        assert_eq!(start(&disk).unwrap().0.zxids, (1..=last).collect::<Vec<_>>(), "{at}");
        if last >= hurt.get() {
            let said = repaired.aside.iter().find(|name| name.contains(&crate::segment::log_name(hurt))).unwrap();
            assert!(said.contains("could not be read"), "{said}");
        }
    }
    // A member's start moves nothing aside for that.
    let damaged = Arc::new(disk.fork());
    flip(&damaged, &path, was.len() - 20);
    assert!(damaged.make_unreadable(&path, was.len() - 3..was.len()));
    assert_eq!(crate::testing::start_member(&damaged).unwrap_err().kind, RefusalKind::Disk);
    assert_eq!(next_number(&*damaged).unwrap(), 1);
}

/// The same where nothing is missed: a snapshot that never got its name, and one whose installation was interrupted.
#[test]
fn what_cannot_be_read_of_an_unfinished_snapshot_is_no_end() {
    let disk = used(&[6]);
    let (_, recovered) = start(&disk).unwrap();
    let intent = intent_path();
    let installing = (0..).find_map(|n| {
        let disk = Arc::new(disk.fork());
        let mut log = crate::log::LogWriter::open(Arc::clone(&disk), &recovered, TEST_LOG);
        disk.crash_after(n, 0);
        let _ = log.install(&Nodes::up_to(9), CurrentEpoch(0), &SnapshotOptions::default());
        disk.restart(Crash::Process, &mut |_| 0);
        disk.content(&intent).is_some().then_some(disk)
    });
    let installing = installing.unwrap();
    let name = installing.names(Dir::DataVersion).into_iter().find(|name| name.ends_with("install")).unwrap();
    let unnamed = DiskPath::new(Dir::DataVersion, name);
    let whole = installing.content(&unnamed).unwrap();
    let temporary = DiskPath::new(Dir::DataVersion, "snapshot.9.tmp");
    disk.put(&temporary, whole.clone());
    for (disk, bad, aside) in [
        (disk, temporary, "/data/version-2/farrier.damaged.1.snapshot.9.tmp"),
        (installing, unnamed, "/data/farrier.damaged.1.farrier.install"),
    ] {
        assert!(disk.make_unreadable(&bad, whole.len() - 1..whole.len()));
        assert_eq!(start(&disk).unwrap_err().kind, RefusalKind::Disk);
        let repaired = accept_loss(&*disk, &options(), &mut Nodes::default()).unwrap();
        assert_eq!(repaired.aside, [aside]);
        assert_eq!(start(&disk).unwrap().0.zxids, vec![1, 2, 3, 4, 5, 6]);
    }
}

/// What was to be kept aside and did not fit does not stay, or each attempt would leave another.
#[test]
fn a_copy_that_fails_leaves_nothing() {
    let disk = used(&[5]);
    let path = log_path(zxid(1));
    let content = disk.content(&path).unwrap();
    let last = record::record_len(txn(5).len());
    let bad = flip(&disk, &path, content.len() - last + 30);
    disk.put(&path, [&bad[..], &vec![0; 3 << 20]].concat());
    let mut failed = 0;
    for n in 1.. {
        let disk = Arc::new(disk.fork());
        disk.fail_nth(n, DiskErrorKind::Full);
        let done = accept_loss(&*disk, &options(), &mut Nodes::default()).is_ok();
        let copy = contents(&disk).remove("farrier.damaged.1.log.1");
        assert!(copy.as_ref().is_none_or(|copy| *copy == bad), "{n}: up to where there is anything");
        failed += u64::from(copy.is_none());
        if done {
            break;
        }
    }
    assert!(failed >= 3, "{failed}");
}
