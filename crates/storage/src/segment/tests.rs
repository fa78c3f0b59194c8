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

/// A bad record is passed where its length is good and the next record shows that nothing else is missing.
#[test]
fn a_bad_record_is_passed_by_its_length_only() {
    const FIRST: u64 = 0x1_0000_0001;
    let disk = MemDisk::default();
    let path = log_path(zxid(FIRST));
    let mut whole = header().to_vec();
    let mut starts = Vec::new();
    for z in FIRST..FIRST + 5 {
        starts.push(whole.len());
        record::encode(&mut whole, &txn(z));
    }
    let behind = |content: &[u8], offset: usize, last: u64| {
        disk.put(&path, content.to_vec());
        let mut reader = SegmentReader::open(&disk, &path, TXN_MAX).unwrap();
        reader.behind_bad(offset as u64, zxid(last)).unwrap()
    };
    let (bad, next) = (starts[1], starts[2]);
    let expected = Behind { offset: next as u64, zxid: zxid(FIRST + 2), bad: Some(zxid(FIRST + 1)) };
    assert_eq!(behind(&whole, bad, FIRST), None, "it is good");
    for offset in bad..next {
        let mut content = whole.clone();
        content[offset] ^= 1;
        let length = bad + 8..bad + PREFIX;
        let wanted = (!length.contains(&offset)).then_some(expected);
        assert_eq!(behind(&content, bad, FIRST), wanted, "{}", offset - bad);
        // The next one is not the next one.
        assert_eq!(behind(&content, bad, FIRST - 1), None);
        assert_eq!(behind(&content, bad, FIRST + 1), None);
        // An epoch that ended or began there.
        assert_eq!(behind(&content, bad, 7), None, "the third record of an epoch");
    }
    let mut content = whole.clone();
    content[starts[0] + 40] ^= 1;
    let first = behind(&content, starts[0], 7).unwrap();
    assert_eq!((first.zxid, first.bad), (zxid(FIRST + 1), Some(zxid(FIRST))));
    assert_eq!(behind(&content, starts[0], before(zxid(FIRST)).get()), Some(first));
    // The length is bad, and leads to what a client stored: not a record, however much it looks like one.
    let mut inner = Vec::new();
    record::encode(&mut inner, &txn(FIRST + 2));
    let mut host = txn(FIRST + 1);
    let at = host.len();
    host.extend_from_slice(&[record::MARKER]);
    host.extend_from_slice(&inner);
    let mut content = whole[..bad].to_vec();
    record::encode(&mut content, &host);
    record::encode(&mut content, &txn(FIRST + 2));
    content[bad + 8..bad + PREFIX].copy_from_slice(&(at as u32).to_be_bytes());
    assert_eq!(behind(&content, bad, FIRST), None);
}
