//! Directories of which a part is missing or old: a disk that is not mounted, or one that was put back.

use super::*;
use crate::segment::header;
use crate::testing::apaches_snapshot;

/// The log as Apache writes it: header, records, zeros.
fn apache_log(zxids: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut out = header().to_vec();
    for z in zxids {
        crate::record::encode(&mut out, &txn(z));
    }
    out.resize(out.len() + 100, 0);
    out
}

fn empty(disk: &MemDisk, dirs: [Dir; 2]) {
    for dir in dirs {
        for name in disk.names(dir) {
            disk.remove(&DiskPath::new(dir, name)).unwrap();
        }
    }
}

/// Until the first snapshot of its own, a server that was taken over has acknowledged what no snapshot tells of.
#[test]
fn a_log_directory_that_is_not_mounted_is_noticed_after_a_takeover() {
    let disk = Arc::new(MemDisk::new(true));
    apaches_snapshot(&disk, &Nodes { zxids: (E1 + 1..=E1 + 4).collect(), loaded: None });
    disk.put(&log_path(zxid(E1 + 1)), apache_log(E1 + 1..=E1 + 6));
    put_epoch(&disk, &accepted_epoch_path(), "1");
    put_epoch(&disk, &current_epoch_path(), "1");
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    append(&mut log, E1 + 7..=E1 + 9);
    log.close().unwrap();
    disk.restart(Crash::Power, &mut |_| 0);
    let whole = Arc::new(disk.fork());
    empty(&disk, [Dir::Log, Dir::LogVersion]);
    let refusal = start_member(&disk).expect_err("it would vote with what it had before");
    assert_eq!(refusal.kind, RefusalKind::Setup);
    assert!(refusal.to_string().contains("mounted"), "{refusal}");
    assert_eq!((disk.names(Dir::Log).len(), disk.names(Dir::LogVersion).len()), (0, 0), "nothing was written");
    assert_eq!(read_recovering(&*disk).unwrap(), Recovering::No);
    assert_eq!(start_member(&whole).unwrap().1.last_zxid, zxid(E1 + 9));
}

/// An installation that was interrupted is not finished in what lies below the place where the log directory belongs.
#[test]
fn an_installation_waits_for_the_log_directory() {
    let disk = Arc::new(MemDisk::new(true));
    let image = Nodes { zxids: (E1 + 1..=E1 + 3).collect(), loaded: None };
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    log.save_accepted_epoch(AcceptedEpoch(1)).unwrap();
    let intent = crate::log::install::intent_path();
    let begun = (0..).find_map(|n| {
        let disk = Arc::new(disk.fork());
        let mut log = writer(&disk, &recovered);
        disk.crash_after(n, 0);
        let _ = log.install(&image, CurrentEpoch(1), &SnapshotOptions::default());
        disk.restart(Crash::Process, &mut |_| 0);
        disk.content(&intent).is_some().then_some(disk)
    });
    let disk = begun.unwrap();
    let whole = Arc::new(disk.fork());
    empty(&disk, [Dir::Log, Dir::LogVersion]);
    let refusal = start_member(&disk).unwrap_err();
    assert!(refusal.kind == RefusalKind::Setup && refusal.to_string().contains("mounted"), "{refusal}");
    assert_eq!((disk.names(Dir::Log).len(), disk.content(&intent).is_some()), (0, true));
    assert_eq!(start_member(&whole).unwrap().0.zxids, image.zxids);
    let repaired = repair::accept_loss(&*disk, &MEMBER, &mut Nodes::default()).unwrap();
    assert!(!repaired.before.is_sound() && repaired.after.is_sound());
    assert_eq!(start_member(&disk).unwrap().0.zxids, image.zxids);
}

/// What a ZooKeeper before 3.5 may leave: it is whole, and moved aside by every member it would be lost.
#[test]
fn a_log_of_apaches_without_any_snapshot_is_left_in_place() {
    let disk = Arc::new(MemDisk::default());
    disk.put(&log_path(zxid(E1 + 1)), apache_log(E1 + 1..=E1 + 4));
    put_epoch(&disk, &accepted_epoch_path(), "1");
    put_epoch(&disk, &current_epoch_path(), "1");
    let names = (disk.names(Dir::Data), disk.names(Dir::DataVersion));
    let refusal = start_member(&disk).expect_err("the log says all that there is");
    assert_eq!(refusal.kind, RefusalKind::Setup);
    assert!(refusal.to_string().contains("snapshot.trust.empty=true"), "{refusal}");
    assert_eq!((disk.names(Dir::Data), disk.names(Dir::DataVersion)), names);
    assert_eq!(read_recovering(&*disk).unwrap(), Recovering::No);
    let trusting = RecoverOptions { trust_empty_snapshot: true, ..MEMBER };
    let mut state = Nodes::default();
    let recovered = recover(&disk, &trusting, &mut state).unwrap();
    assert!(recovered.needs_snapshot() && recovered.recovering == Recovering::No);
    assert_eq!(state.zxids, [E1 + 1, E1 + 2, E1 + 3, E1 + 4]);
}

