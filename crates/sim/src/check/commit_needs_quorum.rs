//! When the first server delivers a transaction, a quorum of voters has it on disk.

use super::{Checker, Facts};
use crate::observe::Observation;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct CommitNeedsQuorum;

impl Checker for CommitNeedsQuorum {
    fn name(&self) -> &'static str {
        "commit-needs-quorum"
    }

    fn observe(&mut self, facts: &Facts, _observation: &Observation) -> Result<(), String> {
        let Some(zxid) = facts.news.committed.last() else { return Ok(()) };
        if facts.is_quorum(|id| facts.history.holds(facts.server(id).durable, *zxid)) {
            return Ok(());
        }
        let have: Vec<String> =
            facts.setup.voters.iter().map(|v| format!("{}: {}", v.id, facts.server(v.id).durable)).collect();
        Err(format!("{zxid} is delivered; on disk is {}", have.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data};
    use super::*;
    use crate::observe::ServerEvent;

    #[test]
    fn one_copy_of_three_is_caught() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        assert_eq!(play.verdict(Box::new(CommitNeedsQuorum)), Ok(()));
        let (zxid, txn) = play.propose(set_data("/", 1, "y"));
        play.server(1, ServerEvent::LogDurable { upto: zxid });
        play.server(2, ServerEvent::Appended { zxid, txn: txn.clone() });
        play.server(1, ServerEvent::Applied { zxid, txn, digest: None });
        assert!(play.verdict(Box::new(CommitNeedsQuorum)).is_err());
    }
}
