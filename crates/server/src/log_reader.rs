//! The thread that looks into the log on disk for learners that lack more than the history in memory has. The
//! log is written meanwhile; what is looked for is durable.

use crate::core::Core;
use farrier_proto::Zxid;
use farrier_replica::Input;
use farrier_storage::{Disk, LogCursor, locate};
use farrier_zab::{LinkId, Located, ReadId};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};

/// Transactions are read in pages of about so many bytes.
const PAGE_BYTES: usize = 1 << 20;

/// Learners whose place in the log is remembered.
const CURSORS_MAX: usize = 64;

/// What a leader wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Locate { read: ReadId, link: LinkId, zxid: Zxid },
    ReadTxns { read: ReadId, link: LinkId, after: Zxid, to: Zxid },
}

#[derive(Debug, Default)]
struct Queue {
    looks: VecDeque<Look>,
    closed: bool,
}

/// Looks that wait: at most one for each learner.
#[derive(Debug, Default)]
pub(crate) struct LookQueue {
    queue: Mutex<Queue>,
    filled: Condvar,
}

impl LookQueue {
    pub(crate) fn push(&self, look: Look) {
        self.queue.lock().expect("nothing panics while it holds this lock").looks.push_back(look);
        self.filled.notify_one();
    }

    /// The reader ends with what it is at.
    pub(crate) fn close(&self) {
        self.queue.lock().expect("nothing panics while it holds this lock").closed = true;
        self.filled.notify_all();
    }

    fn take(&self) -> Option<Look> {
        let guard = self.queue.lock().expect("nothing panics while it holds this lock");
        let mut queue = self
            .filled
            .wait_while(guard, |q| q.looks.is_empty() && !q.closed)
            .expect("nothing panics while it holds this lock");
        if queue.closed { None } else { queue.looks.pop_front() }
    }
}

/// Where differences end: what is older was never committed for sure (safety contract 4.3). Written by the log
/// thread.
#[derive(Debug, Default)]
pub(crate) struct Floor(AtomicU64);

impl Floor {
    pub(crate) fn set(&self, floor: Zxid) {
        self.0.store(floor.get(), Ordering::SeqCst);
    }

    fn get(&self) -> Zxid {
        Zxid::from_wire(self.0.load(Ordering::SeqCst).cast_signed())
    }
}

/// Looks until the server closes.
pub(crate) fn run<D: Disk>(core: &Core, disk: &D, floor: &Floor, txn_max: usize) {
    let mut cursors: BTreeMap<LinkId, LogCursor> = BTreeMap::new();
    while let Some(look) = core.looks().take() {
        let answer = match look {
            Look::Locate { read, link, zxid } => {
                let located = match locate(disk, zxid, floor.get(), txn_max) {
                    Ok(l) => Some(Located {
                        before: l.before,
                        bytes_behind: l.bytes_behind,
                        snapshot_bytes: l.snapshot_bytes,
                    }),
                    Err(error) => {
                        tracing::warn!("the log cannot be read for a learner, which gets a snapshot: {error}");
                        None
                    }
                };
                farrier_zab::Input::Located { read, link, located }
            }
            Look::ReadTxns { read, link, after, to } => {
                if cursors.len() >= CURSORS_MAX && !cursors.contains_key(&link) {
                    cursors.pop_first();
                }
                let cursor = cursors.entry(link).or_insert_with(|| LogCursor::new(txn_max));
                let txns = cursor.read(disk, after, to, PAGE_BYTES).unwrap_or_else(|error| {
                    tracing::warn!("the log cannot be read for a learner: {error}");
                    Vec::new()
                });
                farrier_zab::Input::TxnsRead { read, link, txns }
            }
        };
        core.step(Input::Zab(answer));
    }
}
