//! If one server delivers a and another b, then one of the two delivers both: what is delivered anywhere goes together.

use super::{Checker, Facts};
use crate::observe::Observation;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Agreement;

impl Checker for Agreement {
    fn name(&self) -> &'static str {
        "agreement"
    }

    fn observe(&mut self, facts: &Facts, _observation: &Observation) -> Result<(), String> {
        match facts.news.forked {
            Some((server, zxid)) => {
                let tip = facts.history.tip();
                Err(format!("server {server} delivered {zxid}, others delivered {tip}, and neither holds the other"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, following, looking, set_data};
    use super::*;
    use crate::observe::ServerEvent;

    #[test]
    fn two_branches_are_caught() {
        let mut play = Play::elected();
        let (zxid, txn) = play.propose(set_data("/", 0, "x"));
        play.server(3, looking());
        play.server(3, ServerEvent::Appended { zxid, txn: txn.clone() });
        play.server(3, ServerEvent::Applied { zxid, txn, digest: None });
        play.re_elect(2, 2, &[1]);
        play.commit_but(set_data("/", 0, "other"), &[1, 3]);
        assert_eq!(play.verdict(Box::new(Agreement)), Ok(()));
        play.server(3, following(2, 2));
        assert!(play.verdict(Box::new(Agreement)).is_err());
    }
}
