//! When the first server delivers a transaction, a quorum of voters has it on disk, and no TRUNC takes it from so many that
//! the rest is none.
//!
//! A single server may well cut what was committed meanwhile: it comes back to its leader with more than that had
//! committed, and gets it again. Its copy must not have counted. And no server takes a snapshot of what is not committed.

use super::{Checker, Facts};
use crate::observe::{Observation, ServerEvent, What};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct CommitNeedsQuorum;

impl Checker for CommitNeedsQuorum {
    fn name(&self) -> &'static str {
        "commit-needs-quorum"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let tip = facts.history.tip();
        let zxid = match &observation.what {
            What::Server(me, ServerEvent::SnapshotTaken { zxid }) if facts.history.position(*zxid).is_none() => {
                return Err(format!("server {me} took a snapshot at {zxid}, and {tip} is committed"));
            }
            What::Server(_, ServerEvent::LogCut { after }) if !facts.history.holds(*after, tip) => tip,
            _ => match facts.news.committed.last() {
                Some(zxid) => *zxid,
                None => return Ok(()),
            },
        };
        if facts.is_quorum(|id| facts.history.holds(facts.server(id).durable, zxid)) {
            return Ok(());
        }
        let have: Vec<String> =
            facts.setup.voters.iter().map(|v| format!("{}: {}", v.id, facts.server(v.id).durable)).collect();
        Err(format!("{zxid} is delivered; on disk is {}", have.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data, z};
    use super::*;

    #[test]
    fn one_copy_of_three_is_caught() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        play.server(2, ServerEvent::SnapshotTaken { zxid: z(1, 1) });
        assert_eq!(play.verdict(Box::new(CommitNeedsQuorum)), Ok(()));
        let (zxid, txn) = play.propose(set_data("/", 1, "y"));
        let mut early = play.clone();
        early.server(1, ServerEvent::SnapshotTaken { zxid });
        assert!(early.verdict(Box::new(CommitNeedsQuorum)).is_err());
        play.server(1, ServerEvent::LogDurable { upto: zxid });
        play.server(2, ServerEvent::Appended { zxid, txn: txn.clone() });
        play.server(1, ServerEvent::Applied { zxid, txn, digest: None });
        assert!(play.verdict(Box::new(CommitNeedsQuorum)).is_err());
    }

    #[test]
    fn cutting_a_copy_that_counted_is_caught() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        let (zxid, txn) = play.propose(set_data("/", 1, "y"));
        play.server(2, ServerEvent::Appended { zxid, txn: txn.clone() });
        (1..=2).for_each(|s| play.server(s, ServerEvent::LogDurable { upto: zxid }));
        play.server(1, ServerEvent::Applied { zxid, txn, digest: None });
        assert_eq!(play.verdict(Box::new(CommitNeedsQuorum)), Ok(()));
        play.server(2, ServerEvent::LogCut { after: z(1, 1) });
        assert!(play.verdict(Box::new(CommitNeedsQuorum)).is_err());
    }
}
