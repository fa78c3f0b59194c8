use super::*;
use crate::mark::MARK_NAME;
use crate::mem::MemDisk;
use crate::record;
use crate::segment::{header, log_name, log_path};
use crate::snapshot::{SnapshotOptions, write_snapshot};
use crate::testing::{Nodes, start, txn, used, zxid};
use std::sync::Arc;

/// All findings about the logs of a disk, and what was read of each file.
fn verify(disk: &MemDisk) -> (Vec<Finding>, Vec<VerifiedLog>) {
    let mut findings = Vec::new();
    let report: &mut Report<'_> = &mut |finding| findings.push(finding);
    let mut verifier = LogVerifier::new(disk, report).unwrap();
    let files: Vec<VerifiedLog> =
        list_segments(disk).unwrap().iter().map(|s| verifier.file(&log_name(s.first), report).unwrap()).collect();
    verifier.finish(true, report).unwrap();
    (findings, files)
}

fn worst(disk: &MemDisk) -> Option<Severity> {
    verify(disk).0.iter().map(|f| f.severity).max()
}

/// A log as a server writes it: header, records, zeros.
fn log(zxids: impl IntoIterator<Item = u64>, padding: usize) -> Vec<u8> {
    let mut out = header().to_vec();
    for z in zxids {
        record::encode(&mut out, &txn(z));
    }
    out.resize(out.len() + padding, 0);
    out
}

fn put(disk: &MemDisk, first: u64, content: Vec<u8>) {
    disk.put(&log_path(zxid(first)), content);
}

/// Logs without mark, behind the snapshot of the empty tree.
fn apache(logs: &[(u64, Vec<u8>)]) -> MemDisk {
    let disk = MemDisk::default();
    write_snapshot(&disk, &Nodes::default(), &SnapshotOptions::default()).unwrap();
    for (first, content) in logs {
        put(&disk, *first, content.clone());
    }
    disk
}

/// Recovery reads by the same rules: it refuses exactly what is found to be damage, and cuts exactly what is
/// found to be torn. Every bit of a log is flipped, with a mark beside it and without.
#[test]
fn a_start_refuses_what_is_damage_and_cuts_what_is_torn() {
    let disk = used(&[3, 1]);
    let mut whole = disk.content(&log_path(zxid(1))).unwrap();
    whole.extend_from_slice(&log([5, 6], 64)[16..]);
    let mut seen = [0; 3];
    for marked in [true, false] {
        if !marked {
            disk.remove(&mark_path()).unwrap();
        }
        for offset in 0..whole.len() {
            let mut bad = whole.clone();
            bad[offset] ^= 0x11;
            let disk = Arc::new(disk.fork());
            put(&disk, 1, bad);
            let worst = worst(&disk);
            match start(&disk) {
                Err(refusal) => {
                    assert_eq!(worst, Some(Severity::Damage), "offset {offset}, mark {marked}: {refusal}");
                    seen[0] += 1;
                }
                Ok((_, recovered)) if !recovered.warnings.is_empty() => {
                    assert_eq!(worst, Some(Severity::Torn), "offset {offset}, mark {marked}");
                    seen[1] += 1;
                }
                Ok(_) => {
                    assert_eq!(worst, None, "offset {offset}, mark {marked}");
                    seen[2] += 1;
                }
            }
        }
    }
    assert!(seen.iter().all(|n| *n > 10), "{seen:?}");
}

#[test]
fn sound_files_are_counted() {
    let disk = apache(&[(1, log(1..=3, 100)), (4, log(4..=9, 0)), (10, Vec::new())]);
    let (findings, files) = verify(&disk);
    assert_eq!(findings, []);
    let read: Vec<_> = files.iter().map(|f| (f.records, f.first.map(Zxid::get), f.last.map(Zxid::get))).collect();
    assert_eq!(read, [(3, Some(1), Some(3)), (6, Some(4), Some(9)), (0, None, None)]);
    assert_eq!(files[0].len - files[0].end, 100);
}

#[test]
fn a_gap_is_damage_unless_a_snapshot_bridges_it() {
    let disk = apache(&[(1, log(1..=3, 0)), (7, log(7..=9, 0))]);
    let (findings, _) = verify(&disk);
    assert_eq!(findings.len(), 1, "{findings:?}");
    let text = findings[0].to_string();
    assert!(text.contains("log.7, offset 16: a transaction with zxid 0x7; expected the one that follows zxid 0x3"));
    write_snapshot(&disk, &Nodes::up_to(5), &SnapshotOptions::default()).unwrap();
    assert_eq!(worst(&disk), Some(Severity::Damage), "6 is missing still");
    write_snapshot(&disk, &Nodes::up_to(6), &SnapshotOptions::default()).unwrap();
    assert_eq!(worst(&disk), Some(Severity::Note));
    let back = apache(&[(1, log([1, 2, 3, 2], 0))]);
    assert_eq!(worst(&back), Some(Severity::Damage));
    let twice = apache(&[(1, log([1, 2, 2, 3], 0))]);
    assert_eq!(worst(&twice), Some(Severity::Note));
}

