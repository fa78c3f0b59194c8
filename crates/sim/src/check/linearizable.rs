//! Writes take effect between request and reply, in the order of their zxids, and sync is a barrier: whoever waited for
//! it is shown at least what anybody had been shown when it was asked for.
//!
//! The state that a zxid stands for is [`Oracle`](super::oracle)'s; here it is only about real time.

use super::{Checker, Facts};
use crate::observe::{ClientEvent, Observation, Request, What};
use farrier_proto::Zxid;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Linearizable;

impl Checker for Linearizable {
    fn name(&self) -> &'static str {
        "linearizable"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let What::Client(client, ClientEvent::Returned { call, zxid, outcome, .. }) = &observation.what else {
            return Ok(());
        };
        let Some(call) = facts.call(*client, *call) else { return Ok(()) };
        let zxid = Zxid::from_wire(*zxid);
        if call.request.is_write() {
            // What is refused without a transaction names the state in which it was.
            let new = facts.model.record(zxid).is_some_and(|r| (r.session, r.cxid) == (call.session, call.xid));
            if (new || outcome.is_ok()) && zxid <= call.floor {
                return Err(format!(
                    "{client:?} asked for {:?} when {} had been shown, and it was done at {zxid}",
                    call.request, call.floor
                ));
            }
        }
        if matches!(call.request, Request::Sync { .. }) && outcome.is_ok() && zxid < call.floor {
            return Err(format!(
                "{client:?} asked for a sync when {} had been shown, and is answered in the state of {zxid}",
                call.floor
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data, z};
    use super::*;
    use crate::observe::Reply;

    #[test]
    fn a_sync_that_shows_the_past_is_caught() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        play.connect();
        play.write("/", "y");
        let call = play.invoke(Request::Sync { path: "/".into() });
        let mut lawful = play.clone();
        lawful.answer(call, lawful.tip(), Ok(Reply::Done));
        assert_eq!(lawful.verdict(Box::new(Linearizable)), Ok(()));
        play.answer(call, z(1, 1), Ok(Reply::Done));
        assert!(play.verdict(Box::new(Linearizable)).is_err());
    }

    #[test]
    fn a_write_in_the_past_is_caught() {
        let mut play = Play::elected();
        play.connect();
        play.write("/", "x");
        let call = play.invoke(Play::set_request("/", "y"));
        play.answer(call, z(1, 1), Ok(Reply::Done));
        assert!(play.verdict(Box::new(Linearizable)).is_err());
    }
}
