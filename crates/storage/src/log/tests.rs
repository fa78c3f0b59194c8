use super::*;
use crate::mark::{MarkRead, read_mark};
use crate::mem::{Crash, MemDisk, Op};
use crate::recover::{RecoverOptions, recover};
use crate::segment::list_segments;
use crate::snapshot::{SnapshotOptions, write_snapshot};
use crate::testing::{Nodes, TEST_LOG, apaches_snapshot, chooser, start, txn, used, writer, zxid};
use std::collections::BTreeMap;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap()).collect()
}

/// `log.100000002` as Apache wrote it (disk format, 12.1).
#[test]
fn a_segment_is_apaches_byte_for_byte() {
    let txn =
        hex("0200001505de0000 00000001 0000000100000002 000001a204466704 00000001 00000002 2f61 00000005 68656c6c6f \
         00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00 00000001 00000002 000000021cd793a4");
    let disk = Arc::new(MemDisk::default());
    let recovered = Recovered { last_zxid: Zxid::new(1, 1), ..Recovered::default() };
    MarkFile::create(&*disk, recovered.mark).unwrap();
    prepare_segment(&*disk, 4096, &mut |_| {}).unwrap();
    let mut log = LogWriter::open(Arc::clone(&disk), &recovered, LogOptions::default());
    log.append(Zxid::new(1, 2), &txn);
    log.commit().unwrap();
    let content = disk.content(&DiskPath::new(Dir::LogVersion, "log.100000002")).unwrap();
    let start = hex("5a4b4c4700000002000000000000000000000000b0c50c0f0000005b0200001505de0000\
         000000010000000100000002000001a2044667040000000100000002");
    assert_eq!(content[..64], start);
    assert_eq!(content[28..28 + txn.len()], txn);
    assert_eq!(content[0x77], 0x42);
    assert_eq!(content.len(), 4096);
    assert!(content[0x78..].iter().all(|b| *b == 0));
}

/// Checksums and lengths of Apache's records (disk format, 12.2).
#[test]
fn checksums_are_apaches() {
    for (sum, len, bytes) in [
        (
            0xafc6_09bd_u32,
            0x30,
            "0200001505de0000 00000000 0000000100000001 000001a2044666f4 fffffff6 00002710 00000002 0000000051c6d660",
        ),
        (0x5126_0a0b, 0x24, "0100001505c50000 00000003 0000000100000005 000001a204466739 ffffffff ffffff9b"),
        (
            0xc931_08de,
            0x36,
            "0100001505c50000 00000004 0000000100000006 000001a20446674b fffffff5 00000001 00000002 2f62 \
             00000002 000000016a707d73",
        ),
        (
            0xa432_0737,
            0x3c,
            "0300001508e70000 00000001 0000000100000008 000001a2044669cc 00000005 00000002 2f61 00000002 7732 \
             00000001 00000002 000000013fb8d8ee",
        ),
    ] {
        let txn = hex(bytes);
        assert_eq!((record::checksum(&txn), txn.len()), (sum, len));
        let mut out = Vec::new();
        record::encode(&mut out, &txn);
        assert_eq!(out[..8], u64::from(sum).to_be_bytes());
        assert_eq!(record::decode(&out, 1000), record::Decoded::Good(&txn[..]));
    }
}

/// What the recorded operations show about acknowledgements: every record written, then synced, under a
/// name that was durable, before the note that acknowledges it. Answers the first that is not.
fn unfounded_ack(ops: &[Op]) -> Option<u64> {
    #[derive(Default)]
    struct File {
        written: Vec<u8>,
        synced: Vec<u8>,
        named: bool,
    }
    let mut files: BTreeMap<usize, File> = BTreeMap::new();
    let mut unnamed = Vec::new();
    for op in ops {
        match op {
            Op::Create { file, .. } | Op::Rename { file, .. } => {
                files.entry(*file).or_default().named = false;
                unnamed.push(*file);
            }
            Op::Write { file, offset, bytes } => {
                let written = &mut files.entry(*file).or_default().written;
                let at = *offset as usize;
                written.resize(written.len().max(at + bytes.len()), 0);
                written[at..at + bytes.len()].copy_from_slice(bytes);
            }
            Op::SetLen { file, len } => files.entry(*file).or_default().written.resize(*len as usize, 0),
            Op::Sync { file } => {
                let file = files.entry(*file).or_default();
                file.synced.clone_from(&file.written);
            }
            Op::SyncDir { .. } => {
                for file in unnamed.drain(..) {
                    files.entry(file).or_default().named = true;
                }
            }
            Op::Remove { .. } => {}
            Op::Note(z) => {
                let mut record = Vec::new();
                record::encode(&mut record, &txn(*z));
                let holds = |f: &File| f.named && f.synced.windows(record.len()).any(|w| w == record);
                if !files.values().any(holds) {
                    return Some(*z);
                }
            }
        }
    }
    None
}

