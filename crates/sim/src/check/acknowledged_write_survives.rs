//! What a client was told to be done is part of the one history for ever: every later leader has it, and in
//! the end every server.

use super::{Checker, Facts};
use crate::observe::{ClientEvent, Observation, Phase, Role, ServerEvent, What};
use farrier_proto::Zxid;
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct AcknowledgedWriteSurvives {
    /// The newest transaction of each epoch that a client was told of.
    acknowledged: BTreeMap<u32, Zxid>,
}

impl Checker for AcknowledgedWriteSurvives {
    fn name(&self) -> &'static str {
        "acknowledged-write-survives"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        match &observation.what {
            What::Client(client, ClientEvent::Returned { call, zxid, outcome: Ok(_), .. }) => {
                if !facts.call(*client, *call).is_some_and(|c| c.request.is_write()) {
                    return Ok(());
                }
                let zxid = Zxid::from_wire(*zxid);
                if facts.history.position(zxid).is_none() {
                    return Err(format!("{client:?} is told that {zxid} is done, and nobody delivered it"));
                }
                let newest = self.acknowledged.entry(zxid.epoch()).or_default();
                *newest = zxid.max(*newest);
                Ok(())
            }
            What::Server(me, ServerEvent::Role { role: Role::Leading { epoch: Some(epoch) }, .. }) => {
                let has = facts.server(*me).applied;
                // One that stood still while a later epoch began hears only now that its own was acknowledged. It commits
                // nothing any more, and has all that came before it.
                let Some((_, lost)) = self.acknowledged.range(..*epoch).next_back() else { return Ok(()) };
                if facts.history.holds(has, *lost) {
                    return Ok(());
                }
                Err(format!("server {me} leads epoch {epoch} with {has}; a client was told that {lost} is done"))
            }
            What::Server(me, ServerEvent::Inspected { zxid, .. }) if facts.phase == Phase::Settled => {
                let Some((_, lost)) = self.acknowledged.last_key_value() else { return Ok(()) };
                if facts.history.holds(*zxid, *lost) {
                    return Ok(());
                }
                Err(format!("in the end server {me} is at {zxid}; a client was told that {lost} is done"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, leading, looking, set_data, started, z};
    use super::*;
    use crate::observe::Ending;

    #[test]
    fn a_leader_without_it_is_caught() {
        let mut play = Play::elected();
        play.connect();
        play.write("/", "x");
        assert_eq!(play.verdict(Box::<AcknowledgedWriteSurvives>::default()), Ok(()));
        (1..=2).for_each(|s| play.server(s, ServerEvent::Ended(Ending::PowerCrash)));
        play.server(3, looking());
        play.server(2, started(z(1, 1), false));
        play.server(2, leading(2));
        assert!(play.verdict(Box::<AcknowledgedWriteSurvives>::default()).is_err());
    }

    #[test]
    fn a_leader_that_hears_too_late_of_its_epoch_is_none_of_its_business() {
        let mut play = Play::elected();
        play.connect();
        play.write("/", "x");
        // Of an epoch before the write's.
        play.server(2, looking());
        play.server(2, leading(0));
        assert_eq!(play.verdict(Box::<AcknowledgedWriteSurvives>::default()), Ok(()));
    }

    #[test]
    fn an_answer_before_the_delivery_is_caught() {
        let mut play = Play::elected();
        play.connect();
        let call = play.invoke(Play::set_request("/", "x"));
        let (zxid, _) = play.propose(play.of_client(call, set_data("/", 0, "x")));
        play.answer(call, zxid, Ok(crate::observe::Reply::Done));
        assert!(play.verdict(Box::<AcknowledgedWriteSurvives>::default()).is_err());
    }
}
