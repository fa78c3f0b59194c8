//! The sweeper: containers that lost their last child, TTL nodes that grew old; and, after a restart,
//! ephemerals whose session does not exist.

use crate::io::{Actions, Level, Time};
use crate::limits::SWEEP_CHUNK;
use crate::replica::{Origin, Replica};
use farrier_proto::{Owner, SessionId};
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
    /// Said once, with the first sweep.
    pub(crate) warning: Option<String>,
}

impl Sweeper {
    pub(crate) const fn new(first: u64) -> Self {
        Self { scan_at: first, next_at: first, queue: VecDeque::new(), orphans: VecDeque::new(), warning: None }
    }

    pub(crate) fn next_at(&self) -> u64 {
        if self.orphans.is_empty() && self.warning.is_none() { self.next_at } else { 0 }
    }
}

impl Replica {
    /// Finds ephemerals whose session does not exist. TTL nodes look like that when extended types are
    /// switched off; they stay, for the day when the setting is mended.
    pub(crate) fn find_orphans(&mut self) {
        let owners: BTreeSet<SessionId> = self.tree.ephemeral_owners().collect();
        let gone = owners.into_iter().filter(|o| self.tree.session_timeout(*o).is_none());
        let (ttl, orphans): (Vec<_>, Vec<_>) = gone.partition(|o| {
            let has_children = |p: &String| self.tree.node(p).is_some_and(|n| n.child_count() > 0);
            matches!(Owner::decode(o.0, true, false), Some(Owner::Ttl(_)))
                || self.tree.ephemerals(*o).iter().any(has_children)
        });
        if !ttl.is_empty() {
            let nodes: usize = ttl.iter().map(|o| self.tree.ephemerals(*o).len()).sum();
            self.sweeper.warning = Some(format!(
                "{nodes} znodes look like TTL nodes, and extendedTypesEnabled is off: they stay, and do not expire"
            ));
        }
        self.sweeper.orphans = orphans.into();
    }

    pub(crate) fn sweep(&mut self, now: Time, out: &mut Actions) {
        if let Some(warning) = self.sweeper.warning.take() {
            out.note(Level::Warn, warning);
        }
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
            self.sweeper.queue = {
                let most = self.config.container.max_per_minute.saturating_mul(interval.div_ceil(60_000));
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                self.tree.expired_candidates(now.wall, never_used, most).into()
            };
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
