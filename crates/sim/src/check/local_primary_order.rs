//! If a leader broadcasts a before b, then every server that logs or delivers b has a before it: a transaction stands
//! everywhere on what it stood on when it was broadcast.

use super::{Checker, Facts};
use crate::observe::{Observation, ServerEvent, What};
use farrier_proto::{ServerId, Zxid};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LocalPrimaryOrder {
    /// Before the observation: ends of log and tree.
    ends: BTreeMap<ServerId, (Zxid, Zxid)>,
}

impl Checker for LocalPrimaryOrder {
    fn name(&self) -> &'static str {
        "local-primary-order"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let What::Server(me, event) = &observation.what else { return Ok(()) };
        let server = facts.server(*me);
        let (logged, applied) = self.ends.insert(*me, (server.logged, server.applied)).unwrap_or_default();
        let (zxid, before, place) = match event {
            ServerEvent::Appended { zxid, .. } => (zxid, logged, "log"),
            ServerEvent::Applied { zxid, .. } => (zxid, applied, "tree"),
            _ => return Ok(()),
        };
        match facts.history.proposal(*zxid) {
            Some(p) if p.parent != before => Err(format!(
                "the {place} of server {me} has {zxid} on top of {before}; server {} broadcast it on top of {}",
                p.by, p.parent
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data};
    use super::*;

    #[test]
    fn a_log_that_leaves_one_out_is_caught() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        assert_eq!(play.verdict(Box::<LocalPrimaryOrder>::default()), Ok(()));
        play.propose(set_data("/", 1, "y"));
        let (zxid, txn) = play.propose(set_data("/", 2, "z"));
        play.server(2, ServerEvent::Appended { zxid, txn });
        assert!(play.verdict(Box::<LocalPrimaryOrder>::default()).is_err());
    }
}
