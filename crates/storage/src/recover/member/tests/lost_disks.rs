//! Directories of which a part is missing or old: a disk that is not mounted, or one that was put back.

use super::*;
use crate::segment::header;

/// The log as Apache writes it: header, records, zeros.
fn apache_log(zxids: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut out = header().to_vec();
    for z in zxids {
        crate::record::encode(&mut out, &txn(z));
    }
    out.resize(out.len() + 100, 0);
    out
}

/// A snapshot that nothing of Farrier's tells of.
fn apaches_snapshot(disk: &MemDisk, zxids: impl IntoIterator<Item = u64>) {
    let state = Nodes { zxids: zxids.into_iter().collect(), loaded: None };
    write_snapshot(disk, &state, &SnapshotOptions::default()).unwrap();
    disk.remove(&DiskPath::new(Dir::Data, "farrier.own")).unwrap();
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
    apaches_snapshot(&disk, E1 + 1..=E1 + 4);
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
#[test]
fn a_member_that_joins_with_nothing_has_a_snapshot_below_its_log() {
    let strict = RecoverOptions { db_autocreate: false, ..MEMBER };
    let disk = Arc::new(MemDisk::default());
    for started in 0..2 {
        let recovered = recover(&disk, &strict, &mut Nodes::default()).unwrap();
        assert!(recovered.voteless && !recovered.needs_snapshot(), "{started}");
    }
    let recovered = recover(&disk, &strict, &mut Nodes::default()).unwrap();
    let mut log = writer(&disk, &recovered);
    log.save_accepted_epoch(AcceptedEpoch(1)).unwrap();
    log.install(&Nodes::default(), CurrentEpoch(1), &SnapshotOptions::default()).unwrap();
    append(&mut log, E1 + 1..=E1 + 3);
    assert!(log.truncate(zxid(E1 + 2)).unwrap(), "there is something that it can be cut to");
    disk.restart(Crash::Power, &mut |_| 0);
    let mut state = Nodes::default();
    let recovered = recover(&disk, &strict, &mut state).unwrap();
    assert_eq!((recovered.recovering, recovered.voteless), (Recovering::No, false));
    assert_eq!(state.zxids, [E1 + 1, E1 + 2]);
    assert_eq!(aside(&disk), Vec::<String>::new());
}
