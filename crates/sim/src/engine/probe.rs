//! What if the machine failed now? The disk is copied between two of its operations, the copy loses its process or its
//! power, and a start is tried on it. What would be recovered is told; the server itself goes on and knows nothing of it.

use super::world::World;
use crate::observe::ServerEvent;
use farrier_proto::limits::TXN_MAX;
use farrier_proto::{ServerId, Zxid};
use farrier_replica::{RestoreFailed, durable, restore};
use farrier_storage::mem::{Crash, MemDisk};
use farrier_storage::segment::list_segments;
use farrier_storage::{DiskResult, LogCursor, locate};
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
        if random.below(4) == 0 {
            copy.restart(Crash::Process, &mut |_| 0);
        } else {
            copy.restart(Crash::Power, &mut |n| random.below(n as u64) as usize);
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
        let digest = Some(state.digest());
        let (accepted, current) = (recovered.accepted, recovered.current);
        let would = ServerEvent::WouldStart { accepted, current, last, digest, recovering, difference };
        self.tell_server(id, would);
    }
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
