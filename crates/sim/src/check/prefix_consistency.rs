//! The delivered histories of any two servers are equal, position by position, as far as both reach.

use super::{Checker, Facts};
use crate::observe::{Observation, ServerEvent, What};
use farrier_proto::{ServerId, Zxid};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PrefixConsistency {
    /// How many transactions each server has delivered, while its role is established.
    lengths: BTreeMap<ServerId, usize>,
    /// What stands at each position, as the first to deliver it had it.
    history: Vec<Zxid>,
}

impl Checker for PrefixConsistency {
    fn name(&self) -> &'static str {
        "prefix-consistency"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let What::Server(me, event) = &observation.what else { return Ok(()) };
        let server = facts.server(*me);
        self.history.extend_from_slice(&facts.news.committed);
        if server.established().is_none() {
            self.lengths.remove(me);
            return Ok(());
        }
        let other = |zxid: Zxid| {
            let tip = facts.history.tip();
            Err(format!("server {me} delivered {zxid}, which is not in the history that ends with {tip}"))
        };
        match (event, self.lengths.get(me)) {
            (ServerEvent::Applied { zxid, .. }, Some(length)) => {
                if self.history.get(*length) != Some(zxid) {
                    let (there, n) = (self.history.get(*length), length + 1);
                    return Err(format!("delivery {n} of server {me} is {zxid}; others have {there:?} there"));
                }
                self.lengths.insert(*me, length + 1);
            }
            (ServerEvent::Applied { .. } | ServerEvent::Role { .. } | ServerEvent::StateReplaced { .. }, _) => {
                let Some(length) = facts.history.position(server.applied) else { return other(server.applied) };
                self.lengths.insert(*me, length);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, following, set_data, z};
    use super::*;

    #[test]
    fn a_server_that_skips_one_is_caught() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        assert_eq!(play.verdict(Box::<PrefixConsistency>::default()), Ok(()));
        play.commit_but(set_data("/", 1, "y"), &[3]);
        let (zxid, txn) = play.commit_but(set_data("/", 2, "z"), &[3]);
        assert_eq!(play.verdict(Box::<PrefixConsistency>::default()), Ok(()));
        play.server(3, ServerEvent::Applied { zxid, txn, digest: None });
        assert!(play.verdict(Box::<PrefixConsistency>::default()).is_err());
    }

    #[test]
    fn a_server_that_serves_another_branch_is_caught() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        let (zxid, txn) = play.propose(set_data("/", 1, "y"));
        play.server(3, super::super::testing::looking());
        play.server(3, ServerEvent::Appended { zxid, txn: txn.clone() });
        play.server(3, ServerEvent::Applied { zxid, txn, digest: None });
        play.re_elect(2, 2, &[1]);
        play.commit_but(set_data("/", 1, "other"), &[1, 3]);
        assert_eq!(play.verdict(Box::<PrefixConsistency>::default()), Ok(()));
        assert_eq!(play.tip(), z(2, 1));
        play.server(3, following(2, 2));
        assert!(play.verdict(Box::<PrefixConsistency>::default()).is_err());
    }
}
