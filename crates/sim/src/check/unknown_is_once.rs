//! A write takes place at most once; what was refused never does, and what was answered did just there. A lost reply means
//! unknown: once or never.

use super::{Checker, End, Facts};
use crate::observe::{ClientEvent, Observation, What};
use farrier_proto::{SessionId, Zxid};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct UnknownIsOnce {
    done: BTreeMap<(SessionId, i32), Zxid>,
}

impl Checker for UnknownIsOnce {
    fn name(&self) -> &'static str {
        "unknown-is-once"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        for zxid in &facts.news.committed {
            let Some(record) = facts.model.record(*zxid) else { continue };
            if record.cxid <= 0 || record.is_refusal() {
                continue;
            }
            let name = (record.session, record.cxid);
            if let Some(first) = self.done.insert(name, *zxid) {
                return Err(format!("request {} of session {} is done at {first} and at {zxid}", name.1, name.0));
            }
            match facts.write(name.0, name.1).map(|c| &c.end) {
                Some(End::Refused(code)) => {
                    return Err(format!(
                        "request {} of session {} was refused with {code}, and is done at {zxid}",
                        name.1, name.0
                    ));
                }
                Some(End::Done) => {
                    return Err(format!(
                        "request {} of session {} was answered before it was done at {zxid}",
                        name.1, name.0
                    ));
                }
                Some(End::Open | End::Unknown) | None => {}
            }
        }
        if let What::Client(client, ClientEvent::Returned { call, zxid, .. }) = &observation.what
            && let Some(call) = facts.call(*client, *call)
            && call.request.is_write()
        {
            let done = self.done.get(&(call.session, call.xid));
            let said = (call.end == End::Done).then(|| Zxid::from_wire(*zxid));
            if done.copied() != said {
                return Err(format!(
                    "{client:?} is told {:?} at {said:?} of request {}, which was done at {done:?}: {:?}",
                    call.end, call.xid, call.request
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data};
    use super::*;
    use crate::observe::Reply;
    use farrier_proto::ErrorCode;

    #[test]
    fn twice_is_caught_and_once_after_a_lost_reply_is_not() {
        let mut play = Play::elected();
        play.connect();
        let call = play.invoke(Play::set_request("/", "x"));
        play.client(ClientEvent::Unknown { call });
        play.commit(play.of_client(call, set_data("/", 0, "x")));
        assert_eq!(play.verdict(Box::<UnknownIsOnce>::default()), Ok(()));
        play.commit(play.of_client(call, set_data("/", 1, "x")));
        assert!(play.verdict(Box::<UnknownIsOnce>::default()).is_err());
    }

    #[test]
    fn done_after_a_refusal_is_caught() {
        let mut play = Play::elected();
        play.connect();
        let call = play.invoke(Play::set_request("/", "x"));
        play.answer(call, play.tip(), Err(ErrorCode::NoNode));
        assert_eq!(play.verdict(Box::<UnknownIsOnce>::default()), Ok(()));
        play.commit(play.of_client(call, set_data("/", 0, "x")));
        assert!(play.verdict(Box::<UnknownIsOnce>::default()).is_err());
    }

    #[test]
    fn an_answer_without_the_deed_is_caught() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        play.connect();
        let call = play.invoke(Play::set_request("/", "x"));
        play.answer(call, play.tip(), Ok(Reply::Done));
        assert!(play.verdict(Box::<UnknownIsOnce>::default()).is_err());
    }
}
