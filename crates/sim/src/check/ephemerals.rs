//! Ephemerals are gone exactly with their session: the transaction that ends it leaves none, and no server has one whose
//! session it does not have.

use super::{Checker, Facts};
use crate::observe::{Observation, ServerEvent, What};
use farrier_proto::SessionId;
use std::collections::BTreeSet;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ephemerals;

impl Checker for Ephemerals {
    fn name(&self) -> &'static str {
        "ephemerals"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        for zxid in &facts.news.committed {
            let Some(record) = facts.model.record(*zxid).filter(|r| r.closes) else { continue };
            if let Some(left) = facts.model.ephemerals(record.session) {
                return Err(format!("session {} ends at {zxid} and leaves {left:?}", record.session));
            }
        }
        if let What::Server(me, ServerEvent::Inspected { zxid, znodes, sessions, .. }) = &observation.what {
            let open: BTreeSet<SessionId> = sessions.iter().map(|(id, _)| *id).collect();
            let orphan = znodes
                .iter()
                .find(|z| z.stat.ephemeral_owner != 0 && !open.contains(&SessionId(z.stat.ephemeral_owner)));
            if let Some(z) = orphan {
                return Err(format!(
                    "at {zxid} server {me} has {} of session {}, which it does not have",
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
    use crate::observe::SeenZnode;
    use farrier_proto::Txn;

    #[test]
    fn one_that_is_left_behind_is_caught() {
        let mut play = Play::elected();
        play.connect();
        let session = play.session();
        play.commit((session, 1, ephemeral("/e", 1)));
        let mut lawful = play.clone();
        lawful.commit((session, 0, Txn::CloseSession(Some(vec!["/e".into()]))));
        assert_eq!(lawful.verdict(Box::new(Ephemerals)), Ok(()));
        play.commit((session, 0, Txn::CloseSession(Some(vec![]))));
        assert!(play.verdict(Box::new(Ephemerals)).is_err());
    }

    #[test]
    fn one_on_a_single_server_is_caught() {
        let mut play = Play::elected();
        play.connect();
        let session = play.session();
        play.commit((session, 1, ephemeral("/e", 1)));
        let znode = play.facts().model.latest("/e").expect("it was created").clone();
        let inspected = |sessions| ServerEvent::Inspected {
            zxid: play.tip(),
            digest: None,
            znodes: vec![SeenZnode { path: "/e".into(), stat: znode.stat, data: None }],
            sessions,
        };
        let (with, without) = (inspected(vec![(session, 6000)]), inspected(vec![]));
        play.server(3, with);
        assert_eq!(play.verdict(Box::new(Ephemerals)), Ok(()));
        play.server(3, without);
        assert!(play.verdict(Box::new(Ephemerals)).is_err());
    }
}
