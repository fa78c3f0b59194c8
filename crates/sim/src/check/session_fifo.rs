//! Replies come in the order of requests and are what was asked for; writes of a session take place in the order in which
//! it sent them; and what a server answers a session shows every write that the session sent to it before, on whichever
//! connection, as long as the server is in one role.

use super::{Checker, Facts};
use crate::observe::{CallId, ClientEvent, ClientId, Moment, Observation, What};
use farrier_proto::{ServerId, SessionId, Zxid};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SessionFifo {
    /// The last write of each session that took place.
    last: BTreeMap<SessionId, (i32, Zxid)>,
    /// Through which server a request was sent, in which of its roles.
    sent: BTreeMap<(SessionId, i32), Term>,
    /// What took place of them.
    done: BTreeMap<(SessionId, i32), (Term, Zxid)>,
    /// What their replies showed.
    shown: BTreeMap<(SessionId, i32), (Term, Zxid)>,
}

/// A server, and since when it has its role.
type Term = (ServerId, Moment);

impl SessionFifo {
    fn term(facts: &Facts, client: ClientId) -> Option<Term> {
        let server = facts.attachment(client)?.server;
        Some((server, facts.server(server).role_since))
    }

    fn write_done(&mut self, session: SessionId, xid: i32, zxid: Zxid) -> Result<(), String> {
        let Some(term) = self.sent.get(&(session, xid)).copied() else { return Ok(()) };
        self.done.insert((session, xid), (term, zxid));
        let later = self.shown.range((session, xid + 1)..=(session, i32::MAX));
        match later.map(|((_, later), shown)| (later, shown)).find(|(_, (by, shown))| *by == term && *shown < zxid) {
            Some((later, (by, shown))) => Err(Self::overtaken(session, *by, *later, *shown, xid, zxid)),
            None => Ok(()),
        }
    }

    fn answered(&mut self, facts: &Facts, client: ClientId, call: CallId, zxid: Zxid) -> Result<(), String> {
        let Some((call, term)) = facts.call(client, call).zip(Self::term(facts, client)) else { return Ok(()) };
        let (session, xid) = (call.session, call.xid);
        if self.sent.get(&(session, xid)) != Some(&term) {
            return Ok(());
        }
        self.shown.insert((session, xid), (term, zxid));
        let mut earlier = self.done.range((session, i32::MIN)..(session, xid));
        match earlier.rfind(|(_, (by, _))| *by == term) {
            Some(((_, earlier), (_, done))) if *done > zxid => {
                Err(Self::overtaken(session, term, xid, zxid, *earlier, *done))
            }
            _ => Ok(()),
        }
    }

    fn overtaken(session: SessionId, by: Term, xid: i32, shown: Zxid, earlier: i32, done: Zxid) -> String {
        format!(
            "server {} answers request {xid} of session {session} with the state of {shown}, and request {earlier}, which it had before, is done at {done}",
            by.0
        )
    }
}

impl Checker for SessionFifo {
    fn name(&self) -> &'static str {
        "session-fifo"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        match &observation.what {
            What::Client(client, ClientEvent::Nonsense { dial, why }) => {
                return Err(format!("{client:?} hears nonsense on {dial:?}: {why}"));
            }
            What::Client(client, ClientEvent::Invoked { session, xid, .. }) => {
                self.sent.extend(Self::term(facts, *client).map(|term| ((*session, *xid), term)));
            }
            What::Client(client, ClientEvent::Returned { call, zxid, .. }) if *zxid > 0 => {
                self.answered(facts, *client, *call, Zxid::from_wire(*zxid))?;
            }
            _ => {}
        }
        for zxid in &facts.news.committed {
            let Some(record) = facts.model.record(*zxid) else { continue };
            // Refusals of a server that the client left may come late; they change nothing. So may the end of a session,
            // which is taken from any server that the session was attached to, as in Apache (conformance case 209).
            if record.cxid <= 0 || record.is_refusal() || record.closes {
                continue;
            }
            self.write_done(record.session, record.cxid, *zxid)?;
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
    fn an_answer_that_overtakes_a_write_of_an_earlier_connection_is_caught() {
        let mut play = Play::elected();
        play.connect();
        play.write("/", "a");
        let before = play.tip();
        let write = play.invoke(Play::set_request("/", "b"));
        play.reconnect();
        let read = play.invoke(Request::GetData { path: "/".into(), watch: false });
        let verdict = |play: &Play| play.verdict(Box::<SessionFifo>::default());
        let mut lawful = play.clone();
        lawful.commit(lawful.of_client(write, set_data("/", 1, "b")));
        lawful.answer_read(read);
        assert_eq!(verdict(&lawful), Ok(()));
        let mut early = play.clone();
        early.answer_read(read);
        assert_eq!(verdict(&early), Ok(()), "the write may be lost");
        early.commit(early.of_client(write, set_data("/", 1, "b")));
        assert!(verdict(&early).is_err(), "it was not");
        // The commit is known before the answer.
        let mut old = play.clone();
        old.commit(old.of_client(write, set_data("/", 1, "b")));
        old.answer(read, before, Ok(crate::observe::Reply::Done));
        assert!(verdict(&old).is_err());
        // Behind another election nobody remembers what was on its way.
        play.re_elect(1, 2, &[2, 3]);
        play.reconnect();
        let read = play.invoke(Request::GetData { path: "/".into(), watch: false });
        play.answer(read, before, Ok(crate::observe::Reply::Done));
        play.commit(play.of_client(write, set_data("/", 1, "b")));
        assert_eq!(verdict(&play), Ok(()));
    }

    #[test]
    fn nonsense_is_caught() {
        let mut play = Play::elected();
        let dial = play.connect();
        play.client(ClientEvent::Nonsense { dial, why: "an xid out of turn".into() });
        assert!(play.verdict(Box::<SessionFifo>::default()).is_err());
    }
}
