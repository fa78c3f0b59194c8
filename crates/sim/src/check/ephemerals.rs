//! Ephemerals are gone exactly with their session: nobody is shown one behind its end, and no server has one whose session
//! it does not have. That none goes before is [`Oracle`](super::oracle)'s.

use super::{Checker, Facts};
use crate::observe::{ClientEvent, Observation, Reply, ServerEvent, What};
use farrier_proto::{SessionId, Zxid};
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ephemerals;

impl Checker for Ephemerals {
    fn name(&self) -> &'static str {
        "ephemerals"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        if let What::Client(client, ClientEvent::Returned { zxid, outcome: Ok(reply), .. }) = &observation.what {
            let stat = match reply {
                Reply::Stat(stat)
                | Reply::Data { stat, .. }
                | Reply::Children { stat, .. }
                | Reply::Acl { stat, .. } => stat,
                Reply::Created { .. }
                | Reply::Done
                | Reply::Multi(_)
                | Reply::MultiRead(_)
                | Reply::Paths(_)
                | Reply::Count(_) => return Ok(()),
            };
            let (owner, at) = (SessionId(stat.ephemeral_owner), Zxid::from_wire(*zxid));
            let ended = facts.model.session(owner).and_then(|s| s.closed).filter(|closed| *closed <= at);
            if let Some(closed) = ended {
                return Err(format!("{client:?} is shown at {at} a znode of session {owner}, which ended at {closed}"));
            }
        }
        if let What::Server(me, ServerEvent::Inspected { zxid, znodes, sessions, .. }) = &observation.what {
            let open: BTreeSet<SessionId> = sessions.iter().map(|(id, _)| *id).collect();
            // By its own list of sessions, and by what is committed.
            let gone = |id: SessionId| {
                let closed = facts.model.session(id).and_then(|s| s.closed);
                !open.contains(&id) || closed.is_some_and(|closed| closed <= *zxid)
            };
            let orphan = znodes.iter().find(|z| z.stat.ephemeral_owner != 0 && gone(SessionId(z.stat.ephemeral_owner)));
            if let Some(z) = orphan {
                return Err(format!(
                    "at {zxid} server {me} has {} of session {}, which is no more",
                    z.path,
                    SessionId(z.stat.ephemeral_owner)
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, ephemeral};
    use super::*;
    use crate::observe::{Request, SeenZnode};
    use farrier_proto::Txn;

    #[test]
    fn one_that_is_shown_behind_the_end_is_caught() {
        let mut play = Play::elected();
        play.connect();
        let session = play.session();
        play.commit((session, 1, ephemeral("/e", 1)));
        let call = play.invoke(Request::GetData { path: "/e".into(), watch: false });
        let znode = play.facts().model.latest("/e").expect("it was created").clone();
        let reply = Reply::Data { data: znode.data, stat: znode.stat };
        let mut lawful = play.clone();
        lawful.answer(call, lawful.tip(), Ok(reply.clone()));
        assert_eq!(lawful.verdict(Box::new(Ephemerals)), Ok(()));
        play.commit((session, 0, Txn::CloseSession(Some(vec!["/e".into()]))));
        play.answer(call, play.tip(), Ok(reply));
        assert!(play.verdict(Box::new(Ephemerals)).is_err());
    }

    #[test]
    fn one_on_a_single_server_is_caught() {
        let mut play = Play::elected();
        play.connect();
        let session = play.session();
        play.commit((session, 1, ephemeral("/e", 1)));
        let znode = play.facts().model.latest("/e").expect("it was created").clone();
        let inspected = |zxid, sessions| ServerEvent::Inspected {
            zxid,
            digest: None,
            znodes: vec![SeenZnode { path: "/e".into(), stat: znode.stat, data: None, acl: vec![] }],
            sessions,
        };
        let listed = vec![(session, 6000)];
        play.server(3, inspected(play.tip(), listed.clone()));
        assert_eq!(play.verdict(Box::new(Ephemerals)), Ok(()));
        let mut unlisted = play.clone();
        unlisted.server(3, inspected(play.tip(), vec![]));
        assert!(unlisted.verdict(Box::new(Ephemerals)).is_err());
        play.commit((session, 0, Txn::CloseSession(Some(vec!["/e".into()]))));
        play.server(3, inspected(play.tip(), listed));
        assert!(play.verdict(Box::new(Ephemerals)).is_err(), "listed or not, it ended");
    }
}
