//! If some server delivers a before b, then every server that delivers b has delivered a before it.

use super::{Checker, Facts};
use crate::observe::{Observation, ServerEvent, What};
use farrier_proto::{ServerId, Zxid};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct TotalOrder {
    /// What the first that delivered a transaction delivered directly before it.
    before: BTreeMap<Zxid, Zxid>,
    /// What each server has delivered last, while its role is established.
    last: BTreeMap<ServerId, Zxid>,
}

impl Checker for TotalOrder {
    fn name(&self) -> &'static str {
        "total-order"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let What::Server(me, event) = &observation.what else { return Ok(()) };
        let server = facts.server(*me);
        if server.established().is_none() {
            self.last.remove(me);
            return Ok(());
        }
        let last = self.last.insert(*me, server.applied);
        let (ServerEvent::Applied { zxid, .. }, Some(last)) = (event, last) else { return Ok(()) };
        let before = *self.before.entry(*zxid).or_insert(last);
        if before == last {
            Ok(())
        } else {
            Err(format!("server {me} delivers {zxid} behind {last}; another delivered it behind {before}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data};
    use super::*;

    #[test]
    fn another_order_is_caught() {
        let mut play = Play::elected();
        let (a, txn) = play.commit_but(set_data("/", 0, "x"), &[3]);
        let (b, other) = play.commit_but(set_data("/", 1, "y"), &[3]);
        let mut lawful = play.clone();
        lawful.server(3, ServerEvent::Applied { zxid: a, txn, digest: None });
        lawful.server(3, ServerEvent::Applied { zxid: b, txn: other.clone(), digest: None });
        assert_eq!(lawful.verdict(Box::<TotalOrder>::default()), Ok(()));
        play.server(3, ServerEvent::Applied { zxid: b, txn: other, digest: None });
        assert!(play.verdict(Box::<TotalOrder>::default()).is_err());
    }
}
