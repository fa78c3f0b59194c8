//! Every flip and every length: torn tail or damage.

use super::*;

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