/// The operations of a server that starts, logs and rolls, with a note for every acknowledged record.
fn recorded() -> Vec<Op> {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    let mut log = LogWriter::open(Arc::clone(&disk), &recovered, TEST_LOG);
    let mut z = 0;
    for (i, n) in [1_u64, 4, 1, 20, 3, 1].into_iter().enumerate() {
        for k in z + 1..=z + n {
            log.append(zxid(k), &txn(k));
        }
        assert_eq!(log.commit().unwrap().zxid, zxid(z + n));
        for k in z + 1..=z + n {
            disk.note(k);
        }
        z += n;
        if i == 2 {
            prepare_segment(&*disk, 900, &mut |_| {}).unwrap();
            log.roll();
        }
    }
    disk.ops()
}

#[test]
fn every_ack_follows_a_sync_of_bytes_and_name() {
    let ops = recorded();
    assert_eq!(ops.iter().filter(|op| matches!(op, Op::Note(_))).count(), 30);
    assert_eq!(unfounded_ack(&ops), None);
    // The check can fail: no sync, or no sync of directories, is noticed.
    let without = |gone: fn(&Op) -> bool| ops.iter().filter(|op| !gone(op)).cloned().collect::<Vec<_>>();
    assert_eq!(unfounded_ack(&without(|op| matches!(op, Op::Sync { .. }))), Some(1));
    assert_eq!(unfounded_ack(&without(|op| matches!(op, Op::SyncDir { .. }))), Some(1));
    // Every single sync that precedes an ack directly is needed.
    let syncs: Vec<_> = (0..ops.len()).filter(|i| matches!(ops[*i], Op::Sync { .. })).collect();
    let needed = |i: &usize| {
        let mut ops = ops.clone();
        ops.remove(*i);
        unfounded_ack(&ops).is_some()
    };
    assert!(syncs.iter().filter(|i| needed(i)).count() >= 6, "one for each commit at least");
}

