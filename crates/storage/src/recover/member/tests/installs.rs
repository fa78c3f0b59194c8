//! An installation that was interrupted, and a directory in which another server has worked since.

use super::*;
use crate::log::install::intent_path;
use crate::record;
use crate::segment::header;
use crate::testing::apaches_snapshot;

/// What stands on the disk wherever a process can be killed while an intent is there, from [`worked`] on.
fn interrupted() -> Vec<Arc<MemDisk>> {
    let disk = worked();
    let image = Nodes { zxids: (E1 + 1..=E1 + 3).collect(), loaded: None };
    let mut all = Vec::new();
    for n in 0.. {
        let forked = Arc::new(disk.fork());
        let (_, recovered) = start_member(&forked).unwrap();
        let mut log = writer(&forked, &recovered);
        log.save_accepted_epoch(AcceptedEpoch(2)).unwrap();
        forked.crash_after(n, 0);
        let done = log.install(&image, CurrentEpoch(2), &SnapshotOptions::default()).is_ok();
        forked.restart(Crash::Process, &mut |_| 0);
        if forked.content(&intent_path()).is_some() {
            all.push(forked);
        }
        if done {
            break;
        }
    }
    assert!(all.len() > 8, "{}", all.len());
    all
}

/// The intent as earlier versions wrote it.
fn as_version_1(disk: &MemDisk) {
    let line = "snapshot.100000003 2";
    let sum = simd_adler32::adler32(&line.as_bytes());
    disk.put(&intent_path(), format!("farrier.install 1\n{line} {sum:08x}\n").into_bytes());
}

fn apaches_log(disk: &MemDisk, zxids: impl IntoIterator<Item = u64> + Clone) -> Vec<u8> {
    let first = zxids.clone().into_iter().next().unwrap();
    let mut content = header().to_vec();
    for z in zxids {
        record::encode(&mut content, &txn(z));
    }
    disk.put(&log_path(zxid(first)), content.clone());
    content
}

fn epochs(disk: &MemDisk, epoch: &str) {
    put_epoch(disk, &accepted_epoch_path(), epoch);
    put_epoch(disk, &current_epoch_path(), epoch);
}

/// All that stands in the directory, under whatever names.
fn contents(disk: &MemDisk) -> Vec<Vec<u8>> {
    disk.names(Dir::DataVersion).into_iter().filter_map(|n| disk.content(&DiskPath::new(Dir::DataVersion, n))).collect()
}

/// The operator went back to Apache, which knows nothing of an intent, and came again later.
#[test]
fn what_was_acknowledged_since_is_not_removed() {
    for version_1 in [false, true] {
        for (i, disk) in interrupted().into_iter().enumerate() {
            if version_1 {
                as_version_1(&disk);
            }
            // The machine ran on: what was left is durable by now.
            for dir in [Dir::Data, Dir::DataVersion] {
                disk.sync_dir(dir).unwrap();
            }
            let is_whole = disk.content(&newest_log(&worked())).is_some();
            let acknowledged = apaches_log(&disk, E1 + 9..=E1 + 20);
            epochs(&disk, "3");
            let report = repair::examine(&*disk, &MEMBER, &mut Nodes::default()).unwrap();
            assert!(!report.is_sound(), "{report}");
            let before = disk.count();
            let alone = recover(&disk, &RecoverOptions::default(), &mut Nodes::default()).unwrap_err();
            assert!(alone.kind == RefusalKind::Damage && disk.count() == before, "{alone}");
            assert!(alone.to_string().contains("another server has worked here since"), "{alone}");
            let recovered = start_twice(&disk);
            assert_eq!(recovered.recovering, Recovering::History, "{i}");
            assert_eq!((recovered.accepted.0, recovered.current.0), (3, 3), "{i}");
            assert!(contents(&disk).contains(&acknowledged), "{i}: it is still there");
            assert!(disk.content(&intent_path()).is_none());
            assert!(disk.names(Dir::Data).iter().any(|n| n == "farrier.damaged.1.farrier.install"));
            if is_whole {
                assert_eq!(recovered.last_zxid, zxid(E1 + 20), "{i}: {:?}", recovered.warnings);
            }
        }
    }
}

