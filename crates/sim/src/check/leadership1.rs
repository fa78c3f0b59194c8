//! At any time there is at most one established leader of an epoch.

use super::{Checker, Facts};
use crate::observe::{Observation, Role, ServerEvent, What};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Leadership1;

impl Checker for Leadership1 {
    fn name(&self) -> &'static str {
        "leadership1"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let What::Server(me, ServerEvent::Role { role: Role::Leading { epoch: Some(epoch) }, .. }) = &observation.what
        else {
            return Ok(());
        };
        let same = Role::Leading { epoch: Some(*epoch) };
        match facts.servers().find(|(id, s)| id != me && s.up && s.role == same) {
            Some((other, _)) => Err(format!("servers {me} and {other} both lead epoch {epoch}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, leading};
    use super::*;

    #[test]
    fn two_at_once_are_caught() {
        let mut play = Play::elected();
        assert_eq!(play.verdict(Box::new(Leadership1)), Ok(()));
        play.server(2, leading(1));
        assert!(play.verdict(Box::new(Leadership1)).is_err());
    }

    #[test]
    fn two_epochs_are_not() {
        let mut play = Play::elected();
        play.server(2, leading(2));
        assert_eq!(play.verdict(Box::new(Leadership1)), Ok(()));
    }
}
