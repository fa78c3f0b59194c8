//! A session never sees an older state than it saw before, whichever server it is connected to, and never one that nobody
//! delivered.

use super::{Checker, Facts};
use crate::observe::{ClientEvent, ClientId, Observation, What};
use farrier_proto::{SessionId, Zxid};
use std::collections::BTreeMap;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ReadsNeverGoBack {
    seen: BTreeMap<ClientId, (SessionId, Zxid)>,
}

impl Checker for ReadsNeverGoBack {
    fn name(&self) -> &'static str {
        "reads-never-go-back"
    }

    fn observe(&mut self, facts: &Facts, observation: &Observation) -> Result<(), String> {
        let What::Client(client, event) = &observation.what else { return Ok(()) };
        let (ClientEvent::Returned { zxid, .. } | ClientEvent::Ponged { zxid, .. }) = event else { return Ok(()) };
        let Some(attachment) = facts.attachment(*client).filter(|_| *zxid > 0) else { return Ok(()) };
        let zxid = Zxid::from_wire(*zxid);
        let (session, server) = (attachment.session, attachment.server);
        if facts.history.position(zxid).is_none() {
            return Err(format!("server {server} shows {client:?} the state of {zxid}, which nobody delivered"));
        }
        match self.seen.insert(*client, (session, zxid)) {
            Some((before, seen)) if before == session && zxid < seen => Err(format!(
                "server {server} shows session {session} of {client:?} the state of {zxid}; it had seen {seen}"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Play, set_data, z};
    use super::*;

    #[test]
    fn an_older_state_is_caught() {
        let mut play = Play::elected();
        play.commit(set_data("/", 0, "x"));
        play.commit(set_data("/", 1, "y"));
        let dial = play.connect();
        play.client(ClientEvent::Ponged { dial, zxid: z(1, 2).to_wire() });
        assert_eq!(play.verdict(Box::<ReadsNeverGoBack>::default()), Ok(()));
        let mut future = play.clone();
        future.client(ClientEvent::Ponged { dial, zxid: z(1, 9).to_wire() });
        assert!(future.verdict(Box::<ReadsNeverGoBack>::default()).is_err());
        play.client(ClientEvent::Ponged { dial, zxid: z(1, 1).to_wire() });
        assert!(play.verdict(Box::<ReadsNeverGoBack>::default()).is_err());
    }
}
