//! What if the machine failed now? The disk is copied between two of its operations, the copy loses its process or its
//! power, and a start is tried on it. What would be recovered is told; the server itself goes on and knows nothing of it.
//! Then the same is tried with a fuzzy snapshot in the place of the loaded one.

use super::world::World;
use crate::observe::ServerEvent;
use farrier_proto::limits::TXN_MAX;
use farrier_proto::{Acl, ServerId, SessionId, Zxid};
use farrier_replica::{RestoreFailed, SnapshotImage, durable, restore};
use farrier_storage::mem::{Crash, MemDisk};
use farrier_storage::segment::{SegmentReader, list_segments, log_path};
use farrier_storage::{
    Dir, Disk as _, DiskPath, DiskResult, Image, LogCursor, LoggedTxn, NodeRecord, Recovered, SnapshotOptions, locate,
    write_snapshot,
};
use farrier_zab::Recovering;
use std::sync::Arc;

/// Operations within which the copy is made: what an installation takes, about.
const OPERATIONS_MAX: u64 = 24;

/// Bytes of the log that are read at once.
const PAGE_BYTES: usize = 1 << 20;

impl World {
    /// In so many of a thousand cases the disk will be copied during what comes next.
    pub(crate) fn plan_probe(&mut self, id: ServerId, permille: u64) {
        if self.random.probe.below(1000) < permille {
            let after = self.random.probe.below(OPERATIONS_MAX);
            self.machine(id).disk.copy_after(after);
        }
    }

    /// If it was, tells what a start would make of the copy.
    pub(crate) fn probe(&mut self, id: ServerId) {
        let Some(copy) = self.machine(id).disk.take_copy() else { return };
        let random = &mut self.random.probe;
        let power = random.below(4) != 0;
        if power {
            copy.restart(Crash::Power, &mut |n| random.below(n as u64) as usize);
        } else {
            copy.restart(Crash::Process, &mut |_| 0);
        }
        let (recover, snapshots, tree) = (self.recover_options(), self.snapshot_options(), self.tree_config());
        let copy = Arc::new(copy);
        let (mut state, recovered) = match restore(&copy, &recover, &snapshots, tree, 0) {
            Ok(restored) => restored,
            Err(failed @ (RestoreFailed::Refused(_) | RestoreFailed::Disk(_))) => {
                return self.engine_fails(format!("{id} would not start if it failed now: {failed}"));
            }
        };
        let recovering = durable(&recovered).recovering != Recovering::No;
        let last = recovered.last_zxid;
        let difference = match difference(&copy, recovered.mark.floor, last) {
            Ok(difference) => difference,
            Err(error) => return self.engine_fails(format!("{id} could not read its log if it failed now: {error}")),
        };
        let falls_short = match falls_short(&copy, &recovered) {
            Ok(falls_short) => falls_short,
            Err(error) => return self.engine_fails(format!("{id} could not read its log if it failed now: {error}")),
        };
        let digest = Some(state.digest());
        let (accepted, current) = (recovered.accepted, recovered.current);
        let would =
            ServerEvent::WouldStart { power, accepted, current, last, digest, recovering, difference, falls_short };
        self.tell_server(id, would);
        // What may be without its middle leads to no tree that anybody had.
        let whole = recovered.snapshot_zxid.filter(|zxid| *zxid < last && !recovering);
        let Some(zxid) = whole else { return };
        let fuzzy = Fuzzy { image: state.image(), zxid };
        let replaced = take_for_snapshot(&copy, &fuzzy, &snapshots).map_err(RestoreFailed::from);
        match replaced.and_then(|()| restore(&copy, &recover, &snapshots, tree, 0)) {
            Ok((mut state, recovered)) => {
                let digest = Some(state.digest());
                self.tell_server(id, ServerEvent::WouldReplay { last: recovered.last_zxid, digest });
            }
            Err(failed) => self.engine_fails(format!("{id} would not start from a fuzzy snapshot at {zxid}: {failed}")),
        }
    }
}

/// A state under the number of an earlier one.
struct Fuzzy {
    image: SnapshotImage,
    zxid: Zxid,
}

impl Image for Fuzzy {
    fn zxid(&self) -> Zxid {
        self.zxid
    }
    fn digest(&self) -> Option<u64> {
        None
    }
    fn sessions(&self) -> Vec<(SessionId, i32)> {
        self.image.sessions()
    }
    fn acls(&self) -> Vec<(i64, Vec<Acl<'static>>)> {
        self.image.acls()
    }
    fn nodes<E>(&self, visit: &mut dyn FnMut(NodeRecord<'_>) -> Result<(), E>) -> Result<(), E> {
        self.image.nodes(visit)
    }
}

/// Makes an image the only snapshot of a disk.
fn take_for_snapshot(disk: &MemDisk, image: &Fuzzy, options: &SnapshotOptions) -> DiskResult<()> {
    for entry in disk.list(Dir::DataVersion)? {
        if entry.name.starts_with("snapshot.") {
            disk.remove(&DiskPath::new(Dir::DataVersion, entry.name))?;
        }
    }
    write_snapshot(disk, image, options).map(drop)
}

/// Whether there is a log with something in it that ends before the snapshot that was loaded.
fn falls_short(disk: &MemDisk, recovered: &Recovered) -> DiskResult<bool> {
    if recovered.mark.segment != Zxid::ZERO {
        return Ok(false);
    }
    // The last one may have been begun, and have nothing in it.
    for segment in list_segments(disk)?.iter().rev() {
        let mut end = None;
        SegmentReader::open(disk, &log_path(segment.first), TXN_MAX)?.walk(&mut |_, txn| {
            end = LoggedTxn::read(txn).ok().map(|txn| txn.header.zxid);
            end.is_some()
        })?;
        if let Some(end) = end {
            return Ok(end < recovered.last_zxid);
        }
    }
    Ok(false)
}

/// What a leader would send to a learner that has the first transaction of the log, or else what the floor allows: the
/// place behind which it begins, and every transaction from there. `None` if it would not send any difference.
fn difference(disk: &MemDisk, floor: Zxid, last: Zxid) -> DiskResult<Option<(Zxid, Vec<Zxid>)>> {
    let first = list_segments(disk)?.first().map(|segment| segment.first);
    for from in first.into_iter().chain([floor]) {
        let Some(before) = locate(disk, from, floor, TXN_MAX)?.before else { continue };
        let (mut cursor, mut txns, mut at) = (LogCursor::new(TXN_MAX), Vec::new(), before);
        loop {
            let page = cursor.read(disk, at, last, PAGE_BYTES)?;
            let Some((end, _)) = page.last() else { return Ok(Some((before, txns))) };
            at = *end;
            txns.extend(page.iter().map(|(zxid, _)| *zxid));
        }
    }
    Ok(None)
}