/// What somebody does in a directory.
type Hand<'h> = &'h dyn Fn(&MemDisk);

/// Each single trace of another server is enough.
#[test]
fn any_trace_of_another_server_stops_an_installation() {
    let traces: [(&str, bool, Hand<'_>); 6] = [
        ("a log", true, &|d| drop(apaches_log(d, E1 + 9..=E1 + 9))),
        ("a snapshot", true, &|d| {
            apaches_snapshot(d, &Nodes { zxids: (E1 + 1..=E1 + 11).collect(), loaded: None });
        }),
        ("a later epoch", true, &|d| put_epoch(d, &current_epoch_path(), "3")),
        ("the new epoch, and the old log", false, &|d| put_epoch(d, &current_epoch_path(), "2")),
        ("no epoch", false, &|d| d.remove(&current_epoch_path()).unwrap()),
        ("a log that was cut", false, &|d| {
            let path = log_path(list_segments(d).unwrap()[0].first);
            let content = d.content(&path).unwrap();
            d.put(&path, content[..content.len() - 1].to_vec());
        }),
    ];
    for version_1 in [false, true] {
        for (name, is_seen_by_version_1, trace) in traces {
            let disk = interrupted().swap_remove(0);
            if version_1 {
                as_version_1(&disk);
            }
            trace(&disk);
            let refused = recover(&disk, &RecoverOptions::default(), &mut Nodes::default());
            if version_1 && !is_seen_by_version_1 {
                assert_eq!(refused.unwrap().last_zxid, zxid(E1 + 3), "{name}");
                continue;
            }
            assert_eq!(refused.unwrap_err().kind, RefusalKind::Damage, "{name}");
            let recovered = start_twice(&disk);
            assert_ne!(recovered.recovering, Recovering::No, "{name}");
            assert_ne!(recovered.last_zxid, zxid(E1 + 3), "{name}");
        }
    }
}

/// Whoever carries an intent out leaves fewer files, and that is no trace of anybody.
#[test]
fn a_start_finishes_from_wherever_it_was_left() {
    for version_1 in [false, true] {
        for (i, disk) in interrupted().into_iter().enumerate() {
            if version_1 {
                as_version_1(&disk);
            }
            disk.put(&DiskPath::new(Dir::DataVersion, "farrier.next"), header().to_vec());
            for n in 0.. {
                let disk = Arc::new(disk.fork());
                disk.crash_after(n, 0);
                let done = start_member(&disk).is_ok();
                disk.restart(if n % 2 == 0 { Crash::Process } else { Crash::Power }, &mut chooser(n));
                let (state, recovered) = start_member(&disk).unwrap();
                assert_eq!(recovered.recovering, Recovering::No, "{i}, {n}: {:?}", recovered.warnings);
                assert_eq!((state.zxids, recovered.current.0), ((E1 + 1..=E1 + 3).collect(), 2), "{i}, {n}");
                if done {
                    break;
                }
            }
        }
    }
}

/// An operator's copy goes with the rest, whatever its name.
#[test]
fn odd_names_stand_in_an_intent() {
    let disk = worked();
    disk.put(&DiskPath::new(Dir::DataVersion, "snapshot.5.my copy\nof ü"), b"some".to_vec());
    let (_, recovered) = start_member(&disk).unwrap();
    let mut log = writer(&disk, &recovered);
    let image = Nodes { zxids: (E1 + 1..=E1 + 3).collect(), loaded: None };
    let killed = (0..).find_map(|n| {
        let disk = Arc::new(disk.fork());
        disk.crash_after(n, 0);
        let _ = writer(&disk, &recovered).install(&image, CurrentEpoch(2), &SnapshotOptions::default());
        disk.restart(Crash::Process, &mut |_| 0);
        disk.content(&intent_path()).is_some().then_some(disk)
    });
    log.install(&image, CurrentEpoch(2), &SnapshotOptions::default()).unwrap();
    let (state, recovered) = start_member(&killed.unwrap()).unwrap();
    assert_eq!((state.zxids.len(), recovered.recovering), (3, Recovering::No));
}