/// A member that must not count as an empty one has no snapshot until a leader's state is installed, an empty one too.
/// Without that, what it logs would stand on nothing.
#[test]
fn a_member_that_joins_with_nothing_needs_a_snapshot_below_its_log() {
    let strict = RecoverOptions { db_autocreate: false, ..MEMBER };
    for installs in [true, false] {
        let disk = Arc::new(MemDisk::default());
        for started in 0..2 {
            let recovered = recover(&disk, &strict, &mut Nodes::default()).unwrap();
            assert!(recovered.voteless && !recovered.needs_snapshot(), "{started}");
        }
        let recovered = recover(&disk, &strict, &mut Nodes::default()).unwrap();
        let mut log = writer(&disk, &recovered);
        log.save_accepted_epoch(AcceptedEpoch(1)).unwrap();
        if installs {
            log.install(&Nodes::default(), CurrentEpoch(1), &SnapshotOptions::default()).unwrap();
        } else {
            log.save_current_epoch(CurrentEpoch(1)).unwrap();
        }
        append(&mut log, E1 + 1..=E1 + 3);
        assert_eq!(log.truncate(zxid(E1 + 2)).unwrap(), installs, "is there something that it can be cut to?");
        disk.restart(Crash::Power, &mut |_| 0);
        let mut state = Nodes::default();
        let recovered = recover(&disk, &strict, &mut state).unwrap();
        if installs {
            assert_eq!((recovered.recovering, recovered.voteless), (Recovering::No, false));
            assert_eq!(state.zxids, [E1 + 1, E1 + 2]);
            assert_eq!(aside(&disk), Vec::<String>::new());
        } else {
            assert_eq!((recovered.recovering, state.zxids.len()), (Recovering::History, 0));
            assert_eq!(aside(&disk).len(), 1);
        }
    }
}

/// Some directories as they are on one disk, the others as they are on another.
fn mixed(data: &MemDisk, log: &MemDisk) -> Arc<MemDisk> {
    let disk = Arc::new(MemDisk::new(true));
    for (from, dirs) in [(data, [Dir::Data, Dir::DataVersion]), (log, [Dir::Log, Dir::LogVersion])] {
        for dir in dirs {
            for name in from.names(dir) {
                let path = DiskPath::new(dir, name);
                disk.put(&path, from.content(&path).unwrap());
            }
        }
    }
    disk
}

