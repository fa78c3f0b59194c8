//! Zab phase 3: propose, count copies, commit.

use super::Leader;
use crate::core::Core;
use crate::io::{Level, LinkId, Outputs, WriteId};
use bytes::Bytes;
use farrier_proto::{ServerId, Zxid};
use std::collections::BTreeSet;

impl Leader {
    pub(crate) fn next_zxid(&self, core: &Core) -> Option<Zxid> {
        if !self.established() || self.is_handing_over() || self.is_used_up(core) {
            return None;
        }
        let last = core.history.last();
        if last.epoch() == self.epoch { last.next() } else { Some(Zxid::new(self.epoch, 1)) }
    }

    /// Whether the epoch has no number for another proposal.
    pub(super) fn is_used_up(&self, core: &Core) -> bool {
        let last = core.history.last();
        last.epoch() == self.epoch && last.counter() >= core.config.counter_last
    }

    pub(crate) fn propose(&mut self, core: &mut Core, now: u64, zxid: Zxid, txn: Bytes, out: &mut Outputs) {
        // Three quarters, rounded up.
        let last = core.config.counter_last;
        if zxid.counter() >= last - last / 4 && !self.warned_of_rollover {
            self.warned_of_rollover = true;
            out.note(
                Level::Warn,
                format!(
                    "{} of the {last} transaction numbers of epoch {} are used; behind the last one another server leads a new epoch",
                    zxid.counter(), self.epoch
                ),
            );
        }
        let id = core.append(zxid, txn, out);
        self.writes.push_back((id, zxid));
        if farrier_proto::planted!(OwnCopyBeforeSync) {
            self.durable = zxid;
        }
        self.pump_all(core, now, out);
    }

    /// This server's own copies.
    pub(super) fn own_writes(&mut self, core: &mut Core, now: u64, id: WriteId, out: &mut Outputs) {
        while let Some((_, zxid)) = self.writes.pop_front_if(|(write, _)| *write <= id) {
            self.durable = zxid;
        }
        self.pump_all(core, now, out);
    }

    /// ACK: of a proposal and everything before it, of NEWLEADER, or of UPTODATE.
    pub(super) fn ack(&mut self, core: &mut Core, now: u64, link: LinkId, zxid: Zxid, out: &mut Outputs) {
        let Some(learner) = self.learners.get_mut(&link) else { return };
        let legal = if zxid == Zxid::new(self.epoch, 0) {
            learner.ack_new_leader()
        } else {
            // Nothing was proposed with counter 0: Apache's learners may mean an older NEWLEADER.
            zxid.counter() == 0 || learner.ack(zxid, now)
        };
        if legal {
            self.pump(core, now, link, out);
        } else {
            let reason = format!("PeerViolation: ACK of {zxid}, and it was sent up to {} only", learner.sent());
            out.note(Level::Warn, format!("server {}: {reason}", learner.server));
            self.close(link, reason, out);
        }
    }

    /// Commits what a quorum has. The copies of a link that is gone do not count any more: who comes again gets
    /// what is not committed again, and acknowledges it again.
    pub(super) fn commit(&mut self, core: &mut Core, now: u64, out: &mut Outputs) {
        let delivered = core.history.delivered();
        let mut copies: Vec<(Zxid, ServerId)> = self
            .voters()
            .filter(|l| l.has_acked_new_leader())
            .map(|l| (l.acked(), l.server))
            .chain([(self.durable, core.me())])
            .filter(|(acked, _)| *acked > delivered)
            .collect();
        copies.sort_unstable();
        let mut having = BTreeSet::new();
        while let Some((acked, server)) = copies.pop() {
            having.insert(server);
            if core.ensemble.is_quorum(&having) {
                let zxid = core.history.at_or_before(acked);
                if zxid > delivered {
                    core.deliver(zxid, out);
                    self.pump_all(core, now, out);
                }
                return;
            }
        }
    }
}
