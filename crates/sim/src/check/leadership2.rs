//! An epoch is led by one server ever, however often it was elected.

use super::{Checker, Facts};
use crate::observe::{Observation, Role, ServerEvent, What};
use farrier_proto::ServerId;
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Leadership2 {
    leaders: BTreeMap<u32, ServerId>,
}

impl Checker for Leadership2 {
    fn name(&self) -> &'static str {
        "leadership2"
    }

    fn observe(&mut self, _facts: &Facts, observation: &Observation) -> Result<(), String> {
        let (epoch, leader) = match &observation.what {
            What::Server(me, ServerEvent::Role { role: Role::Leading { epoch: Some(epoch) }, .. }) => (*epoch, *me),
            What::Server(_, ServerEvent::Role { role: Role::Learning { leader, epoch: Some(epoch), .. }, .. }) => {
                (*epoch, *leader)
            }
            _ => return Ok(()),
        };
        let first = *self.leaders.entry(epoch).or_insert(leader);
        if first == leader { Ok(()) } else { Err(format!("epoch {epoch} is led by {leader}, and was by {first}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, leading, looking};
    use super::*;

    #[test]
    fn another_leader_of_an_old_epoch_is_caught() {
        let mut play = Play::elected();
        play.server(1, looking());
        assert_eq!(play.verdict(Box::<Leadership2>::default()), Ok(()));
        play.server(2, leading(1));
        assert!(play.verdict(Box::<Leadership2>::default()).is_err());
    }
}
