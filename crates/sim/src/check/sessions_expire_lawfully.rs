//! A session whose pings could be delivered never expires, nobody is told that a session is gone that nobody ends, and
//! a client that was told that it closed its session did.
//!
//! A ping could be delivered if its client is attached to a server that has served all the while under the leader that
//! ends the session, and no fault was in force that could keep it. A pause of the leader is none: it has to drain its
//! inputs and to hear its learners before it judges.

use super::{Checker, Facts};
use crate::observe::{ClientEvent, ClientId, Fault, Moment, Observation, Request, What};
use farrier_proto::{ServerId, SessionId, Zxid};
use std::collections::BTreeSet;

/// For how long after its end a fault may still be felt: reconnects, retransmissions, queues. Milliseconds.
const AFTERMATH: u64 = 3000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SessionsExpireLawfully {
    /// Sessions whose clients were told that they closed them. Who is told that its session expired may be told so
    /// ahead of its end, as in Apache; should that be lost with a leader, the session ends later, of itself.
    over: BTreeSet<SessionId>,
}

impl Checker for SessionsExpireLawfully {
    fn name(&self) -> &'static str {
        "sessions-expire-lawfully"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        facts.news.committed.iter().try_for_each(|zxid| judge_end(facts, *zxid))?;
        if let What::Client(_, ClientEvent::Closed { session }) = &observation.what {
            self.over.insert(*session);
        }
        if let What::Client(client, ClientEvent::Expired { session }) = &observation.what
            && !facts.end_proposed(*session)
        {
            return Err(format!("{client:?} is told that session {session} is gone, and nobody ended it"));
        }
        Ok(())
    }

    fn finish(&mut self, facts: &Facts) -> Result<(), String> {
        let is_open = |id: &&SessionId| facts.model.session(**id).is_some_and(|s| s.closed.is_none());
        match self.over.iter().find(is_open) {
            Some(id) => Err(format!("its client was told that session {id} is closed, and it is open in the end")),
            None => Ok(()),
        }
    }
}

fn judge_end(facts: &Facts, zxid: Zxid) -> Result<(), String> {
    let Some(record) = facts.model.record(zxid).filter(|r| r.closes) else { return Ok(()) };
    let session = record.session;
    if facts.write(session, record.cxid).is_some_and(|c| c.request == Request::Close) {
        return Ok(());
    }
    let Some((client, attached)) = facts.attached(session) else { return Ok(()) };
    let Some(proposal) = facts.history.proposal(zxid) else { return Ok(()) };
    let (leader, at) = (proposal.by, proposal.at);
    let timeout = attached.timeout;
    if attached.silent || attached.since >= at || at.millis_since(attached.sent) > timeout / 2 {
        return Ok(());
    }
    // The client may have been attached for longer than the session needs to expire.
    let from = attached.since.max(Moment(at.0.saturating_sub(timeout * 1000)));
    let server = facts.server(attached.server);
    let served = server.serving
        && server.leader(attached.server) == Some(leader)
        && server.established() == Some(zxid.epoch())
        && server.role_since <= from;
    let margin = Moment(from.0.saturating_sub(AFTERMATH * 1000));
    if !served || facts.faults_since(margin).any(|f| may_keep_pings(f, client, leader, attached.server)) {
        return Ok(());
    }
    Err(format!(
        "session {session} of {client:?} (timeout {timeout} ms) was ended at {zxid}, proposed by server {leader} at {at}; it has been attached to server {} since {}, and sent something at {}",
        attached.server, attached.since, attached.sent
    ))
}

/// Whether a fault may be the reason why the leader does not hear of this client, which is attached to `server`.
fn may_keep_pings(fault: &Fault, client: ClientId, leader: ServerId, server: ServerId) -> bool {
    match fault {
        // Whoever crashes ends its role, and that is looked at apart.
        Fault::ProcessCrash(_)
        | Fault::PowerCrash(_)
        | Fault::OrderlyStop(_)
        | Fault::HandOver(_)
        | Fault::ClockJump(..)
        | Fault::BitRot(_)
        | Fault::Wiped(_)
        | Fault::TakenOver(_)
        | Fault::TornWrite(_)
        | Fault::ReorderedWrite(_)
        | Fault::LostRename(_) => false,
        Fault::Pause(paused) => *paused == server && *paused != leader,
        Fault::ClockSkew(skewed, _)
        | Fault::SlowDisk(skewed, _)
        | Fault::FailedWrite(skewed)
        | Fault::FailedSync(skewed)
        | Fault::FullDisk(skewed) => [leader, server].contains(skewed),
        Fault::LinkLoss(a, b) | Fault::SlowLink(a, b, _) | Fault::Cut { from: a, to: b, .. } => {
            [leader, server].contains(a) && [leader, server].contains(b)
        }
        Fault::ClientLinkLoss(cut) | Fault::ClientCut(cut) => *cut == client,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Play;
    use super::*;
    use crate::observe::FaultId;
    use farrier_proto::Txn;

    fn expired(between: impl FnOnce(&mut Play)) -> Result<(), String> {
        let mut play = Play::elected();
        let dial = play.connect();
        let session = play.session();
        for _ in 0..10 {
            play.pass(2000);
            play.client(ClientEvent::Pinged { dial });
        }
        between(&mut play);
        play.pass(10);
        play.commit((session, 0, Txn::CloseSession(Some(vec![]))));
        play.verdict(Box::<SessionsExpireLawfully>::default())
    }

    #[test]
    fn the_end_of_a_session_that_pings_is_caught() {
        assert!(expired(|_| {}).is_err());
        assert!(expired(|p| p.fault(FaultId(1), Fault::Pause(ServerId(1)))).is_err(), "the leader was paused");
        assert!(expired(|p| p.fault(FaultId(1), Fault::ClientCut(ClientId(1)))).is_err(), "another client was cut off");
    }

    #[test]
    fn a_session_that_nobody_can_hear_of_may_end() {
        assert_eq!(expired(|p| p.fault(FaultId(1), Fault::ClientCut(ClientId(0)))), Ok(()));
        assert_eq!(expired(|p| p.pass(10_000)), Ok(()), "it did not ping");
        assert_eq!(expired(|p| p.client(ClientEvent::FellSilent { session: p.session() })), Ok(()));
    }

    #[test]
    fn a_word_that_it_is_gone_must_be_true() {
        let mut play = Play::elected();
        play.connect();
        let session = play.session();
        play.client(ClientEvent::Expired { session });
        assert!(play.verdict(Box::<SessionsExpireLawfully>::default()).is_err());
    }

    #[test]
    fn an_end_that_never_comes_is_caught() {
        let mut play = Play::elected();
        play.connect();
        let call = play.invoke(Request::Close);
        play.client(ClientEvent::Closed { session: play.session() });
        let checker = || Box::<SessionsExpireLawfully>::default();
        assert!(play.verdict(checker()).is_err());
        play.commit(play.of_client(call, Txn::CloseSession(Some(vec![]))));
        assert_eq!(play.verdict(checker()), Ok(()));
    }
}
