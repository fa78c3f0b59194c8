use super::*;
use crate::disk::{Dir, DiskPath, OpenMode};
use crate::log::prepare_segment;
use crate::mem::MemDisk;
use crate::record;
use crate::segment::header;
use crate::snapshot::{SnapshotOptions, write_snapshot};
use crate::testing::{Nodes, start, txn, writer, zxid};
use farrier_proto::limits::TXN_MAX;
use std::sync::Arc;

fn zxids(page: &[(Zxid, Bytes)]) -> Vec<u64> {
    page.iter().map(|(z, bytes)| (bytes[..] == txn(z.get())[..]).then(|| z.get()).unwrap()).collect()
}

fn read(disk: &MemDisk, after: u64, to: u64, max: usize) -> Vec<u64> {
    zxids(&read_txns(disk, zxid(after), zxid(to), max, TXN_MAX).unwrap())
}

fn find(disk: &MemDisk, z: u64, floor: u64) -> Location {
    locate(disk, zxid(z), zxid(floor), TXN_MAX).unwrap()
}

fn bytes_of(zxids: impl IntoIterator<Item = u64>) -> u64 {
    zxids.into_iter().map(|z| record_len(txn(z).len()) as u64).sum()
}

fn segment(zxids: impl IntoIterator<Item = u64>, padding: usize) -> Vec<u8> {
    let mut out = header().to_vec();
    for z in zxids {
        record::encode(&mut out, &txn(z));
    }
    out.resize(out.len() + padding, 0);
    out
}

/// A log of 1..=40 in many small segments, some of them padded with zeros.
fn logged() -> Arc<MemDisk> {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    for z in 1..=40 {
        if z % 10 == 0 {
            prepare_segment(&*disk, 900, &mut |_| {}).unwrap();
        }
        log.append(zxid(z), &txn(z));
        log.commit().unwrap();
    }
    assert!(list_segments(&*disk).unwrap().len() > 4);
    disk
}

#[test]
fn every_page_from_everywhere() {
    let disk = logged();
    for after in 0..=41 {
        for to in [0, 5, 17, 39, 40, 99] {
            let expected: Vec<u64> = (after + 1..=to.min(40)).collect();
            assert_eq!(read(&disk, after, to, usize::MAX), expected, "{after} to {to}");
            // About so many bytes, and one transaction at least.
            assert_eq!(read(&disk, after, to, 0), expected[..expected.len().min(1)], "{after} to {to}");
        }
    }
    let all = read_txns(&*disk, zxid(3), zxid(40), 200, TXN_MAX).unwrap();
    let bytes: usize = all.iter().map(|(_, txn)| txn.len()).sum();
    assert!(bytes >= 200 && bytes - all.last().unwrap().1.len() < 200);
}

#[test]
fn a_cursor_goes_on_where_it_was() {
    let disk = logged();
    for max in [0, 150, 4000] {
        let mut cursor = LogCursor::new(TXN_MAX);
        let mut at = 2;
        while at < 40 {
            // A record that is read again for another page does not go missing.
            let to = if at % 3 == 0 { at + 1 } else { 40 };
            let page = zxids(&cursor.read(&*disk, zxid(at), zxid(to), max).unwrap());
            assert_eq!(page, (at + 1..=at + page.len() as u64).collect::<Vec<_>>());
            at = *page.last().unwrap();
        }
        assert_eq!(cursor.read(&*disk, zxid(40), zxid(99), max).unwrap(), []);
        // It may be sent elsewhere, also back.
        assert_eq!(zxids(&cursor.read(&*disk, zxid(9), zxid(10), max).unwrap()), [10]);
    }
}

/// A cursor does not look at segments before its own: they may be gone.
#[test]
fn a_page_does_not_begin_at_the_beginning() {
    let disk = logged();
    let mut cursor = LogCursor::new(TXN_MAX);
    cursor.read(&*disk, zxid(0), zxid(30), usize::MAX).unwrap();
    for segment in list_segments(&*disk).unwrap().iter().filter(|s| s.first < zxid(25)) {
        disk.put(&log_path(segment.first), b"not a log".to_vec());
    }
    assert_eq!(zxids(&cursor.read(&*disk, zxid(30), zxid(40), usize::MAX).unwrap()), (31..=40).collect::<Vec<_>>());
}

