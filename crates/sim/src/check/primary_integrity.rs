//! Before a leader broadcasts, it has delivered everything that anybody delivers of older epochs.

use super::{Checker, Facts};
use crate::observe::{Observation, ServerEvent, What};
use farrier_proto::Zxid;
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PrimaryIntegrity {
    /// By epoch: what its leader had in its tree when it broadcast for the first time.
    initial: BTreeMap<u32, Zxid>,
}

impl Checker for PrimaryIntegrity {
    fn name(&self) -> &'static str {
        "primary-integrity"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let history = &facts.history;
        if let What::Server(me, ServerEvent::Appended { zxid, .. }) = &observation.what
            && facts.news.broadcast
            && !self.initial.contains_key(&zxid.epoch())
        {
            let has = facts.server(*me).applied;
            self.initial.insert(zxid.epoch(), has);
            // Something of this very epoch cannot be delivered yet.
            let tip = history.tip();
            if tip.epoch() < zxid.epoch() && !history.holds(has, tip) {
                return Err(format!("server {me} broadcasts {zxid} and has {has}; {tip} was delivered before"));
            }
        }
        for zxid in &facts.news.committed {
            let later = self.initial.range(zxid.epoch() + 1..);
            for (epoch, has) in later {
                if !history.holds(*has, *zxid) {
                    return Err(format!(
                        "{zxid} is delivered; the leader of epoch {epoch} did not have it when it began to broadcast"
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data};
    use super::*;

    #[test]
    fn a_leader_that_lacks_something_delivered_is_caught() {
        let mut play = Play::elected();
        play.commit_but(set_data("/", 0, "x"), &[2]);
        let mut lawful = play.clone();
        lawful.re_elect(3, 2, &[1]);
        lawful.propose(set_data("/", 1, "y"));
        assert_eq!(lawful.verdict(Box::<PrimaryIntegrity>::default()), Ok(()));
        play.re_elect(2, 2, &[]);
        play.propose(set_data("/", 0, "y"));
        assert!(play.verdict(Box::<PrimaryIntegrity>::default()).is_err());
    }

    #[test]
    fn a_late_delivery_of_an_old_epoch_is_caught() {
        let mut play = Play::elected();
        let (zxid, txn) = play.propose(set_data("/", 0, "x"));
        play.re_elect(2, 2, &[3]);
        play.propose(set_data("/", 0, "y"));
        assert_eq!(play.verdict(Box::<PrimaryIntegrity>::default()), Ok(()));
        play.server(1, ServerEvent::Applied { zxid, txn, digest: None });
        assert!(play.verdict(Box::<PrimaryIntegrity>::default()).is_err());
    }
}
