use super::*;
use crate::compress::Compression;
use crate::log::{LogOptions, LogWriter, prepare_segment};
use crate::mark::{MARK_NAME, SLOT_SPACING};
use crate::mem::{Crash, MemDisk};
use crate::record::{self, record_len};
use crate::segment::{header, log_name};
use crate::snapshot::{SnapshotFile, SnapshotOptions, snapshot_name, write_snapshot};
use crate::testing::{Nodes, TEST_LOG, apaches_snapshot, chooser, start, txn, used, writer, zxid};

mod crashes;
mod limits;
mod marks;
mod snapshots;
mod starts;
mod tails;

fn mark_of(disk: &MemDisk) -> Mark {
    match read_mark(disk).unwrap() {
        MarkRead::Mark(mark) => mark,
        other => panic!("{other:?}"),
    }
}

fn without_mark(disk: &MemDisk) {
    disk.remove(&mark_path()).unwrap();
}

fn log_file(first: u64) -> DiskPath {
    log_path(zxid(first))
}

/// The log as Apache writes it: header, records, zeros.
fn apache_log(zxids: impl IntoIterator<Item = u64>, padding: usize) -> Vec<u8> {
    let mut out = header().to_vec();
    for z in zxids {
        record::encode(&mut out, &txn(z));
    }
    out.resize(out.len() + padding, 0);
    out
}

/// Where each record of 1..=n ends in a log that starts with 1.
fn ends(n: u64) -> Vec<u64> {
    let mut at = FIRST_RECORD;
    (1..=n)
        .map(|z| {
            at += record_len(txn(z).len()) as u64;
            at
        })
        .collect()
}

fn snapshot_of(disk: &MemDisk, last: u64) {
    write_snapshot(disk, &Nodes::up_to(last), &SnapshotOptions::default()).unwrap();
}

/// Checks what a restart makes of the disk: everything up to `acked`, nothing but a prefix of the rest.
fn check(disk: &Arc<MemDisk>, acked: u64, appended: u64, what: &str) -> (Nodes, Recovered) {
    let (state, recovered) = start(disk).unwrap_or_else(|e| panic!("{what}: {e}"));
    let last = recovered.last_zxid.get();
    assert!(last >= acked, "{what}: {acked} was acknowledged, and {last} is the last");
    assert!(last <= appended, "{what}: {last} was never appended");
    assert_eq!(state.zxids, (1..=last).collect::<Vec<_>>(), "{what}");
    (state, recovered)
}