#[test]
fn the_log_may_grow_meanwhile() {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    let mut cursor = LogCursor::new(TXN_MAX);
    for z in 1..=60 {
        log.append(zxid(z), &txn(z));
        log.commit().unwrap();
        if z % 3 == 0 {
            let page = cursor.read(&*disk, zxid(z - 3), zxid(z), usize::MAX).unwrap();
            assert_eq!(zxids(&page), [z - 2, z - 1, z]);
        }
    }
}

/// Whatever stands behind what is durable.
#[test]
fn a_half_written_record_does_not_matter() {
    let whole = segment(1..=5, 0);
    let end = whole.len() - record_len(txn(5).len());
    let disk = MemDisk::default();
    write_snapshot(&disk, &Nodes::up_to(0), &SnapshotOptions::default()).unwrap();
    for len in end..whole.len() {
        for padding in [0, 500] {
            let mut half = whole[..len].to_vec();
            half.resize(len + padding, 0);
            if half.len() > whole.len() && len == whole.len() - 1 {
                half[whole.len() - 1] = 0;
            }
            disk.put(&log_path(zxid(1)), half);
            let mut cursor = LogCursor::new(TXN_MAX);
            assert_eq!(zxids(&cursor.read(&disk, zxid(1), zxid(4), usize::MAX).unwrap()), [2, 3, 4], "{len}");
            assert_eq!(cursor.read(&disk, zxid(4), zxid(5), usize::MAX).unwrap(), [], "{len}");
            assert_eq!(find(&disk, 2, 0).bytes_behind, bytes_of(3..=4), "{len}");
            disk.put(&log_path(zxid(1)), whole.clone());
            assert_eq!(zxids(&cursor.read(&disk, zxid(4), zxid(5), usize::MAX).unwrap()), [5], "{len}");
        }
    }
}

#[test]
fn what_is_not_in_the_log_is_not_found() {
    let disk = MemDisk::default();
    write_snapshot(&disk, &Nodes::up_to(6), &SnapshotOptions::default()).unwrap();
    let second = 0x2_0000_0000;
    disk.put(&log_path(zxid(7)), segment(7..=9, 700));
    disk.put(&log_path(zxid(second + 1)), segment([second + 1, second + 2], 0));
    let end = second + 2;
    // The log begins behind 6.
    assert_eq!(read(&disk, 6, end, usize::MAX), [7, 8, 9, second + 1, second + 2]);
    for nowhere in [5, 0, 10, 0x1_0000_0001, second + 3, 0x3_0000_0000] {
        assert_eq!(read(&disk, nowhere, u64::MAX >> 1, usize::MAX), Vec::<u64>::new(), "{nowhere:x}");
    }
    // The beginning of an epoch stands in no log.
    assert_eq!(read(&disk, second, end, usize::MAX), [second + 1, second + 2]);
    // A gap ends it.
    disk.put(&log_path(zxid(second + 4)), segment([second + 4], 0));
    assert_eq!(read(&disk, second, end + 9, usize::MAX), [second + 1, second + 2]);
}

#[test]
fn where_a_zxid_stands() {
    let disk = logged();
    let snapshot_bytes = list_snapshots(&*disk).unwrap()[0].len;
    for z in 1..=45 {
        let before = z.min(40);
        let expected = Location { before: Some(zxid(before)), bytes_behind: bytes_of(before + 1..=40), snapshot_bytes };
        assert_eq!(find(&disk, z, 0), expected, "{z}");
        assert_eq!(find(&disk, z, 7).before, (z >= 7).then_some(zxid(before)), "{z}: the floor");
    }
    // Snapshot 0, behind which the log begins.
    let expected = Location { before: Some(Zxid::ZERO), bytes_behind: bytes_of(1..=40), snapshot_bytes };
    assert_eq!(find(&disk, 0, 0), expected);
    // It was purged, with the older log.
    write_snapshot(&*disk, &Nodes::up_to(20), &SnapshotOptions::default()).unwrap();
    disk.remove(&DiskPath::new(Dir::DataVersion, "snapshot.0")).unwrap();
    assert_eq!(find(&disk, 0, 0).before, None);
    assert_eq!(find(&disk, 0, 0).bytes_behind, 0);
    assert!(find(&disk, 0, 0).snapshot_bytes > snapshot_bytes);
}

