//! When a leader is established, a quorum of voters has come to its epoch on disk. Who only learns does not count.

use super::{Checker, Facts};
use crate::observe::{Observation, Role, ServerEvent, What};
use farrier_proto::ServerId;
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct EstablishedByQuorum {
    /// The newest epoch that each server ever had on disk: what it said then stands, whatever becomes of the disk.
    reached: BTreeMap<ServerId, u32>,
}

impl Checker for EstablishedByQuorum {
    fn name(&self) -> &'static str {
        "established-by-quorum"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        match &observation.what {
            What::Server(me, ServerEvent::CurrentEpochDurable(epoch)) => {
                let reached = self.reached.entry(*me).or_default();
                *reached = epoch.0.max(*reached);
                Ok(())
            }
            What::Server(me, ServerEvent::Role { role: Role::Leading { epoch: Some(epoch) }, .. }) => {
                if facts.is_quorum(|id| self.reached.get(&id).is_some_and(|reached| reached >= epoch)) {
                    return Ok(());
                }
                let have = &self.reached;
                Err(format!("server {me} leads epoch {epoch}, and the epochs on disk are {have:?}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, leading};
    use super::*;
    use farrier_proto::CurrentEpoch;

    #[test]
    fn an_epoch_that_one_of_three_has_is_caught() {
        let mut play = Play::elected();
        play.server(2, ServerEvent::CurrentEpochDurable(CurrentEpoch(2)));
        // No voter.
        play.server(9, ServerEvent::CurrentEpochDurable(CurrentEpoch(2)));
        let mut lawful = play.clone();
        lawful.server(3, ServerEvent::CurrentEpochDurable(CurrentEpoch(2)));
        lawful.server(2, leading(2));
        assert_eq!(lawful.verdict(Box::<EstablishedByQuorum>::default()), Ok(()));
        play.server(2, leading(2));
        assert!(play.verdict(Box::<EstablishedByQuorum>::default()).is_err());
    }
}
