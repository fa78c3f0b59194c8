//! Directories as a server finds them, its own and Apache's.

use super::*;

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

#[test]
fn a_state_that_takes_in_later_has_caught_up_before_the_disk_changes() {
    /// Transactions wait until it is told to catch up.
    struct Late {
        disk: Arc<MemDisk>,
        ops: Vec<crate::mem::Op>,
        waiting: Vec<Vec<u8>>,
        state: Nodes,
    }
    impl Restore for Late {
        fn reset(&mut self) {
            self.waiting.clear();
            self.state.reset();
        }
        fn session(&mut self, id: farrier_proto::SessionId, timeout: i32) -> Result<(), crate::RestoreError> {
            self.state.session(id, timeout)
        }
        fn acl(&mut self, key: i64, acl: Vec<farrier_proto::Acl<'_>>) -> Result<(), crate::RestoreError> {
            self.state.acl(key, acl)
        }
        fn node(&mut self, node: crate::NodeRecord<'_>) -> Result<(), crate::RestoreError> {
            self.state.node(node)
        }
        fn loaded(&mut self, zxid: Zxid, digest: Option<crate::SnapshotDigest>) -> Result<(), crate::RestoreError> {
            self.state.loaded(zxid, digest)
        }
        fn replay(&mut self, txn: &LoggedTxn<'_>) -> Result<(), crate::RestoreError> {
            self.waiting.push(txn.bytes.to_vec());
            Ok(())
        }
        fn catch_up(&mut self) {
            assert_eq!(self.disk.ops(), self.ops, "nothing was changed before");
            for bytes in self.waiting.drain(..) {
                self.state.replay(&LoggedTxn::read(&bytes).unwrap()).unwrap();
            }
        }
    }
    let disk = used(&[3, 2, 4]);
    let late = |disk: &Arc<MemDisk>| Late {
        disk: Arc::clone(disk),
        ops: disk.ops(),
        waiting: Vec::new(),
        state: Nodes::default(),
    };
    let mut state = late(&disk);
    reload(&*disk, &RecoverOptions::default(), &mut state).unwrap();
    assert_eq!((state.state.zxids, state.waiting.len()), ((1..=9).collect(), 0));
    let mut state = late(&disk);
    let recovered = recover(&disk, &RecoverOptions::default(), &mut state).unwrap();
    assert_eq!((state.state.zxids, state.waiting.len(), recovered.replayed), ((1..=9).collect(), 0, 9));
    assert_ne!(disk.ops(), state.ops, "recovery wrote behind it");
}

/// What it fails to note is of use to a later start only.
#[test]
fn a_full_data_directory_does_not_keep_a_server_from_starting() {
    let disk = used(&[5]);
    let own = DiskPath::new(Dir::Data, "farrier.own");
    disk.remove(&own).unwrap();
    let broken = Arc::new(disk.fork());
    disk.set_full(true);
    for _ in 0..2 {
        let (_, recovered) = check(&disk, 5, 5, "no room");
        assert!(recovered.warnings.iter().any(|w| w.contains("farrier.own")), "{:?}", recovered.warnings);
        assert_eq!(disk.content(&own), None);
    }
    disk.set_full(false);
    let (_, recovered) = check(&disk, 5, 5, "room again");
    assert_eq!((recovered.warnings, disk.content(&own).is_some()), (Vec::new(), true));
    // Any other failure counts. A start's last operation is one on this file.
    let whole = Arc::new(broken.fork());
    check(&whole, 5, 5, "whole");
    broken.fail_nth(whole.count() - broken.count(), DiskErrorKind::Other);
    assert_eq!(start(&broken).unwrap_err().kind, RefusalKind::Disk);
}
