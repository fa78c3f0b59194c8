//! Epochs on disk never go back, the current one is never above the accepted one, and whoever serves an epoch has it on
//! disk.

use super::{Checker, Facts};
use crate::observe::{Fault, Observation, ServerEvent, What};
use farrier_proto::{AcceptedEpoch, CurrentEpoch, ServerId};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct MonotoneEpochs {
    disks: BTreeMap<ServerId, (AcceptedEpoch, CurrentEpoch)>,
}

impl Checker for MonotoneEpochs {
    fn name(&self) -> &'static str {
        "monotone-epochs"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let (me, event) = match &observation.what {
            What::Server(me, event) => (me, event),
            What::FaultBegan(_, Fault::BitRot(server) | Fault::Wiped(server)) => {
                // The files may be gone; whether the server may vote then is for others to judge.
                self.disks.remove(server);
                return Ok(());
            }
            _ => return Ok(()),
        };
        let disk = self.disks.entry(*me).or_default();
        let (accepted, current) = *disk;
        let new = match event {
            ServerEvent::Started { accepted, current, recovering: true, .. } => {
                // It may have lost its files, and says so.
                *disk = (*accepted, *current);
                return Ok(());
            }
            ServerEvent::Started { accepted, current, .. } => (*accepted, *current),
            ServerEvent::AcceptedEpochDurable(epoch) => (*epoch, current),
            ServerEvent::CurrentEpochDurable(epoch) => (accepted, *epoch),
            ServerEvent::Role { .. } => {
                return match facts.server(*me).established() {
                    Some(epoch) if current != CurrentEpoch(epoch) => {
                        Err(format!("server {me} serves epoch {epoch}, and has currentEpoch {} on disk", current.0))
                    }
                    _ => Ok(()),
                };
            }
            _ => return Ok(()),
        };
        *disk = new;
        if new.0 < accepted || new.1 < current {
            return Err(format!(
                "epochs of server {me} go back: accepted {} to {}, current {} to {}",
                accepted.0, new.0.0, current.0, new.1.0
            ));
        }
        if new.1.0 > new.0.0 {
            return Err(format!("server {me} has currentEpoch {} above acceptedEpoch {}", new.1.0, new.0.0));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, leading};
    use super::*;

    #[test]
    fn going_back_is_caught() {
        let mut play = Play::elected();
        assert_eq!(play.verdict(Box::<MonotoneEpochs>::default()), Ok(()));
        play.server(2, ServerEvent::AcceptedEpochDurable(AcceptedEpoch(0)));
        assert!(play.verdict(Box::<MonotoneEpochs>::default()).is_err());
    }

    #[test]
    fn serving_an_epoch_before_it_is_on_disk_is_caught() {
        let mut play = Play::elected();
        play.server(2, leading(2));
        assert!(play.verdict(Box::<MonotoneEpochs>::default()).is_err());
    }

    #[test]
    fn a_current_epoch_that_was_not_promised_is_caught() {
        let mut play = Play::elected();
        play.server(2, ServerEvent::CurrentEpochDurable(CurrentEpoch(2)));
        assert!(play.verdict(Box::<MonotoneEpochs>::default()).is_err());
    }
}