/// A member in `epoch`, with separate directories, that has `zxids`, all in one segment, and a snapshot of them.
fn member_of(epoch: u32, zxids: &[u64], began: Option<Arc<MemDisk>>) -> Arc<MemDisk> {
    let disk = began.unwrap_or_else(|| Arc::new(MemDisk::new(true)));
    let (mut state, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    log.save_accepted_epoch(AcceptedEpoch(epoch)).unwrap();
    log.save_current_epoch(CurrentEpoch(epoch)).unwrap();
    append(&mut log, zxids.iter().copied());
    log.settle().unwrap();
    state.zxids.extend(zxids);
    write_snapshot(&*disk, &state, &SnapshotOptions::default()).unwrap();
    log.close().unwrap();
    disk
}

/// A copy of dataDir was put back, and dataLogDir was not: what lies between the two need not show as a gap.
#[test]
fn a_data_directory_from_the_past_costs_the_vote() {
    let old = member_of(1, &[E1 + 1, E1 + 2], None);
    let new = member_of(1, &[E1 + 3, E1 + 4], Some(Arc::new(old.fork())));
    let new = member_of(2, &[2 * E1 + 1, 2 * E1 + 2], Some(new));
    // What the newest snapshot does not need was purged.
    new.remove(&log_path(zxid(E1 + 1))).unwrap();
    new.remove(&log_path(zxid(E1 + 3))).unwrap();
    let disk = mixed(&old, &new);
    let recovered = start_twice(&disk);
    assert_eq!(recovered.recovering, Recovering::Promise, "{:?}", recovered.warnings);
    assert!(recovered.warnings[0].contains("/data/version-2/currentEpoch"), "{:?}", recovered.warnings);
    let repaired = repair::accept_loss(&*disk, &MEMBER, &mut Nodes::default()).unwrap();
    assert!(repaired.before.loss.is_some());
    assert_eq!(start_twice(&disk).recovering, Recovering::No, "somebody insists");
    assert_eq!(start_twice(&new).recovering, Recovering::No);
}

/// The other way round.
#[test]
fn a_log_directory_from_the_past_costs_the_vote() {
    let old = member_of(1, &[E1 + 1, E1 + 2], None);
    let new = member_of(1, &[E1 + 3, E1 + 4], Some(Arc::new(old.fork())));
    let disk = mixed(&new, &old);
    let before = disk.names(Dir::LogVersion);
    let report = repair::examine(&*disk, &on(&disk, MEMBER), &mut Nodes::default()).unwrap();
    assert_eq!(report.findings.len(), 1, "{report}");
    let alone = Arc::new(disk.fork());
    let refusal = start(&alone).expect_err("whatever came behind the snapshot is forgotten");
    assert_eq!((refusal.kind, alone.names(Dir::LogVersion)), (RefusalKind::Damage, before));
    assert!(refusal.to_string().contains("snapshot.100000004") && refusal.to_string().contains("mounted"), "{refusal}");
    let recovered = start_twice(&disk);
    assert_eq!((recovered.recovering, recovered.last_zxid), (Recovering::History, zxid(E1 + 4)));
    let repaired = repair::accept_loss(&*disk, &on(&disk, MEMBER), &mut Nodes::default()).unwrap();
    assert!(repaired.before.loss.is_some() && repaired.after.is_sound());
    assert_eq!(start_twice(&disk).recovering, Recovering::No, "somebody insists");
    assert_eq!(start_twice(&new).recovering, Recovering::No);
}

/// Whoever raises the epoch writes the first mark before: no crash makes it look as if the files were of the past.
#[test]
fn a_crash_while_the_epoch_is_raised_costs_nothing() {
    let template = MemDisk::default();
    apaches_snapshot(&template, &Nodes::default());
    template.put(&log_path(zxid(E1 + 1)), apache_log(E1 + 1..=E1 + 4));
    put_epoch(&template, &accepted_epoch_path(), "0");
    put_epoch(&template, &current_epoch_path(), "0");
    for n in 0.. {
        let disk = Arc::new(template.fork());
        disk.crash_after(n, 0);
        let done = start_member(&disk).is_ok();
        disk.restart(Crash::Power, &mut chooser(n));
        let (_, recovered) = start_member(&disk).unwrap();
        assert_eq!((recovered.recovering, recovered.current.0), (Recovering::No, 1), "{n}: {:?}", recovered.warnings);
        if done {
            break;
        }
    }
}

type Damaging<'d> = &'d dyn Fn(&MemDisk);

/// The configuration of a server alone, for a look at a member's directory: what the member acknowledged is no torn tail.
#[test]
fn a_start_alone_goes_by_the_members_mark() {
    let alone = |disk: &Arc<MemDisk>| recover(disk, &RecoverOptions::default(), &mut Nodes::default());
    let whole = worked();
    let damages: [(&str, Damaging<'_>); 3] = [
        ("the last record", &|d| flip(d, &newest_log(d), 20)),
        ("the newest segment", &|d| d.remove(&newest_log(d)).unwrap()),
        ("while the epoch was being changed", &|d| {
            let MarkRead::Mark(old) = read_mark(d).unwrap() else { panic!("it was closed in order") };
            let mut file = MarkFile::take_over(d, old.sequence).unwrap();
            file.write(d, Mark { epoch: 2, ..old }).unwrap();
            file.sync().unwrap();
            flip(d, &newest_log(d), 20);
        }),
    ];
    for (name, damage) in damages {
        let disk = Arc::new(whole.fork());
        damage(&disk);
        let before = disk.count();
        let refusal = alone(&disk).expect_err(name);
        assert!(refusal.kind == RefusalKind::Damage && disk.count() == before, "{name}: {refusal}");
        let report = repair::examine(&*disk, &RecoverOptions::default(), &mut Nodes::default()).unwrap();
        assert!(!report.is_sound() && report.loss.is_some(), "{name}: {report}");
        repair::accept_loss(&*disk, &RecoverOptions::default(), &mut Nodes::default()).unwrap();
        assert!(alone(&disk).unwrap().last_zxid < zxid(E1 + 8), "{name}");
    }
    // Apache has synchronized since, or nobody knows: judged without it.
    for epoch in ["2", "nonsense"] {
        let disk = Arc::new(whole.fork());
        put_epoch(&disk, &current_epoch_path(), epoch);
        flip(&disk, &newest_log(&disk), 20);
        assert_eq!(alone(&disk).unwrap().last_zxid, zxid(E1 + 7), "{epoch}");
    }
    // What a server alone writes is no member's, also where it dies on the way.
    for n in 0.. {
        let disk = Arc::new(whole.fork());
        disk.crash_after(n, 0);
        let done = alone(&disk).is_ok();
        disk.restart(Crash::Power, &mut chooser(n));
        let recovered = alone(&disk).unwrap();
        assert_eq!((recovered.last_zxid, recovered.mark.epoch), (zxid(E1 + 8), 0), "{n}");
        assert_eq!(disk.content(&current_epoch_path()), Some(b"1".to_vec()));
        append(&mut writer(&disk, &recovered), [E1 + 9]);
        flip(&disk, &newest_log(&disk), 20);
        assert_eq!(alone(&disk).unwrap_err().kind, RefusalKind::Damage, "{n}: its own marks count");
        if done {
            break;
        }
    }
}
