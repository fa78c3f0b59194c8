//! Replies come in the order of requests and are what was asked for; writes of a session take place in the order in which
//! it sent them.

use super::{Checker, Facts};
use crate::observe::{ClientEvent, Observation, What};
use farrier_proto::{SessionId, Zxid};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SessionFifo {
    /// The last write of each session that took place.
    last: BTreeMap<SessionId, (i32, Zxid)>,
}

impl Checker for SessionFifo {
    fn name(&self) -> &'static str {
        "session-fifo"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        if let What::Client(client, ClientEvent::Nonsense { dial, why }) = &observation.what {
            return Err(format!("{client:?} hears nonsense on {dial:?}: {why}"));
        }
        for zxid in &facts.news.committed {
            let Some(record) = facts.model.record(*zxid) else { continue };
            // Refusals of a server that the client left may come late; they change nothing. So may the end of a session,
            // which is taken from any server that the session was attached to, as in Apache (conformance case 209).
            if record.cxid <= 0 || record.is_refusal() || record.closes {
                continue;
            }
            let before = self.last.insert(record.session, (record.cxid, *zxid));
            if let Some((cxid, earlier)) = before.filter(|(cxid, _)| *cxid >= record.cxid) {
                return Err(format!(
                    "session {} has request {} done at {zxid}, behind request {cxid} at {earlier}",
                    record.session, record.cxid
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
    use crate::observe::Request;
    use farrier_proto::Txn;

    #[test]
    fn writes_out_of_order_are_caught() {
        let mut play = Play::elected();
        play.connect();
        let a = play.invoke(Play::set_request("/", "a"));
        let b = play.invoke(Play::set_request("/", "b"));
        let mut lawful = play.clone();
        lawful.commit(lawful.of_client(a, set_data("/", 0, "a")));
        lawful.commit(lawful.of_client(b, set_data("/", 1, "b")));
        assert_eq!(lawful.verdict(Box::<SessionFifo>::default()), Ok(()));
        play.commit(play.of_client(b, set_data("/", 0, "b")));
        play.commit(play.of_client(a, set_data("/", 1, "a")));
        assert!(play.verdict(Box::<SessionFifo>::default()).is_err());
    }

    #[test]
    fn an_end_sent_through_a_server_that_was_left_may_come_late() {
        let mut play = Play::elected();
        play.connect();
        let end = || Txn::CloseSession(Some(vec![]));
        let first = play.invoke(Request::Close);
        let write = play.invoke(Play::set_request("/", "a"));
        let again = play.invoke(Request::Close);
        play.commit(play.of_client(write, set_data("/", 0, "a")));
        play.commit(play.of_client(again, end()));
        play.commit(play.of_client(first, end()));
        assert_eq!(play.verdict(Box::<SessionFifo>::default()), Ok(()));
    }

    #[test]
    fn nonsense_is_caught() {
        let mut play = Play::elected();
        let dial = play.connect();
        play.client(ClientEvent::Nonsense { dial, why: "an xid out of turn".into() });
        assert!(play.verdict(Box::<SessionFifo>::default()).is_err());
    }
}
