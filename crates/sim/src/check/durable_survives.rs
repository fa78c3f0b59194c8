//! What was durable is there after a restart, or the server says that it may have forgotten it, or a leader was
//! about to replace it.

use super::{Checker, Facts};
use crate::observe::{Fault, Observation, Role, ServerEvent, What};
use farrier_proto::{ServerId, Zxid};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct DurableSurvives {
    durable: BTreeMap<ServerId, Zxid>,
    /// Servers whose disk changed by itself.
    rotten: BTreeSet<ServerId>,
    /// Servers that a leader brings up to date: TRUNC and SNAP take away what is durable, and may be carried out without
    /// word of it when the process ends.
    synchronizing: BTreeSet<ServerId>,
}

impl Checker for DurableSurvives {
    fn name(&self) -> &'static str {
        "durable-survives"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let (me, event) = match &observation.what {
            What::FaultBegan(_, Fault::BitRot(server) | Fault::Wiped(server)) => {
                self.rotten.insert(*server);
                return Ok(());
            }
            What::Server(me, event) => (*me, event),
            _ => return Ok(()),
        };
        match event {
            ServerEvent::LogDurable { upto: zxid }
            | ServerEvent::SnapshotInstalled { zxid }
            | ServerEvent::LogCut { after: zxid } => {
                self.durable.insert(me, *zxid);
            }
            ServerEvent::Role { role: Role::Learning { epoch: None, .. }, .. } => {
                self.synchronizing.insert(me);
            }
            ServerEvent::Role { role: Role::Learning { .. } | Role::Leading { .. }, .. } => {
                self.synchronizing.remove(&me);
            }
            ServerEvent::Started { last, recovering, .. } => {
                let durable = self.durable.get(&me).copied().unwrap_or_default();
                let excused = self.rotten.remove(&me) | self.synchronizing.remove(&me) | *recovering;
                if !excused && !facts.history.holds(*last, durable) {
                    return Err(format!("server {me} had {durable} on disk, and starts with {last}"));
                }
                if !facts.history.holds(*last, durable) {
                    self.durable.insert(me, *last);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data, started, z};
    use super::*;
    use crate::observe::Ending;

    #[test]
    fn forgetting_is_caught_unless_it_is_admitted() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        play.server(3, ServerEvent::Ended(Ending::PowerCrash));
        let mut lawful = play.clone();
        lawful.server(3, started(z(1, 1), false));
        assert_eq!(lawful.verdict(Box::<DurableSurvives>::default()), Ok(()));
        let mut admitted = play.clone();
        admitted.server(3, started(z(0, 0), true));
        assert_eq!(admitted.verdict(Box::<DurableSurvives>::default()), Ok(()));
        play.server(3, started(z(0, 0), false));
        assert!(play.verdict(Box::<DurableSurvives>::default()).is_err());
    }
}
