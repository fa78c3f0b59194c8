//! Which snapshot is loaded, and what it tells about the log.

use super::*;

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
fn snapshots_that_are_all_cut_short_are_named_and_a_whole_log_needs_none() {
    let trusting = RecoverOptions { trust_empty_snapshot: true, ..RecoverOptions::default() };
    for (from_the_first, at) in [(true, 0), (false, 3)] {
        let disk = Arc::new(MemDisk::default());
        snapshot_of(&disk, at);
        disk.put(&log_file(at + 1), apache_log(at + 1..=6, 100));
        let cut = DiskPath::new(Dir::DataVersion, format!("snapshot.{at}"));
        let mut short = disk.content(&cut).unwrap();
        short.truncate(30);
        disk.put(&cut, short);
        let refusal = start(&disk).unwrap_err();
        let said = refusal.to_string();
        assert_eq!(refusal.kind, RefusalKind::Damage);
        for told in [
            "/data/version-2/snapshot.*: none of 1 snapshots is whole",
            &format!("snapshot.{at} is damaged"),
            "farrier repair",
        ] {
            assert!(said.contains(told), "{told}: {said}");
        }
        assert_eq!(said.contains("snapshot.trust.empty=true"), from_the_first, "{said}");
        let report = crate::repair::examine(&*disk, &RecoverOptions::default(), &mut Nodes::default()).unwrap();
        let finding = &report.findings[0];
        assert!(finding.problem.contains("none of 1 snapshots is whole"), "{finding:?}");
        assert_eq!(finding.remedy.contains("snapshot.trust.empty=true"), from_the_first, "{finding:?}");
        if from_the_first {
            // One that holds something cannot be done without, whatever the log is called.
            let disk = disk.fork();
            let own = DiskPath::new(Dir::DataVersion, "snapshot.9");
            let late = log_file((1 << 32) + 1);
            disk.rename(&log_file(1), &late).unwrap();
            disk.rename(&cut, &own).unwrap();
            let said = start(&Arc::new(disk)).unwrap_err().to_string();
            assert!(!said.contains("snapshot.trust.empty=true"), "{said}");
        }
        let mut state = Nodes::default();
        let recovered = recover(&disk, &trusting, &mut state);
        assert_eq!(
            recovered.is_ok().then_some(state.zxids),
            from_the_first.then(|| (1..=6).collect()),
            "it was the truth"
        );
    }
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
    // Only Apache leaves one under such a name.
    disk.remove(&DiskPath::new(Dir::Data, "farrier.own")).unwrap();
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

/// Apache puts `.tmp` behind the whole name. What a compressed one holds does not show at its beginning.
#[test]
fn compressed_snapshots_without_their_names_are_judged_by_what_they_hold() {
    for compression in [Compression::Gz, Compression::Snappy] {
        let disk = used(&[5]);
        let options = SnapshotOptions { compression, ..SnapshotOptions::default() };
        let written = write_snapshot(&*disk, &Nodes::up_to(8), &options).unwrap();
        let name = written.path.name.clone();
        let tmp = DiskPath::new(Dir::DataVersion, format!("{name}.tmp"));
        disk.rename(&written.path, &tmp).unwrap();
        disk.remove(&DiskPath::new(Dir::Data, "farrier.own")).unwrap();
        let whole = disk.content(&tmp).unwrap();
        let refusal = start(&disk).expect_err("it may be all that is left of 6 to 8");
        assert_eq!(refusal.kind, RefusalKind::Damage);
        assert!(refusal.to_string().contains(&format!("Rename it to {name} to start")), "{refusal}");
        assert_eq!(disk.content(&tmp).as_ref(), Some(&whole));
        let renamed = Arc::new(disk.fork());
        renamed.rename(&tmp, &written.path).unwrap();
        check(&renamed, 8, 8, "renamed");
        let damaged = Arc::new(disk.fork());
        let repaired =
            crate::repair::accept_loss(&*damaged, &RecoverOptions::default(), &mut Nodes::default()).unwrap();
        assert_eq!(repaired.aside, [format!("/data/version-2/farrier.damaged.1.{name}.tmp")]);
        check(&damaged, 5, 5, "moved aside");
        // A disk that fails says nothing about it.
        let unread = Arc::new(disk.fork());
        assert!(unread.make_unreadable(&tmp, whole.len() - 1..whole.len()));
        assert_eq!(start(&unread).unwrap_err().kind, RefusalKind::Disk);
        // Half-written, or overtaken by the log: it goes, and with it the warning.
        let half = whole[..whole.len() / 2].to_vec();
        let overtaken = DiskPath::new(Dir::DataVersion, snapshot_name(zxid(4), compression) + ".tmp");
        for (path, content) in [(&tmp, half), (&overtaken, whole.clone())] {
            let disk = used(&[5]);
            disk.put(path, content);
            let (_, recovered) = check(&disk, 5, 5, "left over");
            assert!(recovered.warnings.join(" ").contains("left over from an interrupted write; removed"));
            assert!(disk.content(path).is_none(), "{path:?}");
            assert_eq!(check(&disk, 5, 5, "again").1.warnings, Vec::<String>::new());
        }
    }
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

/// The newest snapshot is Apache's for as long as there is none of Farrier's own, and says nothing of what was
/// acknowledged since.
#[test]
fn a_log_directory_that_is_not_mounted_is_noticed_behind_apaches_snapshot() {
    let disk = Arc::new(MemDisk::new(true));
    apaches_snapshot(&disk, &Nodes::up_to(4));
    disk.put(&log_file(1), apache_log(1..=6, 100));
    let (_, recovered) = start(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    log.append(zxid(7), &txn(7));
    log.close().unwrap();
    disk.restart(Crash::Power, &mut |_| 0);
    let whole = Arc::new(disk.fork());
    for dir in [Dir::Log, Dir::LogVersion] {
        for name in disk.names(dir) {
            disk.remove(&DiskPath::new(dir, name)).unwrap();
        }
    }
    let refusal = start(&disk).expect_err("a stale tree");
    assert_eq!(refusal.kind, RefusalKind::Setup);
    assert!(refusal.to_string().contains("mounted") && refusal.to_string().contains("/data/farrier.own"), "{refusal}");
    assert_eq!((disk.names(Dir::Log).len(), disk.names(Dir::LogVersion).len()), (0, 0), "nothing was written");
    check(&whole, 7, 7, "mounted again");
    // Apache took the directory back, with a log of its own elsewhere.
    let apaches = Arc::new(disk.fork());
    apaches.put(&log_file(5), apache_log(5..=8, 100));
    check(&apaches, 8, 8, "Apache's log");
    // Somebody insists.
    let options = RecoverOptions::default();
    let repaired = crate::repair::accept_loss(&*disk, &options, &mut Nodes::default()).unwrap();
    assert!(repaired.before.loss.is_some());
    check(&disk, 4, 4, "the snapshot alone");
    check(&disk, 4, 4, "and again");
}

/// A copy of a directory in use has its files in any order. Only where the log has a directory of its own, another time than
/// that of the snapshots may be the reason.
#[test]
fn a_snapshot_beyond_log_and_mark_is_no_loss_where_they_are_in_one_directory() {
    for separate in [false, true] {
        let disk = Arc::new(MemDisk::new(separate));
        let (_, recovered) = start(&disk).unwrap();
        let mut log = writer(&disk, &recovered);
        (1..=4).for_each(|z| log.append(zxid(z), &txn(z)));
        log.settle().unwrap();
        let earlier = disk.fork();
        (5..=6).for_each(|z| log.append(zxid(z), &txn(z)));
        log.settle().unwrap();
        snapshot_of(&disk, 6);
        log.close().unwrap();
        for path in [mark_path(), log_file(1)] {
            disk.put(&path, earlier.content(&path).unwrap());
        }
        if separate {
            // Of one directory under two names only the options know that it is one.
            recover(&Arc::new(disk.fork()), &RecoverOptions::default(), &mut Nodes::default()).unwrap();
            let refusal = start(&disk).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::Damage);
            assert!(refusal.to_string().contains("zxid 0x4"), "{refusal}");
        } else {
            check(&disk, 6, 6, "the snapshot tells of everything");
            check(&disk, 6, 6, "and again");
        }
    }
}
