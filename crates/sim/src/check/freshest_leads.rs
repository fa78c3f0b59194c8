//! An elected leader that hears a promise from a voter with a fresher history than its own does not go on to make its own
//! the history of the epoch (safety contract 5.3).

use super::{Checker, Facts};
use crate::observe::{Observation, Role, Saying, ServerEvent, What};
use farrier_proto::{CurrentEpoch, ServerId, Zxid};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct FreshestLeads {
    disks: BTreeMap<ServerId, CurrentEpoch>,
    /// Who was elected, and with what.
    elected: BTreeMap<ServerId, (CurrentEpoch, Zxid)>,
    /// Who heard a fresher one in this term.
    outdone: BTreeMap<ServerId, (ServerId, CurrentEpoch, Zxid)>,
}

impl Checker for FreshestLeads {
    fn name(&self) -> &'static str {
        "freshest-leads"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let What::Server(me, event) = &observation.what else { return Ok(()) };
        match event {
            ServerEvent::Started { current, .. } | ServerEvent::CurrentEpochDurable(current) => {
                self.disks.insert(*me, *current);
            }
            ServerEvent::Role { role: Role::Leading { epoch: None }, .. } => {
                let has = (self.disks.get(me).copied().unwrap_or_default(), facts.server(*me).logged);
                self.elected.insert(*me, has);
                self.outdone.remove(me);
            }
            ServerEvent::Role { role: Role::Looking | Role::Learning { .. }, .. } | ServerEvent::Ended(_) => {
                self.elected.remove(me);
                self.outdone.remove(me);
            }
            ServerEvent::PromiseHeard { by, current, last }
                if self.elected.get(me).is_some_and(|has| (*current, *last) > *has) =>
            {
                self.outdone.insert(*me, (*by, *current, *last));
            }
            ServerEvent::Said(Saying::NewLeader { epoch }) => {
                if let (Some((by, current, last)), Some(has)) = (self.outdone.get(me), self.elected.get(me)) {
                    return Err(format!(
                        "server {me} makes {} of epoch {} the history of epoch {epoch}, and server {by} has {last} of {}",
                        has.1, has.0.0, current.0
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, looking, set_data, z};
    use super::*;

    #[test]
    fn a_leader_that_goes_on_although_another_has_more_is_caught() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        play.server(2, ServerEvent::Role { role: Role::Leading { epoch: None }, serving: false });
        play.server(2, ServerEvent::PromiseHeard { by: ServerId(3), current: CurrentEpoch(1), last: z(1, 1) });
        let mut lawful = play.clone();
        lawful.server(2, ServerEvent::Said(Saying::NewLeader { epoch: 2 }));
        assert_eq!(lawful.verdict(Box::<FreshestLeads>::default()), Ok(()), "it has as much");
        play.server(2, ServerEvent::PromiseHeard { by: ServerId(1), current: CurrentEpoch(1), last: z(1, 2) });
        let mut resigned = play.clone();
        resigned.server(2, looking());
        assert_eq!(resigned.verdict(Box::<FreshestLeads>::default()), Ok(()));
        play.server(2, ServerEvent::Said(Saying::NewLeader { epoch: 2 }));
        assert!(play.verdict(Box::<FreshestLeads>::default()).is_err());
    }
}
