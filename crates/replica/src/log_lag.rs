//! What a member of an ensemble gave its log and is not durable: it waits in memory. Others may commit without this disk, and an
//! observer's log holds up nobody, so what is outstanding does not bound it.
//!
//! Where it is much, clients wait with their writes. A leader wants another server to lead, since its learners' requests
//! come regardless. A learner does not read from its leader until some of it is durable; one whose disk takes too long for
//! that loses the leader, as any server that says nothing does.

use crate::io::{Action, Actions, Level, Time};
use crate::replica::Replica;
use farrier_zab::{LinkId, WriteId};
use std::collections::VecDeque;

/// Bytes that a transaction on its way to the disk takes beside its own: the places where it stands meanwhile.
const APPEND_OVERHEAD: usize = 128;

/// Transactions that are on their way to the disk.
#[derive(Debug, Default)]
pub(crate) struct LogLag {
    appends: VecDeque<(WriteId, usize)>,
    bytes: usize,
    is_long: bool,
    /// The link on which the leader spoke last, in this term.
    leader: Option<LinkId>,
    /// Nothing is read from it.
    paused: bool,
}

impl LogLag {
    /// Whether so much waits that no more should be added to it.
    pub(crate) const fn is_long(&self) -> bool {
        self.is_long
    }

    /// The leader spoke on this link.
    pub(crate) fn heard(&mut self, link: LinkId) {
        if self.leader != Some(link) {
            self.leader = Some(link);
            self.paused = false;
        }
    }

    /// The term is over, and its link is gone or about to be.
    pub(crate) const fn leave_term(&mut self) {
        self.leader = None;
        self.paused = false;
    }

    /// Counts what is durable: everything up to this write.
    fn settle(&mut self, id: WriteId) {
        while let Some((_, len)) = self.appends.front().filter(|(append, _)| *append <= id) {
            self.bytes -= len;
            self.appends.pop_front();
        }
    }
}

impl Replica {
    /// A transaction goes to the log.
    pub(crate) fn append(&mut self, now: Time, append: Action, out: &mut Actions) {
        if let Action::Append { id, txn, .. } = &append {
            let len = txn.len() + APPEND_OVERHEAD;
            self.log_lag.appends.push_back((*id, len));
            self.log_lag.bytes += len;
        }
        out.push(append);
        let (bytes, most) = (self.log_lag.bytes, self.config.log_lag_max);
        if bytes >= most && !self.log_lag.is_long {
            self.log_lag.is_long = true;
            out.note(
                Level::Warn,
                format!(
                    "{bytes} bytes of transactions wait for the log's disk, and clients' writes wait until it has caught up. Check the disk that holds dataLogDir"
                ),
            );
            self.log_is_behind(now, true);
        }
    }

    /// Everything up to this write is in the log for good.
    pub(crate) fn log_settled(&mut self, now: Time, id: WriteId, out: &mut Actions) {
        self.log_lag.settle(id);
        // Not at once: a disk that is too slow for what comes would have it begin again with each sync.
        // Nor much later: pings wait as well on a link that is not read.
        let enough = self.config.log_lag_max - self.config.log_lag_max / 64;
        if self.log_lag.is_long && self.log_lag.bytes < enough {
            self.log_lag.is_long = false;
            self.log_lag.appends.shrink_to_fit();
            out.note(Level::Info, "the log's disk has caught up".into());
            self.log_is_behind(now, false);
        }
    }

    /// A learner reads from its leader while its log is not far behind.
    pub(crate) fn pace_leader(&mut self, out: &mut Actions) {
        let lag = &mut self.log_lag;
        let Some(link) = lag.leader.filter(|_| !self.halted) else { return };
        let pause = lag.is_long && self.membership.is_learning();
        if pause != lag.paused {
            lag.paused = pause;
            out.push(if pause { Action::PauseLink { link } } else { Action::ResumeLink { link } });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_completion_stands_for_all_that_came_before_it_and_for_nothing_else() {
        let mut lag = LogLag::default();
        // Writes of other kinds have numbers between.
        for (id, len) in [(3, 10), (4, 20), (7, 40)] {
            lag.appends.push_back((WriteId(id), len));
            lag.bytes += len;
        }
        for (id, left) in [(2, 70), (3, 60), (6, 40), (6, 40), (7, 0), (9, 0)] {
            lag.settle(WriteId(id));
            assert_eq!(lag.bytes, left, "up to {id}");
        }
    }
}