#[test]
fn a_difference_begins_behind_a_snapshot_or_a_record_and_never_before_a_gap() {
    let disk = MemDisk::default();
    assert_eq!(find(&disk, 5, 0), Location { before: None, bytes_behind: 0, snapshot_bytes: 0 });
    write_snapshot(&disk, &Nodes::up_to(6), &SnapshotOptions::default()).unwrap();
    // Installed, and nothing logged since.
    assert_eq!(find(&disk, 6, 6).before, Some(zxid(6)));
    assert_eq!(find(&disk, 8, 6).before, Some(zxid(6)));
    assert_eq!(find(&disk, 5, 6).before, None);
    // An older log that does not reach up to it, and a newer one that goes on behind it.
    disk.put(&log_path(zxid(1)), segment(1..=3, 0));
    disk.put(&log_path(zxid(7)), segment(7..=9, 0));
    assert_eq!(find(&disk, 6, 0).before, Some(zxid(6)));
    assert_eq!(read(&disk, 6, 9, usize::MAX), [7, 8, 9]);
    assert_eq!(read(&disk, 3, 9, usize::MAX), Vec::<u64>::new());
    assert_eq!(find(&disk, 8, 6), Location { before: Some(zxid(8)), bytes_behind: bytes_of([9]), ..find(&disk, 6, 6) });
    assert_eq!(find(&disk, 3, 0).before, None, "4 to 6 are only in the snapshot");
    // A log that does not join on.
    disk.remove(&log_path(zxid(7))).unwrap();
    disk.put(&log_path(zxid(8)), segment(8..=9, 0));
    assert_eq!(find(&disk, 6, 0).before, None);
    assert_eq!(find(&disk, 9, 0).before, Some(zxid(9)));
    // A torn file is no snapshot.
    let torn = disk.open(&DiskPath::new(Dir::DataVersion, "snapshot.7"), OpenMode::CreateNew).unwrap();
    DiskFile::write_at(&torn, 0, b"torn").unwrap();
    assert_eq!(find(&disk, 7, 0).before, None);
}

#[test]
fn damage_before_the_end_of_an_epoch_is_a_gap() {
    let disk = MemDisk::default();
    let second = 1 << 32;
    let later = [second + 1, second + 2];
    let damaged = log_path(zxid(1));
    disk.put(&damaged, segment(1..=9, 64));
    disk.put(&log_path(zxid(second + 1)), segment(later, 0));
    assert_eq!(find(&disk, 3, 0).before, Some(zxid(3)));
    assert_eq!(read(&disk, 3, second + 2, usize::MAX), [4, 5, 6, 7, 8, 9, second + 1, second + 2]);
    // In the record of 6. Any epoch may follow any transaction, so no number tells that 6 to 9 are missing.
    let offset = usize::try_from(FIRST_RECORD + bytes_of(1..=5)).unwrap() + PREFIX;
    assert!(disk.rot(&damaged, offset, 1));
    assert_eq!(read(&disk, 3, second + 2, usize::MAX), [4, 5]);
    assert_eq!(read(&disk, 5, second + 2, usize::MAX), Vec::<u64>::new());
    assert_eq!(find(&disk, 3, 0).before, None);
    let mut cursor = LogCursor::new(TXN_MAX);
    assert_eq!(zxids(&cursor.read(&disk, zxid(3), zxid(second + 2), 1).unwrap()), [4]);
    assert_eq!(zxids(&cursor.read(&disk, zxid(4), zxid(second + 2), 1).unwrap()), [5]);
    assert_eq!(zxids(&cursor.read(&disk, zxid(5), zxid(second + 2), 1).unwrap()), Vec::<u64>::new());
    assert_eq!(read(&disk, second + 1, second + 2, usize::MAX), [second + 2], "behind it all is well");
    assert_eq!(find(&disk, second + 1, 0).before, Some(zxid(second + 1)));
    // Nor does what is behind the damage go on behind a snapshot before it or in it.
    for old in [2, 7] {
        write_snapshot(&disk, &Nodes::up_to(old), &SnapshotOptions::default()).unwrap();
        assert_eq!(find(&disk, old, 0).before, None);
        assert_eq!(find(&disk, 8, 0).before, None);
    }
    assert_eq!(read(&disk, 7, second + 2, usize::MAX), Vec::<u64>::new());
}
