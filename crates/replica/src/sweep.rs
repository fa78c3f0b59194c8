//! The sweeper: containers that lost their last child, TTL nodes that grew old; and, after a restart,
//! ephemerals whose session does not exist.

use crate::io::{Actions, Time};
use crate::limits::SWEEP_CHUNK;
use crate::replica::{Origin, Replica};
use farrier_proto::SessionId;
use farrier_tree::WriteRequest;
use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};

#[derive(Debug)]
pub(crate) struct Sweeper {
    scan_at: u64,
    next_at: u64,
    queue: VecDeque<String>,
    /// Owners of ephemerals without a session. Such a state comes from logs of older servers; it is
    /// mended by transactions, never by touching the tree (safety contract 7).
    pub(crate) orphans: VecDeque<SessionId>,
}

impl Sweeper {
    pub(crate) const fn new(first: u64) -> Self {
        Self { scan_at: first, next_at: first, queue: VecDeque::new(), orphans: VecDeque::new() }
    }

    pub(crate) fn next_at(&self) -> u64 {
        if self.orphans.is_empty() { self.next_at } else { 0 }
    }
}

impl Replica {
    pub(crate) fn orphaned_owners(&self) -> VecDeque<SessionId> {
        let owners: BTreeSet<SessionId> = self.tree.ephemeral_owners().collect();
        owners.into_iter().filter(|o| self.tree.session_timeout(*o).is_none()).collect()
    }

    pub(crate) fn sweep(&mut self, now: Time, out: &mut Actions) {
        for _ in 0..SWEEP_CHUNK {
            let Some(owner) = self.sweeper.orphans.pop_front() else { break };
            self.close_session_of_server(now, owner, out);
        }
        if now.mono < self.sweeper.next_at {
            return;
        }
        let (interval, never_used) = (self.config.container.check_interval, self.config.container.max_never_used);
        if now.mono >= self.sweeper.scan_at {
            self.sweeper.scan_at = now.mono + interval;
            self.sweeper.queue = self.tree.expired_candidates(now.wall, never_used).into();
        }
        for _ in 0..SWEEP_CHUNK {
            let Some(path) = self.sweeper.queue.pop_front() else { break };
            // A write to it that is on its way may have made it young again: next time.
            if self.prep.is_pending(&self.tree, &path) || !self.tree.is_expired_candidate(&path, now.wall, never_used) {
                continue;
            }
            self.propose(
                now,
                SessionId::NONE,
                0,
                &[],
                WriteRequest::DeleteContainer(Cow::Owned(path)),
                Origin::Server,
                out,
            );
        }
        self.sweeper.next_at = if self.sweeper.queue.is_empty() {
            self.sweeper.scan_at
        } else {
            // A chunk now and the next when the pace allows it.
            let pause = 60_000 * SWEEP_CHUNK as u64 / self.config.container.max_per_minute;
            now.mono + pause.max(1)
        };
    }
}