/// What is wrong in one file does not hide what is wrong in the next.
#[test]
fn all_files_are_looked_at() {
    let mut middle = log(4..=6, 0);
    let broken = middle.len() - 20;
    middle[broken] ^= 1;
    let mut last = log(7..=9, 0);
    last.extend_from_slice(b"half a record");
    let mut named = log([12], 0);
    named.extend_from_slice(&[0; 9]);
    let disk = apache(&[(1, log(1..=3, 0)), (4, middle), (7, last), (11, named)]);
    let (findings, files) = verify(&disk);
    let told: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(files.iter().map(|f| f.records).collect::<Vec<_>>(), [3, 2, 3, 1]);
    assert!(told[0].contains("log.4, offset ") && told[0].contains("checksum"), "{told:?}");
    assert!(told[0].contains("the next good record has zxid 0x7"), "{told:?}");
    assert!(told[1].contains("log.b") && told[1].contains("0xb, as its name says"), "{told:?}");
    assert!(told[2].contains("log.7") && told[2].contains("the next good record has zxid 0xc"), "{told:?}");
    assert_eq!(told.len(), 3, "{told:?}");
}

#[test]
fn a_whole_record_that_is_no_transaction_is_damage() {
    let mut bytes = txn(2);
    bytes[28..32].copy_from_slice(&77_i32.to_be_bytes());
    let mut content = log([1], 0);
    record::encode(&mut content, &bytes);
    record::encode(&mut content, &txn(3));
    record::encode(&mut content, b"short");
    let (findings, files) = verify(&apache(&[(1, content)]));
    assert_eq!(files[0].records, 4);
    assert_eq!(findings.len(), 2, "{findings:?}");
    assert!(findings[0].found.contains("undefined value 77"), "{findings:?}");
    assert!(findings.iter().all(|f| f.severity == Severity::Damage));
}

#[test]
fn an_end_before_the_mark_is_damage() {
    let disk = used(&[3, 2]);
    put(&disk, 1, log(1..=4, 0));
    let (findings, _) = verify(&disk);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].file.ends_with(MARK_NAME) && findings[0].found.ends_with("0x4"), "{findings:?}");
    // With one older file alone nobody can tell.
    put(&disk, 5, log([5], 0));
    let mut findings = 0;
    let report: &mut Report<'_> = &mut |_| findings += 1;
    let mut verifier = LogVerifier::new(&*disk, report).unwrap();
    verifier.file("log.5", report).unwrap();
    verifier.finish(false, report).unwrap();
    assert_eq!(findings, 0);
}

#[test]
fn files_that_were_moved_aside_keep_their_zxid() {
    assert_eq!(name_before_aside("farrier.damaged.12.log.5"), "log.5");
    assert_eq!(name_before_aside("farrier.damaged.x.log.5"), "farrier.damaged.x.log.5");
    assert_eq!(name_before_aside("log.5"), "log.5");
}

/// A bad record in the middle of a file does not hide what stands behind it, and is told once.
#[test]
fn what_stands_behind_a_bad_record_is_read() {
    let mut first = log(1..=6, 50);
    let ends: Vec<usize> = (1..=6).map(|z| log(1..=z, 0).len()).collect();
    first[ends[1] + 40] ^= 1;
    first[ends[3] + 40] ^= 1;
    let disk = apache(&[(1, first), (7, log(7..=9, 50))]);
    let (findings, files) = verify(&disk);
    let read: Vec<_> = files.iter().map(|f| (f.records, f.last.map(Zxid::get), f.end)).collect();
    assert_eq!(read[0], (4, Some(6), ends[5] as u64));
    assert_eq!(read[1].1, Some(9));
    assert_eq!(findings.len(), 2, "{findings:?}");
    for (finding, (at, zxid)) in findings.iter().zip([(1, "0x3"), (3, "0x5")]) {
        assert_eq!((finding.severity, finding.offset), (Severity::Damage, Some(ends[at] as u64)));
        assert!(finding.found.ends_with(&format!("it is that of zxid {zxid}")), "{finding}");
        assert!(finding.expected.ends_with(&format!("at offset {}", ends[at + 1])), "{finding}");
    }
    // The first record of a file, and one behind which there is a gap.
    let mut second = log([4, 5, 7], 0);
    second[60] ^= 1;
    let (findings, files) = verify(&apache(&[(1, log(1..=3, 0)), (4, second)]));
    assert_eq!((files[1].records, findings.len()), (2, 2), "{findings:?}");
    assert!(findings[0].found.ends_with("of zxid 0x4") && findings[1].found.ends_with("zxid 0x7"), "{findings:?}");
    // A torn tail that another server cut by going on in the next file.
    let mut torn = log(1..=5, 0);
    torn[ends[2] + 40] ^= 1;
    let (findings, files) = verify(&apache(&[(1, torn), (4, log(4..=6, 0))]));
    assert_eq!((files[0].records, findings.len(), findings[0].severity), (3, 1, Severity::Note), "{findings:?}");
}
