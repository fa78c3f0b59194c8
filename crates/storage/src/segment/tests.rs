use super::*;
use crate::mem::MemDisk;
use crate::testing::{txn, zxid};
use farrier_proto::limits::TXN_MAX;

/// A real disk may take seconds for each attempt.
#[test]
fn a_bad_place_is_asked_for_by_its_neighbours_only() {
    let mut content = header().to_vec();
    let mut ends = Vec::new();
    for z in 1..=500 {
        record::encode(&mut content, &txn(z));
        ends.push(content.len());
    }
    assert!(content.len() < CHUNK, "one read is enough for all of it");
    let disk = MemDisk::default();
    let path = log_path(zxid(1));
    let bad = ends[498];
    disk.put(&path, content);
    assert!(disk.make_unreadable(&path, bad..bad + 1));
    let mut reader = SegmentReader::open(&disk, &path, TXN_MAX).unwrap();
    let mut read = 0;
    let error = reader
        .walk(&mut |_, _| {
            read += 1;
            true
        })
        .unwrap_err();
    assert_eq!((read, error.operation), (499, "read"), "everything before it");
    // One read found out. From then on prefix and rest of a record are read together with a few behind it.
    let neighbours = ends.iter().filter(|end| (bad - CHUNK_OF_BAD..=bad).contains(*end)).count();
    let refused = disk.refused_reads(&path);
    assert!(refused <= 3 + 2 * neighbours as u64, "{refused} times, with {neighbours} records close to it");
}