/// The mark tells of nothing that was not synced before it was written.
#[test]
fn the_mark_follows_the_sync() {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    let mut log = LogWriter::open(Arc::clone(&disk), &recovered, TEST_LOG);
    for z in 1..=4 {
        log.append(zxid(z), &txn(z));
    }
    log.commit().unwrap();
    disk.clear_ops();
    log.append(zxid(5), &txn(5));
    log.append(zxid(6), &txn(6));
    log.commit().unwrap();
    let kinds: Vec<_> = disk
        .ops()
        .iter()
        .map(|op| match op {
            Op::Write { bytes, .. } if bytes.starts_with(b"FARRMARK") => "mark",
            Op::Write { .. } => "write",
            Op::Sync { .. } => "sync",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["write", "sync", "mark"], "one write, one sync, then the mark");
    disk.clear_ops();
    log.maintain(5000).unwrap();
    log.maintain(5001).unwrap();
    log.append(zxid(7), &txn(7));
    log.commit().unwrap();
    log.maintain(5999).unwrap();
    let syncs = |disk: &MemDisk| disk.ops().iter().filter(|op| matches!(op, Op::Sync { .. })).count();
    assert_eq!(syncs(&disk), 2, "the mark once, the log once");
    log.maintain(6000).unwrap();
    assert_eq!(syncs(&disk), 3);
}

#[test]
fn segments_end_where_their_zeros_end() {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    prepare_segment(&*disk, 600, &mut |_| {}).unwrap();
    let mut log = LogWriter::open(Arc::clone(&disk), &recovered, LogOptions::default());
    for z in 1..=8 {
        log.append(zxid(z), &txn(z));
    }
    let committed = log.commit().unwrap();
    let segments = list_segments(&*disk).unwrap();
    assert_eq!(segments.len(), 2);
    assert_eq!(segments[0].len, 600, "not extended");
    assert_eq!(committed.started, Some(segments[1].first));
    // The record of 9 is larger than a prepared segment.
    prepare_segment(&*disk, 600, &mut |_| {}).unwrap();
    log.roll();
    log.append(zxid(9), &txn(9));
    log.append(zxid(10), &txn(10));
    log.commit().unwrap();
    assert_eq!(list_segments(&*disk).unwrap().len(), 4);
    // txnLogSizeLimit: the commit that finds a larger segment is the last one into it.
    log.options.size_limit = 50;
    for z in 11..=13 {
        log.append(zxid(z), &txn(z));
        log.commit().unwrap();
    }
    assert_eq!(list_segments(&*disk).unwrap().len(), 6);
    let mut state = Nodes::default();
    recover(&disk, &RecoverOptions::default(), &mut state).unwrap();
    assert_eq!(state, Nodes { loaded: Some(Zxid::ZERO), ..Nodes::up_to(13) });
}

/// Zeros are written for a segment before it is used: it is not left for a snapshot while most of them are to come.
#[test]
fn a_prepared_segment_is_left_once_it_is_half_full() {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    prepare_segment(&*disk, 1200, &mut |_| {}).unwrap();
    let mut log = LogWriter::open(Arc::clone(&disk), &recovered, TEST_LOG);
    let mut starts = Vec::new();
    for z in 1..=40 {
        log.append(zxid(z), &txn(z));
        let committed = log.commit().unwrap();
        let pos = log.current.as_ref().map_or(0, |c| c.pos);
        starts.extend(committed.started.map(|first| (first, pos)));
        if z == 2 {
            write_snapshot(&*disk, &Nodes::up_to(z), &SnapshotOptions::default()).unwrap();
        }
        log.roll();
        if pos >= 600 && starts.len() == 1 {
            // The next one has no zeros, and is left at once, as Apache would.
            starts.push((zxid(z), pos));
        }
    }
    let [(first, _), (last, half), (next, _), (then, _), ..] = starts[..] else { panic!("{starts:?}") };
    assert_eq!(first, zxid(1));
    assert!((600..800).contains(&half), "it is left at the first roll behind its half: {half}");
    assert_eq!((next.get(), then.get()), (last.get() + 1, last.get() + 2));
    let mut state = Nodes::default();
    recover(&disk, &RecoverOptions::default(), &mut state).unwrap();
    assert_eq!(state, Nodes { loaded: Some(zxid(2)), ..Nodes::up_to(40) }, "a snapshot within a segment");
}

/// Apache got a state from a leader, logged nothing, and an epoch later the log seems to go on where it ended.
#[test]
fn no_cut_crosses_what_the_log_lacks() {
    let later = (1 << 32) + 1;
    for (whole, cut) in [(true, true), (false, false)] {
        let disk = used(&[4]);
        apaches_snapshot(&disk, &Nodes::up_to(6));
        let (_, recovered) = start(&disk).unwrap();
        let mut log = writer(&disk, &recovered);
        for z in [later, later + 1] {
            log.append(zxid(z), &txn(z));
        }
        log.commit().unwrap();
        if !whole {
            disk.remove(&DiskPath::new(Dir::DataVersion, "snapshot.6")).unwrap();
        }
        assert_eq!(log.truncate(zxid(later)).unwrap(), cut);
    }
}

/// Whatever of the log a snapshot has is below a durable mark.
#[test]
fn log_and_mark_are_settled_before_a_snapshot() {
    for force_sync in [true, false] {
        let disk = Arc::new(MemDisk::default());
        let (_, recovered) = start(&disk).unwrap();
        let options = LogOptions { force_sync, ..TEST_LOG };
        let mut log = LogWriter::open(Arc::clone(&disk), &recovered, options);
        for z in 1..=4 {
            log.append(zxid(z), &txn(z));
            log.commit().unwrap();
        }
        log.settle().unwrap();
        for seed in 0..20 {
            let disk = Arc::new(disk.fork());
            disk.restart(Crash::Power, &mut chooser(seed));
            assert!(matches!(read_mark(&*disk).unwrap(), MarkRead::Mark(mark) if mark.zxid == zxid(4)));
            let (state, _) = start(&disk).unwrap();
            assert_eq!(state.zxids, [1, 2, 3, 4], "forceSync: {force_sync}");
        }
    }
}

#[test]
fn a_name_with_history_is_not_overwritten() {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    let mut old = header().to_vec();
    record::encode(&mut old, &txn(1));
    disk.put(&log_path(zxid(1)), old.clone());
    let mut log = LogWriter::open(Arc::clone(&disk), &recovered, TEST_LOG);
    log.append(zxid(1), &txn(1));
    assert_eq!(log.commit().unwrap_err().kind, DiskErrorKind::Exists);
    assert_eq!(disk.content(&log_path(zxid(1))), Some(old));
}

#[test]
fn preparing_is_paced_once_and_cleans_up() {
    let disk = MemDisk::default();
    let mut seen = Vec::new();
    prepare_segment(&disk, 3 << 20, &mut |n| seen.push(n)).unwrap();
    assert_eq!(seen, [1 << 20, 2 << 20, 3 << 20]);
    let before = disk.count();
    prepare_segment(&disk, 3 << 20, &mut |_| panic!("one waits already")).unwrap();
    assert_eq!(disk.count(), before);
    let disk = MemDisk::default();
    disk.fail_nth(3, DiskErrorKind::Full);
    assert_eq!(prepare_segment(&disk, 3 << 20, &mut |_| {}).unwrap_err().kind, DiskErrorKind::Full);
    assert_eq!(disk.names(Dir::LogVersion), Vec::<String>::new());
}

#[test]
#[should_panic(expected = "does not follow")]
fn a_gap_is_never_appended() {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    LogWriter::open(disk, &recovered, TEST_LOG).append(zxid(2), &txn(2));
}

#[test]
fn a_file_with_anything_in_it_is_not_overwritten() {
    let disk = Arc::new(MemDisk::default());
    let (_, recovered) = start(&disk).unwrap();
    // No record within the limit in force, but something.
    let mut content = header().to_vec();
    content.resize(500, 0);
    content[400] = 1;
    disk.put(&log_path(zxid(1)), content.clone());
    let mut log = writer(&disk, &recovered);
    log.append(zxid(1), &txn(1));
    assert_eq!(log.commit().unwrap_err().kind, DiskErrorKind::Exists);
    assert_eq!(disk.content(&log_path(zxid(1))), Some(content));
}

#[test]
fn what_can_wait_leaves_room_for_the_log() {
    let disk = MemDisk::default();
    disk.set_capacity(RESERVE + 99_999);
    let before = disk.count();
    let error = prepare_segment(&disk, 100_000, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind, DiskErrorKind::Full);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot take more room in /data/version-2: 100000 bytes are needed, {} are free, and up to \
             {RESERVE} of them are kept for the log",
            RESERVE + 99_999
        )
    );
    assert_eq!(disk.count(), before, "not even begun");
    // Where less is free than is kept, that is true as well.
    disk.set_capacity(500);
    let said = prepare_segment(&disk, 100_000, &mut |_| {}).unwrap_err().to_string();
    assert!(said.contains(&format!("500 are free, and up to {RESERVE} of them are kept")), "{said}");
    // The room goes while it is being filled: it is given back.
    disk.set_capacity(RESERVE + (4 << 20));
    let error = prepare_segment(&disk, 3 << 20, &mut |_| disk.set_capacity(RESERVE + (1 << 20))).unwrap_err();
    assert_eq!(error.kind, DiskErrorKind::Full);
    assert_eq!(disk.names(Dir::LogVersion), Vec::<String>::new());
    disk.set_capacity(RESERVE + (4 << 20));
    prepare_segment(&disk, 3 << 20, &mut |_| {}).unwrap();
    // The same for a snapshot that can wait.
    let options = SnapshotOptions::default();
    disk.set_capacity((3 << 20) + RESERVE);
    let error = crate::snapshot::write_snapshot_paced(&disk, &Nodes::up_to(5), &options, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind, DiskErrorKind::Full);
    let said = error.to_string();
    assert!(said.ends_with(&format!(" bytes are free, and up to {RESERVE} of them are kept for the log")), "{said}");
    assert_eq!(disk.names(Dir::DataVersion), [NEXT_NAME]);
}
