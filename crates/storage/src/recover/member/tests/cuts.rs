//! Cuts in a log that is not whole.

use super::*;
use crate::testing::apaches_snapshot;

const E2: u64 = 2 * E1;

/// Transactions of two epochs and a snapshot of the second: (1,1) to (1,4), (2,1) to (2,3).
fn two_epochs() -> (Arc<MemDisk>, LogWriter<MemDisk>) {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    log.save_accepted_epoch(AcceptedEpoch(1)).unwrap();
    log.save_current_epoch(CurrentEpoch(1)).unwrap();
    append(&mut log, E1 + 1..=E1 + 4);
    log.close().unwrap();
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    log.save_accepted_epoch(AcceptedEpoch(2)).unwrap();
    log.save_current_epoch(CurrentEpoch(2)).unwrap();
    append(&mut log, E2 + 1..=E2 + 3);
    let state = Nodes { zxids: (E1 + 1..=E1 + 4).chain([E2 + 1, E2 + 2]).collect(), loaded: None };
    apaches_snapshot(&disk, &state);
    (disk, log)
}

/// Bad records below the snapshot that was loaded: nobody has looked at them since.
#[test]
fn a_cut_does_not_step_over_a_bad_record_where_an_epoch_ends() {
    let (disk, mut log) = two_epochs();
    let path = log_path(zxid(E1 + 1));
    let whole = disk.content(&path).unwrap();
    flip(&disk, &path, 20);
    let before = disk.count();
    assert!(!log.truncate(zxid(E2 + 1)).unwrap());
    assert_eq!((disk.count(), snapshots(&disk).len()), (before, 2));
    // Zeros behind the last record are no reason.
    disk.put(&path, [whole, vec![0; 100]].concat());
    assert!(log.truncate(zxid(E2 + 1)).unwrap());
    let (state, _) = start_member(&disk).unwrap();
    assert_eq!(state.zxids, (E1 + 1..=E1 + 4).chain([E2 + 1]).collect::<Vec<_>>());
}

/// Within an epoch the zxids show that nothing is missing.
#[test]
fn a_cut_passes_a_torn_end_behind_which_the_log_goes_on() {
    let disk = worked();
    let next = log_path(zxid(E1 + 9));
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    append(&mut log, E1 + 9..=E1 + 11);
    assert!(disk.content(&next).is_some(), "a segment of its own");
    for torn in [&[7; 30][..], &[0, 0, 0, 0, 9]] {
        let disk = Arc::new(disk.fork());
        let mut log = LogWriter::open(Arc::clone(&disk), &start_member(&disk).unwrap().1, crate::testing::TEST_LOG);
        let path = log_path(list_segments(&*disk).unwrap().iter().rfind(|s| s.first < zxid(E1 + 9)).unwrap().first);
        let content = disk.content(&path).unwrap();
        disk.put(&path, [&content[..], torn].concat());
        assert!(log.truncate(zxid(E1 + 10)).unwrap());
        let (state, recovered) = start_member(&disk).unwrap();
        assert_eq!((state.zxids.last(), recovered.recovering), (Some(&(E1 + 10)), Recovering::No));
    }
}

/// A bad record right behind the cut goes with all the rest, or the next epoch would seem to lack it.
#[test]
fn a_cut_takes_a_bad_record_behind_it_along() {
    let disk = worked();
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    // It stands in the first segment, below the snapshot of 4.
    let first = log_path(zxid(E1 + 1));
    let len = disk.content(&first).unwrap().len();
    let third = (0..3).map(|z| crate::record::record_len(txn(E1 + 1 + z).len())).sum::<usize>();
    flip(&disk, &first, len - 16 - third - 20);
    assert!(log.truncate(zxid(E1 + 3)).unwrap());
    log.save_accepted_epoch(AcceptedEpoch(2)).unwrap();
    log.save_current_epoch(CurrentEpoch(2)).unwrap();
    append(&mut log, [E2 + 1]);
    let (state, recovered) = start_member(&disk).unwrap();
    assert_eq!(state.zxids, [E1 + 1, E1 + 2, E1 + 3, E2 + 1]);
    assert_eq!(recovered.recovering, Recovering::No, "{:?}", recovered.warnings);
}
