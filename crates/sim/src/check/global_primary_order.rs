//! A server delivers transactions of an older epoch before those of a younger one.

use super::{Checker, Facts};
use crate::observe::{Observation, ServerEvent, What};
use farrier_proto::ServerId;
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct GlobalPrimaryOrder {
    /// The newest epoch of which each tree has something.
    newest: BTreeMap<ServerId, u32>,
}

impl Checker for GlobalPrimaryOrder {
    fn name(&self) -> &'static str {
        "global-primary-order"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let What::Server(me, event) = &observation.what else { return Ok(()) };
        let before = self.newest.insert(*me, facts.server(*me).applied.epoch()).unwrap_or_default();
        match event {
            ServerEvent::Applied { zxid, .. } if zxid.epoch() < before => {
                Err(format!("server {me} delivers {zxid} behind something of epoch {before}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data};
    use super::*;

    #[test]
    fn an_old_transaction_behind_a_new_one_is_caught() {
        let mut play = Play::elected();
        let (zxid, txn) = play.propose(set_data("/", 0, "x"));
        play.re_elect(2, 2, &[1, 3]);
        play.commit_but(set_data("/", 0, "other"), &[1]);
        assert_eq!(play.verdict(Box::<GlobalPrimaryOrder>::default()), Ok(()));
        play.server(3, ServerEvent::Applied { zxid, txn, digest: None });
        assert!(play.verdict(Box::<GlobalPrimaryOrder>::default()).is_err());
    }
}
