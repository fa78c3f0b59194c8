//! A log has no gap and never goes back by itself; its durable part is a part of it.

use super::{Checker, Facts};
use crate::observe::{Observation, ServerEvent, What};
use farrier_proto::{ServerId, Zxid};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct LogContiguous {
    /// What each log ended with before the observation.
    ends: BTreeMap<ServerId, Zxid>,
}

impl Checker for LogContiguous {
    fn name(&self) -> &'static str {
        "log-contiguous"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let What::Server(me, event) = &observation.what else { return Ok(()) };
        let after = facts.server(*me);
        let before = self.ends.insert(*me, after.logged).unwrap_or_default();
        match event {
            ServerEvent::Appended { zxid, .. } if !zxid.follows(before) => {
                Err(format!("the log of server {me} has {zxid} directly behind {before}"))
            }
            ServerEvent::LogDurable { upto } if !facts.history.holds(after.logged, *upto) => {
                Err(format!("server {me} has {upto} on disk, and its log ends with {}", after.logged))
            }
            ServerEvent::LogCut { after } if !facts.history.holds(before, *after) => {
                Err(format!("server {me} cuts behind {after}, and its log ended with {before}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data, z};
    use super::*;

    #[test]
    fn a_gap_and_a_cut_out_of_nothing_are_caught() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        play.commit(set_data("/", 1, "y"));
        assert_eq!(play.verdict(Box::<LogContiguous>::default()), Ok(()));
        let mut gap = play.clone();
        let txn = gap.txn(z(1, 4), &set_data("/", 2, "z"));
        gap.server(1, ServerEvent::Appended { zxid: z(1, 4), txn });
        assert!(gap.verdict(Box::<LogContiguous>::default()).is_err());
        play.server(1, ServerEvent::LogCut { after: z(1, 3) });
        assert!(play.verdict(Box::<LogContiguous>::default()).is_err());
    }
}
