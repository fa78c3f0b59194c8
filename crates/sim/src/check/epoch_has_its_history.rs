//! Whoever has an epoch as the current one on disk got there with that epoch's initial history on disk: what its leader
//! announced with NEWLEADER. That is judged for every moment at which a machine might fail, not only where one does.
//!
//! Later the history may be shorter again: another leader may cut it, if the epoch was never established.

use super::{Checker, Facts};
use crate::observe::{Fault, Observation, Saying, ServerEvent, What};
use farrier_proto::{ServerId, Zxid};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct EpochHasItsHistory {
    /// What the history of each epoch begins with.
    initial: BTreeMap<u32, Zxid>,
    /// The newest epoch that each server is known to have come to lawfully.
    reached: BTreeMap<ServerId, u32>,
}

impl EpochHasItsHistory {
    fn judge(&self, facts: &Facts, me: ServerId, current: u32, last: Zxid) -> Result<(), String> {
        let reached = self.reached.get(&me).copied().unwrap_or_default();
        match self.initial.get(&current) {
            Some(initial) if current > reached && !facts.history.holds(last, *initial) => Err(format!(
                "server {me} has currentEpoch {current} on disk, whose history begins with {initial}, and has {last}"
            )),
            _ => Ok(()),
        }
    }
}

impl Checker for EpochHasItsHistory {
    fn name(&self) -> &'static str {
        "epoch-has-its-history"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let (me, event) = match &observation.what {
            What::Server(me, event) => (*me, event),
            What::FaultBegan(_, Fault::BitRot(server) | Fault::Wiped(server)) => {
                self.reached.remove(server);
                return Ok(());
            }
            _ => return Ok(()),
        };
        match event {
            ServerEvent::Said(Saying::NewLeader { epoch }) => {
                self.initial.entry(*epoch).or_insert_with(|| facts.server(me).logged);
                Ok(())
            }
            ServerEvent::WouldStart { current, last, recovering: false, .. } => self.judge(facts, me, current.0, *last),
            ServerEvent::Started { current, last, recovering, .. } => {
                if !recovering {
                    self.judge(facts, me, current.0, *last)?;
                }
                self.reached.insert(me, current.0);
                Ok(())
            }
            ServerEvent::CurrentEpochDurable(current) => {
                let durable = facts.server(me).durable;
                self.judge(facts, me, current.0, durable)?;
                self.reached.insert(me, current.0);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, looking, set_data, started};
    use super::*;
    use farrier_proto::{AcceptedEpoch, CurrentEpoch};

    /// Server 3 is without the last transaction of server 1, which leads a new epoch.
    fn behind() -> Play {
        let mut play = Play::elected();
        play.server(3, looking());
        play.commit(set_data("/", 0, "x"));
        play.server(1, ServerEvent::Said(Saying::NewLeader { epoch: 2 }));
        play.server(3, ServerEvent::AcceptedEpochDurable(AcceptedEpoch(2)));
        play
    }

    fn would_start(last: Zxid, current: u32) -> ServerEvent {
        let (accepted, current) = (AcceptedEpoch(2), CurrentEpoch(current));
        ServerEvent::WouldStart {
            power: true,
            accepted,
            current,
            last,
            digest: None,
            recovering: false,
            difference: None,
            falls_short: false,
        }
    }

    #[test]
    fn the_epoch_on_disk_before_its_history_is_caught() {
        let mut play = behind();
        play.server(3, ServerEvent::CurrentEpochDurable(CurrentEpoch(2)));
        assert!(play.verdict(Box::<EpochHasItsHistory>::default()).is_err());
    }

    #[test]
    fn it_is_caught_if_it_would_be_so_after_a_crash() {
        let mut play = behind();
        play.server(3, would_start(Zxid::ZERO, 1));
        assert_eq!(play.verdict(Box::<EpochHasItsHistory>::default()), Ok(()));
        play.server(3, would_start(Zxid::ZERO, 2));
        assert!(play.verdict(Box::<EpochHasItsHistory>::default()).is_err());
    }

    #[test]
    fn what_was_cut_later_is_no_mistake() {
        let mut play = behind();
        play.server(2, ServerEvent::CurrentEpochDurable(CurrentEpoch(2)));
        play.server(2, started(Zxid::ZERO, false));
        play.server(2, would_start(Zxid::ZERO, 1));
        assert_eq!(play.verdict(Box::<EpochHasItsHistory>::default()), Ok(()));
    }
}
